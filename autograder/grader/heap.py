"""The files of a heap that an instructor was given: a folder, a zip, zips within these. Nothing is unpacked to disk.

What should not be read is listed all the same, with the reason: a symbolic link, a damaged zip, a zip bomb, a path
that climbs out of its zip. What no learner wrote (`__MACOSX`, `.ipynb_checkpoints` and the like) is left out.
"""

import contextlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from autograder.grader.notebooks import MAX_BYTES

MAX_FOLDERS = 20
"""Folders within folders that are looked into."""

MAX_ZIPS = 2
"""Zips within zips that are opened, the heap itself included where it is one."""

MAX_FILES = 10_000
"""Files in a zip within the heap."""

MAX_RATIO = 200
"""How many times its packed size a file of over 1 MB may have. Notebooks stay below 50; zip bombs reach 1,000."""

RESULTS = {"gradebook.sqlite", "feedback"}
"""A folder with these two holds results of grading, and no submissions."""

_NOT_WORK = frozenset({"__MACOSX", "__pycache__", "site-packages", "Thumbs.db", "desktop.ini"})
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_CLIMBS = re.compile(r"^(?:[A-Za-z]:)?/|(?:^|/)\.\.(?:/|$)")
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)
_LINK = "is a symbolic link, which is not followed: put the file itself in its place"

Opener = Callable[[], BinaryIO]


class UnreadableError(Exception):
    """A file, folder or zip that cannot be read, or should not be. The message begins with its verb: "is …"."""


@dataclass(frozen=True)
class HeapFile:
    """A file of a heap, or a folder where the last name is empty.

    path: the names of its folders and zips below the heap, and its own. problem: why it is not to be read, beginning
    with the verb, or None. read: its bytes, at most one more than `MAX_BYTES`; raises UnreadableError.
    """

    path: tuple[str, ...]
    problem: str | None = None
    read: Callable[[], bytes] = bytes


def single_file(path: Path) -> HeapFile:
    """A file that is no heap."""
    return HeapFile((path.name,), read=partial(_read, partial(open, path, "rb")))


class Heap:
    """The files of a folder or a zip. A context manager: files are read within it, best in the order of their paths.

    results: the folder that grades will be written to, which may lie in the heap and is no part of it.
    Raises UnreadableError where the whole heap cannot be read.
    """

    def __init__(self, path: Path, results: Path | None = None):
        self._zips = _OpenZips()
        self._results = results.resolve() if results else None
        try:
            files = self._in_folder(path, ()) if path.is_dir() else self._in_zip(partial(open, path, "rb"), (), 1)
            self.files = sorted(files, key=lambda file: file.path)
        except BaseException:
            self._zips.close()
            raise

    def __enter__(self) -> "Heap":
        return self

    def __exit__(self, *exception: object) -> None:
        self._zips.close()

    def _in_folder(self, folder: Path, at: tuple[str, ...]) -> Iterator[HeapFile]:
        try:
            with os.scandir(folder) as entries:
                entries = list(entries)
        except OSError as error:
            if not at:
                raise UnreadableError(f"cannot be read: {error.strerror}") from error
            yield HeapFile(at, f"cannot be read: {error.strerror}")
            return
        if at and (folder.resolve() == self._results or {entry.name for entry in entries} >= RESULTS):
            return
        yield HeapFile((*at, ""))
        for entry in entries:
            path = (*at, _decoded(os.fsencode(entry.name)))
            if _is_nobodys(path[-1]):
                continue
            if entry.is_symlink():
                yield HeapFile(path, _LINK)
            elif entry.is_file(follow_symlinks=False):
                yield from self._file(path, partial(_open_file, entry.path), zips=0)
            elif not entry.is_dir(follow_symlinks=False):
                yield HeapFile(path, "is neither a file nor a folder")
            elif len(path) > MAX_FOLDERS:
                yield HeapFile(path, f"lies in more than {MAX_FOLDERS} folders")
            else:
                yield from self._in_folder(Path(entry.path), path)

    def _file(self, path: tuple[str, ...], opener: Opener, zips: int) -> Iterator[HeapFile]:
        """A file as it is, or the files of a zip, which lies in so many zips."""
        if not path[-1].lower().endswith(".zip"):
            yield HeapFile(path, read=partial(_read, opener))
            return
        try:
            yield from self._in_zip(opener, path, zips + 1)
        except UnreadableError as error:
            yield HeapFile(path, str(error))

    def _in_zip(self, opener: Opener, at: tuple[str, ...], zips: int) -> Iterator[HeapFile]:
        """Raises UnreadableError, before the first file, where the whole zip cannot be read."""
        if zips > MAX_ZIPS:
            raise UnreadableError("is a zip in a zip in a zip: unpack it")
        try:
            entries = self._zips.open(opener).infolist()
        except OSError as error:
            raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
        except _DAMAGE as error:
            raise UnreadableError("is not a zip file, or only a part of one: download it again") from error
        if at and len(entries) > MAX_FILES:
            raise UnreadableError(f"holds {len(entries):,} files: at most {MAX_FILES:,} are read")
        if any(entry.flag_bits & 1 for entry in entries):
            raise UnreadableError("is protected by a password: unpack it")
        for name, entry in {_entry_name(entry): entry for entry in entries}.items():  # of two with one name, the last
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            if not parts or any(map(_is_nobodys, parts)):
                continue
            path = (*at, *parts[:MAX_FOLDERS])
            if len(parts) > MAX_FOLDERS:
                yield HeapFile(path, f"lies in more than {MAX_FOLDERS} folders")
            elif name.endswith("/"):
                yield HeapFile((*path, ""))
            elif problem := _entry_problem(name, entry):
                yield HeapFile(path, problem)
            else:
                yield from self._file(path, partial(self._open_entry, opener, entry), zips)

    def _open_entry(self, zip_opener: Opener, entry: zipfile.ZipInfo) -> BinaryIO:
        """A file in a zip. A zip in a zip is read whole, since a zip is read from its end."""
        file = self._zips.open(zip_opener).open(entry)
        if not entry.filename.lower().endswith(".zip"):
            return file
        with file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UnreadableError(f"is larger than {MAX_BYTES >> 20} MB: hand in the notebooks alone")
        return BytesIO(data)


class _OpenZips:
    """The zips that were used last, open. A class's thousand zips need not be open at once."""

    def __init__(self) -> None:
        self._open: dict[Opener, tuple[BinaryIO, zipfile.ZipFile]] = {}

    def open(self, opener: Opener) -> zipfile.ZipFile:
        stream, archive = self._open.pop(opener, None) or self._opened(opener)
        self._open[opener] = stream, archive
        if len(self._open) > MAX_ZIPS:
            self._open.pop(next(iter(self._open)))[0].close()
        return archive

    @staticmethod
    def _opened(opener: Opener) -> tuple[BinaryIO, zipfile.ZipFile]:
        stream = opener()
        try:
            return stream, zipfile.ZipFile(stream)
        except BaseException:
            stream.close()
            raise

    def close(self) -> None:
        for stream, _ in self._open.values():
            stream.close()
        self._open.clear()


def _open_file(path: str) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")


def _read(opener: Opener) -> bytes:
    try:
        with opener() as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise UnreadableError("is damaged in its zip: download it again") from error


def _entry_problem(name: str, entry: zipfile.ZipInfo) -> str | None:
    if _CLIMBS.search(name):
        return "has a path that leads out of its zip, and was left out"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return _LINK
    if entry.compress_type not in _METHODS:
        return "is packed by an uncommon method: pack it as an ordinary zip"
    if entry.file_size > max(MAX_RATIO * entry.compress_size, 1 << 20):
        return f"unpacks to more than {MAX_RATIO} times its size, as a zip bomb does"
    return None


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """The path of a file in a zip. Many programs write UTF-8 without saying so; zipfile takes it for code page 437."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _is_nobodys(name: str) -> bool:
    """Whether a file or folder was made by a program: a system's, an editor's, Jupyter's."""
    return name in _NOT_WORK or (name.startswith(".") and "_assignsubmission_" not in name)
