# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # TensorBoard

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
# A training loop that prints its loss tells you *that* something is wrong. To see *what*, you need curves, the
# distribution of weights and gradients, the pictures that the network sees, and the same for the ten runs before this
# one. TensorBoard shows all of that in a browser. Your program writes small files while it trains; TensorBoard reads
# them. You will fill each of its dashboards from a real training run, learn what to look for in each, and read the same
# files back into a table, so that runs are compared by a program and not by eye.
#
# ## Before you start
#
# You need a training loop (chapter 5), modules and hooks (chapter 4), and `no_grad` (chapter 2). The network is small
# and sees only 1,500 pictures, so that a run takes seconds on an ordinary processor.
#
# The pictures of TensorBoard in this chapter are screenshots of the runs that its cells make. To click through them
# yourself, run the chapter, then start TensorBoard as the section *How do I start TensorBoard?* says.
#
# ## Objectives and time
#
# Reading and running takes about two hours, the exercises about two and a half more. Afterwards you can
#
# - write any kind of value to TensorBoard, and say when it is safely on disk;
# - read each dashboard: what is healthy, what is not, and what the picture hides;
# - choose how often to log what, from what it costs;
# - compare a sweep of runs in TensorBoard, in a table and in a plot;
# - find out why a curve is missing, doubled, cut off or in one point.

# %% [markdown]
# ## What does a run leave behind?
#
# A `SummaryWriter` writes into one directory. Each value gets a **tag**, which names its curve, and a **step**, its
# place on the horizontal axis. Here gradient descent looks for the smallest value of (w − 3)²:
#
# :::{admonition} Predict
# :class: tip
# The loop writes 20 values under each of two tags. How many files does it leave: 1, 2 or 40?
# :::

# %%
import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

LOGS = Path("runs") / "chapter06"  # everything that this chapter writes
shutil.rmtree(LOGS, ignore_errors=True)  # what an earlier run of this notebook left

w = 0.0
with SummaryWriter(LOGS / "descent") as writer:
    for step in range(20):
        writer.add_scalar("loss", (w - 3) ** 2, step)  # tag, value, step
        writer.add_scalar("weight", w, step)
        w -= 0.1 * 2 * (w - 3)

files = sorted((LOGS / "descent").iterdir())
print(len(files), "file:", files[0].name[:20] + "…")

# %% [markdown]
# One. A writer makes one **event file**, whatever the number of tags. The rest of its name is the time, the computer
# and the number of the process, so that two writers never meet in one file. The directory is the **run**: TensorBoard
# gives each directory that holds event files one colour and one line in its list.
#
# | argument of `SummaryWriter` | meaning |
# |---|---|
# | `log_dir` | the run's directory; without it `runs/TIME_COMPUTER`, a new one each time |
# | `comment` | appended to that default name, as in `comment="_lr0.1"`; ignored when you give `log_dir` |
# | `max_queue=10` | how many values may wait in memory; a further `add_…` waits until there is room |
# | `flush_secs=120` | at least this often, what has been written is pushed through to the disk |
# | `purge_step` | for a run that is continued: TensorBoard drops older values from this step on |
# | `filename_suffix` | appended to the file's name |
#
# :::{admonition} Myth: "When `add_scalar` has returned, the value is on disk"
# :class: warning
# It is in a queue. A thread takes values from the queue and writes them, when it gets a turn. A job that is killed takes
# its queue along, and these are the very values that you want to see. The cell runs such a job: `os._exit` ends a
# process at once, as a cluster does when the time is up.
# :::

# %% tags=["nbval-ignore-output"]
import subprocess

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

program = """
import os, sys
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter(sys.argv[1])
for step in range(100):
    writer.add_scalar("loss", 1 / (step + 1), step)
    if sys.argv[2] == "flush" and step == 99:
        writer.flush()
os._exit(1)
"""
arrived = {}
for end in ("killed", "flush"):
    log_dir = str(LOGS / f"job-{end}")
    subprocess.run([sys.executable, "-c", program, log_dir, end], check=False)
    events = EventAccumulator(log_dir).Reload()
    arrived[end] = len(events.Scalars("loss"))
    print(f"{end}: {arrived[end]} of 100 values are on disk")
assert arrived["killed"] < 100 == arrived["flush"]

# %% [markdown]
# What is lost was waiting in the queue: up to about ten values. `flush()` waits until the queue is empty and the file
# is written: call it after each epoch, or before anything that may fail. `close()` does the same and ends the thread.
# The `with` block closes the writer even when the loop raises an error, so use it where you can. In a notebook without
# `with`, a forgotten `close()` looks like this: the curve ends some values before the training did.
#
# :::{important} To remember
# One directory per run, one writer per directory, and `with` around it: what is not flushed may be lost.
# :::
#
# *Exercises:* `run_name`, `ThrottledWriter`.

# %% [markdown]
# ## How do I read a run back?
#
# TensorBoard is not the only reader. `EventAccumulator`, which was used above to count, comes with it. `Reload()` reads
# all event files directly in a directory; `Tags()` lists what was found, by kind; `Scalars(tag)` gives the values.
#
# :::{admonition} Predict
# :class: tip
# The first loss written was (0 − 3)² = 9.0, the second 5.76. Do both come back exactly?
# :::

# %%
import pandas as pd

events = EventAccumulator(str(LOGS / "descent")).Reload()
print(events.Tags()["scalars"])

curve = pd.DataFrame(events.Scalars("loss"))  # one row per value
print(list(curve.columns))
print(curve[["step", "value"]].head(3))
print(f"{curve.value[1]:.12f}")

# %% [markdown]
# Each value comes with its step and its wall time, the second at which it was written. 9.0 comes back exactly, 5.76
# does not: values are stored as `float32`, and 5.76 has become the nearest one, 5.760000228882. A table is all that
# plots and tests need:

# %% mystnb={"figure": {"caption": "The two curves of the descent, read back from the event file.", "name": "fig-tensorboard-descent"}, "image": {"alt": "Two curves over 20 values: the loss falls from 9 to nearly 0, the weight rises from 0 to nearly 3."}}
from course_utils.plotting import learning_curves

learning_curves(
    {tag: [event.value for event in events.Scalars(tag)] for tag in ("loss", "weight")},
    ylabel="value",
    xlabel="value, counted from 1",
    alt="Two curves over 20 values: the loss falls from 9 to nearly 0, the weight rises from 0 to nearly 3.",
)

# %% [markdown]
# **What goes wrong in practice.** Three mistakes leave a file that is complete and a curve that is wrong. First, the
# step is left out. Every value then has step 0, and the curve is one vertical line:

# %%
with SummaryWriter(LOGS / "no-step") as writer:
    for value in (3.0, 2.0, 1.0):
        writer.add_scalar("loss", value)

events = EventAccumulator(str(LOGS / "no-step")).Reload()
print([(event.step, event.value) for event in events.Scalars("loss")])

# %% [markdown]
# Second, the program is run again with the same directory. Nothing is overwritten: there are two files now, and one
# curve that runs through both.

# %%
for learning_rate in (0.1, 0.4):
    w = 0.0
    with SummaryWriter(LOGS / "twice") as writer:
        for step in range(3):
            writer.add_scalar("loss", (w - 3) ** 2, step)
            w -= learning_rate * 2 * (w - 3)

print(len(list((LOGS / "twice").iterdir())), "files")
events = EventAccumulator(str(LOGS / "twice")).Reload()
print([(event.step, round(event.value, 2)) for event in events.Scalars("loss")])

# %% [markdown]
# In TensorBoard this is the line that jumps back to the left. Give each run a directory of its own, or empty the
# directory first, as this chapter does. Where a run is *continued* on purpose, some steps may stand there twice; then
# the newest value of a step counts, the one with the largest wall time.
#
# Third, long curves are thinned out. To save memory, `EventAccumulator` keeps at most 10,000 values per tag, drawn at
# random, and TensorBoard itself 1,000. `size_guidance={"scalars": 0}` keeps all:

# %%
with SummaryWriter(LOGS / "long") as writer:
    for step in range(2000):
        writer.add_scalar("loss", 1 / (step + 1), step)

for limit in (1000, 0):
    events = EventAccumulator(str(LOGS / "long"), size_guidance={"scalars": limit}).Reload()
    print(f"limit {limit:4}: {len(events.Scalars('loss'))} of 2000 values")

# %% [markdown]
# A spike of one step can be missing from the picture. For TensorBoard the switch is
# `--samples_per_plugin scalars=100000`.
#
# :::{important} To remember
# A step for every value, a directory for every run. What the picture leaves out, the file still holds.
# :::
#
# *Exercise:* `read_scalars`.

# %% [markdown]
# ## What is in an event file?
#
# The format is short enough to read by hand. An event file is a row of records, and each record has four parts:
#
# | bytes | content |
# |---|---|
# | 8 | n, the length of the data: a whole number without sign, lowest byte first |
# | 4 | a checksum of the length |
# | n | the data: one event, in Google's *protocol buffer* format |
# | 4 | a checksum of the data |
#
# `struct.unpack_from("<Q", data, start)` reads such a length: `<` is lowest byte first, `Q` a whole number of 8 bytes.
#
# :::{admonition} Predict
# :class: tip
# The run `descent` wrote 2 × 20 values. How many records does its file hold?
# :::

# %%
import struct

from tensorboard.compat.proto.event_pb2 import Event

data = files[0].read_bytes()
records, start = [], 0
while start < len(data):
    (length,) = struct.unpack_from("<Q", data, start)
    records.append(data[start + 12 : start + 12 + length])
    start += 12 + length + 4

print(len(records), "records")
print("first:", Event.FromString(records[0]).file_version)
print("third:", Event.FromString(records[2]).summary.value[0].tag)

# %% [markdown]
# 41: the first names the version of the format, and each `add_scalar` made one more. The file only grows at its end.
# This is why TensorBoard can read while you train, and why a job that is killed in the middle of a record leaves a file
# that is good up to there. The loop above trusts its file; one that is still being written may end inside a record.
#
# *Exercise:* `read_records`.

# %% [markdown]
# ## How do I start TensorBoard?
#
# In a shell, in the directory of the notebook:
#
# ```sh
# tensorboard --logdir runs/chapter06
# ```
#
# It prints an address, `http://localhost:6006` unless the port is taken. Open it in a browser; leave the program
# running while you train. The page shows new values when you press the round arrow; by itself, every 30 seconds, it
# does so only after you tick *Reload data* under the cogwheel. `--logdir` names the folder *above* the runs: each
# directory with event files below it becomes one run, named by its path.
#
# In a notebook (JupyterLab, Colab) the same is shown under the cell:
#
# ```
# %load_ext tensorboard
# %tensorboard --logdir runs/chapter06
# ```
#
# Training on another computer, over SSH, leave the files where they are. Start TensorBoard there, and let SSH carry the
# port to your machine:
#
# ```sh
# ssh -L 6006:localhost:6006 you@computer      # on your machine; stays open
# tensorboard --logdir runs                    # on the other, in that session
# ```
#
# Then `http://localhost:6006` on your own machine shows it. Do not start it with `--bind_all` on a shared computer
# instead: TensorBoard asks nobody for a password.
#
# **What goes wrong in practice.** "No dashboards are active for the current data set" nearly always means a wrong
# `--logdir`. It is relative to the directory of the *shell*, `log_dir` to that of the *program*. Ask both for the whole
# path: `Path("runs").resolve()`. Port 6006 taken: `--port 0` finds a free one.
#
# :::{important} To remember
# `tensorboard --logdir FOLDER_ABOVE_THE_RUNS`; over SSH, forward the port.
# :::

# %% [markdown]
# ## Is it learning, and how fast?
#
# Now a real run. 1,500 pictures of clothing from Fashion-MNIST to learn from, 500 others to validate on, and a small
# convolutional network. Its last hidden layer has 32 features, which we will look at later.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import datasets, seed_everything

fashion = datasets.fashion_mnist()
images = fashion.data[:2000].unsqueeze(1) / 255  # (images, channels, height, width) in [0, 1]
train_images, train_labels = images[:1500], fashion.targets[:1500]
val_images, val_labels = images[1500:], fashion.targets[1500:2000]
val_names = [fashion.classes[label] for label in val_labels]


class SmallCNN(nn.Module):
    """(batch, 1, 28, 28) → logits (batch, 10)."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 7 * 7, 32)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(32, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)  # (batch, 8, 14, 14)
        x = F.max_pool2d(self.conv2(x).relu(), 2)  # (batch, 16, 7, 7)
        x = self.hidden(x.flatten(1)).relu()  # (batch, 32)
        return self.output(self.dropout(x))


@torch.no_grad()
def evaluate(model):
    """Mean loss and accuracy on the validation pictures, as floats."""
    model.eval()
    logits = model(val_images)
    accuracy = (logits.argmax(dim=1) == val_labels).float().mean()
    return F.cross_entropy(logits, val_labels).item(), accuracy.item()


# %% [markdown]
# The training function writes scalars at two intervals: the loss of a batch and the learning rate every fifth step,
# the validation once per epoch. `watchers` is a list of functions that are called after each epoch as
# `watch(writer, model, step)`. It is empty for now; the next sections fill it.

# %%
EPOCHS = 4
BATCH = 75


def train(hparams, log_dir, watchers=()):
    """Train a SmallCNN and write what happens into log_dir. Returns the network and its validation accuracy."""
    seed_everything(0)
    model = SmallCNN(hparams["dropout"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=hparams["lr"])
    steps = EPOCHS * len(train_images) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    step = 0
    with SummaryWriter(log_dir) as writer:
        for _ in range(EPOCHS):
            model.train()
            for rows in torch.randperm(len(train_images)).split(BATCH):
                loss = F.cross_entropy(model(train_images[rows]), train_labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if step % 5 == 0:
                    writer.add_scalar("loss/train", loss.item(), step)
                    writer.add_scalar("learning_rate", schedule.get_last_lr()[0], step)
                schedule.step()
                step += 1
            val_loss, accuracy = evaluate(model)
            writer.add_scalar("loss/validation", val_loss, step)
            writer.add_scalar("accuracy/validation", accuracy, step)
            for watch in watchers:
                watch(writer, model, step)
            writer.flush()  # an epoch is safe once it is over
    return model, accuracy


# %% [markdown]
# :::{admonition} Predict
# :class: tip
# Three learning rates: 0.0003, 0.01 and 0.3. What will the three curves of the loss look like?
# :::

# %% tags=["nbval-ignore-output"]
accuracies = {}
for learning_rate in (0.0003, 0.01, 0.3):
    hparams = {"lr": learning_rate, "dropout": 0.0}
    model, accuracy = train(hparams, LOGS / "rates" / f"lr={learning_rate}")
    accuracies[learning_rate] = accuracy
    print(f"lr {learning_rate}: accuracy {accuracy:.2f}")
assert accuracies[0.01] > 0.6 > accuracies[0.0003] and accuracies[0.3] < 0.3

# %% [markdown]
# ```{figure} ../assets/tensorboard/scalars.png
# :name: fig-tensorboard-scalars
# :alt: TensorBoard with one card per tag. In the card of the training loss, the curve of learning rate 0.0003 falls slowly, that of 0.01 fast, and that of 0.3 stays at about 2.3.
#
# The scalars of the three runs. One card per tag, one colour per run.
# ```
#
# **What to read in it.** The tag's part before the slash makes a group: `loss/train` and `loss/validation` stand
# together. In `loss/train` the rate 0.01 falls fast, 0.0003 slowly, and 0.3 does not learn at all: its loss ends near
# 2.3, which is log 10, the loss of a guess among ten classes. The card of the learning rate shows the schedule that you
# believe you set. Compare the training with the validation loss: when the second rises while the first still falls, the
# network learns its pictures by heart.
#
# The faint line is what was written; the strong one is smoothed. The slider *Smoothing* sets a weight β. Each smoothed
# value is β times the one before, plus 1 − β times the new value, starting at 0, and then divided by 1 − βⁿ after n
# values, so that the start is not pulled towards 0. For the values 4, 2 and β = 0.5 that is 2, 2 before and
# 2 / 0.5 = 4, 2 / 0.75 = 2.67 after the division.
#
# **What goes wrong in practice.** Smoothing hides what you look for: a spike of one step becomes a low hill after it,
# and with β = 0.99 a loss that has diverged looks healthy for many steps more. Set it to 0 before you conclude
# anything. *Ignore outliers in chart scaling*, which is ticked at first, leaves the highest peaks outside the card:
# clear it too. And keep what you collect for the epoch as numbers. A sum of *tensors* keeps the graph of each batch
# alive, until the memory is full:

# %%
total, number = 0.0, 0.0
for rows in torch.arange(200).split(50):
    loss = F.cross_entropy(model(train_images[rows]), train_labels[rows])
    total = total + loss  # a tensor with the graphs of all batches behind it
    number = number + loss.item()  # a number
print("total:", type(total).__name__, "with a graph:", total.grad_fn is not None)
print("number:", type(number).__name__)

# %% [markdown]
# `add_scalar` itself takes either, and detaches a tensor. On a GPU `.item()` and `add_scalar` wait for the device: one
# more reason not to write at each step.
#
# :::{important} To remember
# Log the learning rate and the validation beside the loss; judge with the smoothing at 0.
# :::
#
# *Exercises:* `smooth`, `train_and_log`.

# %% [markdown]
# ## Where in the network does learning stop?
#
# A loss is one number for the whole network. A **histogram** per parameter shows each layer: how its weights spread,
# and whether gradients reach it. `add_histogram` takes a tensor of any shape and counts its values.
#
# :::{admonition} Predict
# :class: tip
# PyTorch draws the weights of a layer evenly from −b to b. Will their histogram get wider or narrower by training?
# :::


# %% tags=["nbval-ignore-output"]
def log_histograms(writer, model, step):
    """Weights, and the gradients that the last batch left."""
    for name, parameter in model.named_parameters():
        writer.add_histogram(f"weights/{name}", parameter, step)
        writer.add_histogram(f"gradients/{name}", parameter.grad, step)


best = {"lr": 0.01, "dropout": 0.0}
model, accuracy = train(best, LOGS / "histograms", [log_histograms])
seed_everything(0)
spread = [network.conv2.weight.std().item() for network in (SmallCNN(), model)]
print(
    f"accuracy {accuracy:.2f}; standard deviation of conv2's weights: {spread[0]:.2f}, after training {spread[1]:.2f}"
)
assert accuracy == accuracies[0.01]  # watching changes nothing
assert spread[1] > 1.2 * spread[0]

# %% [markdown]
# ```{figure} ../assets/tensorboard/histograms.png
# :name: fig-tensorboard-histograms
# :alt: TensorBoard's histogram cards for gradients and weights: each shows four stacked profiles, one per epoch, the newest in front.
#
# Histograms of gradients and weights after each of four epochs; the newest lies in front.
# ```
#
# **What to read in it.** Each profile is one step; the height counts values. The weights were a flat block before the
# first epoch, which is not in the picture; after it they are a bell, and the bell grows wider: they learn. A weight
# whose profiles are all alike does not learn. A gradient whose values all lie at 0 does not arrive: behind a **dead**
# ReLU, one that gives 0 for every example. A frozen layer, or a `detach` too many, leaves no gradient at all. Gradients
# that widen from epoch to epoch announce an explosion. The dashboard *Distributions* shows the same numbers from above:
# bands that hold the middle 38 %, 68 %, 87 % and 100 % of the values, over the steps.

# %% [markdown]
# ```{figure} ../assets/tensorboard/distributions.png
# :name: fig-tensorboard-distributions
# :alt: TensorBoard's distribution cards: for each parameter, nested bands over the steps that widen slowly for the weights.
#
# The same values as distributions: narrow bands of gradients, and weights that spread.
# ```
#
# **What goes wrong in practice.** Between `zero_grad()` and `backward()` there are no gradients to look at:

# %% tags=["raises-exception"]
model.zero_grad()
with SummaryWriter(LOGS / "scratch") as writer:
    log_histograms(writer, model, step=0)

# %% [markdown]
# Log between `backward()` and the next `zero_grad()`. The same error comes from a parameter that takes no part in the
# loss: its `grad` is `None` for ever. So test for `None`, and do not replace it by 0, which would say something else.
#
# And histograms cost time. Compared with one step of training:

# %% tags=["nbval-ignore-output"]
from course_utils import measure

optimizer = torch.optim.SGD(model.parameters(), lr=0.0)


def one_step():
    optimizer.zero_grad()
    F.cross_entropy(model(train_images[:BATCH]), train_labels[:BATCH]).backward()
    optimizer.step()


one_step()
with SummaryWriter(LOGS / "scratch") as writer:
    of_step = measure(one_step)
    of_scalar = measure(lambda: writer.add_scalar("loss", 1.0, 0))
    of_histograms = measure(lambda: log_histograms(writer, model, 0))
print("one step of training:", of_step)
print("one scalar:          ", of_scalar)
print("all histograms:      ", of_histograms)
assert of_histograms.median > 20 * of_scalar.median

# %% [markdown]
# A scalar costs microseconds. All histograms together cost more than a step of this small network: written at each
# step, they would make training several times as long. Once per epoch, nobody notices.
#
# :::{important} To remember
# Histograms tell which layer; scalars only that something is wrong. Scalars often, histograms rarely.
# :::
#
# *Exercises:* `log_gradients`, `dead_units`.

# %% [markdown]
# ## What does the network see?
#
# `add_image` takes one picture, (channels, height, width); `add_images` a batch, (n, channels, height, width). Floats
# must lie in 0…1, `uint8` in 0…255. `make_grid` of torchvision puts a batch into one picture. We log three things: some
# pictures as they enter the network, the filters of the first layer, and its **feature maps**, what each filter makes
# of one picture. A forward hook (chapter 4) catches those.
#
# :::{admonition} Predict
# :class: tip
# A filter has 5 × 5 weights between −0.4 and 0.4. What does TensorBoard draw for a weight below 0?
# :::

# %%
filters = model.conv1.weight.detach()  # (8, 1, 5, 5)
with SummaryWriter(LOGS / "scratch-filters") as writer:
    writer.add_images("filters", filters, 0)
    writer.add_images("filters_scaled", (filters - filters.min()) / (filters.max() - filters.min()), 0)

# %% tags=["nbval-ignore-output"]
import io

import numpy as np
from PIL import Image


def read_image(log_dir, tag):
    """The last picture of a tag, as a uint8 array (height, width) or (height, width, 3)."""
    events = EventAccumulator(str(log_dir)).Reload()
    return np.array(Image.open(io.BytesIO(events.Images(tag)[-1].encoded_image_string)))


black = {tag: (read_image(LOGS / "scratch-filters", tag) == 0).mean() for tag in ("filters", "filters_scaled")}
print("share of black pixels:", {tag: f"{share:.0%}" for tag, share in black.items()})
assert black["filters"] > 0.25 and black["filters_scaled"] < 0.05

# %% [markdown]
# Black: whatever is below 0 becomes 0, without a warning. A large part of what the filters say was thrown away. Scale
# before you log, so that the smallest weight is black and the largest white. (Scaled together, as here, the filters can
# be compared with each other; scaled one by one, each shows its pattern.)

# %%
from torchvision.utils import make_grid


def log_pictures(writer, model, step):
    """Sixteen inputs, the filters of the first layer, and its feature maps for the first input."""
    caught = []
    hook = model.conv1.register_forward_hook(lambda module, inputs, output: caught.append(output))
    try:
        with torch.no_grad():
            model(val_images[:1])
    finally:
        hook.remove()
    maps = caught[0].relu()[0, :, None]  # (8, 1, 28, 28): eight pictures of one channel
    filters = model.conv1.weight  # (8, 1, 5, 5)
    writer.add_image("inputs", make_grid(val_images[:16], nrow=8), step)
    writer.add_image("conv1/feature_maps", make_grid(maps, nrow=8, normalize=True, scale_each=True), step)
    writer.add_image("conv1/filters", make_grid(filters, nrow=8, padding=1, normalize=True), step)


with SummaryWriter(LOGS / "scratch") as writer:
    log_pictures(writer, model, step=0)
print(read_image(LOGS / "scratch", "inputs").shape)  # (height, width, channels)

# %% [markdown]
# ```{figure} ../assets/tensorboard/images.png
# :name: fig-tensorboard-images
# :alt: TensorBoard's image dashboard: a row of eight 5 by 5 filters, a row of eight feature maps of one garment, and two rows of input pictures.
#
# Filters, feature maps and inputs; the slider above each picture goes through the epochs.
# ```
#
# **What to read in it.** First the inputs: are they what you believe, the right way up, with the right colours, not cut
# by a transform? Many a bug is found here and nowhere else. Filters of the first layer become edges and spots; one
# that still looks like noise after training has learnt little. In the feature maps, a filter for an edge lights up one
# side of the garment. A map that is black for every picture belongs to a dead unit.
#
# **What goes wrong in practice.** A picture from matplotlib, PIL or NumPy has its channels last:

# %% tags=["raises-exception"]
photo = np.zeros((28, 40, 3), dtype=np.uint8)  # (height, width, channels)
writer = SummaryWriter(LOGS / "scratch")
writer.add_image("photo", photo, 0)

# %%
writer.add_image("photo", photo, 0, dataformats="HWC")
writer.close()
print(read_image(LOGS / "scratch", "photo").shape)

# %% [markdown]
# :::{important} To remember
# Look at the inputs in every project. Scale to 0…1 before logging, and name the order of the axes.
# :::
#
# *Exercises:* `image_grid`, `filters_as_images`.

# %% [markdown]
# ## Which classes does it confuse, and on which pictures?
#
# `add_figure` takes any matplotlib figure, `add_text` Markdown. The first suits tables with colours, such as the
# confusion matrix; the second suits what you would otherwise write on paper: settings, the version of the data, the
# worst mistakes in words.

# %% mystnb={"figure": {"caption": "The confusion matrix that is written to TensorBoard.", "name": "fig-tensorboard-confusion"}, "image": {"alt": "A 10 by 10 confusion matrix: large counts on the diagonal; shirts, pullovers, coats and T-shirts are confused most."}} tags=["nbval-ignore-output"]
from course_utils.plotting import confusion_matrix


@torch.no_grad()
def confusion_figure(model):
    """How often each class was taken for each, over the validation pictures."""
    predicted = model.eval()(val_images).argmax(dim=1)
    counts = torch.zeros(10, 10, dtype=torch.int64)
    counts.index_put_((val_labels, predicted), torch.ones_like(predicted), accumulate=True)
    alt = (
        "A 10 by 10 confusion matrix: large counts on the diagonal; "
        "shirts, pullovers, coats and T-shirts are confused most."
    )
    return confusion_matrix(counts, fashion.classes, alt=alt)


@torch.no_grad()
def worst_mistakes(model):
    """The five validation pictures with the largest loss, as a Markdown table."""
    logits = model.eval()(val_images)
    losses = F.cross_entropy(logits, val_labels, reduction="none")  # (images,)
    lines = ["| picture | true class | predicted | loss |", "|---|---|---|---|"]
    for row in losses.topk(5).indices.tolist():
        predicted = fashion.classes[logits[row].argmax()]
        lines.append(f"| {row} | {val_names[row]} | {predicted} | {losses[row]:.1f} |")
    return "\n".join(lines)


def log_report(writer, model, step):
    """The confusion matrix, and the worst mistakes in words."""
    writer.add_figure("confusion", confusion_figure(model), step)
    writer.add_text("worst mistakes", worst_mistakes(model), step)


confusion_figure(model)

# %% [markdown]
# ```{figure} ../assets/tensorboard/figures.png
# :name: fig-tensorboard-figures
# :alt: TensorBoard's image dashboard with the confusion matrix as a card named confusion.
#
# The confusion matrix as TensorBoard shows it, among the images, with a slider over the epochs.
# ```
#
# ```{figure} ../assets/tensorboard/text.png
# :name: fig-tensorboard-text
# :alt: TensorBoard's text dashboard: tables of the five worst mistakes at two steps, with true class, predicted class and loss.
#
# The worst mistakes as text, one table per epoch.
# ```
#
# **What to read in it.** Off the diagonal, look for pairs: shirts are taken for T-shirts, pullovers and coats, and
# pullovers for coats and shirts. Shoes are taken for other shoes; bags are hardly ever taken for anything else. Then look
# at the pictures of the largest losses: a wrong label in the data often has the largest loss of all, since the network
# is sure and "wrong".
#
# **What goes wrong in practice.** matplotlib does not take a tensor that is part of a graph:

# %% tags=["raises-exception"]
from matplotlib.figure import Figure

axes = Figure().subplots()
axes.plot(model.output.bias)

# %% [markdown]
# `model.output.bias.detach()` is what you meant. `add_figure` closes the figure for you. A figure that you make with
# `plt.figure()` and do not pass on stays in memory: after 20, matplotlib warns.
#
# :::{important} To remember
# What you would show a colleague, show in the log: the matrix as a figure, the settings and the worst mistakes as text.
# :::

# %% [markdown]
# ## Can I hear it, or watch it move?
#
# `add_audio` takes samples in −1…1, shape (1, samples). Sound is for networks that make sound. Ours can be heard all
# the same: one short tone for each of the first 30 validation pictures, low where the network gives the true class
# probability 0, and two octaves higher where it gives probability 1.

# %%
import math

RATE = 8000  # samples per second


@torch.no_grad()
def log_sound(writer, model, step):
    """A tone of 0.1 seconds for each of 30 pictures: the higher, the surer of the true class."""
    probabilities = model.eval()(val_images[:30]).softmax(dim=1)  # (30, 10)
    of_true_class = probabilities.gather(1, val_labels[:30, None])  # (30, 1)
    seconds = torch.arange(RATE // 10) / RATE  # (800,)
    tones = torch.sin(2 * math.pi * 220 * 4**of_true_class * seconds)  # (30, 800)
    fade = torch.sin(math.pi * torch.linspace(0, 1, RATE // 10))  # no clicks between tones
    writer.add_audio("certainty", 0.5 * (tones * fade).reshape(1, -1), step, sample_rate=RATE)


# %% [markdown]
# `add_video` takes (n, time, channels, height, width), and needs the package `moviepy`, which this course does not
# install. What it writes is an animated GIF in the place of a picture, and that takes few lines with Pillow. Our film
# moves a picture across the field of view, and shows how its feature maps move along:

# %%
from tensorboard.compat.proto.summary_pb2 import Summary


def gif_summary(tag, frames, fps=8):
    """What moviepy does for add_video: frames (time, height, width), uint8, as an animated GIF."""
    pictures = [Image.fromarray(frame.numpy()) for frame in frames]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=1000 // fps, loop=0)
    height, width = frames.shape[1:]
    image = Summary.Image(height=height, width=width, colorspace=1, encoded_image_string=file.getvalue())
    return Summary(value=[Summary.Value(tag=tag, image=image)])


@torch.no_grad()
def log_film(writer, model, step):
    """One picture moving from left to right, and its feature maps."""
    places = [*range(-10, 11, 2), *range(8, -10, -2)]  # there and back
    moving = torch.stack([val_images[4].roll(place, dims=-1) for place in places])  # (time, 1, 28, 28)
    maps = model.conv1(moving).relu()  # (time, 8, 28, 28)
    maps = maps / maps.amax(dim=(0, 2, 3), keepdim=True).clamp(min=1e-6)
    panels = torch.cat([moving, maps], dim=1)[:, :, None]  # (time, 9, 1, 28, 28)
    frames = [make_grid(each, nrow=9, pad_value=0.5)[0] for each in panels]  # (30, 272) each
    film = (255 * torch.stack(frames)).to(torch.uint8)  # (time, height, width)
    large = film.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    writer.file_writer.add_summary(gif_summary("film", large), step)


with SummaryWriter(LOGS / "scratch") as writer:
    log_sound(writer, model, step=0)
    log_film(writer, model, step=0)
events = EventAccumulator(str(LOGS / "scratch")).Reload()
film = Image.open(io.BytesIO(events.Images("film")[0].encoded_image_string))
print(film.format, film.size, film.n_frames, "frames")

# %% [markdown]
# ```{figure} ../assets/tensorboard/audio.png
# :name: fig-tensorboard-audio
# :alt: TensorBoard's audio dashboard: a card named certainty with a player and a slider over the steps.
#
# The audio dashboard: a player for each tag and step.
# ```
#
# ```{figure} ../assets/tensorboard/video.png
# :name: fig-tensorboard-video
# :alt: One moment of the film in TensorBoard's image dashboard: a garment and its eight feature maps in one row.
#
# One moment of the film, which plays among the images.
# ```
#
# **What to read in it.** From epoch to epoch the melody rises; the tones that stay low are the pictures that the
# network gets wrong. In the film, the maps move as the picture moves: away from the edges, a convolution treats all
# places alike. Where you train on real video, sound or speech, these two dashboards are where you find frames in the
# wrong order and a sample rate that is wrong by a factor of two.
#
# **What goes wrong in practice.** Audio outside −1…1 is clipped, and integers are not scaled: divide 16-bit samples by
# 32768 first. A film of 100 frames is 100 pictures: a few per run are enough.

# %% [markdown]
# ## How is the network wired?
#
# `add_graph` follows one batch through the network and draws which operation feeds which.
#
# :::{admonition} Predict
# :class: tip
# `SmallCNN` uses `F.max_pool2d` and `.relu()` in its `forward`, and four layers with parameters. Which of them appear in
# the graph?
# :::

# %%
import warnings

with SummaryWriter(LOGS / "graph") as writer, warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # add_graph records by torch.jit.trace, which is deprecated
    writer.add_graph(model, val_images[:1])

# %% [markdown]
# ```{figure} ../assets/tensorboard/graph.png
# :name: fig-tensorboard-graph
# :alt: The graph of SmallCNN in TensorBoard: from the input up through conv1, conv2, hidden, dropout and output, with the operations between them.
#
# `SmallCNN`, opened by a double click: the input below, the logits above.
# ```
#
# **What to read in it.** All of them appear: modules as boxes that a double click opens, functions as small ovals. The
# edges carry the shapes. Look for a layer that you wrote and that is not there (you never call it), for two boxes where
# you meant one (shared) layer, and for a skip connection that ends in the wrong place.
#
# **What goes wrong in practice.** The network is *traced*: one example runs through, and what it did is what you see.
# An `if` on a tensor's values shows only the branch taken, and a loop as many copies as it had rounds. A model that
# returns a dictionary or a list needs `use_strict_trace=False`. For large models the picture is unreadable; `torchinfo`
# (chapter 4) gives the table instead.

# %% [markdown]
# ## What do the 32 features know?
#
# The last hidden layer turns each picture into 32 numbers. If training worked, pictures of one class lie close together
# among these 32-dimensional points. The **projector** shows them in three dimensions that you can turn, with the label
# and the picture of each point. `add_embedding` takes the matrix of features (n, d), `metadata`, a list of n labels,
# and `label_img`, the n pictures.
#
# :::{admonition} Predict
# :class: tip
# Which classes will lie close to each other?
# :::


# %%
@torch.no_grad()
def hidden_features(model, images):
    """The output of the last hidden layer after its ReLU: (n, 32)."""
    caught = []
    hook = model.hidden.register_forward_hook(lambda module, inputs, output: caught.append(output))
    try:
        model.eval()(images)
    finally:
        hook.remove()
    return caught[0].relu()


features = hidden_features(model, val_images)
with SummaryWriter(LOGS / "projector") as writer:
    writer.add_embedding(features, metadata=val_names, label_img=val_images, global_step=0)
print(tuple(features.shape))
print(sorted(path.name for path in (LOGS / "projector" / "00000" / "default").iterdir()))

# %% [markdown]
# ```{figure} ../assets/tensorboard/projector.png
# :name: fig-tensorboard-projector
# :alt: TensorBoard's projector: 500 thumbnails of clothing in space, coloured by class. Shoes lie on one side, trousers on another, and tops in one mixed cloud.
#
# 500 validation pictures at the places of their 32 features, reduced to three dimensions by PCA, coloured by class.
# ```
#
# **What to read in it.** Shoes (sandals, sneakers, ankle boots) form one region, trousers another, and the tops share a
# cloud: exactly the pairs of the confusion matrix. A point of one colour in the midst of another is a mistake or a
# wrong label; click on it to see its nearest neighbours. *PCA* turns the cloud so that its widest directions become the
# axes; the percentage under it says how much of the spread the three axes hold. *t-SNE* and *UMAP* place neighbours
# beside each other and pull groups apart, but the distance *between* their groups, and their size, mean little.
#
# **What goes wrong in practice.** The projector reads no event file: it reads `tensors.tsv`, `metadata.tsv` and
# `sprite.png`, which you see above. The sprite holds all thumbnails in one square picture, at most 8192 pixels wide:
# room for 85,000 pictures of 28 × 28, but only for 1,300 of 224 × 224. Take a sample. And take the features with
# `model.eval()`: with dropout, each picture gets a different place at every call.
#
# :::{important} To remember
# The projector shows what a layer knows. Three dimensions of 32: what looks mixed there may still be apart.
# :::
#
# *Exercise:* `embed`.

# %% [markdown]
# ## What do I log, and how often?
#
# All watchers in one run. The intervals follow from the price of each kind and from how often you will look:
#
# | what | how often | why |
# |---|---|---|
# | loss, learning rate | every 5th step here, 16 points; in a long run, so often that they are about 1,000 | 50 bytes and some microseconds each |
# | validation loss and accuracy | once per epoch | a pass over the validation data |
# | histograms | once per epoch | 9 kilobytes each, and together the time of a few training steps |
# | pictures, figures, text, sound, film | once per epoch or less | a third of a megabyte here, together |
# | graph | once | it does not change |
# | projector | at the end | pictures and features of the whole sample |
# | hyperparameters | at the end | needs the final metric |
#
# :::{admonition} Predict
# :class: tip
# The watchers look at the network after each epoch. Is its accuracy at the end the same as without them?
# :::

# %% tags=["nbval-ignore-output"]
WATCHERS = [log_histograms, log_pictures, log_report, log_sound, log_film]

model, accuracy = train(best, LOGS / "everything", WATCHERS)
size = {name: sum(file.stat().st_size for file in (LOGS / name).iterdir()) for name in ("everything", "histograms")}
print(f"accuracy {accuracy:.2f}, {size['everything'] / 1e6:.2f} MB")
print(f"with histograms alone: {size['histograms'] / 1e6:.2f} MB")
assert accuracy == accuracies[0.01]
assert size["everything"] > 2 * size["histograms"]

# %% [markdown]
# Exactly the same. That is a property to test, as the cell does: a watcher that leaves the network in `eval` mode, that
# draws a random number, or that forgets a hook changes the run it watches. (Ours leave the network in `eval` mode;
# `train` puts it back at the start of each epoch.)
#
# :::{important} To remember
# A watched run must be the unwatched run. Compare them once.
# :::

# %% [markdown]
# ## Which settings are best?
#
# A **sweep** trains the same network with several settings, the **hyperparameters**. `add_hparams` writes the settings
# of a run and its final metrics, so that TensorBoard can show all runs as rows of one table.
#
# :::{admonition} Predict
# :class: tip
# With only 1,500 pictures and 4 epochs: will dropout of 0.3 help?
# :::

# %% tags=["nbval-ignore-output"]
results = []
for learning_rate in (0.003, 0.01, 0.03):
    for dropout in (0.0, 0.3):
        hparams = {"lr": learning_rate, "dropout": dropout}
        run = LOGS / "sweep" / f"dropout={dropout},lr={learning_rate}"
        _, accuracy = train(hparams, run)
        with SummaryWriter(run) as writer:
            writer.add_hparams(hparams, {"final/accuracy": accuracy}, run_name=".")
        results.append(hparams | {"accuracy": accuracy})

table = pd.DataFrame(results)
print(table.round(3).to_string(index=False))
assert table.accuracy.max() > 0.7

# %% [markdown]
# ```{figure} ../assets/tensorboard/hparams.png
# :name: fig-tensorboard-hparams
# :alt: The table of TensorBoard's hparams dashboard: six runs with dropout, learning rate and final accuracy.
#
# The table of the sweep: one row per run. *Sort by* stands further down on the left.
# ```
#
# ```{figure} ../assets/tensorboard/hparams_parallel.png
# :name: fig-tensorboard-hparams-parallel
# :alt: Parallel coordinates in TensorBoard: one vertical axis each for dropout, learning rate and accuracy, and one line per run.
#
# The same six runs as parallel coordinates: follow a line from its settings to its accuracy.
# ```
#
# **What to read in it.** Sort the table by the metric and look at the *settings* of the best few rows, not at the best
# row alone. In the parallel coordinates the colour follows a metric: if all lines of the best colour go through one
# region of an axis, that setting matters; if they go through all of it, it does not. Drag along an axis to keep a part.
#
# **What goes wrong in practice.** Without `run_name`, `add_hparams` makes a new directory below the run, named after
# the time, and the table refers to that. `run_name="."` keeps settings and curves together. (The directory then holds
# several event files. That does no harm as long as no tag is written by two of them.) The metric needs a tag of its own
# (`final/accuracy`): with the tag of a curve it would add one more point to it. Settings must be numbers, strings or
# booleans; a list is refused:

# %% tags=["raises-exception"]
with SummaryWriter(LOGS / "scratch") as writer:
    writer.add_hparams({"channels": [8, 16]}, {"final/accuracy": 0.5})

# %% [markdown]
# Write it as text, `str([8, 16])`, or as two settings.
#
# The dashboard answers what it was built for. For every other question, read the event files into one table. Each row
# is one value; the columns of the settings come from the name of the run:


# %% tags=["nbval-ignore-output"]
def sweep_table(folder, tag):
    """All values of a tag in all runs directly under a folder: one row per value."""
    parts = []
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        settings = dict(part.split("=") for part in run.name.split(","))
        parts.append(pd.DataFrame(events.Scalars(tag)).assign(**settings))
    return pd.concat(parts, ignore_index=True)


curves = sweep_table(LOGS / "sweep", "accuracy/validation")
last = curves.groupby(["lr", "dropout"]).value.last()
print(last.unstack().round(2))
assert np.allclose(sorted(last), sorted(table.accuracy))  # the files hold what the loop returned

# %% mystnb={"figure": {"caption": "Validation accuracy of the six runs, read from their event files.", "name": "fig-tensorboard-sweep"}, "image": {"alt": "Six mostly rising curves of validation accuracy over four epochs, from between 0.5 and 0.7 to between 0.7 and 0.8."}}
learning_curves(
    {f"lr {lr}, dropout {dropout}": group.value.tolist() for (lr, dropout), group in curves.groupby(["lr", "dropout"])},
    ylabel="validation accuracy",
    alt="Six mostly rising curves of validation accuracy over four epochs, from between 0.5 and 0.7 to between 0.7 and 0.8.",
)

# %% [markdown]
# Dropout did not help or harm by more than chance. Differences of one or two hundredths mean nothing here: 500
# validation pictures, one seed each. With a validation set of n pictures and an accuracy p, chance alone moves the
# accuracy by about √(p(1 − p)/n), here 0.02. To compare two settings, repeat each with several seeds and plot the mean
# and the spread over the seeds.
#
# :::{important} To remember
# A sweep is a table: settings, metric, one row per run. The best row of many is partly luck.
# :::
#
# *Exercises:* `best_run`, `seed_band`.

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | what is a run? | a directory with event files; one writer, one run |
# | is it on disk? | after `flush()` or `close()`; use `with` |
# | curve in one point | the step is missing |
# | curve jumps back | two runs in one directory |
# | curve ends early | no `flush`, no `close`, or a killed job |
# | spikes missing | smoothing, *Ignore outliers*, or the limit of 1,000 values |
# | is it learning? | scalars: loss, validation, learning rate |
# | which layer is not? | histograms of weights and gradients |
# | what does it see? | images, filters, feature maps |
# | what does it confuse? | figures and text |
# | how is it wired? | graph, from one traced batch |
# | what do features know? | projector, in `eval` mode |
# | which settings? | `add_hparams(…, run_name=".")`, and the files as a table |
# | how often? | scalars often, histograms per epoch, the rest rarely |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/06_tensorboard.ipynb`. The writer is also what other libraries speak: the
# `Trainer` of Hugging Face (chapter 8) writes the same event files with `report_to="tensorboard"`. Weights & Biases and
# MLflow keep the same kinds of values on a server, for teams.
#
# ## Sources
#
# - PyTorch documentation: [`torch.utils.tensorboard`](https://docs.pytorch.org/docs/stable/tensorboard.html), [forward
#   hooks](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.register_forward_hook).
# - TensorBoard: [guide](https://www.tensorflow.org/tensorboard/get_started),
#   [its README](https://github.com/tensorflow/tensorboard/blob/master/README.md), on runs, tags, and the sampling of
#   values.
# - M. Abadi et al., [TensorFlow: large-scale machine learning on heterogeneous distributed
#   systems](https://arxiv.org/abs/1603.04467), 2016. Section 9.1 describes TensorBoard.
# - D. Smilkov et al., [Embedding projector](https://arxiv.org/abs/1611.05469), 2016.
# - M. Wattenberg, F. Viégas, I. Johnson, [How to use t-SNE effectively](https://doi.org/10.23915/distill.00002),
#   *Distill*, 2016.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
