"""Who runs the jobs: sandboxes on this machine, or those of a Dask cluster. Either way the judge stays at home."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from autograder.errors import UserError
from autograder.sandbox import Job, Outcome, Sandbox


class ClusterError(UserError):
    """The Dask cluster cannot be used; the message says why."""


@dataclass(frozen=True)
class Workers:
    """Where jobs are handed in, what runs one there, and how many run at once."""

    executor: Executor
    run: Callable[[Job], list[Outcome]]
    count: int


@contextmanager
def local_workers(count: int | None, unsafe: bool) -> Iterator[Workers]:
    """Several jobs at a time in one sandbox on this machine; one per core where no count is given.

    Raises autograder.sandbox.Refused where student code cannot be confined, unless `unsafe`.
    """
    count = count or os.cpu_count() or 1
    with Sandbox(unsafe=unsafe) as sandbox, ThreadPoolExecutor(count) as executor:
        yield Workers(executor, lambda job: list(sandbox.run(job)), count)


@contextmanager
def dask_workers(address: str, unsafe: bool) -> Iterator[Workers]:
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
        yield Workers(client.get_executor(pure=False, retries=3), _RunHere(unsafe), count)


@dataclass(frozen=True)
class _RunHere:
    """Runs a job in the sandbox of the Dask worker that it is called on."""

    unsafe: bool

    def __call__(self, job: Job) -> list[Outcome]:
        with _lock:
            if "sandbox" not in _here:
                _here["sandbox"] = Sandbox(unsafe=self.unsafe)
        return list(_here["sandbox"].run(job))


_here: dict[str, Sandbox] = {}
_lock = threading.Lock()
