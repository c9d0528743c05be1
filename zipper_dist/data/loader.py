"""Minibatches, made on the device where the images are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zipper_dist.data.image_set import ImageSet
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at


@dataclass(frozen=True, eq=False)
class Minibatch:
    """The images and labels of one iteration."""

    images: Tensor
    """float32 (B, C, H, W) in [0, 1], channels-last in memory."""
    labels: Tensor
    """int64 (B,)."""


class Loader:
    """The minibatches of training, each a pure function of (images, seed, iteration).

    Every epoch has its own order; its last, incomplete minibatch is dropped. For ``crop_padding``
    [pixels] and ``flip`` see :class:`~zipper_dist.config.schema.DataConfig`.

    Raises:
        UserError: ``batch_size`` or ``crop_padding`` does not suit the images.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int,
        seed: int,
        crop_padding: int = 0,
        flip: bool = False,
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
        self._labels = image_set.labels
        # (N, H, W, C): a pixel's channels are gathered together, and batches are channels-last.
        self._pixels = image_set.images.permute(0, 2, 3, 1).contiguous()
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def minibatch(self, t: int) -> Minibatch:
        """The minibatch of iteration ``t`` = 1, 2, …, whichever were asked for before."""
        if t < 1:
            raise ValueError(f"iterations are counted from 1, not {t}")
        epoch, position = divmod(t - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = generator_at("cpu", self._seed, "permutation", epoch)
            self._order = torch.randperm(len(self._labels), generator=generator)
            self._epoch = epoch
        start = position * self.batch_size
        chosen = self._order[start : start + self.batch_size]
        if self._crop_padding or self._flip:
            pixels, labels = self._augmented(chosen, t)
        else:
            chosen = _sent(chosen, self._pixels.device)
            pixels, labels = self._pixels.index_select(0, chosen), self._labels[chosen]
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return Minibatch(images.div_(255), labels)

    def _augmented(self, chosen: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Pixels (B, H, W, C) of the chosen images, cropped and flipped, and their labels."""
        padding, batch = self._crop_padding, len(chosen)
        generator = generator_at("cpu", self._seed, "augment", t)
        shifts = torch.randint(-padding, padding + 1, (2, batch), generator=generator)
        flips = torch.randint(0, 1 + self._flip, (1, batch), generator=generator)
        # One tensor, hence one copy to the GPU.
        plan = _sent(torch.cat([chosen[None], shifts, flips]), self._pixels.device)
        image, down, right, flip = plan[:, :, None]
        _, height, width, channels = self._pixels.shape
        # Where each pixel of the result comes from: the crop first, then its mirror image.
        row = torch.arange(height, device=plan.device) + down
        column = torch.arange(width, device=plan.device)
        column = torch.where(flip > 0, width - 1 - column, column) + right
        line = image * height + row.clamp(0, height - 1)
        source = line[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]
        pixels = self._pixels.view(-1, channels).index_select(0, source.view(-1))
        pixels = pixels.view(batch, height, width, channels)
        if padding:
            row_inside = (row >= 0) & (row < height)
            column_inside = (column >= 0) & (column < width)
            pixels *= (row_inside[:, :, None] & column_inside[:, None, :])[..., None]
        return pixels, self._labels[plan[0]]


def _sent(plan: Tensor, device: torch.device) -> Tensor:
    """``plan`` on the device; pinned memory lets the copy to a GPU run in the background."""
    if device.type != "cuda":
        return plan.to(device)
    return plan.pin_memory().to(device, non_blocking=True)
