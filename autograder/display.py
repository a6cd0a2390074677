"""How a verdict, a notice and the progress look: rich in Jupyter, plain text in a terminal."""

import base64
import html
import io
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from autograder.compare import Difference, describe, difference, dtype_text, shape_text, short_text, wrong_elements
from autograder.evidence import Typed, collect
from autograder.exercise import Exercise, Trial
from autograder.judge import Status, Verdict
from autograder.record import ATTEMPTED, SOLVED
from autograder.specs import CHAPTERS

SMALL = 64
"""Tensors of up to this many elements are shown with their values."""

PICTURE = 128
"""Matrices of up to this many rows and columns are drawn."""


@dataclass(frozen=True)
class Page:
    """Something to show: Jupyter takes the HTML, a terminal the text."""

    text: str
    markup: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.markup


def show(page: Page) -> None:
    """Display a page in the notebook that runs this code, or print its text where there is none."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        sys.modules["IPython"].display.display(page)
    else:
        encoding = sys.stdout.encoding or "utf-8"  # a terminal may know no ✓
        print(page.text.encode(encoding, "replace").decode(encoding))


def notice(text: str) -> Page:
    """One sentence to the learner."""
    return Page(text, render("notice.html", text=text))


def code(source: str) -> Page:
    """A piece of Python to read."""
    return Page(source, f"<pre><code>{html.escape(source)}</code></pre>")


def report(
    exercise: Exercise,
    verdict: Verdict,
    seed: int,
    next_step: str,
    show_inputs: bool = True,
    draw: Callable[[Difference | None], dict[str, str] | None] | None = None,
) -> Page:
    """A verdict with all that helps to act on it: the trial, expected and got, the mistake, the learner's own lines.

    show_inputs: False where the values of the trial's arguments are kept back: their types and shapes remain.
    draw: another way to picture a difference than heat maps by matplotlib, which take a third of a second each.
    """
    if verdict.status is Status.CORRECT:
        text = f"✓ {exercise.name}: correct on all {len(exercise.trials(seed))} trials · {_points(exercise.points)}"
        return Page(text, render("correct.html", text=text))
    if verdict.status is Status.NOT_ATTEMPTED:
        text = f"○ {exercise.name}: not attempted. {next_step}"
        return Page(text, render("notice.html", text=text))
    fault = verdict.fault
    trials = exercise.trials(seed)
    trial = trials[fault.trial]
    # A changed argument differs from what it was before, so both sides show the input.
    found = fault.difference
    if found and fault.kind == "arguments":
        before = collect(trial.arguments.get(found.path))
        found = difference(before, found.got, found.path, exact=True) if show_inputs else None
    content = {
        "title": f"✗ {exercise.name}: {_headline(verdict)}",
        "trial": f"trial {fault.trial + 1} of {len(trials)}, {trial.name}",
        "mistake": verdict.mistake.sentence if verdict.mistake else None,
        "sentence": fault.sentence,
        "lines": fault.lines,
        "arguments": _arguments(trial, show_inputs),
        "labels": ("before the call", "after it") if fault.kind == "arguments" else ("expected", "got"),
        "sides": _sides(found, exercise.tolerance),
        "next_step": next_step,
    }
    return Page(_report_text(**content), render("report.html", picture=(draw or _picture)(found), **content))


def overview(exercises: list[Exercise], record: dict[str, str]) -> Page:
    """What is solved, chapter by chapter."""
    marks = {SOLVED: "✓", ATTEMPTED: "…", None: "○"}
    chapters = []
    for chapter in CHAPTERS:
        own = [exercise for exercise in exercises if exercise.chapter == chapter.topic]
        solved = [exercise for exercise in own if record.get(exercise.name) == SOLVED]
        chapters.append(
            {
                "title": f"{chapter.number:02d} {chapter.title}",
                "solved": len(solved),
                "count": len(own),
                "points": f"{sum(e.points for e in solved)} of {_points(sum(e.points for e in own))}",
                "exercises": [f"{marks[record.get(exercise.name)]} {exercise.name}" for exercise in own],
            }
        )
    lines = []
    for chapter in chapters:
        bar = ("█" * round(20 * chapter["solved"] / max(chapter["count"], 1))).ljust(20, "░")
        lines.append(f"{chapter['title']}  {bar}  {chapter['solved']}/{chapter['count']} · {chapter['points']}")
        names = "  ".join(chapter["exercises"]).replace(" ", "\0").replace("\0\0", " ")  # a mark stays with its name
        rows = textwrap.wrap(names, 100, initial_indent="   ", subsequent_indent="   ")
        lines += [row.replace(" ", "  ").replace("\0", " ") for row in rows]
    return Page("\n".join(lines), render("progress.html", chapters=chapters))


def _headline(verdict: Verdict) -> str:
    return {
        "raised": "it raised an error",
        "signature": "it cannot be called",
        "value": "not yet",
        "arguments": "it changed its arguments",
        "side effect": "it changed torch for all that comes after it",
        "rule": "right, but not in the way asked for",
    }[verdict.fault.kind]


def _arguments(trial: Trial, show_inputs: bool) -> list[tuple[str, str]]:
    text = _value_text if show_inputs else _outline
    return [(name, text(collect(value))) for name, value in trial.arguments.items()]


def _sides(found: Difference | None, tolerance: tuple[float, float] | None) -> dict[str, Any] | None:
    """Expected and got beside each other, with the wrong elements of small tensors marked."""
    if found is None:
        return None
    sides = {"texts": (_value_text(found.expected), _value_text(found.got)), "rows": None}
    small = isinstance(found.got, torch.Tensor) and 1 <= found.got.ndim <= 2 and found.got.numel() <= SMALL
    if found.kind == "values" and small:
        wrong = torch.atleast_2d(wrong_elements(found.expected, found.got, tolerance))
        sides["rows"] = [_marked_rows(torch.atleast_2d(side), wrong) for side in (found.expected, found.got)]
    return sides


def _marked_rows(matrix: torch.Tensor, wrong: torch.Tensor) -> list[list[tuple[str, bool]]]:
    """The elements of a matrix as text, each with whether it is wrong."""
    return [
        [(_element_text(value), bool(bad)) for value, bad in zip(row, marks, strict=True)]
        for row, marks in zip(matrix, wrong, strict=True)
    ]


def _report_text(
    title: str,
    trial: str,
    mistake: str | None,
    sentence: str,
    lines: tuple[dict, ...],
    arguments: list[tuple[str, str]],
    labels: tuple[str, str],
    sides: dict[str, Any] | None,
    next_step: str,
) -> str:
    parts = [f"{title} ({trial})", sentence]
    parts += [f"   line {line['number']} in {line['function']}: {line['source']}" for line in lines]
    if mistake:
        parts.append(f"→ {mistake}")
    if sides:
        width = max(map(len, labels)) + 2
        parts += [label.ljust(width) + _indent(text, width) for label, text in zip(labels, sides["texts"], strict=True)]
    parts.append("called with")
    parts += [f"   {name} = {_indent(value, 6 + len(name))}" for name, value in arguments]
    return "\n".join([*parts, next_step])


def _indent(text: str, width: int) -> str:
    return text.replace("\n", "\n" + " " * width)


def _value_text(node: Any) -> str:
    """A value as short text: its elements where they are few, its shape and range where they are many."""
    if isinstance(node, torch.Tensor):
        if node.numel() <= SMALL:
            return f"{node!s}   {shape_text(node)} {dtype_text(node)}"
        return f"tensor of shape {shape_text(node)}, {dtype_text(node)}"
    if isinstance(node, Typed) and node.type == "NumPy array" and isinstance(node.value, torch.Tensor):
        if node.value.numel() <= SMALL:
            return f"{node.value.numpy()!r}   {shape_text(node.value)} {dtype_text(node.value)}"
        return f"NumPy array of shape {shape_text(node.value)}, {dtype_text(node.value)}"
    if isinstance(node, Typed):
        return describe(node) if node.value is None else f"{describe(node)}: {_value_text(node.value)}"
    if isinstance(node, (list, tuple)):
        brackets = "[]" if isinstance(node, list) else "()"
        return brackets[0] + ", ".join(_value_text(item) for item in node[:8]) + ", …" * (len(node) > 8) + brackets[1]
    if isinstance(node, dict):
        shown = [f"{short_text(key)}: {_value_text(value)}" for key, value in list(node.items())[:8]]
        return "{" + ", ".join(shown) + ", …" * (len(node) > 8) + "}"
    return short_text(node)


def _outline(node: Any) -> str:
    """What kind of value it is, without the value."""
    if isinstance(node, torch.Tensor):
        return f"tensor of shape {shape_text(node)}, {dtype_text(node)}"
    if isinstance(node, Typed) and isinstance(node.value, torch.Tensor):
        return f"{node.type} of shape {shape_text(node.value)}, {dtype_text(node.value)}"
    return describe(node)


def _element_text(value: torch.Tensor) -> str:
    number = value.item()
    return f"{number:.4g}" if isinstance(number, float) else str(number)


def _picture(found: Difference | None) -> dict[str, str] | None:
    """Expected, got and their difference as heat maps, for matrices and images: a PNG as base64, and its alt text."""
    if found is None or found.kind != "values" or not isinstance(found.got, torch.Tensor):
        return None
    expected, got = (worst_matrix(tensor, found) for tensor in (found.expected, found.got))
    if expected is None or got is None or expected.numel() < 9 or max(expected.shape) > PICTURE:
        return None
    from course_utils.plotting import heat_map  # matplotlib, only when there is something to draw

    alt = f"Three heat maps: what was expected, what you returned, and their difference. {found.sentence}."
    figure = heat_map({"expected": expected, "got": got, "difference": got - expected}, alt=alt)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
    return {"png": base64.b64encode(buffer.getvalue()).decode(), "alt": alt}


def worst_matrix(tensor: torch.Tensor, found: Difference) -> torch.Tensor | None:
    """The last two axes where expected and got differ most, as float64.

    None for what colours cannot show: vectors, complex numbers, NaN and infinity.
    """
    if tensor.ndim < 2 or tensor.is_complex():
        return None
    gap = (found.expected.double() - found.got.double()).abs().nan_to_num(nan=torch.inf)
    leading = torch.unravel_index(gap.argmax(), gap.shape)[:-2]
    matrix = tensor[leading].double()
    return matrix if matrix.isfinite().all() else None


def _points(number: int) -> str:
    return f"{number} point" if number == 1 else f"{number} points"


@cache
def _templates() -> Any:
    import jinja2  # 50 ms that `import autograder` need not pay

    loader = jinja2.PackageLoader("autograder", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["inline_code"] = _inline_code
    return environment


def _inline_code(text: str) -> Any:
    """Text as safe HTML, with what stands in backticks as code and what stands in asterisks stressed."""
    from markupsafe import Markup, escape

    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<![\w*])\*(\w[^*]*?)\*(?![\w*])", r"<em>\1</em>", marked))


def render(template: str, **content: Any) -> str:
    """One of the templates, filled in. What is not markup is escaped."""
    return _templates().get_template(template).render(**content)
