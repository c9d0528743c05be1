"""What the files of a run say, complete or not."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zipper_dist.checkpoint.lock import is_locked
from zipper_dist.checkpoint.run_directory import SUMMARY, RunDirectory
from zipper_dist.config.json_shape import NUMBER, fits, read_json
from zipper_dist.errors import UserError
from zipper_dist.evaluation.results.in_words import choice_of_weights
from zipper_dist.metrics.records import GLOBAL, Record
from zipper_dist.metrics.trace import Event, read_events
from zipper_dist.report.weights import identity_of

CONFIG = {
    "options": {
        "recipe": str,
        "seed": int,
        "learners": {str: dict},
        "eval": {"attack_steps": int},
    },
    "resolved": dict,
    "command": [str],
    "devices": [str],
}
EVALUATION = {
    "network": {"sha256": str},
    "attacks": {str: {"accuracy": NUMBER, "n": int, "interval": [NUMBER]}},
}
TOLD: Mapping[str, tuple[Any, Any]] = {
    "threats": ([{"norm": str, "eps": NUMBER}], []),
    "data": ({"name": str}, {"name": "unknown data"}),
    "in_words": ({str: str}, {}),
    "warnings": ([str], []),
}
"""What evaluation.json may say besides, and what stands for it where it does not."""
Curve = tuple[list[int], list[float]]
"""Iterations, and a figure after each."""


class State(enum.Enum):
    """How far a run is."""

    COMPLETE = "complete"
    GOING_ON = "in progress"
    ENDED = "ended before it was complete"


@dataclass(frozen=True)
class Run:
    """A run directory; ``summary`` and ``evaluation`` (of its global learner) are None where they
    are not there."""

    name: str
    directory: Path
    state: State
    config: Mapping[str, Any]
    records: Sequence[Record]
    summary: Mapping[str, Any] | None
    evaluation: Mapping[str, Any] | None

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the run, nested."""
        options: Mapping[str, Any] = self.config["options"]
        return options

    @property
    def learners(self) -> list[str]:
        """The names of the base learners, in the order of the method."""
        return list(self.options["learners"])

    @property
    def validated_on_test(self) -> bool:
        """Whether validations are on the test set."""
        return bool(self.options.get("data", {}).get("validation") == "test")

    @property
    def choice(self) -> str:
        """A sentence on how the best weights are chosen."""
        words = choice_of_weights(RunDirectory(self.directory).best, self.options).words
        least = self.options["eval"].get("best_clean") or 0
        rule = "The best weights have the largest sum of clean and robust accuracy"
        if least:
            rule += f" among those with a clean accuracy of at least {least:g} %, if there are any"
        return f"{rule}: {words}."

    @property
    def step(self) -> int:
        """The last iteration that is on record; 0 before the first."""
        return max((record["step"] for record in self.records), default=0)

    def curve(self, learner: str, figure: str) -> Curve:
        """A figure of the records of a learner, or of "global"."""
        of_learner = {r["step"]: r for r in self.records if r["learner"] == learner}
        at = [step for step in sorted(of_learner) if is_number(of_learner[step].get(figure))]
        return at, [float(of_learner[step][figure]) for step in at]

    def mixing_weight(self, learner: str) -> Curve:
        """w_a(t): of one or two learners it is recorded as γ, the weight of the last of them."""
        if len(self.learners) > 2:
            return self.curve(learner, "weight")
        at, gammas = self.curve(learner, "gamma")
        return at, gammas if learner == self.learners[-1] else [1 - gamma for gamma in gammas]

    def scores(self) -> Mapping[str, float] | None:
        """Clean and robust accuracy of the global learner at the end on the test set [%]."""
        return self.summary["final"]["learners"].get(GLOBAL) if self.summary else None

    def last_validation(self) -> Record | None:
        """The newest record of an evaluation of the global learner."""
        found = [r for r in self.records if r["learner"] == GLOBAL and is_number(r.get("robust"))]
        return max(found, key=lambda record: int(record["step"]), default=None)

    @cached_property
    def timeline(self) -> Mapping[int, Sequence[Event]]:
        """What each rank did, if the run was traced."""
        paths = self.directory.glob("trace-*.json")
        ranks = {events[0]["pid"]: events for path in paths if (events := _events(path))}
        return {rank: ranks[rank] for rank in sorted(ranks)}


def read_run(directory: Path) -> Run:
    """A run directory; UserError where there is none, or where it is damaged."""
    files = RunDirectory(directory)
    if not directory.is_dir():
        raise UserError(
            f"{directory}: is not there; give a run directory, such as runs/digits-seed0"
        )
    if not files.config.exists():
        raise UserError(
            f"{directory}: no run is here ({files.config.name} is absent, which is written when a "
            "training begins); give a run directory, such as runs/digits-seed0"
        )
    hint = "give another run directory"
    config = read_json(files.config, CONFIG, hint)
    locked = is_locked(files.lock)  # asked first: a run may end in between
    summary = read_json(files.summary, SUMMARY, hint) if files.summary.exists() else None
    state = State.COMPLETE if summary else State.GOING_ON if locked else State.ENDED
    records = list(_records(files.metrics))
    evaluation = _evaluation(files)
    name = directory.resolve().name
    return Run(name, directory, state, config, records, summary, evaluation)


def is_number(value: Any) -> bool:
    """Whether a value of a record can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def _records(path: Path) -> Iterator[Record]:
    """The lines that are records; a run that goes on may be about to write the last."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:  # another sink was chosen, or nothing is reported yet
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if fits(record, {"step": int, "learner": str}):
            yield record


def _evaluation(files: RunDirectory) -> Any:
    """What evaluation.json says, if it is of the weights that are there; what older ones do not
    say is empty."""
    path = files.root / "evaluation.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not fits(found, EVALUATION):
        return None
    if found["network"]["sha256"] != identity_of(files.weights(GLOBAL)):
        return None
    found.setdefault("threats", [found["threat"]] if "threat" in found else [])
    for name, (shape, empty) in TOLD.items():
        if not fits(found.get(name), shape):
            found[name] = empty
    for figure in found["attacks"].values():
        if not fits(figure.get("settings"), dict):
            figure["settings"] = {}
    return found


def _events(path: Path) -> list[Event]:
    """The events of a trace file that have what a picture takes."""
    about = {"iteration": int}
    shape = {"name": str, "pid": int, "ts": NUMBER, "dur": NUMBER, "args": about}
    return [event for event in read_events(path) if fits(event, shape)]
