"""Clean and robust accuracy, computed in small units that other work can come between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from zipper_dist.attacks import pgd_steps
from zipper_dist.config.checks import NO_RADIUS
from zipper_dist.config.schema import TrainConfig
from zipper_dist.config.threat import Norm
from zipper_dist.data import ImageSet, blocks
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at


@dataclass(frozen=True)
class EvalAttack:
    """The PGD attack of an evaluation; radius and step in the norm, 1 = the full pixel range."""

    norm: Norm
    eps: float
    step_size: float
    steps: int

    @staticmethod
    def of(config: TrainConfig) -> EvalAttack:
        """The attack that evaluates the networks of a run.

        Norm and radius are the training attack's where ``config.eval`` does not name them.

        Raises:
            UserError: neither of them does.
        """
        threats = config.threats()
        if not threats:
            raise UserError(NO_RADIUS)
        threat, steps = threats[0], config.eval.attack_steps
        step_size = config.eval.step_size or threat.default_step_size(steps)
        return EvalAttack(threat.norm, threat.eps, step_size, steps)


@dataclass
class Score:
    """How many of ``images`` images were classified right: clean, and under the attack."""

    clean: int = 0
    robust: int = 0
    images: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.clean + other.clean, self.robust + other.robust, self.images + other.images
        )

    def accuracies(self) -> dict[str, float]:
        """Clean and robust accuracy in per cent."""
        return {
            "clean": 100 * self.clean / self.images,
            "robust": 100 * self.robust / self.images,
        }


def count_correct(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """How many of ``images`` (B, C, H, W) the network classifies as ``labels`` (B,)."""
    with torch.no_grad():
        return int((model(images).argmax(1) == labels).sum())


def score_in_steps(
    model: nn.Module,
    image_set: ImageSet,
    attack: EvalAttack,
    batch_size: int,
    score: Score,
    part: int = 0,
    parts: int = 1,
) -> Iterator[None]:
    """Add to ``score`` what the network gets right; yields after every gradient step.

    Args:
        model: network in eval mode with ``requires_grad`` off.
        image_set: the images, on the network's device.
        attack: the attack for the robust accuracy.
        batch_size: images in a minibatch.
        score: is added to, a minibatch at a time.
        part: this call takes every ``parts``-th minibatch, from this one on. A minibatch's random
            start depends on its place in the set alone, so that the parts add up to the whole.
        parts: number of calls that share the set.
    """
    every = enumerate(blocks(image_set, batch_size))
    for place, batch in islice(every, part, None, parts):
        attacked = batch.images  # what an attack of 0 steps leaves
        start = generator_at(batch.images.device, "evaluation", "pgd-start", place)
        for attacked in pgd_steps(  # noqa: B007 (the last one is what counts)
            model,
            batch.images,
            batch.labels,
            norm=attack.norm,
            eps=attack.eps,
            step_size=attack.step_size,
            steps=attack.steps,
            random_start=True,
            generator=start,
        ):
            yield
        score.clean += count_correct(model, batch.images, batch.labels)
        score.robust += count_correct(model, attacked, batch.labels)
        score.images += len(batch.labels)
        yield
