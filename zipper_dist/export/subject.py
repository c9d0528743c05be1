"""What is exported, read from a run directory or a file of weights."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from zipper_dist.checkpoint.run_directory import SUMMARY, RunDirectory
from zipper_dist.config.json_shape import NUMBER, read_json
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.target import Target, load_target, trained_threats
from zipper_dist.export.base import About, Subject

THREAT = {"norm": str, "eps": NUMBER}
EVALUATION = {
    "network": {"sha256": str},
    "data": {"name": str, "images": int, "of": int, "chosen": str},
    "attacks": {str: {"accuracy": NUMBER, "correct": int, "n": int, "interval": [NUMBER]}},
    "sanity": [{"name": str, "passed": bool, "verdict": str}],
    "warnings": [str],
    "versions": {str: str},
    "device": str,
    "seed": int,
}
CONFIG = {"options": {"recipe": str, "data": {"source": str, "validation": str}}, "command": [str]}


@dataclass(frozen=True)
class ExportOptions:
    """Write a network in a format that others can load."""

    target: tyro.conf.Positional[Path]
    """A run directory, or a file with weights."""
    to: str
    """The format: robustbench, torch-export, onnx, hub, package.module:function or
    path/to/file.py:function."""
    out: Path | None = None
    """Directory for the files; default: export/FORMAT where the weights are."""
    learner: str = "global"
    """Which network of a run directory: global, best, or a learner's name."""
    name: str | None = None
    """What to call the network, in RobustBench as Rice2020Overfitting; default: the name of the
    run directory or file."""
    trust: bool = False
    """Import, and so run, the code that a weights file names, if its network is none of the
    package, torchvision or timm."""
    about: About = field(default_factory=About)


def read_subject(options: ExportOptions) -> tuple[Subject, list[str]]:
    """The network that the options name, and notes for the user; raises UserError where it is
    absent or damaged."""
    if options.name is not None and Path(options.name).name != options.name:
        raise UserError(
            f"--name {options.name}: give a name without slashes, such as Rice2020Overfitting"
        )
    wanted = EvaluateOptions(options.target, learner=options.learner, trust=options.trust)
    target = load_target(wanted)
    if target.spec is None:
        raise UserError(f"{target.file}: its network is not known")
    run = RunDirectory(target.file.parent)
    hint = "export the file of weights from another directory"
    config = read_json(run.config, CONFIG, hint) if run.config.exists() else {}
    evaluation, survivors, notes = _evaluation(target, run.root, config)
    summary = read_json(run.summary, SUMMARY, hint) if run.summary.exists() else {}
    ours = target.file.stem in summary.get("final", {}).get("learners", {})
    place = options.target.resolve()
    subject = Subject(
        target.model,
        target.spec,
        target.file,
        options.name or "-".join(filter(None, (place.name if place.is_dir() else "", target.name))),
        trained_threats(target.run) or _threats(evaluation),
        config,
        summary if ours else {},
        evaluation,
        survivors,
        options.about,
    )
    return subject, notes


def default_directory(options: ExportOptions) -> Path:
    """Where the files go that no ``--out`` has a place for."""
    place = options.target if options.target.is_dir() else options.target.parent
    learner = "" if options.learner == "global" else f"{options.learner}-"
    return place / "export" / f"{learner}{options.to.rpartition(':')[2]}"


def _evaluation(
    target: Target, directory: Path, config: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Sequence[bool]], list[str]]:
    """What evaluation.json and evaluation.csv say of these weights, and notes for the user; what
    is on other data than the training is left out."""
    path = directory / f"evaluation{'-' if target.name else ''}{target.name}.json"
    if not path.exists():
        return {}, {}, []
    found = read_json(path, EVALUATION, "delete it, or evaluate the network again")
    if found["network"]["sha256"] != target.sha256:
        return {}, {}, [f"{path} is left out: it is of other weights than {target.file}"]
    on, trained = found["data"]["name"], config["options"]["data"]["source"] if config else None
    if trained not in (None, on):
        return {}, {}, [f"{path} is left out: it is on {on}, and the network is for {trained}"]
    flags = path.with_suffix(".csv")
    if not flags.exists():
        return found, {}, []
    with flags.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in found["attacks"] if rows and name in rows[0]]
    return found, {name: [row[name] == "1" for row in rows] for name in names}, []


def _threats(evaluation: Mapping[str, Any]) -> tuple[ThreatModel, ...]:
    listed = evaluation.get("threats") or [evaluation.get("threat")]
    known = [threat for threat in listed if threat]
    return tuple(ThreatModel.parse(f"{t['norm']}:{float(t['eps'])!r}") for t in known)
