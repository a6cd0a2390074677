"""Frames and the order they come in, without any process."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.sandbox.limits import Limits, Plan
from autograder.sandbox.protocol import ANSWER, CELL, ENDED, EXERCISE, FAILURE, UNCONFINED, Garbage, Receiver, send
from autograder.sandbox.watch import Watch, describe_status

SECRET = bytes(range(16))


def frames(*some: tuple[bytes, bytes]) -> bytes:
    read_end, write_end = os.pipe()
    for kind, payload in some:
        send(write_end, SECRET, kind, payload)
    os.close(write_end)
    with open(read_end, "rb") as file:
        return file.read()


def plan(cells: int = 3, exercises: int = 2, modes: tuple[str, ...] = (), **limits) -> Plan:
    names = tuple(f"exercise_{number}" for number in range(exercises))
    return Plan(("",) * cells, modes or ("all",) * cells, names, 0, Limits(**limits), 60, 1 << 30, SECRET.hex())


@given(st.integers(1, 60))
def test_frames_may_come_in_pieces(size):
    sent = [(CELL, b"1"), (ANSWER, b"x" * 100), (ENDED, b"0")]
    data, receiver = frames(*sent), Receiver(SECRET, 1000)
    got = [frame for start in range(0, len(data), size) for frame in receiver.feed(data[start : start + size])]
    assert got == sent


@given(st.binary(min_size=1, max_size=100))
def test_no_other_bytes_are_a_frame(data):
    receiver = Receiver(SECRET, 1000)
    if SECRET.startswith(data[:16]) or data.startswith(SECRET):
        return
    with pytest.raises(Garbage):
        list(receiver.feed(data))


@pytest.mark.parametrize(("kind", "length"), [(ANSWER, 1001), (FAILURE, 5000), (b"?", 1 << 63)])
def test_a_frame_that_is_too_long_is_refused_before_it_is_read(kind, length):
    header = SECRET + kind + length.to_bytes(8, "little")
    with pytest.raises(Garbage, match="too long"):
        list(Receiver(SECRET, 1000).feed(header))


def follow(watch: Watch, *some: tuple[bytes, bytes]) -> list:
    return [outcome for frame in some if (outcome := watch.receive(*frame))]


def test_the_order_of_an_honest_attempt():
    watch = Watch(plan())
    outcomes = follow(
        watch, (CELL, b"1"), (CELL, b"3"), (EXERCISE, b"0"), (ANSWER, b"evidence"), (ENDED, b"0"), (EXERCISE, b"1")
    )
    outcomes += follow(watch, (FAILURE, b"undefined: no cell"), (ENDED, b"0"))
    assert [(o.exercise, o.state, o.reason, o.evidence) for o in outcomes] == [
        ("exercise_0", "finished", "", b"evidence"),
        ("exercise_1", "undefined", "no cell", None),
    ]
    assert watch.finished


@pytest.mark.parametrize(
    "some",
    [
        [(CELL, b"0")],
        [(CELL, b"4")],
        [(CELL, b"2"), (CELL, b"1")],
        [(CELL, b"1"), (UNCONFINED, b"no")],
        [(ANSWER, b"x")],
        [(ENDED, b"0")],
        [(EXERCISE, b"1")],
        [(EXERCISE, b"0"), (EXERCISE, b"0")],
        [(EXERCISE, b"0"), (CELL, b"1")],
        [(EXERCISE, b"0"), (ANSWER, b"x"), (ANSWER, b"y")],
        [(EXERCISE, b"0"), (FAILURE, b"finished: x")],
        [(EXERCISE, b"0"), (ENDED, b"0"), (ENDED, b"0")],
        [(EXERCISE, b"zero")],
        [(EXERCISE, b"9" * 1000)],
        [(EXERCISE, "²".encode())],
    ],
)
def test_any_other_order_is_garbage(some):
    with pytest.raises(Garbage):
        follow(Watch(plan()), *some)


def test_a_cell_that_is_not_to_run_cannot_begin():
    with pytest.raises(Garbage):
        follow(Watch(plan(modes=("all", "nothing", "all"))), (CELL, b"2"))


def test_lateness_names_the_limit():
    watch = Watch(plan(cell_seconds=0, exercise_seconds=0))
    follow(watch, (CELL, b"1"))
    assert watch.seconds_left <= 0 and watch.lateness() == "took longer than 0 s"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended its process, with exit code 0, before it had answered"),
        (3 << 8, "ended its process, with exit code 3, before it had answered"),
        (11, "was killed by signal 11 (segmentation fault)"),
        (139, "was killed by signal 11 (segmentation fault)"),
        (127, "was killed by signal 127 (unknown)"),
    ],
)
def test_statuses_in_words(status, words):
    assert describe_status(status) == words


def test_a_plan_survives_the_way():
    one = Plan(
        ("a", "\ud800"), ("all", "nothing"), ("x",), 2**70, Limits(memory=5), 1.5, 9, "ab", {2: "took long"}, (1, 2)
    )
    assert Plan.from_bytes(one.to_bytes()) == one
