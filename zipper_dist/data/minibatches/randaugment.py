"""RandAugment."""

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d

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


class _Move:
    """An operation of torchvision that moves the pixels of images of one size. Where they come from
    is found out once, on the CPU: torchvision sends a matrix each time, and waits for the GPU."""

    def __init__(self, move: Operation, height: int, width: int) -> None:
        # As float32, like the images, or other numbers would be rounded; 0 is beyond the border.
        numbers = torch.arange(1.0, height * width + 1).view(1, 1, height, width)
        self._sources = {sign: move(numbers, sign).to(torch.int64).flatten() for sign in (1, -1)}

    def __call__(self, images: Tensor, sign: int) -> Tensor:
        """See :data:`Operation`."""
        source = self._sources[sign]
        if source.device != images.device:
            source = self._sources[sign] = sent(source, images.device)
        pixels = images.flatten(2).index_select(2, (source - 1).clamp_(min=0))
        return (pixels * (source > 0)).view(images.shape)


def sharpened(images: Tensor, factor: float) -> Tensor:
    """As torchvision's ``adjust_sharpness``, which sends its kernel to the GPU, and waits."""
    channels, height, width = images.shape[1:]
    if height <= 2 or width <= 2:
        return images
    kernel = torch.full((3, 3), 1 / 13, device=images.device)
    kernel[1, 1] = 5 / 13
    result = images.float()
    blurred = conv2d(result, kernel.expand(channels, 1, 3, 3), groups=channels).round_()
    inner = result[..., 1:-1, 1:-1]
    inner.add_(blurred.sub_(inner), alpha=1 - factor)
    return result.clamp_(0, 255).to(torch.uint8)


@functools.cache
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

    def move(how: Operation) -> Operation:
        return _Move(how, height, width)

    return {
        "Identity": lambda images, _: images,
        "ShearX": move(lambda images, sign: sheared(images, sign * shear, 0.0)),
        "ShearY": move(lambda images, sign: sheared(images, 0.0, sign * shear)),
        "TranslateX": move(lambda images, sign: shifted(images, sign * right, 0)),
        "TranslateY": move(lambda images, sign: shifted(images, 0, sign * down)),
        "Rotate": move(lambda images, sign: F.rotate(images, sign * angle)),
        "Brightness": lambda images, sign: F.adjust_brightness(images, 1 + sign * colour),
        "Color": lambda images, sign: F.adjust_saturation(images, 1 + sign * colour),
        "Contrast": lambda images, sign: F.adjust_contrast(images, 1 + sign * colour),
        "Sharpness": lambda images, sign: sharpened(images, 1 + sign * colour),
        "Posterize": lambda images, _: F.posterize(images, 8 - round(bits)),
        "Solarize": lambda images, _: F.solarize(images, 255 * (1 - bright)),
        "AutoContrast": lambda images, _: F.autocontrast(images),
        "Equalize": lambda images, _: F.equalize(images),
    }
