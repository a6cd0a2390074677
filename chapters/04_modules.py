# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # nn.Module

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
# A network is a function with numbers inside that training changes. PyTorch's name for such a function is `nn.Module`.
# You will write modules, from one linear layer to LeNet-5, a residual network and an auto-encoder, and train each for a
# few seconds on Fashion-MNIST. You will look into running models, change parts of finished ones, and save them in a way
# that is safe to load.
#
# ## Before you start
#
# You need tensors, shapes and broadcasting (chapter 1), `backward()`, `no_grad` and `requires_grad` (chapter 2), and
# batches of images (chapter 3). You need Python classes: `__init__`, methods, inheritance.
#
# Every section has a *Predict* box. Write your answer down before you run the cell. Some cells end in an error. They
# are meant to: each is followed by the version that works.
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about three more. Afterwards you can
#
# - write a module, and say which tensors are its parameters, which its buffers, and which neither;
# - compute the shape behind each layer of a network, and count its parameters;
# - say what changes between `train()` and `eval()`, and why forgetting it spoils results;
# - read what any layer gives, with hooks;
# - use a torchvision model, and put a new head on a frozen network;
# - save and load models, and explain why some files must not be loaded.

# %% [markdown]
# ## What is a layer made of?
#
# The linear layer is the pattern for all others. It takes `in_features` numbers per sample and gives `out_features`,
# each a weighted sum of the inputs plus a constant: $y = x W^\top + b$.
#
# :::{admonition} Predict
# :class: tip
# `nn.Linear(3, 2)` takes 3 features to 2. Which shape does its weight have: (3, 2) or (2, 3)?
# :::

# %%
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import datasets, device, seed_everything
from course_utils.plotting import heat_map, image_grid, learning_curves

seed_everything(0)
layer = nn.Linear(3, 2)
for name, parameter in layer.named_parameters():
    print(f"{name:7}", tuple(parameter.shape), "requires a gradient:", parameter.requires_grad)

x = torch.randn(5, 3)  # (batch, features)
by_hand = x @ layer.weight.T + layer.bias  # (5, 3) @ (3, 2) + (2,) -> (5, 2)
print("as the layer's output:", torch.allclose(layer(x), by_hand))

# %% [markdown]
# `(out, in)`: row k of the weight belongs to output k. The leading axes of the input are free: `(batch, features)`,
# `(batch, time, features)` and `(features,)` all work, because `@` multiplies the last axis.
#
# A layer of your own is a class with two methods. `__init__` makes the parameters, `forward` computes. This one has a
# single parameter per feature, a factor:


# %%
class Scale(nn.Module):
    """Multiply each feature by a factor of its own: (*, features) -> (*, features)."""

    def __init__(self, features):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(features))  # (features,)

    def forward(self, x):
        return x * self.factor


scale = Scale(3)
print(scale(torch.tensor([1.0, 2.0, 3.0])))
print([name for name, _ in scale.named_parameters()])

# %% [markdown]
# `nn.Parameter` marks a tensor as something to be trained. Assigned to an attribute, it enters the module's list of
# parameters under that name, and requires a gradient.
#
# **What goes wrong in practice.** `super().__init__()` creates those lists. Without it there is nowhere to enter
# anything:


# %% tags=["raises-exception"]
class Forgetful(nn.Module):
    def __init__(self):
        self.factor = nn.Parameter(torch.ones(3))


Forgetful()

# %% [markdown]
# `Scale` above shows the mended form: `super().__init__()` comes first, always.
#
# :::{important} To remember
# A module is parameters and a `forward`. PyTorch keeps the weight of a linear layer as (out, in).
# :::
#
# *Exercise:* `Linear`.

# %% [markdown]
# ## How large should the first weights be?
#
# Training starts from random weights. If all were equal, all units of a layer would compute the same, get the same
# gradient, and stay the same for ever. So they differ; the question is by how much. We send one batch through 30 linear
# layers of 256 units with a ReLU after each, and watch how far the values spread. (ReLU keeps positive numbers and
# replaces negative ones by 0.)
#
# :::{admonition} Predict
# :class: tip
# Weights from the standard normal distribution, 256 inputs per unit: after 30 layers, are the values near 0, near 1, or
# larger than 10^30?
# :::

# %% mystnb={"figure": {"caption": "Spread of the values (standard deviation, as a power of ten) behind each of 30 layers, for three sizes of the first weights.", "name": "fig-modules-spread"}, "image": {"alt": "Three lines over 30 layers: one climbs steadily to 32, one falls steadily to minus 29, one stays near 0."}}
seed_everything(0)


def spread_behind_layers(std, layers=30, width=256):
    """log10 of the standard deviation behind each layer, with weights of standard deviation `std`."""
    x = torch.randn(64, width, dtype=torch.float64)  # (batch, features)
    spreads = []
    for _ in range(layers):
        weight = nn.init.normal_(torch.empty(width, width, dtype=torch.float64), std=std)
        x = (x @ weight.T).relu()
        spreads.append(x.std().log10().item())
    return spreads


spreads = {
    "std 1": spread_behind_layers(1.0),
    "std √(2/256)": spread_behind_layers((2 / 256) ** 0.5),
    "std 0.01": spread_behind_layers(0.01),
}
for name, values in spreads.items():
    print(f"{name:13} behind layer 30: 10^{values[-1]:.0f}")
learning_curves(
    spreads,
    ylabel="log10 of the spread",
    xlabel="layer",
    alt="Three lines over 30 layers: one climbs steadily to 32, one falls steadily to minus 29, one stays near 0.",
)

# %% [markdown]
# A sum of n independent products spreads like √n times one of them, so each layer multiplies the spread by the same
# factor, and 30 layers by its 30th power. ReLU halves the mean square. A variance of 2/n per weight makes the factor 1.
# That is Kaiming initialisation, `nn.init.kaiming_normal_(weight, nonlinearity="relu")`. Its relative
# `kaiming_uniform_` draws evenly between −b and b. Such numbers have a variance of b²/3, so b is √(6/n). `nn.Linear`
# and `nn.Conv2d` start with uniform numbers between −1/√n and 1/√n (for a convolution n is c_in · kernel²). That is
# smaller; a few layers deep, it does no harm.
#
# **What goes wrong in practice.** `torch.empty` reserves memory and draws nothing (chapter 1). In a parameter it passes
# for a random start on one machine, and is `nan` on the next. The functions of `nn.init` fill a tensor in place; their
# names end in `_`:

# %%
weight = nn.Parameter(torch.empty(2, 3))
nn.init.kaiming_uniform_(weight, nonlinearity="relu")
bias = nn.Parameter(torch.empty(2))
nn.init.zeros_(bias)
print(
    "largest weight allowed:", round((6 / 3) ** 0.5, 3), "· all inside:", bool((weight.abs() <= (6 / 3) ** 0.5).all())
)
print(bias)

# %% [markdown]
# :::{important} To remember
# Random first weights keep a deep network's values in range if their variance fits the number n of inputs: 2/n where a
# ReLU follows.
# :::

# %% [markdown]
# ## How do layers become a network?
#
# `nn.Sequential` calls modules one after the other. This one is the classic first network: flatten the 28 × 28 pixels,
# two hidden layers of 512 units, ten outputs.
#
# :::{admonition} Predict
# :class: tip
# How many parameters does the first of its three linear layers have? 784 inputs, 512 outputs.
# :::

# %%
fashion = datasets.fashion_mnist()
fashion_test = datasets.fashion_mnist(train=False)
images = fashion.data[:4096].unsqueeze(1) / 255  # (images, channels, height, width), values 0 to 1
labels = fashion.targets[:4096]  # (images,)
test_images = fashion_test.data[:1000].unsqueeze(1) / 255
test_labels = fashion_test.targets[:1000]

seed_everything(0)
mlp = nn.Sequential(
    nn.Flatten(),  # (batch, 1, 28, 28) -> (batch, 784)
    nn.Linear(784, 512),
    nn.ReLU(),
    nn.Linear(512, 512),
    nn.ReLU(),
    nn.Linear(512, 10),
)
print(mlp(images[:3]).shape)
print(f"first layer {784 * 512 + 512:,}, all {sum(p.numel() for p in mlp.parameters()):,} parameters")

# %% [markdown]
# The ten outputs per image are **logits**: any real numbers, the larger the likelier the class. `softmax` turns them
# into probabilities, which are positive and add up to 1. `argmax` picks the likeliest class; it is the same before and
# after softmax, because softmax keeps the order.

# %%
with torch.no_grad():
    logits = mlp(images[:3])  # (batch, classes)
probabilities = logits.softmax(dim=1)  # (batch, classes)
print("sums:", probabilities.sum(dim=1))
print("same class:", torch.equal(logits.argmax(1), probabilities.argmax(1)))

# %% [markdown]
# A network with a name, with options, or with a path that is not a straight line is a class. Modules assigned to
# attributes are its children, and their parameters become its own, under dotted names:


# %%
class MLP(nn.Module):
    """Images (batch, 1, 28, 28) -> logits (batch, classes)."""

    def __init__(self, hidden=512, classes=10):
        super().__init__()
        self.hidden1 = nn.Linear(784, hidden)
        self.hidden2 = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, images):
        x = images.flatten(1)  # (batch, 784)
        x = self.hidden1(x).relu()  # (batch, hidden)
        x = self.hidden2(x).relu()
        return self.output(x)  # (batch, classes)


print([name for name, _ in MLP().named_parameters()])

# %% [markdown]
# The `torchinfo` package shows a model layer by layer, with the shapes that one run through it gives. (Its line on
# `mult-adds` counts multiplications in millions, whatever it calls the unit.)

# %%
from torchinfo import summary

print(summary(MLP(), input_size=(32, 1, 28, 28), col_names=["output_size", "num_params"], verbose=0))

# %% [markdown]
# :::{admonition} Myth: "`pip install torchsummary` shows my model's layers"
# :class: warning
# Older texts recommend `torchsummary`, whose last release is from 2018. It fails on layers that return a tuple inside a
# tuple, such as an LSTM (chapter 7), and on models that take whole numbers. `torchinfo` has taken its place:
# :::

# %%
print(
    summary(nn.LSTM(8, 16, batch_first=True), input_size=(4, 5, 8), col_names=["output_size", "num_params"], verbose=0)
)

# %% [markdown]
# **What goes wrong in practice.** A softmax as the last layer looks right, since probabilities are what one wants in
# the end. But `cross_entropy`, the loss of chapter 5, applies a softmax itself. After two of them no class can ever
# look certain, and the loss of a *perfect* answer stays far from 0:

# %%
label = torch.tensor([0])
perfect = torch.tensor([[100.0] + [0.0] * 9])  # (batch, classes): logits that are sure of class 0
print(f"logits:        {F.cross_entropy(perfect, label):.3f}")
print(f"probabilities: {F.cross_entropy(perfect.softmax(1), label):.3f}")

# %% [markdown]
# :::{important} To remember
# A classifier ends in logits. Softmax belongs where a person reads the result.
# :::

# %% [markdown]
# ## Why does the optimiser not see my layers?
#
# A module notices what is assigned to its attributes: parameters, modules, and buffers (below). It does not look into
# Python lists.
#
# :::{admonition} Predict
# :class: tip
# `Stack` keeps three linear layers in a list. How many parameters does it report?
# :::


# %%
class Stack(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = [nn.Linear(width, width) for _ in range(depth)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


stack = Stack(4, 3)
print(stack(torch.ones(1, 4)).shape, "· parameters:", len(list(stack.parameters())))

# %% [markdown]
# It runs, and reports none. An optimiser over `stack.parameters()` trains nothing, a saved file is empty, and
# `.to(device)` leaves the layers behind. `nn.ModuleList` is the list that a module does look into, `nn.ModuleDict` the
# dictionary, `nn.ParameterList` the one for bare parameters:


# %%
class Stack(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


stack = Stack(4, 3)
print("parameters:", len(list(stack.parameters())), "·", *list(stack.state_dict())[:3], "…")

# %% [markdown]
# Some tensors belong to a model but are not trained: the mean of the training data, a mask, a running average. They are
# **buffers**, made with `register_buffer`. Buffers are saved, and go where the model goes. A plain attribute does
# neither:


# %%
class Centre(nn.Module):
    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", mean)
        self.plain = mean.clone()

    def forward(self, x):
        return x - self.mean


centre = Centre(torch.tensor([1.0, 2.0]))
print("saved:", list(centre.state_dict()), "· trained:", list(centre.parameters()))
centre.double()
print(centre.mean.dtype, centre.plain.dtype)
centre.to("meta")
print(centre.mean.device, centre.plain.device)

# %% [markdown]
# `model.to(device)` moves all parameters and buffers; `.double()`, `.half()` and `.to(torch.bfloat16)` convert those
# with decimals. (`meta` is the device of chapter 1 that keeps shapes and no numbers.) Tensors and modules differ here:
# `tensor.to(…)` leaves the tensor as it is and returns the result, `module.to(…)` changes the module and returns it.
#
# **What goes wrong in practice.** The model moves, the data stay. On a GPU the message speaks of `cuda:0` and `cpu`:

# %% tags=["raises-exception"]
model = nn.Linear(2, 3).to("meta")
model(torch.ones(1, 2))

# %% tags=["nbval-ignore-output"]
model = nn.Linear(2, 3).to(device())  # a GPU, if there is one
x = torch.ones(1, 2, device=next(model.parameters()).device)
print(model(x).shape)

# %% [markdown]
# Move the model first, then give its parameters to the optimiser.
#
# One parameter may belong to two layers: after `second.weight = first.weight` both train the same tensor.
# `parameters()` then yields it once, while `state_dict()` lists it under both names.
#
# :::{important} To remember
# Attributes count, lists do not: `nn.ModuleList` for layers, `nn.Parameter` for what is trained, `register_buffer` for
# what is only kept.
# :::
#
# *Exercises:* `count_parameters`, `ScaledMLP`.

# %% [markdown]
# ## Why `model(x)` and not `model.forward(x)`?
#
# You write `forward`, and call the module. In between stands `nn.Module.__call__`, which runs `forward` and also every
# **hook** that is registered on the module. A forward hook is a function `hook(module, inputs, output)` that runs after
# `forward`.
#
# :::{admonition} Predict
# :class: tip
# A hook prints a line. Which of the two calls prints it: `layer(x)`, `layer.forward(x)`, or both?
# :::


# %%
def report(module, inputs, output):
    print(f"{type(module).__name__}: {tuple(inputs[0].shape)} -> {tuple(output.shape)}")


layer = nn.Linear(3, 2)
handle = layer.register_forward_hook(report)
x = torch.ones(4, 3)
print("layer(x)")
layer(x)
print("layer.forward(x)")
layer.forward(x)
handle.remove()
print("layer(x), without the hook")
y = layer(x)

# %% [markdown]
# Only the first one. Pruning tools, feature extractors and libraries that spread a model over several GPUs work through
# hooks. They go silent, or worse, compute something else, where someone calls `forward`. `handle.remove()` takes a hook
# away: the last call printed nothing.
#
# **What goes wrong in practice.** A hook gets the output tensor itself, not a copy. If the next layer works in place,
# it changes what the hook has kept:

# %%
net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True))
with torch.no_grad():
    net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))

kept = {}
handles = [
    net[0].register_forward_hook(lambda module, inputs, output: kept.update(itself=output.detach())),
    net[0].register_forward_hook(lambda module, inputs, output: kept.update(copy=output.detach().clone())),
]
net(torch.tensor([[3.0, 5.0]]))
for handle in handles:
    handle.remove()
print(kept)

# %% [markdown]
# The linear layer gave −5. `itself` shows the 0 that the ReLU wrote over it; `detach` shares memory. The copy is right.
#
# :::{important} To remember
# Call the module, never `forward`. A hook that keeps a tensor keeps `output.detach().clone()`, and is removed after
# use.
# :::

# %% [markdown]
# ## Does it learn?
#
# The loop below trains any model of this chapter. Each step draws a batch, computes the loss, lets `backward` find the
# gradients and the optimiser take a small step against them. Chapter 5 builds it up line by line and makes it one to be
# trusted. Here it is a tool.
#
# :::{admonition} Predict
# :class: tip
# Ten classes, equally frequent. What share of the test images does an untrained network classify correctly?
# :::


# %%
def fit(model, inputs, targets, loss_fn=F.cross_entropy, steps=160, batch_size=64, lr=2e-3):
    """Train in place on random batches."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(inputs), (batch_size,), generator=generator)  # (batch,) positions
        loss = loss_fn(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model, inputs, targets):
    """The share of inputs whose largest logit is that of the target."""
    model.eval()
    return (model(inputs).argmax(1) == targets).float().mean().item()


# %% tags=["nbval-ignore-output"]
untrained = accuracy(mlp, test_images, test_labels)
fit(mlp, images, labels)
trained = accuracy(mlp, test_images, test_labels)
print(f"untrained {untrained:.2f}, trained {trained:.2f}")
assert untrained < 0.3 and 0.7 < trained < 0.9

# %% [markdown]
# From guessing, about 0.1, to about 0.8 after 160 batches. Printed as a share it is 0.8; it is 80 % only after
# multiplying by 100, which is easily forgotten.
#
# **What goes wrong in practice.** One wants right classes, so one puts the class itself into the loss. But `argmax`
# jumps from class to class. It has no gradient, and the graph ends there:

# %% tags=["raises-exception"]
classes = mlp(images[:64]).argmax(1).float()  # (batch,)
F.mse_loss(classes, labels[:64].float()).backward()

# %%
F.cross_entropy(mlp(images[:64]), labels[:64]).backward()
print("the gradient arrives:", mlp[1].weight.grad.any().item())

# %% [markdown]
# :::{important} To remember
# The loss of a classifier takes logits. `argmax` is for reading the result.
# :::

# %% [markdown]
# ## What does a convolution save?
#
# The linear layer has a weight for each pair of pixel and unit. A convolution looks at a small window of pixels, and
# uses the same weights at each place of the window. (Chapter 1 writes it as an einsum.) `nn.Conv2d(c_in, c_out,
# kernel_size)` takes c_in channels to c_out. It has a weight of shape (c_out, c_in, kernel, kernel) and one bias per
# output channel. Two of its options: `stride` is how many pixels the window moves at a time, and `padding` adds that
# many rows or columns of zeros on each side of the picture. They are 1 and 0 unless told.
#
# :::{admonition} Predict
# :class: tip
# A 28 × 28 picture goes through `nn.Conv2d(1, 6, 5)`. Which height and width come out: 28, 24 or 23?
# :::

# %%
picture = images[:1]  # (1, 1, 28, 28)
for options in ({}, {"padding": 2}, {"padding": 2, "stride": 2}):
    print(tuple(nn.Conv2d(1, 6, 5, **options)(picture).shape), options)
parameters = sum(p.numel() for p in nn.Conv2d(1, 6, 5).parameters())
print(f"{parameters} parameters; linear, to outputs of the same size: {784 * 6 * 24 * 24 + 6 * 24 * 24:,}")

# %% [markdown]
# A window of 5 pixels has 28 − 5 + 1 = 24 places in a row of 28. In general, with padding p at both ends, kernel k and
# stride s, the output has (n + 2p − k) // s + 1 places. **Pooling** uses the same windows without parameters: it takes
# the largest value of each, or the mean. By default its stride is as long as its window, so `nn.MaxPool2d(2)` halves
# height and width. `nn.AdaptiveAvgPool2d(size)` is told the size of its *output*, and chooses the windows:

# %%
maps = torch.arange(16.0).reshape(1, 1, 4, 4)  # (batch, channels, height, width)
print(maps[0, 0])
print(nn.MaxPool2d(2)(maps)[0, 0])
print(nn.AvgPool2d(2)(maps)[0, 0])
for size in (7, 10):
    print(tuple(nn.AdaptiveAvgPool2d(1)(torch.ones(1, 16, size, size)).shape), "from", size)

# %% [markdown]
# LeNet-5, of 1998, is the pattern of most image classifiers since: convolutions and pooling make the picture smaller
# and its channels more, then a few linear layers decide. Here it is with ReLU and maximum pooling:


# %%
class LeNet(nn.Module):
    """Images (batch, 1, 28, 28) -> logits (batch, classes)."""

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images):
        x = F.max_pool2d(self.conv1(images).relu(), 2)  # (batch, 6, 14, 14)
        x = F.max_pool2d(self.conv2(x).relu(), 2)  # (batch, 16, 5, 5)
        x = x.flatten(1)  # (batch, 400)
        x = self.fc1(x).relu()  # (batch, 120)
        x = self.fc2(x).relu()  # (batch, 84)
        return self.fc3(x)  # (batch, classes)


print(summary(LeNet(), input_size=(32, 1, 28, 28), col_names=["output_size", "num_params"], verbose=0))

# %% tags=["nbval-ignore-output"]
seed_everything(0)
lenet = fit(LeNet(), images, labels, steps=240, lr=4e-3)
print(f"LeNet-5, 61,706 parameters:    {accuracy(lenet, test_images, test_labels):.2f}")
print(f"784-512-512-10, 669,706:       {accuracy(mlp, test_images, test_labels):.2f}")
assert accuracy(lenet, test_images, test_labels) > 0.7

# %% [markdown]
# About as good, with less than a tenth of the parameters. (It was trained on 240 batches, the larger one on 160.)
#
# **What goes wrong in practice.** Where the maps become a vector, someone has to know their size. Forget the padding,
# and the first linear layer meets 256 numbers instead of 400:

# %% tags=["raises-exception"]
features = nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.Flatten())
nn.Linear(400, 120)(features(picture))

# %% [markdown]
# Print the shape with one picture instead of computing it in your head, or let `nn.LazyLinear` read it off the first
# batch:

# %%
print(features(picture).shape)
lazy = nn.LazyLinear(120)
lazy(features(picture))
print(lazy)

# %% [markdown]
# :::{important} To remember
# A window has (n + 2p − k) // s + 1 places. When in doubt, send one picture through and print the shape.
# :::
#
# *Exercises:* `conv_size`, `LeNet5`.

# %% [markdown]
# ## What does each layer see?
#
# Hooks show what happens inside the trained network, without touching its code. We keep what the two convolutions give
# for one picture.
#
# :::{admonition} Predict
# :class: tip
# The first convolution has six output channels, each with its own 5 × 5 weights. Will its six maps still look like the
# picture?
# :::

# %% mystnb={"figure": {"caption": "One picture, then the six maps behind the first convolution, then eight of the sixteen behind the second; each map is scaled from its smallest to its largest value.", "name": "fig-modules-maps"}, "image": {"alt": "A boot; six maps of it that show edges or areas sharply; eight small maps of coarse blobs."}}
kept = {}
handles = []
for name in ("conv1", "conv2"):

    def hook(module, inputs, output, name=name):
        kept[name] = output.detach().clone()

    handles.append(lenet.get_submodule(name).register_forward_hook(hook))
with torch.no_grad():
    lenet(picture)
for handle in handles:
    handle.remove()
print({name: tuple(maps.shape) for name, maps in kept.items()})


def scaled(maps):
    """Each map from its smallest value, 0, to its largest, 1: (maps, height, width)."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-6)


coarse = F.interpolate(scaled(kept["conv2"][0, :8]).unsqueeze(1), size=28)[:, 0]  # (8, 28, 28)
image_grid(
    torch.cat([picture[0], scaled(kept["conv1"][0]), coarse]),
    labels=["picture", *[f"conv1, {i}" for i in range(6)], *[f"conv2, {i}" for i in range(8)]],
    columns=5,
    alt="A boot; six maps of it that show edges or areas sharply; eight small maps of coarse blobs.",
)

# %% [markdown]
# The first maps are the picture with some of its edges or areas brought out. Behind the second convolution there are 10
# × 10 places left, each of which sums up a larger piece of the picture. Note `name=name` in the hook: a function made
# in a loop reads the loop's variable when it *runs*, so without it both hooks would write under `"conv2"`.
#
# There are also hooks before `forward` (`register_forward_pre_hook`) and on gradients (`register_full_backward_hook`).
#
# :::{important} To remember
# `named_modules()` lists the names, `get_submodule(name)` finds the layer, a forward hook shows what it gives.
# :::
#
# *Exercise:* `capture`.

# %% [markdown]
# ## Why does the same input give two different outputs?
#
# Two kinds of layers behave differently in training and in use. `model.train()` and `model.eval()` set the flag
# `training` on a module and all modules in it; a new module is in training mode.
#
# **Dropout** sets each value to 0 with probability p while training, so that no unit can rely on a particular other
# one.
#
# :::{admonition} Predict
# :class: tip
# `nn.Dropout(0.5)` gets ten ones. Which values come out in training, and which in evaluation?
# :::

# %%
seed_everything(0)
dropout = nn.Dropout(0.5)
ones = torch.ones(10)
print(dropout(ones))
print(dropout(ones))
dropout.eval()
print(dropout(ones))

# %% [markdown]
# What is kept is divided by 1 − p, here doubled. So the *mean* is the same in both modes, and evaluation has nothing to
# correct. This is called inverted dropout.
#
# **Batch norm** brings each feature to mean 0 and variance 1, then applies a trained factor and a trained shift. In
# training it takes mean and variance from the *batch*, and moves two buffers towards them, `running_mean` and
# `running_var`. In evaluation it uses the buffers.

# %%
seed_everything(0)
norm = nn.BatchNorm1d(2)
x = torch.randn(8, 2) * 3 + 10  # (batch, features)
print(f"mean of feature 0: {x[:, 0].mean():.2f}, after the layer in training {norm(x)[:, 0].mean().abs():.2f}")
print(f"running mean of feature 0: {norm.running_mean[0]:.2f}")
norm.eval()
print(f"mean of feature 0 after the layer in evaluation: {norm(x)[:, 0].mean():.2f}")

# %% [markdown]
# The mean of the batch is near 10. One step has moved the running mean a tenth of the way from 0: `momentum` is 0.1,
# the share of the *new* batch. So after one batch the evaluation still subtracts about 1 where it should subtract 10,
# and divides by a spread that has not arrived either. After a hundred batches the buffers have arrived.
#
# Three details matter when you write the layer yourself. The variance that normalises divides by n, the one that goes
# into `running_var` by n − 1. No graph hangs on the buffers. And a batch of one sample has no variance:

# %% tags=["raises-exception"]
norm.train()
norm(x[:1])

# %%
print(norm.eval()(x[:1]).shape)  # in evaluation a batch of one is fine

# %% [markdown]
# Batch norm usually stands between a convolution and its activation. It subtracts the mean of each channel, and with it
# any constant that the convolution added. A bias there is a parameter without effect, so leave it out:

# %%
seed_everything(0)
conv = nn.Conv2d(1, 4, 3)
norm = nn.BatchNorm2d(4)
before = norm(conv(images[:8]))  # (8, 4, 26, 26)
with torch.no_grad():
    conv.bias += 5
print("bias + 5 changes the output:", not torch.allclose(before, norm(conv(images[:8])), atol=1e-3))

# %% [markdown]
# **What goes wrong in practice.** Someone forgets `eval()`. The result for one picture then depends on the others in
# its batch, and, with dropout, on chance:

# %%
seed_everything(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
with torch.no_grad():
    for _ in range(50):
        net(images[:64])  # fills the running statistics
    for mode in (net.train, net.eval):
        mode()
        alone, together = net(images[:2])[0], net(images[:64])[0]
        print(f"{mode.__name__:5} the same logits: {torch.allclose(alone, together, atol=1e-4)}")

# %% [markdown]
# `eval()` switches layers. `torch.no_grad()` switches the graph off. They are independent, and testing wants both.
#
# **Layer norm** needs no modes: it normalises over the features of *one* sample, so a batch of one is as good as any.
# Transformers use it (chapter 7). A heat map of three samples shows the difference: batch norm works down the columns,
# layer norm along the rows.

# %% mystnb={"figure": {"caption": "Three samples with four features: the input, normalised per column (batch norm), and per row (layer norm).", "name": "fig-modules-norms"}, "image": {"alt": "Three tables of 3 by 4: the input; batch norm, where all columns are alike; layer norm, where each row spreads from -1.34 to 1.34."}}
x = torch.tensor([[0.5, 1.0, 1.5, 2.0], [-0.5, -1.0, -1.5, -2.0], [1.0, 2.0, 3.0, 4.0]])  # (batch, features)
with torch.no_grad():
    tables = {"input": x, "nn.BatchNorm1d(4)": nn.BatchNorm1d(4)(x), "nn.LayerNorm(4)": nn.LayerNorm(4)(x)}
heat_map(
    tables,
    alt="Three tables of 3 by 4: the input; batch norm, where all columns are alike; layer norm, where each row spreads from -1.34 to 1.34.",
)

# %% [markdown]
# :::{important} To remember
# `model.train()` before training, `model.eval()` before everything else. A convolution before a batch norm has no bias.
# :::
#
# *Exercises:* `Dropout`, `BatchNorm1d`.

# %% [markdown]
# ## Why do deep networks add their input to their output?
#
# Twenty layers should be able to do what ten can: ten of them need only pass on what they get. In practice plain deep
# networks train *worse*. In a **residual block** the layers compute a correction, and the input is added to it:
# y = x + f(x). To pass on its input, the block needs f = 0, which is easy to learn.
#
# :::{admonition} Predict
# :class: tip
# 40 layers with small weights. The gradient arrives at the last layer with norm 1. How much of it reaches the first
# layer without shortcuts: about all, about a hundredth, or next to nothing?
# :::


# %% mystnb={"figure": {"caption": "Norm of the gradient on its way from the last of 40 layers to the first, as a power of ten.", "name": "fig-modules-gradients"}, "image": {"alt": "Two lines over 40 layers: the plain network's gradient is near 0 at the last layer and falls to about minus 18 at the first; the residual one stays between 0 and about 1."}}
def gradient_norms(residual, depth=40, width=64):
    """log10 of the gradient's norm before each layer, first to last."""
    seed_everything(0)
    weights = [torch.randn(width, width, dtype=torch.float64) * (0.25 / width) ** 0.5 for _ in range(depth)]
    states = [torch.randn(1, width, dtype=torch.float64, requires_grad=True)]
    for weight in weights:
        change = (states[-1] @ weight).relu()
        states.append(states[-1] + change if residual else change)
    direction = torch.randn(1, width, dtype=torch.float64)
    gradients = torch.autograd.grad((states[-1] * direction / direction.norm()).sum(), states[:-1])
    return [gradient.norm().log10().item() for gradient in gradients]


norms = {"plain": gradient_norms(False), "residual": gradient_norms(True)}
for name, values in norms.items():
    print(f"{name:9} at the first layer: 10^{values[0]:.0f}")
learning_curves(
    norms,
    ylabel="log10 of the norm",
    xlabel="layer",
    alt="Two lines over 40 layers: the plain network's gradient is near 0 at the last layer and falls to about minus 18 at the first; the residual one stays between 0 and about 1.",
)

# %% [markdown]
# Without shortcuts each layer takes its share, and next to nothing is left. With them it even grew about tenfold. A sum
# passes the gradient on to both its terms (chapter 2), so with shortcuts it has a way past every layer.
#
# The block of the residual networks of 2015 has two convolutions, each with a batch norm. Where its output has another
# shape than its input, the two cannot be added:

# %% tags=["raises-exception"]
x = torch.ones(1, 16, 14, 14)  # (batch, channels, height, width)
x + nn.Conv2d(16, 32, 3, stride=2, padding=1)(x)

# %% [markdown]
# There the shortcut has a 1 × 1 convolution with the same stride, which changes the number of channels and skips the
# same pixels, and a batch norm of its own. Everywhere else it is the input itself, without parameters:

# %%
shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
print((shortcut(x) + nn.Conv2d(16, 32, 3, stride=2, padding=1)(x)).shape)

# %% [markdown]
# Modules are layers of other modules. torchvision's own block, `BasicBlock`, takes the shortcut as its argument
# `downsample`. A residual network is a first convolution, a few blocks that halve the picture as they widen it, the
# mean over all places, and one linear layer. You will write the block yourself.

# %% tags=["nbval-ignore-output"]
from torchvision.models.resnet import BasicBlock


class SmallResNet(nn.Module):
    """Images (batch, 1, 28, 28) -> logits (batch, classes)."""

    def __init__(self, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        downsample = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
        self.blocks = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, stride=2, downsample=downsample))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))

    def forward(self, images):
        x = self.stem(images)  # (batch, 16, 14, 14)
        x = self.blocks(x)  # (batch, 32, 7, 7)
        return self.head(x)  # (batch, classes)


seed_everything(0)
resnet = fit(SmallResNet(), images, labels, steps=120, lr=5e-3)
share = accuracy(resnet, test_images, test_labels)
print(f"{sum(p.numel() for p in resnet.parameters()):,} parameters, accuracy {share:.2f}")
assert share > 0.5

# %% [markdown]
# About two thirds of the pictures, with a third of LeNet's parameters. Such networks need more training than these few
# seconds. Because the head takes the *mean* over all places, the same network accepts pictures of other sizes:

# %%
with torch.no_grad():
    print(resnet(torch.rand(2, 1, 40, 56)).shape)

# %% [markdown]
# :::{important} To remember
# Add the input to the output: y = x + f(x). Project the shortcut only where the shape changes.
# :::
#
# *Exercise:* `ResidualBlock`.

# %% [markdown]
# ## What does an auto-encoder keep?
#
# An auto-encoder is two networks in one. The encoder squeezes a picture into a short vector, its **code**; the decoder
# draws the picture again from the code. It needs no labels: the input is the target. Here 784 pixels pass through 16
# numbers.
#
# :::{admonition} Predict
# :class: tip
# What will be lost on the way: the shape of a garment, or the pattern on it?
# :::

# %% mystnb={"figure": {"caption": "Above: test pictures. Below: the same after 16 numbers.", "name": "fig-modules-autoencoder"}, "image": {"alt": "Eight garments, and below each a blurred version with the right outline but without prints and seams."}} tags=["nbval-ignore-output"]
seed_everything(0)
encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16))  # -> (batch, 16)
decoder = nn.Sequential(
    nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))
)  # (batch, 16) -> (batch, 1, 28, 28)
autoencoder = fit(nn.Sequential(encoder, decoder), images, images, F.mse_loss, steps=500)

with torch.no_grad():
    drawn = autoencoder(test_images)  # (images, 1, 28, 28)
error = F.mse_loss(drawn, test_images)
plain = F.mse_loss(images.mean(0, keepdim=True).expand_as(test_images), test_images)
print(f"mean squared error {error:.3f}; of the mean picture: {plain:.3f}")
assert error < plain / 3
image_grid(
    torch.cat([test_images[:8], drawn[:8]]),
    columns=8,
    alt="Eight garments, and below each a blurred version with the right outline but without prints and seams.",
)

# %% [markdown]
# The outline and the brightness survive, prints and seams do not. The code is a summary, which the decoder fills in
# with what garments of this kind look like. No ReLU follows the last layer of the encoder, so that a code may be
# negative; a sigmoid ends the decoder, so that pixels lie between 0 and 1.
#
# **What goes wrong in practice.** The sigmoid is σ(z) = 1 / (1 + e⁻ᶻ), and σ(0) is 0.5. With a ReLU *before* it no
# pixel can be darker than that:

# %%
print(nn.Sequential(nn.ReLU(), nn.Sigmoid())(torch.tensor([-9.0, 0.0, 9.0])))

# %%
print(nn.Sigmoid()(torch.tensor([-9.0, 0.0, 9.0])))

# %% [markdown]
# :::{important} To remember
# The last activation decides which outputs are possible: none for logits and codes, a sigmoid for values in [0, 1].
# :::
#
# *Exercise:* `Autoencoder`.

# %% [markdown]
# ## What do torchvision's models take and return?
#
# `torchvision.models` builds well-known networks. `weights=None` gives random weights. `weights="DEFAULT"` downloads
# trained ones, once, over the internet. On the `meta` device even a large model costs nothing: it has shapes and no
# numbers, and computes shapes. Most of the trained ones learnt from ImageNet, about 1.3 million photos in 1,000
# classes.
#
# :::{admonition} Predict
# :class: tip
# A batch of two colour pictures of 224 × 224 goes into a ResNet-18 that was made for ImageNet. Which shape comes out?
# :::

# %%
from torchvision import models

print(len(models.list_models(module=models)), "classifiers, such as")
with torch.device("meta"):
    pictures = torch.empty(2, 3, 224, 224)  # (batch, channels, height, width)
    for name in ("resnet18", "mobilenet_v3_small", "vit_b_16"):
        model = models.get_model(name, weights=None).eval()
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        print(f"{name:19} {millions:5.1f} million parameters -> {tuple(model(pictures).shape)}")

# %% [markdown]
# Logits for the 1,000 classes of ImageNet. What a model expects of its input is stored with its weights, and can be
# read without downloading them:

# %%
weights = models.ResNet18_Weights.DEFAULT
print(weights, "·", weights.meta["num_params"], "parameters ·", weights.meta["categories"][:3])
preprocess = weights.transforms()
print(preprocess)

# %% [markdown]
# `preprocess` makes of a picture what the network was trained on: resized, cut to 224 × 224, values from 0 to 1, then
# normalised per channel. With other preprocessing the network still answers, only worse.
#
# **What goes wrong in practice.** One picture is no batch. The first layer that needs the batch axis complains:

# %% tags=["raises-exception"]
resnet18 = models.resnet18(weights=None).eval()
generator = torch.Generator().manual_seed(0)
photo = torch.randint(0, 256, (3, 300, 400), generator=generator).byte()  # (channels, height, width)
resnet18(photo / 255)

# %%
with torch.no_grad():
    print(resnet18(preprocess(photo).unsqueeze(0)).shape)  # a batch of one

# %% [markdown]
# A **detector** answers another question: what is where? It takes a *list* of pictures, which may differ in size,
# values from 0 to 1 and not normalised: it does that itself. In evaluation it returns one dict per picture. In training
# it also takes the true boxes, and returns its losses.

# %%
seed_everything(0)
detector = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4)
two = [torch.rand(3, 120, 160), torch.rand(3, 90, 110)]  # (channels, height, width) each
with torch.no_grad():
    found = detector.eval()(two)
print(type(found).__name__, "of", len(found))
for name, values in found[0].items():
    print(f"{name:7} ({', '.join(['objects', *map(str, values.shape[1:])])}) {values.dtype}")

# %%
targets = [
    {"boxes": torch.tensor([[10.0, 20.0, 90.0, 100.0]]), "labels": torch.tensor([1])},  # x1, y1, x2, y2
    {"boxes": torch.tensor([[5.0, 5.0, 50.0, 60.0]]), "labels": torch.tensor([3])},
]
losses = detector.train()(two, targets)
print(sorted(losses))

# %% [markdown]
# A box is (x1, y1, x2, y2) in pixels, the corner at the upper left first. Class 0 is the background, so `num_classes=4`
# means three kinds of objects. The other families, in evaluation:
#
# | family | takes | returns |
# |---|---|---|
# | classification, `resnet18` | `(n, 3, h, w)` | logits `(n, classes)` |
# | detection, `fasterrcnn_…` | list of `(3, h, w)` | list of dicts: `boxes`, `labels`, `scores` |
# | instance segmentation, `maskrcnn_…` | list of `(3, h, w)` | the same and `masks` |
# | semantic segmentation, `lraspp_…` | `(n, 3, h, w)` | dict: `out`, logits `(n, classes, h, w)` |
# | video, `r3d_18` | `(n, 3, time, h, w)` | logits `(n, classes)` |
#
# `inception_v3` returns a tuple-like object while training, with the logits of a second, auxiliary head. Check two of
# the rows on `meta`:

# %%
with torch.device("meta"):
    segmenter = models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=21
    ).eval()
    print({name: tuple(maps.shape) for name, maps in segmenter(torch.empty(2, 3, 96, 128)).items()})
    print(tuple(models.video.r3d_18(weights=None).eval()(torch.empty(2, 3, 8, 56, 56)).shape))

# %% [markdown]
# :::{important} To remember
# Classifiers take one tensor, detectors a list. The preprocessing belongs to the weights.
# :::

# %% [markdown]
# ## How do I teach a trained network something new?
#
# A trained network has learnt more than its classes: the layers before the last have learnt what to look at. Keep
# them, **frozen**, and replace the last one, the *head*. Our LeNet knows ten garments. Its new task has two classes:
# something worn on the feet (labels 5, 7 and 9), or not. We give it only 200 pictures.
#
# :::{admonition} Predict
# :class: tip
# The new head is `nn.Linear(84, 2)`. How many parameters are trained?
# :::


# %% tags=["nbval-ignore-output"]
def is_footwear(labels):
    return ((labels == 5) | (labels == 7) | (labels == 9)).long()


seed_everything(0)
lenet.requires_grad_(False)  # freeze all that is there now
lenet.fc3 = nn.Linear(84, 2)  # new, so it requires gradients
trainable = sum(p.numel() for p in lenet.parameters() if p.requires_grad)
few, few_labels = images[:200], is_footwear(labels[:200])
fit(lenet, few, few_labels, steps=60, lr=1e-2)
share = accuracy(lenet, test_images, is_footwear(test_labels))
print(f"{trainable} of {sum(p.numel() for p in lenet.parameters()):,} parameters trained, accuracy {share:.2f}")
assert trainable == 170 and share > 0.9

# %% [markdown]
# 170 parameters and 200 pictures are enough. Where the head lies deeper, `get_submodule` finds it by its dotted name,
# and `set_submodule` replaces it:

# %%
with torch.device("meta"):
    mobile = models.mobilenet_v3_small(weights=None).eval()
    old = mobile.get_submodule("classifier.3")
    print(old)
    mobile.set_submodule("classifier.3", nn.Linear(old.in_features, 5))
    print(tuple(mobile(torch.empty(2, 3, 224, 224)).shape))

# %% [markdown]
# **What goes wrong in practice.** A new number on an old layer:

# %% tags=["raises-exception"]
old = nn.Linear(84, 10)
old.out_features = 2  # changes the label, not the weight
assert old(torch.ones(1, 84)).shape == (1, 2), f"still {tuple(old(torch.ones(1, 84)).shape)}"

# %%
new = nn.Linear(old.in_features, 2)
print(tuple(new(torch.ones(1, 84)).shape))

# %% [markdown]
# A second trap: `requires_grad_(False)` freezes parameters. It does not stop batch norm from moving its buffers in
# training mode. Call `eval()` on frozen parts, after the `train()` of the whole.
#
# :::{important} To remember
# Freeze first, then put in the new head; train only what requires gradients.
# :::
#
# *Exercise:* `new_head`.

# %% [markdown]
# ## How do I save a model, and which files may I load?
#
# There are three ways. The first two write with Python's `pickle`, the third does not.
#
# **First way: the `state_dict`**, a dictionary from names to tensors: all parameters and buffers. To load it, build the
# model from its class, then fill it.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
seed_everything(0)
model = LeNet()
torch.save(model.state_dict(), folder / "state.pt")

other = LeNet()  # other random weights
print(other.load_state_dict(torch.load(folder / "state.pt")))
print("same logits:", torch.equal(model(picture), other(picture)))

# %% [markdown]
# `load_state_dict` is strict: names that are missing in the file or left over raise an error. That is what you want.
# With `strict=False` a model whose names have changed loads *nothing*, and says so only in a return value that few
# people read:

# %%
renamed = nn.Sequential(LeNet())  # its names begin with "0."
before = renamed[0].fc3.weight.clone()
answer = renamed.load_state_dict(torch.load(folder / "state.pt"), strict=False)
print(len(answer.missing_keys), "missing,", len(answer.unexpected_keys), "left over")
print("anything loaded:", not torch.equal(before, renamed[0].fc3.weight))

# %% [markdown]
# **Second way: the whole model.** `torch.save(model, path)` pickles the object: its weights, and the *name* of its
# class, not its code.
#
# :::{admonition} Predict
# :class: tip
# What does `torch.load` do with that file: load the model, or refuse?
# :::

# %% tags=["raises-exception"]
torch.save(model, folder / "model.pt")
torch.load(folder / "model.pt")

# %% [markdown]
# :::{admonition} Myth: "`model = torch.load('model.pt')` loads a saved model"
# :class: warning
# It did for years, and from PyTorch 2.4 on with a `FutureWarning`. Since 2.6 the default is `weights_only=True`:
# tensors, numbers, strings and their containers, and nothing else. A whole model needs an explicit opt-out. Why that is
# a decision about *trust* is shown below.
# :::

# %%
trusted = torch.load(folder / "model.pt", weights_only=False)  # this file is ours
print(type(trusted).__name__, torch.equal(trusted(picture), model(picture)))

# %% [markdown]
# Even then the file only works beside the code it was made with. Rename the class, or move it to another module, and
# the file cannot be read any more:

# %% tags=["raises-exception"]
OldName, LeNet = LeNet, None
torch.load(folder / "model.pt", weights_only=False)

# %%
LeNet = OldName
print(type(torch.load(folder / "model.pt", weights_only=False)).__name__)

# %% [markdown]
# ### What can a pickle do?
#
# A pickle is a program: instructions to rebuild objects. One instruction says *call this function with these
# arguments*, and it may be any function. The class below says how it wants to be rebuilt: by printing a line. A
# malicious file would put a call in its place that reads your keys or deletes your data. `print` is harmless.
#
# :::{admonition} Predict
# :class: tip
# The file is loaded and nothing is done with the result. Does the line appear?
# :::


# %%
class Stranger:
    def __reduce__(self):
        return print, ("This line was printed by the file, while it was being loaded.",)


torch.save({"weight": torch.ones(2), "extra": Stranger()}, folder / "stranger.pt")
loaded = torch.load(folder / "stranger.pt", weights_only=False)
print(loaded)

# %% [markdown]
# It ran. No method was called, no attribute read: loading is enough. The tensor is there too, so nothing looks wrong
# afterwards. With the default, `weights_only=True`, the loader knows a short list of harmless functions and refuses all
# others:

# %% tags=["raises-exception"]
torch.load(folder / "stranger.pt")

# %% [markdown]
# The message also explains how to switch the protection off. Do that for files that you wrote yourself, and for no
# others, however well known the site that offers them. If one harmless class stands in the way,
# `torch.serialization.safe_globals([…])` allows that class alone.
#
# **Third way: safetensors.** The format has a header with names, shapes and dtypes, then the bytes of the tensors.
# There is no place for code, so there is nothing to run. The files also load fast, one tensor at a time if need be. The
# Hugging Face Hub uses it for most models.

# %%
from safetensors.torch import load_file, load_model, save_file, save_model

save_file(model.state_dict(), folder / "model.safetensors")
print({name: tuple(tensor.shape) for name, tensor in list(load_file(folder / "model.safetensors").items())[:3]})

other = LeNet()
load_model(other, folder / "model.safetensors")  # strict, like load_state_dict
print("same logits:", torch.equal(model(picture), other(picture)))

# %% [markdown]
# **What goes wrong in practice.** In many language models the table of word vectors (`nn.Embedding`, one row per word)
# is also the weight of the last layer: one tensor under two names, *tied*. `save_file` takes tensors, each with memory
# of its own, and refuses:


# %%
class Tied(nn.Module):
    def __init__(self, words=5, features=3):
        super().__init__()
        self.embedding = nn.Embedding(words, features)
        self.output = nn.Linear(features, words, bias=False)
        self.output.weight = self.embedding.weight


tied = Tied()
try:
    save_file(tied.state_dict(), folder / "tied.safetensors")
except RuntimeError as error:
    print(str(error).strip().split(",")[0])

# %%
save_model(tied, folder / "tied.safetensors")  # writes a tied tensor once
print(list(load_file(folder / "tied.safetensors")))
again = Tied()
load_model(again, folder / "tied.safetensors")
print("loaded:", torch.equal(again.embedding.weight, tied.embedding.weight))
print("still tied:", again.output.weight is again.embedding.weight)

# %% [markdown]
# | way | holds | to load | runs code from the file |
# |---|---|---|---|
# | `torch.save(model.state_dict(), path)` | names and tensors | the class, `load_state_dict` | no, with `weights_only=True` |
# | `torch.save(model, path)` | the object | the class at its old place, `weights_only=False` | **yes** |
# | `save_model(model, path)` | names and tensors | the class, `load_model` | no |
#
# Save a checkpoint to continue training with? The optimiser's state belongs in it as well: chapter 5.
#
# :::{important} To remember
# Save tensors, not objects: safetensors, or a `state_dict`. Loading a foreign pickle is running a foreign program.
# :::
#
# *Exercises:* `save_safely`, `load_safely`.

# %% tags=["remove-cell"]
import shutil

shutil.rmtree(folder)

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | What is a module? | parameters, buffers and sub-modules as attributes, and a `forward` |
# | How to call it? | `model(x)`: hooks run only then |
# | What is trained? | `model.parameters()`; not buffers, not tensors in plain attributes, not layers in plain lists |
# | Size behind a window | (n + 2p − k) // s + 1 |
# | Last layer of a classifier | linear: logits, no softmax |
# | `train()` / `eval()` | changes dropout and batch norm; `no_grad` is something else |
# | Deep networks | y = x + f(x), a 1 × 1 convolution where the shape changes, no bias before batch norm |
# | Look inside | `register_forward_hook`, keep `output.detach().clone()`, `handle.remove()` |
# | New task | `requires_grad_(False)`, then a new head |
# | Save | safetensors or `state_dict`; load strictly; no foreign pickles |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/04_modules.ipynb`. Each is graded the moment you run it. Then chapter 5
# turns the small `fit` of this chapter into a training loop that one can trust.
#
# ## Sources
#
# - PyTorch documentation:
#   [`nn.Module`](https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html),
#   [notes on modules](https://docs.pytorch.org/docs/stable/notes/modules.html),
#   [`nn.init`](https://docs.pytorch.org/docs/stable/nn.init.html),
#   [`torch.load`](https://docs.pytorch.org/docs/stable/generated/torch.load.html),
#   [serialisation](https://docs.pytorch.org/docs/stable/notes/serialization.html).
# - [torchvision models](https://docs.pytorch.org/vision/stable/models.html),
#   [torchinfo](https://github.com/TylerYep/torchinfo),
#   [safetensors](https://huggingface.co/docs/safetensors).
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner,
#   [Gradient-based learning applied to document recognition](https://doi.org/10.1109/5.726791),
#   *Proceedings of the IEEE* 86 (1998), 2278–2324.
# - N. Srivastava et al., [Dropout](https://jmlr.org/papers/v15/srivastava14a.html),
#   *Journal of Machine Learning Research* 15 (2014), 1929–1958.
# - S. Ioffe, C. Szegedy, [Batch normalization](https://arxiv.org/abs/1502.03167), 2015.
# - K. He, X. Zhang, S. Ren, J. Sun, [Delving deep into rectifiers](https://arxiv.org/abs/1502.01852), 2015, and
#   [Deep residual learning for image recognition](https://arxiv.org/abs/1512.03385), 2015.
# - J. L. Ba, J. R. Kiros, G. E. Hinton, [Layer normalization](https://arxiv.org/abs/1607.06450), 2016.
