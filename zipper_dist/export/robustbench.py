"""A submission to RobustBench (Croce et al., "RobustBench: a standardized adversarial robustness
benchmark", NeurIPS 2021): the network in plain torch, its claim, and what the claim rests on."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from zipper_dist.checkpoint.initial import is_remote
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.export.base import EXPORTERS, Subject, write
from zipper_dist.export.plain_source import checked_source
from zipper_dist.models.sources import SOURCES, source_of

DATASETS = ("cifar10", "cifar100", "imagenet")
NORMS = {"linf": "Linf", "l2": "L2"}
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")
"""Of AutoAttack, in order."""


@EXPORTERS.register("robustbench")
def robustbench(subject: Subject, out: Path) -> Iterator[str]:
    """Write model.py, weights.pt, and NAME.json with NAME.log in model_info/DATASET/NORM."""
    if (source := source_of(subject.spec.arch)) in SOURCES:
        raise UserError(
            f"--to robustbench: the source of {subject.spec.arch} is not copied, as it is of "
            f"{source}: use --to hub, onnx or torch-export"
        )
    weights = io.BytesIO()
    torch.save(subject.model.state_dict(), weights)
    model = checked_source(subject, "weights.pt", weights.getvalue())
    write(out / "weights.pt", weights.getvalue())
    write(out / "model.py", model)
    if subject.data not in DATASETS:
        yield f"RobustBench takes {', '.join(DATASETS)}; this network is for {subject.data}"
    for threat in subject.threats or (None,):
        yield from _claim(subject, threat, out)


def _claim(subject: Subject, threat: ThreatModel | None, out: Path) -> Iterator[str]:
    """Write what is claimed under one threat model, and what it rests on; yields notes."""
    found = aa_figure(subject, threat)
    norm = NORMS[threat.norm] if threat else "unknown"
    info = model_info(subject, threat)
    claims = Path("model_info") / (subject.data or "unknown") / norm
    path = claims / f"{subject.name}.json"
    write(out / path, json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    if threat is not None and found is not None:
        log = "\n".join(_log(subject, threat, *found))
        write(out / claims / f"{subject.name}.log", log + "\n")
        data = subject.evaluation["data"]
        if data["images"] < data["of"]:
            yield f"AutoAttack saw {data['images']} of {data['of']} test images; all are asked for"
    else:
        command = f"python -m zipper_dist.evaluate {subject.file.parent} --attacks standard"
        yield f"no AutoAttack result of these weights is known for {norm}: {command}"
    empty = [name for name, value in info.items() if value in ("", None) and name != "footnote"]
    if empty:
        yield f"to be filled in in {path}: {', '.join(empty)}"


def model_info(subject: Subject, threat: ThreatModel | None) -> dict[str, Any]:
    """Every field that RobustBench's model_info has; empty where it is not known."""
    about, found = subject.about, aa_figure(subject, threat)
    clean = subject.evaluation.get("attacks", {}).get("clean")
    robust = f"{found[1]['accuracy']:.2f}" if found else None
    return {
        "link": about.link,
        "name": about.title,
        "authors": about.authors,
        "additional_data": _has_additional_data(subject),
        "number_forward_passes": 1,
        "dataset": subject.data,
        "venue": about.venue,
        "architecture": _architecture(subject),
        "eps": _fraction(threat) if threat else None,
        "clean_acc": f"{clean['accuracy']:.2f}" if clean else None,
        "reported": robust,
        "autoattack_acc": robust,
        "footnote": _footnote(subject) if found else None,
        "unreliable": False,
    }


def aa_figure(subject: Subject, threat: ThreatModel | None) -> tuple[str, dict[str, Any]] | None:
    """Name and figure of AutoAttack under ``threat``; None where it was not run."""
    if threat is None:
        return None
    attacks = subject.evaluation.get("attacks", {})
    alone = subject.evaluation.get("threat")
    if alone == {"norm": threat.norm, "eps": threat.eps} and "aa" in attacks:
        return "", attacks["aa"]
    name = f"@{threat.short()}"
    return (name, attacks[f"aa{name}"]) if f"aa{name}" in attacks else None


def _has_additional_data(subject: Subject) -> bool | None:
    """Whether it was trained with more than the training set; None where that is not known."""
    if not subject.config:
        return None
    options = subject.config["options"]
    if options["data"].get("extra"):
        return True
    weights = options.get("model", {}).get("weights")
    if weights is None:
        return False
    return True if is_remote(weights) else None  # a file may be of the same images


def _footnote(subject: Subject) -> str | None:
    data = subject.evaluation["data"]
    if data["images"] == data["of"]:
        return None
    return f"AutoAttack on {data['images']} of {data['of']} test images ({data['chosen']})"


def _architecture(subject: Subject) -> str:
    """The network's name as the literature has it, with its width where that is another."""
    spec = subject.spec
    known = {
        "resnet18": "ResNet-18",
        "preact_resnet18": "PreActResNet-18",
        "wrn32_10": "WideResNet-34-10",
        "small_cnn": "SmallCNN",
    }
    name = known.get(spec.arch, spec.arch.rpartition(":")[2])
    return name if spec.width_multiplier == 1 else f"{name}, width x {spec.width_multiplier:g}"


def _fraction(threat: ThreatModel) -> str:
    """The radius as 8/255 where it is one of these."""
    levels = threat.eps * 255
    whole = threat.norm == "linf" and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{threat.eps:g}"


def _log(
    subject: Subject, threat: ThreatModel, ending: str, figure: dict[str, Any]
) -> Iterator[str]:
    """What AutoAttack logs, in its words, from what the evaluation found."""
    found = subject.evaluation
    data, versions = found["data"], found["versions"]
    yield f"using standard version including {', '.join(PARTS)}."
    yield f"network: {subject.file.name}, sha256 of its weights {found['network']['sha256']}"
    yield f"threat model: {NORMS[threat.norm]}, eps {threat.eps!r}"
    yield f"images: {data['images']} of {data['of']} test images of {data['name']}"
    yield f"seed {found['seed']}, {found['device']}, " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )
    if "clean" in found["attacks"]:
        yield f"initial accuracy: {found['attacks']['clean']['accuracy']:.2f}%"
    robust = list(subject.survivors.get("clean", []))
    for part in PARTS:
        survivors = subject.survivors.get(f"{part}{ending}")
        if not robust or survivors is None:
            break  # the parts were not asked for by name
        before = sum(robust)
        robust = [a and b for a, b in zip(robust, survivors, strict=True)]
        broken = before - sum(robust)
        yield f"{part} - {broken} out of {before} successfully perturbed"
        share = 100 * sum(robust) / len(robust)
        yield f"robust accuracy after {part.upper()}: {share:.2f}%"
    yield f"robust accuracy: {figure['accuracy']:.2f}% ({figure['correct']} of {figure['n']})"
