"""What an instructor hands over: the course without its solutions, or an autograder for Gradescope with them."""

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autograder.errors import UserError

_FOR_STUDENTS = (
    "CITATION.cff",
    "LICENSE",
    "LICENSE-TEXT",
    "Makefile",
    "README.md",
    "assets",
    "autograder",
    "chapters",
    "constraints.txt",
    "course_utils",
    "environment.yml",
    "exercises",
    "index.md",
    "models.txt",
    "pyproject.toml",
    "tools/lab_overrides.json",
)
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.pyc")

_SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, while it builds the image of the assignment.
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends python3.11 python3.11-venv libseccomp2
python3.11 -m venv /autograder/environment
/autograder/environment/bin/pip install -c /autograder/source/constraints.txt -e '/autograder/source[grade]'
"""

_RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission and reads results/results.json.
set -euo pipefail
course=/autograder/environment/bin/course
cd /autograder/source
rm -rf /tmp/results
"$course" grade /autograder/submission --to /tmp/results --workers 1{exercises}
"$course" export /tmp/results --format gradescope-results --to /autograder/results/results.json
"""


def write_handout(root: Path, folder: Path) -> None:
    """Copy what students get into a new folder: chapters, exercises and the package, and no solution.

    Raises UserError where the folder holds something already, or where `root` is not a checkout.
    """
    _require_checkout(root)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: choose a new folder for the students' copy.")
    try:
        for name in _FOR_STUDENTS:
            source, target = root / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=_LEFT_OUT)
            else:
                shutil.copy(source, target)
    except OSError as error:
        raise UserError(f"The students' copy cannot be written to {folder}: {error.strerror}.") from error


def write_gradescope(root: Path, folder: Path, exercises: list[str]) -> Path:
    """Write `gradescope.zip` into a folder and return its path: what Gradescope takes as an autograder.

    It grades these exercises, and the whole book where none are named.

    See https://gradescope-autograders.readthedocs.io/en/latest/specs/. Gradescope keeps the file to itself; it holds
    the solutions. Raises UserError where `root` has no solutions or the folder cannot be written.
    """
    _require_checkout(root)
    if not (root / "solutions").is_dir():
        raise UserError(
            "There is no folder solutions/ here, and the autograder needs it: run this in a whole checkout."
        )
    run = _RUN.format(exercises=" --exercises " + " ".join(exercises) if exercises else "")
    path = folder / "gradescope.zip"
    part = folder / "gradescope.zip.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in _files(root, (*_FOR_STUDENTS, "solutions")):
                archive.write(file, file.relative_to(root))
            for name, script in (("setup.sh", _SETUP), ("run_autograder", run)):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (stat.S_IFREG | 0o755) << 16
                archive.writestr(entry, script)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _require_checkout(root: Path) -> None:
    missing = [name for name in ("exercises", "autograder", "pyproject.toml") if not (root / name).exists()]
    if missing:
        raise UserError(f"{missing[0]} is missing here: run this in a checkout of the course.")


def _files(root: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        found = [root / name] if (root / name).is_file() else sorted((root / name).rglob("*"))
        yield from (path for path in found if path.is_file() and not _LEFT_OUT(str(path.parent), path.parts))
