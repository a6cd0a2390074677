"""Fine-tune all-MiniLM-L6-v2 in several ways for chapter 9: `python -m training.compare_finetuning`.

Each method learns to tell positive from negative review sentences, on the same 2,000 for training and the same 982 for
testing, three times with other seeds. Writes `course_utils/measured/finetuning.json` after every run, and goes on there
where it was interrupted. Takes about half an hour on one core.
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, get_scheduler
from transformers.utils import logging

from course_utils import datasets, hub, measured, seed_everything

NAME = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = (0, 1, 2)
TRAIN, EPOCHS, BATCH = 2000, 3, 32
PROMPT = 16  # soft tokens
RESULTS = Path(measured.__file__).parent / "finetuning.json"
LINEARS = ["query", "key", "value", "dense"]


class Classifier(nn.Module):
    """A text encoder, the mean over its real tokens, and a linear layer: (batch, time) ids → (batch, 2) logits."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(384, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 2) of ids and mask, both (batch, time)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, time, 1)
        hidden = hidden[:, -weight.shape[1] :]  # soft tokens stand in front, and are not counted
        return self.head((hidden * weight).sum(1) / weight.sum(1))


def full(encoder: nn.Module) -> nn.Module:
    """Every weight is trained."""
    return encoder


def probe(encoder: nn.Module) -> nn.Module:
    """No weight of the encoder is trained."""
    return encoder.requires_grad_(False)


def lora(r: int) -> Callable[[nn.Module], nn.Module]:
    """A product of two thin matrices beside every linear layer of the encoder's blocks."""
    return lambda encoder: peft.get_peft_model(encoder, peft.LoraConfig(r=r, lora_alpha=2 * r, target_modules=LINEARS))


def prompt(encoder: nn.Module) -> nn.Module:
    """Vectors that are trained, in front of the embedded tokens."""
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=PROMPT)
    return peft.get_peft_model(encoder, config)


METHODS: dict[str, tuple[Callable[[nn.Module], nn.Module], float]] = {  # with the learning rate
    "frozen probe": (probe, 1e-2),
    "prompt tuning, 16": (prompt, 1e-2),
    "LoRA, r = 1": (lora(1), 2e-3),
    "LoRA, r = 4": (lora(4), 2e-3),
    "LoRA, r = 16": (lora(16), 1e-3),
    "full fine-tuning": (full, 1e-4),
}


def main() -> None:
    """Run what is not in the results yet."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    done = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    for seed in SEEDS:
        for method in METHODS:
            if not any(run["method"] == method and run["seed"] == seed for run in done):
                done.append(run_once(method, seed))
                print(done[-1], flush=True)
                RESULTS.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


def run_once(method: str, seed: int) -> dict[str, object]:
    """Train and test one method; its accuracy, trained weights, seconds of CPU, and bytes to keep."""
    folder = hub.local(NAME)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    unique = list({review.sentence: review for review in datasets.reviews()}.values())
    random.Random(0).shuffle(unique)  # one split for all
    train, test = unique[:TRAIN], unique[TRAIN:]

    seed_everything(seed)
    adapt, learning_rate = METHODS[method]
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    model = Classifier(adapt(encoder))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.01)
    steps = EPOCHS * -(-len(train) // BATCH)
    scheduler = get_scheduler("linear", optimizer, steps // 10, steps)
    shuffled = random.Random(seed)

    start = time.process_time()
    model.train()
    for _ in range(EPOCHS):
        for inputs, labels in batches(train, tokenizer, shuffled):
            nn.functional.cross_entropy(model(**inputs), labels).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    seconds = time.process_time() - start

    model.eval()
    with torch.no_grad():
        right = sum((model(**inputs).argmax(1) == labels).sum().item() for inputs, labels in batches(test, tokenizer))
    return {
        "method": method,
        "seed": seed,
        "accuracy": round(right / len(test), 4),
        "trained": sum(parameter.numel() for parameter in trained),
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 1),
        "bytes": bytes_to_keep(model),
    }


def batches(reviews: list, tokenizer, shuffled: random.Random | None = None) -> Iterator[tuple]:
    """Batches of sentences of similar length, in random order if there is a generator."""
    order = list(reviews)
    if shuffled:
        shuffled.shuffle(order)
    pools = [sorted(order[i : i + 16 * BATCH], key=lambda r: len(r.sentence)) for i in range(0, len(order), 16 * BATCH)]
    groups = [pool[i : i + BATCH] for pool in pools for i in range(0, len(pool), BATCH)]
    if shuffled:
        shuffled.shuffle(groups)
    for group in groups:
        texts = [review.sentence for review in group]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        labels = torch.tensor([review.label for review in group])
        yield {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}, labels


def bytes_to_keep(model: nn.Module) -> int:
    """The bytes on disk of what was trained, as safetensors."""
    from safetensors.torch import save_file

    trained = {name: value.detach().contiguous() for name, value in model.named_parameters() if value.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.safetensors"
        save_file(trained, path)
        return path.stat().st_size


if __name__ == "__main__":
    main()
