"""The arithmetic of the tables, and the figures of a run from the files it left."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = {
    "clean": "nat",
    "pgd-20": "pgd_20",
    "pgd-100": "pgd_100",
    "apgd-ce": "apgd",
    "aa": "aa",
}
"""Names of figures in JSON, by attack."""

HEADINGS = {
    "nat": "NAT",
    "pgd_20": "PGD-20",
    "pgd_100": "PGD-100",
    "apgd": "APGD",
    "aa": "AA",
}
"""Names of figures for people."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of ``n`` values; one has no deviation (None), none no
    mean."""

    mean: float | None
    std: float | None
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """That of ``values``."""
        found = list(values)
        return Spread(
            statistics.fmean(found) if found else None,
            statistics.stdev(found) if len(found) > 1 else None,
            len(found),
        )

    def words(self, digits: int = 2) -> str:
        """As people write it."""
        if self.mean is None:
            return "–"
        deviation = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.mean:.{digits}f}{deviation}"


@dataclass(frozen=True)
class Unit:
    """A unit of time that makes figures easy to read."""

    name: str
    seconds: float

    @staticmethod
    def fitting(seconds: float) -> Unit:
        """Seconds up to ten minutes, then minutes."""
        return Unit("s", 1) if seconds < 600 else Unit("min", 60)


@dataclass(frozen=True)
class Shared:
    """Figures of one network on the images that all of them were made on.

    Attributes:
        images: how many these are.
        accuracy: per cent, by the names of :data:`KEYS`.
    """

    images: int
    accuracy: dict[str, float]

    @staticmethod
    def by(verdicts: Mapping[str, Mapping[int, bool]]) -> Shared | None:
        """Those of ``verdicts``: by figure, whether each image, by its number, was classified
        right. None where all are of the same images anyway, or have none in common."""
        if not verdicts:
            return None
        shared = set.intersection(*(set(right) for right in verdicts.values()))
        if not shared or all(len(right) == len(shared) for right in verdicts.values()):
            return None
        accuracy = {
            name: 100 * statistics.fmean(right[number] for number in shared)
            for name, right in verdicts.items()
        }
        return Shared(len(shared), accuracy)


@dataclass(frozen=True)
class Found:
    """What a run of a row, by one seed, has shown.

    Attributes:
        accuracy: per cent, by the names of :data:`KEYS`.
        images: test images behind each of them.
        first: those of them that are on the first images of the test set, not on all or a choice.
        shared: all of them on the images that they have in common, where some are on more.
        summary: the run's summary.json.
        weights: digest of the weights that were evaluated.
    """

    row: str
    seed: int
    accuracy: dict[str, float]
    images: dict[str, int]
    summary: dict[str, Any]
    weights: str
    first: frozenset[str] = frozenset()
    shared: Shared | None = None

    @property
    def train_seconds(self) -> float:
        """Training without evaluation."""
        return float(self.summary["train_seconds"])

    @property
    def wall_seconds(self) -> float:
        """Training with the evaluations in between, and without the one at the end."""
        return float(self.summary["wall_seconds"])


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def evaluated(directory: Path) -> dict[str, dict[str, Any]]:
    """What an evaluation found, by attack; nothing where there was none."""
    file = directory / "evaluation.json"
    attacks: dict[str, dict[str, Any]] = read_json(file)["attacks"] if file.exists() else {}
    return attacks


def are_first(directory: Path) -> bool:
    """Whether an evaluation is of the first images of the test set, and not of all."""
    about: dict[str, Any] = read_json(directory / "evaluation.json")["data"]
    return about.get("chosen") == "the first"


def verdicts(directory: Path) -> dict[str, dict[int, bool]]:
    """Whether each image, by its number, was classified right in an evaluation, by attack."""
    with (directory / "evaluation.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    names = [name for name in lines[0] if name in KEYS] if lines else []
    return {name: {int(line["example"]): line[name] == "1" for line in lines} for name in names}


def table(found: Sequence[Found]) -> dict[str, dict[str, Any]]:
    """table.json: for each row, mean and deviation of every figure over its seeds."""
    result: dict[str, dict[str, Any]] = {}
    for key in dict.fromkeys(f.row for f in found):
        runs = [f for f in found if f.row == key]
        spreads = {
            name: Spread.of(f.accuracy[name] for f in runs if name in f.accuracy)
            for name in KEYS.values()
            if any(name in f.accuracy for f in runs)
        }
        spreads["train_seconds"] = Spread.of(f.train_seconds for f in runs)
        spreads["wall_seconds"] = Spread.of(f.wall_seconds for f in runs)
        result[key] = {name: vars(spread) for name, spread in spreads.items()}
        result[key]["seeds"] = len(runs)
    return result
