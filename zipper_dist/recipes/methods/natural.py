"""Natural training (NT)."""

from dataclasses import replace

from zipper_dist.config.schema import TrainConfig
from zipper_dist.recipes.methods import alone
from zipper_dist.recipes.registry import METHODS


@METHODS.register("natural")
def natural(base: TrainConfig) -> TrainConfig:
    """NT; its robustness is measured at the radius that the others train for."""
    (threat,) = base.threats()
    config = alone(base, "natural", base.learners["natural"])
    return replace(config, eval=replace(base.eval, norm=threat.norm, eps=threat.eps))
