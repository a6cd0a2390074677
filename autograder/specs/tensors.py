"""Trials, hints and known mistakes of the exercises of chapter 1, in the order of the notebook."""

import numpy as np
import torch
import torch.nn.functional as F

from autograder.exercise import exercise, trial
from autograder.probe import returns_view_of

CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("convolution", "_convolution", "_convolution_mode", "convolution_overrideable", "mkldnn_convolution"),
    *("thnn_conv2d", "_slow_conv2d_forward", "slow_conv3d", "slow_conv3d_forward", "_nnpack_spatial_convolution"),
    *("slow_conv_dilated2d", "slow_conv_dilated3d", "slow_conv_transpose2d", "slow_conv_transpose3d"),
    *("_conv_depthwise2d", "conv_depthwise3d", "cudnn_convolution", "cudnn_convolution_relu", "_mps_convolution"),
)
LSTMS = ("lstm", "lstm_cell", "_thnn_fused_lstm_cell", "_cudnn_rnn", "mkldnn_rnn_layer", "_lstm_mps")
"""The names under which torch has these two."""

MANY = 320
"""The length of an axis on which a loop shows: even one step of Python for each element is over the judge's limit."""


def _large_matrix(rng, *shape):
    """Float32 matrices with two long axes, of few draws and few different rows: quick to make, and they pack well."""
    *stack, rows, columns = shape
    return rng.integers(-1, 2, *stack, rows, 1).float() + rng.integers(-9, 10, *stack, 1, columns).float()


@exercise(
    points=1,
    level=1,
    minutes=4,
    hints=[
        "Broadcasting lines shapes up at the right. Which shape must `a` have so that (…) and (m,) give (n, m)?",
        "Insert an axis of length 1 into `a`: where? It is repeated over m as needed.",
        "`a[:, None]` and `a.unsqueeze(1)` both have shape (n, 1): one column.",
    ],
    vectorised=True,
)
def outer_sum(rng):
    """Trials for table[i, j] = a[i] + b[j]."""
    float64 = torch.float64
    yield trial("different lengths", a=rng.normal(4), b=rng.normal(6))
    yield trial("equal lengths", a=rng.normal(3), b=rng.normal(3))
    yield trial("one row", a=rng.normal(1), b=rng.normal(5))
    yield trial("one column", a=rng.normal(5), b=rng.normal(1))
    yield trial("many rows", a=rng.normal(MANY), b=rng.normal(2))
    yield trial("many columns", a=rng.normal(2), b=rng.normal(MANY))
    yield trial("no rows", a=rng.normal(0), b=rng.normal(3))
    yield trial("no columns", a=rng.normal(3), b=rng.normal(0))
    yield trial("large integers", a=rng.integers(-(10**17), 10**17, 3), b=rng.integers(-(10**17), 10**17, 2))
    yield trial("float64", a=rng.normal(2, dtype=float64), b=rng.normal(3, dtype=float64))


@outer_sum.mistake(
    "Rows and columns are swapped: `a` runs down the rows, so the column of shape (n, 1) is made of `a`."
)
def transposed(a, b):
    return b[:, None] + a


@outer_sum.mistake("This is the outer *product*. Shape it the same way, but add.")
def multiplies(a, b):
    return torch.outer(a, b)


@outer_sum.mistake("(n,) + (m,) pairs the elements by position. Give `a` a second axis first: `a[:, None]` is (n, 1).")
def adds_by_position(a, b):
    return a + b


@outer_sum.mistake("All n·m sums are there, but in one long row. The table keeps two axes, (n, m).")
def flat(a, b):
    return (a[:, None] + b).flatten()


@outer_sum.mistake("One axis too many: (n, 1) + (m,) is enough, since missing axes on the left are filled in.")
def one_axis_too_many(a, b):
    return a[None, :, None] + b


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "There are three steps: NumPy to torch, move an axis, scale. Print the shape and dtype after each.",
        "`permute` takes the old number of each axis in its new place: which axis comes first now?",
        "Dividing a `uint8` *tensor* by 255 gives `float32`; dividing a `uint8` *array* gives `float64`.",
    ],
    vectorised=True,
)
def image_to_tensor(rng):
    """Trials for a uint8 array of shape (h, w, c) that becomes a float32 tensor of shape (c, h, w) in [0, 1]."""

    def pixels(*shape):
        return rng.integers(0, 256, *shape).to(torch.uint8).numpy()

    yield trial("three colours", pixels=pixels(2, 4, 3))
    yield trial("a grey image", pixels=pixels(6, 2, 1))
    yield trial("a square image", pixels=pixels(3, 3, 3))
    yield trial("black and white", pixels=np.array([[[0], [255], [0]], [[255], [255], [0]]], dtype=np.uint8))
    yield trial("one pixel, four channels", pixels=pixels(1, 1, 4))
    yield trial("a tall image", pixels=pixels(MANY, 2, 3))
    yield trial("a wide image", pixels=pixels(2, MANY, 3))
    yield trial("no rows", pixels=pixels(0, 4, 3))
    yield trial("no columns", pixels=pixels(4, 0, 3))


@image_to_tensor.mistake(
    "`reshape` and `view` keep the order of the numbers and cut it up anew, so colours and positions are mixed. "
    "Moving an axis takes `permute`."
)
def reshapes(pixels):
    height, width, channels = pixels.shape
    return torch.tensor(pixels).reshape(channels, height, width) / 255


@image_to_tensor.mistake(
    "Height and width are swapped: `.T` and `permute(2, 1, 0)` turn all axes round. Move one only."
)
def reverses_all_axes(pixels):
    return torch.tensor(pixels).permute(2, 1, 0) / 255


@image_to_tensor.mistake("The channels are still last. PyTorch's layers expect them first: (c, h, w).")
def leaves_channels_last(pixels):
    return torch.tensor(pixels) / 255


@image_to_tensor.mistake("The values still run from 0 to 255. Divide by 255, so that they run from 0 to 1.")
def does_not_scale(pixels):
    return torch.tensor(pixels).permute(2, 0, 1).float()


@image_to_tensor.mistake("A byte holds 0 to 255, so white is 255: dividing by 256 never reaches 1.")
def divides_by_256(pixels):
    return torch.tensor(pixels).permute(2, 0, 1) / 256


@image_to_tensor.mistake(
    "NumPy computes in `float64`, and `from_numpy` keeps that. Make the tensor first and divide then, or add `.float()`."
)
def stays_float64(pixels):
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "`torch.from_numpy` shares the array's memory: writing to the tensor writes to the array. What copies?",
        "`fill_diagonal_` writes in place, which does no harm to a copy.",
    ],
    vectorised=True,
)
def without_self_loops(rng):
    """Trials for a float64 array of shape (n, n) that becomes a tensor with zeros on its diagonal."""

    def weights(n):
        return rng.normal(n, n, dtype=torch.float64).numpy()

    infinite = weights(4)
    infinite[1, 1] = np.inf
    infinite[2, 2] = np.nan
    yield trial("four nodes", weights=weights(4))
    yield trial("infinity and NaN on the diagonal", weights=infinite)
    yield trial("two nodes, large weights", weights=1e6 * weights(2))
    yield trial("one node", weights=weights(1))
    yield trial("many nodes", weights=_large_matrix(rng, MANY, MANY).double().numpy())
    yield trial("no nodes", weights=weights(0))


@without_self_loops.mistake(
    "The tensor is right, but the caller's array lost its diagonal too: `torch.from_numpy` shares its memory. "
    "`torch.tensor` copies."
)
def writes_through_shared_memory(weights):
    return torch.from_numpy(weights).fill_diagonal_(0)


@without_self_loops.mistake("∞ · 0 and NaN · 0 are NaN, so multiplying by a mask does not clear them. Write the zeros.")
def multiplies_by_zero(weights):
    return torch.tensor(weights) * (1 - torch.eye(len(weights), dtype=torch.float64))


@without_self_loops.mistake("`torch.Tensor(...)` turns everything into `float32`. `torch.tensor` keeps the dtype.")
def loses_precision(weights):
    return torch.Tensor(weights).fill_diagonal_(0)


@without_self_loops.mistake(
    "`triu(1)` clears everything below the diagonal as well. Only the diagonal itself becomes zero."
)
def keeps_one_triangle(weights):
    return torch.tensor(weights).triu(1)


@exercise(
    points=1,
    level=1,
    minutes=4,
    hints=[
        "Write the entry [j, i] of the result as a sum over k first. Which letters has it, and in which order?",
        "In `torch.einsum('…,…->…', a, b)` the axis that a and b share takes the same letter in both.",
        "The letters on the right of `->` are the axes of the result, in that order: no second step transposes.",
    ],
    vectorised=True,
    forbidden=dict.fromkeys(
        ("matmul", "mm", "linalg_matmul", "__rmatmul__"), "The exercise is to write it in letters."
    ),
)
def transposed_product(rng):
    """Trials for result[j, i] = sum_k a[i, k] b[k, j]."""
    yield trial("all axes different", a=rng.normal(2, 3), b=rng.normal(3, 5))
    yield trial("all axes equal", a=rng.normal(3, 3), b=rng.normal(3, 3))
    yield trial("one row", a=rng.normal(1, 4), b=rng.normal(4, 2))
    yield trial("one column", a=rng.normal(3, 2), b=rng.normal(2, 1))
    yield trial("one product per entry", a=rng.normal(4, 1), b=rng.normal(1, 3))
    yield trial("stored transposed", a=rng.normal(2, 4).T, b=rng.normal(4, 2).T)
    yield trial("float64, large values", a=100 * rng.normal(2, 3, dtype=torch.float64), b=rng.normal(3, 4).double())
    yield trial("many rows", a=rng.normal(MANY, 2), b=rng.normal(2, 3))
    yield trial("many columns", a=rng.normal(2, 3), b=rng.normal(3, MANY))
    yield trial("many products per entry", a=rng.normal(2, MANY), b=rng.normal(MANY, 3))
    yield trial("no rows", a=rng.normal(0, 3), b=rng.normal(3, 2))
    yield trial("no columns", a=rng.normal(2, 3), b=rng.normal(3, 0))
    yield trial("no products: the sums are zero", a=rng.normal(2, 0), b=rng.normal(0, 3))


@transposed_product.mistake("This is the product, (n, m). Name its axes in the other order on the right of '->'.")
def does_not_transpose_the_product(a, b):
    return torch.einsum("ik,kj->ij", a, b)


@transposed_product.mistake(
    "`reshape` to (m, n) does not transpose: it cuts the same line of numbers into other rows. Swap the letters instead."
)
def reshapes_the_product(a, b):
    return torch.einsum("ik,kj->ij", a, b).reshape(b.shape[1], a.shape[0])


@transposed_product.mistake(
    "a and b have different letters for k, so each was summed on its own: that is the product of two sums. "
    "Share the letter."
)
def shares_no_letter(a, b):
    return torch.einsum("ik,lj->ji", a, b)


@transposed_product.mistake("These are the products before they are summed: k must not stand on the right of '->'.")
def keeps_the_products(a, b):
    return torch.einsum("ik,kj->jik", a, b)


@transposed_product.mistake("You summed the whole table. i and j are the axes of the result: both stand on the right.")
def sums_the_table(a, b):
    return torch.einsum("ik,kj->", a, b)


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "An index that appears twice in one operand walks along that operand's diagonal.",
        "An index that is missing on the right of `->` is summed. Which index must stay?",
    ],
    vectorised=True,
)
def batch_trace(rng):
    """Trials for trace[b] = sum_i x[b, i, i]."""
    yield trial("a batch", x=rng.normal(4, 3, 3))
    yield trial("as many matrices as rows", x=rng.normal(3, 3, 3))
    yield trial("a batch of one", x=rng.normal(1, 5, 5))
    yield trial("matrices of one number", x=rng.normal(4, 1, 1))
    yield trial("many matrices", x=rng.normal(MANY, 2, 2))
    yield trial("a large matrix", x=_large_matrix(rng, 1, MANY, MANY))
    yield trial("no matrices", x=rng.normal(0, 3, 3))
    yield trial("matrices without rows", x=rng.normal(2, 0, 0))
    yield trial("float64, large values", x=1e4 * rng.normal(5, 4, 4, dtype=torch.float64))


@batch_trace.mistake("You summed over the batch as well. `b` names the output, so it stands on the right of '->'.")
def sums_the_batch(x):
    return torch.einsum("bii->", x)


@batch_trace.mistake("This sums every element. Writing the *same* letter twice, `ii`, picks the diagonal.")
def sums_everything(x):
    return torch.einsum("bij->b", x)


@batch_trace.mistake("These are the diagonals, shape (b, n). Their sum is the trace: `i` must not stand on the right.")
def keeps_the_diagonal(x):
    return torch.einsum("bii->bi", x)


@batch_trace.mistake(
    "`torch.diagonal` uses the first two axes unless told otherwise, so it mixed batch and rows: pass `dim1=1, dim2=2`."
)
def diagonal_of_the_first_axes(x):
    return torch.diagonal(x).sum(-1)


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "Compare each label with all the class numbers 0, 1, …, num_classes − 1. What shape has the table of answers?",
        "(n, 1) == (num_classes,) broadcasts to (n, num_classes).",
        "A comparison gives `bool`: convert it at the end.",
    ],
    vectorised=True,
    forbidden={"one_hot": "The exercise is to build what it does."},
)
def one_hot(rng):
    """Trials for a float32 table of shape (n, num_classes) with a 1 where the column is the label."""
    both_ends = torch.tensor([0, 4])
    yield trial(
        "some labels", labels=torch.cat([rng.integers(0, 5, 2), both_ends, rng.integers(0, 5, 4)]), num_classes=5
    )
    yield trial("classes that never occur", labels=rng.integers(1, 3, 4), num_classes=6)
    yield trial("as many labels as classes", labels=rng.permutation(4), num_classes=4)
    yield trial("one label", labels=rng.integers(0, 4, 1), num_classes=4)
    yield trial("one class", labels=torch.zeros(3, dtype=torch.int64), num_classes=1)
    yield trial("many labels", labels=rng.integers(0, 3, MANY), num_classes=3)
    yield trial("many classes", labels=rng.integers(0, MANY, 4), num_classes=MANY)
    yield trial("no labels", labels=rng.integers(0, 3, 0), num_classes=3)


@one_hot.mistake("The table is right but `bool`. A loss multiplies and subtracts it: convert it with `.float()`.")
def stays_bool(labels, num_classes):
    return labels[:, None] == torch.arange(num_classes)


@one_hot.mistake("The table is right but `int64`. A loss computes in `float32`: convert it with `.float()`.")
def stays_integer(labels, num_classes):
    return torch.eye(num_classes, dtype=torch.int64)[labels]


@one_hot.mistake(
    "You counted the classes in the labels. A batch need not hold the last class, so the width must come from num_classes."
)
def counts_the_classes(labels, num_classes):
    return (labels[:, None] == torch.arange(int(labels.max()) + 1)).float()


@one_hot.mistake("One row for each *label*, one column for each class: yours is the transpose, (num_classes, n).")
def transposed_table(labels, num_classes):
    return (torch.arange(num_classes)[:, None] == labels).float()


@one_hot.mistake("Labels count from 0. With `labels - 1`, class 0 becomes −1, which is the *last* column.")
def counts_from_one(labels, num_classes):
    return torch.eye(num_classes)[labels - 1]


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "There are five steps: limit, scale, round, convert, move an axis. Which of them must come before the conversion?",
        "`clamp` limits values, `round` goes to the nearest whole number. `uint8` itself does neither.",
        "`permute(1, 2, 0)` puts the channels last, and `.numpy()` makes an array of a tensor.",
    ],
    vectorised=True,
)
def to_image(rng):
    """Trials for a float32 tensor (c, h, w) that becomes a uint8 array (h, w, c), clamped and rounded."""
    float32 = torch.float32

    def picture(*shape, low=0, high=256):
        """Values beside the 255ths, never half-way between two: there, right answers may round differently."""
        return (rng.integers(low, high, *shape) + rng.uniform(*shape, low=-0.4, high=0.4)) / 255

    near_the_ends = torch.tensor([[[0.0, 1.0], [0.001, 0.999], [-0.001, 1.001]]], dtype=float32)
    far_outside = torch.tensor([[[-40.0, 40.0, 1e6]], [[0.2, 1.5, -1e6]]], dtype=float32)
    yield trial("three colours", x=picture(3, 2, 4))
    yield trial("values outside [0, 1]", x=picture(3, 4, 5, low=-120, high=380))
    yield trial("a square picture", x=picture(3, 3, 3))
    yield trial("one row of four channels", x=picture(4, 1, 6))
    yield trial("the ends, and what rounds to them", x=near_the_ends)
    yield trial("far outside", x=far_outside)
    yield trial("channels last in memory", x=picture(4, 2, 3).movedim(-1, 0))
    yield trial("a wide picture", x=picture(3, 2, MANY, low=-60, high=320))
    yield trial("a tall picture", x=picture(1, MANY, 2))
    yield trial("no rows", x=picture(3, 0, 4))
    yield trial("no columns", x=picture(3, 4, 0))


@to_image.mistake(
    "Outside 0 to 255 a `uint8` wraps round, so bright spots came out dark. Limit the values first: `clamp(0, 1)`."
)
def wraps_round(x):
    return (255 * x).round().to(torch.uint8).permute(1, 2, 0).numpy()


@to_image.mistake("Conversion to `uint8` cuts the fraction off: 254.7 became 254. Use `round()` before it.")
def cuts_the_fraction_off(x):
    return (255 * x.clamp(0, 1)).to(torch.uint8).permute(1, 2, 0).numpy()


@to_image.mistake("The channels are still first. Image files keep the three colours of a pixel together: (h, w, c).")
def leaves_channels_first(x):
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).numpy()


@to_image.mistake("Height and width are swapped: `.T` and `permute(2, 1, 0)` turn all axes round. Move one only.")
def turns_all_axes_round(x):
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).permute(2, 1, 0).numpy()


@to_image.mistake("`reshape` keeps the order of the numbers, so colours and positions are mixed. Use `permute`.")
def reshapes_the_picture(x):
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).reshape(*x.shape[1:], x.shape[0]).numpy()


@to_image.mistake("The values are right, but this is still a tensor: `.numpy()` makes an array of it.")
def returns_the_tensor(x):
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0)


@to_image.mistake("The values are whole numbers, but of type `float32`. Image files hold bytes: convert to `uint8`.")
def stays_float(x):
    return (255 * x.clamp(0, 1)).round().permute(1, 2, 0).numpy()


@to_image.mistake("The values were rounded before they were scaled, so only black and white are left. Scale first.")
def rounds_before_scaling(x):
    return (255 * x.clamp(0, 1).round()).to(torch.uint8).permute(1, 2, 0).numpy()


@to_image.mistake("A byte ends at 255, so 1 becomes 255. Times 256 it is 256, which wraps round to 0.")
def scales_by_256(x):
    return (256 * x.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy()


@to_image.mistake("The picture is right, but the caller's tensor changed: `clamp_` and `mul_` write in place.")
def writes_into_the_tensor(x):
    return x.clamp_(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).numpy()


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "Broadcasting lines shapes up at the right: (c,) meets the width. Where must the channels of `mean` stand?",
        "Insert axes of length 1 into `mean`, so that c lines up with the second axis of (n, c, h, w). How many, and where?",
        "`mean[:, None, None]` has shape (c, 1, 1), which lines up with (n, c, h, w).",
    ],
    vectorised=True,
)
def normalize_channels(rng):
    """Trials for (images - mean) / std, channel by channel."""

    def std(channels, low=0.5, high=2.0):
        return rng.uniform(channels, low=low, high=high)

    yield trial("three channels", images=rng.normal(2, 3, 5, 4), mean=rng.normal(3), std=std(3))
    yield trial("as wide as it has channels", images=rng.normal(3, 3, 3, 3), mean=rng.normal(3), std=std(3))
    yield trial("one channel", images=rng.normal(3, 1, 2, 4), mean=rng.normal(1), std=std(1))
    yield trial("one image", images=rng.normal(1, 4, 3, 2), mean=rng.normal(4), std=std(4))
    yield trial(
        "bytes as floats", images=rng.uniform(2, 3, 4, 5, high=255.0), mean=90 + rng.normal(3), std=std(3, 50, 70)
    )
    yield trial("a small spread", images=rng.normal(2, 2, 3, 1), mean=rng.normal(2), std=std(2, 0.01, 0.02))
    yield trial("many images", images=rng.normal(MANY, 2, 1, 3), mean=rng.normal(2), std=std(2))
    yield trial("many channels", images=rng.normal(1, MANY, 2, 1), mean=rng.normal(MANY), std=std(MANY))
    yield trial("many rows", images=rng.normal(1, 2, MANY, 1), mean=rng.normal(2), std=std(2))
    yield trial("many columns", images=rng.normal(1, 2, 1, MANY), mean=rng.normal(2), std=std(2))
    yield trial("no images", images=rng.normal(0, 3, 2, 4), mean=rng.normal(3), std=std(3))
    yield trial("images without rows", images=rng.normal(2, 3, 0, 4), mean=rng.normal(3), std=std(3))
    yield trial("images without columns", images=rng.normal(2, 3, 4, 0), mean=rng.normal(3), std=std(3))
    yield trial("channels last in memory", images=rng.normal(2, 5, 4, 3).movedim(-1, 1), mean=rng.normal(3), std=std(3))
    float64 = torch.float64
    yield trial(
        "float64", images=rng.normal(2, 4, 2, 3, dtype=float64), mean=rng.normal(4, dtype=float64), std=std(4).double()
    )


@normalize_channels.mistake(
    "Shapes line up at the right, so (c,) met the *width*, not the channels. Give it two more axes: `mean[:, None, None]`."
)
def meets_the_width(images, mean, std):
    return (images - mean) / std


@normalize_channels.mistake(
    "With one new axis, (c, 1) meets the *height*. Two are needed, one each for height and width."
)
def meets_the_height(images, mean, std):
    return (images - mean[:, None]) / std[:, None]


@normalize_channels.mistake(
    "The result is right, but the caller's images changed: `-=`, `/=`, `sub_` and `div_` write in place."
)
def writes_into_the_images(images, mean, std):
    return images.sub_(mean[:, None, None]).div_(std[:, None, None])


@normalize_channels.mistake("You scaled first and shifted then. Subtract the mean, and divide the difference by std.")
def divides_first(images, mean, std):
    return images / std[:, None, None] - mean[:, None, None]


@normalize_channels.mistake("`std` is the standard deviation itself, not the variance: divide by it as it is.")
def divides_by_the_root(images, mean, std):
    return (images - mean[:, None, None]) / std.sqrt()[:, None, None]


@normalize_channels.mistake(
    "You measured this batch. Use the `mean` and `std` that are passed in: they come from the training images, "
    "and one image must come out the same whatever batch it is in."
)
def measures_the_batch(images, mean, std):
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "`cat` wants equal shapes but for the axis it joins. What shape must the positions have before that?",
        "`.T` turns (p, t) into (t, p).",
        "`expand(b, -1, -1)` repeats a tensor along a new first axis without copying it.",
    ],
    vectorised=True,
)
def append_positions(rng):
    """Trials for features (b, t, d) and positions (p, t), shared by the batch, joined to (b, t, d + p)."""
    yield trial("a batch", features=rng.normal(2, 5, 3), positions=rng.normal(4, 5))
    yield trial("as many features as steps", features=rng.normal(3, 4, 4), positions=rng.normal(4, 4))
    yield trial("a batch of one", features=rng.normal(1, 3, 2), positions=rng.normal(2, 3))
    yield trial("one step", features=rng.normal(3, 1, 2), positions=rng.normal(4, 1))
    yield trial("many sequences", features=rng.normal(MANY, 3, 1), positions=rng.normal(2, 3))
    yield trial("many steps", features=rng.normal(2, MANY, 2), positions=rng.normal(1, MANY))
    yield trial("many features", features=rng.normal(1, 2, MANY), positions=rng.normal(3, 2))
    yield trial("many position features", features=rng.normal(2, 2, 1), positions=rng.normal(MANY, 2))
    yield trial("no sequences", features=rng.normal(0, 3, 4), positions=rng.normal(2, 3))
    yield trial("no steps", features=rng.normal(2, 0, 4), positions=rng.normal(3, 0))
    yield trial("no features", features=rng.normal(2, 3, 0), positions=rng.normal(4, 3))
    yield trial("no position features", features=rng.normal(2, 3, 4), positions=rng.normal(0, 3))
    float64 = torch.float64
    yield trial("float64", features=rng.normal(2, 3, 4, dtype=float64), positions=rng.normal(2, 3, dtype=float64))


@append_positions.mistake("The positions stand first. `cat` joins in the order of its list: the features come first.")
def positions_first(features, positions):
    return torch.cat([positions.T.expand(len(features), -1, -1), features], dim=-1)


@append_positions.mistake(
    "`reshape` from (p, t) to (t, p) does not transpose: it cuts the same row of numbers into other pieces. Use `.T`."
)
def reshapes_the_positions(features, positions):
    rows = positions.reshape(positions.shape[1], positions.shape[0])
    return torch.cat([features, rows.expand(len(features), -1, -1)], dim=-1)


@append_positions.mistake(
    "The axes of the result are (batch, features, steps). Join along the *last* axis of (b, t, d)."
)
def steps_last(features, positions):
    return torch.cat([features.mT, positions.expand(len(features), -1, -1)], dim=1)


@append_positions.mistake(
    "`repeat_interleave` repeats each *row* b times in a row, so the batch gets the steps mixed up. "
    "`expand` and `repeat` repeat the whole."
)
def repeats_each_row(features, positions):
    b, t, _ = features.shape
    shared = positions.T.repeat_interleave(b, dim=0).reshape(b, t, positions.shape[0])
    return torch.cat([features, shared], dim=-1)


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "Write the sum with all its indices first: which appear in the result, and which is summed?",
        "The same tensor may be passed twice: `torch.einsum('…,…->…', x, x)`.",
        "Both operands share `b` and `t`; only their last letters differ.",
    ],
    vectorised=True,
)
def gram_matrices(rng):
    """Trials for gram[b, i, j] = sum_t x[b, t, i] x[b, t, j]."""
    yield trial("a batch", x=rng.normal(3, 4, 2))
    yield trial("all axes equal", x=rng.normal(3, 3, 3))
    yield trial("a batch of one", x=rng.normal(1, 2, 6))
    yield trial("one step", x=rng.normal(3, 1, 4))
    yield trial("one feature", x=rng.normal(2, 4, 1))
    yield trial("many matrices", x=rng.normal(MANY, 3, 2))
    yield trial("many steps", x=rng.normal(2, MANY, 3))
    yield trial("many features", x=rng.integers(-3, 4, 1, 2, MANY).float())
    yield trial("no matrices", x=rng.normal(0, 4, 3))
    yield trial("no steps: the sum is zero", x=rng.normal(2, 0, 3))
    yield trial("no features", x=rng.normal(2, 3, 0))
    yield trial("float64, large values", x=100 * rng.normal(2, 3, 4, dtype=torch.float64))


@gram_matrices.mistake(
    "This compares steps with steps, (b, t, t). Here the *features* are compared and the steps summed."
)
def compares_steps(x):
    return torch.einsum("bti,bsi->bts", x, x)


@gram_matrices.mistake("You summed over the batch too: `b` must stand on the right of '->'.")
def sums_over_the_batch(x):
    return torch.einsum("bti,btj->ij", x, x)


@gram_matrices.mistake(
    "Equal letters walk together, so `i` twice gives the diagonal only. Call the second operand's last axis `j`."
)
def diagonal_only(x):
    return torch.einsum("bti,bti->bi", x, x)


@gram_matrices.mistake(
    "The two operands have different letters for the step, so each was summed on its own: that is the product of two sums. "
    "The same step in both takes the same letter."
)
def multiplies_the_sums(x):
    return torch.einsum("bti,bsj->bij", x, x)


@gram_matrices.mistake("These are the products of each step, not yet summed: `t` must not stand on the right of '->'.")
def keeps_the_steps(x):
    return torch.einsum("bti,btj->btij", x, x)


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "The formula is already the equation: copy the indices of x, W and y, then those of z.",
        "x and y share `b`, because row b of x meets row b of y and no other.",
        "Every index that is missing on the right of `->` is summed.",
    ],
    vectorised=True,
)
def bilinear(rng):
    """Trials for z[b, k] = sum_ij x[b, i] W[k, i, j] y[b, j]."""
    float64 = torch.float64
    yield trial("a batch", x=rng.normal(2, 3), W=rng.normal(5, 3, 4), y=rng.normal(2, 4))
    yield trial("all axes equal", x=rng.normal(3, 3), W=rng.normal(3, 3, 3), y=rng.normal(3, 3))
    yield trial("a batch of one", x=rng.normal(1, 4), W=rng.normal(6, 4, 3), y=rng.normal(1, 3))
    yield trial("one output", x=rng.normal(4, 2), W=rng.normal(1, 2, 5), y=rng.normal(4, 5))
    yield trial("one feature each", x=rng.normal(3, 1), W=rng.normal(2, 1, 1), y=rng.normal(3, 1))
    yield trial("a large batch", x=rng.normal(MANY, 3), W=rng.normal(2, 3, 2), y=rng.normal(MANY, 2))
    yield trial("many outputs", x=rng.normal(2, 3), W=rng.normal(MANY, 3, 2), y=rng.normal(2, 2))
    yield trial("many features in x", x=rng.normal(2, MANY), W=rng.normal(3, MANY, 2), y=rng.normal(2, 2))
    yield trial("many features in y", x=rng.normal(2, 2), W=rng.normal(3, 2, MANY), y=rng.normal(2, MANY))
    yield trial("an empty batch", x=rng.normal(0, 3), W=rng.normal(5, 3, 4), y=rng.normal(0, 4))
    yield trial("stored transposed", x=rng.normal(3, 2).T, W=rng.normal(5, 4, 3).mT, y=rng.normal(4, 2).T)
    yield trial(
        "float64, large values",
        x=100 * rng.normal(3, 2, dtype=float64),
        W=rng.normal(4, 2, 5, dtype=float64),
        y=-100 * rng.normal(3, 5, dtype=float64),
    )


@bilinear.mistake("You summed over k as well. k names the output, so it must stand on the right of '->'.")
def sums_the_output(x, W, y):
    return torch.einsum("bi,kij,bj->b", x, W, y)


@bilinear.mistake(
    "x and y have different letters for the batch, so every row of x met the sum of all rows of y. Share `b`."
)
def sums_the_batch_of_y(x, W, y):
    return torch.einsum("bi,kij,cj->bk", x, W, y)


@bilinear.mistake(
    "This pairs every row of x with every row of y. Row b of x meets row b of y only: share the letter `b`."
)
def pairs_all_rows(x, W, y):
    return torch.einsum("bi,kij,cj->bck", x, W, y)


@bilinear.mistake("The axes come out in the order of the letters on the right of '->': `bk`, not `kb`.")
def outputs_first(x, W, y):
    return torch.einsum("bi,kij,bj->kb", x, W, y)


@bilinear.mistake("i belongs to x and j to y, as in W[k, i, j]. Yours sums W over its axes the other way round.")
def swaps_the_inputs(x, W, y):
    return torch.einsum("bj,kij,bi->bk", x, W, y)


@bilinear.mistake("y is missing from the product: each W[k, i, j] is multiplied by x[b, i] *and* y[b, j].")
def leaves_y_out(x, W, y):
    return torch.einsum("bi,kij->bk", x, W)


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "Each score is the inner product of one query and one key of the same batch entry and head. Which index is summed?",
        "With einsum, give the two step axes different letters. With `@`, the last two axes of k must change places.",
        "d is the length of the *last* axis of q: `q.shape[-1]`.",
    ],
    vectorised=True,
)
def attention_scores(rng):
    """Trials for scores[b, h, t, s] = sum_d q[b, h, t, d] k[b, h, s, d] / sqrt(d)."""
    float64 = torch.float64
    yield trial("all axes different", q=rng.normal(2, 3, 5, 4), k=rng.normal(2, 3, 7, 4))
    yield trial("all axes equal", q=rng.normal(3, 3, 3, 3), k=rng.normal(3, 3, 3, 3))
    yield trial("as many queries as keys", q=rng.normal(2, 1, 4, 3), k=rng.normal(2, 1, 4, 3))
    yield trial("one batch, one head", q=rng.normal(1, 1, 4, 6), k=rng.normal(1, 1, 3, 6))
    yield trial("one query", q=rng.normal(2, 4, 1, 3), k=rng.normal(2, 4, 5, 3))
    yield trial("one feature", q=rng.normal(2, 3, 4, 1), k=rng.normal(2, 3, 2, 1))
    yield trial("a large batch", q=rng.normal(MANY, 1, 2, 3), k=rng.normal(MANY, 1, 1, 3))
    yield trial("many heads", q=rng.normal(1, MANY, 1, 3), k=rng.normal(1, MANY, 2, 3))
    yield trial("many queries", q=rng.normal(1, 2, MANY, 3), k=rng.normal(1, 2, 4, 3))
    yield trial("many keys", q=rng.normal(1, 2, 4, 3), k=rng.normal(1, 2, MANY, 3))
    yield trial("many features", q=rng.normal(1, 2, 2, MANY), k=rng.normal(1, 2, 3, MANY))
    yield trial("an empty batch", q=rng.normal(0, 3, 5, 4), k=rng.normal(0, 3, 2, 4))
    yield trial("no queries", q=rng.normal(2, 3, 0, 4), k=rng.normal(2, 3, 5, 4))
    yield trial("no keys", q=rng.normal(2, 3, 5, 4), k=rng.normal(2, 3, 0, 4))
    yield trial(  # d = 4, whose root is exact: many write `torch.sqrt(torch.tensor(d))`, which is float32
        "float64, large values",
        q=30 * rng.normal(2, 2, 3, 4, dtype=float64),
        k=-30 * rng.normal(2, 2, 5, 4, dtype=float64),
    )


@attention_scores.mistake(
    "The scale is missing. A sum of d products has a spread of √d, so without 1/√d a softmax over long vectors saturates."
)
def unscaled(q, k):
    return q @ k.mT


@attention_scores.mistake("You divided by d. The spread of a sum of d products grows with √d, so divide by the root.")
def scales_by_d(q, k):
    return q @ k.mT / q.shape[-1]


@attention_scores.mistake("You multiplied by √d. The spread has grown by √d already: divide by it.")
def scales_up(q, k):
    return q @ k.mT * q.shape[-1] ** 0.5


@attention_scores.mistake("You divided by √t, the number of queries. d, the length of one query, is `q.shape[-1]`.")
def scales_by_queries(q, k):
    return q @ k.mT / q.shape[-2] ** 0.5


@attention_scores.mistake("You divided by √s. d is the last axis.")
def scales_by_keys(q, k):
    return q @ k.mT / k.shape[-2] ** 0.5


@attention_scores.mistake(
    "Queries and keys have the same letter for their steps, so each query would meet one key only. "
    "All pairs take two letters, `t` and `s`."
)
def pairs_steps_by_position(q, k):
    return torch.einsum("bhtd,bhtd->bht", q, k) / q.shape[-1] ** 0.5


@attention_scores.mistake("The keys run down the rows here. Queries come first: the result is (b, h, t, s).")
def keys_first(q, k):
    return k @ q.mT / q.shape[-1] ** 0.5


@attention_scores.mistake("These are the attention *weights*. The scores are what goes into the softmax: leave it out.")
def applies_softmax(q, k):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "Two steps: cut the last axis in two, then move an axis. Write down the shape after each.",
        "Of the two new axes, `heads` comes first, because each head is one run of neighbouring features.",
        "`transpose(1, 2)` swaps steps and heads.",
    ],
    vectorised=True,
)
def split_heads(rng):
    """Trials for x (b, t, heads * d) that becomes (b, heads, t, d)."""
    yield trial("three heads", x=rng.normal(2, 5, 12), heads=3)
    yield trial("as many heads as steps", x=rng.normal(2, 3, 9), heads=3)
    yield trial("one head", x=rng.normal(2, 3, 4), heads=1)
    yield trial("one feature per head", x=rng.normal(2, 3, 4), heads=4)
    yield trial("a batch of one, one step", x=rng.normal(1, 1, 6), heads=2)
    yield trial("many sequences", x=rng.normal(MANY, 2, 4), heads=2)
    yield trial("many steps", x=rng.normal(2, MANY, 4), heads=2)
    yield trial("many heads", x=rng.normal(1, 2, 2 * MANY), heads=MANY)
    yield trial("many features per head", x=rng.normal(1, 2, 2 * MANY), heads=2)
    yield trial("stored transposed", x=rng.normal(2, 10, 3).mT, heads=5)
    yield trial("float64", x=rng.normal(3, 2, 6, dtype=torch.float64), heads=2)


@split_heads.mistake(
    "The shape is right, the values are not: a reshape straight to (b, heads, t, d) deals whole *steps* out to the heads. "
    "Cut the last axis first, then transpose."
)
def reshapes_at_once(x, heads):
    b, t, width = x.shape
    return x.reshape(b, heads, t, width // heads)


@split_heads.mistake("The steps still come before the heads, (b, t, heads, d). Swap these two axes.")
def does_not_transpose(x, heads):
    b, t, width = x.shape
    return x.reshape(b, t, heads, width // heads)


@split_heads.mistake(
    "Each head got every heads-th feature. It gets one run of neighbours: cut (heads · d) into (heads, d), heads first."
)
def deals_features_in_turn(x, heads):
    b, t, width = x.shape
    return x.reshape(b, t, width // heads, heads).permute(0, 3, 1, 2)


@split_heads.mistake(
    "`heads` is the number of heads, not the size of one. One head has heads · d / heads = d features."
)
def takes_heads_for_the_size(x, heads):
    b, t, width = x.shape
    return x.reshape(b, t, width // heads, heads).transpose(1, 2)


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "A sequence of length 3 has the steps 0, 1, 2. Which one is the last?",
        "Two index tensors of shape (b,) are read in pairs: `x[rows, steps]` takes x[rows[0], steps[0]], and so on.",
        "`rows` counts the sequences: 0, 1, …, b − 1.",
    ],
    vectorised=True,
)
def gather_last_step(rng):
    """Trials for last[b] = x[b, lengths[b] - 1]."""

    def lengths(b, t):
        """Lengths in 1 to t, with both ends among them where there is room."""
        return torch.cat([torch.tensor([1, t]), rng.integers(1, t + 1, b)])[:b]

    yield trial("padded sequences", x=rng.normal(4, 6, 3), lengths=lengths(4, 6))
    yield trial("all axes equal", x=rng.normal(5, 5, 5), lengths=lengths(5, 5))
    yield trial("no padding", x=rng.normal(2, 4, 3), lengths=torch.tensor([4, 4]))
    yield trial("one sequence", x=rng.normal(1, 4, 2), lengths=torch.tensor([3]))
    yield trial("one step", x=rng.normal(3, 1, 2), lengths=torch.tensor([1, 1, 1]))
    padded = rng.normal(3, 4, 2)
    padded[0, 1], padded[1, 2:] = torch.nan, torch.nan
    yield trial("NaN in the padding, and before the last step", x=padded, lengths=torch.tensor([4, 2, 3]))
    yield trial("many sequences", x=rng.normal(MANY, 3, 2), lengths=lengths(MANY, 3))
    yield trial("many steps", x=rng.normal(3, MANY, 1), lengths=lengths(3, MANY))
    yield trial("many features", x=rng.normal(2, 3, MANY), lengths=lengths(2, 3))
    yield trial("no sequences", x=rng.normal(0, 4, 3), lengths=rng.integers(1, 5, 0))
    yield trial("float64", x=rng.normal(3, 2, 4, dtype=torch.float64), lengths=lengths(3, 2))


@gather_last_step.mistake("`x[:, -1]` is the last step of the *padded* axis. Sequence b ends at step lengths[b] − 1.")
def takes_the_padding(x, lengths):
    return x[:, -1]


@gather_last_step.mistake(
    "A colon with an index tensor takes *all* these steps from *every* sequence. "
    "Pair each sequence with its own step: two index tensors of shape (b,)."
)
def takes_all_steps_of_all(x, lengths):
    return x[:, lengths - 1]


@gather_last_step.mistake(
    "Steps count from 0, so `lengths` itself points one step too far: the last step is lengths − 1."
)
def points_one_too_far(x, lengths):
    return x[torch.arange(len(x)), lengths]


@gather_last_step.mistake(
    "All rows came from the first sequence. Each sequence needs its own row number: 0, 1, …, b − 1."
)
def stays_in_the_first_sequence(x, lengths):
    return x.flatten(0, 1)[lengths - 1]


@gather_last_step.mistake("This is the last step of the *longest* sequence for all of them: leave out the maximum.")
def takes_the_longest(x, lengths):
    return x[:, lengths.max() - 1]


@gather_last_step.mistake(
    "NaN · 0 is NaN, so a product with zeros and ones does not leave the padding out. Choose, do not multiply: "
    "`x[rows, steps]`."
)
def multiplies_by_a_mask(x, lengths):
    last = torch.arange(x.shape[1]) == lengths[:, None] - 1
    return torch.einsum("btd,bt->bd", x, last.to(x.dtype))


@gather_last_step.mistake("`gather` keeps the axis that it picked from: remove it, `.squeeze(1)`, to get (b, d).")
def keeps_the_step_axis(x, lengths):
    return x.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, x.shape[-1]))


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Line up (n, 1, d) and (1, m, d): every row of x meets every row of y. What is left to do?",
        "Or expand the square: |x − y|² = |x|² + |y|² − 2 x·y. Which shapes have the three terms? It rounds more where points "
        "are close.",
    ],
    vectorised=True,
    tolerance=(1e-4, 1e-4),  # |x|² + |y|² − 2xy is a right answer, and rounds more than a sum of squares
)
def squared_distances(rng):
    """Trials for distances[i, j] = sum_d (x[i, d] - y[j, d])²."""
    yield trial("different lengths", x=rng.normal(4, 3), y=rng.normal(5, 3))
    yield trial("all axes equal", x=rng.normal(3, 3), y=rng.normal(3, 3))
    points = rng.normal(4, 2)
    yield trial("the same points", x=points, y=points.clone())
    yield trial("one point each", x=rng.normal(1, 4), y=rng.normal(1, 4))
    yield trial("one dimension", x=rng.normal(3, 1), y=rng.normal(2, 1))
    yield trial("many points in x", x=rng.normal(MANY, 2), y=rng.normal(3, 2))
    yield trial("many points in y", x=rng.normal(3, 2), y=rng.normal(MANY, 2))
    yield trial("many dimensions", x=rng.normal(2, MANY), y=rng.normal(3, MANY))
    yield trial("no points in x", x=rng.normal(0, 2), y=rng.normal(3, 2))
    yield trial("no points in y", x=rng.normal(3, 2), y=rng.normal(0, 2))
    yield trial("points without dimensions", x=rng.normal(2, 0), y=rng.normal(3, 0))
    yield trial("far from the origin", x=5 * rng.normal(3, 4) - 5, y=5 * rng.normal(2, 4) - 5)
    yield trial("stored transposed", x=rng.normal(3, 5).T, y=rng.normal(3, 4).T)
    float64 = torch.float64
    yield trial("float64", x=rng.normal(2, 4, dtype=float64), y=rng.normal(3, 4, dtype=float64))


@squared_distances.mistake("These are the distances themselves. The *squared* distance has no root.")
def takes_the_root(x, y):
    return torch.cdist(x, y)


@squared_distances.mistake("The rows of the result belong to x: yours is the transpose, (m, n).")
def rows_for_y(x, y):
    return (y[:, None] - x).square().sum(-1)


@squared_distances.mistake("The product term needs its factor: |x − y|² = |x|² + |y|² − 2 x·y.")
def forgets_the_two(x, y):
    return x.square().sum(-1)[:, None] + y.square().sum(-1) - x @ y.T


@squared_distances.mistake("A squared distance is the *sum* over the dimensions. The mean divides it by d.")
def averages(x, y):
    return (x[:, None] - y).square().mean(-1)


@squared_distances.mistake("This sums absolute differences, which is another distance (Manhattan). Square them.")
def takes_absolute_values(x, y):
    return (x[:, None] - y).abs().sum(-1)


@squared_distances.mistake(
    "The last axis of `x[:, None] - y`, (n, m, d), holds the coordinates: sum it with `sum(dim=-1)`."
)
def keeps_the_coordinates(x, y):
    return (x[:, None] - y).square()


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "Which method names the k best classes of each row?",
        "`logits.topk(k, dim=1).indices` holds the k best classes of each row, shape (n, k).",
        "Compare them with the labels as a column, (n, 1), and ask for each row whether *any* of them is equal.",
        "The mean of ones and zeros is a share; `.item()` makes a Python number of it.",
    ],
    vectorised=True,
)
def top_k_accuracy(rng):
    """Trials for the share of rows whose label is among the k largest logits. No ties: they leave the answer open."""

    def ranks(n, classes):
        """Each row a permutation of 0, 1, …, without ties."""
        return rng.normal(n, classes).argsort(dim=1).to(torch.float32)

    def logits(n, classes):
        return 0.37 * ranks(n, classes) - 1.5

    yield trial("the best of five", logits=logits(7, 5), labels=rng.integers(0, 5, 7), k=1)
    yield trial("the best three of seven", logits=logits(9, 7), labels=rng.integers(0, 7, 9), k=3)
    yield trial("as many rows as classes", logits=logits(5, 5), labels=rng.permutation(5), k=2)
    yield trial("as many rows as places", logits=logits(4, 7), labels=rng.integers(0, 7, 4), k=4)
    yield trial("first and last class", logits=logits(4, 6), labels=torch.tensor([0, 5, 5, 0]), k=4)
    yield trial("all classes", logits=logits(4, 3), labels=rng.integers(0, 3, 4), k=3)
    yield trial("one row", logits=logits(1, 4), labels=rng.integers(0, 4, 1), k=2)
    worst_last = logits(3, 6)
    yield trial("no hit", logits=worst_last, labels=worst_last.argmin(dim=1), k=5)
    yield trial("negative logits", logits=logits(8, 4) - 50, labels=rng.integers(0, 4, 8), k=2)
    close = 3 + 1e-4 * ranks(6, 9)
    yield trial("logits close together", logits=close, labels=close.argmax(dim=1), k=1)
    yield trial("many rows", logits=logits(MANY, 4), labels=rng.integers(0, 4, MANY), k=2)
    yield trial("many classes", logits=logits(3, MANY + 60), labels=rng.integers(0, MANY + 60, 3), k=MANY)


@top_k_accuracy.mistake("Only the very best class counts here, whatever k is. Compare the label with the k best.")
def looks_at_the_best_only(logits, labels, k):
    return (logits.argmax(dim=1) == labels).float().mean().item()


@top_k_accuracy.mistake("These are the k *smallest* logits: the largest come first with `topk`, last with `sort`.")
def takes_the_smallest(logits, labels, k):
    worst = logits.topk(k, dim=1, largest=False).indices
    return (worst == labels[:, None]).any(dim=1).float().mean().item()


@top_k_accuracy.mistake(
    "You divided by n·k comparisons. A row counts once, as a hit or not: use `any(dim=1)` before the mean."
)
def averages_all_comparisons(logits, labels, k):
    return (logits.topk(k, dim=1).indices == labels[:, None]).float().mean().item()


@top_k_accuracy.mistake(
    "(n, k) == (n,) lines up at the right: every row met every label. Compare with `labels[:, None]`."
)
def meets_every_label(logits, labels, k):
    return (logits.topk(k, dim=1).indices == labels).any(dim=1).float().mean().item()


@top_k_accuracy.mistake("This is the number of hits. The share is that number divided by the number of rows.")
def counts_hits(logits, labels, k):
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1).float().sum().item()


@top_k_accuracy.mistake(
    "The value is right, but it is a tensor. A metric is logged and printed: `.item()` gives a float."
)
def returns_a_tensor(logits, labels, k):
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1).float().mean()


@top_k_accuracy.mistake(
    "`topk` returns the values *and* their places, and you compared the labels with the values. The classes are `.indices`."
)
def compares_values(logits, labels, k):
    return (logits.topk(k, dim=1).values == labels[:, None]).any(dim=1).float().mean().item()


@exercise(
    points=3,
    level=2,
    minutes=12,
    hints=[
        "NaN · 0 is NaN. So do not multiply: *replace* what is not kept, then sum.",
        "`torch.where` and `masked_fill` replace. The mask needs a third axis to line up with (b, t, d).",
        "Divide by the number of kept steps of each sequence. If it is 0, the sum is 0 too: which divisor is then safe?",
    ],
    vectorised=True,
)
def masked_mean(rng):
    """Trials for the mean over the steps where the mask is true; zeros where it is true nowhere."""
    yield trial("some steps kept", x=rng.normal(3, 5, 4), mask=rng.booleans(3, 5))
    yield trial("all axes equal", x=rng.normal(3, 3, 3), mask=rng.booleans(3, 3))
    yield trial("all kept", x=rng.normal(2, 4, 3), mask=torch.ones(2, 4, dtype=torch.bool))
    yield trial("many sequences", x=rng.normal(MANY, 3, 2), mask=rng.booleans(MANY, 3))
    yield trial("many steps", x=rng.normal(2, MANY, 3), mask=rng.booleans(2, MANY))
    yield trial("many features", x=rng.normal(1, 2, MANY), mask=torch.tensor([[False, True]]))
    first_empty = rng.booleans(4, 5, share=0.6)
    first_empty[0] = False
    yield trial("a sequence without kept steps", x=rng.normal(4, 5, 2), mask=first_empty)
    yield trial("nothing kept", x=rng.normal(2, 3, 4), mask=torch.zeros(2, 3, dtype=torch.bool))

    x, mask = rng.normal(3, 6, 2), rng.booleans(3, 6)
    x[~mask] = torch.nan
    yield trial("NaN in the other steps", x=x, mask=mask)
    x, mask = rng.normal(2, 5, 3), rng.booleans(2, 5)
    mask[:, 0] = False
    x[~mask] = torch.inf
    x[:, 0] = -torch.inf
    yield trial("infinities in the other steps", x=x, mask=mask)
    only_nan = torch.full((2, 3, 2), torch.nan, dtype=torch.float32)
    yield trial("only NaN, nothing kept", x=only_nan, mask=torch.zeros(2, 3, dtype=torch.bool))

    yield trial("one step of one sequence", x=rng.normal(1, 1, 3), mask=torch.tensor([[True]]))
    yield trial("large values", x=1000 * rng.normal(2, 4, 3), mask=torch.tensor([[True, True, False, True]] * 2))
    yield trial("no sequences", x=rng.normal(0, 3, 2), mask=rng.booleans(0, 3))
    yield trial("no steps", x=rng.normal(2, 0, 3), mask=rng.booleans(2, 0))


@masked_mean.mistake(
    "NaN · 0 and ∞ · 0 are NaN, so a product does not remove them. Replace the values: `masked_fill`, `where`."
)
def multiplies_by_the_mask(x, mask):
    kept = (x * mask[:, :, None]).sum(dim=1)
    return kept / mask.sum(dim=1, keepdim=True).clamp(min=1)


@masked_mean.mistake(
    "Shapes line up at the right, so (b, t) met (t, d). Give the mask a third axis, `mask[:, :, None]`: (b, t, 1)."
)
def leaves_the_mask_flat(x, mask):
    kept = torch.where(mask, x, 0).sum(dim=1)
    return kept / mask.sum(dim=1, keepdim=True).clamp(min=1)


@masked_mean.mistake("You divided by all t steps. Divide by the number of *kept* steps of each sequence.")
def divides_by_all_steps(x, mask):
    return x.masked_fill(~mask[:, :, None], 0).mean(dim=1)


@masked_mean.mistake("Where no step is kept, 0/0 is NaN. Zeros are wanted: let the divisor be at least 1.")
def divides_by_zero(x, mask):
    return x.masked_fill(~mask[:, :, None], 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


@masked_mean.mistake(
    "The mask is the other way round: true marks the steps to *keep*. `masked_fill` wants those to replace."
)
def keeps_the_others(x, mask):
    return x.masked_fill(mask[:, :, None], 0).sum(dim=1) / (~mask).sum(dim=1, keepdim=True).clamp(min=1)


@masked_mean.mistake(
    "You divided by the kept steps of the whole batch. Each sequence has its own number: `mask.sum(dim=1)`."
)
def divides_by_the_batch_total(x, mask):
    return x.masked_fill(~mask[:, :, None], 0).sum(dim=1) / mask.sum().clamp(min=1)


@masked_mean.mistake("The mask is not used: this is the mean over all steps.")
def ignores_the_mask(x, mask):
    return x.mean(dim=1)


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "First the sum over the keys s, for each head. Let einsum put the axes in the order that you need next.",
        "Before h and d are merged they must be neighbours, h first: (b, t, h, d).",
        "`flatten(2)` merges all axes from the third on.",
    ],
    vectorised=True,
)
def weighted_values(rng):
    """Trials for sum_s weights[b, h, t, s] values[b, h, s, d], with the heads merged to (b, t, h * d)."""

    def weights(*shape):
        return rng.normal(*shape).softmax(dim=-1)

    yield trial("all axes different", weights=weights(2, 3, 4, 5), values=rng.normal(2, 3, 5, 6))
    yield trial("all axes equal", weights=weights(3, 3, 3, 3), values=rng.normal(3, 3, 3, 3))
    yield trial("weights of any sign and sum", weights=rng.normal(1, 2, 3, 4), values=rng.normal(1, 2, 4, 3))
    yield trial("one head", weights=weights(2, 1, 4, 3), values=rng.normal(2, 1, 3, 2))
    yield trial("one feature", weights=weights(1, 4, 2, 3), values=rng.normal(1, 4, 3, 1))
    yield trial("one query", weights=weights(2, 3, 1, 4), values=rng.normal(2, 3, 4, 2))
    yield trial("a large batch", weights=weights(MANY, 2, 1, 3), values=rng.normal(MANY, 2, 3, 2))
    yield trial("many heads", weights=weights(1, MANY, 2, 3), values=rng.normal(1, MANY, 3, 1))
    yield trial("many queries", weights=weights(1, 2, MANY, 3), values=rng.normal(1, 2, 3, 2))
    yield trial("many keys", weights=weights(1, 2, 3, MANY), values=rng.normal(1, 2, MANY, 2))
    yield trial("many features", weights=weights(1, 2, 2, 3), values=rng.normal(1, 2, 3, MANY))
    yield trial("no keys: the sum is zero", weights=rng.normal(2, 3, 4, 0), values=rng.normal(2, 3, 0, 2))
    float64 = torch.float64
    yield trial("float64", weights=rng.normal(2, 2, 3, 4, dtype=float64), values=rng.normal(2, 2, 4, 5, dtype=float64))


@weighted_values.mistake(
    "The heads were merged while the steps still stood between h and d, so the numbers of different steps are mixed. "
    "Bring it to (b, t, h, d) first."
)
def merges_too_early(weights, values):
    b, h, t, _ = weights.shape
    return (weights @ values).reshape(b, t, h * values.shape[-1])


@weighted_values.mistake("t and d were merged; h must stand beside d. Bring it to (b, t, h, d) before `flatten(2)`.")
def merges_steps_and_features(weights, values):
    return (weights @ values).flatten(2)


@weighted_values.mistake("The heads were added up. Merging keeps all of them, side by side: h · d features.")
def sums_the_heads(weights, values):
    return torch.einsum("bhts,bhsd->btd", weights, values)


@weighted_values.mistake("The sum is right, the heads are still apart: merge (b, h, t, d) to (b, t, h · d).")
def leaves_the_heads_apart(weights, values):
    return weights @ values


@weighted_values.mistake(
    "The heads are interleaved. Head 0's d features come first, then head 1's: (h, d), not (d, h)."
)
def interleaves_the_heads(weights, values):
    return torch.einsum("bhts,bhsd->btdh", weights, values).flatten(2)


@weighted_values.mistake(
    "`s` has a different letter in the two operands, so the values were summed without their weights. Share the letter."
)
def sums_without_weights(weights, values):
    return torch.einsum("bhts,bhrd->bthd", weights, values).flatten(2)


@exercise(
    points=3,
    level=3,
    minutes=12,
    hints=[
        "Indexing with index tensors copies. Which methods of a tensor only change shape and strides?",
        "Look up `Tensor.unfold`: it takes an axis, a size and a step.",
        "With `as_strided`, one step along x is `x.stride(0)` numbers in memory, which is not always 1.",
    ],
    probe=returns_view_of("x"),
    vectorised=True,
)
def sliding_windows(rng):
    """Trials for windows[i, j] = x[i * step + j], as a view."""
    yield trial("overlapping windows", x=rng.normal(10), size=3, step=2)
    yield trial("a window at every element", x=rng.normal(7), size=4, step=1)
    yield trial("windows side by side", x=rng.normal(9), size=3, step=3)
    yield trial("a rest that fills no window", x=rng.normal(11), size=4, step=3)
    yield trial("gaps between windows", x=rng.normal(11), size=2, step=4)
    yield trial("one window", x=rng.normal(5), size=5, step=2)
    yield trial("windows of one element", x=rng.normal(6), size=1, step=2)
    yield trial("one element", x=rng.normal(1), size=1, step=1)
    yield trial("every other element of a tensor", x=rng.normal(18)[::2], size=4, step=2)
    yield trial("a column of a matrix", x=rng.normal(8, 3)[:, 1], size=3, step=1)
    yield trial("integers", x=rng.integers(-900, 900, 8), size=2, step=3)
    yield trial("many windows", x=rng.normal(2 * MANY + 2), size=3, step=2)
    yield trial("long windows", x=rng.normal(MANY + 100), size=MANY, step=40)


@sliding_windows.mistake(
    "The values are right, but this is a copy: when x changes, it does not follow. Indexing with tensors, `stack` and "
    "`clone` copy; `unfold` and `as_strided` return views."
)
def copies(x, size, step):
    return x.unfold(0, size, step).clone()


@sliding_windows.mistake(
    "The values are right, but windows that overlap or leave gaps were copied: `contiguous` and `reshape` copy whatever "
    "does not lie side by side in memory. Leave them out."
)
def copies_where_needed(x, size, step):
    return x.unfold(0, size, step).contiguous()


@sliding_windows.mistake(
    "The last window is missing: (n − size) // step counts the moves, and there is one window more."
)
def drops_the_last_window(x, size, step):
    return x.unfold(0, size, step)[:-1]


@sliding_windows.mistake("The windows start at every element. Each starts `step` elements after the one before.")
def ignores_the_step(x, size, step):
    return x.unfold(0, size, 1)


@sliding_windows.mistake("The windows stand side by side, as if step were size. The step is an argument of its own.")
def moves_by_the_size(x, size, step):
    return x.unfold(0, size, size)


@sliding_windows.mistake("Each window is a *row*: the result is (windows, size), and yours is its transpose.")
def windows_as_columns(x, size, step):
    return x.unfold(0, size, step).T


@sliding_windows.mistake(
    "These strides hold only where the elements of x are neighbours in memory. In `base[::2]` they are two apart: "
    "use `x.stride(0)`."
)
def assumes_neighbours(x, size, step):
    return x.as_strided(((len(x) - size) // step + 1, size), (step, 1))


@exercise(
    points=3,
    level=3,
    minutes=12,
    hints=[
        "Two positions belong together if they have the same group number. Make the group number of every position first.",
        "For lengths 2, 0, 3 the group numbers are 0, 0, 2, 2, 2. Look up `repeat_interleave`.",
        "A column compared with a row gives the whole table.",
    ],
    vectorised=True,
    forbidden={"block_diag": "Its list of blocks is made by a loop over the lengths."},
)
def block_diagonal_mask(rng):
    """Trials for a bool table that is true where both positions belong to the same group."""
    mostly_one = (
        1 - rng.booleans(MANY + 80, share=0.1).long()
    )  # most are not empty: a loop over these alone is seen too
    yield trial("three groups", lengths=torch.tensor([2, 3, 1]))
    yield trial("random lengths", lengths=rng.integers(0, 5, 6))
    yield trial("groups of equal length", lengths=torch.tensor([2, 2, 2]))
    yield trial("a long group", lengths=torch.tensor([1, 60, 2]))
    yield trial("many groups", lengths=mostly_one)
    yield trial("empty groups among the others", lengths=torch.tensor([0, 2, 0, 0, 3, 0]))
    yield trial("one group", lengths=torch.tensor([4]))
    yield trial("groups of one", lengths=torch.ones(4, dtype=torch.int64))
    yield trial("empty groups only", lengths=torch.zeros(3, dtype=torch.int64))
    yield trial("no groups", lengths=torch.zeros(0, dtype=torch.int64))


@block_diagonal_mask.mistake(
    "You compared the *lengths*, so two groups of equal length see each other. Compare the numbers of the groups."
)
def compares_lengths(lengths):
    own = lengths.repeat_interleave(lengths)
    return own[:, None] == own


@block_diagonal_mask.mistake(
    "The pattern is right, the dtype is not: a mask is `bool`, which indexing and `where` expect."
)
def returns_floats(lengths):
    group = torch.arange(len(lengths)).repeat_interleave(lengths)
    return (group[:, None] == group).float()


@block_diagonal_mask.mistake(
    "Inside a block all pairs are true, in both directions. Yours is false above the diagonal."
)
def looks_back_only(lengths):
    group = torch.arange(len(lengths)).repeat_interleave(lengths)
    return (group[:, None] == group).tril()


@block_diagonal_mask.mistake(
    "Each group sees all the groups before it. Only equal group numbers are true: `==`, not `>=`."
)
def sees_earlier_groups(lengths):
    group = torch.arange(len(lengths)).repeat_interleave(lengths)
    return group[:, None] >= group


@block_diagonal_mask.mistake("True and false are exchanged: the blocks themselves are true.")
def inverts(lengths):
    group = torch.arange(len(lengths)).repeat_interleave(lengths)
    return group[:, None] != group


@block_diagonal_mask.mistake(
    "This has one row per *group*. The mask has one row per position: as many as the lengths add up to."
)
def one_row_per_group(lengths):
    return torch.eye(len(lengths), dtype=torch.bool)


@exercise(
    points=3,
    level=3,
    minutes=12,
    hints=[
        "Run the program on three rows and print the shape of `errors`.",
        "(n, 1) − (n,) is a table of n · n differences. Bring both to the same shape before subtracting.",
        "A weight of 3 counts a squared error three times. Does the weight stand inside or outside the square?",
        "The weighted squares are added up and divided by the sum of the weights, once. And who else uses `weights`?",
    ],
    vectorised=True,
)
def weighted_mse(rng):
    """Trials for sum_n weights[n] (predictions[n, 0] - targets[n])² / sum_n weights[n], a tensor without axes."""
    float32, float64 = torch.float32, torch.float64

    def weights(n):
        return rng.uniform(n, low=0.5, high=3.0)

    equal, zeros = torch.full((5,), 2.0, dtype=float32), torch.tensor([0.0, 2.0, 0.0], dtype=float32)
    yield trial("some rows", predictions=rng.normal(4, 1), targets=rng.normal(4), weights=weights(4))
    yield trial("equal weights", predictions=rng.normal(5, 1), targets=rng.normal(5), weights=equal)
    yield trial("one row", predictions=rng.normal(1, 1), targets=rng.normal(1), weights=weights(1))
    yield trial("weights of zero", predictions=10 * rng.normal(3, 1) + 30, targets=rng.normal(3), weights=zeros)
    yield trial("large errors", predictions=1000 * rng.normal(3, 1), targets=-1000 * rng.normal(3), weights=weights(3))
    yield trial(
        "float64",
        predictions=rng.normal(4, 1, dtype=float64),
        targets=rng.normal(4, dtype=float64),
        weights=rng.uniform(4, low=0.5, high=1.0).double(),
    )
    yield trial("many rows", predictions=rng.normal(MANY, 1), targets=rng.normal(MANY), weights=weights(MANY))


@weighted_mse.mistake(
    "(n, 1) − (n,) is (n, n): every prediction met every target, and no error was raised. "
    "Remove the second axis of the predictions first."
)
def subtracts_all_pairs(predictions, targets, weights):
    return (weights * (predictions - targets).square()).sum() / weights.sum()


@weighted_mse.mistake(
    "The value is right, but `/=` changed the caller's weights. `weights / weights.sum()` makes a new tensor."
)
def changes_the_weights(predictions, targets, weights):
    weights /= weights.sum()
    return (weights * (predictions[:, 0] - targets).square()).sum()


@weighted_mse.mistake(
    "The weight stands inside the square, so a weight of 3 counts nine times. Square first, then weight."
)
def squares_the_weights(predictions, targets, weights):
    shares = weights / weights.sum()
    return (shares * (predictions[:, 0] - targets)).square().sum()


@weighted_mse.mistake("The weighted squares are summed, but not yet divided by the sum of the weights.")
def forgets_to_divide(predictions, targets, weights):
    return (weights * (predictions[:, 0] - targets).square()).sum()


@weighted_mse.mistake("The shares add up to one already, so the mean divides by n a second time: sum them.")
def averages_shares(predictions, targets, weights):
    shares = weights / weights.sum()
    return (shares * (predictions[:, 0] - targets).square()).mean()


@weighted_mse.mistake(
    "This divides by n. With weights, the divisor is their sum: doubling all weights changes nothing."
)
def divides_by_n(predictions, targets, weights):
    return (weights * (predictions[:, 0] - targets).square()).mean()


@weighted_mse.mistake(
    "This is the program as it was given, with all its faults. Print the shape of `errors` on three rows."
)
def as_given(predictions, targets, weights):
    weights /= weights.sum()
    errors = predictions - targets
    return (weights * errors).square().mean()


@exercise(
    points=4,
    level=3,
    minutes=20,
    hints=[
        "Make a tensor of all patches first, shape (n, c, y, x, i, j): `unfold` on the height, then on the width.",
        "`unfold` takes an axis, a size and a step: it cuts windows, `step` apart, and puts their elements into a new last "
        "axis. What are size and step here?",
        "What remains is one einsum over patches and kernels. Which three indices are summed?",
    ],
    vectorised=True,
    forbidden=dict.fromkeys(CONVOLUTIONS, "The exercise is to build what it does: patches, and one einsum."),
)
def conv2d(rng):
    """Trials for out[n, o, y, x] = sum_cij images[n, c, y stride + i, x stride + j] kernels[o, c, i, j].

    No kernel has more than six pixels: a loop over them is allowed, and stays under the judge's limit of steps.
    """
    yield trial("stride 1, all axes different", images=rng.normal(2, 3, 7, 6), kernels=rng.normal(4, 3, 3, 2), stride=1)
    yield trial("stride 2", images=rng.normal(2, 3, 7, 9), kernels=rng.normal(4, 3, 3, 1), stride=2)
    yield trial("stride 3, a rest left over", images=rng.normal(1, 2, 9, 11), kernels=rng.normal(3, 2, 2, 3), stride=3)
    yield trial("a square kernel", images=rng.normal(2, 2, 5, 6), kernels=rng.normal(3, 2, 2, 2), stride=1)
    yield trial("one channel, one kernel", images=rng.normal(1, 1, 6, 7), kernels=rng.normal(1, 1, 2, 2), stride=2)
    yield trial("kernels of one pixel", images=rng.normal(2, 3, 4, 5), kernels=rng.normal(2, 3, 1, 1), stride=2)
    yield trial(
        "a kernel as large as the image", images=rng.normal(2, 3, 2, 3), kernels=rng.normal(5, 3, 2, 3), stride=1
    )
    yield trial(
        "a stride longer than the image", images=rng.normal(2, 2, 4, 5), kernels=rng.normal(3, 2, 2, 3), stride=7
    )
    images, kernels = 100 * rng.normal(1, 2, 6, 5, dtype=torch.float64), rng.normal(2, 2, 2, 2, dtype=torch.float64)
    yield trial("float64, large values", images=images, kernels=kernels, stride=2)
    yield trial("many images", images=rng.normal(MANY, 1, 2, 3), kernels=rng.normal(2, 1, 2, 2), stride=1)
    yield trial("many channels", images=rng.normal(1, MANY, 2, 3), kernels=rng.normal(1, MANY, 1, 2), stride=1)
    yield trial("a tall image", images=rng.normal(1, 2, 2 * MANY, 3), kernels=rng.normal(1, 2, 2, 2), stride=2)
    yield trial("a wide image", images=rng.normal(1, 1, 3, 2 * MANY), kernels=rng.normal(2, 1, 2, 2), stride=2)
    yield trial("many kernels", images=rng.normal(1, 2, 3, 3), kernels=rng.normal(MANY, 2, 2, 2), stride=1)
    yield trial("no images", images=rng.normal(0, 2, 4, 3), kernels=rng.normal(3, 2, 2, 2), stride=1)


def _patches(images, kernels, stride):
    return images.unfold(2, kernels.shape[2], stride).unfold(3, kernels.shape[3], stride)


@conv2d.mistake(
    "You turned the kernel round. That is the convolution of mathematics; the one of deep learning multiplies in place: "
    "kernels[…, i, j] meets images[…, s·y + i, s·x + j]."
)
def flips_the_kernel(images, kernels, stride):
    return F.conv2d(images, kernels.flip(2, 3), stride=stride)


@conv2d.mistake(
    "The channels were summed before the product. Each channel is multiplied by its own slice of the kernel."
)
def sums_channels_first(images, kernels, stride):
    return F.conv2d(images.sum(1, keepdim=True), kernels.sum(1, keepdim=True), stride=stride)


@conv2d.mistake("Height and width of the kernel are swapped: i runs with the rows y, j with the columns x.")
def transposes_the_kernel(images, kernels, stride):
    return torch.einsum("ncyxij,ocji->noyx", _patches(images, kernels, stride), kernels)


@conv2d.mistake("There is no padding here: the kernel stays inside the image, so stride 1 gives h − i + 1 rows.")
def pads(images, kernels, stride):
    return F.conv2d(images, kernels, stride=stride, padding=(kernels.shape[2] // 2, kernels.shape[3] // 2))


@conv2d.mistake("The mean of the products is not asked for. A convolution sums them.")
def averages_patches(images, kernels, stride):
    return F.conv2d(images, kernels, stride=stride) / kernels[0].numel()


@conv2d.mistake("The output axes are in the order (n, y, x, o). Channels come second: (n, o, y, x).")
def kernels_last(images, kernels, stride):
    return F.conv2d(images, kernels, stride=stride).movedim(1, -1)


@conv2d.mistake("The kernel stops at every pixel, whatever the stride is: it is the step of both `unfold`s.")
def ignores_the_stride(images, kernels, stride):
    return F.conv2d(images, kernels)


@conv2d.mistake("The stride counts downwards only. It is the step to the right as well.")
def strides_down_only(images, kernels, stride):
    return F.conv2d(images, kernels, stride=(stride, 1))


@conv2d.mistake(
    "The last places are missing: (h − i) // stride counts the moves, and there is one place more than moves."
)
def drops_the_last_places(images, kernels, stride):
    return F.conv2d(images, kernels, stride=stride)[:, :, :-1, :-1]


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Compute all four sums at once, shape (4, b, m): one einsum for the input, one for the hidden state.",
        "`i, f, g, o = sums` takes a tensor of shape (4, b, m) apart. Three of them go through a sigmoid, one through tanh.",
        "The new cell keeps f of the old one and takes in i of the candidate g. Only then is the new hidden state read out.",
        "Take the step for all sequences, then choose, row by row, between new and old: `torch.where`.",
    ],
    vectorised=True,
    forbidden=dict.fromkeys(LSTMS, "The exercise is to write out the four sums that it hides."),
)
def lstm_step(rng):
    """Trials for one step of an LSTM: the new hidden state and the new cell state, or the old where a row has ended."""

    def state(active, inputs, units, dtype=torch.float32):
        b = len(active)
        if units < MANY:
            U = rng.normal(4, units, units, dtype=dtype)
        else:
            U = _large_matrix(rng, 4, units, units).to(dtype).div_(units)
        return {
            "x": rng.normal(b, inputs, dtype=dtype),
            "h": rng.normal(b, units, dtype=dtype),
            "c": rng.normal(b, units, dtype=dtype),
            "active": torch.tensor(active, dtype=torch.bool),
            "W": rng.normal(4, units, inputs, dtype=dtype),
            "U": U,
            "bias": rng.normal(4, units, dtype=dtype),
        }

    yield trial("all go on", **state([True] * 3, 2, 5))
    yield trial("the second has ended", **state([True, False, True], 4, 2))
    padded = state([True, False, True, False], 3, 2)
    padded["x"][1], padded["x"][3] = torch.nan, torch.inf
    yield trial("NaN and infinity where sequences have ended", **padded)
    yield trial("all axes equal", **state([True, False, True, True], 4, 4))
    yield trial("all have ended", **state([False] * 3, 2, 4))
    yield trial("a batch of one", **state([True], 3, 2))
    yield trial("one input, one unit", **state([False, True], 1, 1))
    large = state([True, False, True], 3, 4)
    yield trial("full cells", **large | {"c": 20 * large["c"]})
    yield trial("float64", **state([True, False], 3, 4, dtype=torch.float64))
    yield trial("a large batch", **state(rng.booleans(MANY).tolist(), 2, 1))
    yield trial("many inputs", **state([True, False], MANY, 2))
    yield trial("many units", **state([True, False], 2, MANY))
    yield trial("an empty batch", **state([], 3, 2))


def _sums(x, h, W, U, bias):
    return torch.einsum("gmd,bd->gbm", W, x) + torch.einsum("gmn,bn->gbm", U, h) + bias[:, None]


def _updated(sums, c):
    i, f, g, o = sums
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _where_active(active, new, old):
    return tuple(torch.where(active[:, None], ours, theirs) for ours, theirs in zip(new, old, strict=True))


@lstm_step.mistake("Input and forget gate are swapped. The sums stand in the order input, forget, candidate, output.")
def swaps_input_and_forget(x, h, c, active, W, U, bias):
    f, i, g, o = _sums(x, h, W, U, bias)
    return _where_active(active, _updated((i, f, g, o), c), (h, c))


@lstm_step.mistake("Candidate and output gate are swapped. The candidate stands third, the output gate last.")
def swaps_candidate_and_output(x, h, c, active, W, U, bias):
    i, f, o, g = _sums(x, h, W, U, bias)
    return _where_active(active, _updated((i, f, g, o), c), (h, c))


@lstm_step.mistake(
    "The candidate g is no gate but new content, which may be negative: it goes through tanh, not a sigmoid."
)
def squashes_the_candidate(x, h, c, active, W, U, bias):
    i, f, g, o = _sums(x, h, W, U, bias)
    new_c = f.sigmoid() * c + i.sigmoid() * g.sigmoid()
    return _where_active(active, (o.sigmoid() * new_c.tanh(), new_c), (h, c))


@lstm_step.mistake("The cell may grow without bound, so it is read out through tanh: h = σ(o) · tanh(c).")
def reads_the_cell_raw(x, h, c, active, W, U, bias):
    sums = _sums(x, h, W, U, bias)
    _, new_c = _updated(sums, c)
    return _where_active(active, (sums[3].sigmoid() * new_c, new_c), (h, c))


@lstm_step.mistake("The hidden state was read from the *old* cell. Update c first, and read the new one.")
def reads_the_old_cell(x, h, c, active, W, U, bias):
    sums = _sums(x, h, W, U, bias)
    _, new_c = _updated(sums, c)
    return _where_active(active, (sums[3].sigmoid() * c.tanh(), new_c), (h, c))


@lstm_step.mistake("Both states are right, but in the wrong order: the hidden state comes first, then the cell.")
def returns_the_cell_first(x, h, c, active, W, U, bias):
    new_h, new_c = _where_active(active, _updated(_sums(x, h, W, U, bias), c), (h, c))
    return new_c, new_h


@lstm_step.mistake(
    "U[g, m, n] was used transposed: n, its last axis, is summed with h[b, n], and m names the new unit."
)
def transposes_the_recurrence(x, h, c, active, W, U, bias):
    return _where_active(active, _updated(_sums(x, h, W, U.mT, bias), c), (h, c))


@lstm_step.mistake(
    "All sequences took the step. Where `active` is false, h and c stay as they were: choose with `torch.where`."
)
def steps_all_sequences(x, h, c, active, W, U, bias):
    return _updated(_sums(x, h, W, U, bias), c)


@lstm_step.mistake("The cell is kept where a sequence has ended, but not its hidden state: choose for both.")
def keeps_the_cell_only(x, h, c, active, W, U, bias):
    new_h, new_c = _updated(_sums(x, h, W, U, bias), c)
    return new_h, torch.where(active[:, None], new_c, c)


@lstm_step.mistake("Where a sequence has ended, the states became zeros. They stay as they *were*, h and c.")
def clears_what_has_ended(x, h, c, active, W, U, bias):
    return _where_active(active, _updated(_sums(x, h, W, U, bias), c), (torch.zeros_like(h), torch.zeros_like(c)))


@lstm_step.mistake(
    "You blended new and old by multiplying. The padding of an ended sequence may be NaN, and NaN · 0 is NaN: choose with "
    "`torch.where`."
)
def blends_new_and_old(x, h, c, active, W, U, bias):
    new_h, new_c = _updated(_sums(x, h, W, U, bias), c)
    share = active[:, None].to(h.dtype)
    return share * new_h + (1 - share) * h, share * new_c + (1 - share) * c


@lstm_step.mistake(
    "The result is right, but the caller's states changed: `h[active] = …` writes in place. `torch.where` makes new tensors."
)
def writes_into_the_states(x, h, c, active, W, U, bias):
    new_h, new_c = _updated(_sums(x, h, W, U, bias), c)
    h[active], c[active] = new_h[active], new_c[active]
    return h, c
