"""Build the site into `_build/html`; a warning is an error: `python -m tools.book`."""

import shutil
import sys
from pathlib import Path

from jupyter_book.cli.main import main as jupyter_book

ROOT = Path(__file__).resolve().parent.parent


def build(source: Path = ROOT) -> Path:
    """Build the book of the folder `source` and return the folder of its pages.

    Only pages that changed are read again. Raises SystemExit if the build failed or warned.
    """
    output = source / "_build"
    try:
        jupyter_book(["build", str(source), "-W", "-n", "--keep-going", "-q"], standalone_mode=False)
    except BaseException:
        # A page that was read is not read again, so its warning would be forgotten and the next build would pass.
        shutil.rmtree(output / ".doctrees", ignore_errors=True)
        raise
    return output / "html"


if __name__ == "__main__":
    try:
        print(f"The site is built: {(build() / 'index.html').as_uri()}")
    except RuntimeError as error:
        sys.exit(str(error))
