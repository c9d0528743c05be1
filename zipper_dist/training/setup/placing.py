"""Which rank trains what: from the options of a run, and from measured costs where they count."""

import time
from collections.abc import Mapping, Sequence

from zipper_dist.config.schema import TrainConfig
from zipper_dist.distributed.assignment import (
    Assignment,
    Costs,
    balanced,
    dedicated,
    rank_counts,
    shared,
    whole_learners,
)
from zipper_dist.errors import UserError
from zipper_dist.training.context import RunContext
from zipper_dist.training.setup.limits import refuse_single_values
from zipper_dist.training.setup.materials import Materials
from zipper_dist.training.setup.together import check_directories, check_ranks_alike

MEASURED_STEPS = 2
FEWEST_IMAGES = 8
"""Of a shard, which BatchNorm normalises by itself, where shards are made smaller for ranks to be
equally busy."""
UNEVEN = 1.15
"""How much longer an iteration may take than if ranks were equally busy, for as large shards."""


def place(run: RunContext, materials: Materials, shards: int | None) -> Assignment:
    """Who trains what, with groups of the ranks that train a learner together; UserError if the
    options or the ranks do not allow it. ``shards``: the number that the run was begun with, if it
    was."""
    config, world = run.config, run.world
    costs: list[Mapping[str, float]] = [{} for _ in range(world.size)]
    if costs_count(config, world.size):
        costs = run.wait(world.gather("costs", measured(run, materials)))
        materials.costs.extend(costs)
        mean = _mean(costs)
        words = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in mean.items())
        materials.notes.append(f"an iteration of each learner, mean of the ranks: {words}")
    assignment = assign(config, costs, materials.loader.batch_size, shards)
    batch_size, spec = materials.loader.batch_size, materials.spec
    if batch_size == assignment.shards:
        option = "--batch-size 1" if batch_size == 1 else f"{batch_size} shards of one image"
        image = (spec.channels, spec.height, spec.width)
        refuse_single_values(materials.model, image, option)
    if assignment.shards > 1:
        parts = [
            ", ".join(f"{n} {len(mine)}" for n, mine in each.items()) for each in assignment.items
        ]
        words = "; ".join(f"rank {rank} {part}" for rank, part in enumerate(parts))
        materials.notes.append(f"{assignment.shards} shards of each learner: {words}")
        if config.placement.mode != "balanced":
            materials.notes.extend(uneven(assignment, batch_size))
    if world.size > 1:
        check_ranks_alike(run, materials.acceleration, assignment)
        check_directories(run, assignment)
    world.form_groups({name: assignment.ranks_of(name) for name in config.learners})
    return assignment


def measured(run: RunContext, materials: Materials) -> dict[str, float]:
    """What an iteration of each learner takes this rank: the faster of two, after one [s]."""
    costs = {}
    for name in run.config.learners:
        learner = materials.learner(name, run.config)
        seconds = []
        for t in range(1, 2 + MEASURED_STEPS):
            batch = materials.loader.minibatch(t)
            start = time.perf_counter()
            float(learner.step(batch, t).loss)  # waits for a GPU
            seconds.append(time.perf_counter() - start)
        costs[name] = min(seconds[1:])
    return costs


def costs_count(config: TrainConfig, ranks: int) -> bool:
    """Whether the placement depends on what the learners cost."""
    if ranks == 1 or config.placement.mode == "shared":
        return False
    known = bool(config.placement.ranks.counts) or ranks == len(config.learners)
    return config.placement.mode == "balanced" or not known


def assign(
    config: TrainConfig, costs: Sequence[Costs], batch_size: int, shards: int | None
) -> Assignment:
    """Who trains what on as many ranks as there are ``costs``; see :func:`place`."""
    names, options, ranks = list(config.learners), config.placement, len(costs)
    if shards is None and options.shards != "auto":
        shards = options.shards
        if batch_size % shards != 0:
            wanted = ", ".join(str(n) for n in range(1, batch_size + 1) if batch_size % n == 0)
            raise UserError(
                f"--placement.shards {shards}: must divide --batch-size {batch_size}; give one of "
                f"{wanted}"
            )
    given = sum(count for _, count in options.ranks.counts)
    if ranks > 1 and given not in (0, ranks):
        raise UserError(
            f"--placement.ranks {options.ranks}: these are {given} ranks, and {ranks} were started"
        )
    if ranks == 1 or options.mode == "shared":
        shards = shards or _fitting(ranks, batch_size)
        _check(ranks, shards, "shards of a learner")
        return shared(names, ranks, shards)
    if options.mode == "balanced":
        shards = shards or _fitting(ranks, batch_size)
        _check(ranks, shards * len(names), "shards of all learners")
        return _without_idle(balanced(costs, shards))
    return _dedicated(config, costs, batch_size, shards)


def _dedicated(
    config: TrainConfig, costs: Sequence[Costs], batch_size: int, shards: int | None
) -> Assignment:
    """One learner on each rank, or whole learners on fewer ranks."""
    names, given, ranks = list(config.learners), dict(config.placement.ranks.counts), len(costs)
    if ranks < len(names):
        return whole_learners(_mean(costs), ranks, shards or 1)
    if given:
        counts = {name: given[name] for name in names}
        shards = shards or _fitting(max(counts.values()), batch_size)
    elif ranks == len(names):
        counts = dict.fromkeys(names, 1)
        shards = shards or 1
    else:
        # The number of shards decides the result, so that it must not depend on measured times.
        passes = {name: float(learner.passes()) for name, learner in config.learners.items()}
        shards = shards or _fitting(max(rank_counts(passes, ranks, ranks).values()), batch_size)
        _check(ranks, shards * len(names), "shards of all learners")
        counts = rank_counts(_mean(costs), ranks, shards)
    _check(max(counts.values()), shards, "shards of a learner")
    return dedicated(counts, shards)


def _without_idle(assignment: Assignment) -> Assignment:
    if idle := [str(rank) for rank, items in enumerate(assignment.items) if not items]:
        raise UserError(
            f"rank {', '.join(idle)} would have nothing to do, as the others are done sooner: "
            f"start fewer ranks, or begin a run with more than {assignment.shards} shards "
            "(--placement.shards)"
        )
    return assignment


def _check(ranks: int, parts: int, words: str) -> None:
    if ranks > parts:
        raise UserError(
            f"{ranks} ranks have too little to do ({words}: {parts}): start fewer ranks, or begin "
            "a run with more shards (--placement.shards)"
        )


def _fitting(ranks: int, batch_size: int) -> int:
    """The smallest number of shards, at least one a rank, that divides the minibatch and leaves the
    ranks about equally busy; if there is none, the one that comes nearest."""
    fitting = [n for n in range(ranks, batch_size + 1) if batch_size % n == 0]
    if not fitting:
        raise UserError(
            f"{ranks} ranks are more than the {batch_size} images of a minibatch (--batch-size)"
        )
    large = [n for n in fitting if batch_size // n >= FEWEST_IMAGES] or fitting[:1]
    slowdown = {n: -(-n // ranks) * ranks / n for n in large}
    return next((n for n in large if slowdown[n] <= UNEVEN), min(large, key=slowdown.__getitem__))


def uneven(assignment: Assignment, batch_size: int) -> list[str]:
    """A note where the ranks of the learner that most of them train have unequal numbers of its
    shards, with what would be even."""
    learners = {name: assignment.ranks_of(name) for mine in assignment.items for name in mine}
    name, ranks = max(learners.items(), key=lambda item: len(item[1]))
    shards, count = assignment.shards, len(ranks)
    if shards % count == 0:
        return []
    largest = max(len(assignment.items[rank][name]) for rank in ranks)
    divisors = [n for n in range(1, shards + 1) if shards % n == 0]
    fewer, more = max(n for n in divisors if n < count), min(n for n in divisors if n > count)
    size = max(1, round(batch_size / count)) * count
    batch = f"--batch-size {size} " if size != batch_size else ""
    return [
        f"{shards} shards of the {name} learner are unequal shares for {count} ranks, which wait "
        f"{100 - 100 * shards / (count * largest):.0f} % of the time: even would be {fewer} or "
        f"{more} ranks, or a new run with {batch}--placement.shards {count}"
    ]


def _mean(costs: Sequence[Costs]) -> Costs:
    return {name: sum(each[name] for each in costs) / len(costs) for name in costs[0]}
