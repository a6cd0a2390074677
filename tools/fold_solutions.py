"""Sphinx extension: under each exercise of the site its solution folds open.

The pages of `exercises/` are read with one more cell per exercise. The files themselves, which readers download, stay
without solutions.
"""

import re
from pathlib import Path

import nbformat
from sphinx.application import Sphinx

from autograder.solutions import exercise_names, solution_code

DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


def folded(code: str) -> nbformat.NotebookNode:
    """Return a Markdown cell that shows `code` once its reader opens it."""
    return nbformat.v4.new_markdown_cell(f"::::{{dropdown}} Solution\n```python\n{code}\n```\n::::")


def with_solutions(notebook: nbformat.NotebookNode, solutions: dict[str, str]) -> nbformat.NotebookNode:
    """Return `notebook` with each solution under the cells of its exercise, before the text that follows them.

    solutions: the code to show, by the name of its exercise. Raises ValueError if the notebook does not define one.
    """
    cells, waiting, missing = [], [], set(solutions)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found = [name for name in DEFINED.findall(cell.source) if name in missing]
            waiting += found
            missing -= set(found)
        elif waiting:
            cells += [folded(solutions[name]) for name in waiting]
            waiting = []
        cells.append(cell)
    if missing:
        raise ValueError(f"No cell of the exercises defines {', '.join(sorted(missing))}: run `make exercises`.")
    return nbformat.from_dict({**notebook, "cells": cells + [folded(solutions[name]) for name in waiting]})


def on_source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the solutions to the text of a page of `exercises/` before it is parsed."""
    folder, _, topic = docname.rpartition("/")
    if folder != "exercises":
        return
    path = Path(app.srcdir, "solutions", f"{topic}.py")
    app.env.note_dependency(str(path))
    text = path.read_text(encoding="utf-8")
    solutions = {name: solution_code(text, name) for name in exercise_names(text)}
    source[0] = nbformat.writes(with_solutions(nbformat.reads(source[0], as_version=4), solutions))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension to Sphinx."""
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
