# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Hugging Face

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
# Few people train a language model from nothing. They take one that somebody has trained, and use it as it is, or train
# it a little further on their own data, which is called *fine-tuning*. The library `transformers` of Hugging Face makes
# this a matter of a few lines. You will run these lines first, and then take them apart, so that you know what each
# part takes and returns, and can tell which part is at fault when the result is wrong.
#
# ## Before you start
#
# You need tensors and broadcasting (chapter 1), data sets and collate functions (chapter 3), modules and their
# `state_dict` (chapter 4), the training loop (chapter 5), and attention with its masks (chapter 7).
#
# Two pretrained models come with the course, so this chapter runs without a network. `hub.local(name)` gives the folder
# of such a copy, or the name itself where there is none: either is what the library takes. What needs the Hub, Hugging
# Face's server of models and data sets, says so, and runs when you are online.
#
# ## Objectives and time
#
# Reading and running takes about three hours, the exercises about two and a half more. Afterwards you can
#
# - run a pretrained model by a pipeline, and by tokenizer, model and post-processing;
# - batch sentences of different length without changing the answers;
# - search texts by meaning;
# - say which weights of a loaded model were loaded, and which are new;
# - fine-tune a classifier by hand and with `Trainer`, and read what either reports;
# - let a language model continue a text, and measure how much a text surprises it;
# - save a model, pin a version, write a model card, and work offline or through a mirror.

# %% [markdown]
# ## What can three lines do?
#
# A *pipeline* takes plain text and gives a plain answer. You name the task and the model. This model, SmolLM2, was
# trained on a great deal of text, most of it from the web, and has learnt to continue texts.
#
# :::{admonition} Predict
# :class: tip
# The pipeline is to continue four beginnings. How many of the continuations will be true?
# :::

# %%
import torch
import transformers
from transformers import pipeline

from course_utils import datasets, device, hub, seed_everything
from course_utils.plotting import confusion_matrix, heat_map, learning_curves

transformers.utils.logging.set_verbosity_error()  # no notices and no progress bars in this book
transformers.utils.logging.disable_progress_bar()

writer = pipeline("text-generation", model=hub.local("HuggingFaceTB/SmolLM2-135M-Instruct"))
for beginning in [
    "The capital of France is",
    "The opposite of hot is",
    "Water is made of hydrogen and",
    "The sun rises in the",
]:
    print(writer(beginning, max_new_tokens=1, do_sample=False)[0]["generated_text"])

# %% [markdown]
# All four are good English; the capital and the opposite are right. Water is not made of helium, and "in the sky" is no
# answer to where the sun rises. The model gives the words that are probable after what it has read. It was never asked
# whether they are true, and with 135 million weights it knows little. **Fluent is not true**: check what a language
# model says.
#
# `max_new_tokens=1` asks for one token, a word or part of a word. `do_sample=False` takes the most probable one each
# time, so that you and we see the same.
#
# **What goes wrong in practice.** A pipeline needs no name of a model: each task has a default. Sentiment, whether a
# text is positive or negative, is the usual example. This cell needs the Hub:

# %% tags=["nbval-ignore-output"]
try:
    classifier = pipeline("sentiment-analysis")
    print(classifier("I have waited for this book all my life."))
except OSError as error:
    print("Skipped, this needs the Hub:", str(error).split(",")[0])

# %% [markdown]
# Online it prints a label and a score, today. But the default is somebody else's choice, and may be another tomorrow.
# In a program, name the model *and* its revision, the version in the model's history. Then the same program is the same
# program next year:

# %% tags=["nbval-ignore-output"]
try:
    classifier = pipeline(
        "text-classification", model="distilbert/distilbert-base-uncased-finetuned-sst-2-english", revision="714eb0f"
    )
    print(classifier("I have waited for this book all my life."))
except OSError as error:
    print("Skipped, this needs the Hub:", str(error).split(",")[0])

# %% [markdown]
# Further down you fine-tune a sentiment model of your own and put it into this pipeline, without the Hub.
#
# :::{important} To remember
# `pipeline(task, model=…, revision=…)`: name both. Its answer is probable, not checked.
# :::

# %% [markdown]
# ## What is inside a pipeline?
#
# Three steps: the **tokenizer** turns text into numbers, the **model** turns numbers into numbers, and the
# **post-processing** turns those into an answer. An `Auto…` class reads in the model's folder which architecture it is,
# and makes the right object: `AutoTokenizer`, `AutoModelForCausalLM` for a model that continues text.
#
# :::{admonition} Predict
# :class: tip
# The text has five tokens, the vocabulary 49,152. Which shape do the model's outputs, the logits, have?
# :::

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer

smol = hub.local("HuggingFaceTB/SmolLM2-135M-Instruct")
tokenizer = AutoTokenizer.from_pretrained(smol)
model = AutoModelForCausalLM.from_pretrained(smol)

inputs = tokenizer("The capital of France is", return_tensors="pt")  # 1. text -> numbers
print(inputs)

# %%
with torch.inference_mode():
    logits = model(**inputs).logits  # 2. numbers -> numbers, (batch, time, vocabulary)
print(logits.shape)

probabilities = logits[0, -1].softmax(dim=-1)  # 3. numbers -> answer: what follows the last token
for probability, token in zip(*probabilities.topk(5), strict=True):
    print(f"{probability:.2f} {tokenizer.decode(token)!r}")

# %% [markdown]
# The tokenizer returns a dictionary: `input_ids`, the tokens as numbers, and `attention_mask`, 1 for each real token.
# The stars in `model(**inputs)` pass both by name. The model returns an object with `logits`: one score per token of
# the vocabulary, at *each* of the five positions. The last position speaks about what comes next. The softmax makes the
# scores probabilities, and " Paris" has 77 % of it. That is the whole pipeline, for one token.
#
# `from_pretrained` gives the model in eval mode, with dropout off. The library is the same for every model, and what
# each model takes and returns is on its card. When in doubt, call it on a fixed input and look.
#
# **What goes wrong in practice.** A model takes a batch, also of one. Without `return_tensors="pt"` the tokenizer gives
# lists, and a tensor made of such a list has no batch axis:

# %% tags=["raises-exception"]
ids = tokenizer("The capital of France is")["input_ids"]
model(input_ids=torch.tensor(ids))  # (time,)

# %% [markdown]
# The message speaks of some inner tensor, because the axis of the tokens was taken for that of the batch. Add the axis:

# %%
print(model(input_ids=torch.tensor([ids])).logits.shape)  # (batch, time) -> (batch, time, vocabulary)

# %% [markdown]
# :::{important} To remember
# Tokenizer, model, post-processing. When a result is wrong, look at what goes from one to the next.
# :::

# %% [markdown]
# ## What does a tokenizer make of a word it has never seen?
#
# A vocabulary is a fixed list, and no list holds all words. So a tokenizer cuts rare words into pieces that it knows.
# The second model of this chapter, all-MiniLM-L6-v2, is a BERT: it reads a text as a whole and is for understanding,
# not for continuing. Its tokenizer marks with `##` what continues a word.
#
# :::{admonition} Predict
# :class: tip
# Which of these are one token: transformers, gradients, unbelievably?
# :::

# %%
minilm = hub.local("sentence-transformers/all-MiniLM-L6-v2")
tokenizer = AutoTokenizer.from_pretrained(minilm)
for word in ["transformers", "gradients", "unbelievably", "won't", "🙂"]:
    print(word, tokenizer.tokenize(word))

# %% [markdown]
# "transformers" is frequent enough for a place of its own. `[UNK]`, unknown, stands where nothing in the vocabulary
# fits: this model cannot see that emoji. The call cuts the text, looks the pieces up, and adds something of its own:

# %%
pieces = tokenizer.tokenize("Gradients vanish.")
ids = tokenizer.convert_tokens_to_ids(pieces)
print(pieces)
print(ids)
print(tokenizer("Gradients vanish.")["input_ids"])
print(tokenizer.decode(tokenizer("Gradients vanish.")["input_ids"]))

# %% [markdown]
# Cutting and looking up give four numbers, the call six. The other two are *special tokens*: `[CLS]` (101) begins and
# `[SEP]` (102) ends a text. The model was trained with them, so it wants them. `decode(ids, skip_special_tokens=True)`
# leaves them out. The capital letter is gone for good: this vocabulary is *uncased*. Two texts make a pair, for tasks
# such as "does the second follow from the first?"; then `token_type_ids` says which text a token belongs to:

# %%
pair = tokenizer("It rains.", "The street is wet.")
print(tokenizer.convert_ids_to_tokens(pair["input_ids"]))
print(pair["token_type_ids"])

# %% [markdown]
# **What goes wrong in practice.** Numbers mean something in one vocabulary only. Nothing stops you from giving one
# model the numbers of another's tokenizer. Here is what SmolLM2 would read:

# %%
smol_tokenizer = AutoTokenizer.from_pretrained(smol)
ids = tokenizer("The capital of France is")["input_ids"]
print(repr(smol_tokenizer.decode(ids)))

# %% [markdown]
# No error, and nonsense. Load tokenizer and model from the same name, and save them to the same folder.
#
# :::{important} To remember
# Tokenizer and model belong together. The call adds special tokens; `tokenize` does not.
# :::

# %% [markdown]
# ## How do sentences of different length become one tensor?
#
# A tensor is a full grid, and sentences are not. Three arguments of the tokenizer's call decide what happens:
# `padding`, `truncation` and `return_tensors`.
#
# :::{admonition} Predict
# :class: tip
# What happens if you ask for tensors and for nothing else?
# :::

# %% tags=["raises-exception"]
sentences = ["Great phone!", "The battery lasts two days, sometimes three."]
tokenizer(sentences, return_tensors="pt")

# %%
batch = tokenizer(sentences, padding=True, truncation=True, max_length=8, return_tensors="pt")
print(batch["input_ids"])
print(batch["attention_mask"])

# %% [markdown]
# `padding=True` fills up to the longest text of *this* call with the token `[PAD]`, number 0. The mask has a 0 there.
# `truncation=True` cuts at `max_length`, special tokens included, and without `max_length` at what the model can take.
#
# **What goes wrong in practice.** MiniLM has learnt positions up to 512. A longer text fails, unless it is cut:

# %%
from transformers import AutoModel

encoder = AutoModel.from_pretrained(minilm)
long_text = "word " * 600

# %% tags=["raises-exception"]
encoder(**tokenizer(long_text, return_tensors="pt"))

# %%
print(encoder(**tokenizer(long_text, truncation=True, return_tensors="pt")).last_hidden_state.shape)

# %% [markdown]
# The cure has a price: what was cut is not read, and nobody is told. Count how many of your texts are longer before you
# decide. The opposite waste is `padding="max_length"`, which fills *every* text. How much of each batch would be
# padding, on the 3,000 review sentences of chapter 3, in batches of 16?

# %%
reviews = datasets.reviews()
lengths = torch.tensor([len(ids) for ids in tokenizer([review.sentence for review in reviews])["input_ids"]])
print("tokens per sentence:", lengths.median().item(), "in the middle,", lengths.max().item(), "at most")

batches = lengths.split(16)
widest = sum(len(batch) * batch.max() for batch in batches)
print(f"padded to the longest of the batch: {1 - lengths.sum() / widest:.1%} padding")
print(f"padded to 512:                      {1 - lengths.sum() / (512 * len(lengths)):.1%} padding")

# %% [markdown]
# The model computes on padding as on anything else, so padding to 512 would cost about 14 times the work of padding to
# the longest. Therefore tokenise without padding first, many texts per call (on a `datasets.Dataset`, by
# `map(…, batched=True)`, chapter 3), and pad each batch when it is put together. The library calls this dynamic
# padding.
#
# :::{important} To remember
# `padding=True, truncation=True, return_tensors="pt"`: pad to the longest of the batch, cut at the model's limit.
# :::
#
# *Exercises:* `encode`, `tokenize_dataset`.

# %% [markdown]
# ## Does padding change the answer?
#
# It must not: a sentence means the same whatever stands beside it in a batch. We put a classifier on top of MiniLM; its
# last layer is new and random for now, which is good enough to see whether its two logits move.
#
# :::{admonition} Predict
# :class: tip
# The sentence is padded with 0, 1, 2, … tokens. Do the logits move if the model gets the mask, and if it does not?
# :::

# %%
from transformers import AutoModelForSequenceClassification

seed_everything(0)
untrained = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)

sentence = "The food was wonderful."
length = len(tokenizer(sentence)["input_ids"])
masked, unmasked = [], []
with torch.inference_mode():
    for extra in range(16):
        batch = tokenizer(sentence, padding="max_length", max_length=length + extra, return_tensors="pt")
        masked.append(untrained(**batch).logits[0])  # (classes,)
        unmasked.append(untrained(input_ids=batch["input_ids"]).logits[0])
masked, unmasked = torch.stack(masked), torch.stack(unmasked)  # (paddings, classes)

print("with the mask, largest change:  ", f"{(masked - masked[0]).abs().max():.3f}")
print("without it, largest change:     ", f"{(unmasked - unmasked[0]).abs().max():.3f}")
print("predicted class without padding:", masked[0].argmax().item(), "with 5 unmasked:", unmasked[5].argmax().item())

# %% mystnb={"figure": {"caption": "The logit of class 1, with 1 to 15 tokens of padding after the sentence. With the mask it does not move.", "name": "fig-huggingface-padding"}, "image": {"alt": "A level line for the masked sentence; the line for the unmasked one falls and stays far below it."}}
learning_curves(
    {"with attention_mask": masked[1:, 1], "without": unmasked[1:, 1]},
    ylabel="logit of class 1",
    xlabel="tokens of padding",
    alt="A level line for the masked sentence; the line for the unmasked one falls and stays far below it.",
)

# %% [markdown]
# With the mask the logits stay the same to rounding. Without it, every real token also attends to the padding, and the
# prediction itself changes. There is no error and no warning. `model(**batch)` passes the mask,
# `model(batch["input_ids"])` does not: then the library takes all tokens for real.
#
# **What goes wrong in practice.** A model that continues texts reads its answer at the *last* position. If padding
# stands on the right, the last position of a short text is padding:

# %%
beginnings = ["The capital of France is", "The opposite of hot is something that we call"]
for side in ["right", "left"]:
    batch = smol_tokenizer(beginnings, padding=True, padding_side=side, return_tensors="pt")
    with torch.inference_mode():
        following = model(**batch).logits[:, -1].argmax(dim=-1)  # (batch,)
    print(f"{side:5}", [smol_tokenizer.decode(token) for token in following])

# %% [markdown]
# " Paris" has become a line break. So pad on the left when you generate, and on the right when you classify with a
# model such as BERT, whose positions count from the left. A tokenizer's `padding_side` says what it does.
#
# :::{important} To remember
# Padding changes the answer unless it is masked: always `model(**batch)`. Generate with the padding on the left.
# :::
#
# *Exercise:* `classify`.

# %% [markdown]
# ## Where is the meaning of a sentence?
#
# `AutoModel` loads a model without any head, that is, without the last layers that answer one task. It returns
# `last_hidden_state`, shape `(batch, time, features)`: one vector for each token, which has looked at all others.
# all-MiniLM was trained so that the *average* of these vectors stands for the sentence: sentences of similar meaning
# point the same way. The cosine of the angle measures that: 1 for the same direction, about 0 for unrelated sentences.
#
# :::{admonition} Predict
# :class: tip
# Two sentences each about food, a battery and a film, in different words. Which cosines will be large?
# :::

# %%
# On the CPU, even beside a GPU: the pipeline moves the encoder to its device, and we go on using the encoder.
features = pipeline("feature-extraction", model=encoder, tokenizer=tokenizer, return_tensors=True, device="cpu")


def embed(texts):
    """One unit vector per text, (texts, 384). The pipeline takes one text at a time, so there is no padding."""
    means = torch.stack([hidden[0].mean(dim=0) for hidden in features(texts)])  # hidden: (1, time, 384)
    return torch.nn.functional.normalize(means, dim=-1)


sentences = [
    "The soup was cold.",
    "My meal was not warm enough.",
    "The battery lasts all day.",
    "I never have to charge it.",
    "The plot bored me.",
    "I fell asleep in the cinema.",
]
vectors = embed(sentences)
cosines = vectors @ vectors.T  # (sentences, sentences)

# %% mystnb={"figure": {"caption": "Cosines between the vectors of six sentences. Each is nearest to its partner, with which it shares hardly a word.", "name": "fig-huggingface-cosines"}, "image": {"alt": "A 6 by 6 grid of cosines: 1 on the diagonal, and the largest others in the three blocks of two beside it."}}
words = ["soup", "meal", "battery", "charge", "plot", "cinema"]
heat_map(
    cosines,
    labels=(words, words),
    alt="A 6 by 6 grid of cosines: 1 on the diagonal, and the largest others in the three blocks of two beside it.",
)

# %% [markdown]
# The two about cold food have a cosine of 0.59, and not one noun in common. The other pairs have 0.34 and 0.38: less,
# but no other sentence is nearer to either.
#
# **What goes wrong in practice.** In a padded batch the average must leave the padding out, and `mean(dim=1)` does not:

# %%
batch = tokenizer(["The soup was cold.", "word " * 40], padding=True, return_tensors="pt")
with torch.inference_mode():
    hidden = encoder(**batch).last_hidden_state  # (2, time, 384)
plain = torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)
print(f"cosine of the soup with itself: {vectors[0] @ plain[0]:.2f}")

# %% [markdown]
# The mask kept the real tokens from attending to the padding. But the padding's own positions also have vectors, and
# they went into the average. The mask is needed a second time, in the average.
#
# :::{important} To remember
# A sentence's vector is the average over its *real* tokens, scaled to length 1.
# :::
#
# *Exercise:* `mean_pool`.

# %% [markdown]
# ## How does one find a passage in 230 years of speeches?
#
# Semantic search: embed all passages once, embed the query, take the largest cosines. The presidents' State of the
# Union addresses have 1.8 million words; we cut them into passages of 40 words and take 300 of them, evenly spread over
# the whole text.
#
# :::{admonition} Predict
# :class: tip
# Nobody in these passages says "ill", "sick" or "doctor". Will "ill people who cannot pay a doctor" find anything?
# :::

# %%
passages = []
for speech in datasets.speeches():
    words = speech.text.split()
    for start in range(0, len(words) - 39, 40):
        passages.append((speech.year, speech.president, " ".join(words[start : start + 40])))
passages = passages[:: len(passages) // 300][:300]
corpus = embed([text for _, _, text in passages])  # (300, 384)
print(corpus.shape)

# %%
import textwrap

for query in ["ill people who cannot pay a doctor", "letters and parcels", "farmers who cannot sell their harvest"]:
    scores = corpus @ embed([query])[0]  # (300,)
    year, president, text = passages[scores.argmax()]
    print(f"{query}: {scores.max():.2f}, {president}, {year}")
    print(textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    "))

# %% [markdown]
# Truman speaks of "substandard levels of health" and "medical care", and is found. A search for the words "ill" or
# "doctor" would have found nothing. It took 300 runs of the model once, and then one run and one matrix product per
# query. The "retrieval" of chat programs does the same before they answer.
#
# **What goes wrong in practice.** There is always a best passage, also for a question that no passage answers:

# %%
scores = corpus @ embed(["how to repair a bicycle"])[0]
year, president, text = passages[scores.argmax()]
print(f"{scores.max():.2f}, {president}, {year}")
print(textwrap.fill(text, 110))

# %% [markdown]
# The score tells: it is lower than all those above. Look at a few dozen queries of your own, and choose a score below
# which you answer "nothing found". And compare vectors of one model only: the directions of another mean something
# else.
#
# :::{important} To remember
# Embed the corpus once; a query is one matrix product and `topk`. The best is not always good: look at the score.
# :::
#
# *Exercise:* `search`.

# %% [markdown]
# ## Which weights of a loaded model are loaded, and which are new?
#
# A *config* describes an architecture: how many layers, how wide. `from_config` builds it with random weights.
# `from_pretrained` builds it and loads the weights of the folder.
#
# :::{admonition} Predict
# :class: tip
# Both give a model of 22.7 million weights. How similar are "The soup was cold." and "My meal was not warm enough." for
# the random one, compared with "The soup was cold." and "The battery lasts all day."?
# :::

# %%
from transformers import AutoConfig

config = AutoConfig.from_pretrained(minilm)
print(config.num_hidden_layers, "layers,", config.hidden_size, "features,", config.vocab_size, "tokens")

seed_everything(0)
random_encoder = AutoModel.from_config(config).eval()
print(f"{random_encoder.num_parameters():,} and {encoder.num_parameters():,} weights")

with torch.inference_mode():
    for name, one in {"random": random_encoder, "pretrained": encoder}.items():
        soup, meal, battery = (
            one(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in sentences[:3]
        )
        near, far = (torch.cosine_similarity(soup, other, dim=0) for other in (meal, battery))
        print(f"{name:10} soup and meal {near:.2f}, soup and battery {far:.2f}")

# %% [markdown]
# For the random model all sentences look alike, and the battery is as near as the meal. The knowledge is in the
# weights.
#
# A task needs a *head*. `AutoModelForSequenceClassification` puts a linear layer on the encoder, from 384 features to
# `num_labels` logits. It does not read the average but the vector of `[CLS]`, after one more layer that belongs to the
# encoder, the *pooler*. The checkpoint of all-MiniLM has no such head, for it was trained on another task. So where do
# the head's weights come from? `output_loading_info=True` tells:

# %%
classifier, info = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2, output_loading_info=True)
print("missing:   ", sorted(info["missing_keys"]))
print("unexpected:", sorted(info["unexpected_keys"]))

# %% [markdown]
# *Missing* names are in the model but not in the file: their weights are **new and random**. *Unexpected* names are in
# the file but not in the model: they are left out. The other 103 tensors were loaded. If you had not turned the notices
# off, the library would print the same as a table, its load report. Read it: a missing head is expected before
# fine-tuning; a missing `encoder.layer…` means the wrong architecture.
#
# From logits to a label, as the pipeline does it: softmax, the largest, its name from `config.id2label`.

# %%
classifier.config.id2label = {0: "negative", 1: "positive"}
with torch.inference_mode():
    logits = classifier(**tokenizer("The food was wonderful.", return_tensors="pt")).logits  # (1, classes)
probability, label = logits.softmax(dim=-1)[0].max(dim=-1)
print(classifier.config.id2label[label.item()], f"{probability:.1f}")

# %% [markdown]
# **What goes wrong in practice.** Someone takes this for a sentiment classifier, because it gives labels. Load it
# again, and the head is another one:

# %%
for seed in range(4):
    seed_everything(seed)
    again = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2)
    with torch.inference_mode():
        logits = again(**tokenizer("The food was wonderful.", return_tensors="pt")).logits
    print(logits.argmax().item(), end=" ")

# %% [markdown]
# A coin, tossed once per load. It has to be trained.
#
# :::{important} To remember
# Missing means new and random. A model with a new head answers at random until it is fine-tuned.
# :::
#
# *Exercise:* `load_matching`.

# %% [markdown]
# ## How does one fine-tune by hand?
#
# The task: is a review sentence positive (1) or negative (0)? First the data. Eighteen sentences occur twice. If one
# copy is trained on and the other is tested on, the test measures memory: remove them *before* the split.

# %%
unique = list({review.sentence: review for review in datasets.reviews()}.values())
print(len(datasets.reviews()) - len(unique), "removed,", len(unique), "left")

seed_everything(0)
order = torch.randperm(len(unique), generator=torch.Generator().manual_seed(0)).tolist()
train, valid, test = ([unique[i] for i in order[a:b]] for a, b in [(0, 256), (256, 356), (356, 656)])
print(len(train), len(valid), len(test), "sentences,", sum(review.label for review in test), "of the test positive")

# %% [markdown]
# 256 sentences are few, so that this does not take long; the comparison in chapter 9 uses 2,000. The loop is that of
# chapter 5, with three habits of fine-tuning:
#
# - a small learning rate that *falls*: `get_scheduler("linear")` lowers it in equal parts to 0. The weights are good
#   already, and large steps late in training would spoil them. It begins at 4e-4 here, where few weights learn from few
#   sentences; for a whole BERT, 2e-5 to 5e-5 is usual;
# - **AdamW**, as for nearly all Transformers;
# - **freezing**: the embeddings and the lower four of the six layers keep their weights. They know what English is;
#   what has to change for a task lies mostly higher up, in the two upper layers, the pooler and the head. It also
#   spares a good part of the work.
#
# :::{admonition} Predict
# :class: tip
# Given `labels`, the model computes the loss itself. Before training, what is the mean cross-entropy of a two-class
# classifier that knows nothing?
# :::


# %%
from torch.utils.data import DataLoader
from transformers import get_scheduler

where = device()


def fresh_model():
    """The pretrained encoder with a new head; all but the two upper layers, the pooler and the head frozen."""
    seed_everything(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm, num_labels=2, id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1}
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(
            ("bert.encoder.layer.4.", "bert.encoder.layer.5.", "bert.pooler", "classifier")
        )
    return model.to(where)


def collate(batch):
    """Reviews as the model takes them: padded to the longest of the batch."""
    texts = [review.sentence for review in batch]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
    inputs["labels"] = torch.tensor([review.label for review in batch])
    return inputs


def accuracy(model, reviews):
    """The share of right labels."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for batch in DataLoader(reviews, batch_size=50, collate_fn=collate):
            batch = batch.to(where)
            right += (model(**batch).logits.argmax(dim=-1) == batch["labels"]).sum().item()
    return right / len(reviews)


by_hand = fresh_model()
trained = sum(p.numel() for p in by_hand.parameters() if p.requires_grad)
print(f"{trained:,} of {by_hand.num_parameters():,} weights are trained")

# %% tags=["nbval-ignore-output"]
epochs = 2
loader = DataLoader(train, batch_size=16, shuffle=True, collate_fn=collate, generator=torch.Generator().manual_seed(0))
optimizer = torch.optim.AdamW([p for p in by_hand.parameters() if p.requires_grad], lr=4e-4)
scheduler = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=epochs * len(loader))

losses = []
for _ in range(epochs):
    by_hand.train()
    for batch in loader:
        loss = by_hand(**batch.to(where)).loss  # the model computes it, since the batch holds labels
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()  # once per step of the optimiser
        losses.append(loss.item())
hand_accuracy = accuracy(by_hand, test)
print(f"loss of the first four batches {sum(losses[:4]) / 4:.2f}, of the last four {sum(losses[-4:]) / 4:.2f}")
print(f"right on {hand_accuracy:.1%} of the test sentences")
assert 0.6 < losses[0] < 0.8 and sum(losses[-4:]) / 4 < 0.5
assert hand_accuracy > 0.78

# %% [markdown]
# The loss begins at about log 2 = 0.69, which is what a coin gets. After two epochs of 256 sentences, about 87 of 100
# new sentences are read correctly. A model with random weights would need far more text than this to learn what
# "wonderful" means. (Your numbers differ a little: training amplifies the rounding of your processor.)
#
# **What goes wrong in practice.** `scheduler.step()` belongs in the loop over *batches*, since `num_training_steps`
# counts those. If it is called once per epoch, the rate hardly falls. If too few steps are announced, the rate is 0
# before the end:

# %%
for announced in (32, 16):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=4e-4)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=4, num_training_steps=announced)
    rates = []
    for _ in range(32):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    print(f"{announced} steps announced:", [f"{rate:.0e}" for rate in rates[::4]])

# %% [markdown]
# With `num_warmup_steps=4` the rate first rises from 0, which protects the pretrained weights from the first gradients
# of a random head. In the second row, half of the training changed nothing.
#
# :::{important} To remember
# Fine-tuning is the usual loop with AdamW, a small falling learning rate, and `model(**batch).loss`.
# :::
#
# *Exercises:* `freeze_layers`, `linear_factor`, `finetune_epoch`.

# %% [markdown]
# ## What does `Trainer` do for you?
#
# The same loop, and around it what every project needs again: evaluation, logs, checkpoints, early stopping, several
# GPUs. It trains any module whose `forward` takes the columns of a batch by name and returns a dictionary with `loss`
# and `logits`, as the library's own models do. It wants the data tokenised. `Dataset` is the table of the library
# `datasets` (chapter 3).

# %%
from datasets import Dataset, disable_progress_bars

disable_progress_bars()


def tokenized(reviews):
    """A data set of token numbers and labels, not padded."""
    texts = tokenizer([review.sentence for review in reviews], truncation=True, max_length=32)
    return Dataset.from_dict({**texts, "label": [review.label for review in reviews]})


train_data, valid_data, test_data = tokenized(train), tokenized(valid), tokenized(test)
print(train_data)

# %% [markdown]
# `DataCollatorWithPadding` pads each batch to its longest, as `collate` did above. It also renames `label` to `labels`,
# the name under which the model expects them:

# %%
from transformers import DataCollatorWithPadding

collator = DataCollatorWithPadding(tokenizer)
for rows in (range(0, 4), range(4, 8)):
    print({name: tuple(tensor.shape) for name, tensor in collator([train_data[i] for i in rows]).items()})

# %% [markdown]
# Everything else is said in `TrainingArguments`. Two spellings that you find in many tutorials no longer exist:
#
# :::{admonition} Myth: "`TrainingArguments(evaluation_strategy='epoch')` evaluates after each epoch"
# :class: warning
# It did. In 2024 the argument was renamed, and the old name is gone:
# :::

# %% tags=["raises-exception"]
import tempfile

from transformers import Trainer, TrainingArguments

folder = tempfile.TemporaryDirectory()
TrainingArguments(folder.name, evaluation_strategy="epoch")

# %% [markdown]
# The name is `eval_strategy`, like `save_strategy` and `logging_strategy`.
#
# :::{admonition} Myth: "`Trainer(tokenizer=tokenizer)` hands over the tokenizer"
# :class: warning
# Models of images and sound have no tokenizer but another *processor*, so the argument got a name that fits all.
# :::

# %% tags=["raises-exception"]
arguments = TrainingArguments(folder.name, eval_strategy="epoch", report_to="none", use_cpu=where.type == "cpu")
Trainer(by_hand, arguments, tokenizer=tokenizer)

# %% [markdown]
# It is `processing_class`. `Trainer` saves it beside the model. Now the whole, with the settings of the loop by hand.
#
# :::{admonition} Predict
# :class: tip
# Same model, data, rate and number of epochs, another order of the sentences. How far from the accuracy by hand will it
# be: the same to the last digit, within a few percent, or anywhere?
# :::

# %% tags=["nbval-ignore-output"]
from transformers import EarlyStoppingCallback


def shares(eval_prediction):
    """What to report after each evaluation, from all logits (n, classes) and all labels (n,), as NumPy arrays."""
    logits, labels = eval_prediction
    return {"accuracy": float((logits.argmax(axis=-1) == labels).mean())}


arguments = TrainingArguments(
    output_dir=folder.name,
    num_train_epochs=2,
    learning_rate=4e-4,
    lr_scheduler_type="linear",
    per_device_train_batch_size=16,
    per_device_eval_batch_size=50,
    eval_strategy="epoch",  # evaluate after each epoch
    save_strategy="epoch",  # and write a checkpoint
    load_best_model_at_end=True,  # then go back to the best of them
    metric_for_best_model="accuracy",
    logging_steps=4,
    fp16=where.type == "cuda",  # half precision, where there is a GPU
    use_cpu=where.type == "cpu",
    report_to="none",  # or "tensorboard", chapter 6
    disable_tqdm=True,
    seed=0,
)
trainer = Trainer(
    model=fresh_model(),
    args=arguments,
    train_dataset=train_data,
    eval_dataset=valid_data,
    data_collator=collator,
    processing_class=tokenizer,
    compute_metrics=shares,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=1)],
)
result = trainer.train()

# %% [markdown]
# Each line is one report: the mean loss of four batches, the length of the last gradient and the current rate; or an
# evaluation, whose names begin with `eval_`; or, at the end, a summary. Both programs on the same 300 test sentences:

# %% tags=["nbval-ignore-output"]
predicted = trainer.predict(test_data)  # .predictions (300, 2), .label_ids (300,), .metrics
trainer_accuracy = predicted.metrics["test_accuracy"]
print(f"by hand {hand_accuracy:.1%}, Trainer {trainer_accuracy:.1%}")
assert trainer_accuracy > 0.78
assert abs(trainer_accuracy - hand_accuracy) < 0.08

# %% mystnb={"figure": {"caption": "Training loss by hand and by `Trainer`, means of four batches.", "name": "fig-huggingface-loss"}, "image": {"alt": "Two lines that begin together at 0.7 and fall to less than half of it: training loss by hand and by Trainer."}}
hand_curve = torch.tensor(losses).reshape(-1, 4).mean(dim=1)
trainer_curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
learning_curves(
    {"by hand": hand_curve, "Trainer": trainer_curve},
    xlabel="group of four batches",
    alt="Two lines that begin together at 0.7 and fall to less than half of it: training loss by hand and by Trainer.",
)

# %% [markdown]
# Within a few percent, although `Trainer` did three things that our loop did not: it cut the gradient of each step to
# length 1 at most (`max_grad_norm`), used no weight decay, where PyTorch's AdamW takes 0.01 unless told, and went back
# to the better of its two checkpoints. On 300 sentences the accuracy of one and the same model already has a standard
# error of √(0.87 · 0.13 / 300), about 2 %, so a difference of a few percent means nothing. Which errors are more
# frequent: positive taken for negative, or the other way round?

# %% mystnb={"figure": {"caption": "The 300 test sentences by true and predicted label.", "name": "fig-huggingface-confusion"}, "image": {"alt": "A 2 by 2 grid of counts for negative and positive; most lie on the diagonal."}}
counts = torch.zeros(2, 2)
for true, logits in zip(predicted.label_ids, predicted.predictions, strict=True):
    counts[true, logits.argmax()] += 1
confusion_matrix(
    counts,
    ["negative", "positive"],
    alt="A 2 by 2 grid of counts for negative and positive; most lie on the diagonal.",
)

# %% [markdown]
# The errors lie off the diagonal, in our run 24 positive sentences taken for negative, and 14 the other way round. Of
# 38 coins, 24 or more fall on one side about once in seven times, so this model may well have no preference.
#
# **What goes wrong in practice.** `Trainer` writes a checkpoint after each epoch, and a checkpoint holds more than the
# model: the optimiser's two moments for each trained weight, the scheduler, the random state. With it,
# `trainer.train(resume_from_checkpoint=True)` goes on as if nothing had happened (chapter 5). All that fills the disk:

# %%
from pathlib import Path

for checkpoint in sorted(Path(folder.name).iterdir()):
    sizes = {file.name: file.stat().st_size / 1e6 for file in checkpoint.iterdir()}
    print(checkpoint.name, f"{sum(sizes.values()):.0f} MB, the optimiser {sizes['optimizer.pt']:.0f} MB of them")

# %% [markdown]
# `save_total_limit=2` keeps two checkpoints, here the best and the newest. `save_only_model=True` saves the model
# alone, from which training cannot go on. Early stopping ends the training when the metric has not improved for
# `early_stopping_patience` evaluations. It needs `eval_strategy`, `metric_for_best_model` and `load_best_model_at_end`.
# A small random model with learning rate 0 cannot improve:

# %%
small = AutoModelForSequenceClassification.from_config(
    AutoConfig.from_pretrained(minilm, hidden_size=24, num_hidden_layers=1, intermediate_size=24, num_labels=2)
)
with tempfile.TemporaryDirectory() as scratch:
    settings = arguments.to_dict() | {"output_dir": scratch, "num_train_epochs": 20, "learning_rate": 0.0}
    settings |= {"logging_strategy": "no", "save_only_model": True, "use_cpu": True, "fp16": False}
    stopped = Trainer(
        small,
        TrainingArguments(**settings),
        train_dataset=train_data.select(range(16)),
        eval_dataset=valid_data.select(range(16)),
        data_collator=collator,
        compute_metrics=shares,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )
    stopped.remove_callback(transformers.PrinterCallback)  # no reports here
    stopped.train()
print(f"stopped after epoch {stopped.state.epoch:.0f} of 20")

# %% [markdown]
# One evaluation to compare with, and two without an improvement. Accuracy alone misleads where one class is rare:
# "always negative" is right 99 times out of 100 if 99 of 100 reviews are negative. F1 looks at one class at a time. It is
# the harmonic mean of *precision*, the share of the predictions of this class that are right, and *recall*, the share
# of its members that are found. Its mean over the classes, *macro* F1, counts each class the same:
# `sklearn.metrics.f1_score(labels, predictions, average="macro")`.
#
# :::{important} To remember
# `eval_strategy`, `processing_class`, `DataCollatorWithPadding`, `compute_metrics`: then `train()`.
# :::
#
# *Exercises:* `compute_metrics`, `SentenceClassifier`.

# %% [markdown]
# ## What if the memory is too small?
#
# Training keeps, for each layer, what `backward` will need. This grows with the batch. There are three ways out, and
# `TrainingArguments` has one word for each.
#
# **Gradient accumulation** (`gradient_accumulation_steps=4`): four small batches, one step of the optimiser. `backward`
# adds to the gradients, so four calls give the sum.
#
# :::{admonition} Predict
# :class: tip
# One batch of 16 sentences, or four of 4 whose gradients are added up. By which factor do the gradients differ?
# :::


# %%
def head_gradient(sizes, scale):
    """The gradient of the head's weights after one backward per part of the same 16 sentences."""
    by_hand.zero_grad()
    by_hand.eval()  # no dropout, so that both ways compute the same
    start = 0
    for size in sizes:
        batch = collate(train[start : start + size]).to(where)
        (by_hand(**batch).loss * scale).backward()
        start += size
    return by_hand.classifier.weight.grad.clone()


whole = head_gradient([16], 1)
print("4 + 4 + 4 + 4:             ", f"{(head_gradient([4] * 4, 1).norm() / whole.norm()):.2f} times as long")
print("the same, each loss / 4:   ", torch.allclose(head_gradient([4] * 4, 1 / 4), whole, rtol=1e-3, atol=1e-6))

# %% [markdown]
# Each loss is a mean over its own batch, so the sum of four is four times too large: divide each by 4. `Trainer` does.
#
# **Activation checkpointing** (`activation_checkpointing=True`; many texts call it *gradient checkpointing*, its older
# name): keep only what enters each layer, and compute the inside again during `backward`. The cell counts the bytes
# that autograd keeps, the weights not included:


# %% tags=["nbval-ignore-output"]
def kept(checkpointing):
    """Megabytes that autograd keeps for the backward pass of 16 sentences, and the head's gradient."""
    model = fresh_model().requires_grad_(True).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    sizes = {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    seed_everything(0)  # the same dropout both times
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**collate(train[:16]).to(where)).loss
    total = sum(sizes.values()) / 1e6
    loss.backward()
    return total, model.classifier.weight.grad


(full, gradient), (checkpointed, same_gradient) = kept(False), kept(True)
print(f"{full:.0f} MB, with checkpointing {checkpointed:.0f} MB")
assert checkpointed < full / 4
print("the same gradient:", torch.allclose(gradient, same_gradient, rtol=1e-3, atol=1e-6))

# %% [markdown]
# Less than a tenth is left. Most of it is what enters the six layers, one `(batch, time, 384)` tensor each. The price
# is about a third more time, because each layer's forward pass runs twice.
#
# **Half precision** (`fp16=True`, or `bf16=True` on newer GPUs): compute in 16 bits, with the weights kept in 32. This
# halves what is kept, and runs several times faster on the matrix units of a GPU. On a CPU it brings little or fails,
# hence `fp16=where.type == "cuda"` above. `fp16` ends at 65,504 and needs its losses scaled, which `Trainer` does;
# `bf16` has the range of `float32` and fewer digits.
#
# :::{important} To remember
# Accumulate (and divide), checkpoint the layers, compute in half precision: in this order of simplicity.
# :::

# %% [markdown]
# ## What does `save_pretrained` write?
#
# :::{admonition} Myth: "The weights are in `pytorch_model.bin`"
# :class: warning
# Older versions wrote that: a pickle, which can run any code when it is loaded. Look for yourself:
# :::

# %%
saved = Path(folder.name, "reviews")
by_hand.save_pretrained(saved)
tokenizer.save_pretrained(saved)
for file in sorted(saved.iterdir()):
    print(f"{file.name:22} {file.stat().st_size / 1e6:6.1f} MB")

# %% [markdown]
# `model.safetensors` holds the tensors and nothing that could run (chapter 4). `config.json` is the architecture with
# the labels' names, and the other files are the tokenizer. That is all `from_pretrained` needs, and all a pipeline
# needs. Here is the sentiment pipeline that was out of reach at the beginning:

# %%
sentiment = pipeline("text-classification", model=str(saved), device="cpu")
for text in ["This is a wonderful book.", "The worst phone I ever had.", "I would not recommend it."]:
    answer = sentiment(text)[0]
    print(f"{answer['label']}: {text}")

# %% [markdown]
# And nothing was lost on the way: the model that comes back computes the same, and no weight of it is new.

# %%
again, info = AutoModelForSequenceClassification.from_pretrained(saved, output_loading_info=True)
batch = tokenizer("This is a wonderful book.", return_tensors="pt")
with torch.inference_mode():
    print("same logits:", torch.equal(again(**batch).logits, by_hand.to("cpu").eval()(**batch).logits))
print("missing:", sorted(info["missing_keys"]))

# %% [markdown]
# **What goes wrong in practice.** A class that has no place for the head, such as `AutoModel`, drops it without an
# error:

# %%
_, info = AutoModel.from_pretrained(saved, output_loading_info=True)
print("as AutoModel, unexpected:", sorted(info["unexpected_keys"]))

# %% [markdown]
# :::{important} To remember
# `save_pretrained` model *and* tokenizer into one folder; the weights are in `model.safetensors`.
# :::

# %% [markdown]
# ## How does a model continue a text?
#
# One token at a time: read, take the most probable next token, append it, read again. That is *greedy* decoding, what
# `do_sample=False` does. Reading everything again for each token is a waste: the keys and values that attention
# computed for the old tokens do not change (each token attends only to itself and those before it). So the model
# returns them as `past_key_values`, the *cache*, and the next call takes the cache and the new token alone.
#
# :::{admonition} Predict
# :class: tip
# A text of 5 tokens is continued by 20. How many tokens does the model read in all, without the cache and with it?
# :::

# %%
inputs = smol_tokenizer("The capital of France is", return_tensors="pt")["input_ids"]  # (1, 5)
with torch.inference_mode():
    first = model(input_ids=inputs)
    token = first.logits[:, -1:].argmax(dim=-1)  # (1, 1)
    cached = model(input_ids=token, past_key_values=first.past_key_values)  # reads one token
    whole = model(input_ids=torch.cat([inputs, token], dim=1))  # reads all six
print("logits:", cached.logits.shape, whole.logits.shape)
print("same next token:", torch.equal(cached.logits[:, -1].argmax(), whole.logits[:, -1].argmax()))
print("same logits:", torch.allclose(cached.logits[:, -1], whole.logits[:, -1], atol=1e-2))
print("without the cache:", sum(range(5, 25)), "tokens, with it:", 5 + 19)

# %% [markdown]
# 290 against 24. The model's `generate` does all this, and ends at the token that
# `model.generation_config.eos_token_id` names (a number, or a list of them), or at the limit:

# %%
for text in ["The capital of France is", "The opposite of hot is"]:
    batch = smol_tokenizer(text, return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=4, do_sample=False)  # (1, time), the text included
    print(repr(smol_tokenizer.decode(ids[0], skip_special_tokens=True)))

# %% [markdown]
# Greedy texts repeat themselves when they get long. `do_sample=True` draws the next token from the probabilities
# instead; `temperature` and `top_k` shape them (chapter 7). A model that was trained on dialogues, as this one was,
# expects its input in the form of one: `tokenizer.apply_chat_template(messages)` writes it. With 135 million weights it
# completes texts well, and chats badly.
#
# How much does a text surprise the model? Take −log p of each token but the first, given those before it, and average:
# this is the loss that such a model is trained with. Given `labels`, the model computes it. e to the loss is the
# **perplexity**: among how many equally probable tokens the model was, on average, undecided.

# %%
import math

for text in ["The cat sat on the mat and fell asleep.", "Mat the asleep fell and the on sat cat."]:
    ids = smol_tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        loss = model(input_ids=ids, labels=ids).loss
    print(f"perplexity {float(f'{math.exp(loss):.2g}'):6,.0f}  {text}")

# %% [markdown]
# **What goes wrong in practice.** The logits at position i speak of token i + 1. `labels=ids` is right because the
# model shifts them itself. Whoever shifts them before is one off, and asks for the token after the next:

# %%
ids = smol_tokenizer("The cat sat on the mat and fell asleep.", return_tensors="pt")["input_ids"]
with torch.inference_mode():
    shifted_twice = model(input_ids=ids[:, :-1], labels=ids[:, 1:]).loss
print(f"perplexity of the token after the next: {float(f'{math.exp(shifted_twice):.1g}'):,.0f}")

# %% [markdown]
# No error: the shapes fit. A loss far above the expected one is the only sign.
#
# :::{important} To remember
# Read the prompt once, then one token per call with the cache; the logits at a position speak of the *next* token.
# :::
#
# *Exercises:* `perplexity`, `generate`.

# %% [markdown]
# ## How do others find, trust and pin your model?
#
# The Hub holds each model as a git repository: `config.json`, `model.safetensors`, the tokenizer, and `README.md`, the
# **model card**. `model.push_to_hub("you/reviews")` uploads one, after `hf auth login` in a terminal. The card says
# what the model is, on what it was trained, how good it is, and what it must not be used for. Its head, in YAML, is
# what the Hub's search reads.

# %% tags=["nbval-ignore-output"]
from huggingface_hub import EvalResult, ModelCard, ModelCardData

data = ModelCardData(
    language="en",
    license="apache-2.0",
    base_model="sentence-transformers/all-MiniLM-L6-v2",
    pipeline_tag="text-classification",
    model_name="MiniLM on review sentences",
    eval_results=[
        EvalResult(
            task_type="text-classification",
            dataset_type="uci",
            dataset_name="Sentiment Labelled Sentences",
            metric_type="accuracy",
            metric_value=round(hand_accuracy, 3),
        )
    ],
)
text = f"""---
{data.to_yaml()}
---
# MiniLM on review sentences

Says whether an English review sentence is positive or negative.

- **Data**: 256 sentences of products, films and restaurants (UCI, CC BY 4.0), duplicates removed before the split.
- **Training**: two upper layers, pooler and head, AdamW, rate 4e-4 falling linearly, two epochs, seed 0.
- **Result**: {hand_accuracy:.1%} of 300 other sentences, one run; standard error about 2 %.
- **Limits**: English; single sentences; does not know "neutral". Not for decisions about people.
"""
card = ModelCard(text)
card.save(saved / "README.md")
print(card.content)

# %%
# The card of a model on the Hub: ModelCard.load("sentence-transformers/all-MiniLM-L6-v2")
card = ModelCard.load(saved / "README.md")
print(card.data.base_model, card.data.license)

# %% [markdown]
# Read the card before you use a model: the licence says what you may do, the data what it can know.
#
# **Revisions.** A repository changes, and `from_pretrained("name")` takes its newest state. `revision=` takes a branch,
# a tag, or the commit's hash, the only one of the three that nobody can move. `trust_remote_code=True` runs Python code
# of the repository on your machine: never without reading it, and never without a pinned revision. This needs the Hub:

# %% tags=["nbval-ignore-output"]
try:
    pinned = AutoTokenizer.from_pretrained(
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english", revision="714eb0f"
    )
    print(pinned.tokenize("Pinned."))
except OSError as error:
    print("Skipped, this needs the Hub:", str(error).split(",")[0])

# %% [markdown]
# **Offline and mirrors.** What was downloaded once lies in the cache, `~/.cache/huggingface`, and is used again. Three
# variables of the environment decide about the rest:
#
# - `HF_HUB_OFFLINE=1`: no request leaves the machine; what is not in the cache is an error. `local_files_only=True`
#   says it for one call.
# - `HF_ENDPOINT=https://…`: ask this server, a mirror, in place of huggingface.co.
# - `HF_HOME=/folder`: put the cache there.
#
# **What goes wrong in practice.** They are read when the library is imported. Set later, they do nothing:

# %%
import os
import subprocess

from huggingface_hub import constants

os.environ["HF_ENDPOINT"] = "https://mirror.example"
print("set after the import: ", constants.ENDPOINT)

program = "from huggingface_hub import constants; print('set before the import:', constants.ENDPOINT)"
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout, end="")
del os.environ["HF_ENDPOINT"]

# %% [markdown]
# Set them in the shell, or in the first cell, above all imports. A mirror serves what it likes: pin the commit, and
# prefer safetensors.
#
# :::{important} To remember
# Read the card, pin the commit, set the environment before the import.
# :::

# %%
folder.cleanup()

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | a result in three lines | `pipeline(task, model=name, revision=hash)` |
# | its parts | tokenizer → model → post-processing |
# | a batch | `tokenizer(texts, padding=True, truncation=True, return_tensors="pt")`, then `model(**batch)` |
# | padding | changes the answer unless masked; on the left for generation |
# | a sentence's vector | the mean over its real tokens, length 1 |
# | search | corpus embedded once, cosines, `topk` |
# | `from_config`, `from_pretrained` | random weights; loaded weights, and new ones where the file has none |
# | logits → label | softmax, argmax, `config.id2label` |
# | fine-tuning | AdamW, a small falling rate, `scheduler.step()` per batch |
# | `Trainer` | `eval_strategy`, `processing_class`, `DataCollatorWithPadding`, `compute_metrics` |
# | little memory | accumulate, checkpoint, half precision |
# | what is saved | `config.json`, `model.safetensors`, the tokenizer's files |
# | generation | prompt once, then one token per call with `past_key_values` |
# | the Hub | model card, pinned revision, `HF_HUB_OFFLINE`, `HF_ENDPOINT` |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/08_huggingface.ipynb`. Then chapter 9 asks how few weights one has to
# train: it fine-tunes the same model with less than a hundredth of them.
#
# ## Sources
#
# - Hugging Face documentation: [pipelines](https://huggingface.co/docs/transformers/main_classes/pipelines),
#   [tokenizers](https://huggingface.co/docs/transformers/main_classes/tokenizer), [padding and
#   truncation](https://huggingface.co/docs/transformers/pad_truncation),
#   [`Trainer`](https://huggingface.co/docs/transformers/main_classes/trainer),
#   [generation](https://huggingface.co/docs/transformers/llm_tutorial),
#   [perplexity](https://huggingface.co/docs/transformers/perplexity), [model
#   cards](https://huggingface.co/docs/huggingface_hub/guides/model-cards), [environment
#   variables](https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
# - T. Wolf et al., [Transformers: state-of-the-art natural language
#   processing](https://aclanthology.org/2020.emnlp-demos.6/), EMNLP 2020.
# - J. Devlin et al., [BERT](https://arxiv.org/abs/1810.04805), 2018.
# - N. Reimers, I. Gurevych, [Sentence-BERT](https://arxiv.org/abs/1908.10084), 2019: the mean over the tokens as the
#   sentence's vector.
# - L. Ben Allal et al., [SmolLM2](https://arxiv.org/abs/2502.02737), 2025.
# - I. Loshchilov, F. Hutter, [Decoupled weight decay regularization](https://arxiv.org/abs/1711.05101), 2017: AdamW.
# - T. Chen et al., [Training deep nets with sublinear memory cost](https://arxiv.org/abs/1604.06174), 2016:
#   checkpointing.
# - M. Mitchell et al., [Model cards for model reporting](https://arxiv.org/abs/1810.03993), 2018.
# - D. Kotzias et al., [From group to individual labels using deep features](https://doi.org/10.1145/2783258.2783380),
#   KDD 2015: the review sentences.
