"""What a training process holds, and what it does between two iterations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Loader
from zipper_dist.distributed.overlap import Signals, Waiter
from zipper_dist.distributed.placement import World
from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.telemetry import Telemetry, Window
from zipper_dist.training.async_validation import Look, Observatory
from zipper_dist.training.evaluator import Evaluator
from zipper_dist.training.learner import BaseLearner, StepResult
from zipper_dist.training.mixing import Mixer, total
from zipper_dist.training.step_plan import Timetable


@dataclass
class Ledger:
    """Where the time of this rank went, interrupted processes of the run included [seconds]."""

    wall_seconds: float = 0.0
    eval_seconds: float = 0.0
    wait_seconds: float = 0.0
    comm_bytes: int = 0
    syncs: int = 0


@dataclass
class Trainer:
    """The parts of one process of a run. ``at`` is the last iteration that is done."""

    config: TrainConfig
    directory: RunDirectory
    world: World
    signals: Signals
    wait: Waiter
    timetable: Timetable
    loader: Loader
    learners: list[BaseLearner]
    mixer: Mixer
    evaluator: Evaluator
    observatory: Observatory
    telemetry: Telemetry
    engine_note: str = ""
    compiled: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    at: int = 0

    def __post_init__(self) -> None:
        self._windows = {
            learner.name: Window(learner.name, self.config.batch_size) for learner in self.learners
        }
        self._clock = self._mark = time.perf_counter()
        self.wait.work = self.work

    def record(self, learner: BaseLearner, t: int, result: StepResult) -> None:
        """Take up what iteration ``t`` of ``learner`` showed."""
        now = time.perf_counter()
        self._windows[learner.name].add(t, result, now - self._mark)
        self._mark = now

    def conclude(self, t: int) -> None:
        """Do what is due after iteration ``t``: look, redistribute, save, report, stop.

        Doing it again after an interruption does only what is left of it.
        """
        self.at = t
        self.telemetry.poll()
        if t % self.config.log_every == 0 or t == self.timetable.total_steps:
            self.report()
        if self.timetable.looks_at(t):
            self.check_finite()
            self.observatory.post(self._look(t))
        if self.timetable.redistributes_at(t) and self.mixer.synced_at < t:
            self.check_finite()
            self._redistribute(t)
        if self.timetable.looks_at(t):
            self.save()
        self.signals.check()
        self._mark = time.perf_counter()

    def _redistribute(self, t: int) -> None:
        theta = self.wait(self.world.all_reduce(total(self.mixer.shares())))
        self.ledger.syncs += 1
        self.mixer.sync(t, theta)
        for learner in self.learners:
            learner.adopt(theta)

    def _look(self, t: int) -> Look:
        integers = {
            name: tensor.clone() for name, tensor in self.learners[0].state.integers.items()
        }
        return Look(t, self.mixer.shares(), integers)

    def work(self) -> bool:
        """Do one unit of what can be done while waiting."""
        start = time.perf_counter()
        worked = self.observatory.work()
        if worked:
            self.ledger.eval_seconds += time.perf_counter() - start
        self.telemetry.poll()
        return worked

    def report(self) -> None:
        """Report the windows of this rank's learners."""
        self.settle()
        trained = self.ledger.wall_seconds - self.ledger.eval_seconds
        for learner in self.learners:
            record = self._windows[learner.name].close()
            if record is not None:
                step = record["step"]
                record["epoch"] = round(self.timetable.epoch(step), 4)
                record["lr"] = learner.lr(step)
                record["gamma"] = self.config.mix.gamma(step / self.timetable.total_steps)
                record["train_seconds"] = round(trained, 4)
                record["wait_seconds"] = round(self.ledger.wait_seconds, 4)
                self.telemetry.report(record)

    def settle(self) -> None:
        """Bring the ledger up to now."""
        now = time.perf_counter()
        self.ledger.wall_seconds += now - self._clock
        self.ledger.wait_seconds += self.wait.seconds
        self.ledger.comm_bytes += self.world.comm_bytes
        self._clock, self.wait.seconds, self.world.comm_bytes = now, 0.0, 0

    def check_finite(self) -> None:
        """Raise TrainingDiverged rather than mix, save or evaluate what is not finite."""
        for learner in self.learners:
            self._windows[learner.name].check()
            if not torch.isfinite(learner.state.flat).all():
                raise TrainingDiverged(
                    f"weights of the {learner.name} learner are NaN or infinite after iteration "
                    f"{self.at}; the checkpoints up to then are kept"
                )

    def save(self) -> None:
        """Write a checkpoint of every learner of this process, as they are after ``self.at``."""
        self.check_finite()
        self.settle()
        for learner in self.learners:
            checkpoint.save(self.directory.checkpoints, self._part(learner))
        mine = [learner.name for learner in self.learners]
        checkpoint.prune(self.directory.checkpoints, mine, list(self.config.learners))

    def _part(self, learner: BaseLearner) -> checkpoint.Part:
        looks = self.observatory
        info = checkpoint.PartInfo(
            learner=learner.name,
            step=self.at,
            synced_at=self.mixer.synced_at,
            posted=list(looks.posted),
            kept=[look.step for look in looks.kept],
            evaluated=list(looks.evaluated),
        )
        groups = {"learner": learner.tensors(), "mixer": self.mixer.tensors(learner.name)}
        for look in looks.kept:
            groups[f"look-{look.step}"] = {"share": look.shares[learner.name]}
            groups[f"look-{look.step}-integers"] = dict(look.integers)
        notes = {
            "carry": self.mixer.carry,
            "ledger": vars(self.ledger).copy(),
            "history": self.evaluator.history,
        }
        return checkpoint.Part(info, checkpoint.join(groups), notes)
