"""One exercise of one student, graded, and the same as a row of the gradebook."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autograder.compare import Difference
from autograder.evidence import MAX_DEPTH, Typed, decode, encode
from autograder.exercise import Exercise
from autograder.judge import Fault, Status, Verdict

MAX_VALUE_BYTES = 256 << 10
"""An expected or returned value that takes more is not kept, only what was wrong with it."""

MAX_TEXT = 4_000
"""A sentence may hold a learner's error message, which has no limit of its own."""

_TOO_LARGE = Typed("value too large to be kept")


@dataclass(frozen=True)
class Graded:
    """One exercise of one student, graded.

    spec: the digest of the exercise's spec. reason: why it was not finished, else "". seconds, memory (bytes): as the
    supervisor measured them. practice: whether the same function passed the practice trials; None where unknown.
    """

    student: str
    digest: str
    exercise: str
    spec: str
    seed: int
    verdict: Verdict
    points: int
    reason: str
    seconds: float
    memory: int
    practice: bool | None


def to_row(graded: Graded) -> tuple:
    """The values of a row, in the order of the gradebook's columns."""
    verdict = graded.verdict
    fault = verdict.fault or Fault(0, "", "")
    found = fault.difference or Difference("", "", "", None, None)
    return (
        graded.digest,
        graded.exercise,
        str(graded.seed),
        graded.spec,
        verdict.status.value,
        verdict.mistake.name if verdict.mistake else None,
        *((fault.trial, fault.kind, text(fault.sentence), json.dumps(fault.lines)) if verdict.fault else [None] * 4),
        *((text(found.path), found.kind, text(found.sentence)) if fault.difference else [None] * 3),
        *((_bytes(found.expected), _bytes(found.got)) if fault.difference else [None] * 2),
        graded.points,
        text(graded.reason),
        graded.seconds,
        graded.memory,
        graded.practice,
    )


def from_row(student: str, exercise: Exercise, row: Mapping[str, Any]) -> Graded:
    """A student's graded exercise. Raises EvidenceError or ValueError where the row is damaged."""
    mistake = next((known for known in exercise.mistakes if known.name == row["mistake"]), None)
    found = fault = None
    if row["path"] is not None:
        found = Difference(
            row["path"], row["difference"], row["difference_sentence"], _value(row["expected"]), _value(row["got"])
        )
    if row["trial"] is not None:
        fault = Fault(row["trial"], row["kind"], row["sentence"], found, tuple(json.loads(row["lines"])))
    return Graded(
        student=student,
        digest=row["digest"],
        exercise=row["exercise"],
        spec=row["spec"],
        seed=int(row["seed"]),
        verdict=Verdict(row["exercise"], Status(row["status"]), fault, mistake),
        points=row["points"],
        reason=row["reason"],
        seconds=row["seconds"],
        memory=row["memory"],
        practice=None if row["practice"] is None else bool(row["practice"]),
    )


def _bytes(value: Any) -> bytes | None:
    if _too_deep(value):
        return None
    data = encode(value)
    return data if len(data) <= MAX_VALUE_BYTES else None


def _too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than evidence of a function is: then it was forged, to be unreadable later."""
    level = [value]
    for _ in range(MAX_DEPTH + 2):
        level = [inner for node in level for inner in _inside(node)]
        if not level:
            return False
    return True


def _inside(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, Typed):
        return [node.value]
    return node if isinstance(node, (list, tuple)) else []


def _value(data: bytes | None) -> Any:
    return _TOO_LARGE if data is None else decode(data)


def text(whole: str) -> str:
    """A sentence as it is stored: cut where it is endless."""
    return storable(whole if len(whole) <= MAX_TEXT else f"{whole[:MAX_TEXT]}…")


def storable(name: str) -> str:
    """Halves of surrogate pairs, as names of files and error messages may hold them, are no UTF-8: spell them out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
