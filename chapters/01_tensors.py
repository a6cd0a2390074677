# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tensors and einsum

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
# Whatever a neural network reads, stores or returns is a tensor: numbers in a grid with any number of axes. Many bugs,
# of beginners and experts alike, are tensors of the wrong shape, of the wrong type, or in shared memory. You will learn
# to say what shape, type and memory each step produces *before* you run it, and to write sums over any axes as one line
# of `einsum`.
#
# ## Before you start
#
# You need Python (functions, loops, lists) and the product of two matrices as taught at school. NumPy helps, but each
# idea is explained here. No PyTorch is assumed.
#
# Every section has a *Predict* box. Write your answer down before you run the cell: a wrong prediction is what you came
# for. Some cells end in an error. They are meant to: each is followed by the version that works.
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about three and a half more. Afterwards you can
#
# - create tensors, and say their shape, dtype and device without looking;
# - tell a view from a copy, and explain why `view` refuses where `reshape` works;
# - use broadcasting on purpose, and notice it where it does harm;
# - reduce, select, mask and rank along the right axis, with missing values present;
# - read and write `einsum`, and recognise attention, convolution and an LSTM in it;
# - time an operation so that the number means something.

# %% [markdown]
# ## What does PyTorch see when it looks at a picture?
#
# The pictures are Fashion-MNIST: 28 × 28 grey pixels each, of ten kinds of clothing. We take the first 256, and scale
# the pixels from 0…255 to 0…1.
#
# :::{admonition} Predict
# :class: tip
# `images` holds a batch of 256 pictures with one colour channel. Its shape has four numbers. Which, in which order?
# :::

# %%
import numpy as np
import torch
import torch.nn.functional as F

from course_utils import datasets, device, measure, seed_everything
from course_utils.plotting import heat_map, image_grid

fashion = datasets.fashion_mnist()
pixels = fashion.data[:256]  # (images, height, width), whole numbers
labels = fashion.targets[:256]  # (images,), numbers of classes
names = [fashion.classes[label] for label in labels]
images = pixels.unsqueeze(1) / 255  # (images, channels, height, width)

print(images.shape, images.dtype, images.device)
print(images.ndim, "axes,", images.numel(), "numbers")
print(images.numel() * images.element_size(), "bytes")

# %% [markdown]
# Three properties describe a tensor. The **shape** gives the length of each axis; here the axes are image, channel,
# height and width. The **dtype** is the type that all its numbers share; `float32` takes 4 bytes per number. The
# **device** is where the memory lies: `cpu`, or a GPU such as `cuda:0` or `mps`. (NumPy people say *axis*, PyTorch's
# arguments say `dim`: the same thing.)

# %% mystnb={"figure": {"caption": "The first 16 of 256 pictures: the first axis of `images` counts them.", "name": "fig-tensors-batch"}, "image": {"alt": "Two rows of eight small grey pictures of clothing, each with its class; the first is an ankle boot."}}
image_grid(
    images[:16],
    labels=names[:16],
    columns=8,
    alt="Two rows of eight small grey pictures of clothing, each with its class; the first is an ankle boot.",
)

# %% [markdown]
# A picture is numbers all the way down. Here is a corner of the ankle boot, before scaling:

# %% mystnb={"figure": {"caption": "Rows 10 to 17 and columns 8 to 15 of the first picture.", "name": "fig-tensors-pixels"}, "image": {"alt": "An 8 by 8 grid of pixel values: 0 in the upper left, about 200 where the boot is, right and below."}}
heat_map(
    pixels[0, 10:18, 8:16],
    title="pixels[0, 10:18, 8:16]",
    alt="An 8 by 8 grid of pixel values: 0 in the upper left, about 200 where the boot is, right and below.",
)

# %% [markdown]
# The order of axes is a convention. This book uses these, and so do most layers. (A *layer* is one step of a network.)
# `nn.LSTM` and its relatives need `batch_first=True` for it.
#
# | data | shape |
# |---|---|
# | one loss | `()`: no axis at all, a *scalar* |
# | one measurement per feature | `(features,)` |
# | a table | `(samples, features)` |
# | sentences of word vectors | `(batch, time, features)` |
# | pictures | `(batch, channels, height, width)` |
# | films | `(batch, channels, time, height, width)` |
#
# Axis 0 is nearly always the **batch**: independent examples, worked on at once.
#
# **What goes wrong in practice.** A picture file holds the three colours of a pixel together: channels last. A layer
# looks for them on axis 1, and finds the height there. (`conv2d` slides 5 × 5 filters over the picture; a 28-wide
# picture has 24 places for them. A later section takes it apart.)

# %% tags=["raises-exception"]
photo = torch.zeros(1, 28, 28, 3)  # (batch, height, width, channels)
filters = torch.ones(8, 3, 5, 5)  # (out channels, in channels, height, width)
F.conv2d(photo, filters)

# %%
channels_first = photo.permute(0, 3, 1, 2)  # (batch, channels, height, width)
print(F.conv2d(channels_first, filters).shape)

# %% [markdown]
# `permute` puts the axes in the order that you name; more of it below.
#
# :::{important} To remember
# Name your axes: put the shape of each new tensor in a comment, as in `# (batch, time, features)`.
# :::

# %% [markdown]
# ## How do I make a tensor?
#
# `torch.tensor` copies nested lists into a tensor. It chooses the dtype by looking at the values.
#
# :::{admonition} Predict
# :class: tip
# Which dtype does `torch.tensor([1, 2])` have, and which `torch.tensor([1, 2.0])`?
# :::

# %%
print(torch.tensor([1, 2]).dtype)
print(torch.tensor([1, 2.0]).dtype)
print(torch.tensor([True, False]).dtype)

# %% [markdown]
# Whole numbers become `int64`. One decimal point makes everything `float32`, in which networks compute. The other
# constructors take a shape, and a `dtype` if the default will not do:

# %%
print(torch.zeros(2, 3))
print(torch.ones(2, 3, dtype=torch.int64))
print(torch.full((2, 3), 7.0))
print(torch.eye(3))
print(torch.arange(2, 11, 3))  # from 2, below 11, in steps of 3
print(torch.linspace(0, 1, 5))  # 5 points, both ends included
print(torch.zeros_like(images).shape)  # shape, dtype and device of another tensor

# %% [markdown]
# **What goes wrong in practice.** A tensor is a full grid. Sentences of different lengths are not:

# %% tags=["raises-exception"]
sentences = [[4, 8, 15], [16, 23]]  # word numbers
torch.tensor(sentences)

# %% [markdown]
# Pad the short ones with a number that stands for "nothing", and keep a mask that says which entries are real:

# %%
longest = max(len(sentence) for sentence in sentences)
padded = torch.zeros(len(sentences), longest, dtype=torch.int64)  # (sentences, time)
for row, sentence in enumerate(sentences):
    padded[row, : len(sentence)] = torch.tensor(sentence)
print(padded)
print(padded != 0)

# %% [markdown]
# :::{admonition} Myth: "`torch.Tensor(3, 2, 4)` makes a tensor of random values"
# :class: warning
# It prints odd numbers, so it looks random. But no random number is drawn. Each draw moves the state of the random
# generator; the next cell checks whether it moved.
# :::

# %%
before = torch.get_rng_state()
torch.Tensor(3, 2, 4)
print("torch.Tensor drew numbers:", not torch.equal(torch.get_rng_state(), before))
torch.rand(3, 2, 4)
print("torch.rand drew numbers:  ", not torch.equal(torch.get_rng_state(), before))

# %% [markdown]
# `torch.Tensor(3, 2, 4)` is an old spelling of `torch.empty(3, 2, 4)`: it reserves memory and writes nothing. You see
# whatever bytes the previous owner left: often zeros, sometimes 1e-38 or `nan`, and no seed changes that. PyTorch can
# fill such memory with `nan`, so that a program that relies on it shows itself:

# %%
torch.use_deterministic_algorithms(True)  # also marks memory that nobody has written
print("torch.Tensor, all nan:", torch.Tensor(3, 2, 4).isnan().all().item())
print("torch.empty,  all nan:", torch.empty(3, 2, 4).isnan().all().item())
print("torch.rand,   any nan:", torch.rand(3, 2, 4).isnan().any().item())
torch.use_deterministic_algorithms(False)

# %% [markdown]
# Use `torch.rand` or `torch.randn` for random numbers, and `torch.empty` only for memory that you will fill completely.
# The old constructor has a second surprise. Given a list, it makes the default dtype, `float32` unless you changed it,
# which has no room for large whole numbers:

# %%
print(int(torch.Tensor([16_777_217])), int(torch.tensor([16_777_217])))

# %% [markdown]
# The identifier of a user or a word has become that of its neighbour, without a warning.
#
# :::{important} To remember
# `torch.tensor(values)` for values, `torch.zeros`/`ones`/`randn(shape)` for a shape, `torch.Tensor` for neither.
# :::

# %% [markdown]
# ## How do I draw the same random numbers twice?
#
# `torch.rand` draws uniformly from [0, 1), `torch.randn` from the normal distribution with mean 0 and standard
# deviation 1. Both take their numbers from a generator whose start is the **seed**.
#
# :::{admonition} Predict
# :class: tip
# Which two of the three draws are equal: `first`, `second`, `again`?
# :::

# %%
torch.manual_seed(6)
first, second = torch.rand(3), torch.rand(3)
torch.manual_seed(6)
again = torch.rand(3)
print("first = second:", torch.equal(first, second))
print("first = again: ", torch.equal(first, again))

sample = torch.randn(100_000)
print(f"randn: mean {sample.mean():.1f}, standard deviation {sample.std():.1f}")
print(torch.randint(0, 10, (5,)))  # five whole numbers from 0 to 9
print(torch.randperm(5))  # the numbers 0 to 4 in random order

# %% [markdown]
# A seed fixes the *sequence*, not each draw: `second` is the continuation of `first`.
#
# **What goes wrong in practice.** All code shares one generator. Someone adds a line that draws a number, and
# everything after it changes:

# %%
torch.manual_seed(0)
weights = torch.randn(3)

torch.manual_seed(0)
torch.rand(1)  # a new line, for something unrelated
print("same weights:", torch.equal(weights, torch.randn(3)))

# %% [markdown]
# Give what must stay the same a generator of its own:

# %%
weights = torch.randn(3, generator=torch.Generator().manual_seed(0))

torch.rand(1)
again = torch.randn(3, generator=torch.Generator().manual_seed(0))
print("same weights:", torch.equal(weights, again))

# %% [markdown]
# `seed_everything(seed)` of this course seeds the shared generators of Python, NumPy and PyTorch together. Even then,
# equal seeds promise equal numbers only for the same PyTorch release on the same kind of device.
#
# :::{important} To remember
# One seed at the start makes a run repeatable; a generator of its own makes one part of it robust.
# :::

# %% [markdown]
# ## When do NumPy and PyTorch share memory?
#
# A tensor on the CPU and a NumPy array can be two names for the same bytes. That saves a copy, and lets each change the
# other.
#
# :::{admonition} Predict
# :class: tip
# `a` is `torch.from_numpy(array)`, `b` is `torch.tensor(array)`. After `array[0] = 100`: which of the two begins with
# 100?
# :::

# %%
array = np.array([1.0, 2.0, 3.0], dtype=np.float32)
a = torch.from_numpy(array)
b = torch.tensor(array)
array[0] = 100
print(a, b)

back = a.numpy()  # shares as well
back[1] = -5
print(array)

# %% [markdown]
# `torch.from_numpy` and `.numpy()` share. `torch.tensor` copies, always. `torch.as_tensor` shares where it can and
# copies where it must, for example to change the dtype. A tensor on a GPU has no NumPy form: bring it back first,
# `tensor.detach().cpu().numpy()`. On a tensor that is on the CPU already, `.cpu()` costs nothing and returns the tensor
# itself. (`detach` is for chapter 2.) For plain Python there are `.item()`, the number in a tensor of one entry, and
# `.tolist()`, nested lists.
#
# :::{admonition} Myth: "`torch.Tensor(array)` makes a copy"
# :class: warning
# It copies only when it has to convert. An array that is `float32` already is shared:
# :::

# %%
for dtype in (np.int64, np.float64, np.float32):
    array = np.ones(3, dtype)
    tensor = torch.Tensor(array)
    array[0] = 100
    print(f"{array.dtype.name:8} shared: {tensor[0].item() == 100}")

# %% [markdown]
# The same line copies one array and shares the next. Say what you mean: `torch.tensor(array)` to copy,
# `torch.from_numpy(array)` to share.
#
# **What goes wrong in practice.** NumPy computes in `float64`, PyTorch's layers in `float32`, and a matrix product does
# not mix them:

# %% tags=["raises-exception"]
weights = torch.ones(3, 2)  # (features, outputs), float32
table = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])  # (samples, features), float64
torch.from_numpy(table) @ weights

# %% [markdown]
# Messages and methods use older names: byte is `uint8`, int `int32`, long `int64`, half `float16`, float `float32`,
# double `float64`. Convert once, where the data comes in:

# %%
torch.tensor(table, dtype=torch.float32) @ weights

# %% [markdown]
# :::{important} To remember
# `from_numpy` shares, `tensor` copies; NumPy's floats are `float64` until you convert them.
# :::
#
# *Exercise:* `image_to_tensor`.

# %% [markdown]
# ## Which dtype comes out?
#
# Dtypes come in kinds: `bool`, then integers, then floats. When two tensors meet in `+`, `-` or `*`, the result has the
# higher kind, wide enough for every operand *of that kind*. A Python number can raise the kind, but never widens it. A
# tensor without axes counts like a Python number: within a kind it widens nothing.
#
# :::{admonition} Predict
# :class: tip
# What is `-7 // 2`, and what is `250 + 10` in `uint8`, the dtype of pixels?
# :::

# %%
whole = torch.tensor([7, -7])
print(whole / 2, whole // 2, whole % 2)
print((whole * True).dtype, (whole * 1.0).dtype)
print((torch.ones(2, dtype=torch.float16) * 2.5).dtype)
print(torch.tensor([250], dtype=torch.uint8) + 10)

# %% [markdown]
# `/` always gives floats. `//` rounds *down*, so −7 // 2 is −4; `%` is what remains, and is never negative for a
# positive divisor. `uint8` ends at 255 and starts again at 0: 260 becomes 4. There is no error. But `1 - mask` raises an
# error for a mask of `bool`: the opposite of a mask is `~mask`.
#
# **What goes wrong in practice.** Brighten pictures by 100, and the brightest parts turn dark:

# %% mystnb={"figure": {"caption": "Brighter by 100. Above: in `uint8`, bright pixels wrap round to dark ones. Below: computed in `float32` and limited to 255.", "name": "fig-tensors-uint8"}, "image": {"alt": "Two rows of four garments. Above, their bright parts have turned black; below, they are brighter."}}
wrapped = pixels[:4] + 100
mended = (pixels[:4].float() + 100).clamp(max=255)
image_grid(
    torch.cat([wrapped, mended]) / 255,
    labels=["uint8"] * 4 + ["float32, clamped"] * 4,
    columns=4,
    alt="Two rows of four garments. Above, their bright parts have turned black; below, they are brighter.",
)

# %% [markdown]
# Integers also refuse what would need a fraction:

# %% tags=["raises-exception"]
pixels.mean()

# %%
print(f"{pixels.float().mean():.2f}")
print(torch.tensor([2.7, -2.7]).long(), torch.tensor([70_000.0]).half())

# %% [markdown]
# `.float()`, `.long()`, `.half()` and `.to(dtype)` convert. Conversion to integers cuts the fraction off towards zero;
# `.round()` before it goes to the nearest whole number. The largest number of `float16` is 65,504; what rounds beyond it
# is `inf`.
#
# :::{important} To remember
# Convert integers to floats before you compute, not after.
# :::
#
# *Exercise:* `to_image`.

# %% [markdown]
# ## How do I pick out a part?
#
# Square brackets take at most one entry per axis: a number, a slice `start:stop:step`, or `...` for all axes in between.
# Axes left out at the end are taken whole.
#
# :::{admonition} Predict
# :class: tip
# `x` has the shape (3, 4). Which shapes do `x[:, 1]` and `x[:, 1:2]` have?
# :::

# %%
x = torch.arange(12).reshape(3, 4)
print("x[1]      ", x[1].shape, x[1])
print("x[:, 1]   ", x[:, 1].shape, x[:, 1])
print("x[:, 1:2] ", x[:, 1:2].shape)
print("x[..., -1]", x[..., -1].shape, x[..., -1])
print("x[None]   ", x[None].shape)

# %% [markdown]
# A number removes its axis, a slice keeps it, `None` inserts an axis of length 1. Negative numbers count from the end.
# On the left of `=`, the same brackets say where to write. A boolean tensor of the same shape picks the entries where
# it is true:

# %% mystnb={"figure": {"caption": "Each expression marks with 1 what it picks from a tensor of shape (3, 4).", "name": "fig-tensors-index"}, "image": {"alt": "Five grids, marked: the middle row, the second column, the last column, columns 0 and 2, the last five."}}
expressions = ["x[1]", "x[:, 1:2]", "x[..., -1]", "x[:, ::2]", "x[x > 6]"]
marks = {expression: torch.zeros(3, 4) for expression in expressions}
marks["x[1]"][1] = 1
marks["x[:, 1:2]"][:, 1:2] = 1
marks["x[..., -1]"][..., -1] = 1
marks["x[:, ::2]"][:, ::2] = 1
marks["x[x > 6]"][x > 6] = 1
heat_map(
    marks, alt="Five grids, marked: the middle row, the second column, the last column, columns 0 and 2, the last five."
)

# %% [markdown]
# **What goes wrong in practice.** You want the block of rows 0 and 2 and columns 1 and 3. Two lists do not give it: they
# are read in pairs, as the points (0, 1) and (2, 3). So are two tensors of `int64`.

# %%
rows, columns = [0, 2], [1, 3]
print(x[rows, columns])
print(x[rows][:, columns])

# %% [markdown]
# And unlike a list, a tensor takes no negative step:

# %% tags=["raises-exception"]
x[:, ::-1]

# %%
x.flip(dims=(1,))

# %% [markdown]
# :::{important} To remember
# A number removes an axis, a slice keeps it, `None` adds one; several lists pick points, not blocks, unless their shapes
# broadcast to a block.
# :::
#
# *Exercise:* `gather_last_step`.

# %% [markdown]
# ## Why did my slice change the original?
#
# A slice is a **view**: a second tensor on the same memory. Picking with a list or a mask makes a **copy**.
#
# :::{admonition} Predict
# :class: tip
# The cell writes −1 through `x[0]`, picked by a number, and through `x[[1]]`, picked by a list. Which rows of `x`
# change?
# :::

# %%
x = torch.arange(6).reshape(2, 3)
x[0].fill_(-1)
x[[1]].fill_(-1)
print(x)

# %% [markdown]
# Only row 0: `x[[1]]` was a new tensor, filled and forgotten. `x[[1]] = -1` would have written into `x`: one pair of
# brackets on the left of `=` copies nothing. Two pairs may: `x[rows][:, columns] = -1` writes into the copy `x[rows]`,
# which is forgotten. To write a block, make the row numbers a column:

# %%
x = torch.arange(12).reshape(3, 4)
rows, columns = [0, 2], [1, 3]
x[rows][:, columns] = -1
print("written:", (x == -1).any().item())
x[[[0], [2]], [1, 3]] = -1
print(x)

# %% [markdown]
# Numbers, slices, `view`, `permute`, `unsqueeze` and `expand` give views; lists, index tensors with at least one axis,
# masks, `clone` and arithmetic give new memory. A method whose name ends in `_` works *in place*: it writes into the
# tensor itself, and so into every view on it. So do `+=` and its relatives.
#
# **What goes wrong in practice.** A function centres a picture, and silently edits the data set:


# %%
def centred(image):
    image -= image.mean()  # in place: this is the caller's memory
    return image


batch = images[:8].clone()
centred(batch[0])
print("batch unchanged:", torch.equal(batch, images[:8]))


# %%
def centred(image):
    return image - image.mean()


batch = images[:8].clone()
centred(batch[0])
print("batch unchanged:", torch.equal(batch, images[:8]))

# %% [markdown]
# :::{important} To remember
# A slice is a window on the same memory. Write in place only into tensors that you made; otherwise `clone()` first.
# :::

# %% [markdown]
# ## Why does `view` refuse where `reshape` works?
#
# Memory is one long line of numbers. A tensor adds a **stride** per axis: how many places to move on that line for one
# step along the axis. Swapping axes needs no copy, only other strides. The helper below shows for each entry its place
# on the line.
#
# :::{admonition} Predict
# :class: tip
# `x` has the shape (3, 4), so its strides are (4, 1): one step down skips a row of four. Which strides does `x.T` have?
# :::


# %%
def places(x):
    """For each entry of `x`, its place in the memory behind `x`."""
    line = torch.arange(x.untyped_storage().nbytes() // x.element_size())
    return line.as_strided(x.shape, x.stride(), x.storage_offset())


x = torch.zeros(3, 4)
views = {"x": x, "x.T": x.T, "x[:, ::2]": x[:, ::2], "x[1:, 1:]": x[1:, 1:]}
for name, view in views.items():
    print(f"{name:9} strides {view.stride()}, contiguous {view.is_contiguous()}")

# %% mystnb={"figure": {"caption": "Places in memory, counted from 0. All four tensors are views on the same twelve numbers.", "name": "fig-tensors-strides"}, "image": {"alt": "x counts 0 to 11 by rows, x.T by columns; x[:, ::2] holds even places; x[1:, 1:] begins at place 5."}}
heat_map(
    {name: places(view) for name, view in views.items()},
    alt="x counts 0 to 11 by rows, x.T by columns; x[:, ::2] holds even places; x[1:, 1:] begins at place 5.",
)

# %% [markdown]
# A tensor is **contiguous** when reading it row by row walks the line without a jump, as `x` does. `view` gives a new
# shape to the same memory. To flatten `x.T` it would have to read places 0, 4, 8, 1, 5, …, and no single stride does
# that:

# %% tags=["raises-exception"]
x.T.view(12)

# %% [markdown]
# `data_ptr()` is the address of the first number:

# %%
flat = x.T.reshape(-1)
wide = x.reshape(2, -1)
print(flat.shape, "shares memory with x:", flat.data_ptr() == x.data_ptr())
print(wide.shape, "shares memory with x:", wide.data_ptr() == x.data_ptr())

# %% [markdown]
# `reshape` is a view where that is possible, and a copy where it is not. `-1` stands for the length that makes the
# count come out. Use `view` when sharing matters: it fails rather than copy. `x.T.contiguous().view(12)` makes the copy
# visible.
#
# **What goes wrong in practice.** `reshape` never swaps axes: it reads the numbers in order and breaks the line
# elsewhere. Eight pictures of shape (8, 28, 28) are to form one strip of shape (28, 224):

# %% mystnb={"figure": {"caption": "Two strips of shape (28, 224), cut into eight for display. Above: `reshape` alone mixes the rows of a picture, and the pictures. Below: `permute`, then `reshape`.", "name": "fig-tensors-reshape"}, "image": {"alt": "Two rows of eight tiles: the upper ones are a jumble of stripes, the lower ones show eight garments."}}
eight = images[:8, 0]  # (images, height, width)
scrambled = eight.reshape(28, 8 * 28)
rows = eight.permute(1, 0, 2)  # (height, images, width)
strip = rows.reshape(28, 8 * 28)  # (height, images · width)
image_grid(
    scrambled.split(28, dim=1) + strip.split(28, dim=1),
    columns=8,
    alt="Two rows of eight tiles: the upper ones are a jumble of stripes, the lower ones show eight garments.",
)

# %% [markdown]
# `permute` names all axes in their new order, `transpose(a, b)` swaps two, `.T` is for matrices and `.mT` for batches
# of matrices. Matplotlib wants a colour picture as (height, width, channels): `image.permute(1, 2, 0)`, not `reshape`.
#
# Strides can also be set by hand, for views that no slice can express. One step along the diagonal of a (3, 4) tensor
# is 4 + 1 places:

# %%
x = torch.arange(12).reshape(3, 4)
diagonal = x.as_strided(size=(3,), stride=(5,))
diagonal.fill_(0)
print(x)

# %% [markdown]
# `as_strided` checks only that it stays inside the memory, not that the numbers make sense. Where a named view exists,
# prefer it: `x.diagonal().fill_(0)` or `x.fill_diagonal_(0)` does the same by name. Another named view is `unfold`, which
# cuts an axis into windows and puts their entries into a new last axis:

# %%
print(torch.arange(8).unfold(0, 4, 2))  # along axis 0, windows of 4, in steps of 2

# %% [markdown]
# These strides are (2, 1). But `as_strided` counts in memory, not along `x`: if `x` is itself `base[::2]`, one step is
# `x.stride(0)` places.
#
# :::{important} To remember
# `permute` changes which axis is which, `reshape` only where the line of numbers breaks. `view` never copies.
# :::
#
# *Exercises:* `without_self_loops`, `sliding_windows`, `split_heads`.

# %% [markdown]
# ## How do axes come and go?
#
# `unsqueeze(dim)` inserts an axis of length 1, `squeeze(dim)` removes one, `flatten(start)` merges axes. `cat` joins
# along an axis that exists, `stack` along a new one.
#
# :::{admonition} Predict
# :class: tip
# `words` and `context` both have the shape (2, 5, 8). Which shapes come from `cat` along `dim=2` and from `stack`?
# :::

# %%
words = torch.rand(2, 5, 8)  # (batch, time, features)
context = torch.rand(2, 5, 8)
print("cat      ", torch.cat([words, context], dim=2).shape)
print("stack    ", torch.stack([words, context]).shape)
print("flatten  ", images.flatten(start_dim=1).shape)
print("transpose", words.transpose(1, 2).shape)

# %% [markdown]
# `cat` put the features of both side by side: it adds lengths along its axis, and all other lengths must agree. `stack`
# needs equal shapes.
#
# **What goes wrong in practice.** A convolution wants a channel axis, and takes a batch axis in front of it. A grey
# picture has neither, so eight of them are taken for one picture of eight channels:

# %% tags=["raises-exception"]
kernel = torch.ones(1, 1, 3, 3) / 9  # (out channels, in channels, height, width)
eight = pixels[:8].float()  # (batch, height, width)
F.conv2d(eight, kernel)

# %% [markdown]
# Insert the channel axis. `None` in brackets and `unsqueeze` do the same:

# %%
with_channel = eight.unsqueeze(1)  # (batch, channels, height, width)
print(F.conv2d(with_channel, kernel).shape)
print(torch.equal(with_channel, eight[:, None]))

# %% [markdown]
# On the way back, `squeeze()` without an axis removes *every* axis of length 1. It works until a batch happens to have
# one element:

# %%
for batch_size in (3, 1):
    scores = torch.rand(batch_size, 5, 1)  # (batch, time, 1)
    print("squeeze():", scores.squeeze().shape, "squeeze(-1):", scores.squeeze(-1).shape)

# %% [markdown]
# `squeeze(dim)` has a quiet side too: where the axis is longer than 1 it does nothing, and does not say so. `x[:, 0]`
# always removes the axis.
#
# :::{important} To remember
# Say which axis you squeeze: `squeeze(-1)`, never `squeeze()`.
# :::

# %% [markdown]
# ## `expand` or `repeat`?
#
# Both make a column of three numbers four wide, each in its own way.
#
# :::{admonition} Predict
# :class: tip
# How many numbers does `column.expand(3, 4)` keep in memory: 3 or 12?
# :::

# %% mystnb={"figure": {"caption": "Places in memory. `expand` shows three places four times each; `repeat` fills twelve.", "name": "fig-tensors-expand"}, "image": {"alt": "The column holds places 0, 1, 2; expand repeats each along its row; repeat holds places 0 to 11."}}
column = torch.tensor([[10.0], [20.0], [30.0]])  # (3, 1)
expanded = column.expand(3, 4)
repeated = column.repeat(1, 4)  # once along axis 0, four times along axis 1
print("equal:", torch.equal(expanded, repeated))
print("strides:", expanded.stride(), repeated.stride())
views = {"column": column, "expand(3, 4)": expanded, "repeat(1, 4)": repeated}
heat_map(
    {name: places(view) for name, view in views.items()},
    alt="The column holds places 0, 1, 2; expand repeats each along its row; repeat holds places 0 to 11.",
)

# %% [markdown]
# Three. `expand` sets the stride of the grown axis to 0: a step along it stays at the same place. `repeat` copies.
# `expand` takes the shape wanted, and only axes of length 1 can grow, or new axes on the left; `-1` keeps a length.
# `repeat` takes how often. `repeat_interleave` repeats each entry on its own, as often as you say, or not at all:

# %%
torch.repeat_interleave(torch.tensor([10, 20, 30]), torch.tensor([2, 0, 3]))

# %% [markdown]
# **What goes wrong in practice.** Writing into an expanded tensor would write several values to one place:

# %% tags=["raises-exception"]
expanded.add_(torch.arange(4))

# %% [markdown]
# A single entry is not refused: `expanded[0, 0] = 99` changes all four places of row 0. Write into a copy:

# %%
own = expanded.clone()
own.add_(torch.arange(4))
print(own)

# %% [markdown]
# Most of the time you need neither of the two: broadcasting, next, expands for you.
#
# :::{important} To remember
# `expand` shows the same memory many times and is for reading; `repeat` makes memory of your own.
# :::
#
# *Exercise:* `append_positions`.

# %% [markdown]
# ## When do two shapes fit together?
#
# Elementwise operations expand their operands to a common shape. This is **broadcasting**, and it has three rules:
#
# 1. Write the shapes one above the other, aligned at the *right*.
# 2. Where one shape is shorter, imagine 1s on its left.
# 3. In each column the lengths must be equal, or one of them 1. An axis of length 1 is expanded to the other length.
#
# ```text
# a             (5, 1, 4)
# b                (3, 1)   read as (1, 3, 1)
# a + b         (5, 3, 4)
# ```
#
# :::{admonition} Predict
# :class: tip
# Which shape does the sum of a (3, 1) and a (4,) tensor have?
# :::

# %% mystnb={"figure": {"caption": "A column of shape (3, 1) and a row of shape (4,) are expanded to (3, 4) before they are added.", "name": "fig-tensors-broadcast"}, "image": {"alt": "Three grids: the column 10, 20, 30; the row 1, 2, 3, 4; their sum, 3 by 4, from 11 to 34."}}
row = torch.arange(1, 5)  # (4,)
heat_map(
    {"column": column, "row": row, "column + row": column + row},
    alt="Three grids: the column 10, 20, 30; the row 1, 2, 3, 4; their sum, 3 by 4, from 11 to 34.",
)

# %% [markdown]
# So an axis inserted on purpose makes "each with each". Here are the waiting times between all pairs of three events,
# without a loop:

# %%
times = torch.tensor([0.0, 2.0, 7.0])  # (events,)
print(times[None, :] - times[:, None])  # (from, to)
print(torch.broadcast_shapes((5, 1, 4), (3, 1)))

# %% [markdown]
# **What goes wrong in practice, loudly.** The mean of each row, subtracted from that row. (`mean(dim=1)` averages along
# axis 1 and drops it; more in the next section.)

# %% tags=["raises-exception"]
table = torch.tensor([[1.0, 2, 3, 6], [0, 0, 4, 4], [5, 5, 5, 5]])  # (rows, columns)
table - table.mean(dim=1)

# %% [markdown]
# Aligned at the right, (3, 4) meets (3,): 4 against 3. `keepdim=True` leaves the reduced axis in place, with length 1:

# %%
print(table.mean(dim=1, keepdim=True).shape)
print(table - table.mean(dim=1, keepdim=True))

# %% [markdown]
# A square table would have raised no error, and would have subtracted the wrong means.
#
# **What goes wrong in practice, silently.** A model returns one column, the targets are a plain vector. The predictions
# below are perfect, so the mean squared error must be 0:

# %%
targets = torch.tensor([1.0, 2.0, 3.0, 4.0])  # (batch,)
predictions = targets.unsqueeze(1)  # (batch, 1), all of them right
print("loss:", ((predictions - targets) ** 2).mean().item())

# %% mystnb={"figure": {"caption": "Left: a (4, 1) tensor minus a (4,) tensor compares each prediction with each target. Right: both (4,), as meant.", "name": "fig-tensors-silent"}, "image": {"alt": "A 4 by 4 grid of differences from -3 to 3, zero on the diagonal only; beside it a row of four zeros."}}
heat_map(
    {
        "(4, 1) − (4,)": predictions - targets,
        "(4,) − (4,)": predictions.squeeze(1) - targets,
    },
    alt="A 4 by 4 grid of differences from -3 to 3, zero on the diagonal only; beside it a row of four zeros.",
)

# %% [markdown]
# A loss of 2.5 for perfect predictions, and training would go on, badly. The mended loss first makes the shapes equal,
# and then insists on it:


# %%
def mean_squared_error(predictions, targets):
    if predictions.shape != targets.shape:
        raise ValueError(f"shapes differ: {predictions.shape} and {targets.shape}")
    return ((predictions - targets) ** 2).mean()


print("loss:", mean_squared_error(predictions.squeeze(1), targets).item())

# %% [markdown]
# :::{important} To remember
# Shapes align at the right. Where two should be equal, check it: broadcasting will not.
# :::
#
# *Exercises:* `outer_sum`, `normalize_channels`, `squared_distances`, `weighted_mse`.

# %% [markdown]
# ## Which axis does `dim` remove?
#
# `sum`, `mean`, `any` and `all` reduce. `dim` names the axis that *disappears*; several may be given. `amax` and `amin`
# do the same for the largest and the smallest. `max(dim)` takes one axis and returns two tensors, `.values` and
# `.indices`; `argmax(dim)` returns the indices alone.
#
# :::{admonition} Predict
# :class: tip
# `images` has the shape (256, 1, 28, 28). Which shape does `images.mean(dim=(1, 2, 3))` have, and what does each of its
# numbers mean?
# :::

# %%
brightness = images.mean(dim=(1, 2, 3))  # (images,)
print(brightness.shape, images.mean(dim=0).shape, images.mean().shape)

# %% [markdown]
# One mean per picture. `mean(dim=0)` is the average picture, and `mean()` is one scalar.
#
# `topk(k)` returns the k largest values of the last axis and, in `.indices`, where they stood; the indices are what you
# mostly want:

# %% mystnb={"figure": {"caption": "The eight brightest and the eight darkest pictures of the batch.", "name": "fig-tensors-topk"}, "image": {"alt": "Two rows of eight: above, bright pullovers and tops; below, sandals, a dark shirt and a sneaker."}}
brightest = brightness.topk(8).indices  # (8,)
darkest = brightness.topk(8, largest=False).indices
chosen = torch.cat([brightest, darkest])
image_grid(
    images[chosen],
    labels=[names[i] for i in chosen],
    columns=8,
    alt="Two rows of eight: above, bright pullovers and tops; below, sandals, a dark shirt and a sneaker.",
)

# %% [markdown]
# A classifier returns one score per class (its *logits*). `argmax` gives the number of the best class, per row only if
# you say so:

# %%
# (batch, classes)
logits = torch.tensor([[0.1, 2.0, 0.3, 0.2], [1.5, 0.2, 0.1, 1.4], [0.3, 0.4, 0.1, 0.9]])
print(logits.argmax(dim=1), logits.argmax())
best = logits.topk(2, dim=1)  # .values and .indices, each (batch, 2)
print(best.indices)

# %% [markdown]
# Without `dim` the tensor is read as one line: 1 is the place of 2.0 among all twelve numbers.
#
# **What goes wrong in practice.** You want, for each row, the score at the class it should have had. `gather` does
# that, but the index needs as many axes as the scores:

# %% tags=["raises-exception"]
correct = torch.tensor([1, 3, 3])  # (batch,)
logits.gather(1, correct)

# %%
logits.gather(1, correct.unsqueeze(1)).squeeze(1)  # (batch, 1) → (batch,)

# %% [markdown]
# `scatter_` is the way back: it writes to the places that an index names. Here it marks the two best classes of each
# row, and the others are set to −∞, which is how a language model is kept to its most likely words:

# %%
keep = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, best.indices, True)
print(keep)
print(logits.masked_fill(~keep, -torch.inf))

# %% [markdown]
# :::{important} To remember
# `dim` is the axis that disappears. `gather` reads at an index, `scatter_` writes at one.
# :::
#
# *Exercises:* `one_hot`, `top_k_accuracy`.

# %% [markdown]
# ## How do I leave entries out?
#
# A comparison gives a **mask** of `bool`. Masks combine with `&`, `|` and `~`, count with `sum`, and pick in brackets.
# The result of picking is always flat; `torch.where(mask, a, b)` keeps the shape.
#
# :::{admonition} Predict
# :class: tip
# A sensor failed at step 2 and wrote `nan`, *not a number*. We multiply by a mask that is 0 there. What is the sum?
# :::

# %%
readings = torch.tensor([3.0, 5.0, torch.nan, 4.0])
valid = ~readings.isnan()
print(valid, valid.sum())
print("times the mask:", (readings * valid).sum())

# %% [markdown]
# `nan`: what touches a `nan` becomes `nan`, even 0 · `nan`. Multiplying does not leave anything out. Choose instead of
# multiplying:

# %%
kept = torch.where(valid, readings, 0.0)
print(kept.sum() / valid.sum(), readings[valid].mean(), readings.nanmean())

# %% [markdown]
# Two more facts about `nan`. It equals nothing, itself included, so look for it with `isnan`. And in `max`, `argmax`
# and `topk` it wins:

# %%
print(readings == readings)
print(readings.max(), readings.argmax())
print(torch.tensor(0.0) / 0, torch.tensor(1.0) / 0)

# %% [markdown]
# The mean of *no* entries is 0 / 0, again `nan`: decide what it should be before you divide.
#
# **What goes wrong in practice.** `and` asks for one truth, and a mask holds many:

# %% tags=["raises-exception"]
valid and readings > 3

# %%
valid & (readings > 3)

# %% [markdown]
# The parentheses are needed: `&` binds more tightly than `>`.
#
# A mask over pairs comes from broadcasting a comparison. This one lets each step look at itself and at earlier ones; a
# language model needs it in chapter 7:

# %%
step = torch.arange(4)
print(step[:, None] >= step[None, :])  # (step that looks, step that is seen)

# %% [markdown]
# :::{important} To remember
# Masks choose, they do not multiply: `torch.where`, not `x * mask`.
# :::
#
# *Exercises:* `masked_mean`, `block_diagonal_mask`.

# %% [markdown]
# ## What does `@` do with more than two axes?
#
# `a @ b` is `torch.matmul(a, b)`, and its meaning depends on the number of axes:
#
# | `a` | `b` | result | |
# |---|---|---|---|
# | `(n,)` | `(n,)` | `()` | inner product |
# | `(i, n)` | `(n,)` | `(i,)` | matrix times vector |
# | `(n,)` | `(n, j)` | `(j,)` | vector times matrix |
# | `(i, n)` | `(n, j)` | `(i, j)` | matrix product |
# | `(…, i, n)` | `(…, n, j)` | `(…, i, j)` | a matrix product for each entry of the axes `…`, which broadcast |
# | `(…, i, n)` | `(n,)` | `(…, i)` | each matrix times the same vector |
# | `(n,)` | `(…, n, j)` | `(…, j)` | the same vector times each matrix |
#
# :::{admonition} Predict
# :class: tip
# Which shape does the product of a (5, 1, 2, 3) and a (4, 3, 6) tensor have?
# :::

# %%
shapes = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 6)),
    ((2, 3), (3, 6)),
    ((4, 2, 3), (4, 3, 6)),
    ((4, 2, 3), (3, 6)),
    ((4, 2, 3), (3,)),
    ((3,), (4, 3, 6)),
    ((5, 1, 2, 3), (4, 3, 6)),
]
for left, right in shapes:
    result = torch.ones(left) @ torch.ones(right)
    print(f"{left!s:13} @ {right!s:10} = {tuple(result.shape)}")

# %% [markdown]
# The last two axes are multiplied, all before them broadcast: (5, 1) and (4,) give (5, 4). `torch.mm` takes exactly two
# matrices, and `torch.bmm` two equal batches of them. They refuse everything else, so they also check what you meant:

# %% tags=["raises-exception"]
torch.bmm(torch.ones(4, 2, 3), torch.ones(3, 6))

# %%
print(torch.bmm(torch.ones(4, 2, 3), torch.ones(3, 6).expand(4, 3, 6)).shape)
print(torch.mm(torch.ones(2, 3), torch.ones(3, 6)).shape)

# %% [markdown]
# You will meet the next message often. It names two matrices and their shapes. The inner lengths, 3 and 2 here, must be
# equal. Batch axes in front are merged in the message: (4, 2, 3) @ (2, 6) is reported as 8x3 and 2x6.

# %% tags=["raises-exception"]
samples = torch.arange(6.0).reshape(2, 3)  # (samples, features)
samples @ samples

# %%
samples @ samples.mT  # (samples, samples)

# %% [markdown]
# `*` is another thing: it multiplies entry by entry, and broadcasts.
#
# **What goes wrong in practice.** A batch of matrices meets a batch of vectors. `@` takes the vectors for *one matrix*;
# with the batch as long as the vectors, nobody complains:

# %%
quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
rotations = torch.stack([torch.eye(2), quarter_turn])  # (batch, 2, 2)
points = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # (batch, 2)
print("wrong:", (rotations @ points).shape)
turned = rotations @ points.unsqueeze(-1)  # (batch, 2, 1)
print("right:", turned.squeeze(-1))

# %% [markdown]
# The right result leaves (1, 2) alone and turns (3, 4) into (−4, 3).
#
# With `@` one line compares all pictures. Scale each to length 1: then the inner product of two is the cosine of the
# angle between them, 1 for equal directions:

# %% mystnb={"figure": {"caption": "Each row begins with a picture of the batch; the seven most similar ones follow.", "name": "fig-tensors-similar"}, "image": {"alt": "Rows of eight: ankle boots; T-shirts and a shirt; a dress, then T-shirts, shirts and trousers."}}
flat = images.flatten(start_dim=1)  # (images, pixels)
directions = F.normalize(flat, dim=1)  # each row divided by its length
similarity = directions @ directions.mT  # (images, images)
neighbours = similarity[[0, 1, 3]].topk(8, dim=1).indices.flatten()  # (3 · 8,)
image_grid(
    images[neighbours],
    labels=[names[i] for i in neighbours],
    columns=8,
    alt="Rows of eight: ankle boots; T-shirts and a shirt; a dress, then T-shirts, shirts and trousers.",
)

# %% [markdown]
# Every picture is most similar to itself. Boots find boots; the dress finds whatever has its outline. Better features
# than raw pixels are what the rest of this book is about.
#
# :::{important} To remember
# `@` multiplies the last two axes and broadcasts the others; a batch of vectors needs an axis of length 1 first.
# :::

# %% [markdown]
# ## How does one read an `einsum`?
#
# In 1916 Einstein left the sum signs out of his formulas: an index that occurs twice in a product is summed.
# `torch.einsum` makes a small language of this. The matrix product
#
# $$C_{ik} = \sum_j A_{ij} B_{jk} \qquad\text{is}\qquad \texttt{einsum("ij,jk->ik", A, B)}$$
#
# 1. Each operand gets one letter per axis; commas separate the operands.
# 2. Equal letters run together, so their lengths must agree. A letter twice in *one* operand walks its diagonal.
# 3. Letters on the right of `->` are the axes of the result, in that order.
# 4. A letter that is missing on the right is summed.
# 5. `...` stands for all axes without a letter, and they broadcast.
#
# The meaning of any `einsum` is a nest of loops: one for each letter, and a product in the middle.


# %%
def matrix_product_in_loops(A, B):
    C = torch.zeros(A.shape[0], B.shape[1])
    for i in range(A.shape[0]):
        for k in range(B.shape[1]):
            for j in range(A.shape[1]):  # j is missing on the right: its products add up
                C[i, k] += A[i, j] * B[j, k]
    return C


A = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])  # (i, j)
B = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])  # (j, k)
print(torch.equal(matrix_product_in_loops(A, B), torch.einsum("ij,jk->ik", A, B)))

# %% mystnb={"figure": {"caption": "`ij,jk->ik` as a table. For k = 0: multiply each row of A by the first column of B, then add along j. The sums are the first column of C.", "name": "fig-tensors-einsum"}, "image": {"alt": "A, 2 by 3; B, 3 by 2; products, 2 by 3, with row sums 5 and 2; C, whose first column is 5 and 2."}}
products = torch.einsum("ij,jk->ijk", A, B)  # nothing summed yet
heat_map(
    {"A": A, "B": B, "products, k = 0": products[..., 0], "C": products.sum(dim=1)},
    alt="A, 2 by 3; B, 3 by 2; products, 2 by 3, with row sums 5 and 2; C, whose first column is 5 and 2.",
)

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# What do these compute for a matrix: `"ij->ji"`, `"ij->j"`, `"ij->"`, and for a square one `"ii->i"` and `"ii->"`?
# :::

# %%
M = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
for equation in ("ij->ji", "ij->j", "ij->", "ii->i", "ii->"):
    print(f"{equation:7}", torch.einsum(equation, M).tolist())

# %% [markdown]
# Transpose, column sums, sum, diagonal, trace. The next cell holds the common operations beside their names, and
# compares the two on random numbers.

# %%
seed_everything(0)
u, v, w = torch.randn(3), torch.randn(3), torch.randn(4)
P, Q, S, W = torch.randn(3, 4), torch.randn(4, 5), torch.randn(3, 3), torch.randn(3, 4)
X, Y, T = torch.randn(6, 3, 4), torch.randn(6, 4, 5), torch.randn(2, 6, 3, 4)

operations = [
    ("transpose", "ij->ji", [P], P.T),
    ("sum", "ij->", [P], P.sum()),
    ("column sums", "ij->j", [P], P.sum(dim=0)),
    ("reduction", "ijk->i", [X], X.sum(dim=(1, 2))),
    ("trace", "ii->", [S], S.trace()),
    ("diagonal", "ii->i", [S], S.diagonal()),
    ("elementwise", "ij,ij->ij", [P, W], P * W),
    ("sum of products", "ij,ij->", [P, W], (P * W).sum()),
    ("inner product", "i,i->", [u, v], u.dot(v)),
    ("outer product", "i,j->ij", [u, w], torch.outer(u, w)),
    ("matrix · vector", "ij,j->i", [P, w], P @ w),
    ("matrix · matrix", "ij,jk->ik", [P, Q], P @ Q),
    ("A · B transposed", "ij,kj->ik", [P, W], P @ W.T),
    ("batch matmul", "bij,bjk->bik", [X, Y], torch.bmm(X, Y)),
    ("any batch axes", "...ij,jk->...ik", [T, Q], T @ Q),
    ("bilinear form", "i,ij,j->", [u, P, w], u @ P @ w),
]
for name, equation, operands, named in operations:
    result = torch.einsum(equation, *operands)
    same = torch.allclose(result, named, atol=1e-5)
    print(f"{name:17} {equation:16} {tuple(result.shape)!s:13} same: {same}")

# %% [markdown]
# :::{admonition} Myth: "`...ij->...i` sums the last two axes"
# :class: warning
# The last two axes are i and j. Count what is left:
# :::

# %%
ones = torch.ones(3, 4, 5, 6)  # i has length 5, j has length 6
print("...ij->...i ", torch.einsum("...ij->...i", ones).shape)
print("...ij->...  ", torch.einsum("...ij->...", ones).shape)

# %% [markdown]
# i stands on the right, so it stays: only j is summed. To sum both, leave both out.
#
# **What goes wrong in practice.** One letter per axis, no more and no fewer:

# %% tags=["raises-exception"]
torch.einsum("ij->i", torch.ones(7, 2, 3))

# %%
print(torch.einsum("...j->...", torch.ones(7, 2, 3)).shape)

# %% [markdown]
# A letter may not appear out of nothing on the right, and may stand there only once. Three more things pass *without*
# an error:
#
# - An axis of length 1 broadcasts against its namesake. A column that arrives where a full matrix was meant is
#   expanded, silently.
# - `"...i->i"` sums all the axes in `...`. NumPy refuses that equation, PyTorch takes it.
# - Without `->` the letters that occur once are the result *in alphabetical order*: `"ba"` transposes. Always write
#   the arrow.

# %%
print(torch.einsum("ij,jk->ik", torch.ones(2, 1), torch.ones(3, 2)))  # j: 1 and 3
print(torch.einsum("...i->i", torch.ones(7, 2)))
print(torch.einsum("ba", torch.ones(2, 3)).shape)

# %% [markdown]
# :::{important} To remember
# What is missing on the right is summed; what stands on the right stays.
# :::
#
# *Exercises:* `transposed_product`, `batch_trace`, `gram_matrices`.

# %% [markdown]
# ## When is `einsum` the wrong tool?
#
# The list above has a named operation for every line. Both compute the same; they differ in what they tell the reader.
#
# | use | when |
# |---|---|
# | `sum`, `mean`, `.mT`, `*` | one tensor, or entry by entry: the name says more than the letters |
# | `@` | a plain matrix product, the batch axes in front |
# | `einsum` | several kinds of axes, a transpose inside the product, or a formula with indices on paper |
#
# PyTorch turns a sum over two operands into one batched matrix product, so expect the speed of `@`, not more.
#
# `einsum` multiplies and adds, nothing else: no `max`, no sorting, no `softmax`, no `if`. A mean is a sum and a
# division after it. Two operands are never added: a bias comes after the `einsum`.
#
# :::{admonition} Predict
# :class: tip
# `counts` holds whole numbers, the matrix holds floats. `counts[:, None] * matrix` promotes, as you saw. Does `einsum`?
# :::

# %% tags=["raises-exception"]
counts = torch.tensor([2, 0, 1])
torch.einsum("i,ij->j", counts, torch.ones(3, 4))

# %% [markdown]
# Not here. Where a letter of both operands is summed, `einsum` becomes a matrix product, and that takes one dtype.
# Convert first, and no equation surprises you.

# %%
torch.einsum("i,ij->j", counts.float(), torch.ones(3, 4))

# %% [markdown]
# Two more things to know. A result that only reorders is a view: writing into `einsum("ij->ji", A)` writes into `A`.
# With three or more operands the order of the products matters for speed, not for the result. (A · B) · v with two 100
# × 100 matrices takes 100³ + 100² = 1,010,000 multiplications, A · (B · v) only 20,000. PyTorch works from left to
# right unless the package `opt_einsum` is installed; then it looks for a better order. And three operands with seven
# letters are a riddle: split them into two lines, and name what stands between.

# %%
A = torch.zeros(2, 2)
torch.einsum("ii->i", A).fill_(1)  # a view on the diagonal
print(A)

# %% [markdown]
# :::{important} To remember
# `einsum` multiplies and adds. Anything else is another line.
# :::

# %% [markdown]
# ## How do the formulas of deep learning read in Einstein notation?
#
# The layers of the coming chapters are products and sums over named axes, with a non-linear function in between. Each
# is written once here and compared with PyTorch's own. You need not know what the layers are for yet: read the letters.
#
# ### Bilinear: two inputs, one weight for each pair
#
# $z_k = \sum_{ij} x_i W_{ijk} y_j$: for each output k, every entry of x meets every entry of y.
# `torch.nn.functional.bilinear` keeps its weights with k first.

# %%
seed_everything(0)
x, y, W = torch.randn(3), torch.randn(4), torch.randn(3, 4, 5)
z = torch.einsum("i,ijk,j->k", x, W, y)  # (5,)
print(torch.allclose(z, F.bilinear(x, y, W.permute(2, 0, 1)), atol=1e-5))

# %% [markdown]
# *Exercise:* `bilinear`.
#
# ### Attention: each position asks all others
#
# Each position i of a sequence has a query $Q_{i}$, a key $K_{i}$ and a value $V_{i}$, each a vector. How well query i
# fits key j is their inner product. A `softmax` turns the scores of each query into weights that add up to 1, and the
# output is the weighted mean of the values:
#
# $$E_{ij} = \sum_d Q_{id} K_{jd}, \qquad A_{ij} = \operatorname{softmax}_j\!\left(E_{ij} / \sqrt{D}\right), \qquad
# O_{id} = \sum_j A_{ij} V_{jd}$$
#
# where D is the length of the axis d.
#
# :::{admonition} Predict
# :class: tip
# Why $\sqrt D$? Queries and keys hold standard normal numbers. Guess the spread (standard deviation) of their inner
# products for D = 4, 64 and 1024.
# :::

# %%
for D in (4, 64, 1024):
    scores = torch.einsum("nd,nd->n", torch.randn(20_000, D), torch.randn(20_000, D))
    spread = scores.std()
    print(f"D = {D:4}: spread {spread:.0f}, divided by √D {spread / D**0.5:.1f}")

# %% [markdown]
# The spread grows like √D. Unscaled, the scores of long vectors lie so far apart that `softmax` gives nearly all weight
# to one position. In the sequence below, equal words have equal vectors, and each word is query, key and value at once:

# %% mystnb={"figure": {"caption": "Attention weights of *the cat saw the dog*: row i shows where word i looks. Each *the* looks at the other as much as at itself.", "name": "fig-tensors-attention"}, "image": {"alt": "A 5 by 5 grid of weights, large on the diagonal and where the first and the fourth word meet."}}
seed_everything(0)
sentence = ["the", "cat", "saw", "the", "dog"]
vectors = {word: torch.randn(16) for word in sorted(set(sentence))}
tokens = torch.stack([vectors[word] for word in sentence])  # (time, features)

scores = torch.einsum("id,jd->ij", tokens, tokens) / tokens.shape[1] ** 0.5
attention = scores.softmax(dim=1)  # over j, the positions looked at
output = torch.einsum("ij,jd->id", attention, tokens)
reference = F.scaled_dot_product_attention(tokens, tokens, tokens)
print("as PyTorch's:", torch.allclose(output, reference, atol=1e-5))
heat_map(
    attention,
    labels=(sentence, sentence),
    alt="A 5 by 5 grid of weights, large on the diagonal and where the first and the fourth word meet.",
)

# %% [markdown]
# **What goes wrong in practice.** `softmax` over the wrong axis gives weights of the right shape that do not add up to
# 1 for any query:

# %%
for dim in (0, 1):
    totals = scores.softmax(dim=dim).sum(dim=1)  # (queries,)
    print(f"dim={dim}:", " ".join(f"{total:.2f}" for total in totals))

# %% [markdown]
# *Exercises:* `attention_scores`, `weighted_values`.
#
# ### Convolution: the same small product at every place
#
# $O_{b,o,y,x} = \sum_{c,i,j} I_{b,c,y+i,x+j}\, K_{o,c,i,j}$. `einsum` has no letters for sums like y + i. But `unfold`
# gives a view in which they have become axes: at each place (y, x) the patch (i, j) that begins there. The rest is one
# line. The two filters in K take the difference between left and right, and between top and bottom.

# %% mystnb={"figure": {"caption": "Above: four pictures. Then the strength of change from left to right, and from top to bottom.", "name": "fig-tensors-convolution"}, "image": {"alt": "Three rows of four: garments, their left and right edges, their upper and lower edges."}}
sideways = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
filters = torch.stack([sideways, sideways.T]).unsqueeze(1)  # (out, in, height, width)

four = images[:4]  # (batch, channels, height, width)
patches = four.unfold(2, 3, 1).unfold(3, 3, 1)  # a view: (batch, channels, y, x, i, j)
edges = torch.einsum("bcyxij,ocij->boyx", patches, filters)
print("as PyTorch's:", torch.allclose(edges, F.conv2d(four, filters), atol=1e-5))

strength = F.pad(edges.abs(), (1, 1, 1, 1)).clamp(max=1)  # back to 28 × 28
image_grid(
    torch.cat([four, strength[:, :1], strength[:, 1:]]),
    columns=4,
    alt="Three rows of four: garments, their left and right edges, their upper and lower edges.",
)

# %% [markdown]
# *Exercise:* `conv2d`.
#
# ### Batch norm: one mean and one spread per channel
#
# $Y_{bchw} = \gamma_c\,(X_{bchw} - \mu_c) / \sqrt{\sigma_c^2 + \varepsilon} + \beta_c$. (ε = 10⁻⁵ keeps the divisor from
# 0.) The index c alone on μ, σ, γ and β says it all: there is one of each per channel, and the mean and the variance run
# over b, h and w. `einsum` sums and scales; the shifts are broadcast.

# %%
seed_everything(0)
x = torch.randn(8, 3, 5, 5) * 4 + 10  # (batch, channels, height, width)
gamma, beta = torch.rand(3, 1, 1), torch.rand(3, 1, 1)

count = x.numel() / x.shape[1]
centred = x - x.mean(dim=(0, 2, 3), keepdim=True)
variance = torch.einsum("bchw,bchw->c", centred, centred) / count
normal = torch.einsum("bchw,c->bchw", centred, (variance + 1e-5).rsqrt())
output = gamma * normal + beta

reference = F.batch_norm(x, None, None, gamma.flatten(), beta.flatten(), training=True)
print("as PyTorch's:", torch.allclose(output, reference, atol=1e-5))

# %% [markdown]
# **What goes wrong in practice.** `x.var()` divides by n − 1, batch norm by n. (Only its running variance, which is used
# after training, divides by n − 1.) On a small batch the difference shows:

# %%
print("var():            ", torch.allclose(x.var(dim=(0, 2, 3)), variance))
print("var(correction=0):", torch.allclose(x.var(dim=(0, 2, 3), correction=0), variance))

# %% [markdown]
# ### Recurrent networks: the same step again and again
#
# A recurrent network keeps a state h and updates it at each step of a sequence:
#
# $$h'_{bj} = \tanh\!\left(\sum_d x_{bd} W_{jd} + \sum_k h_{bk} U_{jk} + a_j\right)$$
#
# PyTorch stores weights as (out, in), hence the order of letters. It keeps the bias a as two, which are only ever added.

# %%
seed_everything(0)
x = torch.randn(2, 3)  # (batch, features)
h = torch.randn(2, 4)  # (batch, state)

cell = torch.nn.RNNCell(input_size=3, hidden_size=4)
with torch.no_grad():  # no gradients here: they are chapter 2
    from_input = torch.einsum("bd,jd->bj", x, cell.weight_ih) + cell.bias_ih
    from_state = torch.einsum("bk,jk->bj", h, cell.weight_hh) + cell.bias_hh
    new_h = (from_input + from_state).tanh()
    print("RNN as PyTorch's:", torch.allclose(new_h, cell(x, h), atol=1e-5))

# %% [markdown]
# An LSTM computes four such sums at once. Three of them become gates between 0 and 1 through the sigmoid,
# σ(x) = 1 / (1 + e⁻ˣ): i, what to let in; f, what to keep; o, what to show. The fourth becomes new content $\tilde c$
# through tanh. PyTorch stacks them in the order i, f, new content, o. Entry by entry, the cell state is
# $c' = f \cdot c + i \cdot \tilde c$, and the output is $h' = o \cdot \tanh(c')$. The four sums are one more axis, g for
# gate:

# %%
h, c = torch.randn(2, 5), torch.randn(2, 5)  # (batch, state)
cell = torch.nn.LSTMCell(input_size=3, hidden_size=5)
with torch.no_grad():
    W = cell.weight_ih.view(4, 5, 3)  # (gate, state, in)
    U = cell.weight_hh.view(4, 5, 5)  # (gate, state, state before)
    bias = (cell.bias_ih + cell.bias_hh).view(4, 1, 5)  # (gate, 1, state)
    sums = torch.einsum("bd,gjd->gbj", x, W) + torch.einsum("bk,gjk->gbj", h, U) + bias
    let_in, keep, new, show = sums  # each (batch, state)
    new_c = keep.sigmoid() * c + let_in.sigmoid() * new.tanh()
    new_h = show.sigmoid() * new_c.tanh()
    expected_h, expected_c = cell(x, (h, c))
    print("h as PyTorch's:", torch.allclose(new_h, expected_h, atol=1e-5))
    print("c as PyTorch's:", torch.allclose(new_c, expected_c, atol=1e-5))

# %% [markdown]
# :::{important} To remember
# A layer is a product over named axes, then a function entry by entry. Write the indices first; the code follows.
# :::
#
# *Exercise:* `lstm_step`.

# %% [markdown]
# ## Where does the arithmetic happen?
#
# An operation runs where its operands lie. `tensor.to(device)` brings a tensor to another device. `device()` of this
# course chooses a GPU if there is one.
#
# :::{admonition} Predict
# :class: tip
# `x.to("cpu")` for an `x` on the CPU: a copy, or the same tensor?
# :::

# %%
x = torch.rand(3, 4)
print("same tensor:", x.to("cpu") is x)

# %% tags=["nbval-ignore-output"]
moved = x.to(device())  # a GPU, if there is one
print("there and back, unchanged:", torch.equal(moved.cpu(), x))

# %% [markdown]
# `.to` copies to another device, and returns the tensor itself if it is there already.
#
# **What goes wrong in practice.** Operands on two devices do not meet. This happens with any two devices, unless the CPU
# tensor has no axes. Where one is a GPU, the message begins `Expected all tensors to be on the same device, but found at
# least two devices`. Here the second one is `meta`, which every machine has. It keeps shapes and no numbers, and serves
# to plan a model that is too large for the memory:

# %% tags=["raises-exception"]
weights = torch.ones(3, 4, device="meta")
weights + x

# %%
print((weights + x.to(weights.device)).shape)

# %% [markdown]
# NumPy knows the CPU only. This is the message that every user of a GPU meets, here with `meta` for `cuda:0`:

# %% tags=["raises-exception"]
weights.numpy()

# %%
print(moved.detach().cpu().numpy().shape)  # right on any device that holds numbers

# %% [markdown]
# Create a tensor where it is needed (`torch.zeros(3, device=x.device)`), and move data once per batch: each move costs
# time. Collect results on the device and fetch them at the end; `.item()`, `.cpu()` and `print` each wait until the GPU
# has finished.
#
# :::{important} To remember
# Take the device from a tensor you have, `device=x.device`, rather than from a constant.
# :::

# %% [markdown]
# ## How long does a matrix product take?
#
# :::{admonition} Predict
# :class: tip
# A program times the same product 21 times. How much slower than the fastest is the first: 1.1, 2 or 10 times?
# :::
#
# :::{admonition} Myth: "Time one product on the CPU and one on the GPU: the quotient is the speed-up"
# :class: warning
# The first call pays for things that no later call pays for: loading libraries, starting threads, claiming memory. By
# this method a processor is faster than itself. The cell runs the program in a fresh Python, on one thread:
# :::

# %% tags=["nbval-ignore-output"]
import subprocess
import sys

program = """
import time, torch
torch.set_num_threads(1)
x, times = torch.rand(128, 128), []
for _ in range(21):
    start = time.perf_counter()
    x @ x
    times.append(time.perf_counter() - start)
print(times[0], min(times[1:]))
"""
command = [sys.executable, "-c", program]
answer = subprocess.run(command, capture_output=True, text=True, check=True)
cold, warm = map(float, answer.stdout.split())
print(f"first call {cold * 1e3:.3f} ms, fastest later call {warm * 1e3:.3f} ms")
print(f"“speed-up” of this processor over itself: {cold / warm:.0f}")
assert cold > warm

# %% [markdown]
# About ten times, often more. So warm up first, and take the median of several calls, which one interruption cannot
# move. On a GPU there is a second trap. A call returns as soon as the work is *queued*; without
# `torch.cuda.synchronize()` you time the queueing. `measure` of this course warms up, waits for the device before it
# reads the clock, and returns the median.

# %% tags=["nbval-ignore-output"]
import time

x = torch.rand(1024, 1024)
on_cpu = measure(lambda: x @ x)
print("CPU, warm:", on_cpu)

if torch.cuda.is_available():
    y = x.to("cuda")
    start = time.perf_counter()
    y @ y
    queued = time.perf_counter() - start
    on_gpu = measure(lambda: y @ y)
    print(f"GPU, first call, without waiting: {queued * 1e3:.2f} ms, which is no measurement")
    print("GPU, warm and synchronised:", on_gpu)
    print(f"speed-up: {on_cpu.median / on_gpu.median:.1f}")
else:
    print("No CUDA GPU here: the other half of the comparison is skipped.")

# %% [markdown]
# The quotient still depends on the size. A small product is finished before the work has reached a GPU; a large one
# keeps its thousands of units busy. Measure the sizes you will use.
#
# :::{important} To remember
# Warm up, synchronise, repeat, take the median. A single timing measures its circumstances.
# :::

# %% [markdown]
# ## What does `torch.compile` do with an `einsum`?
#
# Python runs an expression one operation at a time, and each writes its result to memory for the next to read.
# `torch.compile` records the whole function at its first call, and translates what lies around the large products into
# fewer, fused loops. On a CPU this takes a C++ compiler; where there is none, the cell says so and goes on.
#
# :::{admonition} Predict
# :class: tip
# The first call of a compiled function: faster or slower than the plain one?
# :::

# %% tags=["nbval-ignore-output"]
import logging

# Without a GPU, this logger would remark on it.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def batch_norm(x, gamma, beta):
    centred = x - x.mean(dim=(0, 2, 3), keepdim=True)
    variance = torch.einsum("bchw,bchw->c", centred, centred) / (x.numel() / x.shape[1])
    return gamma * torch.einsum("bchw,c->bchw", centred, (variance + 1e-5).rsqrt()) + beta


x = torch.rand(64, 16, 28, 28)  # (batch, channels, height, width)
gamma, beta = torch.rand(16, 1, 1), torch.rand(16, 1, 1)
compiled = torch.compile(batch_norm)
try:
    start = time.perf_counter()
    result = compiled(x, gamma, beta)
    print(f"first call {time.perf_counter() - start:.1f} s: this is the compilation")
except RuntimeError as error:
    print("Skipped, torch.compile cannot work here:", str(error).splitlines()[0])
else:
    torch.testing.assert_close(result, batch_norm(x, gamma, beta), rtol=1e-4, atol=1e-5)
    print("plain:   ", measure(lambda: batch_norm(x, gamma, beta), repeats=50))
    print("compiled:", measure(lambda: compiled(x, gamma, beta), repeats=50))

# %% [markdown]
# Slower, by seconds: that is the translation. Each later call is faster than the plain one, because it reads and writes
# the pixels fewer times. So it pays when the function is called thousands of times, as in training. The results agree to
# rounding, not to the bit. Other dtypes or shapes may compile again. A large matrix product gains little, because it
# comes from a tuned library either way; the gain lies in what stands between the products.
#
# :::{important} To remember
# Compile what is called often, and never time its first call.
# :::

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | What is a tensor? | shape, dtype, device, and strides over one line of memory |
# | values or shape? | `torch.tensor(values)`, `torch.zeros(shape)`; never `torch.Tensor` |
# | what shares? | slices, `view`, `permute`, `expand`, `from_numpy` |
# | what copies? | lists and masks in brackets, `clone`, `repeat`, `torch.tensor`, arithmetic |
# | new shape | `reshape` keeps the order of the numbers; `permute` and `transpose` keep the meaning of the axes |
# | new axis | `unsqueeze(dim)` or `None`; away with `squeeze(dim)`; `cat` along an old axis, `stack` along a new one |
# | broadcasting | align at the right; equal, or one of them 1 |
# | reductions | `dim` disappears, unless `keepdim=True` |
# | ranking | `argmax(dim)`, `topk(k)`; `gather` reads at the indices, `scatter_` writes |
# | missing values | choose with `torch.where`; 0 · `nan` is `nan` |
# | products | `*` entry by entry, `@` on the last two axes, `einsum` on any |
# | `einsum` | missing on the right is summed, standing there stays |
# | speed | warm up, synchronise, median; compile what runs often |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/01_tensors.ipynb`. Each is graded the moment you run it. Then chapter 2
# asks how PyTorch finds the derivative of everything you wrote here.
#
# ## Sources
#
# - PyTorch documentation:
#   [tensor views](https://docs.pytorch.org/docs/stable/tensor_view.html),
#   [broadcasting](https://docs.pytorch.org/docs/stable/notes/broadcasting.html),
#   [type promotion](https://docs.pytorch.org/docs/stable/tensor_attributes.html),
#   [`torch.matmul`](https://docs.pytorch.org/docs/stable/generated/torch.matmul.html),
#   [`torch.einsum`](https://docs.pytorch.org/docs/stable/generated/torch.einsum.html),
#   [`torch.compile`](https://docs.pytorch.org/docs/stable/generated/torch.compile.html),
#   [reproducibility](https://docs.pytorch.org/docs/stable/notes/randomness.html),
#   [filling uninitialised memory](https://docs.pytorch.org/docs/stable/deterministic.html),
#   [asynchronous execution](https://docs.pytorch.org/docs/stable/notes/cuda.html#asynchronous-execution).
# - A. Einstein, [Die Grundlage der allgemeinen Relativitätstheorie](https://doi.org/10.1002/andp.19163540702),
#   *Annalen der Physik* 354 (1916), 769–822. Section 5 introduces the summation convention.
# - C. R. Harris et al., [Array programming with NumPy](https://doi.org/10.1038/s41586-020-2649-2),
#   *Nature* 585 (2020), 357–362.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
# - A. Vaswani et al., [Attention is all you need](https://arxiv.org/abs/1706.03762), 2017.
#   Section 3.2.1 gives the reason for 1/√D, which it writes 1/√dₖ.
# - S. Ioffe, C. Szegedy, [Batch normalization](https://arxiv.org/abs/1502.03167), 2015.
# - S. Hochreiter, J. Schmidhuber, [Long short-term memory](https://doi.org/10.1162/neco.1997.9.8.1735),
#   *Neural Computation* 9 (1997), 1735–1780.
# - D. G. A. Smith, J. Gray, [opt_einsum](https://doi.org/10.21105/joss.00753),
#   *Journal of Open Source Software* 3 (2018), 753.
