"""One sandbox for all tests of its mechanics."""

from collections.abc import Iterator

import pytest

from autograder.sandbox import Job, Limits, Outcome, Refused, Sandbox

LIMITS = Limits(cell_seconds=5, exercise_seconds=3, memory=256 << 20, scratch_bytes=32 << 20)


class Tried:
    """A sandbox, and a short way to try cells in it."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox

    def __call__(self, *cells: str, exercises: tuple[str, ...] = ("outer_sum",), seed: int = 7) -> list[Outcome]:
        return list(self.sandbox.run(Job(cells, exercises, seed)))

    def says(self, *cells: str) -> str:
        """What the last of the cells raises as LookupError."""
        [outcome] = self(*cells, exercises=("outer_sum",))
        _, _, said = outcome.reason.partition("raised LookupError: ")
        assert said, outcome
        return said


@pytest.fixture(scope="session")
def tried() -> Iterator[Tried]:
    """The strongest sandbox that works here."""
    try:
        sandbox = Sandbox(LIMITS)
    except Refused as error:
        pytest.skip(str(error))
    with sandbox:
        yield Tried(sandbox)
