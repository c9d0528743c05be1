"""Evaluation of learners during a run: on the validation set to choose the best, then on the test
set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.data import ImageSet
from zipper_dist.metrics.records import Record
from zipper_dist.models import ModelSpec
from zipper_dist.training.async_validation import Snapshot
from zipper_dist.training.flat_state import FlatState
from zipper_dist.training.scoring import EvalAttack, Score, score_in_steps


class Evaluator:
    """Evaluates flat weights with a network of its own, and remembers the best.

    Args:
        model: a network of the run's architecture, on its device; the evaluator owns it.
        spec: its description, for the weight file.
        validation: images for :meth:`look`, on the device.
        attack: the attack for the robust accuracy.
        batch_size: images in a minibatch.
        best_path: file for the weights with the highest clean + robust validation accuracy.
        report: takes each result.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        validation: ImageSet,
        attack: EvalAttack,
        batch_size: int,
        best_path: Path,
        report: Callable[[Record], None],
    ) -> None:
        self.history: list[Record] = []
        self.attack = attack
        self.batch_size = batch_size
        self.spec = spec
        self._state = FlatState(model.eval().requires_grad_(False))
        self._validation = validation
        self._best_path = best_path
        self._report = report

    @property
    def best(self) -> Record | None:
        """The earliest of the evaluations with the highest clean + robust accuracy."""
        return max(self.history, key=lambda r: r["clean"] + r["robust"], default=None)

    def load(self, theta: Tensor, integers: Mapping[str, Tensor]) -> None:
        """Put flat weights and integer buffers into the evaluator's network."""
        self._state.flat.copy_(theta)
        self._state.load_integers(integers)

    def look(self, look: Snapshot, theta: Tensor) -> Iterator[None]:
        """Evaluate θ_g of a look in small units of work; save it if it is the best so far."""
        start = time.perf_counter()
        self.load(theta, look.integers)
        score = Score()
        yield from self.steps(self._validation, score)
        record: Record = {"step": look.step, "learner": "global", **score.accuracies()}
        record["seconds"] = time.perf_counter() - start
        self.history.append(record)
        if self.best is record:
            self.save(self._best_path, {"step": str(look.step)})
        self._report(record)

    def steps(
        self, image_set: ImageSet, score: Score, part: int = 0, parts: int = 1
    ) -> Iterator[None]:
        """Evaluate the network as it is; see :mod:`zipper_dist.training.scoring`."""
        model = self._state.model
        return score_in_steps(
            model, image_set, self.attack, self.batch_size, score, part=part, parts=parts
        )

    def save(self, path: Path, extra: Mapping[str, Any]) -> None:
        """Write the weights that the network has now."""
        save_weights(path, self._state.state_dict(), self.spec, extra)
