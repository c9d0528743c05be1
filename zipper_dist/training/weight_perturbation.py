"""Adversarial weight perturbation (AWP)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_TINY = 1e-20  # keeps a layer without a gradient from dividing by 0


class WeightPerturbation:
    """Moves the weights of each layer by γ ‖w‖ along the gradient of the loss, temporarily.

    As in the public release, the weights of convolutions and linear layers are perturbed, not
    biases and BatchNorm, whose running statistics follow the pass at the perturbed weights alone.
    With γ = ``gamma`` = 0 nothing happens. Parameters and buffers must keep their places in memory.

    Source: Wu, Xia and Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS
    2020, section 4, with one step of the perturbation.
    """

    def __init__(self, model: nn.Module, gamma: float) -> None:
        self._weights: list[Tensor] = [
            w for w in model.parameters() if w.dim() > 1 and w.requires_grad
        ]
        self._buffers = list(model.buffers())
        self._gamma = gamma

    @contextmanager
    def along(self, loss: Callable[[], Tensor]) -> Iterator[None]:
        """For the duration, the weights are those that raise ``loss()`` (a scalar) the most."""
        if self._gamma == 0 or not self._weights:
            yield
            return
        buffers = [buffer.clone() for buffer in self._buffers]
        # A network of one's own may have weights that do nothing.
        gradients = torch.autograd.grad(
            loss(), self._weights, allow_unused=True, materialize_grads=True
        )
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
