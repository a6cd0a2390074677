"""Trials, hints and known mistakes of the exercises of chapter 8, in the order of the notebook.

The models and tokenizers are tiny and made here: their weights and vocabularies are drawn by the trial's generator.
"""

import copy
from collections.abc import Mapping
from functools import cache
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

from autograder.compare import difference
from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import WrongSignature, apply, call, fixed_weights

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
WORDS = [f"{consonant}{vowel}" for consonant in "bdfgklmn" for vowel in "aeiou"]


@cache
def _transformers():
    """The library, imported on first use because that takes seconds, and quiet."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _tokenizer(rng, side="right", special=True, types=False, max_length=1000, pad="<pad>", end="</s>"):
    """A tokenizer of 40 words in random order, on whitespace.

    special: True puts <s> before a text and </s> after it, "start" only the first.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = SPECIAL + [WORDS[index] for index in rng.permutation(len(WORDS)).tolist()]
    model = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        model.post_processor = processors.TemplateProcessing(
            single="<s> $A" if special == "start" else "<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    names = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    return _transformers().PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token=pad,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token=end,
        padding_side=side,
        model_input_names=names,
        model_max_length=max_length,
    )


def _texts(rng, *lengths):
    """Texts of the given numbers of words."""
    return [" ".join(WORDS[index] for index in rng.integers(0, len(WORDS), length).tolist()) for length in lengths]


@cache
def _template(kind, sizes):
    transformers = _transformers()
    common = {"vocab_size": len(SPECIAL) + len(WORDS), "intermediate_size": 24, "pad_token_id": 0}
    if kind == "LlamaForCausalLM":
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 2, "eos_token_id": 3}
        config = transformers.LlamaConfig(**common | heads | dict(sizes))
    else:
        config = transformers.BertConfig(**common | {"num_attention_heads": 2} | dict(sizes))
    return getattr(transformers, kind)(config)


def _model(rng, kind, drawn=True, **sizes):
    """A small model of the library in eval mode, its weights drawn, unless nobody will look at them."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 48} | sizes
    model = copy.deepcopy(_template(kind, tuple(sorted(sizes.items()))))
    with torch.no_grad():
        for name, parameter in model.named_parameters() if drawn else ():
            values = rng.normal(*parameter.shape)
            parameter.copy_(1 + values / 5 if "norm" in name.lower() and "weight" in name else values / 2)
    return model.eval()


def _with_plain_numbers(result):
    """A whole number where a float is asked for is as good."""
    return float(result) if type(result) is int else result


def call_for_number(function, arguments):
    """Like `call`; the result 0 counts as 0.0."""
    return call(lambda **named: _with_plain_numbers(apply(function, named)), arguments)


def call_for_mapping(function, arguments):
    """Like `call`; a dictionary of any kind counts as a plain one."""

    def plain(**named):
        result = apply(function, named)
        return dict(result) if isinstance(result, Mapping) else result

    return call(plain, arguments)


def call_for_numbers(function, arguments):
    """Like `call`; in a dictionary, a whole number counts as a float."""

    def converted(**named):
        result = apply(function, named)
        if not isinstance(result, Mapping):
            return result
        return {name: _with_plain_numbers(value) for name, value in result.items()}

    return call(converted, arguments)


def call_and_look_at_settings(function, arguments):
    """Like `call_for_mapping`, and what the tokenizer would do for its next user."""
    evidence = call_for_mapping(function, arguments)
    tokenizer = arguments["tokenizer"]
    names = ("model_max_length", "padding_side", "truncation_side")
    return evidence | {"settings of the tokenizer afterwards": {name: getattr(tokenizer, name) for name in names}}


@exercise(
    points=1,
    level=1,
    minutes=4,
    hints=[
        "The tokenizer can be called like a function, with a list of texts. Everything else is keyword arguments.",
        "`padding=True` pads to the longest of the list; `truncation=True` together with `max_length` cuts.",
        'Without `return_tensors="pt"` the values are nested lists.',
    ],
    probe=call_and_look_at_settings,
)
def encode(rng):
    """Trials for the tokenizer's dictionary of tensors."""

    def plain(**settings):
        return _tokenizer(rng, **{"special": False} | settings)

    yield trial("texts of different lengths", tokenizer=plain(), texts=_texts(rng, 3, 1, 4), max_length=9)
    yield trial("a text that is too long", tokenizer=plain(), texts=_texts(rng, 2, 7, 3), max_length=4)
    yield trial("special tokens", tokenizer=_tokenizer(rng), texts=_texts(rng, 1, 4), max_length=12)
    yield trial("special tokens count", tokenizer=_tokenizer(rng), texts=_texts(rng, 8, 2, 5), max_length=5)
    yield trial("padding on the left", tokenizer=plain(side="left"), texts=_texts(rng, 2, 5, 1), max_length=4)
    yield trial("token types", tokenizer=_tokenizer(rng, types=True), texts=_texts(rng, 2, 3), max_length=9)
    yield trial("one text", tokenizer=_tokenizer(rng), texts=_texts(rng, 3), max_length=8)
    yield trial("unknown words", tokenizer=plain(), texts=["zzz ba", "ba zzz zzz da"], max_length=8)
    yield trial("an empty text", tokenizer=_tokenizer(rng), texts=["", *_texts(rng, 2)], max_length=8)


@encode.mistake(
    "Every text was padded to `max_length`. Pad to the longest of these texts, `padding=True`: the model computes on "
    "padding too, for nothing."
)
def pads_to_max_length(tokenizer, texts, max_length):
    return tokenizer(texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt")


@encode.mistake(
    "Nothing was cut at `max_length`: that takes two arguments, `truncation=True` and `max_length=max_length`."
)
def does_not_truncate(tokenizer, texts, max_length):
    return tokenizer(texts, padding=True, return_tensors="pt")


@encode.mistake('The values are nested lists. A model takes tensors: `return_tensors="pt"`.')
def returns_lists(tokenizer, texts, max_length):
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length)


@encode.mistake(
    "Only the token numbers came back. Without the mask, the model takes the padding for text: return the dictionary."
)
def returns_the_ids(tokenizer, texts, max_length):
    return tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")["input_ids"]


@encode.mistake(
    "The special tokens are missing. The model was trained with them, so leave `add_special_tokens` as it is."
)
def leaves_out_special_tokens(tokenizer, texts, max_length):
    return tokenizer(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt", add_special_tokens=False
    )


@encode.mistake(
    "This cuts the text after `max_length` characters. The limit counts tokens, and the tokenizer knows it."
)
def cuts_characters(tokenizer, texts, max_length):
    return tokenizer([text[:max_length] for text in texts], padding=True, return_tensors="pt")


@encode.mistake(
    "The tokenizer's own `model_max_length` was changed, so it cuts its next texts too. `max_length` is an argument of the "
    "call."
)
def changes_the_tokenizer(tokenizer, texts, max_length):
    tokenizer.model_max_length = max_length
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "There are two cases: `step` is before `warmup`, or not.",
        "The fall begins at `warmup` and ends at `total`: how many steps does it take, and how many are left?",
        "After `total` the formula gives negative numbers. `max` keeps them at 0.",
    ],
    probe=call_for_number,
)
def linear_factor(rng):
    """Trials for the factor of one step."""
    warmup = rng.integer(4, 9)
    total = warmup + rng.integer(10, 30)
    yield trial("the first step", step=0, warmup=warmup, total=total)
    yield trial("during warm-up", step=rng.integer(2, warmup), warmup=warmup, total=total)
    yield trial("at the end of warm-up", step=warmup, warmup=warmup, total=total)
    yield trial("falling", step=warmup + rng.integer(3, 9), warmup=warmup, total=total)
    yield trial("one step before the end", step=total - 1, warmup=warmup, total=total)
    yield trial("at the end", step=total, warmup=warmup, total=total)
    yield trial("after the end", step=total + rng.integer(2, 9), warmup=warmup, total=total)
    yield trial("no warm-up, first step", step=0, warmup=0, total=total)
    yield trial("no warm-up, falling", step=rng.integer(1, 9), warmup=0, total=total)
    yield trial("the longest warm-up", step=total - 1, warmup=total - 1, total=total)


@linear_factor.mistake("The warm-up begins at 0, not at 1/warmup: step 0 has factor 0.")
def starts_above_zero(step, warmup, total):
    return (step + 1) / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))


@linear_factor.mistake(
    "After warm-up the factor jumps down: it must fall from 1, over the `total - warmup` steps that remain."
)
def falls_over_all_steps(step, warmup, total):
    return step / warmup if step < warmup else max(0.0, (total - step) / total)


@linear_factor.mistake(
    "The fall takes `total` steps *after* the warm-up. `total` counts all steps, warm-up included: 0 is reached there."
)
def adds_the_warmup(step, warmup, total):
    return step / warmup if step < warmup else max(0.0, 1 - (step - warmup) / total)


@linear_factor.mistake("After `total` the factor is negative, so each step would walk uphill. It stays 0.")
def goes_negative(step, warmup, total):
    return step / warmup if step < warmup else (total - step) / (total - warmup)


@linear_factor.mistake("There is no rise: during warm-up the factor grows from 0 to 1.")
def does_not_warm_up(step, warmup, total):
    return 1.0 if step < warmup else max(0.0, (total - step) / (total - warmup))


@exercise(
    points=1,
    level=1,
    minutes=8,
    hints=[
        "hidden is (b, t, d), the mask (b, t). Which shape must the mask have to multiply each vector by 0 or 1?",
        "Does the length of the sum matter, if the result is scaled to length 1 anyway?",
        "`F.normalize(x, dim=-1)` scales to length 1, and leaves zeros as they are.",
    ],
)
def mean_pool(rng):
    """Trials for the unit vector of each sentence's average over real tokens."""

    def right(lengths, t):
        return (torch.arange(t) < torch.tensor(lengths)[:, None]).long()

    yield trial("padding at the end", hidden=rng.normal(3, 5, 4), mask=right([5, 2, 3], 5))
    yield trial("large numbers in the padding", hidden=_with_noise(rng, [2, 4, 1], 4), mask=right([2, 4, 1], 4))
    yield trial("padding at the start", hidden=rng.normal(2, 4, 3), mask=right([1, 3], 4).flip(1))
    yield trial("one sentence", hidden=rng.normal(1, 6, 3), mask=right([4], 6))
    yield trial("one token", hidden=10 * rng.normal(2, 1, 5), mask=right([1, 1], 1))
    yield trial("one feature", hidden=rng.normal(3, 4, 1), mask=right([2, 4, 3], 4))
    yield trial("all axes equal", hidden=rng.normal(3, 3, 3), mask=right([1, 3, 2], 3))
    yield trial("not contiguous", hidden=rng.normal(4, 2, 3).permute(1, 2, 0), mask=right([3, 1], 3))


def _with_noise(rng, lengths, t):
    hidden = rng.normal(len(lengths), t, 3)
    for row, length in enumerate(lengths):
        hidden[row, length:] += 1000
    return hidden


def _pooled(hidden, mask):
    return (hidden * mask[..., None]).sum(1)


@mean_pool.mistake("The padding was averaged as well. Multiply each vector by its mask, 0 or 1, before you sum.")
def averages_the_padding(hidden, mask):
    return F.normalize(hidden.sum(1), dim=-1)


@mean_pool.mistake("The average is right, but its length is not 1: `F.normalize` scales it.")
def does_not_normalise(hidden, mask):
    return _pooled(hidden, mask) / mask.sum(1, keepdim=True)


@mean_pool.mistake(
    "You took the first vector, which is another way to pool (CLS). Here it is the mean over the real tokens."
)
def takes_the_first(hidden, mask):
    return F.normalize(hidden[:, 0], dim=-1)


@mean_pool.mistake("Each token was scaled to length 1 before the average. Average first, then scale the average.")
def normalises_the_tokens(hidden, mask):
    return F.normalize(_pooled(F.normalize(hidden, dim=-1), mask), dim=-1)


def call_and_look_at_gradients(function, arguments):
    """Like `call`, and which parameters of the model ask for gradients afterwards."""
    evidence = call(function, arguments)
    model = arguments["model"]
    return evidence | {"requires_grad": {name: p.requires_grad for name, p in model.named_parameters()}}


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "`module.requires_grad_(False)` freezes all parameters of a module at once.",
        "`model.bert.encoder.layer` is a `ModuleList`: it can be sliced like a list.",
        "The answer lists the names whose parameter still has `requires_grad`.",
    ],
    probe=call_and_look_at_gradients,
)
def freeze_layers(rng):
    """Trials for the names that are trained after freezing, and for what is frozen."""

    def bert(layers):
        return _model(rng, "BertForSequenceClassification", False, hidden_size=4, num_hidden_layers=layers)

    yield trial("one of three layers", model=bert(3), n=1)
    yield trial("two of three layers", model=bert(3), n=2)
    yield trial("the embeddings alone", model=bert(2), n=0)
    yield trial("all layers", model=bert(2), n=2)
    yield trial("more than one of twelve layers", model=bert(12), n=rng.integer(2, 12))
    # Which parameters of three layers are frozen already is drawn, so that the answer differs from seed to seed.
    for name, n in (("some are frozen already", 1), ("some are frozen already, the lowest stay", 0)):
        model = bert(3)
        model.classifier.bias.requires_grad_(False)
        model.bert.encoder.layer[2].attention.requires_grad_(False)
        parameters = list(model.bert.encoder.layer.parameters())
        for parameter, frozen in zip(parameters, rng.booleans(len(parameters), share=0.3).tolist(), strict=True):
            if frozen:
                parameter.requires_grad_(False)
        yield trial(name, model=model, n=n)


def _trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@freeze_layers.mistake("The embeddings are still trained. They lie below the lowest layer: freeze them as well.")
def leaves_the_embeddings(model, n):
    model.bert.encoder.layer[:n].requires_grad_(False)
    return _trained(model)


@freeze_layers.mistake("One layer too many is frozen: the lowest n layers are 0 to n − 1.")
def freezes_one_more(model, n):
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[: n + 1].requires_grad_(False)
    return _trained(model)


@freeze_layers.mistake(
    "These are the *upper* layers. The lowest ones, next to the embeddings, have the smallest numbers."
)
def freezes_the_top(model, n):
    model.bert.embeddings.requires_grad_(False)
    layers = model.bert.encoder.layer
    layers[len(layers) - n :].requires_grad_(False)
    return _trained(model)


@freeze_layers.mistake(
    "Layer 1 took layers 10 and 11 with it: their names begin with `bert.encoder.layer.1` too. Compare with the dot after "
    "the number, or use the list of layers."
)
def compares_prefixes(model, n):
    prefixes = ("bert.embeddings", *(f"bert.encoder.layer.{index}" for index in range(n)))
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    return _trained(model)


@freeze_layers.mistake("These are the names of what is frozen. Return those that are still trained.")
def returns_the_frozen(model, n):
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:n].requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


@freeze_layers.mistake("Parameters that were frozen before are trained now. Leave all others as they are.")
def thaws_the_rest(model, n):
    model.requires_grad_(True)
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:n].requires_grad_(False)
    return _trained(model)


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "The cosine of two vectors is the inner product of the two, each scaled to length 1 first.",
        "(q, d) @ (d, n) is (q, n), and (d,) @ (d, n) is (n,): one line serves both.",
        "`topk` refuses k > n. `min` helps.",
    ],
)
def search(rng):
    """Trials for the k largest cosines and their indices."""
    lengths = torch.tensor([[0.01], [100.0], [1.0], [7.0], [0.5], [30.0]])
    yield trial("unit vectors", query=_units(rng, 2, 4), corpus=_units(rng, 5, 4), k=3)
    yield trial("passages of any length", query=rng.normal(2, 4), corpus=rng.normal(6, 4) * lengths, k=3)
    yield trial("queries of any length", query=50 * rng.normal(3, 5), corpus=_units(rng, 4, 5), k=2)
    yield trial("one query without a batch", query=3 * rng.normal(4), corpus=rng.normal(6, 4) * lengths, k=2)
    yield trial("a batch of one query", query=rng.normal(1, 4), corpus=rng.normal(6, 4), k=2)
    yield trial("k is larger than n", query=rng.normal(2, 3), corpus=rng.normal(4, 3), k=9)
    yield trial("one query, k is larger than n", query=rng.normal(3), corpus=rng.normal(2, 3), k=5)
    yield trial("k is 1", query=rng.normal(3, 4), corpus=rng.normal(7, 4), k=1)
    yield trial("one passage", query=rng.normal(3, 2), corpus=rng.normal(1, 2), k=1)
    yield trial("as many features as passages", query=rng.normal(2, 5), corpus=rng.normal(5, 5), k=4)
    yield trial("all cosines negative", query=rng.uniform(2, 3), corpus=-rng.uniform(5, 3, low=0.1), k=3)
    yield trial("not contiguous", query=rng.normal(4, 2).T, corpus=rng.normal(4, 5).T, k=2)


def _units(rng, *shape):
    return F.normalize(rng.normal(*shape), dim=-1)


def _best(scores, k, largest=True):
    return tuple(scores.topk(min(k, scores.shape[-1]), dim=-1, largest=largest))


def _cosines(query, corpus):
    return F.normalize(query, dim=-1) @ F.normalize(corpus, dim=-1).T


@search.mistake("These are inner products: long vectors win. Scale queries and passages to length 1 first.")
def does_not_normalise_vectors(query, corpus, k):
    return _best(query @ corpus.T, k)


@search.mistake("Only the query was scaled to length 1, so long passages win. Scale the passages as well.")
def normalises_the_query(query, corpus, k):
    return _best(F.normalize(query, dim=-1) @ corpus.T, k)


@search.mistake(
    "The passages are in the right order, but the scores are no cosines: scale the query to length 1 as well."
)
def normalises_the_corpus(query, corpus, k):
    return _best(query @ F.normalize(corpus, dim=-1).T, k)


@search.mistake("These are the *least* similar passages. A large cosine means similar, unlike a distance.")
def worst_first(query, corpus, k):
    return _best(_cosines(query, corpus), k, largest=False)


@search.mistake("The pair is in the wrong order: cosines first, then indices.")
def indices_first(query, corpus, k):
    return _best(_cosines(query, corpus), k)[::-1]


@search.mistake("`topk` refuses to give k of fewer than k passages. Ask for `min(k, n)`.")
def asks_for_too_many(query, corpus, k):
    best = _cosines(query, corpus).topk(k, dim=-1)
    return best.values, best.indices


@search.mistake("A single query of shape (d,) came back with a batch axis. Its two results have the shape (k,).")
def always_a_batch(query, corpus, k):
    return _best(_cosines(torch.atleast_2d(query), corpus), k)


@search.mistake(
    "The vectors run along the last axis, but each *column* was scaled: `F.normalize` takes axis 1 unless told."
)
def normalises_columns(query, corpus, k):
    return _best(F.normalize(query, dim=0) @ F.normalize(corpus, dim=0).T, k)


def call_for_dataset(function, arguments):
    """The rows of the data set that comes back, its classes' names, and whether the tokenizer had lists of texts."""
    import datasets

    base = _transformers().PreTrainedTokenizerBase
    original, counts = base.__call__, []

    def counting(self, *texts, **settings):
        given = texts[0] if texts else settings.get("text")
        counts.append(1 if isinstance(given, str) else len(given))
        return original(self, *texts, **settings)

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with patch.object(base, "__call__", counting):
            result = apply(function, arguments)
    finally:
        if not bars:
            datasets.enable_progress_bars()
    classes = {}
    if isinstance(result, datasets.Dataset):
        labels = {name: kind for name, kind in result.features.items() if isinstance(kind, datasets.ClassLabel)}
        classes = {name: list(kind.names) for name, kind in labels.items()}
        result = dict(result.with_format(None)[:])
    several = len(arguments["dataset"]) > 1  # a single row comes in a list of one
    return {
        "result": collect(result),
        "names of the classes": collect(classes),
        "way to give the texts": "one at a time" if several and counts and max(counts) == 1 else "in lists",
    }


@exercise(
    points=2,
    level=2,
    minutes=8,
    hints=[
        "`dataset.map(function, batched=True)` gives your function a dictionary of columns, each a list of many values.",
        "What your function returns becomes new columns. The tokenizer's call returns just such a dictionary.",
        "`remove_columns` of `map` takes the columns that must go. Which arguments of the tokenizer cut, and which pad?",
    ],
    probe=call_for_dataset,
)
def tokenize_dataset(rng):
    """Trials for the tokenizer's columns in place of the text."""
    from datasets import ClassLabel, Dataset, Features, Value

    texts = _texts(rng, 3, 1, 5, 2)
    labels, sources = rng.integers(0, 3, 4).tolist(), ["shop", "film", "shop", "food"]
    three = Dataset.from_dict({"text": texts, "label": labels, "source": sources})
    yield trial("three columns", dataset=three, tokenizer=_tokenizer(rng))
    stars = Dataset.from_dict({"stars": [rng.number(1, 5), 2.5], "text": _texts(rng, 9, 2)})
    left = _tokenizer(rng, special=False, side="left", types=True, max_length=12)
    yield trial("padding on the left, token types", dataset=stars, tokenizer=left)
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})  # a cast would draw a bar
    columns = {"text": _texts(rng, 2, 4, 1), "label": rng.integers(0, 2, 3).tolist()}
    named = Dataset.from_dict(columns, features=kinds)
    yield trial("labels with names", dataset=named, tokenizer=_tokenizer(rng))
    one = Dataset.from_dict({"text": _texts(rng, 2), "label": [1]})
    yield trial("one row", dataset=one, tokenizer=_tokenizer(rng, max_length=20))


def _mapped(dataset, tokenizer, remove, batched, **settings):
    settings = {"truncation": True} | settings
    return dataset.map(lambda rows: tokenizer(rows["text"], **settings), batched=batched, remove_columns=remove)


@tokenize_dataset.mistake("The column `text` is still there. `map` adds columns; `remove_columns` takes away.")
def keeps_the_text(dataset, tokenizer):
    return _mapped(dataset, tokenizer, remove=None, batched=True)


@tokenize_dataset.mistake("All old columns are gone, the labels too. Remove `text` alone.")
def removes_all_columns(dataset, tokenizer):
    return _mapped(dataset, tokenizer, remove=dataset.column_names, batched=True)


@tokenize_dataset.mistake(
    "The rows are padded here, to the longest of 1000. Leave it to the collator, which pads to the longest of its batch."
)
def pads_here(dataset, tokenizer):
    return _mapped(dataset, tokenizer, remove="text", batched=True, padding=True)


@tokenize_dataset.mistake(
    "Every row is padded to the tokenizer's maximum. Do not pad: the collator does, batch by batch."
)
def pads_to_the_maximum(dataset, tokenizer):
    return _mapped(dataset, tokenizer, remove="text", batched=True, padding="max_length")


@tokenize_dataset.mistake(
    "Right, but the tokenizer had one text per call, which is many times slower. `map(…, batched=True)` gives it 1000 at a "
    "time, unless `batch_size` says less."
)
def one_row_at_a_time(dataset, tokenizer):
    return _mapped(dataset, tokenizer, remove="text", batched=False)


@tokenize_dataset.mistake(
    "The rows are right, but this is a new data set: `from_dict` does not know that the labels had names. Change the given "
    "one, by `map`."
)
def builds_a_new_one(dataset, tokenizer):
    columns = {name: list(dataset[name]) for name in dataset.column_names if name != "text"}
    return type(dataset).from_dict(columns | dict(tokenizer(list(dataset["text"]), truncation=True)))


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "The prediction is the class with the largest logit in its row: which axis?",
        "`np.union1d(labels, predictions)` gives the classes that occur in either.",
        "2·TP + FP + FN is how often the class occurs among the labels, plus how often among the predictions.",
        "NumPy's own numbers are not all Python floats: `float(…)`.",
    ],
    probe=call_for_numbers,
)
def compute_metrics(rng):
    """Trials for accuracy and macro F1."""
    prediction = _transformers().EvalPrediction

    def drawn(n, classes, **settings):
        return rng.normal(n, classes, **settings).numpy(), rng.integers(0, classes, n).numpy()

    def chosen(classes, predictions, labels):
        logits = rng.normal(len(predictions), classes) + 9 * F.one_hot(torch.tensor(predictions), classes)
        return logits.numpy(), torch.tensor(labels).numpy()

    logits, labels = drawn(12, 3)
    yield trial("three classes", eval_prediction=prediction(logits, labels))
    yield trial("a plain tuple", eval_prediction=drawn(9, 2))
    predicted = [0, 2, 1, 1, 0, 2]
    yield trial("a class that no label has", eval_prediction=chosen(4, predicted, [0, 0, 1, 1, 0, 1]))
    yield trial("a class never predicted", eval_prediction=chosen(3, [0, 0, 1, 1, 0], [0, 0, 1, 2, 2]))
    yield trial("a class that does not occur", eval_prediction=chosen(5, [0, 4, 1, 1], [0, 4, 1, 0]))
    yield trial("unequal classes", eval_prediction=chosen(2, [0] * 8 + [1, 0], [0] * 8 + [1, 1]))
    yield trial("all right", eval_prediction=chosen(3, [2, 0, 0], [2, 0, 0]))
    yield trial("all wrong", eval_prediction=chosen(3, [1, 1, 0], [2, 0, 1]))
    yield trial("one sentence", eval_prediction=chosen(2, [1], [1]))
    yield trial("float64, many", eval_prediction=prediction(*drawn(40, 6, dtype=torch.float64)))
    yield trial("float16 logits", eval_prediction=drawn(15, 4, dtype=torch.float16))


def _scores(labels, predictions, classes):
    import numpy as np

    hits = [((labels == c) & (predictions == c)).sum() for c in classes]
    counts = [max((labels == c).sum() + (predictions == c).sum(), 1) for c in classes]
    return np.array([2 * hit / count for hit, count in zip(hits, counts, strict=True)])


def _report(labels, predictions, f1):
    return {"accuracy": float((labels == predictions).mean()), "macro_f1": float(f1)}


def _taken_apart(eval_prediction):
    logits, labels = eval_prediction
    return labels, logits.argmax(-1)


@compute_metrics.mistake(
    "Classes that do not occur at all count as 0 in your mean. Average over those among the labels or predictions."
)
def averages_over_all_classes(eval_prediction):
    logits, labels = eval_prediction
    predictions = logits.argmax(-1)
    return _report(labels, predictions, _scores(labels, predictions, range(logits.shape[1])).mean())


@compute_metrics.mistake("A class that is predicted but is no label is left out of the mean. It has F1 0, and counts.")
def averages_over_the_labels(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    return _report(labels, predictions, _scores(labels, predictions, sorted(set(labels.tolist()))).mean())


@compute_metrics.mistake(
    "F1 over all sentences together (micro) is the accuracy again. Macro is the plain mean of the classes' F1."
)
def micro(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    return _report(labels, predictions, (labels == predictions).mean())


@compute_metrics.mistake("Large classes weigh more in your mean. In macro F1 each class counts the same.")
def weighs_by_size(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    classes = sorted({*labels.tolist(), *predictions.tolist()})
    sizes = [(labels == c).sum() for c in classes]
    f1 = (_scores(labels, predictions, classes) * sizes).sum() / len(labels)
    return _report(labels, predictions, f1)


@compute_metrics.mistake("This is the F1 score of class 1 alone. Macro is the mean over the classes.")
def one_class_only(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    return _report(labels, predictions, _scores(labels, predictions, [1])[0])


@compute_metrics.mistake(
    "This is the mean of the classes' recalls (TP over the labels of the class). F1 also counts what was wrongly predicted."
)
def averages_recalls(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    classes = sorted({*labels.tolist(), *predictions.tolist()})
    recalls = [((labels == c) & (predictions == c)).sum() / max((labels == c).sum(), 1) for c in classes]
    return _report(labels, predictions, sum(recalls) / len(recalls))


@compute_metrics.mistake("These are percentages. Return shares, from 0 to 1.")
def as_percentages(eval_prediction):
    labels, predictions = _taken_apart(eval_prediction)
    classes = sorted({*labels.tolist(), *predictions.tolist()})
    report = _report(labels, predictions, _scores(labels, predictions, classes).mean())
    return {name: 100 * value for name, value in report.items()}


def call_and_watch(function, arguments):
    """The result, and the mode in which the model computed it."""
    model, modes = arguments["model"], []
    model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    evidence = call(function, arguments)
    return evidence | {"training mode during the call": any(modes)}


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Take one batch of at most 32 texts: tokenizer, model, softmax over the last axis. Then put a loop around it.",
        "Give the model everything that the tokenizer returns, `model(**batch)`: the mask hides the padding.",
        "`model.eval()` switches dropout off. Call it before the loop.",
        "`range(0, len(texts), 32)` is empty for no texts: then the loop does nothing.",
    ],
    probe=call_and_watch,
)
def classify(rng):
    """Trials for label and score of each text."""

    def model(names, training=False, **sizes):
        found = _model(
            rng,
            "BertForSequenceClassification",
            num_labels=len(names),
            hidden_dropout_prob=0.5,
            **{"num_hidden_layers": 1} | sizes,
        )
        found.config.id2label = dict(enumerate(names))
        return found.train(training)

    two, three = ["bad", "good"], ["LABEL_2", "LABEL_0", "dull"]
    texts = _texts(rng, 3, 1, 6, 2)
    yield trial("four texts, two layers", model=model(two, num_hidden_layers=2), tokenizer=_tokenizer(rng), texts=texts)
    yield trial("a model in training mode", model=model(two, True), tokenizer=_tokenizer(rng), texts=_texts(rng, 1, 4))
    yield trial("three classes", model=model(three), tokenizer=_tokenizer(rng, types=True), texts=_texts(rng, 2, 5, 1))
    many = _texts(rng, *rng.integers(1, 4, 35).tolist())
    many[20] = many[3]  # who keeps results in a dictionary by text has one too few
    yield trial("35 texts", model=model(two), tokenizer=_tokenizer(rng), texts=many)
    yield trial("one text", model=model(three), tokenizer=_tokenizer(rng), texts=_texts(rng, 4))
    yield trial("no texts", model=model(two, True), tokenizer=_tokenizer(rng), texts=[])


def _softmax(logits):
    return logits.softmax(-1)


def _classified(model, tokenizer, texts, mask, squash):
    found = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], padding=True, truncation=True, return_tensors="pt")
        if not mask:
            batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
        scores, labels = squash(model(**batch).logits).max(-1)
        names = [model.config.id2label[label] for label in labels.tolist()]
        found += [{"label": name, "score": score} for name, score in zip(names, scores.tolist(), strict=True)]
    return found


def _in_eval_mode(model, tokenizer, texts, mask, squash):
    with torch.no_grad():
        return _classified(model.eval(), tokenizer, texts, mask, squash)


@classify.mistake(
    "The mask did not reach the model: it took the padding for text, so a result depends on its neighbours."
)
def without_the_mask(model, tokenizer, texts):
    return _in_eval_mode(model, tokenizer, texts, mask=False, squash=_softmax)


@classify.mistake(
    "In training mode dropout is at work, and the results change from call to call: `model.eval()` first."
)
def keeps_the_mode(model, tokenizer, texts):
    with torch.no_grad():
        return _classified(model, tokenizer, texts, mask=True, squash=_softmax)


@classify.mistake(
    "Each logit went through a sigmoid, alone. The classes exclude each other: softmax over the last axis."
)
def sigmoid(model, tokenizer, texts):
    return _in_eval_mode(model, tokenizer, texts, mask=True, squash=torch.sigmoid)


@classify.mistake("The score is the largest logit. The softmax turns logits into probabilities.")
def returns_logits(model, tokenizer, texts):
    return _in_eval_mode(model, tokenizer, texts, mask=True, squash=lambda logits: logits)


@classify.mistake("The label is a number. `model.config.id2label` has its name.")
def numbers_as_labels(model, tokenizer, texts):
    numbers = {name: number for number, name in model.config.id2label.items()}
    found = _in_eval_mode(model, tokenizer, texts, mask=True, squash=_softmax)
    return [entry | {"label": numbers[entry["label"]]} for entry in found]


@classify.mistake("The results stand in another order than the texts. Sorting by length is fine, if you sort back.")
def sorts_by_length(model, tokenizer, texts):
    return _in_eval_mode(model, tokenizer, sorted(texts, key=len), mask=True, squash=_softmax)


def call_then_change_state(function, arguments):
    """The report, and the tensors that the model held before the call: with their values after it."""
    model, state = arguments["model"], arguments["state"]
    given, before = list(state.values()), collect(state)
    held = model.state_dict()  # held: the same memory as the parameters and buffers
    result = apply(function, arguments)
    changed = sorted(before.keys() ^ state.keys())
    both = [name for name in before if name in state]
    changed += [name for name in both if difference(before[name], collect(state[name]), name, exact=True)]
    for tensor in given:
        tensor.add_(1)
    return {
        "result": collect(result),
        "model": collect(model),
        "model's original tensors": collect(held),
        "list of names in state that were changed": changed,
    }


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`model.state_dict().keys()` and `state.keys()` work like sets: `&` gives what both have, `-` what only one has.",
        "Names in both are of two kinds: with equal shapes, and without.",
        "`model.load_state_dict(part, strict=False)` copies the names that `part` has, and accepts that others are missing.",
    ],
    probe=call_then_change_state,
)
def load_matching(rng):
    """Trials for what is copied, and for the three lists."""

    def state(**shapes):
        return {name.replace("__", "."): rng.normal(*shape) for name, shape in shapes.items()}

    def two_layers():
        return rng.fill(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))

    yield trial("one missing, one unexpected", model=rng.fill(nn.Linear(3, 2)), state=state(weight=(2, 3), scale=(2,)))
    new_head = {"0.weight": (4, 3), "2.weight": (5, 4), "0.bias": (4,), "2.bias": (5,)}
    yield trial("a head of another size", model=two_layers(), state=state(**new_head))
    yield trial("equally many numbers in another shape", model=rng.fill(nn.Linear(3, 2)), state=state(weight=(3, 2)))
    yield trial("shapes that broadcast", model=rng.fill(nn.Linear(3, 2)), state=state(weight=(3,), bias=(1,)))
    norm = rng.fill(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    buffers = state(**{"1.running_var": (3,), "1.bias": (3,), "z": (1,), "a": (2,)})
    buffers["1.num_batches_tracked"] = rng.integers(100, 200)  # which torch forgives where it is missing
    yield trial("buffers", model=norm, state=buffers)
    yield trial("nothing fits", model=rng.fill(nn.Linear(2, 2)), state=state(other__weight=(2, 2), other__bias=(2,)))
    yield trial("all fits", model=rng.fill(nn.Linear(1, 2)), state=state(weight=(2, 1), bias=(2,)))
    yield trial("an empty checkpoint", model=two_layers(), state={})
    mixed = state(weight=(2, 3), bias=(2,))
    mixed["bias"] = mixed["bias"].double()
    yield trial("another dtype", model=rng.fill(nn.Linear(3, 2)), state=mixed)
    passing = nn.Linear(2, 3)
    passing.register_buffer("positions", torch.arange(3.0), persistent=False)
    saved = state(weight=(3, 2), positions=(3,))
    yield trial("a buffer that is not saved", model=rng.fill(passing), state=saved)
    tied = nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Linear(3, 4))
    tied[2].weight = tied[0].weight
    shared = rng.normal(4, 3)
    twice = {"0.weight": shared, "2.weight": shared.clone()}  # equal, so that it does not matter which comes last
    yield trial("one weight under two names", model=rng.fill(tied), state=twice)


def _lists(model, state):
    own = model.state_dict()
    both = own.keys() & state.keys()
    fitting = {name for name in both if own[name].shape == state[name].shape}
    lists = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "mismatched": both - fitting,
    }
    return fitting, {name: sorted(names) for name, names in lists.items()}


@load_matching.mistake("The lists are right, but nothing was copied into the model.")
def only_reports(model, state):
    return _lists(model, state)[1]


@load_matching.mistake(
    "A tensor of another shape was copied by broadcasting: `copy_` repeats it where it can. Compare the shapes first."
)
def copies_what_broadcasts(model, state):
    _, lists = _lists(model, state)
    own = model.state_dict()
    for name in own.keys() & state.keys():
        try:
            own[name].copy_(state[name])
        except RuntimeError:
            continue
    return lists


@load_matching.mistake("`missing` and `unexpected` are swapped: missing is what the checkpoint lacks.")
def swaps_the_lists(model, state):
    fitting, lists = _lists(model, state)
    model.load_state_dict({name: state[name] for name in fitting}, strict=False)
    return lists | {"missing": lists["unexpected"], "unexpected": lists["missing"]}


@load_matching.mistake(
    "What has another shape is listed as missing as well. It is in the checkpoint: `mismatched` alone."
)
def counts_mismatched_twice(model, state):
    fitting, lists = _lists(model, state)
    model.load_state_dict({name: state[name] for name in fitting}, strict=False)
    return lists | {"missing": sorted(lists["missing"] + lists["mismatched"])}


@load_matching.mistake(
    "Only parameters were looked at. Running statistics are buffers: `state_dict()` has them, `named_parameters()` not."
)
def forgets_the_buffers(model, state):
    fitting, lists = _lists(model, state)
    own = dict(model.named_parameters())
    model.load_state_dict({name: state[name] for name in fitting & own.keys()}, strict=False)
    return lists | {
        "missing": [name for name in lists["missing"] if name in own],
        "unexpected": sorted(state.keys() - own.keys()),
    }


@load_matching.mistake(
    "`named_parameters` and `named_buffers` are not quite the entries of `state_dict()`: they give a shared weight one name, "
    "and hold buffers that are never saved."
)
def joins_parameters_and_buffers(model, state):
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    common = own.keys() & state.keys()
    fitting = {name for name in common if own[name].shape == state[name].shape}
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(state[name])
    return {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "mismatched": sorted(common - fitting),
    }


@load_matching.mistake(
    "The model now *shares* its tensors with the checkpoint, and an optimiser would still hold the old ones. Copy in place."
)
def takes_the_tensors(model, state):
    fitting, lists = _lists(model, state)
    model.load_state_dict({name: state[name] for name in fitting}, strict=False, assign=True)
    return lists


@load_matching.mistake(
    "`load_state_dict` refuses shapes that differ, even with `strict=False`, which forgives names only. Sort them out first."
)
def leaves_it_to_strict(model, state):
    found = model.load_state_dict(state, strict=False)
    lists = {"missing": sorted(found.missing_keys), "unexpected": sorted(found.unexpected_keys), "mismatched": []}
    return lists


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "The logits at position i are the model's guess at token i + 1. Which logits have no target, which token no guess?",
        "Cut off the last logits and the first token; then the two line up for `F.cross_entropy`.",
        "`F.cross_entropy` gives L, the mean of −log p. One function is left, and `.item()`.",
    ],
    probe=call_for_number,
)
def perplexity(rng):
    """Trials for exp(mean of −log p) over all tokens but the first."""

    def llama(scale=1.0):
        model = _model(rng, "LlamaForCausalLM")
        with torch.no_grad():
            model.lm_head.weight.mul_(scale)
        return model

    yield trial("some words", model=llama(), tokenizer=_tokenizer(rng), text=_texts(rng, 5)[0])
    yield trial("no special tokens", model=llama(), tokenizer=_tokenizer(rng, special=False), text=_texts(rng, 7)[0])
    yield trial("two tokens", model=llama(), tokenizer=_tokenizer(rng, special=False), text=_texts(rng, 2)[0])
    yield trial("all equally probable", model=llama(0.0), tokenizer=_tokenizer(rng), text=_texts(rng, 4)[0])
    yield trial("a long text", model=llama(0.3), tokenizer=_tokenizer(rng, side="left"), text=_texts(rng, 40)[0])
    padded_with_ends = _tokenizer(rng, pad="</s>")
    yield trial("the end token is the padding token", model=llama(), tokenizer=padded_with_ends, text=_texts(rng, 4)[0])


def _loss(model, tokenizer, text, shift=1, reduction="mean"):
    ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0]
    return F.cross_entropy(logits[: len(ids) - shift], ids[shift:], reduction=reduction)


@perplexity.mistake(
    "Each token was compared with the logits *at* its place, which were computed from it. They foresee the next one: shift."
)
def does_not_shift(model, tokenizer, text):
    return _loss(model, tokenizer, text, shift=0).exp().item()


@perplexity.mistake("This is L, the mean cross-entropy. The perplexity is e to the L.")
def returns_the_loss(model, tokenizer, text):
    return _loss(model, tokenizer, text).item()


@perplexity.mistake("L is a mean over the tokens, not their sum: else long texts would always be more surprising.")
def sums_the_losses(model, tokenizer, text):
    return _loss(model, tokenizer, text, reduction="sum").exp().item()


@perplexity.mistake("2 to the L. `F.cross_entropy` uses natural logarithms, so it is e to the L.")
def to_base_two(model, tokenizer, text):
    return 2 ** _loss(model, tokenizer, text).item()


@perplexity.mistake("The sum was divided by all tokens. The first one has no guess, so there is one term fewer.")
def divides_by_all_tokens(model, tokenizer, text):
    count = len(tokenizer(text)["input_ids"])
    return (_loss(model, tokenizer, text, reduction="sum") / count).exp().item()


@perplexity.mistake("This averages the perplexities of the tokens. Average −log p first, then take e to it.")
def averages_perplexities(model, tokenizer, text):
    return _loss(model, tokenizer, text, reduction="none").exp().mean().item()


@perplexity.mistake(
    "Tokens that equal the padding token were left out. One text has no padding, and with many models the end token has the "
    "same number: every token counts."
)
def leaves_out_the_padding(model, tokenizer, text):
    ids = tokenizer(text, return_tensors="pt")["input_ids"][0]
    losses = _loss(model, tokenizer, text, reduction="none")
    return losses[ids[1:] != tokenizer.pad_token_id].mean().exp().item()


class _Bag(nn.Module):
    """A small classifier with the outputs of the library's: the mean of the word vectors, then two layers."""

    def __init__(self, rng, classes=3):
        super().__init__()
        self.words = nn.Embedding(12, 5)
        self.hidden, self.out = nn.Linear(5, 6), nn.Linear(6, classes)
        self.modes = []
        rng.fill(self)

    def forward(self, input_ids, attention_mask=None, labels=None):
        self.modes.append(self.training)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mean = (self.words(input_ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = self.out(self.hidden(mean).tanh())
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return _transformers().modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)


def train_and_look(function, arguments):
    """The result, the model's weights and modes, and the learning rate, after the epoch; the batches, if changed."""
    evidence = call(function, arguments)
    model, optimizer = arguments["model"], arguments["optimizer"]
    changed = evidence.pop("changed")  # the model is meant to change
    return {
        "result": evidence["result"],
        "weights": collect(dict(model.state_dict())),
        "training mode": model.modes,
        "learning rate": optimizer.param_groups[0]["lr"],
        "changed": {name: value for name, value in changed.items() if name == "batches"},
    }


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Go through the loop line by line and say what each line is for. Which two lines undo each other's work?",
        "The order is: forward, clear the old gradients, backward, step of the optimiser, step of the scheduler.",
        "What does the model take for text where `attention_mask` is missing?",
        "The mean of the batches' losses gives a short batch too much weight. Count the sentences.",
        "`model.eval()` switches dropout off.",
    ],
    probe=train_and_look,
)
def finetune_epoch(rng):
    """Trials for one epoch: the mean loss, and the model after it."""

    def batch(b, t):
        lengths = rng.integers(1, t + 1, b)
        lengths[0] = t
        mask = (torch.arange(t) < lengths[:, None]).long()
        ids = rng.integers(1, 12, b, t) * mask
        return {"input_ids": ids, "attention_mask": mask, "labels": rng.integers(0, 3, b)}

    def setting(sizes, momentum=0.9, stale=False, steps=10):
        model = _Bag(rng).eval()
        for parameter in model.parameters():
            noise = rng.normal(*parameter.shape)
            parameter.grad = noise if stale else None
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        batches = [batch(*size) for size in sizes]
        return {"model": model, "batches": batches, "optimizer": optimizer, "scheduler": scheduler}

    yield trial("three batches", **setting([(4, 5), (4, 3), (4, 6)]))
    yield trial("the last batch is short", **setting([(6, 4), (6, 5), (1, 3)], momentum=0.0))
    yield trial("old gradients in the model", **setting([(3, 4), (3, 2)], stale=True))
    yield trial("one batch", **setting([(2, 3)], steps=4))
    yield trial("the rate reaches 0", **setting([(2, 3), (3, 5), (2, 2), (2, 4)], steps=3))
    once = setting([(4, 3), (4, 5), (2, 4)])
    yield trial("batches from a generator", **once | {"batches": (one for one in once["batches"])})


def _epoch(model, batches, optimizer, scheduler, fault):
    """The epoch as it should be, but for one fault."""
    model.train(fault != "eval mode")
    total, count = 0.0, 0
    for batch in batches:
        weight = len(batch["labels"])
        given = {name: batch[name] for name in ("input_ids", "labels")} if fault == "no mask" else batch
        loss = model(**given).loss
        if fault != "never clears":
            optimizer.zero_grad()
        loss.backward()
        if fault == "clears too late":
            optimizer.zero_grad()
        if fault == "scheduler first":
            scheduler.step()
        optimizer.step()
        if fault not in ("scheduler first", "once per epoch"):
            scheduler.step()
        total, count = total + weight * loss.item(), count + weight
    if fault == "once per epoch":
        scheduler.step()
    return total / count


@finetune_epoch.mistake("The model trained in eval mode, as the evaluation left it. `model.train()` at the start.")
def trains_in_eval_mode(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "eval mode")


@finetune_epoch.mistake(
    "The model did not get `attention_mask`, so it read the padding as words. `model(**batch)` gives all."
)
def forgets_the_mask(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "no mask")


@finetune_epoch.mistake(
    "The gradients are cleared between `backward` and `step`, so the optimiser finds none. Clear them before `backward`."
)
def clears_too_late(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "clears too late")


@finetune_epoch.mistake("Gradients of earlier batches are still there: `backward` adds. Clear them in each round.")
def never_clears(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "never clears")


@finetune_epoch.mistake(
    "The gradients are cleared after each step only, so the old ones that the model came with went into the first step."
)
def keeps_old_gradients(model, batches, optimizer, scheduler):
    model.train()
    total, count = 0.0, 0
    for batch in batches:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        total, count = total + len(batch["labels"]) * loss.item(), count + len(batch["labels"])
    return total / count


@finetune_epoch.mistake(
    "The gradients are cleared once, before the loop. `backward` adds to those of the batch before: clear them in each round."
)
def clears_once(model, batches, optimizer, scheduler):
    optimizer.zero_grad()
    return _epoch(model, batches, optimizer, scheduler, "never clears")


@finetune_epoch.mistake(
    "The scheduler steps before the optimiser, so the first learning rate is skipped. First `optimizer.step()`, then "
    "`scheduler.step()`."
)
def steps_the_scheduler_first(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "scheduler first")


@finetune_epoch.mistake(
    "The scheduler made one step in the whole epoch. It counts steps of the optimiser: call it after each of them."
)
def steps_once_per_epoch(model, batches, optimizer, scheduler):
    return _epoch(model, batches, optimizer, scheduler, "once per epoch")


@finetune_epoch.mistake(
    "This is the mean over the batches, so a sentence in a short batch counts more. Weigh each loss by its sentences."
)
def averages_over_batches(model, batches, optimizer, scheduler):
    model.train()
    total = 0.0
    for batch in batches:
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(batches)


@finetune_epoch.mistake(
    "`batches` was gone through twice, to count and to train. A generator can be gone through once: count the sentences in "
    "the same loop."
)
def counts_before_it_trains(model, batches, optimizer, scheduler):
    sentences = sum(len(batch["labels"]) for batch in batches)
    model.train()
    total = 0.0
    for batch in batches:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += len(batch["labels"]) * loss.item()
    return total / sentences


@finetune_epoch.mistake(
    '`pop` takes the labels out of the caller\'s batch for good: the next epoch has none. `batch["labels"]` reads them.'
)
def takes_the_labels_out(model, batches, optimizer, scheduler):
    model.train()
    total, count = 0.0, 0
    for batch in batches:
        labels = batch.pop("labels")
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total, count = total + len(labels) * loss.item(), count + len(labels)
    return total / count


@finetune_epoch.mistake("This is the program as it was given, with all five faults.")
def program_as_given(model, batches, optimizer, scheduler):
    model.eval()
    total = 0
    for batch in batches:
        outputs = model(input_ids=batch["input_ids"], labels=batch["labels"])
        outputs.loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        total += outputs.loss.item()
    scheduler.step()
    return total / len(batches)


def build_and_run(function, arguments):
    """What the class gives with and without labels, with known weights in its head, and the gradients that reach it."""
    parts = dict(arguments)
    weight, bias = parts.pop("weight"), parts.pop("bias")
    inputs = {name: parts.pop(name) for name in ("input_ids", "attention_mask")}
    labels = parts.pop("labels")
    model = apply(function, parts)
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise WrongSignature("The attribute `head` must be one linear layer, an `nn.Linear` with bias.")
    encoder = arguments["encoder"]
    evidence = {
        "encoder that the class holds": "the given one" if getattr(model, "encoder", None) is encoder else "another",
        "shapes of the head": {name: tuple(parameter.shape) for name, parameter in head.named_parameters()},
    }
    if (head.weight.shape, head.bias.shape) != (weight.shape, bias.shape):
        return evidence
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    outputs = {"output without labels": model(**inputs), "output with labels": model(**inputs, labels=labels)}
    plain = {name: dict(one) if isinstance(one, Mapping) else one for name, one in outputs.items()}
    evidence |= collect(plain)
    sources = [head.weight, encoder.get_input_embeddings().weight]
    for output, name in (("output with labels", "loss"), ("output without labels", "logits")):
        value = plain[output].get(name) if isinstance(plain[output], dict) else None
        gradients = [None, None]
        if isinstance(value, torch.Tensor) and value.requires_grad:
            asked = [source for source in sources if source.requires_grad]
            found = iter(torch.autograd.grad(value, asked, fixed_weights(value), allow_unused=True))
            gradients = [next(found) if source.requires_grad else None for source in sources]
        evidence[f"gradients of the {name}"] = collect(dict(zip(("head", "embedding"), gradients, strict=True)))
    return evidence


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Two attributes in `__init__`: `self.encoder` and `self.head`. The width is in `encoder.config.hidden_size`.",
        "`self.encoder(input_ids=…, attention_mask=…).last_hidden_state` has shape (b, t, d). The mean runs over t.",
        "Multiply by the mask as (b, t, 1), sum over t, divide by the number of real tokens.",
        "The dictionary has `logits` always, and `loss` only where `labels` is not None.",
    ],
    probe=build_and_run,
)
def SentenceClassifier(rng):
    """Trials for logits, loss and gradients of the class, given an encoder."""

    def setting(lengths, t, num_labels, side="right", **sizes):
        mask = (torch.arange(t) < torch.tensor(lengths)[:, None]).long()
        mask = mask.flip(1) if side == "left" else mask
        encoder = _model(rng, "BertModel", **sizes)
        d = encoder.config.hidden_size
        return {
            "encoder": encoder,
            "num_labels": num_labels,
            "input_ids": rng.integers(4, 40, len(lengths), t) * mask,
            "attention_mask": mask,
            "labels": rng.integers(0, num_labels, len(lengths)),
            "weight": rng.normal(num_labels, d),
            "bias": rng.normal(num_labels),
        }

    yield trial("three classes", **setting([4, 2, 1], 4, 3))
    yield trial("padding on the left", **setting([2, 5], 5, 2, side="left", num_hidden_layers=1))
    yield trial("another width", **setting([3, 3], 3, 4, hidden_size=8))
    yield trial("one sentence", **setting([6], 6, 2, num_hidden_layers=1))


class _Classifier(nn.Module):
    """What the mistakes share; each of them names its fault."""

    fault: str

    def __init__(self, encoder, num_labels):
        super().__init__()
        self.encoder = copy.deepcopy(encoder) if self.fault == "copy" else encoder
        self.head = nn.Linear(encoder.config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        given = {} if self.fault == "no mask" else {"attention_mask": attention_mask}
        hidden = self.encoder(input_ids=input_ids, **given).last_hidden_state
        if self.fault == "frozen":
            hidden = hidden.detach()
        logits = self.head(self.pooled(hidden, attention_mask[..., None]))
        if self.fault == "probabilities":
            logits = logits.softmax(-1)
        outputs = {}
        if labels is not None:
            outputs["loss"] = F.cross_entropy(logits, labels, reduction="sum" if self.fault == "sum" else "mean")
        outputs["logits"] = logits.detach() if self.fault == "detached" else logits
        return tuple(outputs.values()) if self.fault == "tuple" else outputs

    def pooled(self, hidden, real):
        if self.fault == "first":
            return hidden[:, 0]
        if self.fault == "padding":
            return hidden.mean(1)
        total = (hidden * real).sum(1)
        mean = total / (hidden.shape[1] if self.fault == "all tokens" else real.sum(1))
        return F.normalize(mean, dim=-1) if self.fault == "scaled" else mean


@SentenceClassifier.mistake("The mean runs over the padding too. Only vectors of real tokens count, and their number.")
class AveragesThePadding(_Classifier):
    fault = "padding"


@SentenceClassifier.mistake(
    "The padding counts as 0, but you divide by all t tokens. Divide by the number of real ones."
)
class DividesByAllTokens(_Classifier):
    fault = "all tokens"


@SentenceClassifier.mistake("The encoder did not get the mask, so the real tokens attended to the padding.")
class HidesTheMask(_Classifier):
    fault = "no mask"


@SentenceClassifier.mistake("This is the vector of the first token. The mean over the real tokens is asked for.")
class TakesTheFirst(_Classifier):
    fault = "first"


@SentenceClassifier.mistake("The mean was scaled to length 1. A classifier may use its length: leave it as it is.")
class ScalesTheMean(_Classifier):
    fault = "scaled"


@SentenceClassifier.mistake("These are probabilities. `F.cross_entropy` takes logits, and applies the softmax itself.")
class ReturnsProbabilities(_Classifier):
    fault = "probabilities"


@SentenceClassifier.mistake("The loss is summed over the sentences. The mean does not grow with the batch.")
class SumsTheLoss(_Classifier):
    fault = "sum"


@SentenceClassifier.mistake(
    "No gradient reaches the encoder: frozen, under `no_grad` or after `detach`, it does not learn, and only the head does. "
    "Nothing was to be frozen."
)
class FreezesTheEncoder(_Classifier):
    fault = "frozen"


@SentenceClassifier.mistake(
    "The classifier trains a copy of the encoder. Hold the one that is given: its owner goes on with it after training."
)
class CopiesTheEncoder(_Classifier):
    fault = "copy"


@SentenceClassifier.mistake(
    "The logits were detached, so a loss that somebody else computes from them trains nothing. Return them as they are."
)
class DetachesTheLogits(_Classifier):
    fault = "detached"


@SentenceClassifier.mistake("A tuple came back. `Trainer` finds `loss` and `logits` in a dictionary.")
class ReturnsATuple(_Classifier):
    fault = "tuple"


def call_and_count(function, arguments):
    """The text, the longest input of the model after its first call, and whether the library's loop was used."""
    model, lengths, used = arguments["model"], [], []
    mixin = _transformers().GenerationMixin
    library = mixin.generate

    def look(module, positional, named):
        given = [*positional[:1], named.get("input_ids"), named.get("inputs_embeds")]
        lengths.append(next(inputs for inputs in given if inputs is not None).shape[1])

    def noticed(self, *positional, **named):
        used.append(True)
        return library(self, *positional, **named)

    model.get_decoder().register_forward_pre_hook(look, with_kwargs=True)
    with patch.object(mixin, "generate", noticed):
        evidence = call(function, arguments)
    return evidence | {
        "largest number of tokens in a later call": max(lengths[1:], default=1),
        "use of model.generate": bool(used),
    }


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "Write it without the cache first: the model reads all ids, the last position's argmax is the next token, append it.",
        "`outputs.past_key_values` is the cache. Give it to the next call, and with it the new token alone, shape (1, 1).",
        "`model.generation_config.eos_token_id` is the number of the end token. Append first, then look.",
        "`tokenizer.decode(ids, skip_special_tokens=True)` takes the whole text, prompt included.",
    ],
    probe=call_and_count,
)
def generate(rng):
    """Trials for the greedy text. The tokenizer and both configurations of the model name the same end token."""

    def setting(words, limit, stop=None, special="start", layers=1, end=3):
        """stop: at which new token the text ends, None for not at all. end: the special token that ends it."""
        model = _model(rng, "LlamaForCausalLM", num_hidden_layers=layers)
        tokenizer = _tokenizer(rng, special=special, end=SPECIAL[end])
        prompt = _texts(rng, words)[0]
        model.config.eos_token_id = model.generation_config.eos_token_id = end
        if stop is not None:  # the token that is chosen there changes places with the end token
            head, pair = model.lm_head.weight.detach(), [_greedy(model, tokenizer, prompt, stop)[-1], end]
            head[pair] = head[pair[::-1]]
        path = _greedy(model, tokenizer, prompt, limit + 1)
        if (path.index(end) + 1 if end in path else None) != stop:
            return setting(words, limit, stop, special, layers, end)

        def text(limit=limit, ends=(end,), **settings):
            return _text(tokenizer, _continued(model, tokenizer, prompt, limit, ends, **settings))

        # nobody would see who does not stop, takes one token more, or forgets the cache, if the text were the same
        others = [text(ends=())] if stop else [text(limit - 1), text(limit + 1)]
        if not stop and limit > 1:
            others.append(text(cache=False))
        if text() in others:
            return setting(words, limit, stop, special, layers, end)
        return {"model": model, "tokenizer": tokenizer, "prompt": prompt, "max_new_tokens": limit}

    yield trial("the end does not come", **setting(3, 5))
    yield trial("the end comes third, two layers", **setting(4, 6, stop=3, layers=2))
    yield trial("the end comes at once", **setting(2, 5, stop=1))
    yield trial("one new token", **setting(5, 1))
    yield trial("a prompt of one token", **setting(1, 4, special=False))
    yield trial("the end token has the number 0", **setting(3, 5, stop=2, end=0))


def _greedy(model, tokenizer, prompt, count):
    """The next `count` tokens, the plain way."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(count):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    return ids[0, -count:].tolist()


def _continued(model, tokenizer, prompt, limit, ends, cache=True, feed=1):
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    new, past = ids, None
    for _ in range(limit):
        with torch.no_grad():
            outputs = model(input_ids=new, past_key_values=past, use_cache=cache)
        past = outputs.past_key_values if cache else None
        chosen = outputs.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, chosen], 1)
        new = chosen if feed else ids
        if chosen.item() in ends:
            break
    return ids[0]


def _ends(model):
    return [model.generation_config.eos_token_id]


def _text(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


@generate.mistake(
    "Each call reads the whole text again, so the work grows with the square of its length. After the first call give the "
    "new token alone, with `past_key_values`."
)
def reads_all_again(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens, _ends(model), cache=False, feed=0))


@generate.mistake(
    "Later calls got the whole text *and* the cache, which holds that text already: the model read everything twice. Give the "
    "new token alone."
)
def reads_all_beside_the_cache(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens, _ends(model), feed=0))


@generate.mistake("Later calls got the new token, but not the cache: the model had forgotten the text before it.")
def forgets_the_cache(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens, _ends(model), cache=False))


@generate.mistake("The text goes on after the end token. Look at each new token, and leave the loop.")
def never_stops(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens, []))


@generate.mistake("The end token may have the number 0, which Python takes for false. Ask whether it `is None`.")
def takes_zero_for_none(model, tokenizer, prompt, max_new_tokens):
    end = model.generation_config.eos_token_id or None
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens, [end]))


@generate.mistake("Special tokens stand in the text. `skip_special_tokens=True` leaves them out.")
def keeps_special_tokens(model, tokenizer, prompt, max_new_tokens):
    return tokenizer.decode(_continued(model, tokenizer, prompt, max_new_tokens, _ends(model)))


@generate.mistake("This is the new text alone. The prompt belongs to the result.")
def returns_what_is_new(model, tokenizer, prompt, max_new_tokens):
    ids = _continued(model, tokenizer, prompt, max_new_tokens, _ends(model))
    return _text(tokenizer, ids[len(tokenizer(prompt)["input_ids"]) :])


@generate.mistake("There is one new token too many: the first call already gives one.")
def one_token_more(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens + 1, _ends(model)))


@generate.mistake("There is one new token too few: each of the `max_new_tokens` rounds appends one.")
def one_token_fewer(model, tokenizer, prompt, max_new_tokens):
    return _text(tokenizer, _continued(model, tokenizer, prompt, max_new_tokens - 1, _ends(model)))


@generate.mistake("The text is right, but `model.generate` wrote it. Build the loop that it hides.")
def calls_the_library(model, tokenizer, prompt, max_new_tokens):
    batch = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
    return _text(tokenizer, ids[0])
