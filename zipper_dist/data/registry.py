"""Where the data sets are registered."""

from typing import Protocol

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.registry import Registry

Parts = tuple[ImageSet, ImageSet, tuple[str, ...]]
"""The training set, the test set and the class names."""


class Source(Protocol):
    """A data set."""

    def fetch(self, config: DataConfig) -> None:
        """Download the files that are missing into ``config.root``; for one process only."""

    def read(self, config: DataConfig) -> Parts:
        """Read the files; writes nothing."""


DATASETS: Registry[Source] = Registry("data set", "zipper_dist.data")
"""The data sets by the name that ``--data.source`` gives them."""
