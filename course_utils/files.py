"""Files to be trusted: what came with the course is checked as it is read, and what is cached is whole or absent."""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock


class DataError(RuntimeError):
    """A file of the course is missing or damaged, or the cache folder cannot be used. The message says what to do."""


def cache_folder() -> Path:
    """The folder for what can be made again: COURSE_CACHE, or the system's cache folder for this user."""
    chosen = os.environ.get("COURSE_CACHE")
    folder = Path(chosen) if chosen else platformdirs.user_cache_path("tensors-to-diffusion", appauthor=False)
    return folder.expanduser().absolute()


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file in hexadecimal, or None if the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def sums(folder: Path) -> dict[str, str]:
    """The SHA256SUMS of a folder of shipped data: name of the unpacked file -> its SHA-256."""
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split() for line in lines)}
    except (OSError, ValueError) as error:
        raise _damaged(folder / "SHA256SUMS", error) from error


def unpack(folder: Path, name: str) -> bytes:
    """The contents of `name`, which is shipped as `name.gz` in `folder`, held against SHA256SUMS beside it."""
    packed = folder / f"{name}.gz"
    try:
        contents = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(packed, error) from error
    if hashlib.sha256(contents).hexdigest() != sums(folder).get(name):
        raise _damaged(packed)
    return contents


def build_once(target: Path, intact: Callable[[Path], bool], build: Callable[[Path], None]) -> Path:
    """Return the folder `target` in the cache, built first unless `intact(target)`.

    `build(part)` fills a new folder beside the target, which then takes the target's place in one step: whoever is
    interrupted leaves no half-built target, and of several processes one builds while the others wait for it.
    Raises DataError if the cache folder cannot be written.
    """
    if intact(target):
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not intact(target):  # it may have been built while this process waited for the lock
                shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
                part.mkdir()
                try:
                    build(part)
                    shutil.rmtree(target, ignore_errors=True)
                    part.replace(target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"The cache folder {cache_folder()} cannot be written ({error.strerror or error}): "
            "make room there, or set COURSE_CACHE to a folder that you may write to."
        ) from error
    return target


def _damaged(path: Path, error: Exception | None = None) -> DataError:
    state = "missing" if isinstance(error, FileNotFoundError) else "damaged"
    return DataError(f"{path} is {state}. It is part of the course: install the course again, or restore it with git.")
