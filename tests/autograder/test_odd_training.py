"""Chapter 5: odd right answers, which must pass whatever the seed, and plausible wrong ones, which must not."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autograder.attempt import attempt
from autograder.exercise import all_exercises
from autograder.judge import Status, judge
from tests.autograder.book import define, solution

RIGHT = {
    "bce_with_logits": {
        "softplus": "def bce_with_logits(logits, targets):\n    return (F.softplus(logits) - targets * logits).mean()",
        "two softplus": """
def bce_with_logits(logits, targets):
    losses = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    return losses.sum() / len(losses)
""",
        "logsigmoid": """
def bce_with_logits(logits, targets):
    return -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).mean()
""",
    },
    "warmup_cosine": {
        "by position, three returns": """
def warmup_cosine(s, w, t):
    if s >= t:
        return 0
    if s < w:
        return s / w
    return (1 + math.cos(math.pi * (s - w) / (t - w))) / 2
""",
        "NumPy": """
def warmup_cosine(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((step - warmup) / (total - warmup), 0, 1))
""",
    },
    "EarlyStopping": {
        "a list of losses": """
class EarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        self.best, self.patience, self.delta, self.bad = float("inf"), patience, min_delta, []
    def step(self, loss):
        if self.best - loss > self.delta:
            self.best, self.bad = loss, []
        else:
            self.bad.append(loss)
        return len(self.bad) >= self.patience
""",
        "a dataclass": """
from dataclasses import dataclass
@dataclass
class EarlyStopping:
    patience: int
    min_delta: float = 0.0
    best: float = math.inf
    left: int = None
    def step(self, loss):
        if self.left is None:
            self.left = self.patience
        if not math.isnan(loss) and self.best > loss + self.min_delta:
            self.best, self.left = float(loss), self.patience
        else:
            self.left -= 1
        return self.left <= 0
""",
    },
    "cross_entropy": {
        "gather, amax, detached": """
def cross_entropy(logits, labels):
    z = logits - logits.detach().amax(1, keepdim=True)
    log_p = z - torch.log(torch.exp(z).sum(1, keepdim=True))
    return -log_p.gather(1, labels.unsqueeze(1)).squeeze(1).mean()
""",
        "one-hot": """
def cross_entropy(logits, labels):
    z = logits - logits.max(-1, keepdim=True)[0]
    chosen = (z * F.one_hot(labels, logits.shape[1])).sum(1)
    return (z.exp().sum(1).log() - chosen).sum() / logits.shape[0]
""",
        "row by row": """
def cross_entropy(logits, labels):
    losses = []
    for row, label in zip(logits, labels):
        top = row.max()
        losses.append(torch.log(torch.sum(torch.exp(row - top))) + top - row[label])
    return torch.stack(losses).mean()
""",
    },
    "adamw_step": {
        "in place on copies, a list": """
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    w, m, v = w.clone(), m.clone(), v.clone()
    w.mul_(1 - lr * weight_decay)
    m.lerp_(g, 1 - betas[0])
    v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    denominator = (v.sqrt() / math.sqrt(1 - betas[1] ** t)).add_(eps)
    w.addcdiv_(m, denominator, value=-lr / (1 - betas[0] ** t))
    return [w, m, v]
""",
    },
    "parameter_groups": {
        "one group per parameter": """
def parameter_groups(model, weight_decay):
    return [
        {"params": [p], "weight_decay": weight_decay if p.dim() >= 2 else 0}
        for p in model.parameters()
        if p.requires_grad
    ]
""",
        "a loop over names": """
def parameter_groups(model, weight_decay):
    decay, rest = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (decay if len(p.shape) > 1 else rest).append(p)
    return [{"params": rest, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]
""",
    },
    "train_epoch": {
        "model.zero_grad, a list of sums": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model = model.train()
    sums, counts = [], []
    for step, batch in enumerate(loader):
        x, y = batch
        model.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), max_norm=max_norm)
        optimizer.step()
        sums.append(float(loss.detach()) * x.shape[0])
        counts.append(x.shape[0])
    return sum(sums) / sum(counts)
""",
        "clipped by hand": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train(True)
    total, n = torch.zeros(()), 0
    for x, y in loader:
        optimizer.zero_grad(set_to_none=False)
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
            for p in model.parameters():
                p.grad *= min(1.0, max_norm / (norm + 1e-6))
        optimizer.step()
        with torch.no_grad():
            total += loss * len(x)
            n += len(x)
    return (total / n).item()
""",
    },
    "evaluate": {
        "inference mode, finally, a list": """
def evaluate(model, loader, loss_fn):
    modes = {name: module.training for name, module in model.named_modules()}
    try:
        model.train(False)
        loss = hits = n = 0
        with torch.inference_mode():
            for x, y in loader:
                z = model(x)
                loss += float(loss_fn(z, y)) * y.numel()
                hits += int(z.max(1).indices.eq(y).sum())
                n += y.numel()
        return [loss / n, hits / n]
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
""",
        "a decorator, and a copy of the model": """
@torch.no_grad()
def evaluate(model, loader, loss_fn):
    twin = copy.deepcopy(model).eval()
    outputs = [(twin(x), y) for x, y in loader]
    n = sum(len(y) for _, y in outputs)
    loss = sum(loss_fn(z, y).item() * len(y) for z, y in outputs) / n
    return loss, sum((z.argmax(-1) == y).float().sum().item() for z, y in outputs) / n
""",
    },
    "train_accumulated": {
        "gradients divided at the end": """
def train_accumulated(model, batches, loss_fn, optimizer):
    model.zero_grad()
    total, n = 0.0, 0
    for x, y in batches:
        loss = loss_fn(model(x), y) * len(x)
        loss.backward()
        total, n = total + loss.item(), n + len(x)
    for p in model.parameters():
        p.grad.div_(n)
    optimizer.step()
    return total / n
""",
        "one sum of the losses": """
def train_accumulated(model, batches, loss_fn, optimizer):
    n = sum(x.shape[0] for x, _ in batches)
    loss = sum(loss_fn(model(x), y) * x.shape[0] / n for x, y in batches)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
""",
    },
    "FastText": {
        "EmbeddingBag": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, dim, mode="mean", padding_idx=padding_idx)
        self.linear = nn.Linear(dim, num_classes)
    def forward(self, ids):
        return self.linear(self.embedding(ids))
""",
        "a mask and einsum": """
class FastText(nn.Module):
    def __init__(self, vocab, dim, classes, pad=0):
        super().__init__()
        self.linear = nn.Linear(dim, classes)
        self.embedding = nn.Embedding(vocab, dim, padding_idx=pad)
        self.pad = pad
    def forward(self, x):
        mask = x.ne(self.pad).float()
        summed = torch.einsum("btd,bt->bd", self.embedding(x), mask)
        return self.linear(summed / torch.maximum(mask.sum(1, keepdim=True), torch.ones(1)))
""",
    },
    "mend_training": {
        "by train_epoch": """
def mend_training(model, loader, epochs, lr):
    sgd = torch.optim.SGD(model.parameters(), lr, 0.9)
    return [train_epoch(model, loader, nn.CrossEntropyLoss(), sgd) for _ in range(epochs)]
""",
    },
    "fit_best": {
        "clones, written out": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    best, state, bad, history = float("inf"), {k: v.clone() for k, v in model.state_dict().items()}, 0, []
    for epoch in range(epochs):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        model.eval()
        with torch.no_grad():
            pairs = [(loss_fn(model(x), y).item(), len(y)) for x, y in val_loader]
        val_loss = sum(a * b for a, b in pairs) / sum(b for _, b in pairs)
        model.train()
        history.append((train_loss, val_loss))
        bad += 1
        if val_loss < best:
            best, bad = val_loss, 0
            state = {k: v.clone() for k, v in model.state_dict().items()}
        if bad == patience:
            break
    model.load_state_dict(state)
    return history
""",
    },
}

WRONG = {
    "cross_entropy": {
        "PyTorch's": "def cross_entropy(logits, labels):\n    return F.cross_entropy(logits, labels)",
        "logsumexp": """
def cross_entropy(logits, labels):
    return (logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]).mean()
""",
        "clamped logits": """
def cross_entropy(logits, labels):
    e = logits.clamp(-80, 80).exp()
    return -(e[torch.arange(len(labels)), labels] / e.sum(1)).log().mean()
""",
    },
    "warmup_cosine": {
        "a tensor": """
def warmup_cosine(step, warmup, total):
    if step < warmup:
        return torch.tensor(step / warmup)
    return 0.5 * (1 + torch.cos(torch.tensor(math.pi * min(1, (step - warmup) / (total - warmup)))))
""",
    },
    "train_epoch": {
        "eval afterwards": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = n = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total, n = total + loss.item() * len(y), n + len(y)
    model.eval()
    return total / n
""",
        "measured after the step": """
def train_epoch(model, loader, loss_fn, optimizer, max_norm=None):
    model.train()
    total = n = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        total, n = total + loss_fn(model(x), y).item() * len(y), n + len(y)
    return total / n
""",
    },
    "evaluate": {
        "rounded": """
def evaluate(model, loader, loss_fn):
    loss, accuracy = (lambda f: f)(_evaluate)(model, loader, loss_fn)
    return round(loss, 2), round(accuracy, 2)
""",
    },
    "train_accumulated": {
        "all in one": """
def train_accumulated(model, batches, loss_fn, optimizer):
    x, y = (torch.vstack(part) if part[0].ndim > 1 else torch.hstack(part) for part in zip(*batches))
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()
""",
        "sets train mode": """
def train_accumulated(model, batches, loss_fn, optimizer):
    model.train()
    return _train_accumulated(model, batches, loss_fn, optimizer)
""",
    },
    "FastText": {
        "the vector of padding is set to 0 at the start": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, dim, padding_idx=padding_idx)
        self.linear = nn.Linear(dim, num_classes)
        self.padding_idx = padding_idx
    def forward(self, ids):
        return self.linear(self.embedding(ids).sum(1) / (ids != self.padding_idx).sum(1, keepdim=True).clamp(min=1))
""",
        "a hidden layer": """
class FastText(nn.Module):
    def __init__(self, vocabulary_size, dim, num_classes, padding_idx=0):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary_size, dim, mode="mean", padding_idx=padding_idx)
        self.hidden = nn.Linear(dim, dim)
        self.linear = nn.Linear(dim, num_classes)
    def forward(self, ids):
        return self.linear(self.hidden(self.embedding(ids)).relu())
""",
    },
    "fit_best": {
        "the loss of the last epoch of all": """
def fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience):
    history = _fit_best(model, train_loader, val_loader, loss_fn, optimizer, epochs, patience)
    return [history[-1]]
""",
    },
}


def _cases(answers):
    return [
        pytest.param(name, text, id=f"{name}: {style}") for name in answers for style, text in answers[name].items()
    ]


def _judged(name, text, seed):
    exercise = all_exercises()[name]
    right = solution(exercise)
    function = define(exercise, text)
    if hasattr(function, "__globals__"):
        function.__globals__[f"_{name}"] = right
    return judge(exercise, attempt(exercise, right, seed), attempt(exercise, function, seed))


@pytest.mark.parametrize("name, text", _cases(RIGHT))
def test_an_odd_right_answer_passes(name, text):
    for seed in range(5):
        verdict = _judged(name, text, seed)
        assert verdict.status is Status.CORRECT, verdict.fault


@pytest.mark.parametrize("name, text", _cases(WRONG))
def test_a_plausible_wrong_answer_fails(name, text):
    for seed in range(3):
        assert _judged(name, text, seed).status is Status.INCORRECT


SAVE = "model.state_dict(), optimizer.state_dict(), scheduler.state_dict()"
STARTER = "def {name}(path, model, optimizer, scheduler):\n    raise NotImplementedError  # your code here\n"
PAIRS = {
    "NumPy's state as a dict": (
        f"""
def checkpoint(path, model, optimizer, scheduler):
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    torch.save([{SAVE}, random.getstate(), numpy, torch.random.get_rng_state()], path)
""",
        """
def resume(path, model, optimizer, scheduler):
    *states, python, numpy, torchs = torch.load(path, map_location="cpu")
    for one, state in zip((model, optimizer, scheduler), states):
        one.load_state_dict(state)
    numpy["state"]["key"] = np.array(numpy["state"]["key"], dtype=np.uint32)
    random.setstate(python), np.random.set_state(numpy), torch.random.set_rng_state(torchs)
""",
    ),
    "safetensors and JSON": (
        """
def checkpoint(path, model, optimizer, scheduler):
    import json, safetensors.torch
    state = optimizer.state_dict()
    tensors = {"m." + k: v for k, v in model.state_dict().items()} | {"torch": torch.get_rng_state()}
    tensors |= {f"o.{i}.{k}": v for i, s in state["state"].items() for k, v in s.items() if v is not None}
    kind, keys, *rest = np.random.get_state()
    text = {"groups": state["param_groups"], "schedule": scheduler.state_dict(), "python": random.getstate(),
            "numpy": [kind, keys.tolist(), *rest], "ids": list(state["state"])}
    with open(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, {"rest": json.dumps(text)}))
""",
        """
def resume(path, model, optimizer, scheduler):
    import json, safetensors
    with safetensors.safe_open(path, "pt") as file:
        rest = json.loads(file.metadata()["rest"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    model.load_state_dict({k[2:]: v for k, v in tensors.items() if k.startswith("m.")})
    state = {i: {} for i in rest["ids"]}
    for key, value in tensors.items():
        if key.startswith("o."):
            _, i, name = key.split(".", 2)
            state[int(i)][name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})
    scheduler.load_state_dict(rest["schedule"])
    version, numbers, gauss = rest["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(rest["numpy"]))
    torch.set_rng_state(tensors["torch"])
""",
    ),
}


def _pair(write, read):
    """Both verdicts on a notebook that defines both."""
    verdicts = []
    for name in ("checkpoint", "resume"):
        exercise = all_exercises()[name]
        function = define(exercise, f"{write}\n{read}")
        expected = attempt(exercise, solution(exercise), 0)
        verdicts.append(judge(exercise, expected, attempt(exercise, function, 0)))
    return verdicts


@pytest.mark.parametrize("write, read", PAIRS.values(), ids=PAIRS)
def test_the_file_may_have_any_format(write, read):
    for verdict in _pair(write, read):
        assert verdict.status is Status.CORRECT, verdict.fault


def test_pickle_restores_everything_and_is_refused():
    write = f"""
def checkpoint(path, model, optimizer, scheduler):
    import pickle
    everything = {SAVE}, random.getstate(), np.random.get_state(), torch.get_rng_state()
    with open(path, "wb") as file:
        pickle.dump(everything, file)
"""
    read = """
def resume(path, model, optimizer, scheduler):
    import pickle
    with open(path, "rb") as file:
        m, o, s, python, numpy, torchs = pickle.load(file)
    model.load_state_dict(m), optimizer.load_state_dict(o), scheduler.load_state_dict(s)
    random.setstate(python), np.random.set_state(numpy), torch.set_rng_state(torchs)
"""
    written, was_read = _pair(write, read)
    assert written.status is Status.CORRECT and was_read.status is Status.INCORRECT
    assert "code from a file ran" in was_read.fault.sentence


@pytest.mark.parametrize("key", ["path", "'last'"])
def test_memory_is_no_file(key):
    write = f"""
KEPT = {{}}
def checkpoint(path, model, optimizer, scheduler):
    everything = {SAVE}, random.getstate(), np.random.get_state(), torch.get_rng_state()
    KEPT[{key}] = copy.deepcopy(everything)
    with open(path, "wb") as file:
        file.write(bytes(4096))
"""
    read = f"""
def resume(path, model, optimizer, scheduler):
    m, o, s, python, numpy, torchs = KEPT[{key}]
    model.load_state_dict(m), optimizer.load_state_dict(o), scheduler.load_state_dict(s)
    random.setstate(python), np.random.set_state(numpy), torch.set_rng_state(torchs)
"""
    assert all(verdict.status is not Status.CORRECT for verdict in _pair(write, read))


def test_half_a_pair_is_told_that_its_partner_is_missing():
    write, read = PAIRS["NumPy's state as a dict"]
    untouched = {name: STARTER.format(name=name) for name in ("checkpoint", "resume")}
    for verdict, other in zip(_pair(write, untouched["resume"]), ("resume", ""), strict=True):
        assert verdict.status is (Status.ERROR if other else Status.NOT_ATTEMPTED)
        assert not other or "together with your resume, which is not written yet" in verdict.fault.sentence
    for verdict, other in zip(_pair(untouched["checkpoint"], read), ("", "checkpoint"), strict=True):
        assert verdict.status is (Status.ERROR if other else Status.NOT_ATTEMPTED)
        assert not other or "together with your checkpoint, which is not written yet" in verdict.fault.sentence
    assert [one.status for one in _pair(*untouched.values())] == [Status.NOT_ATTEMPTED] * 2


def test_without_a_partner_the_name_is_missing():
    exercise = all_exercises()["resume"]
    names = {"torch": torch}
    exec("def resume(path, model, optimizer, scheduler):\n    torch.load(path)", names)
    raised = attempt(exercise, names["resume"], 0)[0]["raised"]
    assert raised["type"] == "NameError" and "your checkpoint, which is not defined yet" in raised["message"]


def test_a_check_leaves_the_random_generators_alone():
    import random

    import numpy as np

    exercise = all_exercises()["resume"]
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    attempt(exercise, solution(exercise), 0)
    assert before[0] == random.getstate() and (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(before[2], torch.get_rng_state())


def test_the_formulas_of_the_prompts():
    """The worked examples, computed."""
    by_name = {name: solution(exercise) for name, exercise in all_exercises().items() if exercise.chapter == "training"}
    loss = by_name["bce_with_logits"](torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert (
        f"{loss:.2f}"
        == "1.41"
        == f"{by_name['cross_entropy'](torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([0, 1])):.2f}"
    )
    factors = [by_name["warmup_cosine"](step, 2, 6) for step in range(8)]
    assert [round(factor, 4) for factor in factors] == [0, 0.5, 1, 0.8536, 0.5, 0.1464, 0, 0]
    stopper = by_name["EarlyStopping"](2, 0.5)
    assert [stopper.step(loss) for loss in (5, 4, 3.75, 3.5, 3)] == [False, False, False, True, False]
    one, zero = torch.ones(1), torch.zeros(1)
    w, m, v = by_name["adamw_step"](one, 2 * one, zero, zero, 1, 0.1)
    assert [round(x.item(), 4) for x in (w, m, v)] == [0.899, 0.2, 0.004]
    model = by_name["FastText"](3, 1, 1)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([[9.0], [1], [5]]))
        model.linear.weight.fill_(1), model.linear.bias.zero_()
    assert model(torch.tensor([[1, 2, 0], [0, 0, 0]])).flatten().tolist() == [3, 0]
    assert math.isclose(F.softplus(torch.tensor(2.0)).item(), 2.1269, abs_tol=1e-4) and isinstance(model, nn.Module)
