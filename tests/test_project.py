"""The project's own files agree with each other."""

import re
import subprocess
import tomllib

import pytest


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins(root) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def test_every_dependency_is_pinned_to_one_version(project, pins):
    needed = names(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        needed |= names(extra)
    assert needed <= pins.keys()


def test_the_pins_fit_what_pyproject_asks_for(project, pins):
    from packaging.requirements import Requirement

    extras = project["project"]["optional-dependencies"].values()
    requirements = [*project["project"]["dependencies"], *(one for extra in extras for one in extra)]
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pins[canonical(requirement.name)]), requirement


def test_conda_users_get_the_same_versions(root, project, pins):
    text = (root / "environment.yml").read_text(encoding="utf-8")
    listed = {canonical(name): version for name, version in re.findall(r"- ([\w.-]+)==(\S+)", text)}
    extras = project["project"]["optional-dependencies"]
    assert listed.keys() == names(project["project"]["dependencies"] + extras["lab"] + extras["hub"])
    assert listed == {name: pins[name] for name in listed}


def test_this_environment_is_the_pinned_one(pins):
    import importlib.metadata

    for name in ("torch", "torchvision", "transformers", "jupyter-book", "sphinx-book-theme", "numpy", "matplotlib"):
        assert importlib.metadata.version(name).partition("+")[0] == pins[name], name


def test_version_and_address_are_the_same_everywhere(root, project):
    version, address = project["project"]["version"], project["project"]["urls"]["Repository"]
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation and f'"{address}"' in citation
    assert f"url: {address}\n" in (root / "_config.yml").read_text(encoding="utf-8")
    colab = address.replace("https://github.com", "https://colab.research.google.com/github")
    assert address in (root / "README.md").read_text(encoding="utf-8")
    assert colab in (root / "README.md").read_text(encoding="utf-8")
    for source in [*root.glob("chapters/*.py"), *root.glob("solutions/*.py"), *root.glob("exercises/*.py")]:
        assert f'"install -q git+{address}"' in source.read_text(encoding="utf-8"), source


def test_make_help_lists_every_target_with_its_one_line(root):
    command = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    assert [line.split()[0] for line in printed.splitlines()] == targets


def test_every_command_of_the_readme_is_run_by_the_tests_or_by_ci(root):
    """A command that is not listed here is not known to work: run it in a test or in CI, then list it."""
    run_in_ci = {"make test", "make book"}
    run_in_tests = {
        "make lab",  # tests/browser/test_jupyterlab.py
        "make help",  # above
        "make exercises",  # tests/autograder/test_release.py
        "make notebooks",  # tests/test_notebooks.py
        "source .venv/bin/activate",  # the tests call the same programs by their paths
        "course progress",  # tests/autograder/test_cli.py
        "course doctor",  # tests/autograder/test_cli.py
        "course release --to handout",  # tests/grader/test_grading.py, as all below
        "course release --gradescope --to upload --exercises 01_tensors",
        "course grade submissions.zip --to results --exercises 01_tensors",
        "course grade --help",
        "course grade … --exercises bilinear one_hot",
        "course grade … --seed 7",
        "course grade … --scheduler tcp://host:8786",
        "course export results --format moodle --to grades.csv",
        "course export results --format canvas --roster their-gradebook.csv",
    }
    readme = (root / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    commands = {line.partition("#")[0].strip() for block in blocks for line in block.splitlines()} - {""}
    inline = set(re.findall(r"`((?:make|course) [^`]+)`", readme))
    setup = {"git clone https://github.com/tensors-to-diffusion/tensors-to-diffusion", "cd tensors-to-diffusion"}
    assert (commands | inline) - setup <= run_in_ci | run_in_tests


def test_python_that_is_too_old_is_told_so(root, tmp_path):
    import shutil

    shutil.copy(root / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "models.txt", "tools/lab_overrides.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(["make", "test", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 test" in run.stdout
    assert not (tmp_path / ".venv").exists()
