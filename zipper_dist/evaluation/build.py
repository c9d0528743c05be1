"""Puts the parts of an evaluation together from its options."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

import zipper_dist
from zipper_dist.data import Dataset
from zipper_dist.data.splits import limited_indices
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.errors import UserError
from zipper_dist.evaluation.batch_size import available_memory, batch_size_for
from zipper_dist.evaluation.blocks import Layout
from zipper_dist.evaluation.engine import Examples, Networks, Setting, Worker, needed_parts
from zipper_dist.evaluation.network_views import attacked_view, exact_view
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.outcomes import Store
from zipper_dist.evaluation.registry import Part, Threat, unsuitable
from zipper_dist.evaluation.results.files import Outputs
from zipper_dist.evaluation.results.sanity import SAMPLE, sanity_parts
from zipper_dist.evaluation.target import Subject, check_fit


@dataclass
class Evaluation:
    """Everything that one process of an evaluation works with."""

    options: EvaluateOptions
    subject: Subject
    data: Dataset
    numbers: Tensor
    """Numbers of the evaluated examples in the test set: int64 (N,)."""
    threat: Threat
    names: list[str]
    """The attacks, in the order of the table."""
    parts: dict[str, Part]
    checks: dict[str, Part]
    """The attacks of the sanity checks; empty where there are none."""
    worker: Worker
    sampler: Worker
    """The same for the blocks that the sanity checks attack."""
    outputs: Outputs
    notes: list[str]
    about: dict[str, Any]


def assemble(
    options: EvaluateOptions, subject: Subject, data: Dataset, threat: Threat, names: list[str],
    world: World,
) -> Evaluation:  # fmt: skip
    """Put the parts of an evaluation together; raises UserError where they do not fit."""
    classes = check_fit(subject, data)
    names, notes = _suitable(names, classes)
    device = world.plan.device
    numbers = _chosen(len(data.test), options)
    chosen = data.test.subset(numbers).to(device)
    images = (chosen.images.float() / 255).contiguous()
    examples = Examples(images, chosen.labels)
    if options.first is not None:
        notes += _missing_classes(chosen.labels, data.test.labels)
    subject.model.to(device)
    screening = attacked_view(subject.model, torch.bfloat16) if options.screen == "bf16" else None
    networks = Networks(exact_view(subject.model), attacked_view(subject.model), screening)
    layout = Layout(len(examples), options.block_size)
    batch_size = options.batch_size or batch_size_for(
        subject.model, images[:1], available_memory(device, world.size)
    )
    identity = _identity(options, subject, examples, device)
    setting = Setting(
        examples, networks, layout, options.seed, identity, batch_size,
        keep_images=options.save_adversarial is not None,
    )  # fmt: skip
    directory = options.out or (options.target if options.target.is_dir() else subject.file.parent)
    outputs = Outputs(directory, subject.name)
    store = Store(outputs.outcomes)
    store.prepare()
    blocks = list(layout.dealt(world.rank, world.size))
    sanity = options.sanity or "standard" in " ".join(options.attacks).replace(",", " ").split()
    checks = sanity_parts(threat, images.shape[1:]) if sanity else {}
    sample = [block for block in blocks if block < layout.first(SAMPLE).blocks]
    return Evaluation(
        options, subject, data, numbers, threat, names,
        needed_parts(names, threat, options.restarts), checks,
        Worker(setting, store, blocks), Worker(setting, store, sample), outputs, notes,
        _about(options, subject, data, threat, setting, world),
    )  # fmt: skip


def _chosen(count: int, options: EvaluateOptions) -> Tensor:
    """Numbers of the images, out of ``count``, that are evaluated: int64 (N,)."""
    if options.first is not None:
        return torch.arange(min(options.first, count))
    return limited_indices(count, options.limit, "test")


def _how_chosen(images: int, of: int, options: EvaluateOptions) -> str:
    if images == of:
        return "all"
    return "at random" if options.first is None else "the first"


def _missing_classes(chosen: Tensor, labels: Tensor) -> list[str]:
    """A note if the first images lack some of the classes, as those of sorted ones do."""
    shown, classes = len(set(chosen.tolist())), len(set(labels.tolist()))
    if shown == classes:
        return []
    return [f"--first {len(chosen)}: these images show {shown} of the {classes} classes; --limit "
            "chooses at random"]  # fmt: skip


def _suitable(names: list[str], classes: int) -> tuple[list[str], list[str]]:
    """The attacks that can be run, and a note on each that cannot."""
    notes = [note for name in names if (note := unsuitable(name, classes)) is not None]
    left = [name for name in names if unsuitable(name, classes) is None]
    if not left:
        raise UserError(f"--attacks: {'; '.join(notes)}")
    return left, [f"left out: {note}" for note in notes]


def _identity(
    options: EvaluateOptions, subject: Subject, examples: Examples, device: torch.device
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for tensor in (examples.images, examples.labels):
        digest.update(tensor.cpu().numpy().tobytes())
    return {
        "format": 1,
        "weights": subject.sha256,
        "network": str(subject.spec or options.model),
        "images": digest.hexdigest(),
        "screen": options.screen,
        "device": device.type,
    }


def _about(
    options: EvaluateOptions, subject: Subject, data: Dataset, threat: Threat, setting: Setting,
    world: World,
) -> dict[str, Any]:  # fmt: skip
    """What evaluation.json says of the evaluation as a whole."""
    return {
        "network": {"file": str(subject.file), "sha256": subject.sha256},
        "data": {
            "name": data.name,
            "images": len(setting.examples),
            "of": len(data.test),
            "chosen": _how_chosen(len(setting.examples), len(data.test), options),
        },
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "seed": options.seed,
        "block_size": options.block_size,
        "screen": options.screen,
        "batch_size": setting.batch_size,
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
