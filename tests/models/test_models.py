from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from zipper_dist.config.model import Activation
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS, ModelSpec, build
from zipper_dist.models.layers import ACTIVATIONS
from zipper_dist.models.small_cnn import SmallCNN

ALL = sorted(NETWORKS)
LEAST = {"small_cnn": 16}
NARROW = {"small_cnn": 0.5, "resnet18": 0.125, "preact_resnet18": 0.125, "wrn32_10": 0.1}


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def narrow(arch: str, channels: int = 3, height: int = 32, width: int = 32) -> ModelSpec:
    """A network with few channels, for speed."""
    return ModelSpec(arch, channels, height, width, 10, NARROW[arch])


def on_meta(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return build(spec)


def stirred(network: nn.Module) -> nn.Module:
    """The network with other values than the initial ones: no zero layer, no trivial BN."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() < 4:  # convolutions stay: they are random
            tensor.add_(0.1 * torch.rand(tensor.shape))
    return network


@pytest.mark.parametrize(
    ("arch", "channels", "size", "classes", "count"),
    [
        # conv 320 + 9,248 + 18,496 + 36,928, fully connected 205,000 + 40,200 + 2,010
        ("small_cnn", 1, 28, 10, 312_202),
        ("resnet18", 3, 32, 10, 11_173_962),
        ("resnet18", 3, 32, 100, 11_220_132),
        ("preact_resnet18", 3, 32, 10, 11_171_146),
        # 48,263,354 in the TRADES code, less the 2,102,880 of its unused stage
        ("wrn32_10", 3, 32, 10, 46_160_474),
    ],
)
def test_parameter_counts(arch: str, channels: int, size: int, classes: int, count: int) -> None:
    network = on_meta(ModelSpec(arch, channels, size, size, classes))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 24, 37)])
def test_logits_for_square_and_oblong_grey_and_colour_images(
    arch: str, shape: tuple[int, int, int]
) -> None:
    network = stirred(build(narrow(arch, *shape)))
    assert network.training
    logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("arch", ALL)
def test_every_pixel_and_every_parameter_matters(arch: str) -> None:
    network = stirred(build(narrow(arch))).eval()
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    network(images).logsumexp(1).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).any(dim=0).all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("arch", ALL)
def test_the_input_is_left_alone_and_both_memory_layouts_agree(arch: str) -> None:
    network = stirred(build(narrow(arch))).eval()
    images = torch.rand(2, 3, 32, 32) - 0.5  # negative values, which an in-place ReLU would clear
    before = images.clone()
    logits = network(images)
    assert torch.equal(images, before)
    last = network.to(memory_format=torch.channels_last)(
        images.to(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("training", [False, True])
def test_fx_tracing(arch: str, training: bool) -> None:
    network = stirred(build(narrow(arch))).train(training)
    traced = torch.fx.symbolic_trace(network)
    outputs = []
    for module in (network, traced):
        torch.manual_seed(1)  # for dropout
        # Two sizes of batch, since a trace must not fix the size.
        outputs.append([module(torch.rand(n, 3, 32, 32)) for n in (2, 3)])
    for expected, found in zip(*outputs, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("arch", "count"),
    [("small_cnn", 6), ("resnet18", 17), ("preact_resnet18", 16), ("wrn32_10", 31)],
)
@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("silu", nn.SiLU)])
def test_the_activation_stands_between_all_layers(
    arch: str, count: int, activation: str, kind: type[nn.Module]
) -> None:
    network = build(replace(narrow(arch), activation=activation))
    graph = torch.fx.symbolic_trace(network).graph
    modules = dict(network.named_modules())
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    found = [module for module in called if isinstance(module, nn.ReLU | nn.SiLU)]
    assert [type(module) for module in found] == [kind] * count
    # And nothing of the kind is called as a function.
    functions = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert not any("relu" in name or "silu" in name for name in functions)
    assert list(network.state_dict()) == list(build(narrow(arch)).state_dict())


def test_the_options_and_the_registry_name_the_same_activations() -> None:
    assert set(get_args(Activation)) == set(ACTIVATIONS)


def test_dropout_only_in_training() -> None:
    network = stirred(build(narrow("small_cnn")))
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_small_cnn_layers_in_order() -> None:
    network = build(ModelSpec("small_cnn", 1, 28, 28, 10))
    assert isinstance(network, SmallCNN)
    kinds = [type(layer).__name__ for layer in (*network.feature_extractor, *network.classifier)]
    pair = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert kinds == [*pair, *pair, "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    state = network.state_dict()
    assert [tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")] == [
        *[(32, 1, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)],
        *[(200, 1024), (200, 200), (10, 200)],
    ]
    assert isinstance(network.classifier.drop, nn.Dropout)
    assert network.classifier.drop.p == 0.5


def test_small_cnn_initial_values() -> None:
    network = build(ModelSpec("small_cnn", 1, 28, 28, 10))
    for name, tensor in network.state_dict().items():
        if "fc3" in name or ("conv" in name and "bias" in name):
            assert not tensor.any(), name
        else:
            assert tensor.any(), name
    deviation = network.state_dict()["feature_extractor.conv4.weight"].std().item()
    assert deviation == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert not network(torch.rand(2, 1, 28, 28)).any()


def test_wrn_initial_values() -> None:
    network = build(ModelSpec("wrn32_10", 3, 32, 32, 10, 0.1))
    state = network.state_dict()
    weight = state["block1.layer.0.conv1.weight"]  # fan in and fan out differ
    assert tuple(weight.shape) == (16, 2, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.15)
    assert not state["fc.bias"].any()


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("resnet18", {"conv1", "bn1", "layer1.0.conv1", "layer2.0.shortcut.0", "linear"}),
        ("preact_resnet18", {"conv1", "layer1.0.bn1", "layer2.0.shortcut.0", "linear"}),
        ("wrn32_10", {"conv1", "block3.layer.4.conv2", "block1.layer.0.convShortcut", "fc"}),
        ("small_cnn", {"feature_extractor.conv4", "classifier.fc3"}),
    ],
)
def test_names_are_those_of_public_code(arch: str, names: set[str]) -> None:
    found = {name.removesuffix(".weight") for name in on_meta(narrow(arch)).state_dict()}
    assert names <= found
    assert not any(name.startswith("block1.layer.5") for name in found)


@pytest.mark.parametrize("arch", ["resnet18", "preact_resnet18", "wrn32_10"])
def test_convolutions_of_residual_networks_have_no_bias(arch: str) -> None:
    convolutions = [m for m in on_meta(narrow(arch)).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == {"resnet18": 20, "preact_resnet18": 20, "wrn32_10": 34}[arch]
    assert all(convolution.bias is None for convolution in convolutions)


def layer_widths(network: nn.Module) -> list[int]:
    return [
        tensor.shape[0]
        for name, tensor in network.state_dict().items()
        if name.endswith("weight") and tensor.dim() > 1
    ]


@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("multiplier", [2.0, 0.25, 0.03, 1e-6])
def test_width_multiplier(arch: str, multiplier: float) -> None:
    spec = ModelSpec(arch, 3, 32, 32, 10)
    *full, classes = layer_widths(on_meta(spec))
    widths = layer_widths(on_meta(replace(spec, width_multiplier=multiplier)))
    # Where a multiplier makes widths equal, a shortcut can become the identity.
    if len(widths) == len(full) + 1:
        assert widths == [*(max(1, round(width * multiplier)) for width in full), classes]
    else:
        assert multiplier < 0.05
    network = build(replace(spec, width_multiplier=min(multiplier, 0.03))).eval()
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("arch", ALL)
def test_the_least_size_is_the_least_that_works(arch: str) -> None:
    least = LEAST.get(arch, 1)
    assert build(narrow(arch, 1, least, least)).eval()(torch.rand(2, 1, least, least)).shape == (
        2,
        10,
    )
    for height, width in ((least - 1, least), (least, least - 1)):
        with pytest.raises(UserError) as raised:
            build(narrow(arch, 1, height, width))
        for part in ("--data.image-size", f"{height}×{width}", f"{least}×{least}", arch):
            assert part in str(raised.value)


def test_small_cnn_has_no_features_below_its_least_size() -> None:
    network = build(narrow("small_cnn", 1, 16, 16))
    assert isinstance(network, SmallCNN)

    def features(size: int) -> Tensor:
        result: Tensor = network.feature_extractor(torch.rand(1, 1, size, size))
        return result

    assert features(16).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        features(15)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (ModelSpec("resnet19", 3, 32, 32, 10), ["--model.arch", "resnet19", "resnet18"]),
        (ModelSpec("resnet18", 3, 32, 32, 10, 0.0), ["--model.width", "0"]),
        (
            ModelSpec("resnet18", 3, 32, 32, 10, activation="swish"),
            ["--model.activation", "'swish'", "relu, silu"],
        ),
        (ModelSpec("resnet18", 3, 32, 32, 10, float("nan")), ["--model.width", "nan"]),
        (ModelSpec("resnet18", 0, 32, 32, 10), ["0 channels"]),
        (ModelSpec("resnet18", 3, 32, 32, 0), ["0 classes"]),
    ],
)
def test_bad_descriptions(spec: ModelSpec, parts: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        build(spec)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize("arch", ALL)
def test_the_seed_decides_the_initial_values(arch: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build(narrow(arch)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
