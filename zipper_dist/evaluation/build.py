"""Puts the parts of the evaluation command together from its options."""

import hashlib
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zipper_dist
from zipper_dist.attacks import Blocks
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import Dataset
from zipper_dist.data.splits import limited_indices
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import Measure, distinct_parts, measures, with_worst
from zipper_dist.evaluation.engine import Engine, Examples, Found
from zipper_dist.evaluation.network_views import NetworkViews, available_memory, batch_size_for
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.outcomes import DiskStore
from zipper_dist.evaluation.results.in_words import choice_of_weights
from zipper_dist.evaluation.results.sanity import SAMPLE, sanity_measures
from zipper_dist.evaluation.target import Target, Threats, check_fit
from zipper_dist.registry import load_reference, source_file

AT_ONCE = 1024
"""Images that are read for their checksum at a time, as they may not fit into memory."""


@dataclass
class Evaluation:
    """Everything that one process of an evaluation works with."""

    options: EvaluateOptions
    target: Target
    data: Dataset
    threats: Threats
    wanted: list[Measure]
    """The lines of the table."""
    checks: dict[ThreatModel, list[Measure]]
    """The attacks of the sanity checks; empty where there are none."""
    numbers: Tensor
    """Numbers of the evaluated examples in the test set: int64 (N,)."""
    engine: Engine
    store: DiskStore
    """The outcomes that ``engine`` and ``sampler`` share."""
    sampler: Engine
    """The same for the blocks that the sanity checks attack."""
    notes: list[str]
    about: dict[str, Any]
    """What evaluation.json says of the evaluation as a whole."""

    def file(self, suffix: str) -> Path:
        """The file of this kind that results go to: ``evaluation-NAME.json`` and the like."""
        name = f"evaluation-{self.target.name}" if self.target.name else "evaluation"
        return _directory(self.options, self.target) / f"{name}{suffix}"

    def found(self) -> Found:
        """What this rank has found."""
        found = self.engine.found(distinct_parts(self.wanted))
        checks = [measure for wanted in self.checks.values() for measure in wanted]
        for where, blocks in self.sampler.found(distinct_parts(checks)).items():
            found[where] = blocks | found.get(where, {})
        return found


def assemble(
    options: EvaluateOptions, target: Target, data: Dataset, threats: Threats, names: list[str],
    world: World,
) -> Evaluation:  # fmt: skip
    """Put the parts of an evaluation together; raises UserError where they do not fit."""
    classes, device = check_fit(target, data), world.plan.device
    wanted, notes = _suitable(measures(names, *threats, options.restarts), classes)
    wanted = with_worst(wanted)
    notes[:0] = data.notes
    numbers = limited_indices(len(data.test), options.limit, "test")
    if options.first is not None:
        numbers = torch.arange(min(options.first, len(data.test)))
        shown, of = (len(set(y.tolist())) for y in (data.test.labels[numbers], data.test.labels))
        if shown < of:  # as those of sorted images do
            what = f"these images show {shown} of the {of} classes; --limit chooses at random"
            notes.append(f"--first {len(numbers)}: {what}")
    chosen = data.test.subset(numbers).to(device)
    examples = Examples(chosen.images, chosen.labels, numbers)
    target.model.to(device)
    blocks = Blocks(len(examples), options.block_size)
    image, _ = examples.take(slice(1))
    memory = available_memory(device, world.size)
    store = DiskStore(_directory(options, target) / "evaluation")
    store.prepare()
    digest = hashlib.sha256()
    for start in range(0, len(examples), AT_ONCE):
        chunk = examples.images[start : start + AT_ONCE]
        digest.update(chunk.cpu().contiguous().numpy().tobytes())
    for tensor in (examples.labels, numbers):
        digest.update(tensor.cpu().numpy().tobytes())
    identity = {
        "format": 3,
        **identity_of(target, options.model),
        "images": digest.hexdigest(),
        "device": device.type,
    }
    engine = Engine(
        examples, NetworkViews.of(target.model), store, blocks,
        blocks.dealt(world.rank, world.size),
        options.batch_size or batch_size_for(target.model, image, memory),
        options.seed, identity, keep_images=options.save_adversarial is not None,
    )  # fmt: skip
    checks = {
        threat: sanity_measures(threat, threats.step_size, image.shape[1:])
        for threat in threats.models
        if options.sanity or "standard" in " ".join(options.attacks).replace(",", " ").split()
    }
    sample = blocks.first(SAMPLE)
    sampler = replace(engine, blocks=sample, mine=sample.dealt(world.rank, world.size))
    about = _about(options, target, data, threats, engine, world)
    return Evaluation(
        options, target, data, threats, wanted, checks, numbers, engine, store, sampler, notes,
        about,
    )  # fmt: skip


def identity_of(target: Target, model: str | None) -> dict[str, Any]:
    """What the network computes, as far as that can be told: ``model`` made it where it has no
    description. The normalisation is a part of the target's sha256."""
    found: dict[str, Any] = {"weights": target.sha256, "network": str(target.spec or model)}
    if target.spec and target.spec.options:
        found["options"] = dict(target.spec.options)
    own = target.spec.arch if target.spec and target.spec.needs_trust else model
    if own and (file := source_file(load_reference(own, "--model"))):
        found["source"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _directory(options: EvaluateOptions, target: Target) -> Path:
    """Where results go."""
    return options.out or (options.target if options.target.is_dir() else target.file.parent)


def _suitable(wanted: list[Measure], classes: int) -> tuple[list[Measure], list[str]]:
    """The measures that can be taken, and a note on each that cannot."""
    left, notes = [], []
    for measure in wanted:
        why = {part.unsuitable(classes) for part in measure.parts} - {None}
        if why:
            notes.append(f"{measure.label}: {'; '.join(map(str, why))}")
        else:
            left.append(measure)
    if not left:
        raise UserError(f"--attacks: {'; '.join(notes)}")
    return left, [f"left out: {note}" for note in notes]


def _about(
    options: EvaluateOptions, target: Target, data: Dataset, threats: Threats, engine: Engine,
    world: World,
) -> dict[str, Any]:  # fmt: skip
    images, of = len(engine.examples), len(data.test)
    chosen = "all" if images == of else "at random" if options.first is None else "the first"
    models = [{"norm": threat.norm, "eps": threat.eps} for threat in threats.models]
    return {
        "network": {
            "file": str(target.file),
            "sha256": target.sha256,
            "chosen_on": choice_of_weights(target.file, target.run).on,
        },
        "data": {"name": data.name, "images": images, "of": of, "chosen": chosen},
        **({"threat": models[0]} if len(models) == 1 else {"threats": models}),
        "seed": options.seed,
        "block_size": options.block_size,
        "batch_size": engine.batch_size,
        "ranks": world.size,
        "device": describe_device(world.plan.device),
        "interval": "95 %, Wilson score",
        "versions": {
            "zipper_dist": zipper_dist.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pyautoattack": version("pyautoattack"),
        },
    }
