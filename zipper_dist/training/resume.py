"""Saving a run in checkpoints, and continuing it from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.format import CheckpointInfo, LearnerCheckpoint
from zipper_dist.metrics.records import GLOBAL, Record
from zipper_dist.training.context import RunContext, Timers, TrainState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.validation import Snapshot


@dataclass(frozen=True)
class Resumed:
    """Where a run continues: ``messages`` for the user, ``last_steps`` for the sinks, and records
    of this rank that these get again."""

    messages: list[str]
    last_steps: Mapping[str, int] = field(default_factory=dict)
    again: list[Record] = field(default_factory=list)


def save(run: RunContext, state: TrainState) -> None:
    """Write a checkpoint of every learner of this process, as they are after ``state.at``."""
    state.check_finite()
    state.timers.settle(run)
    directory = run.directory.checkpoints
    for learner in state.learners:
        part = _checkpoint(state, learner)
        part.notes |= _metrics_notes(run, state, learner.name)
        checkpoint.save(directory, part)
    checkpoint.prune(directory, [each.name for each in state.learners], list(run.config.learners))


def _checkpoint(state: TrainState, learner: BaseLearner) -> LearnerCheckpoint:
    validation = state.validation
    info = CheckpointInfo(
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
        "timers": asdict(state.timers),
        "history": state.validator.history,
    }
    return LearnerCheckpoint(info, groups, notes)


def _metrics_notes(run: RunContext, state: TrainState, learner: str) -> dict[str, Any]:
    """The learner's open window, and those of its records that may not be written yet."""
    leads = learner == next(iter(run.config.learners))  # on rank 0, which evaluates
    names = {learner, GLOBAL} if leads else {learner}
    return {"window": state.windows[learner].state(), "outbox": run.metrics.unwritten(names)}


def resume(run: RunContext, state: TrainState) -> Resumed:
    """Bring ``state`` to the newest checkpoints that fit together: each rank reports what it has
    for its learners, and all choose alike."""
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
            messages.append("no checkpoints fit together; starting from iteration 1")
        return Resumed(messages)
    loaded = [
        checkpoint.load(checkpoint.path_of(directory, learner.name, chosen[learner.name].step))
        for learner in state.learners
    ]
    evaluated = chosen[leader].evaluated
    _restore(run, state, loaded, evaluated)
    for part in loaded:
        state.windows[part.info.learner].restore(part.notes["window"], part.info.step)
    steps = {name: info.step for name, info in chosen.items()}
    at = " and ".join(map(str, sorted(set(steps.values()))))
    messages.append(f"continuing from iteration {at}")
    outbox = [record for part in loaded for record in part.notes["outbox"]]
    unwritten: dict[str, int] = {}
    for record in reversed(outbox):
        unwritten[record["learner"]] = record["step"]
    last_steps = steps | {GLOBAL: max(evaluated, default=0)}
    for first in run.wait(run.world.gather("unwritten", unwritten)):
        last_steps |= {name: step - 1 for name, step in first.items()}
    return Resumed(messages, last_steps, outbox)


def _restore(
    run: RunContext, state: TrainState, parts: list[LearnerCheckpoint], evaluated: list[int]
) -> None:
    for learner, part in zip(state.learners, parts, strict=True):
        learner.restore(part.groups["learner"])
        state.mixer.restore(
            learner.name, part.groups["mixer"], part.notes["carry"], part.info.synced_at
        )
    first = parts[0]
    state.at = first.info.step
    state.timers = Timers(**first.notes["timers"])
    state.validator.history = first.notes["history"]
    snapshots = []
    for at in first.info.kept:
        shares = {p.info.learner: p.groups[f"look-{at}"]["share"].to(run.device) for p in parts}
        integers = first.groups.get(f"look-{at}-integers", {})
        integers = {name: tensor.to(run.device) for name, tensor in integers.items()}
        snapshots.append(Snapshot(at, shares, integers))
    state.validation.repost(snapshots, first.info.posted, evaluated)
