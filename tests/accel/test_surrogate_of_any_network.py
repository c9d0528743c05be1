"""The surrogate of networks that are none of the project's: whatever torch.fx can trace."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.rewriting import BatchNorm
from zipper_dist.accel.surrogate import Surrogate, make_surrogate


class Plain(nn.Module):
    """Convolution, BatchNorm, ReLU, a linear layer; the others differ from it in one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(3, 3, 3, padding=1)
        self.norm: nn.Module = nn.BatchNorm2d(3)
        self.linear: nn.Module = nn.Linear(3 * 8 * 8, 5)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(torch.flatten(self.features(x), 1))
        return logits


class Viewing(Plain):
    """Reshapes by ``view``, which wants pixels to lie channel by channel."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(x).view(x.size(0), -1))
        return logits


class TiedWeights(Plain):
    """Another convolution has the very weights of the one before BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        assert isinstance(self.conv, nn.Conv2d)
        self.other.weight = self.conv.weight

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.other(super().features(x))
        return features


class ReadWeights(Plain):
    """The weights of the convolution are used in another place, too."""

    def features(self, x: Tensor) -> Tensor:
        assert isinstance(self.conv, nn.Conv2d)
        size: Tensor = self.conv.weight.norm()
        return super().features(x) * size


class ReadNorm(Plain):
    """The tensors of the BatchNorm are used in another place, too."""

    def features(self, x: Tensor) -> Tensor:
        assert isinstance(self.norm, nn.BatchNorm2d)
        return super().features(x) * self.norm.weight.view(1, -1, 1, 1)


class CalledTwice(Plain):
    """The same convolution and the same BatchNorm, one after the other, twice."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(super().features(x))


class TwoNames(Plain):
    """One BatchNorm under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.other, self.again = nn.Conv2d(3, 3, 3, padding=1), self.norm

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.again(self.other(super().features(x)))
        return features


class Hooked(Plain):
    """What comes out of the convolution and of the pooling is doubled, by hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 1, 1)
        for module in (self.conv, self.pool):
            module.register_forward_hook(lambda module, images, out: 2 * out - 1)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(super().features(x))
        return features


class Constants(Plain):
    """Standardises its images by tensors that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        return super().features((x - self.mean) / torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))


class BatchStatistics(Plain):
    """A BatchNorm without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, track_running_stats=False)

    def features(self, x: Tensor) -> Tensor:
        return super().features(self.first(x))


class WithoutAffine(Plain):
    """A BatchNorm without weight and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=False)


class Keywords(Plain):
    """BatchNorm called with a keyword."""

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(input=self.conv(x)))


class Functional(Plain):
    """BatchNorm and dropout as functions."""

    def features(self, x: Tensor) -> Tensor:
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d)
        x = F.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, self.training
        )
        return F.dropout(F.relu(x), 0.5, self.training)


class Float(Plain):
    """Insists on float32 on the way."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x).float()


class Parametrized(Plain):
    """Weights made from others: spectral and weight normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(self.conv)
        self.linear = nn.utils.parametrizations.weight_norm(self.linear)


class Volumes(Plain):
    """Convolution over volumes, whose weights have five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.volume, self.norms = nn.Conv3d(1, 1, 3, padding=1), nn.BatchNorm3d(1)

    def features(self, x: Tensor) -> Tensor:
        return super().features(self.norms(self.volume(x.unsqueeze(1))).squeeze(1))


class Attention(nn.Module):
    """A transformer: patches, places, one layer of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 2, 2)
        self.places = nn.Parameter(torch.randn(1, 16, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        logits: Tensor = self.linear(x.mean(1))
        return logits


NETWORKS: list[Callable[[], nn.Module]] = [
    Plain, Viewing, TiedWeights, ReadWeights, ReadNorm, CalledTwice, TwoNames, Hooked, Constants,
    BatchStatistics, WithoutAffine, Keywords, Functional, Float, Parametrized, Volumes, Attention,
]  # fmt: skip


def shaken(network: nn.Module, seed: int) -> nn.Module:
    """``network`` in eval mode, after some training, as it were; in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        for module in network.modules():
            if isinstance(module, BatchNorm) and module.running_mean is not None:
                assert module.running_var is not None
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_and_gradients_are_those_of_the_network(
    make: Callable[[], nn.Module], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    network = shaken(make(), 1)
    surrogate = Surrogate(network, dtype)
    shaken(network, 2)
    surrogate.refresh()
    images = torch.rand(6, 3, 8, 8)
    outcomes = []
    for view, layout in ((network, torch.contiguous_format), (surrogate, torch.channels_last)):
        x = images.clone(memory_format=layout).requires_grad_()
        logits = view(x)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x)
        outcomes.append((logits.detach(), gradient))
    # In bf16 a ReLU near 0 may turn over, which says nothing of logits and much of a gradient.
    bounds = (1e-5, 1e-4) if dtype == torch.float32 else (0.05, 0.5)
    for found, wanted, bound in zip(outcomes[1], outcomes[0], bounds, strict=True):
        assert found.dtype == torch.float32
        assert relative_error(found, wanted) < bound


def test_only_what_is_nobody_elses_is_folded() -> None:
    left = {make: _kinds(make()) for make in (Plain, TiedWeights, Hooked, BatchStatistics)}
    assert left[Plain] == set()
    assert left[TiedWeights] == left[Hooked] == {"ScaleShift"}
    assert left[BatchStatistics] == {"BatchNorm2d"}


def _kinds(network: nn.Module) -> set[str]:
    kinds = {type(module).__name__ for module in Surrogate(network.eval()).modules()}
    return kinds & {"ScaleShift", "BatchNorm2d"}


def test_hooks_of_the_whole_network_are_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    network = Plain()
    network.register_forward_pre_hook(lambda module, images: (1 - images[0],))
    with caplog.at_level(logging.WARNING):
        assert make_surrogate(network) is None
    assert "attacks use the network itself" in caplog.text
    assert "hooks" in caplog.text


class Bits(Plain):
    """Views numbers as a type, and not in a shape."""

    def features(self, x: Tensor) -> Tensor:
        return super().features(x).view(dtype=torch.float32)


class Writing(Plain):
    """Works in place on a view."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        features.view(x.size(0), -1).mul_(2)
        logits: Tensor = self.linear(torch.flatten(features, 1))
        return logits


def test_a_view_of_another_type_stays_one() -> None:
    network, images = shaken(Bits(), 1), torch.rand(6, 3, 8, 8)
    surrogate = Surrogate(network)
    torch.testing.assert_close(surrogate(images), network(images), rtol=1e-4, atol=1e-5)


def test_a_view_that_is_written_to_is_not_copied(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert make_surrogate(Writing()) is None
    assert "writes into a view" in caplog.text


class Asking(nn.Module):
    """torch.fx answers it with a message of many lines."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        raise ValueError("one line,\nand another")


def test_the_reason_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Linear(2, 2), Asking())
    with caplog.at_level(logging.WARNING):
        assert make_surrogate(network) is None
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
