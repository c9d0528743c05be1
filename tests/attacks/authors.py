"""AutoAttack as its authors run it, with the random numbers of the adapter.

The package's own class does everything: its order, its bookkeeping of what is broken, its calls.
Only the draws differ, which it takes by row of the block (see
:mod:`zipper_dist.attacks.autoattack.adapter`), so that its verdicts can be compared with ours one
by one.
"""

from __future__ import annotations

from typing import Any

import torch
from pyautoattack import AutoAttack
from torch import Tensor

from zipper_dist.accel.precision import Network
from zipper_dist.attacks.autoattack.adapter import ITERATIONS, NAMES, QUERIES, BlockNoise
from zipper_dist.attacks.autoattack.square import BlockSquare
from zipper_dist.attacks.draws import BlockRows
from zipper_dist.config.threat import Norm


class _Rows:
    """Finds out which examples of a block a batch holds, by their pixels."""

    def __init__(self, block: Tensor) -> None:
        self._block = block.flatten(1)

    def __call__(self, batch: Tensor) -> Tensor:
        same = (batch.flatten(1)[:, None] == self._block[None]).all(2)
        if not bool((same.sum(1) == 1).all()):
            raise ValueError("the images of a block must all be different")
        return same.int().argmax(1)


def authors_verdicts(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    eps: float,
    seed: int,
    attacks: list[str] | None = None,
    iterations: int = ITERATIONS,
    queries: int = QUERIES,
) -> Tensor:
    """Which examples of a block are classified right under AutoAttack: bool (B,).

    ``network``: images → logits, in eval mode. ``x``: all images of the block (B, C, H, W), float32
    in [0, 1], no two alike; ``y``: (B,), int64. ``seed``: of the block. ``attacks``: the
    package's names of the attacks to run in turn; None: the standard version. ``iterations`` and
    ``queries``: as in the standard version, unless given.
    """
    options: dict[str, Any] = {"version": "standard"} if attacks is None else {"version": "custom"}
    authors = AutoAttack(
        network, norm=NAMES[norm], eps=eps, seed=seed, attacks=attacks, device=x.device, **options
    )
    if attacks is not None:  # as in the standard version, which sets these itself
        authors.apgd.n_restarts = authors.fab.n_restarts = 1
    authors.verbose = False
    for attack in (authors.apgd, authors.apgd_targeted):
        # What its constructor derives from the number of iterations.
        attack.n_iter, attack.n_iter_2 = iterations, max(int(0.22 * iterations), 1)
        attack.n_iter_min, attack.size_decr = (max(int(f * iterations), 1) for f in (0.06, 0.03))
    authors.fab.n_iter, authors.square.n_queries = iterations, queries
    _share_draws(authors, x, seed, norm)
    adversarial, _ = authors.run_standard_evaluation(x, y, batch_size=len(x))
    with torch.no_grad():
        right: Tensor = network(adversarial).argmax(1) == y
    return right


def _share_draws(authors: AutoAttack, block: Tensor, seed: int, norm: Norm) -> None:
    rows, everyone = _Rows(block), torch.arange(len(block))
    for attack in (authors.apgd, authors.apgd_targeted):
        _share_starts(attack, rows, BlockRows(seed, len(block), everyone), block, norm)

    def square(x: Tensor, y: Tensor) -> Any:
        ours = BlockSquare(
            authors.model,
            BlockRows(seed, len(block), rows(x)),
            norm=NAMES[norm],
            eps=authors.epsilon,
            n_queries=authors.square.n_queries,
            resc_schedule=False,
            device=x.device,
        )
        ours.init_hyperparam(x)
        return ours.attack_single_run(x, y)

    authors.square.attack_single_run = square


def _share_starts(attack: Any, rows: _Rows, everyone: BlockRows, block: Tensor, norm: Norm) -> None:
    draws: list[BlockNoise] = []
    perturb, attack_single_run = attack.perturb, attack.attack_single_run

    def begin(*args: Any, **kwargs: Any) -> Any:
        draws[:] = [BlockNoise(norm, [everyone])]
        return perturb(*args, **kwargs)

    def start(x: Tensor, y: Tensor) -> Any:
        noise = draws[0].like(block)[rows(x)]
        begun = x + attack.eps * torch.ones_like(x) * attack.normalize(noise)
        return attack_single_run(x, y, x_init=begun)

    attack.perturb, attack.attack_single_run = begin, start
