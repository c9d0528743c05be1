"""The run directory: its files, and whether what is there may be continued."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy
import torch

import zipper_dist
from zipper_dist.checkpoint.files import (
    UNUSED,
    check_writable,
    remove_leftovers,
    set_aside,
    write_atomically,
)
from zipper_dist.checkpoint.options import as_json, differences
from zipper_dist.checkpoint.weights import check_weights
from zipper_dist.config.json_shape import NUMBER, read_json
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.errors import UserError

RESOLVED = {
    "precision": str,
    "shards": (int, type(None)),
    "normalise": (type(None), [NUMBER]),
    "image_size": (type(None), int),
}
CONFIG = {"options": dict, "resolved": RESOLVED}
SUMMARY = {
    "recipe": str,
    "steps": int,
    "wall_seconds": NUMBER,
    "evaluation_attack": (
        {"steps": int, "norm": str, "eps": NUMBER},
        {"steps": int, "norm": type(None), "threats": [{"norm": str, "eps": NUMBER}]},
    ),
    "final": {"images": int, "learners": {str: {"clean": NUMBER, "robust": NUMBER}}},
    "best": (type(None), {"step": int, "clean": NUMBER, "robust": NUMBER}),
    "sha256": (type(None), {str: str}),  # None: as runs of 0.1.0 have it
    "ranks": [
        {
            **{"rank": int, "learners": [str], "syncs": int, "comm_bytes": int},
            **dict.fromkeys(("busy_seconds", "eval_seconds", "wait_seconds"), NUMBER),
        }
    ],
}
"""What has to be in config.json and summary.json: see :func:`fits`."""


class RunDirectory:
    """Paths of a run, as the documentation lists them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.metrics = root / "metrics.jsonl"
        self.summary = root / "summary.json"
        self.checkpoints = root / "checkpoints"
        self.best = root / "best.safetensors"
        self.lock = root / "run.lock"

    @staticmethod
    def of(config: TrainConfig) -> RunDirectory:
        """The directory that ``config`` asks for."""
        name = config.recipe.rpartition(":")[2]  # of a recipe outside the package: its function
        return RunDirectory(config.run_dir or Path("runs") / f"{name}-seed{config.seed}")

    def weights(self, name: str) -> Path:
        """Where the weights of a learner are at the end of training."""
        return self.root / f"{name}.safetensors"

    def trace(self, rank: int) -> Path:
        """Where the timeline of a rank is."""
        return self.root / f"trace-{rank}.json"

    def prepare(self) -> None:
        """Create the directory; raises UserError if it cannot be written."""
        check_writable(self.root, "--run-dir", self.checkpoints)

    def remove_leftovers(self) -> None:
        """Delete files that a job which was killed had begun to write."""
        for directory in (self.root, self.checkpoints):
            remove_leftovers(directory)

    def clear(self, learners: list[str]) -> None:
        """Delete the files of an earlier run; other files stay."""
        for name in [*learners, "global", "best"]:
            path = self.weights(name)
            path.unlink(missing_ok=True)
            path.with_name(path.name + UNUSED).unlink(missing_ok=True)
        others = [self.root.glob(name) for name in ("evaluation*.json", "trace-*.json")]
        checkpoints = [self.checkpoints.glob(f"*.ckpt{ending}") for ending in ("", UNUSED)]
        files = (self.config, self.metrics, self.summary)
        for path in chain(files, *others, *checkpoints):
            path.unlink(missing_ok=True)

    def check_same(self, config: TrainConfig, precision: Precision) -> int | None:
        """Raise UserError, naming the options, if another configuration was begun here. The number
        of shards of the run that was; None if there is none."""
        if not self.config.exists():
            return None
        there = self._read_config()
        found = differences(there["options"], as_json(config))
        if (was := there["resolved"]["precision"]) != precision:
            found.append(f"--precision {config.precision} meant {was} there, {precision} here")
        shards: int = there["resolved"].get("shards") or 1
        if config.placement.shards not in ("auto", shards):
            found.append(f"--placement.shards {shards} there, {config.placement.shards} now")
        if found:
            raise UserError(
                f"{self.root} holds a run with other options ({'; '.join(found)}): give the same "
                "options to continue it, another --run-dir, or --resume never to start over"
            )
        return shards

    def check_normalisation(self, constants: Sequence[float]) -> None:
        """Raise UserError if the run that was begun here normalises images by other ``constants``:
        with ``auto`` the weights say by which, and their file may be another one now."""
        was = self._read_config()["resolved"].get("normalise") if self.config.exists() else None
        if was not in (None, list(constants)):
            old, new = (",".join(map(str, each)) or "none" for each in (was, constants))
            raise UserError(
                f"{self.root} holds a run whose --model.normalise meant {old}, and it means {new} "
                "here: give the same --model.weights to continue it, another --run-dir, or "
                "--resume never to start over"
            )

    def notes_on_compiling(self, compiled: bool) -> list[str]:
        """A warning where the run was ``compiled`` before and is not now, or the other way round:
        that depends on the machine, and so do the last bits of the result."""
        was = self._read_config()["resolved"].get("compiled", compiled)
        if was == compiled:
            return []
        words = {True: "compiled", False: "not compiled"}
        return [
            f"warning: this run was begun with networks that were {words[bool(was)]}, and goes on "
            f"with networks that are {words[compiled]}: its result will differ in the last bits"
        ]

    def notes_on_images(self, digest: str) -> list[str]:
        """A warning where the run was begun with other images than those of ``digest``."""
        was = self._read_config()["resolved"].get("images") if self.config.exists() else None
        if was in (None, digest):
            return []
        return [
            "warning: this run was begun with other images (files were added, removed or skipped "
            "since then), and goes on with those of now: its result will differ"
        ]

    def image_size(self) -> int | None:
        """The height and width of the images of the run that was begun here [pixels]; None: there
        is no such run, or it does not say, or they are not square."""
        if not self.config.exists():
            return None
        size: int | None = self._read_config()["resolved"].get("image_size")
        return size

    def _read_config(self) -> dict[str, Any]:
        hint = "give another --run-dir, or start over with --resume never"
        content: dict[str, Any] = read_json(self.config, CONFIG, hint)
        return content

    def finished(self) -> dict[str, Any] | None:
        """The summary of the run if it is complete."""
        if not self.summary.exists():
            return None
        summary: dict[str, Any] = read_json(
            self.summary, SUMMARY, "delete it to finish the run again"
        )
        return summary

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """The SHA-256 (hex) of the weights files ``names``, by name."""
        return {n: hashlib.sha256(self.weights(n).read_bytes()).hexdigest() for n in names}

    def set_aside(self, names: Iterable[str]) -> None:
        """Keep those of the weights files ``names`` that are there, under other names."""
        for path in filter(Path.exists, map(self.weights, names)):
            set_aside(path)

    def lost(self, names: Iterable[str], digests: Mapping[str, str]) -> list[str]:
        """Those of the weights files ``names`` that are absent, or not what a complete run wrote,
        according to ``digests`` or, if there is none of it, to the file itself."""
        lost = []
        for name in names:
            try:
                check_weights(self.weights(name))
                intact = name not in digests or digests[name] == self.digests([name])[name]
            except (UserError, OSError):
                intact = False
            if not intact:
                lost.append(name)
        return lost

    def write_config(
        self, config: TrainConfig, resolved: Mapping[str, Any], devices: list[str]
    ) -> None:
        """Write config.json: options, what ``auto`` came to, versions, host and devices."""
        about = {
            "options": as_json(config),
            "resolved": resolved,
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
