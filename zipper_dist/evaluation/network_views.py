"""The network in the forms that an evaluation needs.

Every attack takes its network from :func:`attacked_view`; what it returns is confirmed on
:func:`exact_view`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import Network
from zipper_dist.accel.surrogate import make_surrogate

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


def _align(network: nn.Module) -> list[tuple[nn.Linear, AlignedLinear]]:
    """Replace every linear layer that needs it; the old layers and the new ones."""
    pairs = []
    for name, module in list(network.named_modules()):
        if name and type(module) is nn.Linear and module.in_features % ALIGNMENT:
            pairs.append((module, AlignedLinear.like(module)))
            network.set_submodule(name, pairs[-1][1])
    return pairs


class NetworkView:
    """A frozen copy of a network in eval mode, whose logits do not depend on the batch.

    ``refresh`` brings the copy up to the network's present weights, in place.

    Args:
        network: images → logits; the copy.
        layout: the memory format of the images that it is given.
        refresh: brings the weights of the copy up to date.
    """

    def __init__(
        self, network: Network, layout: torch.memory_format, refresh: Callable[[], None]
    ) -> None:
        self._network, self._layout = network, layout
        self.refresh = refresh

    def __call__(self, given: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images (B, C, H, W), float32 in [0, 1]."""
        rows = len(given)
        # A copy has the strides of its layout; a tensor of one channel may have those of any, which
        # decide on the kernels and so on the rounding.
        images = given.clone(memory_format=self._layout)
        if 0 < rows < LEAST_ROWS:
            more = given[:1].detach().expand(LEAST_ROWS - rows, *given.shape[1:])
            filled = torch.cat([given, more]).clone(memory_format=self._layout)
            logits = self._network(filled)[:rows]
        else:
            logits = self._network(images)
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            # A network of steps cuts the graph. Its gradient is zero, and the checks say so.
            logits = logits + 0 * images.flatten(1).sum(1, keepdim=True)
        return logits


def exact_view(model: nn.Module) -> NetworkView:
    """The network itself in fp32: what it says of an image is the verdict."""
    return _copy_view(model, torch.contiguous_format)


def attacked_view(model: nn.Module, dtype: torch.dtype = torch.float32) -> NetworkView:
    """What attacks run in place of ``model``: faster, and the same up to rounding in ``dtype``.

    BatchNorm is folded and the weights are channels-last. A network that cannot be traced is
    attacked as it is, under autocast where ``dtype`` is not float32.
    """
    surrogate = make_surrogate(model, dtype)
    if surrogate is None:
        return _copy_view(model, torch.channels_last, dtype)
    pairs = _align(surrogate.network)

    def refresh() -> None:
        surrogate.refresh()
        _refresh_aligned(pairs)

    return NetworkView(surrogate, torch.channels_last, refresh)


def _copy_view(
    model: nn.Module, layout: torch.memory_format, dtype: torch.dtype = torch.float32
) -> NetworkView:
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    if layout == torch.channels_last:
        copied.to(memory_format=layout)
    originals = [t.detach() for t in (*model.parameters(), *model.buffers())]
    copies = [t.data for t in (*copied.parameters(), *copied.buffers())]
    pairs = _align(copied)

    def refresh() -> None:
        for ours, theirs in zip(copies, originals, strict=True):
            ours.copy_(theirs)
        _refresh_aligned(pairs)

    return NetworkView(
        copied if dtype == torch.float32 else _autocast(copied, dtype), layout, refresh
    )


def _refresh_aligned(pairs: list[tuple[nn.Linear, AlignedLinear]]) -> None:
    for old, new in pairs:
        new.weight.data[:, : old.in_features].copy_(old.weight.data)


def _autocast(model: nn.Module, dtype: torch.dtype) -> Network:
    def network(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype):
            logits: Tensor = model(images)
        return logits.float()

    return network


@dataclass(frozen=True)
class NetworkViews:
    """The network in the forms that an evaluation needs."""

    exact: Network
    """Decides on every image."""
    attacked: Network
    """What the attacks differentiate."""
    screening: Network | None = None
    """A coarser and faster one that is attacked first."""

    @staticmethod
    def of(model: nn.Module, screen: bool = False) -> NetworkViews:
        """Views of ``model``, which is left as it is; ``screen``: with one in bf16."""
        screening = attacked_view(model, torch.bfloat16) if screen else None
        return NetworkViews(exact_view(model), attacked_view(model), screening)

    def refresh(self) -> None:
        """Take over the present weights of the network."""
        for view in (self.exact, self.attacked, self.screening):
            if isinstance(view, NetworkView):
                view.refresh()


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
