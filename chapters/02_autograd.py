# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Autograd

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %% tags=["remove-cell"]
# This chapter raises errors on purpose: show the message alone, without the path that led to it.
get_ipython().run_line_magic("xmode", "Minimal")

import warnings

# torch 2.14 remarks on its own code the first time it computes forwards.
warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=FutureWarning)

# %% [markdown]
# ## What you will learn
#
# Training a network means asking, for each of its numbers: if this one grew a little, how would the loss change? The
# answers are the *gradient*. PyTorch finds all of them in one pass over the computation, whatever you computed; this is
# **automatic differentiation**, and PyTorch's part for it is called autograd. You will learn what it remembers, what it
# adds up, where it stops, and what it costs. At the end you write such an engine yourself.
#
# ## Before you start
#
# You need chapter 1, and from school the derivatives of x², of sums and of products, and the chain rule: the derivative
# of f(g(x)) is f′(g(x)) · g′(x). A *partial* derivative, written ∂z/∂x, treats all other variables as constants. The
# *gradient* is the list of all partial derivatives: as many numbers as the input has.
#
# ## Objectives and time
#
# Reading and running takes about two and a half hours, the exercises about three more. Afterwards you can
#
# - derive a gradient by hand, estimate it by differences, and check PyTorch's against both;
# - say when gradients add up, and clear them at the right place;
# - write gradient descent from nothing, and tell a learning rate that is too large by its path;
# - stop gradients on purpose (`detach`, `no_grad`, freezing), and notice where they stop by accident;
# - measure what a graph keeps in memory;
# - take second derivatives, gradients per sample, and give an operation a derivative of your own;
# - explain, and write, what `backward` does.

# %% [markdown]
# ## How does PyTorch differentiate?
#
# Take z = (x + y)(y − 2) at x = 2 and y = 3. A tensor made with `requires_grad=True` is one whose derivatives we want.
# From then on PyTorch notes every operation on it, and `z.backward()` walks the notes backwards.
#
# :::{admonition} Predict
# :class: tip
# By hand, ∂z/∂x = y − 2, and ∂z/∂y = (y − 2) + (x + y) by the rule for products. Which numbers are these at x = 2, y =
# 3?
# :::

# %%
import matplotlib
import torch

from course_utils import datasets, seed_everything
from course_utils.graphs import draw_graph
from course_utils.plotting import COLOURS, STYLE, AltFigure, heat_map, image_grid, learning_curves

x = torch.tensor([2.0], requires_grad=True)
y = torch.tensor([3.0], requires_grad=True)
z = (x + y) * (y - 2)
print(z)

z.backward()
print("dz/dx =", x.grad)
print("dz/dy =", y.grad)

# %% [markdown]
# z is 5, and carries a `grad_fn`: the operation that made it. After `backward`, `x.grad` and `y.grad` hold the partial
# derivatives, 1 and 6. Tensors that you make yourself are **leaves**; what is computed from one that requires
# gradients is not. Leaves that require gradients get a `.grad`; a result gets one only if you call `retain_grad()` on
# it beforehand.
#
# `requires_grad` is False by default, can be set at birth or later with `requires_grad_()`, and is inherited: a result
# requires gradients if one of its operands does.

# %%
a = torch.ones(2)
print("by default:", a.requires_grad)
a.requires_grad_()
print("switched on:", a.requires_grad)
print("inherited:", (a * 3).requires_grad, "- a leaf:", (a * 3).is_leaf)

# %% [markdown]
# **What goes wrong in practice.** A derivative asks what a *small* change does. Whole numbers have no small changes:

# %% tags=["raises-exception"]
torch.tensor([1, 2, 3], requires_grad=True)

# %% [markdown]
# And the gradient is that of *one* number. A result of several has several gradients, so `backward` refuses:

# %% tags=["raises-exception"]
x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
(x**2).backward()

# %%
loss = (x**2).sum()
loss.backward()
print(x.grad)  # 2x

# %% [markdown]
# Reduce to one number first, usually by `sum` or `mean`. (A later section says what to do with several.) When you want
# the gradient as a result, without storing it anywhere, `torch.autograd.grad` returns it, in a tuple with one entry for
# each input:

# %%
(gradient,) = torch.autograd.grad((x**3).sum(), x)
print(gradient)  # 3x²; x.grad stays as it was

# %% [markdown]
# :::{important} To remember
# `backward` stores gradients in the `.grad` of leaves; `torch.autograd.grad` returns them. Both start from one number.
# :::
#
# *Exercise:* `value_and_gradient`.

# %% [markdown]
# ## What does PyTorch remember?
#
# Each operation adds a node to a **graph**: what was done, and to which operands. Here is y = mean((x − 1)² + 4), in
# four steps, at x = (0, 1).
#
# :::{admonition} Predict
# :class: tip
# Each step has a simple derivative. Multiply them from the end to the beginning: what is ∂y/∂x₀ at x₀ = 0, and ∂y/∂x₁
# at x₁ = 1?
# :::

# %%
x = torch.tensor([0.0, 1.0], requires_grad=True)
a = x - 1
b = a**2
c = b + 4
y = c.mean()
for tensor in (a, b, c):
    tensor.retain_grad()  # results keep their gradient only when asked
y.backward()

print("y     ", y.item())
print("y.c   ", c.grad, " each c has a share of 1/N, and N = 2")
print("y.b   ", b.grad, " times 1")
print("y.a   ", a.grad, " times 2a")
print("y.x   ", x.grad, " times 1")

# %% [markdown]
# Row by row, this is the chain rule: ∂y/∂cᵢ = 1/N, ∂cᵢ/∂bᵢ = 1, ∂bᵢ/∂aᵢ = 2aᵢ, ∂aᵢ/∂xᵢ = 1. Their product is ∂y/∂xᵢ =
# (2/N)(xᵢ − 1), which is −1 at x₀ = 0 and 0 at x₁ = 1. `backward` never sees this formula. It goes from node to node,
# from the right to the left of this picture, and multiplies what arrives by the derivative of one step.
#
# Each box is named after the operation that made a tensor, and shows the gradient of y with respect to that tensor:
# `MeanBackward0` stands for y itself, `AddBackward0` for c, `PowBackward0` for b and `SubBackward0` for a.
# `AccumulateGrad` is the node of the leaf x, where `x.grad` is written.


# %% mystnb={"figure": {"caption": "The graph of `y`, as PyTorch keeps it. Each box is named after the operation that made a tensor, and shows the gradient of y with respect to that tensor. `AccumulateGrad` is the node of the leaf x.", "name": "fig-autograd-graph"}, "image": {"alt": "A chain of five boxes: AccumulateGrad for the leaf x on the left, then the operations -, **2, +, and mean on the right, each with a gradient of y."}}
def operations(tensor):
    """The operations behind a tensor, and the pairs of operations that follow each other."""
    nodes, pairs, waiting = [], [], [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.append(node)
            before = [one for one, _ in node.next_functions if one is not None]
            pairs += [(one, node) for one in before]
            waiting += before
    return nodes, pairs


nodes, pairs = operations(y)
arrived = dict(zip(nodes, ["1", c.grad.tolist(), b.grad.tolist(), a.grad.tolist(), x.grad.tolist()], strict=True))
draw_graph(
    {node: f"{node.name().removeprefix('torch::autograd::')}\n{arrived[node]}" for node in nodes},
    pairs,
    marked=[nodes[-1]],
    alt="A chain of five boxes: AccumulateGrad for the leaf x on the left, then the operations -, **2, +, and mean on the right, each with a gradient of y.",
)

# %% [markdown]
# :::{admonition} Myth: "For x in [0, 1] and N = 2 the gradient of mean((x − 1)² + 4) is [−0.5, 0.5]"
# :class: warning
# This stands in a published text, right beside PyTorch's [−1, 0], and claims to agree with it. A gradient derived by
# hand is a claim like any other. Try both on a small step: they predict by how much y changes.
# :::

# %%
step = torch.tensor([0.01, 0.02])


def mean_of_squares(x):
    return ((x - 1) ** 2 + 4).mean()


with torch.no_grad():
    change = (mean_of_squares(x + step) - mean_of_squares(x)).item()
print(f"y really changes by   {change:.3f}")
print(f"predicted by [-1, 0]:      {(torch.tensor([-1.0, 0.0]) @ step).item():.3f}")
print(f"predicted by [-0.5, 0.5]:  {(torch.tensor([-0.5, 0.5]) @ step).item():.3f}")

# %% [markdown]
# [−1, 0] is right: (2/2)(0 − 1) = −1 and (2/2)(1 − 1) = 0. At x₁ = 1 the square is at its lowest point, so a small step
# there changes nothing.
#
# **What goes wrong in practice.** The graph is built while Python runs, anew at each run. That is why `if` and `for`
# need no special form: only what was executed is remembered. It also means that a value which you compute in Python,
# outside the tensors, is a constant to the graph:

# %%
x = torch.tensor(3.0, requires_grad=True)
(in_tensors,) = torch.autograd.grad(x * x, x)
(by_item,) = torch.autograd.grad(x * x.item(), x)  # x.item() is the Python number 3.0
print(in_tensors, by_item)

# %% [markdown]
# `x * x.item()` is "x times 3" to PyTorch, with derivative 3 instead of 6, and there is no warning.
#
# :::{important} To remember
# The graph is what was executed, operation by operation. `backward` multiplies local derivatives along it, and what
# left the tensors (`.item()`, NumPy, Python numbers) is a constant.
# :::
#
# *Exercise:* `mse_gradient`.

# %% [markdown]
# ## Is the gradient right?
#
# There are three ways to a gradient: derive it by hand, let PyTorch find it, or *estimate* it. The estimate needs only
# values of f. Step a little up and a little down from x, and divide the change by the distance:
#
# $$f'(x) \approx \frac{f(x + \varepsilon) - f(x - \varepsilon)}{2\,\varepsilon}$$
#
# These are **central differences**. Their error shrinks like ε², that of the one-sided (f(x + ε) − f(x)) / ε only like
# ε.
#
# :::{admonition} Predict
# :class: tip
# In `float32`, which ε gives the better estimate of a derivative: 0.01 or 0.000001?
# :::

# %%
x = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)


def by_hand(x):
    return 2 / x.numel() * (x - 1)


def numerical(f, x, eps):
    slopes = []
    for step in eps * torch.eye(x.numel(), dtype=x.dtype):  # one row per element: eps there, 0 elsewhere
        slopes.append((f(x + step) - f(x - step)) / (2 * eps))
    return torch.stack(slopes)


def automatic(f, x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(f(leaf), leaf)[0]


print("by hand  ", by_hand(x))
print("numerical", numerical(mean_of_squares, x, eps=1e-4))
print("automatic", automatic(mean_of_squares, x))


# %% mystnb={"figure": {"caption": "The error of central differences for f(x) = exp(x) at x = 1, against the step. Too large a step misses the curve, too small a step drowns in rounding.", "name": "fig-autograd-error"}, "image": {"alt": "Two curves in the shape of a V: in float32 the smallest error is near a step of 0.01, in float64 near 0.00001."}}
def error(eps, dtype):
    at = torch.tensor([1.0], dtype=dtype)
    estimate = numerical(lambda x: x.exp().sum(), at, eps)
    return abs(estimate.item() - torch.e)


steps = [10.0**-k for k in range(1, 12)]
with matplotlib.rc_context(STYLE):
    figure = AltFigure(
        figsize=(6.0, 3.4),
        dpi=100,
        layout="constrained",
        alt="Two curves in the shape of a V: in float32 the smallest error is near a step of 0.01, in float64 near 0.00001.",
    )
    ax = figure.subplots()
    for dtype, marker, colour, last in ((torch.float32, "o", COLOURS[1], 6), (torch.float64, "s", COLOURS[0], 11)):
        errors = [error(eps, dtype) for eps in steps[:last]]
        ax.loglog(steps[:last], errors, marker=marker, color=colour, label=str(dtype).removeprefix("torch."))
    ax.set(xlabel="step ε", ylabel="error of the estimate")
    ax.grid(color="#dddddd")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
assert error(1e-2, torch.float32) < error(1e-6, torch.float32)
figure

# %% [markdown]
# The larger one, 0.01. Near 1 the neighbours of a `float32` are about 10⁻⁷ apart, so f(x + ε) and f(x − ε) are each
# rounded by about that much, and the rounding is divided by 2ε. Compare gradients in `float64`, where a step of 10⁻⁴
# to 10⁻⁶ leaves an error that nobody sees.
#
# **What goes wrong in practice.** Why not always estimate? Because each element of x costs two runs of f. A gradient of
# a million parameters would take two million runs of the network. `backward` takes about as long as two or three runs,
# however many parameters there are. Estimates are for *checking*, and `torch.autograd.gradcheck` does it for you:

# %%
print(torch.autograd.gradcheck(mean_of_squares, x.requires_grad_()))

# %% [markdown]
# :::{important} To remember
# Check a gradient in `float64` against central differences; compute it with autograd.
# :::
#
# *Exercise:* `numerical_gradient`.

# %% [markdown]
# ## Why is the second gradient wrong?
#
# Back to z = (x + y)(y − 2), whose gradients were 1 and 6. Then, with the same x and y, z₁ = x·y, whose gradients are y
# = 3 and x = 2.
#
# :::{admonition} Predict
# :class: tip
# Which number is in `x.grad` after the second `backward`?
# :::

# %%
x = torch.tensor([2.0], requires_grad=True)
y = torch.tensor([3.0], requires_grad=True)
z = (x + y) * (y - 2)
z.backward()
print("after z: ", x.grad, y.grad)

z1 = x * y
z1.backward()
print("after z1:", x.grad, y.grad)

# %% [markdown]
# 4 = 1 + 3, and 8 = 6 + 2: `backward` **adds** to `.grad`. This is intended. A leaf that is used in several places needs
# the sum of what all of them send back, and chapter 5 uses it to build large batches out of small ones. But from one
# training step to the next, you must clear it yourself.
#
# :::{admonition} Myth: "After `x.grad.zero_()`, `x.grad` is `tensor([3.])`"
# :class: warning
# Notes on PyTorch show this output. 3 is what the *next* `backward` gives; zeroed is zeroed:
# :::

# %%
x.grad.zero_()
y.grad.zero_()
print("zeroed:       ", x.grad, y.grad)

(x * y).backward()
print("z1 once more: ", x.grad, y.grad)

# %% [markdown]
# `x.grad = None` clears as well, and frees the memory: the next `backward` stores its gradient instead of adding. This
# is what `optimizer.zero_grad()` in chapter 5 does.
#
# **What goes wrong in practice.** To save memory, `backward` throws away what the graph remembered. A second walk over
# the same graph finds nothing:

# %% tags=["raises-exception"]
loss = (x * y).sum()
loss.backward()
loss.backward()

# %% [markdown]
# Mostly this means that part of your computation was done once, before the loop, and is reused in it. Compute it anew
# in every step. If you really need the same graph twice, keep it:

# %%
x.grad = y.grad = None
loss = (x * y).sum()
loss.backward(retain_graph=True)
loss.backward()
print(x.grad, y.grad)  # twice 3, twice 2

# %% [markdown]
# :::{important} To remember
# `.grad` is a sum over all calls of `backward`: clear it before each step. A graph is good for one `backward`.
# :::

# %% [markdown]
# ## How do I walk downhill?
#
# The gradient points to where the loss grows fastest, so a step against it makes the loss smaller, if the step is short
# enough: x ← x − lr · gradient. The number lr is the **learning rate**. Repeated, this is **gradient descent**.
#
# :::{admonition} Predict
# :class: tip
# f(x) = x₀² + 9 x₁² is nine times as steep in the second direction. From (4, 1), with the learning rates 0.02, 0.1 and
# 0.112: which path ends nearest to the minimum at (0, 0) after 20 steps?
# :::


# %% mystnb={"figure": {"caption": "Twenty steps of gradient descent from the point (4, 1) on a valley that is nine times as steep in one direction, with three learning rates. The lines are heights of f.", "name": "fig-autograd-descent"}, "image": {"alt": "A valley seen from above. With 0.02 the path creeps along its floor, with 0.1 it swings and arrives, with 0.112 it swings from wall to wall."}}
def f(x):
    return x[0] ** 2 + 9 * x[1] ** 2


def descend(lr, steps=20):
    x = torch.tensor([4.0, 1.0], requires_grad=True)
    path = [x.detach().clone()]
    for _ in range(steps):
        f(x).backward()
        with torch.no_grad():  # the step itself is not to be differentiated
            x -= lr * x.grad
        x.grad = None  # or the next gradient would be added to this one
        path.append(x.detach().clone())
    return torch.stack(path)  # (steps + 1, 2)


paths = {lr: descend(lr) for lr in (0.02, 0.1, 0.112)}
for lr, path in paths.items():
    print(f"lr {lr:5}: ends at {path[-1].tolist()[0]:.2f}, {path[-1].tolist()[1]:.2f}; f = {f(path[-1]).item():.2f}")

with matplotlib.rc_context(STYLE):
    figure = AltFigure(
        figsize=(7.2, 3.4),
        dpi=100,
        layout="constrained",
        alt="A valley seen from above. With 0.02 the path creeps along its floor, with 0.1 it swings and arrives, "
        "with 0.112 it swings from wall to wall.",
    )
    ax = figure.subplots()
    right, up = torch.linspace(-1.5, 4.5, 121), torch.linspace(-1.4, 1.4, 81)
    heights = f(torch.stack(torch.meshgrid(right, up, indexing="xy")))  # (81, 121)
    ax.contour(right, up, heights, levels=[0.25, 1, 3, 6, 10, 15, 20, 25], colors="#bbbbbb", linewidths=0.8)
    for (lr, path), colour, marker in zip(paths.items(), COLOURS, "osD", strict=False):
        ax.plot(*path.T, marker=marker, markersize=4, linewidth=1.4, color=colour, label=f"lr = {lr}")
    ax.set(xlabel="$x_0$", ylabel="$x_1$")
    ax.legend(frameon=True, loc="upper left")
figure

# %% [markdown]
# 0.1 arrives nearest. 0.02 is safe and slow: along the flat direction it has come little more than half of the way. At 0.112 each
# step in the steep direction jumps to the other wall, nearly as high: 1 − 2 · 9 · 0.112 is −1.016, so the distance even
# *grows* by 1.6 percent each step. The steepest direction limits the learning rate, and the flattest one then decides
# how long it takes.
#
# **What goes wrong in practice.** The step must not become part of the graph. In place, PyTorch refuses:

# %% tags=["raises-exception"]
x = torch.tensor([4.0, 1.0], requires_grad=True)
f(x).backward()
x -= 0.1 * x.grad

# %% [markdown]
# Written with `=`, it does not refuse, and that is worse. `x` is then no leaf any more, but the result of a
# subtraction, and the next `backward` writes its gradient into the *old* x:

# %%
old = x = torch.tensor([4.0, 1.0], requires_grad=True)
f(x).backward()
x = x - 0.1 * x.grad
print("still a leaf:", x.is_leaf)
f(x).backward()
print("in the old x:", old.grad)  # the sum of two gradients; x itself has none

# %% [markdown]
# Mend it as in `descend`: change the leaf in place, inside `torch.no_grad()`.
#
# :::{important} To remember
# Gradient, step inside `no_grad`, clear: in this order, and each once per step.
# :::
#
# *Exercise:* `gradient_descent`.

# %% [markdown]
# ## Where does the gradient stop?
#
# Sometimes it should stop. There are three tools: `x.detach()` gives the same numbers outside the graph,
# `with torch.no_grad():` records nothing in a block, and `requires_grad_(False)` on a leaf says that nobody wants its
# gradient.
#
# :::{admonition} Predict
# :class: tip
# `w` requires gradients. Does `x @ w + b` require them when it is computed inside `with torch.no_grad():`? And does
# `z.detach()` change `z` itself?
# :::

# %%
seed_everything(0)
x, b = torch.randn(3, 4), torch.randn(2)
w = torch.randn(4, 2, requires_grad=True)

z = x @ w + b
print("outside:      ", z.requires_grad)
with torch.no_grad():
    print("inside:       ", (x @ w + b).requires_grad)
print("z.detach():   ", z.detach().requires_grad)
print("z, afterwards:", z.requires_grad)

# %% [markdown]
# Detaching makes a second tensor on the same memory and leaves the first as it is. What stops is the way *through*
# `z.detach()`, and no other.
#
# **What goes wrong in practice.** A tensor with a graph has no NumPy form, since NumPy could not keep track of the graph:

# %% tags=["raises-exception"]
z.numpy()

# %%
print(z.detach().numpy().shape)

# %% [markdown]
# A metric that is kept as a tensor keeps its graph alive, and with it everything that the graph remembers. After a
# thousand steps, a thousand graphs are in memory. (`backward` frees what the operations had saved, not the graph
# itself; and a metric mostly has no `backward`.) Take the number out:

# %%
losses = [((x @ w) ** 2).mean() for _ in range(3)]
print("tensors with a graph:", [loss.grad_fn is not None for loss in losses])
print("Python numbers:      ", [type(loss.item()).__name__ for loss in losses])

# %% [markdown]
# And the shared memory bites: a write into the detached tensor changes the numbers that the graph still needs.

# %% tags=["raises-exception"]
y = w.exp()  # backward will need the result: the derivative of exp is exp
y.detach().zero_()
y.sum().backward()

# %% [markdown]
# PyTorch counts the writes to each tensor, and compares when it walks back. `.data`, an older way to detach, is not
# counted: the same program with `y.data.zero_()` runs, and gives a gradient of 0. Work on a copy:

# %%
y = w.exp()
y.detach().clone().zero_()
y.sum().backward()
print(torch.equal(w.grad, w.detach().exp()))

# %% [markdown]
# ### Freezing a part of a model
#
# A model keeps its trainable tensors, its **parameters**, under names. (Chapter 4 builds models; the cell below takes
# a ready-made one with two layers, named `0` and `2`.) To train the last layer of a model that somebody else has
# trained, one switches the others off:

# %%
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
for name, parameter in model.named_parameters():
    parameter.requires_grad_(name.startswith("2."))

model(torch.randn(5, 4)).sum().backward()
for name, parameter in model.named_parameters():
    print(f"{name:9} learns: {parameter.requires_grad!s:5}  has a gradient: {parameter.grad is not None}")

# %% [markdown]
# Frozen is not the same as `no_grad`. Gradients still pass *through* a frozen layer to whatever lies before it, if that
# requires them; under `no_grad` nothing passes. So a frozen layer at the end of a network can still teach the layers
# before it.

# %%
x = torch.randn(5, 4, requires_grad=True)
for parameter in model.parameters():
    parameter.requires_grad_(False)  # frozen from end to end
model(x).sum().backward()
print("through frozen layers:", x.grad is not None)
with torch.no_grad():
    print("under no_grad:        ", model(x).requires_grad)

# %% [markdown]
# :::{important} To remember
# `detach` cuts one way, `no_grad` everything in a block, freezing only the leaf itself. Keep numbers, not tensors.
# :::
#
# *Exercises:* `freeze`, `fit_ridge`.

# %% [markdown]
# ## What does the graph cost?
#
# Going back, the derivative of tanh needs the result of tanh, and that of a product needs both factors. So the graph
# keeps them all until `backward` has passed. PyTorch tells us of each tensor it keeps, if we ask: `saved_tensors_hooks`
# calls a function of ours for each.
#
# :::{admonition} Predict
# :class: tip
# Each layer below turns (256, 128) numbers into as many, 128 KiB. What do 16 layers keep for `backward`, besides their
# weights: 128 KiB or sixteen times as much? And under `no_grad`?
# :::


# %% mystnb={"figure": {"caption": "What a stack of layers keeps in memory for `backward`, without the weights. Under `no_grad` it keeps nothing.", "name": "fig-autograd-memory"}, "image": {"alt": "One line rises by 128 KiB with each layer, up to about 2000 KiB; the other stays at zero."}}
def kept_bytes(function, besides):
    """The bytes that the graph of function() keeps for backward, each tensor once, without the tensors in `besides`."""
    known = {tensor.data_ptr() for tensor in besides}
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = function()  # noqa: F841, as long as it lives its graph does
    return sum(size for address, size in kept.items() if address not in known)


def stack_of_layers(x, weights):
    for w in weights:
        x = (x @ w).tanh()  # (256, 128) @ (128, 128)
    return x


x = torch.randn(256, 128)
weights = [torch.randn(128, 128, requires_grad=True) for _ in range(16)]
with_graph, without = [], []
for layers in range(1, 17):
    with_graph.append(kept_bytes(lambda n=layers: stack_of_layers(x, weights[:n]), besides=[x, *weights]) / 1024)
    with torch.no_grad():
        without.append(kept_bytes(lambda n=layers: stack_of_layers(x, weights[:n]), besides=[x, *weights]) / 1024)
print(f"16 layers: {with_graph[-1]:.0f} KiB with a graph, {without[-1]:.0f} KiB under no_grad")
learning_curves(
    {"with a graph": with_graph, "under no_grad": without},
    ylabel="kept for backward (KiB)",
    xlabel="layers",
    alt="One line rises by 128 KiB with each layer, up to about 2000 KiB; the other stays at zero.",
)

# %% [markdown]
# Sixteen times as much, 2048 KiB, since every layer's result is kept; under `no_grad`, nothing. This is why evaluating
# a model fits where training it does not, and why the memory of training grows with depth and with the batch.
#
# For evaluation there is a stricter switch, `torch.inference_mode()`. It also drops the bookkeeping that would let its
# results enter a graph later, which saves some time on many small operations. The price:

# %% tags=["raises-exception"]
with torch.inference_mode():
    features = stack_of_layers(x, weights[:2])
(features @ weights[2]).sum().backward()

# %%
with torch.no_grad():
    features = stack_of_layers(x, weights[:2])
(features @ weights[2]).sum().backward()
print(weights[2].grad.shape, weights[1].grad)

# %% [markdown]
# Features made under `no_grad` may be used in later training; those of `inference_mode` may not, unless cloned.
#
# :::{important} To remember
# A graph keeps every intermediate result until `backward`. Evaluate under `no_grad`, or under `inference_mode` when the
# results never meet a graph again.
# :::

# %% [markdown]
# ## What if there is no derivative?
#
# |x| has a corner at 0, √x is infinitely steep there, and rounding is flat with jumps.
#
# :::{admonition} Predict
# :class: tip
# What does PyTorch give as the derivative of `relu` (0 below 0, x above) at 0, and as that of `round` at 1.3?
# :::

# %%
for name, function, at in [
    ("relu at 0 ", torch.relu, 0.0),
    ("abs at 0  ", torch.abs, 0.0),
    ("sqrt at 0 ", torch.sqrt, 0.0),
    ("round, 1.3", torch.round, 1.3),
]:
    x = torch.tensor(at, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x), x)
    print(name, slope.item())

# %% [markdown]
# At a corner PyTorch picks one of the possible slopes, 0 here. That does no harm: training hardly ever hits a corner
# exactly. `sqrt` at 0 gives infinity. And `round` gives 0, everywhere: no error, and nothing learns. `argmax`,
# comparisons and `.long()` have no gradient at all.
#
# **What goes wrong in practice.** You know about √x below 0, and choose with `where`. The values are right:

# %%
x = torch.tensor([4.0, 0.0, -1.0], requires_grad=True)
roots = torch.where(x > 0, x.sqrt(), 0)
roots.sum().backward()
print(roots.detach(), x.grad)

# %% [markdown]
# The gradients are NaN, and after one step so are all weights. The chain rule goes through *both* branches: `where`
# sends 0 to the branch it did not choose, and `sqrt` multiplies that 0 by its slope, ∞ at 0 and NaN below. 0 · ∞ is
# NaN. So the dangerous number must be replaced *before* it reaches the operation. For a quotient:

# %%
a = torch.tensor([6.0, 5.0], requires_grad=True)
b = torch.tensor([2.0, 0.0], requires_grad=True)

unsafe = torch.where(b != 0, a / b, 0)
print("unsafe:", torch.autograd.grad(unsafe.sum(), b)[0])

divisor = torch.where(b != 0, b, 1)  # no zero ever reaches the division
safe = torch.where(b != 0, a / divisor, 0)
print("safe:  ", torch.autograd.grad(safe.sum(), b)[0])

# %% [markdown]
# When NaN turns up and you do not know where, `with torch.autograd.detect_anomaly():` around forward and backward names
# the operation. It is slow; use it to search, not to train.
#
# :::{important} To remember
# `where` protects the value, not the gradient: protect the input of the dangerous operation too.
# :::
#
# *Exercise:* `safe_sqrt`.

# %% [markdown]
# ## What is the gradient of many outputs?
#
# A function from n numbers to m has m gradients, one per output. As the rows of a matrix of shape (m, n) they are the
# **Jacobian** J: `J[i, j]` = ∂fᵢ/∂xⱼ. `backward` on such a result wants a weight for each output, u of shape (m,), and
# gives the weighted sum of the rows, uᵀJ.
#
# :::{admonition} Predict
# :class: tip
# f(x) = (x₀x₁, x₁², x₀) at x = (2, 3). Which row of the Jacobian is zero in its first column? What does u = (1, 0, 0)
# give?
# :::

# %% mystnb={"figure": {"caption": "The Jacobian at (2, 3): a row for each output, a column for each input.", "name": "fig-autograd-jacobian"}, "image": {"alt": "A table of three rows and two columns: 3 and 2, 0 and 6, 1 and 0."}}
x = torch.tensor([2.0, 3.0], requires_grad=True)
outputs = torch.stack([x[0] * x[1], x[1] ** 2, x[0]])

rows = []
for u in torch.eye(3):  # (1, 0, 0), (0, 1, 0), (0, 0, 1)
    (row,) = torch.autograd.grad(outputs, x, grad_outputs=u, retain_graph=True)
    rows.append(row)
jacobian = torch.stack(rows)  # (outputs, inputs)
heat_map(
    jacobian,
    labels=(["x₀x₁", "x₁²", "x₀"], ["x₀", "x₁"]),
    alt="A table of three rows and two columns: 3 and 2, 0 and 6, 1 and 0.",
)

# %% [markdown]
# The row of x₁² has a 0 for x₀, and u = (1, 0, 0) picks the first row, (3, 2). One walk through the graph costs the
# same for every u, so one never builds the Jacobian if a product with it will do. A loss is the case m = 1: one row,
# one walk. This is why the walk goes *backwards*: from one output to a million inputs.
#
# The other product, Jv with v of shape (n,), says how fast all outputs change when x moves in the direction v. One walk
# *forwards* gives it, alongside the computation itself. `torch.func.jvp` does that:


# %%
def outputs_of(x):
    return torch.stack([x[0] * x[1], x[1] ** 2, x[0]])


v = torch.tensor([1.0, 10.0])
_, change = torch.func.jvp(outputs_of, (x.detach(),), (v,))
print(change, "as the product:", torch.equal(change, jacobian @ v))

# %% [markdown]
# **What goes wrong in practice.** The sum of a result and the result itself have different Jacobians. Someone sums, to
# calm `backward`, and loses which output it was:

# %%
(of_the_sum,) = torch.autograd.grad(outputs_of(x).sum(), x)
print("gradient of the sum:", of_the_sum)
print("sum of the rows:    ", jacobian.sum(dim=0))

# %% [markdown]
# :::{important} To remember
# Backwards gives uᵀJ, a row for one output; forwards gives Jv, a change of all outputs in one direction.
# :::
#
# *Exercise:* `jvp`.

# %% [markdown]
# ## How do I differentiate a derivative?
#
# A gradient is computed from x, so it can have a graph of its own: `create_graph=True` asks for it.
#
# :::{admonition} Predict
# :class: tip
# The derivative of x³ is 3x², that of 3x² is 6x. What is printed at x = 2?
# :::

# %%
x = torch.tensor(2.0, requires_grad=True)
(first,) = torch.autograd.grad(x**3, x, create_graph=True)
(second,) = torch.autograd.grad(first, x)
print(first.item(), second.item())

# %% [markdown]
# Without `create_graph=True` the first derivative is a plain number, and has no derivative:

# %% tags=["raises-exception"]
(first,) = torch.autograd.grad(x**3, x)
torch.autograd.grad(first, x)

# %% [markdown]
# The same message comes when the first derivative *does not depend on x*, as for 5x: its graph is empty, since 5 has no
# history. The second derivative is 0, and you have to say so, with `torch.zeros_like(x)`. (For w·x, with a w that
# requires gradients, the first derivative w has a graph, but x is not in it: the message is that x "appears to not
# have been used in the graph", and `materialize_grads=True` makes `torch.autograd.grad` return the zeros.)

# %%
(first,) = torch.autograd.grad(5 * x, x, create_graph=True)
print(first.requires_grad)  # no graph: every further derivative is 0

# %% [markdown]
# For x of shape (d,), the second derivatives form a matrix of shape (d, d), the **Hessian**. Its row i is the gradient
# of the gradient's element i.

# %%
x = torch.tensor([1.0, 2.0], requires_grad=True)
(gradient,) = torch.autograd.grad(x[0] ** 2 * x[1] ** 3, x, create_graph=True)
print(gradient.detach())  # (2 x₀ x₁³, 3 x₀² x₁²)
print(torch.autograd.grad(gradient[0], x, retain_graph=True)[0])  # (2 x₁³, 6 x₀ x₁²)
print(torch.autograd.grad(gradient[1], x)[0])  # (6 x₀ x₁², 6 x₀² x₁)

# %% [markdown]
# The matrix is symmetric, as it is for every smooth function. It says how the slope changes, so it knows the valley
# of our descent: for f(x) = x₀² + 9x₁² it is diag(2, 18), and a step scaled by its inverse lands in the minimum at
# once. A million parameters would have a Hessian of 10¹² entries, so networks are trained without; but *products*
# with it are cheap, and a loss may contain a gradient, as `gradient_penalty` in the exercises does.
#
# **What goes wrong in practice.** `backward(create_graph=True)` stores a gradient that has a graph in `.grad`, where it
# keeps the leaf, which keeps the gradient: a cycle that stays in memory. Use `torch.autograd.grad` for second
# derivatives.
#
# :::{important} To remember
# `create_graph=True` makes the gradient differentiable. Where it does not depend on x, the next derivative is 0, not an
# error to be afraid of.
# :::
#
# *Exercises:* `hessian`, `gradient_penalty`.

# %% [markdown]
# ## Can a derivative be a function?
#
# `torch.func` turns functions into functions: `grad(f)` is the function that returns the gradient of f. Such functions
# can be taken again, and `vmap` runs a function on a whole batch at once, without a loop.
#
# :::{admonition} Predict
# :class: tip
# `grad(grad(f))` for f(x) = x³ at 2: which number? And which shape has `torch.func.hessian(f)(x)` for x of shape (2,)?
# :::

# %%
from torch.func import grad, hessian, vmap

print(grad(lambda x: x**3)(torch.tensor(2.0)), grad(grad(lambda x: x**3))(torch.tensor(2.0)))
print(hessian(lambda x: x[0] ** 2 * x[1] ** 3)(torch.tensor([1.0, 2.0])))
print(vmap(grad(lambda x: x**3))(torch.tensor([1.0, 2.0, 3.0])))  # three points at once

# %% [markdown]
# No `requires_grad` is needed, and no `.grad` is written: the functions are pure. Where this pays most is the gradient
# of *each sample*. A model of one layer is to tell trousers from dresses, two kinds of Fashion-MNIST pictures that are
# both tall and thin. Which pictures pull on its weights most? `backward` on the mean loss gives one gradient for all.
# `vmap` over the samples gives one each. The loss of a picture is log(1 + eˢ) − target · s, where s is its score:
# near 0 if s is large for a dress (target 1), or far below 0 for trousers (target 0). `softplus(s)` is log(1 + eˢ).

# %%
fashion = datasets.fashion_mnist()
chosen = ((fashion.targets == 1) | (fashion.targets == 3)).nonzero()[:600, 0]  # 1: trousers, 3: dresses
images = fashion.data[chosen].flatten(1) / 255  # (samples, pixels)
targets = (fashion.targets[chosen] == 3).float()  # (samples,), 1 for a dress


def loss(w, image, target):
    """The logistic loss of one picture: w (pixels,), image (pixels,), target a number."""
    score = w @ image
    return torch.nn.functional.softplus(score) - target * score


def mean_loss(w):
    return vmap(loss, in_dims=(None, 0, 0))(w, images, targets).mean()


w = torch.zeros(784)
for _ in range(100):
    w = w - 0.1 * grad(mean_loss)(w)

each = vmap(grad(loss), in_dims=(None, 0, 0))(w, images, targets)  # (samples, pixels)
print(each.shape)
print("their mean is the gradient of the mean:", torch.allclose(each.mean(dim=0), grad(mean_loss)(w), atol=1e-5))

# %% mystnb={"figure": {"caption": "Above: the eight pictures that pull hardest on the weights. Below: the eight that pull least. The hard ones are wide like dresses, or oddly cut.", "name": "fig-autograd-pull"}, "image": {"alt": "Two rows of eight pictures. Above, trousers as wide as skirts, shorts and dungarees; below, plain examples."}}
order = each.norm(dim=1).argsort(descending=True)
shown = torch.cat([order[:8], order[-8:]])
image_grid(
    images[shown].view(-1, 28, 28),
    labels=["dress" if target else "trousers" for target in targets[shown]],
    columns=8,
    alt="Two rows of eight pictures. Above, trousers as wide as skirts, shorts and dungarees; below, plain examples.",
)

# %% [markdown]
# `in_dims` says along which axis each argument is sliced: `None` for the weights, which all samples share, 0 for images
# and targets.
#
# **What goes wrong in practice.** `vmap` runs the function *once*, on all samples together, so there is no single value
# that an `if` could look at:

# %% tags=["raises-exception"]
vmap(lambda x: x if x > 0 else -x)(torch.tensor([1.0, -2.0]))

# %%
print(vmap(lambda x: torch.where(x > 0, x, -x))(torch.tensor([1.0, -2.0])))

# %% [markdown]
# `.item()` is refused for the same reason.
#
# :::{important} To remember
# Write the function for one sample; `grad` differentiates it, `vmap` makes it a batch.
# :::
#
# *Exercise:* `per_sample_gradients`.

# %% [markdown]
# ## How do I give an operation my own derivative?
#
# Three reasons: the true derivative is useless (`round`), a formula is more exact or cheaper than what the chain rule
# would give, or the operation is not written in PyTorch. A subclass of `autograd.Function` has a `forward`, a
# `setup_context` that keeps what the way back needs, and a `backward` that turns the gradient of the output into that
# of the input.


# %%
class Cube(torch.autograd.Function):
    """x³, with its derivative by hand."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        (x,) = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * 3 * x**2  # what arrives, times the local derivative


x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
Cube.apply(x).sum().backward()
print(x.grad)
print("gradcheck:", torch.autograd.gradcheck(Cube.apply, x))

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# The class below forgets to multiply by what arrives. For which results does it still give the right gradient: for
# `apply(x).sum()`, for `(5 * apply(x)).sum()`, or for both?
# :::


# %%
class ForgetfulCube(Cube):
    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2


(alone,) = torch.autograd.grad(ForgetfulCube.apply(x).sum(), x)
(scaled,) = torch.autograd.grad((5 * ForgetfulCube.apply(x)).sum(), x)
print("sum:      ", alone)
print("5 times:  ", scaled, " right is", 5 * 3 * x.detach() ** 2)
print("gradcheck:", torch.autograd.gradcheck(lambda x: 5 * ForgetfulCube.apply(x), x, raise_exception=False))

# %% [markdown]
# For the plain sum alone, because there 1 arrives. So do not test a `backward` by a sum: weight the outputs unequally,
# or let `gradcheck` do it. It estimates the whole Jacobian by central differences, and wants `float64`, as we saw.
#
# A derivative may also be a lie that helps. Networks with few bits round their weights, and the derivative of rounding
# is 0: nothing would learn. The **straight-through estimator** rounds on the way forward, and on the way back pretends
# that it did not. `gradcheck` rightly calls this wrong; here it is intended.
#
# :::{important} To remember
# `backward` gets the gradient of the output and returns that of the input: multiply by what arrives.
# :::
#
# *Exercise:* `RoundSTE`.

# %% [markdown]
# ## How does `backward` work inside?
#
# You have met every piece: a graph of operations, a local derivative for each, and sums where ways meet. Here they are
# as a class for single numbers, with two operators. Each result keeps its **parents**, the numbers it was made from,
# and towards each of them its **slope**: the derivative of this one operation. `backward` adds what arrives to `grad`,
# and sends it on to the parents, times the slope.


# %%
class Number:
    def __init__(self, data, parents=(), slopes=(), op=""):
        self.data, self.grad = data, 0.0
        self.parents, self.slopes, self.op = parents, slopes, op

    def __add__(self, other):
        return type(self)(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other):
        return type(self)(self.data * other.data, (self, other), (other.data, self.data), "×")

    def backward(self, arriving=1.0):
        self.grad += arriving
        for parent, slope in zip(self.parents, self.slopes, strict=True):
            parent.backward(slope * arriving)


x, y, minus_two = Number(2.0), Number(3.0), Number(-2.0)
z = (x + y) * (y + minus_two)
z.backward()
print(z.data, x.grad, y.grad)

# %% [markdown]
# The same 5, 1 and 6 as PyTorch's at the beginning, from twelve lines. y is used twice, and its gradient is the sum over
# both ways: 5 · 1 through y − 2, and 1 · 1 through x + y.


# %% mystnb={"figure": {"caption": "The graph of z = (x + y)(y - 2), built by our own class: value and gradient of each node. The leaves x and y have a thick frame.", "name": "fig-autograd-engine"}, "image": {"alt": "Three leaves x, y and -2 on the left, two sums in the middle, the product 5 on the right; x has gradient 1, y 6."}}
def draw(result, names, alt):
    labels, edges, waiting = {}, [], [result]
    while waiting:
        node = waiting.pop()
        if node not in labels:
            title = names.get(node, node.op)
            labels[node] = (f"{title}\n" if title else "") + f"{node.data:g}\ngrad {node.grad:g}"
            edges += [(parent, node) for parent in node.parents]
            waiting += node.parents
    return draw_graph(labels, edges, marked=names, alt=alt)


draw(
    z,
    {x: "x", y: "y"},
    alt="Three leaves x, y and -2 on the left, two sums in the middle, the product 5 on the right; x has gradient 1, y 6.",
)

# %% [markdown]
# **What goes wrong in practice.** This `backward` follows every *way* from the result to a leaf. In `y = y + y` there
# are two ways, and after n such doublings 2ⁿ.
#
# :::{admonition} Predict
# :class: tip
# 15 doublings make a graph of 16 nodes. How many calls of `backward` does it take?
# :::


# %%
class Counting(Number):
    calls = 0

    def backward(self, arriving=1.0):
        Counting.calls += 1
        super().backward(arriving)


x = y = Counting(1.0)
for _ in range(15):
    y = y + y
y.backward()
print("gradient", x.grad, "in", Counting.calls, "calls")

# %% [markdown]
# 65,535 calls, for 16 nodes; a network of 100 layers with two ways through each would take more than 2¹⁰⁰, and nobody
# would see the end. The remedy is the idea that makes deep learning affordable: a node waits until *all* its uses
# have paid in, and then passes the sum on, **once**. For this the nodes have to be visited in the right order, each
# after everything that was made from it. One such order comes for free: a result is always made after its parents, so
# the reverse of the order of *creation* will do. Keep a list of all numbers as they are made, a **tape**, and walk it
# backwards:


# %%
tape = []


class Taped(Number):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        tape.append(self)

    def backward(self):
        self.grad = 1.0
        for node in reversed(tape):
            for parent, slope in zip(node.parents, node.slopes, strict=True):
                parent.grad += slope * node.grad


x = y = Taped(1.0)
for _ in range(15):
    y = y + y
y.backward()
print("gradient", x.grad, "with", len(tape), "visits")

# %% [markdown]
# The same gradient, with 16 visits. And a longer formula beside PyTorch:


# %%
def formula(a, b, c):
    shared = a * b + c
    return shared * shared * a + shared * b


inputs = [1.5, -0.5, 2.0]
ours = [Taped(number) for number in inputs]
theirs = [torch.tensor(number, requires_grad=True) for number in inputs]
formula(*ours).backward()
formula(*theirs).backward()
print("ours     ", [round(number.grad, 4) for number in ours])
print("PyTorch's", [round(tensor.grad.item(), 4) for tensor in theirs])

# %% [markdown]
# The engine is not finished. The tape holds everything the program ever computed, and `backward` walks all of it;
# PyTorch finds from the result just the nodes that it was made from. A second `backward` goes wrong too, because the
# results in between still hold their old gradients. Numbers do not mix with plain Python numbers, and there is no `-`,
# `/`, `**`, `tanh` or `relu`.
#
# All of this is the last exercise, and with it the engine is yours: about 60 lines, checked against PyTorch on a
# neuron, its graph drawn from your own nodes. Nothing in PyTorch's autograd is different in principle. It has tensors
# for numbers, a few hundred operations for two, and it is written in C++.
#
# :::{important} To remember
# Reverse-mode differentiation: record parents and slopes on the way forward; visit each node once on the way back,
# after all its uses, and pass on the sum times the slope.
# :::
#
# *Exercise:* `Value`.

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | What is differentiated? | one number, with respect to leaves that require gradients |
# | Where is the gradient? | added to `leaf.grad` by `backward`; returned by `torch.autograd.grad` |
# | one training step | gradient, step in place inside `no_grad`, clear `.grad` |
# | Is it right? | `gradcheck`: central differences, in `float64` |
# | What stops it? | `detach` one way, `no_grad` a block, `requires_grad_(False)` a leaf; `.item()` and NumPy always |
# | What does it cost? | every intermediate result stays in memory until `backward` |
# | NaN in the gradient | `where` before the dangerous operation as well as after it |
# | many outputs | rows of the Jacobian: uᵀJ backwards, Jv forwards |
# | second derivatives | `create_graph=True`, then the gradient of the gradient |
# | derivatives as functions | `torch.func.grad`, `vmap`, `hessian`, `jvp` |
# | own derivative | `autograd.Function`: multiply by what arrives |
# | inside | parents, slopes, each node once, after all its uses |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/02_autograd.ipynb`. Then chapter 3 brings data to the model in batches,
# and chapter 5 puts gradient, step and clearing into a loop that one would trust.
#
# ## Sources
#
# - PyTorch documentation: [autograd mechanics](https://docs.pytorch.org/docs/stable/notes/autograd.html),
#   [`torch.autograd`](https://docs.pytorch.org/docs/stable/autograd.html),
#   [gradcheck](https://docs.pytorch.org/docs/stable/notes/gradcheck.html), [extending
#   autograd](https://docs.pytorch.org/docs/stable/notes/extending.html),
#   [`torch.func`](https://docs.pytorch.org/docs/stable/func.html).
# - A. G. Baydin, B. A. Pearlmutter, A. A. Radul, J. M. Siskind, [Automatic differentiation in machine learning: a
#   survey](https://jmlr.org/papers/v18/17-468.html), *Journal of Machine Learning Research* 18 (2018), 1–43.
# - S. Linnainmaa, [Taylor expansion of the accumulated rounding error](https://doi.org/10.1007/BF01931367), *BIT* 16
#   (1976), 146–160. Reverse mode, first published in his thesis of 1970.
# - R. E. Wengert, [A simple automatic derivative evaluation program](https://doi.org/10.1145/355586.364791),
#   *Communications of the ACM* 7 (1964), 463–464. Its list of operations is our tape, and is also called a Wengert
#   list.
# - Y. Bengio, N. Léonard, A. Courville, [Estimating or propagating gradients through stochastic
#   neurons](https://arxiv.org/abs/1308.3432), 2013. The straight-through estimator.
# - I. Gulrajani et al., [Improved training of Wasserstein GANs](https://arxiv.org/abs/1704.00028), 2017. The gradient
#   penalty.
# - A. Karpathy, [micrograd](https://github.com/karpathy/micrograd): an engine of this kind, in a hundred lines.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
