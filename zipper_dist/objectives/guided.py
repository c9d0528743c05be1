"""Objectives that ask another network for its logits: the guide."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zipper_dist.config.schedules import Interval, IntervalOption, epochs
from zipper_dist.config.schema import LearnerConfig


@dataclass(frozen=True)
class GuidedConfig(LearnerConfig):
    """A base learner that another network guides."""

    guide: str = "natural"
    """What guides it: another learner, by name, or a file of a network's weights."""
    guide_every: IntervalOption = epochs(1)
    """Interval at which it gets a copy of a guiding learner."""

    def guided_by(self) -> tuple[str, Interval]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        return self.guide, self.guide_every

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        if self.guide_every.amount == 0:
            yield f"{option}.guide-every {self.guide_every}: give 1 iteration or more"


class Guided:
    """The part of an objective that has a guide; its options are a :class:`GuidedConfig`."""

    guide: Callable[[Tensor], Tensor] | None = None
    """Images to logits, without a graph; None until there is a first copy of the guide."""


def frozen_guide(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The logits of ``network``, which belongs to nobody else, in eval mode and without a graph."""
    network.eval().requires_grad_(False)

    def logits(images: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = network(images)
        return found

    return logits
