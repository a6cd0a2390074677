"""Which code is the learner's own: not Python's, not an installed package's, not the autograder's."""

import linecache
import sysconfig
from functools import cache
from pathlib import Path
from types import TracebackType

_NOT_OWN = (
    *(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
    "<frozen",
    "<string>",  # what the standard library generates, such as the methods of a dataclass
    "<__array_function__",
    "<_remote_module",
)


@cache
def is_own(file_name: str) -> bool:
    """Whether code compiled from this file name is the learner's: a notebook cell or a script of theirs."""
    return not file_name.startswith(_NOT_OWN)


def own_lines(traceback: TracebackType | None) -> list[dict]:
    """The frames of a traceback that are the learner's, outermost first, each as {function, number, source}."""
    lines = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_own(code.co_filename):
            source = linecache.getline(code.co_filename, traceback.tb_lineno).strip()
            line = {"function": code.co_name, "number": traceback.tb_lineno, "source": source}
            if line not in lines:  # a recursion passes the same line a thousand times
                lines.append(line)
        traceback = traceback.tb_next
    return lines
