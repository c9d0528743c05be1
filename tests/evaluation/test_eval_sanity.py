"""Networks that hide their gradients trigger the warnings; an honest one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.conftest import EPS
from evaluation.helpers import attack_all
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import Measure
from zipper_dist.evaluation.network_views import attacked_view
from zipper_dist.evaluation.results.report import Figure, Report, report
from zipper_dist.evaluation.results.sanity import (
    Check,
    check_attacks,
    check_images,
    check_network,
    sanity_measures,
)

Set = tuple[Tensor, Tensor]


def checks_of(root: Path, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Check]:
    """All checks of a network, as the command runs them."""
    threat = ThreatModel("linf", EPS)
    found = attack_all(root, model, x, y, [], threat)
    (engine,) = found.engines
    wanted = [Measure("clean"), *sanity_measures(threat, None, x.shape[1:])]
    for _ in engine.run(wanted):
        pass
    checks = [
        *check_attacks(report(engine, wanted), found.report, 10),
        *check_network(model, attacked_view(model), x, y),
        check_images(x, {}),
    ]
    return {check.name: check for check in checks}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.passed}


@pytest.fixture
def some(digits: Set) -> Set:
    return digits[0][:96], digits[1][:96]


class Scaled(nn.Module):
    """Logits 1000 times as large: the cross-entropy saturates."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 1e3 * self.network(images)
        return logits


class Stepped(nn.Module):
    """Images rounded to 8 levels first: their gradient is zero wherever it exists."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.round(images * 8) / 8)
        return logits


class Noisy(nn.Module):
    """Dropout that is never switched off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(F.dropout(images, 0.1, training=True))
        return logits


def test_an_honest_network_passes_every_check(
    tmp_path: Path, network: nn.Module, some: Set
) -> None:
    checks = checks_of(tmp_path, network, *some)
    assert failed(checks) == set(), [c.verdict for c in checks.values() if not c.passed]
    assert len(checks) == 8
    assert all(check.verdict.endswith(".") for check in checks.values())


def test_scaled_logits_are_noticed(tmp_path: Path, network: nn.Module, some: Set) -> None:
    checks = checks_of(tmp_path, Scaled(network), *some)
    assert "gradients" in failed(checks)
    assert "hide its gradients" in checks["gradients"].verdict


def test_a_step_like_activation_is_noticed(tmp_path: Path, network: nn.Module, some: Set) -> None:
    checks = checks_of(tmp_path, Stepped(network), *some)
    assert {"gradients", "very large eps", "black box"} <= failed(checks)


def test_randomness_and_training_mode_are_noticed(network: nn.Module, some: Set) -> None:
    noisy = {
        check.name: check for check in check_network(network, attacked_view(Noisy(network)), *some)
    }
    assert failed(noisy) == {"eval mode"}
    training = nn.Sequential(nn.Dropout(0.5), network)
    assert training[0].training
    found = {c.name: c for c in check_network(training, attacked_view(network), *some)}
    assert failed(found) == {"eval mode"}
    assert "training mode" in found["eval mode"].verdict


def test_infinite_logits_are_noticed(some: Set) -> None:
    def network(images: Tensor) -> Tensor:
        return images.flatten(1)[:, 100:110] * torch.inf

    (_, check) = check_network(nn.Identity(), network, some[0], some[1] * 0)
    assert not check.passed
    assert "NaN or infinite" in check.verdict


def test_images_outside_the_range_are_noticed(some: Set) -> None:
    assert check_images(some[0], {"pgd": some[0]}).passed
    bad = check_images(some[0], {"pgd": some[0] - 0.01, "cw": some[0]})
    assert not bad.passed
    assert "pgd" in bad.verdict
    assert "cw" not in bad.verdict


def test_a_rise_with_eps_or_steps_is_noticed() -> None:
    """Outcomes made up: 10 of 100 examples are broken only by the weaker attack."""
    names = [
        "clean",
        *(m.label for m in sanity_measures(ThreatModel(), None, torch.Size((1, 4, 4)))),
    ]

    def made_up(worse: str) -> Report:
        correct = {name: torch.ones(100, dtype=torch.bool) for name in names}
        if worse:
            correct[worse][:10] = False
        figures = {
            name: Figure(100 * float(right.float().mean()), 0, 100, (0, 100), 0, 0, 0, {})
            for name, right in correct.items()
        }
        return Report(figures, correct)

    for weak, check in (("eps x 0.5", "more eps"), ("steps 5", "more steps")):
        clean = Report({}, {"clean": torch.ones(100, dtype=torch.bool)})
        found = {c.name: c for c in check_attacks(made_up(weak), clean, 10)}
        assert not found[check].passed
        found = {c.name: c for c in check_attacks(made_up(""), clean, 10)}
        assert found[check].passed
