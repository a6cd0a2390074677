"""The student's half: what `check` costs beside the function it checks, and what importing it costs beside torch.

`make benchmarks` runs it. The promises: at most 5 ms of check's own (median), at most 0.3 s for the import after torch.
"""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import autograder
from autograder.exercise import PRACTICE_SEED, all_exercises
from autograder.solutions import load_solutions
from autograder.specs import CHAPTERS

ROOT = Path(__file__).parent.parent
REPEATS = 30


def main() -> None:
    """Measure and print both tables."""
    os.environ["COURSE_STATE"] = tempfile.mkdtemp()
    print(f"{'check of a right answer':28} {'check':>9} {'function':>9} {'own cost':>9}   (median of {REPEATS})")
    own_costs = []
    for chapter in CHAPTERS:
        solutions = load_solutions((ROOT / "solutions" / f"{chapter.stem}.py").read_text(encoding="utf-8"))
        for exercise in all_exercises().values():
            if exercise.chapter == chapter.topic:
                own_costs.append(measure_check(exercise.name, solutions[exercise.name]))
    print(f"{'median over the exercises':48} {statistics.median(own_costs) * 1e3:6.2f} ms   (promise: 5 ms)")
    measure_import()


def measure_check(name: str, solution: Callable) -> float:
    """Seconds that `check` adds to calling the function on the same trials itself."""
    exercise = all_exercises()[name]

    def bare() -> float:
        trials = exercise.trials(PRACTICE_SEED)
        start = time.perf_counter()
        for trial in trials:
            solution(**trial.arguments)
        return time.perf_counter() - start

    def checked() -> float:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            autograder.check(solution)
        return time.perf_counter() - start

    pairs = [(checked(), bare()) for _ in range(REPEATS)]
    check, function = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name:28} {check * 1e3:6.2f} ms {function * 1e3:6.2f} ms {(check - function) * 1e3:6.2f} ms")
    return check - function


def measure_import() -> None:
    """Seconds of `from autograder import check` in a fresh Python that has imported torch, and of torch itself."""
    program = (
        "import time; a = time.perf_counter(); import torch; b = time.perf_counter(); from autograder import check; "
        "c = time.perf_counter(); print(b - a, c - b)"
    )
    runs = [tuple(map(float, _output_of(program).split())) for _ in range(5)]
    torch_seconds, own_seconds = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"import torch {torch_seconds:.2f} s, then autograder {own_seconds:.3f} s (median of 5; promise: 0.3 s)")


def _output_of(program: str) -> bytes:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
