"""What an objective is, and where they are registered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.attacks import PGD, SharedDraws
from zipper_dist.config import ranges
from zipper_dist.config.schedules import progress_at
from zipper_dist.config.schema import AttackedLearnerConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.registry import Registry
from zipper_dist.rng import Address, generator_at

Attacked = Callable[[], AttackedNetwork]
"""Makes the network that attacks see; an objective that attacks calls it once."""


@dataclass(frozen=True)
class StepContext:
    """The learner, the iteration and the shard that an objective is called for."""

    seed: int
    learner: str
    step: int
    progress: float
    shard: int | None = None  # None: the minibatch is not cut

    def address(self, purpose: str) -> tuple[Address, ...]:
        """The address of random draws that no other learner, iteration, shard or purpose shares."""
        address = (self.seed, purpose, self.learner, self.step)
        return address if self.shard is None else (*address, self.shard)

    def generator(self, device: torch.device, purpose: str) -> torch.Generator:
        """A generator at an address of its own."""
        return generator_at(device, *self.address(purpose))


@dataclass(frozen=True)
class LearnerSteps:
    """The iterations 1 … ``total`` of a learner; its name and ``seed`` address its random draws.
    Schedules stand still for ``held`` iterations; averages count from ``first_count``."""

    learner: str
    seed: int
    total: int
    held: int = 1
    first_count: int = 1

    def at(self, step: int) -> StepContext:
        """What an objective is told in an iteration."""
        progress = progress_at(step, self.total, self.held)
        return StepContext(self.seed, self.learner, step, progress)


class Objective(Protocol):
    """What a base learner minimises.

    It may have a ``state``, a dict of float32 tensors by name, that ``perturb`` makes and ``loss``
    changes in place: shards start from the same, which becomes the mean over them, as with the
    statistics of BatchNorm; checkpoints have it, and it is not mixed.
    """

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The images to train on (B, C, H, W), attacked if the method attacks."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the logits (B, classes) of ``images``; ``model`` is in training mode."""


class ObjectiveClass(Protocol):
    """A class of objectives, with the class of their options."""

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


@dataclass(frozen=True)
class SmoothedConfig(LearnerConfig):
    """A base learner that trains on a cross-entropy."""

    takes_mixtures: ClassVar[bool] = True
    label_smoothing: float = 0.0
    """Share of a label spread over all classes in the loss; attacks use labels as they are."""

    def problems(self, option: str) -> Iterator[str]:
        """See :class:`~zipper_dist.config.schema.LearnerConfig`."""
        yield from super().problems(option)
        yield from ranges.below_one(f"{option}.label-smoothing", self.label_smoothing)


class CrossEntropy:
    """The loss of the objectives that minimise the cross-entropy of the images they make."""

    config: SmoothedConfig

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Objective`."""
        logits, smoothing = model(images), self.config.label_smoothing
        return F.cross_entropy(logits, batch.labels, label_smoothing=smoothing), logits


class AttackedObjective:
    """The part of an objective that attacks the images; subclasses add the loss."""

    Config: ClassVar[type[LearnerConfig]]
    config: AttackedLearnerConfig
    draws: ClassVar[str] = "pgd-start"
    """Purpose of the attack's random draws, a part of their address."""

    def __init__(self, config: AttackedLearnerConfig, attacked: Attacked) -> None:
        self.config = config
        self.attacked = attacked()

    def attack(self, progress: float) -> PGD:
        """The attack at ``progress`` 0 … 1 of the run."""
        return PGD.of(self.config.attack, self.config.attack.schedule(progress))

    def perturb(self, batch: Minibatch, context: StepContext) -> Tensor:
        """The attacked images, (B, C, H, W)."""
        attack = self.attack(context.progress)
        draws = SharedDraws(context.generator(batch.images.device, self.draws))
        with self.attacked.now() as network:
            return attack.run(network, batch.images, batch.labels, draws)


def state_of(objective: Objective) -> dict[str, Tensor]:
    """What the objective keeps between iterations, by name; empty before the first."""
    state: dict[str, Tensor] = getattr(objective, "state", {})
    return state


ConfigT = TypeVar("ConfigT", bound=LearnerConfig)


def with_objective(learner: LearnerConfig, kind: type[ConfigT], name: str = "") -> ConfigT:
    """The options ``learner`` as a ``kind``, for an objective ``name`` that is not the kind's own.

    Options that both have are kept, except where ``learner`` has the default of its own class.
    """
    old, new = type(learner)(), kind()
    kept = {
        field.name: getattr(learner, field.name)
        for field in fields(learner)
        if hasattr(new, field.name) and getattr(learner, field.name) != getattr(old, field.name)
    }
    return replace(new, **kept | {"objective": name or new.objective})
