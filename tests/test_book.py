"""How the site is built, and what its extensions add to Sphinx."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools.fold_solutions import with_solutions


def cells(*sources: str) -> nbformat.NotebookNode:
    """A notebook whose cells are Markdown if they begin with `#`, else code."""
    new = nbformat.v4
    made = [new.new_markdown_cell(text) if text.startswith("#") else new.new_code_cell(text) for text in sources]
    return new.new_notebook(cells=made)


def test_a_solution_stands_under_the_check_of_its_exercise():
    notebook = cells(
        "# Title", "import torch", "# one", "def one(x):\n    ...", "check(one)", "# two", "class Two: ..."
    )
    page = with_solutions(notebook, {"one": "def one(x):\n    return 1", "Two": "class Two:\n    n = 2"})
    assert [cell.source.split("\n")[0] for cell in page.cells] == [
        *("# Title", "import torch", "# one", "def one(x):", "check(one)", "::::{dropdown} Solution"),
        *("# two", "class Two: ...", "::::{dropdown} Solution"),
    ]
    assert "```python\ndef one(x):\n    return 1\n```" in page.cells[5].source


def test_the_notebook_itself_stays_without_solutions():
    notebook = cells("def one(x): ...")
    with_solutions(notebook, {"one": "def one(x): return 1"})
    assert len(notebook.cells) == 1


def test_an_exercise_that_is_missing_is_named():
    with pytest.raises(ValueError, match="No cell of the exercises defines two: run `make exercises`"):
        with_solutions(cells("def one(x): ..."), {"one": "def one(x): return 1", "two": "def two(x): return 2"})


def build(folder: Path, root: Path, text: str) -> subprocess.CompletedProcess:
    """Build a book of one page, with the book's own boxes."""
    (folder / "_config.yml").write_text(
        f"sphinx: {{local_extensions: {{titled_boxes: '{(root / 'tools').as_posix()}'}}}}"
    )
    (folder / "_toc.yml").write_text("{format: jb-book, root: index}")
    (folder / "index.md").write_text(text)
    code = f"from pathlib import Path; from tools.book import build; build(Path({str(folder)!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, encoding="utf-8")


def test_a_warning_fails_the_build_and_is_not_forgotten(tmp_path, root):
    for _ in range(2):
        built = build(tmp_path, root, "# Title\n\n[Nowhere](gone.md)\n")
        assert built.returncode == 1 and "gone.md" in built.stderr


def test_a_box_takes_a_title_of_its_own(tmp_path, root):
    built = build(tmp_path, root, "# Title\n\n:::{important} To remember\nOne line.\n:::\n\n:::{note}\nText.\n:::\n")
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "_build" / "html" / "index.html").read_text(encoding="utf-8")
    assert '<p class="admonition-title">To remember</p>' in page
    assert '<p class="admonition-title">Note</p>' in page
