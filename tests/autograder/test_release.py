"""`make exercises`: the students' notebooks and the answers come from the solutions alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from typer.testing import CliRunner

from autograder import answers
from autograder.answers import load_answers
from autograder.cli import app
from autograder.compare import difference
from autograder.exercise import all_exercises
from autograder.release import practice_answers, student_source
from autograder.specs import CHAPTERS
from tests.autograder.book import ROOT, chapter_source

every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what `make exercises` reads, which its answers go to as well."""
    shutil.copytree(ROOT / "solutions", tmp_path / "solutions")
    monkeypatch.setattr(answers, "FOLDER", tmp_path / "answers")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run() -> tuple[int, str]:
    result = CliRunner().invoke(app, ["exercises"])
    return result.exit_code, result.output


@every_chapter
def test_the_exercises_in_the_repository_are_those_of_the_solutions(chapter):
    expected = student_source(chapter, chapter_source(chapter.topic))
    assert (ROOT / "exercises" / f"{chapter.stem}.py").read_text("utf-8") == expected, "run make exercises"
    notebook = json.loads((ROOT / "exercises" / f"{chapter.stem}.ipynb").read_text("utf-8"))
    sources = [cell.source for cell in jupytext.reads(expected, fmt="py:percent").cells]
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == sources, "run make exercises"
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@every_chapter
def test_the_answers_in_the_repository_are_those_of_the_solutions(chapter):
    for name, evidence in practice_answers(chapter, chapter_source(chapter.topic)).items():
        tolerance = all_exercises()[name].tolerance
        assert difference(evidence, load_answers(name), name, tolerance) is None, "run make exercises"


def test_no_answers_are_left_of_exercises_that_are_gone():
    shipped = {path.stem for path in (ROOT / "autograder" / "answers").glob("*.safetensors")}
    assert shipped == set(all_exercises())


def test_a_second_run_changes_nothing(checkout):
    assert run()[0] == 0
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert run() == (0, "".join(f"{c.stem}: {_count(c)} exercises\n" for c in CHAPTERS))
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before


def test_somebodys_work_is_never_overwritten(checkout):
    run()
    path = checkout / "exercises" / "01_tensors.ipynb"
    path.write_text(path.read_text("utf-8").replace("raise NotImplementedError", "return my_work"), "utf-8")
    before = path.read_bytes()
    code, output = run()
    assert code == 2 and output.count("\n") == 1 and "holds work that would be lost" in output
    assert path.read_bytes() == before


def test_solutions_and_specs_that_disagree_are_named(checkout):
    path = checkout / "solutions" / "01_tensors.py"
    path.write_text(path.read_text("utf-8").replace("def bilinear(", "def bilinaer("), "utf-8")
    code, output = run()
    assert code == 2 and "disagree about: bilinaer, bilinear." in output
    assert not (checkout / "exercises").exists()


def test_a_solution_that_fails_its_own_spec_is_named(checkout):
    path = checkout / "solutions" / "01_tensors.py"
    text = path.read_text("utf-8").replace('return torch.einsum("bi,kij,bj->bk"', 'return torch.einsum("bi,kij,b->bk"')
    path.write_text(text, "utf-8")
    code, output = run()
    assert code == 2 and "The solution of bilinear fails its own spec." in output


def test_outside_a_checkout_there_is_one_sentence(tmp_path):
    command = [str(Path(sys.executable).parent / "course"), "exercises"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and "run this in a checkout" in run.stderr and "Traceback" not in run.stderr


def _count(chapter) -> int:
    return sum(exercise.chapter == chapter.topic for exercise in all_exercises().values())
