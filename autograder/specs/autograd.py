"""Trials, probes, hints and known mistakes of the exercises of chapter 2, in the order of the notebook."""

import functools
import inspect
import sys
import weakref

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from autograder.compare import difference
from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.own_code import is_own
from autograder.probe import apply, call, call_with_gradients, fixed_weights

MANY = 320
"""The length of an axis on which a loop shows: even one step of Python for each element is over the judge's limit."""

SHORTCUTS = {
    "torch._functorch.eager_transforms": "torch.func",
    "torch.autograd.functional": "torch.autograd.functional",
}
"""The modules of torch that take derivatives of functions, and the names under which learners know them."""


def without_a_trace(point, *, watch=False, graph=True, state=True, reference=None):
    """A probe for functions of a point: the result, its graph, and what the call leaves behind at the point.

    point: the argument that may not change. watch: also report which of SHORTCUTS called f.
    graph: whether the graph of the result is reported. state: whether requires_grad and grad of the point are.
    reference: another way to the result. Where it is given, the graph of a wrong result, or of one that was reached in
    a way that is watched, is left out: so a known mistake is recognised with a graph and without.
    """

    def probe(function, arguments):
        x, results, through = arguments[point], [], set()
        right = collect(reference(**arguments)) if reference else None
        if watch:
            arguments["f"] = _noting_callers(arguments["f"], through)

        @functools.wraps(function)
        def kept(*positional, **named):
            results.append(function(*positional, **named))
            return results[-1]

        evidence = call(kept, arguments)
        parts = [part for one in results for part in (one if isinstance(one, tuple) else (one,))]
        if watch:
            evidence["way to the derivative"] = f"by {' and '.join(sorted(through)) or 'your own code'}"
        if graph and (not reference or (not through and difference(right, evidence["result"], "result") is None)):
            attached = any(part.requires_grad for part in parts if isinstance(part, torch.Tensor))
            evidence["graph of the result"] = "still attached" if attached else "none"
        if state:
            evidence[f"requires_grad of {point} afterwards"] = x.requires_grad
            evidence[f"gradient in {point}.grad afterwards"] = collect(x.grad) if x.is_leaf else None
        return evidence

    return probe


def _noting_callers(f, through):
    """The same f, which notes in `through` where torch's ready-made derivatives stand between it and the learner."""

    @functools.wraps(f)
    def noting(*arguments):
        frame = sys._getframe(1)
        while frame is not None:
            module = frame.f_globals.get("__name__") or ""
            through.update(name for start, name in SHORTCUTS.items() if module.startswith(start))
            frame = frame.f_back
        return f(*arguments)

    return noting


def _leaf(x, grad=None):
    """The same tensor, requiring gradients, with a gradient from elsewhere."""
    x.requires_grad_()
    x.grad = grad
    return x


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`x.detach()` has the same numbers, is outside every graph, and has a `requires_grad` and a `grad` of its own.",
        "`torch.autograd.grad(value, leaf)` returns the gradient in a tuple, and writes into no `.grad`.",
        "`.item()` makes a Python number of a tensor of one element.",
    ],
    probe=without_a_trace("x"),
)
def value_and_gradient(rng):
    """Trials for the pair of f(x) and the gradient of f at x."""
    float64 = torch.float64
    yield trial("f(x) = sum of x²", f=lambda x: x.square().sum(), x=rng.normal(3))
    yield trial("f(x) = sin x, one number", f=lambda x: x.sin(), x=rng.normal())
    yield trial("f(x) = sum of exp x, a matrix", f=lambda x: x.exp().sum(), x=rng.normal(2, 3))
    yield trial("x requires gradients already", f=lambda x: x.pow(3).sum(), x=_leaf(rng.normal(4)))
    yield trial("x holds a gradient from elsewhere", f=lambda x: x.cos().sum(), x=_leaf(rng.normal(2), rng.normal(2)))
    yield trial("x was computed from something", f=lambda x: (x * x[0]).sum(), x=3 * _leaf(rng.normal(3)))
    yield trial("a transposed matrix", f=lambda x: (x[0] * x[1]).sum(), x=rng.normal(3, 2).T)
    yield trial("float64, large values", f=lambda x: x.pow(2).mean(), x=1e3 * rng.normal(5, dtype=float64))
    yield trial("no elements: f(x) = 2 + sum of x", f=lambda x: 2 + x.sum(), x=rng.normal(0))


@value_and_gradient.mistake(
    "The value is still a tensor, and with it its whole graph stays in memory. `.item()` takes the number out."
)
def keeps_the_tensor(f, x):
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    return value, torch.autograd.grad(value, leaf)[0]


@value_and_gradient.mistake(
    "`x.requires_grad_()` works in place: the caller's x now builds graphs, though the caller never asked for them. "
    "Set it on `x.detach()`."
)
def switches_x_on(f, x):
    x.requires_grad_()
    value = f(x)
    return value.item(), torch.autograd.grad(value, x)[0]


@value_and_gradient.mistake(
    "`backward` on the caller's x adds to what `x.grad` holds, so old gradients came out with the new one, and the "
    "caller's are spoiled. Work on a leaf of your own."
)
def adds_to_the_grad_of_x(f, x):
    x.requires_grad_()
    value = f(x)
    value.backward()
    return value.item(), x.grad if x.is_leaf else None


@value_and_gradient.mistake("The value comes first, then the gradient.")
def gradient_first(f, x):
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    return torch.autograd.grad(value, leaf)[0], value.item()


@value_and_gradient.mistake(
    "This is the tuple that `torch.autograd.grad` returns, one gradient for each input. Take the gradient out of it: "
    "`(gradient,) = …`."
)
def keeps_the_tuple(f, x):
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    return value.item(), torch.autograd.grad(value, leaf)


FORWARD_MODE = "It is what forward mode is made of: `torch.autograd.forward_ad`, `torch.func.jvp` and the like. "
BY_HAND = "The exercise is to derive it by hand."


def _mse_slope(w, X, y):
    return _slope(lambda w: (X @ w - y).square().mean(), w)


@exercise(
    points=2,
    level=1,
    minutes=10,
    hints=[
        "Chain rule: the derivative of error² is 2 · error, times the derivative of the error with respect to w_k.",
        "The error of row i contains w_k only in X[i, k] w_k. So each error is multiplied by its own X[i, k], and summed.",
        "Shapes: errors (n,), X (n, d), gradient (d,). Which product sums over n?",
    ],
    probe=without_a_trace("w", reference=_mse_slope),
    forbidden={"backward": BY_HAND, "grad": BY_HAND, "_make_dual": FORWARD_MODE + BY_HAND},
)
def mse_gradient(rng):
    """Trials for 2/n sum_i (X w - y)[i] X[i, k]."""
    float64 = torch.float64
    yield trial("five rows, two features", w=rng.normal(2), X=rng.normal(5, 2), y=rng.normal(5))
    yield trial("more features than rows", w=rng.normal(4), X=rng.normal(3, 4), y=rng.normal(3))
    yield trial("as many rows as features", w=rng.normal(3), X=rng.normal(3, 3), y=rng.normal(3))
    yield trial("one row", w=rng.normal(3), X=rng.normal(1, 3), y=rng.normal(1))
    yield trial("one feature", w=rng.normal(1), X=rng.normal(4, 1), y=rng.normal(4))
    yield trial("X stored transposed", w=rng.normal(2), X=rng.normal(2, 6).T, y=rng.normal(6))
    yield trial("weights of zero", w=torch.zeros(3), X=rng.normal(4, 3), y=rng.normal(4))
    yield trial(
        "float64, large values",
        w=rng.normal(2, dtype=float64),
        X=100 * rng.normal(5, 2, dtype=float64),
        y=rng.normal(5, dtype=float64),
    )
    yield trial("w requires gradients", w=_leaf(rng.normal(3), rng.normal(3)), X=rng.normal(4, 3), y=rng.normal(4))


@mse_gradient.mistake("The derivative of a square is *twice* the error: a factor of 2 is missing.")
def forgets_the_two(w, X, y):
    return (X @ w - y) @ X / len(y)


@mse_gradient.mistake("This is the gradient of the *sum* of squares. The loss is their mean: divide by n.")
def forgets_to_average(w, X, y):
    return 2 * (X @ w - y) @ X


@mse_gradient.mistake("You divided by the number of features. The mean runs over the n rows.")
def divides_by_d(w, X, y):
    return 2 * (X @ w - y) @ X / X.shape[1]


@mse_gradient.mistake("The sign is turned around: the error is X w − y, what was predicted minus what is true.")
def flips_the_sign(w, X, y):
    return 2 * (y - X @ w) @ X / len(y)


@mse_gradient.mistake(
    "This is the gradient with respect to the *predictions*, one per row. One step of the chain rule is missing: each "
    "prediction depends on w through its row of X."
)
def stops_at_the_predictions(w, X, y):
    return 2 * (X @ w - y) / len(y)


@mse_gradient.mistake(
    "You averaged errors and features before you multiplied. The mean of products is not the product of means: multiply "
    "each error by its own row first."
)
def multiplies_the_means(w, X, y):
    return 2 * (X @ w - y).mean() * X.mean(dim=0)


@mse_gradient.mistake(
    "The numbers are right, but if w requires gradients, so does your result: it keeps the graph of your formula. Compute with "
    "`w.detach()`."
)
def keeps_the_graph_of_w(w, X, y):
    return 2 * (X @ w - y) @ X / len(y)


FROM_VALUES = "The exercise is to estimate it from values of f alone."


@exercise(
    points=2,
    level=1,
    minutes=10,
    hints=[
        "Move one element at a time by eps and leave all others alone: on a copy, or by adding a tensor of zeros with one eps.",
        "f(x + step) − f(x − step) is the change over a distance of 2 · eps.",
        "Rows of `eps * torch.eye(x.numel())`, reshaped to x's shape, are such steps. Do not forget x's dtype.",
    ],
    probe=without_a_trace("x", watch=True, graph=False),
    forbidden={"backward": FROM_VALUES, "grad": FROM_VALUES, "_make_dual": FORWARD_MODE + FROM_VALUES},
)
def numerical_gradient(rng):
    """Trials for central differences, in float64, where the step is large against the rounding."""
    float64 = torch.float64

    def cubic(x):
        return x.pow(3).sum() + x.prod()

    yield trial("f(x) = sum of x³ + product of x", f=cubic, x=rng.normal(3, dtype=float64), eps=1e-2)
    yield trial("the default eps", f=cubic, x=rng.normal(4, dtype=float64))
    yield trial("f(x) = sin x, one number", f=lambda x: x.sin(), x=rng.normal(dtype=float64), eps=0.1)
    yield trial("f(x) = sum of exp x, a matrix", f=lambda x: x.exp().sum(), x=rng.normal(2, 3, dtype=float64), eps=1e-2)
    quarters = rng.integers(-8, 9, 4).float() / 4
    yield trial(
        "float32: f(x) = sum of x², where the estimate is exact", f=lambda x: x.square().sum(), x=quarters, eps=0.5
    )


def _one_step(x, index, eps):
    step = torch.zeros(x.numel(), dtype=x.dtype)
    step[index] = eps
    return step.reshape(x.shape)


def _estimates(x, estimate):
    with torch.no_grad():
        return torch.tensor([float(estimate(i)) for i in range(x.numel())], dtype=x.dtype).reshape(x.shape)


@numerical_gradient.mistake(
    "This is the forward difference, whose error shrinks like eps. Central differences also step *down*, and their error "
    "shrinks like eps²."
)
def forward_differences(f, x, eps=1e-4):
    return _estimates(x, lambda i: (f(x + _one_step(x, i, eps)) - f(x)) / eps)


@numerical_gradient.mistake("The two points are 2 · eps apart, so divide by that: yours is twice what it should be.")
def divides_by_eps(f, x, eps=1e-4):
    return _estimates(x, lambda i: (f(x + _one_step(x, i, eps)) - f(x - _one_step(x, i, eps))) / eps)


@numerical_gradient.mistake(
    "`/ 2 * eps` divides by 2 and then *multiplies* by eps. The whole distance is the divisor: `/ (2 * eps)`."
)
def multiplies_by_eps(f, x, eps=1e-4):
    return _estimates(x, lambda i: (f(x + _one_step(x, i, eps)) - f(x - _one_step(x, i, eps))) / 2 * eps)


@numerical_gradient.mistake(
    "`x + eps` moves all elements at once, so every entry holds the change along the diagonal. Move one element at a time."
)
def moves_all_elements(f, x, eps=1e-4):
    return _estimates(x, lambda i: (f(x + eps) - f(x - eps)) / (2 * eps))


@numerical_gradient.mistake(
    "The numbers are right, but in one long row. Give the result x's shape: `.reshape(x.shape)`."
)
def flat_result(f, x, eps=1e-4):
    central = _estimates(x, lambda i: (f(x + _one_step(x, i, eps)) - f(x - _one_step(x, i, eps))) / (2 * eps))
    return central.flatten()


@numerical_gradient.mistake(
    "The result is `float32` whatever x is: `torch.zeros(x.shape)` and `torch.tensor([…])` take the default dtype. Pass "
    "`dtype=x.dtype`."
)
def default_dtype(f, x, eps=1e-4):
    central = _estimates(x, lambda i: (f(x + _one_step(x, i, eps)) - f(x - _one_step(x, i, eps))) / (2 * eps))
    return central.float()


@numerical_gradient.mistake(
    "You stepped up and down inside the caller's x and did not come back: each later entry is taken at another point, and "
    "x stays changed. Step on a copy."
)
def walks_away_with_x(f, x, eps=1e-4):
    flat = x.view(-1)  # no copy

    def estimate(index):
        flat[index] += eps
        above = float(f(x))
        flat[index] -= 2 * eps
        return (above - float(f(x))) / (2 * eps)

    return _estimates(x, estimate)


@exercise(
    points=2,
    level=1,
    minutes=10,
    hints=[
        "Keep a list of points. Each step begins with a fresh leaf at the last one: `path[-1].detach().requires_grad_()`.",
        "`torch.autograd.grad(f(x), x)` returns the gradient without adding it to an older one.",
        "`torch.stack(path)` joins steps + 1 tensors of x0's shape along a new first axis.",
    ],
)
def gradient_descent(rng):
    """Trials for the whole path of gradient descent."""
    float64 = torch.float64
    scales = torch.tensor([1.0, 4.0])
    yield trial("f(x) = x₀² + 4 x₁²", f=lambda x: (scales * x.square()).sum(), x0=rng.normal(2), lr=0.1, steps=4)
    yield trial("f(x) = cos x, one number", f=lambda x: x.cos(), x0=rng.normal(), lr=0.5, steps=3)
    yield trial("a matrix", f=lambda x: (x[0] * x[1]).sum() + x.square().sum(), x0=rng.normal(2, 3), lr=0.2, steps=2)
    yield trial("one step", f=lambda x: x.exp().sum(), x0=rng.normal(3), lr=0.3, steps=1)
    yield trial("no steps: the start alone", f=lambda x: x.square().sum(), x0=rng.normal(3), lr=0.1, steps=0)
    yield trial("a learning rate that is too large", f=lambda x: x.square().sum(), x0=rng.normal(2), lr=1.5, steps=5)
    yield trial("float64", f=lambda x: (x - 3).pow(4).sum() / 4, x0=rng.normal(2, dtype=float64), lr=0.01, steps=6)


def _slope(f, x):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(f(leaf), leaf)[0]


@gradient_descent.mistake(
    "The gradients pile up: from the second step on, each step uses the sum of all gradients so far. Clear `x.grad` before "
    "each `backward`, or use `torch.autograd.grad`."
)
def piles_up_gradients(f, x0, lr, steps):
    path, total = [x0.detach()], 0
    for _ in range(steps):
        total = total + _slope(f, path[-1])
        path.append(path[-1] - lr * total)
    return torch.stack(path)


@gradient_descent.mistake("The start is missing: `steps` steps visit steps + 1 points, and x0 is the first.")
def leaves_out_the_start(f, x0, lr, steps):
    x, path = x0.detach(), []
    for _ in range(steps):
        x = x - lr * _slope(f, x)
        path.append(x)
    return torch.stack(path)


@gradient_descent.mistake(
    "The end is missing: `steps` steps visit steps + 1 points, and the last is where the last step arrives."
)
def leaves_out_the_end(f, x0, lr, steps):
    x, path = x0.detach(), []
    for _ in range(steps):
        path.append(x)
        x = x - lr * _slope(f, x)
    return torch.stack(path)


@gradient_descent.mistake("This is the end of the path alone. Keep every point, the start included, and stack them.")
def returns_the_end(f, x0, lr, steps):
    x = x0.detach()
    for _ in range(steps):
        x = x - lr * _slope(f, x)
    return x


@gradient_descent.mistake(
    "All points of your path are the last one: the list holds the same tensor each time, and the in-place step changes it "
    "under every name. Append a `clone()`."
)
def same_tensor_each_time(f, x0, lr, steps):
    x = x0.detach().clone()
    path = [x]
    for _ in range(steps):
        x -= lr * _slope(f, x)
        path.append(x)
    return torch.stack(path)


@gradient_descent.mistake("You walk uphill: the gradient points to where f grows, so subtract it.")
def walks_uphill(f, x0, lr, steps):
    path = [x0.detach()]
    for _ in range(steps):
        path.append(path[-1] + lr * _slope(f, path[-1]))
    return torch.stack(path)


@gradient_descent.mistake(
    "Every step uses the gradient at the start. Take it anew at each point: the slope changes as you move."
)
def gradient_of_the_start(f, x0, lr, steps):
    path, slope = [x0.detach()], _slope(f, x0)
    for _ in range(steps):
        path.append(path[-1] - lr * slope)
    return torch.stack(path)


@gradient_descent.mistake(
    "The path is right, but x0 has walked along: `-=` on a tensor that shares the caller's memory. Make a new tensor at each "
    "step."
)
def moves_x0(f, x0, lr, steps):
    x = x0.detach()  # shares the memory of x0
    path = [x.clone()]
    for _ in range(steps):
        x -= lr * _slope(f, x)
        path.append(x.clone())
    return torch.stack(path)


def frozen_parts(function, arguments):
    """A probe for `freeze`: the returned names, which parameters still learn, and whether anything else has changed."""
    model = arguments["model"]
    before, parameters = collect(model), dict(model.named_parameters())
    modes, stored = _modes(model), _stored_gradients(model)
    evidence = {"result": collect(apply(function, arguments))}
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    evidence["parameters that still learn"] = list(learning)
    loss = sum((p.square().sum() for p in model.parameters()), torch.zeros((), requires_grad=True))
    gradients = torch.autograd.grad(loss, list(learning.values())) if learning else ()
    evidence["gradients of those parameters"] = collect(dict(zip(learning, gradients, strict=True)))
    now = dict(model.named_parameters())
    same = {
        "values of the model": difference(before, collect(model), "model", exact=True) is None,
        # An optimiser that was made before goes on training the objects that it was given.
        "parameter objects of the model": list(now) == list(parameters) and all(now[n] is parameters[n] for n in now),
        "training or evaluation mode of the modules": modes == _modes(model),
        "grad of the parameters": difference(stored, _stored_gradients(model), "grad", exact=True) is None,
    }
    evidence |= {name: "as before" if unchanged else "changed" for name, unchanged in same.items()}
    evidence["prefixes afterwards"] = collect(arguments["prefixes"])
    return evidence


def _modes(model):
    return {name: module.training for name, module in model.named_modules()}


def _stored_gradients(model):
    return collect({name: parameter.grad for name, parameter in model.named_parameters()})


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`model.named_parameters()` yields pairs of a name and a parameter, in the order of the model.",
        '`"layer.0.weight".startswith("layer")` is true. `startswith` also takes a tuple of prefixes.',
        "`parameter.requires_grad_(False)` or `parameter.requires_grad = False`: mind the s.",
    ],
    probe=frozen_parts,
)
def freeze(rng):
    """Trials for parameters that stop learning by the beginning of their names."""

    def layer(**parameters):
        made = nn.Module()
        for name, values in parameters.items():
            setattr(made, name, nn.Parameter(values) if isinstance(values, torch.Tensor) else values)
        return made

    def linear(inputs, outputs):
        return layer(weight=rng.normal(outputs, inputs), bias=rng.normal(outputs))

    def model(*already_frozen):
        layers = layer(
            encoder=nn.Sequential(linear(2, 3), linear(3, 2)),
            encoder2=layer(weight=rng.normal(2, 2)),
            head=layer(encoder=linear(2, 1)),
        )
        for name, parameter in layers.named_parameters():
            parameter.requires_grad_(name not in already_frozen)
            parameter.grad = rng.normal(*parameter.shape)
        layers.head.eval()
        return layers

    yield trial("one part of the model", model=model(), prefixes=["head"])
    yield trial("a prefix that begins two names", model=model(), prefixes=["encoder"])
    yield trial("two prefixes, not in the model's order", model=model(), prefixes=["head", "encoder2"])
    yield trial("a prefix inside a layer", model=model(), prefixes=["encoder.1.w"])
    yield trial("some are frozen already", model=model("encoder2.weight", "head.encoder.bias"), prefixes=["head"])
    yield trial("a name that fits two prefixes", model=model(), prefixes=["encoder.0", "encoder.", "encoder.0.bias"])
    yield trial("no prefixes", model=model("encoder.0.bias"), prefixes=[])
    yield trial("nothing begins so", model=model(), prefixes=["weight", "ncoder", "Head"])
    yield trial("the empty prefix begins every name", model=model(), prefixes=[""])


def _matching(model, prefixes):
    return [name for name, _ in model.named_parameters() if name.startswith(tuple(prefixes))]


def _switch_off(model, names):
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return names


@freeze.mistake(
    "You asked whether the name *contains* a prefix, so `head.encoder` froze together with `encoder`. Ask `startswith`."
)
def contains_the_prefix(model, prefixes):
    return _switch_off(model, [n for n, _ in model.named_parameters() if any(prefix in n for prefix in prefixes)])


@freeze.mistake("You froze everything *but* what was named.")
def freezes_the_others(model, prefixes):
    matching = _matching(model, prefixes)
    return _switch_off(model, [name for name, _ in model.named_parameters() if name not in matching])


@freeze.mistake(
    "Parameters that were frozen already, and were not named, learn again. Switch off the matching ones, and leave the "
    "others as they are."
)
def thaws_the_others(model, prefixes):
    matching = _matching(model, prefixes)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in matching)
    return matching


@freeze.mistake(
    "The names are right, but nothing was frozen. A misspelt attribute, such as `require_grad`, or `requires_grad` "
    "of a *module* is a new attribute that PyTorch never reads."
)
def misspells_the_attribute(model, prefixes):
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(prefixes)):
            parameter.require_grad = False
    return _matching(model, prefixes)


@freeze.mistake(
    "The names are right, but `eval()` freezes nothing: it changes how layers such as dropout compute, and all parameters go "
    "on learning. Switch off `requires_grad`, and leave the mode as it is."
)
def evaluates_instead(model, prefixes):
    model.eval()
    return _matching(model, prefixes)


@freeze.mistake(
    "The names come in the order of the prefixes, some of them twice. Walk through the model once, and ask for each name "
    "whether it begins with *any* prefix."
)
def in_the_order_of_the_prefixes(model, prefixes):
    matching = [n for prefix in prefixes for n, _ in model.named_parameters() if n.startswith(prefix)]
    return _switch_off(model, matching)


@freeze.mistake(
    "A name that begins with two of the prefixes stands in your list twice. Ask once for each name, whether *any* prefix "
    "fits, or `break` at the first that does."
)
def lists_a_name_twice(model, prefixes):
    return _switch_off(model, [n for n, _ in model.named_parameters() for prefix in prefixes if n.startswith(prefix)])


@freeze.mistake(
    "You returned every frozen parameter, also those that were frozen before and match no prefix. Return the names that "
    "match."
)
def returns_all_frozen(model, prefixes):
    _switch_off(model, _matching(model, prefixes))
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


@freeze.mistake(
    "Names that match, but were frozen before, are missing from your list. It holds all that match, whatever they were."
)
def returns_the_newly_frozen(model, prefixes):
    new = [n for n, p in model.named_parameters() if p.requires_grad and n.startswith(tuple(prefixes))]
    return _switch_off(model, new)


@freeze.mistake(
    "A prefix has to match the beginning of the *text*: `encoder` also begins `encoder2.weight`. You compared whole parts "
    "between dots."
)
def compares_whole_parts(model, prefixes):
    def begins(name):
        return any(prefix == "" or f"{name}.".startswith(f"{prefix.rstrip('.')}.") for prefix in prefixes)

    return _switch_off(model, [name for name, _ in model.named_parameters() if begins(name)])


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`torch.where(x > 0, x.sqrt(), 0)` has the right values. Look at its gradient at 0, and at −1: 0 · ∞ is NaN.",
        "`where` sends a gradient of 0 into the branch that was not chosen, and sqrt multiplies it by an infinite slope. The "
        "square root must not see a zero or a negative number at all.",
        "Use `where` twice: once before the square root, to replace what would do harm, and once after it.",
    ],
    probe=call_with_gradients,
)
def safe_sqrt(rng):
    """Trials for √x where x > 0 and 0 elsewhere, and its gradient."""
    float64 = torch.float64
    mixed = torch.tensor([4.0, 0.0, -1.0, 0.25, -0.0])
    yield trial("positive, zero and negative", x=mixed[rng.permutation(5)])
    yield trial("positive alone", x=rng.uniform(4, low=0.5, high=9.0))
    yield trial("zeros", x=torch.zeros(2, 2))
    yield trial("negative alone, a matrix", x=-rng.uniform(2, 3, low=0.5, high=9.0))
    yield trial("one number", x=rng.uniform(low=1.0, high=4.0).reshape(()))
    yield trial("one zero", x=torch.zeros(()))
    yield trial("very small, and zero", x=torch.tensor([1e-30, 0.0, 4e-30]))
    yield trial("large values", x=1e30 * rng.uniform(3, low=-1.0))
    signs = torch.tensor([1.0, -1.0, 0.0, 1.0], dtype=float64)
    yield trial("float64", x=signs * rng.uniform(4, low=0.5, high=3.0).double())
    yield trial("a transposed matrix", x=rng.normal(3, 2).T)
    yield trial("no elements", x=rng.normal(0, 3))


@safe_sqrt.mistake(
    "The values are right, the gradients are NaN: `where` sends 0 into the branch it did not choose, sqrt multiplies that 0 by "
    "its own slope, and 0 · ∞ is NaN. Replace the harmful x *before* the square root too."
)
def where_after_the_root(x):
    return torch.where(x > 0, x.sqrt(), 0)


@safe_sqrt.mistake(
    "A small number under the root keeps the gradient finite, but changes every value: the root of 0 + 1e-6 is 1e-3, not 0."
)
def adds_a_little(x):
    return (x.clamp(min=0) + 1e-6).sqrt()


@safe_sqrt.mistake("Without a graph there is no gradient at all: `no_grad`, `.detach()` and `.data` cut it off.")
def without_a_graph(x):
    return torch.where(x > 0, x.detach().sqrt(), 0)


@safe_sqrt.mistake("Negative numbers have got the root of their size. Where x ≤ 0 both value and gradient are 0.")
def root_of_the_size(x):
    return torch.where(x == 0, 0, torch.where(x == 0, 1, x).abs().sqrt())


@safe_sqrt.mistake(
    "Multiplying by a mask does not clear what is infinite or NaN: 0 · ∞ is NaN. Choose with `torch.where`."
)
def multiplies_by_a_mask(x):
    return x.sqrt() * (x > 0)


def forward_and_back(function, arguments):
    """A probe for an autograd.Function of x: what it makes of x, and the gradients that come out of unequal ones."""
    if not hasattr(function, "apply"):
        raise TypeError("RoundSTE has no apply: keep it a class that inherits from torch.autograd.Function.")
    x = arguments["x"].requires_grad_()
    before = collect(x)
    result = function.apply(x)
    changed = {} if torch.equal(before, x) else {"x": collect(x)}
    evidence = {"result": collect(result), "changed": changed, "gradient": None, "gradient of (round(3x))²": None}
    if isinstance(result, torch.Tensor) and result.requires_grad:
        weights = fixed_weights(result)
        evidence["gradient"] = collect(torch.autograd.grad(result, x, weights, allow_unused=True)[0])
        squares = function.apply(3 * x).square()
        evidence["gradient of (round(3x))²"] = collect(torch.autograd.grad(squares, x, weights, allow_unused=True)[0])
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`forward` computes the result: `x.round()`. Inside it nothing is recorded.",
        "`backward` gets the gradient of the loss with respect to the output, and returns that with respect to the input.",
        "For the identity, these two are the same.",
    ],
    probe=forward_and_back,
)
def RoundSTE(rng):
    """Trials for rounding whose gradient is that of the identity."""
    yield trial("some numbers", x=3 * rng.normal(5))
    yield trial("halves", x=torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5]))
    yield trial("whole numbers", x=rng.integers(-9, 9, 4).float())
    yield trial("a matrix", x=5 * rng.normal(2, 3))
    yield trial("one number", x=2 + rng.normal())
    yield trial("a transposed matrix", x=3 * rng.normal(3, 2).T)
    yield trial("float64, large values", x=1e4 * rng.normal(4, dtype=torch.float64))
    yield trial("no elements", x=rng.normal(0))


class _Rounds(torch.autograd.Function):
    """Rounding with a gradient that the subclasses get wrong."""

    @staticmethod
    def forward(x):
        return x.round()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


@RoundSTE.mistake(
    "No gradient comes through: this is the true derivative of rounding, 0 nearly everywhere. The estimator pretends it is 1."
)
class HasTheTrueDerivative(_Rounds):
    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


@RoundSTE.mistake(
    "You returned ones: the derivative of the identity, but not multiplied by the gradient that arrives. Return that gradient."
)
class IgnoresWhatArrives(_Rounds):
    @staticmethod
    def backward(ctx, gradient):
        return torch.ones_like(gradient)


@RoundSTE.mistake("The gradient was multiplied by x. The identity has the slope 1 everywhere.")
class MultipliesByX(_Rounds):
    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


@RoundSTE.mistake("You rounded the gradient as well. It passes through unchanged.")
class RoundsTheGradient(_Rounds):
    @staticmethod
    def backward(ctx, gradient):
        return gradient.round()


@RoundSTE.mistake(
    "You let the gradient through between −1 and 1 only. That is another estimator, for signs; here it passes everywhere."
)
class LimitsTheRange(_Rounds):
    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0].abs() <= 1)


@RoundSTE.mistake(
    "Halves went up. `torch.round` takes a half to the nearest *even* number, so that 0.5 becomes 0 and 2.5 becomes 2."
)
class RoundsHalvesUp(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return (x + 0.5).floor()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@RoundSTE.mistake(
    "`round_` works in place, and `detach()` shares x's memory: the caller's x was rounded as well. `round`, without the "
    "underscore, makes a new tensor."
)
class RoundsInPlace(_Rounds):
    @staticmethod
    def forward(x):
        return x.detach().round_()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@RoundSTE.mistake("The fraction was cut off: 1.9 became 1. Round to the nearest whole number.")
class CutsOff(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.trunc()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`torch.func.grad(loss)` is a function too: it takes the same arguments and returns the gradient for the first.",
        "`torch.func.vmap(g, in_dims=…)` calls g on slices of its arguments, all at once. Which arguments have a slice per "
        "sample?",
        "`None` in `in_dims` stands for an argument that is the same for all samples: the weights.",
    ],
    probe=without_a_trace(
        "w",
        reference=lambda loss, w, x, y: torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(w.detach(), x, y),
    ),
    vectorised=True,
)
def per_sample_gradients(rng):
    """Trials for the gradient of each sample's loss."""
    float64 = torch.float64

    def linear(w, x, y):
        return (w @ x - y).square()

    def layer(w, x, y):
        return ((w @ x).tanh() - y).square().sum()

    yield trial("loss(w, x, y) = (w·x − y)²", loss=linear, w=rng.normal(3), x=rng.normal(5, 3), y=rng.normal(5))
    yield trial("one weight", loss=lambda w, x, y: (w * x - y).exp(), w=rng.normal(), x=rng.normal(4), y=rng.normal(4))
    yield trial("a matrix of weights", loss=layer, w=rng.normal(2, 3), x=rng.normal(4, 3), y=rng.normal(4, 2))
    yield trial("one sample", loss=linear, w=rng.normal(2), x=rng.normal(1, 2), y=rng.normal(1))
    yield trial("as many samples as weights", loss=linear, w=rng.normal(3), x=rng.normal(3, 3), y=rng.normal(3))
    yield trial(
        "inputs that are matrices",
        loss=lambda w, x, y: (x @ w * y).sum().sin(),
        w=rng.normal(2),
        x=rng.normal(3, 4, 2),
        y=rng.normal(3, 4),
    )
    yield trial(
        "float64, large values",
        loss=linear,
        w=rng.normal(2, dtype=float64),
        x=100 * rng.normal(3, 2, dtype=float64),
        y=rng.normal(3, dtype=float64),
    )
    yield trial("many samples", loss=linear, w=rng.normal(2), x=rng.normal(MANY, 2), y=rng.normal(MANY))
    yield trial(
        "w requires gradients", loss=linear, w=_leaf(rng.normal(3), rng.normal(3)), x=rng.normal(4, 3), y=rng.normal(4)
    )


def _one_by_one(loss, w, x, y):
    leaf = w.detach().requires_grad_()
    return torch.stack([torch.autograd.grad(loss(leaf, *pair), leaf)[0] for pair in zip(x, y, strict=True)])


@per_sample_gradients.mistake(
    "This is the gradient of the mean loss, one for all samples together. `vmap` over the samples keeps them apart."
)
def gradient_of_the_mean(loss, w, x, y):
    return _one_by_one(loss, w, x, y).mean(dim=0)


@per_sample_gradients.mistake(
    "This is the gradient of the *sum* of the losses: `backward` adds over the samples. `vmap` over the samples keeps them "
    "apart."
)
def gradient_of_the_sum(loss, w, x, y):
    return _one_by_one(loss, w, x, y).sum(dim=0)


@per_sample_gradients.mistake("Each gradient was divided by n. A sample's own loss is no part of a mean.")
def divides_each_by_n(loss, w, x, y):
    return _one_by_one(loss, w, x, y) / len(x)


@per_sample_gradients.mistake(
    "This is the gradient with respect to the *inputs*. `torch.func.grad` takes the first argument unless told otherwise: "
    "that is w here."
)
def gradient_of_the_inputs(loss, w, x, y):
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(sum(loss(w, *pair) for pair in zip(leaf, y, strict=True)), leaf)[0]


@per_sample_gradients.mistake("The samples stand on the last axis. They come first: (n, *w.shape).")
def samples_last(loss, w, x, y):
    return _one_by_one(loss, w, x, y).movedim(0, -1)


@per_sample_gradients.mistake(
    "The numbers are right, but if w requires gradients, so does your result: `torch.func.grad` can be differentiated again, "
    "and keeps the graph for it. Pass `w.detach()`."
)
def keeps_the_graph_of_the_weights(loss, w, x, y):
    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(w, x, y)


NO_BACKWARD = "The exercise is to build it from torch.autograd.grad, which returns gradients instead of storing them."
NO_FORWARD = "The exercise is to build it from torch.autograd.grad alone."


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Take the gradient with `create_graph=True`: then it is itself a function of x with a graph.",
        "Row i of the Hessian is the gradient of the gradient's element i. The same graph serves all rows: "
        "`retain_graph=True`.",
        "`torch.autograd.grad` returns a tuple, here with one row in it. `torch.stack` makes a matrix of the rows.",
    ],
    probe=without_a_trace("x", watch=True, graph=False, state=False),
    forbidden={"backward": NO_BACKWARD, "_make_dual": FORWARD_MODE + NO_FORWARD},
)
def hessian(rng):
    """Trials for the matrix of second derivatives."""
    float64 = torch.float64
    a = rng.normal(3, 3)
    yield trial("f(x) = x₀² x₁ + 5 x₁", f=lambda x: x[0] ** 2 * x[1] + 5 * x[1], x=rng.normal(2))
    yield trial("f(x) = x·A·x, A not symmetric", f=lambda x: x @ a @ x, x=rng.normal(3))
    yield trial("f(x) = product of x", f=lambda x: x.prod(), x=rng.uniform(4, low=0.5, high=2.0))
    yield trial("f(x) = sum of exp x", f=lambda x: x.exp().sum(), x=rng.normal(3))
    yield trial("one element: f(x) = x³", f=lambda x: x.pow(3).sum(), x=rng.normal(1))
    yield trial("linear in x₁: f(x) = x₀³ + 2 x₁", f=lambda x: x[0] ** 3 + 2 * x[1], x=rng.normal(2))
    yield trial("x₁ is ignored: f(x) = sin x₀ · x₂", f=lambda x: x[0].sin() * x[2], x=rng.normal(3))
    yield trial("x requires gradients already", f=lambda x: (x[0] * x).cos().sum(), x=_leaf(rng.normal(2)))
    yield trial(
        "float64, large values", f=lambda x: (x[0] * x[1:]).square().sum(), x=100 * rng.normal(3, dtype=float64)
    )


def _rows_of_the_hessian(f, x):
    """A list of the rows that PyTorch has, without a note about it."""
    return list(torch.autograd.functional.hessian(inspect.unwrap(f), x.detach()))


@hessian.mistake(
    "The gradient of `gradient.sum()` adds up the rows, and a row for each element is what was asked for. Take one element of "
    "the gradient at a time."
)
def sums_the_rows(f, x):
    return sum(_rows_of_the_hessian(f, x))


@hessian.mistake(
    "You put the sums of the columns on the diagonal. They are not the derivatives ∂²f / ∂xᵢ², and the mixed derivatives "
    "beside the diagonal are lost. Take one element of the gradient at a time."
)
def sums_on_the_diagonal(f, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(slope.sum(), x)[0].diag()


@hessian.mistake(
    "This is the diagonal alone, as a vector. From each `torch.autograd.grad(gradient[i], x)` keep the whole row, not its "
    "element i."
)
def diagonal_as_a_vector(f, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x), x, create_graph=True)
    rows = [torch.autograd.grad(one, x, retain_graph=True)[0] for one in slope]
    return torch.stack([row[i] for i, row in enumerate(rows)])


@hessian.mistake(
    "Off the diagonal there are zeros only, but a function may depend on two elements together. Row i needs the derivatives "
    "of the gradient's element i by *all* of x."
)
def diagonal_alone(f, x):
    return torch.stack([row[i] for i, row in enumerate(_rows_of_the_hessian(f, x))]).diag()


@hessian.mistake("Products of first derivatives are no second derivatives: differentiate the gradient once more.")
def squares_the_gradient(f, x):
    slope = _slope(inspect.unwrap(f), x)
    return slope[:, None] * slope


@hessian.mistake(
    "Without `create_graph=True` the gradient is a plain tensor that remembers nothing, so there is no second derivative."
)
def without_create_graph(f, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x), x)
    return torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0] for one in slope])


@hessian.mistake(
    "The first row frees the graph, and the second finds nothing: `retain_graph=True` keeps it for the rows to come."
)
def frees_the_graph(f, x):
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.stack([torch.autograd.grad(one, x)[0] for one in slope])


@hessian.mistake("Right, but `torch.func` took the second derivative. Take it yourself, with `torch.autograd.grad`.")
def by_torch_func(f, x):
    return torch.func.jacrev(torch.func.grad(f))(x.detach())


@hessian.mistake(
    "Right, but `torch.autograd.functional` took the second derivative. Take it yourself, with `torch.autograd.grad`."
)
def by_functional(f, x):
    return torch.autograd.functional.hessian(f, x.detach())


def _jacobian(f, x):
    return torch.autograd.functional.jacobian(inspect.unwrap(f), x.detach())


@exercise(
    points=3,
    level=3,
    minutes=20,
    hints=[
        "One row of J is the gradient of one output: `torch.autograd.grad(y[i], x, retain_graph=True)`. An output that does "
        "not depend on x has a row of zeros.",
        "Two calls for any m: first Jᵀu for some u of shape (m,) with `requires_grad`, with `create_graph=True`.",
        "Jᵀu is linear in u. What is its derivative with respect to u, weighted with v?",
    ],
)
def jvp(rng):
    """Trials for the Jacobian of f at x, times v."""
    float64 = torch.float64
    a, b = rng.normal(2, 4), rng.normal(5, 2)

    def mixed(x):
        return torch.stack([x[0] * x[1], x[1] ** 2, torch.tensor(7.0)])

    def growing(x):
        return (b @ x).tanh()

    yield trial("f(x) = (x₀ x₁, x₁², 7)", f=mixed, x=rng.normal(2), v=rng.normal(2))
    yield trial("f(x) = A x, four to two", f=lambda x: a @ x, x=rng.normal(4), v=rng.normal(4))
    yield trial("f(x) = tanh(B x), two to five", f=growing, x=rng.normal(2), v=rng.normal(2))
    yield trial("element by element: f(x) = sin x", f=lambda x: x.sin(), x=rng.normal(3), v=rng.normal(3))
    yield trial("as many outputs as inputs: f(x) = x₀ x", f=lambda x: x[0] * x, x=rng.normal(3), v=rng.normal(3))
    yield trial("one output", f=lambda x: x.exp().sum()[None], x=rng.normal(3), v=rng.normal(3))
    yield trial("one input", f=lambda x: torch.cat([x, x**2, x**3]), x=rng.normal(1), v=rng.normal(1))
    yield trial("x₁ is ignored", f=lambda x: x[0::2].exp(), x=rng.normal(3), v=rng.normal(3))
    yield trial("v is zero", f=growing, x=rng.normal(2), v=torch.zeros(2))
    yield trial("x requires gradients already", f=growing, x=_leaf(rng.normal(2)), v=rng.normal(2))
    yield trial(
        "float64, large v", f=lambda x: x.pow(3).flip(0), x=rng.normal(3, dtype=float64), v=1e3 * rng.normal(3).double()
    )


@jvp.mistake(
    "`grad_outputs` multiplies from the *left*: this is Jᵀv, a vector–Jacobian product. It fits only if m = n, and is "
    "another number even then."
)
def multiplies_from_the_left(f, x, v):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x), x, v)[0]


@jvp.mistake("This is the Jacobian itself, (m, n). Multiply it by v: (m,) is asked for.")
def returns_the_jacobian(f, x, v):
    return _jacobian(f, x)


@jvp.mistake(
    "You multiplied each column by its v and did not add up: a matrix product sums over the n inputs. `J @ v` does both."
)
def does_not_add_up(f, x, v):
    return _jacobian(f, x) * v


@jvp.mistake(
    "The gradient of `f(x).sum()` adds up the rows of the Jacobian, so which output changes is lost. Each output needs its own "
    "row."
)
def adds_up_the_outputs(f, x, v):
    return _jacobian(f, x).sum(dim=0) @ v


@jvp.mistake("Do not scale v to length 1: the product is linear in v, and twice the v gives twice the result.")
def normalises_v(f, x, v):
    return _jacobian(f, x) @ (v / v.norm())


def penalty_and_its_gradients(function, arguments):
    """A probe for `gradient_penalty`: the penalty, its gradients for the critic's parameters, and what is left behind."""
    critic, x = arguments["critic"], arguments["x"]
    results = []

    @functools.wraps(function)
    def kept(*positional, **named):
        results.append(function(*positional, **named))
        return results[-1]

    evidence = call(kept, arguments)
    parameters = dict(critic.named_parameters())
    gradients = dict.fromkeys(parameters)
    if isinstance(results[0], torch.Tensor) and results[0].requires_grad and results[0].ndim == 0:
        found = torch.autograd.grad(results[0], list(parameters.values()), allow_unused=True)
        gradients = dict(zip(parameters, found, strict=True))
    reached = [name for name, gradient in gradients.items() if gradient is not None]
    evidence["parameters that gradients of the penalty reach"] = ", ".join(reached) or "none"
    evidence["gradients of the critic's parameters"] = collect(gradients)
    evidence["grad of the parameters afterwards"] = collect({name: p.grad for name, p in parameters.items()})
    evidence["requires_grad of x afterwards"] = x.requires_grad
    evidence["gradient in x.grad afterwards"] = collect(x.grad)
    return evidence


def _with_gradients(rng, critic):
    """The same critic, whose parameters hold gradients from elsewhere."""
    for parameter in critic.parameters():
        parameter.grad = rng.normal(*parameter.shape)
    return critic


class _Critic(nn.Module):
    """One score per row: v·tanh(W x), or v·x without a W."""

    def __init__(self, v, W=None):
        super().__init__()
        self.v = nn.Parameter(v)
        self.W = None if W is None else nn.Parameter(W)

    def forward(self, x):
        return (x if self.W is None else (x @ self.W).tanh()) @ self.v


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "A score depends on its own row alone, so the gradient of the *sum* of all scores holds, row by row, the gradient of "
        "each score.",
        "Take that gradient with `create_graph=True`. Otherwise it is a constant, and the penalty teaches the critic nothing.",
        "The length of each row: `gradients.norm(dim=1)`, shape (n,). Then the mean of the squared distances to 1.",
    ],
    probe=penalty_and_its_gradients,
)
def gradient_penalty(rng):
    """Trials for the mean of (length of the gradient − 1)², and its own gradient."""
    float64 = torch.float64
    yield trial("critic(x) = w·x", critic=_Critic(rng.normal(2)), x=rng.normal(3, 2))
    yield trial("critic(x) = v·tanh(W x)", critic=_Critic(rng.normal(4), rng.normal(3, 4)), x=rng.normal(5, 3))
    yield trial("gradients shorter than 1", critic=_Critic(0.2 * rng.normal(3), rng.normal(2, 3)), x=rng.normal(4, 2))
    yield trial("one row", critic=_Critic(rng.normal(3), rng.normal(2, 3)), x=rng.normal(1, 2))
    yield trial("one column", critic=_Critic(rng.normal(3), rng.normal(1, 3)), x=rng.normal(4, 1))
    yield trial("as many rows as columns", critic=_Critic(rng.normal(2), rng.normal(3, 2)), x=rng.normal(3, 3))
    yield trial("x requires gradients", critic=_Critic(rng.normal(2), rng.normal(2, 2)), x=_leaf(rng.normal(3, 2)))
    critic = _with_gradients(rng, _Critic(rng.normal(3), rng.normal(2, 3)))
    yield trial("the critic's parameters hold gradients from elsewhere", critic=critic, x=rng.normal(4, 2))
    yield trial(
        "float64, steep",
        critic=_Critic(10 * rng.normal(3, dtype=float64), rng.normal(2, 3, dtype=float64)),
        x=rng.normal(4, 2, dtype=float64),
    )


def _row_gradients(critic, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]


@gradient_penalty.mistake(
    "The number is right, but the penalty cannot teach: without `create_graph=True` the gradient is a constant, and no "
    "gradient of the penalty reaches the critic's parameters. `requires_grad_()` afterwards does not join what was cut."
)
def penalty_without_a_graph(critic, x):
    return (_row_gradients(critic, x).norm(dim=1) - 1).square().mean().detach()


@gradient_penalty.mistake(
    "You took one length for the whole batch. Each row has a gradient of its own, and its own distance to 1: `norm(dim=1)`."
)
def one_length_for_all(critic, x):
    return (_row_gradients(critic, x).norm() - 1).square()


@gradient_penalty.mistake(
    "The lengths were taken down the columns, over the rows. The gradient of row i is row i: reduce `dim=1`."
)
def lengths_of_columns(critic, x):
    return (_row_gradients(critic, x).norm(dim=0) - 1).square().mean()


@gradient_penalty.mistake(
    "The gradient of the *mean* score is too short by a factor of n in every row. Differentiate the sum of the scores."
)
def differentiates_the_mean(critic, x):
    return ((_row_gradients(critic, x) / len(x)).norm(dim=1) - 1).square().mean()


@gradient_penalty.mistake("The *squared* length was compared with 1. Take the root first: `norm` does.")
def compares_the_square(critic, x):
    return (_row_gradients(critic, x).square().sum(dim=1) - 1).square().mean()


@gradient_penalty.mistake(
    "Gradients shorter than 1 cost nothing in your version. Here they shall have length 1, from both sides."
)
def from_above_only(critic, x):
    return (_row_gradients(critic, x).norm(dim=1) - 1).clamp(min=0).square().mean()


@gradient_penalty.mistake(
    "The penalty is right, but the gradients that the parameters held are gone: `zero_grad()` and `.grad = None` throw them "
    "away. Whoever calls your function still needs them."
)
def clears_the_gradients(critic, x):
    critic.zero_grad()
    return (_row_gradients(critic, x).norm(dim=1) - 1).square().mean()


@gradient_penalty.mistake(
    "This is ten times the penalty. The factor 10 of a Wasserstein GAN's loss is for the caller to multiply by."
)
def times_ten(critic, x):
    return 10 * (_row_gradients(critic, x).norm(dim=1) - 1).square().mean()


@gradient_penalty.mistake("The rows were summed. The penalty is their mean, so that it does not grow with the batch.")
def sums_over_rows(critic, x):
    return (_row_gradients(critic, x).norm(dim=1) - 1).square().sum()


RIDGE_TOLERANCE = (1e-9, 1e-11)

LONG_RUN, MANY_NODES = 80, 120
"""The steps of a long fit, and more nodes of a graph than two of its steps have. 80 steps have at least 160."""


class _GraphSize(TorchFunctionMode):
    """Notes the largest number of graph nodes that the tensors of the running code keep alive at one time."""

    def __init__(self):
        super().__init__()
        self.tensors, self.calls, self.largest = {}, 0, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in (result, *args):  # of `losses[i] = loss` the first argument keeps the graph
            if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None:
                self.tensors[id(tensor)] = weakref.ref(tensor)
        self.calls += 1
        if self.calls % 20 == 0:
            self.largest = max(self.largest, self._nodes())
        return result

    def _nodes(self):
        self.tensors = {key: one for key, one in self.tensors.items() if one() is not None}
        waiting, seen = [tensor.grad_fn for one in self.tensors.values() if (tensor := one()) is not None], set()
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [before for before, _ in node.next_functions]
        return len(seen)


def fit_and_its_memory(function, arguments):
    """A probe for `fit_ridge`: the result, and of a long run with a right result, how much of the graphs was in memory.

    The graphs of a wrong result are left out, so that a known mistake is recognised whatever it keeps.
    """
    if arguments["steps"] < LONG_RUN:
        return call(function, arguments)
    right = collect(_numbers(*_fit(**arguments)))
    size = _GraphSize()
    with size:
        evidence = call(function, arguments)
    if difference(right, evidence["result"], "result", RIDGE_TOLERANCE) is None:
        many = size.largest > MANY_NODES
        evidence["graphs in memory during the run"] = "those of many steps" if many else "those of one step at a time"
    return evidence


@exercise(
    points=3,
    level=3,
    minutes=12,
    hints=[
        "Run the program for two steps on the example and print `w.grad` after each `backward`. Is the second one right?",
        "Set decay to 100. Does w change? What does `.item()` hand over, and what does it leave behind?",
        "What is in `losses`, and what does each of its entries keep alive?",
    ],
    probe=fit_and_its_memory,
    tolerance=RIDGE_TOLERANCE,
)
def fit_ridge(rng):
    """Trials for a line fitted by gradient descent on mean squared error + decay · w²."""

    def line(n, **settings):
        x = rng.normal(n, dtype=torch.float64)
        return {"x": x, "y": 2 * x - 1 + 0.3 * rng.normal(n, dtype=torch.float64), **settings}

    yield trial("some steps", **line(6, decay=0.1, lr=0.1, steps=4))
    yield trial("a strong decay", **line(5, decay=3.0, lr=0.05, steps=5))
    yield trial("no decay", **line(4, decay=0.0, lr=0.2, steps=3))
    yield trial("one step", **line(3, decay=1.0, lr=0.1, steps=1))
    yield trial("no steps", **line(3, decay=1.0, lr=0.1, steps=0))
    yield trial("one point", **line(1, decay=0.5, lr=0.1, steps=3))
    yield trial("a learning rate of 0", **line(4, decay=1.0, lr=0.0, steps=2))
    yield trial("a long run", **line(2, decay=0.1, lr=0.01, steps=LONG_RUN))


def _fit(x, y, decay, lr, steps, pile_up=(), cut=False, keep=False, decay_b=False, late=False, dtype=None):
    """w, b and the losses as tensors; keep: the losses with their graphs."""
    w, b = (torch.zeros((), dtype=dtype or x.dtype, requires_grad=True) for _ in range(2))
    losses, total = [], [0.0, 0.0]

    def loss_now():
        penalty = decay * ((w.detach() if cut else w) ** 2 + (b**2 if decay_b else 0))
        return (w * x + b - y).square().mean() + penalty

    for _ in range(steps):
        loss = loss_now()
        slopes = torch.autograd.grad(loss, (w, b))
        total = [slope + (total[i] if i in pile_up else 0) for i, slope in enumerate(slopes)]
        with torch.no_grad():
            w -= lr * total[0]
            b -= lr * total[1]
        noted = loss_now() if late else loss
        losses.append(noted if keep else noted.detach())
    return w, b, losses


def _numbers(w, b, losses):
    return w.item(), b.item(), [loss.item() for loss in losses]


@fit_ridge.mistake(
    "The gradients still pile up: from the second step on, `w.grad` is the sum of all gradients so far. Set it to None, or "
    "to zero, before each `backward`."
)
def still_piles_up(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, pile_up=(0, 1)))


@fit_ridge.mistake(
    "w is cleared, but the gradients of b still pile up: `b.grad` is the sum of all gradients so far. Clear both before each "
    "`backward`."
)
def b_still_piles_up(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, pile_up=(1,)))


@fit_ridge.mistake(
    "The numbers are right, but the graphs of all steps stay in memory until the end. A loss that is kept as a tensor keeps "
    "its graph: append `loss.item()` in each step. So does a w that was computed from the last w outside `no_grad`."
)
def items_at_the_end(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, keep=True))


@fit_ridge.mistake(
    "The decay has no effect on w: `.item()`, `.detach()` and `.data` cut the penalty off the graph, so its gradient is 0. "
    "Write `w**2`."
)
def penalty_off_the_graph(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, cut=True))


@fit_ridge.mistake(
    "The numbers are right, but w, b and the losses are tensors. Each loss keeps its whole graph in memory, for every step of "
    "the training: `.item()` them."
)
def keeps_tensors(x, y, decay, lr, steps):
    return _fit(x, y, decay, lr, steps, keep=True)


@fit_ridge.mistake("The losses are those *after* each step. Note the loss that the gradient was taken of.")
def losses_after_the_step(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, late=True))


@fit_ridge.mistake("The penalty is on w alone. b only shifts the line, and may be as large as it likes.")
def decays_b_too(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, decay_b=True))


@fit_ridge.mistake(
    "Right to seven digits: w and b are `float32`, though x is `float64`. Make them with `dtype=x.dtype`, as the program did."
)
def fits_in_float32(x, y, decay, lr, steps):
    return _numbers(*_fit(x, y, decay, lr, steps, dtype=torch.float32))


@fit_ridge.mistake("This is the program as it was given, with all its faults. Print `w.grad` in the second step.")
def ridge_as_given(x, y, decay, lr, steps):
    return _fit(x, y, decay, lr, steps, pile_up=(0, 1), cut=True, keep=True)


class _NotingTorch(TorchFunctionMode):
    """Notes which functions of torch the learner's own code calls."""

    def __init__(self):
        super().__init__()
        self.calls = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if is_own(sys._getframe(1).f_code.co_filename):
            self.calls.add(function.__name__)
        return function(*args, **(kwargs or {}))


def an_expression(function, arguments):
    """A probe for `Value`: leaves from the inputs, an expression of them, and the gradients after each `backward`.

    Where the expression gives several results, `backward` is called on each in turn, and on the first once more.
    """
    torch_calls = _NotingTorch()
    with torch_calls:
        leaves = [function(number) for number in arguments["inputs"]]
        evidence = {"grad of the new leaves": [_number(leaf.grad) for leaf in leaves]}
        results = arguments["expression"](*leaves)
        results = results if isinstance(results, tuple) else (results,)
        evidence["data of the results"] = [_number(result.data) for result in results]
        for place, result in enumerate([*results, results[0]]):
            result.backward()
            which = f"backward() on result {place + 1}" if len(results) > 1 else "backward()"
            name = f"grad of the leaves after {which if place < len(results) else 'one more backward()'}"
            evidence[name] = [_number(leaf.grad) for leaf in leaves]
        evidence["data of the leaves afterwards"] = [_number(leaf.data) for leaf in leaves]
    evidence["functions of torch that you call"] = ", ".join(sorted(torch_calls.calls)) or "none"
    return evidence


def _number(value):
    """Python's numbers as floats, anything else as it is."""
    return float(value) if isinstance(value, (int, float)) else collect(value)


def _doublings(times):
    def expression(x):
        y = x * 1
        for _ in range(times):
            y = y + y
        return y

    return expression


def _long_chain(x):
    y = x
    for _ in range(25):
        y = y * 0.99 + 0.01
    return y


def _diamond(a, b):
    shared = a * b
    left, right = shared + a, shared.tanh()
    return left * right + shared


def _two_results(a, b):
    shared = a * b
    return shared * a, shared + shared * shared


def _network(x, y, w1, w2, b):
    hidden = (x * w1 + y * w2 + b).tanh()
    second = (x * w2 - y * w1).relu()
    return (1 - hidden) ** 2 + hidden * second / 2 - second / (2 + hidden)


@exercise(
    points=5,
    level=3,
    minutes=45,
    hints=[
        "Begin with `+` and `*` alone, and check by hand that (x + y)·y works. Let each result keep its parents and, for each, "
        "the slope towards it; the other operators follow the same pattern, or are made of these.",
        "When Python meets `2 - a`, it calls `a.__rsub__(2)`. Division is multiplication by a power.",
        "In `backward`, collect all nodes below the result first. A node may pass its gradient on only when everything that "
        "uses it has paid in: in the order of decreasing depth, for example.",
        "Only leaves keep their sum from one `backward` to the next. Set the grad of every *result* in the graph to 0 before "
        "you begin, and then add 1 to the grad of the one you begin with.",
    ],
    probe=an_expression,
    tolerance=(1e-9, 1e-10),
)
def Value(rng):
    """Trials for expressions of Values, and the gradients of their leaves."""

    def numbers(count, low=0.5, high=2.0):
        return [rng.number(low, high) for _ in range(count)]

    yield trial("(x + y)·(y − 2)", expression=lambda x, y: (x + y) * (y - 2), inputs=[2.0, 3.0])
    yield trial("a − b", expression=lambda a, b: a - b, inputs=numbers(2))
    yield trial("a / b", expression=lambda a, b: a / b, inputs=numbers(2))
    yield trial("numbers on the right", expression=lambda a: ((a + 3) * 2 - 5) / 4, inputs=numbers(1))
    yield trial("numbers on the left: 3 + 2·a", expression=lambda a: 3 + 2 * a, inputs=numbers(1))
    yield trial("numbers on the left: 5 − a, and 4 / a", expression=lambda a: (5 - a) * (4 / a), inputs=numbers(1))
    yield trial("whole numbers: 1 / a + a / 4", expression=lambda a: 1 / a + a / 4, inputs=[2])
    yield trial("a³ + a⁻² + √a", expression=lambda a: a**3 + a**-2 + a**0.5, inputs=numbers(1))
    yield trial("powers of a negative number", expression=lambda a: a**2 - a**3, inputs=numbers(1, -2.0, -0.5))
    yield trial("tanh", expression=lambda a, b: a.tanh() * b, inputs=numbers(2, -2.0))
    yield trial("tanh of large numbers", expression=lambda a, b: a.tanh() + b.tanh(), inputs=[20.0, -20.0])
    yield trial("relu", expression=lambda a, b: (a * b).relu() + (0 - a).relu() * b, inputs=numbers(2))
    yield trial("relu near 0", expression=lambda a, b: a.relu() * 3 + b.relu() * 2, inputs=[-0.5, 0.5])
    yield trial("relu at 0", expression=lambda a, b: a.relu() * b, inputs=[0.0, 3.0])
    yield trial("a + a", expression=lambda a: a + a, inputs=numbers(1))
    yield trial("a · a", expression=lambda a: a * a, inputs=numbers(1, -2.0))
    yield trial("a result that is used three times", expression=_diamond, inputs=numbers(2))
    yield trial("two results that share a part", expression=_two_results, inputs=numbers(2))
    yield trial("a small network", expression=_network, inputs=numbers(5, -1.5, 1.5))
    yield trial("backward() on a leaf", expression=lambda a, b: b, inputs=numbers(2))
    yield trial("equal numbers are different leaves", expression=lambda a, b: a * b + a, inputs=[1.5, 1.5])
    yield trial("8 doublings: y = y + y", expression=_doublings(8), inputs=numbers(1))
    yield trial("a chain of 50 operations", expression=_long_chain, inputs=numbers(1))


class _OnTorch:
    """What a Value does but for `backward`, done by torch's own graph; the subclasses get one thing wrong."""

    def __init__(self, data, parents=(), function=None):
        self.grad, self.parents, self.function = 0.0, parents, function
        if function is None:
            self.tensor = torch.tensor(float(data), dtype=torch.float64, requires_grad=True)
        else:
            self.tensor = function(*(parent.tensor for parent in parents))

    @property
    def data(self):
        return self.tensor.item()

    def _make(self, function, *others):
        parents = [other if isinstance(other, _OnTorch) else type(self)(other) for other in (self, *others)]
        return type(self)(None, tuple(parents), function)

    def __add__(self, other):
        return self._make(torch.add, other)

    def __sub__(self, other):
        return self._make(torch.sub, other)

    def __mul__(self, other):
        return self._make(torch.mul, other)

    def __truediv__(self, other):
        return self._make(torch.div, other)

    def __pow__(self, n):
        return self._make(lambda tensor: tensor**n)

    def __rsub__(self, other):
        return self._make(lambda a, b: b - a, other)

    def __rtruediv__(self, other):
        return self._make(lambda a, b: b / a, other)

    def tanh(self):
        return self._make(torch.tanh)

    def relu(self):
        return self._make(torch.relu)

    __radd__, __rmul__ = __add__, __mul__

    def _nodes(self):
        """All nodes below this one, each after those that use it."""
        order, done, waiting = [], set(), [(self, False)]
        while waiting:
            node, left = waiting.pop()
            if left:
                order.append(node)
            elif node not in done:
                done.add(node)
                waiting += [(node, True), *((parent, False) for parent in reversed(node.parents))]
        return order[::-1]

    @functools.cached_property
    def _slopes(self):
        inputs = [parent.tensor.detach().requires_grad_() for parent in self.parents]
        return [slope.item() for slope in torch.autograd.grad(self.function(*inputs), inputs)] if inputs else []

    def _leaves(self):
        leaves = [node for node in self._nodes() if not node.parents]
        slopes = torch.autograd.grad(self.tensor, [leaf.tensor for leaf in leaves], retain_graph=True)
        return [(leaf, slope.item()) for leaf, slope in zip(leaves, slopes, strict=True)]


class _AddsToTheLeaves:
    """The right `backward`, for subclasses of `_OnTorch` that get something else wrong."""

    def backward(self):
        for leaf, slope in self._leaves():
            leaf.grad += slope


def _with_slope(function, slope):
    """The values of a function of one tensor, with another slope."""
    return lambda x: function(x).detach() + slope(x).detach() * (x - x.detach())


@Value.mistake(
    "A second `backward()` replaced the gradients of the leaves. As in PyTorch it adds to them: `+=`, and nothing is set to 0 "
    "in a leaf."
)
class ReplacesTheGradients(_OnTorch):
    def backward(self):
        for leaf, slope in self._leaves():
            leaf.grad = slope


@Value.mistake(
    "A Value that is used twice keeps only what its last use sent back: the derivative of a + a is 2, not 1. Add to the "
    "parents' gradients, `+=`."
)
class KeepsTheLastUse(_OnTorch):
    def backward(self):
        self.grad = 1.0
        for node in self._nodes():
            for parent, slope in zip(node.parents, node._slopes, strict=True):
                parent.grad = slope * node.grad


@Value.mistake(
    "The first `backward()` is right. In the second one, the results between leaf and end still hold their old gradients, and "
    "pass them on again. Set the grad of every result to 0 first; only the leaves keep their sum."
)
class KeepsOldGradientsInside(_OnTorch):
    # As the starter suggests, -a, a - b and a / b are made of other operators, each with a gradient of its own to keep.
    __neg__ = lambda self: self * -1  # noqa: E731
    __sub__ = lambda self, other: self + -other  # noqa: E731
    __rsub__ = lambda self, other: -self + other  # noqa: E731
    __truediv__ = lambda self, other: self * other**-1  # noqa: E731
    __rtruediv__ = lambda self, other: self**-1 * other  # noqa: E731

    def backward(self):
        self.grad = 1.0
        for node in self._nodes():
            for parent, slope in zip(node.parents, node._slopes, strict=True):
                parent.grad += slope * node.grad


@Value.mistake(
    "A result that is used several times passes on its *whole* gradient each time another use pays in, so some of it counts "
    "twice. It passes on once, after the last use: sort the nodes first."
)
class PassesOnTooEarly(_OnTorch):
    def backward(self, arriving=1.0):
        self.grad += arriving
        for parent, slope in zip(self.parents, self._slopes, strict=True):
            parent.backward(slope * self.grad) if parent.parents else parent._take(slope * self.grad)

    def _take(self, arriving):
        self.grad += arriving


@Value.mistake(
    "`2 - a` is not `a - 2`: Python calls `a.__rsub__(2)`, and there the number stands on the left. The same holds for "
    "`2 / a` and `__rtruediv__`."
)
class SwapsNumbersOnTheLeft(_AddsToTheLeaves, _OnTorch):
    __rsub__, __rtruediv__ = _OnTorch.__sub__, _OnTorch.__truediv__


@Value.mistake("The slope of tanh is 1 − t², where t is the *result*. You squared the input.")
class TanhOfTheInput(_AddsToTheLeaves, _OnTorch):
    def tanh(self):
        return self._make(_with_slope(torch.tanh, lambda x: 1 - x * x))


@Value.mistake("relu passed the gradient of negative numbers on. Where it gives 0, its slope is 0.")
class ReluAlwaysPasses(_AddsToTheLeaves, _OnTorch):
    def relu(self):
        return self._make(_with_slope(torch.relu, torch.ones_like))


@Value.mistake("At 0 your relu has the slope 1. PyTorch takes 0 there: ask `data > 0`, not `data >= 0`.")
class ReluPassesAtZero(_AddsToTheLeaves, _OnTorch):
    def relu(self):
        return self._make(_with_slope(torch.relu, lambda x: (x >= 0).double()))


@Value.mistake("The slope of aⁿ is n · aⁿ⁻¹. You multiplied by n, but left the exponent as it was.")
class PowerStays(_AddsToTheLeaves, _OnTorch):
    def __pow__(self, n):
        return self._make(_with_slope(lambda x: x**n, lambda x: n * x**n))


@Value.mistake(
    "The slope of a / b with respect to b is −a / b². It lost its minus sign: a larger divisor makes the quotient smaller."
)
class DividesWithoutTheMinus(_AddsToTheLeaves, _OnTorch):
    def __truediv__(self, other):
        return self._make(lambda a, b: a / b.detach() + (a / b**2).detach() * (b - b.detach()), other)

    def __rtruediv__(self, other):
        return self._make(lambda b, a: a / b.detach() + (a / b**2).detach() * (b - b.detach()), other)


@Value.mistake(
    "`grad` began at 1 in every Value. It begins at 0.0, and `backward()` gives the 1 to the Value alone that it is called on."
)
class GradBeginsAtOne(_AddsToTheLeaves, _OnTorch):
    def __init__(self, data, parents=(), function=None):
        super().__init__(data, parents, function)
        self.grad = 1.0
