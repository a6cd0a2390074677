"""The course's pictures: shown once, described, readable, and clear about what they cannot draw."""

import base64
import io

import matplotlib
import nbclient
import nbformat
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from course_utils.plotting import confusion_matrix, heat_map, image_grid, learning_curves

ALT = "What the picture shows."


def drawings():
    return {
        "image_grid": image_grid(torch.rand(10, 1, 28, 28), range(10), alt=ALT),
        "heat_map": heat_map(torch.randn(3, 4), alt=ALT),
        "heat_map of several": heat_map({"a": torch.ones(2, 3), "b": torch.zeros(1, 3)}, title="both", alt=ALT),
        "heat_map with labels": heat_map(torch.eye(2), labels=(["a", "b"], ["first", "second"]), alt=ALT),
        "large heat_map": heat_map(torch.randn(30, 40), alt=ALT),
        "learning_curves": learning_curves({"train": [3.0, 2.0], "validation": [3.1, 2.5]}, alt=ALT),
        "confusion_matrix": confusion_matrix([[8, 2], [0, 0]], ["cat", "dog"], alt=ALT),
    }


def written(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_pictures_leave_no_trace_in_pyplot():
    before = dict(matplotlib.rcParams)
    for figure in drawings().values():
        figure.savefig(io.BytesIO())
    assert plt.get_fignums() == []
    assert {name: matplotlib.rcParams[name] for name in before} == before


def test_a_cell_shows_its_figure_exactly_once_with_its_description():
    source = f"""
import torch
from matplotlib import pyplot  # so that the inline backend is at work
from course_utils.plotting import heat_map
heat_map(torch.eye(3), alt={ALT!r})
"""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source),
            nbformat.v4.new_code_cell(f"kept = heat_map(torch.eye(3), alt={ALT!r})"),
        ]
    )
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    (shown,) = notebook.cells[0].outputs
    assert shown.data["text/plain"] == f"Figure: {ALT}"
    assert shown.metadata["image/png"]["alt"] == ALT
    assert notebook.cells[1].outputs == []

    picture = Image.open(io.BytesIO(base64.b64decode(shown.data["image/png"])))
    assert picture.width == 2 * shown.metadata["image/png"]["width"]
    assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)  # opaque and light, for dark pages


def test_every_picture_needs_a_description():
    assert {figure.alt for figure in drawings().values()} == {ALT}
    with pytest.raises(ValueError, match="alt is empty: say in a sentence"):
        heat_map(torch.eye(2), alt=" ")
    with pytest.raises(TypeError, match="alt"):
        heat_map(torch.eye(2))


@pytest.mark.parametrize("shape", [(5, 8, 9), (5, 1, 8, 9), (5, 3, 8, 9)])
def test_image_grid_takes_images_of_each_kind(shape):
    images = torch.rand(shape)
    figure = image_grid(images, labels=list("abcde"), columns=3, alt=ALT)
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in drawn] == list("abcde")
    assert drawn[0].images[0].get_array().shape[:2] == (8, 9)
    assert np.array_equal(
        image_grid(list(images), alt=ALT).axes[4].images[0].get_array(), drawn[4].images[0].get_array()
    )


def test_image_grid_takes_bytes():
    figure = image_grid(torch.full((1, 2, 2), 255, dtype=torch.uint8), alt=ALT)
    assert figure.axes[0].images[0].get_array().tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.randn(4, 1, 8, 8) * 9,
            None,
            "values run from -.* but 0 is black and 1 is white: undo the normalisation",
        ),
        (torch.full((1, 2, 2), torch.nan), None, "values run from nan"),
        (torch.rand(4, 2, 8, 8), None, r"images have shape \(4, 2, 8, 8\); it must be"),
        (torch.rand(8, 8), None, r"images have shape \(8, 8\)"),
        (torch.rand(0, 8, 8), None, "there is nothing to draw"),
        (torch.rand(4, 8, 8), ["one"], "1 labels for 4 images"),
    ],
)
def test_image_grid_says_what_it_cannot_draw(images, labels, message):
    with pytest.raises(ValueError, match=message):
        image_grid(images, labels, alt=ALT)


@pytest.mark.parametrize(
    ("tensor", "texts"),
    [
        (torch.arange(3), ["0", "1", "2"]),
        (torch.tensor([[True, False]]), ["1", "0"]),
        (torch.tensor([1.0, 2.0]), ["1", "2"]),
        (torch.tensor([0.5, -0.001]), ["0.50", "0.00"]),
        (torch.tensor([torch.nan, -torch.inf, 1234.56]), ["nan", "-inf", "1234.6"]),
        (torch.tensor([1e-6, 2e7]), ["1.0e-06", "2.0e+07"]),
        (torch.tensor([0.25], dtype=torch.bfloat16, requires_grad=True), ["0.25"]),
        ([[1, 2], [3, 4]], ["1", "2", "3", "4"]),
    ],
)
def test_heat_map_writes_the_values(tensor, texts):
    assert written(heat_map(tensor, alt=ALT)) == texts


def test_heat_maps_side_by_side_share_their_colours():
    figure = heat_map({"small": torch.tensor([[0.0, 1.0]]), "large": torch.tensor([[-10.0, 2.0]])}, alt=ALT)
    assert [ax.get_title() for ax in figure.axes] == ["small", "large"]
    assert {ax.images[0].get_clim() for ax in figure.axes} == {(-10.0, 10.0)}  # zero is the middle, in both


def test_a_large_heat_map_has_a_bar_in_place_of_values():
    figure = heat_map(torch.rand(17, 2), alt=ALT)
    assert written(figure) == []
    assert len(figure.axes) == 2


def test_values_stand_out_from_their_cells():
    """At least 4.5 to 1, WCAG's measure for text, over the whole of both scales of colours."""
    for tensor in (torch.linspace(0, 1, 256).reshape(16, 16), torch.linspace(-1, 1, 256).reshape(16, 16)):
        (ax,) = heat_map(tensor, alt=ALT).axes
        cells = ax.images[0].to_rgba(ax.images[0].get_array())[..., :3].reshape(-1, 3)
        linear = np.where(cells <= 0.04045, cells / 12.92, ((cells + 0.055) / 1.055) ** 2.4)
        for luminance, text in zip(linear @ [0.2126, 0.7152, 0.0722], ax.texts, strict=True):
            ink = 0.0 if text.get_color() == "black" else 1.0
            assert (max(luminance, ink) + 0.05) / (min(luminance, ink) + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("tensor", "labels", "message"),
    [
        (torch.zeros(2, 2, 2), None, r"the tensor has shape \(2, 2, 2\); it must be \(rows, columns\)"),
        ({"mask": torch.zeros(0, 2)}, None, r"the tensor of 'mask' has shape \(0, 2\)"),
        (torch.zeros(2, 2), (["a"], ["b", "c"]), r"1 row and 2 column labels for shape \(2, 2\)"),
    ],
)
def test_heat_map_says_what_it_cannot_draw(tensor, labels, message):
    with pytest.raises(ValueError, match=message):
        heat_map(tensor, labels=labels, alt=ALT)


def test_learning_curves_start_at_epoch_one_and_differ_in_more_than_colour():
    (ax,) = learning_curves(
        {"train": [3, 2, 1], "validation": torch.tensor([3.0, 2.5])}, ylabel="accuracy", alt=ALT
    ).axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2, 3], [1, 2]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy")
    assert len({line.get_marker() for line in ax.lines}) == 2


@pytest.mark.parametrize("curves", [{}, {"train": []}])
def test_learning_curves_need_values(curves):
    with pytest.raises(ValueError, match="learning_curves: give at least one curve"):
        learning_curves(curves, alt=ALT)


def test_confusion_matrix_writes_counts_and_colours_shares():
    (ax,) = confusion_matrix(torch.tensor([[3, 1], [0, 0]]), ["cat", "dog"], alt=ALT).axes
    assert [text.get_text() for text in ax.texts] == ["3", "1", "0", "0"]
    assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]


def test_confusion_matrix_needs_a_name_for_each_class():
    with pytest.raises(ValueError, match=r"counts have shape \(2, 2\), but there are 3 class names"):
        confusion_matrix([[1, 0], [0, 1]], ["a", "b", "c"], alt=ALT)
