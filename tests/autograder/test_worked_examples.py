"""What the prompts and the chapters say of the solutions, computed."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from autograder.exercise import all_exercises
from tests.autograder.book import solution


def test_a_loader_of_pytorch_can_use_what_was_written():
    """The judge imitates workers; here the solution meets real ones' loader, and the samplers theirs."""
    lines = solution(all_exercises()["ShardedLines"])(["a", "b", "c"])
    assert list(DataLoader(lines, batch_size=2)) == [["a", "b"], ["c"]]
    windows = solution(all_exercises()["WindowDataset"])(torch.arange(6.0), 2, 1)
    inputs, targets = next(iter(DataLoader(windows, batch_size=3, sampler=SequentialSampler(windows))))
    assert inputs.shape == (3, 2) and targets.shape == (3, 1)


def test_the_formulas_of_the_prompts():
    """The worked examples, computed."""
    by_name = {name: solution(exercise) for name, exercise in all_exercises().items() if exercise.chapter == "training"}
    loss = by_name["bce_with_logits"](torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert (
        f"{loss:.2f}"
        == "1.41"
        == f"{by_name['cross_entropy'](torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([0, 1])):.2f}"
    )
    factors = [by_name["warmup_cosine"](step, 2, 6) for step in range(8)]
    assert [round(factor, 4) for factor in factors] == [0, 0.5, 1, 0.8536, 0.5, 0.1464, 0, 0]
    stopper = by_name["EarlyStopping"](2, 0.5)
    assert [stopper.step(loss) for loss in (5, 4, 3.75, 3.5, 3)] == [False, False, False, True, False]
    one, zero = torch.ones(1), torch.zeros(1)
    w, m, v = by_name["adamw_step"](one, 2 * one, zero, zero, 1, 0.1)
    assert [round(x.item(), 4) for x in (w, m, v)] == [0.899, 0.2, 0.004]
    model = by_name["FastText"](3, 1, 1)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([[9.0], [1], [5]]))
        model.linear.weight.fill_(1), model.linear.bias.zero_()
    assert model(torch.tensor([[1, 2, 0], [0, 0, 0]])).flatten().tolist() == [3, 0]
    assert math.isclose(F.softplus(torch.tensor(2.0)).item(), 2.1269, abs_tol=1e-4) and isinstance(model, nn.Module)
