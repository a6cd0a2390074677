"""A picture of a small graph, such as the one that automatic differentiation walks: layers from left to right."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from course_utils.plotting import COLOURS, STYLE, AltFigure

COLUMN, ROW = 1.28, 0.86  # inches from one box to the next
BOX = (0.88, 0.56)  # inches
LETTER = 0.073  # inches that a letter takes

Node = Hashable


def draw_graph(
    labels: Mapping[Node, str], edges: Sequence[tuple[Node, Node]], marked: Iterable[Node] = (), *, alt: str
) -> AltFigure:
    """Draw the nodes of a graph without cycles as boxes, and each edge as an arrow to the right.

    labels: {node: text, of one or more lines}. edges: (from, to), twice where a node is used twice.
    marked: the nodes to draw with a thick blue frame, such as the leaves.
    Raises ValueError if there is no node, if an edge names a node without a label, or if the edges form a cycle.
    """
    if not labels:
        raise ValueError("draw_graph: there is no node to draw.")
    unknown = sorted({repr(node) for edge in edges for node in edge if node not in labels})
    if unknown:
        raise ValueError(f"draw_graph: edges name nodes without a label: {', '.join(unknown)}.")
    places = _places(list(labels), edges)
    longest = max(len(line) for text in labels.values() for line in text.splitlines())
    box = (max(BOX[0], LETTER * longest + 0.2), BOX[1])
    step = COLUMN + box[0] - BOX[0]
    columns = 1 + max(column for column, _ in places.values())
    rows = [row for _, row in places.values()]

    with matplotlib.rc_context(STYLE):
        width, height = columns * step, (max(rows) - min(rows) + 1) * ROW
        figure = AltFigure(figsize=(width, height), dpi=100, alt=alt)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        marked = set(marked)
        centres = {
            node: ((column + 0.5) * step, (row - min(rows) + 0.5) * ROW) for node, (column, row) in places.items()
        }
        for node, text in labels.items():
            x, y = centres[node]
            frame = FancyBboxPatch(
                (x - box[0] / 2, y - box[1] / 2),
                *box,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="white",
                edgecolor=COLOURS[0] if node in marked else "#666666",
                linewidth=2.2 if node in marked else 1.0,
                zorder=2,
            )
            ax.add_patch(frame)
            ax.text(x, y, text, ha="center", va="center", fontsize=9, linespacing=1.25, zorder=3)
        for (start, end), count in Counter(edges).items():
            bends = [via for via in places if isinstance(via, _Bend) and (via.start, via.end) == (start, end)]
            for index in range(count):
                shift = 0.16 * (index - (count - 1) / 2)
                way = [centres[start], *(centres[via] for via in bends), centres[end]]
                way[0] = (way[0][0] + box[0] / 2 + 0.02, way[0][1] + shift)
                way[-1] = (way[-1][0] - box[0] / 2 - 0.02, way[-1][1] + shift)
                ax.add_patch(
                    FancyArrowPatch(path=Path(way), arrowstyle="-|>", mutation_scale=10, color="#666666", zorder=1)
                )
    return figure


@dataclass(frozen=True)
class _Bend:
    """The place where a long edge passes a column between its two ends."""

    start: Node
    end: Node
    column: int


def _places(nodes: list[Node], edges: Sequence[tuple[Node, Node]]) -> dict[Node, tuple[int, float]]:
    """A column and a row for each node, and for each bend of an edge: to the right of what it comes from."""
    sources = {node: [start for start, end in edges if end == node] for node in nodes}
    targets = {node: [end for start, end in edges if start == node] for node in nodes}
    column: dict[Node, int] = {}
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if all(source in column for source in sources[node])]
        if not ready:
            raise ValueError("draw_graph: the edges form a cycle, so there is no order from left to right.")
        for node in ready:
            column[node] = 1 + max((column[source] for source in sources[node]), default=-1)
        waiting = [node for node in waiting if node not in column]
    for node in nodes:  # a leaf stands just before its first use
        if not sources[node] and targets[node]:
            column[node] = min(column[target] for target in targets[node]) - 1

    for start, end in dict.fromkeys(edges):
        before = start
        for between in range(column[start] + 1, column[end]):
            bend = _Bend(start, end, between)
            column[bend], sources[bend] = between, [before]
            before = bend
        if before != start:
            sources[end] = [before if source == start else source for source in sources[end]]

    row: dict[Node, float] = {}
    for index in range(1 + max(column.values())):
        layer = [node for node in column if column[node] == index]
        wish = {node: _mean([row[source] for source in sources[node]]) for node in layer}
        layer.sort(key=lambda node, wish=wish: float("inf") if wish[node] is None else wish[node])
        centre = _mean([wanted for wanted in wish.values() if wanted is not None]) or 0.0
        for position, node in enumerate(layer):
            row[node] = centre + position - (len(layer) - 1) / 2
    return {node: (column[node], row[node]) for node in column}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
