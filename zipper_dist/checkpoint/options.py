"""The options of runs as JSON, and whether two runs are the same by theirs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from zipper_dist.config.files import flattened
from zipper_dist.config.schema import Precision, TrainConfig

# Where a run lives, where its images are kept, where its metrics and timelines go, whether it is
# continued, how long its ranks wait for a sign of life and which of them train what do not change
# its result; the number of shards does.
STARTED = {"run_dir", "resume", "metrics", "trace", "timeout", "data.store", "data.cache"}
PLACED = {"placement.mode", "placement.ranks", "placement.shards"}
NOT_COMPARED = STARTED | PLACED
AS_BEFORE = {
    "data.skip_unreadable": False,
    "data.augment": "none",
    "data.extra_fraction": 0.7,
    "eval.best_clean": 0.0,
    "mix.first_count": 1,
    "mix.window": "1",
    "model.options": [],
    "schedules_by": "iteration",
    "learners.NAME.attack.start": "auto",
    "learners.NAME.augment": "none",
    "learners.NAME.beta2": 0.999,
    "learners.NAME.keep_average": False,
    "learners.NAME.omega": 0.0,
    "learners.NAME.optimizer": "sgd",
    "learners.NAME.third_pass": False,
}
"""Options that older runs do not name, each with the value that means what these did."""


def as_json(value: Any) -> Any:
    """Options as plain JSON values; schedules and intervals as they are written in options."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if type(value).__str__ is not object.__str__:
            return str(value)
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], ignored: Collection[str] = NOT_COMPARED
) -> list[str]:
    """A line for each option that differs between two sets of options."""
    old, new = flattened(there), flattened(here)
    lines = []
    for name in sorted((old.keys() | new.keys()) - set(ignored)):
        was, is_now = (options.get(name, unnamed(name)) for options in (old, new))
        if was != is_now:
            lines.append(f"--{name.replace('_', '-')} {was} there, {is_now} now")
    return [" ".join(line.split()) for line in lines]


def as_compared(
    options: Mapping[str, Any], ignored: Collection[str] = NOT_COMPARED
) -> dict[str, Any]:
    """Those of the options, by dotted names, that tell a run from others: without what is
    ``ignored``, and what means the same as not naming it; 1 and 1.0 are equal."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in options.items()
        if name not in ignored and value is not None and unnamed(name) != value
    }


def unnamed(name: str) -> Any:
    """What an option means that a run does not name."""
    return AS_BEFORE.get(re.sub(r"^learners\.[^.]+\.", "learners.NAME.", name))


def identity_of(config: TrainConfig, precision: Precision, shards: int) -> str:
    """A SHA-256 (hex) of what :meth:`.RunDirectory.check_same` compares: all that a run's weights
    depend on, machine and versions apart. What that finds equal has equal digests."""
    resolved: dict[str, Any] = {"resolved precision": precision}
    if shards != 1:  # one is what runs have that do not name it
        resolved["resolved shards"] = shards
    compared = as_compared(flattened(as_json(config)) | resolved)
    return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()
