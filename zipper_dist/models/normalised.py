"""Normalisation as a part of a network, so that images are in [0, 1] everywhere."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Normalised(nn.Module):
    """A network that first normalises images in [0, 1] by each channel's mean and deviation.

    They are constants, not buffers, which would be averaged, and rounded, where learners are mixed.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self._constants = (tuple(mean), tuple(std))
        self.mean, self.std = (torch.tensor(each).view(-1, 1, 1) for each in self._constants)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Take them along to another device or type, unrounded on the way back."""
        like = fn(self.mean)
        self.mean, self.std = (
            torch.tensor(each, dtype=like.dtype, device=like.device).view(-1, 1, 1)
            for each in self._constants
        )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def inner(network: nn.Module) -> nn.Module:
    """The network without its normalisation."""
    return network.network if isinstance(network, Normalised) else network
