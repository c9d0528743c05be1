"""A rank of a variant: the training loop as it is, which pauses when it has done what was asked."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torch import Tensor

from scaling.accounting import RankBout, Span
from scaling.cases import Network, Variant
from zipper_dist.distributed.communication import Pending, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, Plan, plan
from zipper_dist.metrics.records import StepResult, Window
from zipper_dist.training.context import RunContext
from zipper_dist.training.loop import train
from zipper_dist.training.setup.build import build_state
from zipper_dist.training.setup.materials import prepare
from zipper_dist.training.setup.placing import place

SYNC = "sync"
"""Kind of the all-reduces and messages of a redistribution."""


@dataclass(frozen=True)
class Job:
    """What all ranks of a variant are told: ``done`` are iterations measured before, ``steps``
    those of the attack if not the recipe's, ``variables`` those of a launcher."""

    network: Network
    variant: Variant
    cores: Sequence[int]
    variables: Mapping[str, str]
    directory: str
    done: int = 0
    steps: int | None = None


class TimedWorld(World):
    """Notes when each message of this rank was posted, waited for, and there."""

    def __init__(self, plan: Plan, timeout: float, signals: Signals) -> None:
        self.spans: list[Span] = []
        self.sent_bytes = 0  # comm_bytes begins anew with every line of metrics
        super().__init__(plan, timeout, signals)

    def all_reduce(self, buffer: Tensor, group: str | None = None) -> Pending:
        """See :class:`World`."""
        posted, before = time.perf_counter(), self.comm_bytes
        pending = super().all_reduce(buffer, group)
        self.sent_bytes += self.comm_bytes - before
        return self._timed(group or SYNC, posted, pending)

    def gather(self, topic: str, value: Any) -> Pending:
        """See :class:`World`."""
        posted = time.perf_counter()
        return self._timed(SYNC, posted, super().gather(topic, value))

    def _timed(self, kind: str, posted: float, pending: Pending) -> Pending:
        waited: list[float] = []

        def done() -> bool:
            if not waited:
                waited.append(time.perf_counter())
            return pending.done()

        def result() -> Any:
            since = waited[0] if waited else time.perf_counter()
            value = pending.result()
            self.spans.append(Span(kind, posted, since, time.perf_counter()))
            return value

        return Pending(done, result)


class TimedWindow(Window):
    """Counts what a learner's iterations took of this rank."""

    def __init__(self, learner: str, batch_size: int, seconds: dict[str, float]) -> None:
        super().__init__(learner, batch_size)
        self._seconds = seconds

    def add(self, step: int, result: StepResult, seconds: float) -> None:
        """See :class:`Window`."""
        self._seconds[self.learner] += seconds
        super().add(step, result, seconds)


class PacedStop(Stop):
    """Before an iteration that nobody has asked for, says what the last ones took, and sleeps."""

    def __init__(self, world: TimedWorld, signals: Signals, pipe: Connection) -> None:
        super().__init__(world, signals)
        self.about: dict[str, Any] = {}  # what the first answer says
        self.seconds: dict[str, float] = defaultdict(float)
        self._timed_world, self._pipe = world, pipe
        self._left = 0
        self._begun: tuple[float, float] | None = None  # on the clock, and of the processor

    def begin(self, iteration: int) -> None:
        """See :class:`Stop`."""
        if self._left == 0:
            self._pause()
        self._left -= 1
        super().begin(iteration)

    def _pause(self) -> None:
        world = self._timed_world
        if self._begun is None:
            self._pipe.send(self.about)
        else:
            begun, used = self._begun
            self._pipe.send(
                RankBout(
                    begun, time.perf_counter(), tuple(world.spans), time.process_time() - used,
                    world.sent_bytes, dict(self.seconds),
                )
            )  # fmt: skip
        try:
            self._left = self._pipe.recv()
        except EOFError:  # what started this process is gone
            self._left = 0
        if self._left == 0:
            raise SystemExit
        world.spans.clear()
        self.seconds.clear()
        world.sent_bytes = 0
        self._begun = time.perf_counter(), time.process_time()


def work(job: Job, rank: int, pipe: Connection) -> None:
    """Be a rank: train as ``zipper_dist.train`` does, at the pace that ``pipe`` gives."""
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ.update(job.variables, **own)
    os.sched_setaffinity(0, job.cores)
    config, signals = job.variant.config(job.network, Path(job.directory), job.steps), Signals()
    placed = plan(Machine.detect(os.environ), config.device, config.threads)
    world = TimedWorld(placed, config.timeout, signals)
    stop = PacedStop(world, signals, pipe)
    run = RunContext.of(config, world, stop, [])
    materials = prepare(run, job.network.dataset())
    state = build_state(run, materials, place(run, materials, None), [0] * world.size)
    state.at = job.done
    state.windows = {
        name: TimedWindow(name, materials.loader.batch_size, stop.seconds) for name in state.windows
    }
    stop.about = {
        "items": {name: len(mine) for name, mine in state.assignment.items[rank].items()},
        "weights_bytes": 4 * state.learners[0].state.flat.numel(),
        "precision": run.precision,
    }
    try:
        train(run, state)
    finally:
        world.close()
