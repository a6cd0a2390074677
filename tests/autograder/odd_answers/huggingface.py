"""Odd answers to chapter 8, right and wrong."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from autograder.exercise import all_exercises
from tests.autograder.book import solution


def _encoded_by_hand(tokenizer, texts, max_length):
    rows = [tokenizer(text, truncation=True, max_length=max_length) for text in texts]
    return tokenizer.pad(rows, return_tensors="pt")


def _plain_dict(tokenizer, texts, max_length):
    batch = tokenizer(texts, padding="longest", truncation="longest_first", max_length=max_length)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def _pooled_in_a_loop(hidden, mask):
    out = torch.zeros(hidden.shape[0], hidden.shape[2], dtype=torch.float64)
    for row in range(len(hidden)):
        tokens = hidden[row][mask[row].bool()].double()
        if len(tokens):
            mean = tokens.mean(0)
            out[row] = mean / mean.norm()
    return out.to(hidden.dtype)


def _pooled_by_einsum(hidden, mask):
    wide = hidden.dtype if hidden.dtype == torch.float64 else torch.float32
    count = mask.sum(1, keepdim=True).clamp(min=1)
    mean = torch.einsum("btd,bt->bd", hidden.to(wide), mask.to(wide)) / count
    return (mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-9)).to(hidden.dtype)


def _pooled_by_fill(hidden, mask):
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return F.normalize(wide.masked_fill(~mask.bool().unsqueeze(-1), 0).sum(1), dim=1).to(hidden.dtype)


def _pooled_plainly(hidden, mask):
    m = mask.unsqueeze(-1).float()
    return F.normalize((hidden * m).sum(1) / m.sum(1), p=2, dim=1)


def _pooled_by_the_model_card(hidden, mask):
    expanded = mask.unsqueeze(-1).expand(hidden.size()).float()
    mean = torch.sum(hidden * expanded, 1) / torch.clamp(expanded.sum(1), min=1e-9)
    return mean / mean.norm(dim=1, keepdim=True)


def _pooled_by_plain_einsum(hidden, mask):
    return F.normalize(torch.einsum("btd,bt->bd", hidden, mask.float()) / mask.sum(1, keepdim=True), dim=-1)


def _pooled_by_stacking(hidden, mask):
    means = [tokens[real == 1].mean(0) for tokens, real in zip(hidden, mask, strict=True)]
    return torch.stack([mean / mean.norm() for mean in means])


def _searched_plainly(query, corpus, k):
    cosines = (query / query.norm(dim=-1, keepdim=True)) @ (corpus / corpus.norm(dim=-1, keepdim=True)).T
    values, indices = torch.topk(cosines, min(k, corpus.shape[0]), dim=-1)
    return values, indices


def _mapped_without_truncation(dataset, tokenizer):
    return dataset.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=["text"])


def _frozen_by_name(model, n):
    frozen = ["bert.embeddings.", *(f"bert.encoder.layer.{index}." for index in range(n))]
    trained = []
    for name, parameter in model.named_parameters():
        if any(name.startswith(prefix) for prefix in frozen):
            parameter.requires_grad = False
        if parameter.requires_grad:
            trained.append(name)
    return trained


def _searched_by_sort(query, corpus, k):
    scores = torch.cosine_similarity(torch.atleast_2d(query)[:, None], corpus[None], dim=-1)
    values, indices = scores.sort(dim=-1, descending=True)
    values, indices = values[:, :k], indices[:, :k]
    return (values[0], indices[0]) if query.ndim == 1 else (values, indices)


def _searched_by_einsum(query, corpus, k):
    q, c = (x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (query, corpus))
    return torch.einsum("...d,nd->...n", q, c).topk(min(k, c.shape[0]))


def _mapped_with_function(dataset, tokenizer):
    def encode(rows):
        return dict(tokenizer(rows["text"], truncation=True))

    return dataset.map(encode, batched=True).remove_columns(["text"])


def _added_as_columns(dataset, tokenizer):
    columns = tokenizer(list(dataset["text"]), truncation=True, padding=False)
    for name, rows in columns.items():
        dataset = dataset.add_column(name, rows)
    return dataset.remove_columns("text")


def _removed_first(dataset, tokenizer):
    encoded = tokenizer(list(dataset["text"]), truncation=True)
    rest = dataset.remove_columns("text")
    for name, rows in encoded.items():
        rest = rest.add_column(name, rows)
    return rest


def _built_with_features(dataset, tokenizer):
    from datasets import Dataset

    rest = dataset.remove_columns("text")
    encoded = Dataset.from_dict(dict(tokenizer(list(dataset["text"]), truncation=True)))
    columns = {name: list(table[name]) for table in (rest, encoded) for name in table.column_names}
    return Dataset.from_dict(columns, features=type(rest.features)({**rest.features, **encoded.features}))


def _as_torch(dataset, tokenizer):
    mapped = dataset.map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True, batch_size=2)
    return mapped.remove_columns("text").with_format("torch")


def _by_scikit_learn(eval_prediction):
    from sklearn.metrics import accuracy_score, f1_score

    predictions = eval_prediction[0].argmax(-1)
    labels = eval_prediction[1]
    f1 = f1_score(labels, predictions, average="macro", zero_division=0)
    return {"macro_f1": float(f1), "accuracy": float(accuracy_score(labels, predictions))}


def _by_precision_and_recall(eval_prediction):
    logits, labels = (torch.from_numpy(np.array(part)) for part in eval_prediction)
    predictions = logits.float().argmax(1)
    scores = []
    for c in sorted({*labels.tolist(), *predictions.tolist()}):
        tp = ((predictions == c) & (labels == c)).sum().item()
        precision = tp / max((predictions == c).sum().item(), 1)
        recall = tp / max((labels == c).sum().item(), 1)
        scores.append(2 * precision * recall / (precision + recall) if tp else 0.0)
    return {"accuracy": (predictions == labels).float().mean().item(), "macro_f1": sum(scores) / len(scores)}


def _one_text_at_a_time(model, tokenizer, texts):
    training = model.training
    model.eval()
    try:
        found = []
        with torch.no_grad():
            for text in texts:
                probabilities = F.softmax(model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0], 0)
                best = probabilities.argmax().item()
                found.append({"score": float(probabilities[best]), "label": model.config.id2label[best]})
    finally:
        model.train(training)
    return found


def _sorted_by_length_and_back(model, tokenizer, texts):
    training = model.training
    model.eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = [{}] * len(texts)
    for start in range(0, len(order), 8):
        rows = order[start : start + 8]
        batch = tokenizer([texts[row] for row in rows], padding="longest", truncation=True, return_tensors="pt")
        with torch.inference_mode():
            scores, labels = torch.softmax(model(**batch)[0], -1).max(-1)
        for row, score, label in zip(rows, scores.tolist(), labels.tolist(), strict=True):
            found[row] = {"label": model.config.id2label[label], "score": score}
    model.train(training)
    return found


def _by_the_pipeline(model, tokenizer, texts):
    from transformers import pipeline

    training = model.training
    run = pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, device="cpu")
    found = run(texts, truncation=True) if texts else []  # it refuses an empty list
    model.train(training)
    return found


def _copied_one_by_one(model, state):
    missing, unexpected, mismatched = [], [], []
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in state:
                missing.append(name)
            elif state[name].shape != tensor.shape:
                mismatched.append(name)
            else:
                tensor.copy_(state[name])
    unexpected = [name for name in state if name not in own]
    return {"mismatched": sorted(mismatched), "missing": sorted(missing), "unexpected": sorted(unexpected)}


def _loaded_by_the_report(model, state):
    own = model.state_dict()
    mismatched = sorted(name for name in state if name in own and own[name].shape != state[name].shape)
    rest = {name: tensor for name, tensor in state.items() if name not in mismatched}
    report = model.load_state_dict(rest, strict=False)
    missing = sorted(set(report.missing_keys) - set(mismatched))
    return {"missing": missing, "unexpected": sorted(report.unexpected_keys), "mismatched": mismatched}


def _popped(model, state):
    own = model.state_dict()
    mismatched = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    for name in mismatched:
        state.pop(name)
    report = model.load_state_dict(state, strict=False)
    missing = sorted(set(report.missing_keys) - set(mismatched))
    return {"missing": missing, "unexpected": sorted(report.unexpected_keys), "mismatched": mismatched}


def _by_the_models_loss(model, tokenizer, text):
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return math.exp(model(input_ids=ids, labels=ids).loss)


def _without_what_equals_padding(model, tokenizer, text):
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
    with torch.no_grad():
        return model(input_ids=ids, labels=labels).loss.exp().item()


def _token_by_token(model, tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return math.exp(-sum(logp[i, ids[i + 1]].item() for i in range(len(ids) - 1)) / (len(ids) - 1))


def _epoch_in_other_words(model, batches, optimizer, scheduler):
    model = model.train()
    seen, losses = [], []
    for batch in batches:
        model.zero_grad()
        outputs = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
        outputs["loss"].backward()
        optimizer.step()
        scheduler.step()
        seen.append(batch["labels"].numel())
        losses.append(outputs[0].item())
    return float(np.average(losses, weights=seen))


def _epoch_cleared_at_both_ends(model, batches, optimizer, scheduler):
    model.train()
    optimizer.zero_grad()
    total, seen = torch.zeros(()), 0
    for batch in batches:
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
        loss = F.cross_entropy(logits, batch["labels"])
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=False)
        total += loss.detach() * len(logits)
        seen += len(logits)
    return total.item() / seen


def _epoch_over_a_list(model, batches, optimizer, scheduler):
    batches = list(batches)
    total = 0.0
    model.train()
    for batch in batches:
        batch = dict(batch)
        labels = batch.pop("labels")
        optimizer.zero_grad()
        loss = F.cross_entropy(model(**batch).logits, labels, reduction="sum")
        (loss / len(labels)).backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / sum(len(batch["labels"]) for batch in batches)


def _epoch_that_counts(when):
    def finetune_epoch(model, batches, optimizer, scheduler):
        sentences = sum(len(batch["labels"]) for batch in batches) if when == "before" else 0
        model.train()
        total = 0.0
        for batch in batches:
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(batch["labels"])
        return total / (sentences or sum(len(batch["labels"]) for batch in batches))

    return finetune_epoch


def _epoch_that_pops(model, batches, optimizer, scheduler):
    model.train()
    total = count = 0
    for batch in batches:
        labels = batch.pop("labels")
        optimizer.zero_grad()
        loss = F.cross_entropy(model(**batch).logits, labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total, count = total + loss.item() * len(labels), count + len(labels)
    return total / count


class _LossLast(nn.Module):
    """Another base class's habits: keyword-only arguments, more of them, the loss after the logits."""

    def __init__(self, encoder, num_labels, dropout=0.0):
        super().__init__()
        self.num_labels = num_labels
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(in_features=encoder.config.hidden_size, out_features=num_labels, bias=True)

    def forward(self, *, input_ids, attention_mask, labels=None, **others):
        hidden = self.encoder(input_ids, attention_mask=attention_mask)[0]
        weights = attention_mask.float() / attention_mask.sum(1, keepdim=True)
        outputs = {"logits": self.head(self.dropout(torch.einsum("btd,bt->bd", hidden, weights)))}
        if labels is not None:
            outputs["loss"] = nn.CrossEntropyLoss()(outputs["logits"].view(-1, self.num_labels), labels.view(-1))
        return outputs


class _LibraryOutput(nn.Module):
    """The library's own kind of output, which is a dictionary too."""

    def __init__(self, encoder, num_labels):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows = [tokens[mask.bool()].mean(0) for tokens, mask in zip(hidden, attention_mask, strict=True)]
        logits = self.head(torch.stack(rows))
        loss = F.cross_entropy(logits, labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _ends(model):
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _with_a_cache_of_its_own(model, tokenizer, prompt, max_new_tokens):
    from transformers import DynamicCache

    cache, ids = DynamicCache(config=model.config), tokenizer(prompt)["input_ids"]
    new = list(ids)
    with torch.no_grad():
        while len(ids) < len(new) + max_new_tokens:
            read = ids if cache.get_seq_length() == 0 else ids[-1:]
            logits = model(torch.tensor([read]), past_key_values=cache, use_cache=True).logits
            ids = [*ids, int(logits[0, -1].argmax())]
            if ids[-1] in _ends(model):
                break
    return tokenizer.decode(ids, skip_special_tokens=True)


def _with_mask_and_positions(model, tokenizer, prompt, max_new_tokens):
    batch = tokenizer(prompt, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    past, made = None, []
    while len(made) < max_new_tokens:
        step = ids if past is None else ids[:, -1:]
        with torch.inference_mode():
            outputs = model(step, attention_mask=mask, past_key_values=past, logits_to_keep=1)
        past = outputs.past_key_values
        made.append(outputs.logits[0, 0].argmax().item())
        ids, mask = torch.cat([ids, torch.tensor([made[-1:]])], 1), F.pad(mask, (0, 1), value=1)
        if made[-1] in _ends(model):
            break
    return tokenizer.batch_decode(ids, skip_special_tokens=True)[0]


def _one_call_more(model, tokenizer, prompt, max_new_tokens):
    """Feeds each token to the model before it asks whether to go on: wasteful, and right."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    length = ids.shape[1]
    with torch.no_grad():
        outputs = model(ids)
        while True:
            new = outputs.logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, new], 1)
            outputs = model(new, past_key_values=outputs.past_key_values)
            if ids.shape[1] - length == max_new_tokens or new.item() in _ends(model):
                return tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)


def _with_ends(ends):
    """An answer that asks for the end tokens in a way of its own, and is right in all else."""

    def generate(model, tokenizer, prompt, max_new_tokens):
        ids, found = tokenizer(prompt, return_tensors="pt")["input_ids"], ends(model)
        new, past = ids, None
        for _ in range(max_new_tokens):
            with torch.no_grad():
                outputs = model(new, past_key_values=past)
            past, new = outputs.past_key_values, outputs.logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, new], 1)
            if new.item() in found:
                break
        return tokenizer.decode(ids[0], skip_special_tokens=True)

    return generate


def _zero_is_none(model):
    end = model.generation_config.eos_token_id or None
    return end if isinstance(end, list) else [end]


def _by_the_librarys_schedule(step, warmup, total):
    from transformers import get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return get_linear_schedule_with_warmup(optimizer, warmup, total).lr_lambdas[0](step)


def _by_parameters_and_buffers(model, state):
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    report = {"missing": [], "unexpected": [], "mismatched": []}
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            report["missing"].append(name)
        elif name not in own:
            report["unexpected"].append(name)
        elif own[name].shape != state[name].shape:
            report["mismatched"].append(name)
        else:
            own[name].data.copy_(state[name])
    return report


def _tokenized_alone(dataset, tokenizer):
    return dataset.map(
        lambda rows: tokenizer(rows["text"], truncation=True), batched=True, batch_size=1, remove_columns="text"
    )


def _built_anew(dataset, tokenizer):
    columns = {name: list(dataset[name]) for name in dataset.column_names}
    encoded = tokenizer(columns.pop("text"), truncation=True)
    return type(dataset).from_dict({**columns, **encoded})


def _with_the_tokenizer_changed(tokenizer, texts, max_length):
    tokenizer.model_max_length = max_length
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


def _all_in_one(model, tokenizer, texts):
    if not texts:
        return []
    model.eval()
    probabilities = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1)
    scores, labels = probabilities.max(-1)
    pairs = zip(scores.tolist(), labels.tolist(), strict=True)
    return [{"label": model.config.id2label[label], "score": score} for score, label in pairs]


@torch.no_grad()
def _all_in_one_without_gradients(model, tokenizer, texts):
    return _all_in_one(model, tokenizer, texts)


def _by_the_plain_pipeline(model, tokenizer, texts):
    from transformers import pipeline

    model.eval()
    return pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")(texts) if texts else []


def _stops_before_it_appends(model, tokenizer, prompt, max_new_tokens):
    ids = tokenizer(prompt)["input_ids"]
    read, past = ids, None
    for _ in range(max_new_tokens):
        outputs = model(torch.tensor([read]), past_key_values=past, use_cache=True)
        past, new = outputs.past_key_values, outputs.logits[0, -1].argmax().item()
        if new == tokenizer.eos_token_id:
            break
        ids = [*ids, new]
        read = [new]
    return tokenizer.decode(ids, skip_special_tokens=True)


def _with_embeddings(model, tokenizer, prompt, max_new_tokens):
    ids = read = tokenizer(prompt, return_tensors="pt")["input_ids"]
    past = None
    for _ in range(max_new_tokens):
        outputs = model(inputs_embeds=model.get_input_embeddings()(read), past_key_values=past, use_cache=True)
        past, read = outputs.past_key_values, outputs.logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, read], 1)
        if read.item() == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[0], skip_special_tokens=True)


class _NoBias(_LossLast):
    def __init__(self, encoder, num_labels):
        super().__init__(encoder, num_labels)
        self.head = nn.Linear(encoder.config.hidden_size, num_labels, bias=False)


class _SequentialHead(_LossLast):
    def __init__(self, encoder, num_labels):
        super().__init__(encoder, num_labels)
        self.head = nn.Sequential(nn.Dropout(0.0), self.head)


class _OneLogitMore(_LossLast):
    def __init__(self, encoder, num_labels):
        super().__init__(encoder, num_labels + 1)


class _CopiedEncoder(_LossLast):
    def __init__(self, encoder, num_labels):
        super().__init__(copy.deepcopy(encoder), num_labels)


class _FrozenEncoder(_LossLast):
    def __init__(self, encoder, num_labels):
        super().__init__(encoder.requires_grad_(False), num_labels)


class _DetachedLogits(_LossLast):
    def forward(self, *, input_ids, attention_mask, labels=None):
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
        return outputs | {"logits": outputs["logits"].detach()}


RIGHT = {
    "encode": {"pad": _encoded_by_hand, "plain dictionary": _plain_dict},
    "linear_factor": {
        "min and max": lambda step, warmup, total: (
            max(0, min((total - step) / (total - warmup), step / max(warmup, 1)))
            if warmup
            else max(0, 1 - step / total)
        ),
        "whole zeros": lambda step, warmup, total: (
            0 if step >= total else 1 - (step - warmup) / (total - warmup) if step >= warmup else step / warmup
        ),
        "the library's schedule": _by_the_librarys_schedule,
    },
    "mean_pool": {
        "loop": _pooled_in_a_loop,
        "einsum": _pooled_by_einsum,
        "masked_fill": _pooled_by_fill,
        "plain": _pooled_plainly,
        "the model card": _pooled_by_the_model_card,
        "plain einsum": _pooled_by_plain_einsum,
        "stacked means": _pooled_by_stacking,
    },
    "freeze_layers": {"by name": _frozen_by_name},
    "search": {"sort": _searched_by_sort, "einsum": _searched_by_einsum, "plain": _searched_plainly},
    "tokenize_dataset": {
        "function": _mapped_with_function,
        "columns": _added_as_columns,
        "text removed first": _removed_first,
        "a new one with features": _built_with_features,
        "torch format": _as_torch,
        "without truncation": _mapped_without_truncation,
    },
    "compute_metrics": {
        "scikit-learn": _by_scikit_learn,
        "precision and recall": _by_precision_and_recall,
        "whole 0 and 1": lambda eval_prediction: {
            name: int(value) if value in (0, 1) else value for name, value in _by_scikit_learn(eval_prediction).items()
        },
    },
    "classify": {
        "one at a time": _one_text_at_a_time,
        "sorted and back": _sorted_by_length_and_back,
        "pipeline": _by_the_pipeline,
        "plain pipeline": _by_the_plain_pipeline,
        "all in one": _all_in_one,
        "all in one, no_grad": _all_in_one_without_gradients,
    },
    "load_matching": {"one by one": _copied_one_by_one, "the report": _loaded_by_the_report},
    "perplexity": {"the model's loss": _by_the_models_loss, "token by token": _token_by_token},
    "finetune_epoch": {
        "other words": _epoch_in_other_words,
        "cleared at both ends": _epoch_cleared_at_both_ends,
        "a list": _epoch_over_a_list,
    },
    "SentenceClassifier": {"loss last": _LossLast, "library's output": _LibraryOutput},
    "generate": {
        "a cache of its own": _with_a_cache_of_its_own,
        "mask and positions": _with_mask_and_positions,
        "one call more": _one_call_more,
        "the model's config": _with_ends(lambda model: [model.config.eos_token_id]),
        "the tokenizer's end": _stops_before_it_appends,
        "embeddings given": _with_embeddings,
    },
}

WRONG = {
    "encode": {
        "pads on the right, always": lambda tokenizer, texts, max_length: tokenizer(
            texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt", padding_side="right"
        ),
        "one longer": lambda tokenizer, texts, max_length: tokenizer(
            texts, padding=True, truncation=True, max_length=max_length + 1, return_tensors="pt"
        ),
        "no token types": lambda tokenizer, texts, max_length: {
            name: tensor
            for name, tensor in solution(all_exercises()["encode"])(tokenizer, texts, max_length).items()
            if name != "token_type_ids"
        },
        "the tokenizer changed": _with_the_tokenizer_changed,
    },
    "linear_factor": {
        "a tensor": lambda step, warmup, total: torch.tensor(
            step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))
        ),
        "cosine": lambda step, warmup, total: (
            step / warmup if step < warmup else (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup)))) / 2
        ),
    },
    "mean_pool": {
        "zeros left out by value": lambda hidden, mask: F.normalize(hidden.float().sum(1), dim=-1).to(hidden.dtype),
        "the largest": lambda hidden, mask: F.normalize(
            hidden.float().masked_fill(~mask.bool()[..., None], -1e9).max(1).values, dim=-1
        ).to(hidden.dtype),
    },
    "freeze_layers": {
        "only lists": lambda model, n: [
            name
            for name, _ in model.named_parameters()
            if not name.startswith(("bert.embeddings.", *(f"bert.encoder.layer.{index}." for index in range(n))))
        ],
    },
    "search": {
        "distances": lambda query, corpus, k: tuple(
            (-torch.cdist(torch.atleast_2d(query), corpus)).topk(min(k, len(corpus)))
        ),
        "a list": lambda query, corpus, k: [t.tolist() for t in _searched_by_sort(query, corpus, k)],
    },
    "tokenize_dataset": {
        "a list of rows": lambda dataset, tokenizer: [
            {name: value for name, value in row.items() if name != "text"} | dict(tokenizer(row["text"]))
            for row in dataset
        ],
        "batches of one": _tokenized_alone,
        "class names lost": _built_anew,
    },
    "compute_metrics": {
        "tensors": lambda eval_prediction: {
            name: torch.tensor(value) for name, value in _by_precision_and_recall(eval_prediction).items()
        },
    },
    "classify": {
        "equal texts once": lambda model, tokenizer, texts: _all_in_one(model, tokenizer, list(dict.fromkeys(texts))),
        "longest first": lambda model, tokenizer, texts: _all_in_one(
            model, tokenizer, sorted(texts, key=len, reverse=True)
        ),
    },
    "load_matching": {
        "the first tensor alone": lambda model, state: _loaded_by_the_report(model, dict(list(state.items())[:1])),
        "parameters and buffers": _by_parameters_and_buffers,
        "what does not fit is popped": _popped,
        "tuples": lambda model, state: {name: tuple(n) for name, n in _copied_one_by_one(model, state).items()},
    },
    "perplexity": {
        "backwards": lambda model, tokenizer, text: _token_by_token(model, tokenizer, " ".join(reversed(text.split()))),
        "padding left out": _without_what_equals_padding,
    },
    "finetune_epoch": {
        "evaluates": lambda model, batches, optimizer, scheduler: float(
            np.average([model(**b).loss.item() for b in batches], weights=[len(b["labels"]) for b in batches])
        ),
        "counts before": _epoch_that_counts("before"),
        "counts after": _epoch_that_counts("after"),
        "labels popped": _epoch_that_pops,
    },
    "SentenceClassifier": {
        "no bias": _NoBias,
        "a head of several parts": _SequentialHead,
        "one logit more": _OneLogitMore,
        "a copy of the encoder": _CopiedEncoder,
        "a frozen encoder": _FrozenEncoder,
        "detached logits": _DetachedLogits,
    },
    "generate": {
        "one token more": lambda model, tokenizer, prompt, max_new_tokens: _with_mask_and_positions(
            model, tokenizer, prompt, max_new_tokens + 1
        ),
        "zero is none": _with_ends(_zero_is_none),
        "no end": _with_ends(lambda model: []),
        "the class's generate": lambda model, tokenizer, prompt, max_new_tokens: tokenizer.decode(
            type(model).generate(
                model,
                **tokenizer(prompt, return_tensors="pt", return_token_type_ids=False),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=0,
            )[0],
            skip_special_tokens=True,
        ),
    },
}
