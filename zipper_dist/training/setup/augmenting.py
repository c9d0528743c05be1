"""The augmentations that a run asks for, and whether its learners can take them."""

from zipper_dist.config.schema import TrainConfig
from zipper_dist.data.minibatches import Augmenter, find
from zipper_dist.errors import UserError

LOADED = ("crop", "flip")
"""What the loader does for all learners, when it gathers a minibatch."""


def check_augmentations(config: TrainConfig) -> None:
    """Raise UserError where an augmentation is unknown, or an objective cannot take its labels."""
    for name, learner in config.learners.items():
        for option, augment in (
            ("--data.augment", config.data.augment),
            (f"--learners.{name}.augment", learner.augment),
        ):
            for each in augment.names:
                if find(each, option).mixes and not learner.takes_mixtures:
                    raise UserError(
                        f"{option} {augment}: {each} mixes images, and their labels; {name} trains "
                        f"by {learner.objective}, which takes one class an image: leave it out, or "
                        "give it to learners with other objectives, by --learners.NAME.augment"
                    )


def augmenters(config: TrainConfig, learner: str, classes: int) -> tuple[Augmenter, ...]:
    """What changes the minibatches of a learner: the augmentations of all learners, with the same
    draws for each, and those of its own."""
    shared = [name for name in config.data.augment.names if name not in LOADED]
    own, option = config.learners[learner].augment.names, f"--learners.{learner}.augment"
    found = []
    if shared:
        found.append(Augmenter(shared, "--data.augment", classes, config.seed))
    if own:
        found.append(Augmenter(own, option, classes, config.seed, learner))
    return tuple(found)
