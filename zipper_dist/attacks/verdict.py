"""What a network answers, where that may be nothing: logits that are NaN or infinite."""

import math

import torch
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.config.threat import Norm

NO_ANSWER = -1
"""The class of an image whose logits are not finite; it is no label, so never right."""


def answers(logits: Tensor) -> Tensor:
    """The class that each row of the logits (B, classes) stands for: int64 (B,).

    ``argmax`` alone takes the first NaN for the highest logit: a network of NaNs would answer 0.
    """
    return torch.where(logits.isfinite().all(1), logits.argmax(1), NO_ANSWER)


class Unanswered:
    """``network``, noticing images near ``x`` (B, C, H, W) that it gave no finite logits for:
    attacks read NaN as they please, as that the image is still right.

    Which they are would be asked of the device at every call. So it is only counted there, and
    seldom asked (:meth:`noticed`); an attack is then done again, to remember them.
    """

    def __init__(self, network: Network, x: Tensor, norm: Norm, eps: float) -> None:
        self._network = network
        self._x = x
        self._power = math.inf if norm == "linf" else 2.0
        self._near = 1.001 * eps
        self._noticed = torch.zeros((), dtype=torch.bool, device=x.device)
        self.remembers = False
        """Whether such images are remembered, and no longer only noticed."""
        self.images = x
        """The remembered images, elsewhere those of ``x``: (B, C, H, W)."""
        self.found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        """For which of ``x`` there is one: bool (B,)."""

    def noticed(self) -> bool:
        """Whether there was such an image since this was last asked; waits for the device."""
        noticed = bool(self._noticed)
        self._noticed.zero_()
        return noticed

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of some images."""
        logits = self._network(images)
        given = images.detach()
        if given.shape[1:] == self._x.shape[1:]:
            with torch.no_grad():
                silent = ~logits.isfinite().all(1) & given.isfinite().flatten(1).all(1)
                if self.remembers:
                    self._remember(given[silent])
                else:
                    self._noticed |= silent.any()
        return logits

    def _remember(self, images: Tensor) -> None:
        """Remember images for all of ``x`` whose balls they lie in; outside of all, the nearest."""
        if len(images) == 0:
            return
        distance = torch.cdist(images.flatten(1), self._x.flatten(1), self._power)
        near = distance <= distance.amin(1, keepdim=True).clamp_min(self._near)
        found = near.any(0)
        chosen = images[near.byte().argmax(0)]
        self.images = torch.where(found[:, None, None, None], chosen, self.images)
        self.found |= found
