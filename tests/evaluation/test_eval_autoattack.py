"""AutoAttack through the adapter is what pyautoattack does when it is called directly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from attacks.authors import authors_verdicts
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from evaluation.conftest import EPS
from evaluation.helpers import attack_all, small_network
from zipper_dist.accel.precision import Network
from zipper_dist.attacks import APGD, FAB, APGDTargeted, Attack, Blocks, Draws, Square
from zipper_dist.attacks import AutoAttack as OurAutoAttack
from zipper_dist.attacks.autoattack import APGDOnDLR
from zipper_dist.attacks.autoattack.square import BlockSquare, FrugalSquare
from zipper_dist.attacks.draws import BlockRows, block_seed
from zipper_dist.config.threat import Norm, ThreatModel
from zipper_dist.evaluation.network_views import exact_view

Set = tuple[Tensor, Tensor]
ITERATIONS, QUERIES, SEED = 10, 120, 17
RADIUS: dict[Norm, float] = {"linf": EPS, "l2": 1.0}
NAMES = {"linf": "Linf", "l2": "L2"}
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")


@dataclass(frozen=True)
class BlockDraws(Draws):
    """Draws of given rows of given blocks."""

    rows: list[BlockRows]

    def generators(self) -> None:
        """No random starts."""

    def blocks(self) -> list[BlockRows]:
        return self.rows


def run(attack: Attack, network: Network, x: Tensor, y: Tensor, *rows: BlockRows) -> Tensor:
    """An attack on examples of some blocks."""
    return attack.run(network, x, y, BlockDraws(list(rows)))


def block_of(right: Set, size: int = 48) -> Set:
    return right[0][:size], right[1][:size]


def direct(attack: Any, x: Tensor, y: Tensor) -> Tensor:
    """The package's own, untouched ``perturb``, on a whole block that is classified right."""
    attack.seed = SEED
    found: Tensor = attack.perturb(x.clone(), y.clone())
    return found


def options(norm: Norm) -> dict[str, Any]:
    return {"norm": NAMES[norm], "eps": RADIUS[norm], "device": "cpu"}


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in ("apgd-ce", "apgd-dlr", "fab-t") for norm in ("linf", "l2")]
    + [("square", "linf")],
)
def test_a_part_equals_a_direct_call_whatever_else_is_in_the_batch(
    network: nn.Module, right: Set, name: str, norm: Norm
) -> None:
    """All of the block, and a part of it alone, against the package's call on all of the block."""
    x, y = block_of(right)
    view = exact_view(network)
    eps = RADIUS[norm]
    if name.startswith("apgd"):
        loss = name.removeprefix("apgd-")
        theirs = direct(APGDAttack(view, loss=loss, n_iter=ITERATIONS, **options(norm)), x, y)
    elif name == "fab-t":
        fab = FABAttack_PT(view, n_iter=ITERATIONS, targeted=True, **options(norm))
        theirs = direct(fab, x, y)
    else:
        black = SquareAttack(view, n_queries=QUERIES, resc_schedule=False, **options(norm))
        theirs = direct(black, x, y)

    attack: Attack = {
        "apgd-ce": APGD(eps, norm, ITERATIONS),
        "apgd-dlr": APGDOnDLR(eps, norm, ITERATIONS),
        "fab-t": FAB(eps, norm, ITERATIONS),
        "square": Square(eps, norm, QUERIES),
    }[name]
    broken = view(theirs).argmax(1) != y
    assert 0 < int(broken.sum()) < len(y)
    # Sums over the pixels, as the L2 norm and FAB take, are rounded otherwise in other batches.
    rounding = 0.0 if norm == "linf" and name != "fab-t" else 1e-4
    for rows in (torch.arange(len(x)), torch.arange(1, len(x), 3)):
        found = run(attack, view, x[rows], y[rows], BlockRows(SEED, len(x), rows))
        assert torch.equal(view(found).argmax(1) != y[rows], broken[rows])
        torch.testing.assert_close(found, theirs[rows], rtol=0, atol=rounding)


def test_square_in_l2_is_the_packages_with_draws_for_the_whole_block(
    network: nn.Module, right: Set
) -> None:
    """There the package draws at every query for the examples that still stand, so that only the
    accuracy can agree with an untouched call; an example's outcome is its own with ours."""
    x, y = block_of(right, 150)
    view = exact_view(network)
    square = Square(RADIUS["l2"], "l2", QUERIES)
    whole = run(square, view, x, y, BlockRows(SEED, len(x), torch.arange(len(x))))
    some = torch.arange(1, len(x), 3)
    part = run(square, view, x[some], y[some], BlockRows(SEED, len(x), some))
    torch.testing.assert_close(part, whole[some], rtol=0, atol=1e-4)
    attack = SquareAttack(view, n_queries=QUERIES, resc_schedule=False, **options("l2"))
    ours, theirs = (
        float((view(images).argmax(1) == y).float().mean())
        for images in (whole, direct(attack, x, y))
    )
    assert abs(ours - theirs) < 0.06
    assert ours < 0.9


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_asks_nothing_twice(network: nn.Module, right: Set, norm: Norm) -> None:
    """Fewer queries than where each is asked, the same images."""
    x, y = block_of(right)
    asked: dict[type, int] = {}
    found = []
    for kind in (FrugalSquare, BlockSquare):

        def view(images: Tensor, kind: type = kind) -> Tensor:
            asked[kind] = asked.get(kind, 0) + len(images)
            return exact_view(network)(images)

        block = BlockRows(SEED, len(x), torch.arange(len(x)))
        attack = kind(view, block, n_queries=300, resc_schedule=False, **options(norm))
        attack.init_hyperparam(x)
        torch.manual_seed(SEED)
        found.append(attack.attack_single_run(x, y))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    if norm == "linf":
        assert asked[FrugalSquare] < 0.98 * asked[BlockSquare]


def test_targeted_apgd_equals_direct_calls_for_each_target(network: nn.Module, right: Set) -> None:
    """The package's untouched run for a target on all of the block, target after target."""
    x, y = block_of(right)
    view = exact_view(network)
    attack = APGDAttack_targeted(view, n_iter=ITERATIONS, **options("linf"))
    attack.init_hyperparam(x)
    order, standing = view(x).sort(dim=1)[1], torch.ones(len(y), dtype=torch.bool)
    theirs = x.clone()
    torch.manual_seed(SEED)
    for target in range(2, 11):
        attack.y_target = order[:, -target]
        _, correct, _, adversarial = attack.attack_single_run(x, y)
        broken = standing & ~correct.bool()
        theirs[broken] = adversarial[broken]
        standing &= ~broken
    rows = torch.arange(0, len(x), 2)
    for chosen in (torch.arange(len(x)), rows):
        ours = run(
            APGDTargeted(EPS, iterations=ITERATIONS), view, x[chosen], y[chosen],
            BlockRows(SEED, len(x), chosen),
        )  # fmt: skip
        assert torch.equal(ours, theirs[chosen])


def test_two_blocks_in_a_batch_draw_as_each_alone(network: nn.Module, right: Set) -> None:
    x, y = block_of(right)
    view = exact_view(network)
    first, second = torch.arange(20), torch.arange(28)
    blocks = [BlockRows(1, 20, first), BlockRows(2, 28, second)]
    attack = APGD(EPS, iterations=ITERATIONS)
    together = run(attack, view, x, y, *blocks)
    alone = [run(attack, view, x[:20], y[:20], blocks[0])]
    alone += [run(attack, view, x[20:], y[20:], blocks[1])]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("requested", [["aa"], [*PARTS, "aa"]])
def test_the_standard_ensemble_gives_the_authors_verdicts(
    tmp_path: Path, network: nn.Module, digits: Set, requested: list[str]
) -> None:
    """The authors' AutoAttack class on the same blocks with the same seeds and draws, in full.

    Also where ``aa`` takes the outcomes of parts that were attacked on other examples than its own.
    """
    x, y = digits[0][:48], digits[1][:48]
    found = attack_all(
        tmp_path, network, x, y, requested, ThreatModel("linf", EPS),
        block_size=24, batch_size=16, short=True,
    )  # fmt: skip
    view = exact_view(network)
    blocks = Blocks(len(y), 24)
    for block in range(len(blocks)):
        span = blocks.span(block)
        expected = authors_verdicts(
            view, x[span], y[span], norm="linf", eps=EPS, seed=block_seed(0, block),
            iterations=8, queries=60,
        )  # fmt: skip
        assert found.robust("aa")[span] == expected.tolist()
    assert 0 < sum(found.robust("aa")) < sum(found.robust("clean"))


def test_what_is_misclassified_or_broken_is_not_attacked(
    tmp_path: Path, network: nn.Module, digits: Set
) -> None:
    x, y = digits[0][:64], digits[1][:64]
    y = torch.where(torch.arange(64) % 2 == 0, (y + 1) % 10, y)  # half of them are wrong already
    alone = attack_all(
        tmp_path / "alone", network, x, y, ["apgd-t"], ThreatModel("linf", 0.3), short=True
    )
    clean, weak = sum(alone.robust("clean")), alone.spent("apgd-t")
    assert clean < 33
    # 9 targets of 9 gradients, but none for the targets after the one that broke an example.
    assert weak < 0.8 * 9 * 9 * clean
    chained = attack_all(
        tmp_path / "chain", network, x, y, ["aa"], ThreatModel("linf", 0.3), short=True
    )
    standing = sum(
        a and b for a, b in zip(chained.robust("clean"), chained.robust("apgd-ce"), strict=True)
    )
    assert standing < clean / 2
    # 9 gradients for each target; those that apgd-ce broke cost apgd-t nothing.
    assert chained.spent("apgd-t") <= 9 * 9 * standing
    assert chained.spent("apgd-t") < weak
    assert chained.spent("apgd-ce") == 9 * clean


class Constant(nn.Module):
    """Logits that no attack can change."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("logits", torch.arange(classes).float())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.logits + 0 * images.flatten(1).sum(1, keepdim=True)  # type: ignore[operator]
        return logits


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_few_classes_and_non_square_single_channel_images(
    tmp_path: Path, classes: int, norm: Norm
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(10, 1, 12, 17, generator=generator)
    model = small_network(1, classes)
    y = model(x).argmax(1)
    names = [name for name in PARTS if name != "apgd-dlr" or classes >= 3]
    eps = 0.2 if norm == "linf" else 2.0
    found = attack_all(tmp_path, model, x, y, [*names, "aa"], ThreatModel(norm, eps), short=True)
    assert not all(found.robust("aa"))
    unbreakable = Constant(classes)
    y = torch.full_like(y, classes - 1)
    found = attack_all(
        tmp_path / "constant", unbreakable, x, y, [*names, "aa"], ThreatModel(norm, eps), short=True
    )
    assert all(found.robust("aa"))


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (12, 12), (14, 14), (17, 18), (28, 20), (24, 24)])
def test_square_in_l2_runs_on_images_of_any_size(size: tuple[int, int]) -> None:
    """The package itself fails on several of these."""
    x = torch.rand(3, 2, *size, generator=torch.Generator().manual_seed(0))
    model = small_network(2, 4)
    y = model(x).argmax(1)
    found = run(Square(0.5, "l2", 30), model, x, y, BlockRows(0, 3, torch.arange(3)))
    assert found.shape == x.shape
    assert float((found - x).flatten(1).norm(dim=1).max()) <= 0.5 + 1e-5


def test_gradients_in_channels_last_are_taken() -> None:
    """The package flattens gradients, which fails on that layout unless the adapter changes it."""
    model = small_network(3, 10).to(memory_format=torch.channels_last)
    network: Network = lambda x: model(x.contiguous(memory_format=torch.channels_last))  # noqa: E731
    x = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    run(APGDOnDLR(0.1, iterations=3), network, x, y, BlockRows(0, 9, torch.arange(9)))


def test_the_ensemble_is_the_packages_standard_version() -> None:
    standard = AutoAttack(lambda x: x, version="standard")
    assert standard.attacks_to_run == [part.name for part in OurAutoAttack().parts]
    assert standard.apgd.n_restarts == standard.apgd_targeted.n_restarts == 1
    assert standard.fab.n_restarts == standard.square.n_restarts == 1
    assert standard.apgd_targeted.n_target_classes == standard.fab.n_target_classes == 9
    assert standard.apgd.n_iter == standard.apgd_targeted.n_iter == standard.fab.n_iter == 100
    assert standard.square.n_queries == 5000
    assert not standard.square.rescale_schedule
