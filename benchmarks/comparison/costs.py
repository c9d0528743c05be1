"""What a run ought to take, from what each learner costs by itself."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.figures import read_json


@dataclass(frozen=True)
class Costs:
    """Measured costs, and the times they imply [s].

    Attributes:
        natural, adversarial: an iteration of the learner, trained alone on one device.
        sync_seconds, sync_bytes: an all-reduce of the whole network; None where none was measured.
        steps: iterations of the run.
    """

    natural: float
    adversarial: float
    steps: int
    sync_seconds: float | None = None
    sync_bytes: int | None = None

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
        """Everything as plain JSON values."""
        return {
            **vars(self),
            "serial_ideal_seconds": self.serial,
            "parallel_ideal_seconds": self.parallel,
            "natural_share": self.natural_share,
        }


def seconds_per_iteration(directory: Path, learner: str) -> float:
    """The median over the records of a run's metrics, the first left out (warming up) where there
    are more."""
    batch_size = read_json(directory / "config.json")["options"]["batch_size"]
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    rates = [r["images_per_second"] for r in records if r["learner"] == learner]
    seconds = [float(batch_size / rate) for rate in rates]
    return statistics.median(seconds[1:] or seconds)


def bytes_of_a_sync(summary: dict[str, Any]) -> int:
    """Size of the network [bytes], from what a rank of a parallel run sent: syncs and looks alike
    are one all-reduce of it."""
    rank = summary["ranks"][0]
    return int(rank["comm_bytes"] // (rank["syncs"] + rank["looks"]))


def waits(summary: dict[str, Any]) -> Sequence[tuple[str, float]]:
    """For each rank, its learners and the seconds that it waited."""
    return [(", ".join(rank["learners"]), rank["wait_seconds"]) for rank in summary["ranks"]]
