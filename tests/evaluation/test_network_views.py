"""What attacks and verdicts see of a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evaluation.conftest import Set
from zipper_dist.evaluation.network_views import (
    NetworkViews,
    attacked_view,
    batch_size_for,
    exact_view,
)
from zipper_dist.models import ModelSpec, build


def test_views_answer_alike_whatever_the_batch(network: nn.Module, some: Set) -> None:
    x = some[0]
    whole = exact_view(network)(x)
    torch.testing.assert_close(whole, network(x))
    torch.testing.assert_close(attacked_view(network)(x), whole, rtol=1e-4, atol=1e-4)
    for view in (exact_view(network), attacked_view(network)):
        together = view(x)
        for rows in (1, 2, 3, 9, 40):
            assert torch.equal(view(x[:rows]), together[:rows])


def test_views_answer_alike_wherever_in_the_batch(network: nn.Module, some: Set) -> None:
    """Also where rows of features begin at other places of a memory line: here there are 50."""
    x = some[0]
    wide = build(ModelSpec("small_cnn", 1, 16, 16, 10, 0.75)).eval()  # 150 features
    nn.init.normal_(wide.classifier.fc3.weight)  # type: ignore[union-attr,arg-type]
    for model in (network, wide):
        for view in (exact_view(model), attacked_view(model)):
            together = view(x)
            for first in (1, 3, 5, 8, 30):
                assert torch.equal(view(x[first:]), together[first:])


def test_a_network_without_gradients_has_gradient_zero() -> None:
    class Steps(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1)[:, :3] > 0.5).float()

    x = torch.rand(9, 1, 4, 4).requires_grad_()
    for view in (exact_view(Steps()), attacked_view(Steps())):
        (gradient,) = torch.autograd.grad(view(x).sum(), x)
        assert (gradient == 0).all()


@pytest.mark.parametrize("traced", [True, False])
def test_views_follow_the_network_in_place(traced: bool) -> None:
    """With BatchNorm to fold, and 50 features to be aligned."""

    class Untraceable(nn.Module):
        def __init__(self, layers: nn.Sequential) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, input: Tensor) -> Tensor:
            output: Tensor = self.layers(input if float(input.detach().sum()) > -1 else -input)
            return output

    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(2)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        model = nn.Sequential(nn.Conv2d(1, 2, 4), norm, nn.ReLU(), nn.Flatten(), nn.Linear(50, 4))
        return (model if traced else Untraceable(model)).eval()

    model, other = make(0), make(1)
    x = torch.rand(9, 1, 8, 8)
    views = NetworkViews(exact_view(model), attacked_view(model))
    before = views.exact(x)
    torch.testing.assert_close(before, model(x))
    model.load_state_dict(other.state_dict())
    assert torch.equal(views.exact(x), before)
    views.refresh()
    fresh = NetworkViews(exact_view(other), attacked_view(other))
    assert torch.equal(views.exact(x), fresh.exact(x))
    assert torch.equal(views.attacked(x), fresh.attacked(x))
    assert not torch.equal(views.exact(x), before)


def test_batch_size_follows_memory() -> None:
    model = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Flatten(), nn.Linear(64 * 64, 10))
    image = torch.rand(1, 1, 8, 8)
    sizes = [batch_size_for(model, image, memory) for memory in (0, 1_000_000, 10**12)]
    assert sizes[0] == 1 < sizes[1] < sizes[2] == 128
    assert batch_size_for(nn.Conv2d(1, 4096, 1), image, 10**12) == 32
    assert model.training
