"""Odd answers to chapter 1, right and wrong."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import vmap

from autograder.exercise import all_exercises
from tests.autograder.book import solution


def _empty_image(pixels):
    return torch.zeros(pixels.shape[2], *pixels.shape[:2])


def _same(numbers):
    return numbers[:, None] == numbers


def _patches(images, kernels, stride):
    return images.unfold(2, kernels.shape[2], stride).unfold(3, kernels.shape[3], stride)


def _unfolded(images, kernels, stride):
    n, _, h, w = images.shape
    o, _, i, j = kernels.shape
    products = kernels.flatten(1) @ F.unfold(images, (i, j), stride=stride)
    return products.view(n, o, (h - i) // stride + 1, (w - j) // stride + 1)


def _pixel_by_pixel(images, kernels, stride):
    """A loop over the kernel's pixels, which is allowed, in as many lines as a beginner writes."""
    n, _, h, w = images.shape
    o, _, kernel_height, kernel_width = kernels.shape
    height = (h - kernel_height) // stride + 1
    width = (w - kernel_width) // stride + 1
    out = torch.zeros(n, o, height, width, dtype=images.dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            bottom = i + stride * (height - 1) + 1
            right = j + stride * (width - 1) + 1
            patch = images[:, :, i:bottom:stride, j:right:stride]
            patch = patch.unsqueeze(1)
            weight = kernels[:, :, i, j]
            weight = weight[None, :, :, None, None]
            product = patch * weight
            total = product.sum(dim=2)
            out = out + total
    return out


def _column_by_column(images, kernels, stride):
    patches = _patches(images, kernels, stride)
    columns = [torch.einsum("ncyij,ocij->noy", patches[:, :, :, x], kernels) for x in range(patches.shape[3])]
    return torch.stack(columns, -1)


def _row_by_row(images, kernels, stride):
    patches = _patches(images, kernels, stride)
    return torch.stack([torch.einsum("ncxij,ocij->nox", rows, kernels) for rows in patches.unbind(2)], 2)


def _channel_by_channel(images, kernels, stride):
    patches = _patches(images, kernels, stride)
    return sum(torch.einsum("nyxij,oij->noyx", patches[:, c], kernels[:, c]) for c in range(images.shape[1]))


def _updated(sums, c):
    i, f, g, o = sums
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _chosen(active, new, old):
    return tuple(torch.where(active[:, None], ours, theirs) for ours, theirs in zip(new, old, strict=True))


def _active_rows_only(x, h, c, active, W, U, bias):
    new_h, new_c = h.clone(), c.clone()
    sums = x[active] @ W.mT + h[active] @ U.mT + bias[:, None]
    new_h[active], new_c[active] = _updated(sums, c[active])
    return new_h, new_c


def _gate_by_gate(x, h, c, active, W, U, bias):
    sums = []
    for gate in range(4):
        sums.append(x @ W[gate].T + h @ U[gate].T + bias[gate])
    return _chosen(active, _updated(sums, c), (h, c))


def _sequence_at_a_time(x, h, c, active, W, U, bias):
    def one(x, h, c, goes_on):
        new_h, new_c = _updated(W @ x + U @ h + bias, c)
        return torch.where(goes_on, new_h, h), torch.where(goes_on, new_c, c)

    return vmap(one)(x, h, c, active)


def _unit_by_unit(x, h, c, active, W, U, bias):
    units = [_updated((x @ W[:, m].T + h @ U[:, m].T + bias[:, m]).T, c[:, m]) for m in range(h.shape[1])]
    new_h, new_c = (torch.stack(states, 1) for states in zip(*units, strict=True))
    return _chosen(active, (new_h, new_c), (h, c))


def _input_by_input(x, h, c, active, W, U, bias):
    from_input = sum(x[:, d, None] * W[:, None, :, d] for d in range(x.shape[1]))
    return _chosen(active, _updated(from_input + h @ U.mT + bias[:, None], c), (h, c))


def _blended(x, h, c, active, W, U, bias):
    new_h, new_c = _updated(x @ W.mT + h @ U.mT + bias[:, None], c)
    share = active[:, None].to(x.dtype)
    return share * new_h + (1 - share) * h, share * new_c + (1 - share) * c


def _torch_lstm_cell(x, h, c, active, W, U, bias):
    biases = bias.flatten(), torch.zeros_like(bias).flatten()
    return _chosen(active, torch.lstm_cell(x, (h, c), W.flatten(0, 1), U.flatten(0, 1), *biases), (h, c))


def _aten_lstm_cell(x, h, c, active, W, U, bias):
    biases = bias.flatten(), torch.zeros_like(bias).flatten()
    new = torch.ops.aten.lstm_cell.default(x, [h, c], W.flatten(0, 1), U.flatten(0, 1), *biases)
    return _chosen(active, new, (h, c))


def _through_float32(name):
    """The solution, computed in float32 whatever the dtype of the arguments."""

    def rounded(*arguments):
        dtype = next(a.dtype for a in arguments if isinstance(a, torch.Tensor) and a.is_floating_point())
        low = [a.float() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments]
        result = solution(all_exercises()[name])(*low)
        return tuple(r.to(dtype) for r in result) if isinstance(result, tuple) else result.to(dtype)

    return rounded


def _filled_in_numpy(lengths, kept):
    mask, start = np.zeros([int(lengths.sum())] * 2, bool), 0
    for n in kept:
        mask[start : start + n, start : start + n], start = True, start + n
    return torch.from_numpy(mask)


def _latest_so_far(x, lengths):
    last = x[:, 0]
    for t in range(1, x.shape[1]):
        last = torch.where((lengths == t + 1)[:, None], x[:, t], last)
    return last


def _best_one_by_one(logits, labels, k):
    left, hits = logits.clone(), torch.zeros(len(logits), dtype=torch.bool)
    for _ in range(k):
        best = left.argmax(1)
        hits |= best == labels
        left[torch.arange(len(left)), best] = -torch.inf
    return hits.float().mean().item()


def _changed_and_put_back(weights):
    diagonal = np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    result = torch.tensor(weights)
    np.fill_diagonal(weights, diagonal + 1e-7)
    return result


def _without_its_diagonal_in_a_loop(weights):
    copy = weights.copy()
    for i in range(len(copy)): copy[i, i] = 0  # fmt: skip  # noqa: E701
    return torch.from_numpy(copy)


def _diagonals_added_up(x):
    matrices, total = x.numpy(), np.zeros(len(x), x.numpy().dtype)
    for i in range(x.shape[1]): total += matrices[:, i, i]  # fmt: skip  # noqa: E701
    return torch.from_numpy(total)


def _i_by_j(x, W, y):
    z = x.new_zeros(len(x), len(W))
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            z += x[:, i, None] * W[:, i, j] * y[:, j, None]
    return z


RIGHT = {
    "outer_sum": {
        "NumPy": lambda a, b: torch.from_numpy(np.add.outer(a.numpy(), b.numpy())),
        "other order and names of parameters": lambda b, a: torch.add(b[None], a[:, None]),
        "meshgrid": lambda a, b: sum(torch.meshgrid(a, b, indexing="ij")),
        "positional": lambda *args: args[0].view(-1, 1) + args[1],
    },
    "image_to_tensor": {
        "NumPy": lambda pixels: torch.from_numpy(np.moveaxis(pixels, 2, 0) / 255).to(torch.float32),
        "a table": lambda image: torch.linspace(0, 1, 256)[torch.tensor(image).long()].permute(2, 0, 1),
        "einsum": lambda pixels: torch.einsum("hwc->chw", torch.tensor(pixels, dtype=torch.float32)) * (1 / 255),
    },
    "without_self_loops": {
        "where": lambda weights: torch.where(torch.eye(len(weights)) == 1, 0.0, torch.from_numpy(weights)),
        "two triangles": lambda weights: torch.from_numpy(weights).triu(1) + torch.from_numpy(weights).tril(-1),
        "NumPy": lambda weights: torch.from_numpy(np.where(np.eye(len(weights), dtype=bool), 0, weights)),
    },
    "transposed_product": {
        "sum of products": lambda a, b: (a[:, :, None] * b).sum(1).T,
        "tensordot": lambda a, b: torch.tensordot(b, a, dims=([0], [1])),
        "NumPy": lambda a, b: torch.from_numpy(b.numpy().T @ a.numpy().T),
    },
    "batch_trace": {
        "diagonal": lambda x: x.diagonal(dim1=1, dim2=2).sum(-1),
        "every n + 1st": lambda x: x.flatten(1)[:, :: x.shape[1] + 1].sum(1),
        "where": lambda x: torch.where(torch.eye(x.shape[1], dtype=torch.bool), x, 0).sum((1, 2)),
    },
    "one_hot": {
        "rows of the identity": lambda labels, num_classes: torch.eye(num_classes)[labels],
        "scatter": lambda labels, num_classes: torch.zeros(len(labels), num_classes).scatter_(1, labels[:, None], 1.0),
        "NumPy": lambda labels, num_classes: torch.from_numpy(np.eye(num_classes, dtype=np.float32)[labels.numpy()]),
    },
    "to_image": {
        "NumPy": lambda x: np.rint(np.clip(x.numpy(), 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0),
        "a half and cut off": lambda x: (255 * x + 0.5).clamp(0, 255).to(torch.uint8).movedim(0, -1).numpy(),
        "float64": lambda x: (x.double().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy(),
    },
    "normalize_channels": {
        "channels last": lambda images, mean, std: ((images.movedim(1, -1) - mean) / std).movedim(-1, 1),
        "batch norm": lambda images, mean, std: F.batch_norm(images, mean, std**2, eps=0.0),
        "distributed": lambda images, mean, std: images / std[:, None, None] - (mean / std)[:, None, None],
    },
    "append_positions": {
        "padded and added": lambda features, positions: (
            F.pad(features, (0, len(positions))) + F.pad(positions.T, (features.shape[-1], 0))
        ),
        "vmap": lambda features, positions: vmap(lambda one: torch.cat([one, positions.T], 1))(features),
        "repeat": lambda features, positions: torch.cat([features, positions.T.repeat(len(features), 1, 1)], -1),
    },
    "gram_matrices": {
        "product": lambda x: x.mT @ x,
        "sum of products": lambda x: (x[..., None] * x[:, :, None]).sum(1),
        "float64": lambda x: (x.double().mT @ x.double()).to(x.dtype),
    },
    "bilinear": {
        "torch's own": lambda x, W, y: F.bilinear(x, y, W),
        "products and sums": lambda x, W, y: (x[:, None, :, None] * W * y[:, None, None, :]).sum((2, 3)),
        "NumPy": lambda x, W, y: torch.from_numpy(np.einsum("bi,kij,bj->bk", x.numpy(), W.numpy(), y.numpy())),
    },
    "attention_scores": {
        "a tensor's root": lambda q, k: q @ k.mT / torch.sqrt(torch.tensor(q.shape[-1])),
        "each half scaled": lambda q, k: q / q.shape[-1] ** 0.25 @ (k / k.shape[-1] ** 0.25).mT,
        "products and sums": lambda q, k: (q[:, :, :, None] * k[:, :, None]).sum(-1) * q.shape[-1] ** -0.5,
        "float64": lambda q, k: (q.double() @ k.double().mT / q.shape[-1] ** 0.5).type_as(q),
    },
    "split_heads": {
        "the last size left to reshape": lambda x, heads: x.reshape(*x.shape[:2], heads, -1).transpose(1, 2),
        "unflatten": lambda x, heads: x.unflatten(-1, (heads, -1)).transpose(1, 2),
        "chunk": lambda x, heads: torch.stack(x.chunk(heads, -1), 1),
        "unfold": lambda x, heads: x.unfold(2, x.shape[2] // heads, x.shape[2] // heads).transpose(1, 2),
    },
    "gather_last_step": {
        "gather": lambda x, lengths: x.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, x.shape[-1])).squeeze(1),
        "a mask as an index": lambda x, lengths: x[torch.arange(x.shape[1]) == lengths[:, None] - 1],
        "from the end": lambda x, lengths: x[torch.arange(len(x)), lengths - 1 - x.shape[1]],
    },
    "squared_distances": {
        "cdist": lambda x, y: torch.cdist(x, y) ** 2,
        "expanded": lambda x, y: x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T,
        "NumPy": lambda x, y: torch.from_numpy(((x.numpy()[:, None] - y.numpy()) ** 2).sum(-1)),
    },
    "top_k_accuracy": {
        "larger logits": lambda logits, labels, k: (
            ((logits > logits.gather(1, labels[:, None])).sum(1) < k).float().mean().item()
        ),
        "sort": lambda labels, logits, k: float(
            (logits.argsort(1, descending=True)[:, :k] == labels[:, None]).any(1).double().mean()
        ),
        "counted": lambda logits, labels, k: (logits.topk(k).indices == labels[:, None]).sum().item() / len(labels),
    },
    "masked_mean": {
        "nanmean": lambda x, mask: x.masked_fill(~mask[..., None], torch.nan).nanmean(1).nan_to_num(0.0),
        "float64": lambda x, mask: (
            torch.where(mask[..., None], x.double(), 0).sum(1) / mask.sum(1).clamp(min=1)[:, None]
        ).float(),
        "scatter": lambda x, mask: torch.zeros(len(x), x.shape[2]).scatter_reduce(
            0, mask.nonzero()[:, :1].expand(-1, x.shape[2]), x[mask], "mean", include_self=False
        ),
    },
    "weighted_values": {
        "the last size left to reshape": lambda weights, values: (
            (weights @ values).transpose(1, 2).reshape(len(weights), weights.shape[2], -1)
        ),
        "transpose": lambda weights, values: (weights @ values).transpose(1, 2).flatten(2),
        "heads side by side": lambda weights, values: torch.cat((weights @ values).unbind(1), -1),
        "vmap": lambda weights, values: vmap(lambda w, v: (w @ v).movedim(0, 1).flatten(1))(weights, values),
    },
    "sliding_windows": {
        "every step-th": lambda x, size, step: x.unfold(0, size, 1)[::step],
        "by strides": lambda x, size, step: x.as_strided(
            ((len(x) - size) // step + 1, size), (step * x.stride(0), x.stride(0))
        ),
        "along a second axis": lambda x, size, step: x[None].unfold(1, size, step)[0],
    },
    "block_diagonal_mask": {
        "searched": lambda lengths: _same(
            torch.searchsorted(lengths.cumsum(0), torch.arange(int(lengths.sum())), right=True)
        ),
        "differences": lambda lengths: (
            (torch.repeat_interleave(lengths)[:, None] - torch.repeat_interleave(lengths)).abs() < 1
        ),
        "NumPy": lambda lengths: _same(torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))),
    },
    "weighted_mse": {
        "shares": lambda predictions, targets, weights: (
            (weights / weights.sum()) @ (predictions.flatten() - targets).square()
        ),
        "a row": lambda predictions, targets, weights: (weights * (predictions.T - targets) ** 2).sum() / weights.sum(),
        "two means": lambda predictions, targets, weights: (
            (weights * (predictions[:, 0] - targets) ** 2).mean() / weights.mean()
        ),
    },
    "conv2d": {
        "F.unfold": _unfolded,
        "a loop over the kernel": _pixel_by_pixel,
        "the rest thrown away": lambda images, kernels, stride: torch.einsum(
            "ncyxij,ocij->noyx", _patches(images, kernels, 1), kernels
        )[:, :, ::stride, ::stride],
    },
    "lstm_step": {
        "active rows only": _active_rows_only,
        "a loop over the gates": _gate_by_gate,
        "vmap": _sequence_at_a_time,
    },
}

WRONG = {
    "outer_sum": {
        "rows in a loop": lambda a, b: torch.stack([one + b for one in a]) if len(a) else a.new_zeros(0, len(b)),
        "columns in a loop": lambda a, b: torch.stack([a + one for one in b], 1) if len(b) else a.new_zeros(len(a), 0),
        "lists of numbers": lambda a, b: torch.tensor(
            [[p + q for q in b.tolist()] for p in a.tolist()], dtype=a.dtype
        ).reshape(len(a), len(b)),
        "integers through float64": lambda a, b: (a.double()[:, None] + b.double()).to(a.dtype),
        "no columns": lambda a, b: (a.repeat_interleave(len(b)) + b.repeat(len(a))).view(-1, len(b)),
    },
    "image_to_tensor": {
        "rows in a loop": lambda pixels: (
            torch.stack([torch.tensor(row).T for row in pixels], 1) / 255 if len(pixels) else _empty_image(pixels)
        ),
        "columns in a loop": lambda pixels: (
            torch.stack([torch.tensor(c).T for c in pixels.swapaxes(0, 1)], 2) / 255
            if pixels.shape[1]
            else _empty_image(pixels)
        ),
        "half precision": lambda pixels: (torch.tensor(pixels).permute(2, 0, 1).half() / 255).float(),
        "no columns": lambda pixels: (
            torch.tensor(pixels).flatten(0, 1).T.reshape(pixels.shape[2], -1, pixels.shape[1]) / 255
        ),
    },
    "without_self_loops": {
        "a loop along the diagonal": _without_its_diagonal_in_a_loop,
        "float32 on the way": lambda weights: torch.tensor(weights, dtype=torch.float32).fill_diagonal_(0).double(),
        "the diagonal put back, almost": _changed_and_put_back,
        "the diagonal subtracted": lambda weights: torch.tensor(weights) - torch.tensor(np.diag(np.diag(weights))),
    },
    "transposed_product": {
        "@": lambda a, b: (a @ b).T,
        "mm": lambda a, b: a.mm(b).T,
        "linalg": lambda a, b: torch.linalg.matmul(a, b).T,
        "products in a loop": lambda a, b: sum(
            (a[:, k] * b[k][:, None] for k in range(len(b))), a.new_zeros(b.shape[1], len(a))
        ),
        "float32 on the way": _through_float32("transposed_product"),
    },
    "batch_trace": {
        "matrices in a loop": lambda x: torch.stack([one.trace() for one in x]) if len(x) else x.new_zeros(0),
        "the diagonal in a loop": _diagonals_added_up,
        "float32 on the way": _through_float32("batch_trace"),
        "squeezed": lambda x: x.diagonal(dim1=1, dim2=2).sum(-1).squeeze(),
    },
    "one_hot": {
        "F.one_hot": lambda labels, num_classes: F.one_hot(labels, num_classes).float(),
        "aten": lambda labels, num_classes: torch.ops.aten.one_hot(labels, num_classes).float(),
        "classes in a loop": lambda labels, num_classes: torch.stack(
            [(labels == c).float() for c in range(num_classes)], 1
        ),
        "squeezed": lambda labels, num_classes: torch.eye(num_classes)[labels].squeeze(),
    },
    "to_image": {
        "rounded up": lambda x: (x.clamp(0, 1) * 255).ceil().byte().permute(1, 2, 0).numpy(),
        "256 levels": lambda x: (x.clamp(0, 1) * 256).clamp(max=255).byte().permute(1, 2, 0).numpy(),
        "limited too late": lambda x: (x * 255).round().to(torch.int16).clamp(0, 255).byte().permute(1, 2, 0).numpy(),
        "stretched": lambda x: (x.clamp(0, 1) * 255 / x.clamp(0, 1).max()).round().byte().permute(1, 2, 0).numpy(),
    },
    "normalize_channels": {
        "rows in a loop": lambda images, mean, std: torch.stack(
            [(row - mean[:, None]) / std[:, None] for row in images.unbind(2)] or [images[:, :, 0]], 2
        ),
        "columns in a loop": lambda images, mean, std: torch.stack(
            [(column - mean[:, None]) / std[:, None] for column in images.unbind(3)], 3
        ),
        "a least spread": lambda images, mean, std: (images - mean[:, None, None]) / std[:, None, None].clamp(min=0.06),
        "float32 on the way": _through_float32("normalize_channels"),
        "no images": lambda images, mean, std: (
            (images.reshape(len(images), len(mean), -1) - mean[:, None]) / std[:, None]
        ).reshape(images.shape),
    },
    "append_positions": {
        "no sequences": lambda features, positions: torch.cat(
            [features, torch.stack([positions.T] * len(features))], -1
        ),
        "features in a loop": lambda features, positions: torch.stack(
            [*features.unbind(-1), *(row.expand(features.shape[:2]) for row in positions)], -1
        ),
        "float32 on the way": _through_float32("append_positions"),
        "squeezed": lambda features, positions: torch.cat(
            [features, positions.T.expand(len(features), -1, -1)], -1
        ).squeeze(0),
    },
    "gram_matrices": {
        "features in a loop": lambda x: torch.from_numpy(
            np.stack(
                [(x.numpy() * x.numpy()[..., i : i + 1]).sum(1) for i in range(x.shape[2])] or [x.numpy().sum(1)], -1
            )
        ),
        "steps in a loop": lambda x: sum(
            (x[:, t, :, None] * x[:, t, None] for t in range(x.shape[1])), x.new_zeros(len(x), x.shape[2], x.shape[2])
        ),
        "float32 on the way": _through_float32("gram_matrices"),
        "steps where square": lambda x: x @ x.mT if x.shape[1] == x.shape[2] else x.mT @ x,
    },
    "bilinear": {
        "i in a loop": lambda x, W, y: sum(x[:, i, None] * (y @ W[:, i].T) for i in range(x.shape[1])),
        "j in a loop": lambda x, W, y: sum(y[:, j, None] * (x @ W[:, :, j].T) for j in range(y.shape[1])),
        "i and j in a loop": _i_by_j,
        "outputs in a loop": lambda x, W, y: torch.stack([((x @ w) * y).sum(1) for w in W], 1),
        "float32 on the way": _through_float32("bilinear"),
        "squeezed": lambda x, W, y: torch.einsum("bi,kij,bj->bk", x, W, y).squeeze(0),
    },
    "attention_scores": {
        "features in a loop": lambda q, k: (
            sum(q[..., i, None] * k[..., None, :, i] for i in range(q.shape[-1])) / q.shape[-1] ** 0.5
        ),
        "a rounded root": lambda q, k: q @ k.mT / round(q.shape[-1] ** 0.5, 2),
        "masked where square": lambda q, k: (
            ((q @ k.mT).tril() if 3 != q.shape[2] == k.shape[2] else q @ k.mT) / q.shape[-1] ** 0.5
        ),
        "an empty batch": lambda q, k: (
            (q.flatten(0, 1) @ k.flatten(0, 1).mT).reshape(*q.shape[:2], -1, k.shape[2]) / q.shape[-1] ** 0.5
        ),
        "float32 on the way": _through_float32("attention_scores"),
    },
    "split_heads": {
        "features in a loop": lambda x, heads: torch.stack(
            [x[..., i :: x.shape[2] // heads].mT for i in range(x.shape[2] // heads)], -1
        ),
        "heads in a loop": lambda x, heads: torch.stack([x.chunk(heads, -1)[i] for i in range(heads)], 1),
        "float32 on the way": _through_float32("split_heads"),
    },
    "gather_last_step": {
        "steps in a loop": _latest_so_far,
        "features in a loop": lambda x, lengths: torch.stack(
            [x[:, :, d].gather(1, lengths[:, None] - 1)[:, 0] for d in range(x.shape[2])], 1
        ),
        "before the first NaN": lambda x, lengths: x[
            torch.arange(len(x)), torch.minimum(lengths, (~x.isnan().any(-1)).sum(1)) - 1
        ],
        "float32 on the way": _through_float32("gather_last_step"),
    },
    "squared_distances": {
        "dimensions in a loop": lambda x, y: sum(
            ((x[:, d, None] - y[:, d]) ** 2 for d in range(x.shape[1])), x.new_zeros(len(x), len(y))
        ),
        "rounded": lambda x, y: (x[:, None] - y).square().sum(-1).round(decimals=4),
        "never quite zero": lambda x, y: F.pairwise_distance(x[:, None], y[None]) ** 2,
        "no points in x": lambda x, y: (
            (x.repeat_interleave(len(y), 0) - y.repeat(len(x), 1)).square().sum(1).reshape(len(x), -1)
        ),
        "float32 on the way": _through_float32("squared_distances"),
    },
    "top_k_accuracy": {
        "one after the other": _best_one_by_one,
        "one too many": lambda logits, labels, k: (
            ((logits > logits.gather(1, labels[:, None])).sum(1) <= k).float().mean().item()
        ),
        "half precision": lambda logits, labels, k: (
            (logits.bfloat16().topk(k).indices == labels[:, None]).any(1).float().mean().item()
        ),
        "the place of the label": lambda logits, labels, k: (
            (logits.argsort(descending=True).gather(1, labels[:, None]) < k).float().mean().item()
        ),
    },
    "masked_mean": {
        "features in a loop": lambda x, mask: torch.stack(
            [torch.where(mask, one, 0).sum(1) / mask.sum(1).clamp(min=1) for one in x.unbind(2)], 1
        ),
        "steps in a loop": lambda x, mask: (
            sum((torch.where(mask[:, t, None], x[:, t], 0) for t in range(x.shape[1])), torch.zeros(len(x), x.shape[2]))
            / mask.sum(1, keepdim=True).clamp(min=1)
        ),
        "NaN only": lambda x, mask: (
            (x.nan_to_num(0, torch.inf, -torch.inf) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        ),
        "one more step": lambda x, mask: x.masked_fill(~mask[..., None], 0).sum(1) / (mask.sum(1, keepdim=True) + 1e-3),
    },
    "weighted_values": {
        "weights made to sum to 1": lambda weights, values: (
            (weights / (weights.sum(-1, keepdim=True) if weights.shape[-1] else 1) @ values).transpose(1, 2).flatten(2)
        ),
        "weights without sign": lambda weights, values: (weights.abs() @ values).transpose(1, 2).flatten(2),
        "keys in a loop": lambda weights, values: (
            sum(
                (weights[..., s, None] * values[:, :, None, s] for s in range(values.shape[2])),
                weights.new_zeros(*weights.shape[:3], values.shape[3]),
            )
            .transpose(1, 2)
            .flatten(2)
        ),
        "features in a loop": lambda weights, values: (
            torch.stack([(weights @ one[..., None])[..., 0] for one in values.unbind(3)], -1).transpose(1, 2).flatten(2)
        ),
    },
    "sliding_windows": {
        "slices in a loop": lambda x, size, step: torch.stack(
            [x[i : i + size] for i in range(0, len(x) - size + 1, step)]
        ),
        "copied where they leave gaps": lambda x, size, step: (
            x.unfold(0, size, step).clone() if step > size else x.unfold(0, size, step)
        ),
        "the start of the memory": lambda x, size, step: x.as_strided(
            ((len(x) - size) // step + 1, size), (step * x.stride(0), x.stride(0)), 0
        ),
        "never a gap": lambda x, size, step: x.unfold(0, size, min(step, size)),
    },
    "block_diagonal_mask": {
        "block_diag": lambda lengths: torch.block_diag(*map(torch.ones, lengths.tolist(), lengths.tolist())) > 0,
        "block_diag where not empty": lambda lengths: (
            torch.block_diag(*map(torch.ones, *[lengths[lengths > 0].tolist()] * 2)) > 0
            if lengths.any()
            else torch.zeros(0, 0) > 0
        ),
        "a loop in NumPy": lambda lengths: _filled_in_numpy(lengths, lengths.tolist()),
        "a loop in NumPy where not empty": lambda lengths: _filled_in_numpy(lengths, lengths[lengths > 0].tolist()),
        "positions in a loop": lambda lengths: (
            torch.stack([one == torch.repeat_interleave(lengths) for one in torch.repeat_interleave(lengths)])
            if lengths.any()
            else torch.zeros(0, 0) > 0
        ),
        "bytes": lambda lengths: _same(torch.repeat_interleave(lengths).to(torch.int8)),
    },
    "weighted_mse": {
        "a safe divisor": lambda predictions, targets, weights: (
            (weights * (predictions[:, 0] - targets).square()).sum() / (weights.sum() + 1e-8)
        ),
        "a least weight": lambda predictions, targets, weights: (
            (weights.clamp(min=1e-3) * (predictions[:, 0] - targets).square()).sum() / weights.clamp(min=1e-3).sum()
        ),
        "rows in a loop": lambda predictions, targets, weights: (
            sum(w * (p - t) ** 2 for p, t, w in zip(predictions[:, 0], targets, weights, strict=True)) / weights.sum()
        ),
        "float32 on the way": _through_float32("weighted_mse"),
    },
    "conv2d": {
        "columns in a loop": _column_by_column,
        "rows in a loop": _row_by_row,
        "channels in a loop": _channel_by_channel,
        "torch's own": lambda images, kernels, stride: F.conv2d(images, kernels, stride=stride),
        "aten": lambda images, kernels, stride: torch.ops.aten.convolution.default(
            images, kernels, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], 1
        ),
        "torch's own, private": lambda images, kernels, stride: torch._C._nn.thnn_conv2d(
            images, kernels, kernels.shape[2:], stride=stride
        ),
        "torch's own, transposed": lambda images, kernels, stride: F.conv_transpose2d(
            images, kernels.flip(2, 3).transpose(0, 1)
        )[:, :, kernels.shape[2] - 1 : images.shape[2], kernels.shape[3] - 1 : images.shape[3]][
            :, :, ::stride, ::stride
        ],
        "float32 on the way": _through_float32("conv2d"),
    },
    "lstm_step": {
        "units in a loop": _unit_by_unit,
        "inputs in a loop": _input_by_input,
        "blended": _blended,
        "torch's own": _torch_lstm_cell,
        "aten": _aten_lstm_cell,
        "float32 on the way": _through_float32("lstm_step"),
    },
}
