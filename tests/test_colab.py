"""The notebooks alone, as Colab opens them: an empty folder, and only what their first cell installs.

The repository is a copy of this checkout, which git is told to use in place of the address on the web; pip clones it,
builds the wheel and installs it, as it would there.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import jupytext
import nbclient
import nbformat
import pytest


@pytest.fixture(scope="module")
def colab(root, tmp_path_factory):
    """An environment that has the libraries but not the course, and a kernel that says it is Colab's."""
    folder = tmp_path_factory.mktemp("colab")
    run = lambda *command, cwd=folder: subprocess.run(command, cwd=cwd, check=True, capture_output=True)  # noqa: E731

    shutil.copytree(root, folder / "repository", ignore=_ignored(root), symlinks=True)
    run("git", "init", "--quiet", cwd=folder / "repository")
    run("git", "add", ".", cwd=folder / "repository")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    run("git", *identity, "commit", "--quiet", "-m", "the checkout", cwd=folder / "repository")

    run(sys.executable, "-m", "venv", "environment")
    python = folder / "environment" / "bin" / "python"
    packages = folder / "environment" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\nimport google.colab\n")
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").touch()

    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "colab"}
    (folder / "jupyter" / "kernels" / "colab").mkdir(parents=True)
    (folder / "jupyter" / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
    return folder


def _ignored(root):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    kept = {path for name in listed for path in [root / name, *(root / name).parents]}
    return lambda folder, names: [name for name in names if os.path.join(folder, name) not in {str(p) for p in kept}]


def test_a_notebook_installs_the_course_and_runs(root, colab, monkeypatch, tmp_path):
    address = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{colab / 'repository'}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
    monkeypatch.setenv("JUPYTER_PATH", str(colab / "jupyter"))

    notebook = nbformat.read(root / "exercises" / "01_tensors.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import autograder; print(autograder.__file__)"))
    _run(notebook, tmp_path)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert str(colab / "environment") in shown[-1]["text"]
    assert sum("not attempted" in output.get("data", {}).get("text/plain", "") for output in shown) >= 14

    chapter = jupytext.read(root / "chapters" / "01_tensors.py")
    _run(chapter, tmp_path)


def _run(notebook: nbformat.NotebookNode, folder) -> None:
    nbclient.NotebookClient(
        notebook, kernel_name="colab", timeout=300, resources={"metadata": {"path": str(folder)}}
    ).execute()
