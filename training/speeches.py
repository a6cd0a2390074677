"""Train chapter 7's `TransformerLM` on the speeches: `python -m training.speeches`, about 6 minutes.

Writes course_utils/checkpoints/speeches.safetensors, with the tokenizer and the history of the training in its
metadata, and what happened to training/speeches.log.
"""

import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from course_utils import checkpoints, seed_everything
from course_utils.datasets import speeches
from course_utils.networks import TransformerLM

SEED, STEPS, BATCH, RATE, CLIP = 0, 1800, 16, 3e-3, 1.0
VOCABULARY, CONTEXT = 1024, 128
HELD_OUT = ("Biden", "Trump")  # the last five speeches serve to validate


def main() -> None:
    """Train, log every 200 steps, and keep the weights of the last."""
    seed_everything(SEED)
    log = (Path(__file__).parent / "speeches.log").open("w", encoding="utf-8")

    def say(line: str) -> None:
        for out in (log, None):
            print(line, file=out, flush=True)

    train, valid = split()
    tokenizer = byte_pairs(train)
    train_ids, valid_ids = (torch.tensor(tokenizer.encode(text).ids) for text in (train, valid))
    model = TransformerLM(VOCABULARY, CONTEXT)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.1)
    say(f"seed {SEED}, {STEPS} steps, batch {BATCH} · {CONTEXT} tokens, AdamW, learning rate {RATE} (one cycle)")
    say(f"characters: {len(train)} to train on, {len(valid)} to validate; {len(train) / len(train_ids):.2f} per token")
    say(f"{sum(p.numel() for p in model.parameters())} parameters, {torch.get_num_threads()} thread(s)")
    losses, history = [], {"loss": [], "validation loss": []}
    start, cpu = time.time(), time.process_time()
    for step in range(1, STEPS + 1):
        first = torch.randint(len(train_ids) - CONTEXT, (BATCH, 1))  # (batch, 1)
        pieces = train_ids[first + torch.arange(CONTEXT + 1)]  # (batch, context + 1)
        logits = model(pieces[:, :-1])  # (batch, context, vocabulary)
        loss = F.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0:
            history["loss"].append(round(sum(losses[-200:]) / 200, 4))
            history["validation loss"].append(round(validation_loss(model, valid_ids), 4))
            say(
                f"step {step}: loss {history['loss'][-1]:.4f}, "
                f"validation loss {history['validation loss'][-1]:.4f} per token, "
                f"{time.process_time() - cpu:.0f} s of CPU, {time.time() - start:.0f} s"
            )
    metadata = {"tokenizer": tokenizer.to_str(), "history": json.dumps(history)}
    save_file(model.state_dict(), checkpoints.HERE / "speeches.safetensors", metadata)


def split() -> tuple[str, str]:
    """The text to train on, and the text to validate on: one speech a line."""
    parts = {False: [], True: []}
    for speech in speeches():
        parts[speech.president.endswith(HELD_OUT)].append(speech.text)
    return "\n".join(parts[False]), "\n".join(parts[True])


def byte_pairs(text: str) -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes and their commonest joins."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    return tokenizer


@torch.no_grad()
def validation_loss(model: TransformerLM, ids: torch.Tensor) -> float:
    """The mean cross-entropy per token on the first 64 pieces of `ids`."""
    pieces = ids[: 64 * CONTEXT + 1]
    logits = model(pieces[:-1].view(64, CONTEXT))
    return F.cross_entropy(logits.flatten(0, 1), pieces[1:]).item()


if __name__ == "__main__":
    main()
