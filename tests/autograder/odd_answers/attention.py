"""Odd answers to chapter 7, right and wrong."""

import math
from collections import Counter
from difflib import SequenceMatcher
from functools import cache
from operator import eq, is_

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def _shifted_in_place(targets, sos):
    inputs = torch.empty_like(targets)
    inputs[:, 0], inputs[:, 1:] = sos, targets[:, :-1]
    return inputs


def _log_softmax(logits, targets, pad):
    losses = -logits.log_softmax(-1).gather(2, targets[..., None])[..., 0]
    real = (targets != pad).to(logits.dtype)
    return (losses * real).sum() / real.sum()


def _loss_number_by_number(logits, targets, pad):
    total, count = 0.0, 0
    for row, answers in zip(logits, targets, strict=True):
        for scores, answer in zip(row, answers, strict=True):
            if answer != pad:
                total, count = total - scores.log_softmax(0)[answer], count + 1
    return total / count


def _in_numpy(length, dim):
    table = np.zeros((length, dim))
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, dim, 2) / dim)
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return torch.tensor(table, dtype=torch.float32)


def _with_logarithms(length, dim):
    table = torch.zeros(length, dim)
    rates = torch.exp(torch.arange(0, dim, 2).float() * (-math.log(10000.0) / dim))
    table[:, 0::2] = torch.sin(torch.arange(length).unsqueeze(1) * rates)
    table[:, 1::2] = torch.cos(torch.arange(length).unsqueeze(1) * rates)
    return table


def _recursive(predicted, target):
    @cache
    def edits(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(edits(i - 1, j), edits(i, j - 1), edits(i - 1, j - 1) - (predicted[i - 1] == target[j - 1])) + 1

    return edits(len(predicted), len(target)) / len(target)


def _table(predicted, target):
    table = np.zeros((len(predicted) + 1, len(target) + 1))
    table[:, 0], table[0] = range(len(predicted) + 1), range(len(target) + 1)
    for i in range(1, len(predicted) + 1):
        for j in range(1, len(target) + 1):
            replaced = table[i - 1, j - 1] + (predicted[i - 1] != target[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, replaced)
    return float(table[-1, -1] / len(target))


def _finite_minimum(q, k, v, mask=None):
    scores = torch.einsum("...td,...sd->...ts", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(q.dtype).min)
    weights = F.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
    return torch.matmul(weights, v), weights


def _exponentials(q, k, v, mask=None):
    scores = (q.float() if q.dtype == torch.float16 else q) @ k.to(torch.promote_types(q.dtype, torch.float32)).mT
    scores = scores / math.sqrt(k.shape[-1])
    powers = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        powers = (scores - scores.amax(-1, keepdim=True).detach()).exp().masked_fill(~mask, 0)
    total = powers.sum(-1, keepdim=True)
    weights = (powers / torch.where(total == 0, 1, total)).to(q.dtype)
    return weights @ v, weights


def _nan_to_num(q, k, v, mask=None):
    scores = q @ k.transpose(-1, -2) / q.size(-1) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
    weights = torch.nan_to_num(torch.softmax(scores, -1))
    return weights @ v, weights


def _filled_with(number):
    """Masked scores are `number`, masked weights 0: right where no score is anywhere near `number`."""

    def attend(q, k, v, mask=None):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is None:
            weights = scores.softmax(-1)
        else:
            weights = scores.masked_fill(~mask, number).softmax(-1).masked_fill(~mask, 0)
        return weights @ v, weights

    return attend


def _for_loop(step, sos, eos, max_length):
    answer = []
    for _ in range(max_length):
        token = torch.argmax(step([sos, *answer]), dim=-1).item()
        if token == eos:
            return answer
        answer = [*answer, token]
    return answer


def _with_lists(step, sos, eos, max_length):
    ids = []
    while len(ids) < max_length:
        logits = step([sos] + ids).tolist()  # noqa: RUF005
        ids.append(max(range(len(logits)), key=logits.__getitem__))
        if ids[-1] == eos:
            ids.pop()
            break
    return ids


def _without_each_sos(step, sos, eos, max_length):
    return [one for one in _for_loop(step, sos, eos, max_length) if one != sos]


def _ends_at_sos(step, sos, eos, max_length):
    ids = []
    while len(ids) < max_length:
        best = int(step([sos, *ids]).argmax())
        if best in (sos, eos):
            break
        ids.append(best)
    return ids


def _ends_at_zero(step, sos, eos, max_length):
    ids = []
    while len(ids) < max_length and (best := int(step([sos, *ids]).argmax())) and best != eos:
        ids.append(best)
    return ids


def _in_numpy_arrays(step, sos, eos, max_length):
    ids = []
    while len(ids) < max_length:
        best = int(step([sos, *ids]).detach().numpy().argmax())
        if best == eos:
            break
        ids.append(best)
    return ids


def _minus_infinity(logits, k, temperature, generator):
    border = logits.topk(k, dim=-1).values[:, -1:]
    kept = torch.where(logits < border, -torch.inf, logits)
    return torch.multinomial(F.softmax(kept / temperature, dim=-1), 1, generator=generator).squeeze(-1)


def _gumbel(logits, k, temperature, generator):
    values, ids = logits.topk(k)
    noise = -torch.empty_like(values).exponential_(generator=generator).log()
    return ids.gather(1, (values / temperature + noise).argmax(1, keepdim=True)).squeeze(1)


def _inverse(logits, k, temperature, generator):
    values, ids = logits.sort(dim=1, descending=True)
    shares = (values[:, :k] / temperature).softmax(1).cumsum(1)
    places = (torch.rand(len(logits), 1, generator=generator) > shares).sum(1, keepdim=True).clamp(max=k - 1)
    return ids.gather(1, places).flatten()


def _same_for_all_rows(logits, k, temperature, generator):
    values, ids = logits.topk(k)
    shares = (values / temperature).softmax(1).cumsum(1)
    places = (torch.rand(1, generator=generator) > shares).sum(1, keepdim=True).clamp(max=k - 1)
    return ids.gather(1, places)[:, 0]


def _seeds_globally(logits, k, temperature, generator):
    torch.manual_seed(generator.initial_seed())
    values, ids = logits.topk(k)
    return ids.gather(1, torch.multinomial((values / temperature).softmax(1), 1))[:, 0]


def _reseeded(logits, k, temperature, generator):
    return _gumbel(logits, k, temperature, torch.Generator().manual_seed(generator.initial_seed()))


def _from_the_first_row(logits, k, temperature, generator):
    values, ids = logits.topk(k)
    places = torch.multinomial((values[0] / temperature).softmax(-1), len(values), True, generator=generator)
    return ids.gather(1, places[:, None])[:, 0]


def _powers_overflow(logits, k, temperature, generator):
    values, ids = logits.topk(k)
    powers = (values / temperature).exp()
    return ids.gather(1, torch.multinomial(powers / powers.sum(1, keepdim=True), 1, generator=generator))[:, 0]


def _bleu_of_joined(symbol):
    """BLEU of n-grams that are joined with `symbol` between them."""

    def bleu(predicted, targets):
        product = 1.0
        for n in range(1, 5):
            found = total = 0
            for pair in zip(predicted, targets, strict=True):
                ours, theirs = (
                    Counter(symbol.join(map(str, one[i : i + n])) for i in range(len(one) - n + 1)) for one in pair
                )
                found, total = found + (ours & theirs).total(), total + ours.total()
            product *= found / total if total else 0
        c, r = sum(map(len, predicted)), sum(map(len, targets))
        return product**0.25 * min(1.0, math.exp(1 - r / c)) if product else 0.0

    return bleu


def _by_difflib(predicted, target):
    steps = SequenceMatcher(None, predicted, target, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in steps if kind != "equal") / len(target)


def _rate_where(same):
    """The error rate, with symbols compared by `same`."""

    def rate(predicted, target):
        row = list(range(len(target) + 1))
        for i, a in enumerate(predicted, 1):
            old, row = row, [i]
            for j, b in enumerate(target, 1):
                row.append(min(old[j] + 1, row[-1] + 1, old[j - 1] + (not same(a, b))))
        return row[-1] / len(target)

    return rate


def _bleu_in_loops(predicted, targets):
    product = 1.0
    for n in range(1, 5):
        found = total = 0
        for p, t in zip(predicted, targets, strict=True):
            left = [t[i : i + n] for i in range(len(t) - n + 1)]
            for i in range(len(p) - n + 1):
                total += 1
                if p[i : i + n] in left:
                    left.remove(p[i : i + n])
                    found += 1
        product *= found / total if total else 0
    c, r = sum(len(p) for p in predicted), sum(len(t) for t in targets)
    if product == 0:
        return 0.0
    return product**0.25 * (1 if c >= r else math.exp(1 - r / c))


def _mean_of_each_sequence(model, words, targets, sos, pad):
    losses = F.cross_entropy(
        model(words, F.pad(targets, (1, -1), value=sos)).mT, targets, reduction="none", ignore_index=pad
    )
    return (losses.sum(1) / (targets != pad).sum(1).clamp(min=1)).mean()


def _flattened_loss(model, words, targets, sos, pad):
    start = torch.full((targets.shape[0], 1), sos, dtype=torch.long)
    logits = model(words, torch.hstack((start, targets[:, :-1])))
    return nn.CrossEntropyLoss(ignore_index=pad)(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class _HeadByHead(nn.Module):
    def __init__(self, dim, heads, dropout=0.0):
        super().__init__()
        self.width = dim // heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x, mask=None):
        parts = zip(*(layer(x).split(self.width, -1) for layer in (self.query, self.key, self.value)), strict=True)
        return self.out(torch.cat([_nan_to_num(q, k, v, mask)[0] for q, k, v in parts], -1))


class _ReshapesOnly(_HeadByHead):
    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        self.heads = heads

    def forward(self, x, mask=None):
        b, t, dim = x.shape
        q, k, v = (layer(x).reshape(b, self.heads, t, -1) for layer in (self.query, self.key, self.value))
        mask = mask[:, None] if mask is not None and mask.ndim == 3 else mask
        return self.out(_nan_to_num(q, k, v, mask)[0].reshape(b, t, dim))


class _FilledWithTenThousand(_HeadByHead):
    def forward(self, x, mask=None):
        attend = _filled_with(-1e4)
        parts = zip(*(layer(x).split(self.width, -1) for layer in (self.query, self.key, self.value)), strict=True)
        return self.out(torch.cat([attend(q, k, v, mask)[0] for q, k, v in parts], -1))


class _RootAsTensor(_HeadByHead):
    def forward(self, x, mask=None):
        q, k, v = (layer(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for layer in self._layers())
        scores = q @ k.mT / torch.sqrt(torch.FloatTensor([self.width]))
        if mask is not None:
            scores = scores.masked_fill(~(mask[:, None] if mask.ndim == 3 else mask), -torch.inf)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def _layers(self):
        return self.query, self.key, self.value


class _WithoutTheQuery(_HeadByHead):
    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        self.queries = self.query
        del self.query


class _ByPyTorch(nn.Module):
    """Also shows that the solution is equal to PyTorch's given the same weights."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.dim = heads, dim
        for name in ("query", "key", "value", "out"):
            self.add_module(name, nn.Linear(dim, dim))

    def forward(self, x, mask=None):
        layers = (self.query, self.key, self.value)
        hidden = None if mask is None else ~mask
        blind = torch.zeros(1, 1, dtype=torch.bool) if mask is None else ~mask.any(-1)  # (t,) or (b, t)
        if hidden is not None:
            hidden = hidden & ~blind[..., None]  # elsewhere PyTorch gives NaN
            hidden = hidden if hidden.ndim == 2 else hidden.repeat_interleave(self.heads, 0)
        identity, nothing = torch.eye(self.dim, dtype=x.dtype), torch.zeros(self.dim, dtype=x.dtype)
        found, _ = F.multi_head_attention_forward(
            *[x.transpose(0, 1)] * 3,
            self.dim,
            self.heads,
            torch.cat([layer.weight for layer in layers]),
            torch.cat([layer.bias for layer in layers]),
            None,
            None,
            False,
            0.0,
            identity,
            nothing,
            attn_mask=hidden,
        )
        return self.out(found.transpose(0, 1).masked_fill(blind[..., None], 0))


class _MaskForTheBatchOnly(_HeadByHead):
    def forward(self, x, mask=None):
        return super().forward(x, None if mask is None else mask.expand(len(x), -1, -1)[0])


class _WithoutBias(_HeadByHead):
    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        self.key = nn.Linear(dim, dim, bias=False)


class _PlainHeads(nn.Module):
    """As most would write it: view, transpose, masked_fill; NaN where a position may attend nowhere."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x, mask=None):
        b, t, d = x.shape
        q, k, v = (
            layer(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
        if mask is not None:
            scores = scores.masked_fill(~(mask.unsqueeze(1) if mask.dim() == 3 else mask), float("-inf"))
        return self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, t, d))


def _row_by_row(n):
    mask = torch.zeros(n, n, dtype=torch.bool)
    for i in range(n):
        mask[i, : i + 1] = True
    return mask


def _number_by_number(length, dim):
    table = torch.empty(length, dim)
    for p in range(length):
        for i in range(0, dim, 2):
            angle = p / 10000 ** (i / dim)
            table[p, i], table[p, i + 1] = math.sin(angle), math.cos(angle)
    return table


def _through_float32(q, k, v, mask=None):
    scores = torch.einsum("...qd,...kd->...qk", q.float(), k.float()) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = torch.where(mask, scores, torch.tensor(float("-inf")))
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(~mask.any(-1, keepdim=True), 0.0)
    return (weights @ v.float()).to(q.dtype), weights.to(q.dtype)


RIGHT = {
    "causal_mask": {
        "row by row": _row_by_row,
        "a loop": lambda n: torch.tensor([[j <= i for j in range(n)] for i in range(n)], dtype=torch.bool).reshape(
            n, n
        ),
        "compared": lambda n: torch.arange(n)[:, None] >= torch.arange(n),
        "not the upper triangle": lambda n: ~torch.triu(torch.ones(n, n), diagonal=1).bool(),
        "by indices": lambda n: torch.zeros(n, n, dtype=torch.bool).index_put_(
            tuple(torch.tril_indices(n, n)), torch.tensor(True)
        ),
    },
    "shift_right": {
        "steps in a loop": lambda targets, sos: torch.stack(
            [torch.full_like(targets[:, 0], sos), *[targets[:, i] for i in range(targets.shape[1] - 1)]], 1
        ),
        "in place, on new memory": _shifted_in_place,
        "rolled": lambda targets, sos: targets.roll(1, 1).index_fill(1, torch.tensor([0]), sos),
        "padded": lambda targets, sos: F.pad(targets, (1, 0), value=sos)[:, :-1],
        "torch.full": lambda targets, sos: torch.cat([torch.full((len(targets), 1), sos), targets[:, :-1]], 1),
        "lists": lambda targets, sos: torch.tensor([[sos, *row[:-1]] for row in targets.tolist()]),
        "row by row": lambda targets, sos: torch.stack(
            [torch.cat([row.new_tensor([sos]), row[:-1]]) for row in targets]
        ),
    },
    "next_token_pairs": {
        "unfolded": lambda ids, length: (
            (ids[:-1].unfold(0, length, length), ids[1:].unfold(0, length, length))
            if len(ids) > length
            else (torch.empty(0, length).long(), torch.empty(0, length).long())
        ),
        "view": lambda ids, length: (
            lambda count: (ids[: count * length].view(count, length), ids[1 : count * length + 1].view(count, length))
        )((len(ids) - 1) // length),
        "by index": lambda ids, length: (lambda places: (ids[places], ids[places + 1]))(
            torch.arange((len(ids) - 1) // length * length).view(-1, length)
        ),
    },
    "sequence_loss": {
        "transposed": lambda logits, targets, pad: F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad),
        "real ones picked": lambda logits, targets, pad: F.cross_entropy(
            logits[targets != pad], targets[targets != pad]
        ),
        "by log_softmax": _log_softmax,
        "number by number": _loss_number_by_number,
        "sequences in a loop": lambda logits, targets, pad: (
            sum(F.cross_entropy(a, b, ignore_index=pad, reduction="sum") for a, b in zip(logits, targets, strict=True))
            / (targets != pad).sum()
        ),
    },
    "positional_encoding": {
        "number by number": _number_by_number,
        "float64": lambda length, dim: _in_numpy(length, dim).double(),
        "in NumPy": _in_numpy,
        "with logarithms": _with_logarithms,
    },
    "decoder_mask": {
        "where": lambda ids, pad: torch.where((ids == pad)[:, None], False, torch.ones(*[ids.shape[1]] * 2).tril() > 0),
        "multiplied": lambda ids, pad: torch.ones(*[ids.shape[1]] * 2).bool().tril() * ids.ne(pad).unsqueeze(1),
    },
    "error_rate": {
        "a recursion that remembers": _recursive,
        "a NumPy table": _table,
        "compared by a function": _rate_where(eq),
        "whole 0": lambda predicted, target: 0 if predicted == target else _recursive(predicted, target),
    },
    "scaled_dot_product": {
        "through float32": _through_float32,
        "the least finite number": _finite_minimum,
        "exponentials": _exponentials,
        "nan_to_num": _nan_to_num,
        "the least finite number of each dtype": lambda q, k, v, mask=None: _filled_with(torch.finfo(q.dtype).min)(
            q, k, v, mask
        ),
        "a list for the tuple": lambda q, k, v, mask=None: list(_nan_to_num(q, k, v, mask)),
    },
    "greedy_decode": {
        "for": _for_loop,
        "lists": _with_lists,
        "NumPy, on the CPU": lambda step, sos, eos, max_length: _for_loop(
            lambda ids: torch.from_numpy(step(ids).detach().cpu().numpy()), sos, eos, max_length
        ),
    },
    "sample_top_k": {"minus infinity": _minus_infinity, "Gumbel": _gumbel, "inverse": _inverse},
    "bleu": {"loops": _bleu_in_loops, "whole 0": lambda predicted, targets: _bleu_in_loops(predicted, targets) or 0},
    "teacher_forced_loss": {"flattened": _flattened_loss},
    "MultiHeadAttention": {
        "plain": _PlainHeads,
        "masked scores are −10,000": _FilledWithTenThousand,
        "head by head": _HeadByHead,
        "√d as a float32 tensor": _RootAsTensor,
        "PyTorch's": _ByPyTorch,
    },
}

WRONG = {
    "causal_mask": {},
    "shift_right": {
        "start token 1": lambda targets, sos: F.pad(targets, (1, -1), value=1),
    },
    "next_token_pairs": {
        "(n − length) // length": lambda ids, length: (
            lambda count: (ids[: count * length].reshape(-1, length), ids[1 : count * length + 1].reshape(-1, length))
        )(max((len(ids) - length) // length, 0)),
    },
    "sequence_loss": {
        "a number": lambda logits, targets, pad: F.cross_entropy(logits.mT, targets, ignore_index=pad).item(),
        "mean of each sequence, then of all": lambda logits, targets, pad: torch.stack(
            [F.cross_entropy(a, b, ignore_index=pad) for a, b in zip(logits, targets, strict=True)]
        ).mean(),
        "probabilities": lambda logits, targets, pad: F.cross_entropy(logits.softmax(-1).mT, targets, ignore_index=pad),
    },
    "positional_encoding": {},
    "decoder_mask": {
        "heads kept": lambda ids, pad: (torch.ones(*[ids.shape[1]] * 2).tril() > 0) & (ids != pad)[:, None, None],
        "0 is padding": lambda ids, pad: (torch.ones(*[ids.shape[1]] * 2).tril() > 0) & (ids != 0)[:, None],
    },
    "error_rate": {
        "swaps count once": lambda predicted, target: (
            (_table(predicted, target) * len(target) - (predicted == ["A", "C", "B", "D"])) / len(target)
        ),
        "one object": _rate_where(is_),
        "as text": _rate_where(lambda a, b: str(a) == str(b)),
        "small letters": _rate_where(lambda a, b: str(a).lower() == str(b).lower() and type(a) is type(b)),
        "difflib, which looks for long runs": _by_difflib,
        "over the prediction": lambda predicted, target: (
            _table(predicted, target) * len(target) / max(len(predicted), 1)
        ),
        "symbols joined": lambda predicted, target: _table("".join(map(str, predicted)), "".join(map(str, target))),
    },
    "scaled_dot_product": {
        "torch's own": lambda q, k, v, mask=None: (
            F.scaled_dot_product_attention(q, k, v, mask),
            _nan_to_num(q, k, v, mask)[1],
        ),
        "values only": lambda q, k, v, mask=None: _nan_to_num(q, k, v, mask)[0],
        "where, with −1e9": lambda q, k, v, mask=None: (lambda w: (w @ v, w))(
            (
                q @ k.mT / q.shape[-1] ** 0.5
                if mask is None
                else torch.where(mask, q @ k.mT / q.shape[-1] ** 0.5, -1e9)
            ).softmax(-1)
        ),
        "masked scores are -100": _filled_with(-100.0),
        "detached": lambda q, k, v, mask=None: tuple(one.detach() for one in _nan_to_num(q, k, v, mask)),
    },
    "greedy_decode": {
        "a tuple": lambda step, sos, eos, max_length: tuple(_for_loop(step, sos, eos, max_length)),
        "no sos at all": _without_each_sos,
        "sos ends it": _ends_at_sos,
        "in NumPy, wherever the logits are": _in_numpy_arrays,
        "0 ends it": _ends_at_zero,
        "stops at 2": lambda step, sos, eos, max_length: _for_loop(step, sos, 2, max_length),
    },
    "sample_top_k": {
        "one number for all rows": _same_for_all_rows,
        "seeds the shared generator": _seeds_globally,
        "started anew each time": _reseeded,
        "the first row's probabilities": _from_the_first_row,
        "powers that overflow": _powers_overflow,
        "int32": lambda logits, k, temperature, generator: _gumbel(logits, k, temperature, generator).int(),
        "a generator of its own": lambda logits, k, temperature, generator: _gumbel(
            logits, k, temperature, torch.Generator().manual_seed(0)
        ),
    },
    "bleu": {
        "3-grams": lambda predicted, targets: _bleu_in_loops(predicted, targets) ** (4 / 3),
        "joined": _bleu_of_joined(""),
        "joined by spaces": _bleu_of_joined(" "),
        "percent": lambda predicted, targets: 100 * _bleu_in_loops(predicted, targets),
    },
    "teacher_forced_loss": {
        "mean of each sequence, then of all": _mean_of_each_sequence,
        "called twice": lambda model, words, targets, sos, pad: (
            model(words, targets).sum() * 0 + _flattened_loss(model, words, targets, sos, pad)
        ),
        "start token 1": lambda model, words, targets, sos, pad: _flattened_loss(model, words, targets, 1, pad),
    },
    "MultiHeadAttention": {
        "the first mask for all": _MaskForTheBatchOnly,
        "a layer without bias": _WithoutBias,
        "a layer of another name": _WithoutTheQuery,
        "reshaped only": _ReshapesOnly,
    },
}
