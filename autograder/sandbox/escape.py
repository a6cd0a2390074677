"""Put up the walls of a tier and try to get over them: so `tiers` finds out what a machine can do.

It imports no more than `confine`, which lies beside it, and not as a part of a package: torch would take seconds.
"""

import os
import socket
import sys
from types import SimpleNamespace

import confine


def main(tier: str, canary: str, scratch: str) -> None:
    """Try a tier, and exit with one line about what failed, if anything did.

    canary: a file outside that everybody may read. scratch: the folder that student code would write to.
    """
    if tier == confine.FULL and os.geteuid() == 0:
        confine.become(confine.throwaway_uid())
    uid = confine.throwaway_uid() if os.geteuid() == 0 else None
    limits = SimpleNamespace(memory=1 << 28, processes=8, file_bytes=1 << 20, scratch_bytes=1 << 20, scratch_files=100)
    system_calls = confine.prepare(tier)
    if uid:
        os.chown(scratch, uid, uid)
    confine.outside(tier)
    if os.fork() == 0:
        try:
            readable = ["/usr", *filter(os.path.exists, sys.path)]
            confine.inside(tier, scratch, readable, system_calls, limits, uid)
            try_to_escape(canary)
        except BaseException as error:
            os.write(2, str(error).encode())
            os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))


def try_to_escape(canary: str) -> None:
    """Raise RuntimeError if anything can be done that must not be, and OSError if the scratch folder is of no use."""
    for what, attempt in {
        "a file outside can be read": lambda: open(canary).close(),
        "a file can be written outside": lambda: open(canary + ".new", "w").close(),
        "the network can be reached": lambda: socket.socket(socket.AF_INET),
        "programs can be run": lambda: os.execv("/bin/true", ["true"]),
        "its supervisor can be signalled": lambda: os.kill(os.getppid() or 1_000_000, 0),
    }.items():
        try:
            attempt()
        except OSError:
            continue
        raise RuntimeError(what)
    with open("file", "w"):
        os.unlink("file")
