"""`device()` takes the best there is, does as COURSE_DEVICE says, and says what it chose."""

import os
import subprocess
import sys

import pytest
import torch

from course_utils import device


@pytest.fixture
def machine(monkeypatch):
    """A machine with the given devices."""

    def has(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.delenv("COURSE_DEVICE", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_the_best_device_is_taken(machine, cuda, mps, best):
    machine(cuda, mps)
    assert device() == torch.device(best)


@pytest.mark.parametrize("choice", ["cpu", "cuda", "cuda:1", "CPU "])
def test_the_environment_overrides(machine, monkeypatch, choice):
    machine(cuda=2)
    monkeypatch.setenv("COURSE_DEVICE", choice)
    assert device() == torch.device(choice.strip().lower())


@pytest.mark.parametrize("choice", ["gpu", "cuda:7", "mps"])
def test_a_device_that_is_not_here_is_one_clear_sentence(machine, monkeypatch, choice):
    machine(cuda=1)
    monkeypatch.setenv("COURSE_DEVICE", choice)
    with pytest.raises(
        ValueError, match=f"COURSE_DEVICE is '{choice}', but the devices here are cuda, cuda:0, cpu: set"
    ):
        device()


def test_the_choice_is_printed_once():
    code = "from course_utils import device; device(); device()"
    environment = {**os.environ, "COURSE_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "device: cpu\n"
