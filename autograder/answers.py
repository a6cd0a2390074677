"""The answers: the solution's evidence on the practice trials, shipped in place of the solution.

`make exercises` writes one file per exercise into `autograder/answers/`, so that `check` works where no solution is.
"""

from functools import cache
from pathlib import Path
from typing import Any

from autograder.evidence import decode, encode

FOLDER = Path(__file__).parent / "answers"


@cache
def load_answers(exercise_name: str) -> list[dict[str, Any]]:
    """The solution's evidence on each practice trial. Raises FileNotFoundError where the exercise has no answers."""
    return decode((FOLDER / f"{exercise_name}.safetensors").read_bytes())


def save_answers(exercise_name: str, all_evidence: list[dict[str, Any]]) -> None:
    """Write the evidence that `attempt` collected from the solution with the practice seed."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{exercise_name}.safetensors").write_bytes(encode(all_evidence))
