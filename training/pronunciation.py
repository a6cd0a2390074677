"""Train chapter 7's `Pronouncer` on the CMU dictionary: `python -m training.pronunciation`, about 8 minutes.

Writes course_utils/checkpoints/pronunciation.safetensors, with the history of the training in its metadata, and what
happened to training/pronunciation.log.
"""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence

from course_utils import checkpoints, seed_everything
from course_utils.datasets import pronunciations
from course_utils.networks import Pronouncer

SEED, EPOCHS, BATCH, RATE, CLIP = 0, 12, 128, 3e-3, 1.0
PAD, SOS, EOS = 0, 1, 2

Pair = tuple[torch.Tensor, torch.Tensor]  # the ids of a word's letters, and of its phonemes with EOS


def main() -> None:
    """Train, log each epoch, and keep the weights of the last."""
    seed_everything(SEED)
    log = (Path(__file__).parent / "pronunciation.log").open("w", encoding="utf-8")

    def say(line: str) -> None:
        for out in (log, None):
            print(line, file=out, flush=True)

    train, valid, test = split()
    letters = ["<pad>", *sorted({letter for word, _ in train for letter in word})]
    phonemes = ["<pad>", "<sos>", "<eos>", *sorted({p for _, pronunciation in train for p in pronunciation})]
    train, valid, test = ([encoded(pair, letters, phonemes) for pair in part] for part in (train, valid, test))
    model = Pronouncer(len(letters), len(phonemes))
    steps = EPOCHS * -(-len(train) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    say(f"seed {SEED}, {EPOCHS} epochs, batch {BATCH}, AdamW, learning rate {RATE} (one cycle), clipped at {CLIP}")
    say(f"words: {len(train)} to train on, {len(valid)} to validate, {len(test)} to test")
    say(f"{sum(p.numel() for p in model.parameters())} parameters, {torch.get_num_threads()} thread(s)")
    history = {"loss": [], "error rate": []}
    start, cpu = time.time(), time.process_time()
    for epoch in range(1, EPOCHS + 1):
        total = count = 0
        for words, targets in batches(train):
            logits = model(words, shifted(targets))
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            schedule.step()
            real = int((targets != PAD).sum())
            total, count = total + loss.item() * real, count + real
        history["loss"].append(round(total / count, 4))
        history["error rate"].append(round(error_rate(model, valid), 4))
        say(
            f"epoch {epoch}: loss {history['loss'][-1]:.4f}, "
            f"validation phoneme error rate {history['error rate'][-1]:.4f}, "
            f"{time.process_time() - cpu:.0f} s of CPU, {time.time() - start:.0f} s"
        )
    say(f"test phoneme error rate {error_rate(model, test):.4f}")
    metadata = {"history": json.dumps(history)}
    save_file(model.state_dict(), checkpoints.HERE / "pronunciation.safetensors", metadata)


def split() -> tuple[list, list, list]:
    """(word, first pronunciation) of all plain words, shuffled: to train on, 2,000 to validate, 2,000 to test."""
    pairs = [(word, forms[0]) for word, forms in pronunciations().items() if word.isascii() and word.isalpha()]
    random.Random(0).shuffle(pairs)
    return pairs[4000:], pairs[2000:4000], pairs[:2000]


def encoded(pair: tuple[str, tuple[str, ...]], letters: list[str], phonemes: list[str]) -> Pair:
    """A word and its pronunciation as ids; the pronunciation ends with EOS."""
    word, pronunciation = pair
    to_id = {phoneme: number for number, phoneme in enumerate(phonemes)}
    return torch.tensor([letters.index(letter) for letter in word]), torch.tensor([*map(to_id.get, pronunciation), EOS])


def batches(pairs: list[Pair]) -> Iterator[Pair]:
    """All pairs once in random order, as (words, targets), padded; words of one batch have similar lengths."""
    order = sorted(torch.randperm(len(pairs)).tolist(), key=lambda i: len(pairs[i][0]))  # sorted keeps ties shuffled
    chunks = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    for chunk in torch.randperm(len(chunks)).tolist():
        yield padded([pairs[i] for i in chunks[chunk]])


def padded(pairs: list[Pair]) -> Pair:
    """Words (batch, s) and targets (batch, t), filled up with PAD."""
    words, targets = zip(*pairs, strict=True)
    return pad_sequence(words, batch_first=True), pad_sequence(targets, batch_first=True)


def shifted(targets: torch.Tensor) -> torch.Tensor:
    """The decoder's inputs (batch, t): SOS, then all targets but the last."""
    return F.pad(targets[:, :-1], (1, 0), value=SOS)


@torch.no_grad()
def error_rate(model: Pronouncer, pairs: list[Pair], longest: int = 40) -> float:
    """Edit distances of the greedy answers to the targets, over the number of phonemes in the targets."""
    wrong = total = 0
    for first in range(0, len(pairs), 500):
        words, targets = padded(pairs[first : first + 500])
        memory, mask, state = model.encode(words)
        ids = torch.full((len(words), 1), SOS)
        answers = []
        for _ in range(longest):
            logits, _, state = model.decode(ids, memory, mask, state)
            ids = logits.argmax(-1)
            answers.append(ids)
        for answer, target in zip(torch.cat(answers, 1).tolist(), targets.tolist(), strict=True):
            answer = answer[: answer.index(EOS)] if EOS in answer else answer
            target = target[: target.index(EOS)]
            wrong, total = wrong + distance(answer, target), total + len(target)
    return wrong / total


def distance(a: list[int], b: list[int]) -> int:
    """The least number of insertions, deletions and replacements that turn a into b."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


if __name__ == "__main__":
    main()
