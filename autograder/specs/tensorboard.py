"""Trials, hints and known mistakes of the exercises of chapter 6, in the order of the notebook."""

import itertools
import math
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from autograder.evidence import Typed, collect
from autograder.exercise import exercise, trial
from autograder.probe import apply

# What stands in for a SummaryWriter ---------------------------------------------------------------------------------


class Recorder:
    """A writer that notes what it is given, and when, under the names that a SummaryWriter's parameters have."""

    def __init__(self):
        self.calls = []

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None, new_style=False, double_precision=False):
        self.calls.append(("add_scalar", tag, {"step": _step(global_step), "value": _number(scalar_value)}))

    def add_histogram(self, tag, values, global_step=None, bins="tensorflow", walltime=None, max_bins=None):
        counted = torch.as_tensor(values).detach().clone().flatten().float().sort().values  # a histogram has no order
        self.calls.append(("add_histogram", tag, {"step": _step(global_step), "values": counted}))

    def add_embedding(self, mat, metadata=None, label_img=None, global_step=None, tag="default", metadata_header=None):
        features = (
            torch.as_tensor(mat).detach().float()
        )  # a SummaryWriter takes arrays and tensors with a graph as well
        pictures = None if label_img is None else torch.as_tensor(label_img).detach()
        noted = {"mat": collect(features), "metadata": _labels(metadata), "label_img": collect(pictures)}
        self.calls.append(("add_embedding", tag, noted))

    def flush(self):
        """A SummaryWriter may be flushed at any time: it changes nothing that is compared."""

    def close(self):
        self.calls.append(("close",))


def _number(value):
    """The number in what add_scalar takes: a number, or a tensor or array of one element."""
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def _step(step):
    return None if step is None else int(step)


def _labels(metadata):
    """Labels as the projector shows them, one text each: 3, "3", a tensor and its text "tensor(3)" are all the same."""
    if metadata is None:
        return None
    found = []
    for label in metadata:
        [label] = label if isinstance(label, (list, tuple)) and len(label) == 1 else [label]  # a row of one column
        label = label.item() if hasattr(label, "item") else label
        found.append(str(label).removeprefix("tensor(").removesuffix(")"))
    return found


def _by_tag(calls):
    """The calls under each tag, in their order; which tag comes first is free."""
    tags = sorted({call[:2] for call in calls})
    return {" ".join(tag): [call[2] for call in calls if call[:2] == tag] for tag in tags}


A_RECORDER = "a writer that notes each call"
"""What a trial shows as its writer; the probe puts a Recorder in its place."""


def write_events(folder, files):
    """Event files of scalars: files is {name: [(tag, step, value, wall time), ...]}; a folder's name may stand before."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    for name, rows in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if rows is None:  # a folder or a file that is no event file
            path.write_bytes(b"not an event file")
            continue
        with path.open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
            for tag, step, value, wall_time in rows:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.write(Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


def events_file(number):
    """The name of an event file: TensorBoard reads those of a directory in alphabetical order."""
    return f"events.out.tfevents.{number}.course"


def call_with_logs(function, arguments):
    """A probe: write the event files that `logdir` describes, and call the function with their folder."""
    with tempfile.TemporaryDirectory() as folder:
        write_events(folder, arguments["logdir"])
        return {"result": collect(apply(function, arguments | {"logdir": folder}))}


def call_with_logs_for_curves(function, arguments):
    """A probe: like `call_with_logs`, where NumPy arrays in the pairs of the result count as tensors."""

    def as_tensors(result):
        if not isinstance(result, dict):
            return result
        return {
            tag: tuple(torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in pair)
            if isinstance(pair, tuple)
            else pair
            for tag, pair in result.items()
        }

    return call_with_logs(lambda logdir: as_tensors(apply(function, {"logdir": logdir})), arguments)


# Recall -------------------------------------------------------------------------------------------------------------


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`sorted(hparams)` gives the names in alphabetical order, and `','.join(parts)` puts a list of texts together.",
        "`f'{value:g}'` writes a float short. Ask `isinstance(value, float)` first: the format `g` would turn the "
        "integer 1000000 into 1e+06.",
        "`text.replace('/', '-')` at the end; `text or 'default'` gives the second where the first is empty.",
    ],
)
def run_name(rng):
    """Trials for the settings of a run as the name of its directory."""
    yield trial("a float and an int", hparams={"lr": 10.0 ** -rng.integer(2, 5), "batch_size": rng.integer(16, 999)})
    yield trial("not in alphabetical order", hparams={"width": rng.integer(2, 99), "depth": 3, "optimizer": "adam"})
    yield trial("rounding in the last digit", hparams={"dropout": 0.1 + 0.2})
    yield trial("floats with many digits", hparams={"ratio": rng.integer(1, 7) / 7, "budget": 1234567.0})
    yield trial("a very small float", hparams={"weight_decay": 0.0000125})
    yield trial("a whole float, and a large int", hparams={"momentum": 1.0, "samples": 1_000_003})
    yield trial("a bool and a name in capitals", hparams={"nesterov": True, "Seed": rng.integer(0, 99)})
    yield trial("a slash in a value and in a name", hparams={"model": "bert/small/v2", "data/split": "a"})
    yield trial("a name that begins another", hparams={"lr2": 10.0 ** -rng.integer(2, 5), "lr": 0.1})
    yield trial("no settings", hparams={})


@run_name.mistake(
    "The settings stand in the order in which they were given. Sort them by name: equal runs, equal names."
)
def keeps_the_order(hparams):
    parts = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in hparams.items()]
    return ",".join(parts).replace("/", "-") or "default"


@run_name.mistake(
    "A `/` is still there, so that the run lies in a directory of a directory. Replace it in names and in values."
)
def keeps_slashes(hparams):
    parts = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(hparams.items())]
    return ",".join(parts) or "default"


@run_name.mistake("Floats are written in full, such as 0.30000000000000004. The format `g` keeps six digits.")
def writes_floats_in_full(hparams):
    return ",".join(f"{k}={v}" for k, v in sorted(hparams.items())).replace("/", "-") or "default"


@run_name.mistake("The format `g` is for floats alone: it turns the whole number 1000003 into 1e+06, and True into 1.")
def formats_all_numbers(hparams):
    parts = [f"{k}={v}" if isinstance(v, str) else f"{k}={v:g}" for k, v in sorted(hparams.items())]
    return ",".join(parts).replace("/", "-") or "default"


@run_name.mistake(
    "Without settings the name is empty, and the writer would write into the folder above. Use `default`."
)
def empty_name(hparams):
    parts = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in sorted(hparams.items())]
    return ",".join(parts).replace("/", "-")


@run_name.mistake(
    "You sorted the finished texts, and `lr2=…` comes before `lr=…`, since `2` comes before `=`. Sort the names."
)
def sorts_the_texts(hparams):
    parts = sorted(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in hparams.items())
    return ",".join(parts).replace("/", "-") or "default"


def _after_relu(rng, *shape, dead):
    """Activations of which the first `dead` units, in random places, are 0 everywhere, and many others here and there."""
    values = rng.normal(*shape).abs() * rng.booleans(*shape, share=0.6)
    units = rng.permutation(shape[1])
    values[0, units[dead:]] = 0.5 + rng.uniform(len(units) - dead, *shape[2:])  # alive in the first example
    values[:, units[:dead]] = 0
    return values[rng.permutation(shape[0])]


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "First ask of every number whether it is 0. The result has the shape of `activations` and dtype bool.",
        "A unit is dead if that is true along *all* axes but axis 1. `transpose(0, 1).flatten(1)` gives one row per unit.",
        "The mean of a bool tensor is the share of `True`; it needs `.float()` first. `.item()` makes a Python float.",
    ],
)
def dead_units(rng):
    """Trials for the share of units that are 0 for all examples."""
    one_place = torch.zeros(2, 3, 2, 2)
    one_place[1, 2, 0, 1] = 1e-20

    def units(low):
        """So many units, and some of them dead: the share is another one for each seed."""
        return rng.integer(low, low + 30), rng.integer(1, low)

    width, dead = units(12)
    yield trial("a linear layer", activations=_after_relu(rng, 5, width, dead=dead))
    width, dead = units(10)
    yield trial("a convolution", activations=_after_relu(rng, 4, width, 2, 3, dead=dead))
    yield trial("a channel that lives at one place of one example", activations=one_place)
    width, dead = units(15)
    yield trial("one example", activations=_after_relu(rng, 1, width, dead=dead))
    yield trial("one unit, alive", activations=_after_relu(rng, 6, 1, dead=0))
    yield trial("all dead", activations=torch.zeros(3, 4))
    yield trial("none dead, float64", activations=_after_relu(rng, 5, 3, dead=0).double())
    yield trial("one pixel per channel", activations=_after_relu(rng, 3, 4, 1, 1, dead=1))
    width, dead = units(11)
    yield trial("stored transposed", activations=_after_relu(rng, 6, width, dead=dead).T.contiguous().T)


@dead_units.mistake("This is the share of zeros. A unit that is 0 for some examples is not dead: ReLUs do that.")
def share_of_zeros(activations):
    return (activations == 0).float().mean().item()


@dead_units.mistake("You count a unit as dead if it is 0 *somewhere*. It is dead only if it is 0 for *all* examples.")
def zero_somewhere(activations):
    return (activations == 0).transpose(0, 1).flatten(1).any(dim=1).float().mean().item()


@dead_units.mistake(
    "You take each place of a feature map for a unit. After a convolution a unit is a whole channel: reduce h and w too."
)
def places_as_units(activations):
    return (activations == 0).all(dim=0).float().mean().item()


@dead_units.mistake("Axis 1 counts the units, axis 0 the examples. You counted examples for which all units are 0.")
def counts_examples(activations):
    return (activations == 0).flatten(1).all(dim=1).float().mean().item()


@dead_units.mistake("This is the share of units that are alive. The dead ones are the rest: 1 minus that.")
def share_alive(activations):
    return (activations != 0).transpose(0, 1).flatten(1).any(dim=1).float().mean().item()


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "(weight − smallest) / (largest − smallest), where each filter has its own smallest and largest weight.",
        "`weight.amin(dim=(1, 2, 3), keepdim=True)` has shape (filters, 1, 1, 1), which broadcasts against the weights.",
        "Where largest = smallest the division gives NaN: `torch.where(condition, scaled, 0.5)` chooses.",
    ],
)
def filters_as_images(rng):
    """Trials for filters scaled to [0, 1], each on its own."""
    constant = rng.normal(3, 2, 2, 2)
    constant[1] = -0.7
    yield trial("grey filters", weight=rng.normal(4, 1, 3, 2))
    yield trial("three colours", weight=rng.normal(2, 3, 2, 4))
    yield trial("a filter of equal weights", weight=constant)
    yield trial("one filter", weight=rng.normal(1, 2, 3, 3))
    yield trial("one weight per filter", weight=rng.normal(3, 1, 1, 1))
    yield trial("all positive, float64", weight=5 + rng.normal(3, 1, 2, 3, dtype=torch.float64).abs())
    yield trial("all negative, large", weight=-100 - 50 * rng.normal(2, 2, 2, 2).abs())
    yield trial(
        "filters of very different size",
        weight=rng.normal(3, 1, 2, 2) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1, 1),
    )
    yield trial("tiny weights", weight=rng.normal(2, 1, 2, 3) * torch.tensor([1e-8, 1e-30]).view(2, 1, 1, 1))
    # isclose takes 1000 and 1000.001 for equal
    yield trial("large weights, nearly equal", weight=1000 + 1e-3 * rng.uniform(2, 1, 2, 2).double())


@filters_as_images.mistake(
    "You scaled all filters together, so that small ones are a flat grey. Reduce the axes 1, 2 and 3 and keep axis 0."
)
def scales_together(weight):
    low, high = weight.min(), weight.max()
    return torch.where(
        (weight.amax(dim=(1, 2, 3), keepdim=True) > weight.amin(dim=(1, 2, 3), keepdim=True)),
        (weight - low) / (high - low),
        0.5,
    )


@filters_as_images.mistake(
    "You scaled each channel on its own, which changes the colours. The channels of a filter share one scale."
)
def scales_each_channel(weight):
    low, high = weight.amin(dim=(2, 3), keepdim=True), weight.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (weight - low) / (high - low), 0.5)


@filters_as_images.mistake("A filter of equal weights became NaN: 0 / 0. Decide what it is: 0.5 everywhere.")
def divides_zero_by_zero(weight):
    low, high = weight.amin(dim=(1, 2, 3), keepdim=True), weight.amax(dim=(1, 2, 3), keepdim=True)
    return (weight - low) / (high - low)


@filters_as_images.mistake("A filter of equal weights became 0, which is black. It is 0.5 everywhere.")
def constant_is_black(weight):
    low, high = weight.amin(dim=(1, 2, 3), keepdim=True), weight.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (weight - low) / (high - low), 0.0)


@filters_as_images.mistake(
    "Dividing by the largest weight leaves the negative ones below 0, where TensorBoard draws black. Subtract the "
    "smallest first."
)
def divides_by_the_largest(weight):
    return weight / weight.abs().amax(dim=(1, 2, 3), keepdim=True)


@filters_as_images.mistake(
    "The smallest difference that you divide by is no longer the filter's own, so that a filter of tiny weights does not "
    "reach 1. Treat largest = smallest as a case of its own, and divide by the difference as it is."
)
def clamps_the_difference(weight):
    low, high = weight.amin(dim=(1, 2, 3), keepdim=True), weight.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (weight - low) / (high - low).clamp(min=1e-6), 0.5)


@filters_as_images.mistake(
    "A filter whose weights are *nearly* equal became 0.5. Only where all are exactly equal is there nothing to scale."
)
def nearly_equal_is_equal(weight):
    low, high = weight.amin(dim=(1, 2, 3), keepdim=True), weight.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(torch.isclose(high, low), 0.5, (weight - low) / (high - low))


# Apply --------------------------------------------------------------------------------------------------------------


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "How many rows? n / columns, rounded up: `-(-n // columns)`. Fill up with images of zeros to rows · columns.",
        "Cut the first axis in two, (rows, columns, c, h, w). In the result, a row of pixels runs through all columns: "
        "which order of the five axes has h next to rows, and w next to columns?",
        "(c, rows, h, columns, w), by `permute`; then `reshape` merges neighbours. Or write each image into its place "
        "of a tensor of zeros, in a loop.",
    ],
)
def image_grid(rng):
    """Trials for images in rows of `columns`, in one picture."""
    yield trial("the last row is short", images=rng.uniform(5, 1, 2, 3), columns=3)
    yield trial("full rows, three colours", images=rng.uniform(6, 3, 3, 2), columns=2)
    yield trial("fewer images than columns", images=rng.uniform(2, 2, 2, 2), columns=4)
    yield trial("one column", images=rng.uniform(3, 1, 2, 4), columns=1)
    yield trial("one row", images=rng.uniform(4, 3, 1, 2), columns=4)
    yield trial("one image of one pixel", images=rng.uniform(1, 1, 1, 1), columns=1)
    yield trial("square in every way", images=rng.uniform(4, 2, 2, 2), columns=2)


def _grid(images, columns, rows, fill):
    n, c, h, w = images.shape
    grid = torch.full((c, rows * h, columns * w), fill, dtype=torch.float64).to(images.dtype)
    for index in range(min(n, rows * columns)):
        top, left = index // columns * h, index % columns * w
        grid[:, top : top + h, left : left + w] = images[index]
    return grid


@image_grid.mistake(
    "`reshape` alone cuts the same line of numbers anew, and mixes the images' rows. Bring the axes into the order "
    "(c, rows, h, columns, w) first."
)
def reshapes_alone(images, columns):
    n, c, h, w = images.shape
    rows = -(-n // columns)
    places = torch.cat([images, images.new_zeros(rows * columns - n, c, h, w)])
    return places.reshape(c, rows * h, columns * w)


@image_grid.mistake(
    "You fill the columns first. Pictures are read in rows: the second image stands right of the first."
)
def fills_columns_first(images, columns):
    n, c, h, w = images.shape
    rows = -(-n // columns)
    grid = images.new_zeros(c, rows * h, columns * w)
    for index in range(n):
        top, left = index % rows * h, index // rows * w
        grid[:, top : top + h, left : left + w] = images[index]
    return grid


@image_grid.mistake("The last row is missing when it is not full: the number of rows is n / columns rounded *up*.")
def drops_the_last_row(images, columns):
    return _grid(images, columns, rows=len(images) // columns, fill=0.0)


@image_grid.mistake("With fewer images than columns your picture is narrower. The width is always columns · w.")
def narrows(images, columns):
    return _grid(images, min(columns, len(images)), rows=-(-len(images) // columns), fill=0.0)


@image_grid.mistake("Places without an image are white here. Fill them with 0.")
def fills_with_white(images, columns):
    return _grid(images, columns, rows=-(-len(images) // columns), fill=1.0)


@image_grid.mistake("When the last row is full, you add an empty one. Rounding n / columns up is `-(-n // columns)`.")
def one_row_too_many(images, columns):
    return _grid(images, columns, rows=len(images) // columns + 1, fill=0.0)


def log_to_recorder(function, arguments):
    """A probe: give the function a Recorder as its writer, and report what was written and the gradients afterwards."""
    model, gradients = arguments["model"]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    writer = Recorder()
    apply(function, arguments | {"model": model, "writer": writer})
    return {
        "calls of the writer": _by_tag(writer.calls),
        "gradients afterwards": [collect(parameter.grad) for parameter in model.parameters()],
    }


def _model_with_gradients(rng, *shapes, without=()):
    """A model with parameters of these shapes, and a gradient for each, or None for those whose number is in `without`."""
    model = nn.Module()
    model.body = nn.Module()
    gradients = []
    for number, shape in enumerate(shapes):
        owner = model.body if number % 2 else model
        owner.register_parameter(f"p{number}", nn.Parameter(rng.normal(*shape)))
    for number, parameter in enumerate(model.parameters()):
        gradients.append(None if number in without else (1 + number) * rng.normal(*parameter.shape))
    return model, gradients


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`for name, parameter in model.named_parameters()`; `parameter.grad` is a tensor or `None`.",
        "The norm of all together is not the sum of the norms: add up the *squares* of all numbers, and take the root once.",
        "`parameter.grad.square().sum()` for each, then `total**0.5`. Pass `step` to each call of the writer.",
    ],
    probe=log_to_recorder,
)
def log_gradients(rng):
    """Trials for the histograms of all gradients, and their norm. The model is shown with its gradients."""
    yield trial(
        "two parameters", writer=A_RECORDER, model=_model_with_gradients(rng, (3,), (2, 4)), step=rng.integer(1, 99)
    )
    yield trial(
        "some without a gradient",
        writer=A_RECORDER,
        model=_model_with_gradients(rng, (2,), (3, 2), (4,), (2, 2), without=(1, 2)),
        step=rng.integer(100, 999),
    )
    yield trial("one number", writer=A_RECORDER, model=_model_with_gradients(rng, (1,)), step=0)
    model, gradients = _model_with_gradients(rng, (3,), (2, 2))
    yield trial("a gradient of zeros", writer=A_RECORDER, model=(model, [gradients[0], torch.zeros(2, 2)]), step=5)
    model, gradients = _model_with_gradients(rng, (2, 3), (5,))
    yield trial("large gradients", writer=A_RECORDER, model=(model, [1e4 * one for one in gradients]), step=31)
    model, gradients = _model_with_gradients(rng, (4,), (2, 3))
    next(model.parameters()).requires_grad_(False)
    yield trial("a frozen parameter that has a gradient", writer=A_RECORDER, model=(model, gradients), step=12)


def _root(gradients):
    return sum(one.square().sum().item() for one in gradients) ** 0.5


def _gradient(parameter):
    return parameter.grad


def _has_gradient(parameter):
    return parameter.grad is not None


def _log(writer, model, step, histogram, norm, keep):
    kept = [(name, p) for name, p in model.named_parameters() if keep(p)]
    for name, parameter in kept:
        writer.add_histogram(f"gradients/{name}", histogram(parameter), step)
    gradients = [p.grad for _, p in kept if p.grad is not None]
    writer.add_scalar("grad_norm", norm(gradients), step)


@log_gradients.mistake("You added up the norms of the parameters. The norm of all together is the root of all squares.")
def adds_norms(writer, model, step):
    _log(writer, model, step, _gradient, lambda gradients: sum(one.norm().item() for one in gradients), _has_gradient)


@log_gradients.mistake("`grad_norm` is the sum of the squares: its root is missing.")
def forgets_the_root(writer, model, step):
    squares = lambda gradients: sum(one.square().sum().item() for one in gradients)  # noqa: E731
    _log(writer, model, step, _gradient, squares, _has_gradient)


@log_gradients.mistake("The histograms are of the weights. Asked for are those of the gradients: `parameter.grad`.")
def logs_the_weights(writer, model, step):
    _log(writer, model, step, lambda p: p, _root, _has_gradient)


@log_gradients.mistake(
    "A parameter without a gradient got a histogram of zeros. `None` means that no gradient arrived: leave it out."
)
def zeros_for_none(writer, model, step):
    grad = lambda p: torch.zeros_like(p) if p.grad is None else p.grad  # noqa: E731
    _log(writer, model, step, grad, _root, lambda p: True)


@log_gradients.mistake("The step is missing, so that every value stands at step 0. Pass `step` to each call.")
def forgets_the_step(writer, model, step):
    _log(writer, model, None, _gradient, _root, _has_gradient)


@log_gradients.mistake("This is the largest of the gradients' norms. Take all gradients together, as one long vector.")
def largest_norm(writer, model, step):
    largest = lambda gradients: max((one.norm().item() for one in gradients), default=0.0)  # noqa: E731
    _log(writer, model, step, _gradient, largest, _has_gradient)


@log_gradients.mistake(
    "The histograms have the step, `grad_norm` does not: it stands at step 0. Pass `step` there too."
)
def forgets_the_step_of_the_norm(writer, model, step):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad, step)
    writer.add_scalar("grad_norm", _root([p.grad for p in model.parameters() if p.grad is not None]))


@log_gradients.mistake("`grad_norm` has the step, the histograms do not: they stand at step 0. Pass `step` there too.")
def forgets_the_step_of_the_histograms(writer, model, step):
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradients/{name}", parameter.grad)
    writer.add_scalar("grad_norm", _root([p.grad for p in model.parameters() if p.grad is not None]), step)


@log_gradients.mistake(
    "The gradients are gone afterwards. The optimiser still needs them: `zero_grad()` is for the training loop to call."
)
def zeroes_the_gradients(writer, model, step):
    _log(writer, model, step, _gradient, _root, _has_gradient)
    model.zero_grad()


@log_gradients.mistake(
    "A frozen parameter that has a gradient was left out. `parameter.grad is not None` alone decides."
)
def leaves_out_the_frozen(writer, model, step):
    _log(writer, model, step, _gradient, _root, lambda p: p.requires_grad and p.grad is not None)


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Keep the running mean s in a variable that starts at 0.0, and write another number down: s / (1 − βⁿ).",
        "n counts from 1: after the first value the divisor is 1 − β, and what is shown is the value itself.",
        "The divided number must not go back into the running mean.",
    ],
)
def smooth(rng):
    """Trials for a curve as TensorBoard smooths it."""

    def values(n):
        return rng.normal(n, dtype=torch.float64)

    yield trial("a short curve", values=4 + values(5), weight=0.6)
    yield trial("strong smoothing", values=10 * values(12), weight=0.99)
    yield trial("no smoothing", values=values(4), weight=0.0)
    yield trial("one value", values=values(1), weight=0.9)
    yield trial("all values equal", values=torch.full((6,), 2.5, dtype=torch.float64), weight=0.8)
    yield trial("no values", values=values(0), weight=0.5)
    yield trial("a drawn weight", values=100 + values(9), weight=rng.number(0.2, 0.8))
    # 0.02²⁰⁰ is 0 in float64, so that who multiplies by β⁻ⁿ and βⁿ gets NaN
    yield trial("many values", values=values(200), weight=0.02)
    yield trial("every second value of a longer curve", values=values(12)[::2], weight=0.4)


def _smooth(values, weight, start, divide):
    mean, out = start, []
    for index, value in enumerate(values.tolist()):
        mean = weight * (value if mean is None else mean) + (1 - weight) * value
        out.append(mean / divide(index))
    return torch.tensor(out, dtype=torch.float64)


@smooth.mistake("The start at 0 pulls the first values down. Divide by 1 − βⁿ.")
def does_not_divide(values, weight):
    return _smooth(values, weight, 0.0, lambda index: 1.0)


@smooth.mistake(
    "Your running mean starts at the first value, which then weighs too much for long. Start at 0 and divide by 1 − βⁿ."
)
def starts_at_the_first(values, weight):
    return _smooth(values, weight, None, lambda index: 1.0)


@smooth.mistake("β and 1 − β are swapped: β is the weight of the mean so far, so that a large β smooths much.")
def swaps_the_weights(values, weight):
    return _smooth(values, 1 - weight, 0.0, lambda index: 1 - (1 - weight) ** (index + 1) or 1.0)


@smooth.mistake("The divisor is 1 − β at every step. It is 1 − βⁿ, where n is the number of values so far.")
def divides_by_a_constant(values, weight):
    return _smooth(values, weight, 0.0, lambda index: 1 - weight)


@smooth.mistake("The divided number went back into the running mean. Keep s as it is, and divide only what you show.")
def feeds_back(values, weight):
    mean, out = 0.0, []
    for index, value in enumerate(values.tolist()):
        mean = (weight * mean + (1 - weight) * value) / (1 - weight ** (index + 1))
        out.append(mean)
    return torch.tensor(out, dtype=torch.float64)


# Combine ------------------------------------------------------------------------------------------------------------


def _rows(rng, tag, steps, start):
    """A value at each step, one second apart, as float32 keeps them."""
    values = rng.normal(len(steps)).tolist()
    return [(tag, step, value, start + second) for second, (step, value) in enumerate(zip(steps, values, strict=True))]


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "`EventAccumulator(str(logdir)).Reload()` reads all event files directly in a directory. "
        "`.Tags()['scalars']` lists the tags; `.Scalars(tag)` gives events with `.step`, `.value` and `.wall_time`.",
        "A dictionary {step: value} keeps the value written into it last: go through the events from the oldest wall "
        "time to the newest.",
        "`sorted(events, key=lambda event: event.wall_time)`, then `sorted(newest)` for the steps. Say the dtypes: "
        "int64 and float64.",
    ],
    probe=call_with_logs_for_curves,
)
def read_scalars(rng):
    """Trials for reading the scalars of one run. `logdir` describes its files: {name: [(tag, step, value, wall time)]}."""
    yield trial(
        "two tags in one file",
        logdir={events_file(1): _rows(rng, "loss", [0, 1, 2], 10.0) + _rows(rng, "accuracy/val", [2, 5], 20.0)},
    )
    yield trial(
        "continued in a second file, which writes some steps again",
        logdir={
            events_file(1): _rows(rng, "loss", [0, 10, 20, 30], 10.0),
            events_file(2): _rows(rng, "loss", [20, 30, 40], 50.0) + _rows(rng, "lr", [40], 60.0),
        },
    )
    yield trial(
        "the newer file comes first in the alphabet",
        logdir={
            # step 5 was written here last, so that no order of the files will do
            events_file(9): _rows(rng, "loss", [1, 2, 3], 10.0) + _rows(rng, "loss", [5], 90.0),
            events_file(10): _rows(rng, "loss", [2, 3, 5], 50.0),
        },
    )
    yield trial(
        "a step written three times in one file", logdir={events_file(3): _rows(rng, "loss", [4, 5, 5, 5, 6], 1.0)}
    )
    yield trial("steps out of order", logdir={events_file(4): _rows(rng, "loss", [30, 10, 20, 0], 5.0)})
    yield trial("no step given: one point", logdir={events_file(5): _rows(rng, "loss", [0, 0, 0], 5.0)})
    yield trial(
        "a NaN and an infinity",
        logdir={events_file(6): [("loss", 0, 1.5, 1.0), ("loss", 1, math.inf, 2.0), ("loss", 2, math.nan, 3.0)]},
    )
    yield trial(
        "other files, and a run below",
        logdir={
            "notes.txt": None,
            events_file(7): _rows(rng, "loss", [0, 1], 1.0),
            f"validation/{events_file(8)}": _rows(rng, "loss", [0, 1, 2], 50.0),
        },
    )
    yield trial("large steps", logdir={events_file(1): _rows(rng, "tokens", [3_000_000_000, 5_000_000_000], 1.0)})
    # size_guidance would thin it out; more values would cost more time than they tell
    yield trial("600 values", logdir={events_file(1): _rows(rng, "loss", range(600), 1.0)})
    yield trial("a file without values", logdir={events_file(1): []})
    yield trial("no event file", logdir={"notes.txt": None})


def _read(logdir, fault):
    """The curves as the solution reads them, but for one fault."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = Path(logdir)
    if fault == "one file":
        path = next(iter(sorted(path.glob("events*"))), path)
    events = EventAccumulator(str(path)).Reload()
    dtype = torch.float32 if fault == "float32" else torch.float64
    curves = {}
    for tag in events.Tags()["scalars"]:
        found, rows = {}, events.Scalars(tag)
        for event in rows if fault == "as read" else sorted(rows, key=lambda event: event.wall_time):
            if fault != "oldest" or event.step not in found:
                found[event.step] = event.value
        steps = list(found) if fault == "unsorted" else sorted(found)
        curves[tag] = (torch.tensor(steps, dtype=torch.int64), torch.tensor([found[s] for s in steps], dtype=dtype))
    return curves


@read_scalars.mistake("Where a step was written twice you keep the oldest value. The newest counts.")
def keeps_the_oldest(logdir):
    return _read(logdir, "oldest")


@read_scalars.mistake(
    "You take the value that was *read* last. Files are read by name, and `…9…` comes after `…10…`: compare `wall_time`."
)
def trusts_the_order_of_files(logdir):
    return _read(logdir, "as read")


@read_scalars.mistake("The steps are in the order in which they were written. Sort them, and the values with them.")
def does_not_sort(logdir):
    return _read(logdir, "unsorted")


@read_scalars.mistake("Only one event file was read. A run that was continued has several: read all in the directory.")
def reads_one_file(logdir):
    return _read(logdir, "one file")


@read_scalars.mistake("The values are float32, the default for lists of floats. Say `dtype=torch.float64`.")
def values_in_float32(logdir):
    return _read(logdir, "float32")


@read_scalars.mistake("Steps that were written twice stand there twice. Each step once, with its newest value.")
def keeps_duplicates(logdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logdir)).Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        rows = sorted(events.Scalars(tag), key=lambda event: (event.step, event.wall_time))
        steps, values = [event.step for event in rows], [event.value for event in rows]
        curves[tag] = (torch.tensor(steps, dtype=torch.int64), torch.tensor(values, dtype=torch.float64))
    return curves


def _run(tag, *values):
    """The events of one run: one value per step."""
    return [(tag, step, value, 10.0 + step) for step, value in enumerate(values)]


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`[path for path in Path(logdir).iterdir() if path.is_dir()]` are the runs; `path.name` is a run's name.",
        "Find the best value of each run first, as a dictionary {name: value}; then compare the runs. `Tags()['scalars']` "
        "tells whether a run has the tag.",
        "`max(best, key=best.get)` is the name with the largest value, `min(best, key=best.get)` that with the smallest.",
    ],
    probe=call_with_logs,
)
def best_run(rng):
    """Trials for the run whose best value of a tag is best. `logdir` describes files: {run/name: [(tag, step, ...)]}."""
    file = events_file(1)
    low, middle, high = sorted(rng.uniform(3).tolist())

    def runs(count, shuffled=False):
        """Names of runs, drawn, in alphabetical order unless they are shuffled: the answer differs from seed to seed."""
        names = sorted(f"run-{number}" for number in (100 + rng.permutation(900)[:count]).tolist())
        return [names[index] for index in rng.permutation(count).tolist()] if shuffled else names

    # Where the names are in order, the best is the first of them in some trials and the last in others.
    a, b, c = runs(3, shuffled=True)
    yield trial(
        "best in the middle of its run",
        logdir={
            f"{a}/{file}": _run("accuracy", low, high, low),
            f"{b}/{file}": _run("accuracy", low, low, middle),
            f"{c}/{file}": _run("accuracy", middle, low),
        },
        tag="accuracy",
        mode="max",
    )
    a, b, c = runs(3, shuffled=True)
    yield trial(
        "the smallest loss",
        logdir={
            f"{a}/{file}": _run("loss", 3.0 + high, low, high),
            f"{b}/{file}": _run("loss", 4.0 + high, middle),
            f"{c}/{file}": _run("loss", middle, high),
        },
        tag="loss",
        mode="min",
    )
    a, b, c = runs(3)
    yield trial(
        "a run without the tag",
        logdir={
            f"{a}/{file}": _run("loss", 9.0),
            f"{b}/{file}": _run("accuracy", low),
            f"{c}/{file}": _run("accuracy", high),
        },
        tag="accuracy",
        mode="max",
    )
    a, b = runs(2)
    yield trial(
        "values below zero, largest",
        logdir={f"{a}/{file}": _run("reward", -3.0 - high, -2.0), f"{b}/{file}": _run("reward", -1.0 - low)},
        tag="reward",
        mode="max",
    )
    a, b = runs(2)
    yield trial(
        "files above and below the runs",
        logdir={
            file: _run("accuracy", 0.1),
            "notes.txt": None,
            f"{a}/{file}": _run("accuracy", 0.4),
            f"{b}/{file}": _run("accuracy", 0.3),
            f"{b}/deeper/{file}": _run("accuracy", 0.9),
        },
        tag="accuracy",
        mode="max",
    )
    a, b = runs(2)
    yield trial(
        "two files in a run, mode left out",
        logdir={
            f"{a}/{events_file(1)}": _run("accuracy", 0.2, 0.8),
            f"{a}/{events_file(2)}": [("accuracy", 2, 0.1, 99.0)],
            f"{b}/{events_file(1)}": _run("accuracy", 0.05, 0.75),  # by the smallest values the second would be best
        },
        tag="accuracy",
    )
    for mode in ("max", "min"):
        values = zip(runs(8), rng.permutation(8).tolist(), strict=True)
        yield trial(
            f"eight runs, {mode}",
            logdir={f"{run}/{file}": _run("accuracy", value / 8) for run, value in values},
            tag="accuracy",
            mode=mode,
        )
    a, b = runs(2)
    yield trial(
        "runs that differ by little",
        logdir={f"{a}/{file}": _run("accuracy", 0.5), f"{b}/{file}": _run("accuracy", 0.500001)},
        tag="accuracy",
        mode="max",
    )


def _best(logdir, tag, mode, of_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    better = max if mode == "max" else min
    best = {}
    for run in (one for one in Path(logdir).iterdir() if one.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        if tag in events.Tags()["scalars"]:
            best[run.name] = of_run([event.value for event in events.Scalars(tag)])
    return better(best, key=best.get)


@best_run.mistake(
    "You compare the *last* values. A run's best value may lie earlier: that is why one keeps checkpoints."
)
def compares_the_last(logdir, tag, mode="max"):
    return _best(logdir, tag, mode, of_run=lambda values: values[-1])


@best_run.mistake("`mode` is ignored: with `min`, the smallest value is best.")
def always_max(logdir, tag, mode="max"):
    return _best(logdir, tag, "max", of_run=max)


@best_run.mistake(
    "With `min` you look for the smallest of the runs' *largest* values. The best value of a run is then its smallest."
)
def min_of_max(logdir, tag, mode="max"):
    return _best(logdir, tag, mode, of_run=max)


@best_run.mistake("You compare the means of the runs. Asked for is the best single value of each run.")
def compares_means(logdir, tag, mode="max"):
    return _best(logdir, tag, mode, of_run=lambda values: sum(values) / len(values))


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Start from the steps of the first run, and keep those that occur in every other run: `torch.isin(a, b)` is a "
        "mask of the length of a.",
        "For each run, take the values at the common steps: `values[torch.isin(steps, common)]`. Then `torch.stack`.",
        "Axis 0 of the stack counts the runs. `std(dim=0, correction=0)` divides by their number.",
    ],
)
def seed_band(rng):
    """Trials for the mean and the spread over several runs, at the steps that all of them have."""

    def run(*steps):
        return torch.tensor(steps, dtype=torch.int64), rng.normal(len(steps), dtype=torch.float64)

    yield trial("the same steps", runs=[run(0, 1, 2, 3), run(0, 1, 2, 3), run(0, 1, 2, 3)])
    yield trial("one run ended early", runs=[run(0, 10, 20, 30), run(0, 10), run(0, 10, 20)])
    yield trial("logged at different intervals", runs=[run(0, 4, 8, 12), run(0, 2, 4, 6, 8, 10, 12, 14)])
    yield trial("steps missing in the middle", runs=[run(1, 2, 5, 9), run(0, 2, 3, 5, 8, 9), run(2, 4, 9, 11)])
    yield trial("one run", runs=[run(3, 4, 7)])
    yield trial("one common step", runs=[run(0, 5), run(5, 6, 7)])
    yield trial("no common step", runs=[run(0, 2, 4), run(1, 3)])
    middle = 1e9 + 64 * rng.integers(0, 1000, 3).double()
    steps = torch.tensor([1, 2, 3])
    # the squares of such values have too few digits left for a variance of 1; with multiples of 64 it is always lost
    yield trial("large values that differ by 2", runs=[(steps, middle - 1), (steps.clone(), middle + 1)])
    yield trial("a run without values", runs=[run(0, 1), run()])


def _band(runs, correction, dim):
    common = sorted(set.intersection(*[set(steps.tolist()) for steps, _ in runs]))
    table = torch.stack([torch.stack([v[s == step][0] for step in common]) if common else v[:0] for s, v in runs])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch remarks on standard deviations of nothing
        return torch.tensor(common, dtype=torch.int64), table.mean(dim=dim), table.std(dim=dim, correction=correction)


@seed_band.mistake(
    "The standard deviation divides by the number of runs − 1. Here it divides by their number: `correction=0`."
)
def sample_deviation(runs):
    return _band(runs, correction=1, dim=0)


@seed_band.mistake(
    "You cut all runs to the length of the shortest and compare by *position*. Equal positions may be different steps."
)
def by_position(runs):
    shortest = min(len(steps) for steps, _ in runs)
    table = torch.stack([values[:shortest] for _, values in runs])
    mean = table.mean(dim=0)
    return runs[0][0][:shortest], mean, (table - mean).square().mean(dim=0).sqrt()


@seed_band.mistake("You averaged over the steps, one mean per run. Average over the runs, one mean per step: `dim=0`.")
def over_the_steps(runs):
    return _band(runs, correction=0, dim=1)


@seed_band.mistake("Steps that only some runs have are there as well. Keep those that all runs have.")
def all_steps(runs):
    union = sorted(set().union(*[set(steps.tolist()) for steps, _ in runs]))
    groups = [torch.cat([v[s == step] for s, v in runs]) for step in union]
    empty = torch.zeros(0, dtype=torch.float64)
    mean = torch.stack([group.mean() for group in groups]) if groups else empty
    std = torch.stack([group.std(correction=0) for group in groups]) if groups else empty
    return torch.tensor(union, dtype=torch.int64), mean, std


@seed_band.mistake(
    "You took the mean of the squares minus the square of the mean: two large numbers, whose difference is lost in "
    "rounding. Subtract the mean first, then square."
)
def squares_minus_square(runs):
    common, mean, _ = _band(runs, correction=0, dim=0)
    squares, _ = _band([(steps, values.square()) for steps, values in runs], correction=0, dim=0)[1:]
    return common, mean, (squares - mean.square()).sqrt()


@seed_band.mistake("The last is the variance. The standard deviation is its root.")
def variance(runs):
    common, mean, std = _band(runs, correction=0, dim=0)
    return common, mean, std.square()


def project_to_recorder(function, arguments):
    """A probe: what reached the projector, and the model's hooks afterwards."""
    model = arguments["model"]
    writer = Recorder()
    apply(function, arguments | {"writer": writer})
    return {
        "calls of add_embedding": [call[2] for call in writer.calls if call[0] == "add_embedding"],
        "number of hooks afterwards": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    }


@exercise(
    points=3,
    level=3,
    minutes=20,
    hints=[
        "`model.get_submodule(layer).register_forward_hook(f)` calls `f(module, inputs, output)` after the layer; what it "
        "returns has `.remove()`. Let f append the output to a list.",
        "Register the hook, run the model on the images, and remove the hook. `finally` removes it after an error too.",
        "`flatten(1)` gives (n, d). `labels.tolist()` makes a list of numbers. `torch.no_grad()` around the pass saves "
        "the graph that nobody needs.",
    ],
    probe=project_to_recorder,
)
def embed(rng):
    """Trials for the features of a layer on their way to the projector."""

    def small():
        return rng.fill(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))).eval()

    def convolutional():
        body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5))
        return rng.fill(nn.Sequential(body, nn.Flatten(), nn.Linear(8, 3))).eval()

    def setting(model, layer, n, *shape):
        images, labels = rng.uniform(n, *shape), rng.integers(0, 10, n)
        return {"writer": A_RECORDER, "model": model, "layer": layer, "images": images, "labels": labels}

    yield trial("a linear layer", **setting(small(), "1", 4, 1, 3, 4))
    yield trial("after a ReLU, three colours", **setting(small(), "2", 3, 3, 2, 2))
    yield trial("feature maps", **setting(convolutional(), "0.1", 5, 1, 4, 4))
    yield trial("after dropout", **setting(convolutional(), "0.3", 2, 1, 4, 4))
    yield trial("the last layer", **setting(convolutional(), "2", 3, 1, 4, 4))
    yield trial("one image", **setting(small(), "1", 1, 1, 3, 4))


def _embed(writer, model, layer, images, labels, fault):
    """The features on their way to the projector, but for one fault."""
    caught = []
    hook = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: caught.append(output))
    with torch.no_grad():
        result = model(images)
    if fault != "hook":
        hook.remove()
    features = result if fault == "logits" else caught[0]
    writer.add_embedding(
        features if fault == "not flat" else features.flatten(1),
        metadata=None if fault == "labels" else labels.tolist(),
        label_img=None if fault == "thumbnails" else images,
    )


@embed.mistake("The hook stays on the layer, and is called at every later pass. Remove it.")
def leaves_the_hook(writer, model, layer, images, labels):
    _embed(writer, model, layer, images, labels, "hook")


@embed.mistake("The features are not flattened. The projector wants one row of numbers per image, (n, d).")
def not_flattened(writer, model, layer, images, labels):
    _embed(writer, model, layer, images, labels, "not flat")


@embed.mistake("This is the model's output, the logits. Asked for is the output of the layer with the given name.")
def takes_the_logits(writer, model, layer, images, labels):
    _embed(writer, model, layer, images, labels, "logits")


@embed.mistake("The labels are missing: pass them on as `metadata`, or the projector has nothing to colour by.")
def forgets_the_labels(writer, model, layer, images, labels):
    _embed(writer, model, layer, images, labels, "labels")


@embed.mistake("The thumbnails are missing: pass the images on as `label_img`.")
def forgets_the_thumbnails(writer, model, layer, images, labels):
    _embed(writer, model, layer, images, labels, "thumbnails")


# Debug --------------------------------------------------------------------------------------------------------------


class _KeepsTypes(Recorder):
    """Notes for each scalar also what type it came as, and the graph it keeps alive."""

    def add_scalar(self, tag, scalar_value, global_step=None, *rest, **named):
        super().add_scalar(tag, scalar_value, global_step, *rest, **named)
        kind = "float" if isinstance(scalar_value, float) else type(scalar_value).__name__
        name, tag, noted = self.calls[-1]
        self.calls[-1] = (name, tag, {"type": kind} | noted)


_RATE = 0.05


def train_beside_recorder(function, arguments):
    """A probe: build the network and its optimiser, train, and report what was written, the weights and the mode."""
    model = arguments["model"]
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
    writer = _KeepsTypes()
    passes = []
    hook = model.register_forward_hook(
        lambda module, inputs, output: passes.append(
            f"in {'train' if module.training else 'eval'} mode, {'with' if output.requires_grad else 'without'} a graph"
        )
    )
    apply(function, arguments | {"optimizer": optimizer, "writer": writer})
    hook.remove()
    return {
        "forward passes in their order": passes,  # before the values, which tell less about a wrong mode
        "calls of the writer": _by_tag([call for call in writer.calls if call[0] == "add_scalar"]),
        "weights and statistics afterwards": collect(dict(model.state_dict())),
        "mode of the model afterwards": "train" if model.training else "eval",
    }


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Run the program in your head for two epochs, and write down mode and step at each line.",
        "`enumerate` starts at 0 in each epoch. Count the batches yourself, in a variable made before the first epoch.",
        "Who puts the model back into train mode? And what is it that `loss` holds besides a number?",
    ],
    probe=train_beside_recorder,
)
def train_and_log(rng):
    """Trials for a loop that trains and logs. The probe makes the optimiser, for the network of the trial."""

    def network(features):
        model = nn.Sequential(nn.Linear(features, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
        return rng.fill(model)

    def batches(count, n, features):
        return [(rng.normal(n, features), rng.normal(n, 1)) for _ in range(count)]

    def setting(count, n, features, epochs):
        return {
            "model": network(features),
            "batches": batches(count, n, features),
            "validation": (rng.normal(5, features), rng.normal(5, 1)),
            "optimizer": f"SGD(lr={_RATE})",
            "writer": A_RECORDER,
            "epochs": epochs,
        }

    yield trial("three batches, two epochs", **setting(3, 4, 3, 2))
    yield trial("one batch per epoch", **setting(1, 6, 2, 3))
    yield trial("one epoch", **setting(2, 3, 2, 1))
    in_eval = setting(2, 4, 2, 2)
    in_eval["model"].eval()
    yield trial("a model that comes in eval mode", **in_eval)


_AS_ASKED = ("epoch", "end")
"""Where `model.train()` belongs: at the start of each epoch, and at the end."""


def _train(model, batches, validation, optimizer, writer, epochs, train_at, restart=False, by_epoch=False,
           one_early=False, tensors=False, graph=False, no_eval=False, one_late=False, zero=True):  # fmt: skip
    number = (lambda loss: loss) if tensors else (lambda loss: loss.item())
    seen = 0
    if "start" in train_at:
        model.train()
    for epoch in range(epochs):
        if "epoch" in train_at:
            model.train()
        for index, (x, y) in enumerate(batches):
            loss = F.mse_loss(model(x), y)
            if zero:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += one_late
            writer.add_scalar("loss/train", number(loss), index if restart else seen)
            seen += not one_late
        if not no_eval:
            model.eval()
        x, y = validation
        with torch.set_grad_enabled(graph):
            loss = F.mse_loss(model(x), y)
        writer.add_scalar("loss/validation", number(loss), epoch if by_epoch else seen - one_early)
    if "end" in train_at:
        model.train()


@train_and_log.mistake(
    "The step of `loss/train` starts at 0 in each epoch, so the epochs are drawn over each other. Count batches through."
)
def step_starts_anew(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, restart=True)


@train_and_log.mistake(
    "After the first validation the model stays in eval mode. Call `model.train()` at the start of each epoch, and at "
    "the end."
)
def stays_in_eval_mode(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, train_at=())


@train_and_log.mistake(
    "From the second epoch on the model trains in eval mode. `model.train()` once before the loop is not enough: call it "
    "at the start of each epoch, and at the end."
)
def trains_in_eval_mode_and_stays(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, train_at=("start",))


@train_and_log.mistake(
    "From the second epoch on the model trains in eval mode. `model.train()` belongs at the start of each epoch."
)
def trains_in_eval_mode(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, train_at=("start", "end"))


@train_and_log.mistake(
    "`model.train()` after the loop alone comes too late: from the second epoch on the model trains in eval mode. Call it "
    "at the start of each epoch too."
)
def trains_in_eval_mode_until_the_end(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, train_at=("end",))


@train_and_log.mistake("The last validation leaves the model in eval mode. Call `model.train()` once more at the end.")
def ends_in_eval_mode(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, train_at=("epoch",))


@train_and_log.mistake(
    "The gradients of the batches add up: `optimizer.zero_grad()` is missing. Call it before each `backward()`."
)
def forgets_zero_grad(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, zero=False)


@train_and_log.mistake(
    "`loss/validation` is written at the number of the epoch, far left of the training loss it belongs to. Use the number "
    "of batches so far."
)
def validation_by_epoch(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, by_epoch=True)


@train_and_log.mistake(
    "`loss/validation` is written at the step of the last batch, one too early. That batch has been trained on by then: "
    "with 3 batches per epoch the first validation is at step 3."
)
def validation_one_early(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, one_early=True)


@train_and_log.mistake("The writer gets tensors. `.item()` makes a float, which keeps no graph alive.")
def logs_tensors(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, tensors=True)


@train_and_log.mistake("The validation builds a graph that nobody uses. Compute it under `torch.no_grad()`.")
def validates_with_graph(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, graph=True)


@train_and_log.mistake(
    "The first batch is written at step 1. The step is the number of batches trained on *before*: 0."
)
def counts_from_one(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, one_late=True)


@train_and_log.mistake(
    "The validation runs in train mode, and moves the statistics of batch norm. `model.eval()` first."
)
def validates_in_train_mode(model, batches, validation, optimizer, writer, epochs):
    _train(model, batches, validation, optimizer, writer, epochs, _AS_ASKED, no_eval=True)


# Build --------------------------------------------------------------------------------------------------------------


def drive_throttled(cls, arguments):
    """A probe: construct the class around a Recorder, make the calls, and report what came through before and at the end.

    With `calls_of_a_second_writer`, a second one is constructed, and the two are called in turn.
    """
    inner, second_inner = Recorder(), Recorder()
    throttled = apply(cls, {"writer": inner, "every": arguments["every"]})
    others = arguments.get("calls_of_a_second_writer", [])
    second = apply(cls, {"writer": second_inner, "every": arguments["every"]}) if others else None
    for mine, other in itertools.zip_longest(arguments["calls"], others):
        if mine:
            throttled.add_scalar(*mine)
        if other:
            second.add_scalar(*other)
    before = len(inner.calls)
    throttled.close()
    at_the_end = inner.calls[before:]
    if second:
        second.close()
    evidence = {
        "calls passed on at once": collect(inner.calls[:before]),
        "calls passed on by close()": _by_tag([call for call in at_the_end if call[0] == "add_scalar"]),
        "number of times the writer was closed": sum(call == ("close",) for call in inner.calls),
        "name of the writer's last call": inner.calls[-1][0] if inner.calls else "",
    }
    return evidence | ({"calls passed on by the second writer": collect(second_inner.calls)} if second else {})


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "What must be kept between two calls? For each tag, how often it was called, and its last call if held back: two "
        "dictionaries.",
        "With `count` calls of this tag before, pass on if `count % every == 0`. The step plays no part in it.",
        "A call that is passed on makes the one held back before it old news: forget that one. `close()` passes on what is "
        "still held, then closes.",
    ],
    probe=drive_throttled,
)
def ThrottledWriter(rng):
    """Trials for a writer that passes on every `every`-th value: it gets `calls`, then `close()`."""

    def calls(tag, steps):
        return [(tag, value, step) for value, step in zip(rng.normal(len(steps)).tolist(), steps, strict=True)]

    yield trial("one tag, the last held back", every=3, calls=calls("loss", range(10, 15)))
    yield trial("one tag, the last passed on", every=3, calls=calls("loss", range(7)))
    loss, rate = calls("loss", range(6)), calls("lr", range(0, 60, 10))
    both = [call for pair in zip(loss, rate, strict=True) for call in pair]
    yield trial("two tags in turn", every=2, calls=both)
    rare = calls("loss", range(0, 4)) + calls("accuracy", [4]) + calls("loss", range(4, 6)) + calls("accuracy", [6])
    yield trial("one tag is rarer", every=4, calls=rare)
    yield trial("every call", every=1, calls=calls("loss", range(4)))
    yield trial("more than there are calls", every=100, calls=calls("loss", [5, 6, 7]))
    yield trial("steps with gaps", every=2, calls=calls("loss", [1, 3, 9, 27, 81]))
    yield trial("one call", every=5, calls=calls("loss", [3]))
    yield trial(
        "zeros passed on, and held back",
        every=2,
        calls=[("lr", 0.0, 0), ("loss", 1.5, 3), ("loss", 0.0, 4), ("lr", 0.1 + rng.number(), 0)],
    )
    yield trial(
        "two writers in turn",
        every=3,
        calls=calls("loss", range(6)),
        calls_of_a_second_writer=calls("loss", range(100, 108)),
    )
    yield trial("no call", every=5, calls=[])


class _Throttled:
    """What the mistakes of ThrottledWriter share; each of them names its fault."""

    fault: str

    def __init__(self, writer, every):
        self.writer, self.every, self.counts, self.held = writer, every, {}, {}

    def add_scalar(self, tag, value, step):
        key = "all" if self.fault == "one count" else tag
        count = self.counts.get(key, 0)
        self.counts[key] = count + 1
        number = {"by step": step, "first": count + 1}.get(self.fault, count)
        if number % self.every == 0:
            self.writer.add_scalar(tag, value, step)
            if self.fault != "old":
                self.held.pop(tag, None)
        else:
            self.held[tag] = (value, step)
        if self.fault == "again":
            self.held[tag] = (value, step)

    def close(self):
        for tag, (value, step) in self.held.items():
            if self.fault != "last":
                self.writer.add_scalar(tag, value, step)
        if self.fault != "open":
            self.writer.close()


@ThrottledWriter.mistake(
    "All tags share one count, so that what passes depends on the other tags. Count each separately."
)
class CountsAllTogether(_Throttled):
    fault = "one count"


@ThrottledWriter.mistake(
    "The first call of a tag is held back. Test before counting: with `count` calls *before* this one, `count % every`."
)
class SkipsTheFirst(_Throttled):
    fault = "first"


@ThrottledWriter.mistake("You look at the step. Steps may have gaps or start anywhere: count the *calls* of each tag.")
class LooksAtTheStep(_Throttled):
    fault = "by step"


@ThrottledWriter.mistake("`close()` writes the last value again although it was passed on already.")
class RepeatsTheLast(_Throttled):
    fault = "again"


@ThrottledWriter.mistake(
    "`close()` writes an old value after a newer one: what was held back is not forgotten when a later call passes."
)
class KeepsTheOld(_Throttled):
    fault = "old"


@ThrottledWriter.mistake("The last value that was held back never arrives: `close()` has to pass it on.")
class LosesTheLast(_Throttled):
    fault = "last"


@ThrottledWriter.mistake("The writer inside stays open. Close it at the end of `close()`.")
class LeavesItOpen(_Throttled):
    fault = "open"


@ThrottledWriter.mistake(
    "A last value of 0 does not arrive: 0 counts as false. Ask whether a call was held back, such as `is not None`, and not "
    "whether its value is true."
)
class LosesZeros(_Throttled):
    fault = "zeros"

    def close(self):
        self.held = {tag: (value, step) for tag, (value, step) in self.held.items() if value}
        super().close()


@ThrottledWriter.mistake(
    "A last call at step 0 does not arrive: 0 counts as false. Ask whether a call was held back, such as `is not None`, "
    "and not whether its step is true."
)
class LosesStepZero(_Throttled):
    fault = "step zero"

    def close(self):
        self.held = {tag: (value, step) for tag, (value, step) in self.held.items() if step}
        super().close()


@ThrottledWriter.mistake(
    "Two writers share what they keep: it belongs to the class. Each needs its own, as attributes of `self` that "
    "`__init__` makes."
)
class SharesItsState(_Throttled):
    fault = "one state"

    def __init__(self, writer, every):
        self.writer, self.every = writer, every
        type(self).counts, type(self).held = {}, {}


class _File(str):
    """An event file as a trial shows it, in words; the attributes say what to write."""

    def __new__(cls, records, cut=0, as_text=False):
        words = f"a file with records of {', '.join(f'{len(record):,}' for record in records)} bytes"
        self = super().__new__(
            cls, (words if records else "an empty file") + f", the last {cut} bytes cut off" * (cut > 0)
        )
        self.records, self.cut, self.as_text = records, cut, as_text
        return self


def call_with_file(function, arguments):
    """A probe: write the file that `path` describes, and call the function with its path."""
    file = arguments["path"]
    content = b"".join(map(_record, file.records))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, events_file(1))
        path.write_bytes(content[: len(content) - file.cut])
        result = apply(function, {"path": str(path) if file.as_text else path})
    return {"result": [_bytes(one) for one in result] if isinstance(result, list) else collect(result)}


def _bytes(value):
    """Bytes as evidence: in hexadecimal as the prompt writes them, long ones shortened, with a checksum of all."""
    if not isinstance(value, (bytes, bytearray)):
        return collect(value)
    text = value.hex(" ")
    if len(value) > 40:
        text = f"{value[:20].hex(' ')} … ({len(value):,} bytes, checksum {zlib.crc32(value):08x})"
    return Typed("bytes object" if isinstance(value, bytes) else "bytearray", text)


def _record(data):
    """One record, with checksums that nobody is asked to check."""
    return struct.pack("<Q", len(data)) + b"\xfe\xca\xad\xde" + data + b"\xef\xbe\xfe\xca"


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Open the file with mode `rb`. `file.read(12)` gives the next 12 bytes, or as many as are left.",
        "`struct.unpack_from('<Q', start)` returns a tuple of one number, the length n. The data and its checksum are the "
        "next n + 4 bytes.",
        "Two places to stop: fewer than 12 bytes were left for a length and its checksum, or fewer than n + 4 after it.",
    ],
    probe=call_with_file,
)
def read_records(rng):
    """Trials for reading an event file. `path` describes it."""

    def records(*lengths):
        return [bytes(rng.integers(0, 256, length).tolist()) for length in lengths]

    yield trial("three records", path=_File(records(5, 2, 9)))
    yield trial("the path as a str", path=_File(records(3, 4), as_text=True))
    yield trial("a long record: its length takes two bytes", path=_File(records(300, 1)))
    yield trial("a longer record: its length takes three bytes", path=_File([records(100)[0] * 700, *records(2)]))
    yield trial("an empty record in the middle", path=_File(records(2, 0, 3), as_text=True))
    yield trial("an empty record first", path=_File(records(0, 4)))  # a length of 0 is 0 in any order of bytes
    yield trial("cut in the last checksum", path=_File(records(4, 6), cut=1))
    yield trial("the last checksum is missing", path=_File(records(4, 6), cut=4))
    yield trial("cut in the data", path=_File(records(4, 6, 8), cut=7, as_text=True))
    yield trial("data missing", path=_File(records(3, 6), cut=10))
    yield trial("cut in the checksum of the length", path=_File(records(7, 6), cut=12))
    yield trial("the checksum of the length is missing", path=_File(records(3, 5), cut=13))
    yield trial("cut in the length", path=_File(records(3, 5), cut=20))
    yield trial("a single record, cut", path=_File(records(5), cut=3, as_text=True))
    yield trial("an empty file", path=_File([]))


def _records(path, code, whole):
    content = Path(path).read_bytes()
    found, start = [], 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(code, content, start)
        end = start + 12 + length
        if whole and end + 4 > len(content):
            break
        found.append(content[start + 12 : end])
        start = end + 4
    return found


@read_records.mistake(
    "A record whose last checksum is cut off counts as complete here. It ends only after the 4 bytes that follow the data."
)
def forgets_the_last_checksum(path):
    content = Path(path).read_bytes()
    found, start = [], 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length
        if end > len(content):
            break
        found.append(content[start + 12 : end])
        start = end + 4
    return found


@read_records.mistake(
    "The last record is returned though it is incomplete: a slice past the end is short, without error."
)
def keeps_the_incomplete(path):
    return _records(path, "<Q", whole=False)


@read_records.mistake(
    "An incomplete record ends your program with an error. A file that is still written may end anywhere: test first "
    "whether the bytes are there."
)
def fails_at_the_end(path):
    content = Path(path).read_bytes()
    found, start = [], 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length
        struct.unpack_from("<I", content, end)
        found.append(content[start + 12 : end])
        start = end + 4
    return found


@read_records.mistake(
    "The checksum of the length is taken for data. The data begins 12 bytes after the record: 8 of length, 4 of checksum."
)
def skips_no_checksum(path):
    content = Path(path).read_bytes()
    found, start = [], 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        if start + 12 + length + 4 > len(content):
            break
        found.append(content[start + 8 : start + 8 + length])
        start += 12 + length + 4
    return found


@read_records.mistake("The length is read with its highest byte first, which makes it huge. `<` is lowest byte first.")
def reads_big_endian(path):
    return _records(path, ">Q", whole=True)


@read_records.mistake("Only two bytes of the length are read, which is enough up to 65,535. `<Q` reads all eight.")
def reads_two_bytes(path):
    return _records(path, "<H", whole=True)
