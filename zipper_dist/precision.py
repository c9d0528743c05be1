"""The arithmetic that training uses. Weights, losses and averages are fp32 in all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipper_dist.config import Precision
from zipper_dist.errors import UserError


class _Bf16(nn.Module):
    """Runs a network under bf16 autocast; the logits come out as fp32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.model(images)
        return logits.float()


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision that ``auto`` stands for on ``device``: TF32 on GPUs that have it, else fp32.

    Raises:
        UserError: TF32 without a GPU of CUDA capability 8 or more.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    if precision == "auto":
        return "tf32" if has_tf32 else "fp32"
    if precision == "tf32" and not has_tf32:
        raise UserError(
            f"--precision tf32: {device} has no TF32 (it takes a GPU of CUDA capability 8 or more);"
            " use fp32 or bf16"
        )
    return precision


def use_precision(precision: Precision) -> None:
    """Set the process up for a resolved precision."""
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def in_precision(model: nn.Module, precision: Precision) -> nn.Module:
    """``model`` with its forward pass in a resolved precision; shares its parameters."""
    return _Bf16(model) if precision == "bf16" else model
