"""Weights that the book trained itself, one file of at most 6 MB per model.

Each `NAME.safetensors` was written by `python -m training.NAME`; its seed and its log are in `training/NAME.log`.
"""

from pathlib import Path

from course_utils.files import DataError

HERE = Path(__file__).parent


def trained(name: str) -> Path:
    """The file with the trained weights of `name`, for `safetensors.torch.load_file` or `load_model`.

    Raises DataError if there is none, with the names that there are.
    """
    path = HERE / f"{name}.safetensors"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in HERE.glob("*.safetensors")))
        raise DataError(f"There are no trained weights called {name!r}; the course has these: {known}.")
    return path
