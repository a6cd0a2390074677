"""Evidence: what a function did on one trial, as a tree of plain data, and that tree as bytes.

The tree holds None, bool, int, float, complex, str, tensors, lists, tuples and dicts. Anything else is kept as a
`Typed`: the name of its type, and what of it is plain data. As bytes it is one safetensors file: the tensors, and the
rest of the tree as JSON in the file's metadata. Nothing is ever pickled, so reading evidence runs no code.
"""

import json
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch

MAX_DEPTH = 50
"""Deeper nesting is not followed: a list may hold itself."""


MAX_NODES = 100_000
"""Nor are more lists and values than this: two lists may hold each other many times."""

MAX_ELEMENTS = 1 << 24
"""Larger tensors are not copied."""

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8)
DTYPES = frozenset({*_FLOATS, *_WHOLE, torch.bool, torch.complex64, torch.complex128})
"""The dtypes whose values can be collected and compared."""


class EvidenceError(ValueError):
    """Bytes that are not evidence."""


@dataclass(frozen=True)
class Typed:
    """A value that is not plain data: its type, in words, and what of it is plain data."""

    type: str
    value: Any = None


def collect(value: Any) -> Any:
    """Copy a value into a tree of plain data. Tensors are detached, copied and brought to the CPU."""
    nodes_left = MAX_NODES

    def copy(value: Any, depth: int) -> Any:
        nonlocal nodes_left
        nodes_left -= 1
        if depth > MAX_DEPTH or nodes_left < 0:
            return Typed("value nested too deeply")
        if value is None:
            return None
        for scalar in (bool, int, float, complex, str):
            if isinstance(value, scalar):
                return scalar(value)
        if isinstance(value, torch.Tensor):
            return _collect_tensor(value)
        if isinstance(value, (list, tuple)):
            items = [copy(item, depth + 1) for item in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {_collect_key(key): copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, np.ndarray):
            return Typed("NumPy array", _collect_array(value))
        if isinstance(value, np.generic):
            return Typed(f"NumPy {value.dtype.name}", copy(value.item(), depth + 1))
        if isinstance(value, torch.nn.Module):
            return Typed("module", copy(dict(value.state_dict()), depth + 1))
        return Typed(_NAMES.get(type(value), f"object of type {type(value).__name__}"))

    return copy(value, 0)


_NAMES = {
    types.GeneratorType: "generator",
    types.CoroutineType: "coroutine",
    types.FunctionType: "function",
    types.BuiltinFunctionType: "function",
    type: "class",
}


def _collect_key(key: Any) -> Any:
    """A key of a dict that stays one: numbers and text as they are, anything else by its type's name."""
    return key if key is None or type(key) in (bool, int, float, complex, str) else Typed(type(key).__name__)


def _collect_tensor(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach()
    if tensor.is_quantized or tensor.is_nested or tensor.device.type == "meta" or tensor.dtype not in DTYPES:
        return Typed(f"tensor of a kind without plain numbers ({tensor.device.type}, {tensor.dtype})")
    if tensor.numel() > MAX_ELEMENTS:
        return Typed(f"tensor of shape {tuple(tensor.shape)}, which is too large to compare")
    if tensor.layout != torch.strided:
        return Typed("sparse tensor", _collect_tensor(tensor.to_dense()))
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() and tensor.untyped_storage().nbytes() < (tensor.storage_offset() + extent) * tensor.itemsize:
        return Typed("tensor whose memory was taken away")  # reading it would end this process
    plain = tensor.as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    return plain.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _collect_array(array: np.ndarray) -> Any:
    try:
        return torch.from_numpy(np.array(array))
    except (TypeError, ValueError):  # strings, dates, objects, foreign byte order: torch has no dtype for them
        return [str(item) for item in array.ravel()]


def encode(tree: Any) -> bytes:
    """Write a tree as the bytes of a safetensors file."""
    tensors: dict[str, torch.Tensor] = {}

    def write(node: Any) -> Any:
        if node is None or isinstance(node, (bool, str)):
            return node
        if isinstance(node, int):
            return {"int": hex(node)}
        if isinstance(node, float):
            return {"float": node.hex()}
        if isinstance(node, complex):
            return {"complex": [node.real.hex(), node.imag.hex()]}
        if isinstance(node, torch.Tensor):
            # As bytes, because safetensors knows fewer dtypes than torch does.
            name = str(len(tensors))
            tensors[name] = node.contiguous().reshape(-1).clone().view(torch.uint8)
            return {"tensor": [name, str(node.dtype).removeprefix("torch."), list(node.shape)]}
        if isinstance(node, list):
            return [write(item) for item in node]
        if isinstance(node, tuple):
            return {"tuple": [write(item) for item in node]}
        if isinstance(node, dict):
            return {"dict": [[write(key), write(item)] for key, item in node.items()]}
        return {"typed": [node.type, write(node.value)]}

    text = json.dumps(write(tree))
    return safetensors.torch.save(tensors, metadata={"evidence": text})


def decode(data: bytes) -> Any:
    """Read the tree that `encode` wrote.

    Raises EvidenceError if `data` is anything else: cut short, garbage, or a header that lies about its tensors.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors = safetensors.torch.load(data)
        text = header["__metadata__"]["evidence"]
        if text.count("[") + text.count("{") > 8 * MAX_NODES:  # of more, JSON would take long
            raise ValueError("too many values")
        tree = _read(json.loads(text), tensors)
    except Exception as error:  # whatever is wrong with the bytes, it is one thing to the caller
        raise EvidenceError(f"These {len(data)} bytes are not evidence: {type(error).__name__}.") from error
    if tensors:
        raise EvidenceError(f"These {len(data)} bytes hold {len(tensors)} tensors that the evidence does not name.")
    return tree


def _read(node: Any, tensors: dict[str, torch.Tensor], depth: int = 0) -> Any:
    if depth > MAX_DEPTH + 5:  # collect adds a level or two around what it cuts at MAX_DEPTH
        raise ValueError("nested too deeply")
    if node is None or isinstance(node, (bool, str)):
        return node
    if isinstance(node, list):
        return [_read(item, tensors, depth + 1) for item in node]
    [(kind, content)] = node.items()
    match kind:
        case "int":
            return int(content, 16)
        case "float":
            return float.fromhex(content)
        case "complex":
            return complex(*map(float.fromhex, content))
        case "tensor":
            name, dtype, shape = content
            return tensors.pop(name).view(_dtype(dtype)).reshape(shape)
        case "tuple":
            return tuple(_read(item, tensors, depth + 1) for item in content)
        case "dict":
            return {_read(key, tensors, depth + 1): _read(item, tensors, depth + 1) for key, item in content}
        case "typed":
            if not isinstance(content[0], str):
                raise ValueError("a type without a name")
            return Typed(content[0], _read(content[1], tensors, depth + 1))
    raise ValueError(kind)


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if dtype not in DTYPES:
        raise ValueError(name)
    return dtype
