"""What a run ought to take, from what each learner costs by itself."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch


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
    """The median over the spans between the records of a run's metrics, the first left out (warming
    up) where there are more.

    Every record waits for the device, so that spans are right where steps are only queued.
    """
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    records = [record for line in lines if (record := json.loads(line))["learner"] == learner]
    ends = [(0, 0.0), *((record["step"], record["train_seconds"]) for record in records)]
    spans = [(t - s) / (to - at) for (at, s), (to, t) in itertools.pairwise(ends)]
    return float(statistics.median(spans[1:] or spans))


def bytes_of_a_sync(weights: Path) -> int:
    """What ranks exchange [bytes]: all floating-point numbers of the network, as float32."""
    tensors = safetensors.torch.load_file(weights).values()
    return 4 * sum(int(tensor.numel()) for tensor in tensors if tensor.is_floating_point())


def waits(summary: dict[str, Any]) -> Sequence[tuple[str, float]]:
    """For each rank, its learners and the seconds that it waited."""
    return [(", ".join(rank["learners"]), rank["wait_seconds"]) for rank in summary["ranks"]]
