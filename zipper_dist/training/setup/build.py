"""Builds a run, whose ranks are known, from its materials."""

import copy
from collections.abc import Sequence

from zipper_dist.config.schema import TrainConfig
from zipper_dist.distributed.assignment import Assignment
from zipper_dist.metrics.records import Window
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.learner.shards import Shards
from zipper_dist.training.loop import work_while_waiting
from zipper_dist.training.mixing import Mixer, mixing_weights
from zipper_dist.training.setup.materials import Materials
from zipper_dist.training.setup.together import saves
from zipper_dist.training.validation import AsyncValidation, Validator

SPARE = 0.9
"""A rank whose load is a smaller part of the largest one waits for others anyway."""


def build_state(
    run: RunContext, materials: Materials, assignment: Assignment, directories: Sequence[int]
) -> TrainState:
    """Iteration 0: every learner, and the global learner, start from the same θ_0. Ranks with the
    same number in ``directories`` see the same run directory; each has every learner of theirs."""
    config, plan, rank = run.config, materials.plan, run.world.rank
    mine = assignment.items[rank]
    learners = [
        materials.learner(name, config, Shards(assignment.shards, shards))
        for name, shards in mine.items()
    ]
    weights = mixing_weights(
        config.mix, list(config.learners), plan.total_steps, plan.schedules_held
    )
    theta, led = FlatState(copy.deepcopy(materials.model)).flat, assignment.led_by(rank)
    saved = [name for name in mine if saves(rank, assignment.ranks_of(name), directories)]
    mixer = Mixer(
        theta, saved, config.first_learner, weights, config.mix.ema, config.mix.first_count
    )
    mixer.copies = [name for name in saved if name not in led]
    validator = Validator(
        copy.deepcopy(materials.model),
        materials.spec,
        materials.validation,
        config,
        run.directory.best,
        run.metrics,
    )
    evaluating, firsts = evaluators(assignment, config), assignment.ranks_of(config.first_learner)
    # The first one is the chief; the others save what it would have to know in their directories.
    concluding = [each for each in firsts if saves(each, firsts, directories)]
    validator.is_copy = rank != firsts[0]
    state = TrainState(
        assignment=assignment,
        plan=plan,
        loader=materials.loader,
        learners=learners,
        led=led,
        saved=saved,
        directories=directories,
        chief=rank == firsts[0],
        mixer=mixer,
        validator=validator,
        validation=AsyncValidation(
            run.world, run.wait, validator, mixer.total, evaluating, concluding
        ),
        windows={name: Window(name, materials.loader.batch_size) for name in mine},
        compiled=materials.acceleration.compiled,
        notes=materials.notes,
    )
    run.stop.companions = assignment.companions(rank)
    run.wait.work = lambda: work_while_waiting(run, state)
    return state


def evaluators(assignment: Assignment, config: TrainConfig) -> list[int]:
    """The ranks that evaluate while they train: those that wait for others anyway, or all if none
    does. By passes, as all ranks must find the same; where all share the work, all evaluate."""
    ranks = list(range(len(assignment.items)))
    if config.placement.mode != "dedicated":
        return ranks
    passes = {name: float(learner.passes()) for name, learner in config.learners.items()}
    loads = assignment.loads([passes] * len(ranks))
    return [rank for rank in ranks if loads[rank] < SPARE * max(loads)] or ranks
