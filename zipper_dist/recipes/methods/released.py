"""Zipper as the method's public release trains, which differs from the paper's algorithm."""

from dataclasses import replace

from zipper_dist.config.schedules import Interval, epochs, progress
from zipper_dist.config.schema import LearnerConfig, TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import METHODS


@METHODS.register("released")
def released(base: TrainConfig) -> TrainConfig:
    """Zipper as in its public release: the learners' own averages are mixed, and outlive the
    redistributions; these follow every iteration of each epoch that the paper's algorithm
    redistributes after; the natural learner has the adversarial one's learning rate; and schedules
    go by epoch. The best CIFAR-10 weights are chosen there on the test set, of 88 % clean or more.
    """
    adversarial = base.learners["adversarial"]

    def as_released(learner: LearnerConfig) -> LearnerConfig:
        return replace(
            learner,
            lr=adversarial.lr,
            schedule=adversarial.schedule,
            weight_average=base.mix.ema,
            keep_average=True,
        )

    config = replace(
        base,
        schedules_by="epoch",
        mix=replace(
            base.mix,
            # The first window ends where the paper's first redistribution is.
            start=_an_epoch_before(base.mix.start, base.epochs),
            window=progress(1 / base.epochs),
            first_count=0,
        ),
        learners={name: as_released(learner) for name, learner in base.learners.items()},
    )
    if base.data.source != "cifar10":
        return config
    return replace(
        config,
        data=replace(base.data, validation="test"),
        eval=replace(base.eval, every=epochs(1), best_clean=88.0),
    )


def _an_epoch_before(start: Interval, length: int) -> Interval:
    """``start`` less an epoch of a run of ``length`` epochs."""
    if start.unit == "epochs":
        return epochs(max(0.0, start.amount - 1))
    if start.unit == "progress":
        return progress(max(0.0, start.amount - 1 / length))
    raise UserError(
        f"-released: the recipe has mix.start {start}: give it in epochs (75ep) or as a part of "
        "the run (0.625), because the first window begins an epoch before"
    )
