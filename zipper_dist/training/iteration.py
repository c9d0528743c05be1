"""One iteration of all learners of a process, with sums over shards on their way meanwhile."""

import time
from collections import deque
from dataclasses import dataclass

from zipper_dist.activity import doing
from zipper_dist.data import Minibatch
from zipper_dist.distributed.communication import Pending
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.gradient import Sums


@dataclass
class _Going:
    """A learner in the middle of an iteration."""

    learner: BaseLearner
    sums: Sums
    pending: Pending | None = None  # the sum that it waits for
    seconds: float = 0.0  # of work so far


def step(run: RunContext, state: TrainState, batch: Minibatch, t: int) -> None:
    """Iteration ``t`` of every learner of this process: while the ranks that share one learner sum
    up its gradient, the next one attacks."""
    going = deque(_Going(learner, learner.sums(batch, t)) for learner in state.learners)
    while going:
        each = going.popleft()
        if each.pending is not None:
            with doing("all-reduce", learner=each.learner.name):
                run.wait.idly(each.pending.done)
                each.pending.result()
        start, result = time.perf_counter(), None
        with doing("training step", learner=each.learner.name):
            try:
                sums = next(each.sums)
            except StopIteration as end:
                result = end.value
        each.seconds += time.perf_counter() - start
        if result is not None:
            state.windows[each.learner.name].add(t, result, each.seconds)
        else:
            each.pending = run.world.all_reduce(sums, each.learner.name)
            going.append(each)
