"""Rewrites of a traced network in eval mode that make it faster and keep its results."""

import operator
from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from zipper_dist.accel.side_by_side import Conv2d, has_hooks, lay_side_by_side

BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Exactly these classes: a derived one may compute its weights from others.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2d)
ReLU = (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
MaxPool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, F.max_pool1d, F.max_pool2d, F.max_pool3d)


class ScaleShift(nn.Module):
    """x · scale + shift, for each channel (dimension 1): BatchNorm in eval mode."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as ``x``, (B, C, …)."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))


@dataclass(frozen=True)
class Fold:
    """Names of a BatchNorm, and of the convolution it is folded into (None: it stands alone)."""

    norm: str
    convolution: str | None


class _Tracer(fx.Tracer):
    """Does not trace into the convolutions of :mod:`zipper_dist.accel.side_by_side`."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in CONVOLUTIONS or super().is_leaf_module(m, module_qualified_name)


def rewrite(network: nn.Module) -> tuple[fx.GraphModule, list[Fold]]:
    """``network``, which is changed, traced and rewritten; the weights of folds are not set yet.

    Raises what torch.fx raises, and ValueError if the network has hooks or writes into a view.
    """
    if has_hooks(network):
        raise ValueError("the network has hooks")
    graph = _Tracer().trace(network)
    folds = fold_batch_norms(network, graph)
    pool_before_relu(network, graph)
    lay_side_by_side(network)
    accept_any_layout(graph)
    rewritten = fx.GraphModule(network, graph)
    rewritten.delete_all_unused_submodules()
    return rewritten.eval(), folds


def fold_batch_norms(network: nn.Module, graph: fx.Graph) -> list[Fold]:
    """Take every BatchNorm with running statistics out of ``graph``, or put a scale and a shift in
    its place."""
    modules = dict(network.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    attributes = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    # How many modules have each parameter (by id) or read it as an attribute of another.
    owners = (p for module in network.modules() for p in module.parameters(recurse=False))
    read = (operator.attrgetter(target)(network) for target in attributes)
    readers = Counter(id(tensor) for tensors in (owners, read) for tensor in tensors)
    folds: list[Fold] = []
    for node in list(graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, BatchNorm) or norm.running_mean is None or has_hooks(norm):
            continue
        if any(network.get_submodule(each.rpartition(".")[0]) is norm for each in attributes):
            continue  # its tensors are read elsewhere
        name, before = str(node.target), node.all_input_nodes[0]
        convolution = _foldable(before, modules, calls, readers) if calls[name] == 1 else None
        if convolution is not None:
            modules[convolution].bias = nn.Parameter(torch.zeros(norm.num_features))
            node.replace_all_uses_with(before)
            graph.erase_node(node)
        elif isinstance(network.get_submodule(name), ScaleShift):
            continue  # it is called in several places
        else:
            network.set_submodule(name, ScaleShift(norm.num_features))
        folds.append(Fold(name, convolution))
    return folds


def _foldable(
    before: fx.Node, modules: dict[str, nn.Module], calls: Counter[str], readers: Counter[int]
) -> str | None:
    """Name of the convolution that ``before`` calls, if its output and weights go nowhere else."""
    name = str(before.target)
    if before.op != "call_module" or len(before.users) != 1 or calls[name] != 1:
        return None
    module = modules[name]
    if type(module) not in CONVOLUTIONS or has_hooks(module):
        return None
    return name if all(readers[id(p)] == 1 for p in module.parameters()) else None


def pool_before_relu(network: nn.Module, graph: fx.Graph) -> None:
    """Swap every max-pooling with the ReLU before it, which then has fewer numbers to rectify;
    outputs and gradients stay the same: max(relu(a), relu(b)) = relu(max(a, b))."""
    modules = dict(network.named_modules())
    for pool in list(graph.nodes):
        relu = pool.args[0] if calls(pool, MaxPool, modules) and pool.args else None
        if not isinstance(relu, fx.Node) or not calls(relu, ReLU, modules):
            continue
        before = relu.args[0]
        # Others that read the ReLU's input would miss an in-place ReLU's result.
        if not isinstance(before, fx.Node) or not len(before.users) == len(relu.users) == 1:
            continue
        if pool.op == "call_module":
            with_indices = bool(modules[str(pool.target)].return_indices)
        else:
            with_indices = bool(pool.kwargs.get("return_indices", False)) or len(pool.args) > 6
        if with_indices:
            continue
        pool.replace_all_uses_with(relu)
        pool.replace_input_with(relu, before)
        relu.replace_input_with(before, pool)
        pool.append(relu)


def calls(node: fx.Node, what: tuple[object, ...], modules: dict[str, nn.Module]) -> bool:
    """Whether ``node`` calls one of ``what``: module classes, functions, or names of methods."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return type(module) in what and not has_hooks(module)
    return node.op in ("call_function", "call_method") and node.target in what


def accept_any_layout(graph: fx.Graph) -> None:
    """Exchange ``view`` (but of another dtype) for ``reshape``, which takes channels-last tensors;
    ValueError where a view is written to, which a copy would not pass on."""
    for node in graph.nodes:
        if node.op != "call_method" or node.target not in ("view", "view_as"):
            continue
        if any(_writes(user) for user in node.users):
            raise ValueError("it writes into a view")
        arguments = (*node.args, *node.kwargs.values())
        if not any(isinstance(argument, torch.dtype) for argument in arguments):
            node.target = node.target.replace("view", "reshape")


def _writes(node: fx.Node) -> bool:
    """Whether a call works in place, by its name."""
    name = str(getattr(node.target, "__name__", node.target))
    return name in ("setitem", "iadd", "isub", "imul", "itruediv") or (
        name.endswith("_") and not name.endswith("__")
    )
