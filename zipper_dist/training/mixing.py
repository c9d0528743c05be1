"""The global learner θ_g: the moving average of the mixture of the base learners.

The plain recursion needs every base learner at every iteration t:

    θ_g ← α_t θ_g + (1 - α_t) Σ_a w_a(t) θ_a

It is linear in the θ_a, so each learner can keep its own part of the sum where it lives,

    acc_a ← α_t acc_a + (1 - α_t) w_a(t) θ_a,        P ← α_t P        (acc_a = 0, P = 1 at a sync)

and a sync adds the parts up:  θ_g ← P θ_g + Σ_a acc_a. What learner a contributes to that sum is
its *share*; the term P θ_g belongs to the share of one learner, the leader.

What is stored is acc_a / S with S ← α_t S, a Python float: an iteration adds to the tensor and does
not multiply it, which is half the work, and more exact: α in fp32 has few digits of 1 - α."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from zipper_dist.activity import doing
from zipper_dist.config.schedules import progress_at
from zipper_dist.config.schema import MixConfig
from zipper_dist.training.learner import ema_decay

SMALLEST_SCALE = 2.0**-20  # below it the accumulators are brought back to scale 1

Weights = Callable[[int], Mapping[str, float]]


def mixing_weights(
    config: MixConfig, names: Sequence[str], total_steps: int, held: int = 1
) -> Weights:
    """w_a(t) for the learners ``names``, in the order of the method; they stand still for ``held``
    iterations."""
    schedules = config.mixing_weights(names)

    def weights(t: int) -> Mapping[str, float]:
        progress = progress_at(t, total_steps, held)
        return {name: weight(progress) for name, weight in schedules.items()}

    return weights


class Mixer:
    """The shares of θ_g that ``learners``, those that one process saves in the order of the method,
    hold.

    ``theta`` is θ_0 (1-D), ``leader`` has P θ_g, ``weights`` is w_a(t), ``decay`` is α, whose
    warm-up counts the first iteration as ``first_count``.
    ``copies`` are those, none at first, that are here for checkpoints alone: another process gives
    their shares to the sum.
    """

    def __init__(
        self,
        theta: Tensor,
        learners: Sequence[str],
        leader: str,
        weights: Weights,
        decay: float,
        first_count: int = 1,
    ) -> None:
        self.accumulators = {name: torch.zeros_like(theta) for name in learners}
        self.copies: Collection[str] = ()
        self.carry = 1.0
        self.scale = 1.0
        self.synced_at = 0
        self._size, self._device, self._dtype = theta.numel(), theta.device, theta.dtype
        self.theta = theta.clone() if leader in learners else None
        self._leader = leader
        self.weights = weights
        self._decay = decay
        self._first_count = first_count

    @doing("mixing")
    def accumulate(self, t: int, thetas: Mapping[str, Tensor]) -> None:
        """Add iteration ``t``: ``thetas`` by name, flat, of these learners at least."""
        alpha = ema_decay(self._decay, t, self._first_count)
        weights = self.weights(t)
        self.carry *= alpha
        self.scale *= alpha
        if self.scale < SMALLEST_SCALE:
            for accumulator in self.accumulators.values():
                accumulator.mul_(self.scale)
            self.scale = 1.0
        for name, accumulator in self.accumulators.items():
            accumulator.add_(thetas[name], alpha=(1 - alpha) * weights[name] / self.scale)

    def shares(self) -> dict[str, Tensor]:
        """What each learner in this process contributes to θ_g now, as new tensors."""
        shares = {name: acc * self.scale for name, acc in self.accumulators.items()}
        if self.theta is not None:
            shares[self._leader].add_(self.theta, alpha=self.carry)
        return shares

    def total(self, shares: Mapping[str, Tensor]) -> Tensor:
        """The sum of the shares in this process, but for ``copies``, to be summed over all, in any
        order: two numbers have but one sum, a few have in float64."""
        exact = self._dtype if len(self.weights(1)) <= 2 else torch.float64
        sum_ = torch.zeros(self._size, dtype=exact, device=self._device)
        for name, share in shares.items():
            if name not in self.copies:
                sum_.add_(share)
        return sum_

    def sync(self, t: int, theta: Tensor) -> None:
        """Start new shares from θ_g as it is after iteration ``t``."""
        if self.theta is not None:
            self.theta.copy_(theta)
        for accumulator in self.accumulators.values():
            accumulator.zero_()
        self.carry = self.scale = 1.0
        self.synced_at = t

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Everything of learner ``name`` that an exact resume needs."""
        scale = torch.tensor(self.scale, dtype=torch.float64)
        tensors = {"accumulator": self.accumulators[name], "scale": scale}
        if name == self._leader and self.theta is not None:
            tensors["global"] = self.theta
        return tensors

    def restore(self, name: str, tensors: Mapping[str, Tensor], carry: float, at: int) -> None:
        """Restore what :meth:`tensors` gave, of what is here, and ``carry`` and ``synced_at``."""
        if name in self.accumulators:
            self.accumulators[name].copy_(tensors["accumulator"])
        if name == self._leader and self.theta is not None:
            self.theta.copy_(tensors["global"])
        self.carry, self.synced_at = carry, at
        self.scale = float(tensors["scale"])
