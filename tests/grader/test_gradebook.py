"""The gradebook: nothing that was committed is lost, and no file that is not ours is touched."""

import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from autograder.compare import Difference, difference
from autograder.evidence import MAX_DEPTH, Typed, encode
from autograder.exercise import all_exercises
from autograder.grader.gradebook import FILE_NAME, Gradebook, GradebookError
from autograder.grader.graded import MAX_TEXT
from autograder.judge import Fault, Status, Verdict
from tests.grader.made_up import ROOT, SEED, HandedIn, graded, halted, verdict_on


@pytest.fixture
def book(tmp_path):
    with Gradebook(tmp_path / "results") as opened:
        yield opened


def incorrect(got: torch.Tensor, expected: torch.Tensor | None = None, sentence: str = "It differs.") -> Verdict:
    expected = torch.zeros_like(got) if expected is None else expected
    return Verdict("bilinear", Status.INCORRECT, Fault(2, "value", sentence, difference(expected, got, "result")))


def contents(verdict: Verdict) -> tuple:
    """A verdict in values that can be compared, which tensors cannot."""
    fault = verdict.fault
    found = fault.difference if fault else None
    return (
        verdict.exercise,
        verdict.status,
        verdict.mistake,
        fault and (fault.trial, fault.kind, fault.sentence, fault.lines),
        found and (found.path, found.kind, found.sentence, encode(found.expected), encode(found.got)),
    )


def tampered(path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(statement)
    database.close()


def in_subprocess(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [*before, sys.executable, "-c", code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class TestWhatIsStored:
    def test_comes_back_as_it_was(self, book):
        def raises(x, W, y):
            return x.nothing

        swapped = all_exercises()["bilinear"].mistakes[0]
        verdicts = [
            graded("bilinear", verdict_on("bilinear", swapped.implementation), practice=True, seconds=0.25),
            graded("one_hot", Verdict("one_hot", Status.CORRECT)),
            halted("conv2d", Status.TIMED_OUT, "It did not end within 10 seconds."),
            graded("squared_distances", verdict_on("squared_distances", raises)),
            graded("masked_mean", Verdict("masked_mean", Status.NOT_ATTEMPTED), practice=False),
        ]
        for one in verdicts:
            book.add(one)
        book.enrol([HandedIn("Ada", "d")])
        stored = {one.exercise: one for one in book.all(SEED)}
        assert len(stored) == len(verdicts)
        for one in verdicts:
            again = stored[one.exercise]
            assert contents(again.verdict) == contents(one.verdict)
            assert replace(again, verdict=one.verdict) == replace(one, student="Ada")
        assert stored["bilinear"].verdict.mistake is swapped
        assert book.points(SEED) == {"Ada": {one.exercise: one.points for one in verdicts}}

    def test_survives_closing(self, tmp_path):
        with Gradebook(tmp_path) as book:
            book.seed = 1 << 80
            book.enrol([HandedIn("Zoë", "d", ("a.ipynb is empty.",)), HandedIn("Ada", "e")])
            book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT), "e", seed=1 << 80))
        with Gradebook(tmp_path) as book:
            assert book.seed == 1 << 80
            assert [(one.student, one.digest, one.problems) for one in book.roster()] == [
                ("Zoë", "d", ("a.ipynb is empty.",)),
                ("Ada", "e", ()),
            ]
            assert [one.exercise for one in book.all(1 << 80)] == ["one_hot"]
            assert list(book.all(5)) == []

    def test_a_finished_gradebook_is_one_file(self, tmp_path):
        with Gradebook(tmp_path) as book:
            book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT)))
        shutil.copy(tmp_path / FILE_NAME, tmp_path.parent / FILE_NAME)
        with Gradebook(tmp_path.parent, read_only=True) as copy:
            assert copy.verdicts_known("d", SEED) == {"one_hot": "spec"}

    def test_is_shared_by_equal_submissions(self, book):
        book.enrol([HandedIn("Ada", "d"), HandedIn("Ben", "d"), HandedIn("Cleo", "e")])
        book.add(graded("bilinear", Verdict("bilinear", Status.CORRECT)))
        assert [one.student for one in book.all(SEED)] == ["Ada", "Ben"]
        assert book.points(SEED) == {"Ada": {"bilinear": 2}, "Ben": {"bilinear": 2}, "Cleo": {}}

    def test_is_in_the_order_of_the_roster_and_the_book(self, book):
        book.enrol([HandedIn("Zoë", "z"), HandedIn("Ada", "a")])
        for digest in "az":
            for name in ("conv2d", "outer_sum"):
                book.add(graded(name, Verdict(name, Status.CORRECT), digest))
        assert [(one.student, one.exercise) for one in book.all(SEED)] == [
            ("Zoë", "outer_sum"),
            ("Zoë", "conv2d"),
            ("Ada", "outer_sum"),
            ("Ada", "conv2d"),
        ]

    def test_gives_way_to_the_verdict_of_a_newer_spec(self, book):
        book.enrol([HandedIn("Ada", "d")])
        book.add(graded("one_hot", Verdict("one_hot", Status.NOT_ATTEMPTED), spec="old"))
        book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT), spec="new"))
        book.add(graded("one_hot", Verdict("one_hot", Status.NOT_ATTEMPTED), spec="old", seed=5))
        assert book.verdicts_known("d", SEED) == {"one_hot": "new"}
        assert book.verdicts_known("d", 5) == {"one_hot": "old"}
        assert book.verdicts_known("e", SEED) == {}
        assert [one.points for one in book.all(SEED)] == [1]

    def test_leaves_out_exercises_that_are_no_more(self, book):
        book.enrol([HandedIn("Ada", "d")])
        book.add(replace(graded("one_hot", Verdict("one_hot", Status.CORRECT)), exercise="of_old"))
        assert list(book.all(SEED)) == []

    def test_keeps_the_sentence_of_a_value_that_is_too_large(self, book):
        book.enrol([HandedIn("Ada", "d")])
        book.add(graded("bilinear", incorrect(torch.ones(300, 300), torch.ones(2))))
        [stored] = book.all(SEED)
        assert stored.verdict.fault.difference.got == Typed("value too large to be kept")
        assert torch.equal(stored.verdict.fault.difference.expected, torch.ones(2))

    @pytest.mark.parametrize(("depth", "kept"), [(MAX_DEPTH, True), (200, False), (480, False), (5000, False)])
    def test_leaves_out_what_is_nested_to_be_unreadable(self, book, depth, kept):
        nested = None
        for _ in range(depth):
            nested = [nested]
        found = Difference("result", "type", "It differs.", 1.0, nested)
        book.enrol([HandedIn("Ada", "d")])
        book.add(graded("bilinear", Verdict("bilinear", Status.INCORRECT, Fault(0, "value", "It differs.", found))))
        [stored] = book.all(SEED)
        assert (stored.verdict.fault.difference.got == nested) == kept

    def test_holds_any_text(self, book):
        name = "Ada\udcff \x00\u202e; DROP TABLE verdict; --"
        book.enrol([HandedIn(name, "d", ("\ud800.ipynb",))])
        book.add(graded("bilinear", incorrect(torch.ones(2), sentence="\udc80" + "x" * 100_000)))
        [stored] = book.all(SEED)
        assert stored.student == name.replace("\udcff", "\\udcff")
        assert stored.verdict.fault.sentence.startswith("\\udc80xxx")
        assert len(stored.verdict.fault.sentence) < MAX_TEXT + 10


class TestWhatIsRefused:
    def refused(self, results, **options) -> str:
        with pytest.raises(GradebookError) as raised:
            Gradebook(results, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            ("PRAGMA user_version = 0", "an older version"),
            ("PRAGMA user_version = 99", "a newer version"),
            ("PRAGMA application_id = 7", "not a gradebook"),
        ],
    )
    def test_another_version_and_leaves_it_alone(self, tmp_path, statement, words):
        Gradebook(tmp_path).close()
        tampered(tmp_path / FILE_NAME, statement)
        before = (tmp_path / FILE_NAME).read_bytes()
        assert words in self.refused(tmp_path)
        assert (tmp_path / FILE_NAME).read_bytes() == before

    def test_a_database_of_somebody_else(self, tmp_path):
        tampered(tmp_path / FILE_NAME, "CREATE TABLE recipes (name)")
        before = (tmp_path / FILE_NAME).read_bytes()
        assert "not a gradebook" in self.refused(tmp_path)
        assert (tmp_path / FILE_NAME).read_bytes() == before

    def test_a_file_that_is_no_database(self, tmp_path):
        (tmp_path / FILE_NAME).write_bytes(b"Dear Sir or Madam, " * 100)
        assert "damaged" in self.refused(tmp_path)
        assert (tmp_path / FILE_NAME).read_bytes() == b"Dear Sir or Madam, " * 100

    def test_a_damaged_gradebook(self, tmp_path):
        with Gradebook(tmp_path) as book:
            for name in all_exercises():
                book.add(graded(name, incorrect(torch.randn(500))))
        path = tmp_path / FILE_NAME
        whole = path.read_bytes()
        for seed in range(100):
            chance = random.Random(seed)
            length = chance.choice([1, 10, 600])
            start = chance.randrange(len(whole) - length)
            path.write_bytes(whole[:start] + chance.randbytes(length) + whole[start + length :])
            try:
                with Gradebook(tmp_path) as book:  # what the check of the file lets pass is in no one's way
                    book.enrol([HandedIn("Ada", "d")])
                    list(book.all(SEED))
            except GradebookError as error:
                assert path.name in str(error)
        path.write_bytes(whole[: len(whole) // 2])
        assert "damaged" in self.refused(tmp_path)

    def test_a_file_in_place_of_the_folder(self, tmp_path):
        (tmp_path / "results").write_text("mine")
        assert "cannot be written" in self.refused(tmp_path / "results")
        assert "cannot be written" in self.refused(tmp_path / "results" / "below")

    def test_a_folder_in_place_of_the_file(self, tmp_path):
        (tmp_path / FILE_NAME).mkdir()
        assert FILE_NAME in self.refused(tmp_path)

    def test_reading_where_nothing_is_graded(self, tmp_path):
        assert "There is no gradebook" in self.refused(tmp_path / "results", read_only=True)
        assert not (tmp_path / "results").exists()

    def test_writing_to_a_book_that_is_open_for_reading(self, tmp_path):
        Gradebook(tmp_path).close()
        with Gradebook(tmp_path, read_only=True) as book, pytest.raises(GradebookError):
            book.seed = 5

    def test_an_empty_file_is_a_new_gradebook(self, tmp_path):
        (tmp_path / FILE_NAME).touch()
        with Gradebook(tmp_path) as book:
            assert book.seed is None


class TestTwoAtOnce:
    def test_a_second_grader_is_refused_and_a_reader_is_not(self, tmp_path):
        code = """
import sys
from pathlib import Path
from autograder.grader.gradebook import Gradebook, GradebookError
try:
    Gradebook(Path(sys.argv[1]))
except GradebookError as error:
    print(error)
with Gradebook(Path(sys.argv[1]), read_only=True) as book:
    print(len(book.verdicts_known("d", 1)))
"""
        with Gradebook(tmp_path) as book:
            book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT), seed=1))
            out, err = in_subprocess(code, str(tmp_path)).communicate()
        assert out.splitlines() == [
            f"Another grader is at work in {tmp_path}: wait until it ends, or choose another folder for results.",
            "1",
        ], err
        Gradebook(tmp_path).close()

    def test_a_refused_grader_takes_no_lock(self, tmp_path):
        (tmp_path / FILE_NAME).write_bytes(b"nonsense" * 200)
        for _ in range(2):
            with pytest.raises(GradebookError, match="damaged"):
                Gradebook(tmp_path)


ADDING = """
import itertools, os, signal, sys, time
from pathlib import Path
from autograder.grader.gradebook import Gradebook
from autograder.judge import Status, Verdict
from tests.grader.made_up import graded

verdict = Verdict("one_hot", Status.CORRECT)
for wait in sys.argv[2:]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with Gradebook(Path(sys.argv[1])) as book:
            for number in itertools.count():
                digest = f"{wait}/{number}"
                book.add(graded("one_hot", verdict, digest))
                os.write(writer, f"{digest}\\n".encode())
    os.close(writer)
    line = os.read(reader, 10)  # it has begun
    time.sleep(float(wait))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 65536):
        line += more
    print(line.decode(), end="", flush=True)
"""


class TestKilled:
    def test_at_any_moment_nothing_committed_is_lost(self, tmp_path):
        waits = [f"{random.uniform(0, 0.2):.4f}" for _ in range(10)]
        out, err = in_subprocess(ADDING, str(tmp_path), *waits).communicate()
        committed = out.split()
        assert len(committed) >= len(waits), err
        with Gradebook(tmp_path) as book:
            assert all(book.verdicts_known(digest, SEED) == {"one_hot": "spec"} for digest in committed)
        database = sqlite3.connect(tmp_path / FILE_NAME)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        [(rows,)] = database.execute("SELECT count(*) FROM verdict")
        database.close()
        assert len(committed) <= rows <= len(committed) + len(waits)  # the last one of each may not have been told

    def test_while_the_file_is_made(self, tmp_path):
        code = """
import os, signal, sys
from pathlib import Path
from autograder.grader import gradebook
gradebook._SCHEMA = gradebook._SCHEMA.partition("PRAGMA application_id")[0]  # all tables, but no COMMIT
gradebook.Gradebook._refuse_unless_ours = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
gradebook.Gradebook(Path(sys.argv[1]))
"""
        process = in_subprocess(code, str(tmp_path))
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        with Gradebook(tmp_path) as book:
            assert book.roster() == []


class TestFullDisk:
    def test_says_so_and_keeps_what_is_there(self, tmp_path):
        with Gradebook(tmp_path) as book:
            book.enrol([HandedIn("Ada", "d")])
            book.add(graded("one_hot", Verdict("one_hot", Status.CORRECT)))
            [(pages,)] = book._database.execute("PRAGMA page_count")
            book._database.execute(f"PRAGMA max_page_count = {pages + 1}")
            with pytest.raises(GradebookError, match=r"disk of .* is full\. What was graded before is kept"):
                for _ in range(2):
                    book.add(graded("bilinear", incorrect(torch.randn(5000))))
            assert [one.exercise for one in book.all(SEED)] == ["one_hot"]
        with Gradebook(tmp_path) as book:
            book.add(graded("bilinear", incorrect(torch.randn(5000))))
            assert [one.exercise for one in book.all(SEED)] == ["one_hot", "bilinear"]

    def test_on_a_real_disk(self, tmp_path):
        confine = ("unshare", "--user", "--map-root-user", "--mount")
        if not shutil.which("unshare") or subprocess.run([*confine, "true"], capture_output=True).returncode:
            pytest.skip("A small disk needs a user namespace, which this machine does not give.")
        code = """
import json, sqlite3, subprocess, sys, torch
from pathlib import Path
from autograder.grader.gradebook import Gradebook, GradebookError
from tests.grader.made_up import SEED, HandedIn, graded
from tests.grader.test_gradebook import incorrect

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", folder], check=True)
committed, sentence = 0, ""
book = Gradebook(folder)
try:
    for number in range(1000):
        book.add(graded("bilinear", incorrect(torch.randn(900)), f"d{number}"))
        committed += 1
except GradebookError as error:
    sentence = str(error)
book.close()
subprocess.run(["mount", "-o", "remount,size=20m", folder], check=True)
with Gradebook(folder) as book:
    kept = sum(bool(book.verdicts_known(f"d{number}", SEED)) for number in range(1000))
    [check] = book._database.execute("PRAGMA integrity_check").fetchone()
print(json.dumps([committed, kept, check, sentence]))
"""
        out, err = in_subprocess(code, str(tmp_path), before=confine).communicate()
        assert out, err
        committed, kept, check, sentence = json.loads(out)
        assert 0 < committed == kept < 1000
        assert check == "ok"
        assert "is full" in sentence or "cannot be written" in sentence


def test_a_verdict_costs_less_than_half_a_millisecond(book):
    one = graded("bilinear", incorrect(torch.randn(5, 7)))
    costs = []
    for number in range(500):
        start = time.perf_counter()
        book.add(replace(one, digest=f"d{number}"))
        costs.append(time.perf_counter() - start)
    assert statistics.median(costs) < 0.0005
