"""Square (Andriushchenko, Croce, Flammarion and Hein, "Square Attack", ECCV 2020), black-box."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pyautoattack.square import SquareAttack
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.autoattack.adapter import QUERIES, FromAuthors, plain
from zipper_dist.attacks.base import ATTACKS
from zipper_dist.attacks.draws import BlockRows, Draws
from zipper_dist.attacks.verdict import answers


class BlockSquare(SquareAttack):  # type: ignore[misc]
    """Square, with the draws that have a row for each example made for the whole block."""

    def __init__(self, network: Network, block: BlockRows, **options: Any) -> None:
        super().__init__(plain(network), **options)
        self.predict: Network
        self._block = block
        self._standing = block.rows

    def margin_and_loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As the package has it; it goes on with the examples of a positive margin."""
        margin, loss = self.ask(x, y)
        self._standing = self._standing[(margin > 0).cpu()]
        return margin, loss

    def ask(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Margin and loss (n,) of each image (n, C, H, W), from the network; a NaN, which the
        package takes for neither, is a margin below 0."""
        margin, loss = super().margin_and_loss(x, y)
        return margin.nan_to_num(nan=-1.0), loss.nan_to_num(nan=-1.0)

    def random_choice(self, shape: Sequence[int]) -> Tensor:
        """Random signs; where there is a row for each example, its row of the block's."""
        if len(shape) < 4:
            choice: Tensor = super().random_choice(shape)
            return choice
        choice = super().random_choice([self._block.size, *shape[1:]])
        return choice[self._standing.to(choice.device)]


class FrugalSquare(BlockSquare):
    """The same, but without queries whose answer is known: a square that changes nothing of an
    image leaves margin and loss as they are for the example's best image so far."""

    def __init__(self, network: Network, block: BlockRows, **options: Any) -> None:
        super().__init__(network, block, **options)
        self._best: list[Tensor] = []
        """Images, margin and loss of the examples that still stand."""

    def ask(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`BlockSquare.ask`."""
        if not self._best:
            margin, loss = super().ask(x, y)
            self._best = [x.clone(), margin.clone(), loss.clone()]
        else:
            margin, loss = (known.clone() for known in self._best[1:])
            new = (x != self._best[0]).flatten(1).any(1).nonzero().flatten()
            if len(new) > 0:
                margin[new], loss[new] = super().ask(x[new], y[new])
                better = loss[new] < self._best[2][new]
                for mine, theirs in zip(self._best, (x, margin, loss), strict=True):
                    mine[new[better]] = theirs[new[better]]
        standing = margin > 0
        if not bool(standing.all()):
            self._best = [known[standing] for known in self._best]
        return margin, loss


@ATTACKS.register("square")
@dataclass(frozen=True)
class Square(FromAuthors):
    """Square, which asks for logits alone; the examples of a block share its squares."""

    one_block: ClassVar[bool] = True

    queries: int = QUERIES
    """Questions an example at most."""

    @property
    def cost(self) -> int:
        """See :class:`~zipper_dist.attacks.base.Attack`."""
        return self.queries

    def iterates(self, network: Network, x: Tensor, y: Tensor, draws: Draws) -> Iterator[Tensor]:
        """See :class:`~zipper_dist.attacks.base.Attack`; there is only the result."""
        (block,) = draws.blocks()
        high, wide = x.shape[2:]
        clean = x
        if self.norm == "l2":
            to_high, to_wide = _l2_size(high, wide)
            x = F.pad(x, (0, to_wide - wide, 0, to_high - high))
        attack = FrugalSquare(
            lambda images: network(images[:, :, :high, :wide]), block, n_queries=self.queries,
            resc_schedule=False, **self.package_options(x),
        )  # fmt: skip
        attack.init_hyperparam(x)
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(block.seed)
            _, adversarial = attack.attack_single_run(x, y)
        adversarial = adversarial[:, :, :high, :wide]
        with torch.no_grad():
            broken = answers(network(adversarial)) != y
        yield torch.where(broken[:, None, None, None], adversarial, clean)


def _l2_size(high: int, wide: int) -> tuple[int, int]:
    """The least size from ``high`` × ``wide`` up [pixels] where the last of the package's tiles,
    laid from a margin on, fits; it fails elsewhere."""

    def fits(height: int, width: int) -> bool:
        tile = height // 5
        margin = (height - 5 * tile) // 2
        return tile == 1 or (tile > 1 and margin <= height % tile and margin <= width % tile)

    sizes = [(h, w) for h in range(high, high + 8) for w in range(wide, wide + h)]
    return min((size for size in sizes if fits(*size)), key=math.prod)
