"""Grade a class: submissions in, verdicts in the gradebook.

Student code runs in sandboxes, which return evidence. The judge works here, in the process that holds the solutions,
and never runs a line of theirs.
"""

import ast
import hashlib
import inspect
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from autograder.answers import load_answers
from autograder.attempt import attempt, read_attempt
from autograder.errors import UserError
from autograder.evidence import EvidenceError, decode
from autograder.exercise import PRACTICE_SEED, Exercise
from autograder.grader.gradebook import Gradebook, Graded
from autograder.grader.notebooks import read_cells
from autograder.grader.submissions import Submission
from autograder.judge import Fault, Status, Verdict, judge, recognise
from autograder.sandbox import Job, Outcome
from autograder.solutions import find_solution, load_solutions, solutions_source

IN_FLIGHT = 4
"""Jobs handed out per worker: enough to keep it busy, few enough to keep a large class out of memory."""

_STATUS = {
    "timed out": Status.TIMED_OUT,
    "out of memory": Status.OUT_OF_MEMORY,
    "crashed": Status.CRASHED,
}


class GradingError(UserError):
    """Grading cannot start; the message says what is missing."""


class Marker:
    """Turns what the sandbox returned into verdicts, with the solutions' and the mistakes' evidence of one seed.

    Both are the same for every student, so each is collected once per run, and the mistakes' only when a first answer
    is wrong.
    """

    def __init__(self, exercises: Iterable[Exercise], seed: int):
        self.exercises = {exercise.name: exercise for exercise in exercises}
        self.seed = seed
        self.spec = {exercise.name: spec_digest(exercise) for exercise in self.exercises.values()}
        self._expected: dict[str, list[dict[str, Any]]] = {}
        self._mistakes: dict[str, list] = {}

    def expected(self, exercise: Exercise) -> list[dict[str, Any]]:
        """The solution's evidence. Raises GradingError where the solution is missing or raises."""
        if exercise.name not in self._expected:
            evidence = attempt(exercise, _solution(exercise), self.seed)
            verdict = judge(exercise, evidence, evidence)
            if verdict.status is not Status.CORRECT:
                raise GradingError(f"The solution of {exercise.name} fails here. {verdict.fault.sentence}")
            self._expected[exercise.name] = evidence
        return self._expected[exercise.name]

    def mark(self, outcome: Outcome, cells: tuple[str, ...]) -> tuple[Verdict, str]:
        """The verdict on one outcome, and the reason where there is no evidence to judge."""
        exercise = self.exercises[outcome.exercise]
        if outcome.state == "undefined":
            tried = any(re.search(rf"^(def|class) {exercise.name}\b", cell, re.MULTILINE) for cell in cells)
            status = Status.ERROR if tried else Status.NOT_ATTEMPTED
            return _without_evidence(exercise, status, outcome.reason), outcome.reason
        if outcome.state != "finished":
            return _without_evidence(exercise, _STATUS[outcome.state], outcome.reason), outcome.reason
        try:
            evidence = read_attempt(decode(outcome.evidence))
        except EvidenceError as error:
            return _without_evidence(exercise, Status.CRASHED, str(error)), str(error)
        expected = self.expected(exercise)
        try:
            verdict = judge(exercise, expected, evidence)
            if verdict.status in (Status.INCORRECT, Status.ERROR):
                verdict = replace(verdict, mistake=recognise(exercise, evidence, self._known(exercise)))
        except Exception as error:  # whatever forged evidence is made of, it costs no more than its own exercise
            reason = f"{exercise.name} gave evidence that cannot be judged ({type(error).__name__})"
            return _without_evidence(exercise, Status.CRASHED, reason), reason
        return verdict, ""

    def _known(self, exercise: Exercise) -> list:
        if exercise.name not in self._mistakes:
            self._mistakes[exercise.name] = [
                (mistake, attempt(exercise, mistake.implementation, self.seed)) for mistake in exercise.mistakes
            ]
        return self._mistakes[exercise.name]


def spec_digest(exercise: Exercise) -> str:
    """A hash of all that decides an exercise's verdict: its spec, its mistakes, its solution, what they share.

    Where it is the same, a stored verdict still holds.
    """
    module = inspect.getmodule(exercise.draw)
    shared = [
        ast.unparse(node)
        for node in ast.parse(inspect.getsource(module)).body
        if not (isinstance(node, ast.FunctionDef) and node.decorator_list)
    ]
    parts = [
        *shared,
        inspect.getsource(exercise.draw),
        *(inspect.getsource(mistake.implementation) for mistake in exercise.mistakes),
        find_solution(exercise) or "",
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def of_chapters_handed_in(exercises: list[Exercise], submissions: list[Submission]) -> list[Exercise]:
    """The exercises of each chapter of which some submission defines one; all where there is none.

    The others are graded too, but nothing needs to be ready for them.
    """
    defined = {
        name
        for submission in submissions
        for cell in submission.cells
        for name in re.findall(r"^(?:def|class) (\w+)", cell, re.MULTILINE)
    }
    chapters = {exercise.chapter for exercise in exercises if exercise.name in defined}
    return [exercise for exercise in exercises if exercise.chapter in chapters] or exercises


def preflight(marker: Marker, exercises: list[Exercise], run: Callable[[Job], list[Outcome]]) -> None:
    """Send the solutions the way of a submission. Raises GradingError, with what is missing, unless all are correct."""
    for topic, of_chapter in itertools.groupby(exercises, key=lambda exercise: exercise.chapter):
        cells = read_cells(f"{topic}.py", (solutions_source(topic) or "").encode())
        for outcome in run(Job(cells, tuple(exercise.name for exercise in of_chapter), marker.seed)):
            verdict, reason = marker.mark(outcome, cells)
            if verdict.status is not Status.CORRECT:
                raise GradingError(
                    f"The solution of {outcome.exercise} does not score here, so no student could: "
                    f"{verdict.status}. {reason or verdict.fault.sentence}"
                )


def grade(
    submissions: list[Submission],
    book: Gradebook,
    marker: Marker,
    executor: Executor,
    run: Callable[[Job], list[Outcome]],
    workers: int,
) -> Iterator[Submission]:
    """Grade what the gradebook does not hold yet; yield each submission once its verdicts are committed.

    executor and run: where jobs go and what runs one there, in a sandbox of its own. Submissions of equal content are
    graded once. The order in which they end says nothing: verdicts depend on content and seed alone.
    """
    twins: dict[str, list[Submission]] = defaultdict(list)
    for submission in submissions:
        twins[submission.digest].append(submission)
    waiting = iter(twins.values())
    pending: dict[Future, _Task] = {}

    def hand_out() -> Iterator[Submission]:
        """Fill the free places; submissions that are graded already need none."""
        while len(pending) < IN_FLIGHT * workers and (same := next(waiting, None)):
            known = book.verdicts_known(same[0].digest, marker.seed)
            names = tuple(name for name, spec in marker.spec.items() if known.get(name) != spec)
            if names:
                job = Job(same[0].cells, names, marker.seed, same[0].starts)
                pending[executor.submit(run, job)] = _Task(same, job)
            else:
                yield from same

    yield from hand_out()
    while pending:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            task = pending.pop(future)
            certain, suspects = task.settle(future.result(), marker)
            for graded in certain:
                book.add(graded)
            if suspects:
                job = replace(task.job, exercises=tuple(suspects), seed=PRACTICE_SEED)
                pending[executor.submit(run, job)] = _Task(task.same, job, suspects)
            else:
                yield from task.same
        yield from hand_out()


@dataclass(frozen=True)
class _Task:
    """A job that was handed out, and whose it is.

    suspects: set where the job tries answers that failed on the graded trials, for no reason that is known, on the
    practice trials as well. Answers that are right there and only there are written for them.
    """

    same: list[Submission]
    job: Job
    suspects: dict[str, Graded] | None = None

    def settle(self, outcomes: list[Outcome], marker: Marker) -> tuple[list[Graded], dict[str, Graded]]:
        """What can be committed, and what must be tried on the practice trials first."""
        if self.suspects is not None:
            passed = {
                outcome.exercise: _passes_practice(marker.exercises[outcome.exercise], outcome) for outcome in outcomes
            }
            return [replace(graded, practice=passed.get(name)) for name, graded in self.suspects.items()], {}
        certain, suspects = [], {}
        for outcome in outcomes:
            verdict, reason = marker.mark(outcome, self.job.cells)
            graded = Graded(
                student=self.same[0].student,
                digest=self.same[0].digest,
                exercise=outcome.exercise,
                spec=marker.spec[outcome.exercise],
                seed=marker.seed,
                verdict=verdict,
                points=marker.exercises[outcome.exercise].points if verdict.status is Status.CORRECT else 0,
                reason=reason,
                seconds=outcome.seconds,
                memory=outcome.memory,
                practice=None,
            )
            if verdict.status is Status.INCORRECT and verdict.mistake is None:
                suspects[outcome.exercise] = graded
            else:
                certain.append(graded)
        return certain, suspects


def _passes_practice(exercise: Exercise, outcome: Outcome) -> bool | None:
    if outcome.state != "finished":
        return None
    try:
        evidence = read_attempt(decode(outcome.evidence))
        return judge(exercise, load_answers(exercise.name), evidence).status is Status.CORRECT
    except Exception:  # forged evidence, as in `mark`
        return None


def _without_evidence(exercise: Exercise, status: Status, reason: str) -> Verdict:
    return Verdict(exercise.name, status, Fault(0, "raised", reason))


def _solution(exercise: Exercise) -> Callable:
    source = solutions_source(exercise.chapter)
    if source is None:
        raise GradingError(
            "The solutions are not here, and nothing can be graded without them: "
            "run this in a checkout of the course that has the folder solutions/."
        )
    return _defined(source)[exercise.name]


@cache
def _defined(source: str) -> dict[str, Any]:
    return load_solutions(source)
