"""The course's pictures: images, small tensors, learning curves, confusion matrices.

Every function returns a figure that describes itself (`alt`) and is drawn where it is shown, once. Colours can be told
apart by colour-blind readers, and the light background is part of the picture, so that it reads on dark pages too.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours without their yellow, which is too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.0,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "axes.edgecolor": "#666666",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
MAX_WIDTH = 9.0  # inches
MAX_WRITTEN = 16  # rows or columns of a heat map up to which its values are written into it

Values = Any  # a tensor, an array, or nested lists of numbers


class AltFigure(Figure):
    """A matplotlib figure that carries a description of itself, and shows itself in a notebook without pyplot."""

    def __init__(self, *args: Any, alt: str, **kwargs: Any) -> None:
        """Raise ValueError if `alt` is empty."""
        if not alt.strip():
            raise ValueError("alt is empty: say in a sentence what the picture shows, for those who cannot see it.")
        super().__init__(*args, **kwargs)
        self.alt = alt

    def __repr__(self) -> str:
        """The description: what a notebook keeps beside the picture, and a terminal shows in its place."""
        return f"Figure: {self.alt}"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        png = io.BytesIO()
        self.savefig(png, format="png", dpi=2 * self.dpi)  # two pixels for one, for sharp text
        data = {"image/png": base64.b64encode(png.getvalue()).decode("ascii"), "text/plain": repr(self)}
        width = round(self.get_figwidth() * self.dpi)
        display(data, metadata={"image/png": {"alt": self.alt, "width": width}}, raw=True)


def image_grid(images: Values, labels: Sequence[object] | None = None, columns: int = 8, *, alt: str) -> AltFigure:
    """Draw images in rows of `columns`, each under its label.

    images: (n, h, w), (n, 1, h, w) or (n, 3, h, w), from 0 (black) to 1 (white), or uint8; or a list of such images.
    Raises ValueError for other shapes or values, and if there is not one label per image.
    """
    pixels = _array(images)
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)  # (n, h, w, c), as matplotlib wants it
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    elif pixels.ndim != 3:
        raise ValueError(
            f"image_grid: images have shape {pixels.shape}; it must be (n, h, w), (n, 1, h, w) or (n, 3, h, w)."
        )
    if pixels.size == 0:
        raise ValueError(f"image_grid: there is nothing to draw in shape {pixels.shape}.")
    if pixels.dtype == np.uint8:
        pixels = pixels / 255
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"image_grid: values run from {pixels.min():.3g} to {pixels.max():.3g}, but 0 is black and 1 is white: "
            "undo the normalisation, or clamp them."
        )
    if labels is not None and len(labels) != len(pixels):
        raise ValueError(f"image_grid: {len(labels)} labels for {len(pixels)} images.")

    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    height, width = pixels.shape[1:3]
    side = min(1.15, MAX_WIDTH / columns)
    with matplotlib.rc_context(STYLE):
        figure = _figure(columns * side, rows * (side * height / width + (0.28 if labels is not None else 0.0)), alt)
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for index, ax in enumerate(axes):
            if index >= len(pixels):
                ax.set_axis_off()
                continue
            _draw(pixels[index], ax, matplotlib.colormaps["gray"], (0.0, 1.0))
            if labels is not None:
                ax.set_title(str(labels[index]), fontsize=9, pad=3)
    return figure


def heat_map(
    tensor: Values | Mapping[str, Values],
    title: str | None = None,
    labels: tuple[Sequence[str], Sequence[str]] | None = None,
    *,
    alt: str,
) -> AltFigure:
    """Draw a small tensor as coloured cells with its values in them, or several side by side on one scale of colours.

    tensor: (rows, columns), (columns,), or a dictionary {title: tensor}. labels: names of the rows and of the columns.
    Zero is white where there are values on both sides of it; NaN and infinities are grey. With more than 16 rows or
    columns there is a bar of colours in place of the written values.
    Raises ValueError for other shapes, and if the labels do not fit.
    """
    panels = tensor if isinstance(tensor, Mapping) else {title: tensor}
    tables = {name: np.atleast_2d(_array(values)) for name, values in panels.items()}
    for name, table in tables.items():
        if table.ndim != 2 or table.size == 0:
            where = f" of {name!r}" if name else ""
            raise ValueError(
                f"heat_map: the tensor{where} has shape {table.shape}; it must be (rows, columns), not empty."
            )
        if labels is not None and (len(labels[0]), len(labels[1])) != table.shape:
            raise ValueError(
                f"heat_map: {len(labels[0])} row and {len(labels[1])} column labels for shape {table.shape}."
            )

    colours, limits = _scale(np.concatenate([table.ravel() for table in tables.values()]))
    written = max(max(table.shape) for table in tables.values()) <= MAX_WRITTEN
    texts = {name: _texts(table) for name, table in tables.items()}
    longest = max(len(text) for rows in texts.values() for row in rows for text in row)
    columns = [table.shape[1] for table in tables.values()]
    rows = max(table.shape[0] for table in tables.values())
    side = max(0.4, 0.09 * longest + 0.12) if written else max(0.12, 4.0 / max(rows, *columns))
    side = min(side, (MAX_WIDTH - len(columns)) / sum(columns))
    margins = max(map(len, labels[0])) * 0.08 if labels else 0.0

    with matplotlib.rc_context(STYLE):
        width = max(sum(columns) * side + (0.45 + margins) * len(columns) + (0 if written else 0.8), 2.2)
        height = rows * side + 0.75 + (max(map(len, labels[1])) * 0.07 if labels else 0.0)
        figure = _figure(width, height, alt)
        axes = figure.subplots(1, len(tables), squeeze=False, width_ratios=columns)[0]
        for ax, (name, table) in zip(axes, tables.items(), strict=True):
            _draw(table, ax, colours, limits)
            _name_cells(ax, table.shape, labels)
            if name:
                ax.set_title(name, pad=8)
            if written:
                _write(ax, texts[name], min(10.0, 100 * side / longest))
        if not written:
            figure.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8)
        if title and isinstance(tensor, Mapping):
            figure.suptitle(title)
    return figure


def learning_curves(
    curves: Mapping[str, Sequence[float]], ylabel: str = "loss", xlabel: str = "epoch", *, alt: str
) -> AltFigure:
    """Draw one line per entry of {name: one value per epoch}; the first value is that of epoch 1.

    Raises ValueError if there is no curve, or one without values.
    """
    lines = {name: _array(values) for name, values in curves.items()}
    if not lines or any(line.ndim != 1 or line.size == 0 for line in lines.values()):
        raise ValueError("learning_curves: give at least one curve, {name: [value of epoch 1, value of epoch 2, ...]}.")
    with matplotlib.rc_context(STYLE):
        figure = _figure(6.4, 3.6, alt)
        ax = figure.subplots()
        for index, (name, line) in enumerate(lines.items()):
            ax.plot(
                np.arange(1, len(line) + 1),
                line,
                label=name,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)] if len(line) <= 40 else None,
                markersize=5,
                linewidth=1.8,
            )
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(color="#dddddd", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return figure


def confusion_matrix(counts: Values, class_names: Sequence[str], *, alt: str) -> AltFigure:
    """Draw how often each true class (rows) was predicted as each class (columns).

    counts: whole numbers, (classes, classes). The numbers are written in the cells; the colour is the share of the row.
    Raises ValueError if the shape does not fit the class names.
    """
    table = _array(counts)
    classes = len(class_names)
    if classes == 0 or table.shape != (classes, classes):
        raise ValueError(f"confusion_matrix: counts have shape {table.shape}, but there are {classes} class names.")
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    texts = [[f"{count:.0f}" for count in row] for row in table]
    longest = max(len(text) for row in texts for text in row)
    side = min(max(0.42, 0.09 * longest + 0.1), (MAX_WIDTH - 1.5) / classes)
    names = 0.085 * max(map(len, class_names))  # inches that the longest name takes
    with matplotlib.rc_context(STYLE):
        figure = _figure(max(classes * side + names + 0.7, 2.2), classes * side + names + 0.6, alt)
        ax = figure.subplots()
        _draw(shares, ax, matplotlib.colormaps["cividis"], (0.0, 1.0))
        _name_cells(ax, table.shape, (class_names, class_names))
        _write(ax, texts, min(10.0, 100 * side / longest))
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.xaxis.set_label_position("top")
    return figure


@cache
def _seaborn_image() -> ModuleType:
    """seaborn-image, imported on first use because that takes a second, and without the global style that it sets."""
    with matplotlib.rc_context():
        import seaborn_image
    return seaborn_image


def _figure(width: float, height: float, alt: str) -> AltFigure:
    return AltFigure(figsize=(width, height), dpi=100, layout="constrained", alt=alt)


def _draw(table: np.ndarray, ax: Axes, colours: Colormap, limits: tuple[float, float]) -> None:
    """Draw one image, (h, w) or (h, w, 3), on `ax`."""
    low, high = limits
    _seaborn_image().imgplot(
        table,
        ax=ax,
        cmap=colours,
        vmin=low,
        vmax=high,
        cbar=False,
        despine=True,
        origin="upper",
        interpolation="nearest",
    )


def _write(ax: Axes, texts: list[list[str]], size: float) -> None:
    """Write one text into each cell of the image on `ax`, in black or white, whichever stands out."""
    image = ax.images[0]
    cells = image.cmap(image.norm(image.get_array()))  # (rows, columns, rgba)
    luminance = cells[..., :3] ** 2.2 @ [0.2126, 0.7152, 0.0722]  # (rows, columns)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            ink = "black" if luminance[row, column] > 0.18 else "white"  # where both contrast alike
            ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)


def _name_cells(ax: Axes, shape: tuple[int, ...], labels: tuple[Sequence[str], Sequence[str]] | None) -> None:
    """Put labels, or the indices, along the top and the left side of a table."""
    for axis, count, names in ((ax.yaxis, shape[0], 0), (ax.xaxis, shape[1], 1)):
        if labels is not None:
            axis.set_ticks(range(count), labels[names])
        elif count <= MAX_WRITTEN:
            axis.set_ticks(range(count))
        else:
            axis.set_major_locator(MaxNLocator(8, integer=True))
    ax.tick_params(
        length=0, labelsize=9 if labels else 8, bottom=False, labelbottom=False, labeltop=True, labelleft=True
    )
    if labels is not None and max(map(len, labels[1])) > 3:
        ax.tick_params(axis="x", labelrotation=90)


def _texts(table: np.ndarray) -> list[list[str]]:
    """The values of a table as they are written in its cells: all in one form, as short as they can be told apart."""
    finite = table[np.isfinite(table)].astype(float)
    largest = np.abs(finite).max(initial=0.0)
    if np.array_equal(finite, finite.round()) and largest < 1e5:
        form = "z.0f"  # z: no minus before what is rounded to zero
    elif 0.01 <= largest < 1e5:
        form = "z.2f" if largest < 100 else "z.1f"
    else:
        form = ".1e"
    return [[format(float(value), form) for value in row] for row in table]


def _scale(values: np.ndarray) -> tuple[Colormap, tuple[float, float]]:
    """Colours, and the values at their ends: diverging about zero if there are values on both sides of it."""
    finite = values[np.isfinite(values)].astype(float)
    low, high = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    if low < 0 < high:
        name, limits = "RdBu_r", (-max(-low, high), max(-low, high))
    elif low < high:
        name, limits = "cividis", (low, high)
    else:  # one value, or none that is finite
        name, limits = "cividis", (low - 1, low + 1) if finite.size else (0.0, 1.0)
    return matplotlib.colormaps[name].with_extremes(bad="#bbbbbb"), limits


def _array(values: Values) -> np.ndarray:
    """The values in main memory, as NumPy has them."""
    if isinstance(values, list | tuple) and values and isinstance(values[0], torch.Tensor):
        values = torch.stack(tuple(values))
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    return np.asarray(values)
