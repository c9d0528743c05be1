"""Which networks are plain chains of small layers, and so run with the images innermost."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from zipper_dist.innermost import Chain, Convolution, Flatten, Layer, Matrix, MaxPool, Rectifier
from zipper_dist.rewriting import CONVOLUTIONS, ReLU, calls, has_hooks

MOST_CHANNELS = 16
"""From more channels on, torch's own kernels are as fast."""


def chain_of(network: fx.GraphModule) -> Chain | None:
    """The layers of a traced network in eval mode, with its present weights.

    None where the network is not a plain chain of the layers above, from convolutions over a
    flattening to matrices, or would not gain: it is not on a CPU, not in float32, or has many
    channels.
    """
    layers: list[Layer] = []
    modules = dict(network.named_modules())
    *nodes, last = network.graph.nodes
    for at, node in enumerate(nodes):
        if node.op == "placeholder" and at == 0:
            continue
        if len(node.args) == 0 or node.args[0] is not nodes[at - 1] or len(node.users) != 1:
            return None
        found = _layer(node, modules)
        if found is None:
            return None
        layers += found
    kinds = [type(layer) for layer in layers if not isinstance(layer, Rectifier)]
    at = kinds.index(Flatten) if kinds.count(Flatten) == 1 else 0
    in_order = Matrix not in kinds[:at] and set(kinds[at + 1 :]) == {Matrix}
    gains = Convolution in kinds[:at]
    return Chain(layers) if gains and in_order and last.args[0] is nodes[-1] else None


def _layer(node: fx.Node, modules: dict[str, nn.Module]) -> list[Layer] | None:
    """The layer that a node calls, or none where it changes nothing; None if it is another one."""
    if calls(node, ReLU, modules):
        return [Rectifier()]
    if node.op == "call_function":
        return [Flatten()] if node.target is torch.flatten and node.args[1:] == (1,) else None
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if module is None or has_hooks(module):
        return None
    if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
        return []
    if isinstance(module, nn.Conv2d) and type(module) in CONVOLUTIONS:
        return _convolution(module)
    if type(module) is nn.Linear:
        return [Matrix(module.weight.detach(), _bias(module))] if _plain(module) else None
    if type(module) is nn.Flatten:
        return [Flatten()] if (module.start_dim, module.end_dim) == (1, -1) else None
    if type(module) is nn.MaxPool2d:
        sizes = [nn.modules.utils._pair(s) for s in (module.kernel_size, module.stride)]
        usual = (module.padding, module.dilation, module.ceil_mode) == (0, 1, False)
        return [MaxPool()] if sizes == [(2, 2)] * 2 and usual else None
    return None


def _convolution(module: nn.Conv2d) -> list[Layer] | None:
    if isinstance(module.padding, str) or not _plain(module):
        return None
    usual = (module.stride, module.dilation, module.groups, module.padding_mode)
    fits = all(p < k for p, k in zip(module.padding, module.kernel_size, strict=True))
    few = max(module.in_channels, module.out_channels) <= MOST_CHANNELS
    if usual != ((1, 1), (1, 1), 1, "zeros") or not (fits and few):
        return None
    high, wide = module.padding
    return [Convolution(module.weight.detach(), _bias(module), (high, wide))]


def _plain(module: nn.Conv2d | nn.Linear) -> bool:
    return module.weight.device.type == "cpu" and module.weight.dtype == torch.float32


def _bias(module: nn.Conv2d | nn.Linear) -> Tensor:
    bias = module.bias
    return module.weight.new_zeros(len(module.weight)) if bias is None else bias.detach()
