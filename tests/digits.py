"""Handwritten digits that scikit-learn ships, and a small network trained on them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.exporting.quiet import kept_environment

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Rows that judge; the others train.
TEST_ROWS = 397
#: Grey levels in one of scikit-learn's 17.
_LEVEL = 15


class DigitNet(nn.Module):
    """Pixels [batch, 3, 8, 8], of equal channels, in [0, 1] -> logits [batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def digits() -> tuple[Any, Any]:
    """Pixels uint8 [1797, 8, 8], and the digit of each."""
    with kept_environment():  # scikit-learn sets variables of OpenMP
        from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images * _LEVEL).astype(np.uint8), data.target


def trained() -> DigitNet:
    """The network after six passes, in eval mode."""
    pixels, truth = digits()
    x = torch.tensor(pixels[TEST_ROWS:] / 255.0, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    y = torch.tensor(truth[TEST_ROWS:])
    torch.manual_seed(0)
    network = DigitNet().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    return network.eval()


def write_test_rows(folder: Path) -> Path:
    """FOLDER/zero/0012.png and on: one folder for each class."""
    from PIL import Image

    pixels, truth = digits()
    for row in range(TEST_ROWS):
        path = folder / LABELS[truth[row]] / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[row]).save(path)
    return folder
