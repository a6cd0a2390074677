"""The judge: evidence in, verdict out. It never runs a learner's code."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch

from autograder.attempt import without_conduct
from autograder.compare import Difference, difference
from autograder.exercise import Exercise, Mistake

STEP_LIMIT = 290
"""Lines of Python and calls of torch on one trial of a vectorised exercise. A loop over a long axis takes 300."""


class Status(StrEnum):
    """How an exercise ended."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NOT_ATTEMPTED = "not attempted"
    ERROR = "error"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Fault:
    """What is wrong on one trial.

    kind: raised, signature, value, arguments (the function changed its arguments), side effect (it changed torch) or
    rule (a forbidden way).
    """

    trial: int
    kind: str
    sentence: str
    difference: Difference | None = None
    lines: tuple[dict, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome of one exercise, the first fault if there is one, and the known mistake that explains it."""

    exercise: str
    status: Status
    fault: Fault | None = None
    mistake: Mistake | None = None


def judge(exercise: Exercise, expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> Verdict:
    """Hold the evidence of an attempt against the solution's, trial by trial.

    Both lists have one entry per trial; where `got` is shorter, the trials it lacks count as failed.
    """
    if got and all(_not_attempted(evidence) for evidence in got):
        return Verdict(exercise.name, Status.NOT_ATTEMPTED)
    for index, wanted in enumerate(expected):
        fault = _fault(exercise, index, wanted, got[index] if index < len(got) else {})
        if fault:
            status = Status.ERROR if fault.kind in ("raised", "signature") else Status.INCORRECT
            return Verdict(exercise.name, status, fault)
    return Verdict(exercise.name, Status.CORRECT)


def recognise(
    exercise: Exercise, got: list[dict[str, Any]], known: Iterable[tuple[Mistake, list[dict[str, Any]]]]
) -> Mistake | None:
    """The first known mistake whose evidence equals the attempt's on every trial.

    known: each mistake with its own evidence on the same trials.
    """
    return next((mistake for mistake, evidence in known if _same_evidence(exercise, evidence, got)), None)


def _same_evidence(exercise: Exercise, expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> bool:
    return len(expected) == len(got) and not any(
        difference(_outcome(wanted), _outcome(given), "outcome", exercise.tolerance)
        for wanted, given in zip(expected, got, strict=True)
    )


def _outcome(evidence: dict[str, Any]) -> dict[str, Any]:
    """What two programs that make the same mistake share: the values, or the error without the lines it came from."""
    if "raised" in evidence:
        return {name: evidence["raised"][name] for name in ("type", "message")}
    return without_conduct(evidence)


def _not_attempted(evidence: dict[str, Any]) -> bool:
    """The starter raises a bare NotImplementedError; torch's own always come with a message."""
    raised = evidence.get("raised")
    return raised is not None and (raised["type"], raised["message"]) == ("NotImplementedError", "")


def _fault(exercise: Exercise, trial: int, expected: dict[str, Any], got: dict[str, Any]) -> Fault | None:
    if "raised" in got:
        raised = got["raised"]
        if raised["type"] == "WrongSignature":
            return Fault(trial, "signature", raised["message"])
        if raised["type"] == "SideEffect":
            return Fault(trial, "side effect", raised["message"])
        sentence = f"{raised['type']}: {raised['message']}" if raised["message"] else raised["type"]
        return Fault(trial, "raised", sentence, lines=tuple(raised["lines"]))
    for name, wanted in without_conduct(expected).items():
        if name == "changed" and (fault := _changed_argument(trial, wanted, got.get(name))):
            return fault
        found = difference(wanted, got.get(name), name, exercise.tolerance)
        if found:
            return Fault(trial, "value", _value_sentence(found), found)
    return _broken_rule(exercise, trial, got)


def _changed_argument(trial: int, expected: dict[str, Any], got: Any) -> Fault | None:
    """The fault of a function that writes into what it was given, or does not where it should."""
    got = got if isinstance(got, dict) else {}
    left_alone = [name for name in expected if name not in got]
    if left_alone:
        return Fault(
            trial, "arguments", f"Your function leaves its argument {left_alone[0]} as it was: it must change it."
        )
    name = next((name for name in got if name not in expected), None)
    if name is None:
        return None
    copy = f"{name}.clone()" if isinstance(got[name], torch.Tensor) else f"{name}.copy()"
    sentence = (
        f"Your function changed its argument {name}. The caller still needs it: work on `{copy}`, or use "
        "operations that return a new one (no trailing underscore, no `x[...] = ...`, no `x += ...`)."
    )
    return Fault(trial, "arguments", sentence, Difference(str(name), "changed", "it was changed", None, got[name]))


def _value_sentence(found: Difference) -> str:
    sentence = f"The {found.path}: {found.sentence}."
    if found.kind != "type":
        return sentence
    advice = {
        "None": "Is a `return` missing?",
        "a generator": "A `yield` makes a function a generator: use `return`.",
        "a coroutine": "`async` makes a function a coroutine: leave it out.",
        "a NumPy array": "Stay with torch functions, or convert at the end.",
    }
    got = "None" if found.got is None else f"a {getattr(found.got, 'type', '')}"
    whole_result = "[" not in found.path and "gradient" not in found.path
    if got in advice and (got != "None" or whole_result):
        return f"{sentence} {advice[got]}"
    if hasattr(found.got, "item") and isinstance(found.expected, (bool, int, float)):
        return f"{sentence} `.item()` turns a tensor of one element into a Python number."
    return sentence


def _broken_rule(exercise: Exercise, trial: int, got: dict[str, Any]) -> Fault | None:
    for name, why in exercise.forbidden.items():
        if name in got.get("calls", ()):
            return Fault(trial, "rule", f"Right on this trial, but `{name}` is not allowed here. {why}")
    if exercise.vectorised and got.get("steps", 0) > STEP_LIMIT:
        return Fault(
            trial,
            "rule",
            f"Right on this trial, but it took {got['steps']:,} steps of Python: a loop runs over the elements. "
            "One tensor operation does them all at once, and hundreds of times faster.",
        )
    return None
