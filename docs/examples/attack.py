"""An attack: the worst of a number of random points of the ball."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks import Attack, Draws, make_ball


@dataclass(frozen=True)
class RandomSearch(Attack):
    """Of ``points`` random points of each image's ball, the one with the highest loss."""

    points: int = 10
    """How many are tried."""

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """The images (B, C, H, W) so far, after each point."""
        ball, generators = make_ball(self.norm, x, self.eps), draws.generators()
        worst, highest = x.clone(), torch.full(y.shape, -torch.inf, device=x.device)
        for _ in range(self.points):
            candidate = ball.random_start(generators)
            with torch.no_grad():
                loss = F.cross_entropy(network(candidate), y, reduction="none")
            higher = loss > highest
            worst[higher], highest[higher] = candidate[higher], loss[higher]
            yield worst
