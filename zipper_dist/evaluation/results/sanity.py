"""Sanity checks: whether the figures can be what they seem to be.

They follow the advice of Carlini et al., "On Evaluating Adversarial Robustness", 2019, and of
Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Network
from zipper_dist.attacks import APGD, PGD, Attack, Cw, Square, image_gradient, summed_cross_entropy
from zipper_dist.attacks.verdict import answers
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import Measure
from zipper_dist.evaluation.results.report import Report

SAMPLE = 256  # the checks attack the first blocks, of about so many examples together [images]
QUERIES = 500  # of Square, where it is run for the checks alone
SLACK = 3.0  # by how much accuracy may be higher under an attack that is no weaker [points]
START_SLACK = 5.0  # how much a random start may matter [points]
ZERO_GRADIENTS = 1.0  # how many examples may have a gradient of exactly zero [per cent]
HINT = "the network may hide its gradients, and then its robust accuracy is an illusion"

RISES = {
    "more eps": ("eps x 0.5", "eps x 1", "eps x 2"),
    "more steps": ("steps 5", "steps 20", "steps 50"),
}
"""Attacks that are no weaker than the ones before, by what they have more of."""

RANDOM_OR_BATCHED = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Check:
    """The outcome of a sanity check."""

    name: str
    passed: bool
    verdict: str
    """One plain sentence."""
    figures: Mapping[str, Any] = field(default_factory=dict)


def sanity_measures(
    threat: ThreatModel, step_size: float | None, shape: torch.Size
) -> list[Measure]:
    """The attacks that the checks need, by the names that the checks give them; ``shape``: of an
    image, (C, H, W)."""
    large = ThreatModel(threat.norm, 1.0 if threat.norm == "linf" else math.sqrt(shape.numel()))
    attacks: dict[str, Attack] = {}
    for factor in (0.5, 1, 2):
        eps = threat.eps * factor
        eps = min(1.0, eps) if threat.norm == "linf" else eps
        step = None if step_size is None else step_size * (eps / threat.eps)
        attacks[f"eps x {factor}"] = PGD(eps, threat.norm, step)
    for steps in (5, 20, 50):
        attacks[f"steps {steps}"] = PGD.under(threat, steps=steps, step_size=step_size)
    attacks |= {
        "large pgd": PGD.under(large),
        "large cw": Cw.under(large, steps=20),
        "no start": PGD.under(threat, step_size=step_size, random_start=False),
        "square": Square.under(threat, queries=QUERIES),
        "apgd-ce": APGD.under(threat),
        "cw": Cw.under(threat, step_size=step_size),
    }
    return [Measure(name, (attack,)) for name, attack in attacks.items()]


def check_attacks(sample: Report, full: Report, classes: int) -> Iterator[Check]:
    """What the outcomes of attacks say: ``sample`` of :func:`sanity_measures`, ``full`` of each
    attack that was asked for."""
    for more, names in RISES.items():
        found = {name: sample.accuracy[name] for name in names}
        rise = max(b - a for a, b in pairwise(found.values()))
        listed = ", ".join(f"{name}: {accuracy:.1f} %" for name, accuracy in found.items())
        verdict = f"Accuracy does not rise with {more} ({listed})."
        if rise > SLACK:
            verdict = (
                f"Accuracy rises by {rise:.1f} points with {more} ({listed}): the attack fails; "
                f"{HINT}."
            )
        yield Check(more, rise <= SLACK, verdict, found)

    accuracy = _per_cent(sample.correct["large pgd"] & sample.correct["large cw"])
    chance = 100 / classes
    passed = accuracy <= chance + SLACK
    verdict = f"With a ball that holds every image, accuracy is {accuracy:.1f} %, " + (
        f"no better than guessing ({chance:.1f} %)."
        if passed
        else f"though guessing gives {chance:.1f} %: the attack fails where it cannot; {HINT}."
    )
    yield Check("very large eps", passed, verdict, {"accuracy": accuracy, "chance": chance})

    start, no_start = sample.accuracy["eps x 1"], sample.accuracy["no start"]
    passed = abs(start - no_start) <= START_SLACK
    verdict = f"With a random start PGD-20 leaves {start:.1f} %, without one {no_start:.1f} %: " + (
        "it matters little."
        if passed
        else "the loss is rugged around the images; use restarts, and the strongest attacks."
    )
    yield Check("random start", passed, verdict, {"with": start, "without": no_start})

    white = [name for name in full.correct if name not in ("clean", "square")]
    results = full
    if not ("square" in full.correct and {"apgd-ce", "apgd-t"} <= set(white)):
        white, results = ["eps x 1", "apgd-ce", "cw"], sample
    survives = torch.stack([results.correct[name] for name in ("clean", *white)]).all(0)
    only_square = _per_cent(survives & ~results.correct["square"])
    passed = only_square <= max(1.0, 200 / results.n)  # two examples of a small set
    verdict = (
        f"Square, which sees no gradients, breaks {only_square:.1f} % of the examples that "
        f"gradient attacks do not{': they are no weaker than it.' if passed else f'; {HINT}.'}"
    )
    yield Check("black box", passed, verdict, {"only_square": only_square})


def _per_cent(flags: Tensor) -> float:
    return 100 * float(flags.float().mean())


def check_network(model: nn.Module, network: Network, x: Tensor, y: Tensor) -> Iterator[Check]:
    """What ``model`` as it is evaluated, ``network`` that attacks differentiate, and some images
    ``x`` with labels ``y`` say."""
    training = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if module.training and isinstance(module, RANDOM_OR_BATCHED)
    ]
    with torch.no_grad():
        logits, again = network(x), network(x)
    differs = not torch.equal(logits, again)
    verdict = "Dropout and BatchNorm are in eval mode, and the network answers the same twice."
    if training:
        verdict = f"In training mode during the evaluation: {', '.join(training)}."
    elif differs:
        verdict = (
            "The network answers the same images differently each time: it draws random numbers, "
            "and an attack has to average over them, which these do not."
        )
    yield Check("eval mode", not (training or differs), verdict, {"training": training})
    right = answers(logits) == y
    silent = f"Loss or gradients are NaN or infinite: {HINT}."
    if not bool(right.any()):
        verdict, finite = "No image is classified right, so there is none to check.", True
        if not logits.isfinite().all():
            verdict, finite = silent, False
        yield Check("gradients", finite, verdict)
        return
    gradient = image_gradient(network, x[right], summed_cross_entropy(y[right])).flatten(1)
    finite = bool(logits.isfinite().all() and gradient.isfinite().all())
    zero = _per_cent((gradient == 0).all(1))
    passed = finite and zero <= ZERO_GRADIENTS
    verdict = "Loss and gradients are finite, and not zero."
    if not finite:
        verdict = silent
    elif not passed:
        what = "The gradient of the loss is exactly zero"
        verdict = f"{what} for {zero:.1f} % of the images: {HINT}."
    yield Check("gradients", passed, verdict, {"zero": zero, "finite": finite})


def check_images(clean: Tensor, attacked: Mapping[str, Tensor]) -> Check:
    """Whether clean images, and adversarial ones by attack, lie in [0, 1]."""
    outside = [
        name
        for name, images in {"clean": clean, **attacked}.items()
        if not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1)
    ]
    verdict = "All images, clean and adversarial, lie in [0, 1]."
    if outside:
        verdict = f"Images outside [0, 1]: {', '.join(outside)}."
    return Check("inputs", not outside, verdict)
