"""Attacks on the channel of the answers: silence, noise, lies and repetition cost their own exercise, no other."""

import pytest

from tests.hostile.arena import HONEST, honest_code, status

FORGE = """
import struct
from autograder.sandbox import protocol
secret = next(o for o in gc.get_objects() if type(o).__name__ == 'Plan').secret
def frame(kind, payload=b'', length=None):
    return struct.pack('<16scQ', bytes.fromhex(secret), kind, len(payload) if length is None else length) + payload
"""
CHANNEL = {
    "closed": ("os.close(3)", "crashed", "ended its process, with exit code 0, before it had answered"),
    "garbage": ("os.write(3, b'garbage' * 10)", "crashed", "wrote into the channel of the answers: not a frame"),
    "flooded": ("while True: os.write(3, b'x' * 100_000)", "crashed", "wrote into the channel of the answers"),
    "oversized": (FORGE + "os.write(3, frame(b'a', length=1 << 40))", "crashed", "a frame that is too long"),
    "unfinished": (FORGE + "os.write(3, frame(b'a', b'', 100))\nos._exit(0)", "crashed", "channel of the answers"),
    "two answers": (FORGE + "os.write(3, frame(b'a', b'1'))\nreturn x", "crashed", "a frame out of order"),
    "an answer from a fork": (
        "if 'forked' not in globals():\n"
        "    globals()['forked'] = os.fork()\n"
        "    if forked: time.sleep(0.3)  # its fork answers first, whatever else the machine does\n"
        "return x",
        "crashed",
        "wrote into the channel",
    ),
    "a number that is none": (FORGE + "os.write(3, frame(b'e', b'-1'))\ntime.sleep(9)", "crashed", "not a number"),
    "an unknown frame": (FORGE + "os.write(3, frame(b'?', b''))\ntime.sleep(9)", "crashed", "out of order"),
    "a state of its own": (
        FORGE + "os.write(3, frame(b'f', b'correct: x'))\ntime.sleep(9)",
        "crashed",
        "unknown state",
    ),
    "not evidence": (FORGE + "os.write(3, frame(b'a', b'not evidence'))\nos._exit(0)", "not evidence", "^$"),
    "a pickle": (
        FORGE + "import pickle\nclass Bomb:\n    def __reduce__(self): return os.abort, ()\n"
        "os.write(3, frame(b'a', pickle.dumps(Bomb()) if False else b'cos\\nabort\\n(tR.'))\nos._exit(0)",
        "not evidence",
        "^$",
    ),
    "a lying header": (
        FORGE + 'head = b\'{"0":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}\'\n'
        "os.write(3, frame(b'a', len(head).to_bytes(8, 'little') + head))\nos._exit(0)",
        "not evidence",
        "^$",
    ),
}


@pytest.mark.parametrize(("code", "state", "reason"), CHANNEL.values(), ids=CHANNEL)
def test_channel(arena, code, state, reason):
    arena.attack_exercise(code, state, reason)


def test_an_exercise_that_declares_itself_ended(arena):
    code = FORGE + "os.write(3, frame(b'e', b'0'))\nos._exit(0)"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    outcomes = arena.run(f"def bilinear(x, W, y):\n{body}", *map(honest_code, HONEST[1:]))
    assert outcomes[0].state == "crashed"
    assert status(outcomes[2]) == "correct"  # the one between may have paid for the confusion
    arena.check_unharmed()


def test_noise_from_a_cell(arena):
    outcomes = arena.attack_cell("os.write(3, b'noise')\nos.close(3)")
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3


def test_every_answer_forged_from_a_cell(arena):
    forged = "".join(
        f"os.write(3, frame(b'x', b'{n}') + frame(b'a', b'perfect') + frame(b'e', b'0'))\n" for n in range(3)
    )
    outcomes = arena.run(FORGE + forged)
    assert {outcome.evidence for outcome in outcomes} == {b"perfect"}  # which is not evidence: no score
    arena.check_unharmed()


def test_a_reason_is_one_printable_line(arena):
    code = "raise ValueError('\\x1b[2J\\n' + 'é\\ud800' * 10_000)"
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.state == "undefined" and outcome.reason.isprintable() and len(outcome.reason) <= 500


def test_an_exception_that_cannot_be_printed(arena):
    code = "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E"
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason.endswith("raised an exception that cannot be printed")
