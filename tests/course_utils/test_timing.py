"""`measure` warms up, waits for the device, and reports the median."""

import time
from dataclasses import FrozenInstanceError

import pytest
import torch

from course_utils import Timing, measure


def test_warm_up_runs_are_not_counted():
    calls = []

    def slow_at_first():
        calls.append(None)
        time.sleep(0.05 if len(calls) <= 2 else 0.001)

    timing = measure(slow_at_first, warmup=2, repeats=5)
    assert len(calls) == 7
    assert len(timing.seconds) == 5
    assert 0.001 <= timing.median < 0.05


def test_the_device_is_idle_before_and_after_every_run(monkeypatch):
    events = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: events.append("wait"))
    measure(lambda: events.append("run"), warmup=1, repeats=2)
    assert events == ["run", "wait", "run", "wait", "wait", "run", "wait"]


def test_one_slow_run_does_not_move_the_median():
    assert Timing((0.001, 0.002, 9.0)).median == 0.002


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.0, "2 s"), (0.0015, "1.5 ms"), (42e-6, "42 µs"), (250e-9, "250 ns"), (0.0, "0 ns")],
)
def test_it_reads_well(seconds, text):
    assert str(Timing((seconds,))) == f"{text} (median of 1 runs, {text} to {text})"


def test_a_timing_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Timing((1.0,)).seconds = (2.0,)


def test_at_least_one_run_is_needed():
    with pytest.raises(ValueError, match=r"measure\(repeats=0\): at least one run"):
        measure(lambda: None, repeats=0)
