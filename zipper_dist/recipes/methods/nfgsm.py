"""FGSM from noise (N-FGSM)."""

from dataclasses import replace

from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackedLearnerConfig, TrainConfig
from zipper_dist.objectives.base import with_objective
from zipper_dist.objectives.onestep import RELATIVE_STEP, NfgsmConfig, RsfgsmConfig
from zipper_dist.recipes.methods import LIKE_CIFAR10, alone
from zipper_dist.recipes.registry import METHODS

UP_AND_DOWN = Schedule(((0.0, 0.0), (0.5, 1.0), (1.0, 0.0)))


@METHODS.register("nfgsm")
def nfgsm(base: TrainConfig) -> TrainConfig:
    """N-FGSM (de Jorge et al., 2022), published for CIFAR-10: 30 epochs."""
    return one_step(base, NfgsmConfig, epochs=30)


def one_step(base: TrainConfig, kind: type[RsfgsmConfig], epochs: int) -> TrainConfig:
    """AT with a single step of the published length; on CIFAR-10 with the published learning rates
    and number of ``epochs``, as these methods are for short runs, and overfit in long ones."""
    before = base.learners["adversarial"]
    assert isinstance(before, AttackedLearnerConfig)
    learner = with_objective(before, kind)
    length = RELATIVE_STEP[learner.objective] * before.attack.eps
    learner = replace(learner, attack=replace(before.attack, steps=1, step_size=length))
    if base.data.source in LIKE_CIFAR10:
        learner = replace(learner, lr=0.2, weight_decay=5e-4, schedule=UP_AND_DOWN)
        base = replace(base, epochs=epochs)
    return alone(base, "adversarial", learner)
