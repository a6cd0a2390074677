"""What every exercise of the book promises its author and its learners. A new exercise is covered by being there."""

import inspect
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from autograder.answers import load_answers
from autograder.attempt import attempt
from autograder.exercise import PRACTICE_SEED, Exercise, all_exercises
from autograder.judge import Status, judge, recognise
from autograder.practice import try_out
from autograder.solutions import exercise_names, starter
from autograder.specs import CHAPTERS
from tests.autograder.book import ROOT, chapter_source, define, solution, solution_text
from tests.autograder.equivalent_mutants import EQUIVALENT
from tests.autograder.mutants import mutants

EXERCISES = list(all_exercises().values())
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


@every_exercise
def test_the_solution_is_right_on_20_seeds(exercise):
    for seed in range(20):
        expected = attempt(exercise, solution(exercise), seed)
        again = attempt(exercise, solution(exercise), seed)
        assert judge(exercise, expected, again).status is Status.CORRECT


@every_exercise
def test_the_shipped_answers_are_those_of_the_solution(exercise):
    assert try_out(solution(exercise)).status is Status.CORRECT
    assert not any({"steps", "calls", "raised"} & evidence.keys() for evidence in load_answers(exercise.name))


@every_exercise
def test_the_starter_is_not_attempted(exercise):
    untouched = define(exercise, starter_code(exercise))
    assert try_out(untouched).status is Status.NOT_ATTEMPTED


@every_exercise
def test_every_mistake_is_rejected_with_its_own_sentence_and_no_other(exercise):
    assert len(exercise.mistakes) >= 3
    assert len({mistake.sentence for mistake in exercise.mistakes}) == len(exercise.mistakes)
    for seed in (PRACTICE_SEED, 1, 2):
        expected = attempt(exercise, solution(exercise), seed)
        known = [(m, attempt(exercise, m.implementation, seed)) for m in exercise.mistakes]
        for mistake, evidence in known:
            assert judge(exercise, expected, evidence).status in (Status.INCORRECT, Status.ERROR), mistake.name
            alike = [other.name for other, one in known if recognise(exercise, evidence, [(other, one)])]
            assert alike == [mistake.name]


@every_exercise
def test_answers_copied_from_practice_do_not_score(exercise):
    copied = attempt(exercise, solution(exercise), PRACTICE_SEED)
    for seed in range(1, 6):
        expected = attempt(exercise, solution(exercise), seed)
        assert judge(exercise, expected, copied).status is not Status.CORRECT, (
            f"nothing is drawn that seed {seed} changes"
        )


@every_exercise
def test_nothing_that_a_spec_holds_is_an_answer(exercise):
    module = inspect.getmodule(exercise.draw)
    for name, helper in vars(module).items():
        own = getattr(helper, "__module__", "") == module.__name__ and inspect.isfunction(helper) | inspect.isclass(
            helper
        )
        if own and parameters(helper) == parameters(solution(exercise)):
            evidence = attempt(exercise, helper, PRACTICE_SEED)
            assert judge(exercise, load_answers(exercise.name), evidence).status is not Status.CORRECT, name


def parameters(function) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # a class derived from one that is written in C
        return []


@every_exercise
def test_mutants_of_the_solution_are_caught(exercise):
    survivors, count = set(), 0
    expected = load_answers(exercise.name)
    attempt(exercise, solution(exercise), PRACTICE_SEED)  # imports what it needs, outside the time limit
    start = time.perf_counter()
    attempt(exercise, solution(exercise), PRACTICE_SEED)
    patience = 1 + 10 * (time.perf_counter() - start)
    for change, source in mutants(solution_text(exercise)):
        count += 1
        with time_limit(patience):
            verdict = judge(exercise, expected, attempt(exercise, define(exercise, source), PRACTICE_SEED))
        if verdict.status is Status.CORRECT:
            survivors.add(change)
    listed = {change for name, change in EQUIVALENT if name == exercise.name}
    print(f"{exercise.name}: {count} mutants, {count - len(survivors)} caught, {len(survivors)} equivalent")
    assert count > 0
    assert survivors == listed, f"missing trials: {survivors - listed}; stale: {listed - survivors}"


@every_exercise
def test_prompt_stub_and_spec_agree(exercise):
    source = chapter_source(exercise.chapter)
    dots = "●" * exercise.level + "○" * (3 - exercise.level)
    points = "1 point" if exercise.points == 1 else f"{exercise.points} points"
    assert f"## `{exercise.name}` · {points} · {dots} · about {exercise.minutes} min\n" in source
    assert re.search(rf"^check\({exercise.name}\)$", source, re.MULTILINE)
    assert exercise.hints and exercise.minutes > 0 and 1 <= exercise.level <= 3
    assert inspect.getdoc(solution(exercise))


@every_exercise
def test_trials_and_mistakes_have_the_parameters_of_the_solution(exercise):
    function = solution(exercise)
    if inspect.isclass(function):
        pytest.skip("a class has no parameters of its own: its probe constructs it")
    parameters = list(inspect.signature(function).parameters)
    for seed in range(3):
        for trial in exercise.trials(seed):
            assert list(trial.arguments) == parameters[: len(trial.arguments)], trial.name
    for mistake in exercise.mistakes:
        assert list(inspect.signature(mistake.implementation).parameters) == parameters, mistake.name


@every_exercise
def test_trials_have_names_of_their_own(exercise):
    names = [trial.name for trial in exercise.trials(PRACTICE_SEED)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_nothing_of_a_solution_is_in_the_exercises(chapter):
    source = chapter_source(chapter.topic)
    student = (ROOT / "exercises" / f"{chapter.stem}.py").read_text("utf-8")
    notebook = (ROOT / "exercises" / f"{chapter.stem}.ipynb").read_text("utf-8")
    assert set(exercise_names(source)) == {e.name for e in EXERCISES if e.chapter == chapter.topic}
    hidden = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", source, re.DOTALL)
    lines = {line.strip() for block in hidden for line in block.splitlines() if len(line.strip()) > 12}
    assert lines
    visible = set(map(str.strip, starter(source).splitlines()))
    for line in lines - visible:
        assert line not in student and line not in notebook


def starter_code(exercise: Exercise) -> str:
    """The cell of an exercise as a student gets it."""
    student = starter(chapter_source(exercise.chapter))
    return next(
        cell
        for cell in re.split(r"^# %%.*\n", student, flags=re.MULTILINE)
        if re.search(rf"^(def|class) {exercise.name}\b", cell, re.MULTILINE)
    )


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop a mutant that loops for ever; where there is no alarm (Windows) it is the test run that would notice."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"no result after {seconds:.1f} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
