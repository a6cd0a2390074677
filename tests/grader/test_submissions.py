"""A heap as instructors have it gives each student exactly what is theirs, or one sentence."""

import io
import json
import os
import re
import resource
import stat
import struct
import time
import unicodedata
import warnings
import zipfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from autograder.grader import submissions
from autograder.grader.heap import MAX_FILES
from autograder.grader.notebooks import MAX_BYTES
from autograder.grader.submissions import Submission, SubmissionsError, find_submissions, show
from tests.grader.test_notebooks import notebook

MOODLE = "{}_{}_assignsubmission_file_/{}"


def write_folder(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Files, each given by its cells' only code, or by its bytes. A name that ends in / is an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(as_bytes(name, content))
    return folder


def as_bytes(name: str, content: bytes | str) -> bytes:
    if isinstance(content, bytes):
        return content
    return notebook(content) if ".ipynb" in name else content.encode()


def zipped(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, as_bytes(name, content))
    return stream.getvalue()


def cells(found: list[Submission]) -> dict[str, list[str]]:
    return {submission.student: [cell.strip() for cell in submission.cells] for submission in found}


def problems(found: list[Submission]) -> dict[str, list[str]]:
    return {submission.student: list(submission.problems) for submission in found}


# --- layouts --------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "a file per student": (
        {"alice.ipynb": "a", "bob.py": "b", "carl_7.ipynb.txt": "c", "README.md": "", "data/faces.csv": ""},
        {"alice": ["a"], "bob": ["b"], "carl_7": ["c"]},
    ),
    "one student's file in a folder": ({"homework/alice.ipynb": "a"}, {"alice": ["a"]}),
    "a folder per student": (
        {"alice/01_tensors.ipynb": "a1", "alice/02_autograd.ipynb": "a2", "bob/01_tensors.ipynb": "b"},
        {"alice": ["a1", "a2"], "bob": ["b"]},
    ),
    "a folder per student, names of their own": (
        {"alice/answers.ipynb": "a", "bob/Untitled3.ipynb": "b", "carl/hw_1_2_final.py": "c"},
        {"alice": ["a"], "bob": ["b"], "carl": ["c"]},
    ),
    "one level deeper": (
        {"alice/exercises/01_tensors.ipynb": "a", "bob/my work/01_tensors.ipynb": "b", "bob/02_data.py": "b2"},
        {"alice": ["a"], "bob": ["b", "b2"]},
    ),
    "one student's folder": ({"alice/01_tensors.ipynb": "a", "alice/02_autograd.ipynb": "b"}, {"alice": ["a", "b"]}),
    "one student's folder, deeper": ({"hw1/alice/exercises/01_tensors.ipynb": "a"}, {"alice": ["a"]}),
    "files and folders mixed": (
        {"alice.ipynb": "a", "bob/01_tensors.ipynb": "b", "bob.py": "b2"},
        {"alice": ["a"], "bob": ["b", "b2"]},
    ),
    "wrapped twice": (
        {"hw/one/alice.ipynb": "a", "hw/one/bob/01_tensors.ipynb": "b", "hw/notes.txt": ""},
        {"alice": ["a"], "bob": ["b"]},
    ),
    "the starter left lying beside": (
        {"hw/01_tensors.ipynb": "s", "hw/alice/01_tensors.ipynb": "a", "hw/bob/01_tensors.ipynb": "b"},
        {"01_tensors": ["s"], "alice": ["a"], "bob": ["b"]},
    ),
    "a folder per chapter": (
        {"01_tensors/alice.ipynb": "a", "01_tensors/bob.ipynb": "b", "exercises/alice.ipynb": "a2"},
        {"alice": ["a", "a2"], "bob": ["b"]},
    ),
    "numbers for names": (
        {"20231234.ipynb": "a", "12_smith.ipynb": "b", "13_jones.ipynb": "c"},
        {"12_smith": ["b"], "13_jones": ["c"], "20231234": ["a"]},
    ),
    "a zip per student": (
        {
            "alice.zip": zipped({"01_tensors.ipynb": "a", "02_data.ipynb": "a2"}),
            "bob.ZIP": zipped({"bob's/work/x.py": "b"}),
        },
        {"alice": ["a", "a2"], "bob": ["b"]},
    ),
    "nbgrader": (
        {
            "submitted/alice/ps1/problem2.ipynb": "a2",
            "submitted/alice/ps1/problem1.ipynb": "a1",
            "submitted/alice/ps1/timestamp.txt": "",
            "submitted/bob/ps1/problem1.ipynb": "b1",
            "submitted/carl/ps1/timestamp.txt": "",
            "submitted/notes.txt": "",
            "source/ps1/problem1.ipynb": "secret",
            "release/ps1/problem1.ipynb": "r",
            "nbgrader_config.py": "c",
        },
        {"alice": ["a1", "a2"], "bob": ["b1"], "carl": []},
    ),
    "a student's folder called as Moodle calls others'": (
        {
            "alice/01_tensors.ipynb": "a",
            "mallory/01_tensors.ipynb": "m",
            "mallory/alice_assignsubmission_file_/99_x.ipynb": "evil",
        },
        {"alice": ["a"], "mallory": ["m", "evil"]},
    ),
    "copies of a notebook": (
        {"alice/01_tensors.ipynb": "starter", "alice/01_tensors (1).ipynb": "a", "bob/01_tensors-solved.ipynb": "b"},
        {"alice": ["starter", "a"], "bob": ["b"]},
    ),
    "nbgrader with one student": ({"course/submitted/alice/ps1/problem1.ipynb": "a"}, {"alice": ["a"]}),
    "a student's folder called submitted": (
        {"alice/submitted/ps1/x/01_tensors.ipynb": "a", "bob/01_tensors.ipynb": "b"},
        {"alice": ["a"], "bob": ["b"]},
    ),
    "Canvas": (
        {
            "doejane_LATE_12345_67890_01_tensors-2.ipynb": "new",
            "doejane_LATE_12345_67001_01_tensors-1.ipynb": "old",
            "doejane_LATE_12345_66000_01_tensors.ipynb": "oldest",
            "doejane_LATE_12345_67891_02_data.ipynb": "two",
            "smithjohn_222_68000_hw-1.ipynb": "s1",
            "smithjohn_222_68001_hw-2.ipynb": "s2",
            "van_der_berg2_333_68002_12_34_x.py": "v",
            "müllerzoë_444_68003_work.zip": zipped({"in/01_tensors.ipynb": "m"}),
            "leejin_555_text.html": "",
            "leeann_LATE_666_68004_essay.pdf": b"%PDF",
            "anon_x1y2z_68005_01_tensors.ipynb": "anon",
            "LATE_anon_q9_68006_01_tensors.ipynb": "late anon",
        },
        {
            "anon (q9)": ["late anon"],
            "anon (x1y2z)": ["anon"],
            "doejane (12345)": ["new", "two"],
            "leeann (666)": [],
            "leejin (555)": [],
            "müllerzoë (444)": ["m"],
            "smithjohn (222)": ["s1", "s2"],
            "van_der_berg2 (333)": ["v"],
        },
    ),
    "Canvas, namesakes": (
        {"doejane_1_10_01_tensors.ipynb": "a", "doejane_2_11_01_tensors.ipynb": "b", "bob.ipynb": "by mail"},
        {"bob": ["by mail"], "doejane (1)": ["a"], "doejane (2)": ["b"]},
    ),
    "numbered files that are not Canvas's": (
        {"hw_1_2_alice.ipynb": "a", "hw_1_2_bob.ipynb": "b"},
        {"hw_1_2_alice": ["a"], "hw_1_2_bob": ["b"]},
    ),
    "Moodle": (
        {
            MOODLE.format("Zoë O'Brien", 123456, "01_tensors.ipynb"): "z1",
            MOODLE.format("Zoë O'Brien", 123456, "deeper/02_data.ipynb"): "z2",
            "Zoë O'Brien_123456_assignsubmission_onlinetext_/onlinetext.html": "",
            "Jane Doe_7_assignsubmission_file/01_tensors.ipynb": "j7",  # newer versions end without _
            MOODLE.format("Jane Doe", 8, "01_tensors.ipynb"): "j8",
            MOODLE.format("Nested Ned", 9, "work.zip"): zipped({"x/01_tensors.ipynb": "n1", "x/02_data.ipynb": "n2"}),
            MOODLE.format("Word Wendy", 10, "essay.docx"): b"PK",
            "Flat Fred_11_assignsubmission_file_01_tensors.ipynb": "f1",
            "Flat Fred_11_assignsubmission_file_work.zip": zipped({"02_data.ipynb": "f2"}),
            "Default group_assignsubmission_file/01_tensors.ipynb": "g",
            "grades.csv": "",
        },
        {
            "Default group": ["g"],
            "Flat Fred (11)": ["f1", "f2"],
            "Jane Doe (7)": ["j7"],
            "Jane Doe (8)": ["j8"],
            "Nested Ned (9)": ["n1", "n2"],
            "Word Wendy (10)": [],
            "Zoë O'Brien (123456)": ["z1", "z2"],
        },
    ),
    "Moodle, one student": ({MOODLE.format("Jane Doe", 7, "hw/answers.ipynb"): "j"}, {"Jane Doe (7)": ["j"]}),
    "Moodle, two downloads": (
        {"one/" + MOODLE.format("Jane Doe", 7, "a.ipynb"): "1", "two/" + MOODLE.format("Joe", 8, "a.ipynb"): "2"},
        {"Jane Doe (7)": ["1"], "Joe (8)": ["2"]},
    ),
    "Moodle, a folder in another's name": (
        {
            MOODLE.format("Bob", 1, "a.ipynb"): "b",
            MOODLE.format("Eve", 2, MOODLE.format("Bob", 1, "a.ipynb")): "e",
            MOODLE.format("Eve", 2, "x.zip"): zipped({"../../" + MOODLE.format("Bob", 1, "a.ipynb"): "e"}),
        },
        {"Bob (1)": ["b"], "Eve (2)": ["e"]},
    ),
    "Canvas, a file in another's name": (
        {"bob_1_10_a.ipynb": "b", "eve_2_11_bob_1_10_a.ipynb": "e", "eve_2_12_x.zip": zipped({"bob_1_13_a.py": "e2"})},
        {"bob (1)": ["b"], "eve (2)": ["e", "e2"]},
    ),
    "a checkout of the course": (
        {
            "alice/exercises/01_tensors.ipynb": "a",
            "alice/chapters/01_tensors.ipynb": "no",
            "alice/autograder/judge.py": "no",
            "bob/bobs-copy/exercises/01_tensors.ipynb": "b",
            "bob/bobs-copy/autograder/specs/tensors.py": "no",
            "bob/mine.ipynb": "b2",
        },
        {"alice": ["a"], "bob": ["b", "b2"]},
    ),
    "what no student wrote": (
        {
            "alice/01_tensors.ipynb": "a",
            "alice/.ipynb_checkpoints/01_tensors-checkpoint.ipynb": "no",
            "alice/.venv/x.py": "no",
            "alice/__pycache__/x.py": "no",
            "alice/venv/lib/python3.11/site-packages/x.py": "no",
            "bob/01_tensors.ipynb": "b",
            "__MACOSX/bob/._01_tensors.ipynb": b"\0",
            ".DS_Store": b"\0",
        },
        {"alice": ["a"], "bob": ["b"]},
    ),
    "folders with nothing to read": (
        {"alice/a.ipynb": "a", "bob/": "", "carl/essay.pdf": "", "dora/deep/er/x.txt": "", "emil/e.py": "e"},
        {"alice": ["a"], "bob": [], "carl": [], "dora": [], "emil": ["e"]},
    ),
    "chapters in the order of their numbers": (
        {
            "bob/x.py": "",
            "alice/10_diffusers.ipynb": "10",
            "alice/9 peft.ipynb": "9",
            "alice/notes.py": "notes",
            "alice/Copy of 02_autograd (1).ipynb": "2 (1)",
            "alice/02_autograd.ipynb": "2",
            "alice/alice_03_data.ipynb": "3",
            "alice/04_modules/part10.ipynb": "4.10",
            "alice/04_modules/part2.ipynb": "4.2",
        },
        {"alice": ["2", "2 (1)", "3", "4.2", "4.10", "9", "10", "notes"], "bob": []},
    ),
    "both files of a jupytext pair": (
        {
            "alice/01_tensors.ipynb": "nb",
            "alice/01_tensors.py": "py",
            "alice/02_data.py": "2",
            "bob.ipynb": "nb",
            "bob.py": "py",
            "carl/01_tensors.ipynb": b"{",
            "carl/01_tensors.py": "py",
        },
        {"alice": ["nb", "2"], "bob": ["nb"], "carl": ["py"]},
    ),
    "odd names": (
        {
            "..dots../01_tensors.ipynb": "hidden",
            "👩‍💻 Ada/01_tensors.ipynb": "ada",
            "a\u202egpj.b/01_tensors.ipynb": "rtl",
            "tab\tand\nline/01_tensors.ipynb": "control",
            "=cmd()/01_tensors.ipynb": "formula",
            "Alice/01_tensors.ipynb": "A",
            "alice/01_tensors.ipynb": "a",
            "\u200e/01_tensors.ipynb": "invisible",
            "Zoe\u0308/01_tensors.ipynb": "decomposed",
            "Zoë/01_tensors.ipynb": "composed",
            "%2e%2e%2fetc/01_tensors.ipynb": "quoted",
        },
        {
            "%2e%2e%2fetc": ["quoted"],
            "=cmd()": ["formula"],
            "Alice": ["A"],
            "Zoë": ["composed"],
            "Zoë (2)": ["decomposed"],
            "agpj.b": ["rtl"],
            "alice": ["a"],
            "nameless": ["invisible"],
            "tab and line": ["control"],
            "👩‍💻 Ada": ["ada"],
        },
    ),
}


@pytest.mark.parametrize(("files", "expected"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "zip", "wrapped zip", "zip in a folder"])
def test_layouts(tmp_path, form, files, expected):
    heap_of = tmp_path / "heap"
    if form == "folder":
        write_folder(heap_of, files)
    elif form == "zip":
        heap_of = tmp_path / "heap.zip"
        heap_of.write_bytes(zipped(files))
    elif form == "wrapped zip":
        heap_of = tmp_path / "heap.zip"
        heap_of.write_bytes(zipped({f"All submissions/{name}": content for name, content in files.items()}))
    else:
        write_folder(heap_of, {"download.zip": zipped(files)})
    found = find_submissions(heap_of)
    assert cells(found) == {student: [cell for cell in code if cell] or ANY_EMPTY for student, code in expected.items()}
    assert list(cells(found)) == list(expected)  # sorted
    assert found == find_submissions(heap_of)


class _AnyEmpty:
    """Equal to no cells, and to cells without code."""

    def __eq__(self, other: object) -> bool:
        return not any(other)


ANY_EMPTY = _AnyEmpty()


def test_the_folder_submitted_itself(tmp_path):
    files = {"submitted/alice/ps1/problem1.ipynb": "a", "submitted/alice/ps1/problem2.ipynb": "b"}
    write_folder(tmp_path, files)
    assert cells(find_submissions(tmp_path / "submitted")) == {"alice": ["a", "b"]}


def test_a_folder_of_chapters_is_one_student_with_the_name_of_the_heap(tmp_path):
    files = {"01_tensors.ipynb": "1", "02_mine.ipynb": "2", "README.md": ""}
    assert cells(find_submissions(write_folder(tmp_path / "alice", files))) == {"alice": ["1", "2"]}
    (tmp_path / "bob.zip").write_bytes(zipped(files))
    assert cells(find_submissions(tmp_path / "bob.zip")) == {"bob": ["1", "2"]}


def test_a_single_file_is_one_student(tmp_path):
    write_folder(tmp_path, {"alice.ipynb": "a", "bob.py": "b", "carl.ipynb": b"", ".py": "d"})
    assert cells(find_submissions(tmp_path / "alice.ipynb")) == {"alice": ["a"]}
    assert cells(find_submissions(tmp_path / "bob.py")) == {"bob": ["b"]}
    assert problems(find_submissions(tmp_path / "carl.ipynb")) == {"carl": ["carl.ipynb is empty."]}
    assert cells(find_submissions(tmp_path / ".py")) == {"nameless": ["d"]}


def test_the_present_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_folder(tmp_path / "alice", {"01_tensors.ipynb": "a"}))
    assert cells(find_submissions(Path("."))) == {"alice": ["a"]}


def test_a_digest_tells_submissions_apart_and_nothing_else(tmp_path):
    files = {"a/x.py": "x=1\ny=2", "b/x.py": "x=1\ny=2", "c/x.py": "x=1\ny=3", "d/x.ipynb": b"", "e/y.ipynb": b""}
    a, b, c, d, e = (submission.digest for submission in find_submissions(write_folder(tmp_path, files)))
    assert a == b and len({a, c, d, e}) == 4 and re.fullmatch("[0-9a-f]{64}", a)


# --- unusable heaps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nowhere", None, "There is no file or folder nowhere."),
        ("x" * 300, None, "cannot be read: File name too long."),
        ("a\0b", None, "There is no file or folder ab."),
        ("empty", {}, "empty holds no notebook (.ipynb or .py): name the folder or zip that does."),
        ("texts", {"a.txt": "", "b/c.pdf": ""}, "texts holds no notebook (.ipynb or .py)"),
        ("empty.zip", zipped({}), "empty.zip holds no notebook"),
        ("zero.zip", b"", "zero.zip is not a zip file, or only a part of one: download it again."),
        ("cut.zip", zipped({"a.ipynb": "a"})[:-30], "cut.zip is not a zip file, or only a part of one"),
        ("garbage.zip", b"PK\3\4" + bytes(range(256)) * 9, "garbage.zip is not a zip file"),
        ("a.tar.gz", b"\x1f\x8b\x08", "a.tar.gz is not a zip file"),
        ("pipe", "pipe", "pipe is neither a folder nor a file."),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) and " " not in value else "",
)
def test_an_unusable_heap_is_one_sentence(tmp_path, monkeypatch, name, content, sentence):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    if content == "pipe":
        os.mkfifo(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write_folder(path, content).mkdir(exist_ok=True)
    with pytest.raises(SubmissionsError) as error:
        find_submissions(path)
    assert sentence in str(error.value) and "\n" not in str(error.value) and str(error.value).endswith(".")


def encrypted(data: bytes) -> bytes:
    """A zip whose entries say that they are encrypted."""
    data = bytearray(data)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for match in re.finditer(re.escape(signature), bytes(data)):
            data[match.start() + offset] |= 1
    return bytes(data)


def test_a_zip_with_a_password_is_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(encrypted(zipped({"a.ipynb": "a"})))
    with pytest.raises(SubmissionsError, match=r"x\.zip is protected by a password: unpack it\.$"):
        find_submissions(tmp_path / "x.zip")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_heap_that_may_not_be_read(tmp_path):
    folder = write_folder(tmp_path / "heap", {"a/x.py": "x", "b/x.py": "x", "c.py": "x"})
    (folder / "a").chmod(0)
    (folder / "c.py").chmod(0)
    found = problems(find_submissions(folder))
    assert found == {
        "a": ["a cannot be read: Permission denied."],
        "b": [],
        "c": ["c.py cannot be read: Permission denied."],
    }
    folder.chmod(0)
    with pytest.raises(SubmissionsError, match="cannot be read: Permission denied"):
        find_submissions(folder)


# --- bad files cost their own student, and say so -------------------------------------------------------------------


def test_bad_files_cost_only_themselves(tmp_path):
    files = {
        "alice/01_tensors.ipynb": b"{broken",
        "alice/02_data.ipynb": "a2",
        "bob/01_tensors.ipynb": b"",
        "carl/01_tensors.ipynb": b" " * (MAX_BYTES + 5),
        "dora/01_tensors.ipynb": "x = 'é'".encode("utf-16"),
        "dora/02_data.py": "x = 'é'".encode("latin-1"),
        "emil/slides.pdf": "",
        "emil/a.txt": "",
        "emil/b.txt": "",
        "emil/c.txt": "",
        "fred.zip": b"PK garbage",
        "gina.zip": encrypted(zipped({"01_tensors.ipynb": "g"})),
        "hugo.zip": zipped({"a.zip": zipped({"b.zip": zipped({"01_tensors.ipynb": "h"})}), "x.py": "x"}),
        "inga.zip": zipped({f"{i}.txt": b"" for i in range(MAX_FILES + 1)}),
        "jens/\tx\u202e.ipynb": b"",
    }
    found = find_submissions(write_folder(tmp_path, files))
    assert problems(found) == {
        "alice": ["01_tensors.ipynb is not a notebook: its JSON is broken at line 1."],
        "bob": ["01_tensors.ipynb is empty."],
        "carl": ["01_tensors.ipynb is larger than 20 MB: clear its outputs, then save it again."],
        "dora": ["01_tensors.ipynb is not a notebook: its JSON is broken at line 1."],
        "emil": ["No notebook (.ipynb or .py) was handed in, only a.txt, b.txt, c.txt and others."],
        "fred": ["fred.zip is not a zip file, or only a part of one: download it again."],
        "gina": ["gina.zip is protected by a password: unpack it."],
        "hugo": ["a.zip/b.zip is a zip in a zip in a zip: unpack it."],
        "inga": ["inga.zip holds 10,001 files: at most 10,000 are read."],
        "jens": ["x.ipynb is empty."],
    }
    assert cells(found)["alice"] == ["a2"] and cells(found)["dora"] == ["x = 'é'"] and cells(found)["hugo"] == ["x"]


def test_too_many_notebooks_and_too_much_to_read(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_NOTEBOOKS", 3)
    monkeypatch.setattr(submissions, "MAX_STUDENT_BYTES", 2 << 20)
    large = notebook("x") + b" " * (3 << 19)
    write_folder(tmp_path, {f"alice/{i}.py": "x" for i in range(5)} | {f"bob/0{i}_x.ipynb": large for i in range(2)})
    found = find_submissions(tmp_path)
    assert cells(found) == {"alice": ["x"] * 3, "bob": ["x"]}
    assert problems(found) == {
        "alice": ["Of 5 notebooks the first 3 were read."],
        "bob": ["01_x.ipynb was not read, since all files before it hold 2 MB."],
    }


# --- links, and other things that are no files ----------------------------------------------------------------------


def test_links_are_not_followed_and_said(tmp_path):
    outside = write_folder(tmp_path / "outside", {"secret.ipynb": "secret", "deep/01_tensors.ipynb": "secret"})
    folder = write_folder(tmp_path / "heap", {"alice/01_tensors.ipynb": "a", "bob/02_data.ipynb": "b"})
    (folder / "bob/01_tensors.ipynb").symlink_to(outside / "secret.ipynb")
    (folder / "bob/03_alice.ipynb").symlink_to(folder / "alice/01_tensors.ipynb")  # nor into another's work
    (folder / "carl").symlink_to(outside, target_is_directory=True)
    (folder / "dora.ipynb").symlink_to("nowhere")
    (folder / "emil").mkdir()
    (folder / "emil/up").symlink_to("..")
    sentence = "is a symbolic link, which is not followed: put the file itself in its place."
    found = find_submissions(folder)
    assert cells(found) == {"alice": ["a"], "bob": ["b"], "carl": [], "dora": [], "emil": []}
    assert problems(found) == {
        "alice": [],
        "bob": [f"01_tensors.ipynb {sentence}", f"03_alice.ipynb {sentence}"],
        "carl": [f"carl {sentence}"],
        "dora": [f"dora.ipynb {sentence}"],
        "emil": [f"up {sentence}"],
    }


def test_results_in_the_heap_are_nobodys(tmp_path):
    files = {"alice/x.py": "a", "bob/x.py": "b", "results/gradebook.sqlite": b"", "results/feedback/alice.html": ""}
    assert list(cells(find_submissions(write_folder(tmp_path, files)))) == ["alice", "bob"]


def test_the_results_of_a_run_that_was_killed_are_nobodys(tmp_path):
    write_folder(tmp_path, {"alice/x.py": "a", "bob/x.py": "b", "results/gradebook.sqlite": b""})
    assert list(cells(find_submissions(tmp_path, results=tmp_path / "results"))) == ["alice", "bob"]


def test_a_name_that_is_cleaned_takes_no_real_one(tmp_path):
    write_folder(tmp_path, {"alice.py": "a", " alice.py": "m", "\x01alice.py": "n"})
    assert cells(find_submissions(tmp_path))["alice"] == ["a"]


def test_where_each_notebook_begins_is_known(tmp_path):
    write_folder(tmp_path, {"a/01_tensors.py": "# %%\nx\n# %%\ny", "a/02_data.py": b"\xff\xfe", "a/03_more.py": "z"})
    [found] = find_submissions(tmp_path)
    assert [cell.strip() for cell in found.cells] == ["x", "y", "z"] and found.starts == (1, 3)


def test_a_link_to_the_heap_is_the_instructors_own_and_followed(tmp_path):
    write_folder(tmp_path / "heap", {"alice.py": "a"})
    (tmp_path / "link").symlink_to("heap")
    assert cells(find_submissions(tmp_path / "link")) == {"alice": ["a"]}


def test_a_pipe_blocks_nothing(tmp_path):
    write_folder(tmp_path, {"alice.py": "a"})
    os.mkfifo(tmp_path / "bob.py")
    assert problems(find_submissions(tmp_path)) == {"alice": [], "bob": ["bob.py is neither a file nor a folder."]}


def test_folders_without_end(tmp_path):
    write_folder(tmp_path, {"bob.py": "b", "/".join(["alice"] + ["x"] * 60) + "/x.py": "a"})
    found = problems(find_submissions(tmp_path))
    assert found["bob"] == [] and found["alice"][0].endswith("/x lies in more than 20 folders.")


def test_file_names_that_are_not_utf_8(tmp_path):
    write_folder(tmp_path, {"bob.py": "b"})
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/Zo\xeb.py"))).write_text("z")
    assert cells(find_submissions(tmp_path)) == {"Zoë": ["z"], "bob": ["b"]}


# --- hostile zips ---------------------------------------------------------------------------------------------------


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def zip_of(*entries: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for info, data in entries:
            archive.writestr(info, data, compress_type=method)
    return stream.getvalue()


GOOD = ("bob/01_tensors.ipynb", notebook("b"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (zip_of(("../../alice.ipynb", b"x"), GOOD), {"alice.ipynb has a path that leads out of its zip"}),
        (zip_of(("/etc/alice.ipynb", b"x"), GOOD), {"alice.ipynb has a path that leads out of its zip"}),
        (zip_of(("C:\\a\\alice.ipynb", b"x"), GOOD), {"a/alice.ipynb has a path that leads out of its zip"}),
        (zip_of(("a/..\\..\\alice.ipynb", b"x"), GOOD), {"alice.ipynb has a path that leads out of its zip"}),
        (
            zip_of((entry("alice.ipynb", stat.S_IFLNK | 0o777), b"/etc/passwd"), GOOD),
            {"alice.ipynb is a symbolic link"},
        ),
        (zip_of(("alice.ipynb", b"0" * (1 << 21)), GOOD), {"alice.ipynb unpacks to more than 200 times its size"}),
        (zip_of(("alice.zip", zip_of(("x.py", b"0" * (1 << 21)))), GOOD), {"x.py unpacks to more than 200 times"}),
        (zip_of(("alice.ipynb", b"x"), GOOD, method=zipfile.ZIP_LZMA), {"is packed by an uncommon method"}),
        (zip_of(("alice/" + "a/" * 32_000 + "x.ipynb", b"x"), GOOD), {"lies in more than 20 folders"}),
        (zip_of((entry("alice\\01_tensors.ipynb"), notebook("a")), GOOD), set()),
        (zip_of(("alice.ipynb", notebook("old")), ("alice.ipynb", notebook("a")), GOOD), set()),
        (zip_of(("./alice//01_tensors.ipynb", notebook("a")), GOOD), set()),
    ],
)
def test_hostile_zips(tmp_path, data, expected):
    (tmp_path / "heap.zip").write_bytes(data)
    before = sorted(tmp_path.iterdir())
    found = find_submissions(tmp_path / "heap.zip")
    said = " ".join(sentence for submission in found for sentence in submission.problems)
    assert all(sentence in said for sentence in expected) and bool(said) == bool(expected)
    if "uncommon" not in said:
        assert cells(found)["bob"] == ["b"]
    if not expected:
        assert cells(found)["alice"] == ["a"]
    assert sorted(tmp_path.iterdir()) == before  # nothing was unpacked


def test_a_zip_whose_entries_lie_about_their_size(tmp_path):
    data = bytearray(zip_of(("alice.py", b"x = 1\n" * 1000), ("bob.py", b"x")))
    for match in re.finditer(b"PK\1\2", bytes(data)):
        if data[match.start() + 46 : match.start() + 51] == b"alice":
            struct.pack_into("<L", data, match.start() + 24, 100)
    (tmp_path / "x.zip").write_bytes(data)
    found = find_submissions(tmp_path / "x.zip")
    assert problems(found) == {"alice": ["alice.py is damaged in its zip: download it again."], "bob": []}


def test_names_in_zips_that_do_not_say_their_encoding(tmp_path):
    for raw, name in [("Zoë".encode(), "Zoë"), ("Zoë".encode("cp437"), "Zoë")]:
        data = zip_of(("Zxxx"[: len(raw)] + ".py", b"z"), ("bob.py", b"b"))
        (tmp_path / "x.zip").write_bytes(data.replace(b"Zxxx"[: len(raw)], raw))
        assert cells(find_submissions(tmp_path / "x.zip")) == {name: ["z"], "bob": ["b"]}


def test_a_long_name_is_cut(tmp_path):
    (tmp_path / "x.zip").write_bytes(zip_of(("a" * 60_000 + "/01_tensors.ipynb", b""), GOOD))
    students = list(problems(find_submissions(tmp_path / "x.zip")))
    assert len(students) == 2 and all(len(student) <= 120 for student in students)


NESTED = zip_of(("in/01_tensors.ipynb", notebook("a" * 50)), ("x.py", b"x = 1\n"))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(NESTED) - 1), st.integers(0, 255)), max_size=5),
    st.integers(0, len(NESTED)),
)
def test_a_damaged_zip_costs_only_its_student(tmp_path, changes, length):
    data = bytearray(NESTED)
    for position, value in changes:
        data[position] = value
    (tmp_path / "heap.zip").write_bytes(zipped({"alice.zip": bytes(data[:length]), "bob/01_tensors.ipynb": "b"}))
    found = {submission.student: submission for submission in find_submissions(tmp_path / "heap.zip")}
    assert found["bob"].cells == ("b",) and found["bob"].problems == ()
    assert set(found) <= {"alice", "bob"}


# --- names ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_shown_name_is_one_clean_line(text):
    shown = show(text)
    assert len(shown) <= 120 and shown == " ".join(shown.split())
    assert {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    shown.encode()
    assert show(shown) == shown


# --- a class --------------------------------------------------------------------------------------------------------


def test_a_class_of_a_thousand_is_read_in_seconds_with_few_files_open(tmp_path):
    """A thousand students with two notebooks each, one in three as a zip in Moodle's zip."""
    output = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo" * 2000}}
    work = [f"def exercise_{i}(x):\n    return x + {i}\n" for i in range(20)]
    one = json.loads(notebook(*work, "%matplotlib inline\n!pip install x"))
    one["cells"][0]["outputs"] = [output]
    data = json.dumps(one).encode()
    two = {"01_tensors.ipynb": data, "02_data.ipynb": data}
    files = {}
    for i in range(1000):
        mine = {"work.zip": zipped(two)} if i % 3 == 0 else two
        files |= {MOODLE.format(f"Student {i}", i, name): content for name, content in mine.items()}
    (tmp_path / "moodle.zip").write_bytes(zipped(files))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        start = time.process_time()
        found = find_submissions(tmp_path / "moodle.zip")
        seconds = time.process_time() - start
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 1000 and all(len(submission.cells) == 42 for submission in found)
    assert len({submission.digest for submission in found}) == 1
    assert seconds < 10  # about 1


def test_many_zips_in_a_folder_are_not_all_open_at_once(tmp_path):
    one = zipped({"01_tensors.ipynb": "a", "02_data.ipynb": "b"})
    write_folder(tmp_path, {f"student{i:03}.zip": one for i in range(200)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
    try:
        assert all(len(submission.cells) == 2 for submission in find_submissions(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
