"""Every gradient attack finds the same images on a surrogate as on the network itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.rewriting import BatchNorm
from zipper_dist.accel.surrogate import Surrogate
from zipper_dist.attacks import Network, divergence_pgd, friendly_pgd, make_ball, pgd
from zipper_dist.attacks.autoattack import BlockRows, apgd, apgd_targeted, fab_targeted
from zipper_dist.attacks.cw import cw
from zipper_dist.attacks.fgsm import fgsm
from zipper_dist.attacks.mim import mim
from zipper_dist.config.threat import Norm

Attack = Callable[[Network, Tensor, Tensor, Norm], Tensor]

EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.5}


def step_of(norm: Norm) -> float:
    return EPS[norm] / 4


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def run_pgd(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return pgd(
        model, x, y, norm=norm, eps=EPS[norm], step_size=step_of(norm), steps=7,
        random_start=True, generator=draws(),
    )  # fmt: skip


def run_fgsm(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return fgsm(model, x, y, norm=norm, eps=EPS[norm])


def run_mim(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return mim(model, x, y, norm=norm, eps=EPS[norm], step_size=step_of(norm), steps=7)


def run_cw(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return cw(model, x, y, norm=norm, eps=EPS[norm], step_size=step_of(norm), steps=7)


def run_friendly(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return friendly_pgd(
        model, x, y, norm=norm, eps=EPS[norm], step_size=step_of(norm), steps=7, tau=1,
        start=make_ball(norm, x, EPS[norm]).random_start(draws()),
    )  # fmt: skip


def run_divergence(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return divergence_pgd(
        model, x, norm=norm, eps=EPS[norm], step_size=step_of(norm), steps=7, generator=draws()
    )


def block(x: Tensor) -> list[BlockRows]:
    return [BlockRows(3, len(x), torch.arange(len(x)))]


def run_apgd_ce(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return apgd(model, x, y, block(x), norm=norm, eps=EPS[norm], loss="ce", iterations=10)


def run_apgd_dlr(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return apgd(model, x, y, block(x), norm=norm, eps=EPS[norm], loss="dlr", iterations=10)


def run_apgd_targeted(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return apgd_targeted(model, x, y, block(x), norm=norm, eps=EPS[norm], iterations=10)


def run_fab(model: Network, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    return fab_targeted(model, x, y, norm=norm, eps=EPS[norm], iterations=10)


ATTACKS: list[Attack] = [
    run_pgd, run_fgsm, run_mim, run_cw, run_friendly, run_divergence, run_apgd_ce, run_apgd_dlr,
    run_apgd_targeted, run_fab,
]  # fmt: skip


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
@pytest.mark.parametrize("run", ATTACKS)
def test_the_same_images_from_the_network_and_from_its_surrogate(run: Attack, norm: Norm) -> None:
    model = network()
    x = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    surrogate = Surrogate(model)
    with frozen_eval_mode(model) as view:
        wanted = run(view, x, y, norm)
    found = run(surrogate, x, y, norm)
    assert float((wanted.detach() - x).abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())
