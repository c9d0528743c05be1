"""Guides: copies of other networks that an objective asks for logits.

A learner's guide may be another learner, which trains in another process, perhaps. It gets a copy
of that learner's weights after every so many iterations, and after every redistribution, when all
learners have the weights of θ_g. A single process copies just as often, and no more: so the bits
are the same.
"""

import copy
from pathlib import Path

import torch
from torch import nn

from zipper_dist.activity import doing
from zipper_dist.checkpoint.weights import load_model, read_checked
from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec
from zipper_dist.objectives.guided import Guided, frozen_guide
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState


def give_guide(
    learner: BaseLearner, config: TrainConfig, model: nn.Module, spec: ModelSpec
) -> None:
    """Give a learner that has a guide a copy of ``model`` for a guiding learner's weights, or the
    network of a file; UserError if that cannot be used for images and classes as in ``spec``."""
    objective, guided = learner.objective, learner.config.guided_by()
    if guided is None or not isinstance(objective, Guided):
        return
    guide, _ = guided
    if guide in config.learners:
        learner.guide = FlatState(copy.deepcopy(model))
        return
    path = expanded(Path(guide), f"--learners.{learner.name}.guide")
    theirs, _ = read_checked(path)
    wanted, has = (
        f"{each.classes} classes of {each.channels}×{each.height}×{each.width} images"
        for each in (spec, theirs)
    )
    if wanted != has:
        option = f"--learners.{learner.name}.guide {guide}"
        raise UserError(f"{option}: is for {has}: give one for {wanted}")
    objective.guide = frozen_guide(load_model(path).to(learner.state.flat.device))


@doing("redistribution")
def copy_guides(run: RunContext, state: TrainState) -> None:
    """Copy the learners that guide others, as they are after ``state.at``, where that is due. All
    ranks take part: each copy is a sum to which only the rank that leads the learner adds."""
    state.check_finite()
    due = state.plan.guides_at(state.at)
    mine = {learner.name: learner for learner in state.learners}
    for guide in dict.fromkeys(due.values()):
        theta = torch.zeros_like(state.learners[0].state.flat)
        if guide in state.led:
            theta += mine[guide].state.flat
        run.wait(run.world.all_reduce(theta))
        for name, learner in mine.items():
            if due.get(name) == guide:
                learner.take_guide(theta)
    state.mixer.synced_at = state.at
