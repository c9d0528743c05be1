"""PGD against the same attacks of torchattacks and Foolbox, on a network of middling robustness."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import foolbox
import pytest
import torch
import torch.nn.functional as F
import torchattacks
from sklearn.datasets import load_digits
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.config.threat import Norm

TEST_IMAGES = 512
STEPS = 40
STARTS = 2


@dataclass(frozen=True)
class Target:
    """A trained network, in eval mode and frozen, and test images for it."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def accuracy(self, images: Tensor) -> float:
        """Per cent classified right."""
        with torch.no_grad():
            right = self.model(images).argmax(1) == self.y
        return 100 * float(right.double().mean())


@dataclass(frozen=True)
class Setting:
    """A ball in which the network is right on 30 to 80 per cent of the test images."""

    norm: Norm
    eps: float

    @property
    def step_size(self) -> float:
        return self.eps / 8


SETTINGS = [Setting("linf", 5 / 64), Setting("l2", 5 / 8)]
Attack = Callable[[Target, Setting, int, bool], Tensor]


def ours(target: Target, setting: Setting, steps: int, random_start: bool) -> Tensor:
    attack = PGD(setting.eps, setting.norm, setting.step_size, steps, random_start)
    return attack.run(target.model, target.x, target.y, SharedDraws(None))


def by_torchattacks(target: Target, setting: Setting, steps: int, random_start: bool) -> Tensor:
    attack = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[setting.norm](
        target.model,
        eps=setting.eps,
        alpha=setting.step_size,
        steps=steps,
        random_start=random_start,
    )
    images: Tensor = attack(target.x, target.y)
    return images


def by_foolbox(target: Target, setting: Setting, steps: int, random_start: bool) -> Tensor:
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[setting.norm](
        abs_stepsize=setting.step_size, steps=steps, random_start=random_start
    )
    network = foolbox.PyTorchModel(target.model, bounds=(0, 1), device="cpu")
    images: Tensor = attack.run(network, target.x, target.y, epsilon=setting.eps)
    return images


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """A few natural epochs, then a few adversarial ones."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(10):
        for batch in torch.randperm(len(y)).chunk(20):
            images = x[batch]
            if epoch >= 3:
                with frozen_eval_mode(model):
                    attack = PGD(3 / 16, "linf", 3 / 32, 3)
                    images = attack.run(model, images, y[batch], SharedDraws(None))
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images), y[batch]))
            optimizer.step()


@pytest.fixture(scope="module")
def target(one_thread: None) -> Iterator[Target]:
    torch.manual_seed(0)
    digits = load_digits()
    small = torch.as_tensor(digits.images, dtype=torch.float32)[:, None] / 16
    # Doubling the size takes weights of 1/16, so all pixels are multiples of 1/256.
    x = F.interpolate(small, size=(16, 16), mode="bilinear")
    y = torch.as_tensor(digits.target)
    order = torch.randperm(len(y))
    test, training = order[:TEST_IMAGES], order[TEST_IMAGES:]
    model = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 16, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
    train(model, x[training], y[training])
    with frozen_eval_mode(model):
        yield Target(model, x[test], y[test])


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.norm)
def test_as_strong_as_the_same_attack_elsewhere(target: Target, setting: Setting) -> None:
    torch.manual_seed(1)

    def robust_accuracy(attack: Attack) -> float:
        runs = [target.accuracy(attack(target, setting, STEPS, True)) for _ in range(STARTS)]
        return sum(runs) / STARTS

    assert target.accuracy(target.x) > 70
    mine = robust_accuracy(ours)
    assert 30 <= mine <= 80
    assert robust_accuracy(by_torchattacks) == pytest.approx(mine, abs=0.5)
    assert robust_accuracy(by_foolbox) == pytest.approx(mine, abs=0.5)


@pytest.mark.parametrize("other", [by_torchattacks, by_foolbox])
def test_without_random_start_linf_images_are_the_same(target: Target, other: Attack) -> None:
    # Pixels, eps and step are multiples of a power of two, so all the arithmetic on images is
    # exact; and 512 images make torchattacks' mean loss an exact scaling of the sum. Anything else
    # would let signs of gradients near zero differ, and the paths part.
    setting = SETTINGS[0]
    mine = ours(target, setting, 10, False)
    torch.testing.assert_close(other(target, setting, 10, False), mine, atol=1e-5, rtol=0)
    assert target.accuracy(mine) < target.accuracy(target.x) - 10


@pytest.mark.parametrize("other", [by_torchattacks, by_foolbox])
def test_without_random_start_l2_images_are_nearly_the_same(target: Target, other: Attack) -> None:
    setting = SETTINGS[1]
    mine = ours(target, setting, 10, False)
    theirs = other(target, setting, 10, False)
    # Rounding differences grow along the path, on a few images to a visible size.
    distance = (theirs - mine).flatten(1).norm(dim=1)
    assert (distance < 1e-4).double().mean().item() > 0.95
    assert target.accuracy(theirs) == pytest.approx(target.accuracy(mine), abs=0.5)
