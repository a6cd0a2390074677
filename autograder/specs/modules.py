"""Chapter 4: the exercises of nn.Module.

Classes are built with the trial's arguments, given the trial's weights, and driven. Where names are the student's, weights
are found by their shape or by the order in which they are used, and what is reported is the same for every right answer.
"""

import copy
import inspect
import math
import tempfile
import warnings
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import WrongSignature, apply, backward

# What the probes share


class _Calls(TorchFunctionMode):
    """Notes which of some torch functions are called while it is active."""

    def __init__(self, names):
        super().__init__()
        self.names, self.found = names, set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in self.names:
            self.found.add(function.__name__)
        return function(*args, **(kwargs or {}))

    def text(self):
        return ", ".join(sorted(self.found)) or "none"


@contextmanager
def _unseen():
    """For mistakes that use torch's own function where the exercise forbids it: nobody notes the call."""
    with torch._C.DisableTorchFunction():
        yield


def _made(module):
    return {"made object": "an nn.Module" if isinstance(module, nn.Module) else collect(module)}


def _is_module(evidence):
    return evidence["made object"] == "an nn.Module"


def _shapes(named):
    return {name: list(tensor.shape) for name, tensor in named}


def _sorted_shapes(tensors):
    return sorted(list(tensor.shape) for tensor in tensors)


@torch.no_grad()
def _put(tensor, values):
    tensor.copy_(torch.as_tensor(values).to(tensor.dtype))


def _as_before(same):
    return "as before" if same else "changed"


def _mode(module):
    return "training" if module.training else "evaluation"


def _start_of(draw):
    """In a few words, what a first weight is; `draw(seed)` gives it. "random" is as it should be."""
    weight, again, other = draw(1), draw(1), draw(2)
    if not weight.isfinite().all():
        return "not finite everywhere"
    if not weight.any():
        return "zero everywhere"
    if weight.numel() == 1:
        return "random"  # some ways to draw, such as an orthogonal matrix, know only 1 and -1
    if len(weight.unique()) == 1:
        return "one number everywhere"
    alike = {0: "the same in all rows", 1: "the same in all columns"}
    for axis, words in alike.items():
        if weight.shape[axis] > 1 and weight.unique(dim=axis).shape[axis] == 1:
            return words
    if not torch.equal(weight, again):
        return "another for the same seed of torch"
    return "the same for every seed" if torch.equal(weight, other) else "random"


# Recall


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "Draw a row of 5 cells and slide a window of 3. How often does it move?",
        "The window has room for size + 2 · padding − kernel moves of one pixel. How many moves of `stride` are that?",
        "`//` rounds down, which leaves out what does not fit. There is one place more than moves.",
    ],
)
def conv_size(rng):
    yield trial("stride 1, no padding", size=rng.integer(20, 60), kernel=5)
    yield trial("padding keeps the size", size=rng.integer(20, 60), kernel=5, stride=1, padding=2)
    yield trial("stride 2, a rest left over", size=2 * rng.integer(4, 40), kernel=3, stride=2)
    yield trial("stride 3 with padding", size=rng.integer(20, 40), kernel=4, stride=3, padding=1)
    yield trial("a kernel as large as the row", size=7, kernel=7, stride=2)
    yield trial("a kernel larger than the row, with padding", size=2, kernel=5, stride=1, padding=2)
    yield trial("a kernel of one pixel", size=rng.integer(5, 15), kernel=1, stride=4)
    yield trial("a stride longer than the row", size=5, kernel=3, stride=9)
    yield trial("the first layer of a ResNet", size=224, kernel=7, stride=2, padding=3)
    yield trial("one pixel", size=1, kernel=1)
    yield trial("an odd rest", size=31, kernel=rng.integer(2, 5), stride=5, padding=3)


@conv_size.mistake("This counts the moves. There is one place more than moves: the one where the window starts.")
def counts_moves(size, kernel, stride=1, padding=0):
    return (size + 2 * padding - kernel) // stride


@conv_size.mistake("The padding is added at both ends, so it counts twice.")
def pads_one_end(size, kernel, stride=1, padding=0):
    return (size + padding - kernel) // stride + 1


@conv_size.mistake("`/` gives a float. A number of places is whole: `//` leaves out the window that does not fit.")
def divides_exactly(size, kernel, stride=1, padding=0):
    return (size + 2 * padding - kernel) / stride + 1


@conv_size.mistake("This rounds up. A last window that only half fits has no place.")
def rounds_up(size, kernel, stride=1, padding=0):
    return -(-(size + 2 * padding - kernel) // stride) + 1


@conv_size.mistake("The 1 is added before the division. Divide the room to move first, then add the first place.")
def adds_one_first(size, kernel, stride=1, padding=0):
    return (size + 2 * padding - kernel + 1) // stride


class _Tied(nn.Module):
    """A small language model: the table of word vectors is also the last layer's weight."""

    def __init__(self, words=5, features=3, bias=False):
        super().__init__()
        self.embedding = nn.Embedding(words, features)
        self.norm = nn.LayerNorm(features)
        self.output = nn.Linear(features, words, bias=bias)
        self.output.weight = self.embedding.weight


def _frozen(module, *names):
    for name, parameter in module.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return module


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`module.parameters()` walks through the parameters of the module and of all modules in it. `p.numel()` counts one.",
        "`state_dict()` holds buffers too, and lists a shared parameter under each of its names.",
        "`p.requires_grad` says whether a parameter is trainable.",
    ],
)
def count_parameters(rng):
    def size():
        return rng.integer(2, 14)

    def linear():
        return rng.fill(nn.Linear(size(), size()))

    def convolutional():
        channels = size()
        return rng.fill(nn.Sequential(nn.Conv2d(size(), channels, 3), nn.BatchNorm2d(channels), nn.ReLU()))

    def nested():
        hidden, out = size(), size()
        inner = nn.Sequential(nn.Linear(size(), hidden), nn.ReLU(), nn.Sequential(nn.Linear(hidden, out, bias=False)))
        return rng.fill(nn.Sequential(inner, nn.LayerNorm(out)))

    def tied(bias=False):
        return rng.fill(_Tied(size(), size(), bias))

    yield trial("one layer", module=linear())
    yield trial("one layer, its weight frozen", module=_frozen(linear(), "weight"), trainable_only=True)
    yield trial("frozen parameters count too", module=_frozen(linear(), "weight"))
    yield trial("buffers do not count", module=convolutional())
    large = nested()
    yield trial("modules in modules", module=large)
    yield trial("the same module again, trainable only", module=large, trainable_only=True)
    yield trial(
        "modules in modules, some frozen", module=_frozen(nested(), "0.0.weight", "1.bias"), trainable_only=True
    )
    yield trial("a shared weight", module=tied())
    yield trial("a shared weight, trainable only", module=tied(bias=True), trainable_only=True)
    yield trial(
        "a shared weight, frozen",
        module=_frozen(tied(), "embedding.weight"),
        trainable_only=True,
    )
    layer = linear()
    back = nn.Linear(layer.out_features, layer.in_features)
    yield trial("the same layer twice", module=nn.Sequential(layer, back, layer))
    yield trial("no parameters", module=nn.Sequential(nn.ReLU(), nn.Flatten()))
    yield trial("all frozen", module=linear().requires_grad_(False), trainable_only=True)
    features = size()
    alike = nn.Sequential(nn.LayerNorm(features), nn.ReLU(), nn.LayerNorm(features))
    yield trial("two layers that start alike", module=alike)


def _counted(tensors, trainable_only):
    return sum(tensor.numel() for tensor in tensors if tensor.requires_grad or not trainable_only)


@count_parameters.mistake("A state_dict holds the buffers too, and lists a shared parameter under each of its names.")
def counts_the_state(module, trainable_only=False):
    return _counted(module.state_dict(keep_vars=True).values(), trainable_only)


@count_parameters.mistake(
    "A shared parameter was counted once for each layer that holds it. `module.parameters()` yields it once."
)
def counts_shared_twice(module, trainable_only=False):
    return _counted([p for m in module.modules() for p in m.parameters(recurse=False)], trainable_only)


@count_parameters.mistake(
    "Two parameters with equal values were counted as one. Two fresh layers may start alike and are two all the same: "
    "shared means the same tensor, not equal numbers."
)
def counts_equal_ones_once(module, trainable_only=False):
    seen = []
    for parameter in module.parameters():
        if not any(torch.equal(parameter, other) for other in seen):
            seen.append(parameter)
    return _counted(seen, trainable_only)


@count_parameters.mistake("This counts parameter tensors. Wanted are the numbers in them: `p.numel()`.")
def counts_tensors(module, trainable_only=False):
    return len([p for p in module.parameters() if p.requires_grad or not trainable_only])


@count_parameters.mistake("Frozen parameters are left out whatever the caller wants: `trainable_only` is ignored.")
def always_trainable(module, trainable_only=False):
    return _counted(module.parameters(), True)


@count_parameters.mistake("`trainable_only` is ignored: frozen parameters count even where only the trainable should.")
def never_trainable(module, trainable_only=False):
    return _counted(module.parameters(), False)


@count_parameters.mistake("Only the module's own parameters are counted, not those of the modules in it.")
def does_not_descend(module, trainable_only=False):
    return _counted(module.parameters(recurse=False), trainable_only)


def _linear_layer(function, arguments):
    """Parameters, starting values, then output and gradients with known weights."""
    options = {name: arguments[name] for name in ("in_features", "out_features", "bias") if name in arguments}
    module = apply(function, options)
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    evidence["class that does the work"] = "nn.Linear" if isinstance(module, nn.Linear) else "the learner's own"
    evidence["names and shapes of the parameters"] = _shapes(module.named_parameters())
    wanted = {"weight": [options["out_features"], options["in_features"]]}
    if options.get("bias", True):
        wanted["bias"] = [options["out_features"]]
    if evidence["names and shapes of the parameters"] != wanted:
        return evidence
    evidence["dtypes of the parameters"] = {name: str(p.dtype) for name, p in module.named_parameters()}

    def draw(seed):
        torch.default_generator.manual_seed(seed)
        return apply(function, options).weight.detach().clone()

    evidence["first values of the weight"] = _start_of(draw)
    x = arguments["x"].clone().requires_grad_()
    module = module.to(x.dtype)
    for name, parameter in module.named_parameters():
        _put(parameter, arguments["values"][name])
    y = module(x)
    backward(y)
    evidence["output"] = collect(y)
    evidence["gradients"] = {name: collect(p.grad) for name, p in module.named_parameters()} | {"x": collect(x.grad)}
    evidence["x afterwards"] = _as_before(torch.equal(x, arguments["x"]))
    return evidence


@exercise(
    points=2,
    level=1,
    minutes=12,
    hints=[
        "`self.weight = nn.Parameter(tensor)` makes a parameter that the module knows. A plain tensor is none.",
        "The weight has shape (out, in), so `x @ self.weight.T` works for any number of leading axes.",
        "`self.bias = None` is a valid attribute. In `forward`, ask whether it is there.",
        "`torch.empty(out, in)` only reserves memory: fill it with `.uniform_` or `nn.init`, or use `torch.randn`.",
    ],
    probe=_linear_layer,
)
def Linear(rng):
    def layer(in_features, out_features, leading, dtype=torch.float32, **options):
        values = {"weight": rng.normal(out_features, in_features, dtype=dtype)}
        if options.get("bias", True):
            values["bias"] = rng.normal(out_features, dtype=dtype)
        x = rng.normal(*leading, in_features, dtype=dtype)
        return {"in_features": in_features, "out_features": out_features, **options, "values": values, "x": x}

    yield trial("a batch", **layer(4, 3, (5,)))
    yield trial("as many inputs as outputs", **layer(3, 3, (2,)))
    yield trial("without a bias", **layer(3, 5, (4,), bias=False))
    yield trial("one sample without a batch axis", **layer(4, 2, ()))
    yield trial("two leading axes", **layer(4, 3, (2, 5), bias=True))
    yield trial("three leading axes, no bias", **layer(2, 4, (3, 1, 2), bias=False))
    yield trial("one input, one output", **layer(1, 1, (3,)))
    yield trial("float64", **layer(5, 2, (3,), dtype=torch.float64))
    transposed = layer(4, 3, (6,))
    transposed["x"] = rng.normal(4, 6).T
    yield trial("a transposed input", **transposed)


class _LinearParameters(nn.Module):
    """The parameters alone, for mistakes; what they are for comes from `_Affine`, where it is right."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        made = nn.Linear(in_features, out_features, bias)
        self.weight, self.bias = made.weight, made.bias


class _Affine:
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


@Linear.mistake("Your weight has shape (in, out). PyTorch stores (out, in), so that each row belongs to one output.")
class stores_in_out(_LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.weight = nn.Parameter(self.weight.detach().T.contiguous())

    def forward(self, x):
        return F.linear(x, self.weight.T, self.bias)


@Linear.mistake(
    "Your weights start at zero. Then all units of a layer compute the same and get the same gradient, so they never "
    "become different: draw the weights at random."
)
class starts_at_zero(_Affine, _LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        nn.init.zeros_(self.weight)


@Linear.mistake(
    "All weights of an output are the same number, so it cannot tell its inputs apart: draw each weight by itself, "
    "`torch.rand(out_features, in_features)`."
)
class one_number_per_output(_Affine, _LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.weight = nn.Parameter(torch.rand(out_features, 1).expand(out_features, in_features).clone())


@Linear.mistake(
    "Your parameters are float64. A new layer has PyTorch's default dtype, float32, and `module.double()` is the caller's "
    "business."
)
class always_float64(_Affine, _LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        self.double()


@Linear.mistake("The bias is made and never added.")
class forgets_the_bias(_LinearParameters):
    def forward(self, x):
        return F.linear(x, self.weight)


@Linear.mistake("`bias=False` is ignored: there must be no parameter of that name then.")
class always_has_a_bias(_Affine, _LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, True)


@Linear.mistake(
    "A plain tensor is no parameter: no optimiser sees it, and `state_dict()` lacks it. Wrap it in `nn.Parameter`."
)
class plain_tensors(_Affine, _LinearParameters):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__(in_features, out_features, bias)
        weight, offset = self.weight, self.bias
        del self.weight, self.bias
        self.weight = weight.detach()
        self.bias = None if offset is None else offset.detach()


@Linear.mistake("Right, but it is PyTorch's own layer. Inherit from `nn.Module`, and make weight and bias yourself.")
class uses_torch(nn.Linear):
    pass


# Apply

DROPOUTS = {
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "native_dropout", "alpha_dropout"),
    *("alpha_dropout_", "feature_dropout", "feature_dropout_", "feature_alpha_dropout"),
}


def _dropout_layer(function, arguments):
    """What can be said of a random result: its pattern, the share that is kept, its factor, and that it is drawn anew."""
    p, x = arguments["p"], arguments["x"]
    forbidden = _Calls(DROPOUTS)
    module = apply(function, {"p": p})
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    leaf = x.clone().requires_grad_()
    with forbidden:
        once, again = module(leaf), module(leaf)
    for result in (once, again):
        shape = list(result.shape) if isinstance(result, torch.Tensor) else collect(result)
        evidence["shape of the output in training"] = shape
        if shape != list(x.shape):
            return evidence
    if 0 < p < 1:
        kept = once != 0
        evidence["elements dropped together"] = _dropped_together(kept)
        if evidence["elements dropped together"] != "none":
            return evidence
        factors = (once / leaf).detach()[kept].double()
        _backward_ones(once)
        gradients = leaf.grad if leaf.grad is not None else torch.full_like(x, math.nan)
        evidence["share of elements kept, to 0.05"] = round(kept.float().mean().item() * 20) / 20
        evidence["smallest and largest output / input where kept"] = _ends(factors, x.dtype)
        evidence["smallest and largest gradient where kept"] = _ends(gradients[kept].double(), x.dtype)
        evidence["smallest and largest gradient where dropped"] = _ends(gradients[~kept].double(), x.dtype)
        evidence["elements dropped by the second call"] = "the same" if torch.equal(kept, again != 0) else "others"
        evidence["dtype of the output"] = str(once.dtype)
    else:
        evidence["output in training"] = collect(once)
    if p == 0.5:
        # 200 right calls leave one of the four numbers out with probability 1e-11.
        few = x[:1, :3]
        numbers = {int((module(few) == 0).sum()) for _ in range(200)}
        evidence["numbers of zeros in 3 elements, over 200 calls"] = ", ".join(map(str, sorted(numbers)))
    evidence["input afterwards"] = _as_before(torch.equal(leaf, x))
    module.eval()
    with forbidden:
        evidence["output in evaluation"] = collect(module(x.clone()))
    module.train()
    evidence["elements dropped after train()"] = "some" if (module(x.clone()) == 0).any() else "none"
    evidence["functions used that are not allowed"] = forbidden.text()
    return evidence


def _dropped_together(kept):
    """Which elements of a large matrix share their fate, where each should have its own."""
    if kept.all() or not kept.any():
        return "none"  # nothing or everything is dropped: the share says so
    if len(kept.unique(dim=0)) == 1:
        return "whole columns"
    if kept.unique(dim=1).shape[1] == 1:
        return "whole rows"
    alike = len(kept.unique(dim=0)) < len(kept) or kept.unique(dim=1).shape[1] < kept.shape[1]
    return "rows or columns that are alike" if alike else "none"


def _backward_ones(result):
    if result.requires_grad:
        result.sum().backward()


def _ends(values, dtype):
    return torch.stack(values.aminmax()).to(dtype) if values.numel() else None


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`self.training` is a bool that `train()` and `eval()` set.",
        "`torch.rand_like(x)` draws a number from [0, 1) for each element. With which probability is it below p?",
        "What is kept becomes 1 / (1 − p) times as much. A product with the mask drops the rest.",
    ],
    probe=_dropout_layer,
)
def Dropout(rng):
    def values(*shape, dtype=torch.float32):
        x = rng.uniform(*shape, low=0.5, high=3.0) * (1 - 2 * rng.booleans(*shape).float())
        return x.to(dtype)

    yield trial("p = 0.3", p=0.3, x=values(100, 101))
    yield trial("p = 0.8", p=0.8, x=100 * values(101, 100))
    yield trial("p = 0.5, float64", p=0.5, x=values(100, 100, dtype=torch.float64))
    yield trial("p = 0: nothing is dropped", p=0.0, x=values(3, 4))
    yield trial("p = 0.4, three axes", p=0.4, x=values(20, 25, 20))
    yield trial("p = 0, one element", p=0.0, x=values(1))
    yield trial("p = 0.1, a transposed input", p=0.1, x=values(90, 110).T)


class _DropoutProbability(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def mask(self, x):
        return torch.rand(x.shape, dtype=x.dtype) >= self.p

    def scaled(self, x):
        return x / (1 - self.p)


@Dropout.mistake(
    "What is kept is not scaled, so the mean shrinks in training and jumps at evaluation. Divide it by 1 − p."
)
class does_not_scale(_DropoutProbability):
    def forward(self, x):
        return x * self.mask(x) if self.training else x


@Dropout.mistake(
    "This scales at evaluation. Inverted dropout scales in training, so that evaluation has nothing left to do."
)
class scales_in_evaluation(_DropoutProbability):
    def forward(self, x):
        return x * self.mask(x) if self.training else x * (1 - self.p)


@Dropout.mistake("p is the probability to *drop*, and you keep with probability p. Keep where the draw is at least p.")
class keeps_p(_DropoutProbability):
    def forward(self, x):
        return self.scaled(x) * (torch.rand_like(x) < self.p) if self.training else x


@Dropout.mistake("It drops in evaluation as well. Ask `self.training` first.")
class always_drops(_DropoutProbability):
    def forward(self, x):
        return self.scaled(x) * self.mask(x)


@Dropout.mistake(
    "One mask serves all rows, so whole columns are dropped together. Each element is dropped by itself: draw a mask of "
    "the shape of x."
)
class one_mask_for_all_rows(_DropoutProbability):
    def forward(self, x):
        return self.scaled(x) * self.mask(x[0]) if self.training else x


@Dropout.mistake("Whole rows are dropped together. Each element is dropped by itself: draw a mask of the shape of x.")
class drops_whole_rows(_DropoutProbability):
    def forward(self, x):
        mask = self.mask(x.flatten(1)[:, :1]) if x.dim() > 1 else self.mask(x)
        return self.scaled(x) * mask.reshape(-1, *[1] * (x.dim() - 1)) if self.training else x


@Dropout.mistake(
    "Each call drops the same number of elements. Then one element's fate depends on the others': draw for each by itself."
)
class drops_an_exact_number(_DropoutProbability):
    def mask(self, x):
        n = x.numel()
        return (torch.randperm(n) >= round(n * self.p)).reshape(x.shape)

    def forward(self, x):
        return self.scaled(x) * self.mask(x) if self.training else x


@Dropout.mistake("This divides by p. What is kept is a share of 1 − p, so divide by 1 − p.")
class divides_by_p(_DropoutProbability):
    def forward(self, x):
        return (x / self.p if self.p else x) * self.mask(x) if self.training else x


@Dropout.mistake(
    "The input itself was changed: a method that ends in `_` or `x[...] = ` writes into the caller's tensor."
)
class writes_into_the_input(_DropoutProbability):
    def forward(self, x):
        if not self.training:
            return x
        result = self.scaled(x) * self.mask(x)
        with torch.no_grad():
            x.copy_(result)
        return result


@Dropout.mistake("Right, but PyTorch's own dropout drew the mask. Draw one with `torch.rand_like`.")
class uses_torch_dropout(nn.Dropout):
    pass


class _Counting(nn.Module):
    """Adds how often it has run, so that a second run of the model shows in the values."""

    def __init__(self):
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x + self.runs


class _Source(nn.Module):
    """Remembers the tensor that it returned."""

    def forward(self, x):
        self.gave = x * 2
        return self.gave


class _Sink(nn.Module):
    """Notes whether it gets the very tensor that the layer before returned."""

    def __init__(self, source):
        super().__init__()
        self.sources, self.got = [source], "that output"  # in a list, since the source is no child

    def forward(self, x):
        if x is not self.sources[0].gave:
            self.got = "something else"
        return x + 1


class _Noted(list):
    """A forward hook that was on the model before: it notes that it ran, and must stay."""

    def __call__(self, module, inputs, output):
        self.append(tuple(output.shape))


def _hooks(model):
    return {name: len(module._forward_hooks) for name, module in model.named_modules() if module._forward_hooks}


def _attempted(function, arguments):
    """What a call gives, or that it raised an error, where errors are part of what is asked."""
    try:
        return apply(function, arguments), False
    except WrongSignature:
        raise
    except Exception as error:
        if type(error) is NotImplementedError and not str(error):
            raise  # the starter
        return None, True


def _capturing(function, arguments):
    """The captured outputs, whether an error reached the caller, and the hooks that are left."""
    model, x = arguments["model"], arguments["x"]
    state, before = collect(model), x.clone()
    result, raised = _attempted(function, arguments)
    evidence = {"error that reaches the caller": "some" if raised else "none"}
    sinks = [layer for layer in model.modules() if isinstance(layer, _Sink)]
    if sinks:
        evidence["tensor that the next layer gets"] = sinks[0].got
    if isinstance(result, dict):
        result = {
            name: tensor.detach() if isinstance(tensor, torch.Tensor) else tensor for name, tensor in result.items()
        }
    evidence["result"] = collect(result)
    evidence["hooks left on the model"] = _hooks(model)
    evidence["argument x"] = _as_before(torch.equal(before, x))
    now = collect(model)
    same = all(torch.equal(state.value[name], now.value[name]) for name in state.value)
    evidence["model's parameters and buffers"] = _as_before(same)
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`model.get_submodule(name)` finds a layer by its name, `register_forward_hook(hook)` returns a handle, and "
        "`handle.remove()` takes the hook away.",
        "A hook is called as `hook(module, inputs, output)`. It does not know its name: make one function per name.",
        "A function made in a loop sees the loop's last value. Give each its own: a function that returns the hook.",
        "`try: … finally: …` runs its last part after an error too. Which lines can raise one?",
    ],
    probe=_capturing,
)
def capture(rng):
    def mlp():
        return rng.fill(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))

    yield trial("two layers of four", model=mlp(), names=["0", "3"], x=rng.normal(3, 2, 2))
    yield trial("two layers in a row", model=mlp(), names=["1", "2"], x=rng.normal(6, 4))
    yield trial("no names", model=mlp(), names=[], x=rng.normal(2, 4))
    body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4))
    nested = rng.fill(nn.Sequential(body, nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()))).eval()
    yield trial("layers inside layers, in evaluation", model=nested, names=("1.0", "0.2", "1"), x=rng.normal(5, 3))
    yield trial(
        "the model itself runs once", model=nn.Sequential(_Counting(), nn.Tanh()), names=["0"], x=rng.normal(2, 3)
    )
    yield trial("the model raises an error", model=mlp(), names=["0", "3"], x=rng.normal(3, 5))
    hooked = mlp()
    hooked[1].register_forward_hook(_Noted())
    yield trial("a hook was there before", model=hooked, names=["1"], x=rng.normal(2, 4))
    twice = nn.Linear(3, 3)
    yield trial("a layer that runs twice", model=rng.fill(nn.Sequential(twice, nn.Tanh(), twice)), names=["0"], x=rng.normal(2, 3))  # fmt: skip
    yield trial("the whole model, whose name is empty", model=mlp(), names=["", "1"], x=rng.normal(3, 4))
    source = _Source()
    yield trial("the next layer gets the output itself", model=nn.Sequential(source, _Sink(source)), names=["0"], x=rng.normal(2, 3))  # fmt: skip


def _hooked(model, names, hook):
    return [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]


def _keeps(outputs, take):
    return lambda name: lambda module, inputs, output: outputs.update({name: take(inputs, output)})


def _captured_and_removed(model, names, x, take):
    outputs, handles = {}, []
    try:
        for name in names:
            handles += _hooked(model, [name], _keeps(outputs, take))
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


@capture.mistake("Your hooks stay on the model, and run at each later call. Keep the handles and `remove()` them.")
def leaves_the_hooks(model, names, x):
    outputs = {}
    _hooked(model, names, _keeps(outputs, lambda inputs, output: output.detach().clone()))
    model(x)
    return outputs


@capture.mistake(
    "When an error is raised, the lines after it do not run, and the hooks stay. Remove them in a `finally`."
)
def removes_on_success_only(model, names, x):
    outputs = {}
    handles = _hooked(model, names, _keeps(outputs, lambda inputs, output: output.detach().clone()))
    model(x)
    for handle in handles:
        handle.remove()
    return outputs


@capture.mistake("You kept the layer's input. A forward hook gets `(module, inputs, output)`: the third is wanted.")
def keeps_the_input(model, names, x):
    return _captured_and_removed(model, names, x, lambda inputs, output: inputs[0].detach().clone())


@capture.mistake(
    "All hooks write under the last name: a function made in a loop reads the loop's variable when it *runs*. "
    "Bind the name when you make it."
)
def binds_late(model, names, x):
    outputs, handles, name = {}, [], None

    def hook(module, inputs, output):
        outputs[name] = output.detach().clone()

    try:
        for name in names:
            handles.append(model.get_submodule(name).register_forward_hook(hook))
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


@capture.mistake(
    "`model.forward(x)` passes by the hooks on the model itself, yours among them. Call the model: `model(x)`."
)
def calls_forward(model, names, x):
    outputs, handles = {}, []
    try:
        for name in names:
            handles += _hooked(model, [name], _keeps(outputs, lambda inputs, output: output.detach().clone()))
        model.forward(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


@capture.mistake(
    "Your hook returns something, and what a forward hook returns replaces the layer's output. Let it store, and return "
    "nothing."
)
def returns_from_the_hook(model, names, x):
    outputs, handles = {}, []

    def keep_as(name):
        def hook(module, inputs, output):
            outputs[name] = output.detach().clone()
            return outputs[name]

        return hook

    try:
        for name in names:
            handles += _hooked(model, [name], keep_as)
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _with_new_head(function, arguments):
    """Names, shapes and flags of the whole model; the values of all but the head; and what the head computes."""
    model, name = arguments["model"], arguments["name"]
    before, untouched = collect(model).value, copy.deepcopy(model)
    result = apply(function, dict(arguments))
    if not isinstance(result, nn.Module):
        return {"returned model": "None" if result is None else f"a {type(result).__name__}"}
    evidence = {"returned model": "the one passed in" if result is model else "another one"}
    old = {key: tensor for key, tensor in result.state_dict().items() if not key.startswith(f"{name}.")}
    evidence["names and shapes of the parameters"] = _shapes(result.named_parameters())
    evidence["flag requires_grad of the parameters"] = {key: p.requires_grad for key, p in result.named_parameters()}
    evidence["values of the other layers"] = collect(old)
    try:
        head = result.get_submodule(name)
    except AttributeError:
        return evidence | {"new layer": "missing"}
    kind = "Linear" if isinstance(head, nn.Linear) else type(head).__name__
    evidence["new layer"] = f"{kind}, {getattr(head, 'in_features', None)} inputs"
    if kind != "Linear":
        return evidence
    weight, old_weight = head.weight.detach().clone(), before[f"{name}.weight"]
    if weight.shape == old_weight.shape and torch.equal(weight, old_weight):
        evidence["first values of the new layer's weight"] = "that of the old layer"
    elif weight.shape[1:] == old_weight.shape[1:] and bool((weight[:1] == old_weight[:1]).all()):
        evidence["first values of the new layer's weight"] = "in part that of the old layer"
    else:

        def draw(seed):
            torch.default_generator.manual_seed(seed)
            made = apply(function, dict(arguments) | {"model": copy.deepcopy(untouched)})
            return made.get_submodule(name).weight.detach().clone()

        evidence["first values of the new layer's weight"] = _start_of(draw)
    evidence["mode of the model"] = _mode(model)
    evidence["mode of the new layer"] = _mode(head)
    for parameter in head.parameters():
        _put(parameter, torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
    try:
        evidence["new layer's output"] = collect(head(torch.linspace(0, 1, head.in_features, dtype=weight.dtype)))
    except RuntimeError:
        evidence["new layer's output"] = "a RuntimeError: weight and number of inputs do not agree"
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`model.get_submodule(name)` gives the old layer, with `in_features`, `bias` and `weight.dtype`.",
        "`model.requires_grad_(False)` freezes all that is in the model at that moment. When is the moment?",
        '`model.set_submodule(name, layer)` puts a layer at a place such as "classifier.1".',
    ],
    probe=_with_new_head,
)
def new_head(rng):
    def flat(**options):
        return rng.fill(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 6, **options)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
            self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 7), nn.Sigmoid())

    class Beside(nn.Module):
        """Layers beside the head, inside the module that holds it, and a parameter that belongs to no layer."""

        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5)))
            self.factor = nn.Parameter(torch.ones(3))

    yield trial("the last of three", model=flat(), name="2", num_classes=5)
    yield trial("without a bias", model=flat(bias=False), name="2", num_classes=2)
    yield trial("inside another module", model=rng.fill(Network()), name="classifier.1", num_classes=3)
    yield trial("as many classes as before", model=flat(), name="2", num_classes=6)
    yield trial("float64", model=flat().double(), name="2", num_classes=4)
    yield trial("more classes than before", model=rng.fill(Network()), name="classifier.1", num_classes=11)
    yield trial("all was frozen before", model=flat().requires_grad_(False), name="2", num_classes=1)
    yield trial("a layer beside the head, a parameter of the model", model=rng.fill(Beside()), name="body.1.1", num_classes=3)  # fmt: skip


def _fresh(old, num_classes, **options):
    chosen = {"bias": old.bias is not None, "dtype": old.weight.dtype} | options
    return nn.Linear(old.in_features, num_classes, **chosen)


@new_head.mistake("The new layer is frozen as well, so nothing trains. Freeze first, then put it in.")
def freezes_the_head(model, name, num_classes):
    model.set_submodule(name, _fresh(model.get_submodule(name), num_classes))
    return model.requires_grad_(False)


@new_head.mistake("The other parameters still train. Set `requires_grad` to False for them.")
def freezes_nothing(model, name, num_classes):
    model.set_submodule(name, _fresh(model.get_submodule(name), num_classes))
    return model


@new_head.mistake(
    "Changing `out_features` changes a number on the label. The weight keeps its old shape: make a new layer."
)
def renames_the_size(model, name, num_classes):
    head = model.requires_grad_(False).get_submodule(name).requires_grad_()
    head.out_features = num_classes
    return model


@new_head.mistake(
    "Some parameters beside the new layer still train: those of the module that holds it, or a parameter of the model "
    "itself. `model.requires_grad_(False)` reaches all."
)
def freezes_other_children_only(model, name, num_classes):
    for child, module in model.named_children():
        if child != name.split(".")[0]:
            module.requires_grad_(False)
    model.set_submodule(name, _fresh(model.get_submodule(name), num_classes))
    return model


@new_head.mistake(
    "Your function sets the seed, so the new weights are always the same, and so is all that the caller draws afterwards. "
    "The seed is the caller's business."
)
def sets_the_seed(model, name, num_classes):
    old = model.requires_grad_(False).get_submodule(name)
    torch.default_generator.manual_seed(0)
    model.set_submodule(name, _fresh(old, num_classes))
    return model


@new_head.mistake("The new layer always has a bias. It should have one only if the old one had.")
def always_biased(model, name, num_classes):
    old = model.requires_grad_(False).get_submodule(name)
    model.set_submodule(name, _fresh(old, num_classes, bias=True))
    return model


@new_head.mistake(
    "The new layer is in float32 whatever the model is in. Its dtype is that of the old weight: `dtype=old.weight.dtype`."
)
def always_float32(model, name, num_classes):
    old = model.requires_grad_(False).get_submodule(name)
    model.set_submodule(name, _fresh(old, num_classes, dtype=torch.float32))
    return model


@new_head.mistake("The model was changed but not returned. End with `return model`.")
def returns_nothing(model, name, num_classes):
    old = model.requires_grad_(False).get_submodule(name)
    model.set_submodule(name, _fresh(old, num_classes))


@new_head.mistake("You returned a copy. The model that was passed in should be changed, and returned.")
def returns_a_copy(model, name, num_classes):
    model = copy.deepcopy(model).requires_grad_(False)
    model.set_submodule(name, _fresh(model.get_submodule(name), num_classes))
    return model


# LeNet-5: activation, pooling and names are free, so the weights are found by their shapes

CONV1, CONV2, FC1, FC2 = (6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120)
FAN_IN = {CONV2: 6, FC1: 400, FC2: 120}  # how many inputs the weights below add up; a kernel has one entry per channel


def _lenet(function, arguments):
    """Shapes, then what every LeNet-5 computes whatever its activation and pooling are.

    Two things hold for all of them. With a last weight of zero the logits are the last bias. And near a point where the
    activation is smooth, small changes of the image move the output in proportion to the pixels that reach it.
    """
    classes = arguments.get("num_classes", 10)
    module = apply(function, {"num_classes": classes} if "num_classes" in arguments else {})
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    if any(is_lazy(p) for p in module.parameters()):
        with torch.no_grad():
            module(arguments["images"])
    parameters = list(module.parameters())
    evidence["number of parameters"] = sum(p.numel() for p in parameters)
    weights = [CONV1, CONV2, FC1, FC2, (classes, 84)]
    wanted = {math.prod(shape): shape for shape in [*weights, *((shape[0],) for shape in weights)]}
    evidence["numbers in each parameter"] = sorted(p.numel() for p in parameters)
    if evidence["numbers in each parameter"] != sorted(wanted):
        return evidence
    by_size = {p.numel(): p for p in parameters}
    # By the shape of the table: a linear layer may be written as a convolution, or hold its weight transposed.
    by_shape = {wanted[size]: p.detach().view(wanted[size]) for size, p in by_size.items()}

    images, start = arguments["images"], arguments["start"]
    for p in parameters:  # drawn numbers, from one long line
        scale = 1 / math.sqrt(math.prod(p.shape[1:])) if p.ndim > 1 else 0.5
        _put(p, scale * start[: p.numel()].reshape(p.shape))
    logits = module(images)
    evidence["shape of the output"] = str(tuple(logits.shape)) if isinstance(logits, torch.Tensor) else collect(logits)
    if evidence["shape of the output"] != str((len(images), classes)):
        return evidence
    evidence["output of a second run"] = "the same" if torch.equal(logits, module(images)) else "another"
    alone = module(images[:1])
    evidence["shape of the output for one image"] = str(tuple(alone.shape))
    if alone.shape != (1, classes):
        return evidence
    independent = torch.allclose(alone[0], logits[0], atol=1e-4)
    evidence["influence of the other images of a batch"] = "none" if independent else "some"
    backward(logits)
    evidence["parameters that a gradient reaches"] = sorted(
        list(wanted[size]) for size, p in by_size.items() if p.grad is not None and bool(p.grad.any())
    )
    module.requires_grad_(False)
    by_shape[classes, 84].zero_()
    _put(by_shape[classes,], arguments["bias"])
    evidence["logits when the last weight is zero"] = collect(module(images)).double()

    _make_smooth(by_shape, classes, arguments["offset"])
    blocks = arguments["blocks"].repeat_interleave(4, -1).repeat_interleave(4, -2)  # (k, 1, 28, 28)
    slopes = (module(0.1 * blocks) - module(-0.1 * blocks))[:, 0]
    evidence["response to patterned images, relative to a white one"] = collect(slopes[1:] / slopes[0])
    _make_smooth(by_shape, classes, (0, 0))
    evidence["share of each pixel in a 2 × 2 window of the first pooling"] = _shares(module, 1)
    evidence["share of each pixel in a 2 × 2 window of the second pooling"] = _shares(module, 2)
    evidence["response to a white image, relative to the same step of the first bias"] = _scale(module, by_shape)
    evidence["response to a white image near its edge, relative to its middle"] = _edge(module, by_shape)
    if "num_classes" not in arguments:  # once is enough, since this takes 16 runs
        for shape in (CONV1, CONV2, FC1, FC2):
            found = _bends(module, by_shape, classes, shape)
            evidence[f"activation after the layer with {shape[0]} outputs"] = "found" if found else "missing"
    return evidence


def _make_smooth(by_shape, classes, offset):
    """Weights that add up what they get, about a point where common activations are smooth."""
    row, column = offset
    for shape, weight in by_shape.items():
        if len(shape) == 4:
            weight.zero_()
            place = (2, 2) if shape == CONV1 else (row, column)
            weight[:, :, place[0], place[1]] = 0.5 / FAN_IN.get(shape, 0.5)
        else:
            weight.fill_(0.5 / FAN_IN[shape] if len(shape) == 2 and shape in FAN_IN else 0.25)
    by_shape[classes, 84].fill_(1 / 84)
    by_shape[classes,].zero_()


def _shares(module, size):
    """How much each pixel of a 2 × 2 window moves the output, where pixels are `size` wide: all alike, if it is pooled.

    A change up and a change down are held against each other, so that the mean and the maximum give the same.
    """
    corners = torch.eye(4).reshape(4, 1, 2, 2).repeat_interleave(size, -1).repeat_interleave(size, -2)
    patterns = 0.1 * corners.repeat(1, 1, 14 // size, 14 // size)
    moved = (module(patterns) - module(-patterns))[:, 0]
    return collect(moved / moved.sum())


def _scale(module, by_shape):
    """1 if the first convolution gets the image's own numbers: then a pixel and a bias count alike."""
    black, white = module(torch.stack([torch.zeros(1, 28, 28), torch.full((1, 28, 28), 0.1)]))[:, 0]
    by_shape[6,].add_(0.1)
    shifted = module(torch.zeros(1, 1, 28, 28))[0, 0]
    by_shape[6,].sub_(0.1)
    return ((white - black) / (shifted - black)).item()


def _edge(module, by_shape):
    """Less than 1 if the padding is zeros: the first convolution looks two pixels up, and beyond the edge sees nothing."""
    white = torch.full((1, 1, 28, 28), 0.1)
    outputs = []
    for row in (0, 2):
        by_shape[CONV1].zero_()
        by_shape[CONV1][:, :, row, 2] = 1
        outputs.append((module(white) - module(-white))[0, 0])
    return (outputs[0] / outputs[1]).item()


def _bends(module, by_shape, classes, shape):
    """Whether what follows a layer is no straight line of what the layer gives: whether it has an activation."""
    _make_smooth(by_shape, classes, (2, 2))
    by_shape[shape].zero_()
    order = [CONV1, CONV2, FC1, FC2, (classes, 84)]
    by_shape[order[order.index(shape) + 1]].mul_(0.02)
    outputs = []
    for value in (-3.0, -1.0, 1.0, 3.0):
        by_shape[shape[0],].fill_(value)
        outputs.append(module(torch.zeros(1, 1, 28, 28))[0, 0].item())
    a, b, c, d = outputs
    bend, extent = max(abs(a - 2 * b + c), abs(b - 2 * c + d)), max(outputs) - min(outputs)
    return bool(extent > 0 and bend > 0.05 * extent)


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "Write the shape after each layer as a comment, and compare it with the table.",
        "The padding belongs to the first convolution only: 28 + 2 · 2 − 5 + 1 = 28, then 14 − 5 + 1 = 10.",
        "`nn.Flatten()` keeps the batch and joins the rest: 16 · 5 · 5 = 400.",
        "An activation follows each layer but the last. Logits are any real numbers: nothing follows the last layer.",
    ],
    probe=_lenet,
    tolerance=(0.02, 0.01),
)
def LeNet5(rng):
    def network(batch, row, column, **options):
        return {
            **options,
            "images": rng.uniform(batch, 1, 28, 28),
            "start": rng.normal(48_000),
            "bias": 3 * rng.normal(options.get("num_classes", 10)),
            "offset": (row, column),
            "blocks": torch.cat([torch.ones(1, 1, 7, 7), rng.uniform(4, 1, 7, 7, low=-1.0)]),
        }

    yield trial("ten classes", **network(3, 2, 2))
    yield trial("seven classes, one image", **network(1, 0, 4, num_classes=7))
    yield trial("two classes", **network(2, 4, 0, num_classes=2))
    yield trial("eleven classes", **network(5, 0, 0, num_classes=11))


class _LeNetLayers(nn.Module):
    """The layers alone; what stands between them is the mistakes' business."""

    activation = staticmethod(torch.tanh)

    def __init__(self, num_classes=10, padding=2, fc1=400, bias=True):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=padding, bias=bias), nn.Conv2d(6, 16, 5, bias=bias)
        self.fc1, self.fc2, self.fc3 = nn.Linear(fc1, 120), nn.Linear(120, 84), nn.Linear(84, num_classes)

    def maps(self, x, first=torch.tanh, second=torch.tanh):
        x = F.avg_pool2d(first(self.conv1(x)), 2)
        return F.avg_pool2d(second(self.conv2(x)), 2)

    def logits(self, maps, first=torch.tanh, second=torch.tanh):
        return self.fc3(second(self.fc2(first(self.fc1(maps.flatten(1))))))


def _nothing(x):
    return x


@LeNet5.mistake(
    "Your outputs are probabilities. Cross-entropy takes logits and applies the softmax itself: leave it out."
)
class ends_in_softmax(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images)).softmax(1)


@LeNet5.mistake("Your outputs are log-probabilities. Wanted are the logits: nothing follows the last layer.")
class ends_in_log_softmax(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images)).log_softmax(1)


@LeNet5.mistake("A ReLU follows the last layer, so no logit can be negative. Nothing follows the last layer.")
class ends_in_relu(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images)).relu()


@LeNet5.mistake(
    "The linear layers follow each other without an activation, and together are one linear layer. "
    "An activation stands between each two."
)
class no_activation_in_classifier(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images), _nothing, _nothing)


@LeNet5.mistake(
    "No activation follows the convolutions. Pooling is no replacement: each convolution is followed by both."
)
class no_activation_after_convolutions(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images, _nothing, _nothing))


@LeNet5.mistake("There is no activation at all, so the layers can only tell apart what one linear layer can.")
class no_activation(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images, _nothing, _nothing), _nothing, _nothing)


@LeNet5.mistake(
    "One activation is missing: between the first and the second of the linear layers, the 120 features stay linear."
)
class no_activation_after_fc1(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images), _nothing)


@LeNet5.mistake(
    "The first convolution lacks its padding of 2: 28 × 28 shrinks to 24 × 24, and 16 maps of 4 × 4 are left, 256 features."
)
class no_padding(_LeNetLayers):
    def __init__(self, num_classes=10):
        super().__init__(num_classes, padding=0, fc1=256)

    def forward(self, images):
        return self.logits(self.maps(images))


@LeNet5.mistake("`num_classes` is ignored: the last layer always has 10 outputs.")
class always_ten_classes(_LeNetLayers):
    def __init__(self, num_classes=10):
        super().__init__(10)

    def forward(self, images):
        return self.logits(self.maps(images))


@LeNet5.mistake("The convolutions have no bias. Here no batch norm follows them, so they need their own.")
class convolutions_without_bias(_LeNetLayers):
    def __init__(self, num_classes=10):
        super().__init__(num_classes, bias=False)

    def forward(self, images):
        return self.logits(self.maps(images))


@LeNet5.mistake(
    "The sizes are right because the maps were squeezed to 5 × 5, but the first convolution lacks its padding of 2."
)
class squeezed_to_fit(_LeNetLayers):
    def __init__(self, num_classes=10):
        super().__init__(num_classes, padding=0)

    def forward(self, images):
        maps = F.avg_pool2d(self.conv1(images).tanh(), 2)
        return self.logits(F.adaptive_avg_pool2d(self.conv2(maps).tanh(), 5))


@LeNet5.mistake(
    "Convolutions with stride 2 stand in for the pooling: of each 2 × 2 window they look at one place and skip three. "
    "The convolutions move one pixel at a time, and a pooling layer follows each."
)
class strides_for_pooling(_LeNetLayers):
    def forward(self, images):
        x = F.conv2d(images, self.conv1.weight, self.conv1.bias, stride=2, padding=2).tanh()
        return self.logits(F.conv2d(x, self.conv2.weight, self.conv2.bias, stride=2).tanh())


@LeNet5.mistake(
    "The images are scaled inside the network. It takes them as they come: preparing the data is the caller's business."
)
class scales_the_images(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images / 255))


@LeNet5.mistake(
    "`squeeze()` takes the batch axis away from a batch of one image. The output already has the right shape: leave it out."
)
class squeezes_the_batch(_LeNetLayers):
    def forward(self, images):
        return self.logits(self.maps(images)).squeeze()


@LeNet5.mistake("The padding is not zeros: another `padding_mode` was given. Leave it out.")
class pads_with_pixels(_LeNetLayers):
    def __init__(self, num_classes=10):
        super().__init__(num_classes)
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, padding_mode="circular")

    def forward(self, images):
        return self.logits(self.maps(images))


NORMS = {"batch_norm", "native_batch_norm", "instance_norm", "layer_norm", "group_norm", "_native_batch_norm_legit"}
NORMS |= {"_batch_norm_impl_index", "cudnn_batch_norm", "rms_norm", "native_layer_norm"}


def _running(module):
    """The running statistics: the number of batches is PyTorch's own bookkeeping, and not judged."""
    return {name: buffer for name, buffer in module.named_buffers() if name != "num_batches_tracked"}


def _batch_norm(function, arguments):
    """Names and starting values; then two batches in training, one in evaluation, with the state after each."""
    options = {name: arguments[name] for name in ("num_features", "eps", "momentum") if name in arguments}
    forbidden = _Calls(NORMS)
    module = apply(function, options)
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    evidence["parameters at the start"] = collect(dict(module.named_parameters()))
    evidence["buffers at the start"] = collect(_running(module))
    state, own = arguments["state"], module.state_dict()
    evidence["names of these in the state_dict"] = sorted(own.keys() & state.keys())
    if any(name not in own or own[name].shape != values.shape for name, values in state.items()):
        return evidence
    module = module.to(state["weight"].dtype)
    for name, values in state.items():
        _put(module.state_dict()[name], values)
    for number, batch in enumerate(arguments["batches"], 1):
        x = batch.clone().requires_grad_()
        module.zero_grad()
        with forbidden:
            y = module(x)
        evidence[f"output in training, batch {number}"] = collect(y)
        buffers = _running(module)
        evidence[f"buffers after batch {number}"] = collect(buffers)
        graph = any(b.requires_grad for b in buffers.values())
        evidence[f"graph on the buffers after batch {number}"] = "some" if graph else "none"
        if graph:
            return evidence
        backward(y)
        gradients = {name: p.grad for name, p in module.named_parameters()} | {"x": x.grad}
        evidence[f"gradients, batch {number}"] = collect(gradients)
        evidence[f"batch {number} afterwards"] = _as_before(torch.equal(x, batch))
    module.eval().zero_grad()
    x = arguments["x"].clone().requires_grad_()
    with forbidden:
        y = module(x)
    evidence["output in evaluation"] = collect(y)
    backward(y)
    gradients = {name: p.grad for name, p in module.named_parameters()} | {"x": x.grad}
    evidence["gradients in evaluation"] = collect(gradients)
    evidence["buffers after evaluation"] = collect(_running(module))
    module.train()
    with forbidden:
        evidence["output after train()"] = collect(module(arguments["batches"][0].clone()))
    evidence["functions used that are not allowed"] = forbidden.text()
    return evidence


@exercise(
    points=3,
    level=2,
    minutes=20,
    hints=[
        "`self.register_buffer(name, tensor)` makes a tensor part of the state that no optimiser trains.",
        "`x.var(dim=0)` divides by n − 1, `x.var(dim=0, correction=0)` by n. Which goes where?",
        "Update the running values inside `with torch.no_grad():`, or from `mean.detach()`.",
        "The square root covers the sum of variance and eps. In evaluation, only where mean and variance come from changes.",
    ],
    probe=_batch_norm,
)
def BatchNorm1d(rng):
    def layer(features, sizes, dtype=torch.float32, scale=1.0, shift=0.0, **options):
        def vector():
            return rng.normal(features, dtype=dtype)

        state = {
            "weight": vector(),
            "bias": vector(),
            "running_mean": vector(),
            "running_var": rng.uniform(features, low=0.5, high=2.0).to(dtype),
        }
        batches = [scale * rng.normal(n, features, dtype=dtype) + shift for n in sizes]
        x = rng.normal(3, features, dtype=dtype)
        return {"num_features": features, **options, "state": state, "batches": batches, "x": x}

    yield trial("default eps and momentum", **layer(4, [6, 5]))
    yield trial("a large eps", **layer(3, [4, 7], eps=0.5))
    yield trial("momentum 0.7, shifted data", **layer(2, [5, 3], eps=1e-3, momentum=0.7, shift=20.0))
    yield trial("batches of two", **layer(3, [2, 2], momentum=0.25))
    yield trial("one feature", **layer(1, [5, 4]))
    yield trial("momentum 0", **layer(2, [3], momentum=0.0))
    yield trial("momentum 1", **layer(2, [3, 4], momentum=1.0))
    yield trial("float64, large values", **layer(3, [4, 2], dtype=torch.float64, scale=100.0, shift=-300.0))


class _NormState(nn.Module):
    """The state alone, for mistakes. `normal` is torch's own batch norm, and `moved` its running values."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__()
        for name, tensor in nn.BatchNorm1d(num_features).state_dict(keep_vars=True).items():
            if isinstance(tensor, nn.Parameter):
                setattr(self, name, tensor)
            else:
                self.register_buffer(name, tensor)
        self.eps, self.momentum = eps, momentum

    def normal(self, x, training):
        running = (None, None) if training else (self.running_mean, self.running_var)
        with _unseen():
            return F.batch_norm(x, *running, self.weight, self.bias, training, 0.0, self.eps)

    @torch.no_grad()
    def moved(self, x, momentum=None, correction=1):
        share = self.momentum if momentum is None else momentum
        self.running_mean += share * (x.mean(0) - self.running_mean)
        self.running_var += share * (x.var(0, correction=correction) - self.running_var)
        self.num_batches_tracked += 1


@BatchNorm1d.mistake("The variance that goes into `running_var` divides by n − 1; yours divides by n.")
class biased_running_variance(_NormState):
    def forward(self, x):
        if self.training:
            self.moved(x, correction=0)
        return self.normal(x, self.training)


@BatchNorm1d.mistake(
    "In training, the variance that normalises the batch divides by n: `correction=0`. Yours divides by n − 1, which is "
    "`var`'s default and belongs in `running_var` only."
)
class unbiased_batch_variance(_NormState):
    def forward(self, x):
        if not self.training:
            return self.normal(x, False)
        self.moved(x)
        return (x - x.mean(0)) / (x.var(0) + self.eps).sqrt() * self.weight + self.bias


@BatchNorm1d.mistake(
    "Momentum is turned round. In PyTorch it is the share of the *new* batch: (1 − momentum) · old + momentum · new."
)
class momentum_of_the_old(_NormState):
    def forward(self, x):
        if self.training:
            self.moved(x, momentum=1 - self.momentum)
        return self.normal(x, self.training)


@BatchNorm1d.mistake("In evaluation your layer still uses the statistics of the batch. Use the running ones.")
class batch_statistics_in_evaluation(_NormState):
    def forward(self, x):
        if self.training:
            self.moved(x)
        return self.normal(x, True)


@BatchNorm1d.mistake("The running values move in evaluation as well. Then a model changes by being tested.")
class updates_in_evaluation(_NormState):
    def forward(self, x):
        normal = self.normal(x, self.training)
        self.moved(x)
        return normal


@BatchNorm1d.mistake("In training, too, you normalise with the running values. There the batch's own are used.")
class running_statistics_in_training(_NormState):
    def forward(self, x):
        if self.training:
            self.moved(x)
        return self.normal(x, False)


@BatchNorm1d.mistake("eps stands outside the root. It is added to the variance first: √(var + eps).")
class eps_outside_the_root(_NormState):
    def forward(self, x):
        if self.training:
            self.moved(x)
        mean, var = (x.mean(0), x.var(0, correction=0)) if self.training else (self.running_mean, self.running_var)
        return (x - mean) / (var.sqrt() + self.eps) * self.weight + self.bias


@BatchNorm1d.mistake("The running values never move. Each batch in training moves them by the share `momentum`.")
class never_moves(_NormState):
    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
        return self.normal(x, self.training)


@BatchNorm1d.mistake(
    "The graph of the batch hangs on your running values, and grows with each batch. Update them under `torch.no_grad()`, "
    "or from detached tensors."
)
class keeps_the_graph(_NormState):
    def forward(self, x):
        if self.training:
            m = self.momentum
            self.running_mean = (1 - m) * self.running_mean + m * x.mean(0)
            self.running_var = (1 - m) * self.running_var + m * x.var(0)
            self.num_batches_tracked += 1
        return self.normal(x, self.training)


@BatchNorm1d.mistake(
    "Running values as plain attributes are not in the state: they are neither saved nor moved. Use `register_buffer`."
)
class plain_attributes(_NormState):
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, momentum)
        for name, tensor in dict(self.named_buffers()).items():
            delattr(self, name)
            setattr(self, name, tensor)

    def forward(self, x):
        return self.normal(x, self.training)


@BatchNorm1d.mistake(
    "Mean and variance cut the gradient: they were detached. In training the gradient flows through them as well."
)
class detached_statistics(_NormState):
    def forward(self, x):
        if not self.training:
            return self.normal(x, False)
        self.moved(x)
        still = x.detach()
        scale = (still.var(0, correction=0) + self.eps).sqrt()
        return (x - still.mean(0)) / scale * self.weight + self.bias


@BatchNorm1d.mistake(
    "In evaluation no gradient comes through: the graph is cut by `no_grad` or `detach`. Evaluation changes only where "
    "mean and variance come from; whether there is a graph is for the caller to say."
)
class cut_in_evaluation(_NormState):
    def forward(self, x):
        if not self.training:
            return self.normal(x, False).detach()
        self.moved(x)
        return self.normal(x, True)


@BatchNorm1d.mistake("Right, but PyTorch's own batch norm computed it. Write the formula of the text.")
class uses_torch_batch_norm(nn.BatchNorm1d):
    pass


# Combine


class _WithMask(nn.Module):
    """A buffer that is made anew with each model, and so is not saved."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mask", torch.ones(2, 2).tril(), persistent=False)


class _Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.register_buffer("scale", torch.ones(2, 3))


class _Transposed(nn.Module):
    """A weight that is a transposed view, as after loading from another framework."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3).T)
        self.filters = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)


def _one_name_each(model):
    """For each name of the state, the first name of the same tensor: tied names share one."""
    first, names = {}, {}
    for name, tensor in sorted(model.state_dict().items()):
        memory = (tensor.data_ptr(), tuple(tensor.shape)) if tensor.numel() else name
        names[name] = first.setdefault(memory, name)
    return names


def _found(stored, names):
    """For each name of the state, what a file holds under it or, if that is missing, under a name tied to it."""
    by_twin = {names[name]: tensor for name, tensor in stored.items() if name in names}
    return {name: stored.get(name, by_twin.get(first)) for name, first in names.items() if first in by_twin}


def _saving(function, arguments):
    """What the file holds for each name of the state, and that the values and ties of the model are as they were."""
    model = arguments["model"]
    names, state = _one_name_each(model), collect(model).value
    with tempfile.TemporaryDirectory() as folder:
        asked = arguments["path"]
        path = Path(folder) / asked
        apply(function, {"model": model, "path": path if isinstance(asked, Path) else str(path)})
        evidence = {"files": sorted(file.name for file in Path(folder).iterdir())}
        if not path.is_file():
            return evidence
        try:
            stored = safetensors.torch.load(path.read_bytes())
        except safetensors.SafetensorError:
            return evidence | {"format of the file": "not safetensors"}
    evidence["format of the file"] = "safetensors"
    found = _found(stored, names)
    evidence["names of the state that cannot be found in the file"] = sorted(names.keys() - found.keys())
    evidence["names in the file that the state lacks"] = sorted(stored.keys() - names.keys())
    evidence["stored tensors"] = {name: collect(tensor) for name, tensor in sorted(found.items())}
    now = collect(model).value
    same = all(state[n].dtype == now[n].dtype and torch.equal(state[n], now[n]) for n in state)
    evidence["values in the model afterwards"] = _as_before(same)
    evidence["tie between weights afterwards"] = _as_before(names == _one_name_each(model))
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "`safetensors.torch.save_file` takes a dict of tensors. Print what it says about tied tensors.",
        "`safetensors.torch.save_model` takes the model itself. Compare its documentation with the two traps.",
        "Without it: keep the first name of each `tensor.data_ptr()`, and store `tensor.contiguous()`.",
    ],
    probe=_saving,
)
def save_safely(rng):
    yield trial("one layer", model=rng.fill(nn.Linear(3, 2)), path="weights.safetensors")
    yield trial("the path is a Path", model=rng.fill(nn.Linear(2, 3)), path=Path("model.safetensors"))
    yield trial("a file name without an ending", model=rng.fill(nn.Linear(2, 2)), path="weights")
    yield trial("buffers, modules in modules", model=rng.fill(_Deep()), path="deep.safetensors")
    yield trial("tied weights", model=rng.fill(_Tied()), path="tied.safetensors")
    yield trial("a transposed weight", model=rng.fill(_Transposed()), path="transposed.safetensors")
    yield trial("float64 and float16", model=rng.fill(nn.Sequential(nn.Linear(2, 1).double(), nn.Linear(1, 2).half())), path="mixed.safetensors")  # fmt: skip
    yield trial("a frozen model in evaluation", model=rng.fill(_Deep()).eval().requires_grad_(False), path=Path("frozen.st"))  # fmt: skip
    yield trial("a fresh batch norm, where tensors are equal", model=nn.BatchNorm1d(3), path="fresh.safetensors")
    yield trial("a buffer that is not in the state", model=rng.fill(_WithMask()), path="mask.safetensors")


@save_safely.mistake(
    "The file was written by `torch.save`, which pickles. Whoever loads a pickle may run the code in it: use safetensors."
)
def pickles(model, path):
    torch.save(model.state_dict(), path)


@save_safely.mistake(
    "Only the parameters were stored. Buffers, such as a running mean, are part of the state: take `state_dict()`."
)
def parameters_only(model, path):
    safetensors.torch.save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, path)


@save_safely.mistake(
    "`save_file` refuses tensors that share memory or are not contiguous. `save_model` stores each once, as it should be."
)
def state_as_it_is(model, path):
    safetensors.torch.save_file(model.state_dict(), path)


@save_safely.mistake(
    "Tensors with equal values were taken for tied. A fresh batch norm has several: tied weights share their memory, "
    "`data_ptr()`, not only their numbers."
)
def ties_equal_values(model, path):
    kept = {}
    for name, tensor in model.state_dict().items():
        if not any(torch.equal(tensor, other) for other in kept.values()):
            kept[name] = tensor.contiguous()
    safetensors.torch.save_file(kept, path)


@save_safely.mistake(
    "A buffer with `persistent=False` was stored. It is not part of the state: take the names from `state_dict()`, not "
    "from `named_buffers()`."
)
def stores_all_buffers(model, path):
    kept = {name: tensor.detach().contiguous() for name, tensor in model.named_parameters()}
    kept |= {name: tensor.contiguous() for name, tensor in model.named_buffers()}
    safetensors.torch.save_file(kept, path)


@save_safely.mistake("The file has another name than the caller gave. Write to exactly `path`.")
def adds_an_ending(model, path):
    safetensors.torch.save_model(model, f"{path}.safetensors")


@save_safely.mistake(
    "`model.half()` works in place: the model that you were given computes in float16 from now on. Store what it holds."
)
def halves_the_model(model, path):
    safetensors.torch.save_model(model.half(), str(path))


class _Written(str):
    """A path, and the tensors in the file that lies there; `tied` if two names of the model may share one of them."""

    def __new__(cls, path, tensors, is_path=False, tied=False):
        made = super().__new__(cls, path)
        made.tensors, made.is_path, made.tied = tensors, is_path, tied
        return made


def _own_file(function, model, tensors, path):
    """Whether the student's own save_safely stands beside the function, and wrote these tensors to the path."""
    save = getattr(inspect.unwrap(function), "__globals__", {}).get("save_safely")
    if not inspect.isfunction(save):
        return False
    source = copy.deepcopy(model)
    source.load_state_dict(tensors)
    try:
        save(source, str(path))
        found = _found(safetensors.torch.load(path.read_bytes()), _one_name_each(source))
    except Exception:  # its faults are told where it is checked
        return False
    return found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)


def _written(function, model, asked, path):
    """Writes the file in one way after the other: tied tensors as save_safely does it, or under one name, or both."""
    if not asked.tied:
        safetensors.torch.save_file(asked.tensors, path)
        yield
    elif _own_file(function, model, asked.tensors, path):
        yield
    else:
        names = _one_name_each(model)
        safetensors.torch.save_file({name: asked.tensors[name] for name in set(names.values())}, path)
        yield
        safetensors.torch.save_file({name: tensor.clone() for name, tensor in asked.tensors.items()}, path)
        yield


def _loading(function, arguments):
    """Whether an error was raised; if not, the model's state, and whether its ties are as they were."""
    model, asked = arguments["model"], arguments["path"]
    names = _one_name_each(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / str(asked)
        for _ in _written(function, model, asked, path):
            _, raised = _attempted(function, {"model": model, "path": path if asked.is_path else str(path)})
            if not raised:
                break
    evidence = {"outcome": "an error" if raised else "no error"}
    if raised:
        return evidence
    evidence["model's state"] = collect(model)
    evidence["tie between weights"] = _as_before(names == _one_name_each(model))
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`load_file(path)` gives a dict of tensors, and `model.load_state_dict` is strict on its own.",
        "With tied weights that is too strict if the file holds one name only. What does `load_model` do?",
        "Without it: `load_state_dict(tensors, strict=False)` returns the missing and the unexpected names. Which of the "
        "missing ones share their memory with a name that is in the file?",
    ],
    probe=_loading,
)
def load_safely(rng):
    def like(model, without=(), **more):
        """A file with drawn values for the names of the model."""
        stored = {}
        for name, tensor in model.state_dict().items():
            if name not in without:
                drawn = rng.normal(*tensor.shape) if tensor.is_floating_point() else rng.integers(0, 9, *tensor.shape)
                stored[name] = drawn.to(tensor.dtype).contiguous()
        return stored | more

    def pair(model, path, is_path=False, **options):
        return {"model": rng.fill(model), "path": _Written(path, like(model, **options), is_path)}

    yield trial("one layer", **pair(nn.Linear(3, 2), "weights.safetensors"))
    yield trial("the path is a Path", **pair(nn.Linear(2, 3), "weights.st", is_path=True))
    yield trial("buffers, in evaluation", **pair(_Deep().eval(), "deep"))
    yield trial("a name is missing", **pair(nn.Linear(3, 2), "weights", without=["bias"]))
    yield trial("a buffer is missing", **pair(_Deep(), "deep", without=["body.1.running_mean"]))
    fresh = nn.BatchNorm1d(3)  # its variances equal its weight
    yield trial("a buffer is missing that equals another", model=fresh, path=_Written("fresh", like(fresh, ["running_var"])))  # fmt: skip
    yield trial("a name is left over", **pair(nn.Linear(3, 2), "more", other=torch.ones(2)))
    yield trial("another shape", **pair(nn.Linear(3, 2), "shape", weight=torch.ones(2, 4)))
    yield trial("a shape that would broadcast", **pair(nn.Linear(3, 2), "row", weight=torch.ones(1, 3)))
    yield trial("a shape with as many numbers", **pair(nn.Linear(3, 2), "turned", weight=torch.ones(3, 2)))
    for words in (5, 4):
        stored = like(_Tied(words))
        stored["output.weight"] = stored["embedding.weight"]
        yield trial(
            f"tied weights, {words} words", model=rng.fill(_Tied(words)), path=_Written("tied", stored, tied=True)
        )
    yield trial("tied weights, under neither name", **pair(_Tied(), "t", without=["embedding.weight", "output.weight"]))
    yield trial("a transposed weight", **pair(_Transposed(), "transposed"))
    yield trial("a buffer that is not in the state", **pair(_WithMask(), "mask"))


@load_safely.mistake(
    "With `strict=False` a wrong file is loaded in part, and nobody hears of it: missing and unexpected names must raise."
)
def not_strict(model, path):
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)


@load_safely.mistake("`torch.load` reads pickles. A safetensors file has a reader of its own: `load_file`.")
def unpickles(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a strange version of pickle, since it is none
        model.load_state_dict(torch.load(path))


@load_safely.mistake(
    "`assign=True` gives the model new parameters, one for each name, and tied weights are two from then on. Copy into "
    "those that are there: leave it out."
)
def assigns(model, path):
    stored, tied = safetensors.torch.load_file(path), _one_name_each(model)
    for name, tensor in _found(stored, tied).items():
        stored.setdefault(name, tensor.clone())
    model.load_state_dict(stored, assign=True)


@load_safely.mistake(
    "Names in the file that the model does not have are ignored. They are a sign of a wrong file: raise."
)
def ignores_left_over(model, path):
    missing, _ = safetensors.torch.load_model(model, path, strict=False)
    if missing:
        raise KeyError(str(missing))


def _copied(model, path, fitting):
    """Strict with names, but not with shapes."""
    stored, state = safetensors.torch.load_file(path), model.state_dict()
    held = {state[name].data_ptr() for name in stored if name in state}
    if stored.keys() - state.keys() or any(tensor.data_ptr() not in held for tensor in state.values()):
        raise KeyError("names")
    for name, tensor in stored.items():
        state[name].copy_(fitting(tensor, state[name]))


@load_safely.mistake(
    "`copy_` broadcasts: one row was copied into every row of a larger weight, without an error. Compare the shapes first."
)
def broadcasts(model, path):
    _copied(model, path, lambda stored, own: stored)


@load_safely.mistake(
    "A tensor with as many numbers but another shape was loaded, so its numbers stand in the wrong places. Compare the "
    "shapes, not the sizes."
)
def compares_sizes_only(model, path):
    _copied(model, path, lambda stored, own: stored.reshape(own.shape))


@load_safely.mistake("Names of the model that the file lacks are ignored: those keep their old values. Raise.")
def ignores_missing(model, path):
    _, unexpected = safetensors.torch.load_model(model, path, strict=False)
    if unexpected:
        raise KeyError(str(unexpected))


ROLES = ("first", "second", "shortcut")


def _residual(function, arguments):
    """Weights of its layers, and what it computes with known ones in training and in evaluation.

    A convolution is the shortcut's if its kernel is 1 × 1; the other two are told by the order in which they run. A batch
    norm belongs to the convolution whose output it gets.
    """
    options = {name: arguments[name] for name in ("c_in", "c_out", "stride") if name in arguments}
    module = apply(function, options)
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    evidence["number of parameters"] = sum(p.numel() for p in module.parameters())
    evidence["shapes of the parameters"] = _sorted_shapes(module.parameters())
    x = arguments["x"]
    roles = _roles(module, x)
    evidence["convolutions"] = sorted(
        [role, list(layer.kernel_size), layer.in_channels, layer.out_channels, list(layer.stride), layer.bias is None]
        for role, (layer, _) in roles.items()
    )
    evidence["batch norms after a convolution"] = sorted(role for role, (_, norm) in roles.items() if norm is not None)
    for role, (layer, norm) in roles.items():
        values = arguments["values"].get(role)
        if values is None or norm is None or layer.weight.shape != values["filters"].shape:
            return evidence
        _put(layer.weight, values["filters"])
        for name in ("weight", "bias", "running_mean", "running_var"):
            _put(getattr(norm, name), values[name])
    evidence["output in evaluation"] = collect(module.eval()(x.clone()))
    leaf = x.clone().requires_grad_()
    module.train().zero_grad()
    y = module(leaf)
    evidence["output in training"] = collect(y)
    backward(y)
    evidence["input afterwards"] = _as_before(torch.equal(leaf, x))
    evidence["gradient of the input"] = collect(leaf.grad)
    evidence["gradients of the filters"] = {role: collect(layer.weight.grad) for role, (layer, _) in roles.items()}
    evidence["running means afterwards"] = {role: collect(norm.running_mean) for role, (_, norm) in roles.items()}
    evidence["momentum and eps"] = {role: [norm.momentum, norm.eps] for role, (_, norm) in roles.items()}
    return evidence


def _roles(module, x):
    """{role: (convolution, its batch norm or None)} of the layers that run."""
    order, made, norms = [], {}, {}

    def note(layer, inputs, output):
        if isinstance(layer, nn.Conv2d):
            order.append(layer)
            made[id(output)] = (layer, output)  # the output is kept, so that its id stays its own
        elif id(inputs[0]) in made:
            norms[made[id(inputs[0])][0]] = layer

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    handles = [layer.register_forward_hook(note) for layer in module.modules() if isinstance(layer, kinds)]
    try:
        module.eval()(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    wide = [layer for layer in order if layer.kernel_size != (1, 1)]
    narrow = [layer for layer in order if layer.kernel_size == (1, 1)]
    named = dict(zip(("first", "second", "third", "fourth"), wide, strict=False))
    named |= dict(zip(("shortcut", "another shortcut"), narrow, strict=False))
    return {role: (layer, norms.get(layer)) for role, layer in named.items()}


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Make the main path one `nn.Sequential` of five layers. Which of its channels and strides depend on the arguments?",
        "When do both paths end with the same shape? Only then is the shortcut the input itself.",
        "`nn.Identity()` or an empty `nn.Sequential()` returns its input and has no parameters.",
        "Between the second batch norm and the addition stands nothing. The ReLU comes after the addition, once.",
    ],
    probe=_residual,
)
def ResidualBlock(rng):
    def block(c_in, c_out, h, w, batch=2, **options):
        def norm():
            return {
                "weight": rng.uniform(c_out, low=0.5, high=1.5),
                "bias": rng.normal(c_out),
                "running_mean": rng.normal(c_out),
                "running_var": rng.uniform(c_out, low=0.5, high=2.0),
            }

        values = {
            "first": {"filters": 0.5 * rng.normal(c_out, c_in, 3, 3), **norm()},
            "second": {"filters": 0.5 * rng.normal(c_out, c_out, 3, 3), **norm()},
            "shortcut": {"filters": rng.normal(c_out, c_in, 1, 1), **norm()},
        }
        return {"c_in": c_in, "c_out": c_out, **options, "values": values, "x": rng.normal(batch, c_in, h, w)}

    yield trial("the same shape", **block(3, 3, 5, 6))
    yield trial("more channels", **block(2, 3, 4, 5, stride=1))
    yield trial("fewer channels", **block(4, 2, 5, 4))
    yield trial("stride 2, the same channels", **block(3, 3, 5, 6, stride=2))
    yield trial("stride 2, more channels", **block(2, 4, 6, 7, stride=2))
    yield trial("stride 3", **block(2, 2, 7, 8, batch=3, stride=3))
    yield trial("one channel, one image", **block(1, 1, 4, 3, batch=1, stride=1))


class _BlockLayers(nn.Module):
    """The layers alone; the mistakes put them together."""

    def __init__(self, c_in, c_out, stride=1, bias=False, strides=None, always=False):
        super().__init__()
        first, second = strides or (stride, 1)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, first, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, second, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.short = None
        if always or (c_in, stride) != (c_out, 1):
            self.short = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=bias), nn.BatchNorm2d(c_out))

    def main(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))

    def shortcut(self, x):
        return x if self.short is None else self.short(x)


@ResidualBlock.mistake("The ReLU after the addition is missing.")
class no_last_relu(_BlockLayers):
    def forward(self, x):
        return self.main(x) + self.shortcut(x)


@ResidualBlock.mistake("The main path got its ReLU before the addition. Add first, then apply it to the sum.")
class relu_before_the_addition(_BlockLayers):
    def forward(self, x):
        return self.main(x).relu() + self.shortcut(x)


@ResidualBlock.mistake("The ReLU between the two convolutions is missing, so together they are one linear step.")
class no_relu_inside(_BlockLayers):
    def forward(self, x):
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)))) + self.shortcut(x)).relu()


@ResidualBlock.mistake("Nothing is added: the shortcut is missing. This is a plain block, not a residual one.")
class no_shortcut(_BlockLayers):
    def forward(self, x):
        self.shortcut(x)
        return self.main(x).relu()


@ResidualBlock.mistake(
    "The convolutions have a bias. The batch norm after each subtracts the mean and with it any bias: `bias=False`."
)
class with_biases(_BlockLayers):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, bias=True)

    def forward(self, x):
        return (self.main(x) + self.shortcut(x)).relu()


@ResidualBlock.mistake(
    "The stride stands on the second convolution. It belongs on the first, which saves work as well."
)
class stride_on_the_second(_BlockLayers):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, strides=(1, stride))

    def forward(self, x):
        return (self.main(x) + self.shortcut(x)).relu()


@ResidualBlock.mistake(
    "The shortcut has a convolution even where the shape stays the same. There it is the input itself, without parameters."
)
class always_a_convolution(_BlockLayers):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride, always=True)

    def forward(self, x):
        return (self.main(x) + self.shortcut(x)).relu()


@ResidualBlock.mistake("The batch norm of the shortcut is missing: a convolution there is followed by one, too.")
class no_norm_in_shortcut(_BlockLayers):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride)
        if self.short is not None:
            self.short = self.short[0]

    def forward(self, x):
        return (self.main(x) + self.shortcut(x)).relu()


@ResidualBlock.mistake(
    "Your block worked in place on its input: the caller's tensor changed, and the shortcut added what it had become."
)
class writes_into_its_input(_BlockLayers):
    def forward(self, x):
        result = (self.main(x) + self.shortcut(x)).relu()
        with torch.no_grad():
            x.relu_()
        return result


@ResidualBlock.mistake(
    "The same batch norm serves both convolutions. Each has statistics of its own: make one for each."
)
class one_norm_for_both(_BlockLayers):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__(c_in, c_out, stride)
        del self.bn2

    def forward(self, x):
        return (self.bn1(self.conv2(self.bn1(self.conv1(x)).relu())) + self.shortcut(x)).relu()


# Debug


def _scaled_mlp(function, arguments):
    """Its state by kind, then output, gradients and dtype with known weights, in float32 and after double()."""
    options = {name: arguments[name] for name in ("mean", "std", "sizes")}
    module = apply(function, options)
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    # A parameter that is not trained is as good as a buffer.
    parameters = [p for p in module.parameters() if p.requires_grad]
    evidence["shapes of the trained parameters"] = _sorted_shapes(parameters)
    state = module.state_dict()
    evidence["mean and std in the state_dict"] = collect({n: state[n] for n in ("mean", "std") if n in state})
    evidence["list of sizes afterwards"] = collect(arguments["sizes"])
    widths = arguments["widths"]
    wanted = [[b, a] for a, b in pairwise(widths)] + [[b] for b in widths[1:]]
    if evidence["shapes of the trained parameters"] != sorted(wanted):
        return evidence
    matrices = [p for p in parameters if p.ndim == 2]
    vectors = [p for p in parameters if p.ndim == 1]
    in_order = all(
        tensor.shape == values.shape
        for tensor, values in zip(matrices + vectors, arguments["weights"] + arguments["biases"], strict=True)
    )
    evidence["order in which the layers are assigned"] = "that in which they run" if in_order else "another one"
    if not in_order:
        return evidence
    for tensor, values in zip(matrices + vectors, arguments["weights"] + arguments["biases"], strict=True):
        _put(tensor, values)
    leaf = arguments["x"].clone().requires_grad_()
    x = leaf * 1  # a leaf would refuse to be changed in place, with an error that hides the fault
    y = module(x)
    evidence["output"] = collect(y)
    evidence["caller's x afterwards"] = _as_before(torch.equal(x, arguments["x"]))
    backward(y)
    evidence["gradients"] = [collect(p.grad) for p in (*matrices, *vectors)]
    evidence["gradient of x"] = collect(leaf.grad)
    evidence["output after double()"] = collect(module.double()(arguments["x"].double()))
    dtypes = [str(getattr(getattr(module, name, None), "dtype", None)) for name in ("mean", "std")]
    evidence["dtypes of mean and std after double()"] = dtypes
    return evidence


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Print `list(model.parameters())` and `model.state_dict()` of the program as it is given. What is missing?",
        "A module knows the modules, parameters and buffers assigned to it. It does not look into lists: `nn.ModuleList` is "
        "the list that it looks into.",
        "`self.register_buffer(name, tensor)` keeps a tensor in the state without training it.",
        "Which outputs can a ReLU not give? And what does `-=` do to the tensor of the caller?",
    ],
    probe=_scaled_mlp,
)
def ScaledMLP(rng):
    def network(*sizes, batch=4):
        pairs = list(pairwise(sizes))
        return {
            "mean": 3 * rng.normal(sizes[0]),
            "std": rng.uniform(sizes[0], low=0.5, high=3.0),
            "sizes": list(sizes),
            "widths": sizes,
            "weights": [rng.normal(b, a) for a, b in pairs],
            "biases": [rng.normal(b) for _, b in pairs],
            "x": 3 * rng.normal(batch, sizes[0]) + 1,
        }

    yield trial("one hidden layer", **network(4, 8, 3))
    yield trial("no hidden layer", **network(3, 2))
    yield trial("three hidden layers", **network(3, 6, 5, 4, 2))
    yield trial("one row", **network(2, 5, 4, batch=1))
    yield trial("one feature, one output", **network(1, 4, 1))
    yield trial("an empty batch", **network(3, 4, 2, batch=0))


class _MLPLayers(nn.Module):
    """The state alone, for mistakes."""

    def __init__(self, mean, std, sizes):
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def through(self, x, last=_nothing):
        *hidden, output = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(output(x))


@ScaledMLP.mistake(
    "This is the program as it was given, with all its faults. Print `list(model.parameters())`: what does it show?"
)
class as_given(nn.Module):
    def __init__(self, mean, std, sizes):
        super().__init__()
        self.mean, self.std = mean, std
        self.layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]

    def forward(self, x):
        x -= self.mean
        x /= self.std
        for layer in self.layers:
            x = layer(x).relu()
        return x


@ScaledMLP.mistake(
    "The layers are still in a Python list, where the module does not find them: no optimiser trains them. "
    "Use `nn.ModuleList` or `nn.Sequential`."
)
class layers_in_a_list(_MLPLayers):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        layers = list(self.layers)
        del self.layers
        self.layers = layers

    def forward(self, x):
        return self.through((x - self.mean) / self.std)


@ScaledMLP.mistake(
    "`mean` and `std` are plain tensors, so `state_dict()` lacks them and `.double()` leaves them behind: register them as "
    "buffers."
)
class statistics_as_attributes(_MLPLayers):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        del self.mean, self.std
        self.mean, self.std = mean, std

    def forward(self, x):
        return self.through((x - self.mean) / self.std)


@ScaledMLP.mistake(
    "`persistent=False` keeps a buffer out of the `state_dict`, so `mean` and `std` are lost when the model is saved. "
    "Leave it out."
)
class statistics_not_saved(_MLPLayers):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)

    def forward(self, x):
        return self.through((x - self.mean) / self.std)


@ScaledMLP.mistake(
    "`mean` and `std` have become parameters, so the optimiser would train them. Buffers are not trained."
)
class statistics_as_parameters(_MLPLayers):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        del self.mean, self.std
        self.mean, self.std = nn.Parameter(mean.clone()), nn.Parameter(std.clone())

    def forward(self, x):
        return self.through((x - self.mean) / self.std)


@ScaledMLP.mistake(
    "The linear layers are assigned in another order than they run. `parameters()` lists them as they were assigned: "
    "assign the first one first."
)
class assigns_the_last_first(_MLPLayers):
    def __init__(self, mean, std, sizes):
        super().__init__(mean, std, sizes)
        self.layers = nn.ModuleList(reversed(self.layers))

    def forward(self, x):
        *hidden, output = reversed(self.layers)
        x = (x - self.mean) / self.std
        for layer in hidden:
            x = F.relu(layer(x))
        return output(x)


@ScaledMLP.mistake(
    "The features are scaled under `no_grad`, or detached, so no gradient reaches x. Buffers are not trained anyway: "
    "scale without it."
)
class scales_without_a_graph(_MLPLayers):
    def forward(self, x):
        return self.through((x.detach() - self.mean) / self.std)


@ScaledMLP.mistake("A ReLU still follows the last layer. Logits are any real numbers: only the hidden layers have one.")
class relu_at_the_end(_MLPLayers):
    def forward(self, x):
        return self.through((x - self.mean) / self.std, F.relu)


@ScaledMLP.mistake("`x -= …` still writes into the caller's tensor. `x = (x - self.mean) / self.std` makes a new one.")
class scales_in_place(_MLPLayers):
    def forward(self, x):
        x -= self.mean
        x /= self.std
        return self.through(x)


@ScaledMLP.mistake(
    "No ReLU is left. Between two linear layers there must be one, or they are one linear layer together."
)
class no_relu(_MLPLayers):
    def forward(self, x):
        x = (x - self.mean) / self.std
        for layer in self.layers:
            x = layer(x)
        return x


# Build


def _autoencoder(function, arguments):
    """Shapes, then codes, images and gradients with known weights, which are found by their shapes.

    In encoder and decoder the weights have different shapes, since the widths fall. Biases of one shape get the same
    values, and their gradients are added.
    """
    options = {name: arguments[name] for name in ("image_shape", "sizes")}
    module = apply(function, options)
    evidence = _made(module)
    if not _is_module(evidence):
        return evidence
    evidence["list of sizes afterwards"] = collect(arguments["sizes"])
    evidence["number of parameters"] = sum(p.numel() for p in module.parameters())
    evidence["shapes of the parameters"] = _sorted_shapes(module.parameters())
    values = {tuple(tensor.shape): tensor for tensor in arguments["values"]}
    if {tuple(p.shape) for p in module.parameters()} != set(values):
        return evidence
    for parameter in module.parameters():
        _put(parameter, values[tuple(parameter.shape)])
    images = arguments["images"].clone().requires_grad_()
    evidence["codes"] = collect(module.encode(images))
    evidence["images from drawn codes"] = collect(module.decode(arguments["codes"].clone()))
    drawn = module(images)
    evidence["images from images"] = collect(drawn)
    backward(drawn)
    gradients = {}
    for parameter in module.parameters():
        if parameter.grad is not None:
            shape = str(tuple(parameter.shape))
            gradients[shape] = gradients.get(shape, 0) + parameter.grad
    evidence["gradients by shape"] = collect(gradients)
    evidence["gradient of the images"] = collect(images.grad)
    evidence["argument images"] = _as_before(torch.equal(images, arguments["images"]))
    return evidence


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Start with one hidden layer, written out by hand. Then make the lists in a loop over pairs of widths.",
        "`pairwise(widths)` gives the pairs (784, 128), (128, 32). The decoder has them in reverse, turned round.",
        "`math.prod(image_shape)` counts the pixels, `nn.Unflatten(1, image_shape)` or `reshape` undoes the flattening.",
        "Put a ReLU after each layer, then take off the last one of each half: the code has none, the image a sigmoid.",
    ],
    probe=_autoencoder,
)
def Autoencoder(rng):
    def pair(image_shape, sizes, batch=3):
        widths = [math.prod(image_shape), *sizes]
        values = []
        for a, b in pairwise(widths):
            values += [rng.normal(b, a) / a**0.5, rng.normal(a, b) / b**0.5]
        return {
            "image_shape": image_shape,
            "sizes": sizes,
            "values": values + [rng.normal(width) for width in widths],
            "images": rng.uniform(batch, *image_shape),
            "codes": 2 * rng.normal(batch + 1, sizes[-1]),
        }

    yield trial("one hidden layer", **pair((1, 4, 5), [7, 3]))
    yield trial("two hidden layers", **pair((1, 6, 4), [9, 5, 2]))
    yield trial("the code follows at once", **pair((1, 3, 3), [4]))
    yield trial("colour", **pair((3, 4, 2), [11, 4]))
    yield trial("one image, a code of one number", **pair((1, 3, 4), [6, 1], batch=1))
    yield trial("images without a channel axis", **pair((4, 3), [5, 2]))
    yield trial("four layers", **pair((1, 4, 4), [12, 9, 6, 3], batch=2))


class _Halves(nn.Module):
    """Two halves of linear layers; the mistakes say what stands between and after them."""

    def __init__(self, image_shape, sizes):
        super().__init__()
        self.image_shape = tuple(image_shape)
        widths = [math.prod(image_shape), *sizes]
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Linear(b, a) for a, b in list(pairwise(widths))[::-1])

    @staticmethod
    def through(layers, x, between=F.relu):
        for layer in layers[:-1]:
            x = between(layer(x))
        return layers[-1](x)

    def encode(self, images):
        return self.through(self.down, images.flatten(1))

    def decode(self, codes):
        return self.through(self.up, codes).sigmoid().unflatten(1, self.image_shape)

    def forward(self, images):
        raise AssertionError("each mistake says how")


@Autoencoder.mistake(
    "A ReLU follows the code, which then has no negative numbers. The last layer of the encoder has none."
)
class relu_after_the_code(_Halves):
    def encode(self, images):
        return super().encode(images).relu()

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake(
    "Your class changed the caller's list of sizes. Make a list of its own: `widths = [pixels, *sizes]`."
)
class changes_the_list(_Halves):
    def __init__(self, image_shape, sizes):
        super().__init__(image_shape, sizes)
        sizes.insert(0, math.prod(image_shape))

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("The sigmoid at the end is missing: pixels may lie outside [0, 1].")
class no_sigmoid(_Halves):
    def decode(self, codes):
        return self.through(self.up, codes).unflatten(1, self.image_shape)

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("A ReLU stands before the sigmoid, so no pixel can be darker than 0.5: σ(0) is 0.5.")
class relu_before_the_sigmoid(_Halves):
    def decode(self, codes):
        return self.through(self.up, codes).relu().sigmoid().unflatten(1, self.image_shape)

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("The decoder returns rows of pixels. Bring them back to the shape of images.")
class stays_flat(_Halves):
    def decode(self, codes):
        return self.through(self.up, codes).sigmoid()

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("No ReLU stands between the layers, so each half is one linear layer. Put one between each two.")
class linear_halves(_Halves):
    def encode(self, images):
        return self.through(self.down, images.flatten(1), _nothing)

    def decode(self, codes):
        return self.through(self.up, codes, _nothing).sigmoid().unflatten(1, self.image_shape)

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("The decoder begins with a ReLU, which throws the negative half of the code away.")
class relu_before_the_decoder(_Halves):
    def decode(self, codes):
        return super().decode(codes.relu())

    def forward(self, images):
        return self.decode(self.encode(images))


@Autoencoder.mistake("Calling the model gives the codes. It should encode, then decode: images go in, images come out.")
class forward_only_encodes(_Halves):
    def forward(self, images):
        return self.encode(images)


@Autoencoder.mistake(
    "The decoder lacks its hidden layers. It is the mirror image of the encoder, with as many layers as that has."
)
class short_decoder(_Halves):
    def __init__(self, image_shape, sizes):
        super().__init__(image_shape, sizes)
        self.up = nn.ModuleList([nn.Linear(sizes[-1], math.prod(image_shape))])

    def forward(self, images):
        return self.decode(self.encode(images))
