"""A folder or a zip, as instructors have it, as one submission per student.

`autograder.grader.owners` says which file is whose. All files of one student are one submission: chapters in the order
of their numbers, then the rest by name. Where there are several versions of one notebook, all are read, and the last
definition counts; with two exceptions. Of `01_tensors.ipynb`, `01_tensors-1.ipynb` and `01_tensors-2.ipynb` from
Canvas, the newest upload alone counts. Of `01_tensors.ipynb` and `01_tensors.py` in one folder the notebook counts,
and the script where the notebook cannot be read.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from autograder.errors import UserError
from autograder.grader.heap import Heap, UnreadableError, single_file
from autograder.grader.notebooks import NotebookError, is_notebook, notebook_stem, read_cells
from autograder.grader.owners import Owner, Work, by_owner, counts, without_zip

MAX_NOTEBOOKS = 100
"""Notebooks of one student that are read."""

MAX_STUDENT_BYTES = 100 << 20
"""What is read of one student, outputs and all."""

_NUMBER = re.compile(r"(?:^|[ _.-])([0-9]{1,2})(?=[ _-][^\W\d])")
_CANVAS_VERSION = re.compile(r"(\d{1,2}[ _-].*?)-\d{1,3}", re.DOTALL)
_NAMELESS = "nameless"
_JOINERS = "\u200c\u200d"  # part of Persian names and of emoji


class SubmissionsError(UserError):
    """A heap that holds no submissions. The message is one sentence with the way out."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in.

    student: unique in the heap, as the folder, the file or the LMS names them; safe to show, and no path. cells: the
    code of all their notebooks. starts: the numbers, from 1, of the cells that begin a notebook. problems: a sentence
    for each file that could not be read. digest: of all these.
    """

    student: str
    cells: tuple[str, ...]
    starts: tuple[int, ...]
    problems: tuple[str, ...]
    digest: str


def find_submissions(path: Path, results: Path | None = None) -> list[Submission]:
    """The submissions in a folder, a zip or a single notebook, sorted by student. Raises SubmissionsError.

    results: the folder that grades will be written to; where it lies among the submissions, it is none.
    """
    path = Path(path)
    shown = show(str(path))
    try:
        if not path.exists():
            raise SubmissionsError(f"There is no file or folder {shown}.")
    except OSError as error:
        raise SubmissionsError(f"{shown} cannot be read: {error.strerror}.") from error
    if not path.is_file() and not path.is_dir():
        raise SubmissionsError(f"{shown} is neither a folder nor a file.")
    if path.is_file() and is_notebook(path.name):
        return [_submission(show(notebook_stem(path.name)) or _NAMELESS, [Work((path.name,), single_file(path))])]
    try:
        with Heap(path, results) as heap:
            owned = by_owner(heap.files, without_zip(path.resolve().name) or "student")
            names = _names(owned)
            found = [_submission(names[owner], works) for owner, works in owned.items()]
    except UnreadableError as error:
        raise SubmissionsError(f"{shown} {error}.") from error
    if not found:
        raise SubmissionsError(f"{shown} holds no notebook (.ipynb or .py): name the folder or zip that does.")
    return sorted(found, key=lambda submission: submission.student)


def show(text: str) -> str:
    """A name that is safe to show: one line, not overlong, without characters that are invisible or turn text round."""
    kept = (c for c in text if c.isspace() or c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    text = " ".join(unicodedata.normalize("NFC", "".join(kept)).split())
    return text if len(text) <= 120 else f"{text[:80]}…{text[-39:]}"


def _names(owners: Iterable[Owner]) -> dict[Owner, str]:
    """A name for each student that is safe to show, and that no other has."""
    names: dict[Owner, str] = {}
    taken: set[str] = set()
    for owner in sorted(owners, key=lambda owner: (show(owner.name) != owner.name, owner)):  # nobody takes a real name
        name = show(owner.name) or _NAMELESS
        name = f"{name} ({owner.id})" if owner.id else name
        candidates = (name if number == 1 else f"{name} ({number})" for number in count(1))
        names[owner] = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(names[owner])
    return names


def _submission(student: str, works: list[Work]) -> Submission:
    cells, starts, problems = _read_works(works)
    everything = json.dumps([cells, starts, problems]).encode()
    return Submission(student, tuple(cells), tuple(starts), tuple(problems), hashlib.sha256(everything).hexdigest())


def _read_works(works: list[Work]) -> tuple[list[str], list[int], list[str]]:
    """The cells of all of a student's files, in their order, where each begins, and why others could not be read."""
    cells: list[str] = []
    starts: list[int] = []
    problems: list[str] = []
    were_read = set()
    left = MAX_STUDENT_BYTES
    notebooks = _newest(sorted((work for work in works if counts(work.file)), key=_place))
    if not notebooks:
        others = sorted({show(work.path[-1]) for work in works if work.path[-1]})
        only = f", only {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}" if others else ""
        problems.append(f"No notebook (.ipynb or .py) was handed in{only}.")
    if len(notebooks) > MAX_NOTEBOOKS:
        problems.append(f"Of {len(notebooks)} notebooks the first {MAX_NOTEBOOKS} were read.")
    for work in notebooks[:MAX_NOTEBOOKS]:
        name = "/".join(map(show, work.path))
        without_suffix = (*work.path[:-1], notebook_stem(work.path[-1]))
        if without_suffix in were_read and work.path[-1].lower().endswith(".py"):
            continue
        try:
            if work.file.problem:
                raise UnreadableError(work.file.problem)
            data = work.file.read()
            left -= len(data)
            if left < 0:
                raise UnreadableError(f"was not read, since all files before it hold {MAX_STUDENT_BYTES >> 20} MB")
            read = read_cells(name, data)
            starts.append(len(cells) + 1)
            cells += read
            were_read.add(without_suffix)
        except UnreadableError as error:
            problems.append(f"{name} {error}.")
        except NotebookError as error:
            problems.append(str(error))
    return cells, starts, problems


def _newest(works: list[Work]) -> list[Work]:
    """Without the files of which Canvas holds a newer version under the same name and -1, -2, …"""
    newest: dict[str, int] = {}

    def original(work: Work) -> str:
        stem = notebook_stem(work.path[0])
        match = _CANVAS_VERSION.fullmatch(stem)
        return (match[1] if match else stem) + work.path[0][len(stem) :]

    for work in works:
        newest[original(work)] = max(newest.get(original(work), 0), work.upload)
    return [work for work in works if work.upload == newest[original(work)]]


def _place(work: Work) -> tuple:
    """Where a file stands among a student's: by its chapter's number, then by name, numbers in it as numbers."""
    numbers = (match[1] for part in reversed(work.path) if (match := _NUMBER.search(part)))
    by_name = [
        (text.casefold(), len(digits), digits)
        for part in (*work.path[:-1], notebook_stem(work.path[-1]))
        for text, digits in re.findall(r"([^0-9]*)0*([0-9]*)", part)
    ]
    return int(next(numbers, 100)), by_name, work.path, work.upload
