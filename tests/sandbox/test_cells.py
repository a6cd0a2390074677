"""How the cells of a submission are run: as a notebook would, and forgiving what does not matter."""

import pytest
from torch.utils.data import DataLoader

from autograder.evidence import decode
from autograder.sandbox import student

OUTER_SUM = "def outer_sum(a, b):\n    return a[:, None] + b\n"


def first_result(outcome):
    return decode(outcome.evidence)[0]["result"]


def test_a_submission_gives_evidence(tried):
    [outcome] = tried(OUTER_SUM)
    assert (outcome.exercise, outcome.state, outcome.reason) == ("outer_sum", "finished", "")
    assert first_result(outcome).shape == (4, 6)
    assert 0 < outcome.seconds < 5 and outcome.memory >= 0


def test_outcomes_come_in_the_order_of_the_job(tried):
    names = ("one_hot", "outer_sum", "bilinear")
    assert tuple(outcome.exercise for outcome in tried(OUTER_SUM, exercises=names)) == names


def test_equal_seeds_give_equal_bytes_and_others_do_not(tried):
    code = "import torch, random, numpy as np\ndef outer_sum(a, b):\n    return a[:, None] + b + torch.rand(1) + "
    code += "random.random() + np.random.rand()"
    one, two, other = (tried(code, seed=seed)[0].evidence for seed in (2**63, 2**63, 8))
    assert one == two != other


def test_the_last_definition_counts(tried):
    [outcome] = tried("def outer_sum(a, b): return 1", OUTER_SUM)
    assert first_result(outcome).shape == (4, 6)


def test_an_exercise_does_not_depend_on_which_others_are_asked_for(tried):
    counting = "calls = 0\ndef outer_sum(a, b):\n    global calls\n    calls += 1\n    return calls\n"
    counting += "def bilinear(x, W, y): return outer_sum(x, y)"
    alone = tried(counting, exercises=("bilinear",))[0]
    after = tried(counting, exercises=("outer_sum", "bilinear"))[1]
    assert alone.evidence == after.evidence


@pytest.mark.parametrize("broken", ["1 / 0", "import nonsense", "def f(:", "print('é' \\", "raise SystemExit", "\0"])
def test_an_error_in_a_cell_costs_what_depends_on_it(tried, broken):
    [outcome] = tried(broken, OUTER_SUM)
    assert outcome.state == "finished"


def test_definitions_after_an_error_in_the_same_cell_count(tried):
    [outcome] = tried(f"import torch\nprint(tensr)\n{OUTER_SUM}")
    assert outcome.state == "finished"


def test_statements_after_an_error_in_the_same_cell_do_not_run(tried):
    [outcome] = tried("1 / 0\nouter_sum = print")
    assert outcome.reason == "No cell defines outer_sum; cell 1 raised ZeroDivisionError: division by zero"


def test_the_reason_names_the_cell_that_mentions_the_exercise(tried):
    [outcome] = tried("1 / 0", "outer_sum = tensr", "2 / 0")
    assert outcome.reason == "No cell defines outer_sum; cell 2 raised NameError: name 'tensr' is not defined"


def test_nothing_defines_it(tried):
    [outcome] = tried("x = 1")
    assert (outcome.state, outcome.reason) == ("undefined", "No cell defines outer_sum")


def test_no_cells_at_all(tried):
    assert [outcome.state for outcome in tried(exercises=("outer_sum", "bilinear"))] == ["undefined"] * 2


def test_something_that_is_no_function(tried):
    [outcome] = tried("outer_sum = 3")
    assert (outcome.state, outcome.reason) == ("undefined", "outer_sum is of type int, not a function or class")


def test_the_lines_of_an_error_are_the_students_own(tried):
    [outcome] = tried("x = 1", "def outer_sum(a, b):\n    return a @ b @ nothing  # here")
    [line] = decode(outcome.evidence)[0]["raised"]["lines"]
    assert line == {"function": "outer_sum", "number": 2, "source": "return a @ b @ nothing  # here"}


def test_the_namespace_is_that_of_a_notebook(tried):
    code = "x = get_ipython().run_line_magic('time', 'pass')\ndisplay(x)\nget_ipython().system('rm -rf /')\n"
    assert tried.says(code + "raise LookupError(f'{__name__} {x} {get_ipython().kernel}')").startswith("__main__ None")


def test_classes_of_the_notebook_can_be_pickled(tried):
    code = "import pickle\nclass A: pass\nraise LookupError(type(pickle.loads(pickle.dumps(A()))).__name__)"
    assert tried.says(code) == "A"


def test_future_imports_hold_for_later_cells(tried):
    assert tried.says("from __future__ import annotations", "def f(x: nothing): pass\nraise LookupError('ok')") == "ok"


def test_input_ends_at_once(tried):
    assert tried.says("try:\n    input()\nexcept EOFError:\n    raise LookupError('no input')") == "no input"


def test_output_goes_nowhere(tried, capfd):
    tried("import os, sys\nprint('loud')\nprint('loud', file=sys.stderr)\nos.write(2, b'loud')", OUTER_SUM)
    assert capfd.readouterr() == ("", "")


def test_plots_are_drawn_without_a_screen(tried):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.savefig('plot.png')\nimport os\n"
    assert int(tried.says(code + "raise LookupError(os.path.getsize('plot.png'))")) > 1000


def test_training_and_threads_work(tried):
    code = """
import torch
torch.set_num_threads(2)
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(10):
    optimizer.zero_grad()
    model(torch.randn(512, 64)).square().mean().backward()
    optimizer.step()
raise LookupError('trained')
"""
    assert tried.says(code) == "trained"


def test_data_loader_workers(tried):
    code = """
import torch
class Squares(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return torch.tensor(i * i)
loader = torch.utils.data.DataLoader(Squares(), 4, False, num_workers=2, persistent_workers=True)
raise LookupError(f'{torch.cat(list(loader)).sum()} {loader.num_workers}')
"""
    workers = 2 if tried.sandbox.tier.name == "full" else 0
    assert tried.says(code) == f"140 {workers}"


def test_where_workers_cannot_run_the_data_is_loaded_without(monkeypatch):
    monkeypatch.setattr(DataLoader, "__init__", DataLoader.__init__)
    student.without_workers()
    loader = DataLoader(range(4), 2, False, num_workers=3, persistent_workers=True, prefetch_factor=2, timeout=5)
    assert loader.num_workers == 0 and [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_text_that_cannot_be_encoded(tried):
    [outcome] = tried("'\ud800'", "raise ValueError('\\ud800')", OUTER_SUM)
    assert outcome.state == "finished"


def test_an_exercise_that_is_none(tried):
    [outcome] = tried("def no_exercise(): pass", exercises=("no_exercise",))
    assert outcome.state == "crashed" and "KeyError" in outcome.reason
