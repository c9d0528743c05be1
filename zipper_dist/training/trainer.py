"""What a training process holds, and what it does between two iterations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Loader
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.distributed.signals import Signals
from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.telemetry import MetricsReporter, Window
from zipper_dist.training.async_validation import AsyncValidation, Snapshot
from zipper_dist.training.learner import BaseLearner, StepResult
from zipper_dist.training.mixing import Mixer, total
from zipper_dist.training.step_plan import StepPlan
from zipper_dist.training.validation import Validator


@dataclass
class Timers:
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
    wait: Overlap
    plan: StepPlan
    loader: Loader
    learners: list[BaseLearner]
    mixer: Mixer
    evaluator: Validator
    validation: AsyncValidation
    metrics: MetricsReporter
    engine_note: str = ""
    compiled: bool = False
    timers: Timers = field(default_factory=Timers)
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
        self.metrics.poll()
        if t % self.config.log_every == 0 or t == self.plan.total_steps:
            self.report()
        if self.plan.validates_at(t):
            self.check_finite()
            self.validation.post(self._look(t))
        if self.plan.redistributes_at(t) and self.mixer.synced_at < t:
            self.check_finite()
            self._redistribute(t)
        if self.plan.validates_at(t):
            self.save()
        self.signals.check()
        self._mark = time.perf_counter()

    def _redistribute(self, t: int) -> None:
        theta = self.wait(self.world.all_reduce(total(self.mixer.shares())))
        self.timers.syncs += 1
        self.mixer.sync(t, theta)
        for learner in self.learners:
            learner.load_global(theta)

    def _look(self, t: int) -> Snapshot:
        integers = {
            name: tensor.clone() for name, tensor in self.learners[0].state.integers.items()
        }
        return Snapshot(t, self.mixer.shares(), integers)

    def work(self) -> bool:
        """Do one unit of what can be done while waiting."""
        start = time.perf_counter()
        worked = self.validation.work()
        if worked:
            self.timers.eval_seconds += time.perf_counter() - start
        self.metrics.poll()
        return worked

    def report(self) -> None:
        """Report the windows of this rank's learners."""
        self.settle()
        trained = self.timers.wall_seconds - self.timers.eval_seconds
        for learner in self.learners:
            record = self._windows[learner.name].close()
            if record is not None:
                step = record["step"]
                record["epoch"] = round(self.plan.epoch(step), 4)
                record["lr"] = learner.lr(step)
                record["gamma"] = self.config.mix.gamma(step / self.plan.total_steps)
                record["train_seconds"] = round(trained, 4)
                record["wait_seconds"] = round(self.timers.wait_seconds, 4)
                self.metrics.report(record)

    def settle(self) -> None:
        """Bring the timers up to now."""
        now = time.perf_counter()
        self.timers.wall_seconds += now - self._clock
        self.timers.wait_seconds += self.wait.seconds
        self.timers.comm_bytes += self.world.comm_bytes
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

    def _part(self, learner: BaseLearner) -> checkpoint.LearnerCheckpoint:
        looks = self.validation
        info = checkpoint.CheckpointInfo(
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
            "timers": vars(self.timers).copy(),
            "history": self.evaluator.history,
        }
        return checkpoint.LearnerCheckpoint(info, checkpoint.group(groups), notes)
