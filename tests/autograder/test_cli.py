"""The `course` command, as a user types it."""

import subprocess
import sys
from pathlib import Path

COURSE = Path(sys.executable).parent / "course"


def course(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([COURSE, *arguments], capture_output=True, text=True)


def test_progress_prints_the_chapters():
    run = course("progress")
    assert run.returncode == 0 and "01 Tensors and einsum" in run.stdout and "○ bilinear" in run.stdout


def test_an_unknown_command_is_a_users_mistake():
    run = course("grdae")
    assert run.returncode == 2 and "No such command 'grdae'" in run.stderr and "Traceback" not in run.stderr


def test_help_says_what_each_command_is_for():
    run = course("--help")
    assert run.returncode == 0 and "exercises" in run.stdout and "progress" in run.stdout


def test_the_doctor_names_the_tier_of_this_machine_and_what_it_promises():
    run = course("doctor")
    if run.returncode == 0:
        assert "→ " in run.stdout and "holds: student code sees" in run.stdout
    else:
        assert run.returncode == 2 and "Grading is refused here" in run.stderr
