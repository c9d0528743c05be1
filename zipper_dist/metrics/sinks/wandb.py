"""Weights & Biases, by its own package; offline unless its settings say otherwise."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zipper_dist.metrics.records import GLOBAL, Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink, final_scores, scalars
from zipper_dist.registry import require


@SINKS.register("wandb")
class Wandb(Sink):
    """Writes to the folder wandb of the run directory, for `wandb sync`; to a server where
    WANDB_MODE is "online". A run that is continued goes on as another one of the same group."""

    def __init__(self) -> None:
        require(["wandb"], "wandb", "--metrics wandb")

    def open(self, run: RunInfo) -> None:
        """Begin a run with the options as its configuration."""
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            mode=None if "WANDB_MODE" in os.environ else "offline",  # None: as that says
            dir=str(run.directory),
            project=os.environ.get("WANDB_PROJECT", "zipper_dist"),
            group=run.directory.name,
            config=dict(run.options),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for learner in (*run.learners, GLOBAL):  # each is at an iteration of its own
            self._run.define_metric(f"{learner}/*", step_metric=f"{learner}/step")

    def write(self, record: Record) -> None:
        """Log the figures of a record."""
        learner = record["learner"]
        figures = scalars(record) | {k: record[k] for k in ("step", "time") if k in record}
        self._run.log({f"{learner}/{name}": value for name, value in figures.items()})

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        """Log a picture with the global learner's figures."""
        image = self._wandb.Image(pixels.permute(1, 2, 0).squeeze(-1).numpy())
        self._run.log({f"{GLOBAL}/{name}": image, f"{GLOBAL}/step": step})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Add the final scores to the run's summary."""
        self._run.summary.update(final_scores(summary))

    def close(self) -> None:
        """Wait until everything is written."""
        self._run.finish()
