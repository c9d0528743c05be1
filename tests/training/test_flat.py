from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.models import ModelSpec, build
from zipper_dist.training.learner.flat_state import FlatState

SPECS = [
    ModelSpec("small_cnn", channels=1, height=16, width=16, classes=3, width_multiplier=0.1),
    ModelSpec("resnet18", channels=3, height=8, width=8, classes=5, width_multiplier=0.05),
    ModelSpec("preact_resnet18", channels=3, height=8, width=8, classes=5, width_multiplier=0.05),
    ModelSpec("wrn32_10", channels=3, height=8, width=8, classes=5, width_multiplier=0.02),
]
specs = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec.arch))


class Mixed(nn.Module):
    """Tensors of every kind: odd sizes, a scalar, buffers of floats and integers."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("offset", torch.randn(7))
        self.register_buffer("cache", torch.randn(2), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(images))
        return features.flatten(1) * self.scale + self.offset.sum()


def floats(model: nn.Module) -> dict[str, Tensor]:
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}


@specs
def test_flattening_leaves_the_state_dict_as_it_was(spec: ModelSpec) -> None:
    model = build(spec)
    before = copy.deepcopy(model.state_dict())
    state = FlatState(model)
    for after in (model.state_dict(), state.state_dict()):
        assert list(after) == list(before)
        for name, tensor in before.items():
            assert torch.equal(after[name], tensor), name
            assert after[name].dtype == tensor.dtype
    # The copy is what other software gets to see.
    for name, tensor in before.items():
        assert state.state_dict()[name].stride() == tensor.stride()


def test_flattening_keeps_out_of_the_state_dict_what_was_out_of_it() -> None:
    model = Mixed()
    before = list(model.state_dict())
    FlatState(model)
    assert list(model.state_dict()) == before


@specs
def test_every_float_is_a_view_of_the_flat_tensor_and_no_two_overlap(spec: ModelSpec) -> None:
    model = build(spec)
    state = FlatState(model)
    tensors = floats(model)
    state.flat.copy_(torch.arange(len(state.flat)))
    seen = torch.cat([tensor.detach().flatten() for tensor in tensors.values()])
    assert len(set(seen.tolist())) == sum(tensor.numel() for tensor in tensors.values())
    for number, tensor in enumerate(tensors.values()):
        with torch.no_grad():
            tensor.fill_(-1.0 - number)
        assert int((state.flat == -1 - number).sum()) == tensor.numel()


def test_all_kinds_of_tensors_are_views() -> None:
    model = Mixed()
    state = FlatState(model)
    assert set(floats(model)) >= {"conv.weight", "norm.running_var", "scale", "offset", "cache"}
    state.flat.fill_(3)
    assert all(bool((tensor == 3).all()) for tensor in floats(model).values())
    assert model.scale.shape == ()


@specs
def test_tensors_start_at_cache_lines(spec: ModelSpec) -> None:
    model = build(spec)
    state = FlatState(model)
    assert state.flat.data_ptr() % 64 == 0
    for name, tensor in floats(model).items():
        assert tensor.data_ptr() % 64 == 0, name
    # The gaps between them stay 0, and so are without effect in a norm or a test for NaN.
    with torch.no_grad():
        for tensor in floats(model).values():
            tensor.zero_()
    assert not state.flat.any()


def test_the_memory_format_is_kept() -> None:
    plain = Mixed()
    model = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    FlatState(model)
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.conv.weight, plain.conv.weight)


def test_integer_buffers_stay_where_they_are() -> None:
    model = Mixed()
    state = FlatState(model)
    assert set(state.integers) == {"norm.num_batches_tracked"}
    state.load_integers({"norm.num_batches_tracked": torch.tensor(41)})
    model(torch.rand(2, 3, 4, 4))
    assert int(state.integers["norm.num_batches_tracked"]) == 42
    state.flat.zero_()
    assert int(model.state_dict()["norm.num_batches_tracked"]) == 42


@specs
def test_a_flattened_network_computes_the_same_bit_for_bit(spec: ModelSpec) -> None:
    # Channels-last, as weights are in a flat tensor: the layout decides how sums are rounded.
    plain: nn.Module = build(spec).to(memory_format=torch.channels_last)
    flattened = copy.deepcopy(plain)
    FlatState(flattened)
    images = torch.rand(4, spec.channels, spec.height, spec.width)
    gradients = []
    for model in (plain, flattened):
        torch.manual_seed(0)
        logits = model(images)
        torch.autograd.backward(F.cross_entropy(logits, torch.arange(4) % spec.classes))
        gradients.append([logits, *(parameter.grad for parameter in model.parameters())])
    assert all(map(torch.equal, *gradients))
    assert all(map(torch.equal, plain.state_dict().values(), flattened.state_dict().values()))


def test_the_state_dict_is_a_copy() -> None:
    state = FlatState(Mixed())
    copied = state.state_dict()
    state.flat.fill_(torch.nan)
    state.load_integers({"norm.num_batches_tracked": torch.tensor(9)})
    assert not any(bool(tensor.isnan().any()) for tensor in copied.values())
    assert int(copied["norm.num_batches_tracked"]) == 0


def test_the_parameters_remain_the_same_objects() -> None:
    # An optimizer may have been given them before.
    model = Mixed()
    before = dict(model.named_parameters())
    FlatState(model)
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
