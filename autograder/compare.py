"""Two trees of evidence held against each other: type, shape, dtype, then values within a tolerance."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import equal, isclose  # by name, so that a learner who redefines torch.equal redefines it for themselves

from autograder.evidence import Typed

TOLERANCES = {
    torch.float64: (1e-9, 1e-11),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 1e-3),
    torch.bfloat16: (5e-2, 1e-2),
    torch.complex128: (1e-9, 1e-11),
    torch.complex64: (1e-4, 1e-5),
}
"""(relative, absolute) per dtype: |got − expected| ≤ absolute + relative · (|expected| + largest / 100).

The largest expected magnitude counts because a sum rounds like its largest terms, even where they cancel. All other
dtypes are exact.
"""

NUMBER_TOLERANCE = (1e-5, 1e-6)
"""For Python numbers, which are mostly read out of float32 tensors."""

MAX_TEXT = 200
"""Longer values are cut in sentences."""

Tolerance = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """The first place where two trees differ.

    path: where, such as "result" or "result[0]". kind: type, length, keys, shape, dtype or values.
    """

    path: str
    kind: str
    sentence: str
    expected: Any
    got: Any


def difference(
    expected: Any, got: Any, path: str, tolerance: Tolerance | None = None, exact: bool = False
) -> Difference | None:
    """The first difference between two trees, or None where they agree.

    tolerance: (relative, absolute) for float32 and Python numbers, instead of the table per dtype.
    exact: allow none at all.
    """

    def differ(kind: str, sentence: str) -> Difference:
        return Difference(path, kind, sentence, expected, got)

    if type(expected) is not type(got) or (isinstance(expected, Typed) and expected.type != got.type):
        return differ("type", f"expected {describe(expected)}, got {describe(got)}")
    if isinstance(expected, Typed):
        return difference(expected.value, got.value, path, tolerance, exact)
    if isinstance(expected, torch.Tensor):
        if expected.shape != got.shape:
            return differ("shape", f"expected shape {shape_text(expected)}, got {shape_text(got)}")
        if expected.dtype != got.dtype:
            return differ("dtype", f"expected dtype {dtype_text(expected)}, got {dtype_text(got)}")
        if equal(expected, got):
            return None
        wrong = wrong_elements(expected, got, tolerance, exact)
        return differ("values", _values_sentence(expected, got, wrong)) if wrong.any() else None
    if isinstance(expected, (list, tuple)):
        if len(expected) != len(got):
            return differ("length", f"expected {len(expected)} items, got {len(got)}")
        pairs = [(f"{path}[{i}]", expected[i], got[i]) for i in range(len(expected))]
    elif isinstance(expected, dict):
        if expected.keys() != got.keys():
            return differ("keys", f"expected the keys {short_text(list(expected))}, got {short_text(list(got))}")
        pairs = [(f"{path}[{key!r}]", expected[key], got[key]) for key in expected]
    else:
        inexact = isinstance(expected, (float, complex)) and not exact
        same = _same_number(expected, got, tolerance) if inexact else (expected == got or expected != expected)
        return None if same else differ("values", f"expected {short_text(expected)}, got {short_text(got)}")
    return next((found for p, e, g in pairs if (found := difference(e, g, p, tolerance, exact))), None)


def wrong_elements(
    expected: torch.Tensor, got: torch.Tensor, tolerance: Tolerance | None = None, exact: bool = False
) -> torch.Tensor:
    """Where two tensors of equal shape and dtype differ: bool, of their shape. NaN equals NaN, infinity itself."""
    if exact and expected.dtype in TOLERANCES:
        return ~((expected == got) | (expected.isnan() & got.isnan()))
    if expected.dtype not in TOLERANCES:
        return _comparable(expected) != _comparable(got)
    relative, absolute = TOLERANCES[expected.dtype]
    if tolerance and expected.dtype == torch.float32:
        relative, absolute = tolerance
    finite = expected[expected.isfinite()].abs()
    if finite.numel():
        absolute += relative * finite.max().item() / 100
    wide = torch.complex128 if expected.is_complex() else torch.float64
    return ~isclose(got.to(wide), expected.to(wide), rtol=relative, atol=absolute, equal_nan=True)


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """Float8 and the like have no comparison of their own: compare their float32 values, NaN as one value."""
    return tensor.float().nan_to_num(nan=math.inf) if tensor.is_floating_point() else tensor


def _same_number(expected: complex, got: complex, tolerance: Tolerance | None) -> bool:
    relative, absolute = tolerance or NUMBER_TOLERANCE
    pair = torch.tensor([expected, got], dtype=torch.complex128)
    return bool(isclose(pair[1], pair[0], rtol=relative, atol=absolute, equal_nan=True))


def _values_sentence(expected: torch.Tensor, got: torch.Tensor, wrong: torch.Tensor) -> str:
    first = tuple(wrong.nonzero()[0].tolist())
    at = f" at {list(first)}" if first else ""
    example = f"{_number_pair(expected[first], got[first])}{at}"
    if wrong.numel() == 1:
        return example
    return f"{int(wrong.sum())} of {wrong.numel()} values differ; the first: {example}"


def short_text(value: Any) -> str:
    """A Python value as one writes it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return f"a Python {type(value).__name__} too large to write out"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def describe(node: Any) -> str:
    """A value in words, such as "a tensor of shape (2, 3)" or "a Python float"."""
    if node is None:
        return "None"
    if isinstance(node, torch.Tensor):
        return f"a tensor of shape {shape_text(node)}"
    if isinstance(node, Typed):
        return f"{'an' if node.type[:1] in 'aeiou' else 'a'} {node.type}"
    return f"a Python {type(node).__name__}"


def shape_text(tensor: torch.Tensor) -> str:
    """A shape as one writes it: (2, 3)."""
    return str(tuple(tensor.shape))


def dtype_text(tensor: torch.Tensor) -> str:
    """A dtype without its module: float32."""
    return str(tensor.dtype).removeprefix("torch.")


def _number_pair(expected: torch.Tensor, got: torch.Tensor) -> str:
    """Two elements, with as many digits as it takes to tell them apart."""
    short, full = (
        [f"{number:{digits}}" if isinstance(number, float) else str(number) for number in (expected.item(), got.item())]
        for digits in (".5g", ".17g")
    )
    if short[0] != short[1]:
        return f"expected {short[0]}, got {short[1]}"
    return f"expected {full[0]}, got {full[1]}, which is too far off for {dtype_text(expected)}"
