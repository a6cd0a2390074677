# ---
# # Generated from solutions/07_attention.py by `make exercises`: edit that file, not this one.
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 7: Sequences and attention
#
# Replace `raise NotImplementedError` with your code, run the cell, and run the `check` under it. Work from top to
# bottom: the last exercise may use an earlier one.
#
# - `check(name)` tries your function on shapes and values that you may not have thought of, and shows the first one
#   that fails.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Three rules hold for all of them:
#
# - **True in a mask means "may attend".**
# - **Arguments stay as they are.** The caller still needs them.
# - **Tensors are worked on whole.** Where tensors come in and go out, a Python loop over sequences or positions runs
#   hundreds of times slower; in `next_token_pairs` and `decoder_mask` the check refuses it. `greedy_decode`,
#   `error_rate` and `bleu` work on lists: there, loops are right.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import math
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# One idea each: who sees whom, and what is predicted from what.

# %% [markdown]
# ### `causal_mask` · 1 point · ●○○ · about 4 min
#
# In a language model, position i may attend to itself and to what stands before it. Return the mask of shape `(n, n)`:
# entry `[i, j]` is true where i may attend to j.
#
# For n = 3 it is `[[True, False, False], [True, True, False], [True, True, True]]`.


# %%
def causal_mask(n: int) -> torch.Tensor:
    """Which positions each position may attend to: itself and all before it.

    n: at least 0. Returns bool, shape (n, n), true where row i may attend to column j.
    """
    raise NotImplementedError  # your code here


# %%
check(causal_mask)

# %% [markdown]
# ### `shift_right` · 1 point · ●○○ · about 5 min
#
# While it is trained, a decoder gets the right answer as its input, one step late: at step 0 it is given the start
# token `sos`, at step i the target of step i − 1, and must predict the target of step i. Given the targets of shape
# `(b, t)`, return the decoder's inputs, of the same shape. The last target is never an input.
#
# Targets `[[7, 8, 2], [9, 2, 0]]` with `sos = 1` give `[[1, 7, 8], [1, 9, 2]]`.


# %%
def shift_right(targets: torch.Tensor, sos: int) -> torch.Tensor:
    """The inputs of a decoder that must predict `targets`.

    targets: int64, shape (b, t), b ≥ 1, t ≥ 1. Returns the same dtype and shape.
    """
    raise NotImplementedError  # your code here


# %%
check(shift_right)

# %% [markdown]
# ### `next_token_pairs` · 1 point · ●○○ · about 8 min
#
# A language model learns from a long text by predicting, at each place, the token that follows. Cut the ids of a text
# into pieces of `length` tokens, one after the other without gap or overlap, and give each piece its targets: the same
# piece, one token later. Make as many pieces as can be filled completely, inputs and targets. What is left over at the
# end is not used.
#
# Six ids `[10, 11, 12, 13, 14, 15]` with `length = 2` give the inputs `[[10, 11], [12, 13]]` and the targets
# `[[11, 12], [13, 14]]`. A third piece would need the token after 15 as its last target.


# %%
def next_token_pairs(ids: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pieces of a text, and for each position the token that follows it.

    ids: int64, shape (n,), n ≥ 1. length: at least 1.
    Returns the tuple (inputs, targets), both int64, shape (pieces, length); no pieces give shape (0, length).
    """
    raise NotImplementedError  # your code here


# %%
check(next_token_pairs)

# %% [markdown]
# ## Apply
#
# The parts of a Transformer and of its training, one formula each.

# %% [markdown]
# ### `sequence_loss` · 2 points · ●●○ · about 8 min
#
# Given the logits of a decoder, shape `(b, t, v)`, and the targets, shape `(b, t)`, return the mean cross-entropy over
# all targets that are not `pad`. Each target counts once, so a long sequence weighs more than a short one. At least one
# target is not padding.
#
# One sequence, v = 2, all logits 0, targets `[[1, 1, 0]]` and `pad = 0`: each of the two real targets has probability
# ½, so the loss is log 2 ≈ 0.693.


# %%
def sequence_loss(logits: torch.Tensor, targets: torch.Tensor, pad: int) -> torch.Tensor:
    """The mean cross-entropy over what is not padding.

    logits: float, shape (b, t, v). targets: int64, shape (b, t), values in [0, v). pad: in [0, v).
    Returns the dtype of the logits, shape ().
    """
    raise NotImplementedError  # your code here


# %%
check(sequence_loss)

# %% [markdown]
# ### `positional_encoding` · 2 points · ●●○ · about 10 min
#
# Attention does not see order, so a Transformer is told the positions. Return the table of shape `(length, dim)` with
#
# $$P_{p,\,2i} = \sin\!\left(p \cdot 10000^{-2i/\text{dim}}\right), \qquad
# P_{p,\,2i+1} = \cos\!\left(p \cdot 10000^{-2i/\text{dim}}\right)$$
#
# for the positions p = 0, 1, … and the pairs of columns i = 0, 1, …: a sine in each even column, and beside it the
# cosine of the same angle.
#
# For `length = 2` and `dim = 4` the angles at position 1 are 1 and 0.01, so the table is
# `[[0, 1, 0, 1], [0.841, 0.540, 0.010, 1.000]]`.


# %%
def positional_encoding(length: int, dim: int) -> torch.Tensor:
    """Sines and cosines of the position, from fast (left) to slow (right).

    length: at least 0. dim: even, at least 2. Returns float32, shape (length, dim).
    """
    raise NotImplementedError  # your code here


# %%
check(positional_encoding)

# %% [markdown]
# ### `decoder_mask` · 2 points · ●●○ · about 8 min
#
# A batch of padded ids, shape `(b, t)`, goes through a Transformer that must look neither ahead nor at padding. Return
# the mask of shape `(b, t, t)`: entry `[b, i, j]` is true where position i of sequence b may attend to position j, that
# is, where j is not after i and `ids[b, j]` is not `pad`. What stands at i itself does not matter.
#
# For ids `[[5, 0]]` and `pad = 0` the mask is `[[[True, False], [True, False]]]`.


# %%
def decoder_mask(ids: torch.Tensor, pad: int) -> torch.Tensor:
    """Which positions each position may attend to: no later one, and no padding.

    ids: int64, shape (b, t), b ≥ 0, t ≥ 1. Returns bool, shape (b, t, t).
    """
    raise NotImplementedError  # your code here


# %%
check(decoder_mask)

# %% [markdown]
# ### `error_rate` · 2 points · ●●○ · about 15 min
#
# How wrong is a pronunciation? The *edit distance* is the least number of symbols to insert, delete or replace to turn
# one list into the other. Return it divided by the length of the *target*.
#
# From `["K", "AE", "T"]` to the target `["B", "AE", "T", "S"]` it takes two edits, one replacement and one insertion:
# the rate is 2/4 = 0.5. With much too long a prediction the rate is above 1.


# %%
def error_rate(predicted: list, target: list) -> float:
    """The edit distance between two lists of symbols, over the length of the target.

    predicted: any length. target: not empty. Two symbols are the same where == says so. Returns a Python float.
    """
    raise NotImplementedError  # your code here


# %%
check(error_rate)

# %% [markdown]
# ### `scaled_dot_product` · 3 points · ●●○ · about 15 min
#
# Attention itself. Given queries of shape `(…, t, d)`, keys `(…, s, d)` and values `(…, s, e)`, with the same axes `…`
# in front (there may be none), return the values that the queries find, `(…, t, e)`, and the weights, `(…, t, s)`:
#
# $$W = \operatorname{softmax}\!\left(Q K^\top / \sqrt d\right), \qquad \text{found} = W V$$
#
# A mask is true where a query may attend to a key. Its shape broadcasts to that of the weights: `(t, s)` for all, or
# `(b, 1, 1, s)` for padding. Keys that are masked get weight 0, and the other weights of the row add up to 1, however
# low their scores are. **A query that may attend nowhere** has weights 0 and finds zeros.
#
# Everything must work in `float16` too, and both results have the dtype of q.
#
# With d = 1, q = `[[0]]`, k = `[[3], [5]]`, v = `[[10, 0], [20, 2]]` and no mask, the scores are 0 and 0, the weights
# `[[0.5, 0.5]]` and the values found `[[15, 1]]`. With the mask `[[False, True]]` they are `[[0, 1]]` and `[[20, 2]]`.
#
# Not allowed: `F.scaled_dot_product_attention`, because this exercise builds it.


# %%
def scaled_dot_product(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention.

    q: float, shape (…, t, d), d ≥ 1. k: the same dtype, shape (…, s, d). v: the same dtype, shape (…, s, e). s ≥ 1.
    mask: bool, broadcasts to (…, t, s), true = may attend.
    Returns the tuple (values, weights), shapes (…, t, e) and (…, t, s), in q's dtype.
    """
    raise NotImplementedError  # your code here


# %%
check(scaled_dot_product)

# %% [markdown]
# ## Combine
#
# From logits to answers, and from answers to a score.

# %% [markdown]
# ### `greedy_decode` · 2 points · ●●○ · about 10 min
#
# `step(ids)` runs a decoder: it takes the list of ids so far, the start token `sos` first, and returns the logits for
# the next id, shape `(vocabulary,)`. Take the most likely id each time, until it is `eos` or there are `max_length` of
# them. Return the ids as a list of Python ints, without the `sos` in front and without `eos`. A `sos` that comes up
# later is an id like any other.
#
# `step` is expensive: call it once for each id that you return, and once more for `eos` only if that comes up before
# there are `max_length` ids. The logits may be floats or whole numbers, on any device, and may carry gradients. An id
# may be 0.
#
# With `sos = 1`, `eos = 2`, `max_length = 5` and a `step` whose largest logit is 7, then 4, then 2, it is called with
# `[1]`, `[1, 7]` and `[1, 7, 4]`, and the result is `[7, 4]`. With `max_length = 2` it is `[7, 4]` after two calls.


# %%
def greedy_decode(step: Callable[[list[int]], torch.Tensor], sos: int, eos: int, max_length: int) -> list[int]:
    """The most likely ids, one after the other.

    step: list of ids → logits, shape (vocabulary,). max_length: at least 0. Returns at most max_length Python ints.
    """
    raise NotImplementedError  # your code here


# %%
check(greedy_decode)

# %% [markdown]
# ### `sample_top_k` · 3 points · ●●○ · about 12 min
#
# Text that always takes the likeliest token goes round in circles. Draw instead: for each row of the logits, shape
# `(b, v)`, keep the k largest (of equal logits any may be kept), divide them by the temperature, turn them into
# probabilities by a softmax, and draw one id with these probabilities, for each row on its own. Return the ids, int64,
# shape `(b,)`.
#
# Draw from the `generator` that you are given: the same seed then gives the same ids, a second call goes on where the
# first has stopped, and the random numbers of other code stay as they are.
#
# For logits `[[0, 4, 2]]`, k = 2 and temperature 2, ids 1 and 2 remain, with 4/2 and 2/2: id 1 has probability
# e² / (e² + e) ≈ 0.73, id 2 has 0.27, and id 0 is never drawn.


# %%
def sample_top_k(logits: torch.Tensor, k: int, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """One id per row, drawn among its k largest logits.

    logits: float, shape (b, v), b ≥ 1; some may be -inf, but not the largest k. k: from 1 to v. temperature: above 0.
    Returns int64, shape (b,).
    """
    raise NotImplementedError  # your code here


# %%
check(sample_top_k)

# %% [markdown]
# ### `bleu` · 3 points · ●●● · about 20 min
#
# BLEU asks how many n-grams (runs of n symbols) of the predictions occur in the targets. Given a list of predictions
# and the list of their targets, each a list of symbols, compute for n = 1, 2, 3, 4 the precision
#
# $$p_n = \frac{\text{n-grams of the predictions that are found in their target}}{\text{n-grams of the predictions}}$$
#
# where both counts are summed over *all* pairs before they are divided. A target's n-gram can be found only as often as
# it occurs there: of the prediction `["a", "a", "a"]` with the target `["a", "b", "a"]`, two 1-grams are found, not
# three. Then
#
# $$\text{BLEU} = \min\!\left(1, e^{1 - r/c}\right) \sqrt[4]{p_1\,p_2\,p_3\,p_4}$$
#
# where c and r are the total lengths of the predictions and of the targets. BLEU is 0 where any of the four counts of
# found n-grams is 0.
#
# One pair, `["a", "b", "c", "d", "e"]` and the target `["a", "b", "c", "d", "f"]`: p₁ … p₄ are 4/5, 3/4, 2/3 and 1/2,
# their product is 1/5, and BLEU is 0.2^¼ ≈ 0.669.


# %%
def bleu(predicted: list[list], targets: list[list]) -> float:
    """BLEU of a corpus with one target for each prediction, with n-grams up to 4.

    predicted, targets: lists of the same length, at least 1, of lists of strings or ints.
    Returns a Python float in [0, 1].
    """
    raise NotImplementedError  # your code here


# %%
check(bleu)

# %% [markdown]
# ## Debug
#
# This program runs without an error, and its loss falls quickly. It learns nothing.

# %% [markdown]
# ### `teacher_forced_loss` · 3 points · ●●● · about 15 min
#
# `model(words, inputs)` is an encoder-decoder: it takes words, shape `(b, s)`, and the decoder's inputs, shape
# `(b, t)`, and returns logits, shape `(b, t, v)`. At each step it may use that step's input and the earlier ones.
# Wanted is the mean cross-entropy with which it predicts the targets, shape `(b, t)`, by teacher forcing, over all that
# is not padding.
#
# ```python
# def teacher_forced_loss(model, words, targets, sos, pad):
#     logits = model(words, targets)
#     v = logits.shape[2]
#     losses = F.cross_entropy(logits.reshape(-1, v, targets.shape[1]), targets, reduction="none")  # (b, t)
#     losses[targets == pad] = 0
#     return losses.mean()
# ```
#
# It has three faults. Find them and write the mended function. (`F.cross_entropy` takes logits of shape `(n, v)` with
# targets `(n,)`, or logits `(b, v, t)` with targets `(b, t)`.) For targets `[[7, 2, 0]]`, `sos = 1` and `pad = 0` the
# model must be given `[[1, 7, 2]]`, and the loss is the mean of two numbers, for 7 and for 2.


# %%
def teacher_forced_loss(
    model: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    words: torch.Tensor,
    targets: torch.Tensor,
    sos: int,
    pad: int,
) -> torch.Tensor:
    """The mean cross-entropy of a decoder that is given the targets one step late.

    model: (words, inputs) → logits, shape (b, t, v). words: int64, shape (b, s). targets: int64, shape (b, t), t ≥ 1,
    not all padding. Returns the dtype of the logits, shape ().
    """
    raise NotImplementedError  # your code here


# %%
check(teacher_forced_loss)

# %% [markdown]
# ## Build
#
# The layer that every Transformer is made of. It may use your `scaled_dot_product`.

# %% [markdown]
# ### `MultiHeadAttention` · 4 points · ●●● · about 25 min
#
# Self-attention with several heads. Four linear layers `query`, `key`, `value` and `out`, each dim → dim with bias.
# `forward(x, mask)` takes x of shape `(b, t, dim)`:
#
# 1. `query`, `key` and `value` make three tensors of x.
# 2. Each is cut into `heads` runs of dim / heads features: head 0 gets the first features, head 1 the next.
# 3. Every head attends on its own, scaled by the width of a *head*.
# 4. The heads' results are put side by side again, in order, and go through `out`.
#
# The mask is true where the first position may attend to the second. It has shape `(t, t)`, one for all sequences, or
# `(b, t, t)`, one for each; it holds for all heads. With the same weights the result is that of
# `nn.MultiheadAttention(dim, heads, batch_first=True)`, whose own mask means the opposite: there, true forbids.
#
# With dim = 2, one head, t = 1 and every layer the identity, the output is x: the only position attends to itself.
#
# Not allowed: `nn.MultiheadAttention` in your class, because this exercise builds it.


# %%
class MultiHeadAttention(nn.Module):
    """Self-attention with several heads.

    dim: features of each position, a multiple of heads. Linear layers query, key, value, out: dim → dim, with bias.
    forward: x float, shape (b, t, dim), t ≥ 1; mask None or bool, shape (t, t) or (b, t, t), true = may attend.
    Returns the dtype of x, shape (b, t, dim).
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        raise NotImplementedError  # your code here

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        raise NotImplementedError  # your code here


# %%
check(MultiHeadAttention)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
