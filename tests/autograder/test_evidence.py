"""Evidence survives the way to bytes and back, and bad bytes are refused with one named error."""

import contextlib
import math
import struct

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from autograder.compare import difference
from autograder.evidence import EvidenceError, Typed, collect, decode, encode

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (2, 3)], ids=str)
def test_tensors_of_every_dtype_and_shape_survive(dtype, shape):
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    back = decode(encode(tensor))
    assert back.dtype == dtype and back.shape == tensor.shape
    assert difference(tensor, back, "tensor", (0.0, 0.0)) is None


def test_nan_infinities_and_negative_zero_survive():
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
    back = decode(encode([torch.tensor(values, dtype=torch.float64), *values]))
    for got, expected in zip([*back[0].tolist(), *back[1:]], values * 2, strict=True):
        assert struct.pack("d", got) == struct.pack("d", expected)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.builds(Typed, st.text(max_size=5), inner)
    ),
    max_leaves=20,
)


@given(plain)
def test_any_tree_of_plain_data_survives(tree):
    assert decode(encode(tree)) == tree


@given(st.binary(max_size=300))
def test_garbage_is_refused(data):
    with pytest.raises(EvidenceError):
        decode(data)


GOOD = encode({"result": torch.arange(6.0).reshape(2, 3), "arguments": {"x": [1, 2.5, "text"]}})


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_read_or_refused_but_raise_nothing_else(changes):
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    with contextlib.suppress(EvidenceError):
        decode(bytes(data))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, len(GOOD) - 1])
def test_bytes_cut_short_are_refused(length):
    with pytest.raises(EvidenceError):
        decode(GOOD[:length])


def test_a_header_that_lies_about_its_tensors_is_refused():
    with pytest.raises(EvidenceError):
        decode(GOOD.replace(b"[2, 3]", b"[9, 9]"))
    with pytest.raises(EvidenceError):
        decode(GOOD.replace(b"float32", b"manual_"))  # torch has the name, and it is no dtype


@pytest.mark.parametrize("depth", [60, 400])
def test_nesting_deeper_than_collect_follows_is_refused(depth):
    tree: list = []
    for _ in range(depth):
        tree = [tree]
    with pytest.raises(EvidenceError):
        decode(encode(tree))


def test_deep_nesting_is_refused_not_followed():
    endless: list = []
    endless.append(endless)
    assert "nested too deeply" in str(collect(endless))
    deep = "[" * 100_000 + "]" * 100_000
    header = b'{"__metadata__":{"evidence":"' + deep.encode() + b'"}}'
    with pytest.raises(EvidenceError):
        decode(struct.pack("<Q", len(header)) + header)


def test_lists_that_hold_each_other_many_times_come_to_an_end():
    two: list = []
    two += [two, two]
    assert "nested too deeply" in str(collect(two))[:10_000_000]


def test_a_huge_tensor_is_named_not_copied():
    huge = torch.zeros(1).expand(10**6, 10**6)
    assert collect(huge) == Typed("tensor of shape (1000000, 1000000), which is too large to compare")


def test_a_tensor_without_its_memory_does_not_end_the_process():
    tensor = torch.zeros(1000)
    tensor.untyped_storage().resize_(0)
    assert collect(tensor) == Typed("tensor whose memory was taken away")


def test_collecting_copies_so_that_later_changes_do_not_show():
    x = torch.zeros(3, requires_grad=True)
    evidence = collect({"x": x, "view": x.detach()[1:]})
    with torch.no_grad():
        x += 1
    assert evidence["x"].tolist() == [0, 0, 0] and not evidence["x"].requires_grad
    assert evidence["view"].tolist() == [0, 0]


def test_what_is_not_plain_data_is_named():
    assert collect(np.float32(0.5)) == Typed("NumPy float32", 0.5)
    assert collect(np.arange(3)).type == "NumPy array"
    assert collect(np.array(["a", "b"])) == Typed("NumPy array", ["a", "b"])
    assert collect(x for x in []) == Typed("generator")
    assert collect(torch.nn.Linear(2, 1)).value.keys() == {"weight", "bias"}
    assert collect(torch.eye(2).to_sparse()).type == "sparse tensor"
    assert collect(torch.empty(2, device="meta")).type.startswith("tensor of a kind without plain numbers")
    assert collect(b"x") == Typed("object of type bytes")
    assert collect({torch.nn.Linear(1, 1): 1, 2: 3}) == {Typed("Linear"): 1, 2: 3}
    assert type(collect(torch.nn.Parameter(torch.ones(1)))) is torch.Tensor
    assert collect(torch.tensor([1 + 1j]).conj()).tolist() == [1 - 1j]
