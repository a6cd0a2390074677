"""Grades in the formats that learning management systems take: Canvas, Moodle, Gradescope, and plain CSV."""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autograder.errors import UserError
from autograder.exercise import all_exercises
from autograder.grader.gradebook import Gradebook, Graded
from autograder.grader.reports import csv_bytes, explain, graded_exercises, grades_csv
from autograder.judge import Status

FORMATS = ("csv", "canvas", "moodle", "gradescope", "gradescope-results")
ASSIGNMENT = "Tensors to Diffusion"

# What the systems call the same thing in the files that they write.
_FIELDS = {
    "name": ("student", "name", "full name", "student name"),
    "first": ("first name", "firstname"),
    "last": ("last name", "lastname", "surname"),
    "id": ("id",),
    "sis": ("sis user id", "sid", "student id", "id number"),
    "login": ("sis login id", "username"),
    "email": ("email", "email address"),
    "section": ("section", "sections"),
    "participant": ("identifier",),
    "modified": ("last modified (grade)",),
}


class ExportError(UserError):
    """The roster cannot be used, or there is no such format; the message is one sentence with the way out."""


@dataclass(frozen=True)
class Export:
    """A file to hand in to a system, and a sentence for each thing that the instructor should know about it."""

    data: bytes
    notes: tuple[str, ...] = ()


Person = dict[str, str]
"""What a roster says of one person, by the keys of `_FIELDS`."""


def export(book: Gradebook, format: str, roster: Path | None = None, assignment: str = ASSIGNMENT) -> Export:
    """The grades of the last run in one of FORMATS.

    roster: a CSV file from the system itself, which knows ids and addresses: the exported gradebook of Canvas, the
    grading worksheet or the list of participants of Moodle, the roster of Gradescope. Students are found in it by
    name, id, login or e-mail address. Who cannot be found for certain is named in a note and left out.
    assignment: the title of the assignment in Canvas.
    Raises ExportError for another format or an unusable roster; ReportError where nothing is graded yet.
    """
    if format not in FORMATS:
        raise ExportError(f"There is no format {format}: choose one of {', '.join(FORMATS)}.")
    if format == "csv":
        return Export(grades_csv(book))
    if format == "gradescope-results":
        return Export(_results_of_one(book))
    students = list(book.points(book.seed))
    if roster is None:
        return _written(book, format, {student: _guess(student) for student in students}, assignment, [])
    header, people = read_roster(roster)
    found, notes = match(students, people)
    # Canvas knows an assignment by its title with an id behind it, which its own export shows.
    title = next((name for name in header if name.startswith(f"{assignment} (")), assignment)
    return _written(book, format, found, title, notes)


def read_roster(path: Path) -> tuple[list[str], list[Person]]:
    """The header of a CSV file with people in it, and its people. Raises ExportError where it has none to offer."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ExportError(f"The roster {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"The roster {path} is not in UTF-8: save it as CSV UTF-8.") from error
    separator = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        raise ExportError(f"The roster {path} is not a CSV file with a header.") from error
    places = {
        field: next((header.index(name) for name in header if name.strip().lower() in names), None)
        for field, names in _FIELDS.items()
    }
    people = [
        {field: row[place].strip() for field, place in places.items() if place is not None and place < len(row)}
        for row in rows
    ]
    people = [person | {"name": _name(person)} for person in people if person.get("name") != "Points Possible"]
    people = [person for person in people if any(_keys(person))]
    if not people:
        wanted = "Student, Name, First name and Last name, ID, SID, Email, Identifier"
        raise ExportError(f"The roster {path} names nobody: it needs a header with some of the columns {wanted}.")
    return header, people


def match(students: list[str], people: list[Person]) -> tuple[dict[str, Person], list[str]]:
    """Find each student among the people of a roster, and say who is not there, or not for certain."""
    by_key: dict[str, list[Person]] = {}
    for person in people:
        for key in set(_keys(person)):
            by_key.setdefault(key, []).append(person)
    found = {}
    for student in students:
        candidates = (by_key.get(key, []) for key in _keys(_guess(student)))
        person = next((several[0] for several in candidates if len(several) == 1), None)
        if person is not None:
            found[student] = person
    taken = Counter(id(person) for person in found.values())
    found = {student: person for student, person in found.items() if taken[id(person)] == 1}
    notes = []
    missing = [student for student in students if student not in found]
    if missing:
        notes.append(f"Not found in the roster for certain, and left out: {_list(missing)}.")
    absent = len(people) - len(found)
    if absent:
        notes.append(f"{absent} of the {len(people)} people in the roster have no grade here.")
    return found, notes


def results_json(graded: Iterable[Graded], problems: Iterable[str] = (), show_inputs: bool = False) -> str:
    """What Gradescope's autograder reads as results.json: one test per exercise of one student.

    See "Output format" at https://gradescope-autograders.readthedocs.io/en/latest/specs/. The output is text, so that
    nothing of it is ever taken for markup.
    """
    graded = list(graded)
    points = {one.exercise: all_exercises()[one.exercise].points for one in graded}
    results = {
        "score": sum(one.points for one in graded),
        "execution_time": round(sum(one.seconds for one in graded), 3),
        "output": "\n".join(problems),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [
            {
                "name": one.exercise,
                "score": one.points,
                "max_score": points[one.exercise],
                "status": "passed" if one.verdict.status is Status.CORRECT else "failed",
                "output": explain(one, show_inputs).text,
                "output_format": "text",
                "visibility": "visible",
            }
            for one in graded
        ],
    }
    return json.dumps(results, indent=1)


def _results_of_one(book: Gradebook) -> bytes:
    """results.json, which is about one student: the only one of the run."""
    if len(book.roster()) != 1:
        raise ExportError(f"Gradescope's results.json is about one student, and {len(book.roster())} are graded here.")
    [enrolled] = book.roster()
    return results_json(book.verdicts_of(enrolled, book.seed), enrolled.problems).encode()


def _written(book: Gradebook, format: str, people: dict[str, Person], assignment: str, notes: list[str]) -> Export:
    if format == "canvas":
        return Export(_canvas(book, people, assignment), tuple(notes))
    if format == "moodle":
        return Export(_moodle(book, people), tuple(notes))
    return Export(_gradescope(book, people), tuple(notes))


def _canvas(book: Gradebook, people: dict[str, Person], assignment: str) -> bytes:
    """The gradebook file that Canvas imports, as `lib/gradebook_importer.rb` in instructure/canvas-lms reads it.

    A person is found by ID, then by SIS ids, then by name; a title that Canvas does not know makes a new assignment,
    with the points of the second row.
    """
    points = book.points(book.seed)
    out_of = sum(exercise.points for exercise in graded_exercises(book))
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment]
    rows = [
        [*(person.get(field, "") for field in ("name", "id", "sis", "login", "section")), sum(points[student].values())]
        for student, person in people.items()
    ]
    return csv_bytes([header, ["    Points Possible", "", "", "", "", out_of], *rows])


def _moodle(book: Gradebook, people: dict[str, Person]) -> bytes:
    """A file for both ways into Moodle.

    As an assignment's grading worksheet it is read by Identifier, Grade, Last modified (grade) and Feedback comments
    (mod/assign/feedback/offline/importgradeslib.php); in the gradebook (https://docs.moodle.org/en/Grade_import) one
    maps the e-mail address and the grade by hand.
    """
    points = book.points(book.seed)
    verdicts = {enrolled.student: book.verdicts_of(enrolled, book.seed) for enrolled in book.roster()}
    out_of = sum(exercise.points for exercise in graded_exercises(book))
    header = ["Identifier", "Full name", "Email address", "Grade", "Maximum Grade", "Last modified (grade)"]
    rows = [
        [
            *(person.get(field, "") for field in ("participant", "name", "email")),
            sum(points[student].values()),
            out_of,
            person.get("modified", "").removeprefix("-"),  # a dash stands for never
            _comment(verdicts[student]),
        ]
        for student, person in people.items()
    ]
    return csv_bytes([[*header, "Feedback comments"], *rows])


def _gradescope(book: Gradebook, people: dict[str, Person]) -> bytes:
    """The columns of Gradescope's own "Download Grades" of an assignment, so that the files can be put together.

    Gradescope takes scores from its own autograder only: see `results_json`. Programs read this file, so it has no
    byte order mark.
    """
    points = book.points(book.seed)
    exercises = graded_exercises(book)
    header = ["Name", "SID", "Email", "Total Score", "Max Points", "Status"]
    header += [f"{number}: {one.name} ({one.points:.1f} pts)" for number, one in enumerate(exercises, start=1)]
    rows = [
        [
            *(person.get(field, "") for field in ("name", "sis", "email")),
            sum(points[student].values()),
            sum(exercise.points for exercise in exercises),
            "Graded",
            *(points[student].get(exercise.name, "") for exercise in exercises),
        ]
        for student, person in people.items()
    ]
    return csv_bytes([header, *rows], byte_order_mark=False)


def _comment(verdicts: list[Graded]) -> str:
    """What is not right, in words that the course wrote: Moodle shows comments as HTML."""
    return " ".join(
        f"{one.exercise}: {one.verdict.status}. {one.verdict.mistake.sentence if one.verdict.mistake else ''}".rstrip()
        for one in verdicts
        if one.verdict.status is not Status.CORRECT
    )


def _guess(student: str) -> Person:
    """What a student's name tells: `doejane (4711)` keeps the number that Canvas or Moodle gave them."""
    match = re.fullmatch(r"(.+) \((\d{3,})\)", student)
    name, number = match.groups() if match else (student, "")
    person = {"name": name, "id": number, "participant": f"Participant {number}" if number else ""}
    return person | ({"email": student} if "@" in student else {})


def _keys(person: Person) -> list[str]:
    """What a person may be found by, the surest first: letters and digits only, without case and accents."""
    name = _name(person)
    surname, comma, given = name.partition(",")
    found = [
        *(person.get(field, "") for field in ("id", "sis", "login", "email")),
        person.get("participant", "").rpartition(" ")[2],
        person.get("email", "").partition("@")[0],
        name,
        f"{given} {surname}" if comma else "",
        " ".join([*name.split()[-1:], *name.split()[:-1]]),  # Canvas puts the surname first in names of files
    ]
    return [key for key in map(_letters, found) if key]


def _name(person: Person) -> str:
    return person.get("name") or f"{person.get('first', '')} {person.get('last', '')}".strip()


def _letters(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if letter.isalnum())


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
