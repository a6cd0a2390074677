"""Grading a class: CPU, memory and time of `course grade`, beside nbgrader on the same three questions in one run.

    python -m benchmarks.grading                 # all of it, about 15 minutes
    python -m benchmarks.grading --students 100  # a shorter run

nbgrader 0.9.6 is installed into an environment of its own, which takes torch and the kernel from this one. The
promises: at most 0.15 s of CPU per submission, over 1,000 submissions; under 2 GB, without growth; under 10 s to the
first verdict; at least 35 times less CPU than nbgrader.
"""

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from autograder.exercise import all_exercises
from autograder.solutions import solution_code, starter
from tests.grader.generated_class import EXERCISES, IMPORTS, RIGHT

ROOT = Path(__file__).parent.parent
COURSE = str(Path(sys.executable).parent / "course")
NBGRADER = "nbgrader==0.9.6"
NBGRADER_STUDENTS = 5


@dataclass(frozen=True)
class Run:
    """What one whole command took: seconds, and bytes of memory of all its processes together."""

    cpu: float
    wall: float
    first_verdict: float = 0.0
    peak: int = 0
    growth: int = 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--students", type=int, default=1000)
    students = parser.parse_args().students
    folder = Path(tempfile.mkdtemp())
    try:
        print(f"{os.cpu_count()} cores; {len(EXERCISES)} exercises per submission: {', '.join(EXERCISES)}\n")
        print(
            f"{'submissions':>11} {'workers':>7} {'wall':>9} {'first':>8} {'CPU each':>9} {'memory':>8} {'growth':>8}"
        )
        ours = None
        for count in sorted({10, 100, students}):
            for workers in (1, 2):
                ours = measure_course(folder, count, workers)
                print(
                    f"{count:11} {workers:7} {ours.wall:7.1f} s {ours.first_verdict:6.1f} s "
                    f"{ours.cpu / count:7.3f} s {ours.peak / 2**20:5.0f} MB {ours.growth / 2**20:+5.0f} MB"
                )
        theirs = measure_nbgrader(folder)
        each, other = ours.cpu / students, theirs.cpu / NBGRADER_STUDENTS
        print(f"\n{NBGRADER}: {other:.2f} s of CPU per submission, {other / each:.0f} times ours")
    finally:
        shutil.rmtree(folder)


def measure_course(folder: Path, count: int, workers: int) -> Run:
    """Grade a class of right answers, no two alike, and watch all processes of the command."""
    submissions, results = folder / f"class{count}", folder / f"results{count}_{workers}"
    if not submissions.exists():
        submissions.mkdir()
        for number in range(count):
            styles = [RIGHT[name][number % len(RIGHT[name])] for name in EXERCISES]
            cells = [IMPORTS, *styles, f"student = {number}\n"]
            (submissions / f"student{number:04d}.py").write_text("# %%\n" + "\n# %%\n".join(cells), encoding="utf-8")
    command = [COURSE, "grade", submissions, "--to", results, "--workers", workers, "--exercises", *EXERCISES]
    run = _timed(command, lambda: _graded(results))
    with sqlite3.connect(results / "gradebook.sqlite") as book:
        [(right,)] = book.execute("SELECT count(*) FROM verdict WHERE status = 'correct'")
    assert right == count * len(EXERCISES), "a right answer was not scored: the figures would mean nothing"
    return run


def measure_nbgrader(folder: Path) -> Run:
    """Autograde the same three questions with nbgrader."""
    environment = folder / "nbgrader"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([python, "-m", "pip", "install", "--quiet", NBGRADER], **quiet)
    packages = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    course = folder / "course"
    for place, solved in (("source", True), *((f"submitted/student{n}", True) for n in range(NBGRADER_STUDENTS))):
        path = course / place / "ps1" / "ps1.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(_nbgrader_notebook(solved), path)
    nbgrader = [python, "-m", "nbgrader"]
    path = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # it calls alembic by its name
    generate = [*nbgrader, "generate_assignment", "ps1", "--create"]
    subprocess.run(generate, cwd=course, env=path, check=True, capture_output=True)
    run = _timed([*nbgrader, "autograde", "ps1", "--create"], lambda: 0, cwd=course, env=path)
    done = list(course.glob("autograded/*/ps1/ps1.ipynb"))
    assert len(done) == NBGRADER_STUDENTS, "nbgrader did not grade: the figures would mean nothing"
    return run


def _nbgrader_notebook(solved: bool) -> nbformat.NotebookNode:
    """The three questions as nbgrader wants them: a cell to solve, and a locked cell of tests under it.

    The tests ask for the same work as a submission of ours: the same trials, held against the same answers.
    """
    source = (ROOT / "solutions" / "01_tensors.py").read_text(encoding="utf-8")
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells.append(nbformat.v4.new_code_cell("import torch\nimport torch.nn.functional as F"))
    for name in EXERCISES:
        code = solution_code(source, name)
        cell = nbformat.v4.new_code_cell(code if solved else starter(code))
        cell.metadata["nbgrader"] = _mark(name, solution=True)
        test = nbformat.v4.new_code_cell(
            f"from autograder.practice import try_out\nassert try_out({name}).status == 'correct'"
        )
        test.metadata["nbgrader"] = _mark(f"test_{name}", solution=False) | {"points": all_exercises()[name].points}
        notebook.cells += [cell, test]
    return notebook


def _mark(grade_id: str, solution: bool) -> dict:
    return {
        "grade_id": grade_id,
        "solution": solution,
        "grade": not solution,
        "locked": not solution,
        "task": False,
        "schema_version": 3,
    }


def _timed(command: list, graded: Callable[[], int], **where: Any) -> Run:
    """Run a command to its end and watch all of its processes.

    Its CPU is what the system charged to it and to those that it waited for, or what they were last seen to have used:
    bubblewrap does not wait for what runs in it.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(list(map(str, command)), stdout=nowhere, stderr=nowhere, **where)
    samples: list[int] = []
    first = seen = 0.0
    while process.poll() is None:
        if not first and graded():
            first = time.monotonic() - start
        processor, memory = _use(process.pid)
        samples.append(memory)
        seen = max(seen, processor)
        time.sleep(0.1)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0, f"{command[0]} failed"
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    steady = samples[len(samples) // 4 :] or [0]
    growth = max(steady[-len(steady) // 4 :]) - max(steady[: max(len(steady) // 4, 1)])
    return Run(max(cpu, seen), wall, first, max(samples), growth)


def _use(pid: int) -> tuple[float, int]:
    """What a process and all below it use: seconds of CPU, and memory with shared pages counted once, in bytes."""
    seconds, memory = 0.0, 0
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.Error):
                seconds += sum(process.cpu_times()[:4])  # its own, and of the children that it has waited for
                memory += process.memory_full_info().pss
    return seconds, memory


def _graded(results: Path) -> int:
    try:
        with sqlite3.connect(f"{(results / 'gradebook.sqlite').as_uri()}?mode=ro", uri=True) as book:
            return book.execute("SELECT count(*) FROM verdict").fetchone()[0]
    except sqlite3.Error:
        return 0


if __name__ == "__main__":
    main()
