"""When things happen in a run, in iterations."""

from __future__ import annotations

from dataclasses import dataclass

from zipper_dist.config.schema import TrainConfig


@dataclass(frozen=True)
class StepPlan:
    """The events of a run of iterations 1 … ``total_steps``.

    Attributes:
        total_steps: T.
        steps_per_epoch: iterations in a pass over the training set.
        mix_every: c, the redistribution interval; 0 = never.
        mix_start: t′, the first iteration at which redistribution is allowed.
        validate_every: interval of the evaluations and checkpoints.
    """

    total_steps: int
    steps_per_epoch: int
    mix_every: int
    mix_start: int
    validate_every: int

    @staticmethod
    def of(config: TrainConfig, steps_per_epoch: int) -> StepPlan:
        """The plan that ``config`` asks for."""
        total_steps = config.steps or config.epochs * steps_per_epoch
        span = (steps_per_epoch, total_steps)
        return StepPlan(
            total_steps=total_steps,
            steps_per_epoch=steps_per_epoch,
            mix_every=config.mix.every.iterations(*span),
            mix_start=config.mix.start.iterations(*span),
            validate_every=config.eval.every.iterations(*span),
        )

    def redistributes_at(self, t: int) -> bool:
        """Whether every learner continues from θ_g after iteration ``t``: t′ ≤ t < T, t mod c = 0.

        Not after the last iteration: θ_g would stay what it is, and the learners would be lost.
        """
        if self.mix_every == 0:
            return False
        return max(1, self.mix_start) <= t < self.total_steps and t % self.mix_every == 0

    @property
    def redistributions(self) -> int | None:
        """How many there are in the run; None where none are wanted."""
        if self.mix_every == 0:
            return None
        before_start = (max(self.mix_start, 1) - 1) // self.mix_every
        return max(0, (self.total_steps - 1) // self.mix_every - before_start)

    def validates_at(self, t: int) -> bool:
        """Whether θ_g is evaluated as it is after iteration ``t``, and a checkpoint made."""
        return t > 0 and (t % self.validate_every == 0 or t == self.total_steps)

    def epoch(self, t: int) -> float:
        """How many passes over the training set ``t`` iterations are."""
        return t / self.steps_per_epoch
