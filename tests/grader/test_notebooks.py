"""A learner's file, whatever made it, gives the cells that Jupyter would run, or one sentence that names it."""

import ast
import contextlib
import json
import re
import textwrap

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from autograder.grader.notebooks import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_CODE,
    NotebookError,
    is_notebook,
    notebook_stem,
    read_cells,
)
from autograder.specs import CHAPTERS


def code(source, **more) -> dict:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source, **more}


def notebook(*cells, **more) -> bytes:
    cells = [cell if isinstance(cell, dict) else code(cell) for cell in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **more}).encode()


def cells_of(*cells) -> tuple[str, ...]:
    return read_cells("a.ipynb", notebook(*cells))


# --- notebooks of every origin --------------------------------------------------------------------------------------


def test_code_cells_in_the_order_of_the_file():
    markdown = {"cell_type": "markdown", "source": "x = 0"}
    raw = {"cell_type": "raw", "source": "x = 0"}
    assert cells_of("x = 1", markdown, raw, "x = 2") == ("x = 1", "x = 2")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\ny = 2", "x = 1\ny = 2"),
        (["x = 1\n", "y = 2"], "x = 1\ny = 2"),
        (["x = 1", "y = 2"], "x = 1\ny = 2"),  # some exporters leave the line ends out
        (["x = 1\r\n", "y = 2"], "x = 1\ny = 2"),
        ("x = 1\ry = 2", "x = 1\ny = 2"),
        ([], ""),
        (None, ""),
        (3, ""),
        (["x = 1\n", None, 7], "x = 1\n"),
        ("x = 'é 😀'", "x = 'é 😀'"),
        ("x = '\ud83d'", "x = '\ufffd'"),  # half an emoji
        ("x = 1\0", "x = 1"),
        ("  x = 1\n  y = 2", "x = 1\ny = 2"),
        ("\n  if x:\n    y = 2", "\nif x:\n  y = 2"),
    ],
)
def test_sources_in_every_form(source, expected):
    assert cells_of(source) == (expected,)


def test_a_cell_without_a_source_or_with_garbage_for_one():
    assert cells_of({"cell_type": "code"}, {"cell_type": "code", "source": {"a": 1}}, "x = 1") == ("", "", "x = 1")
    data = json.dumps({"cells": [None, 3, "x", [], {"cell_type": None}, code("x = 1")]}).encode()
    assert read_cells("a.ipynb", data) == ("x = 1",)


def test_nbformat_3_keeps_cells_in_worksheets():
    sheet = {"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"], "outputs": []}, {"cell_type": "heading"}]}
    data = json.dumps({"nbformat": 3, "worksheets": [sheet, {}, None]}).encode()
    assert read_cells("a.ipynb", data) == ("x = 1\ny = 2",)


def test_colab_vscode_and_jupyterlab_oddities():
    colab = code(["#@title Answer\n", "x = 1 #@param"], metadata={"id": "Xy", "cellView": "form"})
    sql = code("SELECT 1", metadata={"vscode": {"languageId": "sql"}})
    python = code("x = 2", metadata={"vscode": {"languageId": "python"}})
    odd = code("x = 3", metadata=None, outputs="none", attachments={})
    data = notebook(colab, sql, python, odd, metadata={"colab": {"provenance": []}}, nbformat="4")
    assert read_cells("a.ipynb", data) == ("#@title Answer\nx = 1 #@param", "", "x = 2", "x = 3")


def test_an_empty_notebook_has_no_cells():
    assert cells_of() == ()


def test_the_books_own_exercises_give_the_same_code_from_both_files(root):
    for chapter in CHAPTERS:
        from_notebook, from_script = (
            read_cells(f"{chapter.stem}.{suffix}", (root / "exercises" / f"{chapter.stem}.{suffix}").read_bytes())
            for suffix in ("ipynb", "py")
        )
        assert [cell.strip() for cell in from_notebook] == [cell.strip() for cell in from_script]
        for cell in from_notebook:
            ast.parse(cell)


# --- encodings ------------------------------------------------------------------------------------------------------

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_accent_costs_nothing_in_any_encoding(encoding):
    text = json.dumps({"cells": [code("x = 'é'")]}, ensure_ascii=False)
    assert read_cells("a.ipynb", text.encode(encoding)) == ("x = 'é'",)
    assert read_cells("a.py", "x = 'é'\n".encode(encoding)) == ("x = 'é'\n",)


# --- bad files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.ipynb", b"", "a.ipynb is empty."),
        ("a.py", b" \n\n", "a.py is empty."),
        ("a.ipynb", b"\xef\xbb\xbf", "a.ipynb is empty."),
        ("a.ipynb", notebook("x = 1")[:-5], "a.ipynb is not a notebook: its JSON is broken at line 1."),
        ("a.ipynb", b'{"cells": [\n<<<<<<< HEAD\n', "a.ipynb is not a notebook: its JSON is broken at line 2."),
        ("a.ipynb", b"import torch\n", "a.ipynb is not a notebook: its JSON is broken at line 1."),
        ("a.ipynb", b"[]", "a.ipynb is not a notebook: it has no list of cells."),
        ("a.ipynb", b"3", "a.ipynb is not a notebook: it has no list of cells."),
        ("a.ipynb", b'{"cells": {}}', "a.ipynb is not a notebook: it has no list of cells."),
        ("a.ipynb", b'{"metadata": {}}', "a.ipynb is not a notebook: it has no list of cells."),
        ("a.ipynb", b"[" * 1_000_000, "a.ipynb is not a notebook: its JSON cannot be read."),
        ("a.ipynb", b'{"cells": ' + b'{"a": ' * 200_000, "a.ipynb is not a notebook: its JSON cannot be read."),
        ("a.ipynb", b'{"cells": [], "a": ' + b"9" * 9999 + b"}", "a.ipynb is not a notebook: its JSON cannot be read."),
        ("a.ipynb", b"\0" * 4000, "a.ipynb is not a notebook: its JSON is broken at line 1."),
        ("a.ipynb", b"\0" * 4001, "a.ipynb is not text: it is neither UTF-8 nor whole UTF-32-BE."),
        ("a.ipynb", "{}".encode("utf-16") + b"\0", "a.ipynb is not text: it is neither UTF-8 nor whole UTF-16."),
        ("a.py", b"x = 1\0\0", "a.py is not text: it holds NUL bytes."),
        ("a.py", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.py is not text: it holds NUL bytes."),
        ("a.ipynb", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a.ipynb is not a notebook: its JSON is broken at line 1."),
        ("a.ipynb", b" " * (MAX_BYTES + 1), "a.ipynb is larger than 20 MB: clear its outputs, then save it again."),
        ("a.ipynb", notebook(*["x"] * (MAX_CELLS + 1)), "a.ipynb has 10,001 code cells: at most 10,000 are read."),
        ("a.py", b"x = 1\n" * (MAX_CELLS + 1), "a.py has 10,001 code cells: at most 10,000 are read."),
        ("a.ipynb", notebook("x" * MAX_CODE, "y"), "a.ipynb holds more than 1 MB of code."),
        ("a.py", b"x" * (MAX_CODE + 1), "a.py holds more than 1 MB of code."),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_a_bad_file_is_one_sentence(name, data, sentence):
    with pytest.raises(NotebookError) as error:
        read_cells(name, data)
    assert str(error.value) == sentence


def test_outputs_do_not_count_as_code():
    image = {"output_type": "display_data", "data": {"image/png": "A" * (2 * MAX_CODE)}}
    assert cells_of(code("x = 1", outputs=[image])) == ("x = 1",)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.ipynb", "a"),
        ("A.IPYNB", "A"),
        ("a.py", "a"),
        ("a.ipynb.txt", "a"),
        ("a.ipynb.json", "a"),
        ("a.b.py", "a.b"),
        (".ipynb", ""),
        ("a.txt", None),
        ("a.pyc", None),
        ("ipynb", None),
    ],
)
def test_which_names_are_notebooks(name, stem):
    assert is_notebook(name) == (stem is not None)
    assert notebook_stem(name) == (name if stem is None else stem)


# --- what is Jupyter's ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%matplotlib inline", "pass"),
        ("%pip install -q torch", "pass"),
        ("!pip install 'torch", "pass"),
        ("!!ls", "pass"),
        ('!echo "(" {x}', "pass"),
        ("!wget a \\\n  -O b", "pass\n"),
        ("?torch", "pass"),
        ("torch.einsum?", "pass"),
        ("torch.einsum??  ", "pass"),
        ("%time?", "pass"),
        ("x = torch?", "pass"),
        (",f a b", "pass"),
        (";f a b", "pass"),
        ("/f a b", "pass"),
        ("%time x = f(1)", "x = f(1)"),
        ("%time", "pass"),
        ("%timeit x = f(1)", "pass"),
        ("x = !ls", "x = None"),
        ("x = %time f(1)", "x = f(1)"),
        ("x = %timeit -o f(1)", "x = None"),
        ("x=!ls | grep =", "x=None"),
        ("x = %who_ls str", "x = None"),
        ("x = % who", "x = None"),
        ("self.files[0] = !ls", "self.files[0] = None"),
        ('d["a b"] = !ls', 'd["a b"] = None'),
        ("files: list = !ls", "files: list = None"),
        ("été = !ls", "été = None"),
    ],
)
def test_a_line_of_jupyters_does_nothing(line, expected):
    cell = f"{line}\ny = 1"
    assert cells_of(cell) == (f"{expected}\ny = 1",)
    inside = textwrap.indent(line.lstrip(), "    ")
    assert cells_of(f"if y:\n{inside}\n    y = 1\n") == (f"if y:\n    {expected}\n    y = 1\n",)


@pytest.mark.parametrize(
    "cell",
    [
        'text = """\n!important\n% of total\nwhat?\n"""',
        "text = '''\\'''\n!x\n'''",
        "x = (7\n  % 3)",
        "x = 7 \\\n  % 3",
        "x = [\n  a\n  , b]",
        "x = f(\n  a\n  / b)",
        'print("loss=%f" % x)',
        "print('x = !y')",
        "x %= 3",
        "x = y != z",
        "x = y == 1",
        "x = 1  # why?",
        "x = 'why?'",
        "# %matplotlib inline",
        "# !pip install torch",
        "x = {'a': 1}[\n'a'\n]",
        "x = r'\\'",
        'x = f"{y!r}"',
        "x = 1;",
    ],
)
@pytest.mark.parametrize("magic", ["", "\n%matplotlib inline"])
def test_what_only_looks_like_jupyters_is_left_alone(cell, magic):
    assert cells_of(cell + magic) == (cell + magic.replace("%matplotlib inline", "pass"),)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%%time\nx = 1", "\nx = 1"),
        ("%%capture out --no-stderr\nx = 1\n!ls", "\nx = 1\npass"),
        ("\n# timing\n%%time\nx = 1", "\n\n\nx = 1"),
        ("%%capture\n%%time\nx = 1", "\n\nx = 1"),
        ("%%a_magic_of_my_own\nx = 1", "\nx = 1"),
        ("x = 1\n%%time\ny = 2", "x = 1\npass\ny = 2"),
        ("%%time", ""),
        ("%%bash\nrm -rf /", ""),
        ("%%bash", ""),
        ("%%HTML\n<b>", ""),
        ("%%javascript\nvar x = 1", ""),
        ("%%writefile a.py\nx = 1", ""),
        ("%%script bash\nls", ""),
        ("%%!\nls", ""),
        ("%%timeit\nx = 1", ""),  # what it defines is gone afterwards in Jupyter, too
        ("%%time\n%%bash\nls", ""),
    ],
)
def test_cell_magics(cell, expected):
    assert cells_of(cell) == (expected,)


def test_lines_keep_their_numbers_and_their_indentation():
    cell = "%%time\n!pip install \\\n  torch\nfor i in range(3):\n    %time f(i)\n\n    x = !ls\nraise ValueError"
    [plain] = cells_of(cell)
    assert plain.count("\n") == cell.count("\n")
    with pytest.raises(ValueError) as error:
        exec(compile(plain, "<cell>", "exec"), {"f": id})
    assert error.traceback[-1].lineno + 1 == 8


def test_a_cell_that_does_not_parse_stays_one_cell_and_alone():
    assert cells_of("x = 1", "def f(:\n    return", "y = (", "z = 1") == (
        "x = 1",
        "def f(:\n    return",
        "y = (",
        "z = 1",
    )


# --- scripts --------------------------------------------------------------------------------------------------------


def script(text: str) -> list[str]:
    return [cell.strip("\n") for cell in read_cells("a.py", textwrap.dedent(text).encode())]


def test_a_percent_script_is_cut_at_its_markers():
    text = """\
        # ---
        # jupyter: {}
        # ---

        # %% [markdown]
        # # Title

        # %% tags=["remove-cell"]
        import torch
        # %% load [the] raw data
        x = 1
        y = 2
        #%%
        !ls
        # %% [raw]
        # raw
        # %%% deeper
        # %%time
        z = "# %%"
        """
    assert script(text) == ["import torch", "x = 1\ny = 2", "pass", '# %%time\nz = "# %%"']


def test_code_above_the_first_marker_counts():
    assert script("#!/usr/bin/env python\nimport torch\n# %%\nx = 1\n") == [
        "#!/usr/bin/env python\nimport torch",
        "x = 1",
    ]


def test_a_script_from_nbconvert_is_cut_where_its_cells_were():
    text = (
        "#!/usr/bin/env python\n# coding: utf-8\n\n# # Title\n\n# In[1]:\n\n\nx = 1\n\n\n# In[ ]:\n\n\ny = 2\nz = 3\n"
    )
    assert script(text) == ["x = 1", "y = 2\nz = 3"]


def test_a_plain_script_is_one_cell_per_statement():
    text = '''\
        """What this is."""
        import torch
        # a remark

        @torch.no_grad()

        # another
        def f(x):
            """Text

        def g(): not code
            """
            return (x
        )

        if x:
            pass
        # between
        elif y:
            pass
        else:
            pass
        try:
            pass
        except E:
            pass
        finally:
            pass
        x = [
        1,
        ]
        y = 1; z = 2
        w = 1 \\
        + 2
        '''
    cells = script(text)
    assert [cell.split("\n")[0] for cell in cells] == [
        '"""What this is."""',
        "import torch",
        "@torch.no_grad()",
        "if x:",
        "try:",
        "x = [",
        "y = 1; z = 2",
        "w = 1 \\",
    ]
    for cell in cells:
        ast.parse(cell)


def test_a_syntax_error_in_a_plain_script_costs_only_its_statement():
    cells = script("x = 1\ndef f(\n    return\ndef g():\n    return 1\nz = 'abc\ny = 2\nw = [1, 2\nimport torch\n")
    good = []
    for cell in cells:
        with contextlib.suppress(SyntaxError):
            ast.parse(cell)
            good.append(cell.split("\n")[0])
    assert good == ["x = 1", "def g():", "y = 2", "import torch"]


def test_a_plain_script_loses_no_line():
    text = "\n\nx = 1\n  \n# a\ny = 2\n@d\n\n\nclass C:\n  x = 1\n"
    assert "".join(read_cells("a.py", text.encode())) == text


# --- anything at all ------------------------------------------------------------------------------------------------

names = st.sampled_from(["a.py", "a.ipynb", "a.ipynb.txt"])


def is_one_sentence(error: NotebookError) -> bool:
    return re.fullmatch(r"a\.[a-z.]+ [^\n]+\.", str(error)) is not None


@settings(deadline=None)
@given(names, st.binary(max_size=300))
def test_any_bytes_are_cells_or_one_sentence(name, data):
    try:
        assert all(isinstance(cell, str) for cell in read_cells(name, data))
    except NotebookError as error:
        assert is_one_sentence(error)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["cells", "worksheets", "cell_type", "source", "input", "metadata", "vscode"]), inner
        )
    ),
    max_leaves=20,
)
some_cells = st.lists(
    st.fixed_dictionaries({"cell_type": st.sampled_from(["code", "markdown"]), "source": anything}) | anything
)


@settings(deadline=None)
@given(st.fixed_dictionaries({"cells": some_cells}) | anything, st.sampled_from(ENCODINGS))
def test_any_json_is_cells_or_one_sentence(tree, encoding):
    try:
        for cell in read_cells("a.ipynb", json.dumps(tree).encode(encoding)):
            cell.encode()
    except NotebookError as error:
        assert is_one_sentence(error)


pieces = st.sampled_from(
    [*"%!?='\"\\\n \t\f#()[]{}@:,;/x1é", "%%", "'''", '"""', "# %%", "# In[1]:"]
) | st.sampled_from(["time", "bash", "def", "else"])


@settings(deadline=None, max_examples=300)
@given(st.lists(pieces, max_size=30).map("".join))
def test_any_cell_keeps_its_lines(source):
    [cell] = cells_of(source)
    assert cell == "" or cell.count("\n") == source.count("\n")


statements = st.sampled_from(
    ["x = 1", "if x:\n    y = 2", 'z = """\n%a\n"""', "x = (1\n% 2)", "@f\ndef g():\n  pass", "# a", "", "del x # b?"]
)


@settings(deadline=None)
@given(st.lists(statements, max_size=12))
def test_plain_python_is_never_changed(lines):
    source = "\n".join(lines)
    assert cells_of(source) == (source,)
    if source.strip():
        cells = read_cells("a.py", source.encode())
        assert "".join(cells) == source
        assert sum(len(ast.parse(cell).body) for cell in cells) == len(ast.parse(source).body)
        assert all(len(ast.parse(cell).body) <= 1 for cell in cells)


@pytest.mark.parametrize(
    "unit",
    [
        *" \t\n\\?('",
        "x=1\n",
        "%time\n",
        "%%a\n",
        "a?\n",
        "@a\n",
        "!ls\\\n",
        "\\\n",
        "'''",
        "=!",
        "a= ",
        "a[",
        "a:",
        "f'{",
    ],
)
def test_half_a_megabyte_of_anything_is_read_in_seconds(unit, monkeypatch):
    monkeypatch.setattr("autograder.grader.notebooks.MAX_CELLS", MAX_CODE)
    text = "a" + unit * (MAX_CODE // 2 // len(unit))
    read_cells("a.py", text.encode())
    cells_of(text)
