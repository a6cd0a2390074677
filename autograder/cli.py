"""The `course` command: practice for students, grading for instructors, `exercises` for authors."""

import difflib
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tensors to Diffusion, from the command line.",
)


@app.command()
def progress() -> None:
    """Show which exercises you have solved."""
    from autograder import progress as show_progress

    show_progress()


@app.command(context_settings={"allow_extra_args": True})
def grade(
    context: typer.Context,
    submissions: Annotated[Path, typer.Argument(help="A folder or a zip, as your students or your LMS hand it over.")],
    to: Annotated[Path, typer.Option(help="The folder for grades.csv, feedback/ and class.html.")],
    exercises: Annotated[
        list[str] | None, typer.Option(help="Grade only these: names of exercises or of chapters.", metavar="NAME...")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Submissions at a time; one per core by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draw the trials of this seed, to repeat a run.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A Dask cluster to grade on, such as tcp://host:8786.")] = None,
    show_inputs: Annotated[bool, typer.Option("--show-inputs", help="Show the trials in the feedback.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Trust all submissions: grade unprotected.")] = False,
) -> None:
    """Grade a class. Stopped at any moment, the same command goes on where it was."""
    with users_mistakes_in_one_sentence():
        from autograder.grader.gradebook import Gradebook
        from autograder.grader.grading import Marker, of_chapters_handed_in, preflight
        from autograder.grader.grading import grade as grade_all
        from autograder.grader.reports import write_reports
        from autograder.grader.submissions import find_submissions
        from autograder.grader.workers import dask_workers, local_workers

        names = [*(exercises or []), *context.args]
        chosen = _chosen(names)
        found = find_submissions(submissions, results=to)
        expected = of_chapters_handed_in(chosen, found)
        typer.echo(f"{_count(len(found), 'student')}, from {found[0].student} to {found[-1].student}", err=True)
        with Gradebook(to) as book:
            book.seed = _seed(seed, book.seed)
            book.enrol(found)
            marker = Marker(chosen, book.seed)
            if scheduler:
                place = dask_workers(expected, scheduler, unsafe)
            else:
                place = local_workers(expected, workers, unsafe)
            with place as at_work:
                preflight(marker, expected, lambda job: at_work.executor.submit(at_work.run, job).result())
                with _progress_bar(len(found)) as advance:
                    for _ in grade_all(found, book, marker, at_work.executor, at_work.run, at_work.count):
                        advance()
            write_reports(book, to, show_inputs)
        graded = f"{_count(len(found), 'submission')}, {_count(len(chosen), 'exercise')}"
        print(f"{graded}, seed {marker.seed}: see {to / 'class.html'}")
        if not names and len(expected) < len(chosen):
            chapters = " ".join(dict.fromkeys(exercise.chapter for exercise in expected))
            typer.echo(f"Nobody handed in the other chapters: --exercises {chapters} leaves them out.", err=True)


@app.command()
def export(
    results: Annotated[Path, typer.Argument(help="The folder that `course grade --to` wrote.")],
    format: Annotated[str, typer.Option(help="csv, canvas, moodle, gradescope or gradescope-results.")],
    roster: Annotated[Path | None, typer.Option(help="The system's own CSV, which knows ids and addresses.")] = None,
    to: Annotated[Path | None, typer.Option(help="The file to write; standard output by default.")] = None,
) -> None:
    """Write the grades as another system takes them."""
    with users_mistakes_in_one_sentence():
        from autograder.grader.exports import export as export_grades
        from autograder.grader.gradebook import Gradebook

        with Gradebook(results, read_only=True) as book:
            exported = export_grades(book, format, roster)
        if to:
            _write(to, exported.data)
        else:
            sys.stdout.buffer.write(exported.data)
        for note in exported.notes:
            typer.echo(note, err=True)


@app.command()
def doctor() -> None:
    """Say how well this machine can confine student code, and what would help."""
    from autograder.sandbox import survey

    findings = survey()
    used = next((finding for finding in findings if finding.works and finding.tier.protects_files), None)
    for finding in findings:
        mark = "→" if finding is used else "✓" if finding.works else "✗"
        print(
            f"{mark} {finding.tier.name}: {finding.tier.summary}" + ("" if finding.works else f" ({finding.why_not})")
        )
        for sentence in finding.tier.holds if finding is used else ():
            print(f"    holds: {sentence}")
        for sentence in finding.tier.lacks if finding is used else ():
            print(f"    does not hold: {sentence}")
        if finding.advice:
            print(f"    {finding.advice}")
    if used is None:
        _stop("Grading is refused here, unless you trust every submission and pass --unsafe.")


@app.command(context_settings={"allow_extra_args": True})
def release(
    context: typer.Context,
    to: Annotated[Path, typer.Option(help="The folder to write; it must be new or empty.")],
    gradescope: Annotated[bool, typer.Option("--gradescope", help="Write an autograder for Gradescope.")] = False,
    exercises: Annotated[
        list[str] | None,
        typer.Option(help="What the autograder grades: names of exercises or of chapters.", metavar="NAME..."),
    ] = None,
) -> None:
    """Write what students get, without the solutions; or Gradescope's autograder, with them (run in a checkout)."""
    with users_mistakes_in_one_sentence():
        from autograder.errors import UserError
        from autograder.grader.handout import write_gradescope, write_handout

        names = [*(exercises or []), *context.args]
        chosen = [exercise.name for exercise in _chosen(names)] if names else []
        if gradescope:
            print(write_gradescope(Path.cwd(), to, chosen))
        elif names:
            raise UserError("Students get the whole course: --exercises is for --gradescope.")
        else:
            write_handout(Path.cwd(), to)
            print(f"The students' copy is in {to}.")


@app.command()
def exercises() -> None:
    """Make the students' notebooks and the answers from solutions/ (run in a checkout)."""
    with users_mistakes_in_one_sentence():
        from autograder.release import release

        print("\n".join(release(Path.cwd())))


@contextmanager
def users_mistakes_in_one_sentence() -> Iterator[None]:
    """Turn the errors that a user can put right into one sentence and exit code 2."""
    from autograder.errors import UserError

    try:
        yield
    except UserError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        typer.echo("Stopped. What was graded is kept: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None


def _chosen(names: list[str]) -> list:
    """The exercises of these names or chapters, in the order of the book; all where none are named."""
    from autograder.errors import UserError
    from autograder.exercise import all_exercises
    from autograder.specs import CHAPTERS

    known = all_exercises()
    wanted: set[str] = set()
    for name in (part for text in names for part in text.split(",") if part):
        chapter = next((one.topic for one in CHAPTERS if name in (one.topic, one.stem)), None)
        if chapter is None and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise UserError(f"There is no exercise called {name}." + (f" Did you mean {close[0]}?" if close else ""))
        wanted |= {name} if chapter is None else {e.name for e in known.values() if e.chapter == chapter}
    return [exercise for exercise in known.values() if not wanted or exercise.name in wanted]


def _seed(asked: int | None, of_the_book: int | None) -> int:
    """The seed asked for, else that of the run which this one goes on with, else a fresh one."""
    return next((seed for seed in (asked, of_the_book) if seed is not None), secrets.randbelow(2**31))


@contextmanager
def _progress_bar(total: int) -> Iterator:
    """A bar with the rate and the time left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

    class Rate(ProgressColumn):
        def render(self, task) -> str:
            return f"{task.completed / task.elapsed:.1f}/s" if task.completed and task.elapsed else ""

    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("grading", total=total)
        yield lambda: bar.advance(task)


def _write(path: Path, data: bytes) -> None:
    from autograder.errors import UserError

    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _stop(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)
