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
    """A frozen copy of a linear layer, on features that zeros bring up to a multiple of the
    alignment."""

    def __init__(self, linear: nn.Linear) -> None:
        missing = -linear.in_features % ALIGNMENT
        features = linear.in_features + missing
        super().__init__(features, linear.out_features, linear.bias is not None, device="meta")
        self.weight = nn.Parameter(F.pad(linear.weight.detach(), (0, missing)), False)
        self.bias = linear.bias
        self._original = (linear,)  # in a tuple, or it would be registered as a part

    def refresh(self) -> None:
        """Take over the present weights of the original; the bias is shared."""
        (linear,) = self._original
        self.weight.data[:, : linear.in_features].copy_(linear.weight.data)

    def forward(self, input: Tensor) -> Tensor:
        """(…, in features) → (…, out features)."""
        return super().forward(F.pad(input, (0, self.in_features - input.shape[-1])))


class NetworkView:
    """A frozen copy of a network in eval mode, whose logits do not depend on the batch.

    Args:
        network: images → logits; the copy.
        module: the copy as a module, whose linear layers are to be aligned.
        layout: the memory format of the images that it is given.
        update: brings the weights of the copy up to date, in place.
    """

    def __init__(
        self, network: Network, module: nn.Module, layout: torch.memory_format,
        update: Callable[[], None],
    ) -> None:  # fmt: skip
        self._network, self._layout, self._update = network, layout, update
        self._aligned: list[AlignedLinear] = []
        for name, part in list(module.named_modules()):
            if name and type(part) is nn.Linear and part.in_features % ALIGNMENT:
                self._aligned.append(AlignedLinear(part))
                module.set_submodule(name, self._aligned[-1])

    def refresh(self) -> None:
        """Take over the present weights of the network, in place."""
        self._update()
        for layer in self._aligned:
            layer.refresh()

    def __call__(self, given: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images (B, C, H, W), float32 in [0, 1]."""
        rows = len(given)
        # A clone has the strides of its layout; those of one channel may be of any layout, which
        # decides on the kernels and so on the rounding.
        images = given
        if 0 < rows < LEAST_ROWS:
            more = given[:1].detach().expand(LEAST_ROWS - rows, *given.shape[1:])
            images = torch.cat([given, more])
        logits = self._network(images.clone(memory_format=self._layout))[:rows]
        if given.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            # A network of step functions cuts the graph: its gradient is zero.
            logits = logits + 0 * given.flatten(1).sum(1, keepdim=True)
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
    return NetworkView(surrogate, surrogate.network, torch.channels_last, surrogate.refresh)


def _copy_view(
    model: nn.Module, layout: torch.memory_format, dtype: torch.dtype = torch.float32
) -> NetworkView:
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    if layout == torch.channels_last:
        copied.to(memory_format=layout)
    originals = [t.detach() for t in (*model.parameters(), *model.buffers())]
    copies = [t.data for t in (*copied.parameters(), *copied.buffers())]

    def update() -> None:
        for ours, theirs in zip(copies, originals, strict=True):
            ours.copy_(theirs)

    def autocast(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype):
            logits: Tensor = copied(images)
        return logits.float()

    return NetworkView(copied if dtype == torch.float32 else autocast, copied, layout, update)


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
