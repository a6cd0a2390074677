# ---
# # Generated from solutions/04_modules.py by `make exercises`: edit that file, not this one.
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 4: nn.Module
#
# Each exercise is one function or one class. Replace each `raise NotImplementedError` with your code, run the cell, and
# run the `check` under it. Work from top to bottom: the exercises climb, and later ones use what earlier ones taught.
#
# - `check(name)` builds your class with sizes that you may not have thought of, gives it known weights where it can,
#   and shows the first result that differs.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Three rules hold for all of them:
#
# - **A class is judged by what it does.** Where the text names its attributes or its parameters, use those names. All
#   other names are yours, and you may split a class into as many modules as you like.
# - **Inputs stay as they are.** The caller still needs them.
# - **Random starting values come from PyTorch**, so that `torch.manual_seed` repeats them.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# Sizes, parameters, and the layer that all others resemble.

# %% [markdown]
# ### `conv_size` · 1 point · ●○○ · about 5 min
#
# A convolution or a pooling layer moves a window of `kernel` pixels over a row of `size` pixels. First `padding` pixels
# are added at *both* ends. The window starts at the left end and moves `stride` pixels at a time, as long as it fits.
# Return the number of places where it stops, a Python `int`.
#
# A row of 5 with kernel 3 has 3 places at stride 1 and 2 places at stride 2. With padding 1 and stride 2 it has 3.


# %%
def conv_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """The number of places of a window, which is the size of a convolution's output.

    size, kernel, stride: at least 1. padding: at least 0. kernel ≤ size + 2 · padding.
    """
    raise NotImplementedError  # your code here


# %%
check(conv_size)

# %% [markdown]
# ### `count_parameters` · 1 point · ●○○ · about 6 min
#
# Return how many numbers the parameters of a module hold together, a Python `int`. A parameter that several layers
# share counts once; two parameters that happen to hold equal numbers are two. Buffers, such as the running mean of a
# batch norm, are no parameters. With `trainable_only=True` only those parameters count that require a gradient.
#
# `nn.Linear(3, 2)` has 2 · 3 weights and 2 biases: 8. If its weight is frozen, 2 of them are trainable.


# %%
def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """How many numbers the module's parameters hold, those of its sub-modules included."""
    raise NotImplementedError  # your code here


# %%
check(count_parameters)

# %% [markdown]
# ### `Linear` · 2 points · ●○○ · about 12 min
#
# Write PyTorch's linear layer: $y = x W^\top + b$. The parameters are called `weight`, shape
# `(out_features, in_features)`, and `bias`, shape `(out_features,)`, in PyTorch's default dtype. The input has shape
# `(*, in_features)`: any number of leading axes, also none. The output has shape `(*, out_features)`.
#
# With `bias=False` there is no such parameter; PyTorch's layer then has `bias` as `None`. The weights start at random
# finite values, each drawn by itself by PyTorch. Which distribution is up to you, and so are the first values of the
# bias.
#
# With weight `[[1, 2], [3, 4], [5, 6]]` and bias `[0, 0, 10]` the input `[1, 1]` gives `[3, 7, 21]`.
#
# Write an `nn.Module` with parameters of its own, not an `nn.Linear`.


# %%
class Linear(nn.Module):
    """y = x Wᵀ + b over the last axis: (*, in_features) -> (*, out_features).

    weight: shape (out_features, in_features). bias: shape (out_features,), or None.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(*, in_features) -> (*, out_features)."""
        raise NotImplementedError  # your code here


# %%
check(Linear)

# %% [markdown]
# ## Apply
#
# The layers of real networks, and tools to look into them.

# %% [markdown]
# ### `Dropout` · 2 points · ●●○ · about 10 min
#
# In training, dropout sets each element of its input to 0 with probability `p`, independently of all others and anew at
# each call. What is kept is divided by 1 − p, so that the mean stays the same. In evaluation it returns the input's
# values. `p` is at least 0, where nothing is dropped, and less than 1.
#
# With p = 0.5 the input `[1, 2, 3, 4]` may give `[2, 0, 6, 0]` at one call and `[0, 4, 6, 0]` at the next.
#
# Not allowed: `nn.Dropout`, `F.dropout` and their relatives, because this exercise builds them.


# %%
class Dropout(nn.Module):
    """Zeros with probability p while training, and 1 / (1 - p) times as much of what is left; 0 <= p < 1."""

    def __init__(self, p: float) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float, any shape -> the same dtype and shape."""
        raise NotImplementedError  # your code here


# %%
check(Dropout)

# %% [markdown]
# ### `capture` · 2 points · ●●○ · about 12 min
#
# Run a model once on `x` and return what some of its layers gave: a dict from each of `names` to that layer's output.
# The names are those of `model.named_modules()`, such as `"features.0"`. Use forward hooks.
#
# - Afterwards none of your hooks is left on the model, *even if the model raised an error*. The error reaches the
#   caller. Hooks that were there before stay.
# - Your hooks only watch: a layer passes on the same tensor as without them.
#
# Advice: keep a detached copy of each output, `output.detach().clone()`. A later layer that works in place, such as
# `nn.ReLU(inplace=True)`, then cannot change what you captured.
#
# For `model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))` and x of shape `(3, 2, 2)`, `capture(model, ["0", "1"], x)`
# holds under `"0"` a tensor of shape `(3, 4)` and under `"1"` one of shape `(3, 2)`. As in `named_modules()`, the model
# itself is called `""`.


# %%
def capture(model: nn.Module, names: Sequence[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of the layers called `names` in one run of `model(x)`, as {name: output}.

    Each layer gives one tensor. Of a layer that runs several times, its last output counts.
    """
    raise NotImplementedError  # your code here


# %%
check(capture)

# %% [markdown]
# ### `new_head` · 2 points · ●●○ · about 12 min
#
# A trained classifier is to learn other classes. Replace its last layer and train nothing else: in `model`, put a new
# `nn.Linear` with `num_classes` outputs in the place of the one called `name`, and freeze all other parameters of the
# model. The new layer takes as many inputs as the old one, has a bias if the old one had, the same dtype and fresh
# random weights, different for each seed. Its parameters require a gradient. Change the model in place and return it.
#
# `name` may lead through several modules: `"classifier.1"` is layer 1 of `model.classifier`.
#
# For `model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 10))`, `new_head(model, "2", 5)` returns the same
# model: a frozen `nn.Linear(4, 3)`, a ReLU, and a new `nn.Linear(3, 5)`.


# %%
def new_head(model: nn.Module, name: str, num_classes: int) -> nn.Module:
    """The same model with a new, trainable linear layer in place of the one called `name`, and the rest frozen."""
    raise NotImplementedError  # your code here


# %%
check(new_head)

# %% [markdown]
# ### `LeNet5` · 3 points · ●●○ · about 15 min
#
# Write LeNet-5 for images of shape `(batch, 1, 28, 28)`. It returns one logit per class, shape `(batch, num_classes)`.
#
# | step | output |
# |---|---|
# | convolution 5 × 5, padding 2 | 6 × 28 × 28 |
# | activation, pooling 2 × 2 | 6 × 14 × 14 |
# | convolution 5 × 5 | 16 × 10 × 10 |
# | activation, pooling 2 × 2 | 16 × 5 × 5 |
# | flatten | 400 |
# | linear, activation | 120 |
# | linear, activation | 84 |
# | linear | `num_classes` |
#
# All five layers have biases. The convolutions have stride 1 and pad with zeros. The images are taken as they come: do
# not scale them. The activation (tanh, ReLU, …), the kind of pooling (mean or maximum of each 2 × 2 window) and all
# names are yours. Neither activation nor pooling has parameters: with 10 classes there are 61,706. The step from 400 to
# 120 may also be a convolution 5 × 5, as in the paper, with the flattening after it.


# %%
class LeNet5(nn.Module):
    """LeNet-5: images (batch, 1, 28, 28) -> logits (batch, num_classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 1, 28, 28) -> (batch, num_classes)."""
        raise NotImplementedError  # your code here


# %%
check(LeNet5)

# %% [markdown]
# ### `BatchNorm1d` · 3 points · ●●○ · about 20 min
#
# Write batch norm for inputs of shape `(n, f)`, with PyTorch's names and starting values: the parameters `weight`
# (ones) and `bias` (zeros), and the buffers `running_mean` (zeros) and `running_var` (ones), each of shape `(f,)`.
# PyTorch's layer also counts the batches in a buffer `num_batches_tracked`; yours may do without.
#
# - In both modes the output is `(x - mean) / √(var + eps) · weight + bias`, and gradients flow to `x`, `weight` and
#   `bias`.
# - In training, mean and variance are those of the batch, per feature; this variance divides by n. Gradients flow
#   through these two as well. Each call also moves the running values: `new = (1 - momentum) · old + momentum · of this
#   batch`. The variance that goes into `running_var` divides by n − 1. No graph hangs on the buffers.
# - In evaluation mean and variance are the running ones, and no buffer changes.
#
# With `eps=0` and the starting values the batch `[[1], [3]]` gives `[[-1], [1]]`: its mean is 2, its variance 1.
# Afterwards `running_mean` is 0.9 · 0 + 0.1 · 2 = 0.2, and `running_var` 0.9 · 1 + 0.1 · 2 = 1.1.
#
# Not allowed: PyTorch's normalisation layers and functions, because this exercise builds one.


# %%
class BatchNorm1d(nn.Module):
    """Batch norm of (n, num_features), n ≥ 2 in training, with PyTorch's names for parameters and buffers."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, num_features) -> (n, num_features), the same dtype."""
        raise NotImplementedError  # your code here


# %%
check(BatchNorm1d)

# %% [markdown]
# ## Combine
#
# Saving without risk, and the block that deep networks are made of.

# %% [markdown]
# ### `save_safely` · 2 points · ●●○ · about 8 min
#
# Save the parameters and buffers of a model as a safetensors file, under the names of its `state_dict`. The file lies
# at exactly `path`, which is a string or a `Path`. The values in the model and the ties between them stay as they are.
#
# Two traps. *Tied* weights are one tensor under two names: `save_file` refuses them as they are. Store a copy under
# each name or, which needs less room, the tensor once, as `safetensors.torch.save_model` does. And a parameter may be a
# transposed view, which is not contiguous: the file needs its values all the same. Two tensors with equal values are
# not tied for that, and a buffer that is not in the `state_dict` is not stored.
#
# For `nn.Linear(3, 2)` the file holds `weight`, shape `(2, 3)`, and `bias`, shape `(2,)`.


# %%
def save_safely(model: nn.Module, path: str | Path) -> None:
    """Write the state of a model as a safetensors file."""
    raise NotImplementedError  # your code here


# %%
check(save_safely)

# %% [markdown]
# ### `load_safely` · 2 points · ●●○ · about 10 min
#
# Load a safetensors file, as `save_safely` writes it, into a model, in place. `path` is a string or a `Path`.
#
# - Strict: if the model's `state_dict` has a name that the file lacks, or the file one that it lacks, raise an error.
#   So too if a shape differs in any way. Which error is up to you.
# - Tied weights load from the file that your `save_safely` writes: if it holds one of their names only, the other is
#   not missing. Afterwards the weights are still tied.
#
# Advice: let the model's parameters stay the same objects, since an optimiser may hold them.
#
# A file with `weight` and `bias` loads into `nn.Linear(3, 2)`. One with `weight` alone raises an error.


# %%
def load_safely(model: nn.Module, path: str | Path) -> None:
    """Read a model's state from a safetensors file; raise if anything is missing, left over or of another shape."""
    raise NotImplementedError  # your code here


# %%
check(load_safely)

# %% [markdown]
# ### `ResidualBlock` · 4 points · ●●● · about 25 min
#
# Write the block of a residual network. It takes `(batch, c_in, h, w)` and adds two paths:
#
# - the main path: convolution, batch norm, ReLU, convolution, batch norm. Both convolutions are 3 × 3 with padding 1.
#   The first goes from `c_in` to `c_out` channels and has the stride, the second stays at `c_out` with stride 1;
# - the shortcut: the input itself where the shape stays the same, that is, where the stride is 1 and `c_in` equals
#   `c_out`. Otherwise a 1 × 1 convolution from `c_in` to `c_out` with the stride and no padding, then batch norm.
#
# One ReLU follows the addition. No convolution has a bias. Use `nn.Conv2d` and `nn.BatchNorm2d` with their default
# `eps` and `momentum`; all names are yours.
#
# `ResidualBlock(4, 4)` has 2 · 4 · 4 · 9 weights in convolutions and 2 · 2 · 4 parameters in batch norms: 304. With
# `stride=2` a shortcut adds 4 · 4 + 2 · 4 = 24, and an input of shape `(1, 4, 8, 8)` gives `(1, 4, 4, 4)`.


# %%
class ResidualBlock(nn.Module):
    """relu(main(x) + shortcut(x)): (batch, c_in, h, w) -> (batch, c_out, h', w'), h' = (h - 1) // stride + 1."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, c_in, h, w) -> (batch, c_out, h', w')."""
        raise NotImplementedError  # your code here


# %%
check(ResidualBlock)

# %% [markdown]
# ## Debug
#
# This class runs without an error. It does not learn what it should.

# %% [markdown]
# ### `ScaledMLP` · 3 points · ●●● · about 15 min
#
# A network of linear layers with ReLU between them (an MLP, multi-layer perceptron) first scales its features: it
# subtracts `mean` and divides by `std`, both of shape `(features,)`. `sizes` lists the widths: `[4, 8, 3]` means 4
# features, 8 hidden units, 3 outputs. The outputs are logits: any real numbers.
#
# ```python
# class ScaledMLP(nn.Module):
#     def __init__(self, mean, std, sizes):
#         super().__init__()
#         self.mean, self.std = mean, std
#         self.layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
#
#     def forward(self, x):
#         x -= self.mean
#         x /= self.std
#         for layer in self.layers:
#             x = layer(x).relu()
#         return x
# ```
#
# It has four faults. One hides the layers from the optimiser. One loses `mean` and `std` when the model is saved, or
# moved by `.to(device)` or `.double()`: they belong in its state, under the names `mean` and `std`, but are not
# trained. One makes logits that are never negative. One spoils its caller's data. Mend all four, and assign the linear
# layers in the order in which they run. Gradients still reach `x`.
#
# With mean `[1]`, std `[2]`, sizes `[1, 1]`, weight `[[-1]]` and bias `[0]` the input `[[5]]` gives `[[-2]]`.


# %%
class ScaledMLP(nn.Module):
    """A multi-layer perceptron that scales its features: (n, sizes[0]) -> logits (n, sizes[-1]).

    mean, std: shape (sizes[0],). sizes: at least two widths.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, sizes[0]) -> (n, sizes[-1])."""
        raise NotImplementedError  # your code here


# %%
check(ScaledMLP)

# %% [markdown]
# ## Build
#
# One network out of two.

# %% [markdown]
# ### `Autoencoder` · 4 points · ●●● · about 25 min
#
# An auto-encoder squeezes each image into a short code and draws it again from the code. Write one out of linear
# layers, with biases:
#
# - `encode` takes images of shape `(batch, *image_shape)`, flattens each, and passes it through linear layers with the
#   widths `sizes`. A ReLU stands between two layers, none after the last: the code may be negative. It returns codes of
#   shape `(batch, sizes[-1])`.
# - `decode` takes codes and goes the way back through layers of its own, the mirror image: the widths of `sizes` in
#   reverse, then the number of pixels; a ReLU between two layers, none before the first. A sigmoid at the end brings
#   each pixel into [0, 1]. It returns images of shape `(batch, *image_shape)`.
# - Calling the model encodes, then decodes.
#
# `Autoencoder((1, 28, 28), [128, 32])` has an encoder 784 → 128 → 32 and a decoder 32 → 128 → 784. Images of shape
# `(5, 1, 28, 28)` become codes of shape `(5, 32)` and again images of shape `(5, 1, 28, 28)`. It has
# 784 · 128 + 128 + 128 · 32 + 32 + 32 · 128 + 128 + 128 · 784 + 784 = 209,968 parameters.


# %%
class Autoencoder(nn.Module):
    """Images -> codes -> images, by linear layers that mirror each other.

    image_shape: the shape of one image, such as (1, 28, 28). sizes: the widths from the first hidden layer to the code,
    at least one.
    """

    def __init__(self, image_shape: Sequence[int], sizes: Sequence[int]) -> None:
        super().__init__()
        raise NotImplementedError  # your code here

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, *image_shape) -> (batch, sizes[-1])."""
        raise NotImplementedError  # your code here

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """(batch, sizes[-1]) -> (batch, *image_shape), values in [0, 1]."""
        raise NotImplementedError  # your code here

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, *image_shape) -> (batch, *image_shape)."""
        raise NotImplementedError  # your code here


# %%
check(Autoencoder)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
