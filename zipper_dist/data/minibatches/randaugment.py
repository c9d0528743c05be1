"""RandAugment."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from zipper_dist.data.minibatches.augment import AUGMENTATIONS, Augmentation
from zipper_dist.data.minibatches.batch import Minibatch, sent
from zipper_dist.errors import UserError

ROUNDS = 2
STRENGTH, STRENGTHS = 9, 31
"""The number of the strength, from 0, and how many there are up to the largest."""

Operation = Callable[[Tensor, int], Tensor]
"""Changes images, uint8 (B, C, H, W); the second argument is 1 or -1, the direction."""


@AUGMENTATIONS.register("randaugment")
class RandAugment(Augmentation):
    """Two operations on each image, drawn from 14, at 9/30 of their largest strength, half of them
    in the other direction, where they have two; on images rounded to 8 bits.

    Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
    Space", NeurIPS 2020; with the strengths of torchvision, whose functions do the work.
    """

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """See :class:`Augmentation`."""
        count, channels, height, width = batch.images.shape
        if channels not in (1, 3):
            raise UserError(
                f"randaugment: takes images of 1 or 3 channels, not {channels}: leave it out of "
                "--data.augment and --learners.NAME.augment"
            )
        known = list(operations(height, width).values())
        images = (batch.images * 255).round_().to(torch.uint8)
        for _ in range(ROUNDS):
            number = torch.randint(len(known), (count,), generator=draws)
            forth = torch.randint(2, (count,), generator=draws)
            result = images.clone()
            for each, operation in enumerate(known):
                for direction in (0, 1):
                    rows = ((number == each) & (forth == direction)).nonzero().flatten()
                    if len(rows) > 0:
                        rows = sent(rows, images.device)
                        result[rows] = operation(images[rows], 2 * direction - 1)
            images = result
        return replace(batch, images=images.to(torch.float32).div_(255))


def operations(height: int, width: int) -> dict[str, Operation]:
    """The operations by the names that torchvision has for them, for images of this size."""
    from torchvision.transforms.v2 import functional as F

    def strength(most: float) -> float:
        return float(torch.linspace(0.0, most, STRENGTHS)[STRENGTH])  # rounded as by torchvision

    def sheared(images: Tensor, x: float, y: float) -> Tensor:
        shear = [math.degrees(math.atan(tangent)) for tangent in (x, y)]
        result: Tensor = F.affine(images, 0.0, [0, 0], 1.0, shear, center=[0, 0])
        return result

    def shifted(images: Tensor, x: float, y: float) -> Tensor:
        result: Tensor = F.affine(images, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0])
        return result

    shear, angle, colour, bits = map(strength, (0.3, 30.0, 0.9, 4.0))
    right, down, bright = map(strength, (150 / 331 * width, 150 / 331 * height, 1.0))
    return {
        "Identity": lambda images, _: images,
        "ShearX": lambda images, sign: sheared(images, sign * shear, 0.0),
        "ShearY": lambda images, sign: sheared(images, 0.0, sign * shear),
        "TranslateX": lambda images, sign: shifted(images, sign * right, 0),
        "TranslateY": lambda images, sign: shifted(images, 0, sign * down),
        "Rotate": lambda images, sign: F.rotate(images, sign * angle),
        "Brightness": lambda images, sign: F.adjust_brightness(images, 1 + sign * colour),
        "Color": lambda images, sign: F.adjust_saturation(images, 1 + sign * colour),
        "Contrast": lambda images, sign: F.adjust_contrast(images, 1 + sign * colour),
        "Sharpness": lambda images, sign: F.adjust_sharpness(images, 1 + sign * colour),
        "Posterize": lambda images, _: F.posterize(images, 8 - round(bits)),
        "Solarize": lambda images, _: F.solarize(images, 255 * (1 - bright)),
        "AutoContrast": lambda images, _: F.autocontrast(images),
        "Equalize": lambda images, _: F.equalize(images),
    }
