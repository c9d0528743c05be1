"""Adversarial weight perturbation (AWP)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_TINY = 1e-20  # keeps a layer without a gradient from dividing by 0


class WeightPerturbation:
    """Moves the weights of each layer by γ ‖w‖ along the gradient of the loss, temporarily.

    As in the public release, the weights of convolutions and linear layers are perturbed, not
    biases and BatchNorm. Parameters must keep their places in memory; γ is ``gamma``.

    Source: Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS
    2020, section 4, with one step of the perturbation.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self.weights: list[Tensor] = [
            w for w in model.parameters() if w.dim() > 1 and w.requires_grad
        ]
        self._gamma = gamma

    @contextmanager
    def along(self, gradients: list[Tensor]) -> Iterator[None]:
        """For the duration, the weights are moved along the ``gradients`` of :attr:`weights`."""
        with torch.no_grad():
            before = [weight.clone() for weight in self.weights]
            scales = torch._foreach_norm(before)
            torch._foreach_mul_(scales, self._gamma)
            lengths = torch._foreach_norm(gradients)
            torch._foreach_add_(lengths, _TINY)
            torch._foreach_div_(scales, lengths)
            for weight, gradient, scale in zip(self.weights, gradients, scales, strict=True):
                weight.addcmul_(gradient, scale)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, before)
