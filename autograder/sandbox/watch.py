"""What a student process is doing, how long it may go on with that, and what it has answered so far.

The process is asked for nothing and believed little: it says which cell or exercise it is at, in the only order there
is, and hands over its answers. Anything unexpected ends it. Times are measured here.
"""

import signal
import time

from autograder.sandbox.limits import Outcome, Plan
from autograder.sandbox.protocol import ANSWER, CELL, ENDED, EXERCISE, FAILURE, UNCONFINED, Garbage, number

_SIGNALS = {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGKILL": "killed", "SIGFPE": "arithmetic error"}

_PATIENCE = 5  # times its limit is the longest that anything may take on a crowded machine
_START_SECONDS = 60  # to be confined, or where nothing is warm, to import torch


class Watch:
    """Follows one attempt, frame by frame.

    at: ("start", 0), ("cell", its number from 1), ("exercise", its place in the plan) or, before it, ("between", …).
    unconfined: why the process could not be confined, or "".
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._limits = plan.limits
        self._end = time.monotonic() + plan.seconds_left
        self._answer: tuple[str, str, bytes | None] | None = None
        self._memory = 0
        self._bytes = 0
        self._done = 0
        self.unconfined = ""
        self._begin("start", 0, _START_SECONDS)

    def _begin(self, phase: str, index: int, seconds: float) -> None:
        self.at = (phase, index)
        self._began = time.monotonic()
        self._seconds = seconds
        self._deadline = min(self._began + seconds, self._end)

    @property
    def finished(self) -> bool:
        """Whether every exercise of the plan has its outcome."""
        return self._done == len(self._plan.exercises)

    @property
    def seconds_left(self) -> float:
        """Until what it is doing has to end; negative when it is late."""
        return self._deadline - time.monotonic()

    def give_back(self, seconds: float) -> None:
        """Give back the time in which it was ready to run, but other processes had the processors."""
        seconds = min(self._seconds + seconds, _PATIENCE * self._seconds)
        self._deadline = max(self._deadline, min(self._began + seconds, self._end))

    def used(self, memory: int) -> None:
        """Take note of the memory in use."""
        self._memory = max(self._memory, memory)

    def receive(self, kind: bytes, payload: bytes) -> Outcome | None:
        """Follow one frame; return the outcome that it completes, if it does. Raises Garbage."""
        phase, index = self.at
        if kind == CELL and phase in ("start", "cell") and self._may_begin(number(payload), index):
            self._begin("cell", number(payload), self._limits.cell_seconds)
        elif kind == EXERCISE and phase != "exercise" and number(payload) == self._done and not self.finished:
            self._begin("exercise", self._done, self._limits.exercise_seconds)
            self._answer, self._memory = None, 0
        elif kind in (ANSWER, FAILURE) and phase == "exercise" and self._answer is None:
            self._answer = self._answered(payload) if kind == ANSWER else _failure(payload)
        elif kind == ENDED and phase == "exercise":
            return self._ended(payload)
        elif kind == UNCONFINED and phase == "start":
            self.unconfined = _sentence(payload)
        else:
            raise Garbage("a frame out of order")
        return None

    def _may_begin(self, cell: int, previous: int) -> bool:
        return previous < cell <= len(self._plan.cells) and self._plan.modes[cell - 1] != "nothing"

    def _answered(self, evidence: bytes) -> tuple[str, str, bytes | None]:
        self._bytes += len(evidence)
        if self._bytes <= self._plan.bytes_left:
            return "finished", "", evidence
        most = f"{self._limits.job_bytes >> 20:,} MB"
        name = self._plan.exercises[self._done]
        return "crashed", f"{name} gave a result when the submission had used up the {most} for all its results", None

    def _ended(self, payload: bytes) -> Outcome:
        if self._answer is None:
            return self.stopped("crashed", describe_status(number(payload)))
        return self._outcome(*self._answer)

    def stopped(self, state: str, reason: str) -> Outcome:
        """The outcome of the exercise that it is at, which is stopped for a reason such as "took longer than 10 s"."""
        return self._outcome(state, f"{self._plan.exercises[self._done]} {reason}", None)

    def _outcome(self, state: str, reason: str, evidence: bytes | None) -> Outcome:
        exercise = self._plan.exercises[self._done]
        seconds = time.monotonic() - self._began
        self._done += 1
        self._begin("between", self._done, self._limits.exercise_seconds)
        return Outcome(exercise, state, reason, evidence, seconds, self._memory)

    def lateness(self) -> str:
        """What is to be said of a late cell or exercise: its name, then this."""
        if self._deadline >= self._end:
            return f"was not done when the submission had used up its {self._limits.job_seconds:g} s"
        limit = self._limits.exercise_seconds if self.at[0] == "exercise" else self._limits.cell_seconds
        return f"took longer than {limit:g} s"


def describe_status(status: int) -> str:
    """What is to be said of a cell or exercise whose process has ended with this wait status."""
    if number := status & 0x7F:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {number} ({_SIGNALS.get(name, name)})"
    return f"ended its process, with exit code {status >> 8 & 0xFF}, before it had answered"


def _failure(payload: bytes) -> tuple[str, str, None]:
    state, _, reason = _sentence(payload).partition(": ")
    if state not in ("undefined", "out of memory", "crashed"):
        raise Garbage("an unknown state")
    return state, reason, None


def _sentence(payload: bytes) -> str:
    """One printable line: it may have been written by student code."""
    text = payload.decode("utf-8", "replace")[:500]
    return "".join(character if character.isprintable() else " " for character in text)
