"""A data set: bright squares on noise, in the left or the right half of the image."""

from __future__ import annotations

import numpy as np

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import ImageSet


class Squares:
    """Two classes, `left` and `right`; grey images of 8×8 pixels."""

    def fetch(self, config: DataConfig) -> None:
        """Make the files present; these images are drawn, so there are none."""

    def read(self, config: DataConfig) -> tuple[ImageSet, ImageSet, tuple[str, ...]]:
        """The training set, the test set, and the names of the classes."""
        return self._draw(400, seed=0), self._draw(100, seed=1), ("left", "right")

    def _draw(self, count: int, seed: int) -> ImageSet:
        random = np.random.default_rng(seed)
        pixels = random.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8)
        labels = random.integers(0, 2, count)
        for image, label in zip(pixels, labels, strict=True):
            image[3:5, 1 + 4 * label : 3 + 4 * label] = 255
        return ImageSet.from_pixels(pixels, labels)


SQUARES = Squares()
