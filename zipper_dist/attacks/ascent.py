"""The loop of every gradient attack: ascend a loss inside a ball, one step at a time."""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ball import Ball

Loss = Callable[[Tensor], Tensor]
"""Logits (B, classes) → a scalar to ascend, summed over the examples so that none underflows."""

Direction = Callable[[Tensor], Tensor]
"""Gradient (B, C, H, W) → the vector to step along, such as a momentum; 0 for a whole image keeps
it in place."""


def summed_cross_entropy(y: Tensor) -> Loss:
    """The loss of an untargeted attack on labels ``y`` (B,), int64; taken in float32."""
    return lambda logits: F.cross_entropy(logits.float(), y, reduction="sum")


def image_gradient(network: Network, images: Tensor, loss: Loss) -> Tensor:
    """The gradient (B, C, H, W) of ``loss(network(images))`` with respect to the images alone.

    No gradient of a weight is computed, whatever its ``requires_grad`` (but behind torch.compile
    they must be frozen). Works under no_grad, not under inference_mode (RuntimeError).
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(network(images)), images)
    return gradient


def logits_at(network: Network, images: Tensor) -> Tensor:
    """The logits (B, classes) of images (B, C, H, W), without a graph; computed as for a gradient,
    because torch.compile would make another program for a forward pass alone."""
    with torch.enable_grad():
        return network(images.detach().requires_grad_()).detach()


def ascend(
    network: Network, x_start: Tensor, ball: Ball, loss: Loss, step_sizes: Sequence[float],
    direction: Direction | None = None,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the images (B, C, H, W) after each step in ``ball``, so long, along the gradient or the
    ``direction`` made of it; the next step reads the tensor that was yielded."""
    x_adv = x_start.detach()
    for step_size in step_sizes:
        gradient = image_gradient(network, x_adv, loss)
        x_adv = ball.step(x_adv, direction(gradient) if direction else gradient, step_size)
        yield x_adv  # under no context manager, or it would hold for the caller
