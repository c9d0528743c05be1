"""Small networks made fast on CPUs by laying the images of a minibatch innermost.

CPU kernels for convolutions compute with 16 channels at a time, of which a layer of 8 leaves half
empty. Here the numbers of all images at one place are next to each other, (H, C, W, N), so that
every operation fills its vectors whatever the channels. In this layout a convolution is a few
matrix products on the images as they lie: k rows of a map, each of C channels, are one matrix of
k · C rows and W · N columns, and a step to the right is an offset into it. A chain of layers runs
on a few images at a time, whose maps stay in the cache, and its gradient is that of the images
alone.

Measured on the network of the MNIST recipe, a quarter as wide:
see benchmarks/results/evaluation-mnist.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNKS = (16, 24, 32)
"""Images that a chain takes at a time; the last are filled up to one of these, so that an image's
logits do not depend on how many there are [images]."""


class Layer(Protocol):
    """A step of a chain: maps (H, C, W, N), or features (K, N), to the same."""

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """The output, and with ``keep`` what :meth:`backward` needs; may work in place on ``x``."""
        ...

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """The gradient of the input from that of the output."""
        ...


class Convolution:
    """A convolution with stride 1.

    Args:
        weight: (O, C, kh, kw).
        bias: (O,).
        padding: zeros around the maps, less than the kernel is high and wide.
    """

    def __init__(self, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> None:
        self._weight, self._back = _columns(weight), _columns(weight.flip(2, 3).transpose(0, 1))
        self._bias = bias.view(1, -1, 1)
        self._padding = padding
        self._full = (weight.shape[2] - 1 - padding[0], weight.shape[3] - 1 - padding[1])

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """See :class:`Layer`."""
        return _correlate(_padded(x, self._padding), self._weight, self._bias), None

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """See :class:`Layer`."""
        return _correlate(_padded(gradient, self._full), self._back, None)


def _columns(weight: Tensor) -> Tensor:
    """(O, C, kh, kw) → (kw, O, kh · C): for each column of the kernel, a matrix."""
    return weight.permute(3, 0, 2, 1).flatten(2).contiguous()


def _padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    high, wide = padding
    return F.pad(x, (0, 0, wide, wide, 0, 0, high, high)) if high or wide else x


def _correlate(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Maps (H, C, W, N), contiguous, with the matrices of a kernel (kw, O, kh · C)."""
    x = x.contiguous()
    high, channels, wide, images = x.shape
    kernel_wide, out, rows = weight.shape
    to_high, to_wide = high - rows // channels + 1, wide - kernel_wide + 1
    line = wide * images
    shape, strides = (to_high, rows, to_wide * images), (channels * line, line, 1)
    y: Tensor | None = None
    for k in range(kernel_wide):
        matrix = weight[k].expand(to_high, out, rows)
        maps = x.as_strided(shape, strides, x.storage_offset() + k * images)
        if y is not None:
            y.baddbmm_(matrix, maps)
        elif bias is not None:
            y = torch.baddbmm(bias, matrix, maps)
        else:
            y = torch.bmm(matrix, maps)
    assert y is not None
    return y.view(to_high, out, to_wide, images)


class Rectifier:
    """ReLU; in place, because no layer before it needs its output."""

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """See :class:`Layer`."""
        y = x.relu_()
        return y, y

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """See :class:`Layer`."""
        return torch.ops.aten.threshold_backward(gradient, kept, 0)  # type: ignore[no-any-return]


class MaxPool:
    """Max-pooling over 2 × 2 pixels, first along rows, then across them.

    So the gradient goes to the first of equal numbers, as with torch's own.
    """

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """See :class:`Layer`."""
        left, right = _halves(x, 2)
        pairs = torch.maximum(left, right)
        upper, lower = _halves(pairs, 0)
        kept = (x.shape, left >= right, upper >= lower) if keep else None
        return torch.maximum(upper, lower), kept

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """See :class:`Layer`."""
        shape, is_left, is_upper = kept
        high, _, wide, _ = shape
        pairs = gradient.new_empty(high, *is_left.shape[1:])
        pairs[high // 2 * 2 :] = 0  # an odd line is in no square
        _split(gradient, is_upper, *_halves(pairs, 0))
        result = gradient.new_empty(shape)
        result[:, :, wide // 2 * 2 :] = 0
        _split(pairs, is_left, *_halves(result, 2))
        return result


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The even and the odd places along a dimension, as many of each."""
    size, before = x.shape[dim] // 2 * 2, (slice(None),) * dim
    even, odd = (*before, slice(0, size, 2)), (*before, slice(1, size, 2))
    return x[even], x[odd]


def _split(gradient: Tensor, first: Tensor, to_first: Tensor, to_second: Tensor) -> None:
    torch.mul(gradient, first, out=to_first)
    torch.sub(gradient, to_first, out=to_second)


class Flatten:
    """Maps (H, C, W, N) to features (C · H · W, N), in the order of torch's."""

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """See :class:`Layer`."""
        y = x.transpose(0, 1)
        return y.flatten(0, 2), y.shape

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """See :class:`Layer`."""
        return gradient.view(kept).transpose(0, 1).contiguous()


class Matrix:
    """A fully connected layer.

    Args:
        weight: (O, K).
        bias: (O,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias.view(-1, 1)

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Any]:
        """See :class:`Layer`."""
        return torch.addmm(self._bias, self._weight, x), None

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """See :class:`Layer`."""
        return self._weight.t() @ gradient


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, chain: Chain) -> Tensor:
        ctx.chain, ctx.shape = chain, images.shape
        logits, ctx.kept = chain.run(images, keep=True)
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.chain.gradient(gradients[0], ctx.kept, ctx.shape), None


@dataclass(frozen=True)
class Chain:
    """A network of layers in turn: images (B, C, H, W) → logits (B, classes), all float32."""

    layers: Sequence[Layer]

    def __call__(self, images: Tensor) -> Tensor:
        """Logits; their gradient is that of the images, in the plain memory layout."""
        if images.requires_grad and torch.is_grad_enabled():
            logits: Tensor = _Differentiable.apply(images, self)
            return logits
        return self.run(images.detach(), keep=False)[0]

    @torch.no_grad()
    def run(self, images: Tensor, keep: bool) -> tuple[Tensor, list[list[Any]]]:
        """Logits, and by chunk what each layer keeps."""
        found, kept = [], []
        for chunk in torch.split(images, CHUNKS[-1]):
            of_layers = []
            missing = _size(len(chunk)) - len(chunk)
            x = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, missing)).permute(2, 1, 3, 0)
            x = x.clone(memory_format=torch.contiguous_format)
            for layer in self.layers:
                x, saved = layer.forward(x, keep)
                of_layers.append(saved)
            found.append(x.t()[: len(chunk)])
            kept.append(of_layers if keep else [])
        return torch.cat(found), kept

    @torch.no_grad()
    def gradient(self, gradient: Tensor, kept: list[list[Any]], shape: torch.Size) -> Tensor:
        """The gradient of the images (B, C, H, W) from that of the logits."""
        result = gradient.new_empty(shape)
        for into, chunk, of_layers in zip(
            torch.split(result, CHUNKS[-1]), torch.split(gradient, CHUNKS[-1]), kept, strict=True
        ):
            size = _size(len(chunk))
            x = F.pad(chunk, (0, 0, 0, size - len(chunk))).t().contiguous()
            for layer, saved in zip(reversed(self.layers), reversed(of_layers), strict=True):
                x = layer.backward(x, saved)
            into.copy_(x.permute(3, 1, 0, 2)[: len(chunk)])
        return result


def _size(images: int) -> int:
    return next(size for size in CHUNKS if images <= size)
