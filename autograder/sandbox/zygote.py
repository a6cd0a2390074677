"""The warm process: imports torch and the specs once, then forks a supervisor for each attempt at a job.

It never reads a submission, a solution or an answer, since its children inherit its memory: a job passes through as an
open file. It never computes either: with one thread only, its children can be confined and may start threads.
"""

import ctypes
import gc
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from contextlib import suppress

import torch
from tqdm import tqdm

from autograder.attempt import attempt
from autograder.evidence import encode
from autograder.exercise import PRACTICE_SEED, all_exercises
from autograder.sandbox import confine, usage
from autograder.sandbox.limits import OPTIMIZERS, Plan
from autograder.sandbox.protocol import READY
from autograder.sandbox.supervisor import Warm, supervise

# For where nothing can be imported later: what notebooks of this course import.
_BEFORE_CHROOT = (
    OPTIMIZERS,
    "import course_utils.plotting, course_utils.datasets",
    "import matplotlib.pyplot",
    "import torchvision.transforms.v2",
)
_MADV_COLLAPSE = 25
_HUGE_PAGE = 2 << 20


def main() -> None:
    """Run until the grader closes its end of the control socket. The settings are the first argument, as JSON."""
    settings = json.loads(sys.argv[1])
    if settings["tier"] == confine.FULL and os.geteuid() == 0:
        confine.become(confine.throwaway_uid())
    before = _BEFORE_CHROOT if settings["tier"] == confine.CHROOT else ()
    warm_up([*settings["preload"], *before], settings["exercises"])
    system_calls = confine.prepare(settings["tier"])
    _make_forks_cheap()
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        sys.exit(f"The warm process has {threads} threads, but only a process with one can be forked safely.")
    readable = tuple(settings["readable"])
    warm = Warm(settings["tier"], readable, settings["scratch"], system_calls, usage.own_anonymous())
    if warm.tier != confine.FULL:
        os.chmod(warm.scratch, 0o711)  # student processes go through it to their own folders, but cannot list it
    signal.signal(signal.SIGCHLD, _reap)
    control = socket.socket(fileno=settings["control"])
    control.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            _leave(warm)
        with suppress(OSError):  # too many processes: the report ends at once, and the grader tries again
            if os.fork() == 0:
                control.close()
                _supervise(warm, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def warm_up(preload: list[str], exercises: list[str]) -> None:
    """Do once what every submission would do for itself: imports, a backward pass, an attempt at each exercise."""
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # a progress bar, as `datasets` shows, would start a thread
    for statement in preload:
        with suppress(ImportError):
            exec(statement, {})
    torch.nn.Linear(2, 1)(torch.ones(3, 2)).sum().backward()
    for name in exercises or list(all_exercises())[:1]:  # a wrong answer: there is no right one here
        exercise = all_exercises()[name]
        encode(attempt(exercise, exercise.mistakes[0].implementation, PRACTICE_SEED))


def _leave(warm: Warm) -> None:
    """End with the grader. Where the kernel does not end everything else with this process, wait for its children."""
    if warm.tier != confine.FULL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with suppress(ChildProcessError):
            while True:
                os.wait()
        shutil.rmtree(warm.scratch, ignore_errors=True)
    os._exit(0)


def _reap(*_: object) -> None:
    """Collect supervisors that have ended: nobody waits for one, since the end of its report says enough."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _supervise(warm: Warm, job: int, report: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with open(job, "rb") as file:
            plan = Plan.from_bytes(file.read())
        supervise(warm, plan, report)
    except BrokenPipeError:
        pass  # the grader has gone, or has heard enough
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _make_forks_cheap() -> None:
    """Move memory into huge pages, so that a fork copies 200 entries of its page table instead of 100,000.

    This halves the processor time of a submission. Where the kernel cannot do it (before Linux 6.1), nothing is lost.
    """
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every object
    madvise = ctypes.CDLL(None).madvise
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    for addresses, permissions, _, _, _, *name in lines:
        if permissions.startswith("rw") and name in ([], ["[heap]"]):
            start, end = (int(address, 16) for address in addresses.split("-"))
            for address in range(-(-start // _HUGE_PAGE) * _HUGE_PAGE, end // _HUGE_PAGE * _HUGE_PAGE, _HUGE_PAGE):
                madvise(ctypes.c_void_p(address), ctypes.c_size_t(_HUGE_PAGE), _MADV_COLLAPSE)
