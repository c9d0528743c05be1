"""The engine without a command around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.attacks import Attack, Blocks
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import Measure, measures
from zipper_dist.evaluation.engine import Engine, Examples
from zipper_dist.evaluation.finalise import adversarial_images
from zipper_dist.evaluation.network_views import NetworkViews
from zipper_dist.evaluation.outcomes import DiskStore
from zipper_dist.evaluation.results.report import Report, report

SHORT = {"iterations": 8, "queries": 60}


def small_network(channels: int, classes: int, seed: int = 0) -> nn.Module:
    """A network for images of any size, with weights that attacks can work on."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, classes),
    ).eval()


@dataclass
class Outcome:
    """The outcome of some attacks on all examples."""

    engines: list[Engine]
    wanted: dict[str, Measure]
    report: Report

    def images(self, name: str) -> Tensor:
        """The adversarial images of all blocks (clean where unbroken)."""
        engine = self.engines[0]
        blocks = range(len(engine.blocks))
        return torch.cat(
            [adversarial_images(engine, self.wanted[name], block)[0] for block in blocks]
        )

    def robust(self, name: str) -> list[bool]:
        """Which examples are classified right under an attack."""
        robust: list[bool] = self.report.correct[name].tolist()
        return robust

    def spent(self, name: str) -> float:
        """Gradient evaluations of an attack [images]."""
        return self.report.figures[name].gradients_per_example * self.report.n

    def attack(self, name: str) -> Attack:
        """The attack of this name, which consists of itself alone."""
        (attack,) = self.wanted[name].parts
        return attack


def shortened(wanted: list[Measure]) -> list[Measure]:
    """With a few iterations of AutoAttack, so that a test takes seconds."""

    def short(attack: Attack) -> Attack:
        known: dict[str, Any] = {
            k: v for k, v in SHORT.items() if k in type(attack).__dataclass_fields__
        }
        return replace(attack, **known)

    return [replace(m, parts=tuple(short(part) for part in m.parts)) for m in wanted]


def attack_all(
    root: Path, model: nn.Module, x: Tensor, y: Tensor, names: list[str],
    threat: ThreatModel | list[ThreatModel], *, ranks: int = 1, batch_size: int = 64,
    block_size: int = 32, seed: int = 0, restarts: int = 1,
    short: bool = False, step_size: float | None = None, numbers: Tensor | None = None,
) -> Outcome:  # fmt: skip
    """Attack ``x`` with the blocks dealt to ``ranks`` engines, one after the other."""
    views, blocks = NetworkViews.of(model), Blocks(len(y), block_size)
    identity = {"model": str(model)}
    threats = threat if isinstance(threat, list) else [threat]
    wanted = [Measure("clean"), *measures(names, threats, step_size, restarts)]
    wanted = shortened(wanted) if short else wanted
    engines = []
    for rank in range(ranks):
        store = DiskStore(root / "evaluation")
        store.prepare()
        mine: Any = blocks.dealt(rank, ranks)
        engines.append(Engine(
            Examples(x, y, numbers), views, store, blocks, mine, batch_size, seed, identity,
            keep_images=True,
        ))  # fmt: skip
        for _ in engines[-1].run(wanted):
            pass
    parts = [part for measure in wanted for part in measure.parts]
    found = [engine.found(parts) for engine in engines]
    by_label = {measure.label: measure for measure in wanted}
    if len(threats) == 1:  # the report has the parts of an ensemble, too
        wanted += [Measure(part.name, (part,)) for part in parts if part.name not in by_label]
    return Outcome(engines, by_label, report(engines[0], wanted, found))
