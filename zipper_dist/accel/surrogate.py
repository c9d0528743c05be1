"""The surrogate: a network as an attack needs it, and as fast as an attack can have it.

An attack runs the network in eval mode and wants the gradient of the images alone. So the surrogate
is a copy with frozen weights, in the working precision, channels-last, in which every BatchNorm is
folded into the convolution before it; one that follows no convolution, as in pre-activation
networks, stays as a scale and a shift for each channel (:mod:`zipper_dist.accel.rewriting` has
this and the other rewrites). :meth:`Surrogate.refresh` brings the copy up
to the network's present weights, in place, so that compiled code stays valid.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipper_dist.accel.rewriting import BatchNorm, rewrite

log = logging.getLogger(__name__)


class Surrogate(nn.Module):
    """The attack's view of ``model``, which may be any network that torch.fx can trace.

    Args:
        model: the network; it is read by :meth:`refresh` and never changed.
        dtype: the working precision. Images come in and logits go out as float32.
        wrap: applied to the folded network, for example torch.compile.

    Raises:
        Exception: whatever torch.fx raises where it cannot trace the network (see
            :func:`make_surrogate`, which falls back to the network itself).
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype = torch.float32,
        wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
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
        self._run = [wrap(network)]
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
        """Take over the network's present weights and BatchNorm statistics."""
        copies, originals = self._pairs
        if copies:
            torch._foreach_copy_(copies, originals)
        if self._folds:
            self._refresh_folds()

    def _refresh_folds(self) -> None:
        source, network = self._source[0], self.network
        norms = [_norm(source, fold.norm) for fold in self._folds]
        deviations = torch._foreach_add([norm.variance for norm in norms], [n.eps for n in norms])
        torch._foreach_sqrt_(deviations)
        scales = torch._foreach_div([norm.weight for norm in norms], deviations)
        shifts = torch._foreach_mul([norm.mean for norm in norms], scales)
        shifts = torch._foreach_sub([norm.bias for norm in norms], shifts)
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


@dataclass(frozen=True)
class _Norm:
    """The tensors of a BatchNorm in float32, (C,) each; what it lacks is filled in."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float


def _norm(source: nn.Module, name: str) -> _Norm:
    norm = source.get_submodule(name)
    assert isinstance(norm, BatchNorm)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight = norm.weight.detach() if norm.affine else torch.ones_like(mean)
    bias = norm.bias.detach() if norm.affine else torch.zeros_like(mean)
    return _Norm(mean, variance, weight, bias, norm.eps)


def make_surrogate(
    model: nn.Module,
    dtype: torch.dtype = torch.float32,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
) -> Surrogate | None:
    """The surrogate of ``model``, or None, after a line in the log, where it cannot be traced."""
    try:
        return Surrogate(model, dtype, wrap)
    except Exception as error:  # torch.fx raises what the network's own code raises
        why = " ".join(str(error).split()) or type(error).__name__
        log.warning("attacks use the network itself, because it cannot be traced: %s", why)
        return None
