"""Where the data sets are registered."""

from __future__ import annotations

from typing import Protocol

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.registry import Registry

Parts = tuple[ImageSet, ImageSet, tuple[str, ...]]
"""The training set, the test set and the class names."""


class Source(Protocol):
    """A data set: the two steps to its images."""

    def fetch(self, config: DataConfig) -> None:
        """Make the files present, by a download if need be. For one process only."""

    def read(self, config: DataConfig) -> Parts:
        """Read the files. Writes nothing."""


DATASETS: Registry[Source] = Registry("data set", "zipper_dist.data")
"""The data sets by the name that ``--data.source`` gives them."""
