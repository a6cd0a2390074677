# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 3: Data pipelines
#
# Each exercise is one function or one class. Replace `raise NotImplementedError` with your code, run the cell, and run
# the `check` under it. Work from top to bottom: the exercises climb, and later ones use what earlier ones taught.
#
# - `check(name)` tries your code on data that you may not have thought of, and shows the first trial that fails.
# - Stuck after 10 minutes? `hint(name)` gives one hint, and the next one when you run it again.
# - `solution(name)` shows the book's answer, once you have tried.
# - `progress()` shows what you have solved.
#
# Three rules hold for all of them:
#
# - **Arguments stay as they are.** The caller still needs them. A generator is the exception: it is there to be drawn
#   from.
# - **A generator that is passed is used**, and no other. Equal seeds then give equal batches.
# - **Loops over items are fine here**, and over batches. What the numbers of a batch need is one tensor operation.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
)

from autograder import check, hint, progress, solution

if TYPE_CHECKING:
    import datasets  # for the type hints alone: it takes two seconds

# %% [markdown]
# ## Recall
#
# One idea each: indices in batches, undoing a transform, numbering words.

# %% [markdown]
# ### `epoch_batches` · 1 point · ●○○ · about 6 min
#
# Before a loader fetches anything it decides which items make which batch. Return that plan for one epoch of n items: a
# list of int64 tensors. Shuffle with `torch.randperm(n, generator=generator)` and cut that order into runs of
# `batch_size`. The last run may be shorter; with `drop_last=True` a shorter run is left out. No batch is empty.
#
# If the order is `[3, 0, 4, 1, 2]` and `batch_size` is 2, the plan is `[3, 0]`, `[4, 1]`, `[2]`. With `drop_last=True`
# it is `[3, 0]`, `[4, 1]`.


# %%
def epoch_batches(n: int, batch_size: int, drop_last: bool, generator: torch.Generator) -> list[torch.Tensor]:
    """Which items make which batch, for one shuffled epoch.

    n: number of items, may be 0. batch_size: at least 1.
    Returns a list of int64 tensors, each of shape (batch_size,), the last one possibly shorter.
    """
    ### BEGIN SOLUTION
    order = torch.randperm(n, generator=generator)  # (n,)
    end = n - n % batch_size if drop_last else n
    return [order[start : start + batch_size] for start in range(0, end, batch_size)]
    ### END SOLUTION


# %%
check(epoch_batches)

# %% [markdown]
# ### `Denormalize` · 1 point · ●○○ · about 8 min
#
# `v2.Normalize(mean, std)` maps each channel x to (x − mean) / std. Write the transform that undoes it. An instance
# is called with images of shape `(c, h, w)` or `(n, c, h, w)` and returns new images of the same shape and dtype. The
# images are `float32` or `float64`. For `float16` as well, convert mean and std to the dtype of the images.
#
# `Denormalize([4, 0], [2, 3])` turns the image `[[[3]], [[2]]]`, two channels of one pixel, into `[[[10]], [[6]]]`:
# 3 · 2 + 4 and 2 · 3 + 0.


# %%
class Denormalize:
    """The inverse of `Normalize`.

    mean, std: one number per channel, each a list of numbers or a tensor of shape (c,).
    Called with float images of shape (c, h, w) or (n, c, h, w); returns the same shape and dtype.
    """

    def __init__(self, mean: Sequence[float] | torch.Tensor, std: Sequence[float] | torch.Tensor) -> None:
        ### BEGIN SOLUTION
        self.mean, self.std = mean, std
        ### END SOLUTION

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        ### BEGIN SOLUTION
        mean, std = (
            torch.as_tensor(one, dtype=images.dtype).reshape(-1, 1, 1)  # (c, 1, 1) fits (c, h, w) and (n, c, h, w)
            for one in (self.mean, self.std)
        )
        return images * std + mean
        ### END SOLUTION


# %%
check(Denormalize)

# %% [markdown]
# ### `number_words` · 2 points · ●○○ · about 10 min
#
# Make the vocabulary of a list of sentences: a dictionary from word to number. Words are what `.lower().split()` gives.
# Only words that occur at least `min_count` times in all the sentences together get a number. The numbers begin at 2,
# because 0 is kept for padding and 1 for unknown words. The most frequent word gets 2; words that are equally frequent
# follow the alphabet, as `sorted` has it.
#
# The sentences `"so good"`, `"So bad"` and `"good good film"` with `min_count=2` give `{"good": 2, "so": 3}`. With
# `min_count=1`, `"bad"` and `"film"` follow with 4 and 5.


# %%
def number_words(sentences: list[str], min_count: int) -> dict[str, int]:
    """The vocabulary of some sentences.

    min_count: at least 1. Returns {word: number}, numbers 2, 3, … without gaps, the most frequent word first.
    """
    ### BEGIN SOLUTION
    counts = Counter(word for sentence in sentences for word in sentence.lower().split())
    kept = [word for word in counts if counts[word] >= min_count]
    ranked = sorted(kept, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked, start=2)}
    ### END SOLUTION


# %%
check(number_words)

# %% [markdown]
# ## Apply
#
# The pieces between the files and the network: data sets, splits, collating, sampling.

# %% [markdown]
# ### `WindowDataset` · 2 points · ●●○ · about 12 min
#
# To forecast a series one learns from its windows: `size` steps as the input, the `horizon` steps after them as the
# target. Write the map-style data set. Item i is the pair
# `(series[i : i + size], series[i + size : i + size + horizon])`. The length is the number of windows whose input *and*
# target lie wholly inside the series. Item −1 is the last, as in a list. An index below −length, or from the length
# upwards, raises `IndexError`, so that `for` ends. For a series far too short the formula turns negative, which `len`
# refuses: `max(0, …)` is a good habit.
#
# The series `[0, 1, 2, 3, 4]` with size 2 and horizon 1 has 3 items. Item 0 is `([0, 1], [2])`, items 2 and −1 are
# `([2, 3], [4])`, and items 3 and −4 raise `IndexError`.


# %%
class WindowDataset(Dataset):
    """The windows of a series and what follows each.

    series: a tensor, shape (t,) or (t, features). size, horizon: at least 1.
    Item i: the pair of tensors (input, target), `size` and `horizon` long.
    """

    def __init__(self, series: torch.Tensor, size: int, horizon: int) -> None:
        ### BEGIN SOLUTION
        self.series, self.size, self.horizon = series, size, horizon
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return max(0, len(self.series) - self.size - self.horizon + 1)
        ### END SOLUTION

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        ### BEGIN SOLUTION
        start = range(len(self))[index]  # a range takes negative numbers, and raises IndexError outside
        middle = start + self.size
        return self.series[start:middle], self.series[middle : middle + self.horizon]
        ### END SOLUTION


# %%
check(WindowDataset)

# %% [markdown]
# ### `TransformedSubset` · 2 points · ●●○ · about 10 min
#
# Training items are augmented, validation items are not, yet both come from one data set of (image, label) items. Write
# the data set that makes this possible: item k is the item of `dataset` at `indices[k]`, its image passed through
# `transform`, its label as it is. With `transform=None` the image is as it is, too.
#
# The transform may be random, and the data set larger than the memory: each time an item is asked for, fetch it once
# and call the transform once, and do neither before.
#
# For `dataset = [(10, 0), (20, 1), (30, 0)]`, `indices = [2, 0]` and a transform that adds 1, the length is 2, item 0
# is `(31, 0)`, and item 1 is `(11, 0)`.


# %%
class TransformedSubset(Dataset):
    """Some items of a data set, with a transform of their own.

    dataset: map-style, items (image, label). indices: a list or an int64 tensor. transform: image -> image, or None.
    Item k: the pair (transform(image), label) of item indices[k].
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int], transform: Callable | None = None) -> None:
        ### BEGIN SOLUTION
        self.dataset, self.indices, self.transform = dataset, indices, transform
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self.indices)
        ### END SOLUTION

    def __getitem__(self, k: int) -> tuple:
        ### BEGIN SOLUTION
        image, label = self.dataset[self.indices[k]]
        if self.transform is not None:
            image = self.transform(image)
        return image, label
        ### END SOLUTION


# %%
check(TransformedSubset)

# %% [markdown]
# ### `pad_collate` · 2 points · ●●○ · about 10 min
#
# A `DataLoader` hands your `collate_fn` the items of one batch as a list. Here each is a pair: the word numbers of a
# sentence, int64 of shape `(t_i,)`, and its label, a Python int. Return the tuple `(ids, mask, labels)`:
#
# - ids, int64 of shape `(b, t)`, where t is the longest of the t_i; shorter sentences are filled up with 0 *on the
#   right*;
# - mask, bool of shape `(b, t)`, true where a real word stands;
# - labels, int64 of shape `(b,)`.
#
# The mask says where the sentence *is*, not what it says: a 0 that belongs to the sentence is real. A sentence may be
# empty, but never all of a batch.
#
# `[(tensor([5, 7, 6]), 1), (tensor([4]), 0)]` gives ids `[[5, 7, 6], [4, 0, 0]]`, mask
# `[[True, True, True], [True, False, False]]` and labels `[1, 0]`.


# %%
def pad_collate(batch: list[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sentences of different lengths as one batch.

    batch: at least one pair of ids and label. ids: int64, shape (t_i,), t_i ≥ 0, not all 0, each number at least 0.
    Returns the tuple (ids int64 (b, t), mask bool (b, t), labels int64 (b,)).
    """
    ### BEGIN SOLUTION
    sentences = [sentence for sentence, _ in batch]
    lengths = torch.tensor([len(sentence) for sentence in sentences])  # (b,)
    ids = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True)  # (b, t)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]  # (t,) < (b, 1) -> (b, t)
    return ids, mask, torch.tensor([label for _, label in batch])
    ### END SOLUTION


# %%
check(pad_collate)

# %% [markdown]
# ### `split_indices` · 2 points · ●●○ · about 12 min
#
# Divide the indices 0 to n − 1 at random among several parts: return a list with one int64 tensor per fraction. Every
# index is in exactly one part. The size of a part differs from fraction · n by at most 1. Which index comes into which
# part is decided by the generator alone: equal seeds give equal parts, and any choice of indices may become any part.
# To turn the order round, as `roll` does, is not enough: its neighbours stay together.
#
# n = 10 and fractions `[0.5, 0.25, 0.25]` may give `[3, 0, 9, 7, 4]`, `[8, 1]` and `[2, 6, 5]`. Any other order will
# do, as will the sizes 5, 3, 2.


# %%
def split_indices(n: int, fractions: Sequence[float], generator: torch.Generator) -> list[torch.Tensor]:
    """The indices of n items, divided at random.

    n: at least 0. fractions: positive, they sum to 1 up to rounding. Returns a list of int64 tensors, one per fraction.
    """
    ### BEGIN SOLUTION
    order = torch.randperm(n, generator=generator)  # (n,)
    ends = [round(n * total) for total in accumulate(fractions)]  # rounded once each, so that no rest is left over
    return [order[start:end] for start, end in pairwise([0, *ends])]
    ### END SOLUTION


# %%
check(split_indices)

# %% [markdown]
# ### `balanced_sampler` · 2 points · ●●○ · about 8 min
#
# Where one class is rare, a model sees it rarely. Return a `WeightedRandomSampler` that draws `len(labels)` indices
# with replacement, using the given generator, such that every class that occurs is drawn equally often on average.
# Items of one class are equally likely.
#
# For the labels `[0, 0, 0, 1]` the weights may be `[1, 1, 1, 3]`, or the same times any factor: three items of weight 1
# are drawn as often as one of weight 3.


# %%
def balanced_sampler(labels: torch.Tensor, generator: torch.Generator) -> WeightedRandomSampler:
    """A sampler under which all classes are equally frequent.

    labels: int64, shape (n,), n ≥ 1, each at least 0; some numbers may not occur.
    """
    ### BEGIN SOLUTION
    counts = labels.bincount()  # (largest label + 1,)
    weights = 1 / counts[labels]  # (n,), one weight per item
    return WeightedRandomSampler(weights, len(labels), generator=generator)
    ### END SOLUTION


# %%
check(balanced_sampler)

# %% [markdown]
# ## Combine
#
# Two or three ideas at once. Say first what each step holds in memory, and where.

# %% [markdown]
# ### `channel_stats` · 3 points · ●●○ · about 15 min
#
# The numbers that `Normalize` needs: for a data set of (image, label) items, images `(c, h, w)`, return the tuple
# `(mean, std)`, each of shape `(c,)`, in the images' dtype. Both run over all pixels of all images. The standard
# deviation is that of the population: the mean squared distance from the mean, then the root.
#
# The data set may be larger than the memory: hold a few batches of `batch_size` images at a time, and never all of
# them. The last batch may be short, and must count for no more than its images. Better add up in `float64`: in
# `float32`, large values with a small spread would lose their digits. Rounding may leave the variance of a blank
# channel a little below 0, and its root is then NaN: `clamp(min=0)` helps.
#
# Two images of one channel with two pixels each, `[[[1, 3]]]` and `[[[5, 7]]]`, have the mean `[4]` and the standard
# deviation `[2.2361]`, the root of (9 + 1 + 1 + 9) / 4.


# %%
def channel_stats(dataset: Dataset, batch_size: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population standard deviation of each channel of a data set.

    dataset: map-style, at least one item (image, label), images float of one shape (c, h, w).
    Returns the tuple (mean, std), each of shape (c,), in the images' dtype.
    """
    ### BEGIN SOLUTION
    count = total = squares = 0
    for images, _ in DataLoader(dataset, batch_size):  # (batch, c, h, w)
        channels = images.double().transpose(0, 1).flatten(1)  # (c, batch * h * w)
        count += channels.shape[1]
        total = total + channels.sum(dim=1)  # (c,)
        squares = squares + channels.square().sum(dim=1)  # (c,)
    mean = total / count
    variance = squares / count - mean.square()  # the mean of the squares, minus the square of the mean
    return mean.to(images.dtype), variance.clamp(min=0).sqrt().to(images.dtype)
    ### END SOLUTION


# %%
check(channel_stats)

# %% [markdown]
# ### `ShardedLines` · 3 points · ●●● · about 15 min
#
# Each worker of a `DataLoader` gets a copy of an iterable data set, and each copy would yield everything. Write the
# iterable data set that yields every line exactly once, whatever `num_workers` is: each worker yields its own share.
# Without workers it yields all the lines in their order. With w workers, none yields more than len(lines) / w lines,
# rounded up; there may be more workers than lines. It can be iterated again, for the next epoch. A line comes out as it
# is, even if it is empty.
#
# Two workers may share `["a", "b", "c"]` as `["a", "c"]` and `["b"]`, or as `["a", "b"]` and `["c"]`.


# %%
class ShardedLines(IterableDataset):
    """Lines of text, each yielded once, however many workers read them.

    lines: a list of str; equal lines may occur more than once.
    """

    def __init__(self, lines: list[str]) -> None:
        ### BEGIN SOLUTION
        self.lines = lines
        ### END SOLUTION

    def __iter__(self) -> Iterator[str]:
        ### BEGIN SOLUTION
        worker = get_worker_info()  # asked here, in the worker: __init__ runs in the main process
        if worker is None:
            return iter(self.lines)
        return iter(self.lines[worker.id :: worker.num_workers])
        ### END SOLUTION


# %%
check(ShardedLines)

# %% [markdown]
# ### `tokenize_reviews` · 3 points · ●●○ · about 12 min
#
# Given a `datasets.Dataset` with a column `text`, and a vocabulary {word: number}, return the data set with one more
# column, `input_ids`: for each row the list of its words' numbers. Words are what `.lower().split()` gives, and a word
# that is not in the vocabulary has the number 1. Do it by one `map` with `batched=True`. All other columns stay as
# they are, `text` included, and so does the format; an empty text has the empty list.
#
# With the vocabulary `{"so": 2, "good": 3}` the row `"So  GOOD !"` gets the `input_ids` `[2, 3, 1]`.


# %%
def tokenize_reviews(dataset: "datasets.Dataset", vocabulary: dict[str, int]) -> "datasets.Dataset":
    """Word numbers for every row, as a new column.

    dataset: has a column "text" of strings, and maybe others. vocabulary: {word: number}, numbers from 2.
    Returns a `datasets.Dataset` with the additional column "input_ids", lists of int.
    """
    ### BEGIN SOLUTION

    def add_ids(batch: dict[str, list]) -> dict[str, list]:
        return {"input_ids": [[vocabulary.get(word, 1) for word in text.lower().split()] for text in batch["text"]]}

    return dataset.map(add_ids, batched=True)
    ### END SOLUTION


# %%
check(tokenize_reviews)

# %% [markdown]
# ## Debug
#
# This program runs without an error, and the model that is trained on its output gets a good score. The score is wrong.

# %% [markdown]
# ### `standardised_split` · 3 points · ●●● · about 15 min
#
# Wanted: shuffle the n rows with `torch.randperm(n, generator=generator)`; the *last* `held_out` rows of that order are
# the test part, the others the training part. Shift and scale each feature so that it has mean 0 and population
# standard deviation 1 *over the training part*; the test part is shifted and scaled by the same numbers, because
# nothing may be learnt from it. Return `((train_x, train_y), (test_x, test_y))`.
#
# ```python
# def standardised_split(features, labels, held_out, generator):
#     features -= features.mean(dim=0)
#     features /= features.std(dim=0, correction=0)
#     order = torch.randperm(len(features))
#     train_x, test_x = features[order[:-held_out]], features[order[-held_out:]]
#     train_y, test_y = labels[:-held_out], labels[-held_out:]
#     return (train_x, train_y), (test_x, test_y)
# ```
#
# It has five faults; the fifth shows where `held_out` is 0. Find them and write the mended function. For the features
# `[[1], [3], [9]]`, the labels `[0, 1, 2]`, `held_out=1` and the order `[1, 0, 2]` the training part is
# `([[1], [-1]], [1, 0])`: the rows 3 and 1 have mean 2 and standard deviation 1. The test part is `([[7]], [2])`.


# %%
def standardised_split(
    features: torch.Tensor, labels: torch.Tensor, held_out: int, generator: torch.Generator
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A shuffled split into training and test part, scaled by the training part alone.

    features: float, shape (n, d). labels: int64, shape (n,). held_out: from 0 to n - 2.
    No feature is constant over the training part.
    Returns ((train_x, train_y), (test_x, test_y)), train_x of shape (n - held_out, d), test_x of shape (held_out, d).
    """
    ### BEGIN SOLUTION
    order = torch.randperm(len(features), generator=generator)  # (n,)
    end = len(features) - held_out  # order[:-0] would be empty
    train, test = order[:end], order[end:]
    mean, std = features[train].mean(dim=0), features[train].std(dim=0, correction=0)  # (d,), the test part unseen
    return tuple(((features[part] - mean) / std, labels[part]) for part in (train, test))
    ### END SOLUTION


# %%
check(standardised_split)

# %% [markdown]
# ## Build
#
# What you have used all through the chapter, from nothing.

# %% [markdown]
# ### `Loader` · 4 points · ●●● · about 25 min
#
# Write a `DataLoader` for one process. Iterating it yields the batches of one epoch, each the result of `collate_fn` on
# a list of items. Without `shuffle` the items come in the order 0, 1, 2, …; with it in the order
# `torch.randperm(len(dataset), generator=generator)`, drawn afresh at the start of every epoch. The last batch may be
# short; with `drop_last=True` a short one is left out. `len(loader)` is the number of batches of an epoch. An item is
# fetched when its batch is asked for, not before, and never twice in an epoch. (You may or may not fetch the items of a
# batch that is left out.) Two iterations may run at the same time, as in `zip(loader, loader)`: each has its own order
# and its own place.
#
# `list(Loader([10, 20, 30], batch_size=2))` is `[tensor([10, 20]), tensor([30])]`: the default for `collate_fn` is
# PyTorch's own, `default_collate`. With `drop_last=True` and `collate_fn=sum` it is `[30]`.
#
# Not allowed: `DataLoader`, because this exercise builds it.


# %%
class Loader:
    """Batches of a map-style data set, one epoch per iteration.

    dataset: has `__len__` and `__getitem__`. batch_size: at least 1. collate_fn: list of items -> batch.
    generator: used for shuffling; None for the shared one.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable = default_collate,
        generator: torch.Generator | None = None,
    ) -> None:
        ### BEGIN SOLUTION
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.collate_fn, self.generator = drop_last, collate_fn, generator
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full if self.drop_last or rest == 0 else full + 1
        ### END SOLUTION

    def __iter__(self) -> Iterator:
        ### BEGIN SOLUTION
        n = len(self.dataset)
        order = torch.randperm(n, generator=self.generator).tolist() if self.shuffle else range(n)
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield self.collate_fn([self.dataset[index] for index in chosen])
        ### END SOLUTION


# %%
check(Loader)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
