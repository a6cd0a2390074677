"""Chapter 5's headline: accuracy against seconds, the loop of a common course against the one that the chapter grows.

`python -m benchmarks.training` trains four times on Fashion-MNIST's 60,000 images, on one thread and epoch by epoch in
turns, so that whatever else the machine does slows all of them alike. It writes the curves to
`course_utils/measured/training.json`, which the chapter plots, and executes the chapter again.
"""

import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, ToTensor

from course_utils import datasets, seed_everything
from tools.notebooks import execute

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "course_utils" / "measured" / "training.json"
MEAN, STD = 0.286, 0.353  # of the training pixels, between 0 and 1

Points = Iterator[tuple[float, float]]  # after each epoch: CPU seconds of training so far, test accuracy


def main() -> None:
    """Measure, check the promise, write the curves, execute the chapter."""
    torch.set_num_threads(1)
    runs = {
        "common loop": common_loop(),
        "data as one tensor": one_tensor(),
        "and momentum, one cycle": same_network(),
        "and a small CNN": small_cnn(),
    }
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    while runs:
        for name in list(runs):  # in turns: each epoch of one beside the same epoch of the others
            point = next(runs[name], None)
            if point is None:
                del runs[name]
            else:
                curves[name].append((round(point[0], 2), point[1]))
                print(
                    f"{name:24} epoch {len(curves[name])}: {point[0]:6.1f} s, test accuracy {point[1]:.4f}", flush=True
                )

    (seconds, accuracy), (our_seconds, our_accuracy) = curves["common loop"][-1], curves["and a small CNN"][-1]
    print(f"{our_accuracy:.4f} instead of {accuracy:.4f}, in {our_seconds / seconds:.2f} of the time")
    print("promise: at least 0.90 in at most 0.50 of the time:", our_accuracy >= 0.9 and our_seconds <= seconds / 2)
    where = f"torch {torch.__version__.partition('+')[0]}, one thread, {platform.machine()}"
    RESULT.write_text(json.dumps({"where": where, "curves": curves}, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT.relative_to(ROOT)}; executing chapters/05_training.py")
    execute(ROOT / "chapters" / "05_training.py")


def common_loop() -> Points:
    """The common course's: one image at a time through a DataLoader, batches of 32, SGD with learning rate 1e-3."""
    transform = Compose([ToTensor(), Normalize(MEAN, STD)])
    loader = DataLoader(datasets.fashion_mnist(transform=transform), batch_size=32, shuffle=True)
    seed_everything(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    seconds = 0.0
    for _ in range(5):
        start = time.process_time()
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        seconds += time.process_time() - start
        yield seconds, test_accuracy(model)


def one_tensor() -> Points:
    """The same training, with the images in one tensor of which a batch is one indexing operation."""
    model = seeded(perceptron)
    return train(model, torch.optim.SGD(model.parameters(), lr=1e-3), batch_size=32, epochs=5)


def same_network() -> Points:
    """The same network and number of epochs; larger batches, Nesterov momentum, weight decay, one-cycle schedule."""
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return train(model, optimizer, batch_size=128, epochs=5, one_cycle=True)


def small_cnn() -> Points:
    """A small convolutional network, trained so for three epochs.

    The learning rate was chosen from 0.05, 0.1 and 0.2 by the accuracy on 5,000 training images that were held out.
    """
    model = seeded(convolutional).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return train(model, optimizer, batch_size=128, epochs=3, one_cycle=True)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int, epochs: int, one_cycle: bool = False
) -> Points:
    """Train on the whole training set; yield after each epoch. Loading the data counts into the first one."""
    start = time.process_time()
    fashion = datasets.fashion_mnist()
    images = normalised(fashion.data)  # (60000, 1, 28, 28)
    labels = fashion.targets  # (60000,)
    steps = epochs * -(-len(images) // batch_size)
    highest = optimizer.param_groups[0]["lr"]
    scheduler = OneCycleLR(optimizer, highest, total_steps=steps) if one_cycle else None
    seconds = time.process_time() - start
    for _ in range(epochs):
        start = time.process_time()
        model.train()
        for chosen in torch.randperm(len(images)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
        seconds += time.process_time() - start
        yield seconds, test_accuracy(model)


def perceptron() -> nn.Module:
    """784-512-512-10 with ReLU: (batch, 1, 28, 28) → logits (batch, 10)."""
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, 10))


def convolutional() -> nn.Module:
    """Two convolutions of stride 2 with batch norm, two linear layers: (batch, 1, 28, 28) → logits (batch, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False),  # (batch, 16, 14, 14)
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),  # (batch, 32, 7, 7)
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The network from the same random numbers every time."""
    seed_everything(0)
    return build()


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (n, 28, 28) → float32 (n, 1, 28, 28) with mean 0 and standard deviation 1."""
    return (pixels.unsqueeze(1) / 255 - MEAN) / STD


@torch.no_grad()
def test_accuracy(model: nn.Module) -> float:
    """The share of the 10,000 test images that the model classifies correctly. Its time is not counted."""
    test = datasets.fashion_mnist(train=False)
    model.eval()
    batches = zip(normalised(test.data).split(1000), test.targets.split(1000), strict=True)
    return sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in batches) / len(test)


if __name__ == "__main__":
    main()
