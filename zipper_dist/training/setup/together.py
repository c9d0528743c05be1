"""Whether ranks can train a learner together, and which of them see the same run directory."""

import itertools
import platform
import secrets
from collections.abc import Sequence
from pathlib import Path

from zipper_dist.accel.precision import Acceleration
from zipper_dist.distributed.assignment import Assignment
from zipper_dist.errors import UserError
from zipper_dist.training.context import RunContext


def check_ranks_alike(run: RunContext, how: Acceleration, assignment: Assignment) -> None:
    """Raise UserError where ranks would train the same learner in different ways, which makes its
    last bits depend on the placement."""
    plan = run.world.plan
    mine = {
        "device": plan.device.type,
        "threads": plan.threads,
        "compiled": how.compiled,
        "plain layout": how.plain_layout,
    }
    ranks = run.wait(run.world.gather("how", mine))
    for name in run.config.learners:
        first, *others = assignment.ranks_of(name)
        for other, what in itertools.product(others, mine):
            one, two = ranks[first][what], ranks[other][what]
            if one != two:
                raise UserError(
                    f"ranks {first} and {other} would train the {name} learner together, with "
                    f"{what} {one} and {two}: give all ranks the same --device, --threads and "
                    "--compile, or each learner ranks that are alike (--placement.ranks)"
                )


def directories(run: RunContext) -> tuple[list[int], list[str]]:
    """For each rank, the first one that sees the same run directory; and a note for the user on
    each directory but that of rank 0. Every rank leaves a mark in its own for a moment."""
    world, root = run.world, run.directory.root.absolute()
    if world.size == 1:
        return [0], []
    job = run.wait(world.gather("marks", secrets.token_hex(8)))[0]
    mark = _mark(root, job, world.rank)
    mark.touch()
    try:
        run.wait(world.gather("marked", None))
        first = next(rank for rank in range(world.size) if _mark(root, job, rank).exists())
        where = f"{root} of machine {platform.node()}"
        seen = run.wait(world.gather("seen", {"first": first, "where": where}))
    finally:
        mark.unlink(missing_ok=True)
    firsts = [each["first"] for each in seen]
    notes = []
    for first in sorted(set(firsts) - {0}):
        ranks = ", ".join(str(rank) for rank, own in enumerate(firsts) if own == first)
        notes.append(
            f"rank {ranks} keeps its checkpoints in {seen[first]['where']}, which rank 0 does not "
            "see: continue on the same machines"
        )
    return firsts, notes


def saves(rank: int, ranks: Sequence[int], directories: Sequence[int]) -> bool:
    """Whether ``rank`` is the first of those that train a learner in its run directory."""
    return rank == next(other for other in ranks if directories[other] == directories[rank])


def _mark(root: Path, job: str, rank: int) -> Path:
    return root / f".{job}-{rank}"
