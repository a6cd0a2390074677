"""Make what students get from the one hand-written copy: `course exercises`, or `make exercises`.

From `solutions/NN_topic.py` come `exercises/NN_topic.py` and `.ipynb`, without the solutions, and the answers: the
solutions' evidence on the practice trials.
"""

import hashlib
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from autograder.answers import save_answers
from autograder.attempt import attempt, without_conduct
from autograder.errors import UserError
from autograder.exercise import PRACTICE_SEED, Exercise, all_exercises
from autograder.judge import Status, judge
from autograder.solutions import exercise_names, load_solutions, starter
from autograder.specs import CHAPTERS, Chapter

_FINGERPRINT = "generated_from"


class ReleaseError(UserError):
    """The solutions and the specs do not fit each other, or somebody's work is in the way."""


def release(root: Path) -> list[str]:
    """Write every chapter's exercises and answers below `root`; return a line about each chapter.

    Raises ReleaseError, before anything is written, where solutions and specs disagree or where an exercise notebook
    was edited by hand.
    """
    if not (root / "solutions").is_dir():
        raise ReleaseError(f"There is no folder solutions/ in {root}: run this in a checkout of the course.")
    prepared = [(chapter, *_prepare(root, chapter)) for chapter in CHAPTERS]
    for chapter, source, answers in prepared:
        (root / "exercises").mkdir(exist_ok=True)
        (root / "exercises" / f"{chapter.stem}.py").write_text(source, encoding="utf-8")
        notebook = _as_notebook(source)
        notebook.metadata[_FINGERPRINT] = _fingerprint(notebook)
        nbformat.write(notebook, root / "exercises" / f"{chapter.stem}.ipynb")
        for name, evidence in answers.items():
            save_answers(name, evidence)
    return [f"{chapter.stem}: {len(answers)} exercises" for chapter, _, answers in prepared]


def student_source(chapter: Chapter, source: str) -> str:
    """The text of a chapter's exercises: its solutions file without the solutions."""
    notice = f"# # Generated from solutions/{chapter.stem}.py by `make exercises`: edit that file, not this one."
    first, rest = starter(source).split("\n", 1)
    return f"{first}\n{notice}\n{rest}"


def practice_answers(chapter: Chapter, source: str) -> dict[str, list[dict[str, Any]]]:
    """The solutions' evidence on the practice trials, for each exercise of a chapter.

    Raises ReleaseError where solutions and specs do not name the same exercises, or a solution fails its own spec.
    """
    exercises = {name: exercise for name, exercise in all_exercises().items() if exercise.chapter == chapter.topic}
    names = exercise_names(source)
    if sorted(names) != sorted(exercises):
        odd = ", ".join(sorted(set(names) ^ set(exercises)))
        raise ReleaseError(
            f"solutions/{chapter.stem}.py and autograder/specs/{chapter.topic}.py disagree about: {odd}."
        )
    defined = load_solutions(source)
    return {name: _answers(exercise, defined[name]) for name, exercise in exercises.items()}


def _prepare(root: Path, chapter: Chapter) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    source = (root / "solutions" / f"{chapter.stem}.py").read_text(encoding="utf-8")
    _refuse_if_edited(root / "exercises" / f"{chapter.stem}.ipynb")
    return student_source(chapter, source), practice_answers(chapter, source)


def _answers(exercise: Exercise, solution: Any) -> list[dict[str, Any]]:
    evidence = attempt(exercise, solution, PRACTICE_SEED)
    verdict = judge(exercise, evidence, evidence)
    if verdict.status is not Status.CORRECT:
        raise ReleaseError(f"The solution of {exercise.name} fails its own spec. {verdict.fault.sentence}")
    return [without_conduct(one) for one in evidence]


def _as_notebook(source: str) -> nbformat.NotebookNode:
    notebook = jupytext.reads(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same at every run, so that only what changed shows in the history
    return notebook


def _fingerprint(notebook: nbformat.NotebookNode) -> str:
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()


def _refuse_if_edited(path: Path) -> None:
    if not path.exists():
        return
    notebook = nbformat.read(path, as_version=4)
    if notebook.metadata.get(_FINGERPRINT) != _fingerprint(notebook):
        raise ReleaseError(
            f"exercises/{path.name} holds work that would be lost: move the file elsewhere, then run this again."
        )
