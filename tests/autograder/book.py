"""The hand-written solutions of all chapters, for the tests."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from autograder.exercise import Exercise
from autograder.solutions import load_solutions, solution_code
from autograder.specs import CHAPTERS

ROOT = Path(__file__).parent.parent.parent


@cache
def chapter_source(topic: str) -> str:
    """The text of a chapter's solutions file."""
    chapter = next(chapter for chapter in CHAPTERS if chapter.topic == topic)
    return (ROOT / "solutions" / f"{chapter.stem}.py").read_text(encoding="utf-8")


@cache
def _defined(topic: str) -> dict[str, Any]:
    return load_solutions(chapter_source(topic))


def solution(exercise: Exercise) -> Callable:
    """The solution of an exercise, to call."""
    return _defined(exercise.chapter)[exercise.name]


def solution_text(exercise: Exercise) -> str:
    """The solution of an exercise, to read."""
    return solution_code(chapter_source(exercise.chapter), exercise.name)


def define(exercise: Exercise, source: str, **more: Any) -> Callable:
    """What `source` defines under the exercise's name, beside the chapter's imports and what else it may use."""
    names = {**_defined(exercise.chapter), **more}
    exec(compile(source, "<learner>", "exec"), names)
    return names[exercise.name]
