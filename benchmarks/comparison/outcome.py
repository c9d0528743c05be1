"""What an experiment has shown: its runs, the curves, the tuning, the costs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from comparison.costs import Costs
from comparison.devices import Command
from comparison.experiments import Experiment, Row
from comparison.figures import Found
from comparison.matching import Accuracy


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
class Match:
    """How TRADES was tuned, by seed 0."""

    beta: float
    clean: float
    """Its clean accuracy with that β [per cent]."""
    target: float
    """Clean accuracy of Zipper [per cent]."""
    slack: float
    """Differences of clean accuracy that count as none [percentage points]."""


@dataclass
class Outcome:
    """All that an experiment has shown."""

    experiment: Experiment
    found: list[Found] = field(default_factory=list)
    betas: dict[float, Accuracy] = field(default_factory=dict)
    gammas: dict[float, Accuracy] = field(default_factory=dict)
    match: Match | None = None
    costs: Costs | None = None
    commands: list[Command] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What an interruption has kept from being made, in words."""

    @property
    def on_first(self) -> set[str]:
        """The figures that are of the first images of the test set."""
        return {name for found in self.found for name in found.first}

    def run_of(self, found: Found) -> Run:
        """The run that has shown it."""
        (run,) = (r for r in self.runs if (r.row.key, r.seed) == (found.row, found.seed))
        return run
