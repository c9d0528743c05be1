"""Whether two run directories hold the same result."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

TIMES = {"time", "seconds", "train_seconds", "wait_seconds", "images_per_second"}
"""Fields of metrics.jsonl that differ from run to run."""

RESULTS = ("steps", "redistributions", "final", "sha256")
"""Fields of summary.json that depend on nothing but options."""


def differences(run: Path, other: Path) -> list[str]:
    """What differs: weights files by name, what summary.json says of the networks, and records of
    metrics.jsonl but for times and order."""
    found = []
    for path in sorted(other.glob("*.safetensors")):
        mine = run / path.name
        if not mine.exists():
            found.append(f"{path.name} is missing")
        elif mine.read_bytes() != path.read_bytes():
            found.append(f"{path.name} differs")
    mine, wanted = (json.loads((each / "summary.json").read_text()) for each in (run, other))
    for key in RESULTS:
        if mine[key] != wanted[key]:
            found.append(f"summary.json: {key} {mine[key]}, not {wanted[key]}")
    ours, theirs = _records(run), _records(other)
    for what, records in (("missing", theirs - ours), ("too many", ours - theirs)):
        found += [f"metrics.jsonl: {what}: {record}" for record in records.elements()]
    return found


def _records(run: Path) -> Counter[str]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return Counter(_without_times(json.loads(line)) for line in lines)


def _without_times(record: dict[str, object]) -> str:
    return json.dumps({key: record[key] for key in sorted(record.keys() - TIMES)})
