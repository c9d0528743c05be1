"""A network: a perceptron of two layers."""

from __future__ import annotations

from torch import Tensor, nn

from zipper_dist.models import ModelSpec


class Perceptron(nn.Module):
    """Images (N, channels, height, width) in [0, 1] → logits (N, classes)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = max(1, round(128 * spec.width_multiplier))
        pixels = spec.channels * spec.height * spec.width
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, spec.classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.layers(images)
        return logits
