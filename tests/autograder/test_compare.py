"""Which differences count, and how they are said."""

import math

import pytest
import torch

from autograder.compare import TOLERANCES, difference
from autograder.evidence import Typed


def said(expected, got, tolerance=None) -> str | None:
    found = difference(expected, got, "result", tolerance)
    return found and f"{found.path}: {found.sentence}"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_values_within_the_tolerance_of_their_dtype_are_equal(dtype):
    relative, absolute = TOLERANCES[dtype]
    expected = torch.tensor([100.0, 0.0]).to(dtype)
    step = torch.tensor([100 * relative, absolute], dtype=torch.float64)
    assert said(expected, (expected + 0.4 * step).to(dtype)) is None
    assert said(expected, (expected + 4 * step).to(dtype)) is not None


def test_nan_equals_nan_and_infinity_itself_only():
    special = torch.tensor([math.nan, math.inf, -math.inf])
    assert said(special, special.clone()) is None
    assert said(special, special.flip(0)) == ("result: 2 of 3 values differ; the first: expected nan, got -inf at [0]")
    assert said(math.nan, math.nan) is None and said(math.inf, -math.inf) is not None


def test_whole_numbers_and_bools_are_exact():
    assert said(torch.tensor([2**60]), torch.tensor([2**60 + 1])) is not None
    assert said(torch.tensor([True, False]), torch.tensor([True, True])) == (
        "result: 1 of 2 values differ; the first: expected False, got True at [1]"
    )
    assert said(torch.tensor([7], dtype=torch.uint64), torch.tensor([8], dtype=torch.uint64)) is not None


@pytest.mark.parametrize(
    ("expected", "got", "sentence"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), "result: expected shape (2, 3), got (3, 2)"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "result: expected dtype float32, got int64"),
        (torch.zeros(()), 0.0, "result: expected a tensor of shape (), got a Python float"),
        (True, 1, "result: expected a Python bool, got a Python int"),
        (1.0, 1, "result: expected a Python float, got a Python int"),
        ((1, 2), [1, 2], "result: expected a Python tuple, got a Python list"),
        ([1, 2], [1], "result: expected 2 items, got 1"),
        ({"a": 1}, {"b": 1}, "result: expected the keys ['a'], got ['b']"),
        ({"a": [0, {"b": 1.0}]}, {"a": [0, {"b": 2.0}]}, "result['a'][1]['b']: expected 1.0, got 2.0"),
        (
            torch.zeros(1),
            Typed("NumPy array", torch.zeros(1)),
            "result: expected a tensor of shape (1,), got a NumPy array",
        ),
        (Typed("module", {"w": 1}), Typed("module", {"w": 2}), "result['w']: expected 1, got 2"),
        ("yes", "no", "result: expected 'yes', got 'no'"),
    ],
)
def test_the_first_difference_is_named(expected, got, sentence):
    assert said(expected, got) == sentence
    assert said(expected, expected) is None


def test_a_stated_tolerance_replaces_the_table():
    assert said(torch.tensor([1.0]), torch.tensor([1.05]), (0.1, 0.0)) is None
    assert said(1.0, 1.05, (0.1, 0.0)) is None
    assert said(torch.tensor([1.0]), torch.tensor([1.000001]), (0.0, 0.0)) is not None


def test_empty_tensors_of_equal_shape_are_equal():
    assert said(torch.zeros(0, 3), torch.ones(0, 3)) is None
    assert said(torch.zeros(0, 3), torch.zeros(3, 0)) is not None


def test_an_integer_too_large_to_write_out_is_still_compared():
    assert said(3, 10**5000) == "result: expected 3, got a Python int too large to write out"
