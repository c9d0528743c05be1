"""What an objective is, and where they are registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.config.schema import LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.registry import Registry
from zipper_dist.rng import generator_at

Attacked = Callable[[], AttackedNetwork]
"""Makes the network that attacks see; an objective that attacks calls it once."""


@dataclass(frozen=True)
class StepContext:
    """Where in the run an objective is asked for its loss: the address of its random draws."""

    seed: int
    learner: str
    step: int
    progress: float

    def generator(self, device: torch.device, purpose: str) -> torch.Generator:
        """A generator that no other learner, iteration or purpose shares."""
        return generator_at(device, self.seed, purpose, self.learner, self.step)


class Objective(Protocol):
    """What a base learner minimises: images to train on, and a loss on them."""

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The images (B, C, H, W) that :meth:`loss` is to take, attacked if the method attacks."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a scalar), and the logits (B, classes) of ``images``.

        ``model`` comes in training mode and is left in it; ``images`` come from :meth:`perturb`.
        """


class ObjectiveClass(Protocol):
    """A class of objectives."""

    @property
    def Config(self) -> type[LearnerConfig]:
        """The options of a learner that has this objective."""

    def __call__(self, config: Any, attacked: Attacked, /) -> Objective:
        """The objective with the options ``config``, a :attr:`Config`."""


OBJECTIVES: Registry[ObjectiveClass] = Registry("objective", "zipper_dist.objectives")
"""The objectives by the name that ``--learners.NAME.objective`` gives them."""


def make_objective(config: LearnerConfig, attacked: Attacked) -> Objective:
    """The objective that ``config`` names."""
    return OBJECTIVES.find(config.objective, "--learners.NAME.objective")(config, attacked)


ConfigT = TypeVar("ConfigT", bound=LearnerConfig)


def with_objective(learner: LearnerConfig, kind: type[ConfigT], name: str = "") -> ConfigT:
    """The options ``learner`` with those of another objective in place of its own.

    What both have keeps its value, unless that is the default of ``learner``'s own kind: then it
    gets the default of the new one. ``name`` is the name of the objective, if it is not ``kind``'s.
    """
    own = type(learner)()
    known = {field.name for field in fields(kind)} - {"objective"}
    kept = {
        field.name: getattr(learner, field.name)
        for field in fields(learner)
        if field.name in known and getattr(learner, field.name) != getattr(own, field.name)
    }
    new = kind(**kept)
    return replace(new, objective=name) if name else new
