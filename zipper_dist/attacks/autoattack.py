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
with a fast adaptive boundary attack", ICML 2020 (FAB). Square: :mod:`zipper_dist.attacks.square`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor

from zipper_dist.attacks.ascent import Network
from zipper_dist.config.threat import Norm

PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
"""The attacks of the package that the adapter offers."""

ENSEMBLE = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The standard version of AutoAttack, in its order."""

ITERATIONS, QUERIES, TARGETS = 100, 5000, 9
"""Of the standard version: of APGD and FAB for a target, of Square, and targets an example."""

NAMES = {"linf": "Linf", "l2": "L2"}
"""The package's names of the norms."""

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


def plain(network: Network) -> Network:
    """``network`` as the package takes it: its gradient in the plain memory layout, and logits of
    its own, because Square writes into them."""
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
        plain(network), norm=NAMES[norm], eps=eps, n_iter=iterations, loss=loss,
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
        plain(network), norm=NAMES[norm], eps=eps, n_iter=iterations, device=x.device,
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
        plain(network), norm=NAMES[norm], eps=eps, n_iter=iterations, targeted=True,
        n_target_classes=min(TARGETS, classes - 1), device=x.device,
    )  # fmt: skip
    adversarial: Tensor = attack.perturb(x, y)
    return adversarial
