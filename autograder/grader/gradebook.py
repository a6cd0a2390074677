"""The gradebook: every verdict of a class in one SQLite file, each committed as it is reached.

A verdict belongs to a submission's digest, an exercise and a seed; of a changed spec the newest verdict counts. The
roster says who handed in which submission, so two students with the same one share its verdicts.

The file is in write-ahead-log mode, `synchronous=NORMAL`. A commit is one write to the log without waiting for the
disk, which makes it cheap. What a killed process had committed is in the operating system's hands and stays; a power
cut may take the last verdicts with it, and these are graded again; in no case is the file damaged. A clean `close`
folds the log into the file, so that a finished gradebook is one file to copy.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from autograder.errors import UserError
from autograder.evidence import EvidenceError
from autograder.exercise import all_exercises
from autograder.grader.graded import Graded, from_row, storable, text, to_row

if TYPE_CHECKING:
    from autograder.grader.submissions import Submission

FILE_NAME = "gradebook.sqlite"
VERSION = 1
_APPLICATION = 0x74326421  # SQLite's application_id, which tells a gradebook from other people's databases

_SCHEMA = f"""
BEGIN;
CREATE TABLE run (only INTEGER PRIMARY KEY CHECK (only = 1), seed TEXT);
INSERT INTO run VALUES (1, NULL);
CREATE TABLE roster (
    place INTEGER PRIMARY KEY,
    student TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    problems TEXT NOT NULL
);
CREATE TABLE verdict (
    digest TEXT NOT NULL, exercise TEXT NOT NULL, seed TEXT NOT NULL, spec TEXT NOT NULL,
    status TEXT NOT NULL, mistake TEXT,
    trial INTEGER, kind TEXT, sentence TEXT, lines TEXT,
    path TEXT, difference TEXT, difference_sentence TEXT, expected BLOB, got BLOB,
    points INTEGER NOT NULL, reason TEXT NOT NULL, seconds REAL NOT NULL, memory INTEGER NOT NULL, practice INTEGER,
    PRIMARY KEY (digest, seed, exercise)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class GradebookError(UserError):
    """The gradebook cannot be opened, read or written; the message is one sentence with the way out."""


@dataclass(frozen=True)
class Enrolled:
    """A student of this run: the digest of what they handed in, and a sentence for each file that could not be read."""

    student: str
    digest: str
    problems: tuple[str, ...]


class Gradebook:
    """The gradebook of a folder of results, open for one writer, or for reading beside it."""

    def __init__(self, results: Path, read_only: bool = False):
        """Open the gradebook of a folder, or make the folder and an empty one in it.

        read_only: for reports and exports; it may be open beside a writer.
        Raises GradebookError where another grader is at work there, where the file is damaged, is not a gradebook or
        is of another version, and where the folder cannot be made or written. It then changes nothing.
        """
        self.path = Path(results) / FILE_NAME
        self._read_only = read_only
        self._lock = None if read_only else _lock(self.path)
        try:
            with self._stated():
                self._database = self._open()
        except GradebookError:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fold the log into the file where possible, and let the next writer in."""
        with suppress(sqlite3.Error):  # what is committed stays committed: at worst the log stays beside the file
            if not self._read_only:
                self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.close()
        self._unlock()

    @property
    def seed(self) -> int | None:
        """The seed of the run, or None before the first."""
        [(seed,)] = self._read("SELECT seed FROM run")
        return None if seed is None else int(seed)

    @seed.setter
    def seed(self, seed: int) -> None:
        self._write("UPDATE run SET seed = ?", [(str(seed),)])  # as text: an integer of Python has no limit

    def enrol(self, submissions: "Iterable[Submission]") -> None:
        """Make these submissions the roster, in their order. Verdicts of earlier rosters stay in the book."""
        rows = [
            (place, storable(one.student), one.digest, json.dumps([text(problem) for problem in one.problems]))
            for place, one in enumerate(submissions)
        ]
        self._write("INSERT INTO roster VALUES (?, ?, ?, ?)", rows, first="DELETE FROM roster")

    def roster(self) -> list[Enrolled]:
        """The students of this run, in order."""
        rows = self._read("SELECT student, digest, problems FROM roster ORDER BY place")
        return [Enrolled(student, digest, tuple(json.loads(problems))) for student, digest, problems in rows]

    def verdicts_known(self, digest: str, seed: int) -> dict[str, str]:
        """The exercises of a submission that are graded already, each with the digest of the spec it was graded by."""
        return dict(self._read("SELECT exercise, spec FROM verdict WHERE digest = ? AND seed = ?", digest, str(seed)))

    def add(self, graded: Graded) -> None:
        """Commit one verdict, in place of an earlier one on the same exercise. Raises GradebookError on a full disk."""
        self._write(f"INSERT OR REPLACE INTO verdict VALUES ({', '.join('?' * 20)})", [to_row(graded)])

    def all(self, seed: int) -> Iterator[Graded]:
        """Every verdict on the students of this run: in the order of the roster, then of the book."""
        for enrolled in self.roster():
            yield from self.verdicts_of(enrolled, seed)

    def verdicts_of(self, enrolled: Enrolled, seed: int) -> list[Graded]:
        """The verdicts on one student's submission, in the order of the book. Exercises it no longer has are left out.

        Raises GradebookError where the file is damaged.
        """
        rows = self._read("SELECT * FROM verdict WHERE digest = ? AND seed = ?", enrolled.digest, str(seed))
        by_name = {row["exercise"]: row for row in rows}
        try:
            return [
                from_row(enrolled.student, exercise, by_name[name])
                for name, exercise in all_exercises().items()
                if name in by_name
            ]
        except (EvidenceError, ValueError, LookupError, TypeError) as error:
            raise GradebookError(self._damaged(str(error))) from error

    def points(self, seed: int) -> dict[str, dict[str, int]]:
        """The points of each student of this run, in order, by exercise. What is not graded is missing."""
        table: dict[str, dict[str, int]] = {enrolled.student: {} for enrolled in self.roster()}
        query = "SELECT student, exercise, points FROM roster JOIN verdict USING (digest) WHERE seed = ?"
        for student, exercise, points in self._read(query, str(seed)):
            table[student][exercise] = points
        return table

    def _open(self) -> sqlite3.Connection:
        if self._read_only and not self.path.exists():
            raise GradebookError(f"There is no gradebook in {self.path.parent}: grade some submissions into it first.")
        address = f"{self.path.absolute().as_uri()}?mode={'ro' if self._read_only else 'rwc'}"
        database = sqlite3.connect(address, uri=True, isolation_level=None)  # each statement is a transaction
        database.row_factory = sqlite3.Row
        try:
            if self._is_empty(database) and not self._read_only:
                database.executescript(_SCHEMA)
            self._refuse_unless_ours(database)
            if not self._read_only:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _is_empty(self, database: sqlite3.Connection) -> bool:
        """Whether nothing was ever stored: a new file, or one whose maker was killed before its first commit."""
        [(tables,)] = database.execute("SELECT count(*) FROM sqlite_master")
        return not tables and _pragma(database, "application_id") == 0

    def _refuse_unless_ours(self, database: sqlite3.Connection) -> None:
        if _pragma(database, "application_id") != _APPLICATION:
            raise GradebookError(f"{self.path} is not a gradebook of this course: choose another folder for results.")
        version = _pragma(database, "user_version")
        if version != VERSION:
            age = "an older" if version < VERSION else "a newer"
            raise GradebookError(
                f"{self.path} comes from {age} version of this course (gradebook {version}, here {VERSION}): "
                "go on with that version, or choose another folder for results."
            )
        report = _pragma(database, "quick_check")
        if report != "ok":
            raise GradebookError(self._damaged(str(report).splitlines()[-1]))

    def _read(self, query: str, *values: str) -> list[sqlite3.Row]:
        with self._stated():
            return self._database.execute(query, values).fetchall()

    def _write(self, statement: str, rows: list[tuple], first: str | None = None) -> None:
        """Run a statement on each row, and another one before, all in one transaction."""
        with self._stated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if first:
                    self._database.execute(first)
                self._database.executemany(statement, rows)
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _stated(self) -> Iterator[None]:
        """Put what SQLite says into one sentence."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")  # what has no name is text that is not UTF-8
            if name == "SQLITE_FULL":
                sentence = f"The disk of {self.path} is full. {_KEPT}"
            elif name.startswith("SQLITE_CORRUPT") or name == "SQLITE_NOTADB":
                sentence = self._damaged(str(error))
            else:
                sentence = f"{self.path} cannot be {'read' if self._read_only else 'written'} ({error}). {_KEPT}"
            raise GradebookError(sentence) from error

    def _damaged(self, detail: str) -> str:
        return (
            f"{self.path} is damaged, or is not a gradebook ({detail}): it is left as it is; "
            "restore a copy of it, or choose another folder for results."
        )

    def _unlock(self) -> None:
        if self._lock:
            self._lock.release()


_KEPT = "What was graded before is kept: run the same command once there is room, and it goes on from there."


def _lock(path: Path) -> FileLock:
    """Take the writer's lock, which the operating system gives back when this process ends, however it ends."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise GradebookError(
            f"Another grader is at work in {path.parent}: wait until it ends, or choose another folder for results."
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter on file systems without locks
        detail = getattr(error, "strerror", None) or error
        raise GradebookError(f"Results cannot be written to {path.parent}: {detail}.") from error
    return lock


def _pragma(database: sqlite3.Connection, name: str) -> Any:
    return database.execute(f"PRAGMA {name}").fetchone()[0]
