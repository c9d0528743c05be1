"""The engine without a command around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.attacks import Network
from zipper_dist.attacks.autoattack import apgd, apgd_targeted, fab_targeted
from zipper_dist.evaluation import registry as catalogue
from zipper_dist.evaluation.blocks import Layout, Places
from zipper_dist.evaluation.engine import (
    Examples,
    Networks,
    Setting,
    Worker,
    needed_parts,
    stages,
)
from zipper_dist.evaluation.network_views import attacked_view, exact_view
from zipper_dist.evaluation.outcomes import Store
from zipper_dist.evaluation.registry import Part, Threat
from zipper_dist.evaluation.results.figures import Results, report_of, tally
from zipper_dist.evaluation.results.files import adversarial_images


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
class Found:
    """The outcome of some attacks on all examples."""

    workers: list[Worker]
    results: Results

    def images(self, name: str) -> Tensor:
        """The adversarial images of all blocks (clean where unbroken)."""
        worker = self.workers[0]
        blocks = range(worker.setting.layout.blocks)
        return torch.cat(
            [adversarial_images(worker, self.results, name, block)[0] for block in blocks]
        )

    def robust(self, name: str) -> list[bool]:
        """Which examples are classified right under an attack."""
        robust: list[bool] = self.results.robust(name).tolist()
        return robust

    def spent(self, name: str) -> float:
        """Gradient evaluations of an attack [images]."""
        return float(self.results.tallies[name].spent.get("gradients", 0))


def attack_all(
    root: Path, model: nn.Module, x: Tensor, y: Tensor, names: list[str], threat: Threat,
    *, ranks: int = 1, batch_size: int = 64, block_size: int = 32, seed: int = 0,
    restarts: int = 1, screen: bool = False, short: bool = False,
) -> Found:  # fmt: skip
    """Attack ``x`` with the blocks dealt to ``ranks`` workers, one after the other."""
    networks = Networks(
        exact_view(model), attacked_view(model),
        attacked_view(model, torch.bfloat16) if screen else None,
    )  # fmt: skip
    layout = Layout(len(y), block_size)
    identity = {"screen": screen, "model": str(model)}
    setting = Setting(Examples(x, y), networks, layout, seed, identity, batch_size, True)
    store = Store(root / "evaluation")
    store.prepare()
    parts = needed_parts(names, threat, restarts)
    if short:
        parts = {name: shortened(part, threat) for name, part in parts.items()}
    workers = [Worker(setting, store, list(layout.dealt(rank, ranks))) for rank in range(ranks)]
    for worker in workers:
        worker.classify()
        for _, part, before in stages(names, parts):
            worker.attack(part, before)
    reports = [report_of(worker, list(parts.values())) for worker in workers]
    addresses = {name: workers[0].address(part) for name, part in parts.items()}
    addresses["clean"] = workers[0].address(None)
    tallies = {name: tally(reports, where, layout) for name, where in addresses.items()}
    return Found(workers, Results(tallies, parts))


def shortened(part: Part, threat: Threat) -> Part:
    """An AutoAttack part with a few iterations, so that a test takes seconds."""
    means: dict[str, Any] = {"norm": threat.norm, "eps": threat.eps, "iterations": 8}
    if part.name == "square":
        return catalogue.short_square(60, threat)
    if part.name not in ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t"):
        return part

    def run(network: Network, x: Tensor, y: Tensor, places: Places) -> Tensor:
        if part.name == "fab-t":
            return fab_targeted(network, x, y, **means)
        if part.name == "apgd-t":
            return apgd_targeted(network, x, y, places.block_rows(), **means)
        loss = part.name.removeprefix("apgd-")
        return apgd(network, x, y, places.block_rows(), loss=loss, **means)

    return replace(part, settings=part.settings | {"iterations": 8}, run=run)
