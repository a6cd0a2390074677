"""What every attack is held against: how it ends, what it leaves behind, whether an honest submission still scores."""

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from autograder.attempt import attempt
from autograder.evidence import EvidenceError, decode
from autograder.exercise import all_exercises
from autograder.judge import judge
from autograder.sandbox import Job, Limits, Outcome, Sandbox
from tests.autograder.book import solution, solution_text

SEED = 20_240_917
HONEST = ("bilinear", "outer_sum", "one_hot")
LIMITS = Limits(
    cell_seconds=1,
    exercise_seconds=1,
    job_seconds=6,
    memory=64 << 20,
    processes=32,
    file_bytes=8 << 20,
    scratch_bytes=16 << 20,
    scratch_files=500,
    answer_bytes=1 << 20,
)
HEADER = (
    "import os, sys, time, signal, socket, ctypes, gc, threading, mmap\nimport torch\nimport torch.nn.functional as F\n"
)


def honest_code(name: str) -> str:
    """The book's own solution of an exercise."""
    return solution_text(all_exercises()[name])


@cache
def expected(name: str) -> list[dict[str, Any]]:
    """The evidence of the book's own solution."""
    return attempt(all_exercises()[name], solution(all_exercises()[name]), SEED)


def status(outcome: Outcome) -> str:
    """What the grader would write down: a status, or the state of an exercise without evidence."""
    if outcome.state != "finished":
        return outcome.state
    exercise = all_exercises()[outcome.exercise]
    try:
        return str(judge(exercise, expected(outcome.exercise), decode(outcome.evidence)).status)
    except (EvidenceError, TypeError, AttributeError):
        return "not evidence"


@dataclass
class Arena:
    """One sandbox that stands all attacks, and the things that it must keep them from."""

    sandbox: Sandbox
    marker: str
    outside: Path
    baseline: set[int] = field(default_factory=set)

    def run(self, *cells: str, exercises: tuple[str, ...] = HONEST) -> list[Outcome]:
        """Run cells that may do anything; check that every exercise has its outcome, in order."""
        outcomes = list(self.sandbox.run(Job((HEADER, *cells), exercises, SEED)))
        assert [outcome.exercise for outcome in outcomes] == list(exercises)
        return outcomes

    def honest(self) -> None:
        """An honest submission scores in full."""
        outcomes = self.run(*map(honest_code, HONEST[:2]), exercises=HONEST[:2])
        assert [status(outcome) for outcome in outcomes] == ["correct", "correct"], outcomes

    def attack_cell(self, code: str) -> list[Outcome]:
        """Put an attack into a cell between honest ones, then check that nothing is left of it."""
        first, *others = map(honest_code, HONEST)
        outcomes = self.run(first, code, *others)
        self.check_unharmed()
        return outcomes

    def attack_exercise(self, body: str, state: str, reason: str, last: bool = False) -> None:
        """Put an attack into one function: that exercise has the state and a reason, the others score in full.

        last: whether it is tried after the others, in the process that ran the cells.
        """
        body = "\n".join(f"    {line}" for line in body.strip().splitlines())
        cells = [f"def bilinear(x, W, y):\n{body}\n", *map(honest_code, HONEST[1:])]
        outcomes = self.run(*cells, exercises=(*HONEST[1:], HONEST[0]) if last else HONEST)
        attacked, *others = outcomes[::-1] if last else outcomes
        assert status(attacked) == state, attacked
        assert re.search(reason, attacked.reason), attacked.reason
        assert [status(outcome) for outcome in others] == ["correct", "correct"], others
        self.check_unharmed()

    def check_unharmed(self) -> None:
        """No process is left, nothing outside was read or written, and the next submission scores."""
        deadline = time.monotonic() + 5
        while (left := self.processes() - self.baseline) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, f"processes are left: {left}"
        assert sorted(path.name for path in self.outside.iterdir()) == ["gradebook.sqlite", "secret.txt"]
        assert (self.outside / "secret.txt").read_text() == f"secret {self.marker}"
        assert (self.outside / "gradebook.sqlite").read_text() == "grades"
        for folder in (*INTRUDED, str(self.outside)):
            assert not Path(folder, f"intruder-{self.marker}").exists(), folder
        self.honest()

    def processes(self) -> set[int]:
        """All processes that stem from this sandbox: a fork keeps the command line, which holds the marker."""
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if self.marker.encode() in Path("/proc", pid, "cmdline").read_bytes():
                    found.add(int(pid))
            except OSError:
                continue
        return found


INTRUDED = (
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/",
    str(Path.home()),
    str(Path(__file__).parent.parent.parent),
    os.getcwd(),
)


@contextmanager
def new_arena(outside: Path, tier: str) -> Iterator[Arena]:
    """Start a sandbox with something outside that is worth attacking."""
    marker = uuid.uuid4().hex
    outside.chmod(0o777)
    for name, text in {"secret.txt": f"secret {marker}", "gradebook.sqlite": "grades"}.items():
        (outside / name).write_text(text)
        (outside / name).chmod(0o666)  # only the sandbox keeps them safe, not their permissions
    with Sandbox(LIMITS, preload=("import course_utils", f"import absent_{marker}"), tier=tier) as sandbox:
        arena = Arena(sandbox, marker, outside)
        arena.honest()
        arena.baseline = arena.processes()
        yield arena
    time.sleep(0.2)
    assert not arena.processes()
