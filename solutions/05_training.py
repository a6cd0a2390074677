# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 5: Training loops
#
# Each exercise is one function or class. Replace each `raise NotImplementedError` with your code, run the cell, and run
# the `check` under it. Work from top to bottom: the exercises climb, and the last one uses what earlier ones built.
#
# - `check(name)` tries your program on models and data that you may not have thought of, and shows the first case that
#   fails.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Three things hold for all of them:
#
# - A **loader** is a `DataLoader`. Its batches are pairs `(inputs, labels)`, the last one may be short, and all of them
#   lie on the model's device. Go through it once per epoch, in its order.
# - A **`loss_fn`** takes what the model returns and the labels, and returns the *mean* loss of the batch.
# - A loop over batches or epochs is fine; a loop over the samples of a batch is not needed anywhere.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import copy
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# The parts of a loop that are a few lines each: a loss, a schedule, a rule for stopping.

# %% [markdown]
# ### `bce_with_logits` · 1 point · ●○○ · about 8 min
#
# For a yes-or-no question a model gives one logit z per sample. The probability of yes is σ(z) = 1 / (1 + e⁻ᶻ). For a
# target t, 1 for yes, 0 for no or anything between, the loss of one sample is −t·log σ(z) − (1 − t)·log(1 − σ(z)).
# Written with z alone, it is
#
# $$\log(1 + e^{z}) - t\,z$$
#
# Return the mean over all samples. It must be finite, with the right gradient, for logits of ±10,000, where eᶻ is not.
#
# For logits `[0, 2]` and targets `[1, 0]`: (0.6931 + 2.1269) / 2 = 1.41. For a logit of 10,000 and a target of 0 it is
# 10,000.
#
# Not allowed: PyTorch's own binary cross-entropies. `torch.logaddexp` and `F.softplus` are.


# %%
def bce_with_logits(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy.

    logits: float, shape (n,), n ≥ 1. targets: the same dtype and shape, in [0, 1].
    Returns the same dtype, shape (), differentiable in the logits.
    """
    ### BEGIN SOLUTION
    log_of_sum = torch.logaddexp(logits, torch.zeros_like(logits))  # log(eᶻ + e⁰), without overflow
    return (log_of_sum - targets * logits).mean()
    ### END SOLUTION


# %%
check(bce_with_logits)

# %% [markdown]
# ### `warmup_cosine` · 1 point · ●○○ · about 8 min
#
# A schedule multiplies the learning rate by a factor that depends on the number of the optimiser's step, counted from
# 0. This one rises in a straight line, `step / warmup`, until it is 1 at step `warmup`. Then it follows half a cosine
# from 1 down to 0, which it reaches at step `total`. After that it stays 0. `warmup` may be 0: the factor begins at 1
# then.
#
# With `warmup=2` and `total=6`, the factors of steps 0 to 7 are 0, 0.5, 1, 0.8536, 0.5, 0.1464, 0, 0.


# %%
def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """The factor of the learning rate at a step.

    step ≥ 0, 0 ≤ warmup < total. Returns a float in [0, 1].
    """
    ### BEGIN SOLUTION
    if step < warmup:
        return step / warmup
    progress = min((step - warmup) / (total - warmup), 1.0)  # 0 at the top, 1 at the end and after it
    return 0.5 * (1.0 + math.cos(math.pi * progress))
    ### END SOLUTION


# %%
check(warmup_cosine)

# %% [markdown]
# ### `EarlyStopping` · 2 points · ●○○ · about 10 min
#
# An object that is told the validation loss after each epoch, and says when to stop. `step(loss)` returns `True` from
# the `patience`-th call *in a row* that brought no improvement, and `False` otherwise. A call brings an improvement if
# its loss is lower than `best` by *more than* `min_delta`. `best` is the loss of the last improvement, and infinity
# before the first. A loss of NaN is no improvement.
#
# With `patience=2` and `min_delta=0.5`, the losses 5, 4, 3.75, 3.5, 3 give `False`, `False`, `False`, `True`, `False`.
# 3.75 is lower than 4 by too little, and 3.5 by 0.5, which is not more than 0.5. 3 is an improvement again. `best` is
# 5, 4, 4, 4, 3.


# %%
class EarlyStopping:
    """Says when `patience` epochs in a row have brought no improvement.

    best: the loss of the last improvement, a float, at first math.inf. patience ≥ 1, min_delta ≥ 0.
    """

    def __init__(self, patience: int, min_delta: float = 0.0):
        ### BEGIN SOLUTION
        self.patience, self.min_delta = patience, min_delta
        self.best = math.inf
        self.waited = 0
        ### END SOLUTION

    def step(self, loss: float) -> bool:
        """Note the loss of one epoch; whether to stop now."""
        ### BEGIN SOLUTION
        if loss < self.best - self.min_delta:  # false for NaN
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
        ### END SOLUTION


# %%
check(EarlyStopping)

# %% [markdown]
# ## Apply
#
# The inside of the loop: the loss of classification, the step of the optimiser, which parameters decay.

# %% [markdown]
# ### `cross_entropy` · 2 points · ●●○ · about 12 min
#
# Given logits of shape `(n, c)` and the numbers of the true classes, shape `(n,)`, return the mean over samples of
# −log p, where p is the softmax probability of the true class:
#
# $$p_{i} = \frac{e^{z_{i,y_i}}}{\sum_{k} e^{z_{ik}}}$$
#
# The result must be finite, with the right gradient, for logits of ±10,000. Softmax does not change when the same
# number is added to all logits of a row. Choose that number so that no exponential overflows, and take the logarithm
# before anything becomes 0.
#
# For logits `[[0, 0], [2, 0]]` and labels `[0, 1]`: the losses are log 2 = 0.6931 and log(1 + e²) = 2.1269, their mean
# is 1.41.
#
# Not allowed: PyTorch's cross-entropies, `nll_loss` and `log_softmax`, because this exercise writes them.


# %%
def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of a classification.

    logits: float, shape (n, c), n and c ≥ 1. labels: int64, shape (n,), in [0, c).
    Returns the dtype of the logits, shape (), differentiable in the logits.
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.max(dim=1, keepdim=True).values  # (n, c), the largest of each row is 0
    log_of_sum = shifted.exp().sum(dim=1).log()  # (n,), a sum of at least 1
    return (log_of_sum - shifted[torch.arange(len(labels)), labels]).mean()
    ### END SOLUTION


# %%
check(cross_entropy)

# %% [markdown]
# ### `adamw_step` · 2 points · ●●○ · about 12 min
#
# AdamW keeps two running means per weight: m of the gradient g, v of its square. At step t, counted from 1:
#
# 1. m ← β₁ m + (1 − β₁) g, and v ← β₂ v + (1 − β₂) g².
# 2. Both begin at 0, so they are too small at first: m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).
# 3. w ← w − lr · λ · w − lr · m̂ / (√v̂ + ε), with w on the right as it was before the step. λ is the weight decay.
#
# Return the new w, m and v (m and v without the correction of step 2), and leave the arguments as they are.
#
# For w = 1, g = 2, m = v = 0, t = 1, lr = 0.1 and the other values as below: m = 0.2, v = 0.004, so m̂ = 2 and v̂ = 4.
# The new w is 1 − 0.1 · 0.01 · 1 − 0.1 · 2 / 2 = 0.899.
#
# Not allowed: `torch.optim`, because this exercise is one of its optimisers.


# %%
def adamw_step(
    w: torch.Tensor,
    g: torch.Tensor,
    m: torch.Tensor,
    v: torch.Tensor,
    t: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of AdamW on one tensor of weights.

    w, g, m, v: float, all of one shape and dtype. t ≥ 1. Returns the new (w, m, v), of that shape and dtype.
    """
    ### BEGIN SOLUTION
    beta1, beta2 = betas
    m = beta1 * m + (1.0 - beta1) * g
    v = beta2 * v + (1.0 - beta2) * g.square()
    direction = m / (1.0 - beta1**t) / ((v / (1.0 - beta2**t)).sqrt() + eps)
    return w - lr * weight_decay * w - lr * direction, m, v
    ### END SOLUTION


# %%
check(adamw_step)

# %% [markdown]
# ### `parameter_groups` · 1 point · ●●○ · about 8 min
#
# Weight decay pulls weights towards 0. For biases and for the scales of normalisation layers that does more harm than
# good; they have one axis. Return groups of parameters for an optimiser, a list of dicts with the keys `"params"` and
# `"weight_decay"`: all parameters with two or more axes get `weight_decay`, those with fewer get 0. Parameters that are
# frozen (`requires_grad` is false) belong to no group, and each parameter to one group only.
#
# For `nn.Linear(3, 2)` and `weight_decay=0.1`: `[{"params": [weight], "weight_decay": 0.1}, {"params": [bias],
# "weight_decay": 0.0}]`. The order of the groups is free.


# %%
def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Groups for an optimiser: weight decay for matrices and filters, none for biases and scales.

    Returns a list of {"params": the parameters, "weight_decay": float}.
    """
    ### BEGIN SOLUTION
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    ### END SOLUTION


# %%
check(parameter_groups)

# %% [markdown]
# ## Combine
#
# Whole loops now. Each is at most a dozen lines, and each line has its place.

# %% [markdown]
# ### `train_epoch` · 3 points · ●●○ · about 15 min
#
# Train for one epoch, with the model in train mode: for each batch the loss, the gradients, one step of the optimiser.
# Where `max_norm` is given, clip the gradients before the step, so that the norm over *all* of them together is at most
# `max_norm` (`nn.utils.clip_grad_norm_` does it). Afterwards the model is still in train mode.
#
# A piece of advice: set the gradients to zero *before* `backward`, not after the step. Then gradients that lie in the
# parameters beforehand have no effect.
#
# Return the mean loss *per sample*, as a Python float: each batch counts as much as it has samples. The loss of a batch
# is the one before its step.
#
# With batches of 3 samples and of 1 sample, and losses 2.0 and 6.0, the result is (3 · 2 + 1 · 6) / 4 = 3.0, not 4.0.


# %%
def train_epoch(
    model: nn.Module, loader: DataLoader, loss_fn, optimizer: torch.optim.Optimizer, max_norm: float | None = None
) -> float:
    """Train for one epoch; the mean loss per sample.

    loader: batches (inputs, labels), not empty. loss_fn(outputs, labels): the mean loss of a batch, shape ().
    max_norm: the largest norm that all gradients together may have, or None for no clipping.
    """
    ### BEGIN SOLUTION
    model.train()
    total = samples = 0
    for inputs, labels in loader:
        loss = loss_fn(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total += loss.item() * len(labels)  # the loss is a mean over the batch
        samples += len(labels)
    return total / samples
    ### END SOLUTION


# %%
check(train_epoch)

# %% [markdown]
# ### `evaluate` · 3 points · ●●○ · about 15 min
#
# Measure a classifier on all batches of a loader: in eval mode, and without recording a graph. Return the mean loss per
# sample and the accuracy, the share of samples whose largest logit is that of the label. Both are Python floats; the
# accuracy lies in [0, 1].
#
# Afterwards the model is in the mode in which it came, train or eval: `model.training` says which, and
# `model.train(mode)` sets it. (Where a part has a mode of its own, such as a frozen batch norm in eval mode, you may
# note and put back `module.training` for each of `model.modules()`.)
#
# Two batches, of 3 samples with 3 right answers and of 1 sample with none: the accuracy is 3 / 4 = 0.75, not 0.5.


# %%
def evaluate(model: nn.Module, loader: DataLoader, loss_fn) -> tuple[float, float]:
    """The mean loss per sample and the accuracy.

    model: gives logits (batch, classes). loader: batches (inputs, labels), labels int64 of shape (batch,), not empty.
    """
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    total = correct = samples = 0
    with torch.no_grad():
        for inputs, labels in loader:
            logits = model(inputs)  # (batch, classes)
            total += loss_fn(logits, labels).item() * len(labels)
            correct += (logits.argmax(dim=1) == labels).sum().item()
            samples += len(labels)
    model.train(was_training)
    return total / samples, correct / samples
    ### END SOLUTION


# %%
check(evaluate)

# %% [markdown]
# ### `train_accumulated` · 2 points · ●●○ · about 12 min
#
# The batch that you want does not fit into memory, so it comes in pieces. Make *one* step of the optimiser, the very
# step that it would make on all pieces as one batch. The pieces may be of unequal size. Gradients that lie in the
# parameters beforehand must have no effect. Return the mean loss over all samples, before the step, as a Python float.
#
# Two pieces of 3 samples and of 1 sample with mean losses 2.0 and 6.0: the mean over all is 3.0. Its gradient is 3/4 of
# the first piece's plus 1/4 of the second's.
#
# Not allowed: giving the model more samples at once than the largest piece has. The list of pieces stays as it is.


# %%
def train_accumulated(
    model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]], loss_fn, optimizer: torch.optim.Optimizer
) -> float:
    """One step of the optimiser, equal to that on the concatenation of the batches; the mean loss per sample.

    batches: a list of (inputs, labels), not empty. loss_fn(outputs, labels): the mean loss of a batch, shape ().
    """
    ### BEGIN SOLUTION
    samples = sum(len(labels) for _, labels in batches)
    mean = 0
    optimizer.zero_grad()
    for inputs, labels in batches:
        share = loss_fn(model(inputs), labels) * len(labels) / samples
        share.backward()  # adds to the gradients, and frees this piece's graph
        mean += share.item()
    optimizer.step()
    return mean
    ### END SOLUTION


# %%
check(train_accumulated)

# %% [markdown]
# ### `FastText` · 3 points · ●●○ · about 15 min
#
# A classifier of texts: each word has a vector, a text is the *mean* of the vectors of its words, and a linear layer
# turns that mean into logits. Texts of a batch are padded to equal length with `padding_idx`. Padding must not count:
# neither in the sum nor in the number of words. A row of padding alone has the mean 0, so its logits are the bias.
# Using the model changes none of its weights.
#
# The parameters are the word vectors, of shape `(vocabulary_size, dim)`, and the weight of the linear layer and its
# bias, if you give it one. There are no others. The names of the attributes are yours.
#
# A piece of advice: mask the padding, whatever vector stands at `padding_idx`. `nn.Embedding(…, padding_idx=…)` makes
# that vector 0 and gives it no gradient, but weights that are loaded may hold anything there.
#
# With `padding_idx=0`, one-dimensional vectors 9, 1, 5 for the words 0, 1, 2, and a linear layer that changes nothing,
# the rows `[1, 2, 0]` and `[0, 0, 0]` give 3 and 0.


# %%
class FastText(nn.Module):
    """The mean of word vectors, without padding, then a linear layer."""

    def __init__(self, vocabulary_size: int, dim: int, num_classes: int, padding_idx: int = 0):
        super().__init__()
        ### BEGIN SOLUTION
        self.embedding = nn.Embedding(vocabulary_size, dim)
        self.linear = nn.Linear(dim, num_classes)
        self.padding_idx = padding_idx
        ### END SOLUTION

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of a batch of texts.

        ids: int64, shape (batch, time), padded with padding_idx anywhere. Returns float, shape (batch, num_classes).
        """
        ### BEGIN SOLUTION
        is_word = (ids != self.padding_idx)[:, :, None]  # (batch, time, 1)
        total = torch.where(is_word, self.embedding(ids), 0.0).sum(dim=1)  # (batch, dim)
        words = is_word.sum(dim=1).clamp(min=1)  # (batch, 1), so that 0 words do not divide by 0
        return self.linear(total / words)
        ### END SOLUTION


# %%
check(FastText)

# %% [markdown]
# ## Debug
#
# This program runs without an error, and its losses even fall. It trains badly all the same.

# %% [markdown]
# ### `mend_training` · 3 points · ●●● · about 15 min
#
# Wanted: train a classifier for `epochs` epochs with cross-entropy and `torch.optim.SGD` with momentum 0.9, in train
# mode, and return the mean loss *per sample* of each epoch, a list of Python floats; for 0 epochs it is empty. The
# model gives logits. Afterwards it is in train mode, with 0 epochs too.
#
# ```python
# def mend_training(model, loader, epochs, lr):
#     curve = []
#     for epoch in range(epochs):
#         sgd = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
#         total = 0
#         for x, y in loader:
#             probabilities = model(x).softmax(dim=1)
#             error = F.cross_entropy(probabilities, y)
#             error.backward()
#             sgd.step()
#             total += error
#         curve.append(total / len(loader))
#     return curve
# ```
#
# It has six faults: what the loss is given, what becomes of the gradients, where the momentum goes, which mode the
# model is in, how batches of unequal size are averaged, and what `total` holds on to. Find them and write the mended
# function.
#
# One epoch on batches of 3 samples and of 1 sample with losses 2.0 and 6.0 gives `[3.0]`.


# %%
def mend_training(model: nn.Module, loader: DataLoader, epochs: int, lr: float) -> list[float]:
    """Train with cross-entropy and SGD with momentum 0.9; the mean loss per sample of each epoch.

    model: gives logits (batch, classes). loader: batches (inputs, labels), labels int64 of shape (batch,), not empty.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)  # once: it holds the momentum
    history = []
    model.train()
    for _ in range(epochs):
        total = samples = 0
        for inputs, labels in loader:
            loss = F.cross_entropy(model(inputs), labels)  # takes logits
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)  # a number: a tensor would keep its graph
            samples += len(labels)
        history.append(total / samples)
    return history
    ### END SOLUTION


# %%
check(mend_training)

# %% [markdown]
# ## Build
#
# A training that survives a power cut, and one that stops by itself with its best weights.

# %% [markdown]
# ### `checkpoint` · 3 points · ●●● · about 15 min
#
# Write everything that a training needs to go on *exactly* as if it had never stopped into one file at `path`: the
# state of the model, of the optimiser and of the scheduler, and the state of PyTorch's random generator on the CPU. The
# training goes on after the call as it would have without it.
#
# If your training draws from Python's `random` or from NumPy's global generator, save their states too, as the book's
# answer does. The trainings of `check` draw from PyTorch's alone.
#
# The format of the file is yours. `resume`, the next exercise, reads it and may run no code from it, so choose a format
# that can be read in this way: `torch.load(path, weights_only=True)` reads tensors, numbers, strings, lists, tuples and
# dicts, and refuses everything else, NumPy arrays too: turn those into a tensor or a list.
#
# An example of what must hold: train 10 steps, `checkpoint`, train 5 more. Then build model, optimiser and scheduler
# anew, `resume`, train 5 steps: the weights of both are equal to the last bit.
#
# `check(checkpoint)` and `check(resume)` each need both functions, so write both first.


# %%
def checkpoint(
    path: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Write all that `resume` needs into one file at `path`."""
    ### BEGIN SOLUTION
    algorithm, keys, *rest = np.random.get_state()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "python": random.getstate(),
        "numpy": (algorithm, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    torch.save(state, path)
    ### END SOLUTION


# %% [markdown]
# ### `resume` · 3 points · ●●● · about 15 min
#
# The other half: read a file that your `checkpoint` wrote, and put model, optimiser, scheduler and random
# generator into the state that they had. Model, optimiser and scheduler were built by the same code as those of the
# file, with other weights. The file may have been moved since.
#
# A file can come from anyone. Whatever is in it, no code from it may run: a file that is no checkpoint of yours may
# raise an error, and nothing more.
#
# An example: with `lr=0.1` and a schedule that halves it every 2 steps, a training that stopped after 3 steps goes on
# with `lr` 0.05, and has 0.025 after its next step.


# %%
def resume(
    path: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Bring everything into the state that `checkpoint` wrote to `path`. Runs no code from the file."""
    ### BEGIN SOLUTION
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    ### END SOLUTION


# %%
check(checkpoint)

# %%
check(resume)

# %% [markdown]
# ### `fit_best` · 4 points · ●●● · about 20 min
#
# The whole loop. For at most `epochs` epochs: train one epoch, then measure the loss on the validation loader in eval
# mode. Stop after `patience` epochs in a row whose validation loss is not lower than the lowest so far. At the end the
# model is in train mode, and has the weights *and buffers* of the epoch with the lowest validation loss, the earliest
# of them if there are several. Return a list with a pair (mean training loss, mean validation loss) of Python floats
# for each epoch that ran, both per sample. If every validation loss is NaN, the model keeps the weights and buffers
# that it came with. The optimiser still holds the model's parameters, so that both can be trained further. You may call
# your functions of the exercises above.
#
# Validation losses 3, 1, 2, 4 with `patience=2` and `epochs=10`: training stops after 4 epochs, and the model is as it
# was after the second.


# %%
def fit_best(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    loss_fn,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    patience: int,
) -> list[tuple[float, float]]:
    """Train until the validation loss has stopped falling, and keep the best weights.

    model: gives logits (batch, classes). epochs, patience ≥ 1. Returns [(training loss, validation loss) per epoch].
    """
    ### BEGIN SOLUTION
    stopper, history = EarlyStopping(patience), []
    best_state = copy.deepcopy(model.state_dict())  # state_dict() alone would go on changing
    for _ in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, _ = evaluate(model, val_loader, loss_fn)
        history.append((train_loss, val_loss))
        if val_loss < stopper.best:
            best_state = copy.deepcopy(model.state_dict())
        if stopper.step(val_loss):
            break
    model.load_state_dict(best_state)
    return history
    ### END SOLUTION


# %%
check(fit_best)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
