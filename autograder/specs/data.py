"""Trials, hints and known mistakes of the exercises of chapter 3, in the order of the notebook."""

import copy
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, islice, pairwise
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler, get_worker_info
from torch.utils.data._utils import worker as torch_worker

from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import Probe, apply, call


def _generator(rng) -> torch.Generator:
    """A generator whose seed is none of those that the shared generator is set to."""
    generator = torch.Generator().manual_seed(rng.integer(10**6, 10**9))
    torch.rand(1, generator=generator)  # it is under way, so that one begun anew from its seed gives other numbers
    return generator


def _error(action: Callable, *arguments: Any) -> str:
    """The name of the error that a call raises, where the error is what is asked for."""
    try:
        action(*arguments)
    except IndexError:
        return "IndexError"  # a class derived from it will do
    except Exception as error:
        return type(error).__name__
    return "no error"


def _differs(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return not torch.equal(before, after)
    return any(_differs(before[key], after[key]) for key in before) if isinstance(before, dict) else before != after


def _changed(before: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not as they were, in the form that the judge has a sentence for."""
    after = collect(arguments)
    return {name: after[name] for name in after if _differs(before[name], after[name])}


def _as_tuple(value: Any, depth: int = 1) -> Any:
    """A pair or a triple as a tuple, even if it came as a list; with depth=2 the pairs inside it likewise."""
    if depth and isinstance(value, (list, tuple)):
        return tuple(_as_tuple(part, depth - 1) for part in value)
    return value


def _call_for_tuple(depth: int) -> Probe:
    """The default probe, for a result that is a pair or a triple."""

    def probe(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
        evidence = call(function, arguments)
        return evidence | {"result": _as_tuple(evidence["result"], depth)}

    return probe


class _Items:
    """A map-style data set that notes which items were fetched, and hands out copies of its tensors."""

    def __init__(self, items: list) -> None:
        self.items, self.fetched = items, []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self.items))[index]  # raises IndexError outside
        self.fetched.append(index)
        return copy.deepcopy(self.items[index])


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`torch.randperm(n, generator=generator)` is the order of the whole epoch: one tensor of shape (n,).",
        "Cut it at 0, batch_size, 2 · batch_size, …: `range(start, stop, step)` counts so.",
        "A slice that goes past the end is cut off there. With `drop_last`, stop where the last full batch ends: n minus "
        "what n leaves over when divided by batch_size.",
    ],
)
def epoch_batches(rng):
    """Trials for randperm(n) cut into runs of batch_size."""
    for name, n, batch_size, drop_last in (
        ("the last batch is short", 9, 4, False),  # not 11, which `chunk` cuts in the same way
        ("a short last batch is dropped", 11, 4, True),
        ("n is a multiple of batch_size", 12, 3, False),
        ("n is a multiple, drop_last", 12, 4, True),
        ("batches of one", 5, 1, True),
        ("one batch is not filled", 3, 8, False),
        ("one batch is not filled, drop_last", 3, 8, True),
        ("one batch is just filled", 6, 6, True),
        ("no items", 0, 4, False),
    ):
        yield trial(name, n=n, batch_size=batch_size, drop_last=drop_last, generator=_generator(rng))


def _runs(order, batch_size, drop_last):
    runs = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [run for run in runs if len(run) == batch_size or not drop_last]


@epoch_batches.mistake(
    "The order came from the shared generator, so nobody can repeat it: pass `generator=generator` to `randperm`."
)
def shared_generator(n, batch_size, drop_last, generator):
    return _runs(torch.randperm(n), batch_size, drop_last)


@epoch_batches.mistake(
    "The generator was begun anew from its seed, so every epoch would have the same order. Hand the generator itself to "
    "`randperm`: it goes on from where it is."
)
def begins_anew(n, batch_size, drop_last, generator):
    anew = torch.Generator().manual_seed(generator.initial_seed())
    return _runs(torch.randperm(n, generator=anew), batch_size, drop_last)


@epoch_batches.mistake("The items are in their order 0, 1, 2, …: cut up the shuffled order instead.")
def does_not_shuffle(n, batch_size, drop_last, generator):
    return _runs(torch.arange(n), batch_size, drop_last)


@epoch_batches.mistake("The short last batch is there whatever `drop_last` says. Where it is true, leave it out.")
def never_drops(n, batch_size, drop_last, generator):
    return _runs(torch.randperm(n, generator=generator), batch_size, False)


@epoch_batches.mistake("The short last batch is never there: these items would not be seen in the epoch.")
def always_drops(n, batch_size, drop_last, generator):
    return _runs(torch.randperm(n, generator=generator), batch_size, True)


@epoch_batches.mistake(
    "The last *full* batch is dropped as well where n is a multiple of batch_size: only a short one goes."
)
def drops_a_full_batch(n, batch_size, drop_last, generator):
    runs = _runs(torch.randperm(n, generator=generator), batch_size, False)
    return runs[:-1] if drop_last else runs


@epoch_batches.mistake(
    "You shuffled the batches, not the items: the same neighbours would meet in every epoch. Shuffle, then cut."
)
def shuffles_whole_batches(n, batch_size, drop_last, generator):
    runs = _runs(torch.arange(n), batch_size, drop_last)
    return [runs[i] for i in torch.randperm(len(runs), generator=generator)]


@epoch_batches.mistake(
    "Where n is 0, `split` and `chunk` give one empty batch. There is no batch then: return an empty list."
)
def one_empty_batch(n, batch_size, drop_last, generator):
    return _runs(torch.randperm(n, generator=generator), batch_size, drop_last) or (
        [] if n else [torch.empty(0, dtype=torch.int64)]
    )


def _transformed(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """A transform made from mean and std, called on the images and, once more, on the first of them alone."""
    images = arguments["images"]
    before = collect(arguments)
    transform = apply(function, {"mean": arguments["mean"], "std": arguments["std"]})
    evidence = {"result": collect(transform(images))}
    if images.ndim == 4:
        evidence["result of the same transform on images[:1]"] = collect(transform(images[:1].clone()))
    return evidence | {"changed": _changed(before, arguments)}


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "Solve y = (x − mean) / std for x. What comes first, the product or the sum?",
        "mean has shape (c,), the images (c, h, w): broadcasting would line c up with w. Which shape puts c third from the "
        "right?",
        "`torch.as_tensor(mean, dtype=images.dtype)` takes lists and tensors alike; `.reshape(-1, 1, 1)` gives (c, 1, 1).",
    ],
    probe=_transformed,
)
def Denormalize(rng):
    """Trials for images · std + mean, channel by channel."""

    def stats(c):
        return {"mean": rng.normal(c), "std": rng.uniform(c, low=0.5, high=3.0)}

    yield trial("one image of three channels", **stats(3), images=rng.normal(3, 2, 4))
    yield trial("a batch", **stats(3), images=rng.normal(2, 3, 4, 5))
    yield trial("all axes equal", **stats(3), images=rng.normal(3, 3, 3, 3))
    yield trial("as many channels as columns", **stats(4), images=rng.normal(4, 2, 4))
    yield trial("lists of numbers", mean=[0.5, -2.0], std=[0.25, 3.0], images=rng.normal(5, 2, 1, 3))
    yield trial("a grey image", mean=[0.2860], std=[0.3530], images=rng.normal(1, 3, 3))
    yield trial("far outside 0 to 1", **stats(2), images=100 * rng.normal(2, 2, 3))
    yield trial("float64", mean=[0.25, 0.5], std=[0.125, 2.0], images=rng.normal(2, 3, 2, dtype=torch.float64))
    mixed = {"mean": [0.5, -2.0], "std": torch.tensor([0.25, 3.0])}
    yield trial("a list and a tensor", **mixed, images=rng.normal(2, 2, 3))


def _per_channel(images, values):
    return torch.as_tensor(values, dtype=images.dtype)[:, None, None]


def _denormalizer(compute):
    """A class with mean and std whose call computes from (images, mean, std)."""

    class Wrong:
        def __init__(self, mean, std):
            self.mean, self.std = mean, std

        def __call__(self, images):
            return compute(images, _per_channel(images, self.mean), _per_channel(images, self.std))

    return Wrong


@Denormalize.mistake(
    "This normalises once more. The inverse of (x − mean) / std multiplies by std, then adds the mean."
)
def normalises(mean, std):
    return _denormalizer(lambda images, mean, std: (images - mean) / std)(mean, std)


@Denormalize.mistake("The mean was added before multiplying, so it was scaled too: x · std first, then + mean.")
def adds_first(mean, std):
    return _denormalizer(lambda images, mean, std: (images + mean) * std)(mean, std)


@Denormalize.mistake(
    "Mean and standard deviation were lined up with the columns, or did not fit: the channel is the third axis from the "
    "right, so they need the shape (c, 1, 1)."
)
class along_the_columns:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, images):
        mean, std = torch.as_tensor(self.mean), torch.as_tensor(self.std)
        return images * std + mean


@Denormalize.mistake(
    "The shape (1, c, 1, 1) gives a single image a batch axis that it did not have. (c, 1, 1) fits both."
)
def always_a_batch(mean, std):
    return _denormalizer(lambda images, mean, std: images * std[None] + mean[None])(mean, std)


@Denormalize.mistake(
    "The result was limited to 0…1. The inverse returns what went into `Normalize`, whatever that was; limit the values "
    "where you draw them."
)
def limits_to_one(mean, std):
    return _denormalizer(lambda images, mean, std: (images * std + mean).clamp(0, 1))(mean, std)


@Denormalize.mistake(
    "The values are right, but the caller's images changed: `mul_` and `add_`, `*=` and `+=` write into them."
)
def writes_into_the_images(mean, std):
    return _denormalizer(lambda images, mean, std: images.mul_(std).add_(mean))(mean, std)


@exercise(
    points=2,
    level=1,
    minutes=10,
    hints=[
        "`collections.Counter` counts whatever you feed it: feed it every word of every sentence.",
        "First drop the rare words, then sort, then number: in another order there are gaps.",
        "`sorted(words, key=lambda word: (-counts[word], word))` sorts by falling count, then by the alphabet.",
    ],
)
def number_words(rng):
    """Trials for {word: number} from 2, by falling count, then by the alphabet."""

    def sentences(words, count, longest):
        return [
            " ".join(words[i] for i in rng.integers(0, len(words), rng.integer(0, longest)).tolist())
            for _ in range(count)
        ]

    words = ["film", "good", "bad", "the", "a", "plot", "not", "phone"]
    ties = [words[i] for i in rng.permutation(6).tolist()]
    yield trial("every word counts", sentences=[*sentences(words, 6, 8), "the the end"], min_count=1)
    yield trial("rare words are left out", sentences=[*sentences(words, 9, 6), "zebra", "film good film"], min_count=3)
    yield trial("all equally frequent", sentences=[" ".join(ties)], min_count=1)
    yield trial("one frequent word in one sentence", sentences=["yes yes yes yes", "no yes", "no"], min_count=2)
    yield trial(
        "capitals, tabs, double spaces",
        sentences=["So  GOOD", "so\tgood, good", "Good\n so ", "Ünder über ÜBER Straße"],
        min_count=1,
    )
    yield trial("rare words between frequent ones", sentences=["b b b a c c d e e", "b c e"], min_count=2)
    yield trial("no word is frequent enough", sentences=["one two", "three"], min_count=2)
    yield trial("no sentences", sentences=[], min_count=1)


def _counts(sentences):
    return Counter(word for sentence in sentences for word in sentence.lower().split())


def _ranked(counts, min_count):
    return sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))


@number_words.mistake("The numbers begin at 0, but 0 is kept for padding and 1 for unknown words: begin at 2.")
def begins_at_zero(sentences, min_count):
    return {word: number for number, word in enumerate(_ranked(_counts(sentences), min_count))}


@number_words.mistake("A word that occurs exactly min_count times has a number too: `>=`, not `>`.")
def too_strict(sentences, min_count):
    return {word: number for number, word in enumerate(_ranked(_counts(sentences), min_count + 1), 2)}


@number_words.mistake('"Good" and "good" were counted as two words. Turn each sentence to lower case first.')
def keeps_capitals(sentences, min_count):
    counts = Counter(word for sentence in sentences for word in sentence.split())
    return {word: number for number, word in enumerate(_ranked(counts, min_count), 2)}


@number_words.mistake(
    'split(" ") finds empty words between two spaces, and does not split at tabs. `split()` without an argument does both '
    "right."
)
def splits_at_single_spaces(sentences, min_count):
    counts = Counter(word for sentence in sentences for word in sentence.lower().split(" "))
    return {word: number for number, word in enumerate(_ranked(counts, min_count), 2)}


@number_words.mistake(
    "Equally frequent words stand in the order in which they occur, as in `most_common`. They follow the alphabet, so that "
    "the order of the sentences does not matter."
)
def ties_as_they_come(sentences, min_count):
    kept = [word for word, count in _counts(sentences).most_common() if count >= min_count]
    return {word: number for number, word in enumerate(kept, 2)}


@number_words.mistake("You counted in how many sentences a word occurs. Count every occurrence.")
def counts_sentences(sentences, min_count):
    counts = Counter(word for sentence in sentences for word in set(sentence.lower().split()))
    return {word: number for number, word in enumerate(_ranked(counts, min_count), 2)}


@number_words.mistake("The words stand in the order of the alphabet alone. The most frequent comes first.")
def alphabet_only(sentences, min_count):
    return {word: number for number, word in enumerate(sorted(_ranked(_counts(sentences), min_count)), 2)}


@number_words.mistake("All words have a number, rare ones too: keep those that occur at least min_count times.")
def keeps_rare_words(sentences, min_count):
    return {word: number for number, word in enumerate(_ranked(_counts(sentences), 1), 2)}


@number_words.mistake(
    "The numbers follow the alphabet backwards among equally frequent words: `reverse=True` reverses both criteria. "
    "Negate the count instead."
)
def reverses_both(sentences, min_count):
    counts = _counts(sentences)
    kept = sorted(_ranked(counts, min_count), key=lambda word: (counts[word], word), reverse=True)
    return {word: number for number, word in enumerate(kept, 2)}


def _map_style(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """A data set: its length, its items from both ends, what lies outside, and a `for` over it."""
    before = collect(arguments)
    dataset = apply(function, arguments)
    length = len(dataset)
    return {
        "length": collect(length),
        "items": [collect(_as_tuple(dataset[i])) for i in range(length)],
        "items -1, -2, …": [collect(_as_tuple(dataset[-i])) for i in range(1, length + 1)],
        "errors outside": {i: _error(dataset.__getitem__, i) for i in (length, length + 3, -length - 1, -length - 4)},
        "items of a `for`": [collect(_as_tuple(item)) for item in islice(iter(dataset), length + 3)],
        "changed": _changed(before, arguments),
    }


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Draw a series of 5 numbers, size 2, horizon 1. Where may a window begin? How many places are that?",
        "There are t − size − horizon + 1 of them, unless that is negative.",
        "A tensor's slice never raises: `series[90:95]` of a short series is empty. You must raise `IndexError` yourself.",
        "`range(len(self))[index]` does all three at once: negative indices, and IndexError at both ends.",
    ],
    probe=_map_style,
)
def WindowDataset(rng):
    """Trials for the pairs (series[i : i + size], series[i + size : i + size + horizon])."""
    yield trial("nine steps", series=rng.normal(9), size=3, horizon=2)
    yield trial("a horizon of one", series=rng.normal(7), size=2, horizon=1)
    yield trial("a horizon longer than the window", series=rng.normal(8), size=1, horizon=3)
    yield trial("three features", series=rng.normal(6, 3), size=2, horizon=2)
    yield trial("exactly one window", series=rng.normal(5), size=2, horizon=3)
    yield trial("one step too short", series=rng.normal(4), size=2, horizon=3)
    yield trial("whole numbers", series=rng.integers(-9, 9, 7), size=4, horizon=2)


class _Windows:
    """The frame of the mistakes; `place` is the step at which an item begins, counted in strides."""

    stride, shift = 1, 0

    def __init__(self, series, size, horizon):
        self.series, self.size, self.horizon = series, size, horizon

    def __len__(self):
        return max(0, len(self.series) - self.size - self.horizon + 1)

    def __getitem__(self, index):
        middle = self.place(index) * self.stride + self.size
        target = middle + self.shift
        return self.series[middle - self.size : middle], self.series[target : target + self.horizon]


class _IndicesOfAList:
    """The right places, for subclasses of `_Windows` that get something else wrong."""

    def place(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return index % len(self)


@WindowDataset.mistake(
    "The last window is missing. t − size − horizon counts the moves of the window, and there is one place more than moves."
)
class misses_the_last_window(_IndicesOfAList, _Windows):
    def __len__(self):
        return max(0, len(self.series) - self.size - self.horizon)


@WindowDataset.mistake(
    "The last windows have a target that is cut short: the horizon must lie inside the series as well, so it shortens the "
    "length."
)
class forgets_the_horizon(_IndicesOfAList, _Windows):
    def __len__(self):
        return max(0, len(self.series) - self.size + 1)


@WindowDataset.mistake(
    "Negative indices are not the items from the end: add the length to them before you slice, or let "
    "`range(len(self))[index]` do it."
)
class slices_with_negative_indices(_Windows):
    def place(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return index


@WindowDataset.mistake(
    "Past the end there is no error, only empty slices, so a `for` over the data set never stops. Raise `IndexError` "
    "outside −length … length − 1."
)
class never_ends(_Windows):
    def place(self, index):
        return index if index >= 0 else index + len(self)


@WindowDataset.mistake(
    "Below −length the index wraps around once more, instead of raising `IndexError`: `%` or adding the length "
    "hides it."
)
class wraps_round(_Windows):
    def place(self, index):
        if index >= len(self):
            raise IndexError(index)
        return index % max(1, len(self))


@WindowDataset.mistake("A negative index raises `IndexError`. As in a list, −1 is the last item.")
class refuses_negative_indices(_Windows):
    def place(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return index


@WindowDataset.mistake(
    "The target skips a step: a slice leaves out its end, so the input ends *before* i + size and the target begins there."
)
class skips_a_step(_IndicesOfAList, _Windows):
    shift = 1


@WindowDataset.mistake("The target is a part of the input. It begins where the input ends, at i + size.")
class overlaps(_IndicesOfAList, _Windows):
    shift = -1


@WindowDataset.mistake(
    "The windows lie end to end, `size` apart. Item i begins at step i, so that neighbours share all but one step."
)
class end_to_end(_IndicesOfAList, _Windows):
    def __getitem__(self, index):
        self.stride = self.size
        return super().__getitem__(index)


class CountingTransform:
    """2 · image + 100 · the number of the call, so that a result tells when it was made."""

    calls = 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return 2 * image + 100 * self.calls


def _with_own_transform(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """A subset with a transform that counts its calls: its items, twice, and what was fetched when."""
    base, transform = _Items(arguments["dataset"]), arguments["transform"]
    subset = apply(function, arguments | {"dataset": base})
    fetched_at_first = len(base.fetched)
    length = len(subset)
    first = [collect(_as_tuple(subset[k])) for k in range(length)]
    second = [collect(_as_tuple(subset[k])) for k in range(length)]
    return {
        "length": collect(length),
        "items": first,
        "items, asked for again": second,
        "number of items fetched before any was asked for": fetched_at_first,
        "list of the items fetched": base.fetched[: 3 * len(base)],
        "number of calls of the transform": transform.calls if transform else 0,
    }


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Item k of the subset is which item of the data set?",
        "Take the pair apart, transform the first half, put it together again: all of it in `__getitem__`.",
        "`transform` may be None: ask before you call it.",
    ],
    probe=_with_own_transform,
)
def TransformedSubset(rng):
    """Trials for (transform(image), label) of item indices[k]. transform(x) is 2x + 100, at its next call 2x + 200, …"""

    def items(n):
        return [(rng.normal(1, 2, 2), rng.integer(0, 10)) for _ in range(n)]

    for name, n, indices in (
        ("three of six items, transform(x) = 2x + 100 · (number of the call)", 6, [4, 0, 3]),
        ("all items, turned round", 3, [2, 1, 0]),
        ("indices in a tensor", 5, rng.permutation(5)[:3]),
        ("the same item twice", 3, [1, 1]),
        ("no items", 2, []),
    ):
        yield trial(name, dataset=items(n), indices=indices, transform=CountingTransform())
    yield trial("no transform", dataset=items(4), indices=[1, 3], transform=None)


class _Subset:
    """The frame of the mistakes, which say what an item is."""

    def __init__(self, dataset, indices, transform=None):
        self.dataset, self.indices, self.transform = dataset, indices, transform

    def __len__(self):
        return len(self.indices)

    def fetched(self, k):
        image, label = self.dataset[self.indices[k]]
        return (self.transform(image) if self.transform else image), label


@TransformedSubset.mistake(
    "Item k is item k of the whole data set. The subset's own numbering goes through `indices[k]`."
)
class ignores_the_indices(_Subset):
    def __getitem__(self, k):
        image, label = self.dataset[k]
        return (self.transform(image) if self.transform else image), label


@TransformedSubset.mistake("The length is that of the whole data set. It is the number of indices.")
class length_of_the_whole(_Subset):
    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, k):
        return self.fetched(k)


@TransformedSubset.mistake(
    "Each item was transformed once, in advance, and is the same ever after: a random transform would be drawn only once. "
    "Fetch and transform in `__getitem__`."
)
class transforms_in_advance(_Subset):
    def __init__(self, dataset, indices, transform=None):
        super().__init__(dataset, indices, transform)
        self.items = [self.fetched(k) for k in range(len(indices))]

    def __getitem__(self, k):
        return self.items[k]


@TransformedSubset.mistake("The first result of the transform is kept and handed out again. Call it for every request.")
class remembers(_Subset):
    def __init__(self, dataset, indices, transform=None):
        super().__init__(dataset, indices, transform)
        self.known = {}

    def __getitem__(self, k):
        if k not in self.known:
            self.known[k] = self.fetched(k)
        return self.known[k]


@TransformedSubset.mistake("The transform is never called: the images come out as they are.")
class never_transforms(_Subset):
    def __getitem__(self, k):
        return self.dataset[self.indices[k]]


@TransformedSubset.mistake(
    "`None` was called like a function. Without a transform the image is returned as it is: ask `is not None` first."
)
class calls_none(_Subset):
    def __getitem__(self, k):
        image, label = self.dataset[self.indices[k]]
        return self.transform(image), label


@TransformedSubset.mistake(
    "Each item is fetched twice, once for its image and once for its label, which for files doubles the time. Fetch the "
    "pair once: `image, label = self.dataset[…]`."
)
class fetches_twice(_Subset):
    def __getitem__(self, k):
        image, label = self.dataset[self.indices[k]][0], self.dataset[self.indices[k]][1]
        return (self.transform(image) if self.transform else image), label


@TransformedSubset.mistake("Label and image have changed places: the item stays a pair (image, label).")
class label_first(_Subset):
    def __getitem__(self, k):
        return self.fetched(k)[::-1]


@TransformedSubset.mistake("The label is lost. An item is a pair: (transform(image), label).")
class image_alone(_Subset):
    def __getitem__(self, k):
        return self.fetched(k)[0]


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`sentences, labels = zip(*batch)` turns a list of pairs into two tuples.",
        "`torch.nn.utils.rnn.pad_sequence` pads with 0 on the right; by default it puts the time first, so ask for "
        "`batch_first=True`.",
        "Compare the positions 0 … t − 1, shape (t,), with the lengths as a column, shape (b, 1).",
    ],
    probe=_call_for_tuple(depth=1),
)
def pad_collate(rng):
    """Trials for (ids, mask, labels) of sentences of different lengths."""

    def batch(*lengths):
        return [(rng.integers(1, 100, length), rng.integer(0, 2)) for length in lengths]

    with_zeros = batch(4, 2, 5)
    with_zeros[0][0][-1] = with_zeros[1][0][0] = 0
    yield trial("three sentences", batch=batch(3, 5, 2))
    yield trial("all of one length", batch=batch(4, 4))
    yield trial("as many sentences as words", batch=batch(1, 3, 2))
    yield trial("zeros that belong to the sentence", batch=with_zeros)
    yield trial("one sentence", batch=batch(4))
    yield trial("an empty sentence", batch=batch(2, 0, 3))
    yield trial("large numbers and labels", batch=[(10**12 * ids, 10**10 + label) for ids, label in batch(1, 3)])


def _padded(sentences, left=False):
    longest = max(map(len, sentences))
    rows = torch.zeros(len(sentences), longest, dtype=torch.int64)
    for row, sentence in zip(rows, sentences, strict=True):
        row[longest - len(sentence) if left else 0 : longest if left else len(sentence)] = sentence
    return rows


def _collated(batch):
    """ids, labels, and what the mask is made of: the positions, shape (t,), and the lengths, shape (b, 1)."""
    sentences, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    ids = _padded(sentences)
    return ids, torch.tensor(labels), torch.arange(ids.shape[1]), lengths[:, None]


@pad_collate.mistake("The padding stands on the left. Sentences begin in column 0, and the zeros follow.")
def pads_left(batch):
    _, labels, positions, lengths = _collated(batch)
    ids = _padded([sentence for sentence, _ in batch], left=True)
    return ids, positions >= len(positions) - lengths, labels


@pad_collate.mistake(
    "`ids != 0` is no mask: a 0 inside a sentence is a word like any other. Compare positions with the lengths."
)
def masks_zeros(batch):
    ids, labels, _, _ = _collated(batch)
    return ids, ids != 0, labels


@pad_collate.mistake("The mask is true on the padding. It is true where a real word stands.")
def masks_the_padding(batch):
    ids, labels, positions, lengths = _collated(batch)
    return ids, positions >= lengths, labels


@pad_collate.mistake("The mask holds numbers. It is `bool`, so that `~mask` and `x[mask]` mean what they should.")
def mask_of_numbers(batch):
    ids, labels, positions, lengths = _collated(batch)
    return ids, (positions < lengths).long(), labels


@pad_collate.mistake(
    "Time stands first: `pad_sequence` gives (t, b) unless told `batch_first=True`, and the mask followed."
)
def time_first(batch):
    ids, labels, positions, lengths = _collated(batch)
    return ids.T, (positions < lengths).T, labels


@pad_collate.mistake("The sentences were cut to the shortest. Pad to the longest: nothing may be lost.")
def cuts_to_the_shortest(batch):
    shortest = min(len(sentence) for sentence, _ in batch)
    ids, labels, positions, lengths = _collated([(sentence[:shortest], label) for sentence, label in batch])
    return ids, positions < lengths, labels


@pad_collate.mistake("The labels are still a list. The loss wants a tensor: int64, shape (b,).")
def list_of_labels(batch):
    ids, labels, positions, lengths = _collated(batch)
    return ids, positions < lengths, labels.tolist()


@pad_collate.mistake("The mask goes one step too far: position len(sentence) is the first of the padding, so `<`.")
def one_step_too_far(batch):
    ids, labels, positions, lengths = _collated(batch)
    return ids, positions <= lengths, labels


def _splits(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """What every right split shares, and how it depends on the generator and on nothing else."""
    n, generator = arguments["n"], arguments["generator"]
    before = collect(arguments)

    def parts() -> Any:
        return apply(function, arguments)

    state = generator.get_state()
    first = parts()
    if not isinstance(first, list) or not all(isinstance(part, torch.Tensor) for part in first):
        inside = {type(part).__name__ for part in first} if isinstance(first, (list, tuple)) else ()
        return {"result": " of ".join([type(first).__name__, *sorted(inside)])}
    torch.manual_seed(arguments["n"] + 1)  # the shared generator must not matter
    generator.set_state(state)
    again = parts()
    sizes = [len(part) if part.ndim == 1 else None for part in first]
    evidence = {
        "result": "list of Tensor",
        "dtypes": [str(part.dtype) for part in first],
        "numbers of axes": [part.ndim for part in first],
        "comparison of the sizes with fraction · n": [
            "within 1" if size is not None and abs(size - n * fraction) <= 1 + 1e-6 else "further off"
            for size, fraction in zip(sizes, arguments["fractions"], strict=False)
        ],
        "indices of all parts together, sorted": collect(torch.cat([part.flatten() for part in first]).sort().values),
        "second split from an equal seed": "equal parts"
        if [sorted(part.tolist()) for part in first] == [sorted(part.tolist()) for part in again]
        else "other parts",
    }
    if n == VARIED:
        met = torch.zeros(n, len(first), dtype=torch.bool)
        first_parts = set()
        for _ in range(200):  # an index misses a part of one fifth 200 times with a chance of 1 in 10 ** 19
            split = parts()
            first_parts.add(frozenset(split[0].tolist()))
            for number, part in enumerate(split):
                met[part[(part >= 0) & (part < n)], number] = True
        evidence["table [index, part] of which index came into which part, over 200 splits"] = met
        # Half of ten indices: 252 sets are possible, and 200 draws give 138 of them, seven spreads above 100. Orders
        # that are turned round give 10 sets, pairs that stay together 60.
        evidence["number of different first parts, over 200 splits"] = (
            "above 100" if len(first_parts) > 100 else "at most 100"
        )
    return evidence | {"changed": _changed(before, arguments)}


VARIED = 10
"""The n at which a split is drawn again and again."""


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Shuffle all indices once. What remains is to cut that order at the right places.",
        "`int(fraction * n)` for every part leaves a rest over. Where do the parts *end*, if you add up the fractions?",
        "Round each end, not each size: `round(n * (f1 + f2))`. Neighbouring parts then share their rounding.",
    ],
    probe=_splits,
)
def split_indices(rng):
    """Trials for n indices, divided by fractions; any right split gives the same evidence."""
    # What is over after an equal division stays the same on every seed: it is what a wrong rounding loses. No n but the
    # first is VARIED.
    for name, n, fractions in (
        ("three parts of ten", VARIED, [0.5, 0.3, 0.2]),
        ("halves of an odd number", 2 * rng.integer(3, 30) + 1, [0.5, 0.5]),
        ("one part", rng.integer(11, 50), [1.0]),
        ("seven equal parts, six items over", 7 * rng.integer(1, 20) + 6, [1 / 7] * 7),
        ("ten tenths, which add up to a little less than 1", 10 * rng.integer(2, 20), [0.1] * 10),
        ("six equal parts, three items over", 6 * rng.integer(1, 20) + 3, [1 / 6] * 6),
        ("four equal parts, three items over", 4 * rng.integer(1, 20) + 3, [0.25] * 4),
        ("fewer items than parts", 2, [0.25, 0.25, 0.25, 0.25]),
        ("no items", 0, [0.6, 0.4]),
        ("many items", 10 * rng.integer(80, 120) + 1, [0.1, 0.8, 0.1]),
    ):
        yield trial(name, n=n, fractions=fractions, generator=_generator(rng))


def _cut(order, fractions):
    ends = [round(len(order) * total) for total in accumulate(fractions)]
    return [order[start:end] for start, end in pairwise([0, *ends])]


@split_indices.mistake(
    "The order came from the shared generator, so equal seeds give different parts: pass `generator=generator`."
)
def splits_by_the_shared_generator(n, fractions, generator):
    return _cut(torch.randperm(n), fractions)


@split_indices.mistake(
    "Each part holds always the same indices, the first part the first ones, and data often stand in order of their class "
    "or date. Shuffle *all* indices, then cut: shuffling inside the parts comes too late."
)
def cuts_in_order(n, fractions, generator):
    return _cut(torch.arange(n), fractions)


@split_indices.mistake(
    "Few different splits can come out, because neighbours stay together: turning the order round (`roll`), or shuffling "
    "whole blocks of it, is no shuffle. `torch.randperm(n, generator=generator)` gives any order."
)
def turns_the_order_round(n, fractions, generator):
    return _cut(torch.arange(n).roll(int(torch.randint(max(n, 1), (), generator=generator))), fractions)


@split_indices.mistake(
    "Each size was rounded down by itself, so a rest of indices is in no part. Round where the parts end instead."
)
def loses_the_rest(n, fractions, generator):
    order, start, parts = torch.randperm(n, generator=generator), 0, []
    for fraction in fractions:
        parts.append(order[start : start + int(fraction * n)])
        start += int(fraction * n)
    return parts


@split_indices.mistake(
    "The last part takes all that rounding left over, which may be many: each size may differ by at most 1."
)
def rest_to_the_last(n, fractions, generator):
    order = torch.randperm(n, generator=generator)
    sizes = [int(fraction * n) for fraction in fractions[:-1]]
    return list(order.split([*sizes, n - sum(sizes)]))


@split_indices.mistake(
    "The indices were drawn for each part anew, so parts overlap and others are in none. Shuffle once, then cut."
)
def draws_each_part(n, fractions, generator):
    return [torch.randperm(n, generator=generator)[: len(part)] for part in _cut(torch.arange(n), fractions)]


@split_indices.mistake("These are lists of numbers. Return tensors of int64: they index tensors without a copy.")
def lists_of_numbers(n, fractions, generator):
    return [part.tolist() for part in _cut(torch.randperm(n, generator=generator), fractions)]


@split_indices.mistake(
    "The ends were cut off, not rounded: ten times 0.1 adds up to a little less than 1, and the last index was lost."
)
def cuts_off_the_ends(n, fractions, generator):
    order = torch.randperm(n, generator=generator)
    ends = [int(n * total) for total in accumulate(fractions)]
    return [order[start:end] for start, end in pairwise([0, *ends])]


def _sampler(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """A sampler's weights up to a common factor, its settings, and indices that it draws."""
    before = collect(arguments)
    sampler = apply(function, arguments)
    if not isinstance(sampler, WeightedRandomSampler):
        return {"result": type(sampler).__name__}
    weights = torch.as_tensor(sampler.weights, dtype=torch.float64)
    evidence = {"result": "WeightedRandomSampler"}
    if weights.shape != arguments["labels"].shape:
        return evidence | {"number of weights": "not one per item"}
    return evidence | {
        "number of weights": "one per item",
        "weights, scaled to sum to 1": (weights / weights.sum()).float(),
        "number of draws": collect(sampler.num_samples),
        "setting `replacement`": collect(sampler.replacement),
        "generator of the sampler": "the given one" if sampler.generator is arguments["generator"] else "another one",
        "changed": _changed(before, arguments),
    }


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "If a class has 30 items and another 10, how much heavier must each item of the rare one be?",
        "`labels.bincount()` counts the classes; `counts[labels]` gives each item the count of its own class.",
        "WeightedRandomSampler(weights, num_samples, replacement=True, generator=None): one weight per *item*.",
    ],
    probe=_sampler,
)
def balanced_sampler(rng):
    """Trials for weights 1 / (number of items of the same class)."""
    for name, labels in (
        ("one class is rare", [0] * 9 + [1] * 2),
        ("three classes", [2, 0, 2, 1, 2, 2, 0]),
        ("numbers that never occur", [7, 3, 7, 7, 7]),
        ("one class", [4, 4, 4]),
        ("one item", [0]),
        ("as many items as classes", [0, 1, 1]),
    ):
        shuffled = torch.tensor(labels)[rng.permutation(len(labels))]
        yield trial(name, labels=shuffled, generator=_generator(rng))
    drawn = torch.cat([rng.integers(0, 2, 30), rng.integers(0, 12, 40)])
    yield trial("many labels", labels=drawn, generator=_generator(rng))


def _inverse(labels):
    return 1 / labels.bincount()[labels]


@balanced_sampler.mistake("These are the counts: frequent classes become more frequent still. Weigh by 1 / count.")
def weighs_by_the_count(labels, generator):
    return WeightedRandomSampler(labels.bincount()[labels].double(), len(labels), generator=generator)


@balanced_sampler.mistake(
    "There is one weight per class, so only the first few items are ever drawn. A sampler wants one weight per *item*: "
    "`weights[labels]`."
)
def one_weight_per_class(labels, generator):
    counts = labels.bincount()
    return WeightedRandomSampler(1 / counts[counts > 0], len(labels), generator=generator)


@balanced_sampler.mistake(
    "Without replacement, len(labels) draws take every item exactly once: that is a shuffle, and balances nothing."
)
def without_replacement(labels, generator):
    return WeightedRandomSampler(_inverse(labels), len(labels), replacement=False, generator=generator)


@balanced_sampler.mistake("The sampler does not draw from the given generator: pass `generator=generator` on to it.")
def sampler_without_generator(labels, generator):
    return WeightedRandomSampler(_inverse(labels), len(labels))


@balanced_sampler.mistake("An epoch has as many draws as there are items: num_samples is len(labels).")
def as_many_draws_as_classes(labels, generator):
    return WeightedRandomSampler(_inverse(labels), len(labels.unique()), generator=generator)


@balanced_sampler.mistake("All items weigh the same, so the rare class stays as rare as it is.")
def equal_weights(labels, generator):
    return WeightedRandomSampler(torch.ones(len(labels)), len(labels), generator=generator)


@balanced_sampler.mistake(
    "With two classes 1 − share happens to balance; with three or with one it does not. The weight is 1 / count."
)
def one_minus_the_share(labels, generator):
    shares = labels.bincount()[labels] / len(labels)
    return WeightedRandomSampler(1 - shares, len(labels), generator=generator)


class _Held(TorchFunctionMode):
    """The most elements that tensors, and arrays made from tensors, held at once in the block. Views share what they view."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = 0
        self.owners: Counter[int] = Counter()

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(one, torch.Tensor) and function.__name__ not in ("__get__", "__set__"):
                storage = one.untyped_storage()
                self._watch(one, storage.data_ptr(), storage.nbytes() // one.itemsize)
            elif isinstance(one, np.ndarray):
                self._watch(one, one.__array_interface__["data"][0], one.size)
        return result

    def _watch(self, holder: torch.Tensor | np.ndarray, place: int, size: int) -> None:
        self._add(place, size)
        weakref.finalize(holder, self._remove, place, size)

    def _add(self, place: int, size: int) -> None:
        self.owners[place] += 1
        if self.owners[place] == 1:
            self.held += size
            self.most = max(self.most, self.held)

    def _remove(self, place: int, size: int) -> None:
        self.owners[place] -= 1
        if self.owners[place] == 0:
            self.held -= size


def _stats(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """The result on a data set whose items are made as they are fetched, and how much was held at once."""
    items = _Items(arguments["dataset"])
    with _Held() as held:
        result = apply(function, arguments | {"dataset": items})
    evidence = {"result": collect(_as_tuple(result))}
    batch = arguments["batch_size"] * items.items[0][0].numel()
    if len(items) >= 20 * arguments["batch_size"]:
        evidence["part of the images held at once"] = (
            "a few batches" if held.most <= 10 * batch + 100 else "most of the data set"
        )
    return evidence


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "The mean needs two running numbers: how many pixels there were, and their sum. What does the spread need besides?",
        "The mean of the squares minus the square of the mean is the variance: keep a running sum of squares too.",
        "`DataLoader(dataset, batch_size)` gives batches (b, c, h, w). Sum over b, h and w in float64, shape (c,), and add "
        "to the totals.",
        "Divide at the very end, by the number of pixels of a channel: count them as they come.",
    ],
    probe=_stats,
)
def channel_stats(rng):
    """Trials for mean and population std per channel, over all pixels of all images."""

    def items(n, *shape, scale=1.0, shift=0.0, dtype=torch.float32):
        channels = torch.arange(shape[0], dtype=dtype)[:, None, None]
        return [
            ((scale * (channels + 1) * rng.normal(*shape, dtype=dtype) + shift + channels), rng.integer(0, 10))
            for _ in range(n)
        ]

    bright = [(image + 8 * (i == 4), label) for i, (image, label) in enumerate(items(5, 2, 3, 2))]
    # Far apart, so that the difference of two float32 sums cannot come out below 0.
    pixels = [(rng.uniform(1, 1, 1, low=low, high=low + 1), 0) for low in (-2.0, 1.0)]
    yield trial("four images, two batches", dataset=items(4, 3, 2, 4), batch_size=2)
    yield trial("the last batch is short, and bright", dataset=bright, batch_size=2)
    yield trial("fewer images than a batch", dataset=items(3, 2, 3, 3), batch_size=8)
    yield trial("as many images as channels", dataset=items(3, 3, 3, 3), batch_size=3)
    yield trial("images of one grey pixel", dataset=pixels, batch_size=4)
    yield trial("float64", dataset=items(5, 2, 2, 3, dtype=torch.float64), batch_size=3)
    yield trial("large values", dataset=items(6, 1, 4, 4, scale=100.0, shift=300.0), batch_size=4)
    yield trial("more images than may be held", dataset=items(45, 1, 3, 2), batch_size=2)


def _all_images(dataset):
    return torch.stack([dataset[i][0] for i in range(len(dataset))])


def _per_batch(dataset, batch_size):
    return [images.double() for images, _ in DataLoader(dataset, batch_size)]


def _totals(dataset, batch_size, dtype=torch.float64):
    count, total, squares = 0, 0.0, 0.0
    for images, _ in DataLoader(dataset, batch_size):
        channels = images.to(dtype).transpose(0, 1).flatten(1)
        count, total = count + channels.shape[1], total + channels.sum(1)
        squares = squares + channels.square().sum(1)
    return count, total / count, squares / count, images.dtype


@channel_stats.mistake(
    "All images were held at once. The result is right, but a larger data set would not fit: add up batch by batch."
)
def holds_everything(dataset, batch_size=256):
    images = _all_images(dataset)
    double = images.double()
    return double.mean((0, 2, 3)).to(images.dtype), double.std((0, 2, 3), correction=0).to(images.dtype)


@channel_stats.mistake(
    "The mean of the batches' means gives a short last batch the weight of a full one. Add up sums and counts, and divide "
    "at the end."
)
def averages_the_means(dataset, batch_size=256):
    _, _, _, dtype = _totals(dataset, batch_size)
    batches = _per_batch(dataset, batch_size)
    means = torch.stack([images.mean((0, 2, 3)) for images in batches]).mean(0)
    squares = torch.stack([images.square().mean((0, 2, 3)) for images in batches]).mean(0)
    return means.to(dtype), (squares - means.square()).clamp(min=0).sqrt().to(dtype)


@channel_stats.mistake(
    "Mean and standard deviation of each batch were averaged. That gives a short last batch the weight of a full one, and "
    "misses how far the batches lie apart. Add up count, sum and sum of squares, and divide at the end."
)
def averages_the_batches(dataset, batch_size=256):
    _, _, _, dtype = _totals(dataset, batch_size)
    batches = _per_batch(dataset, batch_size)
    means = [images.mean((0, 2, 3)) for images in batches]
    spreads = [images.std((0, 2, 3), correction=0) for images in batches]
    return torch.stack(means).mean(0).to(dtype), torch.stack(spreads).mean(0).to(dtype)


@channel_stats.mistake(
    "The mean of the images' standard deviations is not that of all pixels: it misses that one image is brighter than "
    "another."
)
def averages_the_images_spreads(dataset, batch_size=256):
    _, mean, _, dtype = _totals(dataset, batch_size)
    spreads = [images.std((2, 3), correction=0).sum(0) for images in _per_batch(dataset, batch_size)]
    return mean.to(dtype), (sum(spreads) / len(dataset)).to(dtype)


@channel_stats.mistake(
    "The mean of the batches' standard deviations is not that of all pixels: it misses how far the batches lie apart."
)
def averages_the_spreads(dataset, batch_size=256):
    _, mean, _, dtype = _totals(dataset, batch_size)
    batches = _per_batch(dataset, batch_size)
    spreads = [len(images) * images.std((0, 2, 3), correction=0) for images in batches]
    return mean.to(dtype), (sum(spreads) / len(dataset)).to(dtype)


@channel_stats.mistake(
    "This divides by n − 1. `Normalize` wants the population's standard deviation, which divides by n: `correction=0`."
)
def sample_spread(dataset, batch_size=256):
    count, mean, squares, dtype = _totals(dataset, batch_size)
    variance = (squares - mean.square()).clamp(min=0) * count / (count - 1)
    return mean.to(dtype), variance.sqrt().to(dtype)


@channel_stats.mistake("This is the variance. The standard deviation is its root.")
def forgets_the_root(dataset, batch_size=256):
    _, mean, squares, dtype = _totals(dataset, batch_size)
    return mean.to(dtype), (squares - mean.square()).clamp(min=0).to(dtype)


@channel_stats.mistake(
    "There is one mean for all channels together. Each channel has its own: sum over b, h and w only."
)
def mixes_the_channels(dataset, batch_size=256):
    _, mean, squares, dtype = _totals(dataset, batch_size)
    mean, squares = mean.mean(), squares.mean()
    return mean.to(dtype), (squares - mean.square()).clamp(min=0).sqrt().to(dtype)


@channel_stats.mistake("The values are right, but in float64. Return them in the dtype of the images.")
def stays_in_float64(dataset, batch_size=256):
    _, mean, squares, _ = _totals(dataset, batch_size)
    return mean, (squares - mean.square()).clamp(min=0).sqrt()


@contextmanager
def _as_worker(number: int, count: int, dataset: Any) -> Iterator[None]:
    """Let `get_worker_info` answer as in one worker of several."""
    previous = torch_worker._worker_info
    torch_worker._worker_info = torch_worker.WorkerInfo(id=number, num_workers=count, seed=number, dataset=dataset)
    try:
        yield
    finally:
        torch_worker._worker_info = previous


def _shared_among_workers(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """What comes out of a copy of the data set in each of several workers, in two epochs.

    Which worker yields which line is left open, so the lines of all are sorted.
    """
    lines = arguments["lines"]
    before = list(lines)
    dataset = apply(function, arguments)
    limit = len(lines) + 3
    evidence = {
        "kind of data set": "IterableDataset" if isinstance(dataset, IterableDataset) else "another",
        "lines without workers, in two epochs": [collect(list(islice(iter(dataset), limit))) for _ in range(2)],
    }
    for count in (1, 2, 3, 5):
        epochs: list[list] = [[], []]
        largest = 0
        for number in range(count):
            own = copy.deepcopy(dataset)  # as a worker gets it
            with _as_worker(number, count, own):
                for epoch in epochs:
                    share = list(islice(iter(own), limit))
                    largest = max(largest, len(share))
                    epoch += share
        workers = "1 worker" if count == 1 else f"{count} workers"
        evidence[f"lines of {workers} together, sorted, in two epochs"] = [collect(sorted(epoch)) for epoch in epochs]
        evidence[f"largest share of {workers}"] = (
            "at most len(lines) / num_workers, rounded up" if largest <= -(-len(lines) // count) else "more than that"
        )
    evidence["changed"] = {} if lines == before else {"lines": collect(lines)}
    return evidence


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "`torch.utils.data.get_worker_info()` is None in the main process; in a worker it has `id` and `num_workers`.",
        "Worker 0 of 3 could take the lines 0, 3, 6, …, worker 1 the lines 1, 4, 7, … Which slice is that?",
        "Ask `get_worker_info()` inside `__iter__`: `__init__` runs in the main process, before there are workers.",
    ],
    probe=_shared_among_workers,
)
def ShardedLines(rng):
    """Trials for lines shared among 0, 1, 2, 3 and 5 workers."""

    def lines(n):
        return [f"line {rng.integer(100, 999)}-{i}" for i in rng.permutation(n).tolist()]

    twice = lines(4)
    yield trial("seven lines", lines=lines(7))
    yield trial("six lines", lines=lines(6))
    yield trial("fewer lines than workers", lines=lines(2))
    yield trial("equal lines, an empty one, spaces at the ends", lines=[*twice, "", "  two words \n", *twice[:3]])
    yield trial("one line", lines=lines(1))
    yield trial("no lines", lines=[])


class _Sharded(IterableDataset):
    """The frame of the mistakes; `share` gives the lines of one worker."""

    def __init__(self, lines):
        self.lines = lines

    def __iter__(self):
        worker = get_worker_info()
        return iter(self.lines) if worker is None else self.share(worker.id, worker.num_workers)


@ShardedLines.mistake(
    "Every worker yields every line, so with w workers each line comes w times. Ask `get_worker_info()` for the share, and "
    "in `__iter__`: `__init__` runs in the main process, where the answer is None."
)
class yields_all_in_every_worker(_Sharded):
    def share(self, number, count):
        return iter(self.lines)


@ShardedLines.mistake("Without workers `get_worker_info()` is None, and None has no `id`: yield all lines then.")
class needs_a_worker(_Sharded):
    def __iter__(self):
        worker = get_worker_info()
        return iter(self.lines[worker.id :: worker.num_workers])


@ShardedLines.mistake(
    "The lines were divided into runs of len(lines) // num_workers, and the rest is in no run. `lines[id::num_workers]` "
    "leaves nothing over."
)
class drops_the_rest(_Sharded):
    def share(self, number, count):
        size = len(self.lines) // count
        return iter(self.lines[number * size : (number + 1) * size])


@ShardedLines.mistake(
    "The last worker takes the rest on top of its own run, and the others wait for it: with 11 lines and 4 workers it has "
    "5 lines, and 3 would do. `lines[id::num_workers]` spreads the rest."
)
class leaves_the_rest_to_the_last(_Sharded):
    def share(self, number, count):
        size = len(self.lines) // count
        return iter(self.lines[number * size : (number + 1) * size if number < count - 1 else len(self.lines)])


@ShardedLines.mistake(
    "The second epoch is empty: an iterator that was made in `__init__` runs dry. Make a new one in `__iter__`."
)
class runs_dry(_Sharded):
    def __init__(self, lines):
        super().__init__(lines)
        self.left = list(reversed(lines))

    def __iter__(self):
        worker = get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        position = 0
        while self.left:
            line = self.left.pop()
            if position % count == number:
                yield line
            position += 1


@ShardedLines.mistake("Worker 0 yields everything and the others nothing, so they are of no use. Each takes its share.")
class leaves_all_to_the_first(_Sharded):
    def share(self, number, count):
        return iter(self.lines if number == 0 else [])


@ShardedLines.mistake("Equal lines were merged, as a set does. Each line counts, even if another says the same.")
class merges_equal_lines(_Sharded):
    def __init__(self, lines):
        super().__init__(list(dict.fromkeys(lines)))

    def share(self, number, count):
        return iter(self.lines[number::count])


@ShardedLines.mistake("The workers' numbers begin at 0, so `id − 1` or `id + 1` shifts the shares: lines are lost.")
class counts_workers_from_one(_Sharded):
    def share(self, number, count):
        return iter(self.lines[number + 1 :: count])


def _tokenized(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """The columns of a tokenised data set, and whether `map` was given whole batches."""
    import datasets  # here, because it takes seconds to import

    maps = []
    original = datasets.Dataset.map

    def watched(self: Any, function: Any = None, *args: Any, **named: Any) -> Any:
        batched = named.get("batched", args[3] if len(args) > 3 else False)
        maps.append(bool(batched))
        return original(self, function, *args, **named)

    vocabulary = dict(arguments["vocabulary"])
    source = datasets.Dataset.from_dict(arguments["dataset"])
    shows_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with mock.patch.object(datasets.Dataset, "map", watched):
            result = apply(function, arguments | {"dataset": source})
    finally:
        if shows_bars:
            datasets.enable_progress_bars()
    if not isinstance(result, datasets.Dataset):
        return {"result": type(result).__name__}
    return {
        "result": "Dataset",
        "columns": {name: collect(list(result.with_format(None)[name])) for name in sorted(result.column_names)},
        "way in which `map` was used": ("in batches" if all(maps) else "row by row") if maps else "not at all",
        "format of the data set": [result.format["type"], sorted(result.format["columns"])],
        "changed": {} if vocabulary == arguments["vocabulary"] else {"vocabulary": collect(arguments["vocabulary"])},
    }


@exercise(
    points=3,
    level=2,
    minutes=12,
    hints=[
        'With `batched=True` your function gets a dictionary of columns: `batch["text"]` holds many texts.',
        "Return a dictionary with the new column: as many lists as there are texts. `map` adds it to the others.",
        "`vocabulary.get(word, 1)` is the number of a word, or 1 where it has none.",
    ],
    probe=_tokenized,
)
def tokenize_reviews(rng):
    """Trials for the column input_ids; `dataset` is shown as the dictionary of its columns."""
    words = ["good", "bad", "phone", "so", "the", "film"]
    vocabulary = {word: number for number, word in zip(rng.permutation(6).add(2).tolist(), words, strict=True)}

    def texts(n):
        return [
            " ".join(([*words, "odd"])[i] for i in rng.integers(0, 7, rng.integer(1, 6)).tolist()) for _ in range(n)
        ]

    odd = ["So  GOOD !", "", "\tThe film\nso so ", "good, bad", "PHONE"]
    yield trial(
        "texts with labels",
        dataset={"text": ["zebra so good", *texts(4)], "label": [1, 0, 0, 1, 0]},
        vocabulary=vocabulary,
    )
    yield trial("capitals, tabs, nothing at all", dataset={"text": odd}, vocabulary=vocabulary)
    yield trial("one long text", dataset={"text": [" ".join(words * 25)], "source": ["yelp"]}, vocabulary=vocabulary)


def _ids(vocabulary, text, unknown=1):
    return [vocabulary.get(word, unknown) for word in text.lower().split()]


@tokenize_reviews.mistake('"GOOD" was not found, because the vocabulary has "good": turn the text to lower case first.')
def does_not_lower(dataset, vocabulary):
    return dataset.map(
        lambda batch: {"input_ids": [[vocabulary.get(word, 1) for word in text.split()] for text in batch["text"]]},
        batched=True,
    )


@tokenize_reviews.mistake(
    'split(" ") finds empty words between two spaces and does not split at tabs. Use `split()` without an argument.'
)
def splits_at_spaces(dataset, vocabulary):
    return dataset.map(
        lambda batch: {
            "input_ids": [[vocabulary.get(word, 1) for word in text.lower().split(" ")] for text in batch["text"]]
        },
        batched=True,
    )


@tokenize_reviews.mistake("Unknown words have the number 0 here, which is the padding's. Theirs is 1.")
def unknown_as_padding(dataset, vocabulary):
    return dataset.map(
        lambda batch: {"input_ids": [_ids(vocabulary, text, unknown=0) for text in batch["text"]]}, batched=True
    )


@tokenize_reviews.mistake(
    "Unknown words were left out. They stay, as the number 1: what they said is lost, not that they were there."
)
def drops_unknown_words(dataset, vocabulary):
    return dataset.map(
        lambda batch: {
            "input_ids": [[i for i in _ids(vocabulary, text, None) if i is not None] for text in batch["text"]]
        },
        batched=True,
    )


@tokenize_reviews.mistake(
    "The column is right, but `map` called your function once per row. With `batched=True` it gets many rows at a time."
)
def row_by_row(dataset, vocabulary):
    return dataset.map(lambda row: {"input_ids": _ids(vocabulary, row["text"])})


@tokenize_reviews.mistake(
    "The column is right, but it was made without `map`, with all texts in memory at once. Asked for is one `map` with "
    "`batched=True`."
)
def without_map(dataset, vocabulary):
    return dataset.add_column("input_ids", [_ids(vocabulary, text) for text in dataset["text"]])


@tokenize_reviews.mistake(
    "The data set has another format now, so the other columns come out as tensors too. Leave the format to the caller."
)
def sets_the_format(dataset, vocabulary):
    return dataset.map(
        lambda batch: {"input_ids": [_ids(vocabulary, text) for text in batch["text"]]}, batched=True
    ).with_format("torch")


@tokenize_reviews.mistake("The column `text` is gone. It stays beside the new one: leave `remove_columns` out.")
def removes_the_text(dataset, vocabulary):
    return dataset.map(
        lambda batch: {"input_ids": [_ids(vocabulary, text) for text in batch["text"]]},
        batched=True,
        remove_columns=["text"],
    )


@tokenize_reviews.mistake("The other columns are gone. `map` keeps them, unless `remove_columns` names them.")
def removes_the_columns(dataset, vocabulary):
    return dataset.map(
        lambda batch: {"input_ids": [_ids(vocabulary, text) for text in batch["text"]]},
        batched=True,
        remove_columns=dataset.column_names,
    )


@tokenize_reviews.mistake("The text itself was overwritten with its lower-case form. Keep the column as it is.")
def lowers_the_text(dataset, vocabulary):
    return dataset.map(
        lambda batch: {
            "text": [text.lower() for text in batch["text"]],
            "input_ids": [_ids(vocabulary, text) for text in batch["text"]],
        },
        batched=True,
    )


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Run the program on three rows in your head. Which rows does each line look at? Which label belongs to each?",
        "Whatever is computed from all rows has seen the test part. Shuffle first, compute then, on the training rows.",
        "`-=` and `/=` write into the caller's table. Which generator does `randperm` draw from here?",
        "`order[:-0]` is `order[:0]`, which is empty: count the training rows from the front, n − held_out.",
    ],
    probe=_call_for_tuple(depth=2),
)
def standardised_split(rng):
    """Trials for a shuffled split whose both parts are scaled by the training part."""
    for name, n, d, held_out, dtype, spread in (
        ("three of ten held out", 10, 2, 3, torch.float32, 5),
        ("one held out", 6, 3, 1, torch.float32, 5),
        ("none held out", 5, 2, 0, torch.float32, 5),
        ("all but two held out", 7, 1, 5, torch.float32, 5),
        ("as many features as rows", 4, 4, 1, torch.float32, 5),
        # A divisor of std + 1e-8 is right as well, and does not show where std is large.
        ("float64, a wide spread", 8, 2, 4, torch.float64, 1e5),
    ):
        features = spread * rng.normal(n, d, dtype=dtype) + 2 * spread * rng.normal(d, dtype=dtype)
        yield trial(
            name, features=features, labels=rng.integers(0, 50, n), held_out=held_out, generator=_generator(rng)
        )


def _scaled_split(features, labels, held_out, order, mean=None, std=None):
    cut = len(features) - held_out
    train, test = order[:cut], order[cut:]
    mean = features[train].mean(0) if mean is None else mean
    std = features[train].std(0, correction=0) if std is None else std
    return ((features[train] - mean) / std, labels[train]), ((features[test] - mean) / std, labels[test])


@standardised_split.mistake(
    "Mean and spread were computed from all rows, so the training part knows something of the test part. Compute them from "
    "the training rows."
)
def learns_from_the_test_part(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    return _scaled_split(features, labels, held_out, order, features.mean(0), features.std(0, correction=0))


@standardised_split.mistake(
    "The split is right, but the caller's features changed: `-=` and `/=` write in place. Make new tensors."
)
def changes_the_features(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    train = order[: len(features) - held_out]
    result = _scaled_split(features, labels, held_out, order)
    mean, std = features[train].mean(0), features[train].std(0, correction=0)
    features.sub_(mean).div_(std)
    return result


@standardised_split.mistake("The order came from the shared generator: pass `generator=generator` to `randperm`.")
def shuffles_by_the_shared_generator(features, labels, held_out, generator):
    return _scaled_split(features, labels, held_out, torch.randperm(len(features)))


@standardised_split.mistake(
    "The features were shuffled and the labels were not: each row got the label of another. Index both by `order`."
)
def leaves_the_labels(features, labels, held_out, generator):
    order, cut = torch.randperm(len(features), generator=generator), len(features) - held_out
    (train_x, _), (test_x, _) = _scaled_split(features, labels, held_out, order)
    return (train_x, labels[:cut]), (test_x, labels[cut:])


@standardised_split.mistake(
    "With nothing held out everything is in the test part: `order[:-0]` is `order[:0]`, which is empty."
)
def minus_zero(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    if held_out:
        return _scaled_split(features, labels, held_out, order)
    return (features[:0], labels[:0]), (torch.full_like(features, torch.nan), labels[order])


@standardised_split.mistake(
    "The test part was scaled by its own mean and spread. The model was trained on the training part's scale, and new rows "
    "come one at a time: use the training part's numbers."
)
def scales_the_test_part_by_itself(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    train, (test_x, test_y) = _scaled_split(features, labels, held_out, order)
    if held_out == 0:
        return train, (test_x, test_y)
    return train, ((test_x - test_x.mean(0)) / test_x.std(0, correction=0), test_y)


@standardised_split.mistake("The first rows of the order were held out. It is the last ones that are the test part.")
def holds_out_the_first(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    return _scaled_split(features, labels, held_out, order.roll(-held_out))


@standardised_split.mistake("The spread divides by n − 1. Asked for is the population's: `correction=0`.")
def sample_standard_deviation(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator)
    std = features[order[: len(features) - held_out]].std(0)
    return _scaled_split(features, labels, held_out, order, std=std)


@standardised_split.mistake("This is the program as it was given, with all its faults. Follow three rows through it.")
def as_given(features, labels, held_out, generator):
    features -= features.mean(dim=0)
    features /= features.std(dim=0, correction=0)
    order = torch.randperm(len(features))
    train_x, test_x = features[order[:-held_out]], features[order[-held_out:]]
    return (train_x, labels[:-held_out]), (test_x, labels[-held_out:])


@contextmanager
def _refused_data_loader() -> Iterator[list[str]]:
    """Let `DataLoader` raise in the block; the list that is yielded notes that it was asked for."""
    asked: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        asked.append("DataLoader")
        raise RuntimeError("`DataLoader` is not allowed here: the exercise is to build it.")

    with mock.patch.object(DataLoader, "__init__", refuse):
        yield asked


def _built_by_hand(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a loader, or that it uses torch's: all those share one sentence, so they share their evidence."""
    with _refused_data_loader() as asked:
        try:
            evidence = _epochs(function, arguments)
        except Exception:
            if not asked:
                raise
    return {"use of `DataLoader`": "at least one"} if asked else {"use of `DataLoader`": "none"} | evidence


def _epochs(function: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """A loader's length, its batches in two epochs and in two at once, and which items were fetched when.

    Whether the items of a dropped batch are fetched is left open.
    """
    items = _Items(arguments["dataset"])
    loader = apply(function, arguments | {"dataset": items})
    most = 3 + len(items)
    kept = len(items) - (len(items) % arguments["batch_size"] if arguments.get("drop_last") else 0)
    evidence: dict[str, Any] = {"length": collect(len(loader)), "items fetched by constructing": list(items.fetched)}
    for epoch in ("first", "second"):
        items.fetched.clear()
        running, batches, fetched_at_first = iter(loader), [], []
        for _ in range(most):
            try:
                batches.append(collect(next(running)))
            except StopIteration:
                break
            if len(batches) == 1:
                fetched_at_first = items.fetched[:kept]
        evidence[f"list of batches of the {epoch} epoch"] = batches
        evidence[f"list of items fetched for the first batch of the {epoch} epoch"] = fetched_at_first
        evidence[f"list of items fetched in the {epoch} epoch"] = items.fetched[:kept]
        evidence[f"list of items fetched more than once in the {epoch} epoch"] = sorted(
            index for index, count in Counter(items.fetched).items() if count > 1
        )
    evidence["batches of two iterations at once"] = _two_at_once(loader, most)
    return evidence


def _two_at_once(loader: Any, most: int) -> tuple[list, list]:
    """The batches of two iterators that are asked in turn."""
    running, batches, end = (iter(loader), iter(loader)), ([], []), object()
    for _ in range(most):
        for iterator, own in zip(running, batches, strict=True):
            if (batch := next(iterator, end)) is not end:
                own.append(collect(batch))
    return batches


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "`__init__` only remembers. `__iter__` runs once per epoch: that is where the order is drawn.",
        "Make `__iter__` a generator: `yield` one batch, and go on from there when the next one is asked for.",
        "`len(loader)`: n // batch_size full batches, and one more if something is left and kept.",
        "A batch is `self.collate_fn([self.dataset[i] for i in chosen])`, chosen being a slice of the order.",
    ],
    probe=_built_by_hand,
)
def Loader(rng):
    """Trials for the batches of two epochs."""

    def items(n):
        return [(rng.normal(2), rng.integer(0, 10)) for _ in range(n)]

    def settings(shuffle=False, drop_last=False, collate_fn=torch.utils.data.default_collate):
        return {"shuffle": shuffle, "drop_last": drop_last, "collate_fn": collate_fn, "generator": _generator(rng)}

    yield trial("in order, the last batch is short", dataset=items(5), batch_size=2, **settings())
    yield trial("in order, a short last batch is dropped", dataset=items(5), batch_size=2, **settings(drop_last=True))
    yield trial("shuffled", dataset=items(7), batch_size=3, **settings(shuffle=True))
    yield trial("shuffled, drop_last", dataset=items(9), batch_size=4, **settings(shuffle=True, drop_last=True))
    yield trial("n is a multiple of batch_size", dataset=items(6), batch_size=3, **settings(shuffle=True))
    yield trial("n is a multiple, drop_last", dataset=items(6), batch_size=2, **settings(drop_last=True))
    yield trial("collate_fn=len", dataset=items(7), batch_size=3, **settings(collate_fn=len))
    yield trial("the defaults", dataset=items(3), batch_size=2)
    yield trial("shuffled by the shared generator", dataset=items(12), batch_size=5, shuffle=True)
    yield trial("numbers, batches of one", dataset=[4, 7, 1], batch_size=1, **settings(shuffle=True))
    yield trial("fewer items than a batch", dataset=items(2), batch_size=5, **settings())
    yield trial("fewer items than a batch, drop_last", dataset=items(2), batch_size=5, **settings(drop_last=True))
    yield trial("no items", dataset=[], batch_size=3, **settings(shuffle=True))


class _LoaderFrame:
    """The frame of the mistakes: a loader but for its batches."""

    def __init__(
        self, dataset, batch_size, shuffle=False, drop_last=False,
        collate_fn=torch.utils.data.default_collate, generator=None,
    ):  # fmt: skip
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.collate_fn, self.generator = drop_last, collate_fn, generator

    def __len__(self):
        return len(_runs(range(len(self.dataset)), self.batch_size, self.drop_last))

    def order(self):
        n = len(self.dataset)
        return torch.randperm(n, generator=self.generator).tolist() if self.shuffle else list(range(n))


class _Batches:
    """The right batches, for subclasses of `_LoaderFrame` that get something else wrong."""

    def __iter__(self):
        for run in _runs(self.order(), self.batch_size, self.drop_last):
            yield self.collate_fn([self.dataset[i] for i in run])


@Loader.mistake(
    "Every epoch has the same order, because it was drawn in `__init__`. Draw it in `__iter__`, once per epoch."
)
class shuffles_once(_Batches, _LoaderFrame):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.fixed = super().order()

    def order(self):
        return self.fixed


@Loader.mistake("The shuffled order came from the shared generator: pass `generator=self.generator` to `randperm`.")
class ignores_its_generator(_Batches, _LoaderFrame):
    def order(self):
        n = len(self.dataset)
        return torch.randperm(n).tolist() if self.shuffle else list(range(n))


@Loader.mistake(
    "Without a generator the order comes from one that you made, which no `torch.manual_seed` reaches. Pass None on to "
    "`randperm`: it then draws from the shared generator."
)
class makes_a_generator(_Batches, _LoaderFrame):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.generator = self.generator if self.generator is not None else torch.Generator()


@Loader.mistake("`DataLoader` is not allowed here: the exercise is to build it.")
class uses_torchs_own(_LoaderFrame):
    def __iter__(self):
        return iter(DataLoader(self.dataset, self.batch_size, self.shuffle, drop_last=self.drop_last))


@Loader.mistake(
    "Two iterations at once disturb each other, because the loader is its own iterator and keeps one place for all. Write "
    "`__iter__` with `yield`: each call then makes an iterator of its own."
)
class is_its_own_iterator(_LoaderFrame):
    def __iter__(self):
        self.left = _runs(self.order(), self.batch_size, self.drop_last)
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.collate_fn([self.dataset[i] for i in self.left.pop(0)])


@Loader.mistake("The items are never shuffled.")
class never_shuffles(_Batches, _LoaderFrame):
    def order(self):
        return list(range(len(self.dataset)))


@Loader.mistake(
    "All items were fetched before the first batch was out. Fetch them batch by batch: a data set may not fit into memory."
)
class fetches_everything_first(_LoaderFrame):
    def __iter__(self):
        items = {i: self.dataset[i] for i in self.order()}
        for run in _runs(list(items), self.batch_size, self.drop_last):
            yield self.collate_fn([items[i] for i in run])


@Loader.mistake("`drop_last` is not heeded: the short last batch is always there.")
class never_drops_a_batch(_LoaderFrame):
    def __iter__(self):
        for run in _runs(self.order(), self.batch_size, False):
            yield self.collate_fn([self.dataset[i] for i in run])


@Loader.mistake("The length counts full batches only. A short last one counts too, unless it is dropped.")
class counts_full_batches(_Batches, _LoaderFrame):
    def __len__(self):
        return len(self.dataset) // self.batch_size


@Loader.mistake("The length is the number of items. It is the number of batches.")
class counts_items(_Batches, _LoaderFrame):
    def __len__(self):
        return len(self.dataset)


@Loader.mistake("`collate_fn` is not heeded: the batches are always collated by PyTorch's own.")
class collates_its_own_way(_Batches, _LoaderFrame):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.collate_fn = torch.utils.data.default_collate


@Loader.mistake("The batches are lists of items: hand each list to `collate_fn`.")
class does_not_collate(_LoaderFrame):
    def __iter__(self):
        for run in _runs(self.order(), self.batch_size, self.drop_last):
            yield [self.dataset[i] for i in run]


@Loader.mistake(
    "The second epoch is empty: the loader is its own iterator and has come to its end. Begin anew in each `__iter__`."
)
class runs_out(_Batches, _LoaderFrame):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.running = super().__iter__()

    def __iter__(self):
        return self.running
