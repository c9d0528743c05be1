"""The figures of an evaluation: accuracy under each attack, its interval, and what it took."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from zipper_dist.attacks import Attack, Blocks
from zipper_dist.evaluation.attack_list import Measure, distinct_parts
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.outcomes import BROKEN, ROBUST
from zipper_dist.evaluation.results.interval import wilson_interval


@dataclass(frozen=True)
class Figure:
    """An attack's line of the table."""

    accuracy: float
    """Examples classified right when clean and under the attack [per cent]."""
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


@dataclass(frozen=True, eq=False)
class Report:
    """What an evaluation found, by the name of the attack."""

    figures: Mapping[str, Figure]
    correct: Mapping[str, Tensor]
    """Which examples are classified right when clean and under the attack: bool (N,)."""

    @property
    def accuracy(self) -> dict[str, float]:
        """Clean and robust accuracies [per cent]."""
        return {name: figure.accuracy for name, figure in self.figures.items()}

    @property
    def n(self) -> int:
        """Number of examples."""
        return next(iter(self.figures.values())).n

    def rich_table(self, title: str = "") -> Table:
        """The table for the terminal."""
        table = Table(title=title or None)
        table.add_column("attack", no_wrap=True)
        for heading in ("accuracy", "95 % interval", "seconds", "gradients", "forwards"):
            table.add_column(heading, justify="right")
        for name, f in self.figures.items():
            table.add_row(
                name,
                f"{f.accuracy:.2f} %",
                f"{f.interval[0]:.2f} … {f.interval[1]:.2f} %",
                f"{f.seconds:.1f}",
                f"{f.gradients_per_example:.0f}",
                f"{f.forwards_per_example:.0f}",
            )
        return table

    def table(self, title: str = "") -> str:
        """The table as text; gradients and forwards are evaluations an example."""
        console = Console(file=io.StringIO(), width=100)
        with console.capture() as capture:
            console.print(self.rich_table(title))
        return capture.get()


@dataclass(frozen=True)
class _Tally:
    """The outcomes of all blocks under one attack."""

    state: Tensor
    """uint8 (N,)."""
    spent: Mapping[str, float]


def _tally(found: Sequence[Found], where: str, blocks: Blocks) -> _Tally:
    state = torch.zeros(blocks.count, dtype=torch.uint8)
    spent: dict[str, float] = {"seconds": 0, "forwards": 0, "gradients": 0}
    for of_rank in found:
        for block, outcome in of_rank[where].items():
            if int(block) < len(blocks):
                digits = [int(digit) for digit in outcome["state"]]
                state[blocks.span(int(block))] = torch.tensor(digits, dtype=torch.uint8)
                for name, amount in outcome["spent"].items():
                    spent[name] += amount
    return _Tally(state, spent)


def report(
    engine: Engine, wanted: Sequence[Measure], found: Sequence[Found] | None = None,
    blocks: Blocks | None = None,
) -> Report:  # fmt: skip
    """Put together what ranks found; by default, what this one found, for all its examples.

    ``blocks``: the first blocks of the engine's, where only they are to count. The figures of an
    ensemble say what its attacks took, also where they were run for their own sake.
    """
    blocks = blocks or engine.blocks
    parts: list[Attack | None] = [None, *distinct_parts(wanted)]
    found = [engine.found(distinct_parts(wanted))] if found is None else found
    tallies = {part: _tally(found, engine.address(part), blocks) for part in parts}
    figures, correct = {}, {}
    for measure in wanted:
        right = tallies[None].state == ROBUST
        for part in measure.parts:
            right = right & (tallies[part].state != BROKEN)
        used = [tallies[part].spent for part in measure.parts or (None,)]
        seconds, forwards, gradients = (
            sum(spent[key] for spent in used) for key in ("seconds", "forwards", "gradients")
        )
        hits, n = int(right.sum()), len(right)
        correct[measure.label] = right
        figures[measure.label] = Figure(
            100 * hits / n, hits, n, wilson_interval(hits, n), seconds, gradients / n,
            forwards / n, measure.as_json(),
        )  # fmt: skip
    return Report(figures, correct)
