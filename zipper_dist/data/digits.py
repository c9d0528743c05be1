"""The digits of scikit-learn: 1,797 grey 8×8 images that come with the package."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.registry import DATASETS, Parts
from zipper_dist.rng import generator_at

CLASS_NAMES = tuple("0123456789")
TEST_IMAGES_PER_CLASS = 36


class Digits:
    """The images, of which 36 of each class are the test set."""

    def fetch(self, config: DataConfig) -> None:
        """Do nothing: the images are installed with scikit-learn."""

    def read(self, config: DataConfig) -> Parts:
        """1,437 training and 360 test images (our choice, the same for every seed), and names."""
        rows = _rows()
        pixels = np.round(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        whole = ImageSet.from_pixels(pixels, rows[:, -1].astype(int))
        chosen = []
        for label in range(len(CLASS_NAMES)):
            members = (whole.labels == label).nonzero().flatten()
            generator = generator_at("cpu", "digits", "test", label)
            order = torch.randperm(len(members), generator=generator)
            chosen.append(members[order[:TEST_IMAGES_PER_CLASS]])
        is_test = torch.isin(torch.arange(len(whole)), torch.cat(chosen))
        train, test = (whole.subset(part.nonzero().flatten()) for part in (~is_test, is_test))
        return train, test, CLASS_NAMES


def _rows() -> NDArray[np.float64]:
    """64 pixels, 0 … 16, and the class of each image, (1797, 65); from their file, if it is where
    it has always been, as importing scikit-learn takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    rows: NDArray[np.float64] = np.column_stack([bunch.data, bunch.target])
    return rows


DATASETS.register("digits")(Digits())
