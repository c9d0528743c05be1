"""What the parts of a training process share, and the state that it trains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import torch

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.data import Loader
from zipper_dist.distributed.assignment import Assignment
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.stopping import Stop
from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.records import Window
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.sinks import Sink
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.mixing import Mixer
from zipper_dist.training.step_plan import StepPlan
from zipper_dist.training.validation import AsyncValidation, Validator


@dataclass(frozen=True)
class RunContext:
    """A run as one of its processes sees it: options, files, other ranks, signals, metrics."""

    config: TrainConfig
    precision: Precision  # as resolved
    directory: RunDirectory
    world: World
    stop: Stop
    wait: Overlap
    metrics: MetricsReporter

    @staticmethod
    def of(config: TrainConfig, world: World, stop: Stop, sinks: Sequence[Sink]) -> RunContext:
        """What ``config`` asks for, in this process of the job; rank 0 writes to the ``sinks``."""
        return RunContext(
            config=config,
            precision=resolve_precision(config.precision, world.plan.device),
            directory=RunDirectory.of(config),
            world=world,
            stop=stop,
            wait=Overlap(stop),
            metrics=MetricsReporter(world, sinks),
        )

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return self.world.plan.device


@dataclass
class Timers:
    """What this rank spent, interrupted processes of the run included."""

    wall_seconds: float = 0.0
    eval_seconds: float = 0.0
    wait_seconds: float = 0.0  # idle
    comm_bytes: int = 0  # handed to all-reduces
    syncs: int = 0  # all-reduces of the global learner

    def __post_init__(self) -> None:
        self._settled = time.perf_counter()

    def settle(self, run: RunContext) -> dict[str, float]:
        """Bring everything up to now; the fields as JSON."""
        now = time.perf_counter()
        self.wall_seconds += now - self._settled
        self.wait_seconds += run.wait.seconds
        self.comm_bytes += run.world.comm_bytes
        self._settled, run.wait.seconds, run.world.comm_bytes = now, 0.0, 0
        return asdict(self)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the duration as evaluation."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.eval_seconds += time.perf_counter() - start


@dataclass
class TrainState:
    """What one process trains."""

    assignment: Assignment
    plan: StepPlan
    loader: Loader
    learners: list[BaseLearner]  # of this process
    led: list[str]  # those that this process reports, and whose share of θ_g it gives
    saved: list[str]  # those that it saves: of a learner that another leads, a copy
    directories: Sequence[int]  # by rank: equal numbers see the same run directory
    chief: bool  # whether this process leads the first learner, and so keeps the global one
    mixer: Mixer
    validator: Validator
    validation: AsyncValidation
    windows: dict[str, Window]
    compiled: bool
    notes: list[str]  # for the user
    timers: Timers = field(default_factory=Timers)
    at: int = 0  # the last iteration that is done

    @property
    def weights_files(self) -> list[str]:
        """The weights files that this process writes, by name."""
        return [*self.led, *(["global", "best"] if self.chief else [])]

    def check_finite(self) -> None:
        """Raise TrainingDiverged rather than mix, save or evaluate what is not finite."""
        for learner in self.learners:
            self.windows[learner.name].check()
            if not torch.isfinite(learner.state.flat).all():
                raise TrainingDiverged(
                    f"weights of the {learner.name} learner are NaN or infinite after iteration "
                    f"{self.at}; the checkpoints up to then are kept"
                )
