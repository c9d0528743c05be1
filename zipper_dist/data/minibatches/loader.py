"""Minibatches, made on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.data.image_set import ImageSet
from zipper_dist.data.minibatches.batch import Minibatch, sent
from zipper_dist.data.minibatches.moves import drawn_moves, moved
from zipper_dist.data.minibatches.read_ahead import Read, ReadAhead, Wanted
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at


@dataclass(frozen=True)
class Share:
    """Further images, on the CPU, and their share 0 … below 1 of every minibatch."""

    images: ImageSet
    fraction: float

    def of(self, batch_size: int) -> int:
        """Their number in a minibatch; UserError if a share above 0 rounds down to none."""
        count = int(batch_size * self.fraction + 1e-9)
        if count == 0 < self.fraction:
            raise UserError(
                f"--data.extra-fraction {self.fraction}: is no image of a minibatch of "
                f"{batch_size}: give {1 / batch_size:.2g} or more, or 0"
            )
        return count


class Loader:
    """The minibatches of training, each a pure function of (images, seed, iteration).

    They are made on the device of the labels. Images that are elsewhere, in memory or on disk, are
    read a few minibatches ahead.

    Every pass over the images has its own order; its last, incomplete minibatch is dropped. An
    epoch is as many images as the set has, those of ``extra`` included: with them, a pass takes
    more than an epoch. For ``crop_padding`` [pixels] and ``flip`` see
    :class:`~zipper_dist.config.schema.DataConfig`.

    Raises:
        UserError: ``batch_size``, ``crop_padding`` or the share of ``extra`` does not suit.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int,
        seed: int,
        crop_padding: int = 0,
        flip: bool = False,
        extra: Share | None = None,
    ) -> None:
        smaller_side = min(image_set.images.shape[2:])
        if not 1 <= batch_size <= len(image_set):
            wanted = f"must be from 1 to {len(image_set)}, the number of training images"
            raise UserError(f"--batch-size {batch_size}: {wanted}")
        if not 0 <= crop_padding < smaller_side:
            wanted = f"must be from 0 to {smaller_side - 1}, less than the side of an image"
            raise UserError(f"--data.crop-padding {crop_padding}: {wanted} [pixels]")
        self.batch_size = batch_size
        self.steps_per_epoch = len(image_set) // batch_size
        self._seed = seed
        self._crop_padding = crop_padding
        self._flip = flip
        self._extras = 0 if extra is None else extra.of(batch_size)
        self._extra = extra.images if extra is not None and self._extras else None
        self._own = batch_size - self._extras
        self._set, self._labels = image_set, image_set.labels
        self._pass = -1
        self._order = torch.empty(0, dtype=torch.int64)
        device = self._labels.device
        self._is_here = not image_set.on_disk and image_set.images.device == device
        if self._is_here:
            # (N, H, W, C): a pixel's channels are gathered together, and batches are channels-last.
            self._pixels = image_set.images.permute(0, 2, 3, 1).contiguous()
        self._read = ReadAhead(self._to_read, pinned=device.type == "cuda")

    def minibatch(self, t: int) -> Minibatch:
        """The minibatch of iteration ``t`` = 1, 2, …, whichever were asked for before."""
        if t < 1:
            raise ValueError(f"iterations are counted from 1, not {t}")
        read = self._read(t) if self._extra is not None or not self._is_here else []
        if self._is_here:
            pixels, labels, chosen = self._pixels, self._labels, self._chosen(t)
        else:
            pixels, labels = sent(read[0].pixels, self._labels.device), read[0].labels
            chosen = torch.arange(self._own)
        if self._extra is not None:
            pixels, labels, chosen = self._with_extra(pixels, labels, chosen, read[-1])
        if self._crop_padding or self._flip:
            pixels, chosen = self._augmented(pixels, chosen, t)
        else:
            chosen = sent(chosen, pixels.device)
            pixels = pixels.index_select(0, chosen)
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return Minibatch(images.div_(255), labels[chosen])

    def _to_read(self, t: int) -> list[Wanted]:
        """What iteration ``t`` takes of images that are not on the device."""
        wanted = [] if self._is_here else [Wanted(self._set, self._chosen(t))]
        if self._extra is not None:  # any of them may be drawn again
            draws = generator_at("cpu", self._seed, "extra", t)
            places = torch.randint(len(self._extra), (self._extras,), generator=draws)
            wanted.append(Wanted(self._extra, places))
        return wanted

    def _chosen(self, t: int) -> Tensor:
        """Which of the images themselves iteration ``t`` takes: int64, on the CPU."""
        number, position = divmod(t - 1, len(self._labels) // self._own)
        if number != self._pass:
            generator = generator_at("cpu", self._seed, "permutation", number)
            self._order = torch.randperm(len(self._labels), generator=generator)
            self._pass = number
        return self._order[position * self._own : (position + 1) * self._own]

    def _with_extra(
        self, pixels: Tensor, labels: Tensor, chosen: Tensor, more: Read
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (B, H, W, C) and labels of the ``chosen`` ones and of ``more``; and their order,
        in which every part of the minibatch has its share of both."""
        device = pixels.device
        chosen = sent(chosen, device)
        pixels = torch.cat([pixels.index_select(0, chosen), sent(more.pixels, device)])
        labels = torch.cat([labels[chosen], sent(more.labels, device)])
        position = torch.arange(self.batch_size)
        before = position * self._extras // self.batch_size
        is_extra = (position + 1) * self._extras // self.batch_size > before
        return pixels, labels, torch.where(is_extra, self._own + before, position - before)

    def _augmented(self, pixels: Tensor, chosen: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Those of ``pixels`` (N, H, W, C) that are chosen, cropped and flipped: (B, H, W, C); and
        their numbers, on the device."""
        draws = generator_at("cpu", self._seed, "augment", t)
        moves = drawn_moves(len(chosen), self._crop_padding, self._flip, draws)
        # One tensor, hence one copy to the GPU.
        plan = sent(torch.cat([chosen[None], moves]), pixels.device)
        return moved(pixels, plan, self._crop_padding), plan[0]
