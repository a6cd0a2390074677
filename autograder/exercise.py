"""What an exercise is: its trials, its probe, its known mistakes, its hints, points, level and minutes.

A spec is a generator function that yields trials, under the name of the function that the student writes:

    @exercise(points=1, level=1, minutes=5, hints=["Which axis is the batch?"])
    def batch_sum(rng):
        yield trial("a batch", x=rng.normal(4, 3))

    @batch_sum.mistake("You summed over the batch. Reduce the last axis, `dim=-1`.")
    def sums_the_batch(x):
        return x.sum(dim=0)
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from autograder.probe import Probe, call
from autograder.rng import Rng
from autograder.specs import CHAPTERS

PRACTICE_SEED = 0
"""The seed of a student's own checks. Grading draws a fresh one for each run."""


@dataclass(frozen=True)
class Trial:
    """Named arguments that a function is tried on, in the order of its parameters."""

    name: str
    arguments: dict[str, object]


@dataclass(frozen=True)
class Mistake:
    """A wrong implementation, with the sentence that puts it right."""

    name: str
    sentence: str
    implementation: Callable


@dataclass
class Exercise:
    """One exercise of the book, as its spec describes it."""

    name: str
    chapter: str
    draw: Callable[[Rng], Iterator[Trial]]
    points: int
    level: int
    minutes: int
    hints: list[str]
    probe: Probe
    tolerance: tuple[float, float] | None
    vectorised: bool
    forbidden: dict[str, str]
    mistakes: list[Mistake] = field(default_factory=list)

    def trials(self, seed: int) -> list[Trial]:
        """Draw the trials of a seed: equal seeds give equal trials, and no two calls share a tensor."""
        return list(self.draw(Rng(seed, self.name)))

    def mistake(self, sentence: str) -> Callable[[Callable], Mistake]:
        """Register the decorated function as a known mistake; `sentence` is what its author reads."""

        def register(implementation: Callable) -> Mistake:
            known = Mistake(implementation.__name__, sentence, implementation)
            self.mistakes.append(known)
            return known

        return register


def trial(trial_name: str, /, **arguments: object) -> Trial:
    """Name the arguments of one trial, in the order of the function's parameters."""
    return Trial(trial_name, arguments)


def exercise(
    *,
    points: int,
    level: int,
    minutes: int,
    hints: list[str],
    probe: Probe = call,
    tolerance: tuple[float, float] | None = None,
    vectorised: bool = False,
    forbidden: dict[str, str] | None = None,
) -> Callable[[Callable[[Rng], Iterator[Trial]]], Exercise]:
    """Turn a generator of trials into an `Exercise`.

    points, level (1 to 3), minutes: as they stand in the prompt.
    hints: given one at a time, the gentlest first.
    probe: runs the student's function on a trial and returns evidence; see `autograder.probe`.
    tolerance: (relative, absolute) for float32 and numbers, instead of the table in `autograder.compare`.
    vectorised: reject Python loops over elements, which take more and more steps as a trial grows.
    forbidden: torch functions that may not be called, by their name, each with the sentence that says why.
    """

    def register(draw: Callable[[Rng], Iterator[Trial]]) -> Exercise:
        return Exercise(
            name=draw.__name__,
            chapter=draw.__module__.rpartition(".")[2],
            draw=draw,
            points=points,
            level=level,
            minutes=minutes,
            hints=hints,
            probe=probe,
            tolerance=tolerance,
            vectorised=vectorised,
            forbidden=forbidden or {},
        )

    return register


@cache
def all_exercises() -> dict[str, Exercise]:
    """Every exercise of the book by name, in the order of the chapters and of their specs."""
    found: dict[str, Exercise] = {}
    for chapter in CHAPTERS:
        spec = importlib.import_module(f"autograder.specs.{chapter.topic}")
        for candidate in vars(spec).values():
            if isinstance(candidate, Exercise):
                if candidate.name in found:
                    raise ValueError(f"Two exercises are called {candidate.name}: names are unique in the book.")
                found[candidate.name] = candidate
    return found
