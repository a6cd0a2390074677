"""A class of any size: right answers in several styles, every known mistake, mutants, and attacks, in a seeded mix."""

import inspect
import json
import random
import re
from pathlib import Path

from autograder.exercise import Exercise, all_exercises
from autograder.solutions import starter
from tests.autograder.book import chapter_source, solution_text
from tests.autograder.mutants import mutants

EXERCISES = ("bilinear", "one_hot", "masked_mean")
IMPORTS = "import numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom autograder import check\n"

RIGHT = {
    "bilinear": [
        "def bilinear(x, W, y):\n    return ((x[:, None, None, :] @ W)[:, :, 0] * y[:, None]).sum(-1)\n",
        "def bilinear(a, weight, b):\n    return torch.nn.functional.bilinear(a, b, weight)\n",
    ],
    "one_hot": [
        "def one_hot(labels, num_classes):\n    return torch.eye(num_classes)[labels]\n",
        "def one_hot(labels, num_classes):\n    return (labels[:, None] == torch.arange(num_classes)).float()\n",
    ],
    "masked_mean": [
        "def masked_mean(x, mask):\n"
        "    kept = torch.where(mask[:, :, None], x, 0.0)\n"
        "    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)\n",
    ],
}

# What each costs: its own exercise, and no other. A loop costs its time limit, so few are in the mix.
ATTACKS = [
    "def {name}(*_):\n    import os\n    os._exit(0)\n",
    "def {name}(*_):\n    import ctypes\n    ctypes.string_at(0)\n",
    "def {name}(*_):\n    return torch.zeros(1 << 34)\n",
    "def {name}(*_):\n    return open('/etc/shadow').read()\n",
    "def {name}(*_):\n    import sys\n    sys.exit()\n",
    "torch.equal = torch.isclose = lambda *a, **k: torch.tensor(True)\ndef {name}(*_):\n    return torch.zeros(1)\n",
    "def {name}(*_):\n    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n",
    "def {name}(\n",
    "raise SystemExit\ndef {name}(*_):\n    return None\n",
]


def write_class(folder: Path, count: int, seed: int = 0, exercises: tuple[str, ...] = EXERCISES) -> None:
    """Write `count` submissions into a folder: half of them .ipynb, half .py, no two students with equal answers."""
    draw = random.Random(seed)
    answers = {name: _answers(all_exercises()[name]) for name in exercises}
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cells = [IMPORTS] + [draw.choice(draw.choice(answers[name])) for name in exercises]
        cells.append(f"student = {number}\n")
        draw.shuffle(cells)
        cells.insert(0, IMPORTS)
        if number % 2:
            (folder / f"student{number:04d}.py").write_text("# %%\n" + "\n# %%\n".join(cells), encoding="utf-8")
        else:
            code = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
            notebook = {"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
            (folder / f"student{number:04d}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def _answers(exercise: Exercise) -> list[list[str]]:
    """Kinds of answers to an exercise; the first kinds are right, so that a good share of a class is."""
    right = [solution_text(exercise), *RIGHT[exercise.name]]
    known = [
        re.sub(rf"def {mistake.name}\b", f"def {exercise.name}", _without_decorator(mistake.implementation))
        for mistake in exercise.mistakes
    ]
    changed = [source for _, source in mutants(solution_text(exercise))]
    attacks = [attack.format(name=exercise.name) for attack in ATTACKS]
    untouched = [_starter(exercise), ""]
    return [right, right, right, known, known, changed, attacks, untouched]


def _without_decorator(function: object) -> str:
    source = inspect.getsource(function)
    return source[source.index("def ") :]


def _starter(exercise: Exercise) -> str:
    source = starter(chapter_source(exercise.chapter))
    return next(cell for cell in re.split(r"^# %%.*\n", source, flags=re.M) if f"def {exercise.name}(" in cell)
