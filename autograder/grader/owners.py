"""Whose is what: the files of a heap, student by student.

Which part of a path names the student is decided in this order:

1. **Moodle.** Folders or files named `Full Name_123456_assignsubmission_file_…`, where every notebook lies in one or
   is one: the student is "Full Name (123456)".
2. **Canvas.** Files named `doejane_LATE_12345_67890_01_tensors.ipynb`, each with an upload number (67890) of its own:
   the student is "doejane (12345)", or "anon (x1y2z)" where the assignment is anonymous.
3. **nbgrader.** `submitted/student/assignment/…`: the student is the folder below `submitted`; what stands beside
   `submitted` is not read.
4. **Anything else.** Folders that all notebooks share are wrapping paper. Names of the course are no students: its
   chapters (`01_tensors`), `exercises`, `chapters`, `solutions`, `notebooks`. The first name that is left is the
   student: of a folder, a zip or a file. Where none is left of any path, all is the work of one student, named after
   the innermost wrapping, or after the heap. So `alice.ipynb`, `alice.zip`, `alice/01_tensors.ipynb` and
   `homework/alice/exercises/01_tensors.ipynb` are alice's.

A name is a chapter's if it is a topic of the course, with or without its number, or has a number like the chapters
and stands in one folder with some of them and with nothing else: `02_mine` beside `01_tensors`.

Of a whole checkout of the course, its folder `exercises` counts. Where students are folders, one without a notebook is
a student who handed in nothing.
"""

import re
import sys
from collections import defaultdict
from typing import NamedTuple

from autograder.grader.heap import HeapFile
from autograder.grader.notebooks import is_notebook, notebook_stem
from autograder.specs import CHAPTERS

_TOPICS = "|".join(chapter.topic for chapter in CHAPTERS)
_COPY = r"(?:[ _-]*(?:\(\d{1,3}\)|copy ?\d{0,3}|-\d{1,3}))?"
_CHAPTER = re.compile(rf"(?:copy of )?(?:\d{{1,2}}[ _-])?(?:{_TOPICS}){_COPY}", re.IGNORECASE)
_NUMBERED = re.compile(r"\d{1,2}[ _-][^\W\d].*", re.DOTALL)
_COURSE_FOLDERS = frozenset({"exercises", "chapters", "solutions", "notebooks"})

_MOODLE = re.compile(r"(?P<name>.*?)(?:_(?P<id>\d+))?_assignsubmission_[a-z]+(?:_(?P<file>.*))?", re.DOTALL)
_CANVAS = re.compile(
    r"(?:(?:late_)?(?P<anonymous>anon)_(?P<code>[a-z0-9]+)|(?P<name>\w+?)_(?:late_)?(?P<id>\d+))"
    r"_(?:(?P<upload>\d{1,18})_(?P<file>.+)|text\.html|link\.html)",
    re.IGNORECASE | re.DOTALL,
)


class Owner(NamedTuple):
    """A student as paths name them, with the LMS's number, which tells namesakes apart."""

    name: str
    id: str = ""


class Work(NamedTuple):
    """A file of a student, and its path below the student's own folder. upload: its number at Canvas, or 0."""

    path: tuple[str, ...]
    file: HeapFile
    upload: int = 0


Owned = dict[Owner, list[Work]]
"""The files of each student."""


def by_owner(files: list[HeapFile], heap_name: str) -> Owned:
    """The files of each student, by the rules above. Empty where the heap has no notebook at all."""
    files = _without_course_code(files)
    if not any(map(counts, files)):
        return {}
    owned: Owned = defaultdict(list)
    plain = []
    moodle, canvas = _moodle_depth(files), _canvas_folder(files)
    for file in files:
        if match := _match(_MOODLE, file.path, moodle):
            path = ((match["file"],) if match["file"] else ()) + file.path[moodle + 1 :]
            owned[Owner(match["name"], match["id"] or "")].append(Work(path or ("",), file))
        elif canvas == file.path[: len(canvas or ())] and (match := _match(_CANVAS, file.path, len(canvas))):
            owner = Owner(match["name"] or match["anonymous"], match["id"] or match["code"])
            path = (match["file"] or file.path[-1], *file.path[len(canvas) + 1 :])
            owned[owner].append(Work(path, file, int(match["upload"] or 0)))
        else:
            plain.append(file)
    for owner, works in _plain_owners(plain, heap_name).items():
        owned[owner] += works
    return owned


def counts(file: HeapFile) -> bool:
    """Whether a file is, or could have been, a notebook."""
    return file.problem is not None or is_notebook(file.path[-1])


def _without_course_code(files: list[HeapFile]) -> list[HeapFile]:
    """Where somebody handed in a whole checkout, only its folder `exercises` is theirs."""
    folders = {file.path[:depth] for file in files for depth in range(1, len(file.path))}
    checkouts = {
        folder[:-1] for folder in folders if folder[-1] == "autograder" and (*folder[:-1], "exercises") in folders
    }
    return [
        file
        for file in files
        if not any(
            file.path[:depth] in checkouts and file.path[depth] != "exercises" for depth in range(len(file.path) - 1)
        )
    ]


def _match(pattern: re.Pattern, path: tuple[str, ...], depth: int) -> re.Match | None:
    return pattern.fullmatch(path[depth]) if depth < len(path) else None


def _moodle_depth(files: list[HeapFile]) -> int:
    """How deep Moodle's names stand, if each notebook has one there: a single one may be a student's doing."""
    paths = [file.path for file in files if counts(file)]
    depths = range(min(map(len, paths), default=0))
    return next((depth for depth in depths if all(_is_moodles(path[depth]) for path in paths)), sys.maxsize)


def _is_moodles(part: str) -> bool:
    return "_assignsubmission_" in part and _MOODLE.fullmatch(part) is not None


def _canvas_folder(files: list[HeapFile]) -> tuple[str, ...] | None:
    """The folder that Canvas's names stand in: one around all notebooks, where no two uploads have one number."""
    folder = _shared_folders([file.path for file in files if counts(file)])
    for depth in range(len(folder) + 1):
        around = [file.path for file in files if file.path[:depth] == folder[:depth]]
        matches = [match for path in around if (match := _match(_CANVAS, path, depth)) and match["upload"]]
        uploads = {match.string: match["upload"] for match in matches}
        if uploads and len(set(uploads.values())) == len(uploads):
            return folder[:depth]
    return None


def _shared_folders(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(paths, default=()), max(paths, default=())
    length = 0
    while length < min(len(first), len(last)) - 1 and first[length] == last[length]:
        length += 1
    return first[:length]


def _plain_owners(files: list[HeapFile], heap_name: str) -> Owned:
    counting = [file for file in files if counts(file)]
    wrapping = _shared_folders([file.path for file in counting])
    submitted = () if heap_name == "submitted" else _submitted_folder(counting, wrapping)
    if submitted is not None:
        return _below_submitted(files, submitted)

    def folders(file: HeapFile) -> list[str]:
        return [_stem(folder) for folder in file.path[len(wrapping) : -1] if not _is_courses(folder)]

    chapters = _chapter_notebooks(counting)
    some_are_folders = any(map(folders, counting))
    all_are_chapters = not some_are_folders and all(file.path in chapters for file in counting)
    if all_are_chapters:
        heap_name = next((_stem(name) for name in reversed(wrapping) if not _is_courses(name)), heap_name)

    owned: Owned = defaultdict(list)
    for file in files:
        path = file.path[len(wrapping) :]
        if file.path[: len(wrapping)] != wrapping or not (counts(file) or (some_are_folders and folders(file))):
            continue
        if all_are_chapters:
            owner = heap_name
        else:
            owner = next(iter(folders(file)), _stem(path[-1]))
        own_path = path[1:] if len(path) > 1 and _stem(path[0]) == owner else path
        owned[Owner(owner)].append(Work(own_path, file))
    return owned


def _submitted_folder(counting: list[HeapFile], wrapping: tuple[str, ...]) -> tuple[str, ...] | None:
    """nbgrader's folder `submitted`, at the top or in wrapping, with student, assignment and notebook below it."""
    for depth in range(len(wrapping) + 1):
        folder = (*wrapping[:depth], "submitted")
        if any(file.path[: depth + 1] == folder and len(file.path) >= depth + 4 for file in counting):
            return folder
    return None


def _below_submitted(files: list[HeapFile], submitted: tuple[str, ...]) -> Owned:
    owned: Owned = defaultdict(list)
    for file in files:
        path = file.path[len(submitted) :]
        if file.path[: len(submitted)] == submitted and (len(path) > 1 or counts(file)):
            owned[Owner(_stem(path[0]))].append(Work(path[1:] or path, file))
    return owned


def _chapter_notebooks(counting: list[HeapFile]) -> set[tuple[str, ...]]:
    """The paths of the notebooks that are named after a chapter, by the rule above."""
    together = defaultdict(list)
    for file in counting:
        together[file.path[:-1]].append(file.path)
    chapters = set()
    for paths in together.values():
        known = {path for path in paths if _is_courses(path[-1])}
        chapters |= known
        if known and all(path in known or _NUMBERED.fullmatch(path[-1]) for path in paths):
            chapters.update(paths)
    return chapters


def _is_courses(name: str) -> bool:
    """Whether a folder or a file is called as the course calls its own."""
    return name.lower() in _COURSE_FOLDERS or _CHAPTER.fullmatch(_stem(name)) is not None


def _stem(name: str) -> str:
    return notebook_stem(without_zip(name))


def without_zip(name: str) -> str:
    """A name without the suffix of a zip."""
    return name[:-4] if name.lower().endswith(".zip") else name
