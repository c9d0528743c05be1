"""Looks at the global learner while training goes on.

At a look every rank posts its shares of θ_g and trains on. Rank 0 evaluates the sum whenever it
would otherwise wait. Looks change nothing in the training: the shares are copies. A look makes a
rank wait only where evaluation as a whole cannot keep up: when the one before it is not done yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from zipper_dist.distributed.communication import Pending, World
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.training.mixing import total

KEPT_SNAPSHOTS = 2


@dataclass(frozen=True)
class Snapshot:
    """The shares of one process in θ_g after iteration ``step``, by learner.

    ``integers`` are the integer buffers of the leader, where it lives in this process.
    """

    step: int
    shares: Mapping[str, Tensor]
    integers: Mapping[str, Tensor]


Evaluate = Callable[[Snapshot, Tensor], Iterator[None]]
"""Evaluates θ_g (flat) of a look in small units of work, and keeps the result itself."""


class AsyncValidation:
    """The looks of one process.

    A rank may be one look ahead of what is evaluated, so that the memory for looks is bounded; a
    process that is alone evaluates a look at once. The newest looks are kept for checkpoints: if
    the job is interrupted before a look was evaluated, it is posted again.
    """

    def __init__(self, world: World, wait: Overlap, evaluate: Evaluate) -> None:
        self.kept: deque[Snapshot] = deque(maxlen=KEPT_SNAPSHOTS)
        self.posted: list[int] = []
        self.evaluated: list[int] = []
        self._world = world
        self._wait = wait
        self._evaluate = evaluate
        self._evaluates = world.rank == 0
        self._ahead = 0 if world.size == 1 else 1
        self._queue: deque[tuple[Snapshot, Pending]] = deque()
        self._evaluation: Iterator[None] | None = None

    def post(self, look: Snapshot) -> None:
        """Hand in a look. Returns at once unless this rank is too far ahead."""
        if look.step not in self.posted:
            self.posted.append(look.step)
            self.kept.append(look)
            self._enqueue(look)
        self._wait.until(lambda: self._unfinished() <= self._ahead)

    def repost(self, looks: list[Snapshot], posted: list[int], evaluated: list[int]) -> None:
        """Continue from a checkpoint: hand in again what had not been evaluated then."""
        self.posted, self.evaluated = list(posted), list(evaluated)
        for look in looks:
            self.kept.append(look)
            if look.step not in evaluated:
                self._enqueue(look)

    def work(self) -> bool:
        """Do one unit of evaluation; False if there is none to do now."""
        if self._evaluation is None:
            if not (self._evaluates and self._queue and self._queue[0][1].done()):
                return False
            look, pending = self._queue[0]
            self._evaluation = self._evaluate(look, pending.result())
        try:
            next(self._evaluation)
        except StopIteration:
            look, _ = self._queue.popleft()
            self.evaluated.append(look.step)
            self._evaluation = None
        return True

    def finish(self) -> None:
        """Return once every look that was posted is dealt with."""
        self._wait.until(lambda: self._unfinished() == 0)

    def _enqueue(self, look: Snapshot) -> None:
        shares = {name: share.clone() for name, share in look.shares.items()}
        # In RAM: on a GPU, an all-reduce that waits for the other rank would keep it from working.
        self._queue.append((look, self._world.all_reduce(total(shares).cpu())))

    def _unfinished(self) -> int:
        if not self._evaluates:
            while self._queue and self._queue[0][1].done():
                self._queue.popleft()[1].result()
        return len(self._queue)
