"""Projected gradient descent (PGD): the attack of adversarial training.

Source: Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to
Adversarial Attacks", ICLR 2018.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from zipper_dist.attacks.ball import Ball, drawn
from zipper_dist.attacks.base import ATTACKS, Iterated
from zipper_dist.attacks.draws import Draws
from zipper_dist.config.schema import AttackConfig, Start

NOISE = 0.001
"""Standard deviation of the noise of a normal start [1 = the full pixel range]."""

AnyPGD = TypeVar("AnyPGD", bound="PGD")


@ATTACKS.register("pgd")
@dataclass(frozen=True)
class PGD(Iterated):
    """Untargeted PGD on the cross-entropy."""

    random_start: bool = True
    """Start at a random point of the ball."""
    restarts: int = 1
    """Starts, each for the examples that the ones before did not break."""
    begin: Start = "uniform"
    """Where a random start is: uniform in the ball; normal: at x + 0.001 · N(0, 1), cut into the
    ball, or normal-uncut."""

    @classmethod
    def of(cls: type[AnyPGD], config: AttackConfig, scale: float = 1.0, **more: Any) -> AnyPGD:
        """The attack that a learner trains against, with radius and step multiplied by ``scale``;
        ``more``: what a subclass has beside them."""
        if config.start != "auto":
            more["begin"] = config.start
        return cls(
            scale * config.eps, config.norm, scale * config.step_size, config.steps,
            config.random_start, **more,
        )  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        settings = super().settings
        if self.restarts == 1:
            del settings["restarts"]
        if self.begin == type(self).begin:
            del settings["begin"]
        return settings

    @property
    def starts(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return self.restarts

    def start(self, ball: Ball, x: Tensor, draws: Draws) -> Tensor:
        """See :class:`~zipper_dist.attacks.base.Iterated`."""
        if not self.random_start:
            return x.detach().clone()
        if self.begin == "uniform":
            return ball.random_start(draws.generators())
        start = x + NOISE * drawn(x.shape, x, draws.generators(), torch.Tensor.normal_)
        return start if self.begin == "normal-uncut" else ball.project(start)
