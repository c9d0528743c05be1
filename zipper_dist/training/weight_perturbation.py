"""Adversarial weight perturbation (AWP)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# Keeps a layer without a gradient from dividing by 0.
_TINY = 1e-20


class WeightPerturbation:
    """Moves the weights of each layer by γ ‖w‖ along the gradient of the loss, for a while.

    A gradient taken there makes for flatter minima. What is perturbed are the convolutions' and
    linear layers' weights, not biases and BatchNorm, as in the public release. The release keeps a
    second network for the perturbed weights; here the network itself is moved and put back bit for
    bit, so that a learner has no further state. BatchNorm's running statistics follow the pass at
    the perturbed weights alone, as there.

    Source: Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS
    2020, section 4, with one step of the perturbation.

    Args:
        model: the network, whose parameters and buffers keep their places in memory.
        gamma: γ, the size of the perturbation relative to the layer's weights.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self._weights: list[Tensor] = [w for w in model.parameters() if w.dim() > 1]
        self._buffers = list(model.buffers())
        self._gamma = gamma

    @contextmanager
    def along(self, loss: Callable[[], Tensor]) -> Iterator[None]:
        """For the duration, the weights are those that raise ``loss()`` (a scalar) the most."""
        buffers = [buffer.clone() for buffer in self._buffers]
        gradients = torch.autograd.grad(loss(), self._weights)
        with torch.no_grad():
            if buffers:  # a network may have none
                torch._foreach_copy_(self._buffers, buffers)
            weights = [weight.clone() for weight in self._weights]
            scales = torch._foreach_norm(weights)
            torch._foreach_mul_(scales, self._gamma)
            lengths = torch._foreach_norm(gradients)
            torch._foreach_add_(lengths, _TINY)
            torch._foreach_div_(scales, lengths)
            for weight, gradient, scale in zip(self._weights, gradients, scales, strict=True):
                weight.addcmul_(gradient, scale)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, weights)
