"""Trials, probes, hints and known mistakes of the exercises of chapter 5, in the order of the notebook."""

import copy
import inspect
import itertools
import math
import os
import pickle
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from autograder.compare import difference
from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import WrongSignature, apply, call_with_gradients, fixed_weights

CROSS_ENTROPIES = ("cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "nll_loss2d", "nll_loss_forward")
LOG_SOFTMAXES = ("log_softmax", "_log_softmax", "special_log_softmax")
BINARY_CROSS_ENTROPIES = (
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "soft_margin_loss",
    "multilabel_soft_margin_loss",
)
"""The names under which torch has what two exercises write."""


def _linear(rng, features, outputs, dtype=torch.float32):
    """A linear layer whose weights come from rng."""
    return rng.fill(nn.Linear(features, outputs, dtype=dtype))


def _classifier(rng, features=3, classes=4):
    """A small network with batch norm, whose output shows the mode it is in: (batch, features) → (batch, classes)."""
    return rng.fill(nn.Sequential(nn.Linear(features, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, classes)))


def _loader(rng, n, batch_size, features=3, classes=4, scale=1.0, drop_last=False):
    inputs, labels = scale * rng.normal(n, features), rng.integers(0, classes, n)
    return DataLoader(TensorDataset(inputs, labels), batch_size, drop_last=drop_last)


def _sgd(model, lr=0.1, momentum=0.0):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def _modes(model):
    """The mode that each part of the model was left in."""
    return {
        f"mode of {f'part {name}' if name else 'the model'} afterwards": "train" if module.training else "eval"
        for name, module in model.named_modules()
    }


def _holds_graph(result):
    """Whether a tensor in the result still requires a gradient, and so keeps its graph in memory."""
    if isinstance(result, (list, tuple)):
        return any(map(_holds_graph, result))
    return isinstance(result, torch.Tensor) and result.requires_grad


def _pair(result):
    """A list in place of a tuple is as good."""
    return tuple(result) if isinstance(result, list) else result


# bce_with_logits


def _call_with_slopes(function, arguments):
    """The result, and the gradient of the logits: only away from 0, where `abs` and `clamp`, good old ways, have a kink."""
    logits, targets = arguments["logits"], arguments["targets"]
    at_the_kink, before = bool((logits == 0).any()), targets.clone()

    def of_the_logits(logits):
        return apply(function, {"logits": logits, "targets": targets})

    evidence = call_with_gradients(of_the_logits, {"logits": logits})
    if not torch.equal(before, targets):
        evidence["changed"]["targets"] = collect(targets)
    if at_the_kink:
        del evidence["gradients"]
    return evidence


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "log(1 + eᶻ) is log(e⁰ + eᶻ): a logarithm of a sum of exponentials.",
        "`torch.logaddexp(a, b)` is log(eᵃ + eᵇ) without overflow, for tensors a and b. Which is 0 here?",
        "Then subtract t · z, and take the mean over the samples.",
    ],
    probe=_call_with_slopes,
    forbidden=dict.fromkeys(BINARY_CROSS_ENTROPIES, "The exercise is to write it."),
)
def bce_with_logits(rng):
    """Trials for the mean of log(1 + e^z) − t z."""
    yield trial("targets 0 and 1", logits=2 * rng.normal(5), targets=rng.integers(0, 2, 5).float())
    yield trial("targets between 0 and 1", logits=2 * rng.normal(4), targets=rng.uniform(4))
    yield trial("one sample", logits=rng.normal(1), targets=torch.ones(1))
    yield trial("logits of 0", logits=torch.zeros(3), targets=torch.tensor([0.0, 1.0, 0.25]))
    yield trial(
        "logits of ±10,000, right and wrong",
        logits=torch.tensor([1e4, 1e4, -1e4, -1e4]) + rng.normal(4),
        targets=torch.tensor([1.0, 0.0, 1.0, 0.0]),
    )
    yield trial(
        "logits of ±6: the losses are small, but not 0",
        logits=torch.tensor([6.0, -6.0]) + 0.5 * rng.uniform(2),
        targets=torch.tensor([1.0, 0]),
    )
    yield trial(
        "logits of ±30: small losses",
        logits=torch.tensor([30.0, -30.0]) + rng.normal(2),
        targets=torch.tensor([1.0, 0]),
    )
    yield trial(
        "float64", logits=3 * rng.normal(6, dtype=torch.float64), targets=rng.integers(0, 2, 6).to(torch.float64)
    )


@bce_with_logits.mistake(
    "For a large logit σ(z) is exactly 1 in float32, so log(1 − σ(z)) is −∞, and 0 · ∞ is NaN. Keep to the form in z: "
    "log(1 + eᶻ) − t·z, with `torch.logaddexp`."
)
def log_of_sigmoid(logits, targets):
    p = logits.sigmoid()
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


@bce_with_logits.mistake(
    "e to the power of 10,000 is infinite. `torch.logaddexp` computes log(e⁰ + eᶻ) without forming eᶻ."
)
def overflowing_exp(logits, targets):
    return ((1 + logits.exp()).log() - targets * logits).mean()


@bce_with_logits.mistake(
    "Adding a small number inside the logarithm hides the overflow: a badly wrong answer then costs at most about 16 "
    "instead of 10,000, and has no gradient."
)
def small_number_in_the_log(logits, targets):
    p = logits.sigmoid()
    return -(targets * (p + 1e-7).log() + (1 - targets) * (1 - p + 1e-7).log()).mean()


@bce_with_logits.mistake(
    "This counts the samples whose answer is yes only. A no costs too: −(1 − t)·log(1 − σ(z)) belongs to the loss."
)
def yes_only(logits, targets):
    return -(targets * F.logsigmoid(logits)).mean()


@bce_with_logits.mistake("This is the sum of the losses. The mean does not grow with the batch.")
def summed_losses(logits, targets):
    return (F.softplus(logits) - targets * logits).sum()


@bce_with_logits.mistake("One loss per sample came out. Reduce them to their mean, a tensor without axes.")
def a_loss_per_sample(logits, targets):
    return F.softplus(logits) - targets * logits


@bce_with_logits.mistake("The sign of the loss is turned round: minimising it would make every answer wrong.")
def turned_round(logits, targets):
    return -(F.softplus(logits) - targets * logits).mean()


# warmup_cosine


def _call_for_a_number(function, arguments):
    """The result; 0 and 1 may be whole numbers."""
    result = apply(function, arguments)
    return {"result": float(result) if type(result) is int else collect(result)}


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "Three stretches: before `warmup`, from `warmup` to `total`, after `total`. Begin with the middle one.",
        "How far along the cosine is a step? 0 at `warmup`, 1 at `total`: (step − warmup) / (total − warmup).",
        "(1 + cos(π · p)) / 2 runs from 1 at p = 0 to 0 at p = 1. What must p be after `total`?",
    ],
    probe=_call_for_a_number,
)
def warmup_cosine(rng):
    """Trials for a straight rise to 1 and half a cosine down to 0."""
    warmup = rng.integer(4, 9)
    total = warmup + rng.integer(9, 20)
    yield trial("the first step", step=0, warmup=warmup, total=total)
    yield trial("during the warm-up", step=rng.integer(1, warmup), warmup=warmup, total=total)
    yield trial("the end of the warm-up", step=warmup, warmup=warmup, total=total)
    yield trial("just after the warm-up", step=warmup + 1, warmup=warmup, total=total)
    yield trial("on the way down", step=rng.integer(warmup + 2, total - 1), warmup=warmup, total=total)
    yield trial("the last step before the end", step=total - 1, warmup=warmup, total=total)
    yield trial("the end", step=total, warmup=warmup, total=total)
    yield trial("after the end", step=total + 3, warmup=warmup, total=total)
    yield trial("no warm-up, the first step", step=0, warmup=0, total=total)
    yield trial("no warm-up, on the way down", step=rng.integer(2, total), warmup=0, total=total)


@warmup_cosine.mistake("This warm-up begins at 1 / warmup. At step 0 the factor is 0: `step / warmup`.")
def counts_from_one(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup))))


@warmup_cosine.mistake(
    "The cosine is measured from step 0, so it does not begin at 1 where the warm-up ends. Count from `warmup`: "
    "(step − warmup) / (total − warmup)."
)
def cosine_from_step_zero(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, step / total)))


@warmup_cosine.mistake(
    "After `total` the cosine rises again, and the learning rate with it. Let the progress stop at 1."
)
def rises_again(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@warmup_cosine.mistake(
    "This cosine lasts `total` steps *after* the warm-up. It must reach 0 at step `total`, so it has total − warmup steps."
)
def too_long(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / total)))


@warmup_cosine.mistake("This is a straight line down. Half a cosine is (1 + cos(π · p)) / 2, with p from 0 to 1.")
def straight_line(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 1.0 - min(1, (step - warmup) / (total - warmup))


@warmup_cosine.mistake(
    "A quarter of a cosine falls fastest at its end. Half a cosine, (1 + cos(π · p)) / 2, is level at both ends."
)
def quarter_of_a_cosine(step, warmup, total):
    if step < warmup:
        return step / warmup
    return math.cos(math.pi / 2 * min(1, (step - warmup) / (total - warmup))) if step < total else 0.0


@warmup_cosine.mistake("With `warmup=0` this divides by 0. There is no step before the warm-up's end then.")
def divides_by_no_warmup(step, warmup, total):
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup))))


# EarlyStopping


def _told_losses(function, arguments):
    """What `step` returns for each loss, and `best` before the first and after each.

    A second object beside it, told other losses, must make no difference.
    """
    losses = arguments.pop("losses")
    stopper, other = apply(function, arguments), apply(function, dict(arguments))
    evidence = {"best before the first loss": collect(stopper.best)}
    other.step(-1000.0)
    for number, loss in enumerate(losses, 1):
        answer = stopper.step(loss)
        evidence[f"answer to loss {number}, {loss:g}"] = collect(answer)
        evidence[f"best after loss {number}, {loss:g}"] = _as_float(stopper.best)
        other.step(math.nan)
    return evidence


def _as_float(number):
    return float(number) if type(number) is int else collect(number)


def _eighths(rng, n, low=8, high=80):
    """Losses without rounding errors: multiples of 1/8."""
    return [k / 8 for k in rng.integers(low, high, n).tolist()]


@exercise(
    points=2,
    level=1,
    minutes=10,
    hints=[
        "Two things to remember between calls: the best loss, and how many calls in a row brought nothing.",
        "An improvement sets the best loss and puts the count back to 0. Everything else adds 1 to the count.",
        "Every comparison with NaN is false: let the comparison say what *is* an improvement.",
    ],
    probe=_told_losses,
)
def EarlyStopping(rng):
    """Trials of losses, one per epoch."""
    start = rng.integer(40, 80) / 8
    yield trial("a plateau", patience=3, losses=[start, start - 1, start - 1, start, start + 1, start])
    yield trial("patience 1", patience=1, losses=[start, start - 0.5, start, start - 2])
    yield trial(
        "improvements in between", patience=2, losses=[start, start + 1, start - 1, start, start - 2, start, start]
    )
    yield trial("an improvement after the stop", patience=2, losses=[start, start, start, start - 1, start])
    yield trial(
        "improvements of exactly min_delta",
        patience=2,
        min_delta=0.5,
        losses=[start, start - 0.5, start - 1, start - 1.125, start - 1.75],
    )
    yield trial(
        "many improvements that are too small",
        patience=4,
        min_delta=1.0,
        losses=[start - k / 4 for k in range(8)],
    )
    yield trial("worse by less than min_delta", patience=2, min_delta=1.0, losses=[start, start + 0.5, start + 0.25])
    yield trial("NaN", patience=2, losses=[math.nan, start, math.nan, math.nan, start - 1])
    yield trial("NaN from the first epoch on", patience=2, losses=[math.nan, math.nan, start])
    yield trial("infinity, and losses below 0", patience=2, losses=[math.inf, math.inf, -1.0, -2.0, -1.5, -1.75, -3.0])
    yield trial("any losses", patience=rng.integer(2, 4), min_delta=rng.integer(1, 9) / 8, losses=_eighths(rng, 12))


class _Stopper:
    """The frame of the mistakes: what an improvement does, and when to stop. What counts as one, the mistakes say."""

    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.bad = math.inf, 0

    def step(self, loss):
        better = self.improves(loss)
        self.bad = 0 if better else self.bad + 1
        self.best = loss if better else self.best
        return self.bad >= self.patience


class _ByMoreThanMinDelta:
    """The right improvement, for subclasses of `_Stopper` that get something else wrong."""

    def improves(self, loss):
        return self.best - loss > self.min_delta


@EarlyStopping.mistake(
    "This stops one call too late: with `patience=2` the second call in a row without an improvement returns True."
)
class one_call_late(_ByMoreThanMinDelta, _Stopper):
    def step(self, loss):
        super().step(loss)
        return self.bad > self.patience


@EarlyStopping.mistake(
    "The calls without an improvement are counted in total. They must follow each other: an improvement puts the count "
    "back to 0."
)
class counts_in_total(_ByMoreThanMinDelta, _Stopper):
    def step(self, loss):
        if self.improves(loss):
            self.best = loss
        else:
            self.bad += 1
        return self.bad >= self.patience


@EarlyStopping.mistake(
    "Equal to the best, or better by exactly min_delta, is no improvement: *more* than min_delta is."
)
class equal_is_enough(_Stopper):
    def improves(self, loss):
        return loss <= self.best - self.min_delta


@EarlyStopping.mistake(
    "NaN counts as an improvement here. Every comparison with NaN is false: ask whether the loss *is* lower, not whether "
    "it is not higher."
)
class nan_improves(_Stopper):
    def improves(self, loss):
        return not loss >= self.best - self.min_delta


@EarlyStopping.mistake(
    "A NaN is passed over, as if there had been no call. It brought no improvement: count it like any other such loss."
)
class skips_nan(_ByMoreThanMinDelta, _Stopper):
    def step(self, loss):
        return False if math.isnan(loss) else super().step(loss)


@EarlyStopping.mistake(
    "`best` follows every small step down. It is the loss of the last *improvement*: otherwise a slow decline, always "
    "too small to count, would stop a training that gets better and better."
)
class best_creeps(_ByMoreThanMinDelta, _Stopper):
    def step(self, loss):
        self.bad = 0 if self.improves(loss) else self.bad + 1
        self.best = loss if loss < self.best else self.best
        return self.bad >= self.patience


@EarlyStopping.mistake("`min_delta` makes no difference here. Lower by more than `min_delta` is asked.")
class ignores_min_delta(_Stopper):
    def improves(self, loss):
        return loss < self.best


@EarlyStopping.mistake(
    "`min_delta` is added to `best`, so a loss that is worse by less than it counts as an improvement. Subtract it."
)
class adds_min_delta(_Stopper):
    def improves(self, loss):
        return loss < self.best + self.min_delta


@EarlyStopping.mistake(
    "This compares with the previous loss. Compare with the best: a loss may rise first and fall then."
)
class compares_with_the_previous(_Stopper):
    def __init__(self, patience, min_delta=0.0):
        super().__init__(patience, min_delta)
        self.previous = math.inf

    def step(self, loss):
        if loss < self.previous - self.min_delta:
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        self.previous = loss
        return self.bad >= self.patience


@EarlyStopping.mistake(
    "All objects share one memory here: it lies on the class. Two trainings at once would stop each other. Set the "
    "attributes of `self` in `__init__`."
)
class shares_its_memory(_ByMoreThanMinDelta, _Stopper):
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        type(self).best, type(self).bad = math.inf, 0

    def step(self, loss):
        better = self.improves(loss)
        type(self).bad = 0 if better else self.bad + 1
        type(self).best = loss if better else self.best
        return self.bad >= self.patience


# cross_entropy


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "log p = z_y − log Σ exp(z_k). Which number can you subtract from a whole row of z without changing p?",
        "With the row's largest logit subtracted, every exponent is at most 0, and the sum at least 1.",
        "Keep the axis when you take the maximum: (n, c) − (n, 1). Pick one entry per row by two index tensors, or by "
        "`gather`.",
    ],
    probe=call_with_gradients,
    tolerance=(1e-3, 2e-3),  # around 10,000, float32 has steps of 0.001
    forbidden=dict.fromkeys(CROSS_ENTROPIES + LOG_SOFTMAXES, "The exercise is to write it."),
)
def cross_entropy(rng):
    """Trials for the mean over samples of −log softmax(logits)[label]."""

    def labels(n, c):
        return rng.integers(0, c, n)

    signs = torch.where(rng.booleans(5, 4), 1e4, -1e4)
    offsets = torch.tensor([1e4, -1e4, 0.0])[:, None]
    yield trial("four samples, three classes", logits=2 * rng.normal(4, 3), labels=labels(4, 3))
    yield trial("as many samples as classes", logits=rng.normal(3, 3), labels=labels(3, 3))
    yield trial("one sample", logits=rng.normal(1, 5), labels=labels(1, 5))
    yield trial("one class", logits=rng.normal(3, 1), labels=labels(3, 1))
    yield trial("every sample of the last class", logits=rng.normal(4, 3), labels=torch.full((4,), 2))
    yield trial("logits of ±10,000", logits=signs + rng.normal(5, 4), labels=labels(5, 4))
    yield trial("rows around 10,000, −10,000 and 0", logits=offsets + 4 * rng.normal(3, 4), labels=labels(3, 4))
    yield trial(
        "sure and wrong",
        logits=torch.tensor([[1e4, -1e4], [-1e4, 1e4]]) + rng.normal(2, 2),
        labels=torch.tensor([1, 0]),
    )
    yield trial("logits stored by columns", logits=3 * rng.normal(3, 6).T, labels=labels(6, 3))
    yield trial("float64", logits=2 * rng.normal(4, 5, dtype=torch.float64), labels=labels(4, 5))


def _picked(log_probabilities, labels):
    return log_probabilities[torch.arange(len(labels)), labels]


@cross_entropy.mistake(
    "exp(10,000) is infinite, and ∞ / ∞ is NaN. Subtract each row's largest logit before you take exp."
)
def exp_overflows(logits, labels):
    return -_picked((logits.exp() / logits.exp().sum(1, keepdim=True)).log(), labels).mean()


@cross_entropy.mistake(
    "The softmax of a class that is far behind is 0 in float32, and log 0 is −∞. Take the logarithm of the sum, not of "
    "the quotient: log p = z_y − log Σ exp(z_k)."
)
def log_after_softmax(logits, labels):
    return -_picked(logits.softmax(1).log(), labels).mean()


@cross_entropy.mistake(
    "A small number inside the logarithm hides the problem: being sure and wrong then costs about 20 instead of "
    "20,000, and has no gradient to learn from."
)
def small_number_added(logits, labels):
    return -_picked((logits.softmax(1) + 1e-9).log(), labels).mean()


@cross_entropy.mistake(
    "You subtract the largest logit of the whole batch. A row far below it becomes exp(−20,000) = 0 throughout. Each "
    "row needs its own largest."
)
def one_maximum_for_all(logits, labels):
    shifted = logits - logits.max()
    return -_picked(shifted - shifted.exp().sum(1, keepdim=True).log(), labels).mean()


@cross_entropy.mistake("This is the sum of the losses. Take the mean over samples.")
def sum_of_losses(logits, labels):
    return F.cross_entropy(logits, labels, reduction="sum")


@cross_entropy.mistake(
    "The sum is divided by n · c, the number of logits. There is one loss per sample: sum over the classes first, or pick "
    "the true class, and take the mean over the n samples."
)
def mean_over_all_entries(logits, labels):
    return F.cross_entropy(logits, labels) / logits.shape[1]


@cross_entropy.mistake(
    "The sign is missing: log p is at most 0, and the loss is −log p. Minimising this would make p small."
)
def without_the_minus(logits, labels):
    return -F.cross_entropy(logits, labels)


@cross_entropy.mistake("Softmax is applied twice: the logits themselves go into the loss, not their probabilities.")
def softmax_twice(logits, labels):
    return F.cross_entropy(logits.softmax(1), labels)


@cross_entropy.mistake(
    "`x[:, labels]` picks *every* label's column in *every* row, (n, n). Pick one per row: "
    "`x[torch.arange(n), labels]`, or `gather`."
)
def every_label_in_every_row(logits, labels):
    return -F.log_softmax(logits, 1)[:, labels].mean()


@cross_entropy.mistake("The probabilities are normalised down each column. Classes are the last axis: `dim=1`.")
def softmax_down_the_columns(logits, labels):
    return -_picked(F.log_softmax(logits, 0), labels).mean()


@cross_entropy.mistake(
    "The value is right, but no gradient reaches the logits: `.item()`, `.data`, `.detach()`, NumPy or `no_grad` cuts "
    "the graph. A loss that cannot be differentiated trains nothing."
)
def cuts_the_graph(logits, labels):
    return F.cross_entropy(logits.detach(), labels)


# adamw_step


_OPTIMISERS = os.path.dirname(torch.optim.Optimizer.step.__code__.co_filename)
"""Where the code of torch.optim lies."""


def _three_tensors(function, arguments):
    """The new (w, m, v), which arguments the step changed, and whether code of torch.optim ran."""
    used = []

    def watch(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(_OPTIMISERS):
            used.append(frame.f_code.co_name)

    before = collect(arguments)
    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        result = _pair(apply(function, arguments))
    finally:
        sys.setprofile(previous)
    after = collect(arguments)
    tensors = [name for name in ("w", "g", "m", "v") if not torch.equal(before[name], after[name])]
    changed = {name: after[name] for name in tensors}
    return {"result": collect(result), "changed": changed, "use of torch.optim": bool(used)}


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Three lines for the three steps, in their order. Give the new m and v names, and use those from then on.",
        "The correction divides by 1 − βᵗ: at t = 1 and β₁ = 0.9 by 0.1. Return m and v without it.",
        "The decay is lr · λ · w, with the old w: it does not pass through m and v. That is the W in AdamW.",
    ],
    probe=_three_tensors,
)
def adamw_step(rng):
    """Trials for one step on one tensor."""

    def tensors(*shape, dtype=torch.float32, scale=1.0):
        w, g, m = (rng.normal(*shape, dtype=dtype) for _ in range(3))
        return {"w": w, "g": scale * g, "m": scale * m, "v": scale**2 * rng.normal(*shape, dtype=dtype).square()}

    first = tensors(3, 2)
    first["m"], first["v"] = torch.zeros(3, 2), torch.zeros(3, 2)
    yield trial("the first step", **first, t=1, lr=0.1)
    yield trial("the second step", **tensors(4), t=2, lr=0.05)
    yield trial("a late step, a large learning rate", **tensors(2, 3), t=1000, lr=0.5)
    yield trial("other betas", **tensors(5), t=3, lr=0.1, betas=(0.5, 0.75))
    usual = {"betas": (0.9, 0.999)}
    yield trial("a large eps", **tensors(3), t=4, lr=0.1, **usual, eps=0.5)
    yield trial("no decay", **tensors(3), t=2, lr=0.1, **usual, eps=1e-8, weight_decay=0.0)
    yield trial("a strong decay", **tensors(2, 2), t=5, lr=0.1, **usual, eps=1e-8, weight_decay=0.7)
    yield trial("tiny gradients, float64", **tensors(4, dtype=torch.float64, scale=1e-8), t=3, lr=0.1)
    yield trial("a gradient of 0", w=rng.normal(3), g=torch.zeros(3), m=torch.zeros(3), v=torch.zeros(3), t=1, lr=0.1)


def _adam(w, g, m, v, t, lr, betas, eps, weight_decay, correct=True, power=2, root_of_sum=False):
    m, v = (b * old + (1 - b) * new for b, old, new in zip(betas, (m, v), (g, g.abs() ** power), strict=True))
    c1, c2 = (1 - b**t if correct else 1 for b in betas)
    bottom = (v / c2 + eps).sqrt() if root_of_sum else (v / c2).sqrt() + eps
    return w - lr * m / c1 / bottom, m, v, c1, c2


@adamw_step.mistake(
    "The correction of step 2 is missing. m and v begin at 0; without the division by 1 − βᵗ the first steps have the "
    "wrong length."
)
def without_correction(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, *_ = _adam(w, g, m, v, t, lr, betas, eps, weight_decay, correct=False)
    return new - lr * weight_decay * w, m, v


@adamw_step.mistake(
    "This is Adam with weight decay added to the *gradient*: it then passes through m and v, and is divided by √v̂. AdamW "
    "takes lr · λ · w off the weights directly."
)
def decay_in_the_gradient(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return _adam(w, g + weight_decay * w, m, v, t, lr, betas, eps, weight_decay)[:3]


@adamw_step.mistake("The weight decay is missing: λ = 0.01 unless something else is asked for.")
def without_decay(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return _adam(w, g, m, v, t, lr, betas, eps, weight_decay)[:3]


@adamw_step.mistake("The decay is λ · w here, without the learning rate: lr · λ · w is asked.")
def decay_without_lr(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, *_ = _adam(w, g, m, v, t, lr, betas, eps, weight_decay)
    return new - weight_decay * w, m, v


@adamw_step.mistake("ε stands outside the root: √v̂ + ε, not √(v̂ + ε).")
def eps_under_the_root(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, *_ = _adam(w, g, m, v, t, lr, betas, eps, weight_decay, root_of_sum=True)
    return new - lr * weight_decay * w, m, v


@adamw_step.mistake("v is the running mean of the *squared* gradient; here it is that of its size.")
def gradient_not_squared(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, *_ = _adam(w, g, m, v, t, lr, betas, eps, weight_decay, power=1)
    return new - lr * weight_decay * w, m, v


@adamw_step.mistake("t is already counted from 1: 1 − βᵗ, not 1 − βᵗ⁺¹.")
def one_step_ahead(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, *_ = _adam(w, g, m, v, t + 1, lr, betas, eps, weight_decay)
    return new - lr * weight_decay * w, m, v


@adamw_step.mistake(
    "You return the corrected m̂ and v̂. The next step needs m and v as they are, or the correction is applied twice."
)
def returns_the_corrected(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new, m, v, c1, c2 = _adam(w, g, m, v, t, lr, betas, eps, weight_decay)
    return new - lr * weight_decay * w, m / c1, v / c2


@adamw_step.mistake(
    "The numbers are right, but `torch.optim` made them. It is not allowed here: write the three steps of the formula."
)
def by_the_library(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    weights = w.clone().requires_grad_()
    weights.grad = g.clone()
    optimizer = torch.optim.AdamW([weights], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    state = optimizer.state[weights]
    state["step"], state["exp_avg"], state["exp_avg_sq"] = torch.tensor(float(t - 1)), m.clone(), v.clone()
    optimizer.step()
    return weights.detach(), state["exp_avg"], state["exp_avg_sq"]


# parameter_groups


def _shrunk(function, arguments):
    """By how much SGD with these groups and gradients of 0 shrinks each parameter: 0 where it belongs to no group."""
    model = arguments["model"]
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = apply(function, arguments)
    optimizer = torch.optim.SGD(groups, lr=1.0, weight_decay=0.375)  # what a group has that does not say its own
    for parameter in names:
        parameter.grad = torch.zeros_like(parameter)
    members = {
        names.get(p, "a tensor that is no parameter") for group in optimizer.param_groups for p in group["params"]
    }
    before = collect(dict(model.named_parameters()))
    optimizer.step()
    after = collect(dict(model.named_parameters()))
    return {
        "parameters in the groups": ", ".join(sorted(members)),
        "parameters after a step with gradients of 0": after,
        "parameters before the step": before,
    }


class _WithScalar(nn.Module):
    """A linear layer and one learned number without axes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.temperature = nn.Parameter(torch.ones(()))


def _tied():
    """Two layers that share one matrix."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def _half_frozen():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    return model.requires_grad_(False), model[1].requires_grad_()


@exercise(
    points=1,
    level=2,
    minutes=8,
    hints=[
        "`model.parameters()` gives each parameter once, shared ones too. `p.ndim` is its number of axes.",
        "Two lists: one with `p.ndim >= 2`, one with the rest. Leave out what has `requires_grad` false.",
        "Each group is a dict: `{'params': the list, 'weight_decay': a number}`.",
    ],
    probe=_shrunk,
)
def parameter_groups(rng):
    """Trials of models, each with its weight decay."""
    convolutional = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    yield trial("one linear layer", model=rng.fill(nn.Linear(3, 2)), weight_decay=0.1)
    yield trial("filters and batch norm", model=rng.fill(convolutional), weight_decay=0.25)
    yield trial("a frozen layer", model=rng.fill(_half_frozen()[0]), weight_decay=0.5)
    yield trial("two layers that share a matrix", model=rng.fill(_tied()), weight_decay=0.25)
    yield trial("a parameter without axes", model=rng.fill(_WithScalar()), weight_decay=0.5)
    yield trial("an embedding", model=rng.fill(nn.Embedding(4, 3)), weight_decay=0.125)
    yield trial("a weight decay of 0", model=rng.fill(nn.Linear(1, 2)), weight_decay=0.0)


def _groups(parameters, decays, weight_decay):
    parameters = [(name, p) for name, p in parameters]
    return [
        {"params": [p for name, p in parameters if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in parameters if not decays(name, p)], "weight_decay": 0.0},
    ]


def _trained(model):
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


@parameter_groups.mistake(
    "Biases decay too. Only parameters with two or more axes do; the others belong to a group with 0."
)
def everything_decays(model, weight_decay):
    return _groups(_trained(model), lambda name, p: True, weight_decay)


@parameter_groups.mistake("The two groups are exchanged: matrices and filters decay, biases and scales do not.")
def groups_exchanged(model, weight_decay):
    return _groups(_trained(model), lambda name, p: p.ndim < 2, weight_decay)


@parameter_groups.mistake("Frozen parameters are among the groups. Leave out what has `requires_grad` false.")
def with_frozen_ones(model, weight_decay):
    return _groups(model.named_parameters(), lambda name, p: p.ndim > 1, weight_decay)


@parameter_groups.mistake(
    "The name does not tell: the scale of a batch norm is called `weight` too, and has one axis. Ask `p.ndim`."
)
def by_name(model, weight_decay):
    return _groups(_trained(model), lambda name, p: name.endswith("weight"), weight_decay)


@parameter_groups.mistake(
    "Biases and scales are missing: a parameter in no group is not trained at all. They need a group with decay 0."
)
def matrices_only(model, weight_decay):
    return [{"params": [p for _, p in _trained(model) if p.ndim > 1], "weight_decay": weight_decay}]


@parameter_groups.mistake(
    "The biases and scales have no `weight_decay` of their own, so they get the optimiser's, which for AdamW is 0.01. Say "
    '`"weight_decay": 0.0` in their group.'
)
def zero_left_out(model, weight_decay):
    decay, rest = _groups(_trained(model), lambda name, p: p.ndim > 1, weight_decay)
    return [decay, {"params": rest["params"]}]


@parameter_groups.mistake("Filters have four axes and decay too: `p.ndim >= 2`, not `== 2`.")
def two_axes_only(model, weight_decay):
    return _groups(_trained(model), lambda name, p: p.ndim == 2, weight_decay)


# train_epoch


def _after_training(function, arguments):
    """The result, and whether it holds a graph; the model's state and the modes of its parts afterwards."""
    model = arguments["model"]
    result = apply(function, arguments)
    return {
        "result": collect(result),
        "graph behind the result": _holds_graph(result),
        "state afterwards": collect(dict(model.state_dict())),
        **_modes(model),
    }


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "Inside the loop, in this order: the loss, zero the gradients, `backward`, clip if asked, `step`.",
        "A batch's loss is a mean. Times the number of its samples it is a sum, and sums may be added.",
        "`nn.utils.clip_grad_norm_(model.parameters(), max_norm)` stands between `backward` and `step`. `loss.item()` "
        "is the number without the graph.",
    ],
    probe=_after_training,
)
def train_epoch(rng):
    """Trials of a model, a loader and an optimiser."""

    def setting(n, batch_size, scale=1.0, momentum=0.0, **options):
        model = _classifier(rng)
        return {
            "model": model,
            "loader": _loader(rng, n, batch_size, scale=scale, **options),
            "loss_fn": F.cross_entropy,
            "optimizer": _sgd(model, momentum=momentum),
        }

    evaluated = setting(6, 3)
    evaluated["model"].eval()
    regression, steep = _linear(rng, 2, 1), _linear(rng, 2, 1)
    data = TensorDataset(10 * rng.normal(5, 2), rng.normal(5, 1))
    far_off = TensorDataset(10 + rng.uniform(4, 2), 1000 + rng.uniform(4, 1))
    yield trial("two batches of equal size", **setting(6, 3))
    yield trial("the last batch is short", **setting(8, 3))
    yield trial("the loader drops the short batch", **setting(8, 3, drop_last=True))
    yield trial("one batch", **setting(4, 4))
    yield trial("the model comes in eval mode", **evaluated)
    yield trial("momentum", **setting(9, 3, momentum=0.9))
    yield trial("gradients are clipped", **setting(8, 3, scale=5.0), max_norm=0.1)
    yield trial("gradients are smaller than max_norm", **setting(5, 3), max_norm=1e6)
    yield trial(
        "a regression, clipped; the last batch is short",
        model=regression,
        loader=DataLoader(data, 2),
        loss_fn=F.mse_loss,
        optimizer=torch.optim.AdamW(regression.parameters(), lr=0.1),
        max_norm=1.0,
    )
    yield trial(
        "very large gradients, max_norm left out",
        model=steep,
        loader=DataLoader(far_off, 2),
        loss_fn=F.mse_loss,
        optimizer=_sgd(steep, 1e-4),
    )


def _epoch(model, loader, loss_fn, optimizer, before=None, between=None, mean="samples", as_number=True):
    """An epoch of the mistakes: `before` runs at the start of each batch, `between` before the step."""
    batches = []
    for inputs, labels in loader:
        if before:
            before()
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        if between:
            between()
        optimizer.step()
        batches.append((loss.item() if as_number else loss, len(labels)))
    if mean == "batches":
        return sum(loss for loss, _ in batches) / len(batches)
    if mean == "data set":
        return sum(loss * n for loss, n in batches) / len(loader.dataset)
    if mean == "last":
        return batches[-1][0]
    return sum(loss * n for loss, n in batches) / sum(n for _, n in batches)


def _clip(model, max_norm):
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)


@train_epoch.mistake(
    "The gradients are not set to zero for each batch, so each step repeats those of all batches before it. `backward` "
    "adds."
)
def never_zeroes(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, None, lambda: _clip(model, max_norm))


@train_epoch.mistake("The gradients are set to zero between `backward` and `step`, so the model learns nothing.")
def zeroes_before_the_step(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, None, optimizer.zero_grad)


@train_epoch.mistake(
    "This is the mean over *batches*: a short last batch counts as much as a full one. Weigh each loss by its samples."
)
def mean_over_batches(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, lambda: _clip(model, max_norm), "batches")


@train_epoch.mistake(
    "`len(loader.dataset)` counts samples that no batch held: this loader drops the short one. Count the labels as they "
    "come."
)
def divides_by_the_data_set(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, lambda: _clip(model, max_norm), "data set")


@train_epoch.mistake("This returns the loss of the last batch alone, not the mean over the epoch.")
def last_loss_only(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, lambda: _clip(model, max_norm), "last")


@train_epoch.mistake(
    "The model is not put into train mode. After an evaluation it would train without dropout, and batch norm would use "
    "its running statistics: `model.train()` at the start."
)
def no_train_mode(model, loader, loss_fn, optimizer, max_norm=None):
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, lambda: _clip(model, max_norm))


@train_epoch.mistake(
    "The clipping has no effect on the step. It must come after `backward`, which makes the gradients, and before "
    "`step`, which uses them."
)
def never_clips(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad)


@train_epoch.mistake(
    "Each parameter is clipped by itself, which changes the direction of the step. One norm over all gradients together "
    "is asked: one call of `clip_grad_norm_` with all parameters."
)
def clips_one_by_one(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()

    def clip():
        for parameter in model.parameters():
            if max_norm is not None:
                nn.utils.clip_grad_norm_([parameter], max_norm)

    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, clip)


@train_epoch.mistake(
    "`clip_grad_value_` cuts off each entry by itself, and so changes the direction of the step. `clip_grad_norm_` makes "
    "the whole gradient shorter."
)
def clips_values(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()

    def clip():
        if max_norm is not None:
            nn.utils.clip_grad_value_(model.parameters(), max_norm)

    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, clip)


@train_epoch.mistake(
    "The result is a tensor, and it holds the graph of every batch: memory grows with each. `loss.item()` is the number."
)
def keeps_the_graphs(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    clip = lambda: _clip(model, max_norm)  # noqa: E731
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, clip, as_number=False)


@train_epoch.mistake("Without `max_norm` nothing may be clipped: its default is None, not a number.")
def clips_unasked(model, loader, loss_fn, optimizer, max_norm=1.0):
    model.train()
    return _epoch(model, loader, loss_fn, optimizer, optimizer.zero_grad, lambda: _clip(model, max_norm))


@train_epoch.mistake("The value is right, but it is a tensor. A Python float is asked: `loss.item()`, or `float(…)`.")
def gives_a_tensor(model, loader, loss_fn, optimizer, max_norm=None):
    return keeps_the_graphs.implementation(model, loader, loss_fn, optimizer, max_norm).detach()


@train_epoch.mistake(
    "This is the loss *after* the step, from a second pass through the model, which costs time and moves batch norm's "
    "running statistics once more. Take the loss that you called `backward` on."
)
def measures_after_the_step(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = samples = 0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss_fn(model(inputs), labels).backward()
        _clip(model, max_norm)
        optimizer.step()
        total, samples = total + loss_fn(model(inputs), labels).item() * len(labels), samples + len(labels)
    return total / samples


# evaluate


def _evaluated(function, arguments):
    """The result; whether outputs carried a graph; state and mode of the model afterwards."""
    model = arguments["model"]
    graphs = []
    handle = model.register_forward_hook(lambda module, inputs, output: graphs.append(output.requires_grad))
    try:
        result = _pair(apply(function, arguments))
    finally:
        handle.remove()
    return {
        "result": collect(result),
        "number of batches with a graph": sum(graphs),
        "mode of the model afterwards": "train" if model.training else "eval",
        "state afterwards": collect(dict(model.state_dict())),
    }


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "Before the loop, note `model.training`; after it, `model.train(…)` with what you noted.",
        "`logits.argmax(dim=1)` are the predicted classes. Count the right ones, and divide by the samples at the end.",
        "`with torch.no_grad():` around the loop. `.item()` makes Python numbers of both results.",
    ],
    probe=_evaluated,
)
def evaluate(rng):
    """Trials of a model and a loader."""

    def setting(n, batch_size, **options):
        model = _classifier(rng)
        for batches in range(3):  # running statistics that are not those of a fresh layer
            model(rng.normal(4, 3) + batches)
        return {"model": model, "loader": _loader(rng, n, batch_size, **options), "loss_fn": F.cross_entropy}

    def last_one_wrong(n, batch_size):
        """Labels that the model hits, but for the last: the short batch has an accuracy of its own."""
        arguments = setting(n, batch_size)
        model, data = arguments["model"], arguments["loader"].dataset.tensors
        with torch.no_grad():
            hits = model.eval()(data[0]).argmax(dim=1)
        model.train()
        data[1].copy_(torch.where(torch.arange(n) < n - 1, hits, (hits + 1) % 4))
        return arguments

    evaluated = setting(7, 3)
    evaluated["model"].eval()
    with_dropout = setting(6, 3)
    with_dropout["model"].insert(0, nn.Dropout(0.75))
    yield trial("a model in train mode", **setting(6, 3))
    yield trial("the last batch is short", **last_one_wrong(9, 4))
    yield trial("a model in eval mode", **evaluated)
    yield trial("a model with dropout", **with_dropout)
    yield trial("the loader drops the short batch", **setting(8, 3, drop_last=True))
    yield trial("as many samples as classes", **setting(4, 4))
    yield trial("batches of one sample", **setting(3, 1))
    weighted = setting(7, 3)
    yield trial("another loss", **weighted | {"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.25)})


def _measured(model, loader, loss_fn, mean="samples", dim=1, grad=False):
    losses, right, sizes = [], [], []
    with torch.set_grad_enabled(grad):
        for inputs, labels in loader:
            logits = model(inputs)
            losses.append(loss_fn(logits, labels).item())
            right.append((logits.argmax(dim=dim)[: len(labels)] == labels[: logits.shape[1 - dim]]).sum().item())
            sizes.append(len(labels))
    if mean == "batches":
        shares = [a / b for a, b in zip(right, sizes, strict=True)]
        return sum(losses) / len(losses), sum(shares) / len(shares)
    samples = len(loader.dataset) if mean == "data set" else sum(sizes)
    return sum(a * b for a, b in zip(losses, sizes, strict=True)) / samples, sum(right) / samples


@contextmanager
def _eval_mode(model):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    yield
    for module, mode in modes.items():
        module.training = mode


@evaluate.mistake(
    "The model is not put into eval mode: batch norm uses the statistics of each batch and changes its running ones, and "
    "dropout drops."
)
def stays_in_train_mode(model, loader, loss_fn):
    return _measured(model, loader, loss_fn)


@evaluate.mistake(
    "The model stays in eval mode afterwards, so the next epoch would train without dropout and with frozen batch norm."
)
def leaves_eval_mode(model, loader, loss_fn):
    model.eval()
    return _measured(model, loader, loss_fn)


@evaluate.mistake("`model.train()` at the end is wrong for a model that came in eval mode. Put back the mode it had.")
def always_train_afterwards(model, loader, loss_fn):
    model.eval()
    result = _measured(model, loader, loss_fn)
    model.train()
    return result


@evaluate.mistake("A graph is recorded for every batch, which costs memory and time: `with torch.no_grad():`.")
def records_graphs(model, loader, loss_fn):
    with _eval_mode(model):
        return _measured(model, loader, loss_fn, grad=True)


@evaluate.mistake(
    "These are means over *batches*: a short last batch counts as much as a full one. Add up over samples, divide once."
)
def means_over_batches(model, loader, loss_fn):
    with _eval_mode(model):
        return _measured(model, loader, loss_fn, "batches")


@evaluate.mistake(
    "The loss is right. The accuracy is a mean over *batches*: count the right answers of all batches, and divide once by "
    "the number of samples."
)
def accuracy_over_batches(model, loader, loss_fn):
    with _eval_mode(model):
        return _measured(model, loader, loss_fn)[0], _measured(model, loader, loss_fn, "batches")[1]


@evaluate.mistake("The accuracy is in percent. It is a share, in [0, 1]: multiply by 100 where you print it, with a %.")
def in_percent(model, loader, loss_fn):
    with _eval_mode(model):
        loss, accuracy = _measured(model, loader, loss_fn)
    return loss, 100 * accuracy


@evaluate.mistake("This is the number of right answers. The accuracy is their share of all samples.")
def counts_right_answers(model, loader, loss_fn):
    with _eval_mode(model):
        loss, accuracy = _measured(model, loader, loss_fn)
    samples = sum(len(labels) for _, labels in loader)
    return loss, accuracy * samples


@evaluate.mistake(
    "`len(loader.dataset)` counts samples that no batch held: this loader drops the short one. Count the labels as they "
    "come."
)
def divides_by_the_whole_data_set(model, loader, loss_fn):
    with _eval_mode(model):
        return _measured(model, loader, loss_fn, "data set")


# train_accumulated


def _accumulated(function, arguments):
    """The result, the state of the model, and how often more samples came at once than the largest piece has."""
    model, batches = arguments["model"], arguments["batches"]
    before, largest = collect(batches), max(len(labels) for _, labels in batches)
    sizes = []
    handle = model.register_forward_pre_hook(
        lambda module, inputs, named: sizes.append(len([*inputs, *named.values()][0])), with_kwargs=True
    )
    try:
        result = apply(function, arguments)
    finally:
        handle.remove()
    pieces = collect(batches)
    return {
        "result": collect(result),
        "changed": {"batches": pieces} if difference(before, pieces, "batches", exact=True) else {},
        "number of times that the model got more samples than the largest piece has": sum(n > largest for n in sizes),
        "state afterwards": collect(dict(model.state_dict())),
    }


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "The mean over all samples is Σ (piece's mean · piece's size / number of all samples).",
        "`backward` adds to the gradients. So call it once per piece, on that piece's share of the loss.",
        "`zero_grad` once before the first piece, `step` once after the last.",
    ],
    probe=_accumulated,
)
def train_accumulated(rng):
    """Trials of a model and pieces of a batch."""

    def setting(*sizes, lr=0.1, momentum=0.0, scale=1.0):
        model = rng.fill(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)))
        batches = [(scale * rng.normal(n, 3), rng.integers(0, 4, n)) for n in sizes]
        optimizer = _sgd(model, lr, momentum)
        return {"model": model, "batches": batches, "loss_fn": F.cross_entropy, "optimizer": optimizer}

    stale = setting(2, 4)
    for parameter in stale["model"].parameters():
        parameter.grad = rng.normal(*parameter.shape)
    yield trial("two pieces of equal size", **setting(3, 3))
    yield trial("pieces of unequal size", **setting(5, 1, 2))
    yield trial("one piece", **setting(4))
    yield trial("many pieces of one sample", **setting(*[1] * 6))
    yield trial("gradients are left from before", **stale)
    yield trial("momentum and a large step", **setting(1, 4, lr=1.0, momentum=0.9))
    regression = _linear(rng, 2, 1)
    yield trial(
        "a regression",
        model=regression,
        batches=[(rng.normal(n, 2), rng.normal(n, 1)) for n in (1, 3)],
        loss_fn=F.mse_loss,
        optimizer=_sgd(regression, 0.05),
    )


def _pieces(model, batches, loss_fn, weight=None, after=lambda: None):
    """Losses and sizes of the pieces; `weight(size, all sizes)` scales each loss before `backward`."""
    sizes = [len(labels) for _, labels in batches]
    losses = []
    for inputs, labels in batches:
        loss = loss_fn(model(inputs), labels)
        (loss * weight(len(labels), sizes) if weight else loss).backward()
        losses.append(loss.item())
        after()
    return losses, sizes


def _mean(losses, sizes):
    return sum(loss * n for loss, n in zip(losses, sizes, strict=True)) / sum(sizes)


def _share(size, sizes):
    return size / sum(sizes)


@train_accumulated.mistake(
    "The gradients are the *sum* of the pieces' means, so the step is too long by the number of pieces. Scale each loss "
    "by its share of the samples before `backward`."
)
def sums_the_means(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    losses, sizes = _pieces(model, batches, loss_fn)
    optimizer.step()
    return _mean(losses, sizes)


@train_accumulated.mistake(
    "Dividing by the number of pieces is right only where all have the same size. A piece's share is its samples over "
    "all samples."
)
def equal_shares(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    losses, _ = _pieces(model, batches, loss_fn, lambda size, sizes: 1 / len(sizes))
    optimizer.step()
    return sum(losses) / len(losses)


@train_accumulated.mistake(
    "The result is right, but the step is not: dividing each loss by the number of pieces makes a small piece count as "
    "much as a large one. A piece's share is its samples over all samples."
)
def equal_shares_in_the_step(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    losses, sizes = _pieces(model, batches, loss_fn, lambda size, sizes: 1 / len(sizes))
    optimizer.step()
    return _mean(losses, sizes)


@train_accumulated.mistake("The step is right. The result is the mean over *pieces*: weigh each by its samples.")
def result_over_pieces(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    losses, _ = _pieces(model, batches, loss_fn, _share)
    optimizer.step()
    return sum(losses) / len(losses)


@train_accumulated.mistake("There is a step after every piece. One step is asked, after the last.")
def steps_every_piece(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    losses, sizes = _pieces(model, batches, loss_fn, _share, optimizer.step)
    return _mean(losses, sizes)


@train_accumulated.mistake(
    "This trains on one piece after the other, with a step for each. One step is asked, after the last piece: `zero_grad` "
    "stands before the loop, `step` after it."
)
def trains_on_each_piece(model, batches, loss_fn, optimizer):
    return _epoch(model, batches, loss_fn, optimizer, optimizer.zero_grad)


@train_accumulated.mistake(
    "Each piece's share is right, but each gets a step of its own. One step is asked: `zero_grad` before the loop, `step` "
    "after it, and the gradients add up in between."
)
def steps_with_each_share(model, batches, loss_fn, optimizer):
    samples = sum(len(labels) for _, labels in batches)
    return sum(
        _epoch(
            model,
            [piece],
            loss_fn=lambda x, y: loss_fn(x, y) * len(y) / samples,
            optimizer=optimizer,
            before=optimizer.zero_grad,
        )
        for piece in batches
    )


@train_accumulated.mistake("`zero_grad` inside the loop throws away all pieces but the last.")
def zeroes_every_piece(model, batches, loss_fn, optimizer):
    losses, sizes = _pieces(model, batches[:-1], loss_fn, _share)
    total = sum(len(labels) for _, labels in batches)
    optimizer.zero_grad()
    last, last_sizes = _pieces(model, batches[-1:], loss_fn, lambda size, _: size / total)
    optimizer.step()
    return _mean(losses + last, sizes + last_sizes)


@train_accumulated.mistake(
    "Gradients that were there before are part of this step. `zero_grad` before the first piece."
)
def keeps_old_gradients(model, batches, loss_fn, optimizer):
    losses, sizes = _pieces(model, batches, loss_fn, _share)
    optimizer.step()
    return _mean(losses, sizes)


@train_accumulated.mistake(
    "The pieces are joined into one batch, which does not fit into memory: that is why they came in pieces. Call "
    "`backward` for each; the gradients add up."
)
def joins_the_pieces(model, batches, loss_fn, optimizer):
    optimizer.zero_grad()
    loss = loss_fn(model(torch.cat([x for x, _ in batches])), torch.cat([y for _, y in batches]))
    loss.backward()
    optimizer.step()
    return loss.item()


# FastText


def _text_logits(function, arguments):
    """Logits with known weights, without the bias, and the gradients of the word vectors.

    The names of the parameters are the student's: they are found by their shapes.
    """
    given = {name: arguments.pop(name) for name in ("vectors", "weight", "bias")}
    ids = arguments.pop("ids")
    padding = arguments.get("padding_idx", 0)
    model = apply(function, arguments)
    vectors, weight, bias, others = _parts(model, given)
    if any(isinstance(one, (nn.Embedding, nn.EmbeddingBag)) and one.padding_idx == padding for one in model.modules()):
        given["vectors"][padding] = 0.0  # PyTorch promises a row of 0 there, which an answer may rely on
    with torch.no_grad():
        for parameter, values in ((vectors, given["vectors"]), (weight, given["weight"]), (bias, given["bias"])):
            if parameter is not None:
                parameter.copy_(_as_shape(values, parameter.shape))
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    before = ids.clone()
    logits = model(ids)
    changed = sum(int((new != old).sum()) for new, old in zip(model.parameters(), weights, strict=True))
    is_tensor = isinstance(logits, torch.Tensor)
    subtract = bias is not None and is_tensor and logits.shape[-1:] == given["bias"].shape
    evidence = {
        "number of further parameters": others,
        "logits minus the bias": collect(logits.detach() - given["bias"] if subtract else logits),
        "changed": {} if torch.equal(before, ids) else {"ids": collect(ids)},
        "number of weights that the call changed": changed,
    }
    if is_tensor and logits.requires_grad and vectors.requires_grad:
        (gradient,) = torch.autograd.grad(logits, [vectors], fixed_weights(logits), allow_unused=True)
        if gradient is not None:
            gradient = gradient.to_dense() if gradient.is_sparse else gradient
            gradient = _as_shape(gradient, given["vectors"].shape)
            # nn.Embedding(padding_idx=…) hides the gradient of this row: a mistake is the same with it and without
            words = [row for row in range(len(gradient)) if row != padding]
            evidence["gradient of the word vectors without that of padding"] = collect(gradient[words])
    return evidence


def _as_shape(values, shape):
    """The values, transposed if only so they have the shape; a bias may have an axis of length 1."""
    return values.T if values.ndim > 1 and values.shape != shape else values.reshape(shape)


def _parts(model, given):
    """Vectors, weight and bias (None where there is none) by their shapes, and how many parameters there are besides."""
    left = list(model.parameters())
    found = []
    for name, called in (("vectors", "word vectors"), ("weight", "linear layer"), ("bias", "")):
        shape = tuple(given[name].shape)
        wanted = (shape, shape[::-1] if len(shape) > 1 else (1, *shape))
        place = next((i for i, parameter in enumerate(left) if tuple(parameter.shape) in wanted), None)
        if place is None and called:
            shapes = ", ".join(str(tuple(parameter.shape)) for parameter in model.parameters()) or "none"
            raise WrongSignature(
                f"No parameter of your model has the shape {shape} of the {called}, nor that shape transposed. The "
                f"shapes of its parameters: {shapes}."
            )
        found.append(None if place is None else left.pop(place))
    return *found, len(left)


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "`nn.Embedding` turns ids (batch, time) into vectors (batch, time, dim). A mask says which are words: "
        "`ids != self.padding_idx`.",
        "Give the mask an axis of length 1 at the end. Sum the vectors of words over time, and count the words.",
        "A row of padding has 0 words: `clamp(min=1)` on the count. 0 / 1 is the mean 0 that is asked.",
    ],
    probe=_text_logits,
)
def FastText(rng):
    """Trials of ids, with the weights to use. The three sizes differ, so that a shape tells what a parameter is."""

    def setting(ids, vocabulary, dim, classes, **options):
        return {
            "vocabulary_size": vocabulary,
            "dim": dim,
            "num_classes": classes,
            **options,
            "ids": ids,
            "vectors": rng.normal(vocabulary, dim),
            "weight": rng.normal(classes, dim),
            "bias": rng.normal(classes),
        }

    ids = rng.integers(1, 7, 3, 5)
    ids[0, 1] = ids[0, 0]  # a word that is there twice counts twice
    padded = ids.clone()
    padded[0, 2:], padded[1, 1:], padded[2, 4:] = 0, 0, 0
    inside = padded.flip(1).clone()
    empty = padded.clone()
    empty[1] = 0
    other = rng.integers(0, 5, 2, 6)
    other[0, 1::2], other[0, 0], other[1, 0] = 4, 2, 1
    yield trial("no padding", **setting(ids, 7, 4, 2))
    yield trial("padding on the right", **setting(padded, 7, 4, 2))
    yield trial("padding on the left", **setting(inside, 7, 2, 3))
    yield trial("a text of padding alone", **setting(empty, 7, 3, 2))
    yield trial("padding_idx is not 0", **setting(other, 5, 3, 4, padding_idx=4))
    yield trial("as many words as texts", **setting(rng.integers(0, 4, 3, 3), 4, 3, 2))
    yield trial("one text of one word", **setting(torch.tensor([[1]]), 4, 2, 3))


class _Texts(nn.Module):
    """The frame of the mistakes."""

    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.linear = nn.Linear(dim, num_classes)
        self.padding_idx = padding_idx

    def words(self, ids):
        """Vectors (batch, time, dim), with 0 at padding."""
        return self.embedding(ids) * (ids != self.padding_idx)[..., None]

    def count(self, ids):
        return (ids != self.padding_idx).sum(1, keepdim=True).clamp(min=1)


@FastText.mistake(
    "The mean counts padding: the logits of a text change with the length of its neighbours in the batch. Leave padding "
    "out of the sum and of the number of words."
)
class counts_padding(_Texts):
    def forward(self, ids):
        return self.linear(self.embedding(ids).mean(dim=1))


@FastText.mistake(
    "The sum leaves padding out, but is divided by the padded length. Divide by the number of words: `mask.sum(dim=1)`."
)
class divides_by_the_length(_Texts):
    def forward(self, ids):
        return self.linear(self.words(ids).mean(dim=1))


@FastText.mistake(
    "The number of words is right, but the vector at `padding_idx` is in the sum. Multiply by the mask, or use "
    "`torch.where`."
)
class sums_padding_too(_Texts):
    def forward(self, ids):
        return self.linear(self.embedding(ids).sum(dim=1) / self.count(ids))


@FastText.mistake("A text of padding alone divides 0 by 0, which is NaN. Its mean is 0: divide by at least 1.")
class divides_by_zero(_Texts):
    def forward(self, ids):
        return self.linear(self.words(ids).sum(dim=1) / (ids != self.padding_idx).sum(1, keepdim=True))


@FastText.mistake("This is the sum of the word vectors, which grows with the length of the text. The mean is asked.")
class sums_the_words(_Texts):
    def forward(self, ids):
        return self.linear(self.words(ids).sum(dim=1))


@FastText.mistake(
    "0 stands for padding here whatever `padding_idx` says. Keep the argument as an attribute and use it."
)
class padding_is_always_zero(_Texts):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__(vocabulary_size, dim, num_classes, 0)

    def forward(self, ids):
        return self.linear(self.words(ids).sum(dim=1) / self.count(ids))


@FastText.mistake(
    "`forward` writes into the vectors: the row of padding is set to 0. Using a model must not change it. Leave the row "
    "as it is, and mask it out of the sum."
)
class writes_into_the_vectors(_Texts):
    def forward(self, ids):
        with torch.no_grad():
            self.embedding.weight[self.padding_idx] = 0
        return self.linear(self.embedding(ids).sum(dim=1) / self.count(ids))


@FastText.mistake("These are probabilities. The loss takes logits: no softmax at the end of the model.")
class gives_probabilities(_Texts):
    def forward(self, ids):
        return self.linear(self.words(ids).sum(dim=1) / self.count(ids)).softmax(dim=1)


# mend_training


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "What does `F.cross_entropy` take, logits or probabilities? Where does an optimiser keep its momentum?",
        "One line is missing before `backward`, and one before the first batch.",
        "`total` adds up tensors with their graphs, and means of batches of unequal size: `loss.item() * len(labels)`.",
    ],
    probe=_after_training,
)
def mend_training(rng):
    """Trials of a model and a loader."""

    def setting(n, batch_size, epochs=2, lr=0.1, **options):
        return {
            "model": _classifier(rng),
            "loader": _loader(rng, n, batch_size, **options),
            "epochs": epochs,
            "lr": lr,
        }

    evaluated, untrained = setting(6, 3), setting(3, 3, epochs=0)
    evaluated["model"].eval()
    untrained["model"].eval()
    yield trial("one epoch of one batch", **setting(4, 4, epochs=1))
    yield trial("two epochs", **setting(6, 3))
    yield trial("the last batch is short", **setting(8, 3, lr=0.05))
    yield trial("the model comes in eval mode", **evaluated)
    yield trial("the loader drops the short batch", **setting(8, 3, drop_last=True))
    yield trial("three epochs", **setting(5, 3, epochs=3, lr=0.01))
    yield trial("no epoch, and the model comes in eval mode", **untrained)


def _half_mended(faults, model, loader, epochs, lr, train_each=False, momentum=0.9):
    """The program of the prompt, with those of its faults that are named in `faults`."""
    if "mode" not in faults:
        model.train()
    optimizer, history = _sgd(model, lr, momentum), []
    loss_fn = (lambda x, y: F.cross_entropy(x.softmax(1), y)) if "softmax" in faults else F.cross_entropy
    mean = "batches" if "mean" in faults else "samples"
    for _ in range(epochs):
        if train_each:
            model.train()
        if "optimiser" in faults:
            optimizer = _sgd(model, lr, momentum)
        before = None if "gradients" in faults else optimizer.zero_grad
        history.append(_epoch(model, loader, loss_fn, optimizer, before, None, mean, "tensors" not in faults))
    return history


@mend_training.mistake("This is still the program of the text, with all six faults.")
def not_mended(model, loader, epochs, lr):
    return _half_mended({"mode", "softmax", "mean", "optimiser", "gradients", "tensors"}, model, loader, epochs, lr)


@mend_training.mistake("`F.cross_entropy` still gets probabilities. It takes logits, and does the softmax itself.")
def softmax_left(model, loader, epochs, lr):
    return _half_mended({"softmax"}, model, loader, epochs, lr)


@mend_training.mistake("The gradients of all batches still pile up: `optimizer.zero_grad()` before each `backward`.")
def gradients_pile_up(model, loader, epochs, lr):
    return _half_mended({"gradients"}, model, loader, epochs, lr)


@mend_training.mistake(
    "Each epoch still builds a new optimiser, which begins without momentum. Build it once, before the first epoch."
)
def momentum_is_lost(model, loader, epochs, lr):
    return _half_mended({"optimiser"}, model, loader, epochs, lr)


@mend_training.mistake("The model is still trained in the mode it came in. `model.train()` before the first batch.")
def mode_left(model, loader, epochs, lr):
    return _half_mended({"mode"}, model, loader, epochs, lr)


@mend_training.mistake("These are still means over batches. A short batch counts less: weigh each loss by its samples.")
def batches_count_alike(model, loader, epochs, lr):
    return _half_mended({"mean"}, model, loader, epochs, lr)


@mend_training.mistake("The results are still tensors with their graphs. `loss.item()` is the number.")
def tensors_left(model, loader, epochs, lr):
    return _half_mended({"tensors"}, model, loader, epochs, lr)


@mend_training.mistake("The values are right, but they are tensors. Python floats are asked: `.item()`, or `float(…)`.")
def tensors_without_graphs(model, loader, epochs, lr):
    return [loss.detach() for loss in _half_mended({"tensors"}, model, loader, epochs, lr)]


@mend_training.mistake("The optimiser has no momentum any more: `torch.optim.SGD(…, momentum=0.9)` is wanted.")
def no_momentum(model, loader, epochs, lr):
    return _half_mended(set(), model, loader, epochs, lr, momentum=0.0)


@mend_training.mistake(
    "With 0 epochs, a `model.train()` inside the loop is never reached, and the model stays in eval mode. Put it before "
    "the loop."
)
def train_mode_in_the_loop(model, loader, epochs, lr):
    return _half_mended({"mode"}, model, loader, epochs, lr, train_each=True)


# checkpoint and resume


class _Noise(nn.Module):
    """Dropout by torch.rand, which draws the same numbers on every machine."""

    def forward(self, x):
        return torch.where(torch.rand(x.shape) < 0.25, 0.0, x) if self.training else x


def _run(steps, model, optimizer, scheduler, inputs, targets):
    """Train; each step draws from PyTorch's generator. The losses."""
    losses = []
    for _ in range(steps):
        start = int(torch.randint(len(inputs) - 3, ()))
        shift = 0.2 * torch.rand(()) - 0.1
        loss = F.mse_loss(model(inputs[start : start + 4] + shift), targets[start : start + 4])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def _state(model, optimizer, scheduler):
    """All that a file must hold, each part by its name."""
    return {
        "the model": collect(dict(model.state_dict())),
        "the optimiser": collect(optimizer.state_dict()),
        "the scheduler": collect(scheduler.state_dict()),
        "PyTorch's random state": torch.get_rng_state(),
    }


def _end(model, optimizer, scheduler):
    """Where a training has come to, down to the next random numbers."""
    return {
        "model": collect(dict(model.state_dict())),
        "optimiser": collect(optimizer.state_dict()["state"]),
        "learning rate": optimizer.param_groups[0]["lr"],
        "steps of the schedule": scheduler.last_epoch,
        "next random numbers": torch.rand(2),
    }


@contextmanager
def _own_random_state():
    """Leave Python's and NumPy's generators as they were. PyTorch's is looked after by `attempt`."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _seed(number):
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)


_PARTNERS: dict[Callable, Callable] = {}
"""For the mistakes below, the function that reads, or writes, their files."""


def _partner(function, name):
    """The other half of a student's pair: it stands in the same notebook."""
    if function in _PARTNERS:
        return _PARTNERS[function]
    other = getattr(inspect.unwrap(function), "__globals__", {}).get(name)
    if not inspect.isroutine(other) and not inspect.isclass(other):
        raise NameError(f"{function.__name__} is tried together with your {name}, which is not defined yet. {_ADVICE}")

    def partner(*arguments):
        try:
            return other(*arguments)
        except NotImplementedError as error:
            if str(error):
                raise
            raise NameError(
                f"{function.__name__} is tried together with your {name}, which is not written yet. {_ADVICE}"
            ) from None

    return partner


_ADVICE = "Write both, run both cells, then check."


def _interrupted(write, read, arguments, attacked):
    """Train, write, train on; then begin anew from the file, train on, and compare."""
    name, build_model, build_optimizer, build_scheduler = arguments.values()

    def build():
        model, inputs, targets = build_model()
        optimizer = build_optimizer(model)
        return model, optimizer, build_scheduler(optimizer), inputs, targets

    with _own_random_state(), tempfile.TemporaryDirectory() as folder:
        path, moved, second = (os.path.join(folder, one) for one in (name, f"moved-{name}", f"second-{name}"))
        training = build()
        _seed(1)
        evidence = {"losses before the file was written": _run(3, *training)}
        written = _state(*training[:3])
        write(path, *training[:3])
        losses = _run(1, *training)
        write(second, *training[:3])  # a file holds the state of its own moment
        losses += _run(2, *training)
        undisturbed = _end(*training[:3])
        evidence |= {
            "losses after the file was written": losses,
            "end of the training that was not stopped": undisturbed,
        }

        again = build()
        with torch.no_grad():
            for tensor in again[0].state_dict().values():
                tensor.add_(1)
        _seed(2)
        shutil.move(path, moved)
        weights = sum(p.nbytes for p in again[0].parameters())
        evidence["room for the weights in the file"] = os.path.getsize(moved) > weights / 2
        read(moved, *again[:3])
        read_back = _state(*again[:3])
        evidence |= {f"recovery of {part}": _same(written[part], read_back[part]) for part in written}
        evidence["losses after the file was read"] = _run(3, *again)
        resumed = _end(*again[:3])
        evidence["end of the resumed training"] = resumed
        evidence["equality to the last bit"] = {key: _same(undisturbed[key], resumed[key]) for key in undisturbed}
        if attacked:
            evidence["running of code from a hostile file"] = _runs_code(read, folder, again[:3])
    return evidence


def _same(left, right):
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):  # JSON makes lists of tuples
        return len(left) == len(right) and all(map(_same, left, right))
    return left == right


_ALARMS: list[int] = []


def _alarm():
    _ALARMS.append(1)
    return {}


class _Hostile:
    """Unpickling it calls a function: here a harmless one."""

    def __reduce__(self):
        return _alarm, ()


def _runs_code(read, folder, training):
    """Whether reading a hostile file runs what it says. Errors are welcome."""
    zipped, pickled = os.path.join(folder, "hostile.pt"), os.path.join(folder, "hostile.pkl")
    torch.save({"model": _Hostile()}, zipped)
    Path(pickled).write_bytes(pickle.dumps(_Hostile(), protocol=2))
    _ALARMS.clear()
    for path in (zipped, pickled):
        with suppress(Exception):
            read(path, *training)
    return bool(_ALARMS)


def _checkpointed(function, arguments):
    """The student's function writes, and its partner reads."""
    arguments = dict(arguments)

    def read(*values):
        _partner(function, "resume")(*values)

    return _interrupted(_by(function, arguments), read, arguments, attacked=False)


def _resumed(function, arguments):
    """The partner writes, and the student's function reads."""
    arguments = dict(arguments)
    read = _by(function, arguments)
    if function not in _PARTNERS:
        _raise_if_untouched(function, arguments)

    def write(*values):
        _partner(function, "checkpoint")(*values)

    return _interrupted(write, read, arguments, attacked=True)


def _by(function, arguments):
    """The function, called as every exercise is: by the names of its arguments, or by position."""
    return lambda *values: apply(function, dict(zip(arguments, values, strict=True)))


def _raise_if_untouched(function, arguments):
    """Let the starter's error out before its partner is asked for a file."""
    _, build_model, build_optimizer, build_scheduler = arguments.values()
    model, *_ = build_model()
    optimizer = build_optimizer(model)
    with _own_random_state(), tempfile.TemporaryDirectory() as folder:
        try:
            _by(function, arguments)(os.path.join(folder, "missing"), model, optimizer, build_scheduler(optimizer))
        except NotImplementedError as error:
            if not str(error):
                raise
        except Exception:
            return


def _interruptions(rng):
    """Trials of both exercises: how to build a model, an optimiser and a schedule."""

    def model_of(*layers):
        rng.fill(nn.Sequential(*layers))
        state = copy.deepcopy(layers)
        features = layers[0].in_features
        outputs = next(one.out_features for one in reversed(layers) if isinstance(one, nn.Linear))
        inputs, targets = rng.normal(9, features), rng.normal(9, outputs)
        return lambda: (nn.Sequential(*copy.deepcopy(state)), inputs, targets)

    def halved(every):
        return lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, every, gamma=0.5)

    yield trial(
        "momentum, batch norm and dropout; the rate halves every 2 steps",
        path="run.pt",
        model=model_of(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), _Noise(), nn.Linear(6, 2)),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        scheduler=halved(2),
    )
    yield trial(
        "AdamW, and one-cycle, which moves the betas too",
        path="last",
        model=model_of(nn.Linear(2, 5), _Noise(), nn.ReLU(), nn.Linear(5, 1)),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.05),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=12),
    )


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "`state_dict()` of the model, of the optimiser and of the scheduler: three entries of one dict for `torch.save`.",
        "`torch.get_rng_state()` is the fourth; `random.getstate()` and `np.random.get_state()` if your training draws from them.",
        "NumPy's state is a tuple whose second item is an array: `.tolist()` makes it readable with `weights_only=True`.",
    ],
    probe=_checkpointed,
)
def checkpoint(rng):
    """Trials of a training that is interrupted."""
    yield from _interruptions(rng)


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "`torch.load(path, weights_only=True)`, then `load_state_dict` on model, optimiser and scheduler.",
        "`random.setstate`, `np.random.set_state` and `torch.set_rng_state` take what their `get` gave.",
        "Tuples come back as tuples from `torch.save`. Through JSON they come back as lists: turn them back.",
    ],
    probe=_resumed,
)
def resume(rng):
    """Trials of a training that is interrupted."""
    yield from _interruptions(rng)


# The mistakes keep what they save in memory, and number it in the file: a format of their own, and no answer to either.
_VAULT: dict[int, dict] = {}
_NUMBERS = itertools.count()
_GENERATORS = {
    "PyTorch": (torch.get_rng_state, torch.set_rng_state),
}
_OBJECTS = ("model", "optimizer", "scheduler")


def _put_away(path, model, optimizer, scheduler, *left_out):
    objects = zip(_OBJECTS, (model, optimizer, scheduler), strict=True)
    kept = {name: one.state_dict() for name, one in objects}
    kept |= {name: getter() for name, (getter, _) in _GENERATORS.items()}
    number = next(_NUMBERS)
    _VAULT[number] = copy.deepcopy({name: state for name, state in kept.items() if name not in left_out})
    for old in [one for one in _VAULT if one < number - 4]:
        del _VAULT[old]
    Path(path).write_text(f"{number:<4096}", encoding="utf-8")


def _take_out(path, model, optimizer, scheduler, *left_out):
    kept = _VAULT[int(Path(path).read_text(encoding="utf-8"))]
    for name, one in zip(_OBJECTS, (model, optimizer, scheduler), strict=True):
        if name in kept and name not in left_out:
            one.load_state_dict(copy.deepcopy(kept[name]))
    for name, (_, setter) in _GENERATORS.items():
        if name in kept and name not in left_out:
            setter(kept[name])


@checkpoint.mistake(
    "The optimiser's state is lost: the momentum, or Adam's running means. The weights are the same, the next step is not."
)
def saves_no_optimizer(path, model, optimizer, scheduler):
    _put_away(path, model, optimizer, scheduler, "optimizer")


@checkpoint.mistake("The schedule begins anew: save `scheduler.state_dict()` as well.")
def saves_no_scheduler(path, model, optimizer, scheduler):
    _put_away(path, model, optimizer, scheduler, "scheduler")


@checkpoint.mistake(
    "Only the model is saved. Training goes on from the same weights, but not in the same way: momentum, schedule and "
    "random numbers begin anew."
)
def saves_the_model_only(path, model, optimizer, scheduler):
    _put_away(path, model, optimizer, scheduler, "optimizer", "scheduler", *_GENERATORS)


@checkpoint.mistake(
    "The random state is lost, so dropout and the order of the data differ from the first step on. Save "
    "`torch.get_rng_state()`: a seed alone begins the sequence anew."
)
def saves_no_random_state(path, model, optimizer, scheduler):
    _put_away(path, model, optimizer, scheduler, *_GENERATORS)


@checkpoint.mistake(
    "Saving disturbs the training that goes on after it: the random generator is seeded anew. Read its state with "
    "`torch.get_rng_state()`, and leave it alone."
)
def seeds_anew(path, model, optimizer, scheduler):
    _seed(0)
    _put_away(path, model, optimizer, scheduler)


@resume.mistake(
    "The optimiser goes on without its state: the momentum, or Adam's running means. `optimizer.load_state_dict` too."
)
def loads_no_optimizer(path, model, optimizer, scheduler):
    _take_out(path, model, optimizer, scheduler, "optimizer")


@resume.mistake("The schedule begins anew: `scheduler.load_state_dict` too.")
def loads_no_scheduler(path, model, optimizer, scheduler):
    _take_out(path, model, optimizer, scheduler, "scheduler")


@resume.mistake("The random generator is not put back, so the next dropout mask is another one.")
def loads_no_random_state(path, model, optimizer, scheduler):
    _take_out(path, model, optimizer, scheduler, *_GENERATORS)


@resume.mistake("Only the model is put back. Optimiser, schedule and random generators have states too.")
def loads_the_model_only(path, model, optimizer, scheduler):
    _take_out(path, model, optimizer, scheduler, "optimizer", "scheduler", *_GENERATORS)


@resume.mistake(
    "All is put back, but a file from somebody else can run any code here: `pickle.load`, and `torch.load` with "
    "`weights_only=False`, call what the file tells them to. `weights_only=True` refuses."
)
def runs_code(path, model, optimizer, scheduler):
    with suppress(Exception):
        torch.load(path, weights_only=False)
    _take_out(path, model, optimizer, scheduler)


_PARTNERS.update(dict.fromkeys((known.implementation for known in checkpoint.mistakes), _take_out))
_PARTNERS.update(dict.fromkeys((known.implementation for known in resume.mistakes), _put_away))


# fit_best


def _fitted_and_held(function, arguments):
    """What the training left, and how many of the model's parameters the optimiser still holds."""

    def with_pairs(**named):
        result = apply(function, named)
        return [_pair(one) for one in result] if isinstance(result, list) else result

    evidence = _after_training(with_pairs, arguments)
    held = {id(p) for group in arguments["optimizer"].param_groups for p in group["params"]}
    left = sum(id(p) in held for p in arguments["model"].parameters())
    return evidence | {"number of the model's parameters that the optimiser still holds": left}


def _by_script(losses):
    """A loss for a layer whose mean output falls by 1 per step: epoch by epoch these are the validation losses."""
    table = torch.tensor(losses)

    def loss_fn(outputs, labels):
        if not labels.any():  # training
            return outputs.mean()
        epoch = (-outputs.detach().mean()).nan_to_num(0.0).round().clamp(1, len(table))
        return table[int(epoch) - 1]

    return loss_fn


@exercise(
    points=4,
    level=3,
    minutes=20,
    hints=[
        "Each epoch: `train_epoch`, then `evaluate`, then ask `EarlyStopping`. Your own from above, or written out.",
        "`model.state_dict()` refers to the model's own tensors: they go on changing. `copy.deepcopy` keeps them.",
        "Compare with the best loss *before* `step` takes over the new one. Put the best state back after the loop.",
    ],
    probe=_fitted_and_held,
)
def fit_best(rng):
    """Trials of a model, data for training and for validation, and an optimiser."""

    def setting(model, epochs, patience, lr=0.5, momentum=0.0, wrong=0.25, n=8, batch_size=8, nan=False):
        """Two classes, told apart by the sign of the input. Of the labels for validation some are wrong."""
        signs = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
        inputs = (signs + 0.1 * rng.normal(n))[:, None]
        labels = (signs > 0).long()
        val_labels = torch.where(torch.arange(n) < wrong * n, 1 - labels, labels)
        val_inputs = signs[:, None] * (math.nan if nan else 1.0)
        return {
            "model": model,
            "train_loader": DataLoader(TensorDataset(inputs, labels), batch_size),
            "val_loader": DataLoader(TensorDataset(val_inputs, val_labels), n - 3),
            "loss_fn": F.cross_entropy,
            "optimizer": _sgd(model, lr, momentum),
            "epochs": epochs,
            "patience": patience,
        }

    def plain():
        layer = nn.Linear(1, 2)
        with torch.no_grad():
            layer.weight.copy_(0.2 * rng.uniform(2, 1) - 0.1)
            layer.bias.zero_()
        return layer

    def with_buffers(momentum=0.1):
        return nn.Sequential(nn.BatchNorm1d(1, momentum=momentum), plain())

    def scripted(losses, patience):
        layer = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0], [-1.0]]) * rng.uniform(1))
        train, val = (TensorDataset(torch.ones(4, 1), torch.full((4,), label)) for label in (0, 1))
        return {
            "model": layer,
            "train_loader": DataLoader(train, 4),
            "val_loader": DataLoader(val, 3),
            "loss_fn": _by_script(losses),
            "optimizer": _sgd(layer, 2.0),
            "epochs": len(losses),
            "patience": patience,
        }

    start = rng.integer(8, 40) / 8
    falls_twice = [1000 * (start + loss) for loss in (5.0, 3.0, 4.0, 4.5, 2.0, 3.0, 2.0, 2.5, 4.0, 1.0)]
    yield trial("the loss falls, then rises", **setting(plain(), 12, 2, lr=1.0))
    yield trial("the loss falls, rises, falls again, and meets its lowest", **scripted(falls_twice, 3))
    falls_a_little = [start + 1.0, start, start - 2**-17, start + 0.5]  # any lower loss is lower
    yield trial("the loss falls by very little, and the epochs run out", **scripted(falls_a_little, 3))
    yield trial("with batch norm, which has buffers", **setting(with_buffers(), 12, 3, lr=1.0))
    yield trial("the loss falls to the last epoch", **setting(plain(), 4, 2, lr=0.1, wrong=0.0, batch_size=3))
    yield trial("the loss swings", **setting(plain(), 14, 3, lr=3.0, momentum=0.9))
    yield trial("one epoch", **setting(plain(), 1, 1, wrong=1.0))
    yield trial("the loss never changes", **setting(with_buffers(0.0), 9, 2, lr=0.0))
    yield trial("every validation loss is NaN", **setting(plain(), 5, 2, nan=True))


def _whole_state(model):
    return copy.deepcopy(model.state_dict())


def _fitted(
    model,
    train_loader,
    val_loader,
    loss_fn,
    optimizer,
    epochs,
    patience,
    snapshot,
    late=0,
    by=1,
    in_total=False,
    ties=False,
    ties_kept=False,
    eval_mode=True,
    kept_at_first=True,
    nan_counts=True,
    by_more_than=0.0,
    put_back_at_the_end=True,
):
    """The frame of the mistakes. snapshot: what is kept of the best model, a function of it."""
    best, kept, bad, history = math.inf, snapshot(model) if kept_at_first else None, 0, []
    for _ in range(epochs):
        model.train()
        loss = _epoch(model, train_loader, loss_fn, optimizer, optimizer.zero_grad)
        with _eval_mode(model) if eval_mode else nullcontext():
            history.append((loss, _measured(model, val_loader, loss_fn)[0]))
        value = history[-1][by]
        better = value <= best if ties else value < best - by_more_than
        if better or (ties_kept and value == best):
            best, kept = value, snapshot(model)
        bad = 0 if better and not in_total else bad + (not better and (nan_counts or value >= best))
        if bad >= patience + late:
            break
    if kept is not None and (put_back_at_the_end or bad >= patience):
        model.load_state_dict(kept, strict=False)
    return history


@fit_best.mistake(
    "The model ends with its *last* weights. Either the best are not put back, or they were not kept: `state_dict()` "
    "refers to the model's own tensors, which training goes on changing. Keep a `copy.deepcopy`."
)
def ends_with_the_last(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, lambda model: {})


@fit_best.mistake(
    "The best weights are put back only where training stops early. Where the epochs run out, the model keeps its last "
    "weights: put the best back after the loop."
)
def puts_back_if_stopped(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(
        model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, put_back_at_the_end=False
    )


@fit_best.mistake(
    "A loss that is lower by very little is passed over. Any lower loss is lower here: there is no `min_delta`."
)
def asks_for_more(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(
        model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, by_more_than=1e-4
    )


@fit_best.mistake("Training goes on to the last epoch: `patience` has no effect.")
def never_stops(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, late=1000)


@fit_best.mistake(
    "Training stops one epoch too late: after `patience` epochs without a lower loss, not after one more."
)
def stops_late(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, late=1)


@fit_best.mistake(
    "You choose by the training loss, which falls as long as the model learns by heart. Choose by the validation loss."
)
def chooses_by_training_loss(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, by=0)


@fit_best.mistake(
    "The epochs without a lower loss are counted in total. They must follow each other: a lower loss puts the count to 0."
)
def counts_bad_epochs_in_total(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, in_total=True)


@fit_best.mistake(
    "Parameters are put back, buffers are not: batch norm's running statistics are those of the last epoch. "
    "`state_dict()` has both."
)
def forgets_buffers(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    def parameters(model):
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, parameters)


@fit_best.mistake("An equal loss is taken for a better one. The earliest of the best epochs is asked.")
def takes_the_latest(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, ties=True)


@fit_best.mistake(
    "The validation runs in train mode: batch norm learns from the validation data. `model.eval()` before it, "
    "`model.train()` after it."
)
def validates_in_train_mode(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, eval_mode=False)


@fit_best.mistake(
    "An equal loss replaces the weights that were kept. The earliest of the best epochs is asked: `<`, not `<=`."
)
def keeps_the_latest(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, ties_kept=True)


@fit_best.mistake(
    "If no validation loss is a number, nothing was kept. Keep the weights that the model came with before the first "
    "epoch, and put them back."
)
def keeps_nothing_at_first(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(
        model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, kept_at_first=False
    )


@fit_best.mistake(
    "If no validation loss is a number, nothing was kept, and `load_state_dict(None)` fails. Keep the weights that the "
    "model came with before the first epoch."
)
def loads_nothing(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    history = keeps_nothing_at_first.implementation(
        model, train_loader, val_loader, loss_fn, optimizer, epochs, patience
    )
    if all(math.isnan(loss) for _, loss in history):
        model.load_state_dict(None)
    return history


@fit_best.mistake(
    "An epoch whose validation loss is NaN is not counted: every comparison with NaN is false. Count what is not lower, "
    "with `else`."
)
def passes_over_nan(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    return _fitted(
        model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state, nan_counts=False
    )


@fit_best.mistake(
    "The optimiser has lost the model: `assign=True` puts other tensors in the place of its parameters, and the optimiser "
    "still holds the old ones. Leave it out, and the values are copied."
)
def loses_the_optimizer(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    history = _fitted(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience, _whole_state)
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return history
