"""The `course` command."""

from pathlib import Path
from typing import NoReturn

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Tensors to Diffusion, from the command line.")


@app.callback()
def main() -> None:
    """Tensors to Diffusion, from the command line."""


@app.command()
def exercises() -> None:
    """Make the students' notebooks and the answers from solutions/ (run in a checkout)."""
    root = Path.cwd()
    if not (root / "solutions").is_dir():
        _stop("There is no folder solutions/ here: run this in a checkout of the course.")
    from autograder.release import ReleaseError, release

    try:
        lines = release(root)
    except ReleaseError as error:
        _stop(str(error))
    print("\n".join(lines))


@app.command()
def progress() -> None:
    """Show which exercises you have solved."""
    from autograder import progress as show_progress

    show_progress()


def _stop(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)
