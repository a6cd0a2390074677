"""Odd answers to chapter 9, right and wrong."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def _share_by_numpy(model):
    numbers = {id(p): (p.requires_grad, p.numel()) for p in model.parameters()}
    flags, sizes = np.array(list(numbers.values())).T
    return float((flags * sizes).sum() / sizes.sum())


def _rank_by_trying(shapes, budget, rank=0):
    while sum((rank + 1) * (out + inside) for out, inside in shapes) <= budget:
        rank += 1
    return rank


class _MergedEachTime(nn.Module):
    def __init__(self, base, r, alpha, spread=0.01):
        super().__init__()
        for parameter in base.parameters():
            parameter.requires_grad = False
        self.base, self.alpha = base, alpha
        self.register_parameter("A", nn.Parameter(torch.empty(r, base.in_features, dtype=base.weight.dtype)))
        self.register_parameter("B", nn.Parameter(torch.empty(base.out_features, r, dtype=base.weight.dtype)))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.zeros_(self.B)

    def _weight(self):
        return self.base.weight + torch.einsum("or,ri->oi", self.B, self.A) * (self.alpha / self.A.size(0))

    def forward(self, x):
        return F.linear(x, self._weight(), self.base.bias)

    def merge(self):
        merged = copy.deepcopy(self.base)
        merged.weight = nn.Parameter(self._weight().detach())
        return merged


class _ThinFirst(_MergedEachTime):
    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.A), self.B) * self.alpha / len(self.A)


class _FirstRows(nn.Module):
    def __init__(self, embedding, n, **more):
        super().__init__()
        embedding.weight.requires_grad = False
        self.embedding, self.prompt = (
            embedding,
            nn.Parameter(torch.empty(n, embedding.embedding_dim).to(embedding.weight)),
        )
        with torch.no_grad():
            for row in range(n):
                self.prompt[row] = embedding.weight[row % embedding.num_embeddings]

    def forward(self, ids):
        return torch.stack([torch.vstack([self.prompt, F.embedding(line, self.embedding.weight)]) for line in ids])


def _attention_by_hand(q, k, v, prefix_k, prefix_v):
    batch = q.shape[0]
    k = torch.cat([k, prefix_k[None].repeat(batch, 1, 1, 1)], dim=-2)  # behind: the order of places does not matter
    v = torch.cat([v, prefix_v[None].repeat(batch, 1, 1, 1)], dim=-2)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def _adapt_by_recursion(model, targets, r, alpha, path=""):
    if not path:
        for parameter in model.parameters():
            parameter.requires_grad = False
    names = []
    for name, child in list(model.named_children()):
        here = f"{path}.{name}" if path else name
        if isinstance(child, nn.Linear):
            if here.endswith(tuple(targets)):
                model._modules[name] = _ThinFirst(child, r, alpha)
                names.append(here)
        else:
            names += _adapt_by_recursion(child, targets, r, alpha, here)
    return names


def _merge_by_recursion(model, path=()):
    names = []
    for name, child in list(model.named_children()):
        if hasattr(child, "merge"):
            setattr(model, name, child.merge())
            names.append(".".join((*path, name)))
        else:
            names += _merge_by_recursion(child, (*path, name))
    return names


def _state_by_splitting(model):
    return {
        n: p.data.clone()
        for n, p in model.state_dict(keep_vars=True).items()
        if n.split(".")[-1] in ["A", "B"] and isinstance(p, nn.Parameter)
    }


def _state_by_modules(model):
    return {
        f"{path}.{name}".lstrip("."): torch.tensor(parameter.tolist(), dtype=parameter.dtype)
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name in ("A", "B")
    }


_STATE_BY_CLASS = """
def adapter_state(model):
    layers = {path: module for path, module in model.named_modules() if type(module) is LoRALinear}
    return {f"{path}.{n}": getattr(module, n).detach().clone() for path, module in layers.items() for n in ("A", "B")}
"""


def _state_that_freezes(model):
    state = _state_by_splitting(model)
    for name in state:
        model.get_parameter(name).requires_grad_(False)
    return state


def _state_moved_out(model):
    state = _state_by_splitting(model)
    for name in state:
        model.get_parameter(name).data.zero_()
    return state


class _AdapterError(ValueError):
    pass


def _load_by_state_dict(model, state):
    names = [name for name, _ in model.named_parameters() if name.split(".")[-1] in ("A", "B")]
    if sorted(names) != sorted(state):
        raise _AdapterError(f"expected {names}, got {list(state)}")
    model.load_state_dict(state, strict=False)


def _load_one_by_one(model, state):
    own = {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in "AB"}
    for name in own:
        if name not in state:
            raise ValueError("missing " + name)
    for name in state:
        if name not in own:
            raise ValueError(f"{name!r} is unknown; these are known: {', '.join(own)}")
    for name, tensor in state.items():
        own[name].data[:] = tensor


def _load_then_look(model, state):
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if name.split(".")[-1] in ("A", "B")]
    if missing or unexpected:
        raise KeyError(f"missing {missing}, unexpected {unexpected}")


def _load_and_refuse_on_the_way(model, state):
    own = _adapter_of(model)
    for name, tensor in state.items():
        own[name].copy_(tensor)
    assert len(own) == len(state)


def _adapter_of(model):
    return {name: p.data for name, p in model.named_parameters() if name.rpartition(".")[2] in ("A", "B")}


@torch.no_grad()
def _load_by_get_parameter(model, state):
    if missing := _adapter_of(model).keys() - state.keys():
        raise ValueError(f"missing: {missing}")
    for name, tensor in state.items():
        model.get_parameter(name).copy_(tensor)  # raises an AttributeError where there is none


def _load_the_tensors(model, state):
    if _adapter_of(model).keys() != state.keys():
        raise ValueError("the names do not fit")
    for name, tensor in state.items():
        model.get_parameter(name).data = tensor


def _load_new_parameters(model, state):
    if _adapter_of(model).keys() != state.keys():
        raise ValueError("the names do not fit")
    for name, tensor in state.items():
        path, _, last = name.rpartition(".")
        setattr(model.get_submodule(path), last, nn.Parameter(tensor))


def _load_in_eval(model, state):
    _load_one_by_one(model, state)
    model.eval()


def _load_by_place(model, state):
    own = {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in "AB"}
    if len(own) != len(state):
        raise ValueError(str(set(own) ^ set(state)))
    for parameter, tensor in zip(own.values(), state.values(), strict=True):
        parameter.data.copy_(tensor)


def _load_other_error(error, message):
    def load(model, state):
        try:
            _load_one_by_one(model, state)
        except ValueError:
            raise error(*message) from None

    return load


def _merge_first(model):
    paths = [path for path, module in model.named_modules() if hasattr(module, "merge")]
    for module in model.modules():
        if hasattr(module, "merge"):
            module.merge()  # once more than is needed
    return paths, _merge_by_recursion(model)


def _adapt_where(fits):
    def adapt(model, targets, r, alpha):
        model.requires_grad_(False)
        paths = [path for path, module in model.named_modules() if fits(path, module, targets)]
        for path in paths:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, _ThinFirst(model.get_submodule(path), r, alpha))
        return paths

    return adapt


def _adapt_once_per_target(model, targets, r, alpha):
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    doubled = [path for path in paths for target in targets if path.endswith(target)]
    _adapt_by_recursion(model, targets, r, alpha)
    return doubled


class _OwnBase(_ThinFirst):
    """A copy of the layer in place of the layer: what others hold of it is no longer frozen."""

    def __init__(self, base, r, alpha):
        super().__init__(copy.deepcopy(base), r, alpha)


class _MergeIsNoLinear(_ThinFirst):
    def merge(self):
        return self


class _SharedBias(_ThinFirst):
    def merge(self):
        merged = super().merge()
        merged.bias = self.base.bias
        return merged


class _MergedOnce(_ThinFirst):
    def merge(self):
        if not hasattr(self, "merged"):
            self.merged = [_ThinFirst.merge(self)]
        return self.merged[0]


class _FreshCopyOfOneMerge(_MergedOnce):
    def merge(self):
        return copy.deepcopy(super().merge())


class _FlattenedByView(_ThinFirst):
    def forward(self, x):
        return super().forward(x.view(-1, x.shape[-1])).view(*x.shape[:-1], -1)


class _FlattenedByReshape(_ThinFirst):
    def forward(self, x):
        return super().forward(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class _MergesInEval(_ThinFirst):
    def merge(self):
        self.train(False)
        return super().merge()


class _BaseInNoGrad(_ThinFirst):
    def forward(self, x):
        with torch.no_grad():
            out = self.base(x)
        return out + self.alpha / len(self.A) * (x @ self.A.T @ self.B.T)


class _Float32(_ThinFirst):
    def __init__(self, base, r, alpha):
        super().__init__(base, r, alpha)
        self.A = nn.Parameter(torch.randn(r, base.in_features) * 0.01)
        self.B = nn.Parameter(torch.zeros(base.out_features, r))


class _MergesWithZeroBias(_ThinFirst):
    def merge(self):
        merged = nn.Linear(self.base.in_features, self.base.out_features)
        merged.weight.data = self._weight().data
        merged.bias.data = torch.zeros(len(merged.bias)) if self.base.bias is None else self.base.bias.data
        return merged


class _MergesIntoTheBase(_ThinFirst):
    def merge(self):
        self.base.weight.data = self._weight().data
        return self.base


class _MergesWithoutTheChange(_ThinFirst):
    def merge(self):
        return copy.deepcopy(self.base)


class _Soft(nn.Module):
    def __init__(self, embedding, n):
        super().__init__()
        self.emb = embedding
        self.emb.weight.requires_grad = False
        self.soft = nn.Parameter(embedding.weight[:n].clone().detach())

    def forward(self, ids):
        return torch.cat([self.soft.unsqueeze(0).repeat(ids.shape[0], 1, 1), self.emb(ids)], dim=1)


class _SoftEmbedding(nn.Module):
    def __init__(self, embedding, n):
        super().__init__()
        self.tokens = embedding.requires_grad_(False)
        self.prompt = nn.Embedding(n, embedding.embedding_dim)
        self.prompt.weight.data.copy_(embedding.weight.data[:n])

    def forward(self, ids):
        places = torch.arange(self.prompt.num_embeddings).expand(len(ids), -1)
        return torch.cat([self.prompt(places), self.tokens(ids)], dim=1)


class _StackedRows(nn.Module):
    def __init__(self, embedding, n):
        super().__init__()
        self.embed = embedding.requires_grad_(False)
        chosen = torch.randperm(embedding.num_embeddings)[:n].tolist()
        self.prompt_rows = nn.Parameter(torch.stack([embedding.weight[row].detach() for row in chosen]))

    def forward(self, ids):
        return torch.cat([self.prompt_rows.expand(len(ids), *self.prompt_rows.shape), self.embed(ids)], 1)


class _BatchedPrompt(nn.Module):
    def __init__(self, embedding, n):
        super().__init__()
        self.embedding = embedding.requires_grad_(False)
        self.prompt = nn.Parameter(embedding.weight.detach()[None, :n].clone())

    def forward(self, ids):
        return torch.cat((self.prompt.expand(len(ids), -1, -1), self.embedding(ids)), 1)


class _FrozenCopy(_Soft):
    def __init__(self, embedding, n):
        super().__init__(nn.Embedding.from_pretrained(embedding.weight.detach().clone()), n)


class _MeanRows(_Soft):
    def __init__(self, embedding, n):
        super().__init__(embedding, n)
        self.soft.data[:] = embedding.weight.mean(0)


class _DetachedPrompt(_Soft):
    def forward(self, ids):
        return torch.cat([self.soft.detach().expand(len(ids), -1, -1), self.emb(ids)], dim=1)


class _OwnEmbedding(_FirstRows):
    def __init__(self, embedding, n):
        super().__init__(copy.deepcopy(embedding), n)


class _OneRowForAll(_FirstRows):
    def forward(self, ids):
        return super().forward(ids[:1].expand_as(ids))


RIGHT = {
    "trainable_share": {"in NumPy": _share_by_numpy},
    "largest_rank": {
        "by trying": _rank_by_trying,
        "in NumPy": lambda shapes, budget: int(budget / np.sum(shapes)),
    },
    "lora_delta": {
        "einsum": lambda A, B, alpha: torch.einsum("ri,or->oi", A, B).mul(alpha).div(len(A)),
        "linear": lambda A, B, alpha: F.linear(B * (alpha / A.size(0)), A.T),
    },
    "LoRALinear": {
        "merged each time": _MergedEachTime,
        "the thin products first": _ThinFirst,
        "flattened by reshape": _FlattenedByReshape,
        "flattened by view": _FlattenedByView,
        "float32": _Float32,
        "shares the bias": _SharedBias,
        "merges in eval mode": _MergesInEval,
        "merges with a bias of zeros": _MergesWithZeroBias,
    },
    "prompt_mask": {
        "pad": lambda mask, n: F.pad(mask, (n, 0), value=1),
        "hstack": lambda mask, n: torch.hstack((torch.ones(len(mask), n).to(mask), mask)),
        "float ones": lambda mask, n: torch.cat([torch.ones(mask.shape[0], n), mask], dim=1),
        "int64 ones": lambda mask, n: torch.cat([torch.ones(len(mask), n, dtype=torch.long), mask], dim=1),
        "always int64": lambda mask, n: F.pad(mask, (n, 0), value=1).long(),
        "always bool": lambda mask, n: torch.cat([torch.ones(len(mask), n).bool(), mask.bool()], dim=1),
    },
    "SoftPrompt": {
        "the first rows": _FirstRows,
        "soft": _Soft,
        "the prompt as an embedding": _SoftEmbedding,
        "stacked rows": _StackedRows,
        "the prompt with a batch axis": _BatchedPrompt,
    },
    "prefix_attention": {
        "by hand": _attention_by_hand,
        "without a prefix as a case of its own": lambda q, k, v, prefix_k, prefix_v: (
            _attention_by_hand(q, k, v, prefix_k, prefix_v)
            if prefix_k.shape[1]
            else F.scaled_dot_product_attention(q, k, v)
        ),
    },
    "lora_forward": {
        "the product of A and B first": lambda x, weight, bias, A, B, alpha: (
            x @ weight.mT + (0 if bias is None else bias) + x @ (alpha / len(A) * (B @ A)).mT
        )
    },
    "add_lora": {
        "whole parts only": _adapt_where(
            lambda path, module, targets: (
                isinstance(module, nn.Linear) and any(path == t or path.endswith(f".{t}") for t in targets)
            )
        ),
        "by recursion": _adapt_by_recursion,
        "by a loop": _adapt_where(
            lambda path, module, targets: isinstance(module, nn.Linear) and path.endswith((*targets,))
        ),
    },
    "merge_all": {"by recursion": _merge_by_recursion, "merged twice": lambda model: _merge_first(model)[0]},
    "adapter_state": {
        "state_dict": lambda model: {
            n: t.clone() for n, t in model.state_dict().items() if n.rpartition(".")[2] in ("A", "B")
        },
        "by the last part of the name": _state_by_splitting,
        "module by module": _state_by_modules,
        "by the exact class": _STATE_BY_CLASS,
    },
    "load_adapter": {
        "another name": _load_other_error(ValueError, ["0.A"]),
        "no name": _load_other_error(ValueError, []),
        "a KeyError": _load_other_error(KeyError, ["2.B, 3.A, 3.B, 0.base.weight"]),
        "load_state_dict, and a kind of ValueError": _load_by_state_dict,
        "one by one, with the known names in the message": _load_one_by_one,
        "load_state_dict, then the names": _load_then_look,
        "refuses on the way": _load_and_refuse_on_the_way,
        "by get_parameter": _load_by_get_parameter,
        "takes the tensors": _load_the_tensors,
        "new parameters": _load_new_parameters,
        "returns the model": lambda model, state: (_load_one_by_one(model, state), model)[1],
        "in eval mode": _load_in_eval,
        "a bare Exception": _load_other_error(Exception, ["wrong names"]),
    },
}

WRONG = {
    "trainable_share": {
        "a tensor": lambda model: torch.tensor(_share_by_numpy(model)),
        "everything": lambda model: 1.0,
    },
    "largest_rank": {
        "at least 1": lambda shapes, budget: max(1, _rank_by_trying(shapes, budget)),
        "always 2": lambda shapes, budget: 2,
    },
    "lora_delta": {
        "detached": lambda A, B, alpha: (alpha / len(A)) * (B @ A).detach(),
        "zeros": lambda A, B, alpha: torch.zeros(len(B), len(A)),
    },
    "LoRALinear": {
        "a copy of the layer": _OwnBase,
        "merge returns itself": _MergeIsNoLinear,
        "merges into the base": _MergesIntoTheBase,
        "merges without the change": _MergesWithoutTheChange,
        "merges once": _MergedOnce,
        "copies of one merge": _FreshCopyOfOneMerge,
        "base in no_grad": _BaseInNoGrad,
    },
    "prompt_mask": {
        "all ones": lambda mask, n: mask.new_ones(len(mask), n + mask.shape[1]),
        "ones, too short": lambda mask, n: torch.ones_like(mask),
    },
    "SoftPrompt": {
        "one sentence for all": _OneRowForAll,
        "a copy of the embedding": _OwnEmbedding,
        "from_pretrained": _FrozenCopy,
        "the mean of the rows": _MeanRows,
        "a detached prompt": _DetachedPrompt,
    },
    "prefix_attention": {
        "one key for the prefix": lambda q, k, v, prefix_k, prefix_v: _attention_by_hand(
            q, k, v, prefix_k[:1], prefix_v
        ),
        "a detached prefix": lambda q, k, v, prefix_k, prefix_v: _attention_by_hand(
            q, k, v, prefix_k.detach(), prefix_v.detach()
        ),
        "exp without the maximum": lambda q, k, v, prefix_k, prefix_v: (
            F.normalize(
                (q @ torch.cat([prefix_k.expand(len(k), -1, -1, -1), k], 2).mT / q.shape[-1] ** 0.5).exp(), p=1, dim=-1
            )
            @ torch.cat([prefix_v.expand(len(v), -1, -1, -1), v], 2)
        ),
    },
    "lora_forward": {
        "without the bias": lambda x, weight, bias, A, B, alpha: x @ weight.mT + x @ (alpha / len(A) * (B @ A)).mT
    },
    "add_lora": {
        "the first target only": lambda model, targets, r, alpha: _adapt_by_recursion(model, targets[:1], r, alpha),
        "a set": lambda model, targets, r, alpha: set(_adapt_by_recursion(model, targets, r, alpha)),
        "the exact type": _adapt_where(
            lambda path, module, targets: type(module) is nn.Linear and path.endswith((*targets,))
        ),
        "whatever has in_features": _adapt_where(
            lambda path, module, targets: hasattr(module, "in_features") and path.endswith((*targets,))
        ),
        "once per target": _adapt_once_per_target,
    },
    "merge_all": {
        "names only": lambda model: [name for name, module in model.named_modules() if hasattr(module, "merge")],
        "sorted": lambda model: sorted(_merge_by_recursion(model)),
    },
    "adapter_state": {
        "every parameter": lambda model: dict(model.named_parameters()),
        "nothing": lambda model: {},
        "what is trained": lambda model: {
            n: p.detach().clone()
            for n, p in model.named_parameters()
            if p.requires_grad and n.rpartition(".")[2] in ("A", "B")
        },
        "float32": lambda model: {n: t.float() for n, t in _state_by_splitting(model).items()},
        "in eval mode": lambda model: _state_by_splitting(model.eval()),
        "frozen": _state_that_freezes,
        "moved out": _state_moved_out,
    },
    "load_adapter": {
        "strict": lambda model, state: model.load_state_dict(state),
        "nothing": lambda model, state: None,
        "by place": _load_by_place,
        "unknown names pass": lambda model, state: _load_then_look(
            model, {n: t for n, t in state.items() if n in model.state_dict()}
        ),
        "missing names pass": lambda model, state: _load_one_by_one(model, _adapter_of(model) | state),
    },
}
