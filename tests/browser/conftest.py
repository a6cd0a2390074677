"""A real browser, and the built site served on this machine."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from selenium.webdriver import Chrome

from tools.browser import NoBrowser, browser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", name="browser")
def chromium() -> Iterator[Chrome]:
    """Chromium with an empty profile. Without one the tests are skipped, but under CI they fail."""
    try:
        with browser("--disable-gpu", "--window-size=1280,900") as chrome:
            chrome.set_script_timeout(120)
            yield chrome
    except NoBrowser as missing:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse(str(missing))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the requests out of the tests' output."""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site, brought up to date once."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "site.lock"):
        built = subprocess.run(
            [sys.executable, "-m", "tools.book"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
        )
    assert built.returncode == 0, f"make book failed:\n{built.stdout[-2000:]}\n{built.stderr[-4000:]}"
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def site(pages: Path) -> Iterator[str]:
    """The address of the built site, ending in a slash."""
    handler = functools.partial(QuietHandler, directory=pages)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
