"""Attacks as a person calls them: ``PGD(eps=8 / 255)(model, x, y)``."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
import torch
from torch import Tensor, nn

from zipper_dist.attacks import (
    APGD,
    ATTACKS,
    FAB,
    PGD,
    APGDTargeted,
    Attack,
    AutoAttack,
    Cw,
    DivergencePGD,
    Fgsm,
    FriendlyPGD,
    Mim,
    SharedDraws,
    Square,
)
from zipper_dist.config.schema import AttackConfig
from zipper_dist.config.threat import Norm

EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.6}
KINDS = [
    (PGD, {}), (PGD, {"restarts": 2}), (Fgsm, {}), (Mim, {}), (Cw, {}), (FriendlyPGD, {"tau": 1}),
    (DivergencePGD, {}), (APGD, {"iterations": 5}), (APGDTargeted, {"iterations": 5}),
    (FAB, {"iterations": 5}), (Square, {"queries": 40}),
    (AutoAttack, {"iterations": 5, "queries": 40}),
]  # fmt: skip


def network() -> nn.Module:
    """A network in training mode, with BatchNorm and dropout, whose weights want gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4),
        nn.Linear(6 * 36, 5),
    )  # fmt: skip
    model[0].weight.requires_grad_(False)
    model[1].eval()
    return model


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    """Images (140, 1, 8, 8), and labels of which most are right."""
    x = torch.rand(140, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = network().eval()(x).argmax(1)
    return x, torch.where(torch.arange(140) % 10 == 0, (y + 1) % 5, y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_images_are_in_the_ball_and_the_network_is_as_before(
    kind: type[Attack], options: dict[str, int], norm: Norm, batch: tuple[Tensor, Tensor]
) -> None:
    model, (x, y) = network(), batch
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    attack = kind(eps=EPS[norm], norm=norm, **options)
    found = attack(model, x, y)
    assert torch.equal(attack(model, x, y), found)
    delta = (found.double() - x.double()).flatten(1)
    assert float(delta.abs().max() if norm == "linf" else delta.norm(dim=1).max()) <= EPS[norm]
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(delta.abs().max()) > 0.01
    assert not found.requires_grad
    assert flags == (
        [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    )  # fmt: skip
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [PGD, Fgsm, Mim, Cw])
def test_an_image_is_attacked_alike_in_any_batch(
    kind: type[Attack], batch: tuple[Tensor, Tensor]
) -> None:
    model, (x, y) = network(), batch
    whole = kind(eps=0.1)(model, x, y)
    assert torch.allclose(kind(eps=0.1)(model, x[:9], y[:9]), whole[:9], atol=1e-6)


def test_the_seed_decides_the_draws(batch: tuple[Tensor, Tensor]) -> None:
    model, attack = network(), PGD(eps=0.1, steps=0)
    one, two = (attack(model, *batch, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert torch.equal(one, attack(model, *batch, seed=0))


def test_autoattack_breaks_what_any_of_its_parts_breaks(batch: tuple[Tensor, Tensor]) -> None:
    model, (x, y) = network(), batch
    attack = AutoAttack(eps=0.05, iterations=5, queries=40)
    assert [part.name for part in attack.parts] == ["apgd-ce", "apgd-t", "fab-t", "square"]

    def right(images: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = model.eval()(images).argmax(1) == y
        return found

    robust = right(attack(model, x, y))
    for part in attack.parts:
        assert not (robust & ~right(part(model, x, y))).any()
    assert 0 < int(robust.sum()) < int(right(x).sum())
    # What is misclassified is left as it is.
    assert torch.equal(attack(model, x, y)[~right(x)], x[~right(x)])


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.ones(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), "floating-point"),
        (2 * torch.ones(2, 1, 4, 4), torch.zeros(2).long(), "must lie in"),
        (torch.full((2, 1, 4, 4), torch.nan), torch.zeros(2).long(), "must lie in"),
        (torch.ones(2, 1, 4, 4), torch.zeros(3).long(), "2 integer labels"),
        (torch.ones(2, 1, 4, 4), torch.zeros(2), "2 integer labels"),
    ],
)
def test_what_cannot_be_attacked_is_refused(x: Tensor, y: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PGD()(nn.Identity(), x, y)


def test_norm_and_radius_are_checked(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="norm"):
        PGD(norm="l7")(network(), *batch)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eps"):
        PGD(eps=-1)(network(), *batch)


def test_attacks_are_frozen_and_registered_by_name() -> None:
    with pytest.raises(FrozenInstanceError):
        PGD().eps = 1.0  # type: ignore[misc]
    assert set(ATTACKS) == {
        "fgsm", "pgd", "mim", "cw", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square", "aa",
    }  # fmt: skip
    for name, kind in ATTACKS.items():
        assert kind().name.startswith(name)
        assert {"eps", "norm"} <= {field.name for field in fields(kind)}


def test_the_attack_of_a_learner_scales_radius_and_step() -> None:
    config = AttackConfig("l2", 0.5, 0.1, 7, False)
    assert PGD.of(config, 0.5) == PGD(0.25, "l2", 0.05, 7, False)
    assert FriendlyPGD.of(config, tau=2) == FriendlyPGD(0.5, "l2", 0.1, 7, False, tau=2)
    # Where the schedule starts from 0 the step is 0 as well, and not the default.
    assert PGD.of(config, 0.0).step == 0


def test_the_default_step_reaches_every_point_of_the_ball() -> None:
    assert PGD(eps=0.1, steps=50).step == pytest.approx(0.005)
    assert PGD(eps=0.1, steps=50).settings == {
        "attack": "pgd-50", "norm": "linf", "eps": 0.1, "steps": 50,
        "step_size": PGD(eps=0.1, steps=50).step, "random_start": True,
    }  # fmt: skip
    assert PGD(eps=0.1, restarts=3).settings["restarts"] == 3


def test_a_shared_generator_has_no_blocks(batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(TypeError, match="by block"):
        APGD().run(network().eval(), *batch, SharedDraws(None))
