"""FGSM, MIM, CW and PGD are as strong as the implementations of torchattacks and Foolbox."""

from __future__ import annotations

from collections.abc import Callable

import foolbox
import pytest
import torch
import torchattacks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluation.conftest import EPS
from zipper_dist.attacks import PGD, Cw, Fgsm, Mim
from zipper_dist.attacks.cw import summed_margin
from zipper_dist.attacks.mim import momentum
from zipper_dist.config.threat import Norm, ThreatModel

Set = tuple[Tensor, Tensor]
STEPS, STEP = 20, 0.01
HALF_A_POINT = 0.5
NAMES = ["fgsm", "pgd-3", "mim-3", "cw-3", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square"]


def accuracy(network: nn.Module, images: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return 100 * float((network(images).argmax(1) == y).float().mean())


def test_fgsm_agrees_with_torchattacks(network: nn.Module, digits: Set) -> None:
    x, y = digits
    ours = accuracy(network, Fgsm(EPS)(network, x, y), y)
    theirs = accuracy(network, torchattacks.FGSM(network, eps=EPS)(x, y), y)
    assert abs(ours - theirs) <= HALF_A_POINT
    assert ours < accuracy(network, x, y) - 5


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_mim_agrees_with_torchattacks(network: nn.Module, digits: Set, decay: float) -> None:
    x, y = digits
    ours = Mim(EPS, step_size=STEP, steps=STEPS, decay=decay)(network, x, y)
    theirs = torchattacks.MIFGSM(network, eps=EPS, alpha=STEP, steps=STEPS, decay=decay)(x, y)
    assert abs(accuracy(network, ours, y) - accuracy(network, theirs, y)) <= HALF_A_POINT
    assert float((ours - theirs).abs().mean()) < 0.01


def test_momentum_follows_its_recursion() -> None:
    direction, remembered = momentum(0.5), torch.zeros(2, 1, 3, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        gradient = torch.randn(2, 1, 3, 4, generator=generator)
        exact = gradient.double()
        remembered = 0.5 * remembered + exact / exact.abs().sum((1, 2, 3), keepdim=True)
        torch.testing.assert_close(direction(gradient).double(), remembered, rtol=1e-5, atol=1e-7)
    assert momentum(1.0)(torch.zeros(1, 1, 2, 2)).eq(0).all()


class FoolboxCW(foolbox.attacks.LinfProjectedGradientDescentAttack):  # type: ignore[misc]
    """Foolbox's PGD on the margin loss."""

    def get_loss_fn(self, model: foolbox.Model, labels: object) -> Callable[[object], object]:
        def loss(inputs: object) -> object:
            y = labels.raw  # type: ignore[attr-defined]
            logits = model(inputs)
            return type(logits)(summed_margin(y)(logits.raw))

        return loss


@pytest.mark.parametrize("attack", ["pgd", "cw"])
def test_iterated_attacks_agree_with_foolbox(network: nn.Module, digits: Set, attack: str) -> None:
    x, y = digits
    kind = FoolboxCW if attack == "cw" else foolbox.attacks.LinfProjectedGradientDescentAttack
    theirs_attack = kind(abs_stepsize=STEP, steps=STEPS, random_start=False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, theirs, _ = theirs_attack(model, x, y, epsilons=EPS)
    if attack == "cw":
        ours = Cw(EPS, step_size=STEP, steps=STEPS, random_start=False)(network, x, y)
    else:
        ours = PGD(EPS, step_size=STEP, steps=STEPS, random_start=False)(network, x, y)
    assert abs(accuracy(network, ours, y) - accuracy(network, theirs, y)) <= HALF_A_POINT


def test_pgd_from_random_starts_agrees_with_torchattacks(network: nn.Module, digits: Set) -> None:
    x, y = digits
    ours = accuracy(network, PGD(EPS, step_size=STEP)(network, x, y), y)
    torch.manual_seed(0)
    theirs = torchattacks.PGD(network, eps=EPS, alpha=STEP, steps=20, random_start=True)(x, y)
    assert abs(ours - accuracy(network, theirs, y)) <= HALF_A_POINT


def test_the_margin_is_positive_exactly_where_an_example_is_broken(
    network: nn.Module, digits: Set
) -> None:
    x, y = digits
    logits = network(x)
    for i in range(0, len(y), 7):
        wrong = logits[i : i + 1].argmax(1) != y[i : i + 1]
        assert bool(summed_margin(y[i : i + 1])(logits[i : i + 1]) > 0) == bool(wrong)


@settings(max_examples=35, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(1e-4, 0.9),
    seed=st.integers(0, 2**31),
)
def test_every_image_is_in_its_ball_and_in_0_1(
    tmp_path_factory: pytest.TempPathFactory, name: str, norm: Norm, eps: float, seed: int
) -> None:
    """To the last bit, through the engine, on images with many pixels at 0 and 1."""
    from evaluation.helpers import attack_all, small_network

    generator = torch.Generator().manual_seed(seed)
    x = (1.6 * torch.rand(6, 1, 8, 11, generator=generator) - 0.3).clamp(0, 1)
    model = small_network(1, 5)
    y = model(x).argmax(1)
    found = attack_all(
        tmp_path_factory.mktemp("store"), model, x, y, [name], ThreatModel(norm, eps), short=True
    )
    images = found.images(name)
    assert images.min() >= 0
    assert images.max() <= 1
    delta = (images.double() - x.double()).flatten(1)
    length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(length.max()) <= eps
