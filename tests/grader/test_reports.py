"""The reports: right numbers, pages that nobody can turn against their reader, and the same files every time."""

import csv
import html.parser
import io
import os
import re
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autograder import display
from autograder.compare import difference
from autograder.evidence import Typed
from autograder.exercise import all_exercises
from autograder.grader.gradebook import Gradebook
from autograder.grader.reports import ReportError, csv_bytes, explain, grades_csv, page_names, write_reports
from autograder.judge import Fault, Status, Verdict
from tests.grader.made_up import SEED, HandedIn, chapter_1, fill, graded, halted, solutions, verdict_on

CORRECT = Verdict("one_hot", Status.CORRECT)

POSSIBLE = sum(all_exercises()[name].points for name in chapter_1())


class Page(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, its text, and what could reach out of it."""

    VOID = ("meta", "img", "rect", "line", "br")

    def __init__(self, source: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text += data

    def assert_harmless(self) -> None:
        names = {tag for tag, _ in self.tags}
        assert not names & {
            "script",
            "iframe",
            "object",
            "embed",
            "link",
            "base",
            "form",
            "input",
            "a:href",
            "foreignobject",
        }
        for tag, attributes in self.tags:
            assert not [name for name in attributes if name.startswith("on")], tag
            for name in ("href", "src", "action", "data", "xlink:href"):
                address = attributes.get(name) or "#"
                assert address.startswith(("#", "data:image/png;base64,", "feedback/")), (tag, address)
        policy = [a["content"] for tag, a in self.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy and policy[0].startswith("default-src 'none'")


@pytest.fixture
def book(tmp_path):
    with Gradebook(tmp_path / "results") as opened:
        opened.seed = SEED
        yield opened


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results"


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


class TestGrades:
    def test_hold_one_row_per_student(self, book):
        book.enrol([HandedIn("Zoë Müller", "z"), HandedIn('Ada "A", Lovelace', "a"), HandedIn("Ben\nLine", "b")])
        book.add(graded("bilinear", Verdict("bilinear", Status.CORRECT), "z"))
        book.add(graded("outer_sum", Verdict("outer_sum", Status.NOT_ATTEMPTED), "z"))
        book.add(graded("outer_sum", Verdict("outer_sum", Status.CORRECT), "a"))
        assert rows(grades_csv(book)) == [
            ["Student", "outer_sum", "bilinear", "Total", "Out of"],
            ["Zoë Müller", "0", "2", "2", "3"],
            ['Ada "A", Lovelace', "1", "", "1", "3"],
            ["Ben\nLine", "", "", "0", "3"],
        ]

    def test_open_in_a_spreadsheet(self):
        assert csv_bytes([["Zoë"]]) == b"\xef\xbb\xbfZo\xc3\xab\r\n"

    @pytest.mark.parametrize(
        "name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", '=HYPERLINK("x")']
    )
    def test_hold_no_formula(self, name):
        [[cell, number]] = rows(csv_bytes([[name, -1]]))
        assert cell == f"'{name}"
        assert number == "-1"

    def test_leave_ordinary_names_alone(self):
        names = ["Ada", "O'Brien", "李 明", "7up", "jean-luc", "a@b.org", "_x", ""]
        assert rows(csv_bytes([names])) == [names]

    def test_need_a_graded_class(self, tmp_path):
        with Gradebook(tmp_path) as book, pytest.raises(ReportError, match="Nothing is graded"):
            write_reports(book, tmp_path)


class TestPageNames:
    @given(st.lists(st.text(), unique=True, max_size=20))
    def test_are_safe_and_never_alike(self, students):
        names = page_names(students)
        assert list(names) == students
        assert len({name.lower() for name in names.values()}) == len(students)
        for name in names.values():
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html", name)
            assert len(name) < 100

    def test_are_the_students_where_that_will_do(self):
        assert page_names(["ada", "ben.smith", "c-3"]) == {
            "ada": "ada.html",
            "ben.smith": "ben.smith.html",
            "c-3": "c-3.html",
        }

    def test_of_hostile_students(self):
        students = [
            "../../etc/passwd",
            "a/b",
            "a\\b",
            "CON",
            "nul.txt",
            "..",
            "",
            "x" * 500,
            "Ada",
            "ADA",
            "ada",
            "José",
        ]
        students.append(page_names(students)["José"].removesuffix(".html"))  # made to fall on another student's
        names = page_names(students)
        assert len({name.lower() for name in names.values()}) == len(students)
        assert not {name.lower() for name in names.values()} & {"con.html", "nul.txt.html", "..html", ".html"}


class TestFeedback:
    def of(self, book, results, *verdicts, student="Ada", problems=(), **options) -> Page:
        book.enrol([HandedIn(student, "d", problems)])
        for one in verdicts:
            book.add(one)
        write_reports(book, results, **options)
        [path] = (results / "feedback").iterdir()
        return page(path)

    def test_says_what_check_says(self, book, results):
        mistake = all_exercises()["bilinear"].mistakes[0]
        verdict = verdict_on("bilinear", mistake.implementation)
        shown = self.of(
            book,
            results,
            graded("bilinear", verdict),
            graded("one_hot", CORRECT),
            halted("conv2d", Status.TIMED_OUT, "It did not end within 10 seconds."),
            graded("masked_mean", Verdict("masked_mean", Status.NOT_ATTEMPTED), reason="No cell defines it."),
            problems=("week 2.ipynb is empty.",),
        )
        shown.assert_harmless()
        for text in (
            "Feedback for Ada",
            "1 of 10 points",
            "week 2.ipynb is empty.",
            re.sub(r"[`*]", "", mistake.sentence),
            re.sub(r"[`*]", "", all_exercises()["bilinear"].hints[0]),
            "bilinear: not yet (trial 1 of ",
            "✗ conv2d: it ran out of time. It did not end within 10 seconds.",
            "○ masked_mean: not attempted. No cell defines it.",
        ):
            assert text in shown.text, text

    def test_keeps_the_values_of_the_inputs_back(self, book, results):
        trial = all_exercises()["outer_sum"].trials(SEED)[0]
        value = f"{trial.arguments['a'][0].item():.4f}"
        wrong = graded("outer_sum", verdict_on("outer_sum", lambda a, b: a[:, None] - b))
        hidden = self.of(book, results, wrong)
        assert "a = tensor of shape (4,), float32" in hidden.text
        assert value not in hidden.text
        assert value in self.of(book, results, wrong, show_inputs=True).text

    def test_keeps_inputs_back_that_were_changed(self, book, results):
        def changes(x, W, y):
            result = solutions()["bilinear"](x, W, y)
            x.zero_()
            return result

        verdict = verdict_on("bilinear", changes)
        assert verdict.fault.kind == "arguments"
        x = all_exercises()["bilinear"].trials(SEED)[verdict.fault.trial].arguments["x"]
        value = f"{x.flatten()[0].item():.4f}"
        hidden = self.of(book, results, graded("bilinear", verdict))
        assert "changed its argument x" in hidden.text
        assert value not in hidden.text
        assert value in self.of(book, results, graded("bilinear", verdict), show_inputs=True).text

    def test_tells_who_is_right_in_practice_only(self, book, results):
        wrong = graded("outer_sum", verdict_on("outer_sum", lambda a, b: a[:, None] - b), practice=True)
        assert "It is right on the practice trials" in self.of(book, results, wrong).text

    def test_draws_matrices_that_are_too_large_to_print(self, book, results):
        wrong = graded("squared_distances", verdict_on("squared_distances", lambda x, y: torch.cdist(x, y) * 1.5))
        picture = explain(wrong).markup
        found = difference(torch.zeros(9, 20), torch.randn(9, 20), "result")
        large = Verdict("bilinear", Status.INCORRECT, Fault(0, "value", "It differs.", found))
        shown = self.of(book, results, wrong, graded("bilinear", large))
        [image] = [attributes for tag, attributes in shown.tags if tag == "img"]
        assert image["src"].startswith("data:image/png;base64,")
        assert image["alt"].startswith("Expected, got and their difference as coloured squares")
        assert "<img" not in picture

    def test_praises_where_all_is_correct(self, book, results):
        assert "There is nothing to put right." in self.of(book, results, graded("one_hot", CORRECT)).text

    def test_of_who_was_not_graded_says_so(self, book, results):
        book.enrol([HandedIn("Ada", "a"), HandedIn("Ben", "b")])
        book.add(graded("one_hot", CORRECT, "a"))
        write_reports(book, results)
        shown = page(results / "feedback" / "Ben.html")
        assert "not graded" in shown.text
        assert "nothing to put right" not in shown.text

    @pytest.mark.parametrize(
        "strange",
        [
            Typed("<script>alert(1)</script>", "x" * 1000),
            Typed("x" * 250_000),
            10**5000,
            {("<b>",): [1j, None, "\ud800"]},
            torch.tensor([complex("nan")] * 3),
        ],
        ids=["markup", "endless", "huge integer", "nested", "complex"],
    )
    def test_stands_whatever_was_returned(self, book, results, strange):
        found = difference(torch.zeros(2), torch.ones(2), "result")
        found = type(found)("result", "type", "expected a tensor, got \u202e<b onclick='x()'>", found.expected, strange)
        verdict = Verdict("bilinear", Status.INCORRECT, Fault(0, "value", found.sentence, found))
        shown = self.of(book, results, graded("bilinear", verdict))
        shown.assert_harmless()
        assert "expected a tensor, got \ufffd<b onclick='x()'>" in shown.text
        assert (results / "feedback" / "Ada.html").stat().st_size < 300_000


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% for x in y %}",
    "</title></style><svg onload=alert(1)>",
    "\u202eadA",
    "a\x00b\x1b[31m",
    "=cmd()",
    "javascript:alert(1)",
    "../../../../tmp/evil",
    "Ada\udcff",
    "👩‍👩‍👧 家族",
]


class TestHostileStudents:
    def test_are_shown_and_run_nothing(self, book, results):
        raised = {"number": 1, "function": "<u>", "source": "`<b>` *<i>*"}
        book.enrol([HandedIn(name, f"d{i}", (f"{name}.ipynb is empty.",)) for i, name in enumerate(HOSTILE)])
        for i, name in enumerate(HOSTILE):
            sentence = f"ValueError: {name}"
            error = Verdict("bilinear", Status.ERROR, Fault(0, "raised", sentence, lines=(raised,)))
            book.add(graded("bilinear", error, f"d{i}"))
            book.add(halted("conv2d", Status.CRASHED, name, f"d{i}"))
            wrong = Verdict("outer_sum", Status.INCORRECT, Fault(0, "value", sentence))
            book.add(graded("outer_sum", wrong, f"d{i}", practice=True))
        write_reports(book, results)
        files = list((results / "feedback").iterdir())
        assert len(files) == len(HOSTILE)
        assert {path.name for path in results.parent.iterdir()} == {"results"}
        for path in [results / "class.html", *files]:
            source = path.read_bytes().decode("utf-8")
            shown = Page(source)
            shown.assert_harmless()
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", source)
            assert "49" not in [word.strip() for word in shown.text.split()]
        class_page = page(results / "class.html")
        for name in ("<script>alert(1)</script>", "{{ 7 * 7 }}{% for x in y %}", "👩‍👩‍👧 家族", "\ufffdadA"):
            assert class_page.text.count(name) >= 4, name


class TestClassReport:
    def test_adds_up(self, book, results):
        students = [f"student {number:02d}" for number in range(40)]
        fill(book, students)
        write_reports(book, results)
        shown = page(results / "class.html")
        shown.assert_harmless()
        totals = [int(row[-2]) for row in rows((results / "grades.csv").read_bytes())[1:]]
        [text] = re.findall(r"Students per tenth of the points, from the lowest: ([\d, ]+)\.", shown.text)
        bins = [int(number) for number in text.split(", ")]
        assert bins == [sum(min(9, 10 * total // POSSIBLE) == tenth for total in totals) for tenth in range(10)]
        everyone = list(book.all(SEED))
        for status in Status:
            if any(one.verdict.status is status for one in everyone):
                assert status in shown.text
        told = {one.verdict.mistake for one in everyone if one.verdict.mistake}
        assert any(re.sub(r"[`*]", "", mistake.sentence) in shown.text for mistake in told)
        links = [a["href"] for tag, a in shown.tags if tag == "a"]
        assert len(links) == 40
        assert all((results / link).is_file() for link in links)

    def test_has_a_table_for_each_chart(self, book, results):
        fill(book, ["Ada", "Ben", "Cleo"])
        write_reports(book, results)
        shown = page(results / "class.html")
        charts = [attributes for tag, attributes in shown.tags if tag == "svg" and attributes.get("role") == "img"]
        assert len(charts) == 2
        assert [tag for tag, _ in shown.tags].count("details") == 2
        ids = {attributes["id"] for _, attributes in shown.tags if "id" in attributes}
        assert all(set(chart["aria-labelledby"].split()) <= ids for chart in charts)
        assert all(chart.get("aria-hidden") or chart.get("role") == "img" for tag, chart in shown.tags if tag == "svg")

    def test_calls_hardest_what_most_who_tried_it_got_wrong(self, book, results):
        book.enrol([HandedIn(f"s{number}", f"d{number}") for number in range(4)])
        for number in range(4):
            status = Status.INCORRECT if number == 0 else Status.CORRECT
            book.add(graded("one_hot", CORRECT, f"d{number}"))
            book.add(graded("bilinear", Verdict("bilinear", status), f"d{number}"))
            book.add(graded("conv2d", Verdict("conv2d", Status.NOT_ATTEMPTED), f"d{number}"))
        write_reports(book, results)
        assert "The hardest was bilinear: 75 % of those who tried it solved it." in page(results / "class.html").text

    @pytest.mark.parametrize("count", [0, 1, 5])
    @pytest.mark.parametrize("status", [Status.CORRECT, Status.NOT_ATTEMPTED, None])
    def test_of_any_class_is_whole(self, book, results, count, status):
        book.enrol([HandedIn(f"s{number}", "d") for number in range(count)])
        if status:
            for name in ("one_hot", "bilinear"):
                book.add(graded(name, Verdict(name, status)))
        write_reports(book, results)
        shown = page(results / "class.html")
        shown.assert_harmless()
        assert f"{count} student" in shown.text
        assert "nan" not in shown.text.lower().split()
        assert "No answer shows a known mistake." in shown.text
        assert len(rows((results / "grades.csv").read_bytes())) == count + 1

    def test_of_a_thousand_students_is_small_and_soon_there(self, book, results):
        fill(book, [f"student {number:04d}" for number in range(1000)])
        start = time.perf_counter()
        write_reports(book, results)
        assert time.perf_counter() - start < 20
        assert (results / "class.html").stat().st_size < 1_000_000
        assert len(list((results / "feedback").iterdir())) == 1000


class TestFiles:
    def test_are_the_same_twice(self, book, results):
        fill(book, ["Ada", "Ben", "Chloé"])
        write_reports(book, results)
        before = {path: path.read_bytes() for path in results.rglob("*.[hc]*") if path.is_file()}
        write_reports(book, results)
        assert len(before) == 5
        assert {path: path.read_bytes() for path in before} == before

    def test_of_students_who_left_are_removed_and_no_others(self, book, results):
        book.enrol([HandedIn("Ada", "d"), HandedIn("Ben", "d")])
        book.add(graded("one_hot", CORRECT))
        write_reports(book, results)
        (results / "feedback" / "mine.html").write_text("<p>notes</p>")
        book.enrol([HandedIn("Ada", "d")])
        write_reports(book, results)
        assert sorted(os.listdir(results / "feedback")) == ["Ada.html", "mine.html"]

    def test_that_cannot_be_written_leave_the_old_ones(self, book, results, monkeypatch):
        book.enrol([HandedIn("Ada", "d")])
        book.add(graded("one_hot", CORRECT))
        write_reports(book, results)
        before = (results / "grades.csv").read_bytes()
        book.add(graded("bilinear", Verdict("bilinear", Status.CORRECT)))

        def full(self, data):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, pytest.raises(ReportError, match="No space left on device") as raised:
            patched.setattr(Path, "write_bytes", full)
            write_reports(book, results)
        assert "The gradebook keeps every verdict" in str(raised.value)
        assert (results / "grades.csv").read_bytes() == before
        assert not list(results.rglob("*.tmp"))

    def test_need_a_folder(self, book, results):
        book.enrol([HandedIn("Ada", "d")])
        book.add(graded("one_hot", CORRECT))
        (results / "feedback").write_text("mine")
        with pytest.raises(ReportError, match="cannot be written"):
            write_reports(book, results)
        assert (results / "feedback").read_text() == "mine"


def test_display_shows_inputs_unless_told_not_to():
    exercise = all_exercises()["outer_sum"]
    verdict = verdict_on("outer_sum", lambda a, b: a[:, None] - b)
    value = f"{exercise.trials(SEED)[0].arguments['a'][0].item():.4f}"
    assert value in display.report(exercise, verdict, SEED, "").text
    assert value not in display.report(exercise, verdict, SEED, "", show_inputs=False).text
