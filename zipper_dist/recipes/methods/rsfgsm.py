"""FGSM from a random start (RS-FGSM, "fast" adversarial training)."""

from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.onestep import RsfgsmConfig
from zipper_dist.recipes.methods.nfgsm import one_step
from zipper_dist.recipes.registry import METHODS


@METHODS.register("rsfgsm")
def rsfgsm(base: TrainConfig) -> TrainConfig:
    """RS-FGSM (Wong et al., 2020), published for CIFAR-10: 15 epochs."""
    return one_step(base, RsfgsmConfig, epochs=15)
