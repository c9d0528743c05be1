"""Every gradient attack finds the same images on a surrogate as on the network itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.rewriting import BatchNorm
from zipper_dist.accel.surrogate import Surrogate
from zipper_dist.attacks import (
    APGD,
    FAB,
    PGD,
    APGDTargeted,
    Attack,
    Blocks,
    Cw,
    DivergencePGD,
    ExampleDraws,
    Fgsm,
    FriendlyPGD,
    Mim,
)
from zipper_dist.attacks.autoattack import APGDOnDLR
from zipper_dist.config.threat import Norm

EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.5}
ITERATED = {"step_size": 0.25, "steps": 7}
KINDS: list[tuple[type[Attack], dict[str, Any]]] = [
    (PGD, ITERATED), (Fgsm, {}), (Mim, ITERATED), (Cw, ITERATED),
    (FriendlyPGD, ITERATED | {"tau": 1}), (DivergencePGD, ITERATED),
    (APGD, {"iterations": 10}), (APGDOnDLR, {"iterations": 10}),
    (APGDTargeted, {"iterations": 10}), (FAB, {"iterations": 10}),
]  # fmt: skip


def attack_of(kind: type[Attack], options: dict[str, Any], norm: Norm) -> Attack:
    """The attack; its step is relative to the radius."""
    given = dict(options)
    if "step_size" in given:
        given["step_size"] *= EPS[norm]
    return kind(eps=EPS[norm], norm=norm, **given)


def draws(x: Tensor) -> ExampleDraws:
    numbers = torch.arange(len(x))
    return ExampleDraws(5, "attack", Blocks(len(x)), numbers, numbers)


def network() -> nn.Module:
    """A network without kinks, whose weights want gradients, with a BatchNorm to fold."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    )
    for module in model.modules():
        if isinstance(module, BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.1, 0.5)
            module.weight.data.normal_()
    return model.eval()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_same_images_from_the_network_and_from_its_surrogate(
    kind: type[Attack], options: dict[str, Any], norm: Norm
) -> None:
    model = network()
    x = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = attack_of(kind, options, norm)
    with frozen_eval_mode(model) as still:
        wanted = attack.run(still, x, y, draws(x))
    found = attack.run(Surrogate(model), x, y, draws(x))
    assert float((wanted.detach() - x).abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())
