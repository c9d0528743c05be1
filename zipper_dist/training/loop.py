"""The training loop: the algorithm, and what each of its lines does on the ranks of a job."""

from dataclasses import replace

from torch import Tensor

from zipper_dist.activity import begin_iteration, doing
from zipper_dist.training.agreement import check_agreement
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.guides import copy_guides
from zipper_dist.training.iteration import step
from zipper_dist.training.resume import save
from zipper_dist.training.validation import Snapshot


def train(run: RunContext, state: TrainState) -> None:
    """Zipper, from the iteration after ``state.at`` to T.

    Every learner takes a step on the same minibatch; the global learner is the moving average of
    their mixture; from t′ on, at the end of every c iterations, the learners continue from it.
    """
    plan = state.plan
    for t in range(state.at + 1, plan.total_steps + 1):
        run.stop.begin(t)
        begin_iteration(t)
        step(run, state, state.loader.minibatch(t), t)
        state.mixer.accumulate(t, {learner.name: learner.mixable for learner in state.learners})
        state.at = t
        report(run, state)
        if plan.validates_at(t):
            validate(state)
        if plan.redistributes_at(t):
            redistribute(run, state)
        if plan.guides_at(t):
            copy_guides(run, state)
        if plan.saves_at(t):
            save(run, state)
        run.wait.idly(run.stop.listen)
        run.stop.check()  # ends the run


def complete_iteration(run: RunContext, state: TrainState) -> None:
    """Before a continued run goes on: what a signal kept from being done after ``state.at``."""
    if state.plan.validates_at(state.at):
        validate(state)
    if state.plan.redistributes_at(state.at) and state.mixer.synced_at < state.at:
        redistribute(run, state)
    if state.plan.guides_at(state.at) and state.mixer.synced_at < state.at:
        copy_guides(run, state)


@doing("evaluating")
def validate(state: TrainState) -> None:
    """Post a snapshot of the global learner, which ranks evaluate while they wait."""
    state.check_finite()
    integers = {name: tensor.clone() for name, tensor in state.learners[0].state.integers.items()}
    state.validation.post(Snapshot(state.at, state.mixer.shares(), integers))


@doing("redistribution")
def redistribute(run: RunContext, state: TrainState) -> None:
    """Every learner continues from the global learner."""
    state.check_finite()
    theta = global_learner(run, state)
    check_agreement(run, state, theta)
    state.mixer.sync(state.at, theta)
    for learner in state.learners:
        state.windows[learner.name].distance = learner.distance(theta)
        learner.load_global(theta)


def global_learner(run: RunContext, state: TrainState) -> Tensor:
    """θ_g, flat: the sum of the shares of all ranks, which all take part."""
    share = state.mixer.total(state.mixer.shares())
    theta: Tensor = run.wait(run.world.all_reduce(share))
    state.timers.syncs += 1
    return theta.to(state.learners[0].state.flat.dtype)


@doing("reporting")
def report(run: RunContext, state: TrainState) -> None:
    """Report a window of iterations of the learners that this rank leads where one is due."""
    run.metrics.poll()
    if state.at % run.config.log_every != 0 and state.at != state.plan.total_steps:
        return
    state.timers.settle(run)
    timers = state.timers
    weights = state.mixer.weights(state.at)
    one_or_two = len(weights) <= 2
    for learner in state.learners:
        record = state.windows[learner.name].close()
        if record and learner.name in state.led:
            record = replace(
                record,
                epoch=round(state.plan.epoch(state.at), 4),
                lr=learner.lr(state.at),
                gamma=list(weights.values())[-1] if one_or_two else None,
                weight=None if one_or_two else weights[learner.name],
                train_seconds=round(timers.wall_seconds - timers.eval_seconds, 4),
                wait_seconds=round(timers.wait_seconds, 4),
            )
            run.metrics.report(record.as_json())


def work_while_waiting(run: RunContext, state: TrainState) -> bool:
    """Do one unit of evaluation; False if there is none to do now."""
    with state.timers.evaluating():
        worked = state.validation.work()
    run.metrics.poll()
    return worked
