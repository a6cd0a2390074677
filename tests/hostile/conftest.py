"""One sandbox per tier stands all attacks: that it still works after the last is itself the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.sandbox.tiers import CHROOT, FULL, LANDLOCK, examine
from tests.hostile.arena import Arena, new_arena


@pytest.fixture(scope="session", params=[FULL, LANDLOCK, CHROOT])
def arena(request, tmp_path_factory) -> Iterator[Arena]:
    """A sandbox in each tier that works on this machine."""
    finding = examine(request.param)
    if not finding.works:
        pytest.skip(f"no {request.param} tier here: {finding.why_not}")
    folder: Path = tmp_path_factory.mktemp("outside")
    for parent in folder.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)  # so that nothing but the sandbox keeps another user out
    with new_arena(folder, request.param) as arena:
        yield arena
