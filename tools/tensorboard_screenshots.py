"""Take chapter 6's pictures of TensorBoard: `python -m tools.tensorboard_screenshots [NAME ...]`.

The chapter itself is executed in a temporary folder, so that the pictures show the runs that its cells make. Then
TensorBoard shows them on a free port of this machine, and a headless Chromium takes the pictures into
assets/tensorboard. The browser asks no other machine for anything. It needs chromium and chromedriver.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbclient
from PIL import Image
from selenium.webdriver import Chrome

from tools.browser import browser

ROOT = Path(__file__).parent.parent
CHAPTER = ROOT / "chapters" / "06_tensorboard.py"
PICTURES = ROOT / "assets" / "tensorboard"
WIDTH = 1200
MAX_BYTES = 150_000
FLAGS = (
    "--enable-unsafe-swiftshader",  # the projector draws with WebGL, here without a GPU
    "--hide-scrollbars",
)
# TensorBoard keeps its cards in shadow roots, which selectors do not enter: this walks through all of them.
EVERYWHERE = """
const all = (root, found = []) => {
  for (const node of root.querySelectorAll("*")) {
    found.push(node);
    if (node.shadowRoot) all(node.shadowRoot, found);
    if (node.contentDocument) all(node.contentDocument, found); // a dashboard may be a page of its own
  }
  return found;
};
const nodes = all(document);
"""


def do(what: str, script: str, *arguments: str) -> Callable[[Chrome], None]:
    """An action: a script that returns whether it found what it acts on."""

    def act(chrome: Chrome) -> None:
        if not chrome.execute_script(EVERYWHERE + script, *arguments):
            raise LookupError(f"TensorBoard shows no {what}: has its page changed?")

    return act


def click(text: str) -> Callable[[Chrome], None]:
    """Click the innermost element with this text."""
    script = """
        const found = nodes.filter((n) => n.textContent.trim() === arguments[0] && n.checkVisibility()).pop();
        found?.click();
        return Boolean(found);
    """
    return do(repr(text), script, text)


def tags(pattern: str) -> Callable[[Chrome], None]:
    """Type a regular expression into the field that filters tags."""
    script = """
        const found = nodes.find((n) => n.tagName === "PAPER-INPUT" && /Filter tags/.test(n.label));
        if (found) found.value = arguments[0];
        return Boolean(found);
    """
    return do("filter for tags", script, pattern)


def open_node(name: str) -> Callable[[Chrome], None]:
    """Open a box of the graph by its plus sign."""
    script = """
        const box = nodes.find((n) => n.matches("g.node") && n.dataset.name === arguments[0]);
        const plus = box?.querySelector("g.buttoncontainer");
        plus?.dispatchEvent(new MouseEvent("click", {bubbles: true, composed: true}));
        return Boolean(plus);
    """
    return do(f"box {name!r}", script, name)


def colour_by(column: str) -> Callable[[Chrome], None]:
    """Colour the points of the projector by a column of the metadata."""
    script = """
        const found = nodes.find((n) => n.tagName === "VZ-PROJECTOR-DATA-PANEL");
        if (found) found.selectedColorOptionName = arguments[0];
        return Boolean(found);
    """
    return do("panel of the projector", script, column)


class Shot(NamedTuple):
    """One picture: its name, the runs below the chapter's folder, the dashboard, its height, and what to do first."""

    name: str
    runs: str
    dashboard: str
    height: int
    actions: tuple[Callable[[Chrome], None], ...] = ()


SHOTS = [
    Shot("scalars", "rates", "scalars", 860, (tags("."),)),
    Shot("histograms", "histograms", "histograms", 900, (tags("(conv2|output).weight"),)),
    Shot("distributions", "histograms", "distributions", 900, (tags("(conv2|output).weight"),)),
    Shot("images", "everything", "images", 800, (tags("conv1|inputs"),)),
    Shot("figures", "everything", "images", 860, (tags("confusion"), click("Show actual image size"))),
    Shot("text", "everything", "text", 700),
    Shot("audio", "everything", "audio", 420),
    Shot("video", "everything", "images", 480, (tags("film"), click("Show actual image size"))),
    Shot("graph", "graph", "graphs", 1000, (open_node("SmallCNN"), click("Fit to screen"))),
    Shot("projector", "projector", "projector", 900, (colour_by("label"),)),
    Shot("hparams", "sweep", "hparams", 560),
    Shot("hparams_parallel", "sweep", "hparams", 1120, (click("PARALLEL COORDINATES VIEW"),)),
]


def main(names: list[str]) -> int:
    """Run the chapter, then take the pictures of these names, or all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser(*FLAGS) as chrome:
        run_chapter(Path(folder))
        for shot in SHOTS:
            if names and shot.name not in names:
                continue
            with tensorboard(Path(folder), f"runs/chapter06/{shot.runs}") as address:
                size = save(take(chrome, address, shot), PICTURES / f"{shot.name}.png")
            print(f"{shot.name}.png: {size / 1000:.0f} kB", flush=True)
    return 0


def run_chapter(folder: Path) -> None:
    """Execute the chapter's cells in a folder; its writers fill `runs` there."""
    nbclient.NotebookClient(
        jupytext.read(CHAPTER), timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()


@contextmanager
def tensorboard(folder: Path, log_dir: str) -> Iterator[str]:
    """TensorBoard on a free port of this machine, started in a folder: its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", log_dir, "--host", "127.0.0.1", "--port", "0"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if address := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield address[0]
                return
        raise RuntimeError("TensorBoard did not start.")
    finally:
        server.terminate()
        server.wait()


def take(chrome: Chrome, address: str, shot: Shot) -> Image.Image:
    """Open a dashboard, do what its shot says, and take the picture when it stands still."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": WIDTH, "height": shot.height, "deviceScaleFactor": 1, "mobile": False},
    )
    chrome.get("about:blank")
    chrome.get(f"{address}#{shot.dashboard}")
    settle(chrome)
    for act in shot.actions:
        act(chrome)
        settle(chrome)
    return picture(chrome)


def picture(chrome: Chrome) -> Image.Image:
    """What the window shows."""
    return Image.open(io.BytesIO(chrome.get_screenshot_as_png())).convert("RGB")


def settle(chrome: Chrome, seconds: float = 90) -> None:
    """Wait until two pictures taken two seconds apart are the same, or the time is up (a film never stands still)."""
    time.sleep(6)
    before, end = picture(chrome), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(2)
        now = picture(chrome)
        if now.tobytes() == before.tobytes():
            return
        before = now


def save(image: Image.Image, path: Path) -> int:
    """Write a PNG of few enough colours to stay below MAX_BYTES, and return its size."""
    for colours in (256, 128, 64, 32):
        image.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            break
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
