"""Objectives with the mistakes that the rehearsals are to find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipper_dist.data import Minibatch
from zipper_dist.objectives.natural import Natural


class Asking(Natural):
    """Reads the loss."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = super().loss(model, batch, images)
        return loss * max(1.0, loss.item()), logits


class Travelling(Natural):
    """Sends the images to the host and back."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().loss(model, batch, images.to("cpu").to(images.device))


class Longer(Natural):
    """Does an elementwise operation for nothing."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().loss(model, batch, images.neg())


class Elsewhere(Natural):
    """Mixes devices in an operation of CUDA's own."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().loss(model, batch, images + torch.zeros(images.shape))


class Apart(Natural):
    """Mixes devices in an operation of cuBLAS."""

    def loss(self, model: nn.Module, batch: Minibatch, images: Tensor) -> tuple[Tensor, Tensor]:
        loss, logits = super().loss(model, batch, images)
        return loss, logits @ torch.eye(logits.shape[1])
