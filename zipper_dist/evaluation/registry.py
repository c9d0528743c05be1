"""The attacks by name: what ``--attacks`` may hold, and the parts that each is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from zipper_dist.attacks import Network, ascend, last, make_ball, summed_cross_entropy
from zipper_dist.attacks.autoattack import (
    ENSEMBLE,
    ITERATIONS,
    PARTS,
    QUERIES,
    TARGETS,
    apgd,
    apgd_targeted,
    fab_targeted,
)
from zipper_dist.attacks.cw import cw
from zipper_dist.attacks.fgsm import fgsm
from zipper_dist.attacks.mim import mim
from zipper_dist.attacks.square import square
from zipper_dist.config.threat import Norm
from zipper_dist.errors import UserError
from zipper_dist.evaluation.blocks import Places

STANDARD = ("clean", "fgsm", "pgd-20", "pgd-100", "mim", "cw", *PARTS, "aa")
"""What ``standard`` stands for: the attacks of the published tables."""

DEFAULT_STEPS = {"mim": 20, "cw": 30}

Run = Callable[[Network, Tensor, Tensor, Places], Tensor]
"""Attacks images (B, C, H, W) with labels (B,) that the network classifies right → images."""


@dataclass(frozen=True)
class Threat:
    """What an attacker may do, and the step of the attacks that take one."""

    norm: Norm
    eps: float
    step_size: float | None = None

    def step(self, steps: int) -> float:
        """The length of each of ``steps`` steps [1 = the full pixel range]."""
        return self.step_size or 2.5 * self.eps / steps


@dataclass(frozen=True)
class Part:
    """An attack that outcomes are kept for."""

    name: str
    """As in ``--attacks``; also the address of its random draws."""
    settings: dict[str, Any]
    """All that decides its outcomes, besides network, images, seed and blocks."""
    cost: int
    """Forward passes an image that it takes at most, a gradient counted as two."""
    run: Run
    restarts: int = 1
    block_at_a_time: bool = False
    """Whether a batch must not hold examples of two blocks."""


def expand(names: Sequence[str]) -> list[str]:
    """``--attacks`` with ``standard`` spelled out, commas taken for spaces, nothing twice.

    Raises:
        UserError: an unknown attack, or none.
    """
    given = [name for text in names for name in text.replace(",", " ").split()]
    spelled = [n for name in given for n in (STANDARD if name == "standard" else (name,))]
    for name in spelled:
        if name not in (*STANDARD, "mim", "cw") and not re.fullmatch(
            r"(pgd|mim|cw)-[1-9]\d*", name
        ):
            raise UserError(
                f"--attacks {name}: unknown attack; choose from clean, fgsm, pgd-N, mim, cw, "
                f"{', '.join(PARTS)}, aa, standard (N: a number of steps, as in pgd-20)"
            )
    if not spelled:
        raise UserError("--attacks: give one attack or more, such as clean pgd-20 aa")
    return list(dict.fromkeys(spelled))


def components(name: str) -> tuple[str, ...]:
    """The parts that decide an attack: an example is robust if it survives each of them."""
    if name == "clean":
        return ()
    return ENSEMBLE if name == "aa" else (name,)


def unsuitable(name: str, classes: int) -> str | None:
    """Why an attack cannot be run on a network of so many classes; None if it can."""
    if name == "apgd-dlr" and classes < 3:
        return f"apgd-dlr: its loss (DLR) takes 3 classes or more, and this network has {classes}"
    return None


def make_part(name: str, threat: Threat, restarts: int = 1) -> Part:
    """The part of this name: ``fgsm``, ``pgd-N``, ``mim[-N]``, ``cw[-N]`` or of AutoAttack."""
    settings: dict[str, Any] = {"attack": name, "norm": threat.norm, "eps": threat.eps}
    if name in PARTS:
        return _autoattack_part(name, threat, settings)
    if name == "fgsm":
        return Part(name, settings, 2, partial(_fgsm, threat))
    family, _, number = name.partition("-")
    steps = int(number or DEFAULT_STEPS[family])
    settings |= {"steps": steps, "step_size": threat.step(steps)}
    if family == "mim":
        return Part(name, settings | {"decay": 1.0}, 2 * steps, partial(_mim, threat, steps))
    run = {"pgd": _pgd, "cw": _cw}[family]
    part = Part(
        name, settings | {"random_start": True}, 2 * steps, partial(run, threat, steps, True)
    )
    if family == "pgd" and restarts > 1:
        part = replace(part, restarts=restarts, settings=part.settings | {"restarts": restarts})
        part = replace(part, cost=part.cost * restarts)
    return part


def pgd_without_start(steps: int, threat: Threat) -> Part:
    """PGD from the clean image itself."""
    part = make_part(f"pgd-{steps}", threat)
    settings = part.settings | {"random_start": False}
    return replace(part, settings=settings, run=partial(_pgd, threat, steps, False))


def short_square(queries: int, threat: Threat) -> Part:
    """Square with fewer queries than the standard version."""
    part = make_part("square", threat)
    run = partial(_square, threat, queries)
    return replace(part, settings=part.settings | {"queries": queries}, cost=queries, run=run)


def _autoattack_part(name: str, threat: Threat, settings: dict[str, Any]) -> Part:
    settings |= {"pyautoattack": version("pyautoattack")}
    gradients = 2 * ITERATIONS
    if name == "square":
        run: Run = partial(_square, threat, QUERIES)
        settings |= {"queries": QUERIES}
        return Part(name, settings, QUERIES, run, block_at_a_time=True)
    settings |= {"iterations": ITERATIONS}
    if name in ("apgd-ce", "apgd-dlr"):
        return Part(name, settings, gradients, partial(_apgd, threat, name.removeprefix("apgd-")))
    settings |= {"targets": TARGETS}
    if name == "apgd-t":
        return Part(name, settings, TARGETS * gradients, partial(_apgd_t, threat))
    return Part(name, settings, TARGETS * (gradients + ITERATIONS), partial(_fab_t, threat))


def _fgsm(threat: Threat, network: Network, x: Tensor, y: Tensor, places: Places) -> Tensor:
    return fgsm(network, x, y, norm=threat.norm, eps=threat.eps)


def random_starts(threat: Threat, x: Tensor, places: Places) -> Tensor:
    """A random point of the ball of each image, drawn for that example alone."""
    starts = [
        make_ball(threat.norm, image[None], threat.eps).random_start(generator)
        for image, generator in zip(x.cpu(), places.generators(), strict=True)
    ]
    return torch.cat(starts).to(x.device)


def _pgd(
    threat: Threat, steps: int, starts: bool, network: Network, x: Tensor, y: Tensor, places: Places
) -> Tensor:
    start = random_starts(threat, x, places) if starts else x
    ball = make_ball(threat.norm, x, threat.eps)
    loss = summed_cross_entropy(y)
    return last(start, ascend(network, start, ball, loss, threat.step(steps), steps))


def _mim(
    threat: Threat, steps: int, network: Network, x: Tensor, y: Tensor, places: Places
) -> Tensor:
    step = threat.step(steps)
    return mim(network, x, y, norm=threat.norm, eps=threat.eps, step_size=step, steps=steps)


def _cw(
    threat: Threat, steps: int, starts: bool, network: Network, x: Tensor, y: Tensor, places: Places
) -> Tensor:
    start = random_starts(threat, x, places) if starts else x
    step = threat.step(steps)
    return cw(
        network, x, y, norm=threat.norm, eps=threat.eps, step_size=step, steps=steps, start=start
    )


def _apgd(
    threat: Threat, loss: str, network: Network, x: Tensor, y: Tensor, places: Places
) -> Tensor:
    blocks = places.block_rows()
    return apgd(network, x, y, blocks, norm=threat.norm, eps=threat.eps, loss=loss)


def _apgd_t(threat: Threat, network: Network, x: Tensor, y: Tensor, places: Places) -> Tensor:
    return apgd_targeted(network, x, y, places.block_rows(), norm=threat.norm, eps=threat.eps)


def _fab_t(threat: Threat, network: Network, x: Tensor, y: Tensor, places: Places) -> Tensor:
    return fab_targeted(network, x, y, norm=threat.norm, eps=threat.eps)


def _square(
    threat: Threat, queries: int, network: Network, x: Tensor, y: Tensor, places: Places
) -> Tensor:
    (block,) = places.block_rows()
    return square(network, x, y, block, norm=threat.norm, eps=threat.eps, queries=queries)
