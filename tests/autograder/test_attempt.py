"""What an attempt leaves behind, and which evidence from elsewhere is taken for one."""

import pytest
import torch

from autograder.attempt import read_attempt
from autograder.evidence import EvidenceError
from autograder.judge import Status
from autograder.practice import try_out

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


def test_gradients_left_switched_off_are_a_fault_and_the_next_trial_has_them_again():
    def bilinear(x, W, y):
        torch.set_grad_enabled(False)
        return torch.einsum("bi,kij,bj->bk", x, W, y)

    verdict = try_out(bilinear)
    assert torch.is_grad_enabled()
    assert verdict.status is Status.INCORRECT and verdict.fault.kind == "side effect"
    assert "`with torch.no_grad():`" in verdict.fault.sentence
