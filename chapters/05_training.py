# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Training loops

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %% tags=["remove-cell"]
# This chapter raises errors on purpose: show the message alone, without the path that led to it.
get_ipython().run_line_magic("xmode", "Minimal")

# %% [markdown]
# ## What you will learn
#
# A training loop has about ten lines, and most ways to get it wrong raise no error: the loss falls, only less than it
# could, or the number at the end means something else than you think. You will grow one loop from those lines to one
# that you can trust, and learn to see from its symptoms which line is broken.
#
# ## Before you start
#
# You need tensors (chapter 1), `backward` and `no_grad` (chapter 2), `DataLoader` (chapter 3), and `nn.Module` with its
# train and eval modes (chapter 4).
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about three more. Afterwards you can
#
# - choose a loss, and give it what it expects;
# - say what SGD with momentum, Adam and AdamW do with a gradient;
# - measure a model without fooling yourself: means over samples, validation, seeds;
# - stop at the right time, with the best weights, and go on after a power cut to the last bit;
# - use schedules, clipping, accumulation, mixed precision and several GPUs;
# - find the fault in a loop that runs and does not learn.

# %% [markdown]
# ## Which lines does every training have?
#
# We classify the pictures of Fashion-MNIST, from 6,000 of the 60,000 training images. 2,000 others are set aside for
# **validation**: decisions such as the learning rate are made on them. The 10,000 test images stay untouched until the
# end of the chapter.
#
# :::{admonition} Predict
# :class: tip
# The network below knows nothing yet, so it gives each of the ten classes about the same probability. The
# cross-entropy is −log of the probability of the true class. What is the loss of the first batch, about?
# :::

# %%
import copy
import math
import random
import re
import tempfile
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR, SequentialLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from course_utils import datasets, seed_everything
from course_utils.measured import measured
from course_utils.networks import FashionCNN
from course_utils.plotting import COLOURS, AltFigure, confusion_matrix, learning_curves

fashion = datasets.fashion_mnist()
images = fashion.data.unsqueeze(1) / 255  # (60000, 1, 28, 28), from 0 to 1
labels = fashion.targets  # (60000,), numbers of classes
train_set = TensorDataset(images[:6000], labels[:6000])
val_set = TensorDataset(images[-2000:], labels[-2000:])


def perceptron():
    """(batch, 1, 28, 28) → logits (batch, 10)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(train_set, batch_size=64, shuffle=True)

losses = []
for _epoch in range(3):
    for inputs, targets in loader:  # (64, 1, 28, 28) and (64,), the last batch is smaller
        logits = model(inputs)  # (batch, 10)
        loss = F.cross_entropy(logits, targets)  # ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

print(f"first batch {losses[0]:.2f}, log 10 = {math.log(10):.2f}")
print(f"last 20 batches {np.mean(losses[-20:]):.2f}")
assert abs(losses[0] - math.log(10)) < 0.2 and np.mean(losses[-20:]) < 0.8

# %% [markdown]
# The first loss is about log 10 = 2.30: the probability 1/10. Know this number before you start a training. A first
# loss of 30 or of 0.1 says that something is wrong before anything has been learnt.
#
# | line | what it does |
# |---|---|
# | `model(inputs)` | computes logits, and records the graph |
# | `F.cross_entropy(logits, targets)` | one number that says how wrong they are |
# | `optimizer.zero_grad()` | forgets the gradients of the batch before |
# | `loss.backward()` | *adds* the gradients of this batch to `parameter.grad` |
# | `optimizer.step()` | changes the parameters, by the gradients and by its own memory |
# | `loss.item()` | the number without its graph |
#
# An **epoch** is one pass over the training set, a **step** one change of the parameters: here 94 steps per epoch.
#
# **What goes wrong in practice.** The optimiser holds the parameters that it was given. Replace a layer afterwards, and
# the new one is never trained:

# %%
model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model[3] = nn.Linear(128, 10)  # a new head, after the optimiser was built


def trained(model, optimizer):
    """Which parameters of the model does the optimiser hold?"""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [name for name, parameter in model.named_parameters() if id(parameter) in held]


print(trained(model, optimizer))

# %%
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # build it last
print(trained(model, optimizer))

# %% [markdown]
# A progress bar shows that a long loop is alive. `tqdm` wraps any loader; give it a description that changes:

# %% tags=["nbval-ignore-output"]
import sys

from tqdm import tqdm

bar = tqdm(loader, file=sys.stdout, ncols=80)
for inputs, targets in bar:
    loss = F.cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)

# %% [markdown]
# :::{important} To remember
# Forward, loss, zero, backward, step. The first loss of a classifier of C classes is about log C.
# :::

# %% [markdown]
# ## Which loss for which question?
#
# | question | the model gives | targets | loss |
# |---|---|---|---|
# | how much? | a number, `(batch,)` | a number, `(batch,)` | `F.mse_loss`, the mean squared error |
# | which one of C? | C logits, `(batch, C)` | a class, int64 `(batch,)` | `F.cross_entropy` |
# | the same, from log-probabilities | `(batch, C)` | a class, int64 `(batch,)` | `F.nll_loss` |
# | yes or no, or several of C | logits `(batch,)` or `(batch, C)` | 0 or 1, float, same shape | `F.binary_cross_entropy_with_logits` |
#
# A **logit** is a score of any size. The negative log-likelihood (NLL) wants the logarithm of probabilities;
# cross-entropy makes them from logits first:

# %%
logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])  # (batch, classes)
targets = torch.tensor([0, 2])  # (batch,)
print(f"{F.cross_entropy(logits, targets):.4f}")
print(f"{F.nll_loss(F.log_softmax(logits, dim=1), targets):.4f}")

# %% [markdown]
# The mean squared error has a trap of its own. A model gives shape `(batch, 1)`, the targets have shape `(batch,)`, and
# broadcasting (chapter 1) makes a table of all differences. PyTorch only warns:

# %%
predictions, wanted = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 2.0, 3.0])  # (batch, 1), (batch,)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(f"(3, 1) and (3,): {F.mse_loss(predictions, wanted):.2f}, warnings: {len(caught)}")
print(f"(3,) and (3,):   {F.mse_loss(predictions.squeeze(1), wanted):.2f}")

# %% [markdown]
# The predictions are perfect, and the first loss says 1.33: the mean of all nine differences squared.
#
# Why not a sigmoid in the model and `F.binary_cross_entropy` after it? By the formula it is the same.
#
# :::{admonition} Predict
# :class: tip
# A model is sure and wrong: its logit is 20 or 200, and the answer is no. The true loss is 20 and 200, the true
# gradient 1. What comes out if the sigmoid is a step of its own, in `float32`?
# :::

# %%
no = torch.zeros(2)
apart, together = (torch.tensor([20.0, 200.0], requires_grad=True) for _ in range(2))

loss = F.binary_cross_entropy(torch.sigmoid(apart), no, reduction="none")
loss.sum().backward()
print("sigmoid, then loss:", loss.tolist(), "gradient", apart.grad.tolist())

loss = F.binary_cross_entropy_with_logits(together, no, reduction="none")
loss.sum().backward()
print("with logits:       ", loss.tolist(), "gradient", together.grad.tolist())

# %% [markdown]
# σ(20) is 0.999999998, and `float32` rounds it to 1. From then on the loss is −log 0, which PyTorch cuts off at 100,
# and the gradient is 0: the worst mistakes of the model are the ones that it cannot learn from. From the logit itself,
# log(1 + eᶻ) can be computed without forming eᶻ or σ(z).
#
# **What goes wrong in practice.** A model ends in a softmax, and the loss takes logits:

# %%
perfect = 100 * F.one_hot(torch.tensor([3, 7]), 10).float()  # logits that are sure, and right
targets = torch.tensor([3, 7])
print(f"logits:        {F.cross_entropy(perfect, targets):.2f}")
print(f"probabilities: {F.cross_entropy(perfect.softmax(dim=1), targets):.2f}")

# %% [markdown]
# No error, and a perfect model gets the loss 1.46. Probabilities lie between 0 and 1; taken for logits, the largest
# possible lead is 1, and e / (e + 9) is 0.23. A loss of ten classes that never falls below 1.46 is the sign of this
# fault. (The other common faults do raise an error: targets that are `float`, or of shape `(batch, 1)`.)

# %% tags=["raises-exception"]
F.cross_entropy(perfect, targets.float())

# %%
print(F.cross_entropy(perfect, targets.long()).item())  # class numbers are int64

# %% [markdown]
# :::{important} To remember
# The losses of classification take logits. Softmax and sigmoid are for people who read the result.
# :::
#
# *Exercises:* `bce_with_logits`, `cross_entropy`.

# %% [markdown]
# ## What does an optimiser do with a gradient?
#
# All of them step against the gradient g, with the learning rate lr. They differ in what they remember.
#
# | optimiser | step |
# |---|---|
# | SGD | w ← w − lr · g |
# | SGD with momentum μ | b ← μ · b + g, then w ← w − lr · b |
# | Adam | m and v: running means of g and of g², both corrected for their start at 0; w ← w − lr · m / (√v + ε) |
# | weight decay λ in SGD and Adam | g ← g + λ · w, before anything else |
# | AdamW | Adam, and apart from it w ← w − lr · λ · w |
#
# Adam divides by the size of the gradient. So a weight whose gradient keeps its sign moves by about lr per step, however
# steep the loss is.
#
# :::{admonition} Predict
# :class: tip
# The loss is a valley, 25 times as steep across as it is along. SGD, momentum, Adam: which of them creeps along the
# floor, which swings from side to side, which sets out diagonally?
# :::


# %% mystnb={"figure": {"caption": "Forty steps from the dot in the valley of (x^2 + 25 y^2) / 2. The lowest point is the cross.", "name": "fig-training-valley"}, "image": {"alt": "Contours of a long valley. SGD creeps along its floor and does not arrive; momentum swings and overshoots; Adam sets out diagonally."}}
def path(make):
    """The 41 points of an optimiser in the valley, (41, 2)."""
    w = torch.tensor([-4.0, 1.2], requires_grad=True)
    optimizer = make([w])
    points = [w.detach().clone()]
    for _ in range(40):
        loss = (w[0] ** 2 + 25 * w[1] ** 2) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        points.append(w.detach().clone())
    return torch.stack(points)


paths = {
    "SGD, lr 0.03": path(lambda w: torch.optim.SGD(w, lr=0.03)),
    "SGD with momentum 0.9, lr 0.03": path(lambda w: torch.optim.SGD(w, lr=0.03, momentum=0.9)),
    "Adam, lr 0.3": path(lambda w: torch.optim.Adam(w, lr=0.3)),
}
valley = AltFigure(
    figsize=(7.4, 3.4),
    layout="constrained",
    alt="Contours of a long valley. SGD creeps along its floor and does not arrive; momentum swings and overshoots; Adam "
    "sets out diagonally.",
)
ax = valley.subplots()
x, y = np.meshgrid(np.linspace(-4.6, 2.6, 100), np.linspace(-1.5, 1.5, 60))
ax.contour(x, y, (x**2 + 25 * y**2) / 2, levels=[0.3, 1, 3, 7, 13, 21], colors="#bbbbbb", linewidths=0.8)
for (name, points), colour, marker in zip(paths.items(), COLOURS, "osD", strict=False):
    ax.plot(*points.T.numpy(), color=colour, marker=marker, markersize=3, linewidth=1, label=name)
ax.plot(-4, 1.2, "o", color="black", markersize=7)
ax.plot(0, 0, "x", color="black", markersize=8, markeredgewidth=2)
ax.set(xlabel="x", ylabel="y")
ax.legend(frameon=False, loc="lower right", fontsize=9)
valley

# %% [markdown]
# SGD's learning rate is limited by the steep direction, and in the flat one it creeps: after forty steps it has not
# arrived. Momentum adds up what its steps have in common, so it is fast along the floor; it also swings from side to
# side and overshoots, and needs its time to settle. Adam begins with equal steps in both directions, whatever their
# steepness, and so sets out diagonally; it overshoots too, by less.
#
# Weight decay pulls every weight towards 0. Two weights with no gradient at all show the difference between Adam and
# AdamW:

# %%
for make in (torch.optim.Adam, torch.optim.AdamW):
    w = torch.tensor([10.0, 0.1], requires_grad=True)
    w.grad = torch.zeros(2)
    make([w], lr=0.01, weight_decay=0.1).step()
    print(f"{make.__name__:6}", [round(number, 5) for number in w.tolist()])

# %% [markdown]
# In AdamW both shrink by the same share, lr · λ = 0.1 %. In Adam the decay passes through the division by √v: both move
# by lr, and the small weight loses a tenth. So use AdamW whenever you want weight decay with Adam.
#
# **What goes wrong in practice.** A learning rate is no property of the data; it belongs to one optimiser. 0.1 served
# SGD well:


# %% tags=["nbval-ignore-output"]
def run_epoch(model, loader, optimizer=None, after_step=lambda: None):
    """Train for one epoch; without an optimiser, measure. The mean loss and the accuracy over samples."""
    training = optimizer is not None
    model.train(training)
    loss_sum = right = samples = 0
    with torch.set_grad_enabled(training):
        for inputs, targets in loader:
            logits = model(inputs)
            loss = F.cross_entropy(logits, targets)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                after_step()
            loss_sum += loss.item() * len(targets)
            right += (logits.argmax(dim=1) == targets).sum().item()
            samples += len(targets)
    return loss_sum / samples, right / samples


val_loader = DataLoader(val_set, batch_size=500)
found = {}
for lr in (0.1, 0.001):
    seed_everything(0)
    model = perceptron()
    run_epoch(model, loader, torch.optim.Adam(model.parameters(), lr=lr))
    found[lr], accuracy = run_epoch(model, val_loader)
    print(f"Adam, lr {lr:5}: validation loss {found[lr]:.2f}, accuracy {accuracy:.1%}")
assert found[0.1] > 1.3 * found[0.001]

# %% [markdown]
# With the learning rate of SGD, Adam is far behind. Begin with 0.001 for Adam and AdamW and with 0.1 for SGD, and try a
# third and three times as much.
#
# :::{important} To remember
# SGD steps by the gradient's size, Adam by about lr. Weight decay belongs beside Adam, not inside: AdamW.
# :::
#
# *Exercises:* `adamw_step`, `parameter_groups`.

# %% [markdown]
# ## How do I add up an epoch?
#
# The cell above brought a function that the chapter will use from here on. It trains or measures, by whether it gets an
# optimiser. Three of its lines are easy to get wrong.
#
# **Means.** A batch's loss is a mean. Batches are not all of the same size, so the mean of means is not the mean.
#
# :::{admonition} Predict
# :class: tip
# 33 samples, a batch size of 32. The loss is 0.2 in the first batch and 5.0 in the second. The mean loss per sample?
# :::

# %%
sizes, batch_losses = torch.tensor([32.0, 1.0]), torch.tensor([0.2, 5.0])
print(f"mean over batches {batch_losses.mean():.2f}, over samples {(sizes * batch_losses).sum() / sizes.sum():.2f}")

# %% [markdown]
# One odd sample in a batch of its own has counted as much as the other 32 together. Add up sums, and divide once.
#
# **Modes.** In train mode, dropout drops and batch norm uses the statistics of the batch. Measured so, a model gives
# another result each time, and learns statistics from the data it is measured on:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = nn.Sequential(
    nn.Flatten(), nn.Linear(784, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
run_epoch(model, loader, optimizer)
x, y = val_set.tensors  # (2000, 1, 28, 28), (2000,)
with torch.no_grad():
    model.train()  # forgotten: model.eval()
    forgotten = [(model(x).argmax(dim=1) == y).double().mean().item() for _ in range(3)]
    model.eval()
    proper = [(model(x).argmax(dim=1) == y).double().mean().item() for _ in range(3)]
print("eval forgotten:", *[f"{accuracy:.1%}" for accuracy in forgotten])
print("in eval mode:  ", *[f"{accuracy:.1%}" for accuracy in proper])
assert len(set(proper)) == 1 and len(set(forgotten)) > 1

# %% [markdown]
# **Graphs.** Under `no_grad`, nothing is recorded for `backward`, which saves memory and time. The two are independent:
# `no_grad` does not switch dropout off, and `eval` does not switch the graph off. You need both.
#
# :::{admonition} Myth: "Test Accuracy: 0.80%"
# :class: warning
# A widespread tutorial prints this at the end of a training that gets four out of five right. A share of 0.80 is 80 %;
# 0.80 % would be less than a tenth of what guessing gives. A % sign after a number does not convert it; the format
# `%` does.
# :::

# %%
accuracy = 0.80
print(f"Test Accuracy: {accuracy:.2f}%")
print(f"Test accuracy: {accuracy:.1%}")

# %% [markdown]
# :::{important} To remember
# `train()` to train; `eval()` and `no_grad()` to measure; sums over samples, divided once.
# :::
#
# *Exercises:* `train_epoch`, `evaluate`.

# %% [markdown]
# ## When should a training stop?
#
# 1,000 training images only, and 40 epochs: enough for a network to learn them by heart.
#
# :::{admonition} Predict
# :class: tip
# The training loss falls to the end. Does the validation loss fall too? And the validation accuracy?
# :::

# %% mystnb={"figure": {"caption": "Forty epochs on 1,000 images: the training loss falls to the end; the validation loss falls first and rises then.", "name": "fig-training-overfit"}, "image": {"alt": "The training loss falls towards 0. The validation loss is lowest after about 15 epochs and rises slowly from there."}} tags=["nbval-ignore-output"]
few = DataLoader(TensorDataset(images[:1000], labels[:1000]), batch_size=50, shuffle=True)
seed_everything(0)
model = perceptron()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

history, best_loss, best_epoch = [], math.inf, 0
for epoch in range(1, 41):
    train_loss, _ = run_epoch(model, few, optimizer)
    val_loss, val_accuracy = run_epoch(model, val_loader)
    history.append((train_loss, val_loss, val_accuracy))
    if val_loss < best_loss:
        best_loss, best_epoch = val_loss, epoch
        alias = model.state_dict()
        best_state = copy.deepcopy(model.state_dict())

train_losses, val_losses, val_accuracies = zip(*history, strict=True)
learning_curves(
    {"training loss": train_losses, "validation loss": val_losses},
    alt="The training loss falls towards 0. The validation loss is lowest after about 15 epochs and rises slowly from "
    "there.",
)

# %% tags=["nbval-ignore-output"]
print(
    f"lowest validation loss {best_loss:.3f}, after epoch {best_epoch}: accuracy {val_accuracies[best_epoch - 1]:.1%}"
)
print(f"last validation loss   {val_losses[-1]:.3f}, after epoch 40: accuracy {val_accuracies[-1]:.1%}")
assert 7 < best_epoch < 30 and val_losses[-1] > 1.1 * best_loss
assert abs(val_accuracies[-1] - val_accuracies[best_epoch - 1]) < 0.03

# %% [markdown]
# After about 15 epochs the validation loss turns, while the training loss goes on falling: from here on, the network
# learns the training images rather than what they have in common. This is **overfitting**. The accuracy hardly moves.
# That is no contradiction: **the metric is not the loss**. The accuracy asks which class is first, the loss also how
# sure the model is; a model that grows ever surer of its old mistakes has a rising loss and the same accuracy. Decide
# by what you will use: the accuracy for a decision, the loss where the probabilities matter.
#
# So keep the weights of the best epoch, and stop when nothing has improved for some epochs (the *patience*).
#
# **What goes wrong in practice.** The loop above kept the best weights twice. Load both:

# %% tags=["nbval-ignore-output"]
for name, state in {"state_dict()": alias, "a copy of it": best_state}.items():
    other = perceptron()
    other.load_state_dict(state)
    loss, _ = run_epoch(other, val_loader)
    print(f"{name:13} validation loss {loss:.3f}")
    assert math.isclose(loss, best_loss, rel_tol=1e-4) == (state is best_state)

# %% [markdown]
# `state_dict()` returns the model's own tensors, and training went on changing them: "the best" is the last. Copy it,
# or save it to a file.
#
# :::{important} To remember
# Training data to learn from, validation data to decide by, test data for one look at the end.
# :::
#
# *Exercise:* `EarlyStopping`.

# %% [markdown]
# ## How should the learning rate move?
#
# Large steps get far, small ones get close. A **schedule** lowers the learning rate during training. Many also raise it
# during the first steps (**warm-up**), while Adam's running means are still made of few gradients.


# %% mystnb={"figure": {"caption": "Four schedules of 100 steps, each with the largest learning rate 1.", "name": "fig-training-schedules"}, "image": {"alt": "StepLR falls in stairs; cosine falls smoothly from 1 to 0; warm-up and cosine rises for 10 steps first; one-cycle rises for 30."}}
def rates(make, steps=100):
    """The learning rate of each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def warmup_then_cosine(optimizer):
    rise, fall = LinearLR(optimizer, 0.01, total_iters=10), CosineAnnealingLR(optimizer, 90)
    return SequentialLR(optimizer, [rise, fall], milestones=[10])


learning_curves(
    {
        "StepLR(30, gamma=0.1)": rates(lambda optimizer: StepLR(optimizer, 30, gamma=0.1)),
        "cosine": rates(lambda optimizer: CosineAnnealingLR(optimizer, 100)),
        "warm-up, then cosine": rates(warmup_then_cosine),
        "one-cycle": rates(lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=100)),
    },
    ylabel="learning rate",
    xlabel="step",
    alt="StepLR falls in stairs; cosine falls smoothly from 1 to 0; warm-up and cosine rises for 10 steps first; "
    "one-cycle rises for 30.",
)

# %% [markdown]
# `OneCycleLR` rises from 1/25 of its highest rate during the first 30 % of the steps, then falls almost to 0.
# `LambdaLR` makes a schedule of any function from the step to a factor: `LambdaLR(optimizer, lambda step: …)`.
#
# :::{admonition} Myth: "I use a schedule: `StepLR(optimizer, step_size=30, gamma=0.1)`"
# :class: warning
# In the tutorial that this line comes from, the loop runs for 5 epochs and calls `scheduler.step()` once in each. The
# first change would come after 30 calls:
# :::

# %%
for step_size in (30, 2):
    five = rates(partial(StepLR, step_size=step_size, gamma=0.1), steps=5)
    print(f"step_size {step_size:2}:", [round(rate, 4) for rate in five])

# %% [markdown]
# The learning rate never moved. A schedule counts its own calls. Whether a call is a step or an epoch is up to your
# loop, and nobody checks it.
#
# :::{admonition} Predict
# :class: tip
# A one-cycle schedule was built for 3 epochs of 94 steps. By mistake the loop calls it once per epoch. What is the
# learning rate at the end: the highest, the lowest, or still near the start?
# :::


# %%
def one_cycle(optimizer):
    return OneCycleLR(optimizer, max_lr=1.0, total_steps=3 * 94)


print("once per epoch:", [round(rate, 4) for rate in rates(one_cycle, steps=3)])
per_step = rates(one_cycle, steps=3 * 94)
print(f"once per step:  from {per_step[0]:.2f} up to {max(per_step):.2f} and down to {per_step[-1]:.6f}")

# %% [markdown]
# Called once per epoch, it never leaves the foot of its warm-up. The opposite mistake does raise an error:

# %% tags=["raises-exception"]
rates(lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=94), steps=95)

# %%
print(len(rates(lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=95), steps=95)), "steps")

# %% [markdown]
# Plot or print the learning rate of every run, as here, before you believe in a schedule.
#
# :::{important} To remember
# First `optimizer.step()`, then `scheduler.step()`; and the schedule's length counts *its* calls.
# :::
#
# *Exercise:* `warmup_cosine`.

# %% [markdown]
# ## What can one bad batch do?
#
# Somewhere in the data is a batch whose pixels were never divided by 255. We train a network, and let it meet that
# batch once.
#
# :::{admonition} Predict
# :class: tip
# The inputs are 255 times as large. What happens to the length of the gradient, and to the accuracy after one step?
# :::

# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = perceptron()
run_epoch(model, loader, torch.optim.SGD(model.parameters(), lr=0.1))
bad = 255 * images[6000:6064]  # (64, 1, 28, 28)


def meet(bad, max_norm):
    """A copy of the model, after one step on a bad batch."""
    victim = copy.deepcopy(model)
    optimizer = torch.optim.SGD(victim.parameters(), lr=0.1)
    F.cross_entropy(victim(bad), labels[6000:6064]).backward()
    length = nn.utils.clip_grad_norm_(victim.parameters(), max_norm)  # returns the length before it clipped
    optimizer.step()
    return length.item(), run_epoch(victim, val_loader)[1]


before = run_epoch(model, val_loader)[1]
ordinary, _ = meet(images[6000:6064], math.inf)
length, unclipped = meet(bad, math.inf)
_, clipped = meet(bad, 1.0)
print(f"gradient's length: an ordinary batch {ordinary:.1f}, the bad one {length:,.0f}")
print(f"accuracy before {before:.1%}, after the bad batch {unclipped:.1%}, with clipping {clipped:.1%}")
assert length > 100 * ordinary and unclipped < 0.5 and clipped > before - 0.1

# %% [markdown]
# One step has undone the training. **Clipping** shortens the whole gradient, all parameters together, where its length,
# the norm, is more than `max_norm`; its direction stays. The place for it is after `backward` and before `step`. Log
# the length that it returns: it is the first number to look at when a training goes wrong.
#
# :::{important} To remember
# `clip_grad_norm_` between `backward` and `step` costs little, and turns a disaster into a wasted step.
# :::

# %% [markdown]
# ## How do I train with a batch that does not fit?
#
# Gradients add up until `zero_grad`. So a large batch can be worked through in pieces: `backward` for each, one `step`
# at the end. This is **gradient accumulation**.
#
# :::{admonition} Predict
# :class: tip
# A batch of 100 comes as 60, 30 and 10. `backward` is called on each piece's mean loss, divided by 3. Is the sum the
# gradient of the whole batch?
# :::

# %%
seed_everything(0)
model = perceptron()
batch, targets = images[:100], labels[:100]
pieces = list(zip(batch.split([60, 30, 10]), targets.split([60, 30, 10]), strict=True))


def gradient(losses):
    """The gradient of the first layer after `backward` on each of the losses."""
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return model[1].weight.grad.clone()


whole = gradient([F.cross_entropy(model(batch), targets)])
thirds = gradient(F.cross_entropy(model(x), y) / 3 for x, y in pieces)
shares = gradient(F.cross_entropy(model(x), y) * len(y) / 100 for x, y in pieces)
print(f"divided by 3:        off by {(thirds - whole).norm() / whole.norm():.0%}")
print(f"share of the samples: off by {(shares - whole).norm() / whole.norm():.0%}")

# %% [markdown]
# Dividing by the number of pieces gives the 10 samples of the last one as much say as the 60 of the first. It is right
# only for pieces of equal size, and the last one of an epoch mostly is not. The same holds where the loss is a mean
# over words and sentences differ in length: count what the mean was taken over. And batch norm still sees the pieces,
# one at a time: for it, accumulation is no large batch.
#
# :::{important} To remember
# Each piece's loss is scaled by its share of the samples, before `backward`.
# :::
#
# *Exercise:* `train_accumulated`.

# %% [markdown]
# ## What do fewer bits cost?
#
# Half the bits are half the memory, and on a GPU several times the speed. There are two 16-bit floats, and they fail at
# different ends.
#
# :::{admonition} Predict
# :class: tip
# A gradient of 1e-8, a sum of 100,000, and 1 + 0.001: which of the three survives in `float16`, which in `bfloat16`?
# :::

# %%
for dtype in (torch.float16, torch.bfloat16):
    small, large, close = (torch.tensor(number).to(dtype).item() for number in (1e-8, 100_000.0, 1.001))
    print(f"{dtype!s:15} {small:.2g}  {large:,.0f}  {close:.4f}")

# %% [markdown]
# `float16` has a narrow range: small gradients become 0, large sums become infinite. `bfloat16` has the range of
# `float32`, but only two to three decimal digits. Neither is good enough for the weights themselves, to which a step
# adds very little. So in **mixed precision** the weights stay `float32`. Inside `autocast`, what is safe in 16 bits
# runs in 16 bits: matrix products and convolutions, not softmax and losses.

# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for inputs, targets in loader:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(inputs)
        loss = F.cross_entropy(logits, targets)
    optimizer.zero_grad()
    loss.backward()  # outside: it uses the types of the forward pass
    optimizer.step()

print("logits", logits.dtype, "loss", loss.dtype, "weights", model[1].weight.dtype)
_, half = run_epoch(model, val_loader)
seed_everything(0)
model = perceptron()
run_epoch(model, loader, torch.optim.SGD(model.parameters(), lr=0.1))
_, full = run_epoch(model, val_loader)
print(f"validation accuracy after one epoch: bfloat16 {half:.1%}, float32 {full:.1%}")
assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32 and abs(half - full) < 0.08

# %% [markdown]
# On older GPUs, which have no `bfloat16`, the narrow range of `float16` needs help: a **GradScaler** multiplies the
# loss by a large number, so that small gradients stay above 0, and divides the gradients by it before the step. Where
# they have become infinite, it skips the step and takes a smaller number. With clipping, `unscale_` comes first:
# clipping must see the true lengths.

# %% tags=["nbval-ignore-output"]
if torch.cuda.is_available():
    on_gpu = perceptron().to("cuda")
    optimizer = torch.optim.SGD(on_gpu.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    for inputs, targets in loader:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.cross_entropy(on_gpu(inputs.to("cuda")), targets.to("cuda"))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(on_gpu.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    print(f"loss {loss.item():.2f}, scale {scaler.get_scale():,.0f}")
else:
    print("No CUDA GPU here: the cell with float16 and GradScaler is skipped.")

# %% [markdown]
# `model = torch.compile(model)` is the other cheap speed-up: one line before the loop, which is otherwise unchanged.
# The end of chapter 1 measures what it gives and what the first call costs. One trap belongs here: the compiled model
# wraps yours, and shares its parameters under other names. Save the state of the original.

# %%
compiled = torch.compile(model)  # nothing is compiled before the first call
print(list(compiled.state_dict())[:2])
print(list(model.state_dict())[:2])

# %% [markdown]
# :::{important} To remember
# Weights in `float32`, products in 16 bits. `bfloat16` needs nothing else; `float16` needs a GradScaler.
# :::

# %% [markdown]
# ## Is that difference real, or a lucky seed?
#
# :::{admonition} Predict
# :class: tip
# The same network, data and settings; only the seed changes. By how much does the validation accuracy differ after one
# epoch: not at all, 0.1 %, or 1 % and more?
# :::


# %% tags=["nbval-ignore-output"]
def accuracy_of(seed, lr=0.1):
    seed_everything(seed)
    model = perceptron()
    run_epoch(model, loader, torch.optim.SGD(model.parameters(), lr=lr))
    return run_epoch(model, val_loader)[1]


by_seed = [accuracy_of(seed) for seed in range(5)]
print("seeds 0 to 4:", *[f"{accuracy:.1%}" for accuracy in by_seed])
print(
    f"mean {np.mean(by_seed):.1%}, standard deviation {np.std(by_seed, ddof=1):.1%}; seed 0 again {accuracy_of(0):.1%}"
)
assert accuracy_of(0) == by_seed[0] and max(by_seed) - min(by_seed) > 0.005

# %% [markdown]
# The same seed gives the same number to the last digit; another seed, another start and another order of the batches.
# Settings that differ by less than the spread of seeds do not differ, as far as you know. Compare means over several
# seeds. (The same seed is a promise for one machine and one release of PyTorch. On a GPU,
# `torch.use_deterministic_algorithms(True)` is needed too.)
#
# **What goes wrong in practice.** `shuffle=True` takes its order from the shared generator, so one more dropout layer
# in the model means another order of the data. Give the loader a generator of its own where only the model should
# differ:


# %%
def first_labels(draws_before, **options):
    seed_everything(0)
    torch.rand(draws_before)  # such as the weights of a larger model
    return next(iter(DataLoader(train_set, batch_size=5, shuffle=True, **options)))[1].tolist()


print("shared generator:", first_labels(1) == first_labels(2))
own = [first_labels(n, generator=torch.Generator().manual_seed(0)) for n in (1, 2)]
print("its own:         ", own[0] == own[1])

# %% [markdown]
# :::{important} To remember
# One run is one draw. Report the mean over seeds and the spread.
# :::

# %% [markdown]
# ## What must a checkpoint hold?
#
# Trainings die: a power cut, a time limit. We train with momentum, dropout and a schedule, stop in the middle, and go
# on in a new process, here played by new objects.
#
# :::{admonition} Predict
# :class: tip
# All *weights* are restored exactly. Are the next steps those of a training that was never stopped?
# :::


# %%
def setup():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(784, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, StepLR(optimizer, 3, gamma=0.5)


def steps(count, model, optimizer, scheduler):
    for _ in range(count):
        chosen = torch.randint(6000, (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model[2].weight.detach().clone()


folder = tempfile.TemporaryDirectory()
file = Path(folder.name) / "run.pt"
seed_everything(0)
training = setup()
steps(4, *training)
names = ("model", "optimizer", "scheduler")
state = {name: part.state_dict() for name, part in zip(names, training, strict=True)}
torch.save(state | {"torch": torch.get_rng_state()}, file)
undisturbed = steps(4, *training)


def go_on(*restored):
    """Four more steps by new objects, of which only some parts are restored."""
    seed_everything(1)
    training = setup()
    saved = torch.load(file, weights_only=True)
    for name, part in zip(names, training, strict=True):
        if name in restored:
            part.load_state_dict(saved[name])
    if "torch" in restored:
        torch.set_rng_state(saved["torch"])
    return torch.equal(steps(4, *training), undisturbed)


print("model:                                 ", go_on("model"))
print("model, optimizer:                      ", go_on("model", "optimizer"))
print("model, optimizer, scheduler:           ", go_on("model", "optimizer", "scheduler"))
print("and the state of the random generator: ", go_on("model", "optimizer", "scheduler", "torch"))

# %% [markdown]
# Only the last goes on to the same bits. The optimiser holds the momentum, the scheduler its count, and the random
# generator the next dropout mask and the next batch. A real loop also draws from Python's and NumPy's generators, and
# knows the epoch, the best loss so far and the patience used up. (A `DataLoader` that is stopped in the middle of an
# epoch begins a new order; save at the end of epochs, or keep the order yourself.)
#
# `weights_only=True`, the default since PyTorch 2.6, builds tensors and plain containers and runs no code from the
# file: chapter 4 shows why. The price is that other types are refused, and NumPy's random state is one:

# %%
torch.save({"numpy": np.random.get_state()}, file)
try:
    torch.load(file, weights_only=True)
except Exception as error:
    print(type(error).__name__, "|", str(error).splitlines()[0][:60])

# %%
kind, keys, *rest = np.random.get_state()
torch.save({"numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest)}, file)  # keys: (624,)
print(torch.load(file, weights_only=True)["numpy"][1].shape)
folder.cleanup()

# %% [markdown]
# A power cut can also come *while* the file is written. Write to another name, then `os.replace` it: that is one step,
# and the old checkpoint is there until the new one is whole.
#
# :::{important} To remember
# Model, optimiser, scheduler, random states, and where the loop was. Test it: stop, resume, compare bits.
# :::
#
# *Exercises:* `checkpoint`, `resume`.

# %% [markdown]
# ## How does the same loop run on several GPUs?
#
# Each GPU gets a process of its own with a copy of the model and its own share of the batches. After `backward` the
# processes average their gradients, so all make the same step. This is *distributed data parallel*. PyTorch brings
# `torchrun` and `DistributedDataParallel` for it; Hugging Face Accelerate wraps them so that the loop stays almost as
# it is. Five things change, marked here. This is the real code, with one process on the CPU:

# %%
from accelerate import Accelerator

seed_everything(0)
model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step / 50))
batches = DataLoader(TensorDataset(images[:2000], labels[:2000]), batch_size=50)  # in order, to compare below

accelerator = Accelerator(cpu=True)  # 1: without cpu=True it takes the GPUs that are there
model, optimizer, batches, scheduler = accelerator.prepare(model, optimizer, batches, scheduler)  # 2
for inputs, targets in batches:  # 3: no .to(device)
    loss = F.cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    accelerator.backward(loss)  # 4: in place of loss.backward()
    accelerator.clip_grad_norm_(model.parameters(), 1.0)  # 5: in place of nn.utils.clip_grad_norm_
    optimizer.step()
    scheduler.step()
print("processes:", accelerator.num_processes)

# %% [markdown]
# Is it the same training? The plain loop, with the same seed:

# %%
seed_everything(0)
plain = perceptron()
optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step / 50))
for inputs, targets in DataLoader(TensorDataset(images[:2000], labels[:2000]), batch_size=50):
    loss = F.cross_entropy(plain(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
same = all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
print("the same weights, to the last bit:", same)

# %% [markdown]
# On a machine with four GPUs, put the loop into a file and start it with either of
#
# ```sh
# accelerate launch --num_processes 4 train.py
# torchrun --nproc-per-node 4 train.py
# ```
#
# What to think of then: the batch is four times as large (`batch_size` is per process), so an epoch has a quarter of
# the steps. The prepared scheduler moves four steps each time, so a schedule that was counted for one process still
# ends with the epoch. Metrics of one process are those of its share: `accelerator.gather_for_metrics` collects all.
# Only one process should print and save: `if accelerator.is_main_process:`. And `accelerator.unwrap_model(model)` is
# your model without the wrapper.
#
# :::{important} To remember
# `prepare`, `accelerator.backward`, no `.to(device)`: the loop is the same for one CPU and for eight GPUs.
# :::

# %% [markdown]
# ## My loss does not fall: where do I look?
#
# Look in this order; each step takes a minute.
#
# 1. **The first loss.** Is it about log C?
# 2. **One batch.** Train on one single batch, again and again. A loop that works learns 32 samples by heart: the loss
#    goes to 0. If it does not, the fault is in the loop, the loss or the model, and you need no more data to find it.
# 3. **The data as the model gets them.** Draw a batch with its labels, after all transforms.
# 4. **The numbers.** The length of the gradient, the learning rate, the share of each class among the predictions.
# 5. **A baseline.** What does guessing give, what a linear model?
#
# Four loops on one batch of 32 images. One is right.
#
# :::{admonition} Predict
# :class: tip
# Read the four bodies below. Which line is broken in B, C and D, and what does the loss of each do?
# :::


# %%
def loop_a(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def loop_b(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def loop_c(model, optimizer, x, y):
    loss = F.cross_entropy(model(x).softmax(dim=1), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def loop_d(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


# %% mystnb={"figure": {"caption": "Four loops on one batch of 32 images. A is right; B, C and D each have one broken line.", "name": "fig-training-one-batch"}, "image": {"alt": "Loss against step. A falls to 0 within 20 steps. B rises and swings up to nearly 13. C falls and stays near 1.6. D is level at 2.3."}} tags=["nbval-ignore-output"]
def one_batch(loop, x, y, count=120):
    """The losses of a loop that sees one batch again and again."""
    seed_everything(0)
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return [loop(model, optimizer, x, y) for _ in range(count)]


loops = {"loop A": loop_a, "loop B": loop_b, "loop C": loop_c, "loop D": loop_d}
curves = {name: one_batch(loop, images[:32], labels[:32]) for name, loop in loops.items()}
assert curves["loop A"][-1] < 0.05 and max(curves["loop B"][30:]) > 4
assert curves["loop C"][-1] > 1.4 and curves["loop D"][-1] == curves["loop D"][0]
learning_curves(
    curves,
    xlabel="step",
    alt="Loss against step. A falls to 0 within 20 steps. B rises and swings up to nearly 13. C falls and stays near "
    "1.6. D is level at 2.3.",
)

# %% [markdown]
# - **A** is right: it knows the 32 images by heart.
# - **B** has no `zero_grad`. Every step repeats all gradients since the first: momentum without friction. (With plain
#   SGD and a small learning rate, such a loop may even pass this test. It then fails on the next batch.)
# - **C** gives probabilities to a loss that takes logits, and cannot get below 1.46.
# - **D** has `zero_grad` between `backward` and `step`. The step finds nothing, and the loss does not move by a digit.
#
# A loss that never moves means that no gradient arrives. A loss that swings means steps that are too large. A loss that
# stops at a strange height means that the loss does not get what it expects.
#
# **What one batch does not show.** Loop E shuffles its data. It passes the test of one batch:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
x, y = train_set.tensors
x = x[torch.randperm(len(x))]
y = y[torch.randperm(len(y))]  # the broken line
by_heart = one_batch(loop_a, x[:32], y[:32])[-1]
print(f"one batch: loss {by_heart:.3f}")

model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
shuffled = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
for _ in range(3):
    loss, _ = run_epoch(model, shuffled, optimizer)
_, accuracy = run_epoch(model, val_loader)
print(f"after 3 epochs: training loss {loss:.2f}, validation accuracy {accuracy:.1%}")
assert by_heart < 0.05 and abs(loss - math.log(10)) < 0.05 and accuracy < 0.25

# %% [markdown]
# Images and labels were shuffled apart. A network can learn any 32 labels by heart, wrong ones too; over 6,000 images
# nothing remains but the shares of the classes, a loss of log 10. Step 3 finds it at once: draw the pictures with their
# labels. One permutation for both mends it:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
order = torch.randperm(len(train_set))  # one order for both
x, y = (tensor[order] for tensor in train_set.tensors)
model = perceptron()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
mended = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
for _ in range(3):
    loss, _ = run_epoch(model, mended, optimizer)
_, accuracy = run_epoch(model, val_loader)
print(f"after 3 epochs: training loss {loss:.2f}, validation accuracy {accuracy:.1%}")
assert accuracy > 0.65

# %% [markdown]
# | symptom | look at |
# |---|---|
# | the loss is constant | `zero_grad` after `backward`; parameters that the optimiser does not hold; `detach` |
# | the loss swings or is NaN | the learning rate; a missing `zero_grad`; inputs that are not scaled; clipping |
# | the loss stops above 1.46 for 10 classes | a softmax before the loss |
# | one batch is learnt, the data are not | labels that do not belong to their inputs |
# | results differ at each evaluation | `eval` forgotten |
# | memory grows with each step | `total += loss` without `.item()` |
# | good in training, bad in use | overfitting; a split with duplicates; other preprocessing in use |
#
# :::{important} To remember
# First loss, one batch, the data with your own eyes: three checks before any other thought.
# :::
#
# *Exercise:* `mend_training`.

# %% [markdown]
# ## Can a mean of word vectors tell praise from blame?
#
# fastText classifies a text by the mean of the vectors of its words, and a linear layer. The vectors are the rows of
# one trained table: `nn.Embedding(words, features)` looks up a row for each id, (batch, time) → (batch, time,
# features).
#
# We train it on 3,000 real sentences from reviews of products, films and restaurants, half of them positive. Eighteen
# sentences occur twice; remove the copies *before* the split, or a test sentence may have been trained on. The
# vocabulary comes from the training part alone: in use, too, there will be words that training has not seen.

# %%
reviews = list({review.sentence: review for review in datasets.reviews()}.values())  # each sentence once
random.Random(0).shuffle(reviews)
parts = {"training": reviews[:2200], "validation": reviews[2200:2582], "test": reviews[2582:]}
print({name: len(part) for name, part in parts.items()})


def words(sentence):
    return re.findall(r"[a-z']+|[!?]", sentence.lower())


counts = Counter(word for review in parts["training"] for word in words(review.sentence))
known = [word for word, count in counts.items() if count > 1]
vocabulary = {"<pad>": 0, "<unk>": 1} | {word: number for number, word in enumerate(known, 2)}


def encode(sentences):
    """Ids (sentences, longest), padded with 0 on the right."""
    ids = [torch.tensor([vocabulary.get(word, 1) for word in words(one)] or [1]) for one in sentences]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True)


data = {
    name: TensorDataset(encode([r.sentence for r in part]), torch.tensor([r.label for r in part]))
    for name, part in parts.items()
}
ids, sentiment = data["training"].tensors
print(len(vocabulary), "words; ids", tuple(ids.shape), f"of which padding {(ids == 0).double().mean():.0%}")

# %% [markdown]
# Most of the tensor is padding: one long sentence sets the length for all. That matters for a mean.
#
# :::{admonition} Myth: "`embedding(ids).mean(dim=1)` is the mean of the words"
# :class: warning
# A common FastText example computes it so. It is the mean of words *and padding*.
# :::
#
# :::{admonition} Predict
# :class: tip
# A model takes the plain mean over time of the word vectors. The same sentence is given to it alone, and in a batch
# beside a long one. Are its logits the same?
# :::


# %%
class PlainMean(nn.Module):
    """Mean over time, padding included: ids (batch, time) → logits (batch, 2)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(vocabulary), 32, padding_idx=0)
        self.linear = nn.Linear(32, 2)

    def forward(self, ids):
        return self.linear(self.embedding(ids).mean(dim=1))


def word_mean():
    """The mean over words only: ids (batch, time) → logits (batch, 2)."""
    return nn.Sequential(nn.EmbeddingBag(len(vocabulary), 32, mode="mean", padding_idx=0), nn.Linear(32, 2))


short = "Great phone."
long = "I bought it in spring and I have used it every day since then, at home, at work and in the car"
for make in (PlainMean, word_mean):
    seed_everything(0)
    model = make()
    alone, beside = model(encode([short]))[0], model(encode([short, long]))[0]
    print(f"{make.__name__:9}", "same logits:", torch.allclose(alone, beside, atol=1e-6))

# %% [markdown]
# With the plain mean, the neighbour decides how much "great" weighs: 1 of 2, or 1 of 22. `padding_idx` makes the
# padding *vector* 0; it does not take it out of the *count*. `nn.EmbeddingBag` with `padding_idx` leaves it out of
# both. (In the exercise you write that by hand.)
#
# Now train, with what this chapter has taught: validation, the best epoch, a baseline, and one look at the test set.


# %% tags=["nbval-ignore-output"]
def fit(model, train_data, epochs=8):
    """Train; put the weights of the lowest validation loss back."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loader = DataLoader(train_data, batch_size=64, shuffle=True)
    best_loss, best_state = math.inf, None
    for _ in range(epochs):
        _, train_accuracy = run_epoch(model, loader, optimizer)
        val_loss, _ = run_epoch(model, DataLoader(data["validation"], batch_size=382))
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return train_accuracy


test_loader = DataLoader(data["test"], batch_size=400)
seed_everything(0)
fast_text = word_mean()
train_accuracy = fit(fast_text, data["training"])
_, test_accuracy = run_epoch(fast_text, test_loader)
baseline = data["test"].tensors[1].double().mean().item()
print(f"always the commoner class {max(baseline, 1 - baseline):.1%}")
print(f"mean of words, test       {test_accuracy:.1%} ± {math.sqrt(test_accuracy * (1 - test_accuracy) / 400):.1%}")
assert test_accuracy > 0.72

# %% [markdown]
# About four out of five, against half by guessing. The ± is the standard error of 400 test sentences: a model that is
# one percentage point better here is not known to be better at all.
#
# :::{admonition} Myth: "The loss falls, so the classifier works"
# :class: warning
# A common FastText example trains on random word numbers with random labels, prints a falling loss, and ends there. Its
# loss falls indeed. The cell does the same with our sentences: their training labels are tossed, like coins.
# :::

# %% tags=["nbval-ignore-output"]
seed_everything(0)
tossed = TensorDataset(ids, torch.randint(0, 2, sentiment.shape))
guesser = word_mean()
train_accuracy = fit(guesser, tossed, epochs=16)
_, test_accuracy = run_epoch(guesser, test_loader)
print(f"training accuracy {train_accuracy:.1%}, test accuracy {test_accuracy:.1%}")
assert train_accuracy > 0.85 and 0.38 < test_accuracy < 0.62

# %% [markdown]
# It has learnt coin tosses by heart. (The training accuracy is that of the last epoch, the test accuracy that of the
# weights with the lowest validation loss.) Only data that the model has not seen can tell learning from memory.
#
# What did the real one learn? Each word on its own has logits; their difference says how positive it is.

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    fast_text.eval()
    logits = fast_text(torch.arange(2, len(vocabulary)).unsqueeze(1))  # (words, 2): each word as a text
    positive = logits[:, 1] - logits[:, 0]
ranked = [known[i] for i in positive.argsort() if counts[known[i]] >= 10]  # the others are seen too rarely
print("most negative:", ", ".join(ranked[:8]))
print("most positive:", ", ".join(ranked[:-9:-1]))

# %% [markdown]
# :::{important} To remember
# Padding belongs neither in the sum nor in the count. Evaluate on data the model has not seen, beside a baseline.
# :::
#
# *Exercise:* `FastText`.

# %% [markdown]
# ## What is all of it worth?
#
# First everything together, on the CNN classifier of this book: `FashionCNN`, two blocks of convolution, batch norm,
# ReLU and pooling, 1 → 16 → 32 channels, then 32·7·7 → 128 → 10. 6,000 images, two epochs:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = FashionCNN().to(memory_format=torch.channels_last)  # an order in memory that convolutions like
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
scheduler = OneCycleLR(optimizer, max_lr=3e-3, total_steps=2 * len(loader))

best_accuracy, best_state = 0.0, None
for _epoch in range(2):
    train_loss, _ = run_epoch(model, loader, optimizer, after_step=scheduler.step)
    val_loss, val_accuracy = run_epoch(model, val_loader)
    print(f"training loss {train_loss:.3f}, validation loss {val_loss:.3f}, accuracy {val_accuracy:.1%}")
    if val_accuracy > best_accuracy:
        best_accuracy, best_state = val_accuracy, copy.deepcopy(model.state_dict())
model.load_state_dict(best_state)
assert best_accuracy > 0.8

# %% [markdown]
# A perceptron like that of the first section, trained for three epochs where we looked for faults, classified about
# three quarters of the validation images. And now the one look at the test set:

# %% mystnb={"figure": {"caption": "The test set: true classes in rows, predictions in columns. Shirts are taken for T-shirts, coats and pullovers.", "name": "fig-training-confusion"}, "image": {"alt": "A ten by ten table of counts. Most lie on the diagonal; the row of shirts spreads over T-shirts, pullovers and coats."}} tags=["nbval-ignore-output"]
test = datasets.fashion_mnist(train=False)
with torch.no_grad():
    model.eval()
    guesses = torch.cat([model(part.unsqueeze(1) / 255).argmax(dim=1) for part in test.data.split(1000)])
print(f"test accuracy {(guesses == test.targets).double().mean():.1%}")
table = torch.bincount(10 * test.targets + guesses, minlength=100).reshape(10, 10)  # (true, predicted)
assert table.trace() > 7900
confusion_matrix(
    table,
    test.classes,
    alt="A ten by ten table of counts. Most lie on the diagonal; the row of shirts spreads over T-shirts, pullovers and "
    "coats.",
)

# %% [markdown]
# Then the whole training set. The alternative is the loop of a common course: 784-512-512-10, SGD with learning rate
# 0.001, batches of 32 from a `DataLoader` that transforms one image at a time, 5 epochs. In its own words it reaches
# "0.80%". `python -m benchmarks.training` trained it and three others on the same 60,000 images and the same machine,
# on one thread, epoch by epoch in turns. Each adds to the one before:
#
# - **data as one tensor**: a batch is one indexing operation. The training is the same.
# - **and momentum, one cycle**: the same network and number of epochs; batches of 128, Nesterov momentum (a variant
#   of momentum), weight decay, a one-cycle schedule.
# - **and a small CNN**: two convolutions of stride 2 with batch norm, 3 epochs of it. Its learning rate was chosen from
#   three by the accuracy on 5,000 training images that were held out, not on the test set.

# %% mystnb={"figure": {"caption": "Test accuracy against seconds of training, one marker per epoch, on 60,000 images.", "name": "fig-training-headline"}, "image": {"alt": "Four rising curves. The common loop reaches 0.81 last. The same loop on one tensor gets there in less than half the time. Momentum and one cycle reach 0.89, the small CNN 0.91 soonest."}} tags=["nbval-ignore-output"]
result = measured("training")
headline = AltFigure(
    figsize=(7.4, 3.8),
    layout="constrained",
    alt="Four rising curves. The common loop reaches 0.81 last. The same loop on one tensor gets there in less than half the time. "
    "Momentum and one cycle reach 0.89, the small CNN 0.91 soonest.",
)
ax = headline.subplots()
for (name, points), colour, marker in zip(result["curves"].items(), COLOURS, "osD^", strict=False):
    ax.plot(*zip(*points, strict=True), color=colour, marker=marker, label=name)
ax.axhline(0.9, color="#888888", linewidth=0.8, linestyle="--")
ax.set(xlabel=f"seconds of training ({result['where']})", ylabel="test accuracy", xlim=(0, None))
ax.grid(color="#dddddd", linewidth=0.8)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")
headline

# %% tags=["nbval-ignore-output"]
for name, points in result["curves"].items():
    print(f"{name:24} {len(points)} epochs, {points[-1][0]:5.1f} s, test accuracy {points[-1][1]:.1%}")
(slow, common), (fast, ours) = result["curves"]["common loop"][-1], result["curves"]["and a small CNN"][-1]
print(f"{ours:.1%} in place of {common:.1%}, in {fast / slow:.0%} of the time")
assert common >= 0.79 and ours >= 0.9 and fast <= slow / 2

# %% [markdown]
# At least 90 % in less than half the time of 81 %. No single trick did it. More than half of the common loop's time went
# into loading images one by one; its learning rate was far too small for five epochs; and a network that knows that
# pixels have neighbours needs fewer weights. Each of the three is visible in a number that the loop could have printed:
# seconds per epoch, the loss of one batch, a baseline.
#
# :::{important} To remember
# Measure where the time goes before you change the model, and accuracy against seconds rather than epochs.
# :::
#
# *Exercise:* `fit_best`.

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | the loop | forward, loss, `zero_grad`, `backward`, `step` |
# | what do losses take? | logits, and class numbers as int64 or yes/no as float |
# | SGD, Adam or AdamW? | AdamW with 0.001 to begin with; SGD with momentum and a schedule for convolutional networks |
# | the loss of an epoch | Σ mean · samples / Σ samples |
# | measuring | `eval()` and `no_grad()`, then the mode as it was |
# | when to stop | when the validation loss has not improved for `patience` epochs; keep a *copy* of the best |
# | schedule | after each optimiser step; plot it |
# | a bad batch | `clip_grad_norm_` between `backward` and `step` |
# | a batch too large | pieces, each loss times its share of the samples |
# | fewer bits | `autocast` with `bfloat16`; `float16` with GradScaler |
# | is it better? | means over seeds, with their spread |
# | going on after a stop | model, optimiser, scheduler, random states, the place in the loop |
# | several GPUs | `accelerator.prepare`, `accelerator.backward` |
# | it does not learn | first loss, one batch, the data with your own eyes |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/05_training.ipynb`. You end with a loop of your own that stops by itself
# and survives a power cut. Chapter 6 then lets you watch it: losses, gradients, images and weights in TensorBoard.
#
# ## Sources
#
# - PyTorch documentation:
#   [`torch.optim` and schedules](https://docs.pytorch.org/docs/stable/optim.html),
#   [`CrossEntropyLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html),
#   [`BCEWithLogitsLoss`](https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html),
#   [automatic mixed precision](https://docs.pytorch.org/docs/stable/amp.html),
#   [reproducibility](https://docs.pytorch.org/docs/stable/notes/randomness.html),
#   [`torchrun`](https://docs.pytorch.org/docs/stable/elastic/run.html),
#   [`EmbeddingBag`](https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html).
# - Hugging Face [Accelerate](https://huggingface.co/docs/accelerate/index).
# - D. P. Kingma, J. Ba, [Adam](https://arxiv.org/abs/1412.6980), 2014. I. Loshchilov, F. Hutter,
#   [Decoupled weight decay regularization](https://arxiv.org/abs/1711.05101) (AdamW), 2017, and
#   [SGDR](https://arxiv.org/abs/1608.03983) (cosine schedule), 2016.
# - L. N. Smith, N. Topin, [Super-convergence](https://arxiv.org/abs/1708.07120) (one-cycle), 2017.
# - R. Pascanu, T. Mikolov, Y. Bengio, [On the difficulty of training recurrent neural
#   networks](https://arxiv.org/abs/1211.5063) (clipping), 2012.
# - P. Micikevicius et al., [Mixed precision training](https://arxiv.org/abs/1710.03740), 2017.
# - A. Joulin, E. Grave, P. Bojanowski, T. Mikolov, [Bag of tricks for efficient text
#   classification](https://arxiv.org/abs/1607.01759) (fastText), 2016.
# - C. Zhang et al., [Understanding deep learning requires rethinking
#   generalization](https://arxiv.org/abs/1611.03530) (networks that learn random labels), 2016.
# - D. Kotzias et al., [From group to individual labels using deep features](https://doi.org/10.1145/2783258.2783380),
#   2015: the review sentences.
