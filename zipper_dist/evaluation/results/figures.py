"""Figures from outcomes: accuracy of each attack, its interval, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from zipper_dist.evaluation.blocks import Layout
from zipper_dist.evaluation.engine import Worker
from zipper_dist.evaluation.outcomes import BROKEN, ROBUST
from zipper_dist.evaluation.registry import Part, components
from zipper_dist.evaluation.results.interval import wilson_interval


@dataclass(frozen=True)
class Figure:
    """An attack's line of the table."""

    accuracy: float
    """Examples classified right under the attack [per cent]."""
    correct: int
    n: int
    interval: tuple[float, float]
    """95 % interval of the accuracy for the population of such images: Wilson [per cent]."""
    seconds: float
    """Computing time of all ranks together."""
    gradients_per_example: float
    """Gradient evaluations, over all n examples."""
    forwards_per_example: float
    """Forward passes without a gradient, over all n examples."""
    settings: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self) | {"interval": list(self.interval)}


@dataclass(frozen=True)
class Tally:
    """The outcomes of all blocks under one attack."""

    state: Tensor
    """uint8 (N,)."""
    spent: Mapping[str, float]


Report = dict[str, dict[str, Any]]
"""What one rank knows, as JSON: by address, then by block, states and what they took."""


def report_of(worker: Worker, parts: Sequence[Part]) -> Report:
    """What a rank found for its blocks."""
    report: Report = {}
    for part in [None, *parts]:
        found = {}
        for block in worker.blocks:
            outcome = worker.outcome(part, block)
            states = "".join(map(str, outcome.state.tolist()))
            found[str(block)] = {"state": states, "spent": outcome.spent}
        report[worker.address(part)] = found
    return report


def tally(reports: Sequence[Report], where: str, layout: Layout) -> Tally:
    """Put the blocks of ``layout`` together, from all ranks, for the attack at ``where``."""
    state = torch.zeros(layout.count, dtype=torch.uint8)
    spent: dict[str, float] = {"seconds": 0, "forwards": 0, "gradients": 0}
    for report in reports:
        for block, found in report[where].items():
            if int(block) >= layout.blocks:
                continue
            state[layout.span(int(block))] = torch.tensor(
                [int(digit) for digit in found["state"]], dtype=torch.uint8
            )
            for name, amount in found["spent"].items():
                spent[name] += amount
    return Tally(state, spent)


@dataclass(frozen=True)
class Results:
    """The tallies of clean images (``clean``) and of every part, by name."""

    tallies: Mapping[str, Tally]
    parts: Mapping[str, Part]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.tallies["clean"].state)

    def robust(self, name: str) -> Tensor:
        """Which examples are classified right under an attack: bool (N,)."""
        right = self.tallies["clean"].state == ROBUST
        for component in components(name):
            right = right & (self.tallies[component].state != BROKEN)
        return right

    def accuracy(self, name: str) -> float:
        """Per cent of the examples that are classified right under an attack."""
        return 100 * float(self.robust(name).float().mean())

    def figure(self, name: str) -> Figure:
        """The line of the table for an attack.

        For an ensemble, what its parts took, also where they were run for their own sake.
        """
        used = [self.tallies[part] for part in components(name)] or [self.tallies["clean"]]
        spent = {key: sum(t.spent.get(key, 0) for t in used) for key in used[0].spent}
        correct, n = int(self.robust(name).sum()), self.n
        names = components(name)
        settings = dict(self.parts[name].settings) if names == (name,) else {"attacks": list(names)}
        return Figure(
            100 * correct / n, correct, n, wilson_interval(correct, n), spent["seconds"],
            spent["gradients"] / n, spent["forwards"] / n, settings,
        )  # fmt: skip
