"""All attacks once more, where the grader itself is not root: it confines student code that runs as the same user."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import view

NOBODY = 65534
BECOME_NOBODY = f"""
import os, sys
os.setgroups([])
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="all other tests run unprivileged already")
def test_attacks_on_a_grader_without_privileges(root):
    if view.bubblewrap() is None:
        pytest.skip("no bubblewrap here")
    command = [view.bubblewrap(), "--dev-bind", "/", "/"]
    covered: set[Path] = set()
    for path in (root, Path(sys.prefix), Path(sys.base_prefix)):
        closed = [parent for parent in path.parents if not parent.stat().st_mode & 0o001]  # nobody could pass there
        if closed:
            between = [parent for parent in reversed(path.parents) if parent.is_relative_to(closed[-1])]
            command += [] if closed[-1] in covered else ["--perms", "0755", "--tmpfs", str(closed[-1])]
            covered.add(closed[-1])
            for parent in between[1:]:
                command += ["--perms", "0755", "--dir", str(parent)]
            command += ["--ro-bind", str(path), str(path)]
    tests = ["-m", "pytest", "tests/hostile", "-q", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory(prefix="nobody-") as folder:
        os.chmod(folder, 0o777)
        done = subprocess.run(
            [*command, sys.executable, "-c", BECOME_NOBODY, sys.executable, *tests],
            env={**os.environ, "HOME": folder, "TMPDIR": folder},
            cwd=root,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "failed" not in done.stdout
