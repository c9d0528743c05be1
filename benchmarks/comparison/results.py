"""What an experiment has shown: the figures of its runs, from the files that these left."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from comparison.experiments import Experiment, Row
from comparison.matching import Accuracy, Match

KEYS = {"clean": "nat", "pgd-20": "pgd_20", "pgd-100": "pgd_100", "apgd-ce": "apgd", "aa": "aa"}
"""Names of accuracies in JSON, by attack."""

HEADINGS = dict(zip(KEYS.values(), ("NAT", "PGD-20", "PGD-100", "APGD", "AA"), strict=True))
"""Names of accuracies for people."""

SECONDS = ("train_seconds", "wall_seconds")
"""Training without evaluation; with the evaluations in between, and without the one at the end."""


class Spread(NamedTuple):
    """Mean and sample standard deviation of ``n`` values; one has no deviation (None), none no
    mean."""

    mean: float | None
    std: float | None
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """That of ``values``."""
        found = list(values)
        std = statistics.stdev(found) if len(found) > 1 else None
        return Spread(statistics.fmean(found) if found else None, std, len(found))

    def words(self, digits: int = 2, unit: float = 1) -> str:
        """As people write it, in multiples of ``unit``."""
        if self.mean is None:
            return "–"
        deviation = "" if self.std is None else f" ± {self.std / unit:.{digits}f}"
        return f"{self.mean / unit:.{digits}f}{deviation}"


@dataclass(frozen=True)
class Run:
    """A training run: a row by a seed, in its directory."""

    row: Row
    seed: int
    directory: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.label}, seed {self.seed}"

    @property
    def summary(self) -> Path:
        """The file that says that it is complete."""
        return self.directory / "summary.json"

    @property
    def weights(self) -> Path:
        """The network that is evaluated: the global learner at the end of training."""
        return self.directory / "global.safetensors"

    @cached_property
    def digest(self) -> str:
        """What tells weights apart: the start of the file's SHA-256."""
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """What a run of a row, by one seed, has shown.

    Attributes:
        figures: accuracies [per cent] by the names of :data:`HEADINGS`, and :data:`SECONDS`.
        images: test images behind each accuracy.
        weights: digest of the weights that were evaluated.
    """

    row: str
    seed: int
    figures: dict[str, float]
    images: dict[str, int]
    weights: str

    @staticmethod
    def of(run: Run, evaluations: Mapping[Path, Sequence[str]]) -> Found:
        """That of a trained run, from what there is of its evaluations: attacks by directory."""
        summary = read_json(run.summary)
        figures = {name: float(summary[name]) for name in SECONDS if name in summary}
        images: dict[str, int] = {}
        for directory, attacks in evaluations.items():
            there = evaluated(directory)
            for attack in there.keys() & set(attacks):
                figures[KEYS[attack]] = there[attack]["accuracy"]
                images[KEYS[attack]] = there[attack]["n"]
        return Found(run.row.key, run.seed, figures, images, run.digest)

    def as_json(self) -> dict[str, Any]:
        """Everything, for outcome.json."""
        return {
            "row": self.row,
            "seed": self.seed,
            **self.figures,
            "images": self.images,
            "weights": self.weights,
        }


@dataclass(frozen=True)
class Costs:
    """Measured costs, and the times they imply [s].

    Attributes:
        natural, adversarial: an iteration of the learner, trained alone on one device.
        steps: iterations of the run.
    """

    natural: float
    adversarial: float
    steps: int

    @property
    def serial(self) -> float:
        """Training time of both learners in turn."""
        return self.steps * (self.natural + self.adversarial)

    @property
    def parallel(self) -> float:
        """Training time of the slower learner: the other one's is hidden behind it."""
        return self.steps * max(self.natural, self.adversarial)

    @property
    def natural_share(self) -> float:
        """Share of natural training in a serial iteration, 0 … 1."""
        return self.natural / (self.natural + self.adversarial)

    def as_json(self) -> dict[str, Any]:
        """Everything, for outcome.json."""
        ideal = {"serial_ideal_seconds": self.serial, "parallel_ideal_seconds": self.parallel}
        return {**vars(self), **ideal, "natural_share": self.natural_share}


@dataclass
class Outcome:
    """All that an experiment has shown.

    Attributes:
        runs: those of the table.
        found: what those of them have shown that are trained.
        betas, gammas: the curves, by β of TRADES and last value of Zipper's γ.
        commands: all that was run.
        missing: what an interruption has kept from being made, in words.
        about: config.json of a run.
    """

    experiment: Experiment
    runs: list[Run] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    betas: dict[float, Accuracy] = field(default_factory=dict)
    gammas: dict[float, Accuracy] = field(default_factory=dict)
    match: Match | None = None
    costs: Costs | None = None
    commands: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def of(self, row: str) -> list[Found]:
        """What the runs of a row have shown."""
        return [found for found in self.found if found.row == row]

    @property
    def rows(self) -> dict[str, Row]:
        """The rows as they were trained, TRADES with its β, by key."""
        return {run.row.key: run.row for run in self.runs}

    def table(self) -> dict[str, dict[str, Spread]]:
        """By row, every figure over its seeds, as far as there is one."""
        table: dict[str, dict[str, Spread]] = {}
        for row in dict.fromkeys(found.row for found in self.found):
            runs = [found.figures for found in self.of(row)]
            names = [n for n in (*HEADINGS, *SECONDS) if any(n in run for run in runs)]
            table[row] = {n: Spread.of(run[n] for run in runs if n in run) for n in names}
        return table


def time_unit(outcome: Outcome) -> tuple[str, float]:
    """The unit of an experiment's times, and its seconds: s up to ten minutes, then min."""
    longest = max((found.figures["wall_seconds"] for found in outcome.found), default=0.0)
    return ("s", 1.0) if longest < 600 else ("min", 60.0)


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def evaluated(directory: Path) -> dict[str, dict[str, Any]]:
    """What an evaluation found, by attack; nothing where there was none."""
    file = directory / "evaluation.json"
    return read_json(file)["attacks"] if file.exists() else {}


def seconds_per_iteration(directory: Path, learner: str) -> float:
    """The median over the spans between the records of a run's metrics, the first left out (warming
    up) where there are more.

    Every record waits for the device, so that spans are right where steps are only queued.
    """
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    records = [record for line in lines if (record := json.loads(line))["learner"] == learner]
    ends = [(0, 0.0), *((record["step"], record["train_seconds"]) for record in records)]
    spans = [(t - s) / (to - at) for (at, s), (to, t) in itertools.pairwise(ends)]
    return float(statistics.median(spans[1:] or spans))
