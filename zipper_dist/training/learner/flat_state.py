"""A network's floating-point state in one flat tensor, for averaging, mixing and all-reduces."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# Every tensor starts at a multiple of this many elements (64 bytes), as if it were allocated on its
# own: matrix products may round differently at other offsets.
ALIGNMENT = 16


class FlatState:
    """Makes the parameters and floating-point buffers of ``model`` views of :attr:`flat` (1-D;
    fp32, or float64 if all of them are); 4-D ones become channels-last. Integer buffers stay where
    they are."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        parameters = dict(model.named_parameters())
        buffers = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
        tensors = {**{n: p.data for n, p in parameters.items()}, **buffers}
        sizes = [-(-tensor.numel() // ALIGNMENT) * ALIGNMENT for tensor in tensors.values()]
        device = next(iter(tensors.values())).device
        double = all(tensor.dtype == torch.float64 for tensor in tensors.values())
        dtype = torch.float64 if double else torch.float32
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=device)
        offset = 0
        for (name, tensor), size in zip(tensors.items(), sizes, strict=True):
            layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            strides = torch.empty_like(tensor, device="meta", memory_format=layout).stride()
            view = self.flat.as_strided(tensor.shape, strides, offset)
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
