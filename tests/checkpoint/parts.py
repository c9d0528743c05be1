"""What is in checkpoint files of a run."""

from __future__ import annotations

from zipper_dist.checkpoint.format import CheckpointInfo

BOTH = ["natural", "adversarial"]
FP32 = {"precision": "fp32", "compiled": False, "shards": 1}  # what config.json resolves
THIS = 64 * "1"  # identity of the run


def info_of(
    learner: str,
    step: int,
    synced_at: int = 0,
    posted: list[int] | None = None,
    kept: list[int] | None = None,
    evaluated: list[int] | None = None,
) -> CheckpointInfo:
    return CheckpointInfo(learner, step, synced_at, posted or [], kept or [], evaluated or [], THIS)
