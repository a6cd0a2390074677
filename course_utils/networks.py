"""Networks that more than one chapter uses."""

import torch
from torch import nn


class FashionCNN(nn.Module):
    """Chapter 5's classifier of 28 × 28 grey images: two convolutional blocks, then two linear layers.

    (batch, 1, 28, 28) in [0, 1] → logits (batch, 10). 206,970 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),  # (batch, 16, 28, 28)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, 16, 14, 14)
            nn.Conv2d(16, 32, 3, padding=1, bias=False),  # (batch, 32, 14, 14)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (batch, 32, 7, 7)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (batch, 32 · 7 · 7)
            nn.Linear(32 * 7 * 7, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of images (batch, 1, 28, 28)."""
        return self.classifier(self.features(images))
