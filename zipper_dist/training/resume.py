"""Continuing an interrupted run from its checkpoints."""

from __future__ import annotations

from dataclasses import asdict

from zipper_dist.checkpoint import format as checkpoint
from zipper_dist.checkpoint.format import CheckpointInfo, LearnerCheckpoint
from zipper_dist.metrics.telemetry import JsonLinesSink
from zipper_dist.training.async_validation import Snapshot
from zipper_dist.training.trainer import Timers, Trainer


def resume(trainer: Trainer, sink: JsonLinesSink) -> list[str]:
    """Bring ``trainer`` to where the newest usable checkpoints are; what to tell the person.

    The ranks agree on the checkpoints: each reports what it has for its learners, rank 0 chooses.
    """
    directory, world = trainer.directory.checkpoints, trainer.world
    found: dict[str, list[dict[str, object]]] = {}
    complaints: list[str] = []
    for learner in trainer.learners:
        usable, damaged = checkpoint.survey(directory, learner.name)
        found[learner.name] = [asdict(info) for info in usable]
        complaints += damaged
    reports = trainer.wait(world.gather("checkpoints", {"found": found, "damaged": complaints}))
    messages = [line for report in reports for line in report["damaged"]]
    parts = {
        name: [CheckpointInfo(**info) for info in infos]
        for report in reports
        for name, infos in report["found"].items()
    }
    leader = next(iter(trainer.config.learners))
    # Every rank chooses from the same reports, so all choose alike.
    chosen = checkpoint.choose(parts, leader, together=world.size == 1)
    if chosen is None:
        if any(parts.values()):
            messages.append(
                "no checkpoints that fit together were found; starting from iteration 1"
            )
        sink.trim({}) if world.rank == 0 else None
        return messages
    loaded = [
        checkpoint.load(checkpoint.path_of(directory, learner.name, chosen[learner.name].step))
        for learner in trainer.learners
    ]
    _restore(trainer, loaded, chosen[leader].evaluated)
    if world.rank == 0:
        last = {name: info.step for name, info in chosen.items()}
        sink.trim(last | {"global": max(chosen[leader].evaluated, default=0)})
    at = sorted({info.step for info in chosen.values()})
    messages.append(f"continuing from iteration {' and '.join(map(str, at))}")
    return messages


def _restore(trainer: Trainer, parts: list[LearnerCheckpoint], evaluated: list[int]) -> None:
    groups = [checkpoint.ungroup(part.tensors) for part in parts]
    for learner, part, tensors in zip(trainer.learners, parts, groups, strict=True):
        learner.restore(tensors["learner"])
        trainer.mixer.restore(
            learner.name, tensors["mixer"], part.notes["carry"], part.info.synced_at
        )
    first = parts[0]
    trainer.at = first.info.step
    trainer.timers = Timers(**first.notes["timers"])
    trainer.evaluator.history = first.notes["history"]
    device = trainer.world.plan.device
    looks = [
        Snapshot(
            step,
            {
                learner.name: tensors[f"look-{step}"]["share"].to(device)
                for learner, tensors in zip(trainer.learners, groups, strict=True)
            },
            {n: t.to(device) for n, t in groups[0].get(f"look-{step}-integers", {}).items()},
        )
        for step in first.info.kept
    ]
    trainer.validation.repost(looks, first.info.posted, evaluated)
