"""What the parts of a training process share, and the state that it trains."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.data import Loader
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.distributed.signals import Signals
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.windows import Window
from zipper_dist.training.async_validation import AsyncValidation
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.mixing import Mixer, Weights
from zipper_dist.training.step_plan import StepPlan
from zipper_dist.training.timers import Timers
from zipper_dist.training.validation import Validator


@dataclass(frozen=True)
class RunContext:
    """A run as one of its processes sees it; nothing here changes while it trains.

    Attributes:
        config: the options, as resolved.
        precision: what ``config.precision`` came to.
        directory: the run directory.
        world: the processes of the job.
        signals: whether a signal asked to stop.
        wait: waits for other ranks while doing other work.
        metrics: takes records and messages.
    """

    config: TrainConfig
    precision: Precision
    directory: RunDirectory
    world: World
    signals: Signals
    wait: Overlap
    metrics: MetricsReporter

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.world.plan.device


@dataclass
class TrainState:
    """What one process trains, and how far it is.

    Attributes:
        plan: when things happen.
        loader: the minibatches.
        learners: the base learners of this process.
        weights: w_a(t), the mixing weights of all learners.
        mixer: this process's shares of the global learner.
        evaluator: evaluates global learners, and remembers the best.
        validation: evaluates snapshots of the global learner while this rank waits.
        windows: losses since the last record, by learner.
        compiled: whether networks are compiled.
        notes: what to tell the person about how the networks are run.
        timers: where the time went.
        at: the last iteration that is done.
    """

    plan: StepPlan
    loader: Loader
    learners: list[BaseLearner]
    weights: Weights
    mixer: Mixer
    evaluator: Validator
    validation: AsyncValidation
    windows: dict[str, Window]
    compiled: bool = False
    notes: tuple[str, ...] = ()
    timers: Timers = field(default_factory=Timers)
    at: int = 0
