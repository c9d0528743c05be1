"""The run directory: its files, and whether what is there may be continued."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

import zipper_dist
from zipper_dist.checkpoint.files import check_writable, write_atomically
from zipper_dist.config.files import flattened
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.errors import UserError

# Where a run lives, where its metrics go, whether it is continued and how long its ranks wait for
# a sign of life do not change its result.
NOT_COMPARED = {"run_dir", "resume", "metrics", "timeout"}


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


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """A line for each option that differs between two sets of options."""
    old, new = flattened(there), flattened(here)
    return [
        f"--{name.replace('_', '-')} {old.get(name)} there, {new.get(name)} now"
        for name in sorted((old.keys() | new.keys()) - NOT_COMPARED)
        if old.get(name) != new.get(name)
    ]


class RunDirectory:
    """Paths of a run, as the documentation lists them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.metrics = root / "metrics.jsonl"
        self.summary = root / "summary.json"
        self.checkpoints = root / "checkpoints"
        self.best = root / "best.safetensors"

    @staticmethod
    def of(config: TrainConfig) -> RunDirectory:
        """The directory that ``config`` asks for."""
        name = config.recipe.rpartition(":")[2]  # of a recipe outside the package: its function
        return RunDirectory(config.run_dir or Path("runs") / f"{name}-seed{config.seed}")

    def weights(self, name: str) -> Path:
        """Where the weights of a learner are at the end of training."""
        return self.root / f"{name}.safetensors"

    def prepare(self) -> None:
        """Create the directory; raises UserError if it cannot be written."""
        check_writable(self.root, "--run-dir", self.checkpoints)

    def clear(self, learners: list[str]) -> None:
        """Delete the files of an earlier run; other files stay."""
        for name in [*learners, "global", "best"]:
            self.weights(name).unlink(missing_ok=True)
        evaluations = self.root.glob("evaluation*.json")
        for path in (self.config, self.metrics, self.summary, *evaluations):
            path.unlink(missing_ok=True)
        for path in self.checkpoints.glob("*.ckpt"):
            path.unlink()

    def check_same(self, config: TrainConfig, precision: Precision) -> None:
        """Raise UserError, naming the options, if another configuration was begun here."""
        if not self.config.exists():
            return
        try:
            there = json.loads(self.config.read_text())
            was = there["resolved"]["precision"]
            found = differences(there["options"], as_json(config))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "give another --run-dir, or start over with --resume never"
            raise UserError(f"{self.config} is damaged; {hint}") from error
        if was != precision:
            found.append(f"--precision {config.precision} meant {was} there, {precision} here")
        if found:
            raise UserError(
                f"{self.root} holds a run with other options ({'; '.join(found)}): give the same "
                "options to continue it, another --run-dir, or --resume never to start over"
            )

    def finished(self) -> dict[str, Any] | None:
        """The summary of the run if it is complete."""
        if not self.summary.exists():
            return None
        try:
            return dict(json.loads(self.summary.read_text()))
        except (TypeError, ValueError) as error:
            hint = "delete it to finish the run again"
            raise UserError(f"{self.summary} is damaged; {hint}") from error

    def write_config(
        self, config: TrainConfig, precision: Precision, compiled: bool, devices: list[str]
    ) -> None:
        """Write config.json: options, what ``auto`` came to, versions, host and devices."""
        about = {
            "options": as_json(config),
            "resolved": {"precision": precision, "compiled": compiled},
            "command": sys.argv,
            "versions": {
                "zipper_dist": zipper_dist.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": version("torchvision"),
                "numpy": numpy.__version__,
            },
            "host": platform.node(),
            "processor": platform.processor() or platform.machine(),
            "devices": devices,
        }
        write_json(self.config, about)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path``, atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())
