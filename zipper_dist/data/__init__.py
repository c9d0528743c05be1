"""Data sets, and the minibatches made of them."""

from dataclasses import replace

import torch

from zipper_dist.config.schema import DataConfig
from zipper_dist.data.image_set import Dataset, ImageSet
from zipper_dist.data.minibatches import Loader, Minibatch, Share
from zipper_dist.data.minibatches.extra import check_extra, read_extra
from zipper_dist.data.registry import DATASETS, Source
from zipper_dist.data.splits import hold_out, limit_images
from zipper_dist.data.stores import Pixels, Store, identity
from zipper_dist.errors import UserError

__all__ = ["DATASETS", "Dataset", "ImageSet", "Loader", "Minibatch", "Share", "fetch", "load"]


def _source(config: DataConfig) -> Source:
    source = DATASETS.find(config.source, "--data.source")
    if not (hasattr(source, "fetch") and hasattr(source, "read")):
        raise UserError(f"--data.source {config.source}: has no fetch and read, as a data set has")
    return source


def fetch(config: DataConfig) -> None:
    """Download the data set's missing files, in one process before all :func:`load`.

    Raises UserError if the source is unknown, a download fails or a file is broken.
    """
    read_extra(config)  # whose errors need no download
    _source(config).fetch(config)


def load(config: DataConfig, seed: int) -> Dataset:
    """Read the data set, limited, resized and split as ``config`` says, onto the CPU.

    ``seed`` decides which images are held out for validation. Raises UserError where a file is
    missing or broken, or an option does not suit the data.
    """
    size = config.image_size
    if size is not None and size < 1:
        raise UserError(f"--data.image-size {size}: must be at least 1 pixel")
    extra = read_extra(config)
    train, test, class_names = _source(config).read(config)
    notes, files = (*train.notes, *test.notes), (*train.files, *test.files)
    train = limit_images(train.as_whole(), config.limit, "train")
    test = limit_images(test.as_whole(), config.limit, "test")
    train, test = _fitted(train, config), _fitted(test, config)
    if extra is not None:
        check_extra(extra, train, len(class_names), config)
        files += extra.files
    train, validation = hold_out(train, test, config.validation, seed)
    return Dataset(train, validation, test, class_names, config.source, notes, files, extra)


def _fitted(part: ImageSet, config: DataConfig) -> ImageSet:
    """The images in the wanted size, and on disk if they are to be there, whatever the source."""
    size, was_on_disk = config.image_size, part.on_disk
    if not was_on_disk:
        part = part if size is None else part.resized(size)
    _, channels, height, width = part.images.shape
    wanted = (size or height, size or width, channels)
    if wanted == (height, width, channels) and (was_on_disk or config.store != "disk"):
        return part
    store = Store.of(config, len(part), wanted, f"--data.image-size {size}")

    def image(number: int) -> Pixels:
        one = part.subset(torch.tensor([number]))
        one = one if size is None else one.resized(size)
        return one.images[:][0].permute(1, 2, 0).numpy()

    return replace(part, images=store.keep("whole", identity(part.images), len(part), image)[0])
