"""What an augmentation is, where they are registered, and how several are done."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from zipper_dist.data.minibatches.batch import Minibatch
from zipper_dist.errors import UserError
from zipper_dist.registry import Registry
from zipper_dist.rng import Address, generator_at


class Augmentation:
    """Changes minibatches at random. It is made without arguments."""

    mixes: ClassVar[bool] = False
    """Whether it mixes images of several classes, and with them their labels."""

    def __call__(self, batch: Minibatch, draws: torch.Generator) -> Minibatch:
        """The minibatch, changed, on its device, and of the same size; ``draws`` are from the CPU,
        so that they are the same on every device. One that mixes gets labels (B, classes)."""
        raise NotImplementedError


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation", "zipper_dist.data.minibatches"
)
"""The augmentations by the names that ``--data.augment`` gives them."""


def find(name: str, option: str) -> type[Augmentation]:
    """The augmentation of that name or reference; UserError about ``option`` if there is none."""
    found = AUGMENTATIONS.find(name, option)
    if not (isinstance(found, type) and issubclass(found, Augmentation)):
        raise UserError(f"{option} {name}: is no class derived from Augmentation")
    return found


class Augmenter:
    """Does augmentations by ``names``, given with ``option``, one after the other. Of those that
    mix, each minibatch gets one, drawn at random. The addresses of draws begin with ``address``.

    UserError: one of the names is unknown.
    """

    def __init__(self, names: Sequence[str], option: str, classes: int, *address: Address) -> None:
        self._steps = {name: find(name, option)() for name in names}
        self._mixing = [name for name, step in self._steps.items() if step.mixes]
        self._classes = classes
        self._address = address

    def __call__(self, batch: Minibatch, t: int) -> Minibatch:
        """The minibatch of iteration ``t``, augmented."""
        mixing = self._mixing
        if len(mixing) > 1:
            draws = generator_at("cpu", *self._address, "augment", "which mixes", t)
            mixing = [mixing[int(torch.randint(len(mixing), (), generator=draws))]]
        for name, step in self._steps.items():
            if step.mixes and name not in mixing:
                continue
            if step.mixes:
                batch = replace(batch, labels=self._shares(batch))
            batch = step(batch, generator_at("cpu", *self._address, "augment", name, t))
        images = batch.images.contiguous(memory_format=torch.channels_last)
        return replace(batch, images=images)

    def _shares(self, batch: Minibatch) -> torch.Tensor:
        """The labels as the share of each class, (B, classes)."""
        if batch.labels.dim() == 2:
            return batch.labels
        shares = batch.images.new_zeros(len(batch.labels), self._classes)
        return shares.scatter_(1, batch.labels[:, None], 1.0)
