"""Proof that the ranks of a job hold the same weights."""

from collections import Counter

import torch
from torch import Tensor

from zipper_dist.errors import CommandError
from zipper_dist.training.context import RunContext, TrainState

PART = 2**18
"""Numbers that :func:`checksum` takes at a time, in little memory."""


class Disagreement(CommandError):
    """Ranks hold different weights where they should hold the same."""


def check_agreement(run: RunContext, state: TrainState, theta: Tensor) -> None:
    """Raise Disagreement, naming the ranks, unless all have the same global learner ``theta``, and
    all that train a learner have the same one.

    One all-reduce of a row for each rank, in which only that rank writes: the checksums of the
    learners, and of θ_g. In RAM, as an all-reduce that waits for another rank would block a GPU.
    """
    world, names = run.world, [*run.config.learners, "global"]
    if world.size == 1:
        return
    sums = torch.zeros(world.size, len(names), dtype=torch.int64)
    mine = {learner.name: learner.state.flat for learner in state.learners} | {"global": theta}
    for name, weights in mine.items():
        sums[world.rank, names.index(name)] = checksum(weights)
    columns = run.wait(world.all_reduce(sums)).T.tolist()
    for name, column in zip(names, columns, strict=True):
        ranks = range(world.size) if name == "global" else state.assignment.ranks_of(name)
        found = {rank: column[rank] for rank in ranks}
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
    """The sum, modulo 2⁶⁴, of the bits of float32 numbers, read as integers, each times an odd
    number of its own: one bit always counts, and numbers that change places do."""
    total = torch.zeros((), dtype=torch.int64, device=weights.device)
    first = 1
    for part in torch.split(weights.view(torch.int32), PART):
        last = first + 2 * len(part)
        total += (part * torch.arange(first, last, 2, device=weights.device)).sum()
        first = last
    return int(total)
