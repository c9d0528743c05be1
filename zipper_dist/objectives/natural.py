"""Natural training (NT): no attack."""

from dataclasses import dataclass

from torch import Tensor

from zipper_dist.data import Minibatch
from zipper_dist.objectives.base import (
    OBJECTIVES,
    Attacked,
    CrossEntropy,
    SmoothedConfig,
    StepContext,
)


@dataclass(frozen=True)
class NaturalConfig(SmoothedConfig):
    """A base learner that trains on the images as they are."""


@OBJECTIVES.register("natural")
class Natural(CrossEntropy):
    """Cross-entropy on the images as they are."""

    Config = NaturalConfig

    def __init__(self, config: NaturalConfig, attacked: Attacked) -> None:
        self.config = config

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The images as they are."""
        return batch.images
