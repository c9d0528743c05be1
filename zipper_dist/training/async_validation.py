"""Asynchronous validation: the global learner is evaluated while training goes on.

For a validation every rank posts a snapshot, its shares of θ_g, and trains on. Rank 0 evaluates the
sum of the shares whenever it would otherwise wait. The shares are copies, so that training does not
depend on it. A rank waits only where evaluation as a whole cannot keep up: when the snapshot before
is not evaluated yet.
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
"""Evaluates θ_g (flat) of a snapshot in small units of work, and keeps the result itself."""


class AsyncValidation:
    """The snapshots of one process.

    A rank may be one snapshot ahead of what is evaluated, so that memory is bounded; a process that
    is alone evaluates a snapshot at once. The newest ones are kept for checkpoints: a snapshot that
    was not evaluated when the job was interrupted is posted again.

    Args:
        world: the job.
        wait: waits for other ranks.
        evaluate: what rank 0 does with a snapshot.
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

    def post(self, snapshot: Snapshot) -> None:
        """Hand in a snapshot. Returns at once unless this rank is too far ahead."""
        if snapshot.step not in self.posted:
            self.posted.append(snapshot.step)
            self.kept.append(snapshot)
            self._enqueue(snapshot)
        self._wait.until(lambda: self._unfinished() <= self._ahead)

    def repost(self, snapshots: list[Snapshot], posted: list[int], evaluated: list[int]) -> None:
        """Continue from a checkpoint: hand in again what had not been evaluated then."""
        self.posted, self.evaluated = list(posted), list(evaluated)
        for snapshot in snapshots:
            self.kept.append(snapshot)
            if snapshot.step not in evaluated:
                self._enqueue(snapshot)

    def work(self) -> bool:
        """Do one unit of evaluation; False if there is none to do now."""
        if self._evaluation is None:
            if not (self._evaluates and self._queue and self._queue[0][1].done()):
                return False
            snapshot, pending = self._queue[0]
            self._evaluation = self._evaluate(snapshot, pending.result())
        try:
            next(self._evaluation)
        except StopIteration:
            snapshot, _ = self._queue.popleft()
            self.evaluated.append(snapshot.step)
            self._evaluation = None
        return True

    def finish(self) -> None:
        """Return once this rank has nothing left to do for the snapshots that were posted."""
        self._wait.until(lambda: self._unfinished() == 0)

    def _enqueue(self, snapshot: Snapshot) -> None:
        shares = {name: share.clone() for name, share in snapshot.shares.items()}
        # In RAM: on a GPU, an all-reduce that waits for the other rank would keep it from working.
        self._queue.append((snapshot, self._world.all_reduce(total(shares).cpu())))

    def _unfinished(self) -> int:
        if not self._evaluates:
            while self._queue and self._queue[0][1].done():
                self._queue.popleft()[1].result()
        return len(self._queue)
