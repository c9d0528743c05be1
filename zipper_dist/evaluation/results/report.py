"""The figures of an evaluation: accuracy under each attack, its interval, and what it took."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from zipper_dist.attacks import Blocks
from zipper_dist.attacks.verdict import NO_ANSWER
from zipper_dist.evaluation.attack_list import Measure, distinct_parts
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.outcomes import BROKEN, NOT_FINITE, ROBUST
from zipper_dist.metrics.console import make_console

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


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
    forwards_per_example: float
    """Forward passes without a gradient; like gradients, over all n examples."""
    settings: Mapping[str, Any]
    not_finite: int = 0
    """Examples, clean or attacked, whose logits are NaN or infinite: none of them counts as
    right."""


@dataclass(frozen=True, eq=False)
class Report:
    """What an evaluation found, by the name of the attack."""

    figures: Mapping[str, Figure]
    correct: Mapping[str, Tensor]
    """Which examples are classified right when clean and under the attack: bool (N,)."""
    constant: bool = False
    """Whether the network answers all clean images alike, though they are of several classes."""

    @property
    def accuracy(self) -> dict[str, float]:
        """Clean and robust accuracies [per cent]."""
        return {name: figure.accuracy for name, figure in self.figures.items()}

    @property
    def n(self) -> int:
        """Number of examples."""
        return next(iter(self.figures.values())).n

    @property
    def warnings(self) -> list[str]:
        """What makes the figures worth little, a sentence each."""
        found = []
        for name, figure in self.figures.items():
            if figure.not_finite:
                what = f"{name}: the network's logits are NaN or infinite for {figure.not_finite}"
                found.append(f"{what} of {figure.n} images, which count as misclassified.")
        if self.constant:
            found.append("The network answers all images alike: its robustness means nothing.")
        return found

    def rich_table(self, title: str = "") -> Table:
        """The table for the terminal."""
        table = Table(title=title or None)
        table.add_column("attack", no_wrap=True)
        for heading in ("accuracy", "95 % interval", "seconds", "gradients", "forwards"):
            table.add_column(heading, justify="right")
        for name, f in self.figures.items():
            table.add_row(
                name, f"{f.accuracy:.2f} %", f"{f.interval[0]:.2f} … {f.interval[1]:.2f} %",
                f"{f.seconds:.1f}", f"{f.gradients_per_example:.0f}",
                f"{f.forwards_per_example:.0f}",
            )  # fmt: skip
        return table

    def table(self, title: str = "") -> str:
        """The table as text; gradients and forwards are evaluations an example."""
        console = make_console(io.StringIO(), width=100)
        with console.capture() as capture:
            console.print(self.rich_table(title))
            for warning in self.warnings:
                console.print(f"WARNING  {warning}", highlight=False, soft_wrap=True)
        return capture.get()


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of ``correct`` out of ``n``, in per cent, by the Wilson score (Wilson,
    "Probable Inference, the Law of Succession, and Statistical Inference", 1927)."""
    share, z2 = correct / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def _tally(found: Sequence[Found], where: str, blocks: Blocks) -> tuple[Tensor, dict[str, float]]:
    """The state of each example under one attack, uint8 (N,), and what it took."""
    state = torch.zeros(blocks.count, dtype=torch.uint8)
    spent: dict[str, float] = {"seconds": 0, "forwards": 0, "gradients": 0}
    for of_rank in found:
        for block, outcome in of_rank[where].items():
            if int(block) < len(blocks):
                digits = [int(digit) for digit in outcome["state"]]
                state[blocks.span(int(block))] = torch.tensor(digits, dtype=torch.uint8)
                for name, amount in outcome["spent"].items():
                    spent[name] += amount
    return state, spent


def _several(labels: Tensor) -> bool:
    return bool((labels != labels[0]).any())


def report(
    engine: Engine, wanted: Sequence[Measure], found: Sequence[Found] | None = None
) -> Report:
    """Put together what ranks found; by default, what this one found. An ensemble's figures say
    what its attacks took, also where they were run for their own sake."""
    parts = distinct_parts(wanted)
    found = [engine.found(parts)] if found is None else found
    tallies = {p: _tally(found, engine.address(p), engine.blocks) for p in (None, *parts)}
    figures, correct = {}, {}
    for measure in wanted:
        under = torch.stack([tallies[part][0] for part in measure.parts or (None,)])
        right = (tallies[None][0] == ROBUST) & (under < BROKEN).all(0)
        silent = (tallies[None][0] == NOT_FINITE) | (under == NOT_FINITE).any(0)
        used = [tallies[part][1] for part in measure.parts or (None,)]
        seconds, forwards, gradients = (
            sum(spent[key] for spent in used) for key in ("seconds", "forwards", "gradients")
        )
        hits, n = int(right.sum()), len(right)
        correct[measure.label] = right
        figures[measure.label] = Figure(
            100 * hits / n, hits, n, wilson_interval(hits, n), seconds, gradients / n,
            forwards / n, measure.as_json(), int(silent.sum()),
        )  # fmt: skip
    known = [outcome for of_rank in found for outcome in of_rank[engine.address(None)].values()]
    seen = {answer for outcome in known for answer in outcome["answers"]} - {NO_ANSWER}
    return Report(figures, correct, len(seen) <= 1 and _several(engine.examples.labels))
