"""Odd answers to chapter 3, right and wrong."""

import itertools
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
    random_split,
)
from torchvision.transforms import v2


def _sampled(n, batch_size, drop_last, generator):
    if n == 0:
        return []
    sampler = BatchSampler(RandomSampler(range(n), generator=generator), batch_size, drop_last)
    return [torch.tensor(batch) for batch in sampler]


def _popped(n, batch_size, drop_last, generator):
    left, batches = torch.randperm(n, generator=generator), []
    while len(left) >= (batch_size if drop_last else 1):
        batches.append(left[:batch_size])
        left = left[batch_size:]
    return batches


class DenormalizeModule(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64).view(-1, 1, 1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float64).view(-1, 1, 1))

    def forward(self, inputs):
        return (inputs.double() * self.std + self.mean).to(inputs.dtype)


class DenormalizeTransform(v2.Transform):
    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def transform(self, inpt, params):
        mean, std = (torch.as_tensor(v, dtype=inpt.dtype)[:, None, None] for v in (self.mean, self.std))
        return torch.addcmul(mean, inpt, std)


class DenormalizeByNormalize:
    def __init__(self, mean, std):
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        self.undo = v2.Normalize((-mean / std).tolist(), (1 / std).tolist())

    def __call__(self, images):
        return self.undo(images)


class DenormalizePlainly:
    def __init__(self, mean, std):
        self.mean, self.std = (torch.as_tensor(values).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, x):
        return x * self.std + self.mean


def _counted_by_hand(sentences, min_count):
    counts = defaultdict(int)
    for sentence in sentences:
        for word in sentence.lower().split():
            counts[word] += 1
    ordered = sorted(counts)
    ordered.sort(key=counts.get, reverse=True)
    vocabulary = {}
    for word in ordered:
        if counts[word] >= min_count:
            vocabulary[word] = len(vocabulary) + 2
    return vocabulary


class WindowsInAdvance(Dataset):
    def __init__(self, series, size, horizon, step=1):
        last = len(series) - size - horizon
        self.items = [(series[i : i + size], series[i + size : i + size + horizon]) for i in range(0, last + 1, step)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Window(NamedTuple):
    input: torch.Tensor
    target: torch.Tensor


class WindowsByHand:
    def __init__(self, series, size, horizon):
        self.s, self.n, self.h = series.clone(), size, horizon

    def __len__(self):
        count = self.s.shape[0] - (self.n + self.h) + 1
        return count if count > 0 else 0

    def __getitem__(self, i):
        if i < 0:
            i += len(self)
        if i < 0 or i >= len(self):
            raise IndexError("no such window")
        both = self.s.narrow(0, i, self.n + self.h)
        return Window(*both.split([self.n, self.h]))


class WindowsPlainly(Dataset):
    def __init__(self, series, size, horizon):
        self.series, self.size, self.horizon = series, size, horizon

    def __len__(self):
        return len(self.series) - self.size - self.horizon + 1

    def __getitem__(self, i):
        n = len(self)
        if i < -n or i >= n:
            raise IndexError(i)
        i = i + n if i < 0 else i
        end = i + self.size
        return self.series[i:end], self.series[end : end + self.horizon]


class WindowsAsLists(WindowsByHand):
    def __getitem__(self, i):
        return list(super().__getitem__(i))


class SubsetOfSubset(Subset):
    def __init__(self, dataset, indices, transform=None):
        super().__init__(dataset, indices)
        self.transform = transform or (lambda image: image)

    def __getitem__(self, k):
        item = list(super().__getitem__(k))
        item[0] = self.transform(item[0])
        return item

    def __getitems__(self, indices):
        return [self[k] for k in indices]


def _collated_in_numpy(batch):
    longest = max((len(ids) for ids, _ in batch), default=0)
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros((len(batch), longest), dtype=bool)
    for row, (sentence, _) in enumerate(batch):
        ids[row, : len(sentence)] = sentence.numpy()
        mask[row, : len(sentence)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.LongTensor([label for _, label in batch])


def _masks_padded(batch):
    pad = nn.utils.rnn.pad_sequence
    ids = pad([ids for ids, _ in batch], batch_first=True)
    mask = pad([torch.ones_like(ids, dtype=torch.bool) for ids, _ in batch], batch_first=True)
    return ids, mask, torch.stack([torch.tensor(label) for _, label in batch])


def _sentinel_padded(batch):
    ids = nn.utils.rnn.pad_sequence([ids for ids, _ in batch], batch_first=True, padding_value=-1)
    return [ids.clamp(min=0), ids != -1, torch.tensor([label for _, label in batch])]


def _padded_as_lists(batch):
    m = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids.tolist() + [0] * (m - len(ids)) for ids, _ in batch])
    mask = torch.tensor([[True] * len(ids) + [False] * (m - len(ids)) for ids, _ in batch])
    return ids, mask, torch.tensor([label for _, label in batch])


def _largest_remainders(n, fractions, generator):
    sizes = [int(n * fraction) for fraction in fractions]
    by_rest = sorted(range(len(sizes)), key=lambda i: sizes[i] - n * fractions[i])
    for i in by_rest[: n - sum(sizes)]:
        sizes[i] += 1
    return list(torch.randperm(n, generator=generator).split(sizes))


def _by_random_keys(n, fractions, generator):
    order = torch.rand(n, generator=generator, dtype=torch.float64).argsort()
    ends = (torch.tensor(fractions, dtype=torch.float64).cumsum(0) * n).round().long()
    return [part.sort().values for part in order.tensor_split(ends[:-1])]


def _item_by_item(n, fractions, generator):
    """Each index goes to the part that is most behind: a right way that shuffles as it goes."""
    parts = [[] for _ in fractions]
    for done, index in enumerate(torch.randperm(n, generator=generator).tolist(), start=1):
        part = max(range(len(parts)), key=lambda p: done * fractions[p] - len(parts[p]))
        parts[part].append(index)
    return [torch.tensor(part, dtype=torch.int64) for part in parts]


def _rotated(n, fractions, generator):
    edges = [round(sum(fractions[:k]) * n) for k in range(len(fractions))] + [n]
    order = torch.arange(n).roll(int(torch.randint(max(n, 1), (), generator=generator)))
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def _shuffled_in_blocks(n, fractions, generator):
    """Pairs of neighbours keep together, in a random order of the pairs."""
    blocks = list(torch.arange(n).split(2)) if n else []
    order = [blocks[i] for i in torch.randperm(len(blocks), generator=generator)]
    ends = [round(n * total) for total in itertools.accumulate(fractions)]
    order = torch.cat([*order, torch.arange(0)])
    return [order[a:b] for a, b in itertools.pairwise([0, *ends])]


class BalancedSampler(WeightedRandomSampler):
    def __init__(self, labels, generator):
        counts = Counter(labels.tolist())
        weights = [1 / (counts[label] * len(counts)) for label in labels.tolist()]
        super().__init__(weights, num_samples=len(labels), replacement=True, generator=generator)


def _welford(dataset, batch_size=256):
    count, mean, spread = 0, 0.0, 0.0
    for i in range(len(dataset)):
        image = dataset[i][0]
        pixels = image.double().flatten(1)
        new, new_mean = pixels.shape[1], pixels.mean(1)
        delta = new_mean - mean
        mean = mean + delta * new / (count + new)
        spread = spread + (pixels - new_mean[:, None]).square().sum(1) + delta**2 * count * new / (count + new)
        count += new
    return mean.to(image.dtype), (spread / count).sqrt().to(image.dtype)


def _two_passes(dataset, batch_size=256):
    def loader():
        return DataLoader(dataset, batch_size=batch_size, shuffle=True)

    dtype = dataset[0][0].dtype
    n = sum(images[:, 0].numel() for images, _ in loader())
    mean = sum(torch.einsum("bchw->c", images.double()) for images, _ in loader()) / n
    variance = sum((images.double() - mean[:, None, None]).square().sum((0, 2, 3)) for images, _ in loader()) / n
    return mean.to(dtype), variance.sqrt().to(dtype)


def _stats_in_numpy(dataset, batch_size=256):
    return _stats_of_images(dataset[i] for i in range(len(dataset)))


def _stats_by_for(dataset, batch_size=256):
    return _stats_of_images(dataset)


def _stats_of_images(items):
    count, total, squares = 0, 0, 0
    for image, _ in items:
        pixels = image.numpy().astype(np.float64)
        count += pixels[0].size
        total = total + pixels.sum((1, 2))
        squares = squares + (pixels**2).sum((1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return torch.from_numpy(mean).to(image.dtype), torch.from_numpy(std).to(image.dtype)


def _plain_float32_sums(dataset, batch_size=256):
    n, s, s2 = 0, 0, 0
    for images, _ in DataLoader(dataset, batch_size=batch_size):
        n += images.shape[0] * images.shape[2] * images.shape[3]
        s = s + images.sum((0, 2, 3))
        s2 = s2 + (images**2).sum((0, 2, 3))
    mean = s / n
    return mean, (s2 / n - mean**2).sqrt()


def _keeps_the_batches(dataset, batch_size=256):
    batches = [images for images, _ in DataLoader(dataset, batch_size)]
    images = torch.cat(batches).double()
    dtype = batches[0].dtype
    return images.mean((0, 2, 3)).to(dtype), images.std((0, 2, 3), correction=0).to(dtype)


def _lists_the_batches(dataset, batch_size=256):
    batches = [images.double() for images, _ in DataLoader(dataset, batch_size)]
    n = sum(batch[:, 0].numel() for batch in batches)
    mean = sum(batch.sum((0, 2, 3)) for batch in batches) / n
    variance = sum((batch - mean[:, None, None]).square().sum((0, 2, 3)) for batch in batches) / n
    dtype = dataset[0][0].dtype
    return mean.to(dtype), variance.sqrt().to(dtype)


class Runs(IterableDataset):
    """As in PyTorch's documentation: each worker a run of the lines, the last ones perhaps less."""

    def __init__(self, lines):
        super().__init__()
        self.lines = tuple(lines)

    def __iter__(self):
        start, end, info = 0, len(self.lines), get_worker_info()
        if info is not None:
            per_worker = -(-end // info.num_workers)
            start = info.id * per_worker
            end = min(start + per_worker, end)
        for i in range(start, end):
            yield self.lines[i]


class EveryNth(IterableDataset):
    def __init__(self, lines):
        self.lines = lines

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        number, count = (info.id, info.num_workers) if info else (0, 1)
        return (line for i, line in enumerate(self.lines) if i % count == number)


class NotIterableDataset:
    def __init__(self, lines):
        self.lines = lines

    __iter__ = EveryNth.__iter__


class Hashed(EveryNth):
    def __iter__(self):
        info = get_worker_info()
        for line in self.lines:
            if info is None or sum(map(ord, line)) % info.num_workers == info.id:
                yield line


def _mapped_with_input_columns(dataset, vocabulary):
    def ids(texts):
        return {"input_ids": [[vocabulary.get(w, 1) for w in t.lower().split()] for t in texts]}

    return dataset.map(ids, input_columns="text", batched=True, batch_size=2, load_from_cache_file=False)


def _mapped_to_arrays(dataset, vocabulary):
    known = defaultdict(lambda: 1, vocabulary)

    def ids(batch):
        batch["input_ids"] = [np.array([known[w] for w in t.lower().split()], dtype=np.int64) for t in batch["text"]]
        return batch

    return dataset.map(ids, None, False, None, True)


def _mapped_and_set_to_torch(dataset, vocabulary):
    dataset.set_format("torch")
    return _mapped_with_input_columns(dataset, vocabulary)


def _mapped_keeping_the_format(dataset, vocabulary):
    mapped = _mapped_with_input_columns(dataset.with_format("numpy"), vocabulary)
    return mapped.with_format(**{name: dataset.format[name] for name in ("type", "output_all_columns")})


def _removes_the_text(dataset, vocabulary):
    def ids(batch):
        return {"input_ids": [[vocabulary.get(w, 1) for w in t.lower().split()] for t in batch["text"]]}

    return dataset.map(ids, batched=True, remove_columns=["text"])


def _added_without_map(dataset, vocabulary):
    ids = [[vocabulary.get(w, 1) for w in t.lower().split()] for t in dataset["text"]]
    return dataset.add_column("input_ids", ids)


def _split_through_numpy(features, labels, held_out, generator):
    order = torch.randperm(len(features), generator=generator).numpy()
    cut = len(order) - held_out
    x, y = features.numpy()[order], labels.numpy()[order]
    x = (x - x[:cut].mean(0)) / x[:cut].std(0)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return (x[:cut], y[:cut]), (x[cut:], y[cut:])


class FunctionalLoader:
    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=None, generator=None, **more):
        self.__dict__.update(locals())
        self.collate_fn = collate_fn or default_collate

    def _batches(self):
        class Fixed:
            def __iter__(inner):
                n = len(self.dataset)
                return iter(torch.randperm(n, generator=self.generator).tolist() if self.shuffle else range(n))

            def __len__(inner):
                return len(self.dataset)

        return BatchSampler(Fixed(), self.batch_size, self.drop_last)

    def __len__(self):
        return len(self._batches())

    def __iter__(self):
        return (self.collate_fn([self.dataset[i] for i in chosen]) for chosen in self._batches())


class LoaderByState:
    """Its own iterator, with `__next__`, so that two iterations at once share one place."""

    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=default_collate, generator=None):
        self.ds, self.bs, self.sh, self.dl, self.cf, self.g = (
            dataset,
            batch_size,
            shuffle,
            drop_last,
            collate_fn,
            generator,
        )

    def __len__(self):
        return len(self.ds) // self.bs if self.dl else -(-len(self.ds) // self.bs)

    def __iter__(self):
        n = len(self.ds)
        self.order = torch.randperm(n, generator=self.g) if self.sh else torch.arange(n)
        self.at = 0
        return self

    def __next__(self):
        if self.at >= len(self):
            raise StopIteration
        chosen = self.order[self.at * self.bs : (self.at + 1) * self.bs]
        self.at += 1
        return self.cf([self.ds[int(i)] for i in chosen])


class FetchingByOne(FunctionalLoader):
    """Collects items until a batch is full, so those of a dropped batch are fetched too."""

    def __len__(self):
        return len(range(0, len(self.dataset) - (self.batch_size - 1 if self.drop_last else 0), self.batch_size))

    def __iter__(self):
        n = len(self.dataset)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        batch = []
        for i in order.tolist():
            batch.append(self.dataset[i])
            if len(batch) == self.batch_size:
                yield self.collate_fn(batch)
                batch = []
        if batch and not self.drop_last:
            yield self.collate_fn(batch)


class IteratorClassLoader(LoaderByState):
    """A new iterator object for each epoch."""

    def __iter__(self):
        running = LoaderByState(self.ds, self.bs, self.sh, self.dl, self.cf, self.g)
        LoaderByState.__iter__(running)
        return running


class TorchInside(FunctionalLoader):
    def __iter__(self):
        n = len(self.dataset)
        order = torch.randperm(n, generator=self.generator).tolist() if self.shuffle else list(range(n))
        yield from DataLoader(
            self.dataset, self.batch_size, sampler=order, drop_last=self.drop_last, collate_fn=self.collate_fn
        )


class TorchSubclass(DataLoader):
    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=None, generator=None):
        super().__init__(dataset, batch_size, shuffle, drop_last=drop_last, collate_fn=collate_fn, generator=generator)


class OwnGeneratorLoader(FunctionalLoader):
    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=None, generator=None):
        generator = generator if generator is not None else torch.Generator()
        super().__init__(dataset, batch_size, shuffle, drop_last, collate_fn, generator)


class FetchingTwice(FunctionalLoader):
    def __iter__(self):
        for chosen in self._batches():
            [self.dataset[i] for i in chosen]
            yield self.collate_fn([self.dataset[i] for i in chosen])


class TorchLoader:
    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=default_collate, generator=None):
        self.loader = DataLoader(
            dataset, batch_size, shuffle, drop_last=drop_last, collate_fn=collate_fn, generator=generator
        )

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return iter(self.loader)


class FetchedTwice(SubsetOfSubset):
    def __getitem__(self, k):
        return self.transform(self.dataset[self.indices[k]][0]), self.dataset[self.indices[k]][1]


class TransformedTwice(SubsetOfSubset):
    def __getitem__(self, k):
        image, label = super().__getitem__(k)
        return self.transform(image), label


class RestToTheLast(EveryNth):
    def __iter__(self):
        info = get_worker_info()
        if info is None:
            return iter(self.lines)
        size = len(self.lines) // info.num_workers
        end = len(self.lines) if info.id == info.num_workers - 1 else (info.id + 1) * size
        return iter(self.lines[info.id * size : end])


class Backwards(EveryNth):
    def __iter__(self):
        return reversed(list(super().__iter__()))


class ListedLoader(FunctionalLoader):
    def __iter__(self):
        return iter(list(super().__iter__()))


class OneEpoch(FunctionalLoader):
    def __iter__(self):
        self.running = getattr(self, "running", None) or super().__iter__()
        return self.running


RIGHT = {
    "epoch_batches": {"torch's samplers": _sampled, "cut off from the front": _popped},
    "Denormalize": {
        "a module": DenormalizeModule,
        "a v2 transform": DenormalizeTransform,
        "Normalize with other numbers": DenormalizeByNormalize,
        "plain": DenormalizePlainly,
    },
    "number_words": {"counted by hand": _counted_by_hand},
    "WindowDataset": {
        "an IndexError of its own": """
class NoSuchWindow(IndexError):
    pass

class WindowDataset(_WindowDataset):
    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise NoSuchWindow(index)
        return super().__getitem__(index)
""",
        "in advance": WindowsInAdvance,
        "by hand": WindowsByHand,
        "pairs as lists": WindowsAsLists,
        "no max": WindowsPlainly,
    },
    "TransformedSubset": {"a Subset, items as lists": SubsetOfSubset},
    "pad_collate": {
        "in NumPy": _collated_in_numpy,
        "masks padded as well": _masks_padded,
        "a sentinel, a list": _sentinel_padded,
        "lists": _padded_as_lists,
    },
    "split_indices": {
        "largest remainders": _largest_remainders,
        "random keys, parts sorted": _by_random_keys,
        "item by item": _item_by_item,
    },
    "balanced_sampler": {
        "a subclass, a list of weights": BalancedSampler,
        "heavy weights": lambda labels, generator: WeightedRandomSampler(
            1e4 / labels.bincount().float()[labels], len(labels), True, generator
        ),
    },
    "channel_stats": {
        "a `for` over the data set": _stats_by_for,
        "Welford": _welford,
        "plain float32 sums": _plain_float32_sums,
        "two shuffled passes": _two_passes,
        "in NumPy": _stats_in_numpy,
        "a list": lambda dataset, batch_size=256: list(_welford(dataset)),
    },
    "ShardedLines": {"runs": Runs, "a generator": EveryNth},
    "tokenize_reviews": {
        "input_columns": _mapped_with_input_columns,
        "arrays, positional": _mapped_to_arrays,
        "the format put back": _mapped_keeping_the_format,
    },
    "standardised_split": {
        "a little more than std": """
def standardised_split(features, labels, held_out, generator):
    order, end = torch.randperm(len(features), generator=generator), len(features) - held_out
    x, y = features[order], labels[order]
    x = (x - x[:end].mean(0)) / (x[:end].std(0, correction=0) + 1e-8)
    return (x[:end], y[:end]), (x[end:], y[end:])
""",
        "in NumPy": _split_through_numpy,
        "lists of pairs": lambda features, labels, held_out, generator: [
            list(part) for part in _split_through_numpy(features, labels, held_out, generator)
        ],
    },
    "Loader": {
        "a BatchSampler": FunctionalLoader,
        "an iterator class": IteratorClassLoader,
        "fetches items of a dropped batch": FetchingByOne,
    },
}

WRONG = {
    "epoch_batches": {
        "the seed of the generator": """
def epoch_batches(n, batch_size, drop_last, generator):
    torch.manual_seed(generator.initial_seed())
    return _epoch_batches(n, batch_size, drop_last, torch.default_generator)
""",
        "chunk": """
def epoch_batches(n, batch_size, drop_last, generator):
    order = torch.randperm(n, generator=generator)
    runs = order.chunk(-(-n // batch_size)) if n else []
    return [run for run in runs if len(run) == batch_size or not drop_last]
""",
        "lists of numbers": lambda n, batch_size, drop_last, generator: [
            batch.tolist() for batch in _popped(n, batch_size, drop_last, generator)
        ],
        "split": lambda n, batch_size, drop_last, generator: torch.randperm(n, generator=generator).split(batch_size),
    },
    "Denormalize": {
        "squeezed": lambda mean, std: lambda images: DenormalizeModule(mean, std)(images).squeeze(),
        "a batch only": lambda mean, std: (
            lambda images: DenormalizeModule(mean, std)(images if images.ndim == 4 else images[None])
        ),
    },
    "number_words": {
        "casefold": """
def number_words(sentences, min_count):
    return _number_words([sentence.casefold() for sentence in sentences], min_count)
""",
        "most_common": lambda sentences, min_count: {
            word: i
            for i, (word, count) in enumerate(Counter(" ".join(sentences).lower().split()).most_common(), 2)
            if count >= min_count
        },
        "without punctuation": lambda sentences, min_count: _counted_by_hand(
            [sentence.replace(",", "") for sentence in sentences], min_count
        ),
    },
    "WindowDataset": {
        "one target": type(
            "LastStep", (WindowsByHand,), {"__getitem__": lambda self, i: (WindowsByHand.__getitem__(self, i)[0], 0)}
        ),
        "KeyError": type("Keyed", (WindowsByHand,), {"__getitem__": lambda self, i: dict(enumerate(self))[i]}),
    },
    "TransformedSubset": {
        "transformed twice": TransformedTwice,
        "fetched twice": FetchedTwice,
    },
    "pad_collate": {
        "-1 as padding": lambda batch: (
            nn.utils.rnn.pad_sequence([ids for ids, _ in batch], batch_first=True, padding_value=-1),
            *_collated_in_numpy(batch)[1:],
        ),
        "float labels": lambda batch: (*_collated_in_numpy(batch)[:2], torch.tensor([float(y) for _, y in batch])),
        "always 100 steps": lambda batch: tuple(
            torch.nn.functional.pad(part, (0, 100)) if part.ndim == 2 else part for part in _collated_in_numpy(batch)
        ),
    },
    "split_indices": {
        "changes the fractions": """
def split_indices(n, fractions, generator):
    fractions[-1] = 1 - sum(fractions[:-1])
    return _split_indices(n, fractions, generator)
""",
        "the largest part first": """
def split_indices(n, fractions, generator):
    return _split_indices(n, sorted(fractions, reverse=True), generator)
""",
        "random_split": lambda n, fractions, generator: [
            torch.tensor(part.indices) for part in random_split(range(n), fractions, generator)
        ],
        "always the same seed": lambda n, fractions, generator: _by_random_keys(n, fractions, generator.manual_seed(0)),
        "turned round": lambda n, fractions, generator: [
            (part + torch.randint(max(1, n), (), generator=generator)) % max(1, n)
            for part in _by_random_keys(n, fractions, generator)
        ],
        "a rotation": _rotated,
        "a shuffle of blocks": _shuffled_in_blocks,
        "a tuple": lambda n, fractions, generator: tuple(_by_random_keys(n, fractions, generator)),
    },
    "balanced_sampler": {
        "one weight per class": lambda labels, generator: WeightedRandomSampler(
            1 / labels.bincount(), len(labels), generator=generator
        ),
        "the weights alone": lambda labels, generator: 1 / labels.bincount()[labels],
        "a root": lambda labels, generator: WeightedRandomSampler(
            labels.bincount()[labels] ** -0.5, len(labels), generator=generator
        ),
        "a generator of its own": lambda labels, generator: BalancedSampler(
            labels, torch.Generator().manual_seed(generator.initial_seed())
        ),
    },
    "channel_stats": {
        "arrays of all images": """
def channel_stats(dataset, batch_size=256):
    import numpy as np

    images = np.stack([dataset[i][0].numpy() for i in range(len(dataset))])
    dtype, images = torch.from_numpy(images).dtype, images.astype(np.float64)
    return torch.from_numpy(images.mean((0, 2, 3))).to(dtype), torch.from_numpy(images.std((0, 2, 3))).to(dtype)
""",
        "one long tensor": _keeps_the_batches,
        "a list of batches": _lists_the_batches,
        "means of means": lambda dataset, batch_size=256: (
            torch.stack([images.mean((0, 2, 3)) for images, _ in DataLoader(dataset, batch_size)]).mean(0),
            _welford(dataset)[1],
        ),
        "drop_last": lambda dataset, batch_size=256: _two_passes(
            Subset(dataset, range(max(1, len(dataset) // batch_size * batch_size))), batch_size
        ),
    },
    "ShardedLines": {
        "leaves out empty lines": """
class ShardedLines(_ShardedLines):
    def __iter__(self):
        return (line for line in super().__iter__() if line)
""",
        "strips": """
class ShardedLines(_ShardedLines):
    def __iter__(self):
        return (line.strip() for line in super().__iter__())
""",
        "no IterableDataset": NotIterableDataset,
        "shared by a hash": Hashed,
        "the rest to the last worker": RestToTheLast,
        "backwards": Backwards,
    },
    "tokenize_reviews": {
        "cut off at 100 words": """
def tokenize_reviews(dataset, vocabulary):
    def ids(batch):
        return {"input_ids": [[vocabulary.get(w, 1) for w in t.lower().split()[:100]] for t in batch["text"]]}

    return dataset.map(ids, batched=True)
""",
        "add_column": _added_without_map,
        "with_format": lambda dataset, vocabulary: _mapped_to_arrays(dataset, vocabulary).with_format("torch"),
        "set_format": _mapped_and_set_to_torch,
        "without the text": _removes_the_text,
        "row by row, in one batch": lambda dataset, vocabulary: dataset.map(
            lambda row: {"input_ids": [vocabulary.get(w, 1) for w in row["text"].lower().split()]}, batched=False
        ),
    },
    "standardised_split": {
        "the seed of the generator": """
def standardised_split(features, labels, held_out, generator):
    anew = torch.Generator().manual_seed(generator.initial_seed())
    return _standardised_split(features, labels, held_out, anew)
""",
        "shuffled before": lambda features, labels, held_out, generator: _split_through_numpy(
            features.flip(0), labels.flip(0), held_out, generator
        ),
        "a safe divisor": lambda features, labels, held_out, generator: tuple(
            (x * 0.99, y) for x, y in _split_through_numpy(features, labels, held_out, generator)
        ),
    },
    "Loader": {
        "a generator of the same seed": """
class Loader(_Loader):
    def __init__(self, dataset, batch_size, shuffle=False, drop_last=False, collate_fn=default_collate, generator=None):
        if generator is not None:
            generator = torch.Generator().manual_seed(generator.initial_seed())
        super().__init__(dataset, batch_size, shuffle, drop_last, collate_fn, generator)
""",
        "torch's own": TorchLoader,
        "torch's own inside": TorchInside,
        "a subclass of torch's own": TorchSubclass,
        "a generator of its own": OwnGeneratorLoader,
        "its own iterator": LoaderByState,
        "items fetched twice": FetchingTwice,
        "all batches at once": ListedLoader,
        "one epoch": OneEpoch,
    },
}
