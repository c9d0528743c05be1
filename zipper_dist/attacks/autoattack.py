"""AutoAttack and its parts: an adapter to ``pyautoattack``, the authors' own package.

The attacks are the authors' code. What the adapter adds is where random numbers come from. The
package draws for whatever batch an attack still works on, so that an example's numbers depend on
which others have been broken. Here every draw is made for the whole of a fixed block of examples,
and an example takes its own row of it: the very numbers that the package draws when it attacks all
examples of the block with the block's seed. (But for Square in L2: there the package draws at each
query for those that still stand, so that no call of it could be matched.) So an outcome depends on
neither the batch nor what was attacked before, and the ensemble can use the outcomes of its parts.

Sources: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020 (APGD, the ensemble); "Minimally distorted adversarial examples
with a fast adaptive boundary attack", ICML 2020 (FAB); Andriushchenko, Croce, Flammarion and Hein,
"Square Attack", ECCV 2020.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from zipper_dist.attacks.loop import Network
from zipper_dist.config import Norm
from zipper_dist.stems import Stem

PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
"""The attacks of the package that the adapter offers."""

ENSEMBLE = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The standard version of AutoAttack, in its order."""

ITERATIONS, QUERIES, TARGETS = 100, 5000, 9
"""Of the standard version: of APGD and FAB for a target, of Square, and targets an example."""

_NAMES = {"linf": "Linf", "l2": "L2"}

# The package warns of zero gradients at every call; the sanity checks look for them once.
_SILENT = logging.getLogger("zipper_dist.autoattack")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


@dataclass(frozen=True)
class BlockRows:
    """The examples of a batch that belong to one block; a batch is one or more of these in turn."""

    seed: int
    """Seed of the attack on the block."""
    size: int
    """Examples in the block."""
    rows: Tensor
    """Which of them are in the batch: int64 (n,)."""


class _PlainGradient(torch.autograd.Function):
    """The identity; its gradient comes in the plain memory layout, as the package takes it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()


def _plain(network: Network) -> Network:
    # A copy, because Square writes into the logits.
    return lambda images: network(_PlainGradient.apply(images)).clone()


class Draws:
    """Random images, each example's from its row in the draws of its block."""

    def __init__(self, blocks: Sequence[BlockRows]) -> None:
        # On the CPU whatever the device, as in the package.
        self._blocks = [(b, torch.Generator().manual_seed(b.seed)) for b in blocks]

    def noise(self, norm: Norm, x: Tensor) -> Tensor:
        """The next draw for all examples of the batch, shaped as ``x`` and on its device."""
        draw = torch.rand if norm == "linf" else torch.randn
        rows = [
            draw((block.size, *x.shape[1:]), generator=generator)[block.rows]
            for block, generator in self._blocks
        ]
        drawn = torch.cat(rows)
        return (2 * drawn - 1 if norm == "linf" else drawn).to(x.device)


def _run_apgd(attack: APGDAttack, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Adversarial images, and whether each is misclassified, from the package's own start."""
    attack.init_hyperparam(x)
    start = x + attack.eps * torch.ones_like(x) * attack.normalize(noise)
    _, correct, _, adversarial = attack.attack_single_run(x, y, x_init=start)
    return adversarial, ~correct.bool()


def apgd(
    network: Network,
    x: Tensor,
    y: Tensor,
    blocks: Sequence[BlockRows],
    *,
    norm: Norm,
    eps: float,
    loss: str,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Auto-PGD with ``loss`` "ce" or "dlr" (3 classes or more), one start, on images classified
    right.

    ``network``: images → logits, in eval mode. ``x``: (B, C, H, W), float32 in [0, 1]; ``y``:
    (B,), int64; ``blocks``: where the examples belong, in their order. Returns images (B, C, H, W):
    the adversarial one where the attack succeeded, elsewhere the clean one. The ball is kept up to
    the rounding of the package; project the images for more.
    """
    attack = APGDAttack(
        _plain(network), norm=_NAMES[norm], eps=eps, n_iter=iterations, loss=loss,
        device=x.device, logger=_SILENT,
    )  # fmt: skip
    adversarial, broken = _run_apgd(attack, x, y, Draws(blocks).noise(norm, x))
    return torch.where(broken[:, None, None, None], adversarial, x)


def apgd_targeted(
    network: Network,
    x: Tensor,
    y: Tensor,
    blocks: Sequence[BlockRows],
    *,
    norm: Norm,
    eps: float,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Auto-PGD towards each of the 9 likeliest wrong classes (all, where there are fewer).

    On the targeted DLR loss, which takes 4 classes; with fewer, on the cross-entropy of the target.
    An example is attacked until it is broken. Arguments and result: as :func:`apgd`.
    """
    attack = APGDAttack_targeted(
        _plain(network), norm=_NAMES[norm], eps=eps, n_iter=iterations, device=x.device,
        logger=_SILENT,
    )  # fmt: skip
    with torch.no_grad():
        order = network(x).sort(dim=1)[1]
    classes = order.shape[1]
    attack.loss = "dlr-targeted" if classes >= 4 else "ce-targeted"
    draws = Draws(blocks)
    result, standing = x.clone(), torch.arange(len(x), device=x.device)
    for target in range(2, min(TARGETS, classes - 1) + 2):
        noise = draws.noise(norm, x)[standing]
        attack.y_target = order[standing, -target]
        adversarial, broken = _run_apgd(attack, x[standing], y[standing], noise)
        result[standing[broken]] = adversarial[broken]
        standing = standing[~broken]
        if len(standing) == 0:
            break
    return result


def fab_targeted(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    iterations: int = ITERATIONS,
) -> Tensor:
    """FAB towards each of the 9 likeliest wrong classes (all, where there are fewer).

    It draws no random numbers. Arguments and result: as :func:`apgd`.
    """
    with torch.no_grad():
        classes = network(x[:1]).shape[1]
    attack = FABAttack_PT(
        _plain(network), norm=_NAMES[norm], eps=eps, n_iter=iterations, targeted=True,
        n_target_classes=min(TARGETS, classes - 1), device=x.device,
    )  # fmt: skip
    adversarial: Tensor = attack.perturb(x, y)
    return adversarial


class BlockSquare(SquareAttack):  # type: ignore[misc]
    """Square, with the draws that have a row for each example made for the whole block."""

    def __init__(self, network: Network, block: BlockRows, **options: Any) -> None:
        super().__init__(_plain(network), **options)
        self.predict: Network
        self._block = block
        self._standing = block.rows

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As the package has it; it goes on with the examples of a positive margin."""
        margin, loss = self.ask(x, y)
        self._standing = self._standing[(margin > 0).cpu()]
        return margin, loss

    def ask(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Margin and loss (n,) of each image (n, C, H, W), from the network."""
        found: tuple[Tensor, Tensor] = super().margin_and_loss(x, y)
        return found

    def random_choice(self, shape: Sequence[int]) -> Tensor:
        """Random signs; where there is a row for each example, its row of the block's."""
        if len(shape) < 4:
            choice: Tensor = super().random_choice(shape)
            return choice
        choice = super().random_choice([self._block.size, *shape[1:]])
        return choice[self._standing.to(choice.device)]


class FrugalSquare(BlockSquare):
    """The same, but for queries whose answer is known.

    Often a square changes nothing of an image, because all its pixels are at that end of their
    range already. Then margin and loss are those of the example's best image so far. So this keeps
    that image by the rule of the package; whether an answer is known, the pixels decide.

    Where the network has a stem, so do the maps that it makes of that image: they are renewed where
    pixels have changed.
    """

    def __init__(
        self, network: Network, block: BlockRows, stem: Stem | None = None, **options: Any
    ) -> None:
        super().__init__(network, block, **options)
        self._stem = stem
        self._best: list[Tensor] = []
        """Images, margin, loss, and where there is a stem maps, of the examples that still
        stand."""

    def ask(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`BlockSquare.ask`."""
        if not self._best:
            margin, loss = super().ask(x, y)
            maps = [] if self._stem is None else [self._stem.first(x)]
            self._best = [x.clone(), margin.clone(), loss.clone(), *maps]
        else:
            margin, loss = (known.clone() for known in self._best[1:3])
            changed = x != self._best[0]
            new = changed.flatten(1).any(1).nonzero().flatten()
            if len(new) > 0:
                margin[new], loss[new], maps = self._ask_about(x[new], y[new], new, changed)
                better = loss[new] < self._best[2][new]
                found = [x[new], margin[new], loss[new], *maps]
                for mine, theirs in zip(self._best, found, strict=True):
                    mine[new[better]] = theirs[better]
        standing = margin > 0
        if not bool(standing.all()):
            self._best = [known[standing] for known in self._best]
        return margin, loss

    def _ask_about(
        self, x: Tensor, y: Tensor, rows: Tensor, changed: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Margin and loss of images, and their maps; ``rows``: which examples, ``changed``: in
        which pixels of all examples there is something new."""
        if self._stem is None:
            return *super().ask(x, y), []
        maps = self._best[3][rows]
        pixels = changed.flatten(0, 1).any(0)
        self._stem.renew(maps, x, _span(pixels.any(1)), _span(pixels.any(0)))
        whole: Network = self.predict
        self.predict = _plain(self._stem.rest)
        try:
            return *super().ask(maps, y), [maps]
        finally:
            self.predict = whole


def _span(mask: Tensor) -> tuple[int, int]:
    """From the first to behind the last that is true; one is."""
    places = mask.nonzero()
    return int(places[0]), int(places[-1]) + 1


def square(
    network: Network,
    x: Tensor,
    y: Tensor,
    block: BlockRows,
    *,
    norm: Norm,
    eps: float,
    queries: int = QUERIES,
) -> Tensor:
    """Square, the black-box attack, on examples of one block, which share its squares.

    Arguments and result: as :func:`apgd`.
    """
    high, wide = x.shape[2:]
    if norm == "l2":
        to_high, to_wide = _l2_size(high, wide)
        x = F.pad(x, (0, to_wide - wide, 0, to_high - high))
    # In L2 squares come in twos, anywhere.
    stem = getattr(network, "stem", None) if norm == "linf" else None
    attack = FrugalSquare(
        lambda images: network(images[:, :, :high, :wide]), block, stem, norm=_NAMES[norm],
        eps=eps, n_queries=queries, resc_schedule=False, device=x.device,
    )  # fmt: skip
    attack.init_hyperparam(x)
    torch.manual_seed(block.seed)
    _, adversarial = attack.attack_single_run(x, y)
    clean, adversarial = (images[:, :, :high, :wide] for images in (x, adversarial))
    with torch.no_grad():
        broken = network(adversarial).argmax(1) != y
    return torch.where(broken[:, None, None, None], adversarial, clean)


def _l2_size(high: int, wide: int) -> tuple[int, int]:
    """The least size from ``high`` × ``wide`` up [pixels] that Square in L2 can tile.

    The package lays tiles of a fifth of the height from a margin on, and fails where the last tile
    does not fit. Black pixels are added on the far sides then; what is changed in them is cut away,
    so that the attack stays in the ball and only wastes a part of it.
    """

    def fits(height: int, width: int) -> bool:
        tile = height // 5
        margin = (height - 5 * tile) // 2
        return tile == 1 or (tile > 1 and margin <= height % tile and margin <= width % tile)

    sizes = [(h, w) for h in range(high, high + 8) for w in range(wide, wide + h)]
    return min((size for size in sizes if fits(*size)), key=lambda size: size[0] * size[1])
