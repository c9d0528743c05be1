"""Attacks of a number of gradient steps, each of one length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.ascent import Direction, Loss, ascend, summed_cross_entropy
from zipper_dist.attacks.ball import Ball, make_ball
from zipper_dist.attacks.base import Attack
from zipper_dist.attacks.draws import Draws
from zipper_dist.config.threat import ThreatModel


@dataclass(frozen=True)
class Iterated(Attack):
    """Ascent on the cross-entropy from the clean image; subclasses have other starts, losses or
    directions."""

    step_size: float | None = None
    """Length of a step, in the norm [1 = the full pixel range]; None: 2.5 eps / steps."""
    steps: int = 20
    """Gradient steps."""

    @property
    def name(self) -> str:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return f"{super().name}-{self.steps}"

    @property
    def step(self) -> float:
        """The length of a step [1 = the full pixel range]."""
        if self.step_size is not None:
            return self.step_size
        return ThreatModel(self.norm, self.eps).default_step_size(max(1, self.steps))

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return super().settings | {"step_size": self.step}

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return 2 * self.steps * self.starts

    def start(self, ball: Ball, x: Tensor, draws: Draws) -> Tensor:
        """Where the first step starts: images (B, C, H, W) in the ball around ``x``."""
        return x

    def loss(self, network: Network, x: Tensor, y: Tensor) -> Loss:
        """What is ascended."""
        return summed_cross_entropy(y)

    def direction(self) -> Direction | None:
        """What is made of the gradients of one batch; None: nothing."""
        return None

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        ball = make_ball(self.norm, x, self.eps)
        start = self.start(ball, x, draws)
        loss, direction = self.loss(network, x, y), self.direction()
        if self.steps == 0:
            yield start
        yield from ascend(network, start, ball, loss, self.step, self.steps, direction)
