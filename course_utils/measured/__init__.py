"""Figures that take too long to measure in a chapter, as the scripts in `benchmarks/` wrote them."""

import json
from pathlib import Path
from typing import Any


def measured(name: str) -> Any:
    """What `python -m benchmarks.NAME` measured, as plain data."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
