"""The surrogate: a copy of a network that attacks differentiate, faster than the network itself.

An attack runs the network in eval mode and needs the gradient of the images alone. So the surrogate
is a copy with frozen weights, in the working precision, channels-last, in which every BatchNorm is
folded into the convolution before it, or else becomes a scale and a shift for each channel
(:mod:`zipper_dist.accel.rewriting`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zipper_dist.accel.rewriting import BatchNorm, rewrite

log = logging.getLogger(__name__)

Wrap = Callable[[nn.Module], nn.Module]


class Surrogate(nn.Module):
    """The attack's view of ``model``.

    Args:
        model: the network; it is read by :meth:`refresh` and never changed.
        dtype: the working precision. Images come in and logits go out as float32.
        wrap: applied to the rewritten network, for example torch.compile.

    Raises:
        Exception: whatever torch.fx raises where it cannot trace the network.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype = torch.float32, wrap: Wrap | None = None
    ) -> None:
        super().__init__()
        self._source = [model]  # in a list, or it would be registered as a part of the surrogate
        self._dtype = dtype
        network, self._folds = rewrite(copy.deepcopy(model).eval())
        network.requires_grad_(False)
        device = next(model.parameters()).device
        for tensor in [*network.parameters(), *network.buffers()]:
            working = dtype if tensor.is_floating_point() else tensor.dtype
            layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
            tensor.data = tensor.data.to(device, working, memory_format=layout)
        self.network = network
        """The rewritten copy, in ``dtype``."""
        self._pairs = self._plain_pairs()
        self._run = [network if wrap is None else wrap(network)]
        self.refresh()

    def _plain_pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Tensors of the copy that equal one of the network, and those of the network."""
        folded = {name for fold in self._folds for name in (fold.norm, fold.convolution)}
        copies, originals = [], []
        for name, ours in [*self.network.named_parameters(), *self.network.named_buffers()]:
            owner, _, leaf = name.rpartition(".")
            # A constant of the traced code belongs to no module of the network.
            theirs = getattr(self._source[0].get_submodule(owner), leaf, None)
            if owner not in folded and theirs is not None:
                copies.append(ours.data)
                originals.append(theirs.detach())
        return copies, originals

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the network's present weights and BatchNorm statistics.

        In place, so that compiled code stays valid.
        """
        copies, originals = self._pairs
        if copies:
            torch._foreach_copy_(copies, originals)
        if self._folds:
            self._refresh_folds()

    def _refresh_folds(self) -> None:
        source, network = self._source[0], self.network
        norms = [source.get_submodule(fold.norm) for fold in self._folds]
        means, variances, weights, biases = zip(*map(_statistics, norms), strict=True)
        deviations = torch._foreach_add(variances, [norm.eps for norm in norms])  # type: ignore[misc]
        torch._foreach_sqrt_(deviations)
        scales = torch._foreach_div(weights, deviations)
        shifts = torch._foreach_sub(biases, torch._foreach_mul(means, scales))
        targets: list[Tensor] = []
        values: list[Tensor] = []
        for fold, scale, shift in zip(self._folds, scales, shifts, strict=True):
            if fold.convolution is None:
                alone = network.get_submodule(fold.norm)
                targets += [alone.scale, alone.shift]  # type: ignore[list-item]
                values += [scale, shift]
                continue
            theirs = source.get_submodule(fold.convolution)
            ours = network.get_submodule(fold.convolution)
            targets += [ours.weight.data, ours.bias.data]  # type: ignore[list-item]
            weight: Tensor = theirs.weight.detach()  # type: ignore[operator]
            values.append(weight * scale.view(-1, *[1] * (weight.dim() - 1)))
            bias = theirs.bias
            values.append(shift if bias is None else shift + bias * scale)  # type: ignore[operator]
        torch._foreach_copy_(targets, values)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes), float32, of images (B, C, H, W), float32."""
        # For a network that makes float32 of its own on the way.
        mixed = self._dtype != torch.float32
        with torch.autocast(images.device.type, self._dtype, enabled=mixed):
            logits: Tensor = self._run[0](images.to(self._dtype))
        return logits.float()


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, variance, weight and bias of a BatchNorm, (C,) each; what it lacks is filled in."""
    assert isinstance(norm, BatchNorm)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight = norm.weight.detach() if norm.affine else torch.ones_like(mean)
    bias = norm.bias.detach() if norm.affine else torch.zeros_like(mean)
    return mean, variance, weight, bias


def make_surrogate(
    model: nn.Module, dtype: torch.dtype = torch.float32, wrap: Wrap | None = None
) -> Surrogate | None:
    """The surrogate of ``model``, or None, after a line in the log, where it cannot be traced."""
    try:
        return Surrogate(model, dtype, wrap)
    except Exception as error:  # torch.fx raises what the network's own code raises
        why = " ".join(str(error).split()) or type(error).__name__
        log.warning("attacks use the network itself, because it cannot be traced: %s", why)
        return None
