"""Execute the notebooks whose source, or whose exercises' spec, changed: `make notebooks`.

The `.py` files are written by hand; each `.ipynb` beside one holds its cells with the outputs of the last execution,
and in its metadata a hash of what it was made from.
"""

import hashlib
import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat

ROOT = Path(__file__).parent.parent
FOLDERS = ("chapters", "solutions")
TIMEOUT_SECONDS = 600


def main() -> int:
    """Execute what is stale and say so; 1 if a notebook raised where it should not."""
    failed = False
    for folder in FOLDERS:
        for source in sorted((ROOT / folder).glob("[0-9]*.py")):
            if is_fresh(source):
                continue
            print(f"executing {folder}/{source.name}", flush=True)
            try:
                execute(source)
            except nbclient.exceptions.CellExecutionError as error:
                print(f"{folder}/{source.name} failed; its notebook stays as it was.\n{error}", file=sys.stderr)
                failed = True
    return int(failed)


def is_fresh(source: Path) -> bool:
    """Whether the notebook beside a source was executed from just this text, and checked by just this spec."""
    notebook = source.with_suffix(".ipynb")
    return notebook.exists() and nbformat.read(notebook, as_version=4).metadata.get("source_sha256") == _hash(source)


def execute(source: Path) -> None:
    """Run a source in a kernel of its own and write its notebook."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same at every run, so that only what changed shows in the history
    client = nbclient.NotebookClient(
        notebook, timeout=TIMEOUT_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(source.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran, which is different every time
    notebook.metadata.pop("language_info", None)  # the version of Python it ran on
    notebook.metadata["source_sha256"] = _hash(source)
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def _hash(source: Path) -> str:
    """A hash of what the outputs depend on: the source and, of solutions, the spec that checks them."""
    spec = ROOT / "autograder" / "specs" / f"{source.stem.partition('_')[2]}.py"
    checked = source.parent == ROOT / "solutions" and spec.exists()
    return hashlib.sha256(source.read_bytes() + (spec.read_bytes() if checked else b"")).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
