"""A network's floating-point state in one flat tensor, for averaging, mixing and all-reduces."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Every tensor starts at a multiple of this many fp32 elements (64 bytes, a cache line), as if it
# were allocated on its own: matrix products may round differently at other offsets.
ALIGNMENT = 16


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """The strides of a tensor in the flat one, the same for all networks of an architecture."""
    layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return torch.empty_like(tensor, device="meta", memory_format=layout).stride()


class FlatState:
    """Moves the parameters and floating-point buffers of ``model`` into :attr:`flat`.

    The network's parameters and buffers become views of :attr:`flat` (fp32, 1-D), so that changing
    one changes the other; 4-D ones are channels-last there, whatever they were before. Integer
    buffers stay where they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        parameters = dict(model.named_parameters())
        buffers = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
        tensors = {**{n: p.data for n, p in parameters.items()}, **buffers}
        sizes = [-(-tensor.numel() // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()]
        device = next(iter(tensors.values())).device
        self.flat = torch.zeros(sum(sizes), dtype=torch.float32, device=device)
        offset = 0
        for (name, tensor), size in zip(tensors.items(), sizes, strict=True):
            view = self.flat.as_strided(tensor.shape, _strides(tensor), offset)
            view.copy_(tensor)
            if name in parameters:
                parameters[name].data = view
            else:
                owner, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, view)
            offset += size

    @property
    def integers(self) -> dict[str, Tensor]:
        """The integer buffers, by name."""
        return {n: b for n, b in self.model.named_buffers() if not b.is_floating_point()}

    def load_integers(self, integers: Mapping[str, Tensor]) -> None:
        """Copy integer buffers in; they are never averaged."""
        for name, buffer in self.integers.items():
            buffer.copy_(integers[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The ordinary state dict of the network, copied to the CPU, contiguous."""
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self.model.state_dict().items()
        }
