"""A network whose predictions are known; the tests name this file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CENTRES = (0.1, 0.5, 0.9)
"""The brightness of each class. An image is of the nearest one: limits are at 0.3 and 0.7."""
SHARPNESS = 20.0


class Nearest(nn.Module):
    """Tells images by their mean over all values."""

    def __init__(self, fails_below: float = -1.0) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.tensor(CENTRES))
        self.fails_below = fails_below

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 3) of images (N, C, H, W)."""
        mean = images.flatten(1).mean(1, keepdim=True)
        logits: Tensor = -SHARPNESS * (mean - self.centres) ** 2
        return torch.where(mean < self.fails_below, torch.nan, logits)


def nearest() -> nn.Module:
    """Answers all."""
    return Nearest()


def failing() -> nn.Module:
    """Gives no finite logits to images that are not light."""
    return Nearest(0.8)


class Sure(nn.Module):
    """Takes all images for class 1, by logits whose float32 probabilities are those of class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 1e-9, -40.0]))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 3) of images (N, C, H, W); their gradients are zero."""
        return self.logits + 0 * images.flatten(1).sum(1, keepdim=True)


def sure() -> nn.Module:
    """Has a tie of probabilities, though none of logits."""
    return Sure()
