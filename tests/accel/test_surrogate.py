"""The surrogate computes what the network in eval mode does, faster."""

from __future__ import annotations

import copy
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.accel.rewriting import BatchNorm
from zipper_dist.accel.surrogate import Surrogate, make_surrogate
from zipper_dist.models import ModelSpec, build

ARCHITECTURES = ("small_cnn", "resnet18", "preact_resnet18", "wrn32_10")


def network(
    arch: str,
    seed: int,
    least: float = 0.5,
    most: float = 2.0,
    negative: bool = True,
    activation: str = "relu",
) -> nn.Module:
    """A narrow network of ``arch`` in eval mode, whose BatchNorms have seen anything at all.

    The variances of channels are from ``least`` to ``most``, evenly spread in the logarithm; some
    are 0 if ``least`` is.
    """
    torch.manual_seed(seed)
    model = build(ModelSpec(arch, 3, 16, 16, 10, 0.0625, activation)).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            exponents = torch.empty_like(module.running_var)
            exponents.uniform_(math.log10(max(least, 1e-12)), math.log10(most))
            module.running_var.copy_(10**exponents)
            if least == 0:
                module.running_var[torch.rand_like(exponents) < 0.3] = 0
            signs = torch.randn_like(exponents).sign() if negative else 1.0
            # What divides by a deviation of nearly nothing in every layer overflows float32.
            deviations = (module.running_var + module.eps).sqrt()
            module.weight.data.uniform_(0.5, 1.5).mul_(signs * deviations)
            module.bias.data.normal_()
    last = list(model.modules())[-1]
    if isinstance(last, nn.Linear):  # SmallCNN's starts at zero
        last.weight.data.normal_(std=0.1)
    return model


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("arch", ARCHITECTURES)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    least=st.just(0.0) | st.floats(1e-10, 1.0),
    most=st.floats(1.0, 1e4),
    negative=st.booleans(),
)
def test_logits_are_those_of_the_network(
    arch: str, seed: int, least: float, most: float, negative: bool
) -> None:
    # A variance near zero is where eps counts, and where folding in the wrong order would show.
    model = network(arch, seed, least, most, negative)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        assert relative_error(Surrogate(model)(images), model(images)) < 1e-5


@settings(max_examples=50, deadline=None)
@given(
    variances=st.lists(st.just(0.0) | st.floats(0, 1e-6) | st.floats(0, 1e3), min_size=1),
    means=st.floats(-3, 3),
    scale=st.floats(-4, 4),
    shift=st.floats(-3, 3),
    eps=st.sampled_from([1e-5, 1e-3]),
    bias=st.booleans(),
)
def test_one_layer_with_any_statistics_at_all(
    variances: list[float], means: float, scale: float, shift: float, eps: float, bias: bool
) -> None:
    # Weights are not made to suit here: a channel of no variance is magnified by 1 / sqrt(eps).
    torch.manual_seed(0)
    channels = len(variances)
    norm = nn.BatchNorm2d(channels, eps)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.fill_(means)
    norm.running_var.copy_(torch.tensor(variances))
    norm.weight.data.fill_(scale)
    norm.bias.data.fill_(shift)
    model = nn.Sequential(nn.Conv2d(2, channels, 3, bias=bias), norm).eval()
    images = torch.rand(3, 2, 6, 6)
    with torch.no_grad():
        difference = Surrogate(model)(images) - model(images)
        # Where mean and shift cancel what the convolution gives, rounding stays as large as it was.
        convolved, scales = model[0](images), scale / (norm.running_var + eps).sqrt()
        terms = (convolved.abs() + abs(means)) * scales.abs()[:, None, None] + abs(shift)
    error, size = (x.transpose(0, 1).flatten(1).norm(dim=1) for x in (difference, terms))
    assert bool((error <= 1e-5 * size).all())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_with_another_activation(arch: str) -> None:
    model = network(arch, 1, activation="silu")
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        assert relative_error(Surrogate(model)(images), model(images)) < 1e-5


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_gradients_of_the_images_are_those_of_the_network(arch: str) -> None:
    model = network(arch, 1)
    gradients = []
    for view in (model, Surrogate(model)):
        images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        images.requires_grad_()
        (gradient,) = torch.autograd.grad(view(images).square().sum(), images)
        gradients.append(gradient)
    assert relative_error(gradients[1], gradients[0]) < 1e-4


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_refresh_follows_the_network_in_place(arch: str) -> None:
    model = network(arch, 1)
    surrogate = Surrogate(model)
    addresses = [tensor.data_ptr() for tensor in surrogate.state_dict().values()]
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.rand(8, 3, 16, 16)).logsumexp(1).sum().backward()
    optimizer.step()
    model.eval()
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        assert relative_error(surrogate(images), model(images)) > 1e-4
        surrogate.refresh()
        assert relative_error(surrogate(images), model(images)) < 1e-5
    assert [tensor.data_ptr() for tensor in surrogate.state_dict().values()] == addresses


def test_the_network_is_left_as_it_is() -> None:
    model = network("resnet18", 1).train()
    before = copy.deepcopy(model.state_dict())
    surrogate = Surrogate(model)
    surrogate(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())
    assert next(iter(surrogate.parameters())).data_ptr() != next(model.parameters()).data_ptr()


def test_every_batchnorm_is_folded_or_a_scale_and_a_shift() -> None:
    for arch in ARCHITECTURES:
        surrogate = Surrogate(network(arch, 1))
        assert not any(isinstance(module, BatchNorm) for module in surrogate.modules())


class Shared(nn.Module):
    """A convolution whose output goes to a BatchNorm and around it: it must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        before = self.conv(x)
        after: Tensor = self.linear((before + self.norm(before)).mean((2, 3)))
        return after


def test_a_convolution_that_is_used_twice_is_not_folded() -> None:
    torch.manual_seed(0)
    model = Shared()
    model(torch.rand(8, 3, 9, 9))  # moves the running statistics
    model.eval()
    images = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        assert relative_error(Surrogate(model)(images), model(images)) < 1e-5


class Branching(nn.Module):
    """A network that looks at its data, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits if logits.sum() > 0 else -logits


def test_what_cannot_be_traced_is_attacked_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = Branching().train()
    with caplog.at_level(logging.WARNING):
        assert make_surrogate(model) is None
        view = Acceleration().attacked_network(model)
    assert "cannot be traced" in caplog.text
    images = torch.rand(2, 3, 2, 2)
    with view.now() as seen:
        assert torch.equal(seen(images), model(images))
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_bf16_is_near_and_speaks_float32(arch: str) -> None:
    model = network(arch, 1)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        logits = Surrogate(model, torch.bfloat16)(images)
        assert logits.dtype == torch.float32
        assert 0 < relative_error(logits, model(images)) < 0.1
