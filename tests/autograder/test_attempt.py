"""Evidence from elsewhere is taken for an attempt only if it has the form of one."""

import pytest

from autograder.attempt import read_attempt
from autograder.evidence import EvidenceError

RAISED = {"type": "ValueError", "message": "no", "lines": [{"function": "f", "number": 3, "source": "raise"}]}


def test_the_form_that_attempt_gives_is_read():
    tree = [{"result": 1, "arguments": {}}, {"raised": RAISED, "steps": 3, "calls": ["sum"]}]
    assert read_attempt(tree) == tree


@pytest.mark.parametrize(
    "forged",
    [
        None,
        {},
        [1],
        [{1: 2}],
        [{"steps": "many"}],
        [{"steps": True}],
        [{"steps": -1}],
        [{"steps": 10**5000}],
        [{"calls": "sum"}],
        [{"calls": [1]}],
        [{"raised": None}],
        [{"raised": {"type": "E", "message": 1, "lines": []}}],
        [{"raised": {"type": "E", "message": "", "lines": [{}]}}],
        [{"raised": {"type": "E", "message": "", "lines": [{"function": "f", "number": 10**5000, "source": ""}]}}],
    ],
)
def test_any_other_form_is_refused(forged):
    with pytest.raises(EvidenceError):
        read_attempt(forged)


def test_what_an_error_says_is_cut_to_a_readable_length():
    endless = {"type": "E" * 10**6, "message": "m" * 10**6, "lines": RAISED["lines"] * 10**4}
    [read] = read_attempt([{"raised": endless}])
    assert len(str(read)) < 10_000
