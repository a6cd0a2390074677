"""What a student calls in a notebook: check, hint, solution and progress."""

import difflib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from autograder import display, record
from autograder.answers import load_answers
from autograder.attempt import attempt, standard_torch
from autograder.exercise import PRACTICE_SEED, Exercise, all_exercises
from autograder.judge import Status, Verdict, judge, recognise
from autograder.solutions import find_solution

_hints_given: Counter[str] = Counter()
_running: set[str] = set()


class NotAnExercise(ValueError):
    """Something was passed that is not one of the book's exercises; the message says what to pass instead."""


def check(function: Callable) -> None:
    """Try your function on the practice trials and show what came of it.

    function: your solution of an exercise, under the exercise's name: `check(bilinear)`.
    """
    with standard_torch():
        try:
            verdict = try_out(function)
        except NotAnExercise as error:
            display.show(display.notice(str(error)))
            return
        exercise = all_exercises()[verdict.exercise]
        page = display.report(exercise, verdict, PRACTICE_SEED, next_step=_next_step(exercise, verdict))
    display.show(page)
    if not _remember(verdict):
        display.show(display.notice(f"Your progress could not be saved in {record.state_folder()}: is it writable?"))


def hint(function: Callable | str) -> None:
    """Show the next hint of an exercise; after the last one it starts again."""
    try:
        exercise = find_exercise(function)
    except NotAnExercise as error:
        display.show(display.notice(str(error)))
        return
    number = _hints_given[exercise.name] % len(exercise.hints)
    _hints_given[exercise.name] += 1
    text = f"Hint {number + 1} of {len(exercise.hints)} for {exercise.name}: {exercise.hints[number]}"
    if number + 1 == len(exercise.hints):
        text += " (That was the last.)"
    display.show(display.notice(text))


def solution(function: Callable | str) -> None:
    """Show the book's solution of an exercise, once you have tried it yourself."""
    try:
        exercise = find_exercise(function)
    except NotAnExercise as error:
        display.show(display.notice(str(error)))
        return
    if exercise.name not in record.load_record():
        text = f"Try {exercise.name} first: run check({exercise.name}) on an attempt, then ask for the solution."
        display.show(display.notice(text))
        return
    code = find_solution(exercise)
    if code is None:
        text = f"The solution of {exercise.name} does not come with this installation: ask your instructor."
        display.show(display.notice(text))
        return
    display.show(display.code(code))


def progress() -> None:
    """Show what you have solved, chapter by chapter."""
    display.show(display.overview(list(all_exercises().values()), record.load_record()))


def try_out(function: Callable) -> Verdict:
    """The verdict on a function, tried on the practice trials.

    Raises NotAnExercise where there is nothing to try it on.
    """
    exercise = find_exercise(function)
    if isinstance(function, str):
        raise NotAnExercise(f"Pass the function itself, not its name in quotes: check({function}).")
    try:
        expected = load_answers(exercise.name)
    except FileNotFoundError:
        raise NotAnExercise(
            f"The answers of {exercise.name} are missing from this installation: install the course again."
        ) from None
    if exercise.name in _running:
        raise NotAnExercise(f"check({exercise.name}) stands inside {exercise.name}: move it below the function.")
    _running.add(exercise.name)
    try:
        got = attempt(exercise, function, PRACTICE_SEED)
    finally:
        _running.discard(exercise.name)
    verdict = judge(exercise, expected, got)
    if verdict.status not in (Status.INCORRECT, Status.ERROR):
        return verdict
    known = ((mistake, attempt(exercise, mistake.implementation, PRACTICE_SEED)) for mistake in exercise.mistakes)
    return replace(verdict, mistake=recognise(exercise, got, known))


def find_exercise(target: Any) -> Exercise:
    """The exercise that a function belongs to, by the function's name. Raises NotAnExercise where there is none."""
    exercises = all_exercises()
    name = target if isinstance(target, str) else _name_of(target)
    if not isinstance(target, str) and not callable(target):
        raise NotAnExercise(
            f"Pass the function itself, without calling it, such as check({next(iter(exercises))}); "
            f"this is an object of type {type(target).__name__}."
        )
    if name is None:
        raise NotAnExercise(
            f"An object of type {type(target).__name__} has no name to find its exercise by: write a `def`."
        )
    if name == "<lambda>":
        raise NotAnExercise("A lambda has no name to find its exercise by: write a `def` with the exercise's name.")
    if name not in exercises:
        close = difflib.get_close_matches(name, exercises, n=1)
        advice = f"Did you mean {close[0]}?" if close else "Keep the name that the starter has."
        raise NotAnExercise(f"There is no exercise called {name}. {advice}")
    return exercises[name]


def _name_of(target: Any) -> str | None:
    try:
        name = getattr(target, "__name__", None)
    except Exception:  # an object may answer to any name as it likes
        return None
    return name if isinstance(name, str) and name else None


def _remember(verdict: Verdict) -> bool:
    """Save the attempt; False where the file system does not let us."""
    if verdict.status is Status.NOT_ATTEMPTED:
        return True
    try:
        record.remember(verdict.exercise, solved=verdict.status is Status.CORRECT)
    except OSError:
        return False
    return True


def _next_step(exercise: Exercise, verdict: Verdict) -> str:
    if verdict.status is Status.CORRECT:
        return ""
    if verdict.status is Status.NOT_ATTEMPTED:
        return f"Replace `raise NotImplementedError` with your code. A first idea: hint({exercise.name})"
    left = max(len(exercise.hints) - _hints_given[exercise.name], 0)
    if left:
        return f"Next hint: hint({exercise.name}) ({left} left)"
    return f"All hints are used. Compare with the book's way: solution({exercise.name})"
