# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 1: Tensors and einsum
#
# Each exercise is one function. Replace `raise NotImplementedError` with your code, run the cell, and run the `check`
# under it. Work from top to bottom: the exercises climb, and later ones use what earlier ones taught.
#
# - `check(name)` tries your function on shapes and values that you may not have thought of, and shows the first one
#   that fails.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Three rules hold for all of them:
#
# - **No Python loop over elements.** A `for` over rows, steps or pixels runs hundreds of times slower than one tensor
#   operation, and `check` notices it. Comprehensions and `map` are loops too.
# - **Arguments stay as they are.** The caller still needs them.
# - **Any size can be 1, and 0 too unless the docstring says otherwise.** The names in brackets are sizes: `(n, d)` is n
#   rows of d numbers.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import numpy as np
import torch

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# One idea each: broadcasting, NumPy, the letters of einsum, comparing.

# %% [markdown]
# ### `outer_sum` · 1 point · ●○○ · about 4 min
#
# Given `a` of shape `(n,)` and `b` of shape `(m,)`, return the table of all their sums, shape `(n, m)`:
# `table[i, j] = a[i] + b[j]`.
#
# For `a = [1, 2]` and `b = [10, 20, 30]` the table is `[[11, 21, 31], [12, 22, 32]]`.


# %%
def outer_sum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All sums of one element of `a` and one of `b`.

    a: any dtype, shape (n,). b: the same dtype, shape (m,). Returns the same dtype, shape (n, m).
    """
    ### BEGIN SOLUTION
    return a[:, None] + b  # (n, 1) + (m,) -> (n, m)
    ### END SOLUTION


# %%
check(outer_sum)

# %% [markdown]
# ### `image_to_tensor` · 1 point · ●○○ · about 6 min
#
# Image files are read as NumPy arrays of bytes, shape `(h, w, c)`, with values from 0 to 255. PyTorch's layers want
# `float32`, the channels first, and values from 0 to 1. Convert one image to a tensor of shape `(c, h, w)`; byte 255
# becomes exactly 1.
#
# A picture of two pixels, red and white, is `[[[255, 0, 0], [255, 255, 255]]]`, shape `(1, 2, 3)`. As a tensor of shape
# `(3, 1, 2)` it is `[[[1, 1]], [[0, 1]], [[0, 1]]]`: the red channel of both pixels, then the green, then the blue.


# %%
def image_to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """An image as PyTorch's layers take it.

    pixels: uint8 array, shape (h, w, c), c ≥ 1. Returns float32, shape (c, h, w), values in [0, 1].
    """
    ### BEGIN SOLUTION
    return torch.tensor(pixels).permute(2, 0, 1) / 255  # (h, w, c) -> (c, h, w)
    ### END SOLUTION


# %%
check(image_to_tensor)

# %% [markdown]
# ### `without_self_loops` · 1 point · ●○○ · about 5 min
#
# A graph of n nodes is given as a NumPy array of shape `(n, n)`: entry `[i, j]` is the weight of the edge from i to j.
# Return it as a tensor with zeros on the diagonal. The diagonal may hold infinities or NaN. The array itself must keep
# its diagonal.
#
# `[[5, 1], [2, 7]]` becomes `[[0, 1], [2, 0]]`, and afterwards the array is still `[[5, 1], [2, 7]]`.


# %%
def without_self_loops(weights: np.ndarray) -> torch.Tensor:
    """The edge weights with a zero diagonal, in memory of their own.

    weights: float64 array, shape (n, n). Returns float64, shape (n, n).
    """
    ### BEGIN SOLUTION
    return torch.tensor(weights).fill_diagonal_(0)  # torch.tensor copies, so writing in place is safe
    ### END SOLUTION


# %%
check(without_self_loops)

# %% [markdown]
# ### `transposed_product` · 1 point · ●○○ · about 4 min
#
# Given the matrices a of shape `(n, k)` and b of shape `(k, m)`, return the *transpose* of their matrix product, shape
# `(m, n)`: entry `[j, i]` is the sum over k of `a[i, k] * b[k, j]`. One `einsum` multiplies and transposes.
#
# For a = `[[1, 2]]` and b = `[[3, 4, 5], [6, 7, 8]]` the product is `[[15, 18, 21]]`, and the result is
# `[[15], [18], [21]]`.
#
# Not allowed: `@`, `torch.matmul` and `torch.mm`, because this exercise writes them in letters.


# %%
def transposed_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The transpose of the matrix product of a and b.

    a: float, shape (n, k). b: the same dtype, shape (k, m). Returns the same dtype, shape (m, n).
    """
    ### BEGIN SOLUTION
    return torch.einsum("ik,kj->ji", a, b)  # k is shared and summed; the right side names the order
    ### END SOLUTION


# %%
check(transposed_product)

# %% [markdown]
# ### `batch_trace` · 1 point · ●○○ · about 5 min
#
# The trace of a square matrix is the sum of its diagonal. Given a batch of square matrices, shape `(b, n, n)`, return
# the trace of each, shape `(b,)`. One `einsum` does it.
#
# For the batch `[[[1, 2], [3, 4]], [[5, 0], [0, -5]]]` the traces are `[5, 0]`.


# %%
def batch_trace(x: torch.Tensor) -> torch.Tensor:
    """The trace of each matrix of a batch.

    x: float, shape (b, n, n). Returns the same dtype, shape (b,).
    """
    ### BEGIN SOLUTION
    return torch.einsum("bii->b", x)  # i twice: the diagonal; i missing on the right: its sum
    ### END SOLUTION


# %%
check(batch_trace)

# %% [markdown]
# ### `one_hot` · 1 point · ●○○ · about 6 min
#
# Given n labels, each from 0 to `num_classes` − 1, return a table of shape `(n, num_classes)`: row i is 1 in the column
# of label i, and 0 elsewhere. The table is `float32`. It has `num_classes` columns even if some class does not occur.
#
# Labels `[2, 0]` with 3 classes give `[[0, 0, 1], [1, 0, 0]]`.
#
# Not allowed: `torch.nn.functional.one_hot`, because this exercise builds it.


# %%
def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Labels as rows of zeros with a single one.

    labels: int64, shape (n,), values in [0, num_classes). num_classes: at least 1.
    Returns float32, shape (n, num_classes).
    """
    ### BEGIN SOLUTION
    return (labels[:, None] == torch.arange(num_classes)).float()  # (n, 1) == (num_classes,) -> (n, num_classes)
    ### END SOLUTION


# %%
check(one_hot)

# %% [markdown]
# ## Apply
#
# The same ideas on the tensors of real models: images, sequences, attention heads.

# %% [markdown]
# ### `to_image` · 1 point · ●○○ · about 8 min
#
# The inverse of `image_to_tensor`. A model returns a picture as `float32`, shape `(c, h, w)`, with values that should
# lie in [0, 1], but may overshoot a little. Convert it to a NumPy array of bytes, shape `(h, w, c)`: 0 becomes 0, 1
# becomes 255, and what lies between is *rounded* to the nearest byte, not cut off. Values outside [0, 1] become the
# nearer end, 0 or 255.
#
# A grey picture of three pixels, `[[[0.5, 1.2, -0.1]]]`, shape `(1, 1, 3)`, becomes `[[[128], [255], [0]]]`, shape
# `(1, 3, 1)`: 0.5 · 255 is 127.5.


# %%
def to_image(x: torch.Tensor) -> np.ndarray:
    """A picture as image files keep it.

    x: float32, shape (c, h, w), c ≥ 1, any finite values. Returns a uint8 array, shape (h, w, c).
    """
    ### BEGIN SOLUTION
    levels = (255 * x.clamp(0, 1)).round()  # uint8 cuts off fractions, and wraps round outside 0 to 255
    return levels.to(torch.uint8).permute(1, 2, 0).numpy()  # (c, h, w) -> (h, w, c)
    ### END SOLUTION


# %%
check(to_image)

# %% [markdown]
# ### `normalize_channels` · 1 point · ●○○ · about 6 min
#
# Given images of shape `(n, c, h, w)`, and the mean and the standard deviation of each channel, both of shape `(c,)`,
# subtract each channel's mean and divide by its standard deviation. The shape stays `(n, c, h, w)`.
#
# One image of two channels with one pixel each, `[[[[10]], [[6]]]]`, with mean `[4, 0]` and standard deviation
# `[2, 3]`, becomes `[[[[3]], [[2]]]]`.
#
# The images must not be changed: the caller reads them again.


# %%
def normalize_channels(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Images with each channel shifted and scaled.

    images: float, shape (n, c, h, w), c ≥ 1. mean, std: the same dtype, shape (c,), std > 0.
    Returns the same dtype, shape (n, c, h, w).
    """
    ### BEGIN SOLUTION
    return (images - mean[:, None, None]) / std[:, None, None]  # (n, c, h, w) with (c, 1, 1)
    ### END SOLUTION


# %%
check(normalize_channels)

# %% [markdown]
# ### `append_positions` · 1 point · ●○○ · about 8 min
#
# A batch of sequences has d features at each step: `(b, t, d)`. A second tensor of shape `(p, t)` describes the t
# positions, and all sequences share it. Join them: return shape `(b, t, d + p)`, at each step the d features and then
# the p numbers of that position.
#
# One sequence of two steps with one feature, `[[[7], [8]]]`, and positions `[[0, 1], [5, 6]]` (p = 2, t = 2) give
# `[[[7, 0, 5], [8, 1, 6]]]`.


# %%
def append_positions(features: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Features with the numbers of their position appended.

    features: float, shape (b, t, d). positions: the same dtype, shape (p, t).
    Returns the same dtype, shape (b, t, d + p).
    """
    ### BEGIN SOLUTION
    shared = positions.T.expand(len(features), -1, -1)  # (b, t, p), b times the same memory
    return torch.cat([features, shared], dim=-1)  # (b, t, d + p)
    ### END SOLUTION


# %%
check(append_positions)

# %% [markdown]
# ### `gram_matrices` · 1 point · ●○○ · about 6 min
#
# Given x of shape `(b, t, d)`, return for each batch entry the matrix of inner products between its *features*, shape
# `(b, d, d)`: `gram[b, i, j]` is the sum over t of `x[b, t, i] * x[b, t, j]`. (It is xᵀx for each matrix x of the
# batch, and what style transfer compares.)
#
# For the single matrix `[[1, 2], [3, 4]]`, t = d = 2, the result is `[[10, 14], [14, 20]]`: 1·1 + 3·3 = 10,
# 1·2 + 3·4 = 14, 2·2 + 4·4 = 20.


# %%
def gram_matrices(x: torch.Tensor) -> torch.Tensor:
    """Inner products between the features of each batch entry.

    x: float, shape (b, t, d). Returns the same dtype, shape (b, d, d).
    """
    ### BEGIN SOLUTION
    return torch.einsum("bti,btj->bij", x, x)  # t is shared and summed; i and j run over the features
    ### END SOLUTION


# %%
check(gram_matrices)

# %% [markdown]
# ### `bilinear` · 2 points · ●●○ · about 8 min
#
# A bilinear form takes two vectors to one number, through a matrix of weights; k matrices make k numbers. Given x of
# shape `(b, i)`, W of shape `(k, i, j)` and y of shape `(b, j)`, return z of shape `(b, k)`:
#
# $$z_{bk} = \sum_{i}\sum_{j} x_{bi}\, W_{kij}\, y_{bj}$$
#
# For x = `[[1, 2]]`, y = `[[3, 4]]` and the single matrix W = `[[[1, 0], [0, 1]]]` the result is `[[11]]`: 1·3 + 2·4.


# %%
def bilinear(x: torch.Tensor, W: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """z[b, k] = sum over i and j of x[b, i] W[k, i, j] y[b, j].

    x: float, shape (b, i). W: the same dtype, shape (k, i, j). y: the same dtype, shape (b, j). i, j, k ≥ 1.
    Returns the same dtype, shape (b, k).
    """
    ### BEGIN SOLUTION
    return torch.einsum("bi,kij,bj->bk", x, W, y)  # i and j are missing on the right: summed
    ### END SOLUTION


# %%
check(bilinear)

# %% [markdown]
# ### `attention_scores` · 2 points · ●●○ · about 8 min
#
# In attention each query is compared with each key. Given queries of shape `(b, h, t, d)` (batch, heads, queries,
# features) and keys of shape `(b, h, s, d)`, return the scores of shape `(b, h, t, s)`: the inner product of query t
# and key s of the same batch entry and head, divided by √d. No softmax yet.
#
# With one batch entry and one head, d = 4: the query `[1, 1, 1, 1]` and the keys `[2, 0, 0, 0]` and `[1, 2, 3, 4]` give
# the scores `[[1, 5]]`: 2/2 and 10/2.


# %%
def attention_scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Scaled inner products of all queries with all keys, for each batch entry and head.

    q: float, shape (b, h, t, d), h ≥ 1, d ≥ 1. k: the same dtype, shape (b, h, s, d).
    Returns the same dtype, shape (b, h, t, s).
    """
    ### BEGIN SOLUTION
    products = torch.einsum("bhtd,bhsd->bhts", q, k)  # (b, h, t, s)
    return products / q.shape[-1] ** 0.5  # a sum of d products spreads like √d
    ### END SOLUTION


# %%
check(attention_scores)

# %% [markdown]
# ### `split_heads` · 2 points · ●●○ · about 8 min
#
# Multi-head attention cuts the features of each step into equal runs, one for each head. Given x of shape
# `(b, t, heads * d)`, return shape `(b, heads, t, d)`: head 0 gets the first d features of every step, head 1 the next
# d, and so on.
#
# One sequence of two steps with four features, `[[[1, 2, 3, 4], [5, 6, 7, 8]]]`, and two heads give
# `[[[[1, 2], [5, 6]], [[3, 4], [7, 8]]]]`.


# %%
def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """The features of each step, divided among the heads.

    x: float, shape (b, t, heads * d), b, t, d ≥ 1. heads: at least 1, divides the last axis.
    Returns the same dtype, shape (b, heads, t, d).
    """
    ### BEGIN SOLUTION
    b, t, width = x.shape
    return x.reshape(b, t, heads, width // heads).transpose(1, 2)  # (b, t, heads, d) -> (b, heads, t, d)
    ### END SOLUTION


# %%
check(split_heads)

# %% [markdown]
# ### `gather_last_step` · 2 points · ●●○ · about 8 min
#
# Sequences of different lengths are padded to t steps, shape `(b, t, d)`; `lengths`, shape `(b,)`, says how many steps
# of each are real. Return the last real step of each sequence, shape `(b, d)`. What stands in the padding is arbitrary,
# NaN included.
#
# Two sequences with one feature, `[[[1], [2], [0]], [[3], [0], [0]]]`, and lengths `[2, 1]` give `[[2], [3]]`.


# %%
def gather_last_step(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The last real step of each padded sequence.

    x: float, shape (b, t, d), t ≥ 1, d ≥ 1. lengths: int64, shape (b,), values from 1 to t.
    Returns the same dtype as x, shape (b, d).
    """
    ### BEGIN SOLUTION
    rows = torch.arange(len(x))  # (b,)
    return x[rows, lengths - 1]  # two index tensors of shape (b,) are read in pairs -> (b, d)
    ### END SOLUTION


# %%
check(gather_last_step)

# %% [markdown]
# ## Combine
#
# Two or three ideas in one function. Write down the shape after each step before you write the code.

# %% [markdown]
# ### `squared_distances` · 2 points · ●●○ · about 10 min
#
# Given n points x of shape `(n, d)` and m points y of shape `(m, d)`, return the squared Euclidean distance of every
# point of x to every point of y, shape `(n, m)`: the sum over the coordinates of `(x[i] - y[j])²`.
#
# From `[[0, 0], [1, 1]]` to `[[3, 4]]` the squared distances are `[[25], [13]]`: 9 + 16 and 4 + 9.


# %%
def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The squared Euclidean distance of each row of x to each row of y.

    x: float, shape (n, d). y: the same dtype, shape (m, d). Returns the same dtype, shape (n, m).
    """
    ### BEGIN SOLUTION
    # |x|² + |y|² − 2xy would never build (n, m, d), so it needs less memory, but it rounds more where points are close.
    differences = x[:, None] - y  # (n, 1, d) - (m, d) -> (n, m, d)
    return differences.square().sum(dim=-1)  # (n, m)
    ### END SOLUTION


# %%
check(squared_distances)

# %% [markdown]
# ### `top_k_accuracy` · 2 points · ●●○ · about 10 min
#
# A classifier gives each of n rows one logit per class, shape `(n, classes)`; `labels`, shape `(n,)`, holds the right
# classes. Return the share of rows whose label is among the k largest logits of the row, as a Python `float` from 0.0
# to 1.0. No two logits of a row are equal.
#
# Logits `[[1, 5, 3], [9, 2, 4]]` and labels `[2, 1]`: with k = 1 the accuracy is 0.0, with k = 2 it is 0.5 (class 2 is
# second in the first row, class 1 is last in the second row), with k = 3 it is 1.0.


# %%
def top_k_accuracy(logits: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """The share of rows whose label is among the k largest logits.

    logits: float, shape (n, classes), n ≥ 1, no ties in a row. labels: int64, shape (n,). k: from 1 to classes.
    Returns a Python float.
    """
    ### BEGIN SOLUTION
    best = logits.topk(k, dim=1).indices  # (n, k)
    hits = (best == labels[:, None]).any(dim=1)  # (n, k) == (n, 1), then (n,)
    return hits.float().mean().item()
    ### END SOLUTION


# %%
check(top_k_accuracy)

# %% [markdown]
# ### `masked_mean` · 3 points · ●●○ · about 12 min
#
# Given sequences x of shape `(b, t, d)` and a bool mask of shape `(b, t)`, return the mean over those steps where the
# mask is true, shape `(b, d)`. What stands in the other steps must not matter, even if it is NaN or infinite. A
# sequence without any kept step gets zeros.
#
# One sequence of three steps with one feature, `[[[2], [nan], [6]]]`, and the mask `[[True, False, True]]` give
# `[[4]]`; the mask `[[False, False, False]]` gives `[[0]]`.


# %%
def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the kept steps of each sequence, zeros where none is kept.

    x: float32, shape (b, t, d), d ≥ 1, finite where the mask is true. mask: bool, shape (b, t).
    Returns float32, shape (b, d).
    """
    ### BEGIN SOLUTION
    kept = torch.where(mask[:, :, None], x, 0)  # (b, t, d); a product would not do, since NaN · 0 is NaN
    counts = mask.sum(dim=1, keepdim=True)  # (b, 1)
    return kept.sum(dim=1) / counts.clamp(min=1)  # 0 / 1 where nothing is kept
    ### END SOLUTION


# %%
check(masked_mean)

# %% [markdown]
# ### `weighted_values` · 2 points · ●●○ · about 10 min
#
# The second half of attention. Given the weights of shape `(b, h, t, s)` and the values of shape `(b, h, s, d)`, sum
# the values over s, each times its weight, for each head and each query t. Then merge the heads: return shape
# `(b, t, h * d)`, at each t the d numbers of head 0, then those of head 1, and so on.
#
# One query, one key, two heads: weights `[[[[2]], [[3]]]]` and values `[[[[1, 10]], [[1, 10]]]]` give
# `[[[2, 20, 3, 30]]]`.


# %%
def weighted_values(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weighted sums of the values, heads side by side.

    weights: float, shape (b, h, t, s); s may be 0. values: the same dtype, shape (b, h, s, d). b, h, t, d ≥ 1.
    Returns the same dtype, shape (b, t, h * d).
    """
    ### BEGIN SOLUTION
    per_head = torch.einsum("bhts,bhsd->bthd", weights, values)  # h beside d, as merging needs it
    return per_head.flatten(2)  # (b, t, h * d)
    ### END SOLUTION


# %%
check(weighted_values)

# %% [markdown]
# ### `sliding_windows` · 3 points · ●●● · about 12 min
#
# Given x of shape `(n,)`, return its windows of `size` elements, each starting `step` elements after the one before:
# shape `((n - size) // step + 1, size)`. Elements at the end that fill no whole window are left out. The result must be
# a *view*: it shares the memory of x, and when x changes in place, it changes too. x itself may be a view, such as
# `base[::2]` or a column of a matrix.
#
# For x = `[0, 1, 2, 3, 4, 5]`, size 3 and step 2 the windows are `[[0, 1, 2], [2, 3, 4]]`.
#
# A copy is not allowed: overlapping windows would take up to `size` times the memory.


# %%
def sliding_windows(x: torch.Tensor, size: int, step: int) -> torch.Tensor:
    """The windows of a sequence, as a view on its memory.

    x: any dtype, shape (n,). size: from 1 to n. step: at least 1, may be larger than size.
    Returns the same dtype, shape ((n - size) // step + 1, size).
    """
    ### BEGIN SOLUTION
    # as_strided(shape, (step * x.stride(0), x.stride(0))) is the same by hand.
    return x.unfold(0, size, step)  # the same memory under other strides
    ### END SOLUTION


# %%
check(sliding_windows)

# %% [markdown]
# ### `block_diagonal_mask` · 3 points · ●●● · about 12 min
#
# To train on several short texts at once, one joins them to a single long one, and lets each position see its own text
# only. Given the g lengths of the texts, return the mask of shape `(total, total)`, where total is the sum of the
# lengths: true where row and column lie in the same text. Lengths may be 0, and there may be no text at all; a total of
# 0 gives shape `(0, 0)`.
#
# Lengths `[1, 0, 2]` give `[[True, False, False], [False, True, True], [False, True, True]]`.
#
# No loop over the lengths, so `torch.block_diag` of a list of blocks is out as well: there may be thousands of texts.


# %%
def block_diagonal_mask(lengths: torch.Tensor) -> torch.Tensor:
    """True where both positions belong to the same text.

    lengths: int64, shape (g,), each at least 0. Returns bool, shape (total, total) with total = lengths.sum().
    """
    ### BEGIN SOLUTION
    text = torch.arange(len(lengths)).repeat_interleave(lengths)  # (total,), the text of each position
    return text[:, None] == text  # (total, 1) == (total,) -> (total, total)
    ### END SOLUTION


# %%
check(block_diagonal_mask)

# %% [markdown]
# ## Debug
#
# This program runs without an error. Its results are wrong.

# %% [markdown]
# ### `weighted_mse` · 3 points · ●●● · about 12 min
#
# A network gives n predictions of shape `(n, 1)`. The targets and the weights of the rows have shape `(n,)`. Wanted is
# the weighted mean of the squared errors, a tensor without axes, shape `()`:
#
# $$\frac{\sum_i w_i\,(p_i - t_i)^2}{\sum_i w_i}$$
#
# ```python
# def weighted_mse(predictions, targets, weights):
#     weights /= weights.sum()  # shares that add up to 1
#     errors = predictions - targets
#     return (weights * errors).square().mean()
# ```
#
# For predictions `[[1], [2]]`, targets `[1, 4]` and weights `[1, 3]` the right answer is (1·0 + 3·4) / 4 = 3. The
# program returns 1.84. It has four faults, and one of them spoils not its result but its caller's data. Find them and
# write the mended function.


# %%
def weighted_mse(predictions: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of the squared errors.

    predictions: float, shape (n, 1), n ≥ 1. targets, weights: the same dtype, shape (n,), weights ≥ 0 with a sum > 0.
    Returns the same dtype, shape ().
    """
    ### BEGIN SOLUTION
    errors = predictions[:, 0] - targets  # (n,); from (n, 1) - (n,) would come (n, n)
    return (weights * errors.square()).sum() / weights.sum()
    ### END SOLUTION


# %%
check(weighted_mse)

# %% [markdown]
# ## Build
#
# Two pieces that every deep-learning library has, from nothing but views and einsum. Take your time: each is worth 4
# points.

# %% [markdown]
# ### `conv2d` · 4 points · ●●● · about 20 min
#
# A convolutional layer slides each kernel over the image and, at each place, sums the products over all channels. The
# stride s is the distance from one place to the next, downwards and to the right. Given images of shape `(n, c, h, w)`
# and o kernels of shape `(o, c, i, j)`, return shape `(n, o, (h - i) // s + 1, (w - j) // s + 1)`. There is no padding:
# rows and columns at the end that no kernel reaches are left out. The kernel is not turned round:
#
# $$\text{out}_{n,o,y,x} = \sum_{c,i,j} \text{images}_{n,\,c,\,s y+i,\,s x+j}\;\text{kernels}_{o,c,i,j}$$
#
# One image of one channel, `[[1, 2, 3], [4, 5, 6], [7, 8, 9]]`, and the kernel `[[1, 0], [0, -1]]` give
# `[[-4, -4], [-4, -4]]` at stride 1: 1 − 5, 2 − 6, 4 − 8, 5 − 9. At stride 2 only the first of them is left, `[[-4]]`.
#
# Not allowed: PyTorch's own convolutions, because this exercise builds one. A loop over the kernel's few rows and
# columns is fine, one over pixels, channels, images or kernels is not.


# %%
def conv2d(images: torch.Tensor, kernels: torch.Tensor, stride: int) -> torch.Tensor:
    """The convolution of a layer, without padding.

    images: float, shape (n, c, h, w). kernels: the same dtype, shape (o, c, i, j), i ≤ h, j ≤ w. stride: at least 1.
    All sizes but n are at least 1.
    Returns the same dtype, shape (n, o, (h - i) // stride + 1, (w - j) // stride + 1).
    """
    ### BEGIN SOLUTION
    kernel_height, kernel_width = kernels.shape[2:]
    patches = images.unfold(2, kernel_height, stride).unfold(3, kernel_width, stride)  # (n, c, y, x, i, j), a view
    return torch.einsum("ncyxij,ocij->noyx", patches, kernels)
    ### END SOLUTION


# %%
check(conv2d)

# %% [markdown]
# ### `lstm_step` · 4 points · ●●● · about 25 min
#
# An LSTM reads a batch of sequences step by step and keeps two states, hidden h and cell c, each of shape `(b, m)`.
# Write one step for the inputs x of shape `(b, d)`. The weights of its four sums are stacked: W of shape `(4, m, d)`, U
# of shape `(4, m, m)`, bias of shape `(4, m)`, in the order *input, forget, candidate, output*. For each batch entry,
# each sum has three terms, `W[gate] @ x + U[gate] @ h + bias[gate]`. With the four sums as i, f, g and o, and σ as the
# sigmoid:
#
# $$c' = \sigma(f)\, c + \sigma(i)\tanh(g) \qquad h' = \sigma(o)\tanh(c')$$
#
# Some sequences are shorter than others. `active`, bool of shape `(b,)`, is true where a sequence goes on. One that has
# ended keeps its h and c as they are; its x is padding, which may hold anything, NaN included.
#
# Return the pair `(h', c')`, in this order. If all weights and biases are 0, then σ(0) = 0.5 and tanh(0) = 0, so an
# active cell of 2 becomes c' = 0.5 · 2 = 1 and h' = 0.5 · tanh(1) = 0.381. A cell of 2 that has ended stays 2.
#
# Not allowed: `torch.lstm_cell`, `nn.LSTM` and `nn.LSTMCell`, because they hide just these lines. A loop over the four
# gates is fine, one over the batch or the units is not.


# %%
def lstm_step(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    active: torch.Tensor,
    W: torch.Tensor,
    U: torch.Tensor,
    bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of an LSTM, for those sequences of a batch that go on.

    x: float, shape (b, d). h, c: shape (b, m). active: bool, shape (b,). d, m ≥ 1.
    W: shape (4, m, d). U: shape (4, m, m). bias: shape (4, m). Their first axis: input, forget, candidate, output.
    All but active have the same dtype. Returns the tuple (new h, new c), each of shape (b, m).
    """
    ### BEGIN SOLUTION
    from_input = torch.einsum("gmd,bd->gbm", W, x)  # (4, b, m)
    from_state = torch.einsum("gmn,bn->gbm", U, h)  # n: the units read, m: the units written
    i, f, g, o = from_input + from_state + bias[:, None]  # (4, b, m) + (4, 1, m), taken apart along the gates
    new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()  # (b, m)
    new_h = o.sigmoid() * new_c.tanh()
    goes_on = active[:, None]  # (b, 1)
    return torch.where(goes_on, new_h, h), torch.where(goes_on, new_c, c)
    ### END SOLUTION


# %%
check(lstm_step)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
