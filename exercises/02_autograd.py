# ---
# # Generated from solutions/02_autograd.py by `make exercises`: edit that file, not this one.
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 2: Autograd
#
# Each exercise is one function or one class. Replace `raise NotImplementedError` with your code, run the cell, and run
# the `check` under it. The exercises climb, and the last one is an autograd engine of your own.
#
# - `check(name)` tries your code on values that you may not have thought of, and shows the first one that fails.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Four rules hold for all of them:
#
# - **Arguments stay as they are.** Leave `x.requires_grad` and `x.grad` alone too: whoever calls your function may be
#   in the middle of a training step. (In `gradient_descent`, `hessian` and `jvp` this is advice, and not checked.)
# - **f may be any function of a tensor** that PyTorch can differentiate. It does not change its argument.
# - **What you return carries no graph** (its `requires_grad` is False), unless gradients are to flow through it, as in
#   `safe_sqrt`, `RoundSTE` and `gradient_penalty`. (In `numerical_gradient`, `gradient_descent`, `hessian` and `jvp`
#   this is advice, and not checked.)
# - **Any shape** includes `()`, and shapes without elements, such as `(0,)`. (`numerical_gradient` is checked with
#   elements only.)

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import math
from collections.abc import Callable

import torch
from torch.func import grad, vmap

from autograder import check, hint, progress, solution
from course_utils.graphs import draw_graph

# %% [markdown]
# ## Recall
#
# One gradient in three ways, automatic, by hand and numerical, and the first thing one does with it.

# %% [markdown]
# ### `value_and_gradient` · 1 point · ●○○ · about 6 min
#
# Given a function f from a tensor to a tensor of shape `()`, and a point x, return the pair of f(x), as a Python
# `float`, and the gradient of f at x, of x's shape and dtype.
#
# For f(x) = Σ x² and x = `[1, -3]` the pair is `(10.0, [2, -6])`.
#
# x may require gradients already, and may hold a gradient from elsewhere in `x.grad`. Both must stay as they are.


# %%
def value_and_gradient(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The value of f at x, and its gradient there.

    f: from x's shape to shape (). x: float, any shape. Returns a Python float and a tensor of x's shape and dtype.
    """
    raise NotImplementedError  # your code here


# %%
check(value_and_gradient)

# %% [markdown]
# ### `mse_gradient` · 2 points · ●○○ · about 10 min
#
# A linear model predicts X w for n rows of d features. Its mean squared error is
#
# $$L(w) = \frac{1}{n} \sum_{i=1}^{n} \Big(\sum_j X_{ij} w_j - y_i\Big)^2$$
#
# Derive its gradient on paper, $\partial L / \partial w_k$, and write it as tensor operations. X has shape `(n, d)`, y
# shape `(n,)`, w shape `(d,)`, and so has the gradient.
#
# For X = `[[1, 2], [3, 4]]`, y = `[1, 0]` and w = `[1, 0]` the errors are `[0, 3]`, and the gradient is `[9, 12]`:
# (2/2)·(0·1 + 3·3) and (2/2)·(0·2 + 3·4).
#
# w may require gradients already, as it does in a training step. The result carries no graph even then.
#
# Not allowed: `backward`, `torch.autograd` and `torch.func`, because you are to be the autograd here.


# %%
def mse_gradient(w: torch.Tensor, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of the mean squared error of a linear model, by hand.

    w: float, shape (d,). X: the same dtype, shape (n, d), n ≥ 1. y: the same dtype, shape (n,).
    Returns the same dtype, shape (d,).
    """
    raise NotImplementedError  # your code here


# %%
check(mse_gradient)

# %% [markdown]
# ### `numerical_gradient` · 2 points · ●○○ · about 10 min
#
# The gradient of f at x by central differences. For each element of x, the estimate is the difference of f a step `eps`
# above and a step `eps` below in this element alone, divided by the distance between the two points. The result has
# x's shape and dtype, and x stays unchanged.
#
# For f(x) = Σ x³, x = `[1, 2]` and eps = 0.1 the result is `[3.01, 12.01]`: the first element is (1.1³ − 0.9³) / 0.2 =
# (1.331 − 0.729) / 0.2.
#
# A loop over the elements is fine. Not allowed: `backward`, `torch.autograd` and `torch.func`, because this is the
# number that one holds against them.


# %%
def numerical_gradient(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, eps: float = 1e-4) -> torch.Tensor:
    """The gradient of f at x by central differences.

    f: from x's shape to shape (). x: float, any shape. eps: the step, > 0. Returns x's shape and dtype.
    """
    raise NotImplementedError  # your code here


# %%
check(numerical_gradient)

# %% [markdown]
# ### `gradient_descent` · 2 points · ●○○ · about 10 min
#
# Start at `x0` and take `steps` steps downhill, each against the gradient of f where you are: x ← x − lr · ∇f(x).
# Return the whole path, the start included, as one tensor of shape `(steps + 1, *x0.shape)`. `x0` stays unchanged.
#
# It is good practice to return the path without a graph: otherwise the graph may grow with every step.
#
# For f(x) = x² with x0 = 1 (shape `()`), lr = 0.25 and two steps, the path is `[1, 0.5, 0.25]`: the gradient at 1 is 2,
# and 1 − 0.25 · 2 = 0.5.


# %%
def gradient_descent(
    f: Callable[[torch.Tensor], torch.Tensor], x0: torch.Tensor, lr: float, steps: int
) -> torch.Tensor:
    """The points that gradient descent visits.

    f: from x0's shape to shape (). x0: float, any shape. lr: the learning rate. steps: at least 0.
    Returns x0's dtype, shape (steps + 1, *x0.shape).
    """
    raise NotImplementedError  # your code here


# %%
check(gradient_descent)

# %% [markdown]
# ## Apply
#
# Steer the gradient: stop it, keep it finite, let it pass, take it sample by sample.

# %% [markdown]
# ### `freeze` · 1 point · ●○○ · about 6 min
#
# Before one trains only the last layers of a model, one freezes the others. Given a model and a list of prefixes,
# switch off `requires_grad` for every parameter whose name begins with one of the prefixes, as `str.startswith` sees
# it. Return the list of the names of these parameters, in the order in which the model names them. All other parameters
# stay as they are, frozen or not.
#
# Nothing else changes: neither values, nor gradients that are stored in `.grad`, nor the mode, training or evaluation.
# The parameters stay the same objects, because an optimiser may hold them already.
#
# A model whose parameters are called `0.weight`, `0.bias`, `2.weight` and `2.bias`, with the prefixes `["0.", "2.w"]`,
# gives `["0.weight", "0.bias", "2.weight"]`, and only `2.bias` goes on learning.
#
# (This function *is* to change its argument.)


# %%
def freeze(model: torch.nn.Module, prefixes: list[str]) -> list[str]:
    """Stop the learning of the parameters whose names begin with a prefix.

    model: changed in place. prefixes: may be empty. Returns the names of the matching parameters, in model order.
    """
    raise NotImplementedError  # your code here


# %%
check(freeze)

# %% [markdown]
# ### `safe_sqrt` · 2 points · ●●○ · about 12 min
#
# The square root where x > 0, and 0 elsewhere. The *gradient* has to be right too: 1 / (2√x) where x > 0, and 0
# elsewhere, never infinite and never NaN.
#
# For x = `[4, 0, -1]` the result is `[2, 0, 0]`. After `result.sum().backward()`, `x.grad` is `[0.25, 0, 0]`.


# %%
def safe_sqrt(x: torch.Tensor) -> torch.Tensor:
    """The square root of what is positive, 0 elsewhere, with a finite gradient.

    x: float, any shape, finite. Returns the same shape and dtype.
    """
    raise NotImplementedError  # your code here


# %%
check(safe_sqrt)

# %% [markdown]
# ### `RoundSTE` · 2 points · ●●○ · about 10 min
#
# Networks that compute in whole numbers have to learn through a rounding, whose derivative is 0 nearly everywhere. The
# straight-through estimator (STE) pretends that rounding were the identity: write an `autograd.Function` that rounds
# forward, as `torch.round` does, and passes the incoming gradient through unchanged. It is used as `RoundSTE.apply(x)`.
#
# For x = `[0.4, 1.5, 2.5]` the result is `[0, 2, 2]` (halves go to the even number). If the gradient `[10, -1, 3]`
# arrives at the result, then x gets `[10, -1, 3]`.


# %%
class RoundSTE(torch.autograd.Function):
    """Rounding whose gradient is that of the identity.

    `RoundSTE.apply(x)` takes a float tensor of any shape and returns the same shape and dtype.
    """

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        """The rounded values."""
        raise NotImplementedError  # your code here

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: torch.Tensor) -> None:
        """Keep what `backward` will need; nothing, if it needs nothing."""

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the input, given that of the output."""
        raise NotImplementedError  # your code here


# %%
check(RoundSTE)

# %% [markdown]
# ### `per_sample_gradients` · 2 points · ●●○ · about 10 min
#
# `backward` gives the gradient of the mean loss, but not how much each sample pulls. Given a function `loss(w, x, y)`
# of weights and *one* sample that returns shape `()`, weights `w` of any shape, n inputs `x` of shape `(n, …)` and n
# targets `y` of shape `(n, …)`, return the gradient of each sample's loss with respect to `w`, shape `(n, *w.shape)`.
#
# For loss(w, x, y) = (w·x − y)² with w = 2 (shape `()`), x = `[1, 3]` and y = `[0, 5]` the gradients are `[4, 6]`: 2·(2
# − 0)·1 and 2·(6 − 5)·3.
#
# `w` may require gradients already. The result carries no graph even then. Not allowed: a Python loop over the samples.


# %%
def per_sample_gradients(
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    w: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
) -> torch.Tensor:
    """The gradient of each sample's loss with respect to the weights.

    loss: (w, one x, one y) -> shape (). w: float, any shape. x, y: float, shape (n, …), n ≥ 1.
    Returns w's dtype, shape (n, *w.shape).
    """
    raise NotImplementedError  # your code here


# %%
check(per_sample_gradients)

# %% [markdown]
# ## Combine
#
# Derivatives of derivatives. Write down the shape of each gradient before you write the code.

# %% [markdown]
# ### `hessian` · 3 points · ●●● · about 15 min
#
# The Hessian of f at x is the matrix of all second derivatives: entry `[i, j]` is ∂²f / ∂xᵢ∂xⱼ. Given f from shape
# `(d,)` to shape `()`, and x, return it, shape `(d, d)`.
#
# f may be linear in some elements of x, or ignore some of them. These second derivatives are 0. (No f that is linear as
# a whole is tried: its gradient need not depend on x, so there may be no second graph, and a function for these too
# needs a case of its own.)
#
# For f(x) = x₀² x₁ + 5 x₁ at x = `[1, 3]` the gradient is `[2 x₀ x₁, x₀² + 5]` = `[6, 6]`, and the Hessian
# `[[2 x₁, 2 x₀], [2 x₀, 0]]` = `[[6, 2], [2, 0]]`.
#
# Use `torch.autograd.grad` only. Not allowed: `backward`, `torch.func`, `torch.autograd.functional` and
# `torch.autograd.forward_ad`, because they hide the second derivative that you are to take.


# %%
def hessian(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The second derivatives of f at x.

    f: from shape (d,) to shape (). x: float, shape (d,), d ≥ 1. Returns the same dtype, shape (d, d).
    """
    raise NotImplementedError  # your code here


# %%
check(hessian)

# %% [markdown]
# ### `jvp` · 3 points · ●●● · about 20 min
#
# For f from shape `(n,)` to shape `(m,)`, the Jacobian J at x has shape `(m, n)`: `J[i, j]` = ∂fᵢ / ∂xⱼ. Return its
# product with a vector v of shape `(n,)`, shape `(m,)`: how fast each output changes when x moves in the direction v.
#
# For f(x) = `[x₀ x₁, x₁², 7]` at x = `[2, 3]` the Jacobian is `[[3, 2], [0, 6], [0, 0]]`, and with v = `[1, 10]` the
# product is `[23, 60, 0]`.
#
# Build it from `torch.autograd.grad`. Row by row will do. There is also a way with two calls for any m: `grad` with
# `grad_outputs=u` gives Jᵀu, which is linear in u, and its derivative with respect to u leads to J. (`torch.func.jvp`
# has the product ready. It passes as well, and teaches you less.)


# %%
def jvp(f: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The Jacobian of f at x, times v.

    f: from shape (n,) to shape (m,), m ≥ 1. x: float, shape (n,), n ≥ 1. v: the same dtype and shape.
    Returns the same dtype, shape (m,).
    """
    raise NotImplementedError  # your code here


# %%
check(jvp)

# %% [markdown]
# ### `gradient_penalty` · 3 points · ●●● · about 15 min
#
# Some networks, such as the critic of a Wasserstein GAN, are trained so that their output changes about as fast as
# their input: the gradient of the output with respect to the input shall have length 1. Given a critic, which takes x
# of shape `(n, d)` to one score per row, shape `(n,)`, return the penalty
#
# $$\frac{1}{n} \sum_{i=1}^{n} \big(\lVert \nabla_{x_i}\, \text{critic}(x)_i \rVert - 1\big)^2$$
#
# of shape `()`. It is part of a loss, so `backward` through the penalty must reach the parameters of the critic. Your
# function itself calls no `backward`: their `.grad` stays as it is. The score of a row depends on that row alone.
#
# If the critic is `x @ w` with w = `[3, 4]`, the gradient of every row is `[3, 4]`, of length 5, and the penalty is (5
# − 1)² = 16. Its gradient with respect to w is 2 · (5 − 1) · w / 5 = `[4.8, 6.4]`.


# %%
def gradient_penalty(critic: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """How far the critic's gradients are from length 1.

    critic: from shape (n, d) to shape (n,). x: float, shape (n, d), n ≥ 1.
    Returns the same dtype, shape (), with a graph.
    """
    raise NotImplementedError  # your code here


# %%
check(gradient_penalty)

# %% [markdown]
# ## Debug
#
# This program runs without an error. Its results are wrong.

# %% [markdown]
# ### `fit_ridge` · 3 points · ●●● · about 12 min
#
# A line w·x + b is fitted to n points by gradient descent, from w = b = 0. The loss is the mean squared error plus
# `decay` · w², which keeps w small. Wanted are w and b after `steps` steps, and the list of the losses *before* each
# step: Python floats, all of them.
#
# ```python
# def fit_ridge(x, y, decay, lr, steps):
#     w = torch.zeros((), dtype=x.dtype, requires_grad=True)
#     b = torch.zeros((), dtype=x.dtype, requires_grad=True)
#     losses = []
#     for step in range(steps):
#         loss = (w * x + b - y).square().mean() + decay * w.item() ** 2
#         loss.backward()
#         with torch.no_grad():
#             w -= lr * w.grad
#             b -= lr * b.grad
#         losses.append(loss)
#     return w, b, losses
# ```
#
# For x = `[1, 2]`, y = `[2, 4]`, decay 1, lr 0.1 and two steps, the right answer is w = 1.12, b = 0.78 and the losses
# `[10, 2.06]`. The program returns w = 2.32 and b = 1.38. It has three faults. Two of them spoil the result; the third
# spoils the memory of a long training run, which may not hold the graphs of many steps at the same time. Find them and
# write the mended function.


# %%
def fit_ridge(
    x: torch.Tensor, y: torch.Tensor, decay: float, lr: float, steps: int
) -> tuple[float, float, list[float]]:
    """The slope and the intercept of a line fitted by gradient descent, and the losses on the way.

    x: float, shape (n,), n ≥ 1. y: the same dtype and shape. decay, lr: at least 0. steps: at least 0.
    Returns (w, b, losses): two Python floats and a list of `steps` Python floats.
    """
    raise NotImplementedError  # your code here


# %%
check(fit_ridge)

# %% [markdown]
# ## Build
#
# The engine itself. With it you have written the heart of PyTorch, for numbers instead of tensors.

# %% [markdown]
# ### `Value` · 5 points · ●●● · about 45 min
#
# A `Value` holds a Python number in `data`, and its gradient in `grad`, which begins as 0.0. `Value(3)` makes a leaf.
# Arithmetic makes new Values:
#
# - `a + b`, `a - b`, `a * b` and `a / b`, of two Values or of a Value and a number, on either side: `2 - a` and `1 / a`
#   work too;
# - `a ** n` for a number n, positive or negative, whole or not;
# - `a.tanh()`, and `a.relu()`, whose derivative at 0 is 0, as in PyTorch.
#
# `z.backward()` adds to each leaf's `grad` the derivative of z with respect to that leaf. As in PyTorch,
#
# - a Value that is used several times collects the sum of what its uses send back;
# - after a second `backward()` the leaves hold the sum of both, so twice the gradient if both began at z, and if two
#   results share a part of the graph, the sum of their two gradients; `backward()` on a leaf itself adds 1.
#
# Three pieces of advice, which are not checked. Work through each node once, however many ways lead to it: 20 doublings
# `y = y + y` take a million calls otherwise. `-a` is handy, and `-` can be made of it. `math.tanh` takes numbers of any
# size, where a formula with exponentials overflows.
#
# For x = 2 and y = 3, z = (x + y)·(y − 2) has the value 5. After `z.backward()`, `x.grad` is 1.0 and `y.grad` is 6.0;
# after another `z.backward()` they are 2.0 and 12.0.
#
# The stub is laid out as in the chapter: each result knows its `parents`, the `slopes` towards them (for each parent
# the derivative of this Value with respect to it) and the `op` that made it. You may lay it out in another way, as long
# as `Value(data)` works; only the drawing below needs `parents` and `op`.
#
# Not allowed: torch, because this is what it does. Python's `math` is fine.


# %%
class Value:
    """A number that remembers how it was computed, and can find its derivatives.

    data: the number, a float. grad: the derivative of some result with respect to it, a float, 0.0 at first.
    parents: the Values that it was computed from. slopes: its derivative with respect to each of them. op: a sign.
    """

    def __init__(
        self, data: float, parents: tuple["Value", ...] = (), slopes: tuple[float, ...] = (), op: str = ""
    ) -> None:
        raise NotImplementedError  # your code here

    def __add__(self, other: "Value | float") -> "Value":
        """self + other."""
        raise NotImplementedError  # your code here

    def __radd__(self, other: float) -> "Value":
        """other + self, where other is a number."""
        raise NotImplementedError  # your code here

    def __mul__(self, other: "Value | float") -> "Value":
        """self * other."""
        raise NotImplementedError  # your code here

    def __rmul__(self, other: float) -> "Value":
        """other * self, where other is a number."""
        raise NotImplementedError  # your code here

    def __pow__(self, n: float) -> "Value":
        """self to the power of a number."""
        raise NotImplementedError  # your code here

    def __neg__(self) -> "Value":
        """-self."""
        raise NotImplementedError  # your code here

    def __sub__(self, other: "Value | float") -> "Value":
        """self - other."""
        raise NotImplementedError  # your code here

    def __rsub__(self, other: float) -> "Value":
        """other - self, where other is a number."""
        raise NotImplementedError  # your code here

    def __truediv__(self, other: "Value | float") -> "Value":
        """self / other."""
        raise NotImplementedError  # your code here

    def __rtruediv__(self, other: float) -> "Value":
        """other / self, where other is a number."""
        raise NotImplementedError  # your code here

    def tanh(self) -> "Value":
        """The hyperbolic tangent."""
        raise NotImplementedError  # your code here

    def relu(self) -> "Value":
        """The number itself where it is positive, else 0."""
        raise NotImplementedError  # your code here

    def backward(self) -> None:
        """Add to the grad of each leaf the derivative of self with respect to it."""
        raise NotImplementedError  # your code here


# %%
check(Value)

# %% [markdown]
# ### Your engine beside PyTorch
#
# The same formula, once in your Values and once in tensors: a neuron with two inputs and a penalty on its weights. The
# cell compares all gradients.


# %%
def neuron(x1, x2, w1, w2, b):
    output = (w1 * x1 + w2 * x2 + b).tanh()
    return (1 - output) ** 2 + (w1 * w1 + w2 * w2) / 10


numbers = {"x1": 2.0, "x2": -1.0, "w1": 0.5, "w2": 1.5, "b": 0.25}


def beside_torch():
    """Print the gradients of both engines, and return the result of yours."""
    ours = {name: Value(number) for name, number in numbers.items()}
    theirs = {name: torch.tensor(number, dtype=torch.float64, requires_grad=True) for name, number in numbers.items()}
    result = neuron(**ours)
    result.backward()
    neuron(**theirs).backward()
    for name in numbers:
        print(f"{name:3} yours {ours[name].grad:8.4f}   PyTorch's {theirs[name].grad.item():8.4f}")
        assert math.isclose(ours[name].grad, theirs[name].grad.item(), abs_tol=1e-9)
    return result, ours


try:
    result, leaves = beside_torch()
except NotImplementedError:
    print("Write Value first, then run this cell again.")

# %% [markdown]
# And the graph that your engine builds for z = (x + y)·(y − 2). Read it from right to left: each gradient is the one to
# its right times a slope, summed over the arrows that leave the box.


# %%
def draw(result, names):
    """The graph behind a Value: for each node what made it, its number, and its gradient."""
    named = {value: name for name, value in names.items()}
    labels, edges, waiting = {}, [], [result]
    while waiting:
        node = waiting.pop()
        if node not in labels:
            title = named.get(node, node.op)
            labels[node] = (f"{title}\n" if title else "") + f"{node.data:.3g}\ngrad {node.grad:.2g}"
            edges += [(parent, node) for parent in node.parents]
            waiting += node.parents
    alt = "The graph of z: x and y on the left, x + y and y − 2 in the middle, their product z on the right."
    return draw_graph(labels, edges, marked=named, alt=alt)


try:
    x, y = Value(2), Value(3)
    z = (x + y) * (y - 2)
    z.backward()
    picture = draw(z, {"x": x, "y": y})
except NotImplementedError:
    picture = "Write Value first, then run this cell again."
except AttributeError as error:
    picture = f"The drawing needs the parents and the op of each Value: {error}."
picture

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
