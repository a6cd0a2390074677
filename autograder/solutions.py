"""The hand-written solutions, as `solutions/NN_topic.py` holds them, and the starters that are made from them."""

import ast
import re
from pathlib import Path
from typing import Any

from autograder.exercise import Exercise
from autograder.specs import CHAPTERS

STARTER_LINE = "raise NotImplementedError  # your code here"

_SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^# %%.*\n", re.MULTILINE)
_CHECKOUT = Path(__file__).parent.parent


def find_solution(exercise: Exercise) -> str | None:
    """The code of an exercise's solution, or None where solutions are not shipped."""
    source = solutions_source(exercise.chapter)
    return None if source is None else solution_code(source, exercise.name)


def solutions_source(topic: str) -> str | None:
    """The text of a chapter's solutions file, or None where solutions are not shipped."""
    chapter = next(chapter for chapter in CHAPTERS if chapter.topic == topic)
    path = _CHECKOUT / "solutions" / f"{chapter.stem}.py"
    return path.read_text(encoding="utf-8") if path.exists() else None


def solution_code(chapter_source: str, name: str) -> str:
    """The cell that defines an exercise, without the solution's markers. Raises KeyError where there is none."""
    for cell in _CELL.split(chapter_source):
        if re.search(rf"^(def|class) {name}\b", cell, re.MULTILINE):
            return re.sub(r"^ *### (BEGIN|END) SOLUTION\n", "", cell, flags=re.MULTILINE).strip()
    raise KeyError(name)


def starter(source: str) -> str:
    """The same source with every solution replaced by a line that raises NotImplementedError."""
    return _SOLUTION.sub(rf"\1{STARTER_LINE}", source)


def exercise_names(chapter_source: str) -> list[str]:
    """The names that a solutions file defines between markers, in the order of the file."""
    return [
        match[2]
        for cell in _CELL.split(chapter_source)
        if _SOLUTION.search(cell) and (match := re.search(r"^(def|class) (\w+)", cell, re.MULTILINE))
    ]


def imports(chapter_source: str) -> list[str]:
    """The import statements of a solutions file, each as one line."""
    return [
        ast.unparse(node) for node in ast.parse(chapter_source).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]


def load_solutions(chapter_source: str) -> dict[str, Any]:
    """Run a solutions file without its calls of `check` and the like, and return all that it defines, by name."""
    tree = ast.parse(chapter_source)
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign))
    ]
    names: dict[str, Any] = {"__name__": "solutions"}
    exec(compile(tree, "<solutions>", "exec"), names)
    return names
