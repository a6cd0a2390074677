"""What a learner has tried and solved: one small JSON file in the user's state folder."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs
from filelock import FileLock

ATTEMPTED = "attempted"
SOLVED = "solved"


def state_folder() -> Path:
    """The folder of the progress file: COURSE_STATE where it is set, else the user's state folder."""
    return Path(os.environ.get("COURSE_STATE") or platformdirs.user_state_dir("tensors-to-diffusion"))


def load_record() -> dict[str, str]:
    """Each exercise tried so far, by name, with ATTEMPTED or SOLVED; empty where there is no file to read.

    A damaged file is put aside, not overwritten.
    """
    path = _path()
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not a dict")
    except OSError:
        return {}
    except (ValueError, RecursionError):
        with suppress(OSError):
            path.replace(path.with_suffix(".damaged.json"))
        return {}
    return {name: state for name, state in record.items() if state in (ATTEMPTED, SOLVED)}


def remember(exercise_name: str, *, solved: bool) -> None:
    """Note an attempt. What is solved stays solved. Several notebooks may write at once.

    Raises OSError where the folder cannot be written.
    """
    state = SOLVED if solved else ATTEMPTED
    if load_record().get(exercise_name) in (state, SOLVED):
        return
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=5):
        _write(path, load_record() | {exercise_name: state})


def _path() -> Path:
    return state_folder() / "progress.json"


def _write(path: Path, record: dict[str, str]) -> None:
    """Write beside the file and rename: a kill at any moment leaves the old file or the new one, whole."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    os.replace(file.name, path)
