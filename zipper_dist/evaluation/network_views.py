"""The network in the forms that an evaluation needs, and how many images it takes at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.precision import Network
from zipper_dist.accel.surrogate import make_surrogate

LEAST_ROWS = 8
"""Matrix libraries have other kernels for a few rows, which round differently. Smaller batches are
filled up, so that an example's logits do not depend on how many are attacked with it [images]."""

ALIGNMENT = 16
"""Matrix libraries round by where in memory a row of features begins. Rows of so many numbers, or a
multiple, all begin alike, wherever in a minibatch their example is."""

MOST = 1024
"""A GPU gains nothing from larger batches [images]."""

CACHE = 2**25
"""What a CPU keeps close to it, roughly; batches that outgrow it are slower an image [bytes]."""


class AlignedLinear(nn.Linear):
    """A frozen copy of a linear layer, whose features zeros bring up to a multiple of ALIGNMENT."""

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

    ``network``: the copy, as images of memory format ``layout`` → logits; ``module``: the same as a
    module, whose linear layers are aligned; ``update``: brings its weights up to date, in place.
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
        rows, images = len(given), given
        if 0 < rows < LEAST_ROWS:
            more = given[:1].detach().expand(LEAST_ROWS - rows, *given.shape[1:])
            images = torch.cat([given, more])
        # Images of one channel may have the strides of any layout, which decide on the rounding; a
        # clone has its layout's.
        logits = self._network(images.clone(memory_format=self._layout))[:rows]
        if given.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            # A network of step functions cuts the graph: its gradient is zero.
            logits = logits + 0 * given.flatten(1).sum(1, keepdim=True)
        return logits


def exact_view(
    model: nn.Module, layout: torch.memory_format = torch.contiguous_format
) -> NetworkView:
    """The network itself in fp32: what it says of an image is the verdict."""
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    if layout == torch.channels_last:
        copied.to(memory_format=layout)
    originals = [t.detach() for t in (*model.parameters(), *model.buffers())]
    copies = [t.data for t in (*copied.parameters(), *copied.buffers())]

    def update() -> None:
        for ours, theirs in zip(copies, originals, strict=True):
            ours.copy_(theirs)

    return NetworkView(copied, copied, layout, update)


def attacked_view(model: nn.Module) -> NetworkView:
    """What attacks run in place of ``model``, the same up to rounding: BatchNorm is folded (unless
    the network cannot be traced), and the weights are channels-last."""
    surrogate = make_surrogate(model)
    if surrogate is None:
        return exact_view(model, torch.channels_last)
    return NetworkView(surrogate, surrogate.network, torch.channels_last, surrogate.refresh)


@dataclass(frozen=True)
class NetworkViews:
    """The network in the forms that an evaluation needs."""

    exact: Network
    """Decides on every image."""
    attacked: Network
    """What the attacks differentiate."""

    @staticmethod
    def of(model: nn.Module) -> NetworkViews:
        """Views of ``model``, which is left as it is."""
        return NetworkViews(exact_view(model), attacked_view(model))

    def refresh(self) -> None:
        """Take over the present weights of the network."""
        for view in (self.exact, self.attacked):
            if isinstance(view, NetworkView):
                view.refresh()


def available_memory(device: torch.device, sharers: int) -> int:
    """Free memory of the device for each of ``sharers`` processes on it [bytes]."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // sharers
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // sharers
    except (ValueError, OSError):  # not every system says
        return 2**31 // sharers


def batch_size_for(model: nn.Module, image: Tensor, available: int) -> int:
    """How many images like ``image`` (1, C, H, W) to attack at a time, with ``available`` memory
    [bytes], half of which is left alone; a CPU gets 32 to 128, as fit into its caches."""
    activations = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal activations
        if isinstance(output, Tensor):
            activations += output.numel() * output.element_size()

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad(), frozen_eval_mode(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    # An attack keeps the activations, and about as much again for their gradients.
    each = 2 * activations + 16 * image.numel() * image.element_size()
    most = MOST if image.device.type == "cuda" else min(128, max(32, CACHE // each))
    return max(1, min(most, available // (2 * each)))
