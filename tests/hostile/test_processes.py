"""Attacks on processes: bombs, kills, and ends that come too early."""

import pytest

from tests.hostile.arena import HONEST, status

ENDS = {
    "os._exit": ("os._exit(0)", "^bilinear ended its process, with exit code 0, before it had answered$"),
    "segmentation fault": ("ctypes.string_at(0)", r"^bilinear was killed by signal 11 \(segmentation fault\)$"),
    "abort": ("os.abort()", r"^bilinear was killed by signal (6 \(abort\)|11 \(segmentation fault\))$"),
    "kill itself": ("os.kill(os.getpid(), 9)\ntime.sleep(60)", "killed by signal 9|took longer|raised PermissionError"),
}


@pytest.mark.parametrize(("code", "reason"), ENDS.values(), ids=ENDS)
def test_an_exercise_that_ends_its_process(arena, code, reason):
    if code.startswith("os.kill") and arena.sandbox.tier.name != "full":
        pytest.skip("nobody may signal anybody in this tier")
    arena.attack_exercise(code, "crashed", reason)


@pytest.mark.parametrize("code", ["os._exit(0)", "sys.exit(0)", "ctypes.string_at(0)", "os.abort()", "quit()"])
def test_a_cell_that_ends_the_process(arena, code):
    outcomes = arena.attack_cell(code)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)


def test_sys_exit_in_an_exercise_is_an_error(arena):
    arena.attack_exercise("sys.exit(0)", "error", "^$")


def test_endless_recursion(arena):
    code = "sys.setrecursionlimit(10**9)\nclass Deep:\n    def __repr__(self): return repr(self)\nrepr(Deep())"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    [outcome] = arena.run(f"def bilinear(x, W, y):\n{body}", exercises=("bilinear",))
    assert status(outcome) in ("crashed", "error", "out of memory", "timed out")  # which, depends on Python's version
    arena.check_unharmed()


BOMBS = {
    "forks": "while True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "forks that move on": "while True:\n    try:\n        if os.fork(): os._exit(0)\n    except OSError: pass",
    "threads": "def more():\n    while True:\n        try:\n            threading.Thread(target=more).start()\n"
    "        except BaseException:\n            pass\nmore()",
}


def in_cell_and_exercise(code: str) -> tuple[str, ...]:
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return code, f"def bilinear(x, W, y):\n{body}", "def outer_sum(a, b): return a[:, None] + b"


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS)
def test_bombs(arena, code):
    attacked, other = arena.run(*in_cell_and_exercise(code), exercises=HONEST[:2])
    assert attacked.state in ("timed out", "out of memory", "crashed")
    assert status(other) == "correct"
    arena.check_unharmed()


KILLS = {
    "parent": "os.kill(os.getppid() or 1, 9)",
    "everybody": "os.kill(-1, 9)",
    "process group": "os.killpg(0, 9)",
    "every number": "for pid in range(2, 40_000):\n    try: os.kill(pid, 9)\n    except OSError: pass",
    "by pidfd": "for pid in range(1, 40_000):\n    try: signal.pidfd_send_signal(os.pidfd_open(pid), 9)\n"
    "    except OSError: pass",
    "by fcntl": """
import fcntl
for pid in (os.getppid(), -1, 1):
    r, w = os.pipe()
    try:
        fcntl.fcntl(r, fcntl.F_SETOWN, pid)
        fcntl.fcntl(r, 10, 9)
        fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
        os.write(w, b'x')
    except OSError:
        pass
""",
}


@pytest.mark.parametrize("code", KILLS.values(), ids=KILLS)
def test_killing_others(arena, code):
    _, other = arena.run(*in_cell_and_exercise(code), exercises=HONEST[:2])
    assert status(other) == "correct"
    arena.check_unharmed()


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(1, 32):
            try: signal.signal(n, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: time.sleep(1)
    os._exit(0)
"""


def test_a_daemon_does_not_outlive_its_submission(arena):
    outcomes = arena.attack_cell(DAEMON)
    assert [status(outcome) for outcome in outcomes] == ["correct"] * len(HONEST)
    arena.attack_exercise(DAEMON + "return torch.einsum('bi,kij,bj->bk', x, W, y)", "correct", "")


def test_a_daemon_that_holds_the_channel_open_after_a_crash(arena):
    arena.attack_exercise(DAEMON + "os._exit(3)", "crashed", "exit code 3")
