"""One file of a learner's, .ipynb or .py, as the code cells in it.

What is Jupyter's and not Python's does no harm: a line such as `%matplotlib inline`, `!pip install x` or `x?` becomes
`pass`, and `files = !ls` becomes `files = None`. Every other line keeps its number and its indentation. Nothing is
parsed or compiled here: a cell with a syntax error stays as it is, and costs only itself.
"""

import gc
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

MAX_BYTES = 20 << 20
"""The largest file that is read."""

MAX_CODE = 1 << 20
"""The most characters of code in one file: outputs and text do not count."""

MAX_CELLS = 10_000

_SUFFIXES = (".ipynb", ".py", ".ipynb.txt", ".ipynb.json")  # the last two are what some browsers make of the first


class NotebookError(ValueError):
    """A file that holds no cells that could be read. The message is one sentence that names the file."""


def is_notebook(file_name: str) -> bool:
    """Whether a file of this name is expected to hold code cells."""
    return file_name.lower().endswith(_SUFFIXES)


def notebook_stem(file_name: str) -> str:
    """A file's name without the suffixes of a notebook or a script."""
    suffix = max((suffix for suffix in _SUFFIXES if file_name.lower().endswith(suffix)), key=len, default="")
    return file_name[: len(file_name) - len(suffix)]


def read_cells(name: str, data: bytes) -> tuple[str, ...]:
    """The code cells of a notebook (nbformat 3 or 4) or a script, in the order of the file, as plain Python.

    A script is cut at its `# %%` or `# In[1]:` lines. Where it has none, each statement at the left margin is a cell,
    so that an error costs only what depends on it. Cells of another language stay as empty cells: the third cell is
    still the third. `name` decides between script (.py) and notebook. Raises NotebookError.
    """
    if len(data) > MAX_BYTES:
        raise NotebookError(f"{name} is larger than {MAX_BYTES >> 20} MB: clear its outputs, then save it again.")
    text = _decode(name, data)
    if not text.strip():
        raise NotebookError(f"{name} is empty.")
    sources = _script_cells(name, text) if name.lower().endswith(".py") else _notebook_cells(name, text)
    _check_amount(name, sources)
    return tuple(_as_python(source) for source in sources)


def _check_amount(name: str, sources: list[str]) -> None:
    if len(sources) > MAX_CELLS:
        raise NotebookError(f"{name} has {len(sources):,} code cells: at most {MAX_CELLS:,} are read.")
    if sum(map(len, sources)) > MAX_CODE:
        raise NotebookError(f"{name} holds more than {MAX_CODE >> 20} MB of code.")


def _decode(name: str, data: bytes) -> str:
    encoding = json.detect_encoding(data)  # by the byte order mark, or by where the zeros stand
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise NotebookError(f"{name} is not text: it is neither UTF-8 nor whole {encoding.upper()}.") from error
        text = data.decode("latin-1")
    return _with_plain_lines(text)


def _with_plain_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


# --- notebooks ------------------------------------------------------------------------------------------------------


def _notebook_cells(name: str, text: str) -> list[str]:
    collects = gc.isenabled()
    gc.disable()  # it would walk a hostile file's millions of lists again and again as they come: 7 s instead of 1
    try:
        notebook = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        raise NotebookError(f"{name} is not a notebook: its JSON is broken at line {error.lineno}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists without end
        raise NotebookError(f"{name} is not a notebook: its JSON cannot be read.") from error
    finally:
        if collects:
            gc.enable()
    cells = _all_cells(notebook)
    if cells is None:
        raise NotebookError(f"{name} is not a notebook: it has no list of cells.")
    return [_source(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]


def _all_cells(notebook: Any) -> list | None:
    """The cells of a notebook, whichever its format (nbformat 3 keeps them in worksheets), or None if it has none."""
    if not isinstance(notebook, dict):
        return None
    if isinstance(notebook.get("cells"), list):
        return notebook["cells"]
    sheets = notebook.get("worksheets")
    if not isinstance(sheets, list):
        return None
    lists = [sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
    return [cell for cells in lists for cell in cells]


def _source(cell: dict[str, Any]) -> str:
    """The code of a code cell: one string, or a list of lines with or without their line ends."""
    if not _is_python(cell):
        return ""
    source = cell.get("source", cell.get("input"))
    if isinstance(source, list):
        lines = [line for line in source if isinstance(line, str)]
        source = ("" if any(line.endswith("\n") for line in lines) else "\n").join(lines)
    if not isinstance(source, str):
        return ""
    # A lone half of a surrogate pair is valid JSON, but cannot be written as UTF-8.
    return source.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_python(cell: dict[str, Any]) -> bool:
    """False for a cell that VS Code marked as another language."""
    language: Any = cell
    for key in ("metadata", "vscode", "languageId"):
        language = language.get(key) if isinstance(language, dict) else None
    return language in (None, "python")


# --- scripts --------------------------------------------------------------------------------------------------------

_MARKER = re.compile(r"^#(?: ?%%+(?P<title>(?:[ \t][^\n]*)?)| In\[[ \d]*\]:[^\n]*)$", re.MULTILINE)
_TEXT_CELL = re.compile(r"[^\n]*\[(?:markdown|md|raw)\]")
_GOES_ON = re.compile(r"[ \t\n#)\]}]|(?:else|elif|except|finally)\b")


def _script_cells(name: str, text: str) -> list[str]:
    if "\0" in text:
        raise NotebookError(f"{name} is not text: it holds NUL bytes.")
    _check_amount(name, [text])
    markers = list(_MARKER.finditer(text))
    if not markers:
        return list(_statements(text))
    starts = [0, *(marker.end() for marker in markers)]
    ends = [*(marker.start() for marker in markers), len(text)]
    titles = ["", *(marker["title"] or "" for marker in markers)]
    cells = [
        text[start:end].removeprefix("\n")
        for start, end, title in zip(starts, ends, titles, strict=True)
        if not _TEXT_CELL.match(title)
    ]
    has_code = any(line.strip() and not line.startswith("#") for line in cells[0].split("\n"))
    return cells if has_code else cells[1:]  # above the first marker stands mostly a header


def _statements(text: str) -> Iterator[str]:
    """A script cut where a statement begins at the left margin; joined, the pieces are the script again."""
    start = end = 0
    complete = False
    for line in _logical_lines(text):
        if complete and not _GOES_ON.match(line):
            yield text[start:end]
            start, complete = end, False
        end += len(line)
        complete |= not line.isspace() and not line.startswith(("@", "#"))
    yield text[start:]


# --- what is Jupyter's ----------------------------------------------------------------------------------------------
#
# Learners choose what is matched here, so every pattern takes linear time: `*+` gives nothing back. It stands after
# single characters only: after groups, early versions of Python 3.11 get it wrong.

_OTHER_LANGUAGES = re.compile(
    r"!|ai|bash|bigquery|cmd|cython|file|html|javascript|js|julia|latex|markdown|perl|powershell|pypy|python[23]?|r|ruby"
    r"|script|sh|shell|sql|svg|sx|system|timeit|writefile",
    re.IGNORECASE,
)
"""Cell magics whose body defines nothing in the notebook. Any other, such as `%%time`, is taken off its body."""

_CELL_MAGIC = re.compile(r"(?:[ \t]*+(?:#[^\n]*+)?\n)*%%(?P<name>\S*+)[^\n]*+")

_INDENTED = re.compile(r"(?:[ \t]*+\n)*[ \t]++[^\n]")
_REST = r"[^\n]*+(?:(?<=\\)\n[^\n]*+)*"
_MAGIC = re.compile(
    rf"""(?P<indent>[ \t]*+)
    (?: %time[ \t]++(?P<timed>[^\n]++)
      | [%!?,;/]{_REST}
      | (?P<target>[^\W\d][\w., \t]*+(?:\[[^]\n]*+\][ \t]*+)?(?::[^=\n]*+)?=[ \t]*+)
        (?: %time[ \t]++(?P<kept>[^\n]++) | (?:!|%[ \t]*+[^\W\d]){_REST} )
      | [^\n#'"?]*+\?++[ \t]*+
    )(?:\n|\Z)""",
    re.VERBOSE,
)
"""A line that IPython handles. No statement of Python begins like any of these."""

_MAYBE_MAGIC = re.compile(r"^[ \t]*+[%!?,;/]|\?[ \t]*+$|=[ \t]*+[!%]", re.MULTILINE)

_LEXEME = re.compile(
    r"""'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*(?:'''|\Z)
      | \"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*(?:\"""|\Z)
      | '[^'\\\n]*+(?:\\.[^'\\\n]*+)*'?
      | "[^"\\\n]*+(?:\\.[^"\\\n]*+)*"?
      | \#[^\n]*+
      | (?P<opens>[(\[{])
      | (?P<closes>[)\]}])
      | (?P<ends>\n)
      | \\.
      | [^'"\#()\[\]{}\\\n]++
      | \\
    """,
    re.VERBOSE | re.DOTALL,
)
_SURELY_NEW = re.compile(r"(?:async[ ]def|def|class|import)\b")


def _as_python(source: str) -> str:
    """A cell as plain Python, with as many lines as it has."""
    source = _with_plain_lines(source).replace("\0", "")
    if _INDENTED.match(source):  # Jupyter runs it all the same
        source = textwrap.dedent(source)
    body = 0
    while magic := _CELL_MAGIC.match(source, body):
        if _OTHER_LANGUAGES.fullmatch(magic["name"]):
            return ""
        body = magic.end()
    source = "\n" * source.count("\n", 0, body) + source[body:]
    if not _MAYBE_MAGIC.search(source):
        return source
    return "".join(_harmless(line) for line in _logical_lines(source))


def _harmless(line: str) -> str:
    magic = _MAGIC.fullmatch(line)
    if not magic:
        return line
    assigned = magic["target"] and magic["target"] + (magic["kept"] or "None")
    code = magic["timed"] or assigned or "pass"
    return magic["indent"] + code + "\n" * line.count("\n")


def _logical_lines(source: str) -> Iterator[str]:
    """Source cut at the ends of its statements' lines, not at those in strings and brackets; a magic is one line."""
    start = 0
    while start < len(source):
        magic = _MAGIC.match(source, start)
        end = magic.end() if magic else _end_of_line(source, start)
        yield source[start:end]
        start = end


def _end_of_line(source: str, start: int) -> int:
    depth = 0
    for lexeme in _LEXEME.finditer(source, start):
        match lexeme.lastgroup:
            case "opens":
                depth += 1
            case "closes":
                depth = max(depth - 1, 0)
            # A bracket that is never closed must not swallow the definitions after it.
            case "ends" if depth == 0 or _SURELY_NEW.match(source, lexeme.end()):
                return lexeme.end()
    return len(source)
