"""One place that decides where tensors live."""

import os
from functools import cache

import torch


def device() -> torch.device:
    """The best device here: CUDA, then MPS, then the CPU; COURSE_DEVICE, if set, decides instead.

    Prints its choice, once. Raises ValueError if COURSE_DEVICE names a device that is not here.
    """
    available = _available()
    chosen = os.environ.get("COURSE_DEVICE", "").strip().lower() or available[0]
    if chosen not in available:
        raise ValueError(
            f"COURSE_DEVICE is {os.environ['COURSE_DEVICE']!r}, but the devices here are {', '.join(available)}: "
            "set it to one of these, or unset it to take the best."
        )
    _say(chosen)
    return torch.device(chosen)


def _available() -> list[str]:
    """The names of the devices that torch can use here, best first."""
    cuda = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [
        *(cuda if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
        "cpu",
    ]


@cache
def _say(chosen: str) -> None:
    print(f"device: {chosen}")
