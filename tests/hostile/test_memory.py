"""Attacks on memory and disk: they cost their own exercise, not the machine."""

from dataclasses import replace

import pytest

from tests.hostile.arena import HONEST, LIMITS, honest_code, status


@pytest.fixture(autouse=True)
def unhurried(arena, monkeypatch):
    """On a busy machine, filling memory may take seconds: here, the clock is not to come first."""
    monkeypatch.setattr(arena.sandbox, "limits", replace(LIMITS, cell_seconds=20, exercise_seconds=20, job_seconds=60))


MEMORY = {
    "100 GB at once": "torch.ones(100 << 30, dtype=torch.uint8)",
    "100 GB of Python": "bytearray(100 << 30)",
    "creeping": "kept = []\nwhile True: kept.append(b'x' * 1_000_000)",
    "over forks": """
for _ in range(5):
    if os.fork() == 0: break
kept = bytearray(b'x') * (20 << 20)
time.sleep(60)
""",
    "shared": """
kept = [mmap.mmap(-1, 5 << 20) for _ in range(11)]
for one in kept: one.write(b'x' * (5 << 20))
kept.append(bytearray(b'x') * (30 << 20))
time.sleep(60)
""",
    "shared, over forks": """
for _ in range(5):
    if os.fork() == 0: break
kept = mmap.mmap(-1, 20 << 20)
kept.write(b'x' * (20 << 20))
time.sleep(60)
""",
}


@pytest.mark.parametrize("code", MEMORY.values(), ids=MEMORY)
def test_memory(arena, code):
    arena.attack_exercise(code, "out of memory", "^bilinear (asked for|used) more than 64 MB$")


def test_memory_in_a_cell(arena):
    outcomes = arena.attack_cell("def creep():\n    kept = []\n    while True: kept.append(b'x' * 1_000_000)\ncreep()")
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)


def test_a_result_that_is_too_large(arena):
    arena.attack_exercise("return torch.ones(40_000)", "crashed", "^bilinear gave a result of more than 1 MB$")


DISK = """
written = 0
try:
    for number in range(100):
        with open(f'{number}.bin', 'wb') as file:
            for _ in range(7):
                written += file.write(b'x' * (1 << 20))
                time.sleep(0.01)
except OSError as error:
    pass
assert written < 64 << 20
time.sleep(0.2)
"""


def test_a_full_disk(arena):
    outcomes = arena.attack_cell(DISK)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)


def test_results_that_are_large_only_together(arena, monkeypatch):
    [alone] = arena.run(honest_code("outer_sum"), exercises=("outer_sum",))
    monkeypatch.setattr(arena.sandbox, "limits", replace(LIMITS, job_bytes=len(alone.evidence)))
    first, second = arena.run(*map(honest_code, HONEST[:2]), exercises=("outer_sum", "bilinear"))
    assert status(first) == "correct"
    assert (second.state, second.evidence) == ("crashed", None)
    assert second.reason.startswith("bilinear gave a result when the submission had used up")


def test_a_huge_file(arena):
    outcomes = arena.attack_cell("open('huge', 'wb').write(b'x' * (9 << 20))\nraise SystemError('no limit')")
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)
    [outcome] = arena.run("open('huge', 'wb').write(b'x' * (9 << 20))", exercises=("bilinear",))
    assert "raised OSError: [Errno 27] File too large" in outcome.reason


def test_all_inodes(arena):
    code = "for n in range(100_000):\n    os.mkdir(str(n))\n    if n % 100 == 0: time.sleep(0.01)"
    outcomes = arena.attack_cell(code)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)


def test_folders_too_deep_to_remove_and_closed_ones(arena):
    code = "os.mkdir('closed', 0)\nfor n in range(400):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)"
    outcomes = arena.attack_cell(code)
    if arena.sandbox.tier.name == "full":  # elsewhere it counts as too much disk, and may cost exercises of its own
        assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)


def test_a_gigabyte_of_output(arena):
    outcomes = arena.attack_cell("for _ in range(100): print('x' * 10_000_000)\nos.write(2, b'y' * 10_000_000)")
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)
