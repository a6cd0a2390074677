# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Data pipelines

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %% tags=["remove-cell"]
# This chapter raises errors on purpose: show the message alone, without the path that led to it.
get_ipython().run_line_magic("xmode", "Minimal")

# %% [markdown]
# ## What you will learn
#
# A network is trained on batches: tensors of equal shape, in a fair order, with nothing in them that it should not know.
# What you have is files. Between the two lies the data pipeline, and it is where many a good score comes from that
# nobody can repeat. You will build pipelines for pictures and for sentences, with PyTorch and with Hugging Face
# `datasets`, and learn to look at what comes out of each station.
#
# ## Before you start
#
# You need chapter 1: shapes, dtypes, stacking, broadcasting, generators. Gradients do not occur here.
#
# Every section has a *Predict* box: write your answer down before you run the cell. Some cells end in an error. They are
# meant to: each is followed by the version that works.
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about three more. Afterwards you can
#
# - write a data set of either kind, and say who calls it when;
# - split data so that the test score means something;
# - choose, order and draw transforms, and normalise by the right numbers;
# - turn sentences of different lengths into one batch, with a mask;
# - rebalance classes, share a stream among workers, and seed them;
# - measure whether workers pay;
# - load files with `datasets`, and map them to tensors.

# %% [markdown]
# ## What happens between a file and a batch?
#
# First the whole, then its parts. The files hold Fashion-MNIST: 60,000 training and 10,000 test pictures, 28 × 28
# grey pixels each, of ten kinds of clothing.
#
# :::{admonition} Predict
# :class: tip
# 60,000 pictures in batches of 64: how many batches are one **epoch**, one pass over the data?
# :::

# %%
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision.transforms import v2

from course_utils.datasets import fashion_mnist, reviews
from course_utils.plotting import COLOURS, STYLE, AltFigure, heat_map, image_grid

to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
train = fashion_mnist(transform=to_tensor)
loader = DataLoader(train, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))

images, labels = next(iter(loader))  # the first batch
print("images", images.shape, images.dtype)  # (batch, channels, height, width)
print("labels", labels.shape, labels.dtype)  # (batch,)
print(len(train), "items,", len(loader), "batches")

# %% mystnb={"figure": {"caption": "The first 16 pictures of the batch. The data set knows the names of its classes.", "name": "fig-data-batch"}, "image": {"alt": "Two rows of eight small grey pictures of clothing in random order, each with the name of its class."}}
image_grid(
    images[:16],
    labels=[train.classes[label] for label in labels[:16]],
    columns=8,
    alt="Two rows of eight small grey pictures of clothing in random order, each with the name of its class.",
)

# %% [markdown]
# 60,000 / 64 is 937.5, so there are 938 batches, and the last holds 32 pictures. Five stations did the work:
#
# | station | its question | here |
# |---|---|---|
# | sampler | which items, in which order? | a shuffled order |
# | data set | what is item i? | a picture and its label |
# | transform | what does the network get to see of it? | pixels as `float32` from 0 to 1 |
# | collate function | how do 64 items become one batch? | stacked along a new first axis |
# | loader | who does all this, and when? | this process, when the batch is asked for |
#
# The rest of the chapter takes them one by one. (`image_grid` of this course draws with *seaborn-image*.)
#
# :::{important} To remember
# Look at a batch before you train on it: shape, dtype, range, a picture, the labels beside it.
# :::

# %% [markdown]
# ## What is item number 7?
#
# A **map-style data set** answers two questions: `len(dataset)`, how many items are there, and `dataset[i]`, what is
# item i. Python turns them into calls of `__len__` and `__getitem__`. A small one: each item is a point whose features
# are at least 0 and sum to 1, drawn from the Dirichlet distribution. Its label marks the largest feature, **one-hot**: 1
# there, 0 elsewhere.
#
# :::{admonition} Predict
# :class: tip
# The cell makes a data set of 100 points with 5 features. Which shapes do the two halves of item 7 have?
# :::

# %%
import numpy as np
import torch.nn.functional as F


class Shares(Dataset):
    """Points on a simplex; the label marks the largest share."""

    def __init__(self, length, features):
        rng = np.random.default_rng(0)
        points = rng.dirichlet(np.ones(features), size=length)
        self.x = torch.tensor(points, dtype=torch.float32)  # (length, features)
        self.y = F.one_hot(self.x.argmax(dim=1), features)  # (length, features)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


shares = Shares(length=100, features=5)
point, label = shares[7]
print(len(shares), "items; item 7:", point.shape, point.dtype, label.shape, label.dtype)

# %% mystnb={"figure": {"caption": "Items 5 to 9: one row each. The 1 of a label stands under the largest share.", "name": "fig-data-shares"}, "image": {"alt": "Two tables of five rows and five columns: shares that sum to 1, and labels with a single 1 per row."}}
heat_map(
    {"x[5:10]": shares.x[5:10], "y[5:10]": shares.y[5:10]},
    alt="Two tables of five rows and five columns: shares that sum to 1, and labels with a single 1 per row.",
)

# %% [markdown]
# One item has no batch axis: `(5,)` and `(5,)`. The loader adds it. It also decides which items to ask for; the data set
# never knows which batch it works for. A data set that keeps a log shows it:


# %%
class Logged(Shares):
    def __init__(self, length, features):
        super().__init__(length, features)
        self.log = []

    def __getitem__(self, index):
        self.log.append(index)
        return super().__getitem__(index)


logged = Logged(length=9, features=5)
batches = iter(DataLoader(logged, batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(0)))
print("before the first batch:", logged.log)
points, _ = next(batches)
print("after it:              ", logged.log, points.shape)  # (batch, features)

# %% [markdown]
# `__getitem__` runs once per item, at the last moment. So a data set may be larger than the memory: it may hold file
# names, and open a file when its item is asked for.
#
# :::{admonition} Myth: "A data set must define `__gititem__()`, which the `DataLoader` calls with an index"
# :class: warning
# The second half is true. The name is not: Python looks for `__getitem__`, and no other spelling will do. A
# misspelt method is a new method that nobody calls. The call then reaches the one of the base class, which raises:
# :::


# %% tags=["raises-exception"]
class Misspelt(Dataset):
    def __len__(self):
        return 3

    def __gititem__(self, index):
        return index * index


Misspelt()[0]

# %% [markdown]
# Without the base class `Dataset` the message would be `'Misspelt' object is not subscriptable`.
#
# **What goes wrong in practice.** Spelt right, this class works in a `DataLoader`. A `for` over the data set itself
# never ends, because `for` asks for items 0, 1, 2, … until there is an `IndexError`, and does not look at `__len__`:

# %%
from itertools import islice


class Squares(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index * index


print(list(islice(Squares(), 6)))  # islice stops it after 6 items


# %%
class Squares(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        index = range(len(self))[index]  # a range raises IndexError outside, and counts negative indices from the end
        return index * index


print(list(islice(Squares(), 6)), Squares()[-1])

# %% [markdown]
# A data set that reads from a list or a tensor inherits this behaviour, as `Shares` does. One that computes, slices or
# opens files must see to it itself. (A slice never raises: `x[90:95]` of a short tensor is empty.)
#
# :::{important} To remember
# `__len__` and `__getitem__`: one item, no batch axis, `IndexError` past the end.
# :::
#
# *Exercise:* `WindowDataset`.

# %% [markdown]
# ## Who decides which items meet?
#
# The loader's **sampler** yields indices, and the loader cuts them into batches. Anything with a length and items will
# do as a data set, so let us load the numbers 0 to 9 and read the indices off.
#
# :::{admonition} Predict
# :class: tip
# `shuffle=True`, two passes over the same loader: is the order of the second pass that of the first?
# :::

# %%
generator = torch.Generator().manual_seed(0)
loader = DataLoader(range(10), batch_size=4, shuffle=True, generator=generator)
for epoch in range(2):
    print("epoch", epoch, [batch.tolist() for batch in loader])

dropping = DataLoader(range(10), batch_size=4, drop_last=True)
print("drop_last", [batch.tolist() for batch in dropping], len(dropping))

# %% [markdown]
# Each pass draws a new order from the generator, and each item comes once per epoch. The last batch is short;
# `drop_last=True` leaves it out. In training that loses little, since with shuffling other items are left out next time.
# In evaluation it would lose items for good.
#
# Shuffling matters, because a step of training sees one batch only. Data often stand in the order of their classes or
# their dates, and a batch of boots alone teaches "everything is a boot". Evaluation needs no shuffling: its sums do not
# depend on the order.
#
# **What goes wrong in practice.** The mean of the batches' means is not the mean of the items, because the short batch
# weighs as much as a full one:

# %%
errors = torch.tensor([0.0, 0.0, 0.0, 0.0, 12.0])  # (items,)
batch_means = [batch.mean() for batch in DataLoader(errors, batch_size=4)]
print("mean of the batch means:", torch.stack(batch_means).mean().item())

total = sum(batch.sum() for batch in DataLoader(errors, batch_size=4))
print("mean of the items:      ", round((total / len(errors)).item(), 4))

# %% [markdown]
# :::{important} To remember
# Shuffle training data, with a generator of their own. Add up sums and counts over batches, and divide once, at the end.
# :::
#
# *Exercises:* `epoch_batches`, and at the end of the chapter `Loader`.

# %% [markdown]
# ## How do I split without cheating?
#
# A model is judged on data that it has not seen. So there are three parts: **training** data to learn from,
# **validation** data to choose between models, **test** data for the one number at the end. The 3,000 review sentences
# come from three sites, 1,000 each, and are labelled 1 for praise and 0 for complaint.
#
# :::{admonition} Predict
# :class: tip
# The sentences stand site by site. The first 2,000 become the training part, the last 1,000 the test part. What does the
# test measure?
# :::

# %%
from collections import Counter

sentences = reviews()
print(sentences[0])
for name, part in {"training": sentences[:2000], "test": sentences[2000:]}.items():
    print(f"{name:9}", dict(Counter(review.source for review in part)))

# %% [markdown]
# It measures how well a model of products and films does on restaurants. That may be a good question, but it is another
# one. `random_split` shuffles first. Its fractions must sum to 1, and its generator makes the split repeatable:

# %%
parts = random_split(sentences, [0.8, 0.1, 0.1], torch.Generator().manual_seed(0))
for part in parts:
    print(len(part), dict(Counter(review.source for review in part)), part.indices[:3])

# %% [markdown]
# A part is a `Subset`: the data set and a list of `indices`, no copy.
#
# **What goes wrong in practice.** The same sentence may stand in the data twice. Then a random split puts some test
# sentences into the training part, where they can be learnt by heart:

# %%
learning, testing = random_split(sentences, [0.8, 0.2], torch.Generator().manual_seed(0))
seen = {review.sentence for review in learning}
print("test sentences that were trained on:", sum(review.sentence in seen for review in testing))

# %%
unique = list({review.sentence: review for review in sentences}.values())  # a dictionary keeps one per sentence
learning, testing = random_split(unique, [0.8, 0.2], torch.Generator().manual_seed(0))
seen = {review.sentence for review in learning}
print(len(sentences) - len(unique), "duplicates removed")
print("test sentences that were trained on:", sum(review.sentence in seen for review in testing))

# %% [markdown]
# Such a *leak* has many forms. Pictures of one patient in both parts. Windows of one series that overlap: split a series
# by *time*, the past for training, and leave a gap as long as a window. And numbers computed from all rows, such as a
# mean, before the split: the exercise `standardised_split` has one of these.
#
# :::{important} To remember
# Remove duplicates, then split, then compute anything. Split by what will be new in use: the sentence, the patient, the
# day.
# :::
#
# *Exercises:* `split_indices`, `standardised_split`.

# %% [markdown]
# ## What does each transform do to a picture?
#
# A **transform** is a function from a picture to a picture. `torchvision.transforms.v2` has dozens; `v2.Compose` runs a
# list of them in order. Fashion-MNIST hands out PIL images, the common format of Python's image libraries. Two steps
# make them tensors, and should come first.
#
# :::{admonition} Predict
# :class: tip
# After `v2.ToImage()` alone: which shape, which dtype, which largest value?
# :::

# %%
picture, label = fashion_mnist()[0]
print(type(picture).__name__, picture.size, train.classes[label])
for transform in (
    v2.ToImage(),
    v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
):
    x = transform(picture)  # (channels, height, width)
    print(tuple(x.shape), x.dtype, f"from {x.min():.0f} to {x.max():.0f}")

# %% [markdown]
# `ToImage` keeps the bytes, 0 to 255, and puts the channels first. `ToDtype` with `scale=True` makes them `float32` from 0
# to 1. (You will meet `ToTensor()`, which does both at once; `v2` has deprecated it.) The result is a `tv_tensors.Image`, a
# tensor that knows that it is a picture, so that transforms can tell it from a mask or a box.
#
# The other transforms change what is to be seen. Those with a random part draw anew at every call:

# %% mystnb={"figure": {"caption": "One row per transform: the picture as it is, then six draws. A deterministic transform gives six equal pictures.", "name": "fig-data-transforms"}, "image": {"alt": "Nine rows of an ankle boot: moved, cropped, mirrored, turned, darkened and brightened, inverted, noisy, with a hole, and in four greys."}}
transforms = {
    "RandomCrop": v2.RandomCrop(28, padding=4),  # a black frame of 4 pixels, then 28 x 28 of it
    "ResizedCrop": v2.RandomResizedCrop(28, scale=(0.4, 1.0)),  # a part of 40 to 100 %, enlarged
    "HorizontalFlip": v2.RandomHorizontalFlip(p=0.5),
    "Rotation": v2.RandomRotation(degrees=20),
    "ColorJitter": v2.ColorJitter(brightness=0.6, contrast=0.6),
    "RandomInvert": v2.RandomInvert(p=0.5),
    "GaussianNoise": v2.GaussianNoise(sigma=0.15),  # and clipped to 0...1
    "RandomErasing": v2.RandomErasing(p=0.7),
    "Lambda": v2.Lambda(lambda x: (3 * x).round() / 3),  # any function: here four grey levels
}
torch.manual_seed(0)  # transforms draw from the shared generator
boot = to_tensor(picture)  # (1, 28, 28)
rows, titles = [], []
for name, transform in transforms.items():
    rows += [boot, *(transform(boot) for _ in range(6))]
    titles += [name, *[""] * 6]
image_grid(
    torch.stack(rows),
    labels=titles,
    columns=7,
    alt="Nine rows of an ankle boot: moved, cropped, mirrored, turned, darkened and brightened, inverted, noisy, "
    "with a hole, and in four greys.",
)

# %% [markdown]
# On colour pictures `ColorJitter` also takes `saturation` and `hue`. Cropping alone changes the shape, which the next
# station has to know:

# %%
crop = v2.Lambda(lambda x: x[..., 5:23, 5:23])  # rows and columns 5 to 22
print(crop(boot).shape, v2.CenterCrop(18)(boot).shape, v2.Resize(14)(boot).shape)

# %% [markdown]
# **What goes wrong in practice.** `ToDtype` without `scale=True` changes the type and not the range. Nothing fails until
# someone draws the picture, or wonders why the training diverges:

# %% tags=["raises-exception"]
unscaled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)])
image_grid(unscaled(picture).unsqueeze(0), alt="An ankle boot.")

# %%
scaled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
print(f"from {scaled(picture).min():.0f} to {scaled(picture).max():.0f}")

# %% [markdown]
# Order matters as well. `RandomCrop(padding=4)` fills with 0, which is black before `Normalize`, and grey after it.
#
# :::{important} To remember
# `ToImage`, `ToDtype(torch.float32, scale=True)`, then what changes the picture, then `Normalize` last. Draw what comes
# out.
# :::

# %% [markdown]
# ## Which mean, and which spread?
#
# Networks learn faster from inputs around 0 with a spread of 1. `v2.Normalize(mean, std)` computes (x − mean) / std for
# each channel. The two numbers are part of the model: they come from the *training* part, and are then used for every
# picture that the model will ever see.
#
# A pixel has only 256 possible values, so for bytes there is an exact way without adding 47 million floats: count them.
#
# :::{admonition} Predict
# :class: tip
# Pixels run from 0 to 1, and about half of each picture is black background. Is the mean above or below 0.5?
# :::

# %%
counts = torch.bincount(train.data.flatten(), minlength=256).double()  # (256,), how often each byte occurs
share = counts / counts.sum()
value = torch.arange(256) / 255  # (256,), as ToDtype scales them
mean = (share * value).sum()
std = (share * (value - mean).square()).sum().sqrt()
print(f"mean {mean:.4f}, standard deviation {std:.4f}, black pixels {share[0]:.0%}")

# %% [markdown]
# Below it, at 0.286. Data that do not fit into memory, or are no bytes, are added up batch by batch. Two running sums are
# enough, of the values and of their squares: the variance is the mean of the squares minus the square of the mean. Keep
# them in `float64`, because the difference of two large numbers loses digits. The exercise `channel_stats` does it.
#
# **What goes wrong in practice.** Means may be averaged, with the right weights. Standard deviations may not: the average
# over batches misses how far the batches lie apart. It shows where batches differ, as in data that stand sorted by
# class:

# %%
some = fashion_mnist(train=False)
in_order = some.data[some.targets.argsort()] / 255  # 10,000 pictures, sorted by class
batch_stds = torch.stack([batch.std(correction=0) for batch in in_order.split(250)])
print(f"average of the batches' standard deviations {batch_stds.mean():.3f}")
print(f"standard deviation of all pixels            {in_order.std(correction=0):.3f}")

# %% [markdown]
# Now normalise, and check on a batch:

# %%
normalise = v2.Normalize(mean=[mean.item()], std=[std.item()])  # one number per channel
batch = torch.stack([train[i][0] for i in range(500)])  # (500, 1, 28, 28)
normal = normalise(batch)
print(
    f"mean {normal.mean():z.1f}, standard deviation {normal.std():.1f}, from {normal.min():.2f} to {normal.max():.2f}"
)

# %% [markdown]
# :::{admonition} Myth: "`Normalize` makes the data normally distributed"
# :class: warning
# It shifts and stretches the axis, nothing else. The shape stays as it was:
# :::

# %% mystnb={"figure": {"caption": "The pixels of 500 pictures before and after `Normalize`: the same shape on another axis. The tallest bar is the background.", "name": "fig-data-normalize"}, "image": {"alt": "Two histograms of the same shape, one from 0 to 1, one from about -0.8 to 2: a tall bar at the left end, the rest flat."}}
import matplotlib

alt = "Two histograms of the same shape, one from 0 to 1, one from about -0.8 to 2: a tall bar at the left end, the rest flat."
with matplotlib.rc_context(STYLE):
    figure = AltFigure(figsize=(7.0, 2.4), layout="constrained", alt=alt)
    for ax, (title, values) in zip(figure.subplots(1, 2), {"before": batch, "after": normal}.items(), strict=True):
        ax.hist(values.flatten().numpy(), bins=30, color=COLOURS[0])
        ax.set(title=title, xlabel="pixel", ylabel="how often")
        ax.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# A normalised picture cannot be drawn as it is, since 0 is no longer black and 1 no longer white:

# %% tags=["raises-exception"]
image_grid(normal[:8], alt="Eight garments.")

# %% [markdown]
# Undo it first. The inverse of (x − m) / s is x · s + m, which is again a shift and a stretch, so `Normalize` itself can
# do it with other numbers:

# %% mystnb={"figure": {"caption": "Normalised, and brought back for the eye.", "name": "fig-data-inverse"}, "image": {"alt": "Eight small grey pictures of clothing, as in the data set."}}
undo = v2.Normalize(mean=[-mean.item() / std.item()], std=[1 / std.item()])
back = undo(normal)
print("as before:", torch.allclose(back, batch, atol=1e-5))
image_grid(back[:8].clamp(0, 1), alt="Eight small grey pictures of clothing, as in the data set.")

# %% [markdown]
# Rounding leaves some pixels a little outside 0 to 1, hence the `clamp`.
#
# :::{important} To remember
# Mean and spread come from the training part alone, and go wherever the model goes.
# :::
#
# *Exercises:* `Denormalize`, `channel_stats`.

# %% [markdown]
# ## Which pictures may be changed at random?
#
# Random crops and flips show the network the same boot in many ways, for nothing. This is **augmentation**. It belongs to
# the training part alone: validation and test ask how good the model is on pictures as they are. And it must keep the
# label: a mirrored boot is a boot, a mirrored 3 is no digit, and a 6 upside down is a 9.
#
# :::{admonition} Predict
# :class: tip
# A data set with a random transform is split by `random_split`. Item 0 of the validation part is asked for twice. Is it
# the same picture?
# :::

# %%
augment = v2.Compose([to_tensor, v2.RandomCrop(28, padding=4), v2.RandomHorizontalFlip()])
augmented = fashion_mnist(transform=augment)
training, validation = random_split(augmented, [0.9, 0.1], torch.Generator().manual_seed(0))

torch.manual_seed(0)
print("same picture:", torch.equal(validation[0][0], validation[0][0]))

# %% [markdown]
# It is not: both parts look into the same data set, with the same transform. The validation score would be that of
# shifted pictures, and another one each time. Make two data sets over the same files, each with its own transform, and
# use the *indices* of the split:

# %%
plain = fashion_mnist(transform=to_tensor)
validation = Subset(plain, validation.indices)
print("same picture:", torch.equal(validation[0][0], validation[0][0]))
print("training still augmented:", not torch.equal(training[0][0], training[0][0]))

# %% [markdown]
# The pixels are in memory twice this way. The exercise builds a better way: one data set without a transform, and the
# transform where the part is made.
#
# :::{important} To remember
# Augment the training part alone, and only by what keeps the label.
# :::
#
# *Exercise:* `TransformedSubset`.

# %% [markdown]
# ## What if one class is rare?
#
# Fashion-MNIST is balanced: 6,000 pictures of each class. Most data are not. Let us keep 900 trousers, 90 bags and 10
# ankle boots.
#
# :::{admonition} Predict
# :class: tip
# A model that answers "trouser" to every picture of this set: how accurate is it?
# :::

# %%
from torch.utils.data import WeightedRandomSampler

kept = {1: 900, 8: 90, 9: 10}  # class: how many
indices = torch.cat([(train.targets == label).nonzero()[:count, 0] for label, count in kept.items()])
rare = train.targets[indices]  # (1000,)
print({train.classes[label]: (rare == label).sum().item() for label in kept})

# %% [markdown]
# 90 %, and it never finds a boot. A `WeightedRandomSampler` takes one weight per *item* and draws items in proportion to
# their weights, **with replacement**: an item may come several times. Here the bags and boots weigh more:

# %% mystnb={"figure": {"caption": "What one epoch of 1,000 draws contains: shuffled as it is, and drawn with weights.", "name": "fig-data-sampler"}, "image": {"alt": "Bars per class: shuffled 900, 90 and 10; with weights about a third each."}}
weights = torch.zeros(len(rare))  # (1000,), one per item
for label, weight in {1: 1.0, 8: 10.0, 9: 90.0}.items():
    weights[rare == label] = weight
sampler = WeightedRandomSampler(weights, num_samples=1000, generator=torch.Generator().manual_seed(0))
drawn = torch.tensor(list(sampler))  # (1000,), positions in `rare`

with matplotlib.rc_context(STYLE):
    figure = AltFigure(
        figsize=(6.0, 2.6),
        layout="constrained",
        alt="Bars per class: shuffled 900, 90 and 10; with weights about a third each.",
    )
    ax = figure.subplots()
    for shift, (name, found) in enumerate({"shuffled": rare, "WeightedRandomSampler": rare[drawn]}.items()):
        heights = [(found == label).sum().item() for label in kept]
        bars = ax.bar(np.arange(3) + 0.4 * shift, heights, width=0.38, color=COLOURS[shift], label=name)
        ax.bar_label(bars)
    ax.set_xticks(np.arange(3) + 0.2, [train.classes[label] for label in kept])
    ax.set(ylabel="draws per epoch", ylim=(0, 1000))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
figure

# %% [markdown]
# 900 · 1, 90 · 10 and 10 · 90 are equal, so each class is drawn a third of the time. Nothing is free: the ten boots come
# about 33 times each, and may be learnt by heart. Augmentation helps; so does a weight in the loss instead (chapter
# 5). Validation and test keep the frequencies of the world.
#
# **What goes wrong in practice.** One weight per *class* is no error, and is wrong: the sampler takes three weights for
# three items, and draws the indices 0, 1 and 2 forever.

# %%
wrong = WeightedRandomSampler([1.0, 10.0, 90.0], num_samples=1000, generator=torch.Generator().manual_seed(0))
print("different items drawn, one weight per class:", len(set(wrong)))
print("different items drawn, one weight per item: ", len(drawn.unique()))

# %% [markdown]
# A loader takes the sampler in place of `shuffle`: `DataLoader(dataset, batch_size=64, sampler=sampler)`.
#
# :::{important} To remember
# One weight per item. Rebalance what is trained on, never what is tested on.
# :::
#
# *Exercise:* `balanced_sampler`.

# %% [markdown]
# ## How do sentences become a batch?
#
# A network computes with numbers, so words get numbers. The table from word to number is the **vocabulary**. Two numbers
# are kept free: 0 for **padding**, which fills up short sentences, and 1 for **unknown** words.
#
# :::{admonition} Predict
# :class: tip
# The vocabulary holds the words that occur at least twice in the training sentences. Roughly which share of the words in
# *test* sentences is unknown: 1 %, 20 % or 50 %?
# :::

# %%
counts = Counter(word for review in learning for word in review.sentence.lower().split())
vocabulary = {word: number for number, word in enumerate((w for w in counts if counts[w] > 1), start=2)}


def encode(sentence):
    """The numbers of a sentence's words, int64, shape (words,)."""
    return torch.tensor([vocabulary.get(word, 1) for word in sentence.lower().split()])


print(len(counts), "different words,", len(vocabulary), "in the vocabulary")
print(testing[0].sentence, "->", encode(testing[0].sentence).tolist())
numbers = torch.cat([encode(review.sentence) for review in testing])
print(f"unknown among the words of test sentences: {(numbers == 1).float().mean():.0%}")

# %% [markdown]
# About a fifth. `split()` leaves commas and full stops attached to the words, so that "good" and "good." are two words,
# and many names occur once. The tokenizers of chapter 8 cut rare words into known pieces instead. The vocabulary comes
# from the training part alone, because at the time of use there will be unknown words as well, and the model has to have
# met number 1.
#
# Next, the batch. The loader's default **collate function**, `default_collate`, stacks tensors, makes a tensor of
# numbers, leaves texts as they are, and goes into tuples and dictionaries field by field (a tuple comes back as a list):

# %%
from torch.utils.data import default_collate

default_collate([{"x": torch.zeros(3), "y": (1, "one")}, {"x": torch.ones(3), "y": (2, "two")}])

# %% [markdown]
# Our sentences do not have one length:

# %% tags=["raises-exception"]
coded = [(encode(review.sentence), review.label) for review in learning]  # a list is a data set, too
next(iter(DataLoader(coded, batch_size=3)))

# %% [markdown]
# Only equal shapes stack. A collate function of your own gets the list of items and returns the
# batch. `pad_sequence` fills up with 0 to the longest:

# %%
from torch.nn.utils.rnn import pad_sequence


def collate(items):
    """A list of (ids, label) as the pair ids (batch, time), labels (batch,)."""
    return pad_sequence([ids for ids, _ in items], batch_first=True), torch.tensor([label for _, label in items])


ids, labels = next(iter(DataLoader(coded, batch_size=3, collate_fn=collate)))
print(ids.shape, labels)
print(ids)

# %% [markdown]
# A **mask**, bool of the same shape, tells later stations which places are real. Without it, padding counts as a word in
# every mean and every sum.
#
# **What goes wrong in practice.** Padding everything to the longest sentence of the *data set* is simple and slow: a
# network computes on padding as on words. Padding each batch to its own longest costs less, and batches of similar
# length next to nothing:

# %%
lengths = torch.tensor([len(ids) for ids, _ in coded])  # (sentences,)


def padding_share(order, batch_size=16):
    """The share of padding, if the sentences are batched in this order and each batch is padded to its longest."""
    batches = lengths[order].split(batch_size)
    return 1 - lengths.sum().item() / sum(len(batch) * batch.max().item() for batch in batches)


shuffled = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
by_length = lengths.argsort(stable=True)
print(f"all to the longest sentence: {padding_share(shuffled, len(lengths)):.0%}")
print(f"each batch, shuffled:        {padding_share(shuffled):.0%}")
print(f"each batch, similar lengths: {padding_share(by_length):.0%}")

# %% mystnb={"figure": {"caption": "The masks of two batches of 16 sentences: real words are yellow, padding is blue.", "name": "fig-data-padding"}, "image": {"alt": "Two masks. Left, shuffled: ragged rows, mostly padding. Right, similar lengths: a full block."}}
alike = by_length[2080:2096]
heat_map(
    {
        name: (torch.arange(lengths[order].max()) < lengths[order][:, None]).int()
        for name, order in {"shuffled": shuffled[:16], "similar lengths": alike}.items()
    },
    alt="Two masks. Left, shuffled: ragged rows, mostly padding. Right, similar lengths: a full block.",
)

# %% [markdown]
# For training, similar lengths must not become one fixed order. The usual way, **bucketing**: shuffle, sort within pools
# of a hundred batches or so, cut into batches, shuffle the batches.
#
# One more habit: turn words into numbers (*tokenize*) once, *before* the loader, as `coded` did. In `__getitem__` the
# same work is done again in every epoch.
#
# :::{important} To remember
# Vocabulary from the training part; pad per batch, on the right, with 0; keep a mask.
# :::
#
# *Exercises:* `number_words`, `pad_collate`.

# %% [markdown]
# ## What if the data come as a stream?
#
# A log that grows, a file too large to index, rows from a database: there is no item 7, only a next one. An
# **iterable data set** defines `__iter__` alone. We write the review sentences to a file, one per line, and read it as a
# stream:

# %%
import tempfile
from pathlib import Path

scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # removed when the notebook ends
folder = Path(scratch.name)
path = folder / "lines.txt"
path.write_text("\n".join(review.sentence for review in sentences[:8]), encoding="utf-8")


class Stream(IterableDataset):
    """The lines of a file, without holding them."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                yield len(line.split())  # something small to look at: the number of words


stream = Stream(path)
print([batch.tolist() for batch in DataLoader(stream, batch_size=3)])

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# What will `shuffle=True` do with a stream?
# :::

# %% tags=["raises-exception"]
DataLoader(stream, batch_size=3, shuffle=True)

# %% [markdown]
# It cannot shuffle what it cannot index, and says so. `len` fails too. What helps is a *shuffle buffer*: hold a few
# hundred items, hand out a random one, and put the next item in its place. It mixes neighbours, not the whole file, so
# a file sorted by class should be shuffled on the disk first.

# %%
generator = torch.Generator().manual_seed(0)


def buffered(items, size):
    """The items in a locally mixed order, with `size` of them held at a time."""
    buffer = []
    for item in items:
        buffer.append(item)
        if len(buffer) > size:
            yield buffer.pop(torch.randint(len(buffer), (), generator=generator))
    yield from (buffer[i] for i in torch.randperm(len(buffer), generator=generator))


print(list(buffered(range(12), size=4)))

# %% [markdown]
# :::{important} To remember
# Index where you can, stream where you must: a stream has no length, no shuffling, and, as the next section shows, no
# division of labour by itself.
# :::

# %% [markdown]
# ## Why did every line come twice?
#
# With `num_workers=2` the loader starts two **worker processes** that prepare batches while the main process computes.
# On Linux, up to Python 3.13, a worker begins as a copy of the running program. On Windows and macOS, and by default on
# Linux from Python 3.14 on, it is a new Python that *imports* what it needs, and a class of a notebook cannot be imported.
# So what workers run belongs in a file; here is ours:

# %%
(folder / "loading.py").write_text(
    '''
import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info
import time


class Lines(IterableDataset):
    """Lines, and which worker read them."""

    def __init__(self, lines):
        self.lines = lines

    def __iter__(self):
        worker = get_worker_info()  # None in the main process
        for line in self.lines:
            yield f"{line}, worker {worker.id if worker else None}"


class Waiting(Dataset):
    """60 items that each take 20 ms to arrive, as from a network; the processor is idle meanwhile."""

    def __len__(self):
        return 60

    def __getitem__(self, index):
        time.sleep(0.02)
        return index


class Noise(Dataset):
    """Eight random numbers from a generator of NumPy's that the data set owns."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return int(self.rng.integers(100))


class SharedNoise(Noise):
    """The same from NumPy's shared generator."""

    def __getitem__(self, index):
        return int(np.random.randint(100))


def seed_worker(worker_id):
    """Give the copy in this worker a generator of its own. Each worker has another seed, and another in each epoch."""
    worker = get_worker_info()
    worker.dataset.rng = np.random.default_rng(worker.seed)
''',
    encoding="utf-8",
)
sys.path.insert(0, str(folder))
import loading

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# Three lines, two workers, batches of three. How many lines come out?
# :::

# %%
for batch in DataLoader(loading.Lines(["a", "b", "c"]), batch_size=3, num_workers=2):
    print(batch)

# %% [markdown]
# Six: each worker has a copy of the stream and reads all of it. For a map-style data set this cannot happen, because the
# main process hands out the indices. A stream must divide itself: `get_worker_info()` gives the worker's `id`, from 0, and
# `num_workers`; each worker then takes its share. In the main process, without workers, it returns `None`. Ask inside
# `__iter__`, which runs in the worker; `__init__` has long run in the main process.
#
# :::{important} To remember
# With workers, an iterable data set shares out its items itself, or each item comes once per worker.
# :::
#
# *Exercise:* `ShardedLines`.

# %% [markdown]
# ## When do workers help, and when do they hurt?
#
# Workers cost: starting the processes, and sending each batch from one to another. They gain where items take long.
# Three data sets, each loaded with 0, 1 and 2 workers:
#
# - *in memory*: 1,000 pictures in a tensor, a few microseconds each (a `TensorDataset`: item i is row i of each tensor);
# - *computed*: 100 pictures, enlarged, turned and distorted, a few milliseconds of processor time each;
# - *waited for*: 60 items of 20 ms in which the processor is idle, as from a network.
#
# Each is loaded twice with the same workers (`persistent_workers=True` keeps them alive), so that the start shows by
# itself.
#
# :::{admonition} Predict
# :class: tip
# For which of the three are two workers faster than none? For which slower?
# :::

# %% tags=["nbval-ignore-output"]
import time

# Only classes that can be imported: no lambda, nothing from this notebook.
distort = v2.Compose([v2.ToImage(), v2.Resize(256), v2.RandomAffine(20, (0.1, 0.1)), v2.RandomPerspective(p=1.0)])
data = {
    "in memory": TensorDataset(train.data[:1000], train.targets[:1000]),
    "computed": Subset(fashion_mnist(train=False, transform=distort), range(100)),
    "waited for": loading.Waiting(),
}


def seconds(dataset, workers):
    """The time of the first epoch, the start of the workers included, and of the second."""
    loader = DataLoader(dataset, batch_size=10, num_workers=workers, persistent_workers=workers > 0)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        for _ in loader:
            pass
        times.append(time.perf_counter() - start)
    return times


threads = torch.get_num_threads()
torch.set_num_threads(1)  # as in every worker, so that like is compared with like
times = {name: [seconds(dataset, workers) for workers in (0, 1, 2)] for name, dataset in data.items()}
torch.set_num_threads(threads)

for name, measured in times.items():
    told = [
        f"{workers} worker{'' if workers == 1 else 's'} {first:.2f} s, {second:.2f} s"
        for workers, (first, second) in enumerate(measured)
    ]
    print(f"{name:10}", " | ".join(told))  # first epoch, second epoch
assert times["in memory"][0][0] < times["in memory"][2][0], "workers hurt where items are cheap"
assert times["waited for"][2][1] < 0.9 * times["waited for"][0][1], "workers help where items are waited for"

# %% mystnb={"figure": {"caption": "Seconds per epoch with 0, 1 and 2 workers: the first epoch, in which they are started, and the second.", "name": "fig-data-workers"}, "image": {"alt": "Three bar charts. In memory, no workers are fastest by far. Waited for, two workers halve the second epoch."}}
with matplotlib.rc_context(STYLE):
    figure = AltFigure(
        figsize=(8.0, 2.8),
        layout="constrained",
        alt="Three bar charts. In memory, no workers are fastest by far. Waited for, two workers halve the second epoch.",
    )
    for ax, (name, measured) in zip(figure.subplots(1, 3), times.items(), strict=True):
        for shift, (label, heights) in enumerate(
            zip(("first epoch", "second epoch"), zip(*measured, strict=True), strict=True)
        ):
            ax.bar(np.arange(3) + 0.4 * shift, heights, width=0.38, color=COLOURS[shift], label=label)
        ax.set_xticks(np.arange(3) + 0.2, ["0", "1", "2"])
        ax.set(title=name, xlabel="workers")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds per epoch")
    bars = figure.axes[0].get_legend_handles_labels()
    figure.legend(*bars, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
figure

# %% [markdown]
# *In memory*, workers hurt in both epochs: a batch is ready in a fraction of the time that it takes to send it, and
# starting the processes costs more than the whole epoch. *Waited for*, two workers wait at the same time, in about half
# the time once they run; more would help more, even beyond the number of cores. *Computed*, they help only as far as
# there are idle cores. This was measured on two cores, and the main process needs some of one: where nothing is idle,
# sending the batches is all that workers add.
#
# Where items are slow, one worker is about as fast as none, since this loop does nothing else meanwhile. In training,
# the main process computes the network, and even one worker hides its own time behind that.
#
# Before you add workers, take away work. The loader's default fetches item by item and stacks. A tensor in memory can
# hand out a whole batch at once:

# %% tags=["nbval-ignore-output"]
pixels, tries = train.data[:1000], []
for _ in range(5):
    start = time.perf_counter()
    for chosen in torch.randperm(len(pixels)).split(10):
        pixels[chosen]  # (10, 28, 28)
    tries.append(time.perf_counter() - start)
at_once = min(tries)
item_by_item = min(times["in memory"][0])
print(f"item by item {item_by_item:.4f} s, a batch at once {at_once:.4f} s")
assert at_once < item_by_item

# %% [markdown]
# Fashion-MNIST fits into memory, so this is how to train on it fast. Where workers do pay, keep them alive with
# `persistent_workers=True`. `prefetch_factor` says how many batches each prepares ahead, and `pin_memory=True` speeds the
# copy to a GPU.
#
# :::{important} To remember
# Measure with 0 workers first. Workers pay where items are waited for, and where an item costs about a millisecond or
# more and a core is idle.
# :::

# %% [markdown]
# ## Why do my workers draw the same noise?
#
# Augmentation in a data set often uses NumPy. `loading.Noise` owns a generator, `np.random.default_rng(0)`, and each item
# is a number drawn from it.
#
# :::{admonition} Predict
# :class: tip
# Two workers, batches of four, two epochs: eight different numbers per epoch?
# :::

# %%
generator = torch.Generator().manual_seed(0)
loader = DataLoader(loading.Noise(), batch_size=4, num_workers=2, generator=generator)
for epoch in range(2):
    print("epoch", epoch, [batch.tolist() for batch in loader])

# %% [markdown]
# Every worker got a copy of the generator, in the same state, so both draw the same four numbers. In the next epoch there
# are new workers, with new copies of the same state: the same numbers once more. The "random" augmentation of a long
# training is a few draws, repeated.
#
# Cure: `worker_init_fn` runs in each worker as it starts. `loading.seed_worker` replaces the copy's generator by one that
# is seeded with `get_worker_info().seed`. That number differs between workers and between epochs, and is drawn from the
# loader's generator, so the whole is still repeatable:

# %%
for attempt in ("first run", "second run"):
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        loading.Noise(), batch_size=4, num_workers=2, generator=generator, worker_init_fn=loading.seed_worker
    )
    for epoch in range(2):
        print(attempt, "epoch", epoch, [batch.tolist() for batch in loader])

# %% [markdown]
# :::{admonition} Myth: "In the workers, `np.random.rand()` gives the same numbers everywhere"
# :class: warning
# It did, in PyTorch before 1.9. Today the loader seeds the *shared* generators of Python, NumPy and PyTorch in each
# worker. What it cannot seed are generators that your objects own, as above:
# :::

# %%
generator = torch.Generator().manual_seed(0)
loader = DataLoader(loading.SharedNoise(), batch_size=4, num_workers=2, generator=generator)
numbers = [number for _ in range(2) for batch in loader for number in batch.tolist()]
print(numbers)

# %% [markdown]
# The transforms of `torchvision` draw from torch's shared generator and are safe.
#
# :::{important} To remember
# Print what two workers draw in two epochs. A generator that a data set owns is re-seeded in `worker_init_fn`.
# :::

# %% [markdown]
# ## How do I load a table with Hugging Face `datasets`?
#
# The library `datasets` keeps tables on the disk in the Arrow format and maps them into memory as they are read, so a
# table may be larger than the memory. Each format has a *builder*: `"json"`, `"csv"`, `"parquet"`, `"text"`,
# `"imagefolder"`. With a name such as `"stanfordnlp/imdb"` in place of the builder, `load_dataset` takes the data from the
# Hugging Face Hub; the rest is the same. (With the environment variable `HF_HUB_OFFLINE=1` it asks nobody, and takes
# what an earlier call has left in the cache.) Everything here stays offline: we write our sentences as JSON, one row per
# line, and load these files.
#
# :::{admonition} Predict
# :class: tip
# `load_dataset` gets two files, as `{"train": …, "test": …}`. What will `reviews_all[0]` be?
# :::

# %%
import json

import datasets

datasets.disable_progress_bars()
files = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
for name, part in {"train": learning, "test": testing}.items():
    rows = [json.dumps({"text": r.sentence, "label": r.label, "source": r.source}) for r in part]
    Path(files[name]).write_text("\n".join(rows), encoding="utf-8")

reviews_all = datasets.load_dataset("json", data_files=files, cache_dir=str(folder / "cache"))
print(reviews_all)

# %% [markdown]
# :::{admonition} Myth: "`dataset_all = load_dataset(…)`, and then `dataset[0]` is the first row"
# :class: warning
# Twice wrong. The name is another one, so Python does not know it. And without `split=…` the result is a
# dictionary of splits, which has no row 0:
# :::

# %% tags=["raises-exception"]
reviews_all[0]

# %%
print(reviews_all["train"][0])
only_test = datasets.load_dataset("json", data_files=files, cache_dir=str(folder / "cache"), split="test")
print(only_test[0])

# %% [markdown]
# First the split, then the row; or `split="test"` in the call, which gives the one data set. The second call did not read
# the JSON again: the Arrow files lie in `cache_dir`, whose default is a folder in your home directory. The
# builder can be asked without loading the table. It knows the columns of what was loaded before, as here, and of what is
# described on the Hub:

# %%
builder = datasets.load_dataset_builder("json", data_files=files, cache_dir=str(folder / "cache"))
print("splits:  ", sorted(datasets.get_dataset_split_names("json", data_files=files)))
print("builder: ", builder.info.features)
print("features:", reviews_all["train"].features)
print("on disk: ", len(list((folder / "cache").rglob("*.arrow"))), "Arrow files")

# %% [markdown]
# **Features** are the columns with their types. A label is better a `ClassLabel`, which knows the names:

# %%
names = datasets.ClassLabel(names=["negative", "positive"])
reviews_all = reviews_all.cast_column("label", names)
train_set = reviews_all["train"]
print(train_set.features["label"].int2str(train_set[0]["label"]))

# %% [markdown]
# A row is a dictionary, a slice is a dictionary of lists, a name gives a column:

# %%
print(train_set[0])
print(train_set[:2]["label"], train_set["source"][:2])
positive = train_set.filter(lambda row: row["label"] == 1)
print(len(train_set), "rows,", len(positive), "positive;", train_set.shuffle(seed=0).select(range(2))["source"][:])

# %% [markdown]
# `shuffle`, `select` and `filter` return a new data set, `train_test_split` a dictionary of two, and all leave the
# old one as it is. No text is copied: they keep a list of row numbers.
#
# :::{important} To remember
# `load_dataset` gives splits, a split gives rows. Print `.features` before you write code for the columns.
# :::

# %% [markdown]
# ## How do I change every row?
#
# `map` calls a function and stores what it returns: a dictionary of columns, new or replaced. It hands over one row at a
# time, or with `batched=True` a dictionary of lists, 1,000 rows at a time.
#
# :::{admonition} Predict
# :class: tip
# Counting the words of 2,386 rows, one by one or in batches: are batches 1.5 or more than 3 times faster?
# :::


# %% tags=["nbval-ignore-output"]
def count_words(row):
    return {"words": len(row["text"].split())}


def count_words_batched(batch):
    return {"words": [len(text.split()) for text in batch["text"]]}


def timed_map(function, **options):
    start = time.perf_counter()
    result = train_set.map(function, load_from_cache_file=False, **options)
    return result, time.perf_counter() - start


one_by_one, single = timed_map(count_words)
counted, batched = timed_map(count_words_batched, batched=True)
shared, two_processes = timed_map(count_words_batched, batched=True, num_proc=2)
print(f"row by row {single:.2f} s, batched {batched:.2f} s, batched in two processes {two_processes:.2f} s")
assert one_by_one["words"][:] == counted["words"][:] == shared["words"][:]
assert batched < single and batched < two_processes

# %% [markdown]
# More than three times, because most of the time goes into the call itself and into building one row. `num_proc=2`
# starts two processes and hands each half of the rows; here that costs many times what it saves. It pays where the
# function works for minutes: a slow tokenizer, decoding audio, resizing pictures.
#
# The cell said `load_from_cache_file=False`. Without it, `map` computes a fingerprint of the data and the *function*; where
# it has seen both before, it reads the stored result. Change the function, and the fingerprint changes. A
# function that reads a file, or the clock, changes unseen: then say `load_from_cache_file=False`.
#
# **What goes wrong in practice.** A batched function returns one value per row. Here it returns one per batch:

# %% tags=["raises-exception"]
train_set.select(range(3)).map(lambda batch: {"words": [len(batch["text"])]}, batched=True)

# %%
few = train_set.select(range(3)).map(count_words_batched, batched=True)
print(few["words"][:], few.column_names)

# %% [markdown]
# (With `remove_columns`, where the old columns go, more or fewer rows are allowed: that is how long texts are cut
# into pieces.)
#
# :::{important} To remember
# `map` with `batched=True`, once, before training. `num_proc` for work of minutes.
# :::
#
# *Exercise:* `tokenize_reviews`.

# %% [markdown]
# ## How do tensors come out?
#
# A data set returns Python lists and numbers. A **format** changes what indexing returns, not what is stored.
# `with_format` returns a new data set, `set_format` changes this one.
#
# :::{admonition} Predict
# :class: tip
# With the format `"torch"`: what becomes of the column `text`?
# :::

# %%
for name in ("torch", "numpy", "pandas"):
    part = counted.with_format(name, columns=["text", "words"])[:2]
    print(f"{name:7}", type(part).__name__, type(part["words"]).__name__, type(part["text"]).__name__)
counted.set_format("torch", columns=["words"])
print("torch, words alone:", counted[0])
counted.reset_format()
print(train_set.to_pandas().groupby("source").label.mean().round(2).to_dict())  # share of praise per site

# %% [markdown]
# There are no tensors of text: it stays a list of strings. Numbers become tensors, and pandas is one call away for a look
# at the whole. Now the pipeline of sentences from end to end: rows, numbers, format, loader.


# %%
def add_ids(batch):
    return {"input_ids": [encode(text).tolist() for text in batch["text"]]}


numbered = reviews_all.map(add_ids, batched=True).with_format("torch", columns=["input_ids", "label"])
print(numbered["train"][0])

# %% [markdown]
# **What goes wrong in practice.** Rows are of different lengths, so the default collate function fails, as it did with
# tensors of our own:

# %% tags=["raises-exception"]
next(iter(DataLoader(numbered["train"], batch_size=4)))


# %%
def collate_rows(rows):
    """Rows of a `datasets.Dataset` as a batch: ids (batch, time), labels (batch,)."""
    return collate([(row["input_ids"], row["label"]) for row in rows])


loader = DataLoader(
    numbered["train"],
    batch_size=32,
    shuffle=True,
    collate_fn=collate_rows,
    generator=torch.Generator().manual_seed(0),
)
ids, labels = next(iter(loader))
print(len(loader), "batches; the first:", ids.shape, ids.dtype, labels.shape, labels.dtype)
print("words per sentence, on average:", round((ids != 0).sum().item() / len(ids), 1))

# %% [markdown]
# `ids != 0` serves as the mask here, because our vocabulary never gives a real word the number 0. Where it might, count
# lengths instead, as `pad_collate` does.
#
# **A second trap.** Without a format, the rows of equal length come out turned round: the default collate function takes a
# list of numbers for a list of *columns*, and returns one tensor per position:

# %%
pairs = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3], [4, 5, 6]]})
print("without a format:", next(iter(DataLoader(pairs, batch_size=2)))["input_ids"])
print("with one:        ", next(iter(DataLoader(pairs.with_format("torch"), batch_size=2)))["input_ids"])

# %% [markdown]
# :::{important} To remember
# `with_format("torch")` before the loader, and a collate function that pads.
# :::

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | What does a map-style data set define? | `__len__` and `__getitem__`; `IndexError` past the end |
# | Who calls them? | the loader, once per item, at the last moment |
# | order | `shuffle=True` with a generator; a sampler for anything else |
# | short last batch | `drop_last` in training; sums and counts in evaluation |
# | split | remove duplicates, then split at random, or by time or person |
# | pictures | `ToImage`, `ToDtype(scale=True)`, augmentation, `Normalize` |
# | mean, spread, vocabulary | from the training part alone |
# | augmentation | training part alone, and it keeps the label |
# | rare classes | `WeightedRandomSampler`, one weight per item |
# | sentences | pad per batch with 0, and keep a mask |
# | streams | `IterableDataset`; each worker takes its share |
# | workers | for items that are waited for, or slow while cores are idle; re-seed what the data set owns |
# | `datasets` | split, then row; `map(batched=True)`; `with_format("torch")` |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/03_data.ipynb`. Chapter 4 builds the networks that read these batches, and
# chapter 5 trains them.
#
# ## Sources
#
# - PyTorch documentation:
#   [`torch.utils.data`](https://docs.pytorch.org/docs/stable/data.html),
#   [randomness in workers](https://docs.pytorch.org/docs/stable/notes/randomness.html#dataloader).
# - torchvision documentation:
#   [transforms v2](https://docs.pytorch.org/vision/stable/transforms.html).
# - Hugging Face documentation:
#   [loading](https://huggingface.co/docs/datasets/loading),
#   [processing](https://huggingface.co/docs/datasets/process),
#   [use with PyTorch](https://huggingface.co/docs/datasets/use_with_pytorch).
# - Q. Lhoest et al., [Datasets: a community library for natural language processing](https://arxiv.org/abs/2109.02846),
#   2021.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
# - D. Kotzias et al., [From group to individual labels using deep features](https://doi.org/10.1145/2783258.2783380),
#   *KDD* 2015: the review sentences.
# - S. Kapoor, A. Narayanan, [Leakage and the reproducibility crisis in machine-learning-based
#   science](https://doi.org/10.1016/j.patter.2023.100804), *Patterns* 4 (2023).
