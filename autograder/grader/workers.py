"""Who runs the jobs: sandboxes on this machine, or those of a Dask cluster. Either way the judge stays at home."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from autograder.errors import UserError
from autograder.exercise import Exercise
from autograder.sandbox import Job, Outcome, Sandbox
from autograder.sandbox.limits import OPTIMIZERS
from autograder.solutions import imports, solutions_source


class ClusterError(UserError):
    """The Dask cluster cannot be used; the message says why."""


@dataclass(frozen=True)
class Workers:
    """Where jobs are handed in, what runs one there, and how many run at once."""

    executor: Executor
    run: Callable[[Job], list[Outcome]]
    count: int


@contextmanager
def local_workers(exercises: list[Exercise], count: int | None, unsafe: bool) -> Iterator[Workers]:
    """Several jobs at a time in one sandbox on this machine; one per core where no count is given.

    Raises autograder.sandbox.Refused where student code cannot be confined, unless `unsafe`.
    """
    count = count or os.cpu_count() or 1
    # Where grading is stopped in the middle, the sandbox ends before the executor waits for the jobs in it.
    with ThreadPoolExecutor(count) as executor, Sandbox(**_readiness(exercises), unsafe=unsafe) as sandbox:
        try:
            yield Workers(executor, lambda job: list(sandbox.run(job)), count)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def dask_workers(exercises: list[Exercise], address: str, unsafe: bool) -> Iterator[Workers]:
    """The workers of a Dask cluster, each with a warm sandbox of its own. A worker that is lost costs only time.

    Raises ClusterError where nothing answers at the address.
    """
    from dask.distributed import Client

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {address} ({type(error).__name__}): is it running?"
        ) from error
    with client:
        count = len(client.nthreads())
        if not count:
            raise ClusterError(
                f"The Dask scheduler at {address} has no workers: start some with `dask worker {address}`."
            )
        yield Workers(client.get_executor(pure=False, retries=3), _RunHere(_readiness(exercises), unsafe), count)


@dataclass(frozen=True)
class _RunHere:
    """Runs a job in the sandbox of the Dask worker that it is called on."""

    readiness: dict[str, list[str]]
    unsafe: bool

    def __call__(self, job: Job) -> list[Outcome]:
        with _lock:
            if _here.get("run") != self:  # the first job of a run
                if "sandbox" in _here:
                    _here.pop("sandbox").close()
                _here.update(run=self, sandbox=Sandbox(**self.readiness, unsafe=self.unsafe))
        return list(_here["sandbox"].run(job))


def _readiness(exercises: list[Exercise]) -> dict[str, list[str]]:
    """What the warm process of a sandbox does before the first submission: the chapters' imports, and a first try."""
    topics = dict.fromkeys(exercise.chapter for exercise in exercises)
    sources = [solutions_source(topic) or "" for topic in topics]
    statements = [statement for source in sources for statement in imports(source)]
    statements += [OPTIMIZERS] if any("optim" in source for source in sources) else []
    return {"preload": list(dict.fromkeys(statements)), "exercises": [exercise.name for exercise in exercises]}


_here: dict[str, Any] = {}
_lock = threading.Lock()
