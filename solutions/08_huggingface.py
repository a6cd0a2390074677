# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 8: Hugging Face
#
# Each exercise is one function or one class. Replace `raise NotImplementedError` with your code, run the cell, and run
# the `check` under it. `hint(name)` helps when you are stuck, `solution(name)` shows the book's answer once you have
# tried, and `progress()` shows what you have solved.
#
# The checks build small models and tokenizers of their own, with random weights: nothing is downloaded, and a check
# takes a fraction of a second. A tokenizer may pad on either side and may add special tokens or not, unless the
# exercise says otherwise. Models come in eval mode, unless the exercise says otherwise.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
from collections.abc import Iterable

import datasets
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BatchEncoding, EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# One idea each: the tokenizer's call, the schedule, the average over real tokens.

# %% [markdown]
# ### `encode` · 1 point · ●○○ · about 4 min
#
# Turn n texts into the tensors that a model takes. Pad them to the longest of *these* texts, cut what is longer than
# `max_length` tokens (special tokens included), and return what the tokenizer returns: a dictionary of tensors of shape
# `(n, t)`, with `input_ids`, `attention_mask`, and `token_type_ids` if the tokenizer makes them. Leave the tokenizer's
# own settings as they are.
#
# Suppose a tokenizer gives each word one number, adds no special tokens, pads with 0 on the right, and knows a = 5 and
# b = 6. Then `["a b a", "b"]` with `max_length=2` gives `input_ids` `[[5, 6], [6, 0]]` and `attention_mask`
# `[[1, 1], [1, 0]]`.


# %%
def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int) -> BatchEncoding:
    """Texts as a model takes them, padded to the longest, cut at `max_length`.

    texts: n ≥ 1 strings. max_length: the most tokens of a text, special tokens included.
    Returns the tokenizer's dictionary of int64 tensors, each (n, t), t ≤ max_length.
    """
    ### BEGIN SOLUTION
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    ### END SOLUTION


# %%
check(encode)

# %% [markdown]
# ### `linear_factor` · 1 point · ●○○ · about 5 min
#
# `get_scheduler("linear")` multiplies the learning rate by a factor. The factor rises in equal parts from 0 to 1 over
# `warmup` steps, then falls in equal parts to 0 at step `total`, and stays 0. Return the factor of one step.
#
# With `warmup=2` and `total=6` the factors of the steps 0, 1, 2, … are 0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0.
#
# Write the arithmetic out instead of calling the library's schedules: it is what they hide. (The function gets a step
# and two numbers; there is no optimiser to pass on.)


# %%
def linear_factor(step: int, warmup: int, total: int) -> float:
    """What the learning rate is multiplied by at `step`.

    step: from 0. warmup: steps of rising, 0 ≤ warmup < total. total: the step at which 0 is reached.
    Returns a float, from 0 to 1.
    """
    ### BEGIN SOLUTION
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / (total - warmup))
    ### END SOLUTION


# %%
check(linear_factor)

# %% [markdown]
# ### `mean_pool` · 1 point · ●○○ · about 8 min
#
# A sentence encoder gives one vector per token: `hidden`, shape `(b, t, d)`. Average the vectors of the real tokens of
# each sentence, those with mask 1, and scale the average to length 1. Return shape `(b, d)`.
#
# The padding may stand on either side and hold any finite numbers. Each sentence has at least one real token.
#
# Advice, which the check does not judge: let a sentence without real tokens give zeros instead of NaN, and where
# `hidden` is `float16`, compute in `float32`, because a sum of many values may overflow.
#
# One sentence of three tokens, the last one padding, `hidden = [[[6, 0], [0, 8], [9, 9]]]` and `mask = [[1, 1, 0]]`:
# the average is (3, 4), its length is 5, and the result `[[0.6, 0.8]]`.


# %%
def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The average of each sentence's real tokens, scaled to length 1.

    hidden: float, shape (b, t, d). mask: int64, shape (b, t), 1 for a real token.
    Returns float, shape (b, d).
    """
    ### BEGIN SOLUTION
    total = (hidden * mask.unsqueeze(-1)).sum(dim=1)  # (b, d): the average points the same way
    return F.normalize(total)  # along axis 1; a row of zeros stays zeros
    ### END SOLUTION


# %%
check(mean_pool)

# %% [markdown]
# ## Apply
#
# The same objects as in the chapter: an encoder's vectors, a data set, metrics, a classifier.

# %% [markdown]
# ### `freeze_layers` · 2 points · ●●○ · about 8 min
#
# Given a `BertForSequenceClassification`, freeze its embeddings and its lowest `n` encoder layers, in place: their
# parameters get `requires_grad = False`. All other parameters stay as they are. Return the names of the parameters that
# are still trained, in the order of `model.named_parameters()`.
#
# In these models the embeddings are `model.bert.embeddings`, and the layers `model.bert.encoder.layer`, a list. With n
# = 0 only the embeddings are frozen. With n = 1 the name `bert.encoder.layer.1.output.dense.bias` is among the names
# that are returned, and `bert.encoder.layer.0.output.dense.bias` is not. A model may have more than ten layers.


# %%
def freeze_layers(model: PreTrainedModel, n: int) -> list[str]:
    """Freeze the embeddings and the lowest n encoder layers; the names of what is still trained.

    model: a BertForSequenceClassification; some of its parameters may be frozen already.
    n: from 0 to the number of layers.
    """
    ### BEGIN SOLUTION
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:n].requires_grad_(False)  # a slice of a ModuleList is a ModuleList
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    ### END SOLUTION


# %%
check(freeze_layers)

# %% [markdown]
# ### `search` · 2 points · ●●○ · about 10 min
#
# Given the vectors of q queries, `(q, d)`, and of n passages, `(n, d)`, find for each query the k passages with the
# largest cosine. Return a pair: the cosines, `(q, k)`, best first, and the indices of those passages, `(q, k)`. The
# vectors may have any length but 0. Where k > n, return all n. (Advice: `F.normalize` gives a vector of zeros the
# cosine 0 with everything, where a plain division gives NaN. The check has no such vectors.)
#
# A single query may also come as `(d,)`: then both results have the shape `(k,)`.
#
# For the query `[3, 4]` and the passages `[[1, 0], [0, 2], [6, 8]]` the cosines are 0.6, 0.8 and 1, so k = 2 gives
# `[1, 0.8]` and `[2, 1]`.


# %%
def search(query: torch.Tensor, corpus: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k passages with the largest cosine to each query, best first.

    query: float, (q, d), or (d,) for one query. corpus: the same dtype, (n, d), n ≥ 1. k ≥ 1.
    Returns (cosines, indices), each (q, min(k, n)), or (min(k, n),) for one query; indices int64.
    """
    ### BEGIN SOLUTION
    cosines = F.normalize(query, dim=-1) @ F.normalize(corpus).T  # (q, n) or (n,)
    best = cosines.topk(min(k, len(corpus)))  # along the last axis
    return best.values, best.indices
    ### END SOLUTION


# %%
check(search)

# %% [markdown]
# ### `tokenize_dataset` · 2 points · ●●○ · about 8 min
#
# Given a `datasets.Dataset` with a column `text` and other columns, return one in which `text` has given way to the
# tokenizer's columns (`input_ids`, `attention_mask`, …). The other columns stay, and where labels have names (a
# `ClassLabel` column), they keep them. The rows are *not* padded:
# that is the collator's work, batch by batch.
#
# Give the tokenizer lists of many texts, not one text at a time: it is many times faster. Cutting long texts at the
# tokenizer's own maximum, `truncation=True`, is good advice; the check has none that are too long.
#
# With the tokenizer of `encode`, the rows `{"text": "a b a", "label": 1}` and `{"text": "b", "label": 0}` become
# `{"label": 1, "input_ids": [5, 6, 5], "attention_mask": [1, 1, 1]}` and
# `{"label": 0, "input_ids": [6], "attention_mask": [1]}`.


# %%
def tokenize_dataset(dataset: datasets.Dataset, tokenizer: PreTrainedTokenizerBase) -> datasets.Dataset:
    """The data set with the tokenizer's columns in place of `text`, not padded."""
    ### BEGIN SOLUTION
    return dataset.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, remove_columns="text")
    ### END SOLUTION


# %%
check(tokenize_dataset)

# %% [markdown]
# ### `compute_metrics` · 2 points · ●●○ · about 12 min
#
# `Trainer` calls a function with all logits, `(n, classes)`, and all labels, `(n,)`, as NumPy arrays, and logs the
# dictionary of numbers that it returns. Return `accuracy`, the share of right predictions, and `macro_f1`, the plain
# mean of the F1 scores of the classes, both as Python floats. F1 of class c is 2·TP / (2·TP + FP + FN): TP counts where
# label and prediction are both c, FP where only the prediction is, FN where only the label is. The mean runs over the
# classes that occur among the labels *or* the predictions.
#
# The argument is an `EvalPrediction` or a plain tuple; either can be taken apart by `logits, labels = eval_prediction`.
#
# With labels `[0, 0, 1]` and predictions `[0, 2, 1]` the accuracy is 2/3. F1 is 2/3 for class 0, 1 for class 1, 0 for
# class 2, so `macro_f1` is 5/9.


# %%
def compute_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro F1 of logits against labels.

    eval_prediction: (logits, labels), float (n, classes) and int64 (n,), NumPy arrays, n ≥ 1.
    Returns {"accuracy": float, "macro_f1": float}.
    """
    ### BEGIN SOLUTION
    logits, labels = eval_prediction  # (n, classes) and (n,)
    predictions = logits.argmax(axis=1)  # (n,)
    scores = []
    for c in np.union1d(labels, predictions):
        both = ((labels == c) & (predictions == c)).sum()
        either = (labels == c).sum() + (predictions == c).sum()  # 2 TP + FP + FN
        scores.append(2 * both / either)
    return {"accuracy": float((predictions == labels).mean()), "macro_f1": float(np.mean(scores))}
    ### END SOLUTION


# %%
check(compute_metrics)

# %% [markdown]
# ### `classify` · 2 points · ●●○ · about 12 min
#
# What `pipeline("text-classification")` does, best written out in its three steps. For each text return a dictionary:
# `label`, the most probable class by its name in `model.config.id2label`, and `score`, its probability by the softmax,
# a Python float. Results stand in the order of the texts.
#
# - There may be any number of texts, and none at all: then return `[]`.
# - The model computes in eval mode. It may come in training mode.
# - A text's result must not depend on the other texts.
#
# Advice, which the check does not judge: give the model at most 32 texts at a time, record no gradients, and cut texts
# that are longer than the tokenizer's maximum. Whoever trains the model further wants it back in the mode in which it
# came.
#
# If the logits of a text are `[0, log 3]` and `id2label` is `{0: "bad", 1: "good"}`, its entry is
# `{"label": "good", "score": 0.75}`.


# %%
def classify(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[dict]:
    """The most probable class of each text, with its probability.

    model: a sequence classifier. tokenizer: its tokenizer, with a pad token, padding on the right.
    Returns [{"label": str, "score": float}, …], one entry per text.
    """
    ### BEGIN SOLUTION
    model.eval()
    found = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            probabilities = model(**batch).logits.softmax(dim=1)  # (texts, classes)
        for row in probabilities:
            best = int(row.argmax())
            found.append({"label": model.config.id2label[best], "score": row[best].item()})
    return found
    ### END SOLUTION


# %%
check(classify)

# %% [markdown]
# ## Combine
#
# Two or three ideas in one function.

# %% [markdown]
# ### `load_matching` · 2 points · ●●○ · about 12 min
#
# `from_pretrained` loads what fits and reports the rest. Do the same for any module. `state` maps names to tensors, as
# a checkpoint does. Copy each tensor whose name and shape agree with an entry of `model.state_dict()` into the model,
# in place. Leave all else in the model as it is. Return three sorted lists of names:
#
# - `missing`: in the model, but not in `state`;
# - `unexpected`: in `state`, but not in the model;
# - `mismatched`: in both, with different shapes.
#
# The model's tensors keep their dtype, and share no memory with those of `state`, which stays as it is. Buffers count
# as parameters do, if `state_dict()` has them, and a weight that two layers share counts under both its names.
#
# For `model = nn.Linear(3, 2)` and a state of `weight` (2, 3) and `scale` (2,), the weight is copied, and the answer is
# `{"missing": ["bias"], "unexpected": ["scale"], "mismatched": []}`.


# %%
def load_matching(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, list[str]]:
    """Copy into the model what fits, and report what does not.

    Returns {"missing": […], "unexpected": […], "mismatched": […]}, sorted names.
    """
    ### BEGIN SOLUTION
    own = model.state_dict()
    names, given = set(own), set(state)
    common = names & given
    fitting = {name for name in common if own[name].shape == state[name].shape}
    model.load_state_dict({name: state[name] for name in fitting}, strict=False)  # copies into the model's tensors
    return {
        "missing": sorted(names - given),
        "unexpected": sorted(given - names),
        "mismatched": sorted(common - fitting),
    }
    ### END SOLUTION


# %%
check(load_matching)

# %% [markdown]
# ### `perplexity` · 2 points · ●●○ · about 10 min
#
# How surprised is a language model by a text? Its perplexity is $e^L$, where L is the mean of −log p over all tokens
# but the first, and p is the probability that the model gives to the token, having read those before it. 1 means that
# every token was foreseen; a model that gives all v tokens of its vocabulary the same probability has perplexity v.
# Special tokens count as any others, also where the tokenizer pads with the same token.
#
# If a text has three tokens, the model gives the second one probability 1/2 and the third one 1/8, then L = (log 2 +
# log 8) / 2 = log 4, and the perplexity is 4.


# %%
def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """e to the mean cross-entropy of each token given those before it.

    model: a causal language model. text: at least two tokens, special tokens included, and not too long for the model.
    Returns a Python float.
    """
    ### BEGIN SOLUTION
    ids = tokenizer(text, return_tensors="pt")["input_ids"]  # (1, t)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits  # (1, t, vocabulary): position i foresees token i + 1
    return F.cross_entropy(logits[0, :-1], ids[0, 1:]).exp().item()
    ### END SOLUTION


# %%
check(perplexity)

# %% [markdown]
# ## Debug
#
# ### `finetune_epoch` · 3 points · ●●● · about 15 min
#
# This program should train a classifier for one epoch and return the mean loss per sentence. It runs without an error,
# and the model learns nothing. There are five faults. Find and mend them.
#
# ```python
# def finetune_epoch(model, batches, optimizer, scheduler):
#     model.eval()
#     total = 0
#     for batch in batches:
#         outputs = model(input_ids=batch["input_ids"], labels=batch["labels"])
#         outputs.loss.backward()
#         optimizer.zero_grad()
#         optimizer.step()
#         total += outputs.loss.item()
#     scheduler.step()
#     return total / len(batches)
# ```
#
# Each batch is a dictionary with `input_ids`, `attention_mask` and `labels`; the last one may hold fewer sentences than
# the others. `outputs.loss` is the mean over the sentences of a batch. `batches` may be a generator, which has no
# length and can be gone through once; the batches stay as they are. The scheduler makes one step after each step of the
# optimiser. The model comes from an evaluation, in eval mode, and there may be old gradients in it, which must not
# count. It is to train in training mode.
#
# With two batches of 8 and 2 sentences and the losses 1.0 and 0.5, the result is (8 · 1.0 + 2 · 0.5) / 10 = 0.9.


# %%
def finetune_epoch(
    model: nn.Module,
    batches: Iterable[dict[str, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Train on each batch once; the mean loss per sentence, as a float.

    batches: dictionaries of input_ids (b, t), attention_mask (b, t) and labels (b,), at least one; gone through once.
    """
    ### BEGIN SOLUTION
    model.train()
    total = sentences = 0
    for batch in batches:  # each with its mask
        loss = model(**batch).loss
        optimizer.zero_grad()  # old gradients, and those of the batch before
        loss.backward()  # adds to the gradients
        optimizer.step()  # while they are there
        scheduler.step()  # after each step of the optimiser
        total += loss.item() * len(batch["labels"])
        sentences += len(batch["labels"])
    return total / sentences
    ### END SOLUTION


# %%
check(finetune_epoch)

# %% [markdown]
# ## Build
#
# Whole parts, from what the exercises above taught.

# %% [markdown]
# ### `SentenceClassifier` · 3 points · ●●● · about 15 min
#
# Build a classifier that `Trainer` can train. It holds `encoder`, the encoder that it is given (itself, no copy), and
# `head`, an `nn.Linear` with bias from `encoder.config.hidden_size` features to `num_labels`. `forward` runs the
# encoder with the mask, takes the mean of the vectors of the real tokens (not scaled to length 1), and applies the
# head.
#
# It returns a dictionary with `logits`, shape `(b, num_labels)`. If labels are given, it also holds `loss`, the mean
# cross-entropy; without labels there is no such entry. `Trainer` looks for just these names. Gradients reach head and
# encoder from the loss, and from the logits too. The padding may stand on either side.
#
# If an encoder gives one sentence the vectors `[[1, 3], [3, 5], [9, 9]]` and its mask is `[1, 1, 0]`, the head is
# applied to `[2, 4]`.


# %%
class SentenceClassifier(nn.Module):
    """A linear head on the mean of an encoder's vectors, over the real tokens.

    encoder: a model such as `BertModel`: called with input_ids and attention_mask, it gives `.last_hidden_state`,
    shape (b, t, d).
    """

    def __init__(self, encoder: nn.Module, num_labels: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, num_labels)
        ### END SOLUTION

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """{"logits": (b, num_labels)}, and "loss", a scalar, if labels (b,) are given.

        input_ids and attention_mask: int64, (b, t), at least one real token in each row.
        """
        ### BEGIN SOLUTION
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (b, t, d)
        real = attention_mask.unsqueeze(-1)  # (b, t, 1)
        mean = (hidden * real).sum(dim=1) / real.sum(dim=1)  # (b, d)
        logits = self.head(mean)
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}
        ### END SOLUTION


# %%
check(SentenceClassifier)

# %% [markdown]
# ### `generate` · 4 points · ●●● · about 25 min
#
# Complete a text greedily: at each step append the token with the largest logit, until an end token has been appended
# or there are `max_new_tokens` new tokens. Return the whole text, prompt included, decoded without special tokens: the
# same as decoding `model.generate(..., do_sample=False)`.
#
# Read each token once: the first call of the model takes the whole prompt, every later call one token, together with
# the key-value cache of the call before it. The end token is one number, which may be 0. The tokenizer, `model.config`
# and `model.generation_config` all give it as `eos_token_id`, and here they agree. (Elsewhere they may not, and the
# last may hold a list of numbers: it is the one that `model.generate` follows.)
#
# Suppose the prompt has three tokens, and the model continues with 9, 4, 2, where 2 is the end token, a special one.
# Then the calls take 3, 1 and 1 tokens, and the text is that of the prompt and of 9 and 4.
#
# Not allowed: `model.generate`, because this exercise builds it.


# %%
def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, max_new_tokens: int) -> str:
    """The prompt and its greedy continuation, without special tokens.

    model: a causal language model. prompt: at least one token. max_new_tokens: at least 1.
    """
    ### BEGIN SOLUTION
    end = model.generation_config.eos_token_id
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]  # (1, t)
    new, cache = ids, None
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            outputs = model(input_ids=new, past_key_values=cache)
        cache = outputs.past_key_values
        new = outputs.logits[:, -1:].argmax(dim=-1)  # (1, 1)
        ids = torch.cat([ids, new], dim=1)
        if new.item() == end:
            break
    return tokenizer.decode(ids[0], skip_special_tokens=True)
    ### END SOLUTION


# %%
check(generate)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
