"""Continuing an interrupted run from its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.format import CheckpointInfo, LearnerCheckpoint
from zipper_dist.training.async_validation import Snapshot
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.loop import redistribute, save, validate
from zipper_dist.training.timers import Timers


@dataclass(frozen=True)
class Resumed:
    """Where a run continues.

    Attributes:
        messages: what to tell the person.
        last_steps: the last iteration of each learner, and the last evaluation of the global one,
            that is not going to be recorded again; empty if the run starts from iteration 1.
    """

    messages: list[str]
    last_steps: Mapping[str, int] = field(default_factory=dict)


def resume(run: RunContext, state: TrainState) -> Resumed:
    """Bring ``state`` to where the newest checkpoints are that fit together.

    The ranks agree on them: each reports what it has for its learners, and all choose alike.
    """
    directory = run.directory.checkpoints
    found: dict[str, list[dict[str, object]]] = {}
    damaged: list[str] = []
    for learner in state.learners:
        usable, complaints = checkpoint.survey(directory, learner.name)
        found[learner.name] = [asdict(info) for info in usable]
        damaged += complaints
    reports = run.wait(run.world.gather("checkpoints", {"found": found, "damaged": damaged}))
    messages = [line for report in reports for line in report["damaged"]]
    parts = {
        name: [CheckpointInfo(**info) for info in infos]
        for report in reports
        for name, infos in report["found"].items()
    }
    leader = next(iter(run.config.learners))
    chosen = checkpoint.choose(parts, leader, together=run.world.size == 1)
    if chosen is None:
        if any(parts.values()):
            messages.append(
                "no checkpoints that fit together were found; starting from iteration 1"
            )
        return Resumed(messages)
    loaded = [
        checkpoint.load(checkpoint.path_of(directory, learner.name, chosen[learner.name].step))
        for learner in state.learners
    ]
    evaluated = chosen[leader].evaluated
    _restore(run, state, loaded, evaluated)
    steps = {name: info.step for name, info in chosen.items()}
    at = " and ".join(map(str, sorted(set(steps.values()))))
    messages.append(f"continuing from iteration {at}")
    return Resumed(messages, steps | {"global": max(evaluated, default=0)})


def complete_iteration(run: RunContext, state: TrainState) -> None:
    """Do what an interruption left undone of iteration ``state.at``.

    A signal may have come while this rank waited for a redistribution, which the other ranks then
    had not reached.
    """
    t, plan = state.at, state.plan
    if plan.validates_at(t):
        validate(state)
    if plan.redistributes_at(t) and state.mixer.synced_at < t:
        redistribute(run, state)
    if plan.validates_at(t):
        save(run, state)


def _restore(
    run: RunContext, state: TrainState, parts: list[LearnerCheckpoint], evaluated: list[int]
) -> None:
    groups = [checkpoint.ungroup(part.tensors) for part in parts]
    for learner, part, tensors in zip(state.learners, parts, groups, strict=True):
        learner.restore(tensors["learner"])
        state.mixer.restore(
            learner.name, tensors["mixer"], part.notes["carry"], part.info.synced_at
        )
    first = parts[0]
    state.at = first.info.step
    state.timers = Timers(**first.notes["timers"])
    state.evaluator.history = first.notes["history"]
    device = run.device
    snapshots = [
        Snapshot(
            step,
            {
                learner.name: tensors[f"look-{step}"]["share"].to(device)
                for learner, tensors in zip(state.learners, groups, strict=True)
            },
            {n: t.to(device) for n, t in groups[0].get(f"look-{step}-integers", {}).items()},
        )
        for step in first.info.kept
    ]
    state.validation.repost(snapshots, first.info.posted, evaluated)
