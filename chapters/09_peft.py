# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Parameter-efficient fine-tuning

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %% tags=["remove-cell"]
# This chapter raises errors on purpose: show the message alone, without the path that led to it.
get_ipython().run_line_magic("xmode", "Minimal")

# %% tags=["remove-cell"]
# peft asks each model for an attribute under its old name, which transformers reports as a warning, at every
# `get_peft_model`. The reader can do nothing about it.
import warnings

warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

# %% [markdown]
# ## What you will learn
#
# Fine-tuning changes all the weights of a model, so each task needs a copy of the whole model. This chapter changes a
# few hundredths of them at most, and mostly less than one, and leaves the rest as it is. You will write the best known
# method, LoRA, in five lines, then use the library `peft`, and see that both compute the same. Prompt tuning and prefix
# tuning follow, and then the numbers: what each method costs, and what it brings.
#
# ## Before you start
#
# You need modules, hooks and saved weights (chapter 4), the training loop (chapter 5), attention and its masks
# (chapter 7), and tokenizers, sentence vectors and fine-tuning (chapter 8).
#
# ## Objectives and time
#
# Reading and running takes about two hours, the exercises about two and a half more. Afterwards you can
#
# - say what fine-tuning costs, in weights, memory and bytes on disk;
# - write LoRA, and say why it starts at zero change and what α/r is for;
# - adapt a model with `peft`, choosing rank and target modules, and check what is trained;
# - merge, save, load, swap and disable adapters;
# - train soft prompts and prefixes, with the masks they need;
# - choose between these methods and full fine-tuning by measured numbers.

# %% [markdown]
# ## What does fine-tuning cost?
#
# The encoder of chapter 8, all-MiniLM-L6-v2, has 22.6 million weights of 4 bytes (without the pooler, which we do not
# use here). The optimiser AdamW keeps two numbers for each weight that it trains, and `backward` one more, the
# gradient.
#
# :::{admonition} Predict
# :class: tip
# How many megabytes do weights, gradients and AdamW's numbers take together? And the weights of ten fine-tuned copies?
# :::

# %%
import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoTokenizer

from course_utils import datasets, hub, seed_everything

transformers.utils.logging.set_verbosity_error()  # no notices and no progress bars in this book
transformers.utils.logging.disable_progress_bar()

minilm = hub.local("sentence-transformers/all-MiniLM-L6-v2")
tokenizer = AutoTokenizer.from_pretrained(minilm)


def fresh_encoder():
    """The pretrained encoder, as it was published, frozen."""
    return AutoModel.from_pretrained(minilm, add_pooling_layer=False).eval().requires_grad_(False)


encoder = fresh_encoder()
total = sum(parameter.numel() for parameter in encoder.parameters())
print(f"{total:,} weights: {total * 4 / 1e6:.0f} MB")
print(f"to train them all: {total * 16 / 1e6:.0f} MB; ten copies on disk: {total * 40 / 1e6:.0f} MB")

# %% [markdown]
# Four times the weights, before a single sentence is read. For a model of 7 billion weights in `float32` the same sum
# gives 112 GB, and 28 GB on disk for every task.
#
# The cheapest answer is to train nothing in the encoder. A **frozen probe** is a linear layer on its sentence vectors
# (the mean over the real tokens, chapter 8). The vectors never change, so they are computed once. The task is that of
# chapter 8: is a review sentence positive (1) or negative (0)?


# %%
def encode(texts):
    """Token ids and mask, padded to the longest: (batch, time) each."""
    return tokenizer(
        texts, padding=True, truncation=True, max_length=32, return_tensors="pt", return_token_type_ids=False
    )


def sentence_vectors(encoder, texts):
    """The mean over each text's real tokens: (batch, 384)."""
    batch = encode(texts)
    hidden = encoder(**batch).last_hidden_state  # (batch, time, 384)
    weight = batch["attention_mask"].unsqueeze(-1).float()  # (batch, time, 1)
    return (hidden * weight).sum(1) / weight.sum(1)


unique = list({review.sentence: review for review in datasets.reviews()}.values())
order = torch.randperm(len(unique), generator=torch.Generator().manual_seed(0)).tolist()
reviews = sorted((unique[i] for i in order[:400]), key=lambda review: len(review.sentence))  # batches of like length
train, test = reviews[::2], reviews[1::2]
train_labels = torch.tensor([review.label for review in train])  # (200,)
test_labels = torch.tensor([review.label for review in test])


@torch.no_grad()
def embed(encoder, reviews):
    """The sentence vectors of many reviews: (reviews, 384)."""
    texts = [review.sentence for review in reviews]
    return torch.cat([sentence_vectors(encoder, texts[i : i + 25]) for i in range(0, len(texts), 25)])


def accuracy(head, features, labels):
    """The share of right labels."""
    return (head(features).argmax(dim=1) == labels).float().mean().item()


train_features, test_features = embed(encoder, train), embed(encoder, test)  # (200, 384) each

# %% tags=["nbval-ignore-output"]
seed_everything(0)
probe = nn.Linear(384, 2)
optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-2)
for _ in range(100):
    loss = nn.functional.cross_entropy(probe(train_features), train_labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
probe_accuracy = accuracy(probe, test_features, test_labels)
print(f"{sum(p.numel() for p in probe.parameters())} weights trained, {probe_accuracy:.0%} right")
assert 0.77 < probe_accuracy < 0.87

# %% [markdown]
# 770 weights, 200 sentences, 100 short steps, and about four of five new sentences are read correctly. Always measure
# the probe first: what a costlier method is worth is what it adds to this.
#
# **What goes wrong in practice.** `requires_grad_(False)` freezes the weights, but not dropout. An encoder in train
# mode gives other vectors at every call:

# %%
seed_everything(0)
for mode in (True, False):
    encoder.train(mode)
    with torch.no_grad():
        first, second = (sentence_vectors(encoder, ["The soup was cold."]) for _ in range(2))
    print(f"train mode {mode}: same vectors {torch.equal(first, second)}")

# %% [markdown]
# :::{important} To remember
# Full fine-tuning costs four times the weights in memory, and one copy per task. Freeze, call `eval()`, and measure the
# probe first.
# :::
#
# *Exercise:* `trainable_share`.

# %% [markdown]
# ## How can a change of a weight be small?
#
# Fine-tuning turns a weight W of shape (out, in) into W + ΔW. **LoRA** (low-rank adaptation) keeps W frozen and writes
# the change as a product of two thin matrices:
#
# $$\Delta W = \frac{\alpha}{r}\, B A, \qquad A: (r, \text{in}), \quad B: (\text{out}, r)$$
#
# r is the **rank**, a small number such as 4. α is a scale that you choose. Both orders, AB and BA, occur in texts;
# what matters is that the shapes fit (out, in). The layer computes
#
# $$y = x W^\top + b + \frac{\alpha}{r}\, x A^\top B^\top$$
#
# :::{admonition} Predict
# :class: tip
# W is 384 × 384. How many numbers do A and B have together for r = 4, as a share of W?
# :::


# %%
class Change(nn.Module):
    """What LoRA adds to a layer's output: (*, in) -> (*, out)."""

    def __init__(self, layer, r, alpha):
        super().__init__()
        self.A = nn.Parameter(torch.randn(r, layer.in_features) / layer.in_features**0.5)  # (r, in)
        self.B = nn.Parameter(torch.zeros(layer.out_features, r))  # (out, r)
        self.scale = alpha / r

    def forward(self, x):
        return self.scale * (x @ self.A.T @ self.B.T)  # (*, in) -> (*, r) -> (*, out)


seed_everything(0)
layer = nn.Linear(384, 384).requires_grad_(False)
change = Change(layer, r=4, alpha=8)
numbers = sum(parameter.numel() for parameter in change.parameters())
print(f"{numbers:,} of {layer.weight.numel():,}: {numbers / layer.weight.numel():.1%}")

x = torch.randn(5, 384)  # (batch, in)
print("change at the start:", change(x).abs().max().item())

delta = 2 * torch.randn(384, 4) @ change.A  # what training may make of it
print("rank of the change:", torch.linalg.matrix_rank(delta).item())

# %% [markdown]
# 2 %. B is zero at the start, so the adapted layer computes what the frozen one does, and training starts from the
# pretrained model. Note the parentheses that are not there: `x @ A.T @ B.T` goes through r numbers and never builds the
# (out, in) matrix.
#
# :::{admonition} Myth: "LoRA adds AB, two random thin matrices"
# :class: warning
# Two things are missing from that: one of the two must start at **zero**, and the product is scaled by **α/r**. With
# both matrices random, the model is spoiled before the first step. With both zero, it never learns:
# :::

# %%
for name, a, b in [("A random, B zero", 1, 0), ("both random", 1, 1), ("both zero", 0, 0)]:
    seed_everything(0)
    change = Change(layer, r=4, alpha=8)
    with torch.no_grad():
        change.A.mul_(a)
        change.B.copy_(b * torch.randn(384, 4))
    moved = (change(x).norm() / layer(x).norm()).item()
    (layer(x) + change(x)).square().sum().backward()
    learns = [n for n, p in change.named_parameters() if p.grad.abs().max() > 0]
    print(f"{name:17} output moved by {float(f'{moved:.1g}'):g} times its size, gradient not zero in {learns}")

# %% [markdown]
# In the first row only B has a gradient at first. After one step B is no longer zero, and A learns too. In the last
# row each matrix waits for the other, forever.
#
# **What goes wrong in practice.** Someone changes the rank or α, and the same learning rate no longer fits. The step
# that the output makes depends on both:

# %%
for r, alpha in [(4, 8), (4, 16), (16, 16), (16, 32)]:
    seed_everything(0)
    change = Change(layer, r, alpha)
    optimizer = torch.optim.AdamW(change.parameters(), lr=1e-3)
    (layer(x) + change(x)).sum().backward()
    optimizer.step()
    moved = (change(x).norm() / layer(x).norm()).item()
    print(f"r {r:2}, alpha {alpha:2}, alpha/r {alpha / r:.0f}: the first step moves the output by {moved:.1%}")

# %% [markdown]
# At one rank, twice α is twice the step: α acts like a learning rate. α = 2r is a common choice. At the same α/r, four
# times the rank still moves the output almost twice as far, because more numbers move; so a larger rank wants a smaller
# learning rate.
#
# :::{important} To remember
# W stays, α/r · BA is added. A starts random, B at zero, so the change starts at zero.
# :::
#
# *Exercises:* `lora_delta`, `lora_forward`, `LoRALinear`.

# %% [markdown]
# ## How does a whole encoder get adapters?
#
# One change beside each layer that is to be adapted: here the `query` and `value` layers of the six attention blocks.
# A forward hook (chapter 4) that returns something replaces the layer's output by it, so the model need not be rebuilt.
#
# :::{admonition} Predict
# :class: tip
# Six blocks, two layers each, 384 × 384, r = 4. How many numbers are trained in all, without the head?
# :::

# %%
seed_everything(0)
changes = {}
for path, layer in encoder.named_modules():
    if path.endswith(("query", "value")):
        changes[path] = Change(layer, r=4, alpha=8)
        layer.register_forward_hook(
            lambda layer, inputs, output, change=changes[path]: output + change(inputs[0])  # (batch, time, 384)
        )
added = sum(parameter.numel() for change in changes.values() for parameter in change.parameters())
print(len(changes), "layers adapted, the first is", next(iter(changes)))
print(f"{added:,} numbers, {added / total:.2%} of the encoder")
with torch.no_grad():
    print("same vectors as before:", torch.allclose(embed(encoder, test[:25]), test_features[:25], atol=1e-5))

# %% [markdown]
# (`change=changes[path]` keeps each layer's own change; without it, every hook would use the last one.) Now train the
# changes and a head on 96 of the sentences, twice over:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
head = nn.Linear(384, 2)
trained = [parameter for change in changes.values() for parameter in change.parameters()] + list(head.parameters())
optimizer = torch.optim.AdamW(trained, lr=5e-3)
few = [train[i] for i in torch.randperm(len(train))[:96]]
losses = []
for _ in range(2):
    for start in range(0, len(few), 16):
        batch = few[start : start + 16]
        logits = head(sentence_vectors(encoder, [review.sentence for review in batch]))  # (batch, 2)
        loss = nn.functional.cross_entropy(logits, torch.tensor([review.label for review in batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
hand_features = embed(encoder, test)  # (200, 384)
hand_accuracy = accuracy(head, hand_features, test_labels)
print(f"mean loss of the first epoch {sum(losses[:6]) / 6:.2f}, of the second {sum(losses[6:]) / 6:.2f}")
print(f"{hand_accuracy:.0%} right")
assert sum(losses[6:]) < sum(losses[:6]) and hand_accuracy > 0.7
assert all(torch.equal(weight, before[name]) for name, weight in encoder.state_dict().items())

# %% [markdown]
# The loss falls, and not one weight of the encoder has changed: the last line of the cell checks it. With so few
# sentences this need not beat the probe. The comparison below uses 2,000.
#
# **What goes wrong in practice.** The ends of paths decide what is adapted, and a name that occurs in two places adapts
# both. `dense` is the end of three layers in each block:

# %%
for end in ["query", "dense", "output.dense", "attention.output.dense"]:
    paths = [path for path, module in encoder.named_modules() if isinstance(module, nn.Linear) and path.endswith(end)]
    print(f"{end:23} {len(paths):2} layers, such as {paths[0]}")

# %% [markdown]
# A hook stands beside the layer. One can also put a new layer in its place, by setting an attribute of its parent: for
# `layer.0.query` that is `setattr(model.get_submodule("layer.0"), "query", new)`. Take a list of the paths before you
# replace the first layer.
#
# :::{important} To remember
# Print `named_modules()` first, choose the target modules by the ends of their paths, and count what was adapted.
# :::
#
# *Exercise:* `add_lora`.

# %% [markdown]
# ## Does `peft` compute the same?
#
# The library `peft` replaces each target by a module that holds the frozen layer, A and B. A `LoraConfig` says which
# and how. It compares a list of target modules with whole parts of the path: `query` fits `layer.0.query`, but not
# `layer.0.subquery`, which `path.endswith("query")` would take as well.
#
# :::{admonition} Myth: "`LoraConfig(r=4, alpha=16)`"
# :class: warning
# This line is on many pages. The argument is called `lora_alpha`:
# :::

# %% tags=["raises-exception"]
import peft

peft.LoraConfig(r=4, alpha=16)

# %%
config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
seed_everything(0)
adapted = peft.get_peft_model(fresh_encoder(), config).eval()
adapted.print_trainable_parameters()
query = adapted.base_model.model.encoder.layer[0].attention.self.query
print(type(query).__module__, tuple(query.lora_A["default"].weight.shape), tuple(query.lora_B["default"].weight.shape))

# %% [markdown]
# The same 36,864 numbers as by hand, now as a share of encoder and adapter together. A and B are the weights of two
# small linear layers, and their shapes are ours. So we can copy our trained numbers into them.
#
# :::{admonition} Predict
# :class: tip
# With the same A, B, r and α: are the sentence vectors the same as those by hand?
# :::

# %%
with torch.no_grad():
    for path, change in changes.items():
        module = adapted.base_model.model.get_submodule(path)
        module.lora_A["default"].weight.copy_(change.A)
        module.lora_B["default"].weight.copy_(change.B)
peft_features = embed(adapted, test[:25])
print("same as by hand:", torch.allclose(peft_features, hand_features[:25], atol=1e-4))
print("same as unadapted:", torch.allclose(peft_features, test_features[:25], atol=1e-3))

# %% [markdown]
# The library does what the five lines did. What it adds is the rest of this chapter: merging, saving, swapping, and
# other methods behind the same call.
#
# **What goes wrong in practice.** Names are the model's own. `q_proj` and `v_proj`, as many pages have it, are those of
# Llama and its kin, and BERT has none:

# %% tags=["raises-exception"]
peft.get_peft_model(fresh_encoder(), peft.LoraConfig(r=4, target_modules=["q_proj"]))

# %% [markdown]
# The other trap makes no noise. A classifier's new head must be trained, but `get_peft_model` freezes everything that
# is no adapter. `task_type` tells it which head to train and to save:

# %%
from transformers import AutoModelForSequenceClassification

for task_type in (None, "SEQ_CLS"):
    classifier = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    config_with_task = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], task_type=task_type)
    classifier = peft.get_peft_model(classifier, config_with_task)
    names = [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
    print(f"task_type {task_type}: trained in the head", [name for name in names if "classifier" in name])

# %% [markdown]
# Without it, a random head stays random. For a head of your own, `modules_to_save=["its name"]` does the same.
#
# :::{important} To remember
# `lora_alpha`, the model's own names, and a `task_type` for the head. Then read what `print_trainable_parameters` says.
# :::

# %% [markdown]
# ## Which rank, and which layers?
#
# A matrix of shape (out, in) costs r · (out + in) numbers. So the cost grows in proportion to r and to the number of
# layers, and you can trade one for the other.
#
# :::{admonition} Predict
# :class: tip
# All six linear layers of a block hold more than query and value alone. How many times more numbers does r = 4 on all
# of them cost: 3, or more?
# :::

# %%
shapes = {
    path.partition("layer.0.")[2]: tuple(module.weight.shape)
    for path, module in fresh_encoder().named_modules()
    if isinstance(module, nn.Linear) and "layer.0." in path
}
print(shapes)
for name, ends in {"query, value": ("query", "value"), "all six": ("query", "key", "value", "dense")}.items():
    per_rank = 6 * sum(sum(shape) for path, shape in shapes.items() if path.endswith(ends))
    shares = ", ".join(f"r = {r}: {r * per_rank / total:.2%}" for r in (1, 4, 16))
    print(f"{name:12} {per_rank:6,} numbers per rank; {shares}")

# %% [markdown]
# 4.5 times, because two of the six are four times as long on one side. For the same number of weights you could have
# r = 4 on all layers or r = 18 on two. Many layers at a small rank is the usual choice; the comparison below does that.
#
# **What goes wrong in practice.** A large rank is no small change any more. At which rank has LoRA as many numbers as
# the 384 × 384 matrix itself?

# %%
for r in (4, 16, 192, 384):
    print(f"r = {r:3}: {r * (384 + 384) / 384**2:.0%} of the matrix")

# %% [markdown]
# From r = 192 on, train the matrix itself.
#
# :::{important} To remember
# r · (out + in) numbers per matrix. Start with a small rank on all linear layers and α = 2r.
# :::
#
# *Exercise:* `largest_rank`.

# %% [markdown]
# ## What does an adapter cost at inference?
#
# Each adapted layer computes two small products more. **Merging** adds α/r · BA to W once; what is left is an ordinary
# layer.
#
# :::{admonition} Predict
# :class: tip
# After merging, how many parameters does the model have: as many as before the adapters, or more?
# :::

# %%
import copy

merged = copy.deepcopy(adapted).merge_and_unload()
print(type(merged).__name__, f"{sum(parameter.numel() for parameter in merged.parameters()):,} weights")
with torch.no_grad():
    print("same vectors:", torch.allclose(embed(merged, test[:25]), peft_features, atol=1e-4))

path = next(iter(changes))
change = changes[path]
by_hand = fresh_encoder().get_submodule(path).weight + change.scale * change.B @ change.A  # (out, in)
print("same weight as by hand:", torch.allclose(merged.get_submodule(path).weight, by_hand, atol=1e-6))

# %% [markdown]
# The merged model is as large and as fast as the original, and knows nothing of LoRA. (The copy is there because
# `merge_and_unload` changes the model it is called on.)
#
# **What goes wrong in practice.** Weights in `bfloat16` have two to three decimal digits. A change smaller than half of
# a weight's last digit is lost when it is added:

# %% tags=["nbval-ignore-output"]
weight = fresh_encoder().get_submodule(path).weight
tiny = (0.02 * change.scale * change.B @ change.A).detach()  # of an adapter that has trained less
for dtype in (torch.float32, torch.bfloat16):
    same = (weight.to(dtype) + tiny.to(dtype) == weight.to(dtype)).float().mean().item()
    print(f"{dtype}: {same:.0%} of the weights are as they were")
    assert same < 0.05 if dtype == torch.float32 else same > 0.3

# %% [markdown]
# In `bfloat16` most of these weights do not change at all. Merge in `float32`, convert afterwards, and test the merged
# model, not only the adapted one.
#
# :::{important} To remember
# Merged, an adapter costs nothing at inference. Unmerged, it can be swapped.
# :::
#
# *Exercise:* `merge_all`.

# %% [markdown]
# ## How do many tasks share one model?
#
# An adapter is saved alone, without the model that it belongs to.
#
# :::{admonition} Predict
# :class: tip
# The encoder takes 90 MB. How large is the folder of an adapter of 36,864 numbers?
# :::

# %% tags=["nbval-ignore-output"]
import json
import tempfile
from pathlib import Path

folder = tempfile.TemporaryDirectory()
sentiment = Path(folder.name, "sentiment")
adapted.save_pretrained(sentiment)
for file in sorted(sentiment.iterdir()):
    print(f"{file.name:28} {file.stat().st_size:9,} bytes")
size = (sentiment / "adapter_model.safetensors").stat().st_size
assert 4 * added < size < 4 * added + 10_000

# %%
saved = json.loads((sentiment / "adapter_config.json").read_text(encoding="utf-8"))
print({key: saved[key] for key in ["peft_type", "r", "lora_alpha"]}, sorted(saved["target_modules"]))

from safetensors.torch import load_file

tensors = load_file(sentiment / "adapter_model.safetensors")
print(len(tensors), "tensors:")
for name in sorted(tensors)[:2]:
    print(name, tuple(tensors[name].shape))

# %% [markdown]
# About 150 kB: 600 of them take the place of one encoder. The file holds A and B of each adapted layer under its path,
# copied out of the state dict, and nothing of the encoder. The config holds r, α and the target modules, since the
# tensors alone do not tell α. The README is an empty model card, to be filled in.
#
# Loading takes the base first, then the adapter, and any number of further adapters by name. The second one here has
# random numbers; it stands for another task.

# %%
seed_everything(1)
other = peft.get_peft_model(fresh_encoder(), peft.LoraConfig(r=2, lora_alpha=4, target_modules=["value"]))
with torch.no_grad():
    for name, parameter in other.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.3)
other.save_pretrained(Path(folder.name, "other"))

model = peft.PeftModel.from_pretrained(fresh_encoder(), sentiment, adapter_name="sentiment").eval()
model.load_adapter(Path(folder.name, "other"), adapter_name="other")
model.eval()
texts = test[:25]
for name in ["sentiment", "other", "sentiment"]:
    model.set_adapter(name)
    features = embed(model, texts)
    print(f"{name:9} as the sentiment adapter:", torch.allclose(features, peft_features, atol=1e-4))
with model.disable_adapter():
    print("disabled: as the base model:", torch.allclose(embed(model, texts), test_features[:25], atol=1e-5))

# %% [markdown]
# One base in memory, two tasks, and the original besides. Swapping costs nothing, since no weight moves.
#
# **What goes wrong in practice.** Our head is no part of the encoder, so it is not in that folder. With the adapter of
# the right task and a new, random head, the answers are chance. And an adapter fits the one base it was trained
# on. Another of the same shapes takes it without an error:

# %% tags=["nbval-ignore-output"]
stranger = fresh_encoder()
with torch.no_grad():
    for parameter in stranger.parameters():
        parameter.add_(0.5 * parameter.std() * torch.randn_like(parameter) if parameter.ndim == 2 else 0)
wrong_base = peft.PeftModel.from_pretrained(stranger, sentiment).eval()
for name, features, layer in [
    ("right base, its head", hand_features, head),
    ("right base, a new head", hand_features, nn.Linear(384, 2)),
    ("another base, its head", embed(wrong_base, test), head),
]:
    print(f"{name:23} {accuracy(layer, features, test_labels):.0%}")
assert accuracy(head, embed(wrong_base, test[:100]), test_labels[:100]) < hand_accuracy

# %% [markdown]
# A new head separates the vectors along a random direction, and which side it calls positive is chance too. So its
# answers are worth nothing, whether more or fewer than half of them are right.
#
# :::{important} To remember
# Save adapter *and* head, and write down the base's name and revision.
# :::
#
# *Exercises:* `adapter_state`, `load_adapter`.

# %% [markdown]
# ## Can the input be trained instead?
#
# **Prompt tuning** leaves all weights alone. It puts n vectors in front of the embedded tokens and trains those. They
# are called **soft tokens**, because no word need have such a vector. The model is called with `inputs_embeds` in place
# of `input_ids`.
#
# :::{admonition} Predict
# :class: tip
# Two sentences of 16 tokens, padded, and 8 soft tokens. Which shape must the attention mask have?
# :::

# %% tags=["raises-exception"]
plain = fresh_encoder()
embedding = plain.get_input_embeddings()
batch = encode(["The soup was cold.", "My meal was not warm enough, and I will not come back."])
words = tokenizer("was this review good or bad ?", add_special_tokens=False, return_tensors="pt")["input_ids"]
prompt = nn.Parameter(embedding(torch.cat([words[0], words[0, :1]])).clone())  # (8, 384), started from words

embedded = embedding(batch["input_ids"])  # (batch, time, 384)
inputs = torch.cat([prompt.expand(len(embedded), -1, -1), embedded], dim=1)  # (batch, 8 + time, 384)
plain(inputs_embeds=inputs, attention_mask=batch["attention_mask"])

# %% [markdown]
# The mask has to grow by the soft tokens. **What goes wrong in practice:** it grows at the wrong end, or by zeros.
# Either has the right shape, so nothing is raised:

# %%
mask = batch["attention_mask"]  # (batch, time)
ones, zeros = mask.new_ones(len(mask), 8), mask.new_zeros(len(mask), 8)
masks = {"ones in front": (ones, mask), "ones behind": (mask, ones), "zeros in front": (zeros, mask)}
for name, parts in masks.items():
    hidden = plain(inputs_embeds=inputs, attention_mask=torch.cat(parts, dim=1)).last_hidden_state
    gradient = torch.autograd.grad(hidden[0, 8:15].square().sum(), prompt)[0]  # of the seven real tokens of the first
    print(
        f"{name:15} soft tokens that have an effect on the first sentence: {(gradient.abs().sum(1) > 0).sum().item()}"
    )
    if name == "ones in front":
        right = hidden
    difference = (hidden[0, 8:15] - right[0, 8:15]).abs().max().item()
    print(f"{'':15} as the right mask: {difference < 1e-3}")

# %% [markdown]
# With ones behind, attention sees seven soft tokens, none of the seven real ones of the first sentence, and eight of
# its padding. With zeros, the soft tokens get no gradient at all: they never change, and nothing says why. Note also
# that, with the right mask too, the sentence starts at position 8: a pooling that reads position 0 reads a soft token.
# Our mean takes the last `time` positions.
#
# `peft` does the same and lengthens the mask itself:

# %%
soft = peft.get_peft_model(
    fresh_encoder(), peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=8)
).eval()
with torch.no_grad():
    soft.prompt_encoder["default"].embedding.weight.copy_(prompt)
    print("same as by hand:", torch.allclose(soft(**batch).last_hidden_state, right, atol=1e-4))
soft.print_trainable_parameters()

# %% [markdown]
# Does it learn? Sixteen sentences, one batch, and the probe's head, frozen too, so that the 8 × 384 numbers of the
# prompt are all that can move. (The loss begins low, because the probe was trained on these sentences.)

# %% tags=["nbval-ignore-output"]
batch = encode([review.sentence for review in few[:16]])
labels = torch.tensor([review.label for review in few[:16]])
embedded = embedding(batch["input_ids"])  # (16, time, 384)
mask = torch.cat([batch["attention_mask"].new_ones(16, 8), batch["attention_mask"]], dim=1)  # (16, 8 + time)
weight = batch["attention_mask"].unsqueeze(-1).float()
optimizer = torch.optim.AdamW([prompt], lr=1e-2)
frozen_head = copy.deepcopy(probe).requires_grad_(False)
losses = []
for _ in range(8):
    inputs = torch.cat([prompt.expand(16, -1, -1), embedded], dim=1)
    hidden = plain(inputs_embeds=inputs, attention_mask=mask).last_hidden_state[:, 8:]  # the soft tokens left out
    logits = frozen_head((hidden * weight).sum(1) / weight.sum(1))  # (16, 2)
    loss = nn.functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(" ".join(f"{loss:.2f}" for loss in losses))
assert losses[-1] < losses[0]

# %% [markdown]
# It does, on sentences that it has seen. In the comparison below it has more of them.
#
# :::{important} To remember
# Soft tokens in front of the embedded input, ones in front of the mask, and keep them out of the average.
# :::
#
# *Exercises:* `prompt_mask`, `SoftPrompt`.

# %% [markdown]
# ## What does prefix tuning change?
#
# A soft token is read in the first layer only; what it becomes higher up is up to the frozen layers. **Prefix tuning**
# gives *every* layer n trained keys and values, in front of those of the sentence. Queries attend to both, in one
# softmax. There are no further outputs, since the prefix asks nothing.
#
# :::{admonition} Predict
# :class: tip
# One prefix key k. If q·k is far below zero for a query, what does the prefix change for it? If it is far above?
# :::

# %%
seed_everything(0)
q, k, v = (torch.randn(1, 1, 4, 8) for _ in range(3))  # (batch, heads, time, features)
old = nn.functional.scaled_dot_product_attention(q, k, v)
prefix_v = torch.full((1, 1, 1, 8), 5.0)  # (batch, heads, n, features), n = 1
for strength in (-50, 0, 50):
    prefix_k = strength * q[:, :, :1]  # seen by query 0 as strength times |q|²
    new = nn.functional.scaled_dot_product_attention(
        q, torch.cat([prefix_k, k], dim=2), torch.cat([prefix_v, v], dim=2)
    )
    share = ((new - old) / (prefix_v - old))[0, 0, 0, 0].item()  # the weight that query 0 gives to the prefix
    print(f"strength {strength:3}: weight of the prefix {abs(share):.2f}, output {tuple(new.shape)}")

# %% [markdown]
# The new output lies between the old one and the prefix's value; the key decides how far. In the whole encoder that is
# one key and one value of 384 features per soft token and layer, 12 · 384 · n numbers:

# %%
batch = encode(["The soup was cold.", "My meal was not warm enough, and I will not come back."])
seed_everything(0)
prefix = peft.get_peft_model(
    fresh_encoder(), peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=8)
).eval()
prefix.print_trainable_parameters()
with torch.no_grad():
    old, new = plain(**batch).last_hidden_state, prefix(**batch).last_hidden_state
print(tuple(old.shape), tuple(new.shape), "the same:", torch.allclose(old, new, atol=1e-2))

# %% [markdown]
# The output keeps its length. **What goes wrong in practice:** `peft` starts prefixes at random, so that the model is
# changed before training, unlike LoRA. Smaller numbers do not make the change vanish, since a zero key still
# gets its share of the softmax:

# %%
numbers = prefix.prompt_encoder["default"].embedding.weight  # (8, 12 * 384)
with torch.no_grad():
    for scale in (1.0, 0.0):
        numbers.mul_(scale)
        moved = (prefix(**batch).last_hidden_state - old)[1].norm() / old[1].norm()
        print(f"prefix times {scale:g}: output moved by more than 5 %: {moved.item() > 0.05}")

# %% [markdown]
# So do not judge a prefix before it is trained: even one of zeros changes the model.
#
# :::{important} To remember
# Prompt tuning adds to the input, prefix tuning to the keys and values of every layer. Neither starts at zero change,
# and neither can be merged.
# :::
#
# *Exercise:* `prefix_attention`.

# %% [markdown]
# ## Which method is worth it?
#
# The script `training/compare_finetuning.py` trained each method on 2,000 review sentences for three epochs, each with
# a learning rate of its own, and tested it on 982 others. LoRA adapts all six linear layers of every block; the head is
# trained by all. The script's numbers are read here: mean accuracy, how far the runs lie apart (they differ in the
# seed), the share of weights trained, the seconds of training, and the size of what has to be kept. (The encoder runs
# anew in each epoch, for the probe too.)
#
# :::{admonition} Predict
# :class: tip
# The probe is right on 91 of 100. How much does training all 22.6 million weights add? How much LoRA with 0.2 %?
# :::

# %%
from course_utils.measured import measured

runs = measured("finetuning")
methods = list(dict.fromkeys(run["method"] for run in runs))
table, cost = {}, {}
print(f"{'method':18} runs  accuracy  spread  trained  CPU s     kB")
for method in methods:
    own = [run for run in runs if run["method"] == method]
    values = [run["accuracy"] for run in own]
    mean, spread = sum(values) / len(values), max(values) - min(values)
    share = own[0]["trained"] / own[0]["total"]
    seconds = sum(run["seconds"] for run in own) / len(own)
    table[method] = (mean, share)
    cost[method] = seconds
    print(
        f"{method:18} {len(own):4}  {mean:8.3f}  {spread:6.3f}  {share:7.3%}  {seconds:5.0f} {own[0]['bytes'] / 1e3:6,.0f}"
    )
lora = {method: row for method, row in table.items() if method.startswith("LoRA")}
assert 0.89 < table["frozen probe"][0] < 0.93
assert all(mean > table["frozen probe"][0] + 0.015 for mean, _ in lora.values())
assert all(share < 0.01 for method, (_, share) in lora.items() if method != "LoRA, r = 16")
assert abs(table["LoRA, r = 4"][0] - table["full fine-tuning"][0]) < 0.01
assert 0.55 < cost["LoRA, r = 4"] / cost["full fine-tuning"] < 0.95 and cost["prompt tuning, 16"] > cost["LoRA, r = 4"]
assert table["prompt tuning, 16"][0] < table["frozen probe"][0] + 0.008

# %% mystnb={"figure": {"caption": "Accuracy on 982 unseen sentences against the share of the weights that is trained, on a log axis. Each small dot is a run, each large mark the mean of a method.", "name": "fig-peft-comparison"}, "image": {"alt": "The frozen probe and prompt tuning lie low at the left, at 91 per cent; LoRA lies clearly higher, with about 0.2 per cent trained and more."}}
import matplotlib

from course_utils.plotting import COLOURS, MARKERS, STYLE, AltFigure

alt = (
    "The frozen probe and prompt tuning lie low at the left, at 91 per cent; LoRA lies clearly higher, with about 0.2 "
    "per cent trained and more."
)
with matplotlib.rc_context(STYLE):
    figure = AltFigure(figsize=(6.8, 3.6), layout="constrained", alt=alt)
    ax = figure.subplots()
    for number, (method, (mean, share)) in enumerate(table.items()):
        values = [run["accuracy"] for run in runs if run["method"] == method]
        ax.plot([100 * share] * len(values), values, ".", color=COLOURS[number], markersize=4)
        ax.plot(100 * share, mean, MARKERS[number], color=COLOURS[number], markersize=8, label=method)
    ax.set(xscale="log", xlabel="trained share (%)", ylabel="accuracy")
    ax.grid(color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown]
# The probe is strong here, because this encoder was trained to give good sentence vectors. Fine-tuning adds about three
# points of a hundred, and LoRA at r = 4 with 0.7 % of the weights is within a point of training them all. The standard
# error of one accuracy on 982 sentences is about 0.8 points (√(0.94 · 0.06 / 982)). So differences of a point or less,
# between the ranks, or between them and full fine-tuning, are no finding. Prompt tuning did not pay here: it has no
# lead over the probe, and took as long as full fine-tuning. It was proposed for models of billions of weights, and its
# authors report that it falls behind on small ones.
#
# One cost does *not* shrink as the weights do. LoRA took two thirds to three quarters of the time of full fine-tuning,
# not a hundredth: the gradient still runs through all the layers, and soft tokens even make each sentence longer. Most
# of the activations that `backward` needs stay in memory too. What shrinks is the memory for gradients and optimiser,
# and the bytes to keep.
#
# :::{important} To remember
# Probe first, then LoRA at a small rank; full fine-tuning if that is not enough and you can keep a copy per task.
# :::

# %% [markdown]
# ## Can a language model learn a style in a minute?
#
# SmolLM2 (chapter 8) continues texts in the English of the web. We show it six sentences from State of the Union
# addresses of the years before 1850, five times over. The labels are the tokens themselves; where there is padding they
# are −100, which the loss leaves out.
#
# :::{admonition} Predict
# :class: tip
# Five steps, 0.3 % of the weights. Will "My dog" be continued differently?
# :::

# %% tags=["nbval-ignore-output"]
import re

from transformers import AutoModelForCausalLM

name = hub.local("HuggingFaceTB/SmolLM2-135M-Instruct")
smol_tokenizer = AutoTokenizer.from_pretrained(name)
smol = AutoModelForCausalLM.from_pretrained(name)


def continued(model, beginning):
    """The text with twelve tokens more."""
    batch = smol_tokenizer(beginning, return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=12, do_sample=False)  # (1, time)
    return smol_tokenizer.decode(ids[0], skip_special_tokens=True)


old_texts = [
    text for speech in datasets.speeches() if speech.year < 1850 for text in re.split(r"(?<=\.)\s", speech.text)
]
old_texts = [text for text in old_texts if 20 <= len(text.split()) <= 25]
old_texts = old_texts[:: len(old_texts) // 6][:6]
print(old_texts[0])

config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
seed_everything(0)
smol = peft.get_peft_model(smol, config)
smol.print_trainable_parameters()

# %% tags=["nbval-ignore-output"]
batch = smol_tokenizer(old_texts, padding=True, padding_side="right", return_tensors="pt")  # (6, time)
labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
optimizer = torch.optim.AdamW([p for p in smol.parameters() if p.requires_grad], lr=3e-3)
smol.train()
losses = []
for _ in range(5):
    loss = smol(**batch, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
smol.eval()
print("loss:", " ".join(f"{loss:.2f}" for loss in losses))
assert losses[-1] < losses[0] - 0.2

with smol.disable_adapter():
    print("before:", continued(smol, "My dog"))
print("after: ", continued(smol, "My dog"))

# %% [markdown]
# The loss falls, and the text may take the tone of another century. (Here `q_proj` and `v_proj` are right: SmolLM2 is
# of Llama's kind.) A handful of sentences teaches manner and no facts; more steps would teach it these six by heart. So
# hold some texts back, and stop when the loss on them rises.
#
# **What goes wrong in practice.** Without −100 the loss counts the padding as text. SmolLM2 pads with its end token, so
# the model would be taught to go on ending:

# %%
print("positions that are padding:", bool((batch["attention_mask"] == 0).any()), "· label there:", end=" ")
print(sorted(set(labels[batch["attention_mask"] == 0].tolist())))
print("padding token:", smol_tokenizer.pad_token, "· end token:", smol_tokenizer.eos_token)

# %% [markdown]
# :::{important} To remember
# The same recipe adapts a language model; labels are the ids, with −100 on the padding.
# :::

# %%
folder.cleanup()

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | full fine-tuning | weights, gradients, two moments: 16 bytes per weight, and a copy per task |
# | LoRA | W + (α/r)·BA; A random, B zero |
# | cost | r · (out + in) numbers per matrix |
# | in `peft` | `LoraConfig(r=…, lora_alpha=…, target_modules=…, task_type=…)`, `get_peft_model` |
# | at inference | `merge_and_unload()`: nothing extra |
# | many tasks | `save_pretrained`, `load_adapter`, `set_adapter`, `disable_adapter` |
# | prompt tuning | n trained vectors in front of the embedded tokens; ones in front of the mask |
# | prefix tuning | n trained keys and values in every layer |
# | which? | the probe first, then LoRA |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/09_peft.ipynb`. LoRA is used for image models as well: a style for Stable
# Diffusion often comes as an adapter for the attention layers of its U-Net. Chapter 10 is about such models.
#
# ## Sources
#
# - E. Hu et al., [LoRA: Low-rank adaptation of large language models](https://arxiv.org/abs/2106.09685), 2021.
# - B. Lester, R. Al-Rfou, N. Constant, [The power of scale for parameter-efficient prompt
#   tuning](https://arxiv.org/abs/2104.08691), 2021.
# - X. L. Li, P. Liang, [Prefix-tuning](https://arxiv.org/abs/2101.00190), 2021.
# - Hugging Face, [documentation of `peft`](https://huggingface.co/docs/peft).
# - L. Ben Allal et al., [SmolLM2](https://arxiv.org/abs/2502.02737), 2025.
# - D. Kotzias et al., [From group to individual labels using deep features](https://doi.org/10.1145/2783258.2783380),
#   KDD 2015: the review sentences.
