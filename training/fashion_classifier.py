"""Train the classifier of Fashion-MNIST that judges chapter 10's samples: `python -m training.fashion_classifier`.

Writes `course_utils/checkpoints/fashion_classifier.safetensors`, and its seed, settings and results to
`training/fashion_classifier.log`. Takes about four minutes on one core.
"""

import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from course_utils import checkpoints, datasets, device, seed_everything
from course_utils.networks import FashionCNN

SEED = 0
EPOCHS = 6
BATCH = 128
LEARNING_RATE = 2e-3  # the largest of a one-cycle schedule
LOG = Path(__file__).with_suffix(".log")
WEIGHTS = Path(checkpoints.__file__).parent / "fashion_classifier.safetensors"


def images_and_labels(train: bool, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All images (n, 1, 28, 28) in [0, 1], and their labels (n,)."""
    fashion = datasets.fashion_mnist(train)
    return fashion.data.unsqueeze(1).to(where) / 255, fashion.targets.to(where)


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the images that the model, in eval mode, gives their label."""
    model.eval()
    hits = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(1000), labels.split(1000), strict=True)]
    model.train()
    return sum(hits).item() / len(labels)


def main() -> None:
    """Train, measure, save."""
    seed_everything(SEED)
    where = device()
    x, y = images_and_labels(True, where)
    x_test, y_test = images_and_labels(False, where)
    model = FashionCNN().to(where)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    lines = [f"seed {SEED}, {EPOCHS} epochs, batch {BATCH}, AdamW, one cycle to {LEARNING_RATE}, images in [0, 1]"]
    print(lines[0], flush=True)
    for epoch in range(1, EPOCHS + 1):
        start, total = time.perf_counter(), 0.0
        for chosen in torch.randperm(len(x)).to(where).split(BATCH):
            loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(chosen)
        share = accuracy(model, x_test, y_test)
        seconds = time.perf_counter() - start
        lines.append(f"epoch {epoch}: training loss {total / len(x):.4f}, test accuracy {share:.4f}, {seconds:.0f} s")
        print(lines[-1], flush=True)
    save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, WEIGHTS)
    LOG.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
