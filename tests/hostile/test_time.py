"""Attacks on the clock: whatever does not end is ended, and only what depends on it is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.hostile.arena import HONEST, LIMITS, status

FOREVER = {
    "loop": "while True: pass",
    "sleep": "time.sleep(1e6)",
    "loop that swallows": "while True:\n    try: time.sleep(1)\n    except BaseException: pass",
    "ignored signals": "for n in set(signal.Signals) - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    "stuck in C": "sum(iter(int, 1))",
    "stopped": "try: signal.raise_signal(signal.SIGSTOP)\nexcept OSError: pass\ntime.sleep(1e6)",
    "deadlock": "lock = threading.Lock()\nlock.acquire()\nlock.acquire()",
}


@pytest.mark.parametrize("code", FOREVER.values(), ids=FOREVER)
def test_an_exercise_that_does_not_end(arena, code):
    arena.attack_exercise(code, "timed out", "^bilinear took longer than 1 s$")


@pytest.mark.parametrize("code", [FOREVER["loop"], FOREVER["ignored signals"]], ids=["loop", "ignored signals"])
def test_a_cell_that_does_not_end(arena, code):
    outcomes = arena.attack_cell(code)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * 3


def test_what_stands_in_a_cell_beside_a_loop_still_counts(arena):
    code = (
        "def outer_sum(a, b):\n    return a[:, None] + b\nwhile True: pass\ndef one_hot(labels, num_classes): return 1"
    )
    [outcome] = arena.run(code, exercises=("outer_sum",))
    assert status(outcome) == "correct"


def test_what_depends_on_a_loop_is_lost_with_a_reason(arena):
    code = "while True: pass\nbilinear = lambda x, W, y: x"
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert (outcome.state, outcome.reason) == ("undefined", "No cell defines bilinear; cell 2 took longer than 1 s")


def test_loops_in_decorators_class_bodies_and_imports(arena):
    code = "class Endless:\n    while True: pass\n"
    outcomes = arena.attack_cell(code)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * 3


def test_a_notebook_of_nothing_but_loops_ends(arena, monkeypatch):
    monkeypatch.setattr(arena.sandbox, "limits", replace(LIMITS, job_seconds=3))
    outcomes = arena.run(*["while True: pass"] * 9)
    assert {outcome.state for outcome in outcomes} == {"timed out"}
    assert outcomes[0].reason == "bilinear was not begun: the submission had used up its 3 s"
    arena.check_unharmed()


def test_who_takes_all_processors_costs_nobody_else_a_point(arena):
    hog = "def outer_sum(a, b):\n    for _ in range(8):\n        if os.fork() == 0: break\n    while True: pass"
    computes = (
        "calls = []\ndef bilinear(x, W, y):\n"
        "    end = time.process_time() + 0.6 * (not calls)\n"
        "    calls.append(all(map(end.__gt__, iter(time.process_time, None))))\n"
        "    return torch.einsum('bi,kij,bj->bk', x, W, y)"
    )
    with ThreadPoolExecutor(2) as executor:
        attack = executor.submit(arena.run, hog, exercises=("outer_sum",))
        time.sleep(0.3)
        [outcome] = arena.run(computes, exercises=("bilinear",))
        assert status(outcome) == "correct", outcome
        assert status(attack.result()[0]) == "timed out"
    arena.check_unharmed()


def test_an_alarm_set_in_a_cell_hurts_nothing(arena):
    outcomes = arena.attack_cell("signal.signal(signal.SIGALRM, lambda *a: 1 / 0)\nsignal.setitimer(0, 0.05, 0.05)")
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)
