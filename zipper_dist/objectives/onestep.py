"""One-step adversarial training: images attacked by a single gradient step, from noise.

It costs little more than natural training, and can overfit catastrophically: within an epoch the
network learns to withstand the one step alone. Validation notices it: see
:mod:`zipper_dist.metrics.overfitting`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks import PGD, Draws, ascend, make_ball
from zipper_dist.config import ranges
from zipper_dist.config.schema import AttackConfig
from zipper_dist.objectives.at import Adversarial, AtConfig
from zipper_dist.objectives.base import OBJECTIVES


@dataclass(frozen=True)
class RsfgsmConfig(AtConfig):
    """A base learner that trains by FGSM from a random start."""

    objective: str = "rsfgsm"
    attack: AttackConfig = field(
        default_factory=lambda: AttackConfig(eps=8 / 255, step_size=10 / 255, steps=1)
    )

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        if self.attack.steps != 1:
            length = RELATIVE_STEP[self.objective]
            yield (
                f"{option}.attack.steps {self.attack.steps}: {self.objective} takes one step: give "
                f"1, and {option}.attack.step-size {length * self.attack.eps:.4g}, or as you like"
            )


RELATIVE_STEP = {"rsfgsm": 1.25, "nfgsm": 1.0}
"""The published length of the step [radii]."""


@OBJECTIVES.register("rsfgsm")
class RandomStartFgsm(Adversarial):
    """Cross-entropy on images after one step of PGD: from a uniformly random point of the ball,
    published with a length of 1.25 ε, and back into the ball.

    Source: Wong, Rice and Kolter, "Fast Is Better than Free: Revisiting Adversarial Training", ICLR
    2020, algorithm 3.
    """

    Config = RsfgsmConfig
    config: RsfgsmConfig


@dataclass(frozen=True)
class NfgsmConfig(RsfgsmConfig):
    """A base learner that trains by N-FGSM."""

    objective: str = "nfgsm"
    noise: float = 2.0
    """Radius of the noise that the step starts from, relative to that of the attack."""
    attack: AttackConfig = field(
        default_factory=lambda: AttackConfig(eps=8 / 255, step_size=8 / 255, steps=1)
    )

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.number(f"{option}.noise", self.noise, 0, 1e3)


@OBJECTIVES.register("nfgsm")
class NoiseFgsm(Adversarial):
    """Cross-entropy on images after noise and one step, published with a length of ε, that are not
    brought back into the ball: the noise is a part of the image that is trained on.

    Source: de Jorge et al., "Make Some Noise: Reliable and Efficient Single-Step Adversarial
    Training", NeurIPS 2022, section 4.
    """

    Config = NfgsmConfig
    config: NfgsmConfig

    def attack(self, progress: float) -> PGD:
        """The attack at ``progress`` 0 … 1 of the run."""
        scale = self.config.attack.schedule(progress)
        return NoiseFgsmAttack.of(self.config.attack, scale, noise=self.config.noise)


@dataclass(frozen=True)
class NoiseFgsmAttack(PGD):
    """A step from a random point of the ball that is ``noise`` times as large; pixels are cut to
    [0, 1], perturbations not to the ball."""

    noise: float = 2.0

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        radius = self.noise * self.eps
        start = self.start(make_ball(self.norm, x, radius), x, draws)
        within_reach = make_ball(self.norm, x, radius + self.step)
        yield from ascend(network, start, within_reach, self.loss(network, x, y), [self.step])
