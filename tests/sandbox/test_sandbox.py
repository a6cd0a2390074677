"""The sandbox over time: several jobs at once, lost processes, graders that go away, growth."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autograder.sandbox import Job, Sandbox, SandboxError
from autograder.sandbox.tiers import COLD, FULL, LANDLOCK, best, examine
from tests.sandbox.conftest import Tried

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is kept warm elsewhere")

OUTER_SUM = "def outer_sum(a, b):\n    return a[:, None] + b\n"
JOB = Job((OUTER_SUM,), ("outer_sum",), 7)


def processes(marker: str) -> list[int]:
    """The processes with this text in their command line: those of one sandbox."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def gone(marker: str) -> bool:
    deadline = time.monotonic() + 5
    while processes(marker) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes(marker)


def test_jobs_may_run_at_the_same_time(tried):
    with ThreadPoolExecutor(4) as executor:
        outcomes = list(executor.map(lambda seed: tried(OUTER_SUM, seed=seed)[0], [1, 2, 3, 4] * 3))
    assert [outcome.state for outcome in outcomes] == ["finished"] * 12
    assert len({outcome.evidence for outcome in outcomes}) == 4


@pytest.mark.parametrize("tier", [FULL, LANDLOCK, COLD])
def test_sets_of_words_have_the_same_order_in_each_run(tried, tier):
    if not (finding := examine(tier)).works:
        pytest.skip(finding.why_not)
    order = "raise LookupError(list({'tensor', 'batch', 'logits', 'loss', 'epoch', 'seed', 'stride', 'view'}))"
    with Sandbox(preload=(), tier=tier, unsafe=True) as another:
        assert Tried(another).says(order) == tried.says(order)


def test_a_loop_in_one_job_does_not_hold_up_another(tried):
    loop = "def outer_sum(a, b):\n    while True: pass"
    with ThreadPoolExecutor(2) as executor:
        looping = executor.submit(tried, loop)
        assert tried(OUTER_SUM)[0].state == "finished"
        assert not looping.done()
        assert looping.result()[0].state == "timed out"


def test_a_warm_process_that_was_killed_is_replaced():
    with Sandbox(preload=("import absent_replaced",)) as sandbox:
        assert next(sandbox.run(JOB)).state == "finished"
        for pid in processes("absent_replaced"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert gone("absent_replaced")
        assert next(sandbox.run(JOB)).state == "finished"
    assert gone("absent_replaced")


def test_a_closed_sandbox_says_so():
    sandbox = Sandbox(preload=())
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        next(sandbox.run(JOB))


def test_a_warm_process_that_cannot_start_says_why(monkeypatch):
    strongest = best()
    monkeypatch.setattr("autograder.sandbox.client.best", lambda unsafe: strongest)
    monkeypatch.setattr("autograder.sandbox.view.search_path", lambda: [os.path.dirname(os.__file__)])
    with Sandbox() as sandbox, pytest.raises(SandboxError, match="No module named"):
        next(sandbox.run(JOB))


@pytest.mark.parametrize("tier", [FULL, LANDLOCK])
def test_nothing_outlives_a_grader_that_is_killed(tier, tmp_path):
    if not examine(tier).works:
        pytest.skip(f"no {tier} tier here")
    marker = f"absent_{os.getpid()}_{tier}"
    code = f"""
    import tempfile
    tempfile.tempdir = {str(tmp_path)!r}
    from autograder.sandbox import Job, Sandbox
    with Sandbox(preload=("import " + {marker!r},), tier={tier!r}) as sandbox:
        list(sandbox.run({JOB!r}))
        print("running", flush=True)
        list(sandbox.run(Job(("import os\\nos.fork()\\nwhile True: pass",), ("outer_sum",), 1)))
    """
    grader = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    with grader:
        assert grader.stdout.read(7) == b"running"
        time.sleep(0.3)
        grader.kill()
    assert gone(marker)
    time.sleep(0.2)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow(tried):
    def resident() -> int:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in processes("sandbox.zygote")]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        tried(OUTER_SUM)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        tried(OUTER_SUM)
    time.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) == files
    if len(processes("sandbox.zygote")) <= 3:  # others of this user may be grading at the same time
        assert resident() - before < 4 << 20


def test_the_sandbox_shows_no_more_than_it_needs(tried):
    if tried.sandbox.tier.name != FULL:
        pytest.skip("names outside can be seen in this tier")
    code = "import os\nraise LookupError([p for p in ('/boot', '/home', '/var', '/etc/passwd', '/proc/self', '/sys') "
    assert tried.says(code + "if os.path.lexists(p)])") == "[]"
