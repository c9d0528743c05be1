"""An adapter to ``pyautoattack``, the authors' own package, and its attacks that follow gradients.

The package draws for whatever batch an attack still works on. Here every draw is made for a whole
block of examples, of which each takes its row: the numbers that the package draws when it attacks
the whole block with the block's seed (but for Square in L2). So an outcome depends on neither the
batch nor earlier attacks, and the ensemble can use the outcomes of its parts.

Sources of AutoAttack and Auto-PGD, and of FAB: Croce and Hein, "Reliable evaluation of adversarial
robustness with an ensemble of diverse parameter-free attacks" and "Minimally distorted adversarial
examples with a fast adaptive boundary attack", ICML 2020.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.base import ATTACKS, Attack
from zipper_dist.attacks.draws import BlockRows, Draws
from zipper_dist.config.threat import Norm

ITERATIONS, QUERIES, TARGETS = 100, 5000, 9
"""Of the standard version: of APGD and FAB for a target, of Square, and targets an example."""

NAMES = {"linf": "Linf", "l2": "L2"}
"""The package's names of the norms."""

# The package warns of zero gradients at every call; the sanity checks look for them once.
SILENT = logging.getLogger("zipper_dist.autoattack")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


@dataclass(frozen=True)
class FromAuthors(Attack):
    """An attack of the package, on images that are classified right; they stay where it fails. The
    ball is kept up to the package's rounding."""

    only_right: ClassVar[bool] = True

    def package_options(self, x: Tensor) -> dict[str, Any]:
        """What every attack of the package takes, for a batch ``x``."""
        return {"norm": NAMES[self.norm], "eps": self.eps, "device": x.device}

    @property
    def settings(self) -> dict[str, Any]:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return super().settings | {"pyautoattack": version("pyautoattack")}


class _PlainGradient(torch.autograd.Function):
    """The identity; its gradient comes in the plain memory layout, as the package takes it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous()


def plain(network: Network) -> Network:
    """``network`` with its gradient in the plain layout, and logits that Square may write into."""
    return lambda images: network(_PlainGradient.apply(images)).clone()


class BlockNoise:
    """Random images, each example's from its row in the draws of its block."""

    def __init__(self, norm: Norm, blocks: Sequence[BlockRows]) -> None:
        self._norm = norm
        # On the CPU whatever the device, as in the package.
        self._blocks = [(b, torch.Generator().manual_seed(b.seed)) for b in blocks]

    def like(self, x: Tensor) -> Tensor:
        """The next draw for all examples of the batch ``x``, shaped as it and on its device."""
        draw = torch.rand if self._norm == "linf" else torch.randn
        drawn = torch.cat([
            draw((block.size, *x.shape[1:]), generator=generator)[block.rows]
            for block, generator in self._blocks
        ])  # fmt: skip
        return (2 * drawn - 1 if self._norm == "linf" else drawn).to(x.device)


def _run(attack: APGDAttack, x: Tensor, y: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Adversarial images, and whether each is misclassified, from the package's own start."""
    attack.init_hyperparam(x)
    start = x + attack.eps * torch.ones_like(x) * attack.normalize(noise)
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        _, correct, _, adversarial = attack.attack_single_run(x, y, x_init=start)
    return adversarial, ~correct.bool()


@ATTACKS.register("apgd-ce")
@dataclass(frozen=True)
class APGD(FromAuthors):
    """Auto-PGD on the cross-entropy, from one random start."""

    iterations: int = ITERATIONS
    """Gradient steps."""

    family, loss = "apgd-ce", "ce"

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return 2 * self.iterations

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; yields the result alone."""
        attack = APGDAttack(
            plain(network), n_iter=self.iterations, loss=self.loss, logger=SILENT,
            **self.package_options(x),
        )  # fmt: skip
        adversarial, broken = _run(attack, x, y, BlockNoise(self.norm, draws.blocks()).like(x))
        yield torch.where(broken[:, None, None, None], adversarial, x)


@ATTACKS.register("apgd-dlr")
@dataclass(frozen=True)
class APGDOnDLR(APGD):
    """Auto-PGD on the difference of logits ratio (DLR), which takes 3 classes or more."""

    family, loss = "apgd-dlr", "dlr"

    def unsuitable(self, classes: int) -> str | None:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        if classes >= 3:
            return None
        return f"its loss (DLR) takes 3 classes or more, and this network has {classes}"


@dataclass(frozen=True)
class Targeted(FromAuthors):
    """An attack towards each of the 9 likeliest wrong classes (all, where there are fewer)."""

    passes: ClassVar[int] = 2
    """Forward passes of a step, a gradient counted as two."""

    iterations: int = ITERATIONS
    """Steps for a target."""
    targets: int = TARGETS
    """Wrong classes at most."""

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return self.passes * self.targets * self.iterations


@ATTACKS.register("apgd-t")
@dataclass(frozen=True)
class APGDTargeted(Targeted):
    """Auto-PGD on the targeted DLR loss, until a target breaks the example; with fewer than 4
    classes, on the cross-entropy of the target."""

    family = "apgd-t"

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; yields after each target."""
        attack = APGDAttack_targeted(
            plain(network), n_iter=self.iterations, logger=SILENT, **self.package_options(x)
        )
        with torch.no_grad():
            order = network(x).sort(dim=1)[1]
        classes = order.shape[1]
        attack.loss = "dlr-targeted" if classes >= 4 else "ce-targeted"
        noise = BlockNoise(self.norm, draws.blocks())
        result, standing = x.clone(), torch.arange(len(x), device=x.device)
        for target in range(2, min(self.targets, classes - 1) + 2):
            start = noise.like(x)[standing]
            attack.y_target = order[standing, -target]
            adversarial, broken = _run(attack, x[standing], y[standing], start)
            result[standing[broken]] = adversarial[broken]
            standing = standing[~broken]
            yield result
            if len(standing) == 0:
                break


@ATTACKS.register("fab-t")
@dataclass(frozen=True)
class FAB(Targeted):
    """FAB, which draws no random numbers."""

    family, passes = "fab-t", 3

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; yields the result alone."""
        with torch.no_grad():
            classes = network(x[:1]).shape[1]
        attack = FABAttack_PT(
            plain(network), n_iter=self.iterations, targeted=True,
            n_target_classes=min(self.targets, classes - 1), **self.package_options(x),
        )  # fmt: skip
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            adversarial: Tensor = attack.perturb(x, y)
        yield adversarial
