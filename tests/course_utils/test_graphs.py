"""The picture of a graph: every node, every edge, from left to right."""

import pytest
from matplotlib.patches import FancyArrowPatch

from course_utils.graphs import _places, draw_graph


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def arrows(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def test_every_node_and_every_edge_is_drawn():
    figure = draw_graph({1: "x", 2: "y", 3: "x + y"}, [(1, 3), (2, 3)], marked=[1, 2], alt="A sum of two leaves.")
    assert texts(figure) == ["x", "y", "x + y"]
    assert len(arrows(figure)) == 2
    assert repr(figure) == "Figure: A sum of two leaves."


def test_an_operand_that_is_used_twice_has_two_arrows():
    first, second = arrows(draw_graph({"x": "x", "s": "x · x"}, [("x", "s"), ("x", "s")], alt="A square."))
    assert first.get_path().vertices.tolist() != second.get_path().vertices.tolist()


def test_every_arrow_goes_right_and_a_leaf_stands_just_before_its_use():
    edges = [("x", "a"), ("a", "b"), ("b", "c"), ("leaf", "c"), ("x", "c")]
    column = {node: place[0] for node, place in _places(["x", "a", "b", "c", "leaf"], edges).items()}
    assert all(column[start] < column[end] for start, end in edges)
    assert column["leaf"] == column["c"] - 1


def test_no_two_boxes_and_no_bend_share_a_place():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (4, 3), (3, 5), (1, 5)]
    places = list(_places(list(range(6)), edges).values())
    assert len(set(places)) == len(places) > 6  # more than the boxes: long edges bend round them


@pytest.mark.parametrize(
    ("labels", "edges", "message"),
    [
        ({}, [], "there is no node"),
        ({"x": "x"}, [("x", "y")], "without a label: 'y'"),
        ({"x": "x", "y": "y"}, [("x", "y"), ("y", "x")], "form a cycle"),
    ],
)
def test_what_cannot_be_drawn_is_said(labels, edges, message):
    with pytest.raises(ValueError, match=message):
        draw_graph(labels, edges, alt="Nothing.")
