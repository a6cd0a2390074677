"""A class through the whole pipe, by the command that an instructor types."""

import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch

from autograder.evidence import encode
from autograder.exercise import all_exercises
from autograder.grader.gradebook import Gradebook
from autograder.grader.grading import GradingError, Marker, preflight
from autograder.grader.grading import grade as grade_class
from autograder.grader.reports import write_reports
from autograder.grader.submissions import Submission
from autograder.sandbox import Job, Outcome
from autograder.specs import CHAPTERS
from tests.autograder.book import ROOT, chapter_source
from tests.grader.generated_class import ATTACKS, EXERCISES, IMPORTS, RIGHT, write_class

COURSE = str(Path(sys.executable).parent / "course")
SEED = "7"
SIZE = int(os.environ.get("CLASS_SIZE", "60"))  # CLASS_SIZE=1000 for the whole proof, which takes 20 minutes
KILLS = 10 if SIZE >= 1000 else 5  # a small class is soon graded: later kills find it done
POINTS = {name: all_exercises()[name].points for name in EXERCISES}


def course(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [COURSE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **options)


def grade(submissions: Path, to: Path, *more: object) -> subprocess.CompletedProcess:
    return course("grade", submissions, "--to", to, "--seed", SEED, "--exercises", *EXERCISES, *more)


def grades(results: Path) -> dict[str, dict[str, str]]:
    """grades.csv by student."""
    with (results / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["Student"]: row for row in csv.DictReader(file)}


def verdicts(results: Path) -> list[tuple]:
    """All that the gradebook holds, but for times and memory."""
    with sqlite3.connect(results / "gradebook.sqlite") as book:
        columns = (
            "student, exercise, seed, status, mistake, trial, kind, sentence, expected, got, points, reason, practice"
        )
        return book.execute(f"SELECT {columns} FROM roster JOIN verdict USING (digest) ORDER BY 1, 2").fetchall()


@pytest.fixture(scope="module")
def submissions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("class") / "submissions"
    write_class(folder, SIZE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(submissions, tmp_path_factory) -> Path:
    """The results of a run that nothing disturbed."""
    results = tmp_path_factory.mktemp("undisturbed") / "results"
    run = grade(submissions, results)
    assert run.returncode == 0, run.stderr
    return results


def test_every_submission_gets_every_verdict_and_its_pages(undisturbed):
    assert len(verdicts(undisturbed)) == SIZE * len(EXERCISES)
    assert len(grades(undisturbed)) == SIZE
    assert len(list((undisturbed / "feedback").glob("student*.html"))) == SIZE
    assert "one_hot" in (undisturbed / "class.html").read_text("utf-8")
    statuses = {row[3] for row in verdicts(undisturbed)}
    assert {"correct", "incorrect", "error", "not attempted", "out of memory", "crashed"} <= statuses


def test_the_same_seed_gives_the_same_verdicts(submissions, undisturbed, tmp_path):
    assert grade(submissions, tmp_path / "again", "--workers", 1).returncode == 0
    assert verdicts(tmp_path / "again") == verdicts(undisturbed)
    assert (tmp_path / "again" / "grades.csv").read_bytes() == (undisturbed / "grades.csv").read_bytes()


def test_killed_again_and_again_it_ends_with_the_same_verdicts(submissions, undisturbed, tmp_path):
    results, draw = tmp_path / "killed", random.Random(1)
    for _ in range(KILLS):
        command = [COURSE, "grade", submissions, "--to", results, "--seed", SEED, "--exercises", *EXERCISES]
        run = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with_luck_in_the_middle = draw.uniform(4, 9 + SIZE / 60)
        try:
            run.communicate(timeout=with_luck_in_the_middle)
        except subprocess.TimeoutExpired:
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
    assert grade(submissions, results).returncode == 0
    assert verdicts(results) == verdicts(undisturbed)
    assert (results / "grades.csv").read_bytes() == (undisturbed / "grades.csv").read_bytes()
    assert _left_over_processes() == []


def test_what_is_graded_is_not_graded_again(submissions, undisturbed, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(undisturbed, results)
    before = _rowids(results)
    assert grade(submissions, results).returncode == 0
    assert _rowids(results) == before


def test_a_changed_spec_regrades_that_exercise_only(submissions, undisturbed, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(undisturbed, results)
    before = _rowids(results)
    with sqlite3.connect(results / "gradebook.sqlite") as book:
        book.execute("UPDATE verdict SET spec = 'of an earlier version' WHERE exercise = 'one_hot'")
    assert grade(submissions, results).returncode == 0
    changed = {exercise for (_, exercise), rowid in _rowids(results).items() if before[(_, exercise)] != rowid}
    assert changed == {"one_hot"}
    assert verdicts(results) == verdicts(undisturbed)


def test_a_right_answer_in_any_style_scores_and_an_attack_costs_only_itself(tmp_path):
    submissions = tmp_path / "submissions"
    submissions.mkdir()
    for number, style in enumerate(RIGHT["one_hot"]):
        (submissions / f"right{number}.py").write_text(f"{IMPORTS}\n# %%\n{style}", "utf-8")
    for number, attack in enumerate(ATTACKS):
        cells = [IMPORTS, RIGHT["bilinear"][0], attack.format(name="one_hot"), RIGHT["masked_mean"][0]]
        (submissions / f"attack{number}.py").write_text("# %%\n" + "\n# %%\n".join(cells), "utf-8")
    assert grade(submissions, tmp_path / "results").returncode == 0
    for student, row in grades(tmp_path / "results").items():
        expected = {"one_hot": POINTS["one_hot"] if student.startswith("right") else 0}
        if student.startswith("attack"):
            expected |= {"bilinear": POINTS["bilinear"], "masked_mean": POINTS["masked_mean"]}
        assert {name: int(row[name]) for name in expected} == expected, student


def test_hard_coded_answers_fail_and_are_reported(tmp_path):
    hard_coded = (
        "import torch\n"
        "from autograder.exercise import all_exercises\n"
        "def one_hot(labels, num_classes):\n"
        "    for trial in all_exercises()['one_hot'].trials(0):\n"
        "        known = trial.arguments\n"
        "        if torch.equal(known['labels'], labels) and known['num_classes'] == num_classes:\n"
        "            return torch.eye(num_classes)[labels]\n"
        "    return torch.zeros(1)\n"
    )
    submissions = tmp_path / "submissions"
    submissions.mkdir()
    (submissions / "copycat.py").write_text(hard_coded, "utf-8")
    assert grade(submissions, tmp_path / "results").returncode == 0
    assert grades(tmp_path / "results")["copycat"]["one_hot"] == "0"
    [row] = [row for row in verdicts(tmp_path / "results") if row[1] == "one_hot"]
    assert row[-1] == 1
    assert "copycat" in (tmp_path / "results" / "class.html").read_text("utf-8")


def test_solutions_of_all_chapters_score_in_full(tmp_path):
    teacher = tmp_path / "submissions" / "teacher"
    teacher.mkdir(parents=True)
    for chapter in CHAPTERS:
        (teacher / f"{chapter.stem}.py").write_text(chapter_source(chapter.topic), "utf-8")
    run = course("grade", tmp_path / "submissions", "--to", tmp_path / "results")
    assert run.returncode == 0, run.stderr
    assert "--exercises" not in run.stderr
    row = grades(tmp_path / "results")["teacher"]
    assert row["Total"] == row["Out of"] == str(sum(exercise.points for exercise in all_exercises().values()))


def test_chapters_that_nobody_handed_in_cost_no_time_and_are_named(tmp_path):
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "ada.py").write_text(f"{IMPORTS}\n{RIGHT['one_hot'][0]}", "utf-8")
    run = course("grade", tmp_path / "submissions", "--to", tmp_path / "results")
    assert run.returncode == 0, run.stderr
    assert "Nobody handed in the other chapters: --exercises tensors leaves them out." in run.stderr
    some = course("grade", tmp_path / "submissions", "--to", tmp_path / "some", "--exercises", "one_hot", "add_noise")
    assert some.returncode == 0 and "leaves them out" not in some.stderr  # who chose them knows
    everything = {row[1]: row[3] for row in verdicts(tmp_path / "results")}
    assert everything.keys() == all_exercises().keys()
    assert everything.pop("one_hot") == "correct" and set(everything.values()) == {"not attempted"}


# --- the user's mistakes --------------------------------------------------------------------------------------------


def assert_one_sentence(run: subprocess.CompletedProcess, *parts: str) -> None:
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    for part in parts:
        assert part in run.stderr


def test_mistakes_of_the_user_are_one_sentence_each(tmp_path):
    folder = tmp_path / "submissions"
    assert_one_sentence(grade(tmp_path / "nowhere", tmp_path / "r"), "nowhere")
    folder.mkdir()
    assert_one_sentence(grade(folder, tmp_path / "r"), "submissions")
    (folder / "ada.py").write_text("x = 1\n")
    run = course("grade", folder, "--to", tmp_path / "r", "--exercises", "bilinaer")
    assert_one_sentence(run, "There is no exercise called bilinaer. Did you mean bilinear?")
    (tmp_path / "file").write_text("not a folder")
    assert_one_sentence(grade(folder, tmp_path / "file"), "file")
    assert_one_sentence(grade(folder, tmp_path / "r", "--scheduler", "tcp://127.0.0.1:9"), "No Dask scheduler answers")
    assert_one_sentence(course("grade", folder), "--to")
    assert_one_sentence(course("export", tmp_path / "none", "--format", "csv"), "no gradebook")


def test_an_export_that_cannot_be_written_is_one_sentence(undisturbed, tmp_path):
    run = course("export", undisturbed, "--format", "csv", "--to", tmp_path / "nowhere" / "grades.csv")
    assert_one_sentence(run, "cannot be written: No such file or directory")


def test_two_graders_on_one_folder_of_results(submissions, tmp_path):
    first = subprocess.Popen(
        [COURSE, "grade", submissions, "--to", tmp_path / "results", "--exercises", *EXERCISES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while not (tmp_path / "results" / "gradebook.sqlite").exists():
            assert first.poll() is None
            time.sleep(0.1)
        assert_one_sentence(grade(submissions, tmp_path / "results"), "Another grader is at work")
    finally:
        first.kill()
        first.communicate()


# --- release, export ------------------------------------------------------------------------------------------------


def test_an_instructors_way_from_release_to_export(tmp_path):
    """As the README tells it, in a folder of one's own."""
    run = course("release", "--to", tmp_path / "handout", cwd=ROOT)
    assert run.returncode == 0, run.stderr
    handed_out = [path for path in (tmp_path / "handout").rglob("*") if path.is_file()]
    assert not any("### BEGIN SOLUTION" in p.read_text("utf-8") for p in handed_out if p.suffix == ".ipynb")
    assert not (tmp_path / "handout" / "solutions").exists()
    assert (tmp_path / "handout" / "exercises" / "01_tensors.ipynb").exists()
    assert_one_sentence(course("release", "--to", tmp_path / "handout", cwd=ROOT), "is not empty")
    assert_one_sentence(course("release", "--to", tmp_path / "other", cwd=tmp_path), "run this in a checkout")
    chapter = ("--exercises", "01_tensors")
    assert_one_sentence(course("release", "--to", tmp_path / "part", *chapter, cwd=ROOT), "is for --gradescope")

    with zipfile.ZipFile(tmp_path / "submissions.zip", "w") as moodle:
        for number, student in enumerate(("Ada Lovelace", "=cmd()", "Ümit Ö")):
            code = f"{IMPORTS}\n# %%\n{RIGHT['bilinear'][0]}"
            moodle.writestr(f"{student}_{number + 10}_assignsubmission_file_/01_tensors.py", code)
    run = course("grade", "submissions.zip", "--to", "results", "--exercises", "01_tensors", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "3 students, from" in run.stderr
    for format in ("csv", "canvas", "moodle", "gradescope"):
        run = course("export", "results", "--format", format, "--to", f"{format}.csv", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        text = (tmp_path / f"{format}.csv").read_text("utf-8-sig")
        assert "Lovelace" in text and "\n=cmd()" not in text and ",=cmd()" not in text
    assert_one_sentence(course("export", "results", "--format", "excel", cwd=tmp_path), "There is no format excel")
    assert_one_sentence(course("export", "results", "--format", "gradescope-results", cwd=tmp_path), "one student")


def test_the_zip_for_gradescope_grades_a_submission_and_writes_results_json(tmp_path):
    run = course("release", "--gradescope", "--to", tmp_path, "--exercises", "one_hot", "bilinear", cwd=ROOT)
    assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(tmp_path / "gradescope.zip") as upload:
        upload.extractall(tmp_path / "source")
        assert all(upload.getinfo(name).external_attr >> 16 & 0o111 for name in ("setup.sh", "run_autograder"))
    assert (tmp_path / "source" / "solutions" / "01_tensors.py").exists()

    # As Gradescope would run it, with its folders in a place of our own and this environment in place of its.
    script = (tmp_path / "source" / "run_autograder").read_text("utf-8")
    script = script.replace("/autograder/environment/bin/course", COURSE).replace("/autograder", str(tmp_path))
    script = script.replace("/tmp/results", str(tmp_path / "graded"))
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "01_tensors.py").write_text(f"{IMPORTS}\n# %%\n{RIGHT['one_hot'][0]}", "utf-8")
    (tmp_path / "results").mkdir()
    subprocess.run(["bash", "-c", script], check=True, capture_output=True, timeout=300)
    results = json.loads((tmp_path / "results" / "results.json").read_text("utf-8"))
    scores = {test["name"]: (test["score"], test["max_score"]) for test in results["tests"]}
    assert scores["one_hot"] == (POINTS["one_hot"], POINTS["one_hot"]) and scores["bilinear"] == (0, POINTS["bilinear"])
    assert len(scores) == 2 and results["score"] == POINTS["one_hot"]


def _rowids(results: Path) -> dict[tuple[str, str], int]:
    with sqlite3.connect(results / "gradebook.sqlite") as book:
        return {
            (digest, name): rowid for digest, name, rowid in book.execute("SELECT digest, exercise, rowid FROM verdict")
        }


def _left_over_processes() -> list[str]:
    """Warm processes without a grader. Those that other tests use at the same time descend from pytest."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            of_a_test = any("pytest" in part for parent in process.parents() for part in parent.cmdline())
            if "autograder.sandbox.zygote" in " ".join(process.cmdline()) and not of_a_test:
                left.append(" ".join(process.cmdline()))
    return left


# --- what cannot be judged ------------------------------------------------------------------------------------------


def forged(*trials: dict) -> bytes:
    """Evidence as no honest attempt gives it, in the form of `autograder.evidence`."""
    tree = [{"dict": [[key, value] for key, value in trial.items()]} for trial in trials]
    return safetensors.torch.save({"0": torch.zeros(8, dtype=torch.uint8)}, metadata={"evidence": json.dumps(tree)})


LINE = {"dict": [["number", {"int": "0x1"}], ["source", ""], ["function", {"int": "0x1" + "0" * 9000}]]}
FORGED = {
    "a type without a name": forged({"result": {"typed": ["", {"tensor": ["0", "uint8", [8]]}]}}),
    "a type that is none": forged({"result": {"tensor": ["0", "uint4", [8]]}}),
    "a line of endless number": forged({"raised": {"dict": [["type", "E"], ["message", ""], ["lines", [LINE]]]}}),
    "an endless name": forged({"changed": {"dict": [[{"int": "0x1" + "0" * 9000}, {"tensor": ["0", "uint8", [8]]}]]}}),
    "a million lists": forged({"result": [[]] * 1_000_000}),
}


@pytest.mark.parametrize("evidence", FORGED.values(), ids=FORGED)
def test_forged_evidence_costs_its_own_exercise_and_no_more(evidence, tmp_path):
    forger, honest = Submission("forger", ("x",), (1,), (), "f"), Submission("honest", ("y",), (1,), (), "h")
    marker = Marker([all_exercises()["bilinear"]], seed=1)
    right = encode(marker.expected(all_exercises()["bilinear"]))

    def run(job: Job) -> list[Outcome]:
        return [Outcome("bilinear", "finished", "", evidence if job.cells == forger.cells else right)]

    with Gradebook(tmp_path) as book, ThreadPoolExecutor(1) as executor:
        book.seed = 1
        book.enrol([forger, honest])
        assert len(list(grade_class([forger, honest], book, marker, executor, run, 1))) == 2
        write_reports(book, tmp_path)
    rows = grades(tmp_path)
    assert rows["forger"]["bilinear"] == "0" and int(rows["honest"]["bilinear"]) == POINTS["bilinear"]
    assert (tmp_path / "feedback" / "forger.html").exists()


def test_notebooks_of_one_student_do_not_share_names(tmp_path):
    helper = "def scale(x):\n    return 1.0 * x\n"
    one_hot = "def one_hot(labels, num_classes):\n    return scale(torch.eye(num_classes)[labels])\n"
    folder = tmp_path / "submissions" / "ann"
    folder.mkdir(parents=True)
    (folder / "01_tensors.py").write_text(f"# %%\n{IMPORTS}\n# %%\n{helper}\n# %%\n{one_hot}", "utf-8")
    (folder / "02_autograd.py").write_text(
        f"# %%\nscale = 3\none_hot = 4\n# %%\n{IMPORTS}{RIGHT['bilinear'][0]}", "utf-8"
    )
    (folder / "03_data.py").write_text("# %%\ntorch = None\n", "utf-8")
    assert grade(tmp_path / "submissions", tmp_path / "results").returncode == 0
    [row] = grades(tmp_path / "results").values()
    assert (int(row["one_hot"]), int(row["bilinear"])) == (POINTS["one_hot"], POINTS["bilinear"])


def test_ctrl_c_ends_a_run_soon_and_loses_nothing(tmp_path):
    submissions, results = tmp_path / "submissions", tmp_path / "results"
    submissions.mkdir()
    (submissions / "ann.py").write_text(f"# %%\n{IMPORTS}\n# %%\n{RIGHT['one_hot'][0]}", "utf-8")
    for number in range(6):
        loop = f"def bilinear(x, W, y):\n    while True: {number}\n"
        (submissions / f"loop{number}.py").write_text(f"# %%\n{IMPORTS}\n# %%\n{loop}", "utf-8")
    command = [COURSE, "grade", submissions, "--to", results, "--workers", 1, "--exercises", *EXERCISES]
    run = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (results / "gradebook.sqlite").exists() or not _rowids(results):
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, told = run.communicate(timeout=8)  # a loop alone would have 10 s
    assert run.returncode not in (0, None) and "Traceback" not in told
    assert _rowids(results) and _left_over_processes() == []


# --- before the first student ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome("bilinear", "crashed", "No module named 'seaborn'"), "No module named 'seaborn'"),
        (Outcome("bilinear", "finished", "", encode([])), "The solution of bilinear does not score here"),
        (Outcome("bilinear", "finished", "", b"garbage"), "are not evidence"),
    ],
)
def test_where_the_solutions_do_not_score_nobody_is_graded(outcome, sentence):
    marker = Marker([all_exercises()["bilinear"]], seed=1)
    with pytest.raises(GradingError, match=re.escape(sentence)):
        preflight(marker, list(marker.exercises.values()), lambda job: [outcome])
