"""Event files for TensorBoard, by its own package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from zipper_dist.metrics.records import GLOBAL, Record
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink, final_scores, scalars
from zipper_dist.registry import require

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@SINKS.register("tensorboard")
class TensorBoard(Sink):
    """Writes to the folder tensorboard of the run directory: a folder in it for each learner, so
    that TensorBoard draws their losses together, and the options with the final scores."""

    def __init__(self) -> None:
        require(["tensorboard"], "tensorboard", "--metrics tensorboard")

    def open(self, run: RunInfo) -> None:
        """Begin; what a continued run does again takes the place of what was there."""
        self._run = run
        self._writers: dict[str, SummaryWriter] = {}

    def write(self, record: Record) -> None:
        """Add the figures of a record; they are on the disk when this returns."""
        writer = self._writer(record["learner"])
        for name, value in scalars(record).items():
            writer.add_scalar(name, value, record["step"], walltime=record.get("time"))
        writer.flush()

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        """Add a picture to the global learner's."""
        self._writer(GLOBAL).add_image(name, pixels, step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Add the options, and the final scores that they led to, for the tab HPARAMS."""
        options = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in self._run.options.items()
        }
        self._writer("").add_hparams(options, final_scores(summary), run_name=".")

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, learner: str) -> SummaryWriter:
        if learner not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            self._writers[learner] = SummaryWriter(
                str(self._run.directory / "tensorboard" / learner),
                # TensorBoard forgets what was there of this iteration and later ones.
                purge_step=self._run.last_steps.get(learner, 0) + 1,
            )
        return self._writers[learner]
