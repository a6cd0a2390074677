"""The exports: what each system takes, the right grade for the right person, and no formula in any of them."""

import csv
import io
import json

import pytest
import torch

from autograder.compare import difference
from autograder.exercise import all_exercises
from autograder.grader.exports import FORMATS, ExportError, export, match, read_roster, results_json
from autograder.grader.gradebook import Gradebook
from autograder.grader.reports import ReportError, grades_csv
from autograder.judge import Fault, Status, Verdict
from tests.grader.made_up import SEED, HandedIn, graded, halted, verdict_on

TABLES = [format for format in FORMATS if format != "gradescope-results"]

CANVAS = """\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Tensors to Diffusion (991),Essay (992)
    Points Possible,,,,,3,10
"Lovelace, Ada",4711,s1,ada,Monday,,
"Müller, Zoë",4712,s2,zoe,Tuesday,,7
"Kay, Ben",4713,s3,ben,Monday,,
"""
WORKSHEET = """Identifier,Full name,Email address,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments
Participant 4711,Ada Lovelace,ada@x.org,Submitted,,100,"Friday, 1 May 2026, 10:00 AM",
Participant 4712,Zoë Müller,zoe@x.org,Submitted,,100,-,
"""


@pytest.fixture
def book(tmp_path):
    """Three students, of whom Ada has 3 of 3 points, Zoë 2, and the last one none."""
    with Gradebook(tmp_path / "results") as opened:
        opened.seed = SEED
        opened.enrol([HandedIn("lovelaceada (4711)", "a"), HandedIn("Zoë Müller", "z"), HandedIn("=cmd()", "c")])
        mistake = all_exercises()["outer_sum"].mistakes[0]
        for digest, outer_sum, bilinear in (("a", 1, 1), ("z", 0, 1), ("c", 0, 0)):
            wrong = verdict_on("outer_sum", mistake.implementation)
            opened.add(graded("outer_sum", Verdict("outer_sum", Status.CORRECT) if outer_sum else wrong, digest))
            opened.add(
                graded("bilinear", Verdict("bilinear", Status.CORRECT), digest)
                if bilinear
                else halted("bilinear", Status.TIMED_OUT, "<b>It did not end within 10 seconds.", digest)
            )
        yield opened


@pytest.fixture
def roster(tmp_path):
    def write(text: str, encoding: str = "utf-8"):
        path = tmp_path / "roster.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def rows(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


class TestCanvas:
    def test_takes_ids_from_its_own_export(self, book, roster):
        exported = export(book, "canvas", roster(CANVAS))
        assert rows(exported.data) == [
            ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Tensors to Diffusion (991)"],
            ["    Points Possible", "", "", "", "", "3"],
            ["Lovelace, Ada", "4711", "s1", "ada", "Monday", "3"],
            ["Müller, Zoë", "4712", "s2", "zoe", "Tuesday", "2"],
        ]
        assert exported.notes == (
            "Not found in the roster for certain, and left out: =cmd().",
            "1 of the 3 people in the roster have no grade here.",
        )

    def test_without_a_roster_knows_what_the_names_tell(self, book):
        exported = export(book, "canvas", assignment="Week 1")
        assert rows(exported.data) == [
            ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Week 1"],
            ["    Points Possible", "", "", "", "", "3"],
            ["lovelaceada", "4711", "", "", "", "3"],
            ["Zoë Müller", "", "", "", "", "2"],
            ["'=cmd()", "", "", "", "", "0"],
        ]
        assert exported.notes == ()


class TestMoodle:
    def test_fills_in_a_grading_worksheet(self, book, roster):
        outer_sum = all_exercises()["outer_sum"].mistakes[0].sentence
        exported = export(book, "moodle", roster(WORKSHEET))
        assert rows(exported.data) == [
            [
                "Identifier",
                "Full name",
                "Email address",
                "Grade",
                "Maximum Grade",
                "Last modified (grade)",
                "Feedback comments",
            ],
            ["Participant 4711", "Ada Lovelace", "ada@x.org", "3", "3", "Friday, 1 May 2026, 10:00 AM", ""],
            ["Participant 4712", "Zoë Müller", "zoe@x.org", "2", "3", "", f"outer_sum: incorrect. {outer_sum}"],
        ]

    def test_says_nothing_that_a_student_wrote(self, book):
        data = export(book, "moodle").data.decode()
        assert "bilinear: timed out." in data
        assert "<b>" not in data
        assert "\n\n" not in data.replace("\r\n", "\n")


class TestGradescope:
    def test_has_the_columns_of_its_own_download(self, book, roster):
        people = "First Name,Last Name,SID,Email\nAda,Lovelace,s1,ada@x.org\nZoe,Muller,s2,zoe@x.org\nX,Y,s3,x@x.org\n"
        exported = export(book, "gradescope", roster(people))
        assert not exported.data.startswith(b"\xef\xbb\xbf")
        header, *students = rows(exported.data)
        assert header == [
            *("Name", "SID", "Email", "Total Score", "Max Points", "Status"),
            *("1: outer_sum (1.0 pts)", "2: bilinear (2.0 pts)"),
        ]
        assert students == [
            ["Ada Lovelace", "s1", "ada@x.org", "3", "3", "Graded", "1", "2"],
            ["Zoe Muller", "s2", "zoe@x.org", "2", "3", "Graded", "0", "2"],
        ]


def test_csv_is_the_report(book):
    assert export(book, "csv").data == grades_csv(book)


@pytest.mark.parametrize("format", TABLES)
@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "+1", "-2", "@x", "\t=1", '"=1"', "a,b\r\n=2"])
def test_no_format_holds_a_formula(tmp_path, format, name):
    with Gradebook(tmp_path) as book:
        book.seed = SEED
        book.enrol([HandedIn(name, "d")])
        book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT)))
        cells = [cell for row in rows(export(book, format).data) for cell in row]
    assert any(name in cell for cell in cells)
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]


class TestRoster:
    def test_finds_people_by_any_of_their_names(self, roster):
        _, people = read_roster(roster(CANVAS))
        for student in ("Ada Lovelace", "lovelace, ada", "LovelaceAda", "ada", "s1", "4711", "x (4711)"):
            found, _ = match([student], people)
            assert found[student]["id"] == "4711", student
        assert "Points Possible" not in [person["name"] for person in people]

    def test_finds_people_by_their_address(self, roster):
        _, people = read_roster(roster(WORKSHEET))
        for student in ("zoe@x.org", "zoe", "Zoe Muller", "Zoë Müller (4712)"):
            assert match([student], people)[0][student]["email"] == "zoe@x.org", student

    def test_never_guesses_between_namesakes(self, roster):
        _, people = read_roster(roster("Name,SID\nJane Doe,1001\nJane Doe,1002\n"))
        found, notes = match(["Jane Doe", "Jane Doe (1002)"], people)
        assert {student: person["sis"] for student, person in found.items()} == {"Jane Doe (1002)": "1002"}
        assert notes[0] == "Not found in the roster for certain, and left out: Jane Doe."

    def test_gives_one_person_one_grade(self, roster):
        _, people = read_roster(roster(CANVAS))
        found, notes = match(["Ada Lovelace", "ada"], people)
        assert found == {}
        assert notes[0].endswith("left out: Ada Lovelace, ada.")

    def test_may_come_with_semicolons(self, roster):
        header, people = read_roster(roster("Name;Email\nAda, Countess of Lovelace;ada@x.org\n"))
        assert header == ["Name", "Email"]
        assert people[0]["email"] == "ada@x.org"

    @pytest.mark.parametrize(
        ("text", "encoding", "words"),
        [
            ("", "utf-8", "not a CSV file"),
            ("Name,Email\n", "utf-8", "names nobody"),
            ("Colour,Shape\nred,round\n", "utf-8", "names nobody"),
            ('Name,Email\n"Ada', "utf-8", "not a CSV file"),
            ("Name\nZoë\n", "latin-1", "not in UTF-8"),
            ("Name\nZoë\n", "utf-16", "not in UTF-8"),
            ("Name,Email\n,\n\n", "utf-8", "names nobody"),
        ],
    )
    def test_that_is_none_is_refused(self, roster, text, encoding, words):
        with pytest.raises(ExportError, match=words):
            read_roster(roster(text, encoding))

    def test_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(ExportError, match="cannot be read: No such file"):
            read_roster(tmp_path / "roster.csv")


def test_unknown_formats_are_refused(book):
    with pytest.raises(ExportError, match="choose one of csv, canvas, moodle, gradescope"):
        export(book, "excel")


def test_nothing_graded_is_refused(tmp_path):
    with Gradebook(tmp_path) as book:
        for format in TABLES:
            with pytest.raises(ReportError, match="Nothing is graded"):
                export(book, format)


class TestResults:
    def test_are_as_gradescope_wants_them(self, book):
        [ada, _, last] = book.roster()
        results = json.loads(results_json(book.verdicts_of(last, SEED), ["week 2.ipynb is empty."]))
        assert results["score"] == 0
        assert results["execution_time"] == 0.02
        assert results["output"] == "week 2.ipynb is empty."
        outer_sum, bilinear = results["tests"]
        assert (outer_sum["name"], outer_sum["score"], outer_sum["max_score"]) == ("outer_sum", 0, 1)
        assert outer_sum["status"] == "failed"
        assert all_exercises()["outer_sum"].mistakes[0].sentence in outer_sum["output"]
        assert bilinear["output"] == "✗ bilinear: it ran out of time. <b>It did not end within 10 seconds."
        assert {test["output_format"] for test in results["tests"]} == {"text"}
        assert {test["visibility"] for test in results["tests"]} == {"visible"}
        results = json.loads(results_json(book.verdicts_of(ada, SEED)))
        assert results["score"] == 3
        assert [test["status"] for test in results["tests"]] == ["passed", "passed"]

    def test_keep_the_inputs_back(self):
        wrong = graded("outer_sum", verdict_on("outer_sum", lambda a, b: a[:, None] - b))
        value = f"{all_exercises()['outer_sum'].trials(SEED)[0].arguments['a'][0].item():.4f}"
        assert value not in results_json([wrong])
        assert value in results_json([wrong], show_inputs=True)

    def test_of_nothing_are_results_too(self):
        assert json.loads(results_json([], ["a.ipynb is empty."]))["score"] == 0

    def test_hold_any_text(self):
        found = difference(torch.zeros(2), torch.ones(2), "result")
        verdict = Verdict("bilinear", Status.ERROR, Fault(0, "raised", "\ud800 \x00 \u202e", found))
        assert json.loads(results_json([graded("bilinear", verdict)]))["tests"][0]["score"] == 0
