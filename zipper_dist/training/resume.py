"""Saving a run in checkpoints, and continuing it from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zipper_dist.activity import doing
from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.files import UNUSED
from zipper_dist.checkpoint.format import CheckpointInfo, LearnerCheckpoint
from zipper_dist.checkpoint.run_directory import identity_of
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
    """Write a checkpoint of every learner of this process, as they are after ``state.at``."""
    state.check_finite()
    state.timers.settle(run)
    directory = run.directory.checkpoints
    for learner in state.learners:
        if learner.name in state.led:
            part = _checkpoint(run, state, learner)
            part.notes |= _metrics_notes(run, state, learner.name)
            checkpoint.save(directory, part)
    # All have taken part in a redistribution, and in the evaluations that are not in progress.
    reached = max([state.mixer.synced_at, *state.validation.posted[:-2]])
    checkpoint.prune(directory, state.led, list(run.config.learners), reached)


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
    mine, parts, messages = _survey(run, state)
    first = run.config.first_learner
    chosen = checkpoint.choose(parts, first, state.assignment.together)
    if chosen is None and lost:
        raise UserError(
            f"the run in {run.directory.root} is complete, but for {', '.join(lost)}, missing or "
            "damaged; no checkpoints are left to restore from: put the files back, or train anew "
            f"with --resume never{''.join(f' ({line})' for line in messages)}"
        )
    for name in state.led:
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


def _survey(run: RunContext, state: TrainState) -> tuple[Parts, Parts, list[str]]:
    """The checkpoints that this rank can use of each of its learners; those that all ranks that
    train a learner can, of every learner; and a message for each that is left out."""
    directory, names = run.directory.checkpoints, list(run.config.learners)
    identity = identity_of(run.config, run.precision, state.assignment.shards)
    mine: Parts = {}
    left_out: list[str] = []
    for learner in state.learners:
        mine[learner.name], complaints = checkpoint.survey(directory, learner.name, identity)
        left_out += complaints
    found = {name: [asdict(info) for info in infos] for name, infos in mine.items()}
    reports = run.wait(run.world.gather("checkpoints", {"found": found, "left out": left_out}))
    parts: Parts = {}
    for name in names:
        seen = {rank: r["found"][name] for rank, r in enumerate(reports) if name in r["found"]}
        if any(seen.values()) and not all(seen.values()):
            some, none = (
                [str(r) for r in seen if bool(seen[r]) == there] for there in (True, False)
            )
            raise UserError(
                f"rank {', '.join(none)} sees no checkpoint of the {name} learner in {directory}, "
                f"and rank {', '.join(some)} does: give a --run-dir that all machines see, or "
                "continue on the machines, and with the placement, of before"
            )
        common = set.intersection(*({info["step"] for info in infos} for infos in seen.values()))
        first = next(iter(seen.values()))
        parts[name] = [CheckpointInfo(**info) for info in first if info["step"] in common]
    return mine, parts, list(dict.fromkeys(line for r in reports for line in r["left out"]))


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
        first, led = parts[0], [part for part in parts if part.info.learner in state.led]
        state.at = first.info.step
        if led:  # the times are those of the process that saved
            state.timers = Timers(**first.notes["timers"])
        state.validator.history = first.notes["history"]
        state.validator.best_weights = dict(first.groups.get("best", {}))
        snapshots = []
        for at in first.info.kept:
            shares = {p.info.learner: p.groups[f"look-{at}"]["share"].to(run.device) for p in led}
            integers = first.groups.get(f"look-{at}-integers", {})
            integers = {name: tensor.to(run.device) for name, tensor in integers.items()}
            snapshots.append(Snapshot(at, shares, integers))
        outbox = [record for part in led for record in part.notes["outbox"]]
    except (KeyError, TypeError, ValueError, RuntimeError, checkpoint.DamagedCheckpoint) as error:
        if failure := failure_of(error):
            raise failure from error
        raise UserError(
            f"{', '.join(map(str, paths))}: cannot be continued with the network and the data of "
            f"now ({in_one_line(error)}): give those that the run was begun with, or start over "
            "with --resume never"
        ) from error
    return _Restored(snapshots, first.info.posted, outbox)
