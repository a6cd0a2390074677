"""Odd answers to chapter 6, right and wrong."""

import io
import math
import os
import re
import statistics
import struct
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from torchvision.utils import make_grid

from autograder.exercise import all_exercises
from tests.autograder.book import solution


def _read_by_hand(logdir):
    """All events of all files, oldest first, without EventAccumulator."""
    events = [e for f in Path(logdir).glob("*tfevents*") for e in LegacyEventFileLoader(str(f)).Load()]
    found = defaultdict(dict)
    for event in sorted(events, key=lambda e: e.wall_time):
        for value in event.summary.value:
            found[value.tag][event.step] = value.simple_value
    return {
        tag: (torch.tensor(sorted(v), dtype=torch.long), torch.tensor([v[s] for s in sorted(v)], dtype=torch.double))
        for tag, v in found.items()
    }


def _best_with_numpy(logdir, tag, mode="max", *, verbose=False):
    best, name = None, None
    for run in sorted(p for p in Path(logdir).glob("*") if p.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        try:
            values = np.array([e.value for e in events.Scalars(tag)])
        except KeyError:
            continue
        if np.isnan(values).all():
            continue
        value = np.nanmax(values) if mode == "max" else np.nanmin(values)
        if best is None or (value > best if mode == "max" else value < best):
            best, name = value, run.name
    return name


def _best_rounded(logdir, tag, mode="max"):
    better = max if mode == "max" else min
    scores = {}
    for run in sorted(p for p in Path(logdir).iterdir() if p.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        if tag in events.Tags()["scalars"]:
            scores[run.name] = round(better(e.value for e in events.Scalars(tag)), 2)
    return better(scores, key=scores.get)


def _best_by_listdir(logdir, tag, mode="max"):
    best_name, best_value = None, None
    for name in sorted(os.listdir(logdir)):
        events = EventAccumulator(os.path.join(logdir, name))
        events.Reload()
        if tag not in events.Tags()["scalars"]:
            continue
        values = [e.value for e in events.Scalars(tag)]
        value = max(values) if mode == "max" else min(values)
        if best_value is None or (value > best_value if mode == "max" else value < best_value):
            best_name, best_value = name, value
    return best_name


def _best_by_key(logdir, tag, mode="max"):
    scores = {}
    for run in Path(logdir).iterdir():
        if run.is_dir():
            events = EventAccumulator(str(run)).Reload()
            if tag in events.Tags()["scalars"]:
                values = [e.value for e in events.Scalars(tag)]
                scores[run.name] = max(values) if mode == "max" else min(values)
    return max(scores, key=scores.get) if mode == "max" else min(scores, key=scores.get)


def _best_from_infinity(logdir, tag, mode="max"):
    best, name = (-math.inf if mode == "max" else math.inf), None
    for run in Path(logdir).iterdir():
        events = EventAccumulator(str(run)).Reload() if run.is_dir() else None
        for e in events.Scalars(tag) if events and tag in events.Tags()["scalars"] else []:
            if (e.value > best) if mode == "max" else (e.value < best):
                best, name = e.value, run.name
    return name


def _best_with_files_below(logdir, tag, mode="max"):
    found = {}
    for file in Path(logdir).glob("*/**/*tfevents*"):
        events = EventAccumulator(str(file)).Reload()
        if tag in events.Tags()["scalars"]:
            name = file.relative_to(logdir).parts[0]
            found.setdefault(name, []).extend(e.value for e in events.Scalars(tag))
    better = max if mode == "max" else min
    return better(found, key=lambda name: better(found[name]))


def _read_file_by_file(logdir):
    """The files in the order of their numbers, where each value takes the place of those before it."""
    found = defaultdict(dict)
    for file in sorted(Path(logdir).glob("*tfevents*"), key=lambda path: int(path.name.split(".")[3])):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag].update({e.step: e.value for e in events.Scalars(tag)})
    return {
        tag: (torch.tensor(sorted(v)), torch.tensor([v[s] for s in sorted(v)], dtype=torch.float64))
        for tag, v in found.items()
    }


def _read_a_part(logdir):
    events = EventAccumulator(str(logdir), size_guidance={"scalars": 500}).Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        newest = {e.step: e.value for e in sorted(events.Scalars(tag), key=lambda e: e.wall_time)}
        steps = sorted(newest)
        curves[tag] = (torch.tensor(steps), torch.tensor([newest[s] for s in steps], dtype=torch.float64))
    return curves


def _scaled(weight, equal=lambda low, high: low == high, smallest=0.0):
    low, high = weight.amin((1, 2, 3), True), weight.amax((1, 2, 3), True)
    return torch.where(equal(low, high), 0.5, (weight - low) / (high - low).clamp(min=smallest))


def _smooth_by_cumsum(values, weight):
    n = torch.arange(1, len(values) + 1, dtype=torch.float64)
    if weight == 0:
        return values.clone()
    return (1 - weight) * weight**n * (values * weight**-n).cumsum(0) / (1 - weight**n)


def _without_frozen(writer, model, step):
    total = 0.0
    for name, p in model.named_parameters():
        if p.requires_grad and p.grad is not None:
            writer.add_histogram(f"gradients/{name}", p.grad, step)
            total += p.grad.pow(2).sum().item()
    writer.add_scalar("grad_norm", math.sqrt(total), step)


def _band_by_squares(runs):
    steps, mean, _ = _band_by_sets(runs)
    squares = _band_by_sets([(s, v * v) for s, v in runs])[1]
    return steps, mean, (squares - mean * mean).sqrt()


def _band_by_statistics(runs):
    tables = [dict(zip(s.tolist(), v.tolist(), strict=True)) for s, v in runs]
    common = [step for step in tables[0] if all(step in table for table in tables)]
    rows = [[table[step] for table in tables] for step in common]
    means, deviations = [statistics.fmean(row) for row in rows], [statistics.pstdev(row) for row in rows]
    return torch.tensor(common, dtype=torch.int64), torch.DoubleTensor(means), torch.DoubleTensor(deviations)


def _by_numpy_place(images, columns):
    n, c, h, w = images.shape
    grid = np.zeros((c, math.ceil(n / columns) * h, columns * w), images.numpy().dtype)
    for i, image in enumerate(images.numpy()):
        row, column = divmod(i, columns)
        grid[:, row * h : (row + 1) * h, column * w : (column + 1) * w] = image
    return torch.from_numpy(grid)


def _by_cat(images, columns):
    padded = F.pad(images, (0, 0, 0, 0, 0, 0, 0, -len(images) % columns))
    return torch.cat([torch.cat(list(row), dim=2) for row in padded.split(columns)], dim=1)


def _by_canvas(images, columns):
    n, c, h, w = images.shape
    canvas = torch.zeros(c, math.ceil(n / columns) * h, columns * w)
    for i in range(n):
        row, column = i // columns, i % columns
        canvas[:, row * h : (row + 1) * h, column * w : (column + 1) * w] = images[i]
    return canvas


def _by_cat_of_a_list(images, columns):
    padded = torch.cat([images] + [torch.zeros(1, *images.shape[1:])] * (-len(images) % columns))
    return torch.cat([torch.cat(list(padded[i : i + columns]), 2) for i in range(0, len(padded), columns)], 1)


def _by_make_grid(images, columns):
    n, c, h, w = images.shape
    padded = torch.cat([images, torch.zeros(-n % columns, c, h, w)])
    return make_grid(padded, nrow=columns, padding=0)[:c]


def _norm_of_stack(writer, model, step):
    norms = []
    for name, p in model.named_parameters():
        if p.grad is not None:
            writer.add_histogram(f"gradients/{name}", p.grad, step)
            norms.append(p.grad.norm())
    writer.add_scalar("grad_norm", torch.stack(norms).norm(), step)


def _norm_of_norms(writer, model, step):
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    total = torch.nn.utils.get_total_norm(list(gradients.values()))
    writer.add_scalar(scalar_value=total, tag="grad_norm", global_step=torch.tensor(step))
    for name in reversed(list(gradients)):
        writer.add_histogram(tag="gradients/" + name, values=gradients[name].numpy(), global_step=step, bins="auto")


def _norm_in_float64(writer, model, step):
    gradients = {n: p.grad.double().numpy() for n, p in model.named_parameters() if p.grad is not None}
    for name, gradient in gradients.items():
        writer.add_histogram(f"gradients/{name}", gradient, step)
    norm = float(np.linalg.norm(np.concatenate([g.ravel() for g in gradients.values()])))
    writer.add_scalar("grad_norm", norm, step)
    return norm


def _norm_by_clipping(writer, model, step):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad.flatten(), step)
    writer.add_scalar("grad_norm", torch.nn.utils.clip_grad_norm_(model.parameters(), math.inf).item(), step)
    writer.flush()


def _zero_grad_afterwards(writer, model, step):
    _norm_by_clipping(writer, model, step)
    model.zero_grad(set_to_none=False)


def _clips_to_one(writer, model, step):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad, step)
    writer.add_scalar("grad_norm", torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item(), step)


def _closed_form(values, weight):
    n = torch.arange(1, len(values) + 1, dtype=torch.float64)
    lags = n[:, None] - n  # (n, n)
    powers = torch.where(lags >= 0, (1 - weight) * torch.tensor(weight, dtype=torch.float64) ** lags.clamp(min=0), 0.0)
    return powers @ values / (1 - weight**n)


def _smooth_list(values, weight):
    s, out = 0.0, []
    for i, x in enumerate(values.tolist(), start=1):
        s += (1 - weight) * (x - s)
        out.append(s / (1 - weight**i))
    return torch.tensor(out, dtype=torch.float64)


def _band_by_sets(runs):
    tables = [dict(zip(s.tolist(), v.tolist(), strict=True)) for s, v in runs]
    steps = sorted(set(tables[0]).intersection(*tables))
    table = np.array([[t[s] for s in steps] for t in tables], dtype=np.float64).reshape(len(runs), len(steps))
    return torch.tensor(steps, dtype=torch.int64), torch.from_numpy(table.mean(0)), torch.from_numpy(table.std(0))


def _embed_with_inference(writer, model, layer, images, labels):
    modes = {name: module.training for name, module in model.named_modules()}
    found = {}

    def keep(module, inputs, output):
        found["x"] = output.detach().flatten(start_dim=1).clone()

    handle = dict(model.named_modules())[layer].register_forward_hook(keep)
    try:
        model.eval()
        for _ in range(2):  # twice is wasteful, and right
            model(images)
    finally:
        handle.remove()
        for name, module in model.named_modules():
            module.training = modes[name]
    writer.add_embedding(found["x"], labels, images, 3, "features")


def _embed_in_batches(writer, model, layer, images, labels):
    parts, modes = [], [m.training for m in model.modules()]
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: parts.append(o.detach().clone()))
    try:
        model.eval()
        with torch.no_grad():
            for image in images:
                model(image[None])
    finally:
        handle.remove()
        for module, mode in zip(model.modules(), modes, strict=True):
            module.training = mode
    writer.add_embedding(torch.cat(parts).flatten(1), metadata=labels, label_img=images)


def _embed_plainly(writer, model, layer, images, labels):
    features = []
    handle = dict(model.named_modules())[layer].register_forward_hook(
        lambda m, i, o: features.append(o.detach().flatten(1))
    )
    model.eval()
    with torch.no_grad():
        model(images)
    handle.remove()
    writer.add_embedding(features[0], metadata=labels.tolist(), label_img=images)


def _embed_with_arrays(writer, model, layer, images, labels):
    store = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: store.update(out=o.detach()))
    model(images)
    handle.remove()
    features = store["out"].reshape(len(images), -1).cpu().numpy()
    writer.add_embedding(
        features, metadata=[str(int(one)) for one in labels], label_img=images, tag=layer, global_step=3
    )


def _embed_with_one_mode(writer, model, layer, images, labels):
    was, kept = model.training, []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    model.eval()
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
        model.train(was)
    writer.add_embedding(kept[0].flatten(1), metadata=[str(label) for label in labels], label_img=images)


def _embed_with_graph(writer, model, layer, images, labels):
    kept = {}

    def keep(module, inputs, output):
        kept["x"] = output

    handle = model.get_submodule(layer).register_forward_hook(keep)
    model.eval()
    model(images)
    handle.remove()
    model.train()
    writer.add_embedding(kept["x"].flatten(1), metadata=labels, label_img=images)


def _embed_with_clone(writer, model, layer, images, labels):
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.detach().clone()))
    with torch.inference_mode():
        model(images)
    handle.remove()
    writer.add_embedding(kept[0].flatten(1), metadata=list(labels), label_img=images)


def _embed_with_other_labels(writer, model, layer, images, labels):
    _embed_plainly(writer, model, layer, images, labels + 1)


def _embed_without_thumbnails(writer, model, layer, images, labels):
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o.detach()))
    model(images)
    handle.remove()
    writer.add_embedding(kept[0].flatten(1), labels.tolist())


def _embed_numbers(writer, model, layer, images, labels):
    writer.add_embedding(images.flatten(1), metadata=labels, label_img=images)


def _train_counting_seen(model, batches, validation, optimizer, writer, epochs):
    model.train()
    loss_fn = torch.nn.MSELoss()
    for epoch in range(epochs):
        for i, batch in enumerate(batches):
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss/train", float(loss.detach()), global_step=epoch * len(batches) + i)
        model.train(False)
        with torch.inference_mode():
            value = loss_fn(model(validation[0]), validation[1]).item()
        model.train()
        writer.add_scalar(tag="loss/validation", scalar_value=value, global_step=(epoch + 1) * len(batches))
        writer.flush()


def _train_and_return(model, batches, validation, optimizer, writer, epochs):
    _train_counting_seen(model, batches, validation, optimizer, writer, epochs)
    return model


def _train_that_forgets_zero_grad(model, batches, validation, optimizer, writer, epochs):
    step = 0
    for _ in range(epochs):
        model.train()
        for x, y in batches:
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            writer.add_scalar("loss/train", loss.item(), step)
            step += 1
        model.eval()
        with torch.no_grad():
            writer.add_scalar("loss/validation", F.mse_loss(model(validation[0]), validation[1]).item(), step)
    model.train()


class _ThrottledWithCounter:
    def __init__(self, writer, every, quiet=True):
        self._inner, self._every, self._n, self._last = writer, every, Counter(), {}

    def add_scalar(self, tag, value, step=None):
        passed = self._n[tag] % self._every == 0
        if passed:
            self._inner.add_scalar(tag=tag, scalar_value=value, global_step=step)
        self._last[tag] = None if passed else (value, step)
        self._n.update([tag])

    def close(self):
        for tag in sorted(self._last, reverse=True):
            if self._last[tag] is not None:
                self._inner.add_scalar(tag, *self._last[tag])
        self._inner.flush()
        self._inner.close()


class _ThrottledOnItsClass(_ThrottledWithCounter):
    def __init__(self, writer, every):
        self._inner, self._every = writer, every
        _ThrottledOnItsClass._n, _ThrottledOnItsClass._last = Counter(), {}


class _ThrottledWithoutZeros(_ThrottledWithCounter):
    def close(self):
        for tag, last in self._last.items():
            if last and last[0]:
                self._inner.add_scalar(tag, *last)
        self._inner.close()


class _ThrottledWithoutStepZero(_ThrottledWithCounter):
    def close(self):
        for tag, last in self._last.items():
            if last and last[1]:
                self._inner.add_scalar(tag, *last)
        self._inner.close()


class _ThrottledThatKeepsOne(_ThrottledWithCounter):
    def close(self):
        tag = list(self._last)[-1] if self._last else None
        if tag and self._last[tag]:
            self._inner.add_scalar(tag, *self._last[tag])
        self._inner.close()


def _records_by_slices(path):
    data, out = Path(path).read_bytes(), []
    view = io.BytesIO(data)
    while True:
        head = view.read(8)
        if len(head) < 8 or len(view.read(4)) < 4:
            return out
        body = view.read(int.from_bytes(head, "little"))
        if len(view.read(4)) < 4:
            return out
        out.append(body)


def _records_of_two_bytes(path):
    data, out, i = Path(path).read_bytes(), [], 0
    while i + 12 <= len(data):
        (n,) = struct.unpack_from("<H", data, i)
        if i + 16 + n > len(data):
            break
        out.append(data[i + 12 : i + 12 + n])
        i += 16 + n
    return out


def _records_of_short_length(path):
    data, out, i = Path(path).read_bytes(), [], 0
    while i + 12 <= len(data) and i + 16 + data[i] <= len(data):  # one byte of the length
        out.append(data[i + 12 : i + 12 + data[i]])
        i += 16 + data[i]
    return out


RIGHT = {
    "run_name": {
        "one expression": lambda hparams: (
            re.sub(
                "/",
                "-",
                ",".join(f"{k}={format(v, 'g') if type(v) is float else v}" for k, v in sorted(hparams.items())),
            )
            if hparams
            else "default"
        ),
        "other name of the parameter": lambda settings: solution(all_exercises()["run_name"])(settings),
    },
    "dead_units": {
        "largest value": lambda activations: (
            (activations.transpose(0, 1).flatten(1).amax(1) == 0).double().mean().item()
        ),
        "NumPy": lambda a: float(np.mean([not np.any(a.numpy()[:, unit]) for unit in range(a.shape[1])])),
        "sums": lambda activations: sum(1 for unit in activations.unbind(1) if unit.sum() == 0) / activations.shape[1],
    },
    "filters_as_images": {
        "in a loop": lambda weight: torch.stack(
            [torch.full_like(f, 0.5) if f.max() == f.min() else (f - f.min()) / (f.max() - f.min()) for f in weight]
        ),
        "equal or not": _scaled,
        "NaN to a half": lambda w: (
            (w - w.flatten(1).min(1).values.view(-1, 1, 1, 1)) / (w.amax((1, 2, 3), True) - w.amin((1, 2, 3), True))
        ).nan_to_num(0.5),
    },
    "image_grid": {
        "NumPy, place by place": _by_numpy_place,
        "cat": _by_cat,
        "always float32": lambda images, columns: _by_cat(images, columns).float(),
        "a canvas of zeros": _by_canvas,
        "cat with a list": _by_cat_of_a_list,
        "make_grid of a full number": _by_make_grid,
    },
    "log_gradients": {
        "keywords and another order": _norm_of_norms,
        "clip_grad_norm_ to infinity": _norm_by_clipping,
        "the norm of stacked norms": _norm_of_stack,
        "float64, and returns the norm": _norm_in_float64,
    },
    "smooth": {"closed form": _closed_form, "a list": _smooth_list},
    "read_scalars": {
        "its own loader": _read_by_hand,
        "NumPy arrays": lambda logdir: {k: (s.numpy(), v.numpy()) for k, (s, v) in _read_by_hand(logdir).items()},
    },
    "best_run": {
        "NumPy": _best_with_numpy,
        "listdir, the best so far": _best_by_listdir,
        "the folder's order, max with a key": _best_by_key,
        "from infinity": _best_from_infinity,
    },
    "seed_band": {"dictionaries and NumPy": _band_by_sets, "statistics": _band_by_statistics},
    "embed": {
        "positional, run twice": _embed_with_inference,
        "image by image": _embed_in_batches,
        "plain, stays in eval mode": _embed_plainly,
        "NumPy, texts and a tag": _embed_with_arrays,
        "one mode for all, texts of tensors": _embed_with_one_mode,
        "with a graph, labels as given": _embed_with_graph,
        "clone, a list of tensors": _embed_with_clone,
    },
    "train_and_log": {
        "steps computed, another way to eval": _train_counting_seen,
        "returns the model": _train_and_return,
    },
    "ThrottledWriter": {"a Counter, keywords": _ThrottledWithCounter},
    "read_records": {"a stream": _records_by_slices},
}

WRONG = {
    "run_name": {
        "five digits": lambda hparams: (
            ",".join(
                f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(hparams.items())
            ).replace("/", "-")
            or "default"
        ),
        "ten digits": lambda hparams: (
            ",".join(
                f"{k}={v:.10g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(hparams.items())
            ).replace("/", "-")
            or "default"
        ),
        "four digits": lambda hparams: ",".join(
            f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(hparams.items())
        ).upper(),
        "sorted as texts": lambda hparams: (
            ",".join(sorted(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in hparams.items())).replace(
                "/", "-"
            )
            or "default"
        ),
        "a trailing comma": lambda hparams: "".join(f"{k}={hparams[k]}," for k in sorted(hparams)),
    },
    "dead_units": {
        "nearly zero": lambda activations: (
            (activations.transpose(0, 1).flatten(1).amax(1) < 1e-6).float().mean().item()
        ),
        "a tensor": lambda activations: (activations.transpose(0, 1).flatten(1) == 0).all(1).float().mean(),
        "the mean over places": lambda activations: (
            (activations.flatten(2).mean(2) if activations.ndim > 2 else activations).eq(0).any(0).float().mean().item()
        ),
    },
    "filters_as_images": {
        "a difference of at least 1e-6": lambda weight: _scaled(weight, smallest=1e-6),
        "a difference of at least 1e-12": lambda weight: _scaled(weight, smallest=1e-12),
        "nearly equal": lambda weight: _scaled(weight, equal=torch.isclose),
        "sigmoid": lambda weight: weight.sigmoid(),
        "clamped": lambda weight: weight.clamp(0, 1),
        "a small number against 0 / 0": lambda w: (
            (w - w.amin((1, 2, 3), True)) / (w.amax((1, 2, 3), True) - w.amin((1, 2, 3), True) + 1e-2)
        ),
    },
    "image_grid": {
        "make_grid": lambda images, columns: __import__("torchvision").utils.make_grid(images, columns, padding=0),
    },
    "log_gradients": {
        "clips": _clips_to_one,
        "without frozen parameters": _without_frozen,
        "zero_grad": _zero_grad_afterwards,
        "only the norm": lambda writer, model, step: writer.add_scalar(
            "grad_norm", sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None) ** 0.5, step
        ),
    },
    "smooth": {
        "float32": lambda values, weight: _smooth_list(values, weight).float(),
        "cumsum": _smooth_by_cumsum,
        "n from 0": lambda values, weight: _smooth_list(values, weight) * 1.01,
        "in place": lambda values, weight: values.copy_(_smooth_list(values, weight)),
    },
    "read_scalars": {
        "all folders below": lambda logdir: {
            k: v for d in [Path(logdir), *Path(logdir).rglob("*/")] for k, v in _read_by_hand(d).items()
        },
        "a part of a long curve": _read_a_part,
        "file by file": _read_file_by_file,
        "int32": lambda logdir: {k: (s.int(), v) for k, (s, v) in _read_by_hand(logdir).items()},
        "lists": lambda logdir: {k: (s.tolist(), v.tolist()) for k, (s, v) in _read_by_hand(logdir).items()},
    },
    "best_run": {
        "the path": lambda logdir, tag, mode="max": (
            str(Path(logdir) / name) if (name := _best_with_numpy(logdir, tag, mode)) else None
        ),
        "rounded": _best_rounded,
        "min by default": lambda logdir, tag, mode="min": _best_by_key(logdir, tag, mode),
        "files below the runs": _best_with_files_below,
    },
    "seed_band": {
        "population and range": lambda runs: (*_band_by_sets(runs)[:2], _band_by_sets(runs)[2] * 2),
        "squares minus square": _band_by_squares,
    },
    "embed": {
        "the pictures themselves": _embed_numbers,
        "other labels": _embed_with_other_labels,
        "no thumbnails": _embed_without_thumbnails,
    },
    "train_and_log": {"gradients add up": _train_that_forgets_zero_grad},
    "ThrottledWriter": {
        "only one tag at the end": _ThrottledThatKeepsOne,
        "counts on the class": _ThrottledOnItsClass,
        "loses a last value of 0": _ThrottledWithoutZeros,
        "loses a last step 0": _ThrottledWithoutStepZero,
    },
    "read_records": {
        "bytearrays": lambda path: [bytearray(one) for one in _records_by_slices(path)],
        "nothing": lambda path: [],
        "two bytes of length": _records_of_two_bytes,
        "one byte of length": _records_of_short_length,
        "text": lambda path: [str(one) for one in _records_by_slices(path)],
        "with the checksum": lambda path: [one + struct.pack("<I", 0) for one in _records_by_slices(path)],
    },
}
