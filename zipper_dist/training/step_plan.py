"""When things happen in a run, in iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zipper_dist.config.schedules import AUTO
from zipper_dist.config.schema import TrainConfig

EVALUATION_SHARE = 0.1
"""The part of a run that its evaluations may take, where ``--eval.every`` is auto."""
FEW = 50
"""Iterations between two evaluations of a run that is long for its few images."""
SAVES = 20
"""Checkpoints that a run makes at least, where it evaluates less often, and is long."""
EPOCH = 5
"""Iterations that an epoch has at least, where the batch size is chosen."""
BATCH = 128
"""The largest batch size that is chosen [images]."""


def fitting_batch_size(images: int) -> int:
    """The batch size for so many training images: the power of two, 2 … 128, with which an epoch
    has 5 iterations or more; but no more than there are."""
    power = max(2, images // EPOCH).bit_length() - 1
    return min(images, BATCH, 1 << power)


def evaluation_cost(config: TrainConfig, images: int, batch_size: int) -> float:
    """What evaluating on ``images`` costs, in iterations of all learners on ``batch_size`` images:
    by forward passes, as times would differ from machine to machine, and with them the run."""
    attacks = len(config.threats()) * (2 * config.eval.attack_steps + 1)
    return images * (1 + attacks) / (batch_size * max(1, config.passes()))


@dataclass(frozen=True)
class StepPlan:
    """The events of a run of iterations 1 … T = ``total_steps``."""

    total_steps: int
    steps_per_epoch: int
    mix_every: int  # c; 0: never
    mix_start: int  # t′
    validate_every: int  # also the interval of checkpoints
    save_every: int = 0  # of further checkpoints; 0: none
    mix_window: int = 1  # redistributions at the end of each interval, of an iteration each
    schedules_held: int = 1  # iterations for which schedules stand still
    guides: tuple[tuple[str, str, int], ...] = ()  # learner, the one that guides it, interval

    @staticmethod
    def of(config: TrainConfig, steps_per_epoch: int, evaluation_cost: float = 0.0) -> StepPlan:
        """The plan that ``config`` asks for; an evaluation costs as much as ``evaluation_cost``
        iterations."""
        total_steps = config.steps or config.epochs * steps_per_epoch
        span = (steps_per_epoch, total_steps)
        every, save_every = config.eval.every, 0
        if every == AUTO:
            fewest = max(evaluation_cost / EVALUATION_SHARE, min(FEW, total_steps // 10), 1)
            validate_every = steps_per_epoch * math.ceil(fewest / steps_per_epoch)
            save_every = max(FEW, total_steps // SAVES)
        else:
            validate_every = every.iterations(*span)
        return StepPlan(
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            mix_every=config.mix.every.iterations(*span),
            mix_start=config.mix.start.iterations(*span),
            validate_every=validate_every,
            save_every=save_every if save_every < validate_every else 0,
            mix_window=config.mix.window.iterations(*span),
            schedules_held=steps_per_epoch if config.schedules_by == "epoch" else 1,
            guides=tuple(
                (name, guided[0], guided[1].iterations(*span))
                for name, learner in config.learners.items()
                if (guided := learner.guided_by()) and guided[0] in config.learners
            ),
        )

    def redistributes_at(self, t: int) -> bool:
        """Whether every learner continues from θ_g after ``t``: t′ ≤ t < T, and t mod c = 0 or
        will be within the window; after T the learners would be lost."""
        if self.mix_every == 0 or not max(1, self.mix_start) <= t < self.total_steps:
            return False
        return -t % self.mix_every < self.mix_window

    def guides_at(self, t: int) -> dict[str, str]:
        """The learners that get a copy of the one that guides them after ``t``, with its name.
        A redistribution makes all weights the same, so that these are known."""
        if t == self.total_steps or self.redistributes_at(t):
            return {}
        return {name: guide for name, guide, every in self.guides if t > 0 and t % every == 0}

    @property
    def redistributions(self) -> int | None:
        """The number of them in the run; None where none are wanted."""
        if self.mix_every == 0:
            return None
        every, window = self.mix_every, min(self.mix_every, self.mix_window)

        def until(t: int) -> int:
            return t // every * window + max(0, t % every - (every - window))

        return max(0, until(self.total_steps - 1) - until(max(1, self.mix_start) - 1))

    def validates_at(self, t: int) -> bool:
        """Whether θ_g is evaluated as it is after iteration ``t``."""
        return t > 0 and (t % self.validate_every == 0 or t == self.total_steps)

    def saves_at(self, t: int) -> bool:
        """Whether a checkpoint is made after ``t``."""
        return self.validates_at(t) or (self.save_every > 0 and t % self.save_every == 0)

    def epoch(self, t: int) -> float:
        """``t`` iterations as passes over the training set."""
        return t / self.steps_per_epoch
