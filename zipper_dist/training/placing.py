"""Which rank trains what in a run: from its options, and from measured costs where they count."""

from collections.abc import Sequence

from zipper_dist.config.schema import TrainConfig
from zipper_dist.distributed.assignment import (
    Assignment,
    Costs,
    whole_learners,
)

MEASURED_STEPS = 2


def needs_costs(config: TrainConfig, ranks: int) -> bool:
    """Whether the placement depends on what the learners cost."""
    if ranks == 1 or config.placement.mode == "shared":
        return False
    given = bool(config.placement.ranks.counts) or ranks == len(config.learners)
    return config.placement.mode == "balanced" or not given


def assign(
    config: TrainConfig, ranks: int, shards: int | None, costs: Sequence[Costs]
) -> Assignment:
    """Who trains what on so many ranks; UserError if that is not possible.

    ``shards`` is the number of them that the run was begun with, if it was; ``costs`` are the
    seconds of an iteration of each learner on each rank, if they count (:func:`needs_costs`).
    """
    names, options = list(config.learners), config.placement
    if shards is None and options.shards != "auto":
        shards = options.shards
    if options.mode == "dedicated" and ranks < len(names):
        return whole_learners(costs[0], ranks, shards or 1)
    ...
