"""Strided 1×1 convolutions of few channels, whose backward pass in torch destroys memory.

Symptom: ``nn.Conv2d(8, 16, 1, stride=2)`` on channels-last float32 images 8×8×64×64 ends in its
backward pass with a segmentation fault, with "double free or corruption", or never. On x86, oneDNN
(``jit_1x1``) gathers the pixels that the stride leaves. It makes room for C channels a pixel, but
writes in steps of a block, 8 or 16 channels, and so beyond its memory if C is less; smaller images
are overrun, too, only not as far. Seen in torch 2.6 to 2.15; described at
https://github.com/uxlfoundation/oneDNN/issues/6035.

It takes all of this: float32, channels-last memory, a 1×1 kernel, a stride, no padding, no groups,
and the gradient of the weights, which attacks and evaluation do not compute.
"""

from collections.abc import Sequence

from torch import Tensor

BLOCK = 16  # channels; a multiple of it is safe, and more than it as well


def overruns(weight: Tensor, stride: Sequence[int], padding: str | Sequence[int]) -> bool:
    """Whether the backward pass of a convolution with ``weight``, (out, in, …), may be such."""
    return (
        weight.requires_grad
        and weight.device.type == "cpu"
        and weight.shape[1] < BLOCK
        and all(size == 1 for size in weight.shape[2:])
        and any(step > 1 for step in stride)
        and (padding == "valid" or not any(padding))
    )
