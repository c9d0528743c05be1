"""Proof that the ranks of a job hold the same weights."""

from collections import Counter

import torch
from torch import Tensor

from zipper_dist.errors import CommandError
from zipper_dist.training.context import RunContext, TrainState


class Disagreement(CommandError):
    """Ranks hold different weights where they should hold the same."""


def check_agreement(run: RunContext, state: TrainState, theta: Tensor) -> None:
    """Raise Disagreement, naming the ranks, unless all have the same global learner ``theta``, and
    all that train a learner have the same one."""
    if run.world.size == 1:
        return
    mine = {learner.name: checksum(learner.state.flat) for learner in state.learners}
    reports = run.wait(
        run.world.gather(f"agreement/{state.at}", mine | {"global": checksum(theta)})
    )
    for name in [*run.config.learners, "global"]:
        found = {rank: each[name] for rank, each in enumerate(reports) if name in each}
        (usual, _), *others = Counter(found.values()).most_common()
        if others:
            odd, rest = (
                ", ".join(str(rank) for rank, value in found.items() if (value == usual) == same)
                for same in (False, True)
            )
            raise Disagreement(
                f"after iteration {state.at}, the {name} learner of rank {odd} is not that of "
                f"rank {rest}: hardware or versions of PyTorch "
                "differ, or a computation was wrong; the checkpoints up to then are kept"
            )


def checksum(weights: Tensor) -> int:
    """The sum of the bits of float32 numbers, read as integers."""
    return int(weights.view(torch.int32).sum(dtype=torch.int64))
