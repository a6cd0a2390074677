# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 6: TensorBoard
#
# Replace `raise NotImplementedError` with your code, run the cell, and run the `check` under it. Work from top to
# bottom: the exercises climb, and later ones use what earlier ones taught.
#
# - `check(name)` tries your code on runs and networks that you may not have thought of, and shows the first one that
#   fails. Where an exercise writes to a `writer`, `check` passes one that notes each call, and compares what was
#   written.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# The names in brackets are sizes: `(n, d)` is n rows of d numbers. Arguments stay as they are: the caller still needs
# them.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import struct
from pathlib import Path

import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# One idea each: names of runs, units that died, filters as pictures.

# %% [markdown]
# ### `run_name` · 1 point · ●○○ · about 6 min
#
# A *sweep* trains the same network with several settings, the *hyperparameters*. It needs one directory per run, and
# its name should tell the settings. Given a dictionary of hyperparameters, return `key=value` for each, sorted by key
# (as `sorted` does it: capitals first) and joined by commas. Numbers with a decimal point (`float`) are written with
# the format `g`, so that 0.1 + 0.2 becomes `0.3`; all other values as `str` writes them. A `/` in the result would make
# two directories of it: each becomes a `-`. Without any settings the name is `default`.
#
# `{"lr": 0.001, "batch_size": 64}` becomes `batch_size=64,lr=0.001`.


# %%
def run_name(hparams: dict[str, object]) -> str:
    """The settings of a run as the name of its directory.

    hparams: {name: a float, int, bool or str}. Returns "name=value,name=value", sorted by name.
    """
    ### BEGIN SOLUTION
    parts = []
    for name in sorted(hparams):
        value = hparams[name]
        parts.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return ",".join(parts).replace("/", "-") or "default"
    ### END SOLUTION


# %%
check(run_name)

# %% [markdown]
# ### `dead_units` · 1 point · ●○○ · about 6 min
#
# A unit behind a ReLU that gives 0 for every example is dead: no gradient reaches its weights any more. Given the
# outputs of a ReLU for n examples, return the share of dead units as a Python float. Axis 1 counts the units. After a
# linear layer the outputs have shape `(n, units)`; after a convolution `(n, units, h, w)`, where a unit is a whole
# channel: it is dead if it is 0 for every example *and* at every place.
#
# `[[0, 0, 2], [0, 5, 1]]` has three units. Only the first is dead: the share is 1/3.


# %%
def dead_units(activations: torch.Tensor) -> float:
    """The share of units that are 0 for all examples, from 0.0 to 1.0.

    activations: float, shape (n, units) or (n, units, h, w), all sizes at least 1, values at least 0.
    """
    ### BEGIN SOLUTION
    alive = (activations != 0).transpose(0, 1).flatten(1).any(dim=1)  # (units,)
    return 1 - alive.float().mean().item()
    ### END SOLUTION


# %%
check(dead_units)

# %% [markdown]
# ### `filters_as_images` · 1 point · ●○○ · about 8 min
#
# TensorBoard draws values from 0 to 1; what lies below is black. Given the weights of a convolution, shape `(filters,
# channels, h, w)`, scale each filter *on its own*: its smallest weight becomes 0, its largest 1, and what lies between
# stays in proportion, however small the difference. The channels of a filter are the colours of one picture, so they
# are scaled together. A filter whose weights are all equal becomes 0.5 everywhere.
#
# The two filters `[[[[-1, 0, 3]]], [[[2, 2, 2]]]]`, shape `(2, 1, 1, 3)`, become
# `[[[[0, 0.25, 1]]], [[[0.5, 0.5, 0.5]]]]`.


# %%
def filters_as_images(weight: torch.Tensor) -> torch.Tensor:
    """Each filter scaled to [0, 1].

    weight: float, shape (filters, channels, h, w), all sizes at least 1. Returns the same dtype and shape.
    """
    ### BEGIN SOLUTION
    low = weight.amin(dim=(1, 2, 3), keepdim=True)  # (filters, 1, 1, 1)
    high = weight.amax(dim=(1, 2, 3), keepdim=True)
    scaled = (weight - low) / (high - low)  # 0 / 0 is NaN where all are equal
    return torch.where(high > low, scaled, 0.5)
    ### END SOLUTION


# %%
check(filters_as_images)

# %% [markdown]
# ## Apply
#
# The parts that a training program needs: a sheet of pictures, gradients, smoothing.

# %% [markdown]
# ### `image_grid` · 2 points · ●●○ · about 12 min
#
# `add_image` takes one picture. Put n pictures into one: from left to right, in rows of `columns`, without gaps. Given
# images of shape `(n, c, h, w)`, return shape `(c, H, W)`. The width W is always `columns` · w, even if there are fewer
# images than columns. As many rows as needed; the places that are left over in the last row are 0.
#
# Three images of one pixel, `[[[[1]]], [[[2]]], [[[3]]]]`, in two columns give `[[[1, 2], [3, 0]]]`, shape `(1, 2, 2)`.
# (The values of real pictures lie in 0…1; here they only number the pixels.)


# %%
def image_grid(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Images side by side in one picture.

    images: float32 from 0 to 1, shape (n, c, h, w), all sizes at least 1. columns: at least 1.
    Returns float32, shape (c, rows · h, columns · w).
    """
    ### BEGIN SOLUTION
    n, c, h, w = images.shape
    rows = -(-n // columns)  # n / columns, rounded up
    places = images.new_zeros(rows * columns, c, h, w)
    places[:n] = images
    grid = places.reshape(rows, columns, c, h, w).permute(2, 0, 3, 1, 4)  # (c, rows, h, columns, w)
    return grid.reshape(c, rows * h, columns * w)
    ### END SOLUTION


# %%
check(image_grid)

# %% [markdown]
# ### `log_gradients` · 2 points · ●●○ · about 10 min
#
# Write down how the gradients of a model look after `backward()`. For each parameter that has a gradient, write a
# histogram of the gradient under the tag `gradients/NAME`, where NAME is the parameter's name in
# `model.named_parameters()`. Then write one scalar, `grad_norm`: the norm of all these gradients together, as if they
# were one long vector (the root of the sum of all their squares). A parameter whose gradient is `None` is left out, and
# only such: a frozen one may still have a gradient. Everything is written at the given step. The gradients stay as they
# are.
#
# Two parameters with the gradients `[3]` and `[[4]]`: two histograms, and `grad_norm` 5.


# %%
def log_gradients(writer, model: nn.Module, step: int) -> None:
    """Histograms of all gradients, and their norm, at `step`.

    writer: has `add_histogram(tag, values, step)` and `add_scalar(tag, value, step)`, as a SummaryWriter. Pass the
    arguments by position: a SummaryWriter calls the last `global_step`. A tensor of one number will do as a value.
    """
    ### BEGIN SOLUTION
    squares = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad, step)
            squares += parameter.grad.square().sum()
    writer.add_scalar("grad_norm", squares**0.5, step)
    ### END SOLUTION


# %%
check(log_gradients)

# %% [markdown]
# ### `smooth` · 2 points · ●●○ · about 10 min
#
# Write TensorBoard's smoothing. From the values x₁, x₂, … and a weight β it computes a running mean, s₀ = 0 and
# sₙ = β · sₙ₋₁ + (1 − β) · xₙ, and shows sₙ / (1 − βⁿ). The division takes out the pull of the start at 0.
#
# For the values 4, 2 and β = 0.5: s₁ = 2 and s₂ = 2. Shown are 2 / 0.5 = 4 and 2 / 0.75 = 2.6667.
#
# A loop over the values is allowed.


# %%
def smooth(values: torch.Tensor, weight: float) -> torch.Tensor:
    """A curve as TensorBoard smooths it.

    values: float64, shape (n,), n may be 0. weight: β, from 0 up to, but not including, 1. Returns float64, shape (n,).
    """
    ### BEGIN SOLUTION
    smoothed = torch.empty_like(values)
    mean = 0
    for index, value in enumerate(values):
        mean = weight * mean + (1 - weight) * value
        smoothed[index] = mean / (1 - weight ** (index + 1))
    return smoothed
    ### END SOLUTION


# %%
check(smooth)

# %% [markdown]
# ## Combine
#
# From files to results, and from a network to the projector.

# %% [markdown]
# ### `read_scalars` · 3 points · ●●○ · about 15 min
#
# Read all scalars of one run. `logdir` holds any number of event files, perhaps none; read all that lie *directly* in
# it. Return a dictionary: for each tag a pair of tensors, the steps and the values, with the steps ascending. Where a
# step was written more than once, the newest value counts: the one with the largest wall time, in whichever file it
# stands. NaN and infinity are values like others. Without values there are no tags: the dictionary is empty.
#
# If one file holds loss 3.0 at step 0 and 2.0 at step 1, and a later file loss 1.5 at step 1 and 1.0 at step 2, the
# result is `{"loss": (tensor([0, 1, 2]), tensor([3.0, 1.5, 1.0]))}`.
#
# The values were written by `add_scalar`, and there are fewer than 1,000 per tag.


# %%
def read_scalars(logdir: str | Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """{tag: (steps int64 (n,), values float64 (n,))} of the event files directly in `logdir`; {} if there are none."""
    ### BEGIN SOLUTION
    events = EventAccumulator(str(logdir)).Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        newest = {}
        for event in sorted(events.Scalars(tag), key=lambda event: event.wall_time):
            newest[event.step] = event.value  # a later value takes the place of an earlier one
        steps = sorted(newest)
        values = [newest[step] for step in steps]
        curves[tag] = (torch.tensor(steps), torch.tensor(values, dtype=torch.float64))
    return curves
    ### END SOLUTION


# %%
check(read_scalars)

# %% [markdown]
# ### `best_run` · 2 points · ●●○ · about 12 min
#
# Which run of a sweep was the best? Each directory *directly* under `logdir` is a run. The best value of a run is the
# largest value of the tag at any step (`mode="max"`) or the smallest (`mode="min"`), not the last. Return the *name* of
# the directory whose best value is best. Runs that do not have the tag are passed over.
#
# `check` tries no equal best values, no NaN and no folder in which no run has the tag. For your own sweeps, decide what
# happens then: drop NaN before you compare, since no comparison with NaN is true, and return `None` where there is no
# best run.
#
# Run `a` reached accuracy 0.7, 0.9, 0.8 and run `b` 0.6, 0.8, 0.85: the best is `"a"`.


# %%
def best_run(logdir: str | Path, tag: str, mode: str = "max") -> str | None:
    """The name of the run directly under `logdir` whose best value of the tag is best. mode: "max" or "min"."""
    ### BEGIN SOLUTION
    sign = 1 if mode == "max" else -1
    best = {}
    for run in (path for path in Path(logdir).iterdir() if path.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        if tag in events.Tags()["scalars"]:
            best[run.name] = max(sign * event.value for event in events.Scalars(tag))
    return max(best, key=best.get, default=None)
    ### END SOLUTION


# %%
check(best_run)

# %% [markdown]
# ### `seed_band` · 2 points · ●●○ · about 10 min
#
# The same settings were trained with several seeds. Draw one curve with a band around it: given one pair (steps,
# values) per run, as `read_scalars` returns them, compute the mean and the standard deviation over the *runs*, at each
# step that *all* runs have. The standard deviation divides by the number of runs, so that a single run has the band 0.
#
# Run 1 has the values 1, 5 at the steps 0, 10; run 2 has 3, 4, 7 at the steps 0, 5, 10. Common steps are 0 and 10; the
# means are 2 and 6, the standard deviations 1 and 1.


# %%
def seed_band(runs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(common steps int64 (k,) ascending, mean float64 (k,), standard deviation float64 (k,)); k may be 0.

    runs: at least one pair (steps int64 (n,) ascending, each once, values float64 (n,)); n differs from run to run.
    """
    ### BEGIN SOLUTION
    common = runs[0][0]
    for steps, _ in runs:
        common = common[torch.isin(common, steps)]
    table = torch.stack([values[torch.isin(steps, common)] for steps, values in runs])  # (runs, k)
    mean = table.mean(dim=0)
    return common, mean, (table - mean).square().mean(dim=0).sqrt()
    ### END SOLUTION


# %%
check(seed_band)

# %% [markdown]
# ### `embed` · 3 points · ●●● · about 20 min
#
# Send what a layer knows to the projector. Run `model` on `images`, catch the output of the submodule `layer` by a
# forward hook, and pass it on by *one* call of `writer.add_embedding`:
#
# - `mat`: the output of the layer, flattened to `(n, d)`.
# - `metadata`: the labels, one number or text for each. `label_img`: the images, as given. Tag and step are yours to
#   choose.
#
# Afterwards your hook is gone from the model.
#
# The models of `check` come in `eval` mode. In a training program, switch to `eval` mode first and put the mode of each
# module back afterwards; remove the hook in `finally`, so that it goes after an error too; compute under
# `torch.no_grad()`; and keep a `clone()` if the next layer works in place, such as `nn.ReLU(inplace=True)`. That is
# good practice, and not checked.
#
# A layer whose output for 2 images has shape `(2, 3, 4, 4)` gives a `mat` of shape `(2, 48)`.


# %%
def embed(writer, model: nn.Module, layer: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The features of a layer, with labels and thumbnails, to the projector.

    writer: has `add_embedding(mat, metadata, label_img)`, as a SummaryWriter. layer: a dotted name, such as
    "features.0"; the model calls that layer once. images: float, shape (n, c, h, w), n ≥ 1. labels: int64 (n,).
    """
    ### BEGIN SOLUTION
    caught = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: caught.append(output))
    try:
        with torch.no_grad():
            model(images)
    finally:
        hook.remove()
    writer.add_embedding(caught[0].flatten(1), metadata=labels.tolist(), label_img=images)
    ### END SOLUTION


# %%
check(embed)

# %% [markdown]
# ## Debug
#
# This program runs without an error, and TensorBoard draws its curves. They are wrong.

# %% [markdown]
# ### `train_and_log` · 3 points · ●●● · about 15 min
#
# Wanted: the mean squared error of each training batch under `loss/train`, and that of the validation data under
# `loss/validation` after each epoch. All curves share one horizontal axis, the number of batches trained on *before*
# the value was computed: the first batch is step 0, and with 3 batches per epoch the first validation is at step 3.
# Training runs in train mode, validation in eval mode and without a graph, and afterwards the model is in train mode.
# The writer gets Python floats, since it may keep what it gets, and a tensor would keep its graph.
#
# With 3 batches and 2 epochs, the right program writes `loss/train` at the steps 0, 1, 2, 3, 4, 5 and `loss/validation`
# at 3 and 6. The program below writes them at 0, 1, 2, 0, 1, 2 and at 0 and 1, and it trains differently from the
# second epoch on. Find its five faults and write the mended function.


# %%
def broken_train_and_log(model, batches, validation, optimizer, writer, epochs):
    for epoch in range(epochs):
        for step, (x, y) in enumerate(batches):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss/train", loss, step)
        model.eval()
        x, y = validation
        writer.add_scalar("loss/validation", F.mse_loss(model(x), y), epoch)


# %%
def train_and_log(model: nn.Module, batches: list, validation: tuple, optimizer, writer, epochs: int) -> None:
    """Train on mean squared error; write `loss/train` per batch and `loss/validation` per epoch.

    batches: a list of pairs (x, y), the same in each epoch. validation: one pair (x, y). epochs: at least 1.
    writer: has `add_scalar(tag, value, step)`, arguments by position, as a SummaryWriter.
    """
    ### BEGIN SOLUTION
    step = 0
    for _ in range(epochs):
        model.train()
        for x, y in batches:
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss/train", loss.item(), step)
            step += 1
        model.eval()
        x, y = validation
        with torch.no_grad():
            writer.add_scalar("loss/validation", F.mse_loss(model(x), y).item(), step)
    model.train()
    ### END SOLUTION


# %%
check(train_and_log)

# %% [markdown]
# ## Build
#
# Two tools of your own: a writer that writes less, and a reader that needs no TensorBoard.

# %% [markdown]
# ### `ThrottledWriter` · 3 points · ●●● · about 15 min
#
# A program logs at every step, and you cannot change it. Put a writer of your own between it and the real one:
# `ThrottledWriter(writer, every)` has `add_scalar(tag, value, step)` and `close()`. Of the calls of each tag it passes
# on the first, and from then on every `every`-th: with `every=3` the calls 1, 4, 7, … of that tag. Tags are counted
# separately. `close()` passes on, for each tag, the last call if it was held back, so that each curve ends where the
# training ended; then it closes the writer. Values and steps may be 0, and a program may have several such writers.
#
# With `every=3` and five calls of one tag at the steps 10, 11, 12, 13, 14, the writer gets those of 10 and 13 at once,
# and that of 14 on `close()`.


# %%
class ThrottledWriter:
    """Passes on the first and then every `every`-th value of each tag, and on closing the last.

    writer: has `add_scalar(tag, value, step)`, arguments by position, and `close()`, as a SummaryWriter.
    every: at least 1.
    """

    def __init__(self, writer, every: int):
        ### BEGIN SOLUTION
        self.writer = writer
        self.every = every
        self.counts = {}  # tag -> number of calls so far
        self.held = {}  # tag -> the last call, if it was held back
        ### END SOLUTION

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Pass the value on, or hold it back."""
        ### BEGIN SOLUTION
        count = self.counts.get(tag, 0)
        self.counts[tag] = count + 1
        if count % self.every == 0:
            self.held.pop(tag, None)
            self.writer.add_scalar(tag, value, step)
        else:
            self.held[tag] = (value, step)
        ### END SOLUTION

    def close(self) -> None:
        """Pass on the last value of each tag if it was held back, then close the writer."""
        ### BEGIN SOLUTION
        for tag, (value, step) in self.held.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.close()
        ### END SOLUTION


# %%
check(ThrottledWriter)

# %% [markdown]
# ### `read_records` · 3 points · ●●● · about 15 min
#
# Read an event file without TensorBoard, even while a program still writes it. The file is a row of records: 8 bytes
# with the length n of the data (a whole number without sign, lowest byte first), 4 bytes of checksum, n bytes of data,
# 4 bytes of checksum. Return the data of each record, in order. The last record may be incomplete, cut off anywhere,
# also inside its last checksum: leave it out. The checksums themselves need not be checked.
#
# The file `02 00 00 00 00 00 00 00 · c c c c · 41 42 · c c c c` (hexadecimal; c stands for any byte of a checksum)
# holds one record of two bytes: the result is `[b"AB"]`. Without its last byte, the result is `[]`.
#
# Not allowed: TensorBoard's own readers, because this exercise builds one.


# %%
def read_records(path: str | Path) -> list[bytes]:
    """The data of each complete record of an event file."""
    ### BEGIN SOLUTION
    records = []
    with Path(path).open("rb") as file:
        while len(start := file.read(12)) == 12:
            (length,) = struct.unpack_from("<Q", start)
            rest = file.read(length + 4)
            if len(rest) < length + 4:
                break
            records.append(rest[:length])
    return records
    ### END SOLUTION


# %%
check(read_records)

# %% [markdown]
# ## What you have solved

# %% tags=["nbval-ignore-output"]
progress()
