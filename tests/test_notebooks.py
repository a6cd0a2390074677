"""Each notebook is the twin of its .py, and holds the outputs of just that text."""

import json
import subprocess

import jupytext
import nbformat
import pytest

from tests.autograder.book import ROOT
from tools import notebooks

SOURCES = [path for folder in ("chapters", "solutions", "exercises") for path in sorted((ROOT / folder).glob("*.py"))]
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")


@every_source
def test_source_and_notebook_hold_the_same_cells(source):
    written = jupytext.read(source).cells
    paired = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(paired)
    assert [(c.cell_type, c.source, c.metadata) for c in paired.cells] == [
        (c.cell_type, c.source, c.metadata) for c in written
    ], "run make notebooks, or make exercises"


@every_source
def test_the_text_is_as_jupytext_would_write_it(source):
    """So that saving the notebook in JupyterLab changes nothing in the .py."""
    text = source.read_text(encoding="utf-8")
    header = "# # Generated from"
    lines = [line for line in text.splitlines() if not line.startswith(header)]
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",)}
    assert jupytext.writes(notebook, fmt="py:percent").splitlines()[-len(lines) :][8:] == lines[8:]


@pytest.mark.parametrize("source", [s for s in SOURCES if s.parent.name != "exercises"], ids=lambda s: s.parent.name)
def test_outputs_are_of_this_source_complete_and_quiet(source):
    assert notebooks.is_fresh(source), "run make notebooks"
    cells = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        assert cell["execution_count"] is not None
        for output in cell["outputs"]:
            expected_error = "raises-exception" in cell["metadata"].get("tags", [])
            assert output["output_type"] != "error" or expected_error, cell["source"]
            assert output.get("name") != "stderr", cell["source"]
        shown = json.dumps(cell["outputs"])
        assert str(ROOT) not in shown and "site-packages" not in shown


@pytest.mark.parametrize("source", [s for s in SOURCES if s.parent.name == "chapters"], ids=lambda s: s.stem)
def test_every_figure_has_a_caption_and_an_alt_text(source):
    cells = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    drawn = [c for c in cells if any("image/png" in o.get("data", {}) for o in c.get("outputs", []))]
    assert drawn
    for cell in drawn:
        told = cell["metadata"].get("mystnb", {})
        assert len(told.get("image", {}).get("alt", "")) > 20, cell["source"]
        assert len(told.get("figure", {}).get("caption", "")) > 20, cell["source"]


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    """A book of one small chapter, to execute."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "01_small.py").write_text("# %%\nprint(1 + 1)\n")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    return tmp_path / "chapters" / "01_small.py"


def test_make_notebooks_executes_what_changed_and_only_that(small_book, capsys):
    assert notebooks.main() == 0 and "executing chapters/01_small.py" in capsys.readouterr().out
    notebook = nbformat.read(small_book.with_suffix(".ipynb"), as_version=4)
    assert notebook.cells[0].outputs[0].text == "2\n"
    assert notebooks.main() == 0 and capsys.readouterr().out == ""
    small_book.write_text("# %%\nprint(2 + 2)\n")
    assert notebooks.main() == 0 and "executing" in capsys.readouterr().out
    assert nbformat.read(small_book.with_suffix(".ipynb"), as_version=4).cells[0].outputs[0].text == "4\n"


def test_solutions_are_executed_again_where_the_spec_that_checks_them_changed(small_book, capsys):
    spec = notebooks.ROOT / "autograder" / "specs" / "small.py"
    spec.parent.mkdir(parents=True)
    spec.write_text("trials = 7\n")
    solutions = notebooks.ROOT / "solutions" / "01_small.py"
    solutions.parent.mkdir()
    solutions.write_text("# %%\n'right'\n")
    assert notebooks.main() == 0 and "executing solutions/01_small.py" in capsys.readouterr().out
    assert notebooks.main() == 0 and capsys.readouterr().out == ""
    spec.write_text("trials = 8\n")
    assert notebooks.main() == 0 and capsys.readouterr().out == "executing solutions/01_small.py\n"


def test_a_chapter_that_fails_keeps_its_notebook(small_book, capsys):
    notebooks.main()
    before = small_book.with_suffix(".ipynb").read_bytes()
    small_book.write_text("# %%\n1 / 0\n")
    assert notebooks.main() == 1
    assert "its notebook stays as it was" in capsys.readouterr().err
    assert small_book.with_suffix(".ipynb").read_bytes() == before


def test_make_notebooks_finds_nothing_to_do_in_a_fresh_checkout(root):
    run = subprocess.run(["make", "notebooks"], cwd=root, capture_output=True, text=True, check=True)
    assert "executing" not in run.stdout, "run make notebooks"
