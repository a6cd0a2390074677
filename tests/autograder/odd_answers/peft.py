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
    return {n: p.data.clone() for n, p in model.state_dict(keep_vars=True).items() if n.split(".")[-1] in ["A", "B"]}


def _load_by_state_dict(model, state):
    names = [name for name in model.state_dict() if name.split(".")[-1] in ("A", "B")]
    if sorted(names) != sorted(state):
        raise KeyError("other names")
    model.load_state_dict(state, strict=False)


class _OwnBase(_ThinFirst):
    """A copy of the layer in place of the layer: what others hold of it is no longer frozen."""

    def __init__(self, base, r, alpha):
        super().__init__(copy.deepcopy(base), r, alpha)


class _MergeIsNoLinear(_ThinFirst):
    def merge(self):
        return self


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
    "LoRALinear": {"merged each time": _MergedEachTime, "the thin products first": _ThinFirst},
    "prompt_mask": {
        "pad": lambda mask, n: F.pad(mask, (n, 0), value=1),
        "hstack": lambda mask, n: torch.hstack((torch.ones(len(mask), n).to(mask), mask)),
    },
    "SoftPrompt": {"the first rows": _FirstRows},
    "prefix_attention": {"by hand": _attention_by_hand},
    "lora_forward": {
        "the product of A and B first": lambda x, weight, bias, A, B, alpha: (
            x @ weight.mT + (0 if bias is None else bias) + x @ (alpha / len(A) * (B @ A)).mT
        )
    },
    "add_lora": {"by recursion": _adapt_by_recursion},
    "merge_all": {"by recursion": _merge_by_recursion},
    "adapter_state": {"by the last part of the name": _state_by_splitting},
    "load_adapter": {"load_state_dict": _load_by_state_dict},
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
    "LoRALinear": {"a copy of the layer": _OwnBase, "merge returns itself": _MergeIsNoLinear},
    "prompt_mask": {
        "always int64": lambda mask, n: F.pad(mask, (n, 0), value=1).long(),
        "ones, too short": lambda mask, n: torch.ones_like(mask),
    },
    "SoftPrompt": {"one sentence for all": _OneRowForAll},
    "prefix_attention": {
        "one key for the prefix": lambda q, k, v, prefix_k, prefix_v: _attention_by_hand(
            q, k, v, prefix_k[:1], prefix_v
        )
    },
    "lora_forward": {
        "without the bias": lambda x, weight, bias, A, B, alpha: x @ weight.mT + x @ (alpha / len(A) * (B @ A)).mT
    },
    "add_lora": {
        "the first target only": lambda model, targets, r, alpha: _adapt_by_recursion(model, targets[:1], r, alpha),
        "a set": lambda model, targets, r, alpha: set(_adapt_by_recursion(model, targets, r, alpha)),
    },
    "merge_all": {
        "names only": lambda model: [name for name, module in model.named_modules() if hasattr(module, "merge")]
    },
    "adapter_state": {
        "every parameter": lambda model: dict(model.named_parameters()),
        "nothing": lambda model: {},
    },
    "load_adapter": {
        "strict": lambda model, state: model.load_state_dict(state),
        "nothing": lambda model, state: None,
    },
}
