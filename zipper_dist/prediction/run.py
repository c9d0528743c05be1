"""Predictions, from options to table."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from zipper_dist.attacks.verdict import NO_ANSWER
from zipper_dist.checkpoint.files import check_writable
from zipper_dist.checkpoint.options import as_json
from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import read_metadata
from zipper_dist.config.paths import expanded
from zipper_dist.config.threat import ThreatModel
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.target import Target, load_target, trained_threats
from zipper_dist.models import ModelSpec
from zipper_dist.prediction.images import check_files, decoded, refuse
from zipper_dist.prediction.network import Answers, Predictor, attacks_of
from zipper_dist.prediction.options import PredictOptions, validate
from zipper_dist.prediction.results import NO_PROOF, Attacked, Guess, Prediction, show

GROUP = 512
"""Images that are in memory at a time, at most."""
DEFAULT_TOP, DEFAULT_STEPS, DEFAULT_RESTARTS = 5, 20, 1


def run(options: PredictOptions, console: Console | None = None) -> list[Prediction]:
    """Predict, print a table and write a file, as the options say; the predictions, in the order of
    the images. CommandError: bad input, or logits that are not finite."""
    validate(options)
    files = [file.expanduser() for file in options.images]
    check_files(files)
    out = None if options.json_file is None else _writable(options.json_file)
    target, spec, threats = _network(options)
    top = _top(options, spec)
    placed = plan(Machine.detect({**os.environ}), options.device, options.threads)
    torch.set_num_threads(placed.threads)
    image = torch.zeros(1, spec.channels, spec.height, spec.width)
    seed, steps = options.seed or 0, options.steps or DEFAULT_STEPS
    predictor = Predictor(target.model, placed.device, image, seed)
    attacks = attacks_of(threats, steps, options.restarts or DEFAULT_RESTARTS)
    unreadable: list[str] = []
    found: list[Prediction] = []
    for start in range(0, len(files), GROUP):
        good, images = decoded(files[start : start + GROUP], spec, unreadable)
        if not unreadable:  # else the other files are read only to name all that cannot be
            answered = predictor.answers(images, start, attacks)
            found += _predictions(good, answered, spec, threats, top)
    refuse(unreadable)
    if console is not None:
        show(found, f"PGD-{steps}", console)
    if out is not None:
        about = {
            "network": {"file": str(target.file), "sha256": target.sha256},
            "attacks": [attack.settings for attack in attacks],
            **({"note": NO_PROOF} if attacks else {}),
            "seed": seed,
            "images": [as_json(prediction) for prediction in found],
        }
        try:
            write_json(out, about)
        except OSError as error:
            raise UserError(f"--json {out}: cannot be written: {error}") from None
    return found


def _writable(path: Path) -> Path:
    """The file to write to, whose directory is created; UserError if there can be none."""
    path = expanded(path, "--json")
    if path.exists() and not path.is_file():
        raise UserError(f"--json {path}: is not a file; give one, such as predictions.json")
    check_writable(path.parent, "--json")
    return path


def _network(options: PredictOptions) -> tuple[Target, ModelSpec, tuple[ThreatModel, ...]]:
    path = options.target.expanduser()
    if path.suffix in (".pt", ".pth") and not path.is_dir():
        raise UserError(f"{path}: give a run directory or a .safetensors file of this package")
    learner = "global" if options.learner is None else options.learner
    target = load_target(EvaluateOptions(path, learner=learner, trust=options.trust))
    if target.spec is None or target.spec.channels not in (1, 3):
        raise UserError(f"{target.file}: its network does not take images of 1 or 3 channels")
    threats = options.threats
    if options.certify_pgd and not threats:
        named = read_metadata(target.file).get("threat", "").split()
        try:
            threats = tuple(map(ThreatModel.parse, named)) or trained_threats(target.run)
        except ValueError as error:
            raise UserError(f"{target.file}: its threat model is damaged: {error}") from None
        if not threats:
            raise UserError(
                f"--threats: give one, such as linf:8/255, because {target.file} does not say what "
                "its network was trained for"
            )
    return target, target.spec, tuple(dict.fromkeys(threats)) if options.certify_pgd else ()


def _top(options: PredictOptions, spec: ModelSpec) -> int:
    if options.top is not None and options.top > spec.classes:
        raise UserError(f"--top {options.top}: the network has only {spec.classes} classes")
    return options.top or min(DEFAULT_TOP, spec.classes)


def _predictions(
    files: Sequence[Path],
    answered: Answers,
    spec: ModelSpec,
    threats: Sequence[ThreatModel],
    top: int,
) -> list[Prediction]:
    names = spec.class_names or tuple(map(str, range(spec.classes)))
    found = []
    for row, file in enumerate(files):
        chances, clean = answered.probabilities[row].tolist(), int(answered.predicted[row])
        order = sorted(range(spec.classes), key=lambda number: (number != clean, -chances[number]))
        best = tuple(Guess(names[number], number, chances[number]) for number in order[:top])
        attacks = []
        for threat, ends in zip(threats, answered.attacked, strict=True):
            end = int(ends[row])
            changed = end != clean
            to = names[end] if changed and end != NO_ANSWER else None
            attacks.append(Attacked(threat, changed, to))
        found.append(Prediction(str(file), best, tuple(attacks)))
    return found
