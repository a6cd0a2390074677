"""The supervisor: one per attempt, between a student's process and the grader.

It lends the student's process two things, a pipe to answer on and time. It takes the time and the memory itself, kills
whatever exceeds its limits, and reports outcomes as the student's process gets on. It reads the answers but never looks
into them.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from autograder.sandbox import confine, student, usage
from autograder.sandbox.limits import Outcome, Plan
from autograder.sandbox.protocol import OUTCOME, STOPPED, UNCONFINED, Garbage, Receiver, send
from autograder.sandbox.watch import Watch, describe_status

POLL = 0.05  # seconds between two looks at memory and disk
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Warm:
    """What the zygote has ready for each supervisor."""

    tier: str
    readable: tuple[str, ...]
    scratch: str  # in a namespace of its own /scratch, otherwise the folder for one scratch folder per attempt
    system_calls: Any
    anonymous: int  # bytes of the warm process itself, which are not a student's


def supervise(warm: Warm, plan: Plan, report: int) -> None:
    """Carry out one attempt and write what became of it to the file descriptor `report`."""
    uid = confine.throwaway_uid() if os.geteuid() == 0 else None
    scratch = _scratch_folder(warm, uid)
    read_end, write_end = os.pipe()
    try:
        confine.outside(warm.tier)
        child = os.fork()
    except OSError as error:
        fields = {"cell": 0, "state": "crashed", "reason": str(error)}
        return send(report, bytes.fromhex(plan.secret), STOPPED, json.dumps(fields).encode())
    if child == 0:
        _become_student(warm, plan, write_end, scratch, uid)
    os.close(write_end)
    try:
        _Attempt(warm, plan, report, child, read_end, scratch).follow()
    finally:
        _kill(warm.tier, child, uid)
        if warm.tier != confine.FULL:
            _remove(scratch)


class _Attempt:
    """The state of one attempt, as its supervisor sees it."""

    def __init__(self, warm: Warm, plan: Plan, report: int, child: int, answers: int, scratch: str):
        self._warm, self._plan, self._report, self._child = warm, plan, report, child
        self._answers, self._scratch = answers, scratch
        self._secret = bytes.fromhex(plan.secret)
        self._watch = Watch(plan)

    def follow(self) -> None:
        """Read, measure and report, until all is answered, a limit is exceeded or the grader is gone."""
        receiver = Receiver(self._secret, self._plan.limits.answer_bytes)
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        poll.register(self._report, 0)  # tells when nobody reads the report any more
        next_look = time.monotonic() + POLL
        while not self._watch.finished:
            ready = dict(poll.poll(1000 * max(0.0, min(POLL, self._watch.seconds_left))))
            if self._report in ready:
                return
            try:
                if self._answers in ready:
                    data = os.read(self._answers, _CHUNK)
                    for kind, payload in receiver.feed(data):
                        self._frame(kind, payload)
                    if not data:
                        return self._ended()
            except Garbage as error:
                return self._stop("crashed", f"wrote into the channel of the answers: {error}")
            if self._watch.unconfined:
                return self._stop("crashed", self._watch.unconfined)
            if self._watch.seconds_left <= 0:
                self._watch.give_back(usage.waited(self._child))
            if self._watch.seconds_left <= 0:
                return self._stop("timed out", self._watch.lateness())
            if time.monotonic() >= next_look:
                if excess := self._excess():
                    return self._stop(*excess)
                next_look = time.monotonic() + POLL

    def _frame(self, kind: bytes, payload: bytes) -> None:
        if outcome := self._watch.receive(kind, payload):
            self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        fields = asdict(outcome) | {"evidence": outcome.evidence is not None}
        send(self._report, self._secret, OUTCOME, json.dumps(fields).encode() + b"\n" + (outcome.evidence or b""))

    def _stop(self, state: str, reason: str) -> None:
        phase, number = self._watch.at
        if phase in ("exercise", "between"):
            self._tell(self._watch.stopped(state, reason))
        else:
            fields = {"cell": number, "state": state, "reason": reason}
            send(self._report, self._secret, STOPPED, json.dumps(fields).encode())

    def _ended(self) -> None:
        """The student's process has closed the channel, which it does only by ending, or as an attack."""
        deadline = time.monotonic() + 1
        while (ended := os.waitpid(self._child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stop("crashed", describe_status(ended[1]) if ended[0] else "closed the channel of the answers")

    def _excess(self) -> tuple[str, str] | None:
        """The state and reason, if the attempt uses more than it may."""
        limits = self._plan.limits
        memory = usage.memory(self._child, self._warm.anonymous, limits.memory)
        self._watch.used(memory)
        if memory > limits.memory:
            return "out of memory", f"used more than {limits.memory >> 20:,} MB"
        if self._warm.tier != confine.FULL and usage.is_too_full(
            self._scratch, limits.scratch_bytes, limits.scratch_files
        ):
            return "crashed", f"used more than {limits.scratch_bytes >> 20:,} MB of disk"
        return None


def _become_student(warm: Warm, plan: Plan, channel: int, scratch: str, uid: int | None) -> None:
    """Confine this process and run student code in it. Does not return."""
    try:
        os.dup2(channel, 3)
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor > 3:
                with suppress(OSError):  # the one that has listed them is closed already
                    os.close(descriptor)
        tell = partial(send, 3, bytes.fromhex(plan.secret))
        try:
            confine.inside(warm.tier, scratch, warm.readable, warm.system_calls, plan.limits, uid)
        except Exception as error:
            tell(UNCONFINED, str(error)[:1000].encode())
            return
        os.dup2(1, 2)  # from here on, nothing that it prints goes anywhere
        os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR", "COURSE_STATE"), scratch))
        tempfile.tempdir = None
        if warm.tier != confine.FULL:
            student.without_workers()
        student.run(plan, tell, fork=True)
        signal.pause()  # it is killed, with all its children, once the last answer has been read
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _kill(tier: str, child: int, uid: int | None) -> None:
    """End the student's processes, all of them, and wait until they are gone."""
    if tier == confine.FULL:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # the kernel ends the others of its namespace with it
    elif uid:
        _kill_all_of(uid)
    while True:
        if tier != confine.FULL:
            for pid in usage.family(os.getpid())[1:]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
        except ChildProcessError:
            return


def _kill_all_of(uid: int) -> None:
    """Kill all processes of a user in one stroke, in which none can get away by forking."""
    helper = os.fork()
    if helper == 0:
        with suppress(OSError):
            confine.become(uid)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(helper, 0)


def _scratch_folder(warm: Warm, uid: int | None) -> str:
    if warm.tier == confine.FULL:
        return warm.scratch
    folder = tempfile.mkdtemp(dir=warm.scratch)
    if uid:
        os.chown(folder, uid, uid)
    return folder


def _remove(folder: str) -> None:
    """Remove a folder however deep it is, and whatever permissions its folders have lost."""
    try:
        os.rmdir(folder)
    except OSError:
        for command in (["chmod", "-R", "u+rwx", folder], ["rm", "-rf", folder]):
            subprocess.run(command, stderr=subprocess.DEVNULL)
