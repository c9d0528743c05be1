"""Saving a run in checkpoints, and continuing it from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zipper_dist.activity import doing
from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.files import UNUSED
from zipper_dist.checkpoint.format import CheckpointInfo, LearnerCheckpoint
from zipper_dist.checkpoint.options import identity_of
from zipper_dist.config.json_shape import NUMBER, fits
from zipper_dist.errors import UserError, failure_of, in_one_line
from zipper_dist.metrics.records import GLOBAL, Record
from zipper_dist.training.context import RunContext, Timers, TrainState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.validation import Snapshot

NOTES = {
    "carry": NUMBER,
    "timers": {str: NUMBER},
    "history": [{"step": int, "clean": NUMBER, "robust": NUMBER}],
    "window": dict,
    "outbox": [{"learner": str, "step": int}],
}
"""What a run goes by in the notes of a checkpoint: see :func:`fits`."""


@dataclass(frozen=True)
class Resumed:
    """Where a run continues: ``messages`` for the user, ``last_steps`` for the sinks, and records
    of this rank that these get again."""

    messages: list[str]
    last_steps: Mapping[str, int] = field(default_factory=dict)
    again: list[Record] = field(default_factory=list)


@doing("checkpoint")
def save(run: RunContext, state: TrainState) -> None:
    """Write a checkpoint of every learner that this process saves, as after ``state.at``."""
    state.check_finite()
    state.timers.settle(run)
    directory = run.directory.checkpoints
    for learner in state.learners:
        if learner.name in state.saved:
            part = _checkpoint(run, state, learner)
            part.notes |= _metrics_notes(run, state, learner.name)
            checkpoint.save(directory, part)
    # All have taken part in a redistribution, and in the evaluations that are not in progress.
    reached = max([state.mixer.synced_at, *state.validation.posted[:-2]])
    learners, here = list(run.config.learners), state.directories[run.world.rank]
    elsewhere = [
        name
        for name in learners
        if all(state.directories[rank] != here for rank in state.assignment.ranks_of(name))
    ]
    checkpoint.prune(directory, state.saved, learners, reached, elsewhere=elsewhere)


def _checkpoint(run: RunContext, state: TrainState, learner: BaseLearner) -> LearnerCheckpoint:
    validation = state.validation
    info = CheckpointInfo(
        learner=learner.name,
        step=state.at,
        synced_at=state.mixer.synced_at,
        posted=list(validation.posted),
        kept=[snapshot.step for snapshot in validation.kept],
        evaluated=list(validation.evaluated),
        identity=identity_of(run.config, run.precision, state.assignment.shards),
    )
    groups = {"learner": learner.tensors(), "mixer": state.mixer.tensors(learner.name)}
    if learner.name == run.config.first_learner:
        groups["best"] = state.validator.best_weights
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
    names = {learner, GLOBAL} if learner == run.config.first_learner else {learner}
    return {"window": state.windows[learner].state(), "outbox": run.metrics.unwritten(names)}


def resume(run: RunContext, state: TrainState, lost: Sequence[str] = ()) -> Resumed:
    """Bring ``state`` to the newest checkpoints that fit together. UserError if they do not fit the
    run, or there are none for a run that was complete but for ``lost`` files of weights."""
    mine, copies, messages = _survey(run, state)
    parts = {name: in_common(of_learner) for name, of_learner in copies.items()}
    first = run.config.first_learner
    chosen = checkpoint.choose(parts, first, state.assignment.together)
    if chosen is None and lost:
        raise UserError(
            f"the run in {run.directory.root} is complete, but for {', '.join(lost)}, missing or "
            "damaged; no checkpoints are left to restore from: put the files back, or train anew "
            f"with --resume never{''.join(f' ({line})' for line in messages)}"
        )
    if chosen is None:
        check_directories(run, state, copies)
    for name in state.saved:
        step = None if chosen is None else chosen[name].step
        checkpoint.keep_only(run.directory.checkpoints, mine[name], name, step)
    if chosen is None:
        if messages or any(parts.values()):
            kept = f"those there are kept as *.ckpt{UNUSED}"
            messages.append(f"no checkpoints fit together, so starting from iteration 1; {kept}")
        return Resumed(messages)
    if lost:
        messages.append(f"weights that are missing or damaged are restored: {', '.join(lost)}")
        run.directory.set_aside(set(lost).intersection(state.weights_files))
    evaluated = chosen[first].evaluated
    restored = _restore(run, state, chosen)
    state.validation.repost(restored.snapshots, restored.posted, evaluated)
    if state.chief and (wrong := state.validator.write_best()):
        messages.append(f"{run.directory.best.name} was {wrong}: restored from a checkpoint")
    steps = {name: info.step for name, info in chosen.items()}
    at = " and ".join(map(str, sorted(set(steps.values()))))
    messages.append(f"continuing from iteration {at}")
    unwritten: dict[str, int] = {}
    for record in reversed(restored.outbox):
        unwritten[record["learner"]] = record["step"]
    last_steps = steps | {GLOBAL: max(evaluated, default=0)}
    for earliest in run.wait(run.world.gather("unwritten", unwritten)):
        last_steps |= {name: step - 1 for name, step in earliest.items()}
    return Resumed(messages, last_steps, restored.outbox)


Parts = dict[str, list[CheckpointInfo]]
Copies = dict[str, list[list[CheckpointInfo]]]


def _survey(run: RunContext, state: TrainState) -> tuple[Parts, Copies, list[str]]:
    """The checkpoints that this rank can use of each of its learners; those that each rank that
    trains a learner can, of every learner; and a message for each that is left out."""
    directory, names = run.directory.checkpoints, list(run.config.learners)
    identity = identity_of(run.config, run.precision, state.assignment.shards)
    mine: Parts = {}
    left_out: list[str] = []
    for learner in state.learners:
        mine[learner.name], complaints = checkpoint.survey(directory, learner.name, identity)
        left_out += complaints
    found = {name: [asdict(info) for info in infos] for name, infos in mine.items()}
    report = {
        "found": found,
        "left out": left_out,
        "files": {name: len(checkpoint.steps_of(directory, name)) for name in names},
        "begun": run.directory.config.exists(),
    }
    reports = run.wait(run.world.gather("checkpoints", report))
    messages = list(dict.fromkeys(line for r in reports for line in r["left out"]))
    copies: Copies = {}
    for name in names:
        seen = [r["found"][name] for r in reports if name in r["found"]]
        messages += missing_elsewhere(run, state, name, reports)
        copies[name] = [[CheckpointInfo(**info) for info in infos] for infos in seen]
    return mine, copies, messages


def in_common(copies: Sequence[Sequence[CheckpointInfo]]) -> list[CheckpointInfo]:
    """Those of a learner that all ranks have, and from which all have the same left to do. What one
    of them does not know to be evaluated, all evaluate again."""
    common = []
    for info in copies[0]:
        same = [other for infos in copies for other in infos if _alike(other, info)]
        if len(same) == len(copies):
            known = set.intersection(*(set(other.evaluated) for other in same))
            common.append(replace(info, evaluated=sorted(known)))
    return common


def _alike(one: CheckpointInfo, other: CheckpointInfo) -> bool:
    """Whether ranks that continue from them take part in the same collectives. A signal may stop
    them on different sides of a redistribution or a snapshot after the same iteration."""
    return replace(one, evaluated=[]) == replace(other, evaluated=[])


def check_directories(run: RunContext, state: TrainState, copies: Copies) -> None:
    """UserError where no checkpoints fit together, though all ranks have some, in directories of
    their own: one of these is of an earlier part of the run."""
    if len(set(state.directories)) > 1 and all(all(each) for each in copies.values()):
        raise UserError(
            f"the checkpoints in {run.directory.checkpoints} of different machines do not fit "
            "together: continue on the machines, and with the placement, of before, or start over "
            "with --resume never"
        )


def missing_elsewhere(
    run: RunContext, state: TrainState, learner: str, reports: Sequence[dict[str, Any]]
) -> list[str]:
    """A message where ranks see no checkpoint of a learner that they train, and ranks with another
    run directory do; UserError unless these have only one, which others had no time to write."""
    ranks = state.assignment.ranks_of(learner)
    none = [rank for rank in ranks if not reports[rank]["found"][learner]]
    blind = {state.directories[rank] for rank in none}
    some = [
        rank
        for rank, each in enumerate(reports)
        if each["files"][learner] and state.directories[rank] not in blind
    ]
    if not none or not some:
        return []
    without, with_ = (", ".join(map(str, ranks)) for ranks in (none, some))
    missing = f"rank {without} sees no checkpoint of the {learner} learner"
    begun = all(reports[r]["begun"] and not any(reports[r]["files"].values()) for r in none)
    if begun and all(reports[rank]["files"][learner] == 1 for rank in some):
        return [missing]
    raise UserError(
        f"{missing} in {run.directory.checkpoints}, and rank {with_} does: give a --run-dir that "
        "all machines see, or continue on the machines, and with the placement, of before"
    )


@dataclass(frozen=True)
class _Restored:
    """What checkpoints leave to be done again: snapshots to evaluate, with the iterations of all so
    far, and records that may not have been written."""

    snapshots: list[Snapshot]
    posted: list[int]
    outbox: list[Record]


def _restore(run: RunContext, state: TrainState, chosen: Mapping[str, CheckpointInfo]) -> _Restored:
    """Restore what this rank trains."""
    directory = run.directory.checkpoints
    evaluated = chosen[run.config.first_learner].evaluated
    paths = [
        checkpoint.path_of(directory, each.name, chosen[each.name].step) for each in state.learners
    ]
    try:
        parts = [checkpoint.load(path) for path in paths]
        if not all(fits(part.notes, NOTES) for part in parts):
            raise ValueError("notes of another version")
        for learner, part in zip(state.learners, parts, strict=True):
            learner.restore(part.groups["learner"])
            state.mixer.restore(
                learner.name, part.groups["mixer"], part.notes["carry"], part.info.synced_at
            )
            state.windows[learner.name].restore(part.notes["window"], part.info.step)
        first, saved = parts[0], [part for part in parts if part.info.learner in state.saved]
        state.at = first.info.step
        if saved:  # the times are those of the process that saved
            state.timers = Timers(**first.notes["timers"])
        state.validator.history = first.notes["history"]
        best = state.validator.best
        state.validator.history = [r for r in first.notes["history"] if r["step"] in evaluated]
        if best in state.validator.history:
            state.validator.best_weights = dict(first.groups.get("best", {}))
        snapshots = []
        for at in first.info.kept:
            shares = {p.info.learner: p.groups[f"look-{at}"]["share"].to(run.device) for p in saved}
            integers = first.groups.get(f"look-{at}-integers", {})
            integers = {name: tensor.to(run.device) for name, tensor in integers.items()}
            snapshots.append(Snapshot(at, shares, integers))
        outbox = [record for part in saved for record in part.notes["outbox"]]
    except (KeyError, TypeError, ValueError, RuntimeError, checkpoint.DamagedCheckpoint) as error:
        if failure := failure_of(error):
            raise failure from error
        raise UserError(
            f"{', '.join(map(str, paths))}: cannot be continued with the network and the data of "
            f"now ({in_one_line(error)}): give those that the run was begun with, or start over "
            "with --resume never"
        ) from error
    return _Restored(snapshots, first.info.posted, outbox)
