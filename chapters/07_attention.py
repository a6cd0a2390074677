# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sequences and attention

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
# A word has as many letters as it has, and its pronunciation has another number of sounds. In this chapter a network
# learns to read one sequence and to write another: it learns to pronounce English. On the way you meet what every
# translator and every chatbot is made of: teacher forcing, masks, attention. At the end you take the recurrence away,
# keep the attention, and have a Transformer that writes speeches.
#
# Four things go wrong in nearly every first attempt: targets that are not shifted, padding that is counted, padding that
# is looked at, and a future that is visible. Each of them trains without an error, and the first two, as you will see,
# make the loss look *better*. You will see all four go wrong before you see them right.
#
# ## Before you start
#
# You need chapters 1 to 5: tensors and masks, gradients, data pipelines, `nn.Module`, and a training loop.
#
# Every section has a *Predict* box. Write your answer down before you run the cell. Some cells end in an error; each is
# followed by the version that works.
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about two and a half more. Afterwards you can
#
# - turn two languages into ids, each with its own vocabulary, and pad and mask them;
# - train an encoder-decoder by teacher forcing, and decode with it;
# - write attention with a mask that holds in half precision, and read an alignment;
# - score answers by error rate and BLEU, and say what the scores hide;
# - build multi-head self-attention, and tell whether a language model can see the future;
# - draw text from a language model with temperature and top-k.

# %% [markdown]
# ## How does a word become numbers?
#
# The data is the CMU Pronouncing Dictionary: English words and their *phonemes*, the sounds they are made of, in the
# notation ARPAbet. The digit of a vowel is its stress: 1 main, 2 second, 0 none. We take the words of plain letters
# with their first pronunciation, and hold 4,000 of them out: 2,000 to validate, 2,000 to test.

# %%
import inspect
import json
import math
import random
import textwrap
import time
from collections import Counter
from functools import cache

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from course_utils import datasets, seed_everything
from course_utils.checkpoints import trained
from course_utils.networks import Pronouncer, TransformerLM
from course_utils.plotting import heat_map, learning_curves

dictionary = datasets.pronunciations()
pairs = [(word, forms[0]) for word, forms in dictionary.items() if word.isascii() and word.isalpha()]
random.Random(0).shuffle(pairs)
test, valid, train = pairs[:2000], pairs[2000:4000], pairs[4000:]

print(len(train), "words to train on")
for word, phonemes in train[:4]:
    print(f"{word:12}", *phonemes)

# %% [markdown]
# A network takes numbers, so each symbol gets an *id*, its place in a **vocabulary**. Words of one batch are filled up
# to the same length with an id that stands for nothing, the *padding*. The phonemes need two more ids that are no
# sounds: `<sos>`, start of sequence, and `<eos>`, end of sequence. The decoder is told where to start, and must itself
# say where it ends.
#
# :::{admonition} Predict
# :class: tip
# There are 26 letters and 69 phonemes. How many ids does each vocabulary have?
# :::

# %%
PAD, SOS, EOS = 0, 1, 2
LETTERS = ["<pad>", *sorted({letter for word, _ in train for letter in word})]
PHONEMES = ["<pad>", "<sos>", "<eos>", *sorted({phoneme for _, form in train for phoneme in form})]
letter_id = {letter: number for number, letter in enumerate(LETTERS)}
phoneme_id = {phoneme: number for number, phoneme in enumerate(PHONEMES)}


def encode(pairs):
    """Words (batch, s) and their phonemes with <eos> (batch, t), both padded."""
    words = [torch.tensor([letter_id[letter] for letter in word]) for word, _ in pairs]
    targets = [torch.tensor([*(phoneme_id[phoneme] for phoneme in form), EOS]) for _, form in pairs]
    return pad_sequence(words, batch_first=True), pad_sequence(targets, batch_first=True)


print(len(LETTERS), "and", len(PHONEMES))
words, targets = encode([("cat", dictionary["cat"][0]), ("thought", dictionary["thought"][0])])
print(words)
print(targets)

# %% [markdown]
# 27 and 72. "thought" has four letters more than "cat", and yet both have three sounds: letters and sounds do not come
# in pairs. That is why the network cannot go letter by letter.
#
# :::{admonition} Myth: "One vocabulary's padding will do for both languages"
# :class: warning
# Programs often number each language separately, and then pad both with an id looked up in *one* of the two. Here
# the letters are numbered from 0 without a `<pad>` of their own, and padded with the phonemes' 0:
# :::

# %%
plain_letters = LETTERS[1:]  # "a" is 0, "b" is 1, ...
ids = [torch.tensor([plain_letters.index(letter) for letter in word]) for word in ("cat", "thought")]
padded = pad_sequence(ids, batch_first=True, padding_value=PAD)  # the phonemes' padding
for row in padded.tolist():
    print("".join(plain_letters[number] for number in row))

# %% [markdown]
# The network would read "cataaaa". An id means something only in its own vocabulary: reserve a place for padding in
# each, and look it up there.
#
# :::{important} To remember
# Each language has its own vocabulary, and its own padding in it.
# :::

# %% [markdown]
# ## What does an LSTM make of a sequence?
#
# An **embedding** is a layer that keeps a table, one vector for each id, and looks them up. `nn.LSTM` then goes along the
# sequence, step by step, with the gates that you saw in chapter 1. It returns two things: the output at *every* step,
# and the last state, a pair of h (which is the last output) and the cell c.
#
# :::{admonition} Predict
# :class: tip
# The words have shape (2, 7). Embedding: 5 features; state: 8 units. Which shapes do `outputs` and `h` have?
# :::

# %%
seed_everything(0)
embedding = nn.Embedding(len(LETTERS), 5, padding_idx=PAD)
lstm = nn.LSTM(5, 8, batch_first=True)
outputs, (h, c) = lstm(embedding(words))
print("outputs", outputs.shape, "h", h.shape)
print("h is the last output:", torch.equal(h[0], outputs[:, -1]))

# %% [markdown]
# `outputs` is (batch, time, units). `h` has the layers in front, (layers, batch, units), whatever `batch_first` says. A
# bidirectional LSTM is two of them, one from each end, with their outputs side by side.
#
# **What goes wrong in practice, first.** Without `batch_first=True` the first axis is taken for time. Nothing
# complains, and the LSTM reads columns in place of words: each letter of the second word goes on from the state that
# the letter above it, in the first word, has left:

# %%
changed = words.clone()
changed[0] = 20  # another first word; the second one stays
for batch_first in (False, True):
    layer = nn.LSTM(5, 8, batch_first=batch_first)
    same = torch.equal(layer(embedding(words))[0][1], layer(embedding(changed))[0][1])
    print(f"batch_first={batch_first!s:5} second word untouched by the first: {same}")

# %% [markdown]
# **What goes wrong in practice, second.** Padding is read like a letter. The state after "cat" in a batch with
# "thought" is the state after "cat" and four times nothing. For an LSTM that reads backwards, the four come *first*:

# %%
both_ways = nn.LSTM(5, 8, batch_first=True, bidirectional=True)
alone = both_ways(embedding(words[:1, :3]))[0]  # "cat" by itself: (1, 3, 16)
in_batch = both_ways(embedding(words))[0]  # with four steps of padding: (2, 7, 16)
difference = (alone[0] - in_batch[0, :3]).abs().amax(dim=1)
print("the outputs at c, a, t differ by", [round(number, 2) for number in difference.tolist()])

# %% [markdown]
# What the network thinks of "cat" depends on its neighbours in the batch. `pack_padded_sequence` tells the LSTM the true
# lengths, so that each word ends, or begins from the back, where it should:

# %%
lengths = (words != PAD).sum(dim=1)  # (batch,)
packed = nn.utils.rnn.pack_padded_sequence(embedding(words), lengths, batch_first=True, enforce_sorted=False)
in_batch, _ = nn.utils.rnn.pad_packed_sequence(both_ways(packed)[0], batch_first=True)
print("cat alone and in a batch:", torch.allclose(alone[0], in_batch[0, :3], atol=1e-6))

# %% [markdown]
# :::{important} To remember
# A result for one sequence must not depend on its neighbours in the batch. Test it: alone, and padded.
# :::

# %% [markdown]
# ## Which network reads letters and writes phonemes?
#
# An **encoder** reads the word, a **decoder** writes the answer, one phoneme at a time; the decoder starts from the
# encoder's last state. If that state were all it had, a word of any length would have to go through one vector. So the
# decoder may also look back at every letter. That is the attention; a later section takes it apart.
#
# The class is `course_utils.networks.Pronouncer`, the same here and in the script that trained it. It has these layers:

# %%
seed_everything(0)
model = Pronouncer(letters=len(LETTERS), phonemes=len(PHONEMES))
for name, layer in model.named_children():
    count = sum(parameter.numel() for parameter in layer.parameters())
    print(f"{name:9} {count:7}  {layer}")

# %% [markdown]
# The encoder is what you have just seen: embedding, packing, a bidirectional LSTM. It returns its output at each letter,
# which we call the *memory*; a mask that is true where there is a letter; and its last state, both directions side by
# side:


# %%
def show(method):
    """Print the source of a method."""
    print(textwrap.dedent(inspect.getsource(method)))


show(Pronouncer.encode)

# %% [markdown]
# The decoder is an LSTM over phonemes that starts in that state. From its output at each step come logits for the
# phoneme that comes next; the three lines in between are the attention.

# %%
show(Pronouncer.decode)

# %%
show(Pronouncer.forward)
some_phonemes = torch.full((2, 4), SOS)  # (batch, t); which ones it is given in training is the next question
logits = model(words, some_phonemes)
print(logits.shape)

# %% [markdown]
# Two words, four steps, 72 logits each.
#
# To *use* the network, take the likeliest phoneme, give it back as the next input, and go on until `<eos>` comes. This
# is **greedy decoding**, here for a whole batch at once; rows that have ended are cut afterwards.
#
# :::{admonition} Predict
# :class: tip
# The network has random weights. How long will its first answer be?
# :::


# %%
@torch.no_grad()
def pronounce(model, pairs, longest=25):
    """The phonemes that a network gives each word, as lists, without <eos>."""
    words, _ = encode(pairs)
    memory, mask, state = model.encode(words)
    ids = torch.full((len(words), 1), SOS)  # (batch, 1)
    answers = []
    for _ in range(longest):
        logits, _, state = model.decode(ids, memory, mask, state)  # (batch, 1, phonemes)
        ids = logits.argmax(dim=-1)
        answers.append(ids)
    answers = torch.cat(answers, dim=1).tolist()
    return [[PHONEMES[i] for i in row[: row.index(EOS) if EOS in row else longest]] for row in answers]


print(*pronounce(model, test[:1])[0])

# %% [markdown]
# 25 phonemes, which is where we stop it. Only training teaches a decoder to say `<eos>`, so every decoding loop needs a
# limit.
#
# :::{important} To remember
# The encoder reads the whole word first. The decoder writes step by step, and is given what it has just said.
# :::
#
# *Exercise:* `greedy_decode`.

# %% [markdown]
# ## Why must the targets be shifted?
#
# In training we know the right answer, and need not wait for the network's own. At each step the decoder is given the
# *right* phoneme of the step before, whatever it would have said itself, and all steps are computed in one call. This is
# **teacher forcing**.
#
# :::{admonition} Predict
# :class: tip
# A program gives the decoder `<sos> K AE1 T <eos>` as inputs, and the very same row as targets. Does its loss fall? What
# does the network say in the end?
# :::
#
# We train three small networks for a few seconds. One gets inputs and targets that are the same. One is from a program
# that many notes repeat: its targets begin with `<sos>`, so at its first step it is to predict `<sos>` from `<sos>`. For
# the last one, the input of each step is the target of the step *before*, and `<sos>` is never a target.

# %% tags=["nbval-ignore-output"]
small_batches = [encode(train[i : i + 64]) for i in range(0, 64 * 60, 64)]


def quick_training(inputs_and_targets):
    """A small network, trained for two passes over 60 batches; its last loss."""
    seed_everything(0)
    model = Pronouncer(len(LETTERS), len(PHONEMES), width=64)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for words, targets in small_batches * 2:
        inputs, wanted = inputs_and_targets(targets)
        logits = model(words, inputs)  # (batch, t, phonemes)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model, loss.item()


def with_sos(targets):
    return F.pad(targets, (1, 0), value=SOS)  # one more in front, none behind: (batch, 1 + t)


def not_shifted(targets):
    return with_sos(targets), with_sos(targets)


def sos_from_sos(targets):
    return with_sos(with_sos(targets))[:, :-1], with_sos(targets)


def shifted(targets):
    return with_sos(targets)[:, :-1], targets  # inputs end one step before the targets do


said, losses = {}, {}
for way in (not_shifted, sos_from_sos, shifted):
    small_model, losses[way] = quick_training(way)
    said[way] = pronounce(small_model, test[:1])[0][:7]
    print(f"{way.__name__:13} loss {losses[way]:.2f}, of '{test[0][0]}' it says", *said[way])
assert losses[not_shifted] < 0.1 < 0.3 < losses[shifted]
assert said[not_shifted] == ["<sos>"] * 7
assert said[sos_from_sos][0] == "<sos>" and "<sos>" not in said[shifted]

# %% [markdown]
# :::{admonition} Myth: "The loss is almost 0, so the network has learnt the language"
# :class: warning
# The first network has learnt to copy. Given `<sos>` it was to predict `<sos>`, given K to predict K: the answer lay in
# the input. Decoding begins with `<sos>`, the network repeats it, is given its own `<sos>` back, and so on for ever.
# :::
#
# The second network learns, but every answer begins with `<sos>`, and its loss is a mean with one step in it that is
# always right. Only the third says a word and nothing else. This is how it was trained:
#
# | step | 0 | 1 | 2 | 3 |
# |---|---|---|---|---|
# | input | `<sos>` | K | AE1 | T |
# | target | K | AE1 | T | `<eos>` |
#
# The last target is never an input, and `<sos>` is never a target. Write the two rows one above the other whenever you
# train a decoder.
#
# Teacher forcing has a price: the network never practises going on after a mistake of its own. When it decodes it must.
# So measure what it *says*, not its loss alone.
#
# :::{important} To remember
# The decoder's input is the target, one step late. A loss near 0 after a minute is a bug until proven otherwise.
# :::
#
# *Exercises:* `shift_right`, `teacher_forced_loss`.

# %% [markdown]
# ## What does padding do to the loss?
#
# In the loop above stood `ignore_index=PAD`. Without it, the mean runs over padding too.
#
# :::{admonition} Predict
# :class: tip
# What share of the targets in a random batch of 256 words is padding: 5 %, 20 % or 50 %?
# :::

# %%
words, targets = encode(train[:256])
real = targets != PAD  # (batch, t)
print(f"targets {tuple(targets.shape)}, padding {1 - real.float().mean():.0%}")

lazy = torch.zeros(*targets.shape, len(PHONEMES))  # logits (batch, t, phonemes) of a network that knows one word:
lazy[..., PAD] = 8.0  # nothing
print(f"accuracy, padding counted {(lazy.argmax(-1) == targets).float().mean():.2f}, ", end="")
print(f"on phonemes {(lazy.argmax(-1) == targets)[real].float().mean():.2f}")
counted = F.cross_entropy(lazy.flatten(0, 1), targets.flatten())
honest = F.cross_entropy(lazy.flatten(0, 1), targets.flatten(), ignore_index=PAD)
print(f"loss, padding counted {counted:.2f}, on phonemes {honest:.2f}")

# %% [markdown]
# About half, since one long word stretches them all. A network that knows no word at all is "right" half of the time,
# and its loss is halved. Worse, the number depends on the longest word of the batch, so two losses cannot be compared.
# And the network is trained, half of the time, to say nothing.
#
# `ignore_index` leaves padding out of the sum *and* out of the count. Both matter: zeroing the losses of padding and
# then taking the mean still divides by all. `F.cross_entropy` wants the classes on axis 1, (n, classes): hence
# `flatten(0, 1)`. Its other form takes (batch, classes, time), which is `logits.mT`, and never `reshape`.
#
# :::{important} To remember
# Sum over what is real, divide by how much is real.
# :::
#
# *Exercise:* `sequence_loss`.

# %% [markdown]
# ## How does the decoder look back?
#
# At each step, the decoder's output is a *query*. It is compared with the memory at each letter (the *keys*), the
# softmax of the scores gives weights, and the weighted mean of the memory (the *values*; the mean is called the
# *context*) joins the decoder's own output. This is chapter 1's attention, with the queries from one sequence and the
# keys and values from another:


# %%
def attend(q, k, v, mask=None):
    """q (..., t, d), k (..., s, d), v (..., s, e), mask true = may attend: values (..., t, e), weights (..., t, s)."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights


seed_everything(0)
q, k, v = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 6)  # (batch, time, features)
mask = torch.arange(5) < torch.tensor([[[3]], [[5]]])  # (batch, 1, s): the first sequence has two steps of padding
values, weights = attend(q, k, v, mask)
print(values.shape, weights.shape)
print(weights[0].sum(dim=-1), weights[0, :, 3:].abs().max())

# %% [markdown]
# Every row of weights adds up to 1, and padding has weight 0 exactly: e to the power of −∞ is 0. PyTorch's own function
# gives the same values. It returns no weights, because its fast forms never hold them all: on a GPU they work through
# the keys block by block, so that the (t, s) table need not fit into memory.

# %%
theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
print("as PyTorch's:", torch.allclose(values, theirs, atol=1e-6))

# %% [markdown]
# **What goes wrong in practice.** Forget the mask, and padding takes part: the same word in another batch gets another
# answer. Nothing fails; the results are a little worse, and nobody knows why.

# %%
unmasked, _ = attend(q, k, v)
print(f"values with and without the mask differ by up to {(unmasked - values)[0].abs().max():.2f}")

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# Many programs write −9e15 in place of −∞. In `float32` this gives the same weights. What does it give in `float16`?
# :::
#
# :::{admonition} Myth: "−9e15 is as good as minus infinity"
# :class: warning
# The smallest number of `float16` is −65,504.
# :::

# %% tags=["raises-exception"]
scores = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float16)  # (queries, keys)
mask = torch.tensor([[True, False, True]])
scores.masked_fill(~mask, -9e15)

# %%
print(scores.masked_fill(~mask, -torch.inf).softmax(dim=-1))

# %% [markdown]
# −∞ exists in every float dtype. But it has a trap of its own: a query that may attend *nowhere*, such as one in a
# sequence that is all padding.

# %%
nowhere = torch.tensor([[True, False, True], [False, False, False]])
scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
print(scores.masked_fill(~nowhere, -torch.inf).softmax(dim=-1))
print(scores.masked_fill(~nowhere, -9e15).softmax(dim=-1))

# %% [markdown]
# With −∞ the row is 0/0, `nan`, and one `nan` in the loss ends the training. With −9e15 it is worse: the query attends
# evenly to everything it must not see, and nothing shows. What the row should be is zeros: the query finds nothing.
# Since masked weights are 0 or `nan`, fill them with 0 *after* the softmax, by `masked_fill` once more. Filling also
# keeps `nan` out of the gradients, where adding −∞ lets it through:

# %%
for way in ("added", "filled"):
    scores = torch.ones(2, 3, requires_grad=True)
    hidden = torch.zeros(2, 3).masked_fill(~nowhere, -torch.inf)
    masked = scores + hidden if way == "added" else scores.masked_fill(~nowhere, -torch.inf)
    weights = masked.softmax(dim=-1).masked_fill(~nowhere, 0)
    (weights * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    print(f"−∞ {way:6}: weights {weights[1].tolist()}, gradient {scores.grad[1].tolist()}")

# %% [markdown]
# :::{important} To remember
# Fill scores with −∞ before the softmax, and weights with 0 after it. (`Pronouncer` does without the second: no word is
# empty.)
# :::
#
# *Exercise:* `scaled_dot_product`.

# %% [markdown]
# ## Does it learn?
#
# Now the network of full size, on real batches, for less than a minute: teacher forcing, shifted targets, padding
# ignored. Words of similar length go into one batch, which keeps padding, and so work, small.
#
# :::{admonition} Predict
# :class: tip
# Before it has learnt anything, a network spreads its guess over 72 ids. What is its loss, roughly?
# :::

# %% tags=["nbval-ignore-output"]
seed_everything(0)
model = Pronouncer(len(LETTERS), len(PHONEMES))
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
by_length = sorted(train[: 128 * 120], key=lambda pair: len(pair[0]))
batches = [encode(by_length[i : i + 128]) for i in range(0, len(by_length), 128)]
random.Random(0).shuffle(batches)

losses, start = [], time.time()
for words, targets in batches:
    inputs, wanted = shifted(targets)
    logits = model(words, inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    losses.append(loss.item())
print(f"{len(batches)} batches in {time.time() - start:.0f} s: loss from {losses[0]:.2f} to {losses[-1]:.2f}")
for (word, _), answer in zip(test[:4], pronounce(model, test[:4]), strict=True):
    print(f"{word:12}", *answer)
assert losses[-1] < 1.2 < 4 < losses[0]

# %% [markdown]
# It falls from about 4.3, which is log 72, the loss of a guess among all ids, to about 1 within 15,000 words. The answers
# begin to have the right consonants.
#
# A good network takes longer: 12 passes over all words, about eight minutes on one core. The script
# `training/pronunciation.py` does that with this class and this split, and its weights come with the course. **From here
# on we use those weights.** The file also keeps what happened in each epoch:

# %% mystnb={"figure": {"caption": "The training of the shipped weights. The loss is that of teacher forcing, on training words; the error rate is that of what the network says by itself, on words held out.", "name": "fig-attention-training"}, "image": {"alt": "Two falling curves over 12 epochs: the loss from 1.5 to 0.1, the error rate on validation words from 0.20 to 0.10."}}
with safe_open(trained("pronunciation"), framework="pt") as file:
    history = json.loads(file.metadata()["history"])
model.load_state_dict(load_file(trained("pronunciation")))
model.eval()
learning_curves(
    {"training loss": history["loss"], "validation phoneme error rate": history["error rate"]},
    ylabel="loss, error rate",
    alt="Two falling curves over 12 epochs: the loss from 1.5 to 0.1, the error rate on validation words from 0.20 to 0.10.",
)

# %% [markdown]
# The loss goes on falling while the error rate comes to rest at 0.10: more and more, the network learns the training
# words by heart. How an error rate is computed is the next question.

# %% [markdown]
# ## How wrong is an answer?
#
# These are words that the network has never seen:

# %%
answers = pronounce(model, test)
for (word, form), answer in zip(test[1:9], answers[1:9], strict=True):
    print(f"{word:12} {' '.join(form):32} {' '.join(answer):34} {'right' if answer == list(form) else ''}")

# %% [markdown]
# Some are right, some nearly. Counting only words that are right would be unjust, and counting place by place is worse:
# after one missing sound, everything behind it is "wrong". The **edit distance** is the least number of symbols to
# insert, delete or replace. Its definition is a recursion: take the first symbol of a away, or put the first one of b in
# front, or deal with both at once.
#
# :::{admonition} Predict
# :class: tip
# How many edits lead from "sunday" to "saturday"?
# :::


# %%
@cache
def edits(a, b):
    """The edit distance between two tuples."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


print(edits(tuple("sunday"), tuple("saturday")))

# %% mystnb={"figure": {"caption": "All the distances that the recursion needs: entry (i, j) is the distance from the first i letters of *sunday* to the first j of *saturday*. The answer stands in the last corner.", "name": "fig-attention-edits"}, "image": {"alt": "A 7 by 9 table of distances. The first row counts 0 to 8, the first column 0 to 6; the last corner is 3."}}
table = torch.tensor([[edits(tuple("sunday"[:i]), tuple("saturday"[:j])) for j in range(9)] for i in range(7)])
heat_map(
    table,
    labels=(["", *"sunday"], ["", *"saturday"]),
    alt="A 7 by 9 table of distances. The first row counts 0 to 8, the first column 0 to 6; the last corner is 3.",
)

# %% [markdown]
# Three: insert a and t, replace n by r. Without `@cache` the recursion would compute the same entries again and again;
# a loop that fills the table row by row needs each once, and that is how it is usually written.
#
# The **phoneme error rate** adds the distances over all words, and divides by the number of phonemes that should have
# been said.

# %%
distances = [edits(tuple(answer), form) for answer, (_, form) in zip(answers, test, strict=True)]
rate = sum(distances) / sum(len(form) for _, form in test)
right = distances.count(0) / len(test)
print(f"phoneme error rate {rate:.2f}, words wholly right {right:.2f}")

# %% [markdown]
# One phoneme in ten is wrong, and yet more than a third of the words have a mistake: a word has about six phonemes, and
# all of them must be right. Both numbers are true; always say which one you give. One thing makes the task easier than it
# sounds: the dictionary holds many relatives (*adore* may have been trained on where *adores* is tested). One makes it
# harder: many of the words are surnames, whose owners do as they like.
#
# **What goes wrong in practice.** The rate has the *target's* length below the line. Divide by the prediction's, and a
# network that chatters is forgiven.
#
# :::{important} To remember
# Add up the edits, divide by the length of what was wanted.
# :::
#
# *Exercise:* `error_rate`.

# %% [markdown]
# ## What does BLEU measure?
#
# Translations are scored by BLEU, *bilingual evaluation understudy*, because there are many right ones and the order of
# words may differ. It asks how many **n-grams** (runs of n symbols) of the prediction stand in the target.
#
# :::{admonition} Myth: "The score is called BLUE"
# :class: warning
# It is spelt BLEU, which is French for blue. And there is no *the* BLEU: it depends on how words are cut into symbols and
# on how short sentences are treated. Compare only scores that one program has computed.
# :::
#
# :::{admonition} Predict
# :class: tip
# The prediction is `the the the the`, the target is `the cat is on the mat`. How many of the four 1-grams should count
# as found?
# :::


# %%
def ngrams(symbols, n):
    return Counter(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))


prediction, target = ["the", "the", "the", "the"], ["the", "cat", "is", "on", "the", "mat"]
print("in the target:", sum(symbol in target for symbol in prediction), "of 4")
print("each as often as there:", (ngrams(prediction, 1) & ngrams(target, 1)).total(), "of 4")

# %% [markdown]
# Two: each n-gram is found only as often as it stands in the target (*clipping*; `&` of two `Counter`s keeps the smaller
# count). For n = 1 to 4, count found and all n-grams over the *whole* test set, divide, and take the geometric mean of
# the four precisions:


# %%
def precisions(predictions):
    """The share of n-grams that are found in the target, for n = 1 to 4, over the whole test set."""
    shares = []
    for n in range(1, 5):
        both = zip(predictions, test, strict=True)
        found = sum((ngrams(ours, n) & ngrams(form, n)).total() for ours, (_, form) in both)
        shares.append(found / sum(ngrams(ours, n).total() for ours in predictions))
    return shares


print("precisions", [round(share, 2) for share in precisions(answers)])
print(f"geometric mean {math.prod(precisions(answers)) ** (1 / 4):.2f}")

# %% [markdown]
# **What goes wrong in practice.** Precision asks only what was said, not what was left out. A network that says just
# the sounds it is sure of would win. Here each answer is cut to its first four phonemes:

# %%
wanted = sum(len(form) for _, form in test)
for name, predictions in {"whole": answers, "cut": [ours[:4] for ours in answers]}.items():
    mean = math.prod(precisions(predictions)) ** (1 / 4)
    penalty = min(1.0, math.exp(1 - wanted / sum(map(len, predictions))))
    print(f"{name:5} precision {mean:.2f}, brevity penalty {penalty:.2f}, BLEU {mean * penalty:.2f}")

# %% [markdown]
# The cut answers have no lower precision. The **brevity penalty**, $e^{1 - r/c}$ where the predictions have c symbols
# and the targets r, and 1 where they are long enough, puts that right.
#
# BLEU was made for sentences. For our words of about six phonemes, four in a row is nearly the whole word, so BLEU is
# stricter than the error rate. As here, look at two scores that can disagree.
#
# :::{important} To remember
# BLEU: clipped n-gram precision, geometric mean of four, times a penalty for saying too little.
# :::
#
# *Exercise:* `bleu`.

# %% [markdown]
# ## Which letter does each phoneme come from?
#
# `decode` also returns the weights of the attention. For each phoneme that the network says, they tell where it was
# looking: an **alignment**. Nobody has told the network which letters belong to which sound.
#
# :::{admonition} Predict
# :class: tip
# In *rethought*, R IY0 TH AO1 T: where does the network look for TH, and where for AO1?
# :::


# %%
@torch.no_grad()
def alignment(word):
    """What the network says of a word, and its weights (phonemes, letters)."""
    said = pronounce(model, [(word, ())])[0]
    words, targets = encode([(word, said)])
    _, weights, _ = model.decode(with_sos(targets)[:, :-1], *model.encode(words))
    return [*said, "<eos>"], weights[0]


# %% mystnb={"figure": {"caption": "Attention while saying *rethought*, a word that was held out. Each row is a phoneme, each column a letter; a row adds up to 1.", "name": "fig-attention-alignment"}, "image": {"alt": "A staircase of bright cells: R at r, IY0 at e, TH at the first t, AO1 at o, T and the end at the last t."}}
said, weights = alignment("rethought")
print(*said)
heat_map(
    weights,
    labels=(said, list("rethought")),
    alt="A staircase of bright cells: R at r, IY0 at e, TH at the first t, AO1 at o, T and the end at the last t.",
)

# %% mystnb={"figure": {"caption": "Attention while saying *physiological*, also held out: *ph* becomes one sound.", "name": "fig-attention-alignment-2"}, "image": {"alt": "A staircase of bright cells: F looks at p and a little at h, each next phoneme at a letter further right, until the last two sounds share the final l."}}
said, weights = alignment("physiological")
print(*said)
heat_map(
    weights,
    labels=(said, list("physiological")),
    alt="A staircase of bright cells: F looks at p and a little at h, each next phoneme at a letter further right, until "
    "the last two sounds share the final l.",
)

# %% [markdown]
# The staircase runs from upper left to lower right: word and pronunciation go in the same order, and the network has
# found that out. In *rethought* it steps over the silent letters, from o to the last t. F looks at p and a little at h.
#
# Read such pictures with care. TH needs the letters t *and* h, yet nearly all its weight lies on t. The memory at t was
# made by an LSTM that had read the whole word, from both sides, so it knows of the h already. A weight says where
# something was *picked up*, not where it came from.
#
# :::{important} To remember
# Attention weights show where a network looks. They do not explain why it says what it says.
# :::

# %% [markdown]
# ## Can one do without the recurrence?
#
# The decoder asks the encoder's sequence. A sequence can also ask *itself*: every position has a query, a key and a
# value, and looks at all others at once. This is **self-attention**. There is no loop over time left, so all positions
# are computed in parallel. That is the idea of the Transformer.
#
# :::{admonition} Predict
# :class: tip
# Shuffle the positions of a sequence before self-attention, and put the results back in order afterwards. How do they
# differ from the results without shuffling?
# :::

# %%
seed_everything(0)
x = torch.randn(6, 8)  # (time, features)
order = torch.randperm(6)
values, _ = attend(x, x, x)
shuffled, _ = attend(x[order], x[order], x[order])
print("not at all:", torch.allclose(shuffled, values[order], atol=1e-6))

# %% [markdown]
# Attention sees a *set*. To it, "dog bites man" is "man bites dog". So the position is added to each input vector, as a
# row of sines and cosines of many wavelengths. Even columns are sines, odd ones cosines of the same angle, and the waves
# become longer from left to right. This is such a table with 32 columns, whose longest wave is about 2π · 5,600 positions;
# the network that comes below has one with 128:

# %% mystnb={"figure": {"caption": "Positional encodings: one row per position, 32 columns. Left, the fast waves tell neighbours apart; right, the slow ones tell near from far.", "name": "fig-attention-positions"}, "image": {"alt": "A 40 by 32 picture: quick stripes down the left columns, ever slower waves to the right."}}
language_model = TransformerLM(vocabulary=1024, width=32)
positions = language_model.positions[:40]  # (positions, width)
heat_map(positions, alt="A 40 by 32 picture: quick stripes down the left columns, ever slower waves to the right.")

# %%
values, _ = attend(*[x + positions[:6, :8]] * 3)
shuffled, _ = attend(*[x[order] + positions[:6, :8]] * 3)
print("still not at all:", torch.allclose(shuffled, values[order], atol=1e-6))

# %% [markdown]
# Now the order matters.
#
# One softmax gives each position one weighted mean over all positions. To look at several things at once, **multi-head
# attention** cuts the features into equal runs, one for each head, lets every head attend on its own, and puts the
# results side by side. The shapes are all there is to it:
#
# | step | shape |
# |---|---|
# | x, and queries, keys, values made from it by linear layers | (batch, time, dim) |
# | cut into heads | (batch, time, heads, dim / heads) |
# | heads beside the batch | (batch, heads, time, dim / heads) |
# | weights | (batch, heads, time, time) |
# | put together again, one more linear layer | (batch, time, dim) |
#
# **What goes wrong in practice.** The cut must be `reshape` to (batch, time, heads, …) and *then* `transpose`; a
# reshape straight to (batch, heads, time, …) mixes positions. And PyTorch speaks two languages about masks:

# %%
layer = nn.MultiheadAttention(embed_dim=8, num_heads=2, batch_first=True)
may_attend = torch.ones(6, 6, dtype=torch.bool).tril()  # each position sees itself and what came before
batch = x[None]  # (batch, time, features)
_, weights = layer(batch, batch, batch, attn_mask=may_attend)
print("true = may attend: position 4 looks at", weights[0, 4].nonzero()[:, 0].tolist())
_, weights = layer(batch, batch, batch, attn_mask=~may_attend)
print("true = forbidden:  position 4 looks at", weights[0, 4].nonzero()[:, 0].tolist())

# %% [markdown]
# In `nn.MultiheadAttention`, and in all of `nn.Transformer…`, a true entry *forbids*; in
# `F.scaled_dot_product_attention` and in this book it permits. With the wrong one, position 4 sees only the future, and
# the last position, which then may attend nowhere, becomes `nan`.
#
# :::{important} To remember
# Attention has no order of its own: add positions. And ask of each mask what true means.
# :::
#
# *Exercises:* `positional_encoding`, `MultiHeadAttention`.

# %% [markdown]
# ## How does a language model learn from a text?
#
# A language model predicts the next token from those before it. Every text is its own teacher: the targets are the text,
# one token later. The text is 233 State of the Union addresses, 1790 to 2021.
#
# *Tokens* are pieces of text. Single letters make long sequences; whole words make a huge vocabulary that still lacks the
# next new word. **Byte-pair encoding** lies between: it begins with single bytes, and joins the commonest pair of
# neighbours into a new token, again and again, here until there are 1,024. (More in chapter 8.) The tokenizer comes with the
# shipped weights:

# %%
with safe_open(trained("speeches"), framework="pt") as file:
    metadata = file.metadata()
tokenizer = Tokenizer.from_str(metadata["tokenizer"])

ids = tokenizer.encode("My fellow citizens, the economy is strong.").ids
print([tokenizer.decode([number]) for number in ids])
print(tokenizer.decode(ids))

# %% [markdown]
# Cut the ids of a text into pieces of equal length, and give each piece its targets, the same piece one token later:

# %%
speeches = datasets.speeches()
text = torch.tensor(tokenizer.encode(speeches[0].text).ids)  # (tokens,)
inputs, targets = text[:8], text[1:9]
for given, wanted in zip(inputs.tolist(), targets.tolist(), strict=True):
    print(f"{tokenizer.decode([given])!r:12} → {tokenizer.decode([wanted])!r}")

# %% [markdown]
# All 8 predictions are made in one call, and each position may use only what stands before it. Otherwise the answer
# lies in the input once more: position i would look at position i + 1. The mask that forbids it is **causal**, a lower
# triangle. To check a model for this leak, change the last token: no earlier prediction may move.
#
# :::{admonition} Predict
# :class: tip
# `nn.TransformerEncoderLayer` is a Transformer block. Called without a mask, does it pass this test?
# :::

# %%
seed_everything(0)
block = nn.TransformerEncoderLayer(32, nhead=4, batch_first=True).eval()
table = nn.Embedding(1024, 32)
other = inputs.clone()
other[-1] = 99  # another last token


def moved(model):
    """How many of the first 7 positions change when the last token does."""
    change = (model(table(inputs)[None]) - model(table(other)[None])).abs().amax(dim=-1)[0, :-1]
    return int((change > 1e-6).sum())


causal = nn.Transformer.generate_square_subsequent_mask(8)
print("without a mask:", moved(block), "of 7 see the future")
print("with a mask:   ", moved(lambda x: block(x, src_mask=causal)), "of 7")

# %% [markdown]
# It does not pass: without a mask, all 7 positions see the future. (The mask here holds numbers, 0 for "may attend" and
# −∞ for "may not", which are added to the scores: a third way to write one.)
#
# Our model is `course_utils.networks.TransformerLM`: embeddings with positions added, three blocks, and logits. A block
# is masked self-attention and then two linear layers at each position, with a GELU, a smooth ReLU, between them. The
# input is *added* to what each of them gives, as in chapter 4's residual block, and a `LayerNorm` stands before each.

# %%
from course_utils.networks import TransformerBlock

show(TransformerLM.forward)
show(TransformerBlock.__init__)
show(TransformerBlock.forward)
show(TransformerBlock.attend)

# %% [markdown]
# `is_causal=True` is the lower triangle, without making it. Pieces of one text need no padding; where texts are padded, a
# mask for the padding joins the triangle by `&`. Some seconds of training:

# %% tags=["nbval-ignore-output"]
seed_everything(0)
language_model = TransformerLM(vocabulary=1024)
optimiser = torch.optim.AdamW(language_model.parameters(), lr=3e-3)
text = torch.tensor(tokenizer.encode("\n".join(speech.text for speech in speeches[180:190])).ids)
losses = []
for _ in range(30):
    first = torch.randint(len(text) - 128, (16, 1))  # (batch, 1): where each piece begins
    pieces = text[first + torch.arange(129)]  # (batch, 129)
    logits = language_model(pieces[:, :-1])  # (batch, 128, vocabulary)
    loss = F.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
print(f"loss from {losses[0]:.2f} to {losses[-1]:.2f}; a guess among 1,024 tokens has {math.log(1024):.2f}")
assert losses[-1] < 6.3 and losses[0] > 6.8

# %% [markdown]
# At first it is worse than a guess: with the same vectors going in and coming out, it bets on the token that it has
# just been given. Then it learns which tokens are common. For text worth reading, `training/speeches.py` trained this
# class for about six minutes on one core, on all speeches but those of the last two presidents, which were held out.
# **From here on we use those weights.**

# %% mystnb={"figure": {"caption": "The training of the shipped language model: the loss per token, every 200 steps.", "name": "fig-attention-language-model"}, "image": {"alt": "Two falling curves: the training loss from 5.8 to 3.1, the loss on held-out speeches from 4.8 to 3.7."}}
history = json.loads(metadata["history"])
language_model.load_state_dict(load_file(trained("speeches")))
language_model.eval()
learning_curves(
    {"training": history["loss"], "held-out speeches": history["validation loss"]},
    ylabel="loss per token",
    xlabel="steps / 200",
    alt="Two falling curves: the training loss from 5.8 to 3.1, the loss on held-out speeches from 4.8 to 3.7.",
)

# %%
print(f"perplexity {math.exp(history['validation loss'][-1]):.0f}")

# %% [markdown]
# The exponential of the loss is the **perplexity**: on average the model is as unsure as if it had to guess among so many
# tokens, out of 1,024. Compare perplexities only between models with the same tokenizer: longer tokens are fewer, and
# each of them is harder.
#
# :::{important} To remember
# A language model's targets are its inputs, one token later; its mask hides what is later. Change the last token to check.
# :::
#
# *Exercises:* `causal_mask`, `decoder_mask`, `next_token_pairs`.

# %% [markdown]
# ## How is text drawn from a model?
#
# Predict the next token, append it, and ask again. The likeliest token each time is the obvious choice.
#
# :::{admonition} Predict
# :class: tip
# The likeliest next token, 60 times in a row: what kind of text comes out?
# :::


# %%
@torch.no_grad()
def write(model, prompt, count, choose):
    """The prompt, continued by `count` tokens, each chosen from its logits (1, vocabulary)."""
    ids = tokenizer.encode(prompt).ids
    for _ in range(count):
        logits = model(torch.tensor([ids[-model.context :]]))[:, -1]  # (1, vocabulary)
        ids.append(int(choose(logits)))
    return tokenizer.decode(ids)


# %% tags=["nbval-ignore-output"]
likeliest = write(language_model, "My fellow citizens,", 60, lambda logits: logits.argmax())
print(textwrap.fill(likeliest, 100))
assert len(set(likeliest.split()[-20:])) < 10

# %% [markdown]
# It goes round in circles: once a phrase has come twice, it is the likeliest continuation of itself.
#
# So draw at random, with the probabilities that the model gives. Two numbers steer it. The **temperature** divides the
# logits before the softmax: below 1 it favours the likely tokens, above 1 it evens out. **Top-k** keeps only the k
# largest, because a thousand unlikely tokens together are not unlikely.

# %% mystnb={"figure": {"caption": "The ten likeliest tokens after *Congress should*, at three temperatures.", "name": "fig-attention-temperature"}, "image": {"alt": "Three rows of ten probabilities. The first token, be, has nearly all at 0.5, most at 1, and little at 2."}}
with torch.no_grad():
    logits = language_model(torch.tensor([tokenizer.encode("Congress should").ids]))[0, -1]  # (vocabulary,)
best = logits.topk(10).indices
temperatures = [0.5, 1.0, 2.0]
heat_map(
    torch.stack([(logits / temperature).softmax(dim=0)[best] for temperature in temperatures]),
    labels=([str(temperature) for temperature in temperatures], [tokenizer.decode([i]) for i in best.tolist()]),
    alt="Three rows of ten probabilities. The first token, be, has nearly all at 0.5, most at 1, and little at 2.",
)

# %%
generator = torch.Generator().manual_seed(0)


def draw(temperature, k):
    """A choice among the k largest logits (1, vocabulary)."""

    def choose(logits):
        largest = logits[0].topk(k)
        probabilities = (largest.values / temperature).softmax(dim=0)
        return largest.indices[torch.multinomial(probabilities, 1, generator=generator)]

    return choose


# %% tags=["nbval-ignore-output"]
for temperature, k in ((0.7, 20), (1.0, 1024), (1.8, 1024)):
    print(f"temperature {temperature}, k = {k}")
    print(textwrap.fill(write(language_model, "My fellow citizens,", 100, draw(temperature, k)), 100), end="\n\n")

# %% [markdown]
# The first text has the tone of a State of the Union address and holds together for half a line. Drawn from all tokens,
# more of them go astray, and a wrong token leads to more: the model must go on from what it has said. At temperature 1.8
# words fall apart. No setting makes the model know more: this one has 726,144 parameters, and has read ten million
# characters once.
#
# **What goes wrong in practice.** `torch.multinomial` draws from the generator that all code shares, unless you pass one.
# Then a sample cannot be repeated, and every sample changes what is drawn after it. Give sampling a generator of its own.
#
# :::{important} To remember
# Greedy repeats itself. Draw: divide by the temperature, keep the k largest, use a generator of its own.
# :::
#
# *Exercise:* `sample_top_k`.

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | ids | one vocabulary per language, each with its own padding |
# | sequences of unequal length | pad, keep a mask; `pack_padded_sequence` for an LSTM |
# | `nn.LSTM` | `batch_first=True`; outputs of all steps, and the last state |
# | teacher forcing | inputs are the targets one step late: `<sos>` in front, the last one gone |
# | loss | sum over what is real, divide by how much is real: `ignore_index` |
# | attention | softmax(QKᵀ/√d) V; −∞ before the softmax, 0 after it |
# | mask | true = may attend, but forbids in `nn.MultiheadAttention` and `nn.Transformer…` |
# | self-attention | sees no order: add positions |
# | language model | causal mask; change the last token to find a leak |
# | error rate, BLEU | edits over target length; clipped n-grams with a brevity penalty |
# | decoding | greedy for one right answer, drawn with temperature and top-k for text |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/07_attention.ipynb`. Then chapter 8 takes up models of the same kind,
# larger by far, with far more text behind them.
#
# ## Sources
#
# - PyTorch documentation: [`nn.LSTM`](https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html),
#   [`pack_padded_sequence`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html),
#   [`F.cross_entropy`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html),
#   [`F.scaled_dot_product_attention`](https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html),
#   [`nn.MultiheadAttention`](https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html).
# - I. Sutskever, O. Vinyals, Q. V. Le, [Sequence to sequence learning with neural networks](https://arxiv.org/abs/1409.3215),
#   2014. The encoder-decoder.
# - D. Bahdanau, K. Cho, Y. Bengio, [Neural machine translation by jointly learning to align and
#   translate](https://arxiv.org/abs/1409.0473), 2014. Attention, and its alignments.
# - M.-T. Luong, H. Pham, C. D. Manning, [Effective approaches to attention-based neural machine
#   translation](https://arxiv.org/abs/1508.04025), 2015. The form of attention that `Pronouncer` has.
# - A. Vaswani et al., [Attention is all you need](https://arxiv.org/abs/1706.03762), 2017. The Transformer, and the sines.
# - K. Papineni, S. Roukos, T. Ward, W.-J. Zhu, [BLEU: a method for automatic evaluation of machine
#   translation](https://aclanthology.org/P02-1040/), 2002. The example with *the the the* is theirs.
# - M. Post, [A call for clarity in reporting BLEU scores](https://arxiv.org/abs/1804.08771), 2018.
# - R. Sennrich, B. Haddow, A. Birch, [Neural machine translation of rare words with subword
#   units](https://arxiv.org/abs/1508.07909), 2016. Byte pairs.
# - S. Jain, B. C. Wallace, [Attention is not explanation](https://arxiv.org/abs/1902.10186), 2019.
