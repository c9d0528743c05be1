"""The digits of scikit-learn: 1,797 grey 8×8 images that come with the package."""

from __future__ import annotations

import numpy as np
import torch

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.rng import generator_at

CLASS_NAMES = tuple("0123456789")
TEST_IMAGES_PER_CLASS = 36


class Digits:
    """The images, which need no files."""

    def fetch(self, config: DataConfig) -> None:
        """Do nothing: the images are installed with scikit-learn."""

    def read(self, config: DataConfig) -> Parts:
        """The training set (1,437 images), the test set (360) and the class names.

        scikit-learn has no test set of its own. Ours is the same in every run, whatever its seed,
        so that accuracies can be compared, and has 36 images of every class.
        """
        # The import takes a second or two: leave it to those who ask for these images.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
        whole = ImageSet.from_pixels(pixels, bunch.target)
        is_test = torch.zeros(len(whole), dtype=torch.bool)
        for label in range(len(CLASS_NAMES)):
            members = (whole.labels == label).nonzero().flatten()
            order = torch.randperm(
                len(members), generator=generator_at("cpu", "digits", "test", label)
            )
            is_test[members[order[:TEST_IMAGES_PER_CLASS]]] = True
        train = whole.subset((~is_test).nonzero().flatten())
        return train, whole.subset(is_test.nonzero().flatten()), CLASS_NAMES


DATASETS.register("digits")(Digits())
