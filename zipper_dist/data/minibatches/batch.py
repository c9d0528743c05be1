"""What a minibatch is, and how what decides about it gets to its device."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Minibatch:
    """The images and labels of one iteration."""

    images: Tensor
    """float32 (B, C, H, W) in [0, 1], channels-last in memory."""
    labels: Tensor
    """int64 (B,); of mixed images the share of each class instead, float32 (B, classes)."""

    @property
    def classes(self) -> Tensor:
        """The class of each image, or that with the largest share: int64 (B,)."""
        return self.labels if self.labels.dim() == 1 else self.labels.argmax(1)

    def shares(self, logits: Tensor) -> Tensor:
        """The share of each class in each image, in the shape and type of its ``logits``."""
        if self.labels.dim() == 2:
            return self.labels.to(logits.dtype)
        return torch.zeros_like(logits).scatter_(1, self.labels.unsqueeze(1), 1.0)


def sent(plan: Tensor, device: torch.device) -> Tensor:
    """``plan`` on the device; pinned memory lets the copy to a GPU run in the background."""
    if device.type != "cuda":
        return plan.to(device)
    return plan.pin_memory().to(device, non_blocking=True)
