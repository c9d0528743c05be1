"""Zipper for several norms at once: a learner for clean images and one for each norm."""

from collections.abc import Callable
from dataclasses import replace

from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackedLearnerConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.recipes.registry import METHODS

RADIUS = {"mnist": 2.0, "digits": 0.8}
"""L2 radii by data set; others: 0.5. Those of MNIST and CIFAR-10 are of Maini, Wong and Kolter,
"Adversarial Robustness Against the Union of Multiple Perturbation Models", ICML 2020."""


@METHODS.register("multinorm")
def multinorm(base: TrainConfig) -> TrainConfig:
    """Zipper of a natural, an L∞ and an L2 learner; the two that attack share γ equally."""
    linf = base.learners["adversarial"]
    assert isinstance(linf, AttackedLearnerConfig)
    threat = ThreatModel("l2", RADIUS.get(base.data.source, 0.5))
    step_size = threat.default_step_size(linf.attack.steps)
    attack = replace(linf.attack, norm="l2", eps=threat.eps, step_size=step_size)
    gamma = base.mix.gamma
    half = _mapped(gamma, lambda value: value / 2)
    weights = {"natural": _mapped(gamma, lambda value: 1 - value), "linf": half, "l2": half}
    return replace(
        base,
        mix=replace(base.mix, gamma=type(base.mix)().gamma, weights=weights),
        learners={
            "natural": base.learners["natural"],
            "linf": linf,
            "l2": replace(linf, attack=attack),
        },
        eval=replace(base.eval, step_size=None),
    )


def _mapped(schedule: Schedule, change: Callable[[float], float]) -> Schedule:
    return Schedule(tuple((at, change(value)) for at, value in schedule.points))
