"""Outcomes are a function of network, example, attack and seed, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluation.conftest import EPS
from evaluation.helpers import Found, attack_all
from zipper_dist.errors import Interrupted
from zipper_dist.evaluation.batch_size import batch_size_for
from zipper_dist.evaluation.blocks import Layout, Places
from zipper_dist.evaluation.engine import Networks, Worker
from zipper_dist.evaluation.network_views import attacked_view, exact_view
from zipper_dist.evaluation.outcomes import BROKEN, ROBUST, UNKNOWN, BlockOutcome, Store, address
from zipper_dist.evaluation.registry import Threat, make_part
from zipper_dist.models import ModelSpec, build

Set = tuple[Tensor, Tensor]
THREAT = Threat("linf", EPS)
NAMES = ["fgsm", "pgd-5", "mim-5", "cw-5", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square", "aa"]


@pytest.fixture(scope="module")
def some(digits: Set) -> Set:
    return digits[0][:75].clone(), digits[1][:75].clone()


@pytest.fixture(scope="module")
def reference(network: nn.Module, some: Set, tmp_path_factory: pytest.TempPathFactory) -> Found:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("reference")
    return attack_all(root, network, *some, NAMES, THREAT, short=True)


def assert_same(found: Found, reference: Found, names: list[str]) -> None:
    for name in names:
        assert found.robust(name) == reference.robust(name), name


@pytest.mark.parametrize(
    "change",
    [{"ranks": 2}, {"ranks": 3}, {"ranks": 5}, {"batch_size": 7}, {"batch_size": 1000}],
    ids=str,
)
def test_neither_ranks_nor_batch_size_change_an_outcome(
    tmp_path: Path, network: nn.Module, some: Set, reference: Found, change: dict[str, Any]
) -> None:
    found = attack_all(tmp_path, network, *some, NAMES, THREAT, short=True, **change)
    assert_same(found, reference, NAMES)
    assert 0 < sum(found.robust("aa")) < sum(found.robust("clean"))


@pytest.mark.parametrize(
    "names", [["aa"], ["square", "aa"], ["cw-5"], ["fab-t", "apgd-t"]], ids=str
)
def test_what_else_is_asked_for_changes_no_outcome(
    tmp_path: Path, network: nn.Module, some: Set, reference: Found, names: list[str]
) -> None:
    found = attack_all(tmp_path, network, *some, names, THREAT, short=True)
    assert_same(found, reference, names)


def test_another_seed_gives_other_draws(some: Set) -> None:
    layout, examples = Layout(75, 32), torch.arange(75)
    one, two = (
        [g.initial_seed() for g in Places(layout, examples, "pgd-5", seed).generators()]
        for seed in (0, 1)
    )
    assert len({*one, *two}) == 150
    again = Places(layout, examples, "pgd-5", 0)[examples > 40]
    assert [g.initial_seed() for g in again.generators()] == one[41:]
    restart = Places(layout, examples, "pgd-5", 0, restart=1)
    assert not {g.initial_seed() for g in restart.generators()} & set(one)


def test_what_is_done_is_not_done_again(tmp_path: Path, network: nn.Module, some: Set) -> None:
    attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)

    def fail(images: Tensor) -> Tensor:
        raise AssertionError("asked again")

    found = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)
    worker = found.workers[0]
    object.__setattr__(worker.setting, "networks", type(worker.setting.networks)(fail, fail))
    again = Worker(worker.setting, worker.store, worker.blocks)
    again.classify()
    again.attack(found.results.parts["pgd-5"])
    with pytest.raises(AssertionError, match="asked again"):
        again.attack(make_part("pgd-6", THREAT))


def test_an_interrupted_attack_loses_only_the_blocks_in_work(
    tmp_path: Path, network: nn.Module, some: Set, reference: Found
) -> None:
    found = attack_all(tmp_path / "a", network, *some, [], THREAT)
    part = reference.results.parts["apgd-ce"]
    calls = 0

    def tick(cost: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 14:  # in the second of three blocks
            raise Interrupted(15)

    setting = reference.workers[0].setting
    small = type(setting)(**{**vars(setting), "batch_size": 32})
    worker = Worker(small, found.workers[0].store, [0, 1, 2], tick)
    worker.classify()
    calls = 0
    with pytest.raises(Interrupted):
        worker.attack(part)
    later = Worker(small, found.workers[0].store, [0, 1, 2])
    states = [later.outcome(part, block).state for block in (0, 1, 2)]
    assert (states[0] != UNKNOWN).any()
    assert (states[1] == UNKNOWN).all()
    later.attack(part)
    expected = [reference.workers[0].outcome(part, block).state for block in (0, 1, 2)]
    assert all(
        torch.equal(later.outcome(part, block).state, expected[block]) for block in (0, 1, 2)
    )


def test_restarts_attack_what_still_stands(tmp_path: Path, network: nn.Module, some: Set) -> None:
    once = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)
    thrice = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT, restarts=3)
    assert all(a <= b for a, b in zip(thrice.robust("pgd-5"), once.robust("pgd-5"), strict=True))
    clean, standing = sum(once.robust("clean")), sum(once.robust("pgd-5"))
    assert once.spent("pgd-5") == 5 * clean
    assert 5 * clean + 5 * standing < thrice.spent("pgd-5") <= 5 * clean + 10 * standing


def test_screening_reports_fp32_figures(tmp_path: Path, network: nn.Module, some: Set) -> None:
    """What bf16 breaks is broken for the fp32 network too, and the rest was attacked in fp32."""
    plain = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)
    screened = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT, screen=True)
    assert all(a <= b for a, b in zip(screened.robust("pgd-5"), plain.robust("pgd-5"), strict=True))
    logits = exact_view(network)(screened.images("pgd-5"))
    assert (logits.argmax(1) == some[1]).tolist() == screened.robust("pgd-5")
    clean, standing = sum(plain.robust("clean")), sum(screened.robust("pgd-5"))
    assert screened.spent("pgd-5") >= 5 * clean + 5 * standing


def test_what_screening_alone_finds_broken_does_not_count(
    tmp_path: Path, network: nn.Module, some: Set
) -> None:
    """A coarse network that is wrong about every image, and an attack too weak for the real one."""
    found = attack_all(tmp_path, network, *some, [], THREAT)
    worker = found.workers[0]

    def coarse(images: Tensor) -> Tensor:
        return -exact_view(network)(images)

    networks = Networks(exact_view(network), attacked_view(network), coarse)
    setting = replace(worker.setting, networks=networks)
    screened = Worker(setting, worker.store, worker.blocks)
    part = make_part("fgsm", Threat("linf", 1e-6))
    screened.attack(part)
    states = torch.cat([screened.outcome(part, block).state for block in worker.blocks])
    assert (coarse(some[0]).argmax(1) != some[1])[states != UNKNOWN].all()
    assert (states == ROBUST).sum() == sum(found.robust("clean"))
    assert not (states == BROKEN).any()


def test_every_image_that_counts_as_broken_is_misclassified_and_kept(
    reference: Found, network: nn.Module, some: Set
) -> None:
    for name in NAMES:
        right = exact_view(network)(reference.images(name)).argmax(1) == some[1]
        assert right.tolist() == reference.robust(name)


def test_views_answer_alike_whatever_the_batch(network: nn.Module, some: Set) -> None:
    x = some[0]
    whole = exact_view(network)(x)
    torch.testing.assert_close(whole, network(x))
    torch.testing.assert_close(attacked_view(network)(x), whole, rtol=1e-4, atol=1e-4)
    for view in (exact_view(network), attacked_view(network)):
        together = view(x)
        for rows in (1, 2, 3, 9, 40):
            assert torch.equal(view(x[:rows]), together[:rows])


def test_views_answer_alike_wherever_in_the_batch(network: nn.Module, some: Set) -> None:
    """Also where rows of features begin at other places of a memory line: here there are 50."""
    x = some[0]
    wide = build(ModelSpec("small_cnn", 1, 16, 16, 10, 0.75)).eval()  # 150 features
    nn.init.normal_(wide.classifier.fc3.weight)  # type: ignore[union-attr,arg-type]
    for model in (network, wide):
        for view in (exact_view(model), attacked_view(model)):
            together = view(x)
            for first in (1, 3, 5, 8, 30):
                assert torch.equal(view(x[first:]), together[first:])


def test_a_network_without_gradients_has_gradient_zero() -> None:
    class Steps(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1)[:, :3] > 0.5).float()

    x = torch.rand(9, 1, 4, 4).requires_grad_()
    for view in (exact_view(Steps()), attacked_view(Steps())):
        (gradient,) = torch.autograd.grad(view(x).sum(), x)
        assert (gradient == 0).all()


def test_a_damaged_or_foreign_file_is_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "evaluation")
    store.prepare()
    state = torch.tensor([ROBUST, BROKEN, UNKNOWN], dtype=torch.uint8)
    image = torch.rand(1, 2, 2)
    store.save("pgd", 4, BlockOutcome(state, {1: image}, {"seconds": 2.0}))
    read = store.load("pgd", 4, 3)
    assert torch.equal(read.state, state)
    assert read.images is not None
    assert torch.equal(read.images[1], image)
    assert read.spent == {"seconds": 2.0}
    wanted = torch.tensor([True, True, True])
    assert read.lacks(wanted, True).tolist() == [False, False, True]
    read.images = None
    assert read.lacks(wanted, True).tolist() == [False, True, True]
    path = store.path("pgd", 4)
    path.write_bytes(path.read_bytes()[:-3])
    assert store.load("pgd", 4, 3).state.tolist() == [0, 0, 0]
    assert store.load("pgd", 5, 2).state.tolist() == [0, 0]


def test_every_setting_is_part_of_the_address() -> None:
    part = make_part("pgd-20", THREAT)
    others = [
        make_part("pgd-20", Threat("l2", EPS)),
        make_part("pgd-20", Threat("linf", EPS, 0.01)),
        make_part("pgd-20", Threat("linf", 0.3)),
        make_part("pgd-20", THREAT, restarts=2),
        make_part("pgd-21", THREAT),
    ]
    assert len({address(p.settings) for p in (part, *others)}) == 6
    assert address(make_part("pgd-20", THREAT).settings) == address(part.settings)


def test_batch_size_follows_memory() -> None:
    model = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Flatten(), nn.Linear(64 * 64, 10))
    image = torch.rand(1, 1, 8, 8)
    sizes = [batch_size_for(model, image, memory) for memory in (0, 1_000_000, 10**12)]
    assert sizes[0] == 1 < sizes[1] < sizes[2] == 128
    assert batch_size_for(nn.Conv2d(1, 4096, 1), image, 10**12) == 32
    assert model.training
