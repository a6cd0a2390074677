"""Trials, hints and known mistakes of the exercises of chapter 7, in the order of the notebook."""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn

from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import apply, call, call_in_float32, call_with_gradients, fixed_weights

MANY = 320
"""The length of an axis on which a loop shows: even one step of Python for each element is over the judge's limit."""

DRAWS = 6000
"""How often each row of logits is drawn from. A share of draws then strays by at most 0.0065 (standard deviation)."""

SHARES = (0.0, 0.05)
"""The tolerance of shares: five times the spread of the difference of two of them."""


# -- causal_mask ------------------------------------------------------------------------------------------------------


@exercise(
    points=1,
    level=1,
    minutes=4,
    hints=[
        "Which triangle of the matrix is true? Row i is the position that looks, column j the one that is seen.",
        "`tril` keeps the lower triangle with the diagonal. It works on bool tensors.",
        "Comparing `arange(n)` as a column with itself as a row does it too.",
    ],
)
def causal_mask(rng):
    """Trials for mask[i, j] = (j ≤ i)."""
    yield trial("three positions", n=3)
    yield trial("a number drawn", n=rng.integer(5, 25))
    yield trial("a larger number drawn", n=rng.integer(25, 65))
    yield trial("one position", n=1)
    yield trial("a number over a hundred drawn", n=rng.integer(100, 150))
    yield trial("many positions", n=MANY)


@causal_mask.mistake(
    "Row i is the position that looks, column j the one that is seen. In your mask each position sees itself and what "
    "comes *after* it: take the other triangle."
)
def sees_the_future(n):
    return torch.ones(n, n, dtype=torch.bool).triu()


@causal_mask.mistake("The diagonal is missing. A position may attend to itself, and position 0 to nothing else.")
def not_itself(n):
    return torch.ones(n, n, dtype=torch.bool).tril(-1)


@causal_mask.mistake(
    "Your mask is true where attention is *forbidden*, as in `nn.MultiheadAttention`. In this book, and in "
    "`F.scaled_dot_product_attention`, true means: may attend."
)
def true_forbids(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


@causal_mask.mistake("The triangle is right, but a mask is bool: pass `dtype=torch.bool`, or compare with `> 0`.")
def floats(n):
    return torch.ones(n, n).tril()


# -- shift_right ------------------------------------------------------------------------------------------------------


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "Write the two rows one above the other: what the decoder is given at each step, and what it must say there.",
        "The result is one column of `sos`, and beside it all targets but the last.",
        "`torch.cat` along dim 1 joins them; `full_like` makes a column of the right dtype.",
    ],
)
def shift_right(rng):
    """Trials for inputs[:, 0] = sos, inputs[:, i] = targets[:, i − 1]."""
    yield trial("two sequences", targets=rng.integers(3, 60, 2, 5), sos=1)
    yield trial("as long as they are many", targets=rng.integers(3, 60, 4, 4), sos=1)
    yield trial("a padded one", targets=torch.tensor([[7, 8, 9, 2], [5, 2, 0, 0]]), sos=1)
    yield trial("another start token", targets=rng.integers(3, 60, 3, 2), sos=rng.integer(60, 90))
    yield trial("start token 0", targets=rng.integers(3, 60, 2, 3), sos=0)
    yield trial("one step", targets=rng.integers(3, 60, 3, 1), sos=1)
    yield trial("many sequences", targets=rng.integers(3, 60, MANY, 2), sos=1)
    yield trial("many steps", targets=rng.integers(3, 60, 2, MANY), sos=1)


@shift_right.mistake(
    "The inputs are the targets themselves. The decoder would be given at each step the very answer it has to find, and "
    "would learn to copy."
)
def not_shifted(targets, sos):
    return targets.clone()


@shift_right.mistake(
    "`sos` is there, but the last target is too: leave it out, so that inputs and targets are equally long."
)
def one_too_long(targets, sos):
    return F.pad(targets, (1, 0), value=sos)


@shift_right.mistake(
    "You shifted to the left: at each step the decoder is given the answer of the *next* step. It must get that of the "
    "step before."
)
def shifts_left(targets, sos):
    return F.pad(targets, (-1, 1), value=sos)


@shift_right.mistake("`roll` brings the last target round to the front. That place belongs to `sos`.")
def rolls(targets, sos):
    return targets.roll(1, dims=1)


@shift_right.mistake(
    "`sos` was written over the first target. Nothing may be overwritten but the last one: all others move one place to the "
    "right."
)
def overwrites_the_first(targets, sos):
    return torch.cat([torch.full_like(targets[:, :1], sos), targets[:, 1:]], 1)


@shift_right.mistake("The inputs are right, but the caller's targets were changed too. Work on a new tensor.")
def changes_the_targets(targets, sos):
    targets[:, 1:] = targets[:, :-1].clone()
    targets[:, 0] = sos
    return targets


# -- next_token_pairs -------------------------------------------------------------------------------------------------


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "The last token of the text can only be a target. How many of n tokens can be inputs?",
        "With (n − 1) // length pieces, the inputs are the first pieces · length ids. Which ids are the targets?",
        "Cut both out of `ids` first, each as one long run, and then `reshape(pieces, length)`.",
    ],
    vectorised=True,
)
def next_token_pairs(rng):
    """Trials for inputs[p, i] = ids[p · length + i] and targets[p, i] = ids[p · length + i + 1]."""
    yield trial("a rest is left over", ids=rng.integers(0, 1000, 17), length=5)
    yield trial("exactly filled, with the last target", ids=rng.integers(0, 1000, 13), length=4)
    yield trial("one token short of a third piece", ids=rng.integers(0, 1000, 12), length=4)
    yield trial("pieces of one token", ids=rng.integers(0, 1000, 4), length=1)
    yield trial("one piece", ids=rng.integers(0, 1000, 7), length=6)
    yield trial("too short for a piece", ids=rng.integers(0, 1000, 6), length=6)
    yield trial("a single token", ids=rng.integers(0, 1000, 1), length=3)
    yield trial("every other id of a longer text", ids=rng.integers(0, 1000, 20)[::2], length=3)
    yield trial("many pieces", ids=rng.integers(0, 1000, 2 * MANY + 1), length=2)
    yield trial("long pieces", ids=rng.integers(0, 1000, MANY + 3), length=MANY)


def _pieces(ids, length, first, count):
    return ids[first : first + count * length].reshape(count, length)


@next_token_pairs.mistake(
    "One piece too many where the text is just filled: its last target would be the token after the end. The last token "
    "is a target only, so there are (n − 1) // length pieces."
)
def forgets_the_last_target(ids, length):
    count = len(ids) // length
    padded = torch.cat([ids, ids[:1]])
    return _pieces(ids, length, 0, count), _pieces(padded, length, 1, count)


@next_token_pairs.mistake(
    "The targets equal the inputs. Each target is the token that *follows* its input: take them one place later."
)
def predicts_what_it_sees(ids, length):
    inputs = _pieces(ids, length, 0, (len(ids) - 1) // length)
    return inputs, inputs.clone()


@next_token_pairs.mistake(
    "Inputs and targets are swapped: your model would be given a token and have to say the one before it."
)
def predicts_backwards(ids, length):
    count = (len(ids) - 1) // length
    return _pieces(ids, length, 1, count), _pieces(ids, length, 0, count)


@next_token_pairs.mistake(
    "Each piece was rolled round on itself, so its last target is its own first token. The last target of a piece is the "
    "first token of the next."
)
def rolls_each_piece(ids, length):
    inputs = _pieces(ids, length, 0, (len(ids) - 1) // length)
    return inputs, inputs.roll(-1, 1)


@next_token_pairs.mistake(
    "Your pieces overlap: one begins at every token. Asked for are pieces one after the other, `length` apart."
)
def overlapping(ids, length):
    if len(ids) <= length:
        return ids.new_zeros(0, length), ids.new_zeros(0, length)
    windows = ids.unfold(0, length, 1)
    return windows[:-1], windows[1:]


# -- sequence_loss ----------------------------------------------------------------------------------------------------


def _loss_and_gradients(function, arguments):
    """Like `call_with_gradients`; of a loss that is NaN no gradients, because each way to it has other ones."""
    evidence = call_with_gradients(function, arguments)
    result = evidence["result"]
    if isinstance(result, torch.Tensor) and result.is_floating_point() and result.isnan().any():
        evidence["gradients"] = None
    return evidence


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "`F.cross_entropy` takes logits of shape (n, classes) and targets of shape (n,). What is n here?",
        "`flatten(0, 1)` merges batch and time of the logits, `flatten()` those of the targets.",
        "It has an argument that names a target to leave out, of the sum *and* of the count.",
    ],
    probe=_loss_and_gradients,
)
def sequence_loss(rng):
    """Trials for the mean of −log softmax(logits)[b, t, targets[b, t]] over all (b, t) with targets[b, t] ≠ pad."""

    def padded(v, pad, lengths, dtype=torch.float32):
        b, t = len(lengths), max(*lengths, 1)
        targets = (rng.integers(0, v - 1, b, t) + pad + 1) % v  # anything but pad
        for row, length in enumerate(lengths):
            targets[row, length:] = pad
        return {"logits": 2 * rng.normal(b, t, v, dtype=dtype), "targets": targets, "pad": pad}

    yield trial("two sequences, one padded", **padded(7, 0, [5, 2]))
    yield trial("another number stands for padding", **padded(6, 4, [4, 1, 3]))
    yield trial("nothing is padding", **padded(5, 0, [3, 3]))
    yield trial("one sequence is all padding", **padded(4, 0, [3, 0]))
    yield trial("a batch of one", **padded(5, 1, [4]))
    yield trial("one real target", **padded(3, 0, [1, 0, 0]))
    yield trial("all axes equal", **padded(3, 0, [3, 1, 2]))
    large = padded(5, 0, [2, 4])
    yield trial("large logits", **large | {"logits": 100 * large["logits"]})
    yield trial("float64", **padded(6, 0, [2, 5], dtype=torch.float64))
    yield trial("many sequences", **padded(3, 0, [1 + i % 2 for i in range(MANY)]))
    yield trial("many steps", **padded(3, 0, [MANY, 4]))


def _losses(logits, targets):
    return F.cross_entropy(logits.mT, targets, reduction="none")  # (b, t)


def _sums_and_counts(logits, targets, pad):
    """Of each sequence: the sum of the losses of its real targets, and how many these are."""
    real = targets != pad
    return torch.where(real, _losses(logits, targets), 0).sum(1), real.sum(1)


@sequence_loss.mistake(
    "Padding is counted: the mean runs over all b · t targets. The model is rewarded for predicting padding, which is easy, "
    "and the loss looks better the more padding there is."
)
def counts_padding(logits, targets, pad):
    return _losses(logits, targets).mean()


@sequence_loss.mistake(
    "The losses of padding are left out of the sum, but the divisor still counts them. Divide by the number of real "
    "targets."
)
def divides_by_all(logits, targets, pad):
    return torch.where(targets != pad, _losses(logits, targets), 0).mean()


@sequence_loss.mistake(
    "You averaged each sequence, and then the averages: a target in a short sequence weighs more than one in a long one. "
    "Sum over everything, and divide once."
)
def mean_of_means(logits, targets, pad):
    sums, counts = _sums_and_counts(logits, targets, pad)
    return (sums / counts.clamp(min=1))[counts > 0].mean()


@sequence_loss.mistake(
    "You averaged each sequence, and then the averages: a target in a short sequence weighs more than one in a long one, "
    "and a sequence that is all padding counts as a loss of 0. Sum over everything, and divide once."
)
def mean_of_means_and_zeros(logits, targets, pad):
    sums, counts = _sums_and_counts(logits, targets, pad)
    return (sums / counts.clamp(min=1)).mean()


@sequence_loss.mistake(
    "You averaged each sequence, and then the averages: a target in a short sequence weighs more than one in a long one, "
    "and a sequence that is all padding gives 0/0 = NaN. Sum over everything, and divide once."
)
def mean_of_means_and_nan(logits, targets, pad):
    sums, counts = _sums_and_counts(logits, targets, pad)
    return (sums / counts).mean()


@sequence_loss.mistake("This is the sum of the losses. A mean does not grow with the size of the batch: divide.")
def sums(logits, targets, pad):
    return _losses(logits, targets)[targets != pad].sum()


@sequence_loss.mistake(
    "(b, t, v) was *reshaped* to (b, v, t), which mixes up positions and classes. Swap the axes with `transpose(1, 2)`, or "
    "merge the first two with `flatten(0, 1)`."
)
def reshapes(logits, targets, pad):
    b, t, v = logits.shape
    return F.cross_entropy(logits.reshape(b, v, t), targets, ignore_index=pad)


@sequence_loss.mistake("The token for padding is the argument `pad`. It is not always 0.")
def pads_with_zero(logits, targets, pad):
    return F.cross_entropy(logits.mT, targets, ignore_index=0)


@sequence_loss.mistake(
    "The number is right, but it is cut off from the logits: no gradient reaches them, so nothing can learn from it. "
    "Do not use `.item()`, `.detach()` or `no_grad` in a loss."
)
def cuts_the_graph(logits, targets, pad):
    return _losses(logits, targets)[targets != pad].mean().detach()


# -- positional_encoding ----------------------------------------------------------------------------------------------


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "There are dim / 2 rates, one for each pair of columns: 10000 to the power of −2i / dim. `arange(0, dim, 2)` is 2i.",
        "The angles are all products of a position and a rate: an outer product, shape (length, dim / 2).",
        "Put sines and cosines into alternate columns: `stack` them along a new last axis and flatten, or write into "
        "`[:, 0::2]` and `[:, 1::2]`.",
    ],
    probe=call_in_float32,
    tolerance=(1e-4, 1e-4),
)
def positional_encoding(rng):
    """Trials for P[p, 2i] = sin(p · 10000^(−2i/dim)), P[p, 2i + 1] = cos of the same."""
    yield trial("six positions", length=6, dim=8)
    yield trial("sizes drawn", length=rng.integer(3, 20), dim=2 * rng.integer(3, 12))
    yield trial("as many positions as columns", length=10, dim=10)
    yield trial("two columns", length=5, dim=2)
    yield trial("one position", length=1, dim=6)
    yield trial("many positions", length=MANY, dim=4)
    yield trial("many columns", length=3, dim=2 * MANY)


def _angles(length, dim, base=10000.0):
    return torch.arange(length)[:, None] * base ** (-torch.arange(0, dim, 2) / dim)


def _interleaved(first, second):
    return torch.stack([first, second], 2).flatten(1)


@positional_encoding.mistake(
    "All sines stand in the left half and all cosines in the right. They alternate: column 0 is a sine, column 1 the cosine "
    "of the same angle."
)
def in_halves(length, dim):
    angles = _angles(length, dim)
    return torch.cat([angles.sin(), angles.cos()], 1)


@positional_encoding.mistake(
    "Sine and cosine are swapped: the even columns, 0, 2, …, are sines, so row 0 begins with 0."
)
def cosine_first(length, dim):
    angles = _angles(length, dim)
    return _interleaved(angles.cos(), angles.sin())


@positional_encoding.mistake(
    "Each column has a rate of its own. A sine and the cosine beside it share the angle: the exponent counts pairs of "
    "columns, 0, 2, 4, … over dim."
)
def a_rate_for_each_column(length, dim):
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(dim) / dim)
    return _interleaved(angles[:, 0::2].sin(), angles[:, 1::2].cos())


@positional_encoding.mistake(
    "The exponent is i / dim, half of what it should be: for the pair i it is 2i / dim, so that the rates come down to nearly "
    "1/10000."
)
def half_the_exponent(length, dim):
    angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(dim // 2) / dim)
    return _interleaved(angles.sin(), angles.cos())


@positional_encoding.mistake(
    "The rates grow from column to column. The exponent is *negative*: the first pair is the fastest, all others are "
    "slower."
)
def rates_that_grow(length, dim):
    angles = torch.arange(length)[:, None] * 10000.0 ** (torch.arange(0, dim, 2) / dim)
    return _interleaved(angles.sin(), angles.cos())


@positional_encoding.mistake(
    "The exponent is 4i / dim, twice what it should be: `arange(0, dim, 2)` is 2i already, so divide it by dim as it is."
)
def twice_the_exponent(length, dim):
    angles = torch.arange(length)[:, None] * 10000.0 ** (-2 * torch.arange(0, dim, 2) / dim)
    return _interleaved(angles.sin(), angles.cos())


@positional_encoding.mistake("Your positions begin at 1. They begin at 0, where every sine is 0 and every cosine 1.")
def starts_at_one(length, dim):
    angles = _angles(length + 1, dim)[1:]
    return _interleaved(angles.sin(), angles.cos())


@positional_encoding.mistake("The base of the powers is 10000, not 1000.")
def base_1000(length, dim):
    angles = _angles(length, dim, base=1000.0)
    return _interleaved(angles.sin(), angles.cos())


# -- decoder_mask -----------------------------------------------------------------------------------------------------


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "Two masks, combined with `&`: one (t, t) that forbids the future, one (b, t) that is true where no padding is.",
        "The padding mask speaks of the position that is *seen*, the last axis. Which shape lets it broadcast to (b, t, t)?",
        "`(ids != pad)[:, None]` has shape (b, 1, t).",
    ],
    vectorised=True,
)
def decoder_mask(rng):
    """Trials for mask[b, i, j] = (j ≤ i) and ids[b, j] ≠ pad."""

    def padded(pad, t, *lengths):
        ids = rng.integers(pad + 1, pad + 50, len(lengths), t)
        for row, length in enumerate(lengths):
            ids[row, length:] = pad
        return {"ids": ids, "pad": pad}

    t, n = rng.integer(5, 20), rng.integer(4, 14)
    # One is full and one has 1 ≤ length < t, so that every mistake shows whatever is drawn.
    yield trial("two sequences, one padded", **padded(0, t, t, rng.integer(2, t)))
    lengths = rng.integers(0, n + 1, n - 2).tolist()
    yield trial("as many sequences as positions", **padded(0, n, n, 1, *lengths))
    t = rng.integer(4, 14)
    yield trial("another number stands for padding", **padded(rng.integer(7, 17), t, rng.integer(2, t), t))
    yield trial("zeros that are no padding", ids=torch.tensor([[0, 4, 0, 9, 9]]), pad=9)
    yield trial("nothing is padding", **padded(0, 3, 3, 3))
    yield trial("padding on the left", ids=torch.tensor([[0, 0, 5, 6], [3, 4, 5, 6]]), pad=0)
    yield trial("all is padding", **padded(0, 3, 0, 2))
    yield trial("one position", **padded(0, 1, 1, 0))
    yield trial("many sequences", **padded(0, 2, *[1 + i % 2 for i in range(MANY)]))
    yield trial("many positions", **padded(0, MANY, 200))
    yield trial("no sequences", ids=torch.zeros(0, 3, dtype=torch.int64), pad=0)


def _triangle(ids):
    return torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()


@decoder_mask.mistake(
    "The padding mask stands on the wrong axis: it stops padding from looking, but lets others look at padding. It belongs "
    "to j, the last axis: shape (b, 1, t)."
)
def masks_the_lookers(ids, pad):
    return _triangle(ids) & (ids != pad)[:, :, None]


@decoder_mask.mistake("This mask only hides padding. It must hide the future too: combine it with a triangle.")
def padding_only(ids, pad):
    return (ids != pad)[:, None].expand(-1, ids.shape[1], -1).clone()


@decoder_mask.mistake("This mask only hides the future. It must hide padding too, in each sequence its own.")
def triangle_only(ids, pad):
    return _triangle(ids).expand(len(ids), -1, -1).clone()


@decoder_mask.mistake(
    "Your masks are joined by `|`, *or*. To be seen, a position must be no padding *and* not lie in the future: `&`."
)
def either_or(ids, pad):
    return _triangle(ids) | (ids != pad)[:, None]


@decoder_mask.mistake(
    "Your mask is true where attention is forbidden. Here true means: may attend. Turn it round with `~`."
)
def inverted(ids, pad):
    return ~(_triangle(ids) & (ids != pad)[:, None])


@decoder_mask.mistake(
    "Both positions are required to be no padding. What stands at i itself does not matter: a row of padding may look at "
    "the real positions before it."
)
def both_real(ids, pad):
    real = ids != pad
    return _triangle(ids) & real[:, None] & real[:, :, None]


# -- error_rate -------------------------------------------------------------------------------------------------------


def _call_for_number(function, arguments):
    """Like `call`; a whole number is as good as the float, so that `return 0` is."""

    def converted(**named):
        result = apply(function, named)
        return float(result) if type(result) is int else result

    return call(converted, arguments)


@exercise(
    points=2,
    level=2,
    minutes=15,
    hints=[
        "Make a table: entry (i, j) is the distance between the first i symbols of `predicted` and the first j of "
        "`target`. Row 0 and column 0 are easy.",
        "Entry (i, j) is the least of three: from above + 1 (delete), from the left + 1 (insert), from above left + 0 or 1 "
        "(keep or replace).",
        "The distance stands in the last corner. Divide it by `len(target)`.",
    ],
    probe=_call_for_number,
)
def error_rate(rng):
    """Trials for (edit distance from predicted to target) / len(target)."""

    def phonemes(n, kinds=4):
        return [("AH0", "B", "K", "S", "T", "ER1", "NG")[i] for i in rng.integers(0, kinds, n).tolist()]

    yield trial("one replaced, one inserted", predicted=["K", "AE", "T"], target=["B", "AE", "T", "S"])
    yield trial("the first symbol is missing", predicted=["B", "C", "D", "E"], target=["A", "B", "C", "D", "E"])
    yield trial("one symbol too many, in front", predicted=["X", "A", "B", "C", "D"], target=["A", "B", "C", "D"])
    yield trial("neighbours swapped", predicted=["A", "C", "B", "D"], target=["A", "B", "C", "D"])
    same = phonemes(5)
    yield trial("the same", predicted=same, target=list(same))
    yield trial("nothing predicted", predicted=[], target=phonemes(3))
    yield trial("much too long", predicted=phonemes(7), target=phonemes(2))
    yield trial("nothing in common", predicted=["A", "B"], target=["C", "D", "E"])
    yield trial("symbols that are numbers", predicted=[3, 1, 2, 2], target=[1, 2, 3])
    yield trial("one symbol each", predicted=["T"], target=["S"])
    yield trial("one of three replaced", predicted=["A", "A", "A"], target=["A", "B", "A"])
    large = (1000 + rng.integers(0, 9, 4)).tolist()
    yield trial("equal numbers that are two objects", predicted=large, target=[int(str(one)) for one in large])
    yield trial("1 and '1' are two symbols", predicted=[1, "1", 2], target=["1", 1, 2])
    yield trial("capitals are symbols of their own", predicted=["a", "B", "c"], target=["A", "b", "c"])
    yield trial("the same symbols, often repeated", predicted=phonemes(6, 2), target=phonemes(7, 2))
    for number in range(4):
        yield trial(f"drawn, {number + 1}", predicted=phonemes(rng.integer(3, 7)), target=phonemes(rng.integer(4, 8)))


def _edits(a, b, replace=1):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (replace if x != y else 0))
    return row[-1]


@error_rate.mistake(
    "You compared place by place. One symbol missing in front then makes everything after it wrong, though a single "
    "insertion mends it: find the *least* number of edits."
)
def place_by_place(predicted, target):
    wrong = sum(a != b for a, b in zip(predicted, target, strict=False)) + abs(len(predicted) - len(target))
    return wrong / len(target)


@error_rate.mistake("A replacement is one edit, not a deletion and an insertion.")
def replacing_costs_two(predicted, target):
    return _edits(predicted, target, replace=2) / len(target)


@error_rate.mistake(
    "You divided by the longer of the two. The rate counts errors per symbol of the *target*, and may be above 1."
)
def divides_by_the_longer(predicted, target):
    return _edits(predicted, target) / max(len(predicted), len(target))


@error_rate.mistake(
    "You divided by the length of the prediction. Then a long wrong answer is forgiven, and an empty one is 0/0. The rate "
    "counts errors per symbol of the *target*."
)
def divides_by_the_prediction(predicted, target):
    return _edits(predicted, target) / len(predicted)


@error_rate.mistake(
    "You divided by the length of the prediction. Then a long wrong answer is forgiven. The rate counts errors per symbol of "
    "the *target*, which is never empty."
)
def divides_by_the_prediction_or_one(predicted, target):
    return _edits(predicted, target) / max(len(predicted), 1)


@error_rate.mistake(
    "This is the edit distance itself. The rate is the distance over the length of the target, a float."
)
def distance_only(predicted, target):
    return _edits(predicted, target)


@error_rate.mistake(
    "You limited the rate to 1. A prediction that is much too long may need more edits than the target has symbols."
)
def at_most_one(predicted, target):
    return min(1.0, _edits(predicted, target) / len(target))


@error_rate.mistake("This is 1 minus the rate, the share of what is right. Asked for is the rate of *errors*.")
def accuracy(predicted, target):
    return 1 - _edits(predicted, target) / len(target)


# -- scaled_dot_product -----------------------------------------------------------------------------------------------


def _attend(function, arguments):
    """Values and weights, what was changed, and the gradients that reach q, k and v through both results."""
    leaves = [arguments[name] for name in ("q", "k", "v")]
    mask = arguments.get("mask")
    # In half precision gradients differ with the order of operations, and where a row may attend nowhere with the style.
    precise = leaves[0].dtype != torch.float16 and (mask is None or bool(mask.any(-1).all()))
    before = collect(arguments)
    if precise:
        for leaf in leaves:
            leaf.requires_grad_()
    values, weights = apply(function, arguments)
    after = collect(arguments)
    evidence = {
        "values": collect(values),
        "weights": collect(weights),
        "changed": {name: after[name] for name in arguments if not _identical(before[name], after[name])},
    }
    if precise:
        total = _weighted_sum(values) + _weighted_sum(weights)
        gradients = [None] * 3
        if isinstance(total, torch.Tensor) and total.requires_grad:
            gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        evidence["gradients"] = collect(dict(zip("qkv", gradients, strict=True)))
    return evidence


def _identical(a, b):
    return a is b or (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b))


def _weighted_sum(tensor):
    """The sum with unequal weights; 0 for what is no tensor."""
    if not isinstance(tensor, torch.Tensor):
        return 0
    return (tensor * fixed_weights(tensor)).sum()


def _one_key_hidden(t, s):
    """A mask that hides another key from each query."""
    mask = torch.ones(t, s, dtype=torch.bool)
    mask[torch.arange(t), torch.arange(t)] = False
    return mask


@exercise(
    points=3,
    level=2,
    minutes=15,
    hints=[
        "Four steps: all inner products, scale, softmax over the keys, weighted mean of the values. `k.mT` swaps the last two "
        "axes.",
        "A masked score must become minus infinity *before* the softmax. `masked_fill` does it in any dtype.",
        "A row of minus infinities makes a softmax of NaN. After it, put 0 wherever the mask is false: a weight there is 0 or "
        "NaN anyway.",
    ],
    probe=_attend,
    forbidden=dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_attention_math",
            "_scaled_dot_product_flash_attention_for_cpu",
        ),
        "The exercise is to build what it does: scores, mask, softmax, values.",
    ),
)
def scaled_dot_product(rng):
    """Trials for softmax(q kᵀ / √d) v and its weights, with and without a mask."""

    def qkv(*front, t, s, d, e, dtype=torch.float32):
        return {
            "q": rng.normal(*front, t, d, dtype=dtype),
            "k": rng.normal(*front, s, d, dtype=dtype),
            "v": rng.normal(*front, s, e, dtype=dtype),
        }

    def open_somewhere(*shape):
        """A drawn mask with a key for every query."""
        mask = rng.booleans(*shape, share=0.6)
        mask[..., 0] |= ~mask.any(-1)
        return mask

    half = torch.float16
    yield trial("heads, no mask", **qkv(2, 3, t=4, s=5, d=6, e=2))
    yield trial("a mask for all", **qkv(2, 2, t=4, s=3, d=2, e=5), mask=open_somewhere(4, 3))
    yield trial("a causal mask", **qkv(3, t=4, s=4, d=3, e=3), mask=torch.ones(4, 4, dtype=torch.bool).tril())
    yield trial("padding, mask (b, 1, 1, s)", **qkv(2, 3, t=2, s=4, d=5, e=3), mask=open_somewhere(2, 1, 1, 4))
    yield trial(
        "a mask for each sequence, (b, 1, t, s)", **qkv(2, 4, t=3, s=5, d=2, e=2), mask=open_somewhere(2, 1, 3, 5)
    )
    nowhere = open_somewhere(4, 3)
    nowhere[1] = False
    yield trial("one query may attend nowhere", **qkv(2, t=4, s=3, d=4, e=2), mask=nowhere)
    yield trial("no query may attend anywhere", **qkv(2, t=2, s=3, d=4, e=2), mask=torch.zeros(2, 3, dtype=torch.bool))
    yield trial("no axes in front", **qkv(t=3, s=2, d=5, e=4))
    yield trial("one query, one key, one feature", **qkv(1, 1, t=1, s=1, d=1, e=1))
    large = qkv(2, t=3, s=4, d=3, e=2)
    large["q"] *= 60
    yield trial("large scores", **large, mask=open_somewhere(3, 4))
    yield trial("all axes equal", **qkv(3, 3, t=3, s=3, d=3, e=3), mask=open_somewhere(3, 3))
    yield trial("float16, no mask", **qkv(2, t=3, s=4, d=4, e=3, dtype=half))
    dark = open_somewhere(3, 4)
    dark[2] = False
    yield trial("float16, one query may attend nowhere", **qkv(2, t=3, s=4, d=4, e=3, dtype=half), mask=dark)
    low = qkv(2, t=3, s=4, d=4, e=2)
    low["q"][..., 0], low["k"][..., 0] = 512.0, -1.0  # shifts all scores of a query alike, and so no weight
    yield trial("scores near −256", **low, mask=_one_key_hidden(3, 4))
    yield trial("many queries", **qkv(t=MANY, s=2, d=3, e=1), mask=open_somewhere(MANY, 2))
    yield trial("many keys", **qkv(t=2, s=MANY, d=2, e=1))
    yield trial("many sequences", **qkv(MANY, t=1, s=2, d=2, e=1), mask=open_somewhere(1, 2))
    yield trial("many heads", **qkv(1, MANY, t=1, s=2, d=2, e=1))


def _masked(scores, mask):
    """Scores ready for a softmax, and rows of zeros (not NaN) where nothing may be attended to."""
    if mask is None:
        return scores.softmax(-1)
    nothing = ~mask.any(-1, keepdim=True)
    return scores.masked_fill(~(mask | nothing), -torch.inf).softmax(-1) * ~nothing


@scaled_dot_product.mistake(
    "The scores are not scaled. Inner products of d terms spread like √d: divide by √d, or the softmax of long vectors gives "
    "all weight to one key."
)
def unscaled(q, k, v, mask=None):
    weights = _masked(q @ k.mT, mask)
    return weights @ v, weights


@scaled_dot_product.mistake("You divided by d. The spread of an inner product is its square root, √d.")
def divides_by_d(q, k, v, mask=None):
    weights = _masked(q @ k.mT / q.shape[-1], mask)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "You scaled by the width of the values. They take no part in the scores: d is the width of queries and keys."
)
def scales_by_the_values(q, k, v, mask=None):
    weights = _masked(q @ k.mT / v.shape[-1] ** 0.5, mask)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "The softmax ran over the queries. Each *query* shares out its attention over the keys: the last axis."
)
def over_the_queries(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is None:
        weights = scores.softmax(-2)
    else:
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-2).masked_fill(~mask, 0)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "The mask is turned round: true means *may* attend. Fill the scores where it is false, `~mask`."
)
def mask_turned_round(q, k, v, mask=None):
    weights = _masked(q @ k.mT / q.shape[-1] ** 0.5, None if mask is None else ~mask)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "A query that may attend nowhere has scores of −∞ only, and their softmax is 0/0 = NaN. Fill its weights with 0 after "
    "the softmax."
)
def nan_where_nothing(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "A very negative number is not −∞. In float16 numbers end at 65,504, and −1e9 or −9e15 raises an error or becomes −∞; in "
    "float32 a query that may attend nowhere spreads its weight over all keys. Fill with −∞, and with 0 after the softmax."
)
def a_very_negative_number(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, -9e15)).softmax(-1)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "The least finite number, or −1e4, is not −∞: a query that may attend nowhere has equal scores only, and spreads its weight "
    "over all keys. Fill its weights with 0 after the softmax."
)
def a_finite_number(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores.masked_fill(~mask, torch.finfo(q.dtype).min)).softmax(-1)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "In float16 your fill raises an error: numbers end at 65,504 there, and −1e9 or −9e15 does not fit in. −∞ exists in every "
    "float dtype: `masked_fill(~mask, -torch.inf)`."
)
def too_large_for_half(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is None:
        weights = scores.softmax(-1)
    else:
        weights = scores.masked_fill(~mask, -9e15).softmax(-1).masked_fill(~mask, 0)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "Masked scores were filled with a number that other scores can fall below, such as −100. Where they do, the masked keys "
    "take all the weight, and putting it to 0 afterwards leaves nothing. Only −∞ is below every score."
)
def not_low_enough(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is None:
        weights = scores.softmax(-1)
    else:
        weights = scores.masked_fill(~mask, -100.0).softmax(-1).masked_fill(~mask, 0)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "The mask came after the softmax alone, so the weights that remain no longer add up to 1. Mask the scores *before* it."
)
def masks_after_the_softmax(q, k, v, mask=None):
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ v, weights


@scaled_dot_product.mistake(
    "In float16 your results are float32. Computing in float32 is fine, but convert back: `.to(q.dtype)`."
)
def stays_float32(q, k, v, mask=None):
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = _masked(q.to(wide) @ k.to(wide).mT / q.shape[-1] ** 0.5, mask)
    return weights @ v.to(wide), weights


@scaled_dot_product.mistake("The results are right, but in the wrong order: the values come first, then the weights.")
def weights_first(q, k, v, mask=None):
    weights = _masked(q @ k.mT / q.shape[-1] ** 0.5, mask)
    return weights, weights @ v


# -- greedy_decode ----------------------------------------------------------------------------------------------------


def _decode(function, arguments):
    """The ids, and the list that each call of `step` was given."""
    step, given = arguments["step"], []

    def recorded(ids):
        given.append(collect(ids))
        if len(given) > 60:
            raise RuntimeError("step was called more than 60 times: does your loop end?")
        return step(ids)

    result = apply(function, arguments | {"step": recorded})
    return {"result": collect(result), "lists given to step": given}


class _Elsewhere(torch.Tensor):
    """Logits that, as on a GPU, NumPy cannot read before they are brought to the CPU."""

    def cpu(self, *settings, **named):
        return self.as_subclass(torch.Tensor)

    def to(self, *settings, **named):
        moved = super().to(*settings, **named)
        return moved.as_subclass(torch.Tensor) if "cpu" in map(str, (*settings, *named.values())) else moved

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *settings, **named):
        return self.numpy()


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Keep one list, begin it with `sos`, and append. When does the loop stop? There are two reasons.",
        "Test for the length *before* you call `step`: after max_length ids, no call is needed.",
        "`int(logits.argmax())` is a Python int, wherever the logits are.",
    ],
    probe=_decode,
)
def greedy_decode(rng):
    """Trials for ids taken greedily. Each `step` has a table with one row of logits for each length of its list."""

    def decoder(ids, vocabulary, eos, kind="float32", elsewhere=False):
        """A step that says `ids`, then eos for ever."""
        table = torch.stack([rng.permutation(vocabulary) for _ in range(len(ids) + 1)])  # no two logits are equal
        for row, wanted in zip(table, [*ids, eos], strict=True):
            row[wanted] = vocabulary + 2
        dtype = getattr(torch, kind)
        table = table if dtype == torch.int64 else (table.to(dtype) - vocabulary) / 2

        def step(ids):
            logits = table[min(len(ids), len(table)) - 1].clone()
            if elsewhere:
                return logits.as_subclass(_Elsewhere)
            return logits.requires_grad_() if kind == "float64" else logits

        return step

    def said(n, vocabulary=9):
        return (3 + rng.integers(0, vocabulary - 3, n)).tolist()

    def case(ids, max_length, vocabulary=9, sos=1, eos=2, **logits):
        step = decoder(ids, vocabulary, eos, **logits)
        return {"step": step, "sos": sos, "eos": eos, "max_length": max_length}

    yield trial("four ids, then eos", **case(said(4), 10))
    yield trial("eos would come just after max_length ids", **case(said(3), 3))
    yield trial("cut off at max_length", **case(said(6), 4))
    yield trial("eos is the last that fits", **case(said(2), 3))
    yield trial("eos at once", **case([], 5))
    yield trial("max_length 0", **case(said(3), 0))
    yield trial("max_length 1", **case(said(2), 1))
    yield trial("other start and end tokens", **case(said(3, 7), 8, 12, sos=11, eos=8))
    yield trial("end token 0", **case(said(2), 6, eos=0))
    yield trial("the same id again and again", **case([5, 5, 5], 7))
    yield trial("the start token comes again", **case([4, 1, 6], 7))
    yield trial("0 is an id like any other", **case([4, 0, 6], 7))
    yield trial("logits in float16, all negative", **case(said(3), 6, kind="float16"))
    yield trial("logits on another device", **case(said(3), 6, elsewhere=True))
    yield trial("logits are whole numbers", **case(said(3), 6, kind="int64"))
    yield trial("logits with gradients, float64", **case(said(3), 6, kind="float64"))


def _greedy(step, ids, eos, length):
    while len(ids) <= length:
        ids.append(int(step(ids).argmax()))
        if ids[-1] == eos:
            break
    return ids


@greedy_decode.mistake("The start token is still there. It was never predicted: leave it out of the result.")
def keeps_sos(step, sos, eos, max_length):
    ids = _greedy(step, [sos], eos, max_length)
    return [sos, *[one for one in ids[1:] if one != eos]]


@greedy_decode.mistake(
    "You left out every `sos`. Only the one in front was given and not said; one that `step` says later is an id like any "
    "other."
)
def drops_each_sos(step, sos, eos, max_length):
    return [one for one in _greedy(step, [sos], eos, max_length) if one not in (sos, eos)]


@greedy_decode.mistake("The end token is still there. It ends the answer, but is not part of it.")
def keeps_eos(step, sos, eos, max_length):
    return _greedy(step, [sos], eos, max_length)[1:]


@greedy_decode.mistake(
    "You go on after the end token, up to max_length, and remove what follows later. Every call of `step` costs: stop as "
    "soon as the end token comes."
)
def goes_on_after_eos(step, sos, eos, max_length):
    ids = _greedy(step, [sos], None, max_length)[1:]
    return ids[: ids.index(eos)] if eos in ids else ids


@greedy_decode.mistake(
    "`step` is given the last id alone. It takes the whole list so far: what comes next depends on all of it."
)
def forgets_the_past(step, sos, eos, max_length):
    ids, last = [], sos
    while len(ids) < max_length:
        last = int(step([last]).argmax())
        if last == eos:
            break
        ids.append(last)
    return ids


@greedy_decode.mistake("The start token is missing: the first list that `step` is given is `[sos]`, not an empty one.")
def starts_with_nothing(step, sos, eos, max_length):
    ids = []
    while len(ids) < max_length:
        best = int(step(ids).argmax())
        if best == eos:
            break
        ids.append(best)
    return ids


@greedy_decode.mistake(
    "You always remove the last id. It is the end token only where that came up: an answer cut off at max_length ends with "
    "an id that belongs to it."
)
def drops_the_last(step, sos, eos, max_length):
    return _greedy(step, [sos], eos, max_length)[1:-1]


@greedy_decode.mistake("One id too few: the start token does not count towards max_length.")
def counts_sos(step, sos, eos, max_length):
    ids = _greedy(step, [sos], eos, max_length - 1)
    return [one for one in ids[1:] if one != eos]


@greedy_decode.mistake("One id too many: with max_length ids the answer is full.")
def one_too_many(step, sos, eos, max_length):
    ids = _greedy(step, [sos], eos, max_length + 1)
    return [one for one in ids[1:] if one != eos]


@greedy_decode.mistake(
    "The answer is right, but `step` is called once too often where the answer is full: its last result is thrown away."
)
def one_call_too_many(step, sos, eos, max_length):
    ids = _greedy(step, [sos], eos, max_length + 1)
    return [one for one in ids[1:] if one != eos][:max_length]


@greedy_decode.mistake("The ids are tensors. Make each a Python int, with `int(…)` or `.item()`, before you append it.")
def tensors(step, sos, eos, max_length):
    ids = [sos]
    while len(ids) <= max_length:
        best = step(ids).argmax()
        if best == eos:
            break
        ids.append(best)
    return ids[1:]


# -- sample_top_k -----------------------------------------------------------------------------------------------------


def _draw(function, arguments):
    """What many draws show of the probabilities, whatever way they are drawn; and what else the function did.

    Each row is repeated DRAWS times. Which id comes up when depends on how the generator is used, so only the share of
    each id is kept, and whether the given generator decides, alone, what is drawn.
    """
    logits = arguments["logits"]
    rows, v = logits.shape
    before = collect(arguments)

    def drawn(generator, logits):
        return apply(function, arguments | {"logits": logits, "generator": generator})

    def seeded(seed):
        return torch.Generator().manual_seed(seed)

    once = drawn(seeded(1), logits)
    changed = {} if _identical(before["logits"], collect(logits)) else {"logits": collect(logits)}
    one = collect(once)
    if not isinstance(once, torch.Tensor) or once.shape != (rows,) or once.is_floating_point():
        return {"result": one, "changed": changed}
    many = logits.repeat_interleave(DRAWS, dim=0)
    state = torch.get_rng_state()
    first = drawn(seeded(2), many)
    few, generator = logits.repeat_interleave(50, dim=0), seeded(2)
    start, later, again, other = (drawn(one, few) for one in (generator, generator, seeded(2), seeded(3)))
    untouched = torch.equal(state, torch.get_rng_state())

    def like_the_start(ids):
        return "the same ids" if torch.equal(start, ids) else "other ids"

    counts = torch.stack([torch.bincount(ids, minlength=v) for ids in first.view(rows, DRAWS).long()])
    return {
        "result": one if arguments["k"] == 1 else torch.zeros_like(one),
        "ids that occur in each row": [row.nonzero()[:, 0].tolist() for row in counts],
        "share of each id in 6,000 draws": counts.float() / DRAWS,
        "draw with the same seed again": like_the_start(again),
        "draw with another seed": like_the_start(other),
        "second draw from one generator": like_the_start(later),
        "random state that other code shares": "left alone" if untouched else "changed",
        "changed": changed,
    }


@exercise(
    points=3,
    level=2,
    minutes=12,
    hints=[
        "`logits.topk(k)` gives the k largest values of each row, and in `.indices` which ids they belong to.",
        "The softmax of the k values over the temperature gives k probabilities. `torch.multinomial(…, 1, generator=…)` draws "
        "a *place* among them, shape (b, 1).",
        "A place from 0 to k − 1 is not an id yet: `gather` reads the id at that place. Remove the last axis at the end.",
    ],
    probe=_draw,
    tolerance=SHARES,
)
def sample_top_k(rng):
    """Trials for ids drawn from the softmax of (the k largest logits / temperature). Neighbouring logits differ by 0.3."""

    def rows(b, v, dtype=torch.float32):
        """Logits in random order, with clear gaps between them."""
        return torch.stack([0.3 * rng.permutation(v) + 0.2 * rng.number() for _ in range(b)]).to(dtype)

    yield trial("k = 1: the largest", logits=rows(4, 6), k=1, temperature=0.7)
    yield trial("two of five, one row", logits=rows(1, 5), k=2, temperature=1.0)
    yield trial("three rows, three of six", logits=rows(3, 6), k=3, temperature=0.5)
    yield trial("all ids", logits=rows(2, 4), k=4, temperature=1.0)
    yield trial("a high temperature", logits=rows(2, 5), k=3, temperature=20.0)
    yield trial("a low temperature", logits=10 * rows(2, 5), k=4, temperature=0.2)
    yield trial(
        "rows of different spread", logits=rows(3, 5) * torch.tensor([[1.0], [4.0], [0.1]]), k=3, temperature=1.0
    )
    cold = rows(2, 5) + torch.tensor([[4.0], [-6.0]])  # over 0.01 both leave the range of float32 under exp
    yield trial("a temperature near 0", logits=cold, k=3, temperature=0.01)
    far = rows(2, 6) - 40
    yield trial("negative logits", logits=far, k=3, temperature=1.5)
    ruled_out = rows(2, 5)
    ruled_out[:, 3] = -torch.inf
    yield trial("one id is ruled out by −∞", logits=ruled_out, k=3, temperature=1.0)
    yield trial("float64", logits=rows(2, 5, torch.float64), k=2, temperature=0.4)


def _multinomial(probabilities, generator):
    return torch.multinomial(probabilities, 1, generator=generator)


@sample_top_k.mistake("This is always the likeliest id. Draw from the probabilities of the k largest.")
def takes_the_largest(logits, k, temperature, generator):
    return logits.argmax(1)


@sample_top_k.mistake("Ids outside the k largest are drawn too. Keep the k largest of each row before the softmax.")
def draws_from_all(logits, k, temperature, generator):
    return _multinomial((logits / temperature).softmax(1), generator)[:, 0]


@sample_top_k.mistake(
    "What you return is a place among the k largest, from 0 to k − 1, and no id. Look the id up in `.indices` with `gather`."
)
def returns_places(logits, k, temperature, generator):
    return _multinomial((logits.topk(k).values / temperature).softmax(1), generator)[:, 0]


@sample_top_k.mistake(
    "You multiplied by the temperature. Dividing makes a *high* temperature even out the probabilities."
)
def multiplies_by_the_temperature(logits, k, temperature, generator):
    largest = logits.topk(k)
    return largest.indices.gather(1, _multinomial((largest.values * temperature).softmax(1), generator))[:, 0]


@sample_top_k.mistake("The temperature is never used. Divide the logits by it before the softmax.")
def ignores_the_temperature(logits, k, temperature, generator):
    largest = logits.topk(k)
    return largest.indices.gather(1, _multinomial(largest.values.softmax(1), generator))[:, 0]


@sample_top_k.mistake(
    "All k ids are equally likely. Their probabilities are the softmax of their logits over the temperature."
)
def draws_evenly(logits, k, temperature, generator):
    largest = logits.topk(k)
    return largest.indices.gather(1, _multinomial(torch.ones_like(largest.values), generator))[:, 0]


@sample_top_k.mistake(
    "The ids outside the k largest were given the logit 0, and e⁰ is 1: they are drawn as well. Their logit must be −∞."
)
def fills_with_zero(logits, k, temperature, generator):
    largest = logits.topk(k)
    kept = torch.zeros_like(logits).scatter(1, largest.indices, largest.values)
    return _multinomial((kept / temperature).softmax(1), generator)[:, 0]


@sample_top_k.mistake(
    "The ids have the right probabilities, but they come from the generator that all code shares. Pass on "
    "`generator=generator`."
)
def uses_the_shared_generator(logits, k, temperature, generator):
    largest = logits.topk(k)
    return largest.indices.gather(1, _multinomial((largest.values / temperature).softmax(1), None))[:, 0]


@sample_top_k.mistake(
    "The generator is only asked for its seed: a new one that starts from it draws the same ids at every call. Pass on the one "
    "that you were given, so that a second call goes on where the first has stopped."
)
def starts_anew_each_time(logits, k, temperature, generator):
    largest = logits.topk(k)
    anew = torch.Generator().manual_seed(generator.initial_seed())
    return largest.indices.gather(1, _multinomial((largest.values / temperature).softmax(1), anew))[:, 0]


@sample_top_k.mistake(
    "All rows are drawn with the probabilities of the first one. Each row has its own: give `multinomial` the whole (b, k) "
    "table, and let it draw one place in each row."
)
def probabilities_of_the_first_row(logits, k, temperature, generator):
    largest = logits.topk(k)
    first = (largest.values[0] / temperature).softmax(0)
    places = torch.multinomial(first, len(logits), replacement=True, generator=generator)
    return largest.indices.gather(1, places[:, None])[:, 0]


@sample_top_k.mistake("The result has shape (b, 1): `multinomial` keeps an axis for the draws. Remove it: `[:, 0]`.")
def keeps_an_axis(logits, k, temperature, generator):
    largest = logits.topk(k)
    return largest.indices.gather(1, _multinomial((largest.values / temperature).softmax(1), generator))


# -- bleu -------------------------------------------------------------------------------------------------------------


@exercise(
    points=3,
    level=3,
    minutes=20,
    hints=[
        "Write a helper first: the n-grams of one list, counted. `Counter(tuple(symbols[i : i + n]) for i in …)`.",
        "`ours & theirs` of two Counters keeps the smaller count of each n-gram: exactly what is found. `.total()` adds up.",
        "For each n, add up both counts over all pairs, and divide once. The fourth root of a product is the exponential of "
        "the mean logarithm; look out for 0.",
        "The brevity penalty is 1 where the predictions are at least as long in total as the targets.",
    ],
    probe=_call_for_number,
)
def bleu(rng):
    """Trials for BLEU over a corpus: n-grams up to 4, clipped, one target each, brevity penalty."""

    def corpus(*lengths, kinds=5, edits=1):
        """Targets drawn, predictions with some symbols replaced."""
        targets = [rng.integers(0, kinds, n).tolist() for n in lengths]
        predicted = []
        for target in targets:
            one = list(target)
            for _ in range(edits):
                one[rng.integer(0, len(one))] = rng.integer(0, kinds)
            predicted.append(one)
        return predicted, targets

    letters = [list("abcde")], [list("abcdf")]
    yield trial("the example", predicted=letters[0], targets=letters[1])
    predicted, targets = corpus(8, 12, 9)
    yield trial("three pairs", predicted=predicted, targets=targets)
    yield trial("all right", predicted=[list(one) for one in targets], targets=targets)
    predicted, targets = corpus(9, 10)
    yield trial("too short", predicted=[one[:-3] for one in predicted], targets=targets)
    predicted, targets = corpus(9, 10)
    yield trial("too long", predicted=[one + one[:3] for one in predicted], targets=targets)
    predicted, targets = corpus(12, 12)
    yield trial("one too short, one too long", predicted=[predicted[0][:-4], predicted[1] + [0, 1]], targets=targets)
    repeated = [["a"] * 6 + ["b", "a", "c", "d", "a", "a"]]
    yield trial("one symbol repeated", predicted=repeated, targets=[["a", "a", "a", "a", "b", "a", "c", "d"]])
    predicted, targets = corpus(10)
    yield trial("a pair shorter than four", predicted=[*predicted, [1, 2, 3]], targets=[*targets, [1, 2, 4]])
    yield trial("no 4-gram is found", predicted=[list("abcxdef")], targets=[list("abcydef")])
    yield trial("nothing is long enough for a 4-gram", predicted=[list("abc")], targets=[list("abc")])
    yield trial("nothing predicted", predicted=[[]], targets=[list("abcd")])
    predicted, targets = corpus(14, 6, 9, kinds=3, edits=2)
    yield trial("few symbols, often repeated", predicted=predicted, targets=targets)
    phonemes = [["HH", "AH0", "L", "OW1", "Z"], ["W", "ER1", "L", "D"]]
    yield trial(
        "phonemes of several letters", predicted=[["HH", "AH0", "L", "OW1"], ["W", "ER1", "L", "D"]], targets=phonemes
    )
    yield trial(
        "symbols of another pair's target",
        predicted=[list("abcdx"), list("efghy")],
        targets=[list("abcdy"), list("efghx")],
    )
    yield trial("[1, 11] and [11, 1] are two 2-grams", predicted=[[1, 11, 2, 3, 4, 5]], targets=[[11, 1, 2, 3, 4, 5]])
    yield trial(
        "['a', 'bc'] and ['ab', 'c'] are two 2-grams", predicted=[["a", "bc", *"defg"]], targets=[["ab", "c", *"defg"]]
    )
    yield trial(
        "['a b', 'c'] and ['a', 'b c'] are two 2-grams",
        predicted=[["a b", "c", *"defg"]],
        targets=[["a", "b c", *"defg"]],
    )


def _grams(symbols, n):
    return Counter(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))


def _precisions(predicted, targets, clip=True):
    found, total = [0] * 4, [0] * 4
    for one, target in zip(predicted, targets, strict=True):
        for n in range(4):
            ours, theirs = _grams(one, n + 1), _grams(target, n + 1)
            found[n] += sum(min(c, theirs[g]) if clip else c * (g in theirs) for g, c in ours.items())
            total[n] += ours.total()
    return [f / t if t else 0.0 for f, t in zip(found, total, strict=True)]


def _brevity(predicted, targets):
    c, r = sum(map(len, predicted)), sum(map(len, targets))
    return 0.0 if c == 0 else min(1.0, math.exp(1 - r / c))


@bleu.mistake(
    "There is no brevity penalty: a prediction of the four surest symbols would be perfect. Where the predictions are "
    "shorter in total, multiply by e^(1 − r/c)."
)
def no_brevity_penalty(predicted, targets):
    return math.prod(_precisions(predicted, targets)) ** 0.25


@bleu.mistake(
    "The penalty is applied to predictions that are too long as well, where it becomes a reward above 1. It is at most 1."
)
def rewards_length(predicted, targets):
    c, r = sum(map(len, predicted)), sum(map(len, targets))
    return math.prod(_precisions(predicted, targets)) ** 0.25 * (math.exp(1 - r / c) if c else 0.0)


@bleu.mistake(
    "An n-gram of the prediction is found every time it occurs. It can be found only as often as it stands in the target: "
    "take the smaller of the two counts."
)
def does_not_clip(predicted, targets):
    return math.prod(_precisions(predicted, targets, clip=False)) ** 0.25 * _brevity(predicted, targets)


@bleu.mistake(
    "You averaged the four precisions. BLEU takes their geometric mean, the fourth root of the product, which is 0 as soon as "
    "one of them is."
)
def arithmetic_mean(predicted, targets):
    return sum(_precisions(predicted, targets)) / 4 * _brevity(predicted, targets)


@bleu.mistake(
    "You computed BLEU for each pair and averaged. Found n-grams and all n-grams are summed over the whole corpus first, and "
    "divided once."
)
def mean_over_pairs(predicted, targets):
    scores = [
        math.prod(_precisions([one], [target])) ** 0.25 * _brevity([one], [target])
        for one, target in zip(predicted, targets, strict=True)
    ]
    return sum(scores) / len(scores)


@bleu.mistake(
    "The n-grams of all predictions were put into one heap, and those of all targets into another. An n-gram is found only in "
    "the target of *its own* prediction: count pair by pair, then sum the counts."
)
def one_heap(predicted, targets):
    shares = []
    for n in range(1, 5):
        ours, theirs = (sum((_grams(one, n) for one in many), Counter()) for many in (predicted, targets))
        shares.append((ours & theirs).total() / ours.total() if ours else 0.0)
    return math.prod(shares) ** 0.25 * _brevity(predicted, targets)


@bleu.mistake("The root is missing. The geometric mean of four numbers is the *fourth root* of their product.")
def product_only(predicted, targets):
    return math.prod(_precisions(predicted, targets)) * _brevity(predicted, targets)


# -- teacher_forced_loss ----------------------------------------------------------------------------------------------


class _Tables(nn.Module):
    """An encoder-decoder small enough to see through: logits = table[input] + mean of the words' rows."""

    def __init__(self, table, words):
        super().__init__()
        self.table, self.words = nn.Parameter(table), nn.Parameter(words)

    def forward(self, words, inputs):
        return self.table[inputs] + self.words[words].mean(1, keepdim=True)


def _force(function, arguments):
    """The loss, the inputs that the model was given, and the gradients that reach its tables."""
    model, given = arguments["model"], []

    def watched(words, inputs):
        given.append(collect({"words": words, "inputs": inputs}))
        return model(words, inputs)

    before = collect(arguments["targets"])
    loss = apply(function, arguments | {"model": watched})
    gradients = None
    if isinstance(loss, torch.Tensor) and loss.requires_grad and loss.numel() == 1:
        gradients = torch.autograd.grad(loss.sum(), [model.table, model.words], allow_unused=True)
    targets = arguments["targets"]
    return {
        "calls of the model": given,
        "result": collect(loss),
        "gradients of the model": collect(gradients),
        "changed": {} if torch.equal(before, targets) else {"targets": collect(targets)},
    }


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "What is the model given at step 0, and what must it predict there? Print both for one short target.",
        "`reshape` on (b, t, v) does not swap axes. Test it: with a model that is sure of the right answers, the loss must be "
        "nearly 0.",
        "The third fault is in the divisor: how many numbers does `mean` count?",
    ],
    probe=_force,
)
def teacher_forced_loss(rng):
    """Trials for the cross-entropy of a small model: logits = table[input] + mean over the word of a second table."""

    def case(v, pad, sos, lengths, s=3, letters=5, dtype=torch.float32):
        b, t = len(lengths), max(lengths)
        targets = rng.integers(3, v, b, t)
        for row, length in enumerate(lengths):
            targets[row, length - 1 :] = 2
            targets[row, length:] = pad
        model = _Tables(2 * rng.normal(v, v, dtype=dtype), rng.normal(letters, v, dtype=dtype))
        return {"model": model, "words": rng.integers(0, letters, b, s), "targets": targets, "sos": sos, "pad": pad}

    yield trial("two targets, one padded", **case(7, 0, 1, [5, 3]))
    yield trial("as many steps as logits", **case(5, 0, 1, [5, 2, 4]))
    yield trial("nothing is padding", **case(8, 0, 1, [3, 3]))
    yield trial("a batch of one", **case(6, 0, 1, [4]))
    yield trial("one step", **case(6, 0, 1, [1, 1, 1]))
    yield trial("other numbers for start and padding", **case(9, 1, 0, [2, 6]))
    yield trial("float64, long words", **case(6, 0, 1, [4, 2], s=9, dtype=torch.float64))


def _forced(model, words, inputs):
    return model(words, inputs).mT  # (b, v, t), as cross_entropy takes it


@teacher_forced_loss.mistake(
    "This is the program as it was given, with all its faults. Begin with what the model is given."
)
def as_given(model, words, targets, sos, pad):
    logits = model(words, targets)
    v = logits.shape[2]
    losses = F.cross_entropy(logits.reshape(-1, v, targets.shape[1]), targets, reduction="none")
    losses[targets == pad] = 0
    return losses.mean()


@teacher_forced_loss.mistake(
    "The model is still given the targets themselves: at each step its input is the answer. Shift them: `sos`, then all "
    "targets but the last."
)
def gives_the_answer(model, words, targets, sos, pad):
    return F.cross_entropy(_forced(model, words, targets), targets, ignore_index=pad)


@teacher_forced_loss.mistake(
    "Inputs and mean are right. But `reshape` does not swap time and vocabulary, it only cuts the same line of numbers "
    "elsewhere: use `transpose(1, 2)`, or flatten batch and time."
)
def still_reshapes(model, words, targets, sos, pad):
    logits = model(words, F.pad(targets, (1, -1), value=sos))
    b, t, v = logits.shape
    return F.cross_entropy(logits.reshape(b, v, t), targets, ignore_index=pad)


@teacher_forced_loss.mistake(
    "Inputs and axes are right. But the zeros of the padding still count in the mean: divide by the number of real targets, "
    "or let `ignore_index` do it."
)
def zeros_in_the_mean(model, words, targets, sos, pad):
    losses = F.cross_entropy(_forced(model, words, F.pad(targets, (1, -1), value=sos)), targets, reduction="none")
    return torch.where(targets == pad, 0, losses).mean()


@teacher_forced_loss.mistake(
    "Inputs and axes are right, and padding is left out. But you averaged each sequence, and then the averages: a target in a "
    "short sequence weighs more. Sum over everything, and divide once."
)
def means_of_sequences(model, words, targets, sos, pad):
    losses = F.cross_entropy(_forced(model, words, F.pad(targets, (1, -1), value=sos)), targets, reduction="none")
    real = targets != pad
    return (torch.where(real, losses, 0).sum(1) / real.sum(1)).mean()


@teacher_forced_loss.mistake(
    "The model is given the right inputs, but padding counts as something to predict. Leave it out of the sum and of the "
    "divisor."
)
def learns_padding(model, words, targets, sos, pad):
    return F.cross_entropy(_forced(model, words, F.pad(targets, (1, -1), value=sos)), targets)


# -- MultiHeadAttention -----------------------------------------------------------------------------------------------

LAYERS = ("query", "key", "value", "out")


def _described(layer):
    """A linear layer in words, so that a fault reads "expected '6 → 6, with bias', got '6 → 6, without bias'"."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        return "no linear layer" if layer is None else type(layer).__name__
    return f"{weight.shape[1]} → {weight.shape[0]}, with{'out' if bias is None else ''} bias"


def _run_attention(function, arguments):
    """Fill the layers with the trial's weights, run them, and report the result and the gradients."""
    dim, heads, weights, biases, x = (arguments[name] for name in ("dim", "heads", "weights", "biases", "x"))
    model = apply(function, {"dim": dim, "heads": heads}).to(x.dtype)
    layers = {name: _described(getattr(model, name, None)) for name in LAYERS}
    if any(layer != f"{dim} → {dim}, with bias" for layer in layers.values()):
        return {"layers": layers}
    with torch.no_grad():
        for name, weight, bias in zip(LAYERS, weights, biases, strict=True):
            layer = getattr(model, name)
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    before, x = x.clone(), x.requires_grad_()
    result = model(x) if arguments["mask"] is None else model(x, arguments["mask"])
    evidence = {
        "layers": layers,
        "result": collect(result),
        "changed": {} if torch.equal(before, x) else {"x": collect(x)},
    }
    if isinstance(result, torch.Tensor) and result.requires_grad and not result.isnan().any():
        # of NaN each way has other gradients, and no mistake would be recognised by them
        leaves = [x, *(getattr(model, name).weight for name in LAYERS)]
        gradients = torch.autograd.grad(_weighted_sum(result), leaves, allow_unused=True)
        evidence["gradients"] = collect(dict(zip(("x", *LAYERS), gradients, strict=True)))
    evidence["parameters"] = sorted(name for name, _ in model.named_parameters())
    return evidence


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Work out the shapes first: (b, t, dim) → (b, t, heads, d) → (b, heads, t, d), and the same way back.",
        "`reshape(b, t, heads, d)` cuts the features into runs; `transpose(1, 2)` brings the heads beside the batch. On the way "
        "back, `transpose` comes first.",
        "A mask of shape (b, t, t) needs an axis for the heads, `mask[:, None]`; one of shape (t, t) broadcasts as it is.",
        "`scaled_dot_product` takes q, k and v of shape (b, heads, t, d), and scales by √d of a head.",
    ],
    probe=_run_attention,
)
def MultiHeadAttention(rng):
    """Trials for self-attention with several heads, its four layers filled with drawn weights."""

    def case(b, t, dim, heads, mask=None, dtype=torch.float32):
        return {
            "dim": dim,
            "heads": heads,
            "weights": rng.normal(4, dim, dim, dtype=dtype) / dim**0.5,
            "biases": rng.normal(4, dim, dtype=dtype) / 2,
            "x": rng.normal(b, t, dim, dtype=dtype),
            "mask": mask,
        }

    def open_somewhere(*shape):
        return rng.booleans(*shape) | torch.eye(shape[-1], dtype=torch.bool)

    yield trial("two heads, no mask", **case(2, 4, 6, 2))
    yield trial("three heads, a causal mask", **case(2, 5, 12, 3, torch.ones(5, 5, dtype=torch.bool).tril()))
    yield trial("a mask for each sequence", **case(3, 4, 8, 2, open_somewhere(3, 4, 4)))
    yield trial("as many heads as sequences, a mask for each", **case(2, 3, 4, 2, open_somewhere(2, 3, 3)))
    yield trial("one head", **case(2, 3, 4, 1, open_somewhere(3, 3)))
    yield trial("heads of one feature", **case(1, 4, 3, 3))
    yield trial("as many positions as heads", **case(2, 4, 8, 4, open_somewhere(4, 4)))
    yield trial("one position", **case(3, 1, 4, 2))
    # Heads of four features: √4 is exact, also for those who take it in float32.
    yield trial("float64", **case(2, 3, 8, 2, open_somewhere(2, 3, 3), dtype=torch.float64))


class _Layers(nn.Module):
    """What the mistakes share; each of them does one thing wrong with it."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        for name in LAYERS:
            setattr(self, name, nn.Linear(dim, dim))

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).movedim(-2, 1)

    def found(self, x, mask, **scale):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        if mask is not None:
            mask = mask if mask.ndim == 2 else mask[:, None]
        return F.scaled_dot_product_attention(q, k, v, mask, **scale)


@MultiHeadAttention.mistake(
    "There is one head only: the features are never cut, so `heads` changes nothing. Each head attends with its own dim / heads "
    "features."
)
class OneHeadOnly(_Layers):
    def forward(self, x, mask=None):
        return self.out(F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), mask))


@MultiHeadAttention.mistake(
    "(b, t, dim) was reshaped straight to (b, heads, t, d), which mixes positions and features. Reshape to (b, t, heads, d) "
    "first, then swap two axes."
)
class CutsWithoutSwapping(_Layers):
    def split(self, x):
        b, t, dim = x.shape
        return x.reshape(b, self.heads, t, dim // self.heads)

    def forward(self, x, mask=None):
        return self.out(self.found(x, mask).movedim(1, 2).flatten(2))


@MultiHeadAttention.mistake(
    "(b, t, dim) was reshaped straight to (b, heads, t, d), and back the same way, which mixes positions and features. Reshape "
    "to (b, t, heads, d) and swap two axes; on the way back, swap them first."
)
class NeverSwaps(CutsWithoutSwapping.implementation):
    def forward(self, x, mask=None):
        return self.out(self.found(x, mask).reshape(x.shape))


@MultiHeadAttention.mistake(
    "The features were dealt out to the heads one by one. Each head gets a *run* of dim / heads features: reshape to "
    "(b, t, heads, d), with the heads before d."
)
class DealsOutFeatures(_Layers):
    def split(self, x):
        return x.unflatten(-1, (-1, self.heads)).movedim(-1, 1)

    def forward(self, x, mask=None):
        return self.out(self.found(x, mask).movedim(1, -1).flatten(2))


@MultiHeadAttention.mistake(
    "The heads were put together without swapping the axes back: (b, heads, t, d) was reshaped to (b, t, dim) as it lay. "
    "Transpose to (b, t, heads, d) first."
)
class JoinsWithoutSwapping(_Layers):
    def forward(self, x, mask=None):
        return self.out(self.found(x, mask).reshape(x.shape))


@MultiHeadAttention.mistake(
    "The scores are divided by √dim. A head's inner products have dim / heads terms: scale by its width."
)
class ScalesByDim(_Layers):
    def forward(self, x, mask=None):
        return self.out(self.found(x, mask, scale=x.shape[2] ** -0.5).movedim(1, 2).flatten(2))


@MultiHeadAttention.mistake("The mask is not used: every position attends to all others.")
class IgnoresTheMask(_Layers):
    def forward(self, x, mask=None):
        return self.out(self.found(x, None).movedim(1, 2).flatten(2))


@MultiHeadAttention.mistake(
    "The mask is turned round. Here true means *may* attend; `nn.MultiheadAttention` has it the other way about."
)
class TurnsTheMaskRound(_Layers):
    def forward(self, x, mask=None):
        return self.out(self.found(x, None if mask is None else ~mask).movedim(1, 2).flatten(2))


@MultiHeadAttention.mistake(
    "Your layers have no bias. Each of the four is `nn.Linear(dim, dim)`, which has one unless `bias=False` is written."
)
class LayersWithoutBias(_Layers):
    def __init__(self, dim, heads):
        super().__init__(dim, heads)
        for name in LAYERS:
            setattr(self, name, nn.Linear(dim, dim, bias=False))


@MultiHeadAttention.mistake("The last layer is missing: what the heads found, side by side, goes through `out`.")
class LeavesOutTheLastLayer(_Layers):
    def forward(self, x, mask=None):
        return self.found(x, mask).movedim(1, 2).flatten(2)


@MultiHeadAttention.mistake(
    "Queries and keys are swapped: position i must compare *its* query with the keys of the others."
)
class SwapsQueryAndKey(_Layers):
    def found(self, x, mask):
        self.query, self.key = self.key, self.query
        found = super().found(x, mask)
        self.query, self.key = self.key, self.query
        return found

    def forward(self, x, mask=None):
        return self.out(self.found(x, mask).movedim(1, 2).flatten(2))
