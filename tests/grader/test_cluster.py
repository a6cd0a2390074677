"""The same class on a Dask cluster of two workers, one of which is killed in the middle."""

import os
import signal
import subprocess
import time

import pytest

from tests.grader.generated_class import EXERCISES, write_class
from tests.grader.test_grading import COURSE, SEED, SIZE, grade, verdicts


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes on this machine, each watched by a nanny that starts another where one is lost."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def worker_pids(cluster) -> list[int]:
    from distributed import Client

    with Client(cluster.scheduler_address) as client:
        return list(client.run(os.getpid).values())


@pytest.mark.filterwarnings("default")  # a killed worker leaves sockets that nobody closes
def test_a_cluster_gives_the_same_verdicts_though_a_worker_is_lost(cluster, tmp_path):
    submissions = tmp_path / "submissions"
    write_class(submissions, SIZE, seed=3)
    assert grade(submissions, tmp_path / "here").returncode == 0

    results = tmp_path / "cluster"
    command = [COURSE, "grade", submissions, "--to", results, "--seed", SEED, "--exercises", *EXERCISES]
    command += ["--scheduler", cluster.scheduler_address]
    run = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not _verdicts_so_far(results) and run.poll() is None:
        time.sleep(0.2)
    victim = worker_pids(cluster)[0]
    os.kill(victim, signal.SIGKILL)
    _, told = run.communicate(timeout=900)
    assert run.returncode == 0, told
    assert victim not in worker_pids(cluster)
    assert verdicts(results) == verdicts(tmp_path / "here")
    assert (results / "grades.csv").read_bytes() == (tmp_path / "here" / "grades.csv").read_bytes()


def _verdicts_so_far(results) -> int:
    import sqlite3

    try:
        return len(verdicts(results))
    except sqlite3.OperationalError:  # no gradebook yet
        return 0
