"""What a run directory holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from zipper_dist.checkpoint.format import steps_of

Record = dict[str, Any]

LEARNERS = ("natural", "adversarial")
WEIGHTS = ("natural", "adversarial", "global", "best")


def newest(run: Path, learner: str) -> int:
    """The iteration of the newest checkpoint of ``learner``."""
    return steps_of(run / "checkpoints", learner)[0]


def records(path: Path) -> list[Record]:
    """The records of a metrics file, but for a line that is being written."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def told(run: Path) -> Counter[str]:
    """The records of a run without their times, in no order."""
    times = {"time", "seconds", "train_seconds", "wait_seconds", "images_per_second"}
    return Counter(
        json.dumps({key: value for key, value in record.items() if key not in times})
        for record in records(run / "metrics.jsonl")
    )


def evaluations(run: Path) -> list[Record]:
    """The validation history of a run directory, without its timings."""
    found = [record for record in records(run / "metrics.jsonl") if record["learner"] == "global"]
    return [{key: r[key] for key in ("step", "clean", "robust")} for r in found]


def summary(run: Path) -> dict[str, Any]:
    """What summary.json says."""
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def weights(run: Path) -> dict[str, bytes]:
    """The weight files of a run directory, as bytes."""
    return {name: (run / f"{name}.safetensors").read_bytes() for name in WEIGHTS}


def assert_same_result(run: Path, other: Path) -> None:
    """Two run directories hold the same weights, to the bit, and the same validation history."""
    ours, theirs = weights(run), weights(other)
    assert [name for name in WEIGHTS if ours[name] != theirs[name]] == []
    assert evaluations(run) == evaluations(other)
    assert summary(run)["final"] == summary(other)["final"]
    assert summary(run)["best"]["step"] == summary(other)["best"]["step"]
