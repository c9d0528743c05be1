"""The network as attacks get it, and the network that has the last word.

Every attack takes its network from :func:`attacked_view`; what it returns is confirmed on
:func:`exact_view`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.surrogate import make_surrogate
from zipper_dist.attacks import Network

LEAST_ROWS = 8
"""Matrix libraries have other kernels for a few rows, which round differently. Smaller batches are
filled up, so that an example's logits do not depend on how many are attacked with it [images]."""


ALIGNMENT = 16
"""Matrix libraries round by where in memory a row of features begins. Rows of so many numbers, or a
multiple, all begin alike, wherever in a minibatch their example is."""


class AlignedLinear(nn.Linear):
    """torch.nn.Linear on features that zeros bring up to a multiple of the alignment."""

    @staticmethod
    def like(linear: nn.Linear) -> AlignedLinear:
        """``linear``, with its weights as they are now, frozen."""
        missing = -linear.in_features % ALIGNMENT
        new = AlignedLinear(
            linear.in_features + missing, linear.out_features, linear.bias is not None,
            device="meta",
        )  # fmt: skip
        new.weight = nn.Parameter(F.pad(linear.weight.detach(), (0, missing)), False)
        new.bias = linear.bias
        return new

    def forward(self, input: Tensor) -> Tensor:
        """(…, in features) → (…, out features)."""
        return super().forward(F.pad(input, (0, self.in_features - input.shape[-1])))


def _align(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if name and type(module) is nn.Linear and module.in_features % ALIGNMENT:
            network.set_submodule(name, AlignedLinear.like(module))


def exact_view(model: nn.Module) -> Network:
    """The network itself in eval mode and fp32: what it says of an image is the verdict.

    ``model`` is left as it is; the view is a copy with frozen weights.
    """
    frozen = _frozen(model)
    _align(frozen)
    return _filled(frozen, torch.contiguous_format)


def attacked_view(model: nn.Module, dtype: torch.dtype = torch.float32) -> Network:
    """What attacks run in place of ``model``: faster, and the same up to rounding in ``dtype``.

    BatchNorm is folded, the weights are frozen and channels-last. A network that cannot be traced
    is attacked as it is, under autocast where ``dtype`` is not float32. Logits are float32.
    """
    frozen = _frozen(model)
    surrogate = make_surrogate(frozen, dtype)
    if surrogate is not None:
        _align(surrogate.network)
        return _filled(surrogate, torch.channels_last)
    _align(frozen)
    frozen.to(memory_format=torch.channels_last)
    network = frozen if dtype == torch.float32 else _autocast(frozen, dtype)
    return _filled(network, torch.channels_last)


def _frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _autocast(model: nn.Module, dtype: torch.dtype) -> Network:
    def network(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype):
            logits: Tensor = model(images)
        return logits.float()

    return network


def _filled(network: Network, layout: torch.memory_format) -> Network:
    def filled(given: Tensor) -> Tensor:
        rows = len(given)
        # A copy has the strides of its layout; a tensor of one channel may have those of any, which
        # decide on the kernels and so on the rounding.
        images = given.clone(memory_format=layout)
        if 0 < rows < LEAST_ROWS:
            more = given[:1].detach().expand(LEAST_ROWS - rows, *given.shape[1:])
            logits = network(torch.cat([given, more]).clone(memory_format=layout))[:rows]
        else:
            logits = network(images)
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            # A network of steps cuts the graph. Its gradient is zero, and the checks say so.
            logits = logits + 0 * images.flatten(1).sum(1, keepdim=True)
        return logits

    return filled


class Meter:
    """Counts what a network is asked, and lets ``tick`` look around at each call.

    Args:
        network: images → logits.
        tick: called with the cost of each call [forward passes × images]; it may raise.
    """

    def __init__(self, network: Network, tick: Callable[[int], None] = lambda cost: None) -> None:
        self.forwards = 0
        self.gradients = 0
        self._network = network
        self._tick = tick

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of ``images``."""
        self._count(images)
        return self._network(images)

    def _count(self, images: Tensor) -> None:
        rows = len(images)
        wants_gradient = images.requires_grad and torch.is_grad_enabled()
        self.gradients += rows if wants_gradient else 0
        self.forwards += 0 if wants_gradient else rows
        self._tick(2 * rows if wants_gradient else rows)
