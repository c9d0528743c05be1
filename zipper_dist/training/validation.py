"""Accuracy of learners: on the validation set to choose the best, then on the test set.

Validation is asynchronous: every rank posts a snapshot, a copy of its shares of θ_g, and trains on.
Some ranks evaluate the sum of the shares, a part of the images each, whenever they would otherwise
wait; the *chief*, which leads the first learner, puts together what they find. So does the rank
that saves a copy of the first learner in a run directory which the chief does not see.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.activity import doing
from zipper_dist.attacks import Blocks
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.checkpoint.weights import content_of, save_weights
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import ImageSet
from zipper_dist.distributed.communication import Overlap, Pending, World
from zipper_dist.evaluation.attack_list import Measure, distinct_parts, measures
from zipper_dist.evaluation.engine import Engine, Examples, Found
from zipper_dist.evaluation.finalise import adversarial_images
from zipper_dist.evaluation.network_views import NetworkViews
from zipper_dist.evaluation.outcomes import MemoryStore
from zipper_dist.evaluation.results.report import Report, report
from zipper_dist.metrics.overfitting import one_step_learners, overfits
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.models import ModelSpec
from zipper_dist.training.learner.flat_state import FlatState

KEPT_SNAPSHOTS = 2
SHOWN = 8  # examples of a picture, at most


@dataclass(frozen=True)
class Snapshot:
    """The shares of one process in θ_g after iteration ``step``."""

    step: int
    shares: Mapping[str, Tensor]  # by learner
    integers: Mapping[str, Tensor]  # integer buffers of the first learner


class Validator:
    """Evaluates flat weights with a network of its own, ``model``; the weights with the highest
    clean + robust accuracy on the images ``validation`` are written to ``best_path``."""

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        validation: ImageSet,
        config: TrainConfig,
        best_path: Path,
        metrics: MetricsReporter,
    ) -> None:
        self.history: list[Record] = []
        self.best_weights: dict[str, Tensor] = {}  # a state dict, of the best of the history
        self.is_copy = False  # for checkpoints alone: another rank tells of it, and writes the best
        self.spec = spec
        self.about = {"threat": " ".join(map(str, config.threats()))}  # for weights files
        attack = f"pgd-{config.eval.attack_steps}"
        self.wanted = measures(("clean", attack), config.threats(), config.eval.step_size)
        self._batch_size = config.eval.batch_size
        self._best_clean = config.eval.best_clean
        self._state = FlatState(model.eval().requires_grad_(False))
        self._validation = validation
        self._best_path = best_path
        self._metrics = metrics
        self._one_step = one_step_learners(config)

    @property
    def attack(self) -> dict[str, Any]:
        """The attack for the robust accuracy, as summary.json has it."""
        settings = [m.as_json() for m in self.wanted if len(m.parts) == 1]
        found = [{k: s[k] for k in ("norm", "eps", "step_size", "steps")} for s in settings]
        return found[0] if len(found) == 1 else {"steps": found[0]["steps"], "threats": found}

    @property
    def best(self) -> Record | None:
        """The earliest of the evaluations with the highest clean + robust accuracy, of those of
        networks that do not answer all images alike, and that have the clean accuracy asked for,
        if there are any."""
        return max(self.history, key=self._worth, default=None)

    @cached_property
    def _views(self) -> NetworkViews:
        return NetworkViews.of(self._state.model)

    @property
    def flat(self) -> Tensor:
        """The weights that the network has now, flat."""
        return self._state.flat

    def load(self, theta: Tensor, integers: Mapping[str, Tensor]) -> None:
        """Put flat weights and integer buffers into the validator's network."""
        self._state.flat.copy_(theta)
        self._state.load_integers(integers)

    def engine(self, image_set: ImageSet, part: int = 0, parts: int = 1) -> Engine:
        """A new engine for the network as it is, for every ``parts``-th block from ``part`` on."""
        self._views.refresh()
        examples = Examples(image_set.images, image_set.labels, image_set.numbers)
        blocks = Blocks(len(examples), self._batch_size)
        mine = blocks.dealt(part, parts)
        return Engine(examples, self._views, MemoryStore(), blocks, mine, self._batch_size)

    def evaluate(
        self, snapshot: Snapshot, theta: Tensor, part: int, parts: int
    ) -> Generator[None, None, Found]:
        """Evaluate θ_g of a snapshot on a part of the images, in small units of work."""
        self.load(theta, snapshot.integers)
        engine = self.engine(self._validation, part, parts)
        yield from engine.run(self.wanted)
        if part == 0 and self._metrics.shows_pictures:
            self._show(engine, snapshot.step)
        return engine.found(distinct_parts(self.wanted))

    def _show(self, engine: Engine, step: int) -> None:
        """Show some images of the first block, clean in the upper row and attacked in the lower."""
        for measure in (m for m in self.wanted if len(m.parts) == 1):
            attacked, broken = adversarial_images(engine, measure, 0)
            chosen = broken.nonzero().flatten()[:SHOWN]
            if len(chosen) > 0:
                clean = engine.examples.take(chosen)[0].cpu()
                rows = [torch.cat(list(images), dim=2) for images in (clean, attacked[chosen])]
                pixels = (255 * torch.cat(rows, dim=1).clamp(0, 1)).round().byte()
                self._metrics.picture(measure.label, step, pixels)

    @doing("evaluating")
    def conclude(
        self, snapshot: Snapshot, theta: Tensor, parts: Sequence[Found], since: float
    ) -> None:
        """Keep and report what all parts of an evaluation found; save θ_g if it is the best."""
        self.load(theta, snapshot.integers)
        found = report(self.engine(self._validation), self.wanted, parts)
        record = {"step": snapshot.step, "learner": "global", **accuracies(found, self.wanted)}
        record |= self._warn(found, record) | {"seconds": time.perf_counter() - since}
        self.history.append(record)
        if self.best is record:
            self.best_weights = self._state.state_dict()
            self.write_best()
        if not self.is_copy:
            self._metrics.report(record)

    def _worth(self, record: Record) -> tuple[bool, bool, float]:
        """What the best is chosen by: accuracies count only among networks that tell images apart,
        as long as there is one; an attack cannot change what is always the same."""
        accurate = record["clean"] >= self._best_clean
        return not record.get("constant", False), accurate, record["clean"] + record["robust"]

    def _warn(self, found: Report, record: Record) -> Record:
        """Fields on what is wrong with the network, if anything; said when it begins."""
        not_finite = max(figure.not_finite for figure in found.figures.values())
        said = overfits(record, self.history, self._one_step)
        fields = {"constant": found.constant, "not_finite": not_finite, "overfitting": bool(said)}
        wrong = {name: value for name, value in fields.items() if value}
        if wrong.keys() - (self.history or [{}])[-1].keys() and not self.is_copy:
            for each in (*found.warnings, *said):
                self._metrics.tell(f"warning: validation after iteration {record['step']}: {each}")
        return wrong

    def write_best(self) -> str | None:
        """Write the best weights, unless they are in their file; what was wrong with the file."""
        if self.is_copy or self.best is None or not self.best_weights:
            return None
        extra = {"step": str(self.best["step"]), **self.about}
        content = content_of(self.best_weights, self.spec, extra)
        there = self._best_path.exists()
        if there and self._best_path.read_bytes() == content:
            return None
        write_atomically(self._best_path, content)
        return "of another iteration, or damaged" if there else "missing"

    def save(self, path: Path, extra: Mapping[str, Any]) -> None:
        """Write the weights that the network has now."""
        save_weights(path, self._state.state_dict(), self.spec, extra)


@dataclass
class _Posted:
    """A snapshot that is not evaluated yet."""

    snapshot: Snapshot
    theta: Pending  # θ_g
    evaluation: Generator[None, None, Found] | None = None
    found: Found | None = None  # by this rank
    since: float = 0.0  # when θ_g was there


class AsyncValidation:
    """The snapshots of one process, evaluated by the ranks ``evaluators``; what these find is put
    together by each of ``concluding``. ``total`` sums shares.

    To bound memory, a rank waits when the snapshot before is not evaluated yet. The newest are kept
    for checkpoints, to be posted again if a job was interrupted before they were evaluated.
    """

    def __init__(
        self,
        world: World,
        wait: Overlap,
        validator: Validator,
        total: Callable[[Mapping[str, Tensor]], Tensor],
        evaluators: Sequence[int],
        concluding: Sequence[int],
    ) -> None:
        self.kept: deque[Snapshot] = deque(maxlen=KEPT_SNAPSHOTS)
        self.posted: list[int] = []
        self.evaluated: list[int] = []
        self._world = world
        self._wait = wait
        self._validator = validator
        self._total = total
        self._evaluators = evaluators
        self._concludes = world.rank in concluding
        self._alone = [*evaluators] == [*concluding] == [world.rank]
        self._queue: deque[_Posted] = deque()

    def post(self, snapshot: Snapshot) -> None:
        """Hand in a snapshot, once. Returns at once unless this rank is too far ahead."""
        if snapshot.step not in self.posted:
            self.posted.append(snapshot.step)
            self._enqueue(snapshot)
        ahead = 0 if self._world.size == 1 else 1  # a single process evaluates at once
        self._wait.until(lambda: len(self._queue) <= ahead)

    def repost(self, snapshots: list[Snapshot], posted: list[int], evaluated: list[int]) -> None:
        """Continue from a checkpoint: hand in again what had not been evaluated then."""
        self.posted, self.evaluated = list(posted), list(evaluated)
        for snapshot in snapshots:
            self._enqueue(snapshot)

    def work(self) -> bool:
        """Do one unit of evaluation; False if there is none to do now."""
        if not self._queue or not self._queue[0].theta.done():
            return False
        first = self._queue[0]
        first.since = first.since or time.perf_counter()
        if self._world.rank in self._evaluators and first.found is None:
            self._evaluate(first)
            if first.found is None:
                return True
        if self._concludes:
            found = self._found(first)
            if len(found) < len(self._evaluators):
                return False
            self._validator.conclude(first.snapshot, first.theta.result(), found, first.since)
            self.evaluated.append(first.snapshot.step)
        self._queue.popleft().theta.result()
        return True

    @doing("evaluating")
    def _evaluate(self, posted: _Posted) -> None:
        """One unit of this rank's part."""
        if posted.evaluation is None:
            part = self._evaluators.index(self._world.rank)
            theta, parts = posted.theta.result(), len(self._evaluators)
            posted.evaluation = self._validator.evaluate(posted.snapshot, theta, part, parts)
        try:
            next(posted.evaluation)
        except StopIteration as end:
            posted.found = end.value
            if not self._alone:
                self._world.post(f"validation/{posted.snapshot.step}", posted.found)

    def _found(self, posted: _Posted) -> list[Found]:
        """What is known by now of what the evaluators found."""
        if self._evaluators == [self._world.rank]:
            return [] if posted.found is None else [posted.found]
        topic = f"validation/{posted.snapshot.step}"
        return list(self._world.posted(topic, self._evaluators).values())

    def finish(self) -> None:
        """Wait until this rank has nothing left to do for the posted snapshots."""
        self._wait.until(lambda: not self._queue)

    def _enqueue(self, snapshot: Snapshot) -> None:
        self.kept.append(snapshot)
        if snapshot.step not in self.evaluated:
            # In RAM: an all-reduce that waits for another rank would block a GPU.
            share = self._total(snapshot.shares).cpu()
            self._queue.append(_Posted(snapshot, self._world.all_reduce(share)))


def accuracies(found: Report, wanted: list[Measure]) -> dict[str, float]:
    """Clean and robust accuracy [%]; with several threat models, also ``robust@…`` each one's."""
    clean, *each = [found.accuracy[measure.label] for measure in wanted]
    result = {"clean": clean, "robust": each[-1]}
    for measure, accuracy in zip(wanted[1:-1], each[:-1], strict=True):
        result[f"robust@{measure.label.partition('@')[2]}"] = accuracy
    return result
