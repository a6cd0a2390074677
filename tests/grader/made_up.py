"""A class that was never taught: real verdicts of the real judge on solutions, known mistakes and worse."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from autograder.attempt import attempt
from autograder.exercise import all_exercises
from autograder.grader.gradebook import Gradebook, Graded
from autograder.judge import Fault, Status, Verdict, judge, recognise
from autograder.solutions import load_solutions

SEED = 20261122
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class HandedIn:
    """What the gradebook needs of a submission."""

    student: str
    digest: str
    problems: tuple[str, ...] = ()


@cache
def solutions() -> dict[str, Callable]:
    return load_solutions((ROOT / "solutions" / "01_tensors.py").read_text(encoding="utf-8"))


def chapter_1() -> list[str]:
    """The names of the exercises that this class has worked on."""
    return [name for name, exercise in all_exercises().items() if exercise.chapter == "tensors"]


@cache
def expected(name: str) -> list:
    return attempt(all_exercises()[name], solutions()[name], SEED)


def verdict_on(name: str, function: Callable) -> Verdict:
    """The judge's verdict on a function, with the mistake it shows."""
    exercise = all_exercises()[name]
    got = attempt(exercise, function, SEED)
    verdict = judge(exercise, expected(name), got)
    if verdict.status is Status.CORRECT:
        return verdict
    known = ((mistake, attempt(exercise, mistake.implementation, SEED)) for mistake in exercise.mistakes)
    return Verdict(name, verdict.status, verdict.fault, recognise(exercise, got, known))


def graded(name: str, verdict: Verdict, digest: str = "d", **changes) -> Graded:
    """A verdict as the grader commits it."""
    correct = verdict.status is Status.CORRECT
    facts = {
        "student": "",
        "digest": digest,
        "exercise": name,
        "spec": "spec",
        "seed": SEED,
        "verdict": verdict,
        "points": all_exercises()[name].points if correct else 0,
        "reason": "",
        "seconds": 0.01,
        "memory": 1 << 20,
        "practice": None,
    }
    return Graded(**facts | changes)


def halted(name: str, status: Status, reason: str, digest: str = "d", **changes) -> Graded:
    """A verdict without evidence, as the grader commits it."""
    return graded(name, Verdict(name, status, Fault(0, "raised", reason)), digest, reason=reason, **changes)


@cache
def _known(name: str, kind: str) -> Verdict:
    """One verdict per exercise and kind of answer: correct, starter, raises, off by a number, or a mistake's name."""
    solution = solutions()[name]

    def starter(*arguments):
        raise NotImplementedError

    def raises(*arguments):
        return arguments[0].no_such_method()

    def off(*arguments):
        result = solution(*arguments)
        change = float(kind.partition(" ")[2])
        return result + change if isinstance(result, (torch.Tensor, float)) else result

    if kind == "correct":
        return verdict_on(name, solution)
    if kind == "starter":
        return verdict_on(name, starter)
    if kind == "raises":
        return verdict_on(name, raises)
    if kind.startswith("off"):
        return verdict_on(name, off)
    mistake = next(known for known in all_exercises()[name].mistakes if known.name == kind)
    return verdict_on(name, mistake.implementation)


def fill(book: Gradebook, students: list[str], kinds: int = 12) -> None:
    """Grade a class of these students into a book; the same class gets the same grades every time."""
    chance = random.Random(0)
    book.seed = SEED
    handed_in = []
    for student in students:
        digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()
        unread = ("homework.ipynb is not a notebook: it ends in the middle of its JSON.",)
        handed_in.append(HandedIn(student, digest, unread if chance.random() < 0.01 else ()))
        skill = chance.betavariate(4, 2)
        for number, name in enumerate(chapter_1()):
            exercise = all_exercises()[name]
            took = {"seconds": chance.expovariate(1) * 0.02 * (1 + number % 5), "digest": digest}
            if chance.random() < skill - 0.08 * (exercise.level - 2):
                book.add(graded(name, _known(name, "correct"), **took))
                continue
            mistake = chance.choice(exercise.mistakes[:4]).name
            kind = chance.choices(
                [mistake, f"off {chance.randrange(kinds) / 7 + 0.5}", "raises", "starter", "halted"],
                weights=[10, 4, 3, 6, 0.4],
            )[0]
            if kind == "halted":
                status, reason = chance.choice(
                    [
                        (Status.TIMED_OUT, "It did not end within 10 seconds."),
                        (Status.OUT_OF_MEMORY, "It took more than 1.0 GB of memory."),
                        (Status.CRASHED, "It was killed by signal 11 (segmentation fault)."),
                    ]
                )
                took["seconds"] = 10.0 if status is Status.TIMED_OUT else took["seconds"]
                book.add(halted(name, status, reason, **took))
                continue
            verdict = _known(name, kind)
            unexplained = verdict.status is Status.INCORRECT and verdict.mistake is None
            practice = chance.random() < 0.05 if unexplained else None
            book.add(graded(name, verdict, practice=practice, **took))
    book.enrol(handed_in)
