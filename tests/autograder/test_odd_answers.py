"""Odd answers to every exercise: right ones in styles that the solution does not use, and wrong ones of all kinds.

The right ones must pass whatever the seed. Each wrong one stands for a trial or a rule that no one may take out.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from autograder.attempt import attempt
from autograder.exercise import all_exercises
from autograder.judge import STEP_LIMIT, Status, judge
from autograder.specs import CHAPTERS
from autograder.specs.tensors import MANY
from tests.autograder.book import define, solution

SEEDS = range(3)
ODD_ANSWERS = {chapter.topic: import_module(f"tests.autograder.odd_answers.{chapter.topic}") for chapter in CHAPTERS}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad"),
    pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning"),  # torch's own, in forward mode
]


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(exercise, answer, id=f"{exercise}: {style}")
        for module in ODD_ANSWERS.values()
        for exercise, answers in getattr(module, kind).items()
        for style, answer in answers.items()
    ]


@cache
def _expected(name: str, seed: int) -> list[dict[str, Any]]:
    exercise = all_exercises()[name]
    return attempt(exercise, solution(exercise), seed)


def _statuses(name: str, answer: Callable | str) -> list[Status]:
    exercise = all_exercises()[name]
    if isinstance(answer, str):
        answer = define(exercise, answer, **{f"_{name}": solution(exercise)})
    return [judge(exercise, _expected(name, seed), attempt(exercise, answer, seed)).status for seed in SEEDS]


@pytest.mark.parametrize(("name", "answer"), _cases("RIGHT"))
def test_a_right_answer_passes_in_any_style(name, answer):
    assert _statuses(name, answer) == [Status.CORRECT] * len(SEEDS)


@pytest.mark.parametrize(("name", "answer"), _cases("WRONG"))
def test_a_wrong_answer_fails_on_every_seed(name, answer):
    assert set(_statuses(name, answer)) <= {Status.INCORRECT, Status.ERROR}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.topic)
def test_each_exercise_has_odd_answers(chapter):
    names = {exercise.name for exercise in all_exercises().values() if exercise.chapter == chapter.topic}
    odd = ODD_ANSWERS[chapter.topic]
    assert set(odd.RIGHT) >= names - {"checkpoint", "resume"}  # those two have tests of their own
    assert set(odd.WRONG) >= names - {"checkpoint", "resume"}


def test_a_long_axis_is_longer_than_the_limit_of_steps():
    assert MANY > STEP_LIMIT
