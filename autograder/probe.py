"""Probes: code that runs beside a function on one trial and returns evidence.

A probe takes the function and the trial's arguments by name, and returns a dict of named evidence. It decides nothing:
it reports data, and the judge compares them with what the solution gave.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from autograder.compare import difference
from autograder.evidence import collect

Probe = Callable[[Callable, dict[str, Any]], dict[str, Any]]


class WrongSignature(TypeError):
    """A function that cannot take the arguments of its exercise."""


def call(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """The default probe: the result, and each argument that the call changed, as it left it."""
    before = collect(arguments)
    result = apply(function, arguments)
    return {"result": collect(result), "changed": _changed(before, arguments)}


def call_in_float32(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """Like `call`, for results that may come in any floating-point dtype: they are compared in float32."""

    def converted(**named: Any) -> Any:
        result = apply(function, named)
        return result.float() if isinstance(result, torch.Tensor) and result.is_floating_point() else result

    return call(converted, arguments)


def call_with_gradients(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """Like `call`, and the gradients that reach each floating-point tensor among the arguments.

    The result must be one floating-point tensor.
    """
    leaves = {
        name: value.requires_grad_()
        for name, value in arguments.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    before = collect(arguments)
    result = apply(function, arguments)
    evidence = {"result": collect(result), "changed": _changed(before, arguments), "gradients": None}
    if isinstance(result, torch.Tensor) and result.requires_grad:
        gradients = torch.autograd.grad(result, list(leaves.values()), fixed_weights(result), allow_unused=True)
        evidence["gradients"] = collect(dict(zip(leaves, gradients, strict=True)))
    return evidence


def fixed_weights(result: torch.Tensor) -> torch.Tensor:
    """Unequal weights of a result's shape and dtype, to reduce it with: a gradient sent to a wrong element shows.

    A single element weighs 1, so that the gradients of a loss are those that the learner sees.
    """
    weights = torch.linspace(-1.0, 2.0, result.numel(), dtype=result.dtype).reshape(result.shape)
    return weights if result.numel() > 1 else torch.ones_like(weights)


def backward(result: Any) -> None:
    """Send `fixed_weights` back through the graph of a result; without a graph, nothing is done."""
    if isinstance(result, torch.Tensor) and result.requires_grad and result.numel():
        result.backward(fixed_weights(result))


def returns_view_of(argument: str) -> Probe:
    """A probe for results that must share the memory of an argument: they follow when it changes, and copies do not."""

    def call_then_change(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
        before = collect(arguments)
        result = apply(function, arguments)
        evidence = {"result": collect(result), "changed": _changed(before, arguments)}
        arguments[argument].add_(1)
        evidence[f"result after 1 was added to {argument} in place"] = collect(result)
        return evidence

    return call_then_change


def _changed(before: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not exactly as they were before the call."""
    after = collect(arguments)
    return {name: after[name] for name in arguments if difference(before[name], after[name], name, exact=True)}


def apply(function: Callable, arguments: dict[str, Any]) -> Any:
    """Call a function by name where its parameters have the names of the arguments, and by position otherwise.

    Raises WrongSignature where neither fits.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions do not tell their parameters
        return function(*arguments.values())
    takes_any_name = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    named = all(takes_any_name or name in signature.parameters for name in arguments)
    if named and _binds(signature, (), arguments):
        return function(**arguments)
    if _binds(signature, tuple(arguments.values()), {}):
        return function(*arguments.values())
    raise WrongSignature(
        f"Your {getattr(function, '__name__', 'function')} takes {signature}, "
        f"but this exercise calls it with ({', '.join(arguments)})."
    )


def _binds(signature: inspect.Signature, positional: tuple, named: dict[str, Any]) -> bool:
    try:
        signature.bind(*positional, **named)
    except TypeError:
        return False
    return True
