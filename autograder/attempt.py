"""One attempt: a function, probed on every trial of an exercise, and the evidence of each.

The evidence of a trial is what the probe returned, or {"raised": {...}} if the function raised. Where the exercise has
rules about how the result is reached, {"steps", "calls"} says how it was.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from autograder.evidence import EvidenceError
from autograder.exercise import Exercise
from autograder.own_code import is_own, own_lines

MAX_MESSAGE = 1000
MAX_LINES = 20
"""What is kept of an error: characters of its message, and lines of its way."""


GRADIENTS_OFF = (
    "After your code, gradients are switched off for the whole program: nothing could be trained any more. "
    "Use `with torch.no_grad():`, which switches them on again."
)


class SideEffect(Exception):
    """A function that changed torch for everyone after it."""


def attempt(exercise: Exercise, function: Callable, seed: int) -> list[dict[str, Any]]:
    """Probe a function on the trials of a seed and return the evidence of each trial.

    Exceptions of the function become evidence. KeyboardInterrupt does not: it is the learner's way out of a loop.
    torch computes as it does in a new kernel, and is then put back as it was: random state, default dtype and device.
    """
    has_rules = exercise.vectorised or bool(exercise.forbidden)
    all_evidence = []
    with standard_torch():
        for trial in exercise.trials(seed):
            torch.set_default_dtype(torch.float32)  # the function may have changed them on the trial before
            torch.set_grad_enabled(True)
            torch.default_generator.manual_seed(seed)  # torch.manual_seed also visits each kind of GPU: 1 ms
            conduct = _Conduct()
            try:
                evidence = exercise.probe(_watched(function, conduct) if has_rules else function, trial.arguments)
                if not torch.is_grad_enabled():
                    raise SideEffect(GRADIENTS_OFF)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                evidence = {"raised": _raised(error)}
            if has_rules:
                evidence |= {"steps": conduct.steps, "calls": sorted(conduct.calls)}
            all_evidence.append(evidence)
    return all_evidence


@contextmanager
def standard_torch() -> Iterator[None]:
    """Let torch compute as in a new kernel inside the block, whatever a learner has set, and put all of it back."""
    default = torch.get_default_dtype()
    elsewhere = torch.get_default_device() != torch.device("cpu")
    try:
        torch.set_default_dtype(torch.float32)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=[]),
            torch.device("cpu") if elsewhere else nullcontext(),
        ):
            yield
    finally:
        torch.set_default_dtype(default)


def read_attempt(tree: Any) -> list[dict[str, Any]]:
    """The same tree, once it is sure that it has the form that `attempt` gives. It may come from anywhere.

    Raises EvidenceError where it has not.
    """
    if not isinstance(tree, list) or not all(_is_evidence(one) for one in tree):
        raise EvidenceError("The answer is not the evidence of an attempt.")
    return [_shortened(one) for one in tree]


def _is_evidence(one: Any) -> bool:
    if not isinstance(one, dict) or not all(isinstance(name, str) for name in one):
        return False
    if not _is_count(one.get("steps", 0)) or not _is_list_of(one.get("calls", []), str):
        return False
    raised = one.get("raised", {"type": "", "message": "", "lines": []})
    return (
        isinstance(raised, dict)
        and isinstance(raised.get("type"), str)
        and isinstance(raised.get("message"), str)
        and _is_list_of(raised.get("lines"), dict)
        and all(_is_line(line) for line in raised["lines"])
    )


def _is_line(line: dict) -> bool:
    texts = isinstance(line.get("function"), str) and isinstance(line.get("source"), str)
    return texts and _is_count(line.get("number"))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _shortened(one: dict[str, Any]) -> dict[str, Any]:
    """An error message may be of any length; a page of feedback may not."""
    if "raised" not in one:
        return one
    raised = one["raised"]
    lines = [
        {"function": str(line["function"])[:80], "number": line["number"], "source": str(line["source"])[:200]}
        for line in raised["lines"][-MAX_LINES:]
    ]
    return one | {"raised": {"type": raised["type"][:80], "message": raised["message"][:MAX_MESSAGE], "lines": lines}}


def without_conduct(evidence: dict[str, Any]) -> dict[str, Any]:
    """What a function gave on a trial, without how it got there."""
    return {name: value for name, value in evidence.items() if name not in ("steps", "calls")}


def _raised(error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)
    except Exception:
        message = "(the error cannot be printed)"
    raised = {"type": type(error).__name__, "message": message, "lines": own_lines(error.__traceback__)}
    return _shortened({"raised": raised})["raised"]


class _Conduct(TorchFunctionMode):
    """Counts what a function does: its lines of Python as they run, and its calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.calls: set[str] = set()

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = function.__name__.partition(".")[0]  # torch.ops has overloads, such as mm.default
        if name != "__get__":  # reading .shape or .dtype computes nothing
            self.steps += 1
            self.calls.add(name)
        return function(*args, **(kwargs or {}))

    def trace(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        """A trace function for `sys.settrace` that counts the learner's own lines, and skips all others."""
        if not is_own(frame.f_code.co_filename):
            return None
        if event == "line":
            self.steps += 1
        return self.trace


def _watched(function: Callable, conduct: _Conduct) -> Callable:
    """The same function, counting into `conduct` while it runs; a debugger's own trace function is put back."""

    @functools.wraps(function)
    def watched(*arguments: Any, **named: Any) -> Any:
        previous = sys.gettrace()
        sys.settrace(conduct.trace)
        try:
            with conduct:
                return function(*arguments, **named)
        finally:
            sys.settrace(previous)

    return watched
