"""The first layers of a network, on that part of the images which has changed.

A query of Square changes a small square of an image whose feature maps are known. An unpadded
convolution or a pooling carries the change no farther than its kernel reaches, so the first layers
need only compute that part of their maps anew; the rest of the network takes the whole maps.

Measured on the network of the MNIST recipe: see benchmarks/results/evaluation-mnist.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.utils import _pair

from zipper_dist.rewriting import CONVOLUTIONS, ReLU, calls, has_hooks

Span = tuple[int, int]
"""Rows or columns of images or maps, from the first to behind the last."""


@dataclass(frozen=True)
class Reach:
    """How far a layer looks along one direction: kernel and stride [pixels]."""

    kernel: int
    stride: int


def changed_span(reaches: Sequence[Reach], span: Span, size: int) -> tuple[Span, Span]:
    """What changes of the last maps with ``span`` of images of ``size``, and what of the images
    that takes.

    Returns the span of the maps, empty where nothing changes, and that of the images.
    """
    low, high = span
    for reach in reaches:
        size = (size - reach.kernel) // reach.stride + 1
        low = max(0, -((reach.kernel - 1 - low) // reach.stride))
        high = min(size, (high - 1) // reach.stride + 1)
    maps = (low, max(low, high))
    for reach in reversed(reaches):
        low, high = low * reach.stride, (high - 1) * reach.stride + reach.kernel
    return maps, (low, high)


@dataclass(frozen=True)
class Stem:
    """A network in two parts, the first of which can be run on a part of the images.

    Attributes:
        first: images (B, C, H, W), or a part of them, → maps.
        rest: maps → logits (B, classes).
        rows, columns: the layers of ``first`` in the two directions.
    """

    first: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    rows: tuple[Reach, ...]
    columns: tuple[Reach, ...]

    def renew(self, maps: Tensor, images: Tensor, rows: Span, columns: Span) -> None:
        """Bring ``maps`` up to ``images``, which have changed in these rows and columns alone."""
        (top, bottom), high = changed_span(self.rows, rows, images.shape[2])
        (left, right), wide = changed_span(self.columns, columns, images.shape[3])
        if top < bottom and left < right:
            part = images[:, :, slice(*high), slice(*wide)]
            maps[:, :, top:bottom, left:right] = self.first(part)


def split(network: fx.GraphModule) -> tuple[nn.Sequential, nn.Module] | None:
    """A traced network as its first layers, up to the first pooling, and the rest.

    The first layers are unpadded convolutions, max-pooling and ReLU in a chain. None where a
    network does not begin like that.
    """
    modules = dict(network.named_modules())
    before, *nodes = network.graph.nodes
    layers: list[nn.Module] = []
    pooled = False
    for node in nodes:
        if list(before.users) != [node] or node.op != "call_module":
            break
        layer = modules[str(node.target)]
        is_relu = calls(node, ReLU, modules)
        if not is_relu and (pooled or not _reaches_a_little(layer)):
            break
        pooled = pooled or isinstance(layer, nn.MaxPool2d)
        layers.append(layer)
        before = node
    if not any(isinstance(layer, nn.Conv2d) for layer in layers):
        return None
    return nn.Sequential(*layers), _rest(network, before)


def _reaches_a_little(layer: nn.Module) -> bool:
    """Whether it is a convolution or a max-pooling whose every output has its whole kernel inside
    the image."""
    if has_hooks(layer):
        return False
    if type(layer) is nn.MaxPool2d:
        plain = not layer.ceil_mode and not layer.return_indices
        return plain and (_pair(layer.padding), _pair(layer.dilation)) == ((0, 0), (1, 1))
    if not isinstance(layer, nn.Conv2d) or type(layer) not in CONVOLUTIONS:
        return False
    return layer.padding in (0, (0, 0), "valid") and layer.dilation == (1, 1)


def reaches(layers: nn.Sequential, direction: int) -> tuple[Reach, ...]:
    """The reach of each of the first layers that has one, along rows (0) or columns (1)."""
    return tuple(
        Reach(_pair(layer.kernel_size)[direction], _pair(layer.stride)[direction])
        for layer in layers
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d)
    )


def _rest(network: fx.GraphModule, last: fx.Node) -> fx.GraphModule:
    """``network``, with its modules, from behind the node ``last``."""
    graph = fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in network.graph.nodes:
        if node is last:
            known[node] = graph.placeholder("maps")
        elif last in known:
            known[node] = graph.node_copy(node, known.__getitem__)
    return fx.GraphModule(network, graph).eval()
