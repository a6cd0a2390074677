"""Chapter 9: the exercises of parameter-efficient fine-tuning.

Classes are built with the trial's modules, given the trial's weights, and driven. Models in trials are small and drawn;
a layer with an adapter is told by its attributes `base`, `A` and `B`, as the prompts say.
"""

import inspect

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import apply, backward, call, call_with_gradients

# What the probes share


@torch.no_grad()
def _put(tensor, values):
    tensor.copy_(values)


def _trainable(module):
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def _input(width):
    return torch.linspace(-2.0, 2.0, 3 * width).reshape(3, width)


def _shapes(module):
    return {name: list(parameter.shape) for name, parameter in module.named_parameters()}


def _modes(module):
    return {name or "the model": "train" if part.training else "eval" for name, part in module.named_modules()}


def _gradients(function, arguments):
    """Which arguments gradients reach, and the gradients. An empty tensor may be left out: nothing flows through it."""
    evidence = call_with_gradients(function, arguments)
    gradients = evidence.pop("gradients") or {}
    reached = {name: found for name, found in gradients.items() if found is not None and arguments[name].numel()}
    return evidence | {"arguments that gradients reach": ", ".join(reached) or "none", "gradients": reached}


class _Attention(nn.Module):
    """Three linear layers as in an encoder's block."""

    def __init__(self, width, bias=True):
        super().__init__()
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, x):
        return self.output(torch.tanh(self.query(x)) * self.key(x))


class _Block(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.attention = _Attention(width)
        self.query_norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, width)

    def forward(self, x):
        return x + self.output(torch.relu(self.dense(self.query_norm(self.attention(x)))))


class _Model(nn.Module):
    """Blocks in a list, and a head: linear layers at several depths."""

    def __init__(self, width=4, hidden=6, blocks=2):
        super().__init__()
        self.layer = nn.ModuleList(_Block(width, hidden) for _ in range(blocks))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for block in self.layer:
            x = block(x)
        return self.head(x)


# Recall


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "`model.parameters()` yields every parameter once, also one that two layers share. `p.numel()` counts its numbers.",
        "`p.requires_grad` says whether an optimiser would change it.",
        "A share of all: trainable numbers divided by all numbers, not by the frozen ones.",
    ],
)
def trainable_share(rng):
    def frozen(module, *names):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in names)
        return module

    # The sizes are drawn, so that the shares differ from seed to seed.
    width = rng.integer(3, 20)
    tied = rng.fill(nn.Sequential(nn.Embedding(7, width), nn.Linear(width, 7)))
    tied[1].weight = tied[0].weight
    yield trial("one layer, its weight frozen", model=frozen(rng.fill(nn.Linear(rng.integer(3, 30), 2)), "weight"))
    width, classes = rng.integer(5, 25), rng.integer(2, 9)
    yield trial(
        "a head on a frozen body",
        model=frozen(rng.fill(nn.Sequential(nn.Linear(width, width), nn.Linear(width, classes))), "0.weight", "0.bias"),
    )
    yield trial("everything is trained", model=rng.fill(nn.Linear(4, 1)))
    yield trial("nothing is trained", model=frozen(rng.fill(nn.Linear(2, 3)), "weight", "bias"))
    yield trial(
        "buffers are no parameters",
        model=frozen(rng.fill(nn.Sequential(nn.Linear(rng.integer(3, 30), 4), nn.BatchNorm1d(4))), "0.weight"),
    )
    yield trial("a shared weight counts once", model=frozen(tied, "1.bias"))


def _numbers(model, trainable):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


@trainable_share.mistake("This is a percentage. A share lies between 0 and 1: leave the 100 to whoever prints it.")
def in_percent(model):
    return 100 * _numbers(model, True) / _numbers(model, False)


@trainable_share.mistake(
    "This is the share of the parameter *tensors*. A matrix counts as many numbers as it holds: `p.numel()`."
)
def counts_tensors(model):
    flags = [p.requires_grad for p in model.parameters()]
    return sum(flags) / len(flags)


@trainable_share.mistake("Divided by the frozen numbers. The share is of all of them, frozen and trained.")
def of_the_frozen(model):
    trained = _numbers(model, True)
    return trained / max(_numbers(model, False) - trained, 1)


@trainable_share.mistake("This is the share of the frozen numbers. Count those with `requires_grad`.")
def counts_the_frozen(model):
    return 1 - _numbers(model, True) / _numbers(model, False)


@trainable_share.mistake(
    "A state_dict holds buffers as well, and a shared weight under each of its names: count `model.parameters()`."
)
def counts_the_state(model):
    state = model.state_dict(keep_vars=True).values()
    return sum(t.numel() for t in state if t.requires_grad) / sum(t.numel() for t in state)


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "For one matrix (out, in), A has r · in numbers and B has out · r.",
        "All of them together: r times the sum of (out + in). How often does that fit into the budget?",
        "`//` rounds down, and gives 0 where not even r = 1 fits.",
    ],
)
def largest_rank(rng):
    def drawn(*shapes):
        """A budget that is enough for a drawn rank, and not for the next."""
        numbers = _sum(shapes)
        return {"shapes": list(shapes), "budget": rng.integer(2, 40) * numbers + rng.integer(0, numbers)}

    size = rng.integer(4, 40)
    yield trial("one square matrix", **drawn((size, size)))
    yield trial("one wide matrix", **drawn((rng.integer(2, 9), rng.integer(10, 30))))
    yield trial("query and value of six layers", shapes=[(384, 384)] * 12, budget=227_000)
    yield trial("matrices of different shapes", **drawn((5, 8), (8, 5), (1, 9)))
    yield trial("the budget is just reached", shapes=[(6, 10), (2, 2)], budget=60)
    yield trial("one number short", shapes=[(6, 10), (2, 2)], budget=59)
    yield trial("not even r = 1 fits", shapes=[(100, 50)], budget=149)
    yield trial("one by one", shapes=[(1, 1)], budget=9)


def _sum(shapes):
    return sum(out + inside for out, inside in shapes)


@largest_rank.mistake("This divides by the size of the full matrices. A and B together have r · (out + in) numbers.")
def full_matrices(shapes, budget):
    return budget // sum(out * inside for out, inside in shapes)


@largest_rank.mistake("Rounded up: that rank is already over the budget. `//` rounds down.")
def rounds_up(shapes, budget):
    return -(-budget // _sum(shapes))


@largest_rank.mistake("`/` gives a float. A rank is a whole number: `//` rounds down.")
def fraction(shapes, budget):
    return budget / _sum(shapes)


@largest_rank.mistake("Only one of the two factors is counted: A has r · in numbers, and B has out · r.")
def only_a(shapes, budget):
    return budget // sum(inside for _, inside in shapes)


@largest_rank.mistake("The budget is for all matrices together. This is the best rank for the largest one alone.")
def the_largest_alone(shapes, budget):
    return budget // max(out + inside for out, inside in shapes)


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "Which order of A (r, in) and B (out, r) gives a matrix (out, in)?",
        "r is the length of the axis that A and B share.",
        "Scale by alpha / r.",
    ],
    probe=_gradients,
)
def lora_delta(rng):
    float64 = torch.float64
    yield trial("rank 2", A=rng.normal(2, 5), B=rng.normal(4, 2), alpha=4)
    yield trial("rank 1", A=rng.normal(1, 3), B=rng.normal(2, 1), alpha=3)
    yield trial("alpha smaller than r", A=rng.normal(6, 4), B=rng.normal(7, 6), alpha=1.5)
    yield trial("a square matrix", A=rng.normal(2, 3), B=rng.normal(3, 2), alpha=16)
    yield trial("a B of zeros changes nothing", A=rng.normal(3, 4), B=torch.zeros(2, 3), alpha=8)
    yield trial("float64", A=rng.normal(2, 4, dtype=float64), B=rng.normal(3, 2, dtype=float64), alpha=7)


@lora_delta.mistake("The product is not scaled by alpha / r. Then every change of r needs another learning rate.")
def unscaled(A, B, alpha):
    return torch.mm(B, A)


@lora_delta.mistake("Scaled by alpha alone. Divide by r, the number of rows of A.")
def alpha_alone(A, B, alpha):
    return alpha * torch.mm(B, A)


@lora_delta.mistake("Divided by the number of columns of A. r is the short axis, which A and B share.")
def by_columns(A, B, alpha):
    return torch.mm(B, A) * alpha / A.shape[1]


@lora_delta.mistake("The result has shape (in, out). A weight of `nn.Linear` has shape (out, in).")
def transposed(A, B, alpha):
    return torch.mm(B, A).T * alpha / A.shape[0]


@lora_delta.mistake(
    "The result is right, but no gradient comes back from it to A and B: they would never be trained. Stay with torch "
    "functions, without `.detach()`, `.data` or `no_grad`."
)
def no_gradient(A, B, alpha):
    return torch.mm(B, A).detach() * alpha / A.shape[0]


@lora_delta.mistake("The scale is upside down: it is alpha / r, so that a larger alpha means a larger change.")
def upside_down(A, B, alpha):
    return torch.mm(B, A) * A.shape[0] / alpha


def _mask_values(function, arguments):
    """The result without its dtype: a mask of booleans may become one of numbers."""
    evidence = call(function, arguments)
    result = evidence["result"]
    return evidence | {"result": result.double() if isinstance(result, torch.Tensor) else result}


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "The soft tokens are real: attention may look at all of them. Which value says that?",
        "Put n columns in front: `torch.cat([…, mask], dim=1)`.",
        "`mask.new_ones(b, n)` has the dtype and the device of `mask`.",
    ],
    probe=_mask_values,
)
def prompt_mask(rng):
    def mask(b, t):
        drawn = rng.integers(0, 2, b, t)
        drawn[0, -1] = 0  # in a mask of ones alone, no column has a place
        return drawn

    yield trial("two sentences", mask=mask(2, 5), n=3)
    yield trial("one sentence", mask=mask(1, 4), n=1)
    yield trial("a mask of booleans", mask=mask(3, 4).bool(), n=2)
    yield trial("more soft tokens than words", mask=mask(4, 2), n=6)
    yield trial("as many sentences as soft tokens", mask=mask(3, 3), n=3)
    yield trial("a mask of floats", mask=mask(2, 6).float(), n=4)


@prompt_mask.mistake(
    "The soft tokens are masked out, so nothing attends to them and nothing is learnt: they are real, 1."
)
def masks_them(mask, n):
    return torch.cat([mask.new_zeros(len(mask), n), mask], 1)


@prompt_mask.mistake("The soft tokens stand in front of the sentence: their columns come first.")
def behind(mask, n):
    return torch.cat([mask, mask.new_ones(len(mask), n)], 1)


@prompt_mask.mistake("n rows were added, which would be n more sentences. Soft tokens are columns: `dim=1`.")
def more_sentences(mask, n):
    return torch.cat([mask.new_ones(n, mask.shape[1]), mask])


# Apply


class _Adapted(nn.Module):
    """A layer with the three parts of an adapted one. It computes nothing: these exercises move tensors."""

    def __init__(self, inside, out, r):
        super().__init__()
        self.base = nn.Linear(inside, out)
        self.A = nn.Parameter(torch.zeros(r, inside))
        self.B = nn.Parameter(torch.zeros(out, r))


class _Decoys(nn.Module):
    """Parameters whose names only look like those of an adapter."""

    def __init__(self):
        super().__init__()
        self.BA = nn.Parameter(torch.zeros(2))
        self.A_norm = nn.LayerNorm(3)
        self.B = nn.ModuleList([nn.Linear(2, 2)])
        self.lora_A = nn.Parameter(torch.zeros(2, 2))


def _adapters(rng):
    """Models with adapters in them, by the name of their trial. Some of their modules are in eval mode."""
    models = {
        "one adapted layer in three": nn.Sequential(nn.Linear(2, 3), _Adapted(3, 4, 2), nn.LayerNorm(4)),
        "deeper, and of two ranks": nn.Sequential(nn.Sequential(_Adapted(2, 5, 1)), _Adapted(5, 3, 3)),
        "names that only look like it": nn.Sequential(_Decoys(), _Adapted(2, 2, 1)),
        "an adapter that is frozen": nn.Sequential(_Adapted(3, 2, 1).requires_grad_(False), _Adapted(2, 2, 2)),
        "float64": nn.Sequential(_Adapted(2, 3, 2).double()),
        "no adapter": nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
    }
    for model in models.values():
        next(model.children()).eval()
    return {name: rng.fill(model) for name, model in models.items()}


def _make_the_learners_own(model, function):
    """Let the adapted layers pass for instances of the learner's own LoRALinear, where there is one."""
    own = getattr(inspect.unwrap(function), "__globals__", {}).get("LoRALinear")
    if isinstance(own, type) and issubclass(own, nn.Module):
        for module in model.modules():
            if isinstance(module, _Adapted):
                module.__class__ = own


def _adapter_tensors(function, arguments):
    model = arguments["model"]
    _make_the_learners_own(model, function)
    result = apply(function, {"model": model})
    if not isinstance(result, dict):
        return {"result": collect(result)}
    evidence = {"result": collect(dict(result)), "modes of the modules": _modes(model)}
    evidence["tensors that require a gradient"] = sorted(
        str(name) for name, value in result.items() if isinstance(value, torch.Tensor) and value.requires_grad
    )
    evidence["requires_grad of the model's parameters"] = _trainable(model)
    evidence["model after the call"] = collect(dict(model.state_dict()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    evidence["result after the model was changed"] = collect(dict(result))
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`model.named_parameters()` gives every parameter with its dotted name.",
        'Look at the last part of the name: it must *be* A or B. `name.rpartition(".")[2]` is that part.',
        "`.detach().clone()` is a copy that stays as it is when training goes on.",
    ],
    probe=_adapter_tensors,
)
def adapter_state(rng):
    for name, model in _adapters(rng).items():
        yield trial(name, model=model)


def _tensors(model, chosen=lambda last: last in ("A", "B")):
    return {name: p for name, p in model.named_parameters() if chosen(name.rpartition(".")[2])}


def _copies(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@adapter_state.mistake(
    "These tensors still are the model's memory: one more step of training changes what you have saved. `.clone()` them."
)
def not_copied(model):
    return {name: tensor.detach() for name, tensor in _tensors(model).items()}


@adapter_state.mistake("The copies still hang on the graph of the model: `.detach()` them.")
def not_detached(model):
    return {name: tensor.clone() for name, tensor in _tensors(model).items()}


@adapter_state.mistake(
    "The frozen weights are in it as well, so the file is as large as the model. Keep A and B alone."
)
def everything(model):
    return _copies(dict(model.named_parameters()))


@adapter_state.mistake(
    "Names that merely end in the letter A or B were taken for an adapter's. The last part of the name must be A or B."
)
def by_the_last_letter(model):
    return _copies(_tensors(model, lambda last: last.endswith(("A", "B"))))


@adapter_state.mistake(
    "An adapter that is frozen at the moment is missing. The name decides which tensors are saved, not `requires_grad`."
)
def loses_the_frozen(model):
    return _copies({name: parameter for name, parameter in _tensors(model).items() if parameter.requires_grad})


@adapter_state.mistake("Only A was kept. Without B the adapter is lost: B starts at zero.")
def only_the_a(model):
    return _copies(_tensors(model, lambda last: last == "A"))


@adapter_state.mistake("The dots of the names are gone, or the path is: the keys are the parameters' full names.")
def last_names(model):
    return {name.replace(".", "_"): tensor for name, tensor in _copies(_tensors(model)).items()}


def _attention_with_gradients(function, arguments):
    """With torch's plain kernel: the fast one does not check its shapes, and writes beyond the memory of a wrong one."""
    with sdpa_kernel(SDPBackend.MATH):
        return _gradients(function, arguments)


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "A prefix is n more places to attend to: longer keys and values, the same queries.",
        "The prefix has no batch axis. `prefix_k.expand(b, …)` repeats it for each sentence without copying.",
        "Concatenate along the time axis, the second from the right, then `F.scaled_dot_product_attention`.",
    ],
    probe=_attention_with_gradients,
)
def prefix_attention(rng):
    def sizes(b, h, t, d, n, dtype=torch.float32):
        drawn = {name: rng.normal(b, h, t, d, dtype=dtype) for name in "qkv"}
        return drawn | {name: rng.normal(h, n, d, dtype=dtype) for name in ("prefix_k", "prefix_v")}

    yield trial("two sentences", **sizes(2, 3, 5, 4, 6))
    yield trial("one sentence, one head", **sizes(1, 1, 3, 2, 2))
    yield trial("a prefix of one", **sizes(2, 2, 4, 3, 1))
    yield trial("all sizes equal", **sizes(2, 2, 2, 2, 2))
    yield trial("no prefix", **sizes(2, 1, 3, 4, 0))
    yield trial("float64", **sizes(3, 2, 4, 5, 3, dtype=torch.float64))
    large = sizes(2, 1, 3, 4, 2, dtype=torch.float64)
    for name in ("q", "k", "prefix_k"):
        large[name] = 30 + large[name] / 10
    yield trial("scores above 1000", **large)


def _attend(q, k, v, scale=None):
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def _longer(prefix, x):
    return torch.cat([torch.stack([prefix] * len(x)), x], 2)


@prefix_attention.mistake("The prefix is not used: keys and values are those of the sentence alone.")
def without_prefix(q, k, v, prefix_k, prefix_v):
    return _attend(q, k, v)


@prefix_attention.mistake(
    "The sentence and the prefix were attended to separately and added: two softmaxes. The weights over both together "
    "sum to 1."
)
def two_softmaxes(q, k, v, prefix_k, prefix_v):
    return _attend(q, k, v) + _attend(q, torch.stack([prefix_k] * len(k)), torch.stack([prefix_v] * len(v)))


@prefix_attention.mistake(
    "Keys and values are in different orders: the prefix stands in front of one and behind the other, so weights meet "
    "the wrong values."
)
def different_orders(q, k, v, prefix_k, prefix_v):
    return _attend(q, _longer(prefix_k, k), torch.cat([v, torch.stack([prefix_v] * len(v))], 2))


@prefix_attention.mistake(
    "The result is right, but no gradient comes back from it to the prefix, which could not be trained. Stay with torch "
    "functions, without `.detach()`, `.data` or `no_grad`."
)
def untrainable(q, k, v, prefix_k, prefix_v):
    return _attend(q, _longer(prefix_k, k), _longer(prefix_v, v)).detach()


@prefix_attention.mistake(
    "`exp` of a large score is infinite, and the result NaN. `softmax` subtracts the largest score first."
)
def overflows(q, k, v, prefix_k, prefix_v):
    weights = (q @ _longer(prefix_k, k).mT / q.shape[-1] ** 0.5).exp()
    return weights / weights.sum(-1, keepdim=True) @ _longer(prefix_v, v)


@prefix_attention.mistake("The scores are not divided by √d.")
def without_scale(q, k, v, prefix_k, prefix_v):
    return _attend(q, _longer(prefix_k, k), _longer(prefix_v, v), scale=1.0)


@prefix_attention.mistake("Keys and values of the prefix have changed places.")
def swapped(q, k, v, prefix_k, prefix_v):
    return _attend(q, _longer(prefix_v, k), _longer(prefix_k, v))


def _soft_prompt(function, arguments):
    """The rows at the start, then output and gradients with known rows.

    The prompt has a name and a shape of the learner's own: it is the one parameter that is trained.
    """
    embedding, n, ids = arguments["embedding"], arguments["n"], arguments["ids"]
    before = collect(embedding.weight)
    module = apply(function, {"embedding": embedding, "n": n})
    if not isinstance(module, nn.Module):
        return {"made object": collect(module)}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    size = n * before.shape[1]
    evidence = {
        "requires_grad of the embedding that was passed": embedding.weight.requires_grad,
        "numbers in each trainable parameter": sorted(parameter.numel() for parameter in trained),
    }
    if evidence["numbers in each trainable parameter"] != [size]:
        return evidence
    [prompt] = trained
    evidence["origin of the prompt's rows"] = [
        "the embedding" if (row == before).all(1).any() else "elsewhere" for row in prompt.detach().reshape(n, -1)
    ]
    _put(prompt, arguments["prompt"].reshape(prompt.shape))
    output = module(ids)
    backward(output)
    evidence["output"] = collect(output)
    evidence["gradient of the prompt"] = None if prompt.grad is None else collect(prompt.grad.reshape(n, -1))
    evidence["gradient of the embedding"] = collect(embedding.weight.grad)
    evidence["embedding after the prompt was changed"] = collect(embedding.weight)
    return evidence


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "The prompt is an `nn.Parameter` of shape (n, d). Start it from rows of `embedding.weight`.",
        "A slice of the embedding's weight shares its memory. `.detach().clone()` gives rows of its own.",
        "In `forward`: embed the ids, repeat the prompt for each sentence with `expand`, and `cat` along the time axis.",
    ],
    probe=_soft_prompt,
)
def SoftPrompt(rng):
    def prompt(words, d, n, b, t):
        return {
            "embedding": rng.fill(nn.Embedding(words, d)),
            "n": n,
            "ids": rng.integers(0, words, b, t),
            "prompt": rng.normal(n, d),
        }

    yield trial("two sentences", **prompt(9, 4, 3, 2, 5))
    yield trial("one sentence of one word", **prompt(5, 3, 2, 1, 1))
    yield trial("one soft token", **prompt(6, 2, 1, 3, 4))
    yield trial("as many soft tokens as words", **prompt(8, 3, 4, 4, 4))


class _Prompt(nn.Module):
    """For mistakes: each names its fault."""

    fault: str

    def __init__(self, embedding, n):
        super().__init__()
        if self.fault == "copy":
            embedding = nn.Embedding.from_pretrained(embedding.weight.detach().clone())
        self.embedding = embedding.requires_grad_(self.fault == "embedding trains")
        weight = embedding.weight.data
        rows = weight[:n] if self.fault == "shared rows" else weight[torch.arange(n) % len(weight)]
        if self.fault == "random":
            rows = torch.randn(n, weight.shape[1], dtype=weight.dtype)
        self.prompt = rows if self.fault == "plain tensor" else nn.Parameter(rows)

    def forward(self, ids):
        soft, hard = torch.stack([self.prompt] * len(ids)), self.embedding(ids)
        return torch.cat([hard, soft] if self.fault == "behind" else [soft, hard], 1)


@SoftPrompt.mistake(
    "The prompt starts at random values, far from any word that the model knows. Start it from rows of the embedding."
)
class RandomStart(_Prompt):
    fault = "random"


@SoftPrompt.mistake("The soft tokens stand behind the sentence. They belong in front: [b, n + t, d], the n first.")
class Behind(_Prompt):
    fault = "behind"


@SoftPrompt.mistake("The embedding is still trainable: freeze it with `embedding.requires_grad_(False)`.")
class EmbeddingTrains(_Prompt):
    fault = "embedding trains"


@SoftPrompt.mistake(
    "What is frozen is a copy: the embedding that was passed, which the rest of the model uses, is still trainable. "
    "Freeze that one: `embedding.requires_grad_(False)`."
)
class CopiesTheEmbedding(_Prompt):
    fault = "copy"


@SoftPrompt.mistake(
    "A slice of the embedding's weight shares its memory: training the prompt also changes the words it was started "
    "from. `.clone()` the rows."
)
class SharesTheRows(_Prompt):
    fault = "shared rows"


@SoftPrompt.mistake("The prompt is not a parameter, so no optimiser finds it: wrap it in `nn.Parameter`.")
class PlainTensor(_Prompt):
    fault = "plain tensor"


# Combine


class _Fused(nn.Module):
    """A layer that can be merged, into one that the trial has drawn."""

    def __init__(self, merged):
        super().__init__()
        self.base = nn.Linear(merged.in_features, merged.out_features)
        self.drawn = [merged]  # in a list: not a part of this module

    def forward(self, x):
        return self.drawn[0](x)

    def merge(self):
        return self.drawn[0]


def _merged_model(function, arguments):
    model = arguments["model"]
    x = _input(next(module.in_features for module in model.modules() if isinstance(module, nn.Linear)))
    drawn = {name: module.merge() for name, module in model.named_modules() if hasattr(module, "merge")}
    others = {name: module for name, module in model.named_modules() if isinstance(module, (nn.LayerNorm, nn.ReLU))}
    result = apply(function, {"model": model})
    places = dict(model.named_modules())
    return {
        "result": collect(result),
        "modules of the model afterwards": [f"{name}: {type(module).__name__}" for name, module in places.items()],
        "merged layers in their places": [places.get(name) is layer for name, layer in drawn.items()],
        "other layers as they were": [places.get(name) is layer for name, layer in others.items()],
        "output": collect(model(x)),
    }


@exercise(
    points=2,
    level=3,
    minutes=12,
    hints=[
        "Walk through `named_modules`, find each module's parent, and put another module in its place: "
        '`setattr(model.get_submodule("layer.0"), "query", new)`.',
        '`hasattr(module, "merge")` tells an adapted layer.',
        "Take the list of modules before you change the first one.",
    ],
    probe=_merged_model,
)
def merge_all(rng):
    def fused(inside, out):
        return _Fused(rng.fill(nn.Linear(inside, out)))

    flat = nn.Sequential(fused(4, 3), nn.ReLU(), nn.Linear(3, 2))
    deep = nn.Sequential(nn.Sequential(nn.LayerNorm(4), nn.Sequential(fused(4, 5), nn.ReLU())), fused(5, 2))
    deepest = nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(fused(3, 3)))), fused(3, 1), fused(1, 2))
    yield trial("one of three layers", model=rng.fill(flat))
    yield trial("at two depths", model=rng.fill(deep))
    yield trial("deep down", model=rng.fill(deepest))
    many = nn.Sequential(*[fused(2, 2) if place in (2, 10, 11) else nn.ReLU() for place in range(12)])
    yield trial("more than ten layers", model=rng.fill(many))
    yield trial("nothing to merge", model=rng.fill(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))


def _fusable(model):
    return [name for name, module in model.named_modules() if hasattr(module, "merge")]


def _replace(model, names, make):
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, make(model.get_submodule(name)))
    return names


@merge_all.mistake(
    "Only layers at the top of the model were merged. `named_modules` goes deeper than `named_children`."
)
def merges_the_top(model):
    return _replace(model, [name for name in _fusable(model) if "." not in name], lambda layer: layer.merge())


@merge_all.mistake("`merge()` was called, but the model still holds the old layers: put the result in their places.")
def throws_away(model):
    return _replace(model, _fusable(model), lambda layer: (layer.merge(), layer)[1])


@merge_all.mistake("The base was put back. That removes the adapter; merging keeps what it has learnt.")
def puts_the_base_back(model):
    return _replace(model, _fusable(model), lambda layer: layer.base)


@merge_all.mistake(
    "The names are sorted as text, where 10 comes before 2. Return them in the order of `named_modules()`."
)
def sorts_the_names(model):
    return sorted(_replace(model, _fusable(model), lambda layer: layer.merge()))


@merge_all.mistake("Nothing is returned. Return the names of the layers that were merged.")
def merges_in_silence(model):
    _replace(model, _fusable(model), lambda layer: layer.merge())


@merge_all.mistake("These are the last parts of the names. Return full dotted names.")
def merges_with_short_names(model):
    return [name.rpartition(".")[2] for name in _replace(model, _fusable(model), lambda layer: layer.merge())]


def _loaded(function, arguments):
    """Where the names fit, what is in the model afterwards; where they do not, whether it was refused."""
    model, state = arguments["model"], arguments["state"]
    _make_the_learners_own(model, function)
    if _tensors(model).keys() != state.keys():
        return _refusal(function, arguments)
    apply(function, arguments)
    return {"model": collect(dict(model.state_dict()))}


def _refusal(function, arguments):
    refused = "no"
    try:
        apply(function, arguments)
    except (NotImplementedError, TypeError, NameError, OSError, MemoryError):
        raise  # the starter's, and accidents; an AttributeError is how `get_parameter` refuses an unknown name
    except Exception:
        refused = "yes"
    return {"refusal of names that do not fit": refused}


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Collect the model's own A and B by name first, as in `adapter_state`, but the parameters themselves.",
        "Compare the two sets of names before you copy anything: `state.keys() != own.keys()`.",
        "`parameter.copy_(tensor)` under `torch.no_grad()` writes into the parameter, which stays the same object.",
    ],
    probe=_loaded,
)
def load_adapter(rng):
    def state(model):
        return {name: rng.normal(*tensor.shape, dtype=tensor.dtype) for name, tensor in _tensors(model).items()}

    for name, model in _adapters(rng).items():
        yield trial(name, model=model, state=state(model))
    square = rng.fill(nn.Sequential(_Adapted(2, 2, 2), _Adapted(2, 2, 2)))
    yield trial("a state in another order", model=square, state=dict(reversed(state(square).items())))

    def spoilt(change):
        model = rng.fill(nn.Sequential(_Adapted(2, 3, 2), nn.Linear(3, 2), _Adapted(2, 4, 1)))
        given = state(model)
        change(given)
        return {"model": model, "state": given}

    yield trial("a name is missing", **spoilt(lambda given: given.pop("2.B")))
    yield trial("a name is unknown", **spoilt(lambda given: given.update({"3.A": rng.normal(1, 2)})))
    yield trial("one name for another", **spoilt(lambda given: given.update({"3.B": given.pop("2.B")})))
    yield trial("an empty state", **spoilt(lambda given: given.clear()))


def _write(own, state, names):
    with torch.no_grad():
        for name in names:
            own[name].copy_(state[name])


def _refuse(names):
    if names:
        raise ValueError(f"wrong names: {sorted(names)}")


@load_adapter.mistake(
    "Names that the model does not have are passed over in silence: a typing error, or an adapter of another model, "
    "goes unnoticed. Raise an error."
)
def ignores_unknown(model, state):
    own = _tensors(model)
    _refuse(own.keys() - state.keys())
    _write(own, state, own)


@load_adapter.mistake(
    "Missing names are passed over: the model keeps part of the old adapter. Raise an error, as for unknown names."
)
def ignores_missing(model, state):
    own = _tensors(model)
    _refuse(state.keys() - own.keys())
    _write(own, state, state)


@load_adapter.mistake("Whatever is missing or unknown is passed over. Compare the names first, and raise an error.")
def ignores_both(model, state):
    own = _tensors(model)
    _write(own, state, own.keys() & state.keys())


@load_adapter.mistake(
    "The tensors were matched by their position. A state may come in any order: take `state[name]` for each name."
)
def by_position(model, state):
    own = _tensors(model)
    _refuse(own.keys() ^ state.keys())
    _write(own, dict(zip(own, state.values(), strict=True)), own)


@load_adapter.mistake("The values were not written into the model: A and B are as before.")
def writes_nothing(model, state):
    _refuse(_tensors(model).keys() ^ state.keys())


# Debug


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Write the shape of every term beside its line: x (…, in), A (r, in), B (out, r), weight (out, in).",
        "The change is added to the *output* of the frozen layer. It does not pass through its weight.",
        "r is the number of rows of A. And a bias of None cannot be added.",
    ],
    probe=_gradients,
)
def lora_forward(rng):
    def layer(inside, out, r, leading, alpha, bias=True, dtype=torch.float32):
        return {
            "x": rng.normal(*leading, inside, dtype=dtype),
            "weight": rng.normal(out, inside, dtype=dtype),
            "bias": rng.normal(out, dtype=dtype) if bias else None,
            "A": rng.normal(r, inside, dtype=dtype),
            "B": rng.normal(out, r, dtype=dtype),
            "alpha": alpha,
        }

    yield trial("a square layer", **layer(4, 4, 2, (5,), 6))
    yield trial("in, out and r different", **layer(5, 3, 2, (4,), 4))
    yield trial("no bias", **layer(3, 4, 1, (2,), 3, bias=False))
    yield trial("two leading axes", **layer(4, 2, 3, (2, 3), 1.5))
    yield trial("one sample", **layer(3, 5, 2, (), 8))
    yield trial("float64", **layer(2, 3, 4, (3,), 2, dtype=torch.float64))


def _changed_weight(weight, A, B, factor):
    return torch.addmm(weight, B, A, alpha=factor)


@lora_forward.mistake("The scale divides by the width of the input. r is the number of rows of A.")
def by_the_width(x, weight, bias, A, B, alpha):
    return F.linear(x, _changed_weight(weight, A, B, alpha / A.shape[1]), bias)


@lora_forward.mistake(
    "The result is right, but no gradient comes back from it to x, A and B: the layer could not be trained. Stay with "
    "torch functions, without `.detach()`, `.data` or `no_grad`."
)
def without_gradients(x, weight, bias, A, B, alpha):
    return F.linear(x, _changed_weight(weight, A, B, alpha / len(A)), bias).detach()


@lora_forward.mistake("The scale alpha / r is missing.")
def no_scale(x, weight, bias, A, B, alpha):
    return F.linear(x, _changed_weight(weight, A, B, 1.0), bias)


@lora_forward.mistake("The bias is lost. Add it where it is not None.")
def no_bias(x, weight, bias, A, B, alpha):
    gone = 0 if bias is None else 0 * bias
    return F.linear(x, _changed_weight(weight, A, B, alpha / len(A))) + gone


@lora_forward.mistake("Only the change is returned. The frozen layer's own output belongs to it.")
def only_the_change(x, weight, bias, A, B, alpha):
    gone = 0 * weight.sum() + (0 if bias is None else 0 * bias)
    return F.linear(x, _changed_weight(torch.zeros_like(weight), A, B, alpha / len(A))) + gone


@lora_forward.mistake(
    "The bias was multiplied by the scale, or added once for each branch: it belongs to the frozen layer, once."
)
def bias_twice(x, weight, bias, A, B, alpha):
    return F.linear(x, _changed_weight(weight, A, B, alpha / len(A)), None if bias is None else 2 * bias)


# Build


def _lora_layer(function, arguments):
    """What is there at the start; output and gradients with known A and B; what merge gives, and what it leaves."""
    base, x = arguments["base"], arguments["x"]
    options = {name: arguments[name] for name in ("base", "r", "alpha")}
    drawn = []
    for seed in (1, 2):
        torch.default_generator.manual_seed(seed)
        layer = apply(function, options)
        if not isinstance(layer, nn.Module):
            return {"made object": collect(layer)}
        drawn.append(layer.A.detach().clone())
    random = not torch.equal(*drawn) and bool(layer.A.isfinite().all())
    evidence = {
        "parameters": dict(sorted(_shapes(layer).items())),
        "requires_grad of the parameters": dict(sorted(_trainable(layer).items())),
        "attribute base": "the layer that was passed" if layer.base is base else "another object",
        "B at the start": "zero" if not layer.B.any() else "not zero",
        "A at the start": "random" if random else "not random" if layer.A.any() else "zero",
        "output at the start": "the base's" if torch.allclose(layer(x), base(x), atol=1e-6) else "another",
    }
    if list(layer.A.shape) != list(arguments["A"].shape) or list(layer.B.shape) != list(arguments["B"].shape):
        return evidence
    _put(layer.A, arguments["A"])
    _put(layer.B, arguments["B"])
    x = x.clone().requires_grad_()
    output = layer(x)
    backward(output)
    evidence["output"] = collect(output)
    evidence["gradients"] = {"x": collect(x.grad), "A": collect(layer.A.grad), "B": collect(layer.B.grad)}
    evidence["gradients of the base"] = collect([parameter.grad for parameter in base.parameters()])
    merged = layer.merge()
    evidence["type of what merge() returns"] = "Linear" if isinstance(merged, nn.Linear) else type(merged).__name__
    if not isinstance(merged, nn.Linear):
        return evidence
    vectors = torch.cat([torch.eye(base.in_features), torch.zeros(1, base.in_features)])
    evidence["output of the merged layer for the unit vectors and for zero"] = collect(merged(vectors))
    evidence["base after merge()"] = collect(dict(base.state_dict()))
    evidence["output after merge()"] = collect(layer(x))
    _put(layer.A, arguments["A"].flip(1) + 1)
    evidence["output of a layer merged after A was changed"] = collect(layer.merge()(vectors))
    return evidence


@exercise(
    points=4,
    level=2,
    minutes=20,
    hints=[
        "`self.base = base` registers the layer; `base.requires_grad_(False)` freezes all of it.",
        "A and B are `nn.Parameter`s: `torch.randn(r, in)` is a start at random, and `torch.zeros(out, r)` one at zero.",
        "In `forward`, two thin products: x (…, in) times Aᵀ gives (…, r), that times Bᵀ gives (…, out).",
        "`merge` makes a new `nn.Linear`, with a bias only if the base has one, and copies base weight + scaled B A into it.",
    ],
    probe=_lora_layer,
)
def LoRALinear(rng):
    def layer(inside, out, r, alpha, leading, bias=True):
        return {
            "base": rng.fill(nn.Linear(inside, out, bias=bias)),
            "r": r,
            "alpha": alpha,
            "A": rng.normal(r, inside),
            "B": rng.normal(out, r),
            "x": rng.normal(*leading, inside),
        }

    yield trial("rank 2", **layer(5, 3, 2, 4, (6,)))
    yield trial("rank 1, alpha 1", **layer(4, 6, 1, 1, (2,)))
    yield trial("a base without bias", **layer(3, 5, 2, 8, (4,), bias=False))
    yield trial("sentences: two leading axes", **layer(4, 3, 3, 1.5, (2, 5)))
    yield trial("one sample without a batch axis", **layer(3, 2, 2, 16, ()))
    yield trial("a rank above both sizes", **layer(2, 3, 5, 10, (3,)))


class _Adapter(nn.Module):
    """For mistakes: an adapter that cannot merge."""

    def __init__(self, base, r, alpha):
        super().__init__()
        self.base, self.factor = base.requires_grad_(False), alpha / r
        self.A = nn.Parameter(torch.randn_like(base.weight[:1]).repeat(r, 1) * torch.rand(r, 1).to(base.weight.dtype))
        self.B = nn.Parameter(torch.zeros_like(base.weight[:, :1]).repeat(1, r))

    def weight(self):
        return torch.addmm(self.base.weight, self.B, self.A, alpha=self.factor)

    def forward(self, x):
        return F.linear(x, self.weight(), self.base.bias)


class _Merging(_Adapter):
    """For mistakes: each names its fault, in what is made here or in what it overrides."""

    fault: str

    def merge(self):
        if self.fault == "merges in place":
            _put(self.base.weight, self.weight())
            return self.base
        has_bias = self.base.bias is not None and self.fault != "merges without bias"
        merged = nn.Linear(self.base.in_features, self.base.out_features, has_bias, dtype=self.base.weight.dtype)
        scale = 1 if self.fault == "merges unscaled" else self.factor
        _put(merged.weight, torch.addmm(self.base.weight, self.B, self.A, alpha=scale))
        if has_bias:
            _put(merged.bias, self.base.bias)
        return merged


@LoRALinear.mistake(
    "B starts at random values, so the layer's output changes before any training. With B = 0 the start is the "
    "pretrained model."
)
class RandomB(_Merging):
    fault = "random B"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        _put(self.B, torch.ones_like(self.B))

    # Every value that is not 0 is one mistake; which one is drawn does not matter.


@LoRALinear.mistake(
    "A and B both start at zero. Then each keeps the other's gradient at zero: neither ever moves. A starts at random."
)
class BothZero(_Merging):
    fault = "both zero"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        _put(self.A, torch.zeros_like(self.A))


@LoRALinear.mistake("The base is still trainable. Freeze its weight and its bias: `base.requires_grad_(False)`.")
class BaseTrains(_Merging):
    fault = "base trains"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        base.requires_grad_(True)


@LoRALinear.mistake("The base's bias is still trainable. Freeze all parameters of the base, not its weight alone.")
class BiasTrains(_Merging):
    fault = "bias trains"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        if base.bias is not None:
            base.bias.requires_grad_(True)


@LoRALinear.mistake("The change is not scaled by alpha / r.")
class Unscaled(_Merging):
    fault = "unscaled"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        self.factor = 1.0


@LoRALinear.mistake("The change is scaled by alpha. Divide alpha by r.")
class ScaledByAlpha(_Merging):
    fault = "scaled by alpha"

    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        self.factor = float(alpha)


@LoRALinear.mistake(
    "`merge` gives a layer without the scale alpha / r. It must compute the same as `forward`, scale included."
)
class MergesUnscaled(_Merging):
    fault = "merges unscaled"


@LoRALinear.mistake(
    "`merge` writes into the base: the pretrained weights are lost, and `forward` adds the change twice from then on. "
    "Return a new `nn.Linear`."
)
class MergesInPlace(_Merging):
    fault = "merges in place"


@LoRALinear.mistake(
    "The gradient to x misses the part through the base, and layers further down would learn wrongly: freeze the base's "
    "parameters, but do not switch gradients off."
)
class BaseWithoutGradients(_Merging):
    fault = "base without gradients"

    def forward(self, x):
        return self.base(x).detach() + F.linear(x, self.weight() - self.base.weight)


@LoRALinear.mistake("The merged layer has lost the bias of the base: copy it as well, where there is one.")
class MergesWithoutBias(_Merging):
    fault = "merges without bias"


class _NamedLinear(nn.Linear):
    """A kind of nn.Linear."""


class _Stretch(nn.Module):
    """No nn.Linear, though it has the attributes of one."""

    def __init__(self, width):
        super().__init__()
        self.in_features = self.out_features = width
        self.weight = nn.Parameter(torch.ones(width, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.weight[0] + self.bias


def _adapted_model(function, arguments):
    """The names, what is trained, and what the model computes, at the start and with known A and B."""
    model = arguments["model"]
    x = _input(4)
    originals = dict(model.named_modules())
    names = apply(function, {name: arguments[name] for name in ("model", "targets", "r", "alpha")})
    evidence = {"result": collect(names), "output at the start": collect(model(x))}
    evidence |= {"requires_grad of the parameters": dict(sorted(_trainable(model).items())), "adapted layers": {}}
    generator = torch.Generator().manual_seed(arguments["r"])
    for name, module in model.named_modules():
        if not hasattr(module, "base"):
            continue
        evidence["adapted layers"][name] = {
            "base": "the model's own layer" if module.base is originals.get(name) else "another object",
            "A": list(module.A.shape),
            "B": collect(module.B),
        }
        _put(module.A, torch.randn(module.A.shape, generator=generator))
        _put(module.B, torch.randn(module.B.shape, generator=generator))
    evidence["output with A and B"] = collect(model(x))
    return evidence


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Freeze the whole model first. The A and B that you make afterwards are new, and trainable.",
        "`list(model.named_modules())` gives every module with its dotted name; take the list before you change anything.",
        'For "layer.0.attention.query" the parent is `model.get_submodule("layer.0.attention")`, and '
        '`setattr(parent, "query", …)` puts a new module there.',
        '`name.rpartition(".")` splits off the last part, and gives an empty parent for a layer at the top: '
        '`get_submodule("")` is the model itself.',
    ],
    probe=_adapted_model,
)
def add_lora(rng):
    def model(targets, r, alpha, blocks=2, **others):
        made = _Model(blocks=blocks)
        for name, layer in others.items():
            setattr(made.layer[0], name, layer)
        return {
            "model": rng.fill(made),
            "targets": targets,
            "r": r,
            "alpha": alpha,
        }

    yield trial("queries and keys of two blocks", **model(["query", "key"], 2, 4))
    yield trial("a name at two depths", **model(["output"], 1, 3))
    yield trial("more of the name", **model(["attention.output"], 3, 1))
    yield trial("a layer at the top", **model(["head"], 2, 5, blocks=1))
    yield trial("a target that also names a norm", **model(["query", "query_norm", "dense"], 2, 8, blocks=1))
    yield trial("a target in the middle of a name", **model(["attention", "key"], 2, 6, blocks=1))
    yield trial("nothing matches", **model(["value"], 2, 4, blocks=1))
    yield trial("two targets for one layer", **model(["attention.query", "query"], 1, 2, blocks=1))
    yield trial("a subclass of nn.Linear", **model(["dense"], 2, 5, blocks=1, dense=_NamedLinear(4, 6)))
    yield trial("not linear, with in_features", **model(["norm", "key"], 3, 2, blocks=1, query_norm=_Stretch(4)))


def _place(model, names, r, alpha, make=_Adapter):
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, make(model.get_submodule(name), r, alpha))
    return names


def _matching(model, targets, matches=str.endswith):
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in linears if any(matches(name, target) for target in targets)]


@add_lora.mistake("The rest of the model is still trainable. Freeze all of it first: `model.requires_grad_(False)`.")
def rest_trains(model, targets, r, alpha):
    return _place(model, _matching(model, targets), r, alpha)


@add_lora.mistake(
    "A target matches anywhere in the name. Wanted are names that *end* in a target: `name.endswith(target)`."
)
def matches_anywhere(model, targets, r, alpha):
    model.requires_grad_(False)
    return _place(model, _matching(model, targets, str.__contains__), r, alpha)


@add_lora.mistake(
    "The last part of the path alone was compared, so that a target of several parts, such as `attention.output`, fits "
    "nothing. Compare the end of the whole path: `path.endswith(target)`."
)
def last_part_alone(model, targets, r, alpha):
    model.requires_grad_(False)
    return _place(model, _matching(model, targets, lambda name, end: name.rpartition(".")[2] == end), r, alpha)


@add_lora.mistake(
    "The type was compared exactly, so that subclasses of `nn.Linear` are left out: use `isinstance(module, nn.Linear)`."
)
def exact_type(model, targets, r, alpha):
    model.requires_grad_(False)
    matching = _matching(model, targets)
    return _place(model, [name for name in matching if type(model.get_submodule(name)) is nn.Linear], r, alpha)


@add_lora.mistake(
    "Only layers at the top of the model were looked at. `named_children` does not go deeper; `named_modules` does."
)
def top_only(model, targets, r, alpha):
    model.requires_grad_(False)
    return _place(model, [name for name in _matching(model, targets) if "." not in name], r, alpha)


@add_lora.mistake('These are the last parts of the names. Return full dotted names, such as "layer.0.attention.query".')
def short_names(model, targets, r, alpha):
    model.requires_grad_(False)
    return [name.rpartition(".")[2] for name in _place(model, _matching(model, targets), r, alpha)]


@add_lora.mistake("r and alpha have changed places.")
def swaps_r_and_alpha(model, targets, r, alpha):
    model.requires_grad_(False)
    return _place(model, _matching(model, targets), alpha, r)


@add_lora.mistake(
    "The whole model was frozen after the adapters were put in, so A and B are frozen as well. Freeze first."
)
def freezes_all(model, targets, r, alpha):
    names = _place(model, _matching(model, targets), r, alpha)
    model.requires_grad_(False)
    return names


@add_lora.mistake("Nothing is returned. Return the list of the names of the layers that were replaced.")
def returns_nothing(model, targets, r, alpha):
    model.requires_grad_(False)
    _place(model, _matching(model, targets), r, alpha)
