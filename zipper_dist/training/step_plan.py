"""When things happen in a run, in iterations."""

from __future__ import annotations

from dataclasses import dataclass

from zipper_dist.config.schema import TrainConfig


@dataclass(frozen=True)
class StepPlan:
    """The events of a run of iterations 1 … T = ``total_steps``."""

    total_steps: int
    steps_per_epoch: int
    mix_every: int  # c; 0: never
    mix_start: int  # t′
    validate_every: int  # also the interval of checkpoints

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
        """Whether every learner continues from θ_g after ``t``: t′ ≤ t < T, t mod c = 0; after T
        the learners would be lost."""
        every = self.mix_every
        return every > 0 and max(1, self.mix_start) <= t < self.total_steps and t % every == 0

    @property
    def redistributions(self) -> int | None:
        """The number of them in the run; None where none are wanted."""
        if self.mix_every == 0:
            return None
        first, last = max(1, self.mix_start), self.total_steps - 1
        return max(0, last // self.mix_every - (first - 1) // self.mix_every)

    def validates_at(self, t: int) -> bool:
        """Whether θ_g is evaluated as it is after iteration ``t``, and a checkpoint made."""
        return t > 0 and (t % self.validate_every == 0 or t == self.total_steps)

    def epoch(self, t: int) -> float:
        """``t`` iterations as passes over the training set."""
        return t / self.steps_per_epoch
