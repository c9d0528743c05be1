"""Weights that a source of networks has."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from, on the CPU."""

    state: Mapping[str, Tensor]
    """A state dict."""
    normalise: tuple[float, ...] | None = None
    """The means of the channels of the images that they were trained on, and then the deviations;
    empty where images were not normalised, None where that is not known."""
