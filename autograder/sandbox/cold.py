"""Without Linux: a new Python for each attempt, watched from outside. It protects time and memory, but no files.

Forking after torch is imported is not safe on macOS and impossible on Windows, so the exercises of an attempt share one
process; what one leaves behind, the next one finds.
"""

import os
import queue
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from autograder.sandbox import view
from autograder.sandbox.limits import Outcome, Plan
from autograder.sandbox.protocol import Garbage, Receiver, send
from autograder.sandbox.watch import Watch

_POLL = 0.1


def attempt_cold(plan: Plan) -> tuple[list[Outcome], dict[str, Any] | None]:
    """Carry out one attempt; return its outcomes and, if a cell had to be stopped, which one and why."""
    code = "from autograder.sandbox.cold import main; main()"
    with tempfile.TemporaryDirectory(prefix="course-sandbox-", ignore_cleanup_errors=True) as scratch:
        process = subprocess.Popen(
            view.python_command(code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=view.environment(scratch),
            cwd=scratch,
        )
        try:
            return _follow(plan, process)
        finally:
            _kill(process)


def main() -> None:
    """The other side: read a plan from standard input, and answer on what was standard output."""
    from autograder.sandbox import student

    channel = os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, channel):
            msvcrt.setmode(descriptor, os.O_BINARY)
    with open(0, "rb", closefd=False) as file:
        plan = Plan.from_bytes(file.read())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    student.torch.set_num_threads(1)
    student.without_workers()
    student.run(plan, partial(send, channel, bytes.fromhex(plan.secret)), fork=False)
    os._exit(0)


def _follow(plan: Plan, process: subprocess.Popen) -> tuple[list[Outcome], dict[str, Any] | None]:
    chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(process, plan.to_bytes(), chunks), daemon=True).start()
    watch = Watch(plan)
    receiver = Receiver(bytes.fromhex(plan.secret), plan.limits.answer_bytes)
    outcomes: list[Outcome] = []
    born_with = 0

    def stop(state: str, reason: str) -> tuple[list[Outcome], dict[str, Any] | None]:
        phase, number = watch.at
        if phase in ("exercise", "between"):
            return [*outcomes, watch.stopped(state, reason)], None
        return outcomes, {"cell": number, "state": state, "reason": reason}

    while not watch.finished:
        try:
            data = chunks.get(timeout=max(0.0, min(_POLL, watch.seconds_left)))
            outcomes += filter(None, [watch.receive(kind, payload) for kind, payload in receiver.feed(data)])
            if not data:
                return stop("crashed", f"ended its process, with exit code {process.wait()}, before it had answered")
        except queue.Empty:
            pass
        except Garbage as error:
            return stop("crashed", f"wrote into the channel of the answers: {error}")
        if watch.seconds_left <= 0:
            return stop("timed out", watch.lateness())
        memory = _memory(process)
        if watch.at[0] == "start":
            born_with = memory  # torch and the specs: not the student's
        memory = max(0, memory - born_with)
        watch.used(memory)
        if memory > plan.limits.memory:
            return stop("out of memory", f"used more than {plan.limits.memory >> 20:,} MB")
    return outcomes, None


def _pump(process: subprocess.Popen, plan: bytes, chunks: queue.SimpleQueue) -> None:
    """Give the process its plan, then pass on what it writes; at the end, no bytes."""
    with suppress(OSError):
        process.stdin.write(plan)
        process.stdin.close()
    with process.stdout:
        while data := process.stdout.read1(1 << 16):
            chunks.put(data)
    chunks.put(b"")


def _family(process: subprocess.Popen) -> list:
    import psutil  # only this tier needs it

    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _memory(process: subprocess.Popen) -> int:
    import psutil

    total = 0
    for one in _family(process):
        with suppress(psutil.Error):
            total += one.memory_info().rss
    return total


def _kill(process: subprocess.Popen) -> None:
    import psutil

    for one in _family(process):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()
