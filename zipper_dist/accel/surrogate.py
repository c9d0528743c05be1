"""The surrogate: a faster copy of a network for attacks to differentiate, in eval mode, frozen, in
the working precision, channels-last, with BatchNorm folded (:mod:`zipper_dist.accel.rewriting`)."""

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zipper_dist.accel.rewriting import BatchNorm, rewrite

log = logging.getLogger(__name__)

Wrap = Callable[[nn.Module], nn.Module]


class Surrogate(nn.Module):
    """The attack's view of ``model``, which :meth:`refresh` reads and nothing changes.

    ``dtype`` is the working precision; images come in and logits go out as float32. ``wrap``, for
    example torch.compile, is applied to the rewritten network. Raises what torch.fx raises.
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
        folded = {name for fold in self._folds for name in (fold.norm, fold.convolution)}
        # The tensors of the copy that equal one of the network, and those of the network.
        self._copies: list[Tensor] = []
        self._originals: list[Tensor] = []
        for name, ours in [*network.named_parameters(), *network.named_buffers()]:
            owner, _, leaf = name.rpartition(".")
            # A constant of the traced code belongs to no module of the network.
            theirs = getattr(model.get_submodule(owner), leaf, None)
            if owner not in folded and theirs is not None:
                self._copies.append(ours.data)
                self._originals.append(theirs.detach())
        self._run = [network if wrap is None else wrap(network)]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over weights and BatchNorm statistics, in place: compiled code stays valid."""
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)
        if not self._folds:
            return
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
        mixed = self._dtype != torch.float32  # for a network that makes float32 of its own
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
