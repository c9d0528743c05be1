import pytest
import torch
from torch import nn

from zipper_dist.accel.frozen import frozen_eval_mode


def mixed_network() -> nn.Sequential:
    """A network whose training and requires_grad flags are neither all on nor all off."""
    convolution, normalisation = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    convolution.weight.requires_grad = False
    model = nn.Sequential(nn.Sequential(convolution, normalisation), nn.Dropout(), nn.Linear(3, 2))
    normalisation.eval()
    return model


def flags(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )


def test_the_network_is_in_eval_mode_and_frozen_inside() -> None:
    model = mixed_network()
    before = flags(model)
    with frozen_eval_mode(model) as view:
        assert view is model
        training, requires_grad = flags(model)
        assert not any(training)
        assert not any(requires_grad)
    assert flags(model) == before


def test_flags_return_after_an_exception() -> None:
    model = mixed_network()
    before = flags(model)
    with pytest.raises(RuntimeError, match="stop"), frozen_eval_mode(model):
        raise RuntimeError("stop")
    assert flags(model) == before


def test_flags_return_whatever_happened_inside() -> None:
    model = mixed_network()
    before = flags(model)
    with frozen_eval_mode(model):
        model.train()
        model.requires_grad_(True)
    assert flags(model) == before


def test_views_nest() -> None:
    model = mixed_network()
    before = flags(model)
    with frozen_eval_mode(model):
        with frozen_eval_mode(model):
            pass
        assert not any(flags(model)[0] + flags(model)[1])
    assert flags(model) == before


def test_a_graph_recorded_before_still_reaches_the_weights() -> None:
    model = nn.Linear(3, 1)
    output = model(torch.ones(1, 3)).sum()
    with frozen_eval_mode(model):
        pass
    output.backward()
    assert model.weight.grad is not None
