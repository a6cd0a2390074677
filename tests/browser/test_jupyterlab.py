"""A student's way through an exercise, in a real JupyterLab: run, err, be told what the mistake means, put it right."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from autograder.exercise import all_exercises

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "exercises/01_tensors.ipynb"
PATIENCE = 120  # seconds: a kernel that imports torch on a busy machine


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab with a copy of the course and nobody's settings, `{}` standing for the path."""
    home = tmp_path_factory.mktemp("lab")
    course = home / "course"
    for folder in ("chapters", "exercises"):
        shutil.copytree(ROOT / folder, course / folder)
    shutil.copy(ROOT / "index.md", course)
    # As `make lab` sets it up.
    (home / "settings").mkdir()
    shutil.copy(ROOT / "tools" / "lab_overrides.json", home / "settings" / "overrides.json")
    user_settings = home / "user" / "@jupyterlab"
    for plugin, setting in {
        "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }.items():
        path = user_settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    base = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "COURSE_STATE": str(home / "state"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "user"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={course}", f"--IdentityProvider.token={token}"),
        *(f"--LabApp.app_settings_dir={home / 'settings'}", "--LabApp.expose_app_in_browser=True"),
    ]
    with (home / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(f"{base}/api/status?token={token}"):
                said = (home / "log").read_text(encoding="utf-8")[-2000:]
                assert server.poll() is None, f"JupyterLab has ended:\n{said}"
                assert time.monotonic() < deadline, f"JupyterLab does not answer:\n{said}"
                time.sleep(0.5)
            yield f"{base}/lab/tree/{{}}?reset&token={token}"
        finally:
            server.terminate()  # it takes its kernels with it


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


class Notebook:
    """The notebook that is open in JupyterLab."""

    def __init__(self, browser: Chrome, address: str):
        self.browser = browser
        browser.get(address)
        self.wait("return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")

    def wait(self, script: str, *arguments: object) -> object:
        """Return what the script returns, as soon as that is something."""
        return WebDriverWait(self.browser, PATIENCE).until(lambda _: self.browser.execute_script(script, *arguments))

    def run_all(self) -> None:
        """Run > Run All Cells, until the last has run."""
        self.browser.execute_async_script(
            "window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => arguments[0]())"
        )

    def find(self, text: str) -> int:
        """The number of the one code cell that holds a text."""
        cells = self.browser.execute_script(
            "return window.jupyterapp.shell.currentWidget.content.widgets.map("
            "(cell) => cell.model.type === 'code' ? cell.model.sharedModel.getSource() : '')"
        )
        (number,) = [number for number, source in enumerate(cells) if text in source]
        return number

    def output(self, number: int) -> str:
        """What is seen under a cell once it has run."""
        return self.wait(
            "const cell = window.jupyterapp.shell.currentWidget.content.widgets[arguments[0]];"
            "return cell.model.executionState === 'idle' && cell.model.executionCount"
            " && cell.outputArea.node.innerText",
            number,
        )

    def answer(self, number: int, line: str) -> str:
        """Type a line over the last one of a cell, run it and the check below, and return what the check shows."""
        self.browser.execute_script(
            "const notebook = window.jupyterapp.shell.currentWidget.content;"
            "notebook.activeCellIndex = arguments[0]; return notebook.scrollToItem(arguments[0]);",
            number,
        )
        before = self.count(number + 1)
        self.browser.find_element(By.CSS_SELECTOR, ".jp-Cell.jp-mod-active .cm-content").click()
        keys = ActionChains(self.browser)
        keys.key_down(Keys.CONTROL).send_keys(Keys.END).key_up(Keys.CONTROL)
        keys.key_down(Keys.SHIFT).send_keys(Keys.HOME).key_up(Keys.SHIFT)
        keys.send_keys(line)
        for _ in range(2):
            keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT)
        keys.perform()
        WebDriverWait(self.browser, PATIENCE).until(lambda _: self.count(number + 1) not in (None, before))
        return self.output(number + 1)

    def count(self, number: int) -> int | None:
        return self.browser.execute_script(
            "return window.jupyterapp.shell.currentWidget.content.widgets[arguments[0]].model.executionCount", number
        )


def test_make_lab_prints_an_address_that_answers(tmp_path: Path):
    environment = {
        **os.environ,
        "BROWSER": "true",  # a program that opens nothing
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    command = subprocess.Popen(
        ["make", "lab"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        (address,) = next(found for line in command.stdout if (found := re.findall(r"http://127\.0\.0\.1:\S+", line)))
        assert "/lab/tree/index.md" in address
        deadline = time.monotonic() + PATIENCE
        while not answers(address):
            assert time.monotonic() < deadline and command.poll() is None
            time.sleep(0.5)
    finally:
        os.killpg(command.pid, signal.SIGTERM)
        command.communicate(timeout=PATIENCE)


def test_the_start_page_opens_rendered(browser: Chrome, lab: str):
    browser.get(lab.format("index.md"))
    title = (By.CSS_SELECTOR, ".jp-MarkdownViewer h1")
    WebDriverWait(browser, PATIENCE).until(lambda _: browser.find_elements(*title))
    assert browser.find_element(*title).text == "Tensors to Diffusion"
    links = [link.text for link in browser.find_elements(By.CSS_SELECTOR, ".jp-MarkdownViewer a") if link.text]
    assert any("chapter 1" in link for link in links)
    shown = browser.find_element(By.CSS_SELECTOR, ".jp-MarkdownViewer").text
    assert "Student" in shown and ":::" not in shown


def test_a_mistake_is_named_and_then_put_right(browser: Chrome, lab: str):
    notebook = Notebook(browser, lab.format(NOTEBOOK))
    definition = notebook.find("def bilinear(")
    notebook.run_all()
    assert "bilinear: not attempted" in notebook.output(definition + 1)

    sentence = next(
        mistake.sentence for mistake in all_exercises()["bilinear"].mistakes if "over k" in mistake.sentence
    )
    shown = notebook.answer(definition, 'return torch.einsum("bi,kij,bj->b", x, W, y)')
    assert "✗ bilinear" in shown and sentence in shown

    shown = notebook.answer(definition, 'return torch.einsum("bi,kij,bj->bk", x, W, y)')
    assert "✓ bilinear" in shown

    notebook.run_all()
    progress = notebook.output(notebook.find("progress()"))
    assert "✓ bilinear" in progress and "○ outer_sum" in progress
