"""The last exercise runs in the process that ran the cells, not in a fork of it: the walls must hold there as well."""

import pytest

from tests.hostile.test_channel import CHANNEL
from tests.hostile.test_time import FOREVER

ATTACKS = {
    "loop": (FOREVER["loop"], "timed out", "^bilinear took longer than 1 s$"),
    "ignored signals": (FOREVER["ignored signals"], "timed out", "^bilinear took longer than 1 s$"),
    "a way out": ("os._exit(0)", "crashed", "ended its process, with exit code 0"),
    "a fault": ("import ctypes\nctypes.string_at(0)", "crashed", "segmentation fault|signal 11"),
    "memory": ("junk = []\nwhile True: junk.append(torch.ones(1 << 22))", "out of memory", "MB"),
    "orphans": ("if os.fork():\n    return torch.zeros(1)\nos.setsid()\ntime.sleep(1e6)", "incorrect", "^$"),
    "two answers": CHANNEL["two answers"],
}


@pytest.mark.parametrize(("code", "state", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_in_the_last_exercise(arena, code, state, reason):
    arena.attack_exercise(code, state, reason, last=True)
