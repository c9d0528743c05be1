"""Sanity checks: whether the figures can be what they seem to be.

They follow the advice of Carlini et al., "On Evaluating Adversarial Robustness", 2019, and of
Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import Network
from zipper_dist.attacks import PGD, Attack, Cw, Square, image_gradient, summed_cross_entropy
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import Measure, attack_named
from zipper_dist.evaluation.results.report import Report

SAMPLE = 256
"""The checks attack the first blocks, of so many examples or a few more together [images]."""

SLACK = 3.0
"""An attack that is no weaker may break so much fewer examples by chance [points]."""

START_SLACK = 5.0
"""How much a random start may matter [points]."""

ZERO_GRADIENTS = 1.0
"""How many examples may have a gradient of exactly zero [per cent]."""

QUERIES = 500
"""Of Square, where it is run for the checks alone."""

HINT = "the network may hide its gradients, and then its robust accuracy is an illusion"


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
    """The attacks that the checks need, by the names that the checks give them.

    ``step_size``: as for :func:`~zipper_dist.evaluation.attack_list.measures`; ``shape``: of an
    image, (C, H, W).
    """

    def scaled(factor: float) -> Attack:
        eps = threat.eps * factor
        eps = min(1.0, eps) if threat.norm == "linf" else eps
        step = None if step_size is None else step_size * (eps / threat.eps)
        return attack_named("pgd-20", ThreatModel(threat.norm, eps), step)

    everything = 1.0 if threat.norm == "linf" else math.sqrt(shape.numel())
    large = ThreatModel(threat.norm, everything)
    attacks = {f"eps x {factor}": scaled(factor) for factor in (0.5, 1, 2)}
    for steps in (5, 20, 50):
        attacks[f"steps {steps}"] = attack_named(f"pgd-{steps}", threat, step_size)
    attacks |= {"large pgd": attack_named("pgd-20", large), "large cw": Cw.under(large, steps=20)}
    attacks["no start"] = PGD.under(threat, step_size=step_size, random_start=False)
    attacks["square"] = Square.under(threat, queries=QUERIES)
    for name in ("apgd-ce", "cw"):
        attacks[name] = attack_named(name, threat, step_size)
    return [Measure(name, (attack,)) for name, attack in attacks.items()]


def check_attacks(sample: Report, full: Report, classes: int) -> Iterator[Check]:
    """What the outcomes of attacks say.

    ``sample``: of :func:`sanity_measures`; ``full``: of each attack that was asked for.
    """
    yield _no_rise(sample, "more eps", ["eps x 0.5", "eps x 1", "eps x 2"])
    yield _no_rise(sample, "more steps", ["steps 5", "steps 20", "steps 50"])
    yield _large_eps(sample, classes)
    yield _random_start(sample)
    white = [name for name in full.correct if name not in ("clean", "square")]
    if "square" in full.correct and {"apgd-ce", "apgd-t"} <= set(white):
        yield _black_box(full, white)
    else:
        yield _black_box(sample, ["eps x 1", "apgd-ce", "cw"])


def _no_rise(results: Report, what: str, names: list[str]) -> Check:
    accuracies = [results.accuracy[name] for name in names]
    rise = max(b - a for a, b in pairwise(accuracies))
    listed = ", ".join(
        f"{name}: {accuracy:.1f} %" for name, accuracy in zip(names, accuracies, strict=True)
    )
    passed = rise <= SLACK
    verdict = (
        f"Accuracy does not rise with {what} ({listed})."
        if passed
        else f"Accuracy rises by {rise:.1f} points with {what} ({listed}): the attack goes astray; "
        f"{HINT}."
    )
    figures = dict(zip(names, accuracies, strict=True))
    return Check(what, passed, verdict, figures)


def _large_eps(results: Report, classes: int) -> Check:
    survives = results.correct["large pgd"] & results.correct["large cw"]
    accuracy, chance = 100 * float(survives.float().mean()), 100 / classes
    passed = accuracy <= chance + SLACK
    verdict = f"With a ball that holds every image, accuracy is {accuracy:.1f} %"
    verdict += (
        f", no better than guessing ({chance:.1f} %)."
        if passed
        else f", though guessing gives {chance:.1f} %: the attack fails where it cannot; {HINT}."
    )
    return Check("very large eps", passed, verdict, {"accuracy": accuracy, "chance": chance})


def _random_start(results: Report) -> Check:
    with_start, without = results.accuracy["eps x 1"], results.accuracy["no start"]
    apart = abs(with_start - without)
    passed = apart <= START_SLACK
    verdict = f"With a random start PGD-20 leaves {with_start:.1f} %, without one {without:.1f} %"
    verdict += (
        ": it matters little."
        if passed
        else ": the loss is rugged around the images; use restarts, and the strongest attacks."
    )
    return Check("random start", passed, verdict, {"with": with_start, "without": without})


def _black_box(results: Report, white: list[str]) -> Check:
    survives = results.correct["clean"]
    for name in white:
        survives = survives & results.correct[name]
    only_square = 100 * float((survives & ~results.correct["square"]).float().mean())
    allowed = max(1.0, 200 / results.n)  # two examples of a small set
    passed = only_square <= allowed
    verdict = (
        f"Square, which sees no gradients, breaks {only_square:.1f} % of the examples that "
        "gradient attacks do not"
    )
    verdict += ": they are no weaker than it." if passed else f"; {HINT}."
    return Check("black box", passed, verdict, {"only_square": only_square})


def check_network(model: nn.Module, network: Network, x: Tensor, y: Tensor) -> Iterator[Check]:
    """What the network and the images themselves say.

    ``model``: as it is evaluated; ``network``: what attacks differentiate; ``x``, ``y``: some
    images and labels.
    """
    yield _eval_mode(model, network, x)
    yield _gradients(network, x, y)


def check_images(clean: Tensor, attacked: Mapping[str, Tensor]) -> Check:
    """Whether clean images, and adversarial ones by attack, lie in [0, 1]."""
    outside = [
        name
        for name, images in {"clean": clean, **attacked}.items()
        if not (images.isfinite().all() and images.min() >= 0 and images.max() <= 1)
    ]
    verdict = (
        f"Images outside [0, 1]: {', '.join(outside)}."
        if outside
        else "All images, clean and adversarial, lie in [0, 1]."
    )
    return Check("inputs", not outside, verdict)


RANDOM_OR_BATCHED = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def _eval_mode(model: nn.Module, network: Network, x: Tensor) -> Check:
    training = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if module.training and isinstance(module, RANDOM_OR_BATCHED)
    ]
    with torch.no_grad():
        first, second = network(x), network(x)
    differs = not torch.equal(first, second)
    verdict = "Dropout and BatchNorm are in eval mode, and the network answers the same twice."
    if training:
        verdict = f"In training mode during the evaluation: {', '.join(training)}."
    elif differs:
        verdict = (
            "The network answers the same images differently each time: it draws random numbers, "
            "and an attack has to average over them, which these do not."
        )
    return Check("eval mode", not (training or differs), verdict, {"training": training})


def _gradients(network: Network, x: Tensor, y: Tensor) -> Check:
    with torch.no_grad():
        logits = network(x)
        right = logits.argmax(1) == y
    x, y = x[right], y[right]
    if len(y) == 0:
        return Check("gradients", True, "No image is classified right, so there is none to check.")
    gradient = image_gradient(network, x, summed_cross_entropy(y)).flatten(1)
    finite = bool(logits.isfinite().all() and gradient.isfinite().all())
    zero = 100 * float((gradient == 0).all(1).float().mean())
    passed = finite and zero <= ZERO_GRADIENTS
    verdict = "Loss and gradients are finite, and not zero."
    if not finite:
        verdict = f"Loss or gradients are NaN or infinite: {HINT}."
    elif not passed:
        verdict = (
            f"The gradient of the loss is exactly zero for {zero:.1f} % of the images: {HINT}."
        )
    return Check("gradients", passed, verdict, {"zero": zero, "finite": finite})
