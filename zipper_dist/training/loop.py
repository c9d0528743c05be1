"""The training loop: the algorithm, and what each of its lines does on the ranks of a job."""

from __future__ import annotations

import time
from dataclasses import asdict

import torch

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.data import Minibatch
from zipper_dist.errors import TrainingDiverged
from zipper_dist.metrics.records import TrainingRecord
from zipper_dist.training.async_validation import Snapshot
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.mixing import total


def train(run: RunContext, state: TrainState) -> None:
    """Zipper, from the iteration after ``state.at`` to T.

    Every learner takes a step on the same minibatch; the global learner is the moving average of
    their mixture; from t′ on, every c iterations, the learners continue from it.
    """
    plan = state.plan
    for t in range(state.at + 1, plan.total_steps + 1):
        batch = state.loader.minibatch(t)
        for learner in state.learners:
            step(state, learner, batch, t)
        state.mixer.accumulate(t, {learner.name: learner.mixable for learner in state.learners})
        state.at = t
        report(run, state)
        if plan.validates_at(t):
            validate(state)
        if plan.redistributes_at(t):
            redistribute(run, state)
        if plan.validates_at(t):
            save(run, state)
        run.signals.check()


def step(state: TrainState, learner: BaseLearner, batch: Minibatch, t: int) -> None:
    """Iteration ``t`` of a learner, timed."""
    start = time.perf_counter()
    result = learner.step(batch, t)
    state.windows[learner.name].add(t, result, time.perf_counter() - start)


def validate(state: TrainState) -> None:
    """Post a snapshot of the global learner, which rank 0 evaluates while it waits.

    It waits itself only where evaluation cannot keep up. A snapshot that was posted already is not
    posted again.
    """
    check_finite(state)
    integers = {name: tensor.clone() for name, tensor in state.learners[0].state.integers.items()}
    state.validation.post(Snapshot(state.at, state.mixer.shares(), integers))


def redistribute(run: RunContext, state: TrainState) -> None:
    """Add the shares of the global learner up over all ranks; every learner continues from it."""
    check_finite(state)
    theta = run.wait(run.world.all_reduce(total(state.mixer.shares())))
    state.timers.syncs += 1
    state.mixer.sync(state.at, theta)
    for learner in state.learners:
        learner.load_global(theta)


def save(run: RunContext, state: TrainState) -> None:
    """Write a checkpoint of every learner of this process, as they are after ``state.at``."""
    check_finite(state)
    state.timers.settle(run.wait, run.world)
    directory = run.directory.checkpoints
    for learner in state.learners:
        checkpoint.save(directory, _checkpoint(state, learner))
    checkpoint.prune(directory, [each.name for each in state.learners], list(run.config.learners))


def report(run: RunContext, state: TrainState) -> None:
    """Report a window of iterations of this rank's learners where one is due."""
    run.metrics.poll()
    if state.at % run.config.log_every != 0 and state.at != state.plan.total_steps:
        return
    state.timers.settle(run.wait, run.world)
    timers = state.timers
    for learner in state.learners:
        window = state.windows[learner.name].close()
        if window is None:
            continue
        weights = state.weights(window.step)
        one_or_two = len(weights) <= 2
        record = TrainingRecord(
            **asdict(window),
            epoch=round(state.plan.epoch(window.step), 4),
            lr=learner.lr(window.step),
            gamma=list(weights.values())[-1] if one_or_two else None,
            weight=None if one_or_two else weights[learner.name],
            train_seconds=round(timers.wall_seconds - timers.eval_seconds, 4),
            wait_seconds=round(timers.wait_seconds, 4),
        )
        run.metrics.report(record.as_json())


def work_while_waiting(run: RunContext, state: TrainState) -> bool:
    """Do one unit of evaluation; False if there is none to do now."""
    start = time.perf_counter()
    worked = state.validation.work()
    if worked:
        state.timers.eval_seconds += time.perf_counter() - start
    run.metrics.poll()
    return worked


def check_finite(state: TrainState) -> None:
    """Raise TrainingDiverged rather than mix, save or evaluate what is not finite."""
    for learner in state.learners:
        state.windows[learner.name].check()
        if not torch.isfinite(learner.state.flat).all():
            raise TrainingDiverged(
                f"weights of the {learner.name} learner are NaN or infinite after iteration "
                f"{state.at}; the checkpoints up to then are kept"
            )


def _checkpoint(state: TrainState, learner: BaseLearner) -> checkpoint.LearnerCheckpoint:
    validation = state.validation
    info = checkpoint.CheckpointInfo(
        learner=learner.name,
        step=state.at,
        synced_at=state.mixer.synced_at,
        posted=list(validation.posted),
        kept=[snapshot.step for snapshot in validation.kept],
        evaluated=list(validation.evaluated),
    )
    groups = {"learner": learner.tensors(), "mixer": state.mixer.tensors(learner.name)}
    for snapshot in validation.kept:
        groups[f"look-{snapshot.step}"] = {"share": snapshot.shares[learner.name]}
        groups[f"look-{snapshot.step}-integers"] = dict(snapshot.integers)
    notes = {
        "carry": state.mixer.carry,
        "timers": state.timers.figures(),
        "history": state.evaluator.history,
    }
    return checkpoint.LearnerCheckpoint(info, checkpoint.group(groups), notes)
