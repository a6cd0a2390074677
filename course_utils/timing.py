"""How long does a function take? Warmed up, synchronised, repeated."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """The measured runs of one function, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run, in seconds: one slow run does not move it, as it would the mean."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        """The median with its unit, and the range it lies in."""
        fastest, slowest = _readable(min(self.seconds)), _readable(max(self.seconds))
        return f"{_readable(self.median)} (median of {len(self.seconds)} runs, {fastest} to {slowest})"


def measure(function: Callable[[], object], *, warmup: int = 3, repeats: int = 10) -> Timing:
    """Time `repeats` calls of `function()`, after `warmup` calls that do not count.

    The first calls pay for memory, caches and compilation, so they are left out. CUDA and MPS return before their work
    is done, so each call is timed until the device is idle.

    Raises ValueError if `repeats` is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"measure(repeats={repeats}): at least one run is needed for a median.")
    for _ in range(warmup):
        function()
    return Timing(tuple(_seconds(function) for _ in range(repeats)))


def _seconds(function: Callable[[], object]) -> float:
    _wait_for_device()
    start = time.perf_counter()
    function()
    _wait_for_device()
    return time.perf_counter() - start


def _wait_for_device() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _readable(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
