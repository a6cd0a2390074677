"""The reports on a graded class: grades.csv, a page of feedback per student, and class.html.

Pages are one file each, ask for nothing elsewhere, run no script, and print. What comes from students, their names
included, is escaped.
"""

import base64
import csv
import hashlib
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from autograder import display
from autograder.compare import Difference
from autograder.errors import UserError
from autograder.evidence import encode
from autograder.exercise import Exercise, all_exercises
from autograder.grader.class_report import ClassReport
from autograder.grader.gradebook import Gradebook, Graded
from autograder.judge import Status

MAX_MARKUP = 200_000
"""A verdict whose HTML is longer, because of what was returned, is told in a sentence."""

_HALTED = {
    Status.ERROR: "it could not be tried",
    Status.TIMED_OUT: "it ran out of time",
    Status.OUT_OF_MEMORY: "it ran out of memory",
    Status.CRASHED: "it crashed",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no names for a file on Windows
_GENERATED = b'<meta name="generator" content="Tensors to Diffusion">'

# Characters that turn the direction of text round, or that HTML does not allow, become visible.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class ReportError(UserError):
    """The reports cannot be written; the message is one sentence with the way out."""


def write_reports(book: Gradebook, results: Path, show_inputs: bool = False) -> None:
    """Write grades.csv, feedback/STUDENT.html and class.html into a folder, each whole or not at all.

    show_inputs: also show the values of the inputs of the trials.
    Raises ReportError where nothing is graded yet, or the folder cannot be written; GradebookError.
    """
    exercises = graded_exercises(book)
    roster = book.roster()
    names = page_names([enrolled.student for enrolled in roster])
    whole_class = ClassReport(exercises)
    explained: dict[Any, display.Page] = {}
    try:
        _write(results / "grades.csv", grades_csv(book))
        for enrolled in roster:
            verdicts = book.verdicts_of(enrolled, book.seed)
            page = names[enrolled.student]
            sections = []
            for graded in verdicts:
                key = _content(graded)
                if key not in explained:
                    explained[key] = explain(graded, show_inputs)
                sections.append((graded, explained[key].markup))
            _write_page(
                results / "feedback" / page,
                "feedback.html",
                student=enrolled.student,
                problems=enrolled.problems,
                exercises=[(exercise, _of(exercise, sections)) for exercise in exercises],
                points=sum(graded.points for graded in verdicts),
                out_of=sum(exercise.points for exercise in exercises),
            )
            whole_class.add(enrolled, verdicts, page)
        _write_page(results / "class.html", "class.html", seed=book.seed, **whole_class.content())
        _remove_others(results / "feedback", set(names.values()))
    except OSError as error:
        raise ReportError(
            f"The reports cannot be written to {results}: {error.strerror or error}. The gradebook keeps every "
            "verdict: mend this, and run the same command again."
        ) from error


def grades_csv(book: Gradebook) -> bytes:
    """One row per student: the points of each exercise (empty where it was not graded), the total, and out of how many.

    Raises ReportError where nothing is graded yet.
    """
    exercises = graded_exercises(book)
    out_of = sum(exercise.points for exercise in exercises)
    header = ["Student", *(exercise.name for exercise in exercises), "Total", "Out of"]
    rows = [
        [student, *(points.get(exercise.name, "") for exercise in exercises), sum(points.values()), out_of]
        for student, points in book.points(book.seed).items()
    ]
    return csv_bytes([header, *rows])


def csv_bytes(rows: Iterable[Iterable[Any]], byte_order_mark: bool = True) -> bytes:
    """Rows as a CSV file: commas, CRLF, and UTF-8 with a byte order mark, without which Excel garbles names.

    Text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV Injection").
    """
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_MINIMAL).writerows(
        [_harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return text.getvalue().encode("utf-8-sig" if byte_order_mark else "utf-8", "replace")


def graded_exercises(book: Gradebook) -> list[Exercise]:
    """The exercises that the run has graded, in the order of the book. Raises ReportError where there are none."""
    if book.seed is None:
        raise ReportError(f"Nothing is graded in {book.path.parent} yet: grade some submissions into it first.")
    graded = set().union(*book.points(book.seed).values())
    return [exercise for exercise in all_exercises().values() if exercise.name in graded]


def explain(graded: Graded, show_inputs: bool = False) -> display.Page:
    """A verdict as `check` would show it, on the trials it was graded on."""
    exercise = all_exercises()[graded.exercise]
    verdict = graded.verdict
    if verdict.status is Status.NOT_ATTEMPTED:
        return display.notice(f"○ {exercise.name}: not attempted. {graded.reason}".rstrip())
    if graded.reason or (verdict.fault is None and verdict.status is not Status.CORRECT):
        return display.notice(f"✗ {exercise.name}: {_HALTED.get(verdict.status, verdict.status)}. {graded.reason}")
    if graded.practice:
        next_step = (
            "It is right on the practice trials that `check` uses, and wrong on others: look for what holds for those "
            "values or shapes only."
        )
    else:
        next_step = f"`check({exercise.name})` in your notebook tries it on the practice trials."
    try:
        page = display.report(exercise, verdict, graded.seed, next_step, show_inputs, _small_picture)
    except Exception:  # an answer that cannot even be shown must not keep the class from its reports
        page = None
    if page is None or len(page.markup) > MAX_MARKUP:
        return display.notice(f"✗ {exercise.name}: what it returned is too strange to show. {verdict.fault.sentence}")
    return page


def page_names(students: list[str]) -> dict[str, str]:
    """A file name for each student: safe on every system, and no two alike, whatever the students are called.

    The name itself where that will do; otherwise what can be kept of it, and a hash of the rest.
    """
    alike = Counter(student.casefold() for student in students)
    names = {}
    for student in students:
        ascii_name = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode()
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_name).strip("-._")[:60]
        # A name that ends like a hash may be made to fall on another student's.
        plain = slug and slug == student and not _DEVICES.fullmatch(slug) and not re.search(r"-[0-9a-f]{12}$", slug)
        if not plain or alike[student.casefold()] > 1:
            digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            slug = f"{slug or 'student'}-{digest}"
        names[student] = f"{slug}.html"
    return names


def _of(exercise: Exercise, sections: list[tuple[Graded, str]]) -> tuple[Graded, str] | None:
    return next((section for section in sections if section[0].exercise == exercise.name), None)


def _content(graded: Graded) -> tuple:
    """What decides how a verdict is shown. Wrong answers are alike in a class, so most are drawn once."""
    fault = graded.verdict.fault
    found = fault.difference if fault else None
    return (
        graded.exercise,
        graded.verdict.status,
        graded.verdict.mistake,
        graded.reason,
        graded.practice,
        fault and (fault.trial, fault.kind, fault.sentence, repr(fault.lines)),
        found and (found.path, found.kind, encode(found.expected), encode(found.got)),
    )


def _small_picture(found: Difference | None) -> dict[str, str] | None:
    """Expected, got and their difference as small images, for matrices that are too large to show in numbers.

    A class needs thousands of pictures, and this takes a hundredth of what a figure of matplotlib does.
    """
    if found is None or found.kind != "values" or not isinstance(found.got, torch.Tensor):
        return None
    if found.got.numel() <= display.SMALL:
        return None
    expected, got = (display.worst_matrix(tensor, found) for tensor in (found.expected, found.got))
    if expected is None or got is None or max(expected.shape) > display.PICTURE:
        return None
    from matplotlib import colormaps, get_data_path
    from PIL import Image, ImageDraw, ImageFont

    limit = max(expected.abs().max().item(), got.abs().max().item()) or 1.0
    zoom = max(1, 160 // max(expected.shape))
    rows, columns = (zoom * side for side in expected.shape)
    step = max(columns, 80) + 16
    canvas = Image.new("RGB", (3 * step, rows + 22), "white")  # also on dark pages, as in all the course's pictures
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 13)
    for place, (name, panel) in enumerate({"expected": expected, "got": got, "difference": got - expected}.items()):
        colours = colormaps["RdBu"](0.5 + panel.numpy() / (2 * limit), bytes=True)[..., :3]
        canvas.paste(Image.fromarray(colours).resize((columns, rows), Image.Resampling.NEAREST), (place * step, 20))
        pen.rectangle((place * step, 20, place * step + columns, 20 + rows), outline="#666666")
        pen.text((place * step, 1), name, fill="#222222", font=font)
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    alt = f"Expected, got and their difference as coloured squares, blue above zero and red below. {found.sentence}."
    return {"png": base64.b64encode(buffer.getvalue()).decode(), "alt": alt}


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def _write_page(path: Path, template: str, **content: Any) -> None:
    _write(path, _UNSEEN.sub("\ufffd", display.render(template, **content)).encode("utf-8", "replace"))


def _write(path: Path, data: bytes) -> None:
    """Write beside the file and rename: a kill at any moment leaves the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the pages of students who are no longer on the roster, and no file that is not one of our pages."""
    for path in folder.glob("*.html"):
        if path.name not in names and _GENERATED in path.read_bytes()[:400]:
            path.unlink()
