"""Whether ranks can train a learner together: alike, and with the same run directory."""

import itertools
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


def check_directories(run: RunContext, assignment: Assignment) -> None:
    """Raise UserError where the ranks of a learner, which its first rank saves, do not see the same
    run directory."""
    shared = {n: r for n in run.config.learners if len(r := assignment.ranks_of(n)) > 1}
    if not shared:
        return
    visible = _visible(run)
    for name, ranks in shared.items():
        blind = [rank for rank in ranks if ranks[0] not in visible[rank]]
        if blind:
            raise UserError(
                f"--run-dir {run.directory.root}: rank {', '.join(map(str, blind))} does not see "
                f"the directory of rank {ranks[0]}, with which it trains the {name} learner: give "
                "a directory that all machines see, or each learner ranks of one machine"
            )


def _visible(run: RunContext) -> Sequence[Sequence[int]]:
    """For each rank, those in whose run directory it is: each leaves a mark there for a moment."""
    world = run.world
    job = run.wait(world.gather("marks", secrets.token_hex(8)))[0]
    mark = _mark(run.directory.root, job, world.rank)
    mark.touch()
    try:
        run.wait(world.gather("marked", None))
        found = [r for r in range(world.size) if _mark(run.directory.root, job, r).exists()]
        visible: list[list[int]] = run.wait(world.gather("seen", found))
    finally:
        mark.unlink(missing_ok=True)
    return visible


def _mark(root: Path, job: str, rank: int) -> Path:
    return root / f".{job}-{rank}"
