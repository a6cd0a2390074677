# ---
# # Generated from solutions/09_peft.py by `make exercises`: edit that file, not this one.
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 9: Parameter-efficient fine-tuning
#
# Each exercise is one function or one class. Replace each `raise NotImplementedError` with your code, run the cell, and
# run the `check` under it. Work from top to bottom: the exercises climb, and later ones use what earlier ones taught.
#
# - `check(name)` tries your code on models and sizes that you may not have thought of, and shows the first result that
#   differs.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Two words are used in one sense throughout. An **adapted layer** is a module with three attributes: `base`, the frozen
# linear layer; `A`, a parameter of shape (r, in); and `B`, a parameter of shape (out, r). The **path** of a module is
# its full dotted name, as `named_modules()` gives it, such as `layer.0.attention.query`.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# What is trained, how much that is, and the one product behind LoRA.

# %% [markdown]
# ### `trainable_share` · 1 point · ●○○ · about 5 min
#
# Return the share of a model's parameters that would be trained: the numbers in parameters with `requires_grad`,
# divided by the numbers in all parameters. A Python `float` between 0 and 1. A parameter that two layers share counts
# once, and buffers do not count. The model has at least one parameter.
#
# For `nn.Linear(3, 2)` whose weight is frozen, 2 of 8 numbers are trained: 0.25.


# %%
def trainable_share(model: nn.Module) -> float:
    """The trainable share of a model's parameters, from 0 to 1.

    `trainable_share(nn.Linear(3, 2))` is 1.0.
    """
    raise NotImplementedError  # your code here


# %%
check(trainable_share)

# %% [markdown]
# ### `largest_rank` · 1 point · ●○○ · about 6 min
#
# LoRA of rank r puts two matrices beside each weight matrix of shape (out, in): A of shape (r, in), and B of shape
# (out, r). `shapes` lists the shapes (out, in) of the matrices that you adapt, all with the same r. Return the largest
# r, an `int`, with which all A and B together have at most `budget` numbers; 0 if even r = 1 has more.
#
# One matrix of shape (4, 4) costs 8 numbers per rank: with a budget of 17 the answer is 2.


# %%
def largest_rank(shapes: Sequence[tuple[int, int]], budget: int) -> int:
    """The largest rank with which LoRA matrices for weights of these shapes (out, in) fit into a budget of numbers.

    `largest_rank([(4, 4)], 17)` is 2.
    """
    raise NotImplementedError  # your code here


# %%
check(largest_rank)

# %% [markdown]
# ### `lora_delta` · 1 point · ●○○ · about 5 min
#
# Return what LoRA adds to a weight: alpha / r times the product of B and A, of shape (out, in). r is the number of rows
# of A. Gradients must reach A and B.
#
# With A = [[1, 2]], B = [[3]] and alpha = 2: r is 1, and the answer is [[6, 12]].


# %%
def lora_delta(A: torch.Tensor, B: torch.Tensor, alpha: float) -> torch.Tensor:
    """The change that LoRA makes to a weight.

    A: float, shape (r, in). B: the same dtype, shape (out, r). Returns shape (out, in).
    """
    raise NotImplementedError  # your code here


# %%
check(lora_delta)

# %% [markdown]
# ### `prompt_mask` · 1 point · ●○○ · about 5 min
#
# Soft tokens stand in front of every sentence, and attention may look at all of them. Given the attention mask of a
# batch, shape (b, t), return the mask with n columns for the soft tokens in front, shape (b, n + t). The soft tokens
# are real tokens. Not judged, but good practice: keep the dtype, so that a mask of booleans stays one.
#
# `prompt_mask(torch.tensor([[1, 1, 0]]), 2)` is `[[1, 1, 1, 1, 0]]`.


# %%
def prompt_mask(mask: torch.Tensor, n: int) -> torch.Tensor:
    """The attention mask of sentences with n soft tokens in front.

    mask: bool, int or float, shape (b, t), true or 1 for real tokens. Returns shape (b, n + t).
    """
    raise NotImplementedError  # your code here


# %%
check(prompt_mask)

# %% [markdown]
# ## Apply
#
# What of a model is saved, and what is put in front of a sentence.

# %% [markdown]
# ### `adapter_state` · 2 points · ●●○ · about 10 min
#
# Return what there is to save of an adapted model: a dict from the full name of each LoRA tensor to a copy of it. The
# LoRA tensors are the parameters of which the last part of the name is exactly `A` or `B`, such as
# `layer.0.attention.query.A`, frozen or not. The copies are detached, keep their dtype, and stay as they are when the
# model changes later. The model is left as it is, its modes (train or eval)
# included. Where there is no adapter, the dict is empty.


# %%
def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The LoRA tensors of a model by their full names: detached copies."""
    raise NotImplementedError  # your code here


# %%
check(adapter_state)

# %% [markdown]
# ### `prefix_attention` · 2 points · ●●○ · about 10 min
#
# Prefix tuning gives each head n more places to attend to: trained keys and values, the same for every sentence.
# Return the attention of the queries over the prefix *and* the sentence together: one softmax over n + t scores, each
# divided by √d. Nothing is masked; n may be 0. Scores may be large, such as 1000. Gradients must reach the prefix, and
# q, k and v as well. You may use `F.scaled_dot_product_attention`.
#
# If all keys are zero, each query gets the mean of all n + t values.


# %%
def prefix_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, prefix_k: torch.Tensor, prefix_v: torch.Tensor
) -> torch.Tensor:
    """Attention over a trained prefix and a sentence.

    q, k, v: float, shape (b, h, t, d). prefix_k, prefix_v: shape (h, n, d). Returns shape (b, h, t, d).
    """
    raise NotImplementedError  # your code here


# %%
check(prefix_attention)

# %% [markdown]
# ### `SoftPrompt` · 3 points · ●●○ · about 15 min
#
# An embedding layer with n soft tokens in front of every sentence.
#
# - The embedding that is passed is frozen: the layer itself, which the rest of the model uses, and not a copy of it.
# - The prompt is the only trainable parameter, with n · d numbers; its name is yours. Each of its rows starts as a
#   *copy* of some row of the embedding's weight, any rows you like: training the prompt must not change the words that
#   it was started from. n is at most the number of these rows.
# - `forward(ids)` takes token ids of shape (b, t) and returns the n rows of the prompt, then the embedded tokens, for
#   each sentence: shape (b, n + t, d).
#
# With n = 2 and one sentence of three tokens, `forward` returns shape (1, 5, d); its rows 0 and 1 are the prompt.


# %%
class SoftPrompt(nn.Module):
    """n trainable vectors in front of the embedded tokens of every sentence.

    embedding: an nn.Embedding of d features. n: the number of soft tokens, from 1 to the number of embeddings.
    """

    def __init__(self, embedding: nn.Embedding, n: int):
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: int64, (b, t). Returns (b, n + t, d)."""
        raise NotImplementedError  # your code here


# %%
check(SoftPrompt)

# %% [markdown]
# ## Combine
#
# What was adapted is merged, or read back from a file.

# %% [markdown]
# ### `merge_all` · 2 points · ●●● · about 12 min
#
# Put the trained adapters into the weights, so that the model is as quick as it was. Replace every module that has a
# method `merge` by what `merge()` returns, wherever in the model it stands. Return the list of the paths of the
# replaced modules, in the order of `named_modules()`. The model itself is changed; it is not itself such a module.


# %%
def merge_all(model: nn.Module) -> list[str]:
    """Replace every module that has a `merge` by what it returns, in place; return their full paths in model order."""
    raise NotImplementedError  # your code here


# %%
check(merge_all)

# %% [markdown]
# ### `load_adapter` · 3 points · ●●● · about 15 min
#
# The way back. Copy the tensors of a state, as `adapter_state` returns it, into the LoRA tensors of a model. The names
# must fit exactly, in any order: if one of the model's LoRA tensors is missing from the state, or the state has a name
# that the model does not know, refuse: raise an error, best a `ValueError` that says which name it is.
#
# Not judged, but good practice: refuse before anything is changed, and names of other parameters as well; keep the
# parameters the same objects, since an optimiser may hold them, and let them share no memory with the state.


# %%
def load_adapter(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copy LoRA tensors into a model, in place.

    state: what `adapter_state` returned for a model of the same form. Raises an error if a name is missing or unknown.
    """
    raise NotImplementedError  # your code here


# %%
check(load_adapter)

# %% [markdown]
# ## Debug
#
# A program that runs, and is wrong.

# %% [markdown]
# ### `lora_forward` · 2 points · ●●○ · about 12 min
#
# This should compute a linear layer with an adapter as a plain function: x Wᵀ + bias + alpha / r · x Aᵀ Bᵀ. It runs on
# square layers only, and is wrong even there. It has three bugs. Write it anew, right, for every shape.
#
# ```python
# def lora_forward(x, weight, bias, A, B, alpha):
#     r = A.shape[1]
#     change = alpha / r * (x @ A.T @ B.T)
#     return (x + change) @ weight.T + bias
# ```
#
# `bias` may be `None`. The function freezes nothing: gradients must reach every tensor that it is given.
#
# With x = [1], weight = [[2]], bias = [3], A = [[1], [1]], B = [[1, 1]] and alpha = 4 the answer is
# 2 + 3 + 4/2 · 2 = [9].


# %%
def lora_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    A: torch.Tensor,
    B: torch.Tensor,
    alpha: float,
) -> torch.Tensor:
    """A linear layer with a LoRA adapter.

    x: float, shape (…, in). weight: (out, in). bias: (out,) or None. A: (r, in). B: (out, r). Returns shape (…, out).
    """
    raise NotImplementedError  # your code here


# %%
check(lora_forward)

# %% [markdown]
# ## Build
#
# The layer of the chapter, and a whole model that is adapted with it.

# %% [markdown]
# ### `LoRALinear` · 4 points · ●●○ · about 20 min
#
# A linear layer with an adapter beside it: `base(x)` + alpha / r · x Aᵀ Bᵀ.
#
# - The layer that is passed becomes the attribute `base`, the same object. It is frozen: its weight, and its bias if it
#   has one.
# - `A`, shape (r, in), is a parameter that starts at random, small or large as you like, but not at zero. `B`, shape
#   (out, r), is a parameter that starts at zero. There are no other parameters.
# - `forward(x)` takes `x` of shape (…, in), with any number of leading axes, and returns (…, out). Gradients reach A
#   and B, and x through both parts.
# - `merge()` returns a new `nn.Linear` that computes the same as `forward` does at that moment. It may be called again
#   after A and B have changed. The base stays as it is.
#
# Not judged, but good practice: give A and B the dtype of the base's weight, and let the merged layer share no tensor
# with the base.
#
# At the start `LoRALinear(base, r=2, alpha=4)(x)` equals `base(x)`, because B is zero.


# %%
class LoRALinear(nn.Module):
    """A frozen linear layer and a trainable change of rank r: base(x) + alpha / r · x Aᵀ Bᵀ.

    base: an nn.Linear from `in` to `out` features. r: the rank. alpha: the scale, before it is divided by r.
    """

    def __init__(self, base: nn.Linear, r: int, alpha: float):
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (…, in). Returns (…, out)."""
        raise NotImplementedError  # your code here

    def merge(self) -> nn.Linear:
        """A new nn.Linear that computes the same."""
        raise NotImplementedError  # your code here


# %%
check(LoRALinear)

# %% [markdown]
# ### `add_lora` · 4 points · ●●● · about 25 min
#
# Adapt a whole model. Freeze all its parameters, then put a `LoRALinear(base, r, alpha)`, yours from above, in the
# place of every `nn.Linear` whose path *ends* in one of the targets, as `path.endswith(target)` says. An instance of a
# subclass is an `nn.Linear`, too. Other kinds of layers stay, even if their path ends so and they have an
# `in_features`. Two targets may fit one layer, which is replaced once. Return the list of the paths of the layers that
# were replaced, in the order in which `named_modules()` gives them. The model itself is changed.
#
# With targets `["query", "value"]`, the layer at `layer.0.attention.query` is replaced. A linear layer at
# `layer.0.query_in` is not, since its path does not *end* in `query`. A `LayerNorm` at `layer.0.value` is not, since it
# is no `nn.Linear`. Where no path ends in a target, everything is frozen and the list is empty.


# %%
def add_lora(model: nn.Module, targets: Sequence[str], r: int, alpha: float) -> list[str]:
    """Replace linear layers by adapted ones, in place, and freeze everything else.

    targets: ends of paths. Returns the full paths of the replaced layers, in model order.
    """
    raise NotImplementedError  # your code here


# %%
check(add_lora)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
