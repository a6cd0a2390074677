"""The grader's side: starts the warm process, hands it jobs, and makes sure that each exercise gets its outcome.

One attempt at a job goes on until something has to be stopped. Then everything of the student's is killed, and another
attempt does the rest: without the cell that did the harm, or after the exercise that did. So one mechanism answers
loops, crashes, exhausted memory and attacks, wherever they happen, and a submission without any of these costs nothing.
"""

import json
import os
import secrets
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from autograder.errors import UserError
from autograder.sandbox import confine, view
from autograder.sandbox.cold import attempt_cold
from autograder.sandbox.limits import OPTIMIZERS, Job, Limits, Outcome, Plan
from autograder.sandbox.protocol import OUTCOME, READY, Receiver, write_all
from autograder.sandbox.tiers import COLD, TIERS, Refused, best, examine

PRELOAD = ("import numpy", "import torch", "import torch.utils.data", "import course_utils", OPTIMIZERS)
_DEFAULT = Limits()
_STRICTER = {"all": "definitions", "definitions": "nothing"}
_START_SECONDS = 120
_GRACE_SECONDS = 30  # for a supervisor to kill and report
_POLL = 0.2  # seconds between two looks at whether to go on listening
_PATIENCE = 3  # failures in a row that are the machine's doing, not a submission's


class SandboxError(UserError):
    """The sandbox itself has failed, whatever was in the submission: nothing can be said about it."""


class Sandbox:
    """A warm process that tries submissions, one or several at a time: `run` may be called from several threads.

    limits: for each submission. unsafe: accept a machine that cannot protect files. preload: import statements to run
    once instead of in each submission. exercises: the names of those to come, to have ready what they need. tier: use
    this one, not the strongest that works here (see `tiers`).
    Raises Refused where files cannot be protected.
    """

    def __init__(
        self,
        limits: Limits = _DEFAULT,
        unsafe: bool = False,
        preload: Sequence[str] = PRELOAD,
        exercises: Sequence[str] = (),
        tier: str | None = None,
    ):
        if tier is not None and not (finding := examine(tier)).works:
            raise Refused(f"The tier {tier} does not work here: {finding.why_not}. {finding.advice}".strip())
        self.limits = limits
        self.tier = TIERS[tier] if tier else best(unsafe)
        if tier == COLD and not unsafe:
            raise Refused("The tier cold does not protect files. If you trust every submission, pass --unsafe.")
        self._warmth = {"preload": list(preload), "exercises": list(exercises)}
        self._lock = threading.Lock()
        self._closed = False
        self._zygote = _Zygote(self.tier.name, self._warmth) if self.tier.name != COLD else None

    def run(self, job: Job) -> Iterator[Outcome]:
        """Yield one outcome for each exercise of the job, in order. Raises SandboxError if the machine cannot go on."""
        modes = ["all"] * len(job.cells)
        notes: dict[int, str] = {}
        left = list(job.exercises)
        end = time.monotonic() + self.limits.job_seconds
        failures, bytes_left = 0, self.limits.job_bytes
        while left and (seconds_left := end - time.monotonic()) > 0:
            plan = Plan(
                cells=job.cells,
                modes=tuple(modes),
                exercises=tuple(left),
                seed=job.seed,
                limits=self.limits,
                seconds_left=seconds_left,
                bytes_left=bytes_left,
                secret=secrets.token_hex(16),
                notes=notes,
                starts=job.starts,
            )
            outcomes, stopped = self._attempt(plan)
            failures = 0 if outcomes or (stopped and stopped["cell"]) else failures + 1
            if failures == _PATIENCE:
                why = stopped["reason"] if stopped else "its supervisor ended without a word"
                raise SandboxError(f"Student code could not be confined: {why}.")
            if stopped and stopped["cell"]:
                notes.setdefault(stopped["cell"], stopped["reason"])
                modes[stopped["cell"] - 1] = _STRICTER[modes[stopped["cell"] - 1]]
            bytes_left -= sum(len(outcome.evidence or b"") for outcome in outcomes)
            yield from outcomes
            del left[: len(outcomes)]
        for name in left:
            reason = f"{name} was not begun: the submission had used up its {self.limits.job_seconds:g} s"
            yield Outcome(name, "timed out", reason)

    def _attempt(self, plan: Plan) -> tuple[list[Outcome], dict[str, Any] | None]:
        """Outcomes up to where something had to be stopped; and the cell, if a cell was stopped, with the reason."""
        if self.tier.name == COLD:
            return attempt_cold(plan)
        read_end, write_end = os.pipe()
        job = os.memfd_create("job")
        try:
            write_all(job, plan.to_bytes())
            os.lseek(job, 0, os.SEEK_SET)
            self._hand_over(job, write_end)
        finally:
            os.close(job)
            os.close(write_end)
        try:
            return self._listen(read_end, plan)
        finally:
            os.close(read_end)  # a supervisor that is still at it now stops

    def _hand_over(self, *descriptors: int) -> None:
        with self._lock:
            if self._zygote is None:
                raise SandboxError("The sandbox is closed.")
            for _ in range(_PATIENCE):
                try:
                    return self._zygote.send(*descriptors)
                except OSError:  # it was killed, by somebody else than student code
                    self._zygote.close()
                    self._zygote = _Zygote(self.tier.name, self._warmth)
            raise SandboxError(f"The warm process does not stay alive: {self._zygote.last_words()}")

    def _listen(self, report: int, plan: Plan) -> tuple[list[Outcome], dict[str, Any] | None]:
        """Read what a supervisor reports until it closes its end, or this sandbox is closed."""
        receiver = Receiver(bytes.fromhex(plan.secret), plan.limits.answer_bytes + 4096)
        outcomes: list[Outcome] = []
        deadline = time.monotonic() + plan.seconds_left + _GRACE_SECONDS
        while not self._closed and time.monotonic() < deadline:
            if not select.select([report], [], [], _POLL)[0]:
                continue
            data = os.read(report, 1 << 16)
            if not data:
                break
            for kind, payload in receiver.feed(data):
                head, _, evidence = payload.partition(b"\n")
                fields = json.loads(head)
                if kind != OUTCOME:
                    return outcomes, fields
                fields["evidence"] = evidence if fields["evidence"] else None
                outcomes.append(Outcome(**fields))
        return outcomes, None

    def close(self) -> None:
        """End the warm process and whatever runs in it."""
        self._closed = True  # whoever listens hangs up, which tells its supervisor to stop
        with self._lock:
            if self._zygote:
                self._zygote.close()
                self._zygote = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Zygote:
    """The warm process and the socket that leads to it."""

    def __init__(self, tier: str, warmth: dict[str, list[str]]):
        self._control, theirs = socket.socketpair()
        # Where there is no /scratch, the process removes this folder when it ends, even if the grader was killed.
        scratch = confine.SCRATCH if tier == confine.FULL else tempfile.mkdtemp(prefix="course-sandbox-")
        readable = view.readable() if tier == confine.LANDLOCK else [str(path) for path in view.shown()]
        settings = {"tier": tier, "scratch": scratch, "readable": readable, **warmth}
        settings["control"] = theirs.fileno()
        code = "import gc; gc.disable(); from autograder.sandbox.zygote import main; main()"  # imports make no garbage
        command = view.python_command(code, json.dumps(settings))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._process = subprocess.Popen(
            view.behind_bubblewrap(command) if tier == confine.FULL else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env=view.environment(scratch),
            pass_fds=[theirs.fileno()],
            cwd="/",
            start_new_session=True,  # Ctrl-C is the grader's to handle
        )
        theirs.close()
        self._ready = False

    def send(self, *descriptors: int) -> None:
        """Hand over the open files of one attempt. Raises OSError if the process has ended, SandboxError if at once."""
        if not self._ready:
            self._control.settimeout(_START_SECONDS)
            if self._control.recv(16) != READY:
                raise SandboxError(f"The warm process did not start: {self.last_words()}")
            self._ready = True
        socket.send_fds(self._control, [b"j"], descriptors)

    def last_words(self) -> str:
        """The end of what the process wrote on standard error."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-500:] or "it said nothing."

    def close(self) -> None:
        """End the process, by closing the socket that it listens to."""
        self._control.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
