"""What is evaluated: a network, and what the run that made it says about data and attack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.weights import checksum, load_model, load_weights
from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Dataset
from zipper_dist.errors import UserError
from zipper_dist.evaluation.foreign import load_foreign
from zipper_dist.evaluation.options import EvaluateOptions, check_threat
from zipper_dist.evaluation.registry import Threat
from zipper_dist.models import ModelSpec
from zipper_dist.recipes.registry import recipe
from zipper_dist.training.scoring import EvalAttack


@dataclass(frozen=True)
class Subject:
    """A network to evaluate, on the CPU, in eval mode."""

    model: nn.Module
    file: Path
    """Where its weights come from."""
    name: str
    """Ending of the names of the files that results go to; empty for a run's global learner."""
    sha256: str
    """Of its weights."""
    spec: ModelSpec | None
    """Its description; None for a network of other origin."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """The options of the run that it comes from; empty where they are not known."""


def load_subject(options: EvaluateOptions) -> Subject:
    """The network that the options name.

    Raises:
        UserError: nothing is there, or it is damaged, or not what it is said to be.
    """
    target = options.target
    if options.model is not None:
        model, state = load_foreign(options.model, target, options.mean, options.std)
        name = f"{target.stem}-{options.model.rpartition(':')[2]}"
        return Subject(model, target, name, checksum(state), None)
    if target.is_dir():
        file = RunDirectory(target).weights(options.learner)
        if not file.exists():
            raise UserError(_missing(target, file))
        name = "" if options.learner == "global" else options.learner
    else:
        if target.suffix in (".pt", ".pth"):
            raise UserError(
                f"{target}: say which network it is for with --model package.module:factory"
            )
        file, name = target, target.stem
    # The code of a network outside the package runs for the run that was trained with it alone.
    run = _run_options(file.parent)
    trust = ":" in run.get("model", {}).get("arch", "")
    spec, state = load_weights(file, trust)
    return Subject(load_model(file, trust), file, name, checksum(state), spec, run)


def _missing(directory: Path, file: Path) -> str:
    there = sorted(path.stem for path in directory.glob("*.safetensors"))
    if not there:
        return f"{directory}: no weights here; give a run directory whose training has ended"
    return f"{directory}: no {file.name} here; --learner can be {', '.join(there)}"


def _run_options(directory: Path) -> Mapping[str, Any]:
    path = RunDirectory(directory).config
    if not path.exists():
        return {}
    try:
        options: dict[str, Any] = json.loads(path.read_text())["options"]
        return options
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error}") from None


def data_config(subject: Subject, options: EvaluateOptions) -> DataConfig:
    """The test set: as the options say, or else as the run has it, whole.

    Raises:
        UserError: neither says which data set.
    """
    run: Mapping[str, Any] = subject.run.get("data", {})
    source = options.dataset or run.get("source")
    if source is None:
        raise UserError(
            f"--data: say which data set {subject.file} is for: no config.json of a run is beside "
            "it"
        )
    same = source == run.get("source")
    size = run.get("image_size") if same else recipe(source).data.image_size
    if not same and subject.spec is not None and subject.spec.height == subject.spec.width:
        size = subject.spec.height
    root = Path(run["root"]) if same else DataConfig().root
    return DataConfig(
        source=source,
        root=options.data.root or root,
        image_size=options.data.image_size or size,
        validation="test",  # none is needed, and none can be too large for the training set
    )


def threat_of(subject: Subject, source: str, options: EvaluateOptions) -> Threat:
    """The attacker's means: as the options say, or else what the network was trained for.

    Without a run that says so, that is what the recipe for the data set trains for.

    Raises:
        UserError: a radius or step out of range, or a norm that needs a radius.
    """
    trained, step_size = _trained_for(subject, source)
    norm = options.norm or trained.norm
    if norm != trained.norm and options.eps is None:
        raise UserError(
            f"--norm {norm}: give --eps too, because the network was trained for {trained.norm}"
        )
    eps = trained.eps if options.eps is None else options.eps
    if (norm, eps) != (trained.norm, trained.eps):
        step_size = None
    if options.step_size is not None:
        step_size = options.step_size
    check_threat(norm, eps, step_size)
    return Threat(norm, eps, step_size)


def _trained_for(subject: Subject, source: str) -> tuple[Threat, float | None]:
    """What the run evaluates itself against; without a run, what the recipe for the data does."""
    evaluation: Mapping[str, Any] = subject.run.get("eval", {})
    learners: Mapping[str, Any] = subject.run.get("learners", {})
    attack: Mapping[str, Any] = next(
        (each["attack"] for each in learners.values() if "attack" in each), {}
    )
    norm = evaluation.get("norm") or attack.get("norm")
    eps = evaluation.get("eps") or attack.get("eps")
    if norm is not None and eps is not None:
        return Threat(norm, eps), evaluation.get("step_size")
    config = recipe(source)
    default = EvalAttack.of(config)
    return Threat(default.norm, default.eps), config.eval.step_size


def check_fit(subject: Subject, data: Dataset) -> int:
    """The number of classes; raises UserError if the network does not fit the images."""
    spec = subject.spec
    if spec is not None:
        has = (spec.channels, spec.height, spec.width, spec.classes)
        needs = (data.channels, data.height, data.width, data.classes)
        if has != needs:
            raise UserError(
                f"{subject.file}: made for images of {_kind(*has)}, but {data.name} has images of "
                f"{_kind(*needs)}"
            )
    logits = _first_logits(subject, data)
    if logits.dim() != 2 or logits.shape[1] != data.classes:
        raise UserError(
            f"{subject.file}: gives logits of shape {tuple(logits.shape)} for one image of "
            f"{data.name}, which has {data.classes} classes; (1, {data.classes}) is needed"
        )
    return data.classes


def _first_logits(subject: Subject, data: Dataset) -> Tensor:
    image = data.test.images[:1].float() / 255
    try:
        with torch.no_grad():
            logits: Tensor = subject.model(image)
    except Exception as error:  # whatever the network's own code raises
        kind = _kind(data.channels, data.height, data.width, data.classes)
        reason = " ".join(str(error).split())
        raise UserError(f"{subject.file}: cannot take images of {kind}: {reason}") from None
    if not isinstance(logits, Tensor):
        raise UserError(f"{subject.file}: gives {type(logits).__name__}, not a tensor of logits")
    return logits


def _kind(channels: int, height: int, width: int, classes: int) -> str:
    return f"{channels}×{height}×{width} (C×H×W) in {classes} classes"
