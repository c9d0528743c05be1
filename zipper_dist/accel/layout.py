"""Which memory layout a network is trained in: channels-last, but where that destroys memory."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zipper_dist.accel.overrun import overruns
from zipper_dist.accel.side_by_side import lay_side_by_side


class PlainLayout(nn.Module):
    """Runs a network on images that lie plane by plane in memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """What the network makes of ``images`` (B, C, H, W)."""
        output: Tensor = self.network(images.contiguous())
        return output


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether a convolution overruns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            _, weight, _, stride, padding = args[:5]
            self.found = self.found or overruns(weight, stride, padding)
        return func(*args, **(kwargs or {}))


def needs_plain_layout(model: nn.Module, image: Sequence[int]) -> bool:
    """Whether training ``model`` on channels-last images of shape ``image`` (C, H, W) may destroy
    memory: it convolves as :mod:`zipper_dist.accel.overrun` says, and elsewhere than in an
    ``nn.Conv2d`` that :func:`lay_side_by_side` exchanges. A copy of it computes one image."""
    if next(model.parameters()).device.type != "cpu":
        return False
    watched = copy.deepcopy(model).eval()
    lay_side_by_side(watched)
    with torch.enable_grad(), _Watch() as watch:  # a gradient is asked for, but not computed
        watched(torch.zeros(1, *image))
    found: bool = watch.found
    return found
