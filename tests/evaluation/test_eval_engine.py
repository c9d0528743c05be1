"""Outcomes are a function of network, example, attack and seed, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluation.conftest import EPS, THREAT, Set
from evaluation.helpers import Outcome, attack_all
from zipper_dist.attacks import PGD, Attack, Blocks, ExampleDraws, Fgsm
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import Interrupted
from zipper_dist.evaluation.attack_list import Measure, attack_named, measures, with_worst
from zipper_dist.evaluation.engine import Engine, Examples
from zipper_dist.evaluation.in_memory import evaluate_model
from zipper_dist.evaluation.network_views import (
    NetworkViews,
    exact_view,
)
from zipper_dist.evaluation.outcomes import (
    BROKEN,
    ROBUST,
    UNKNOWN,
    DiskStore,
    MemoryStore,
)

NAMES = ["fgsm", "pgd-5", "mim-5", "cw-5", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square", "aa"]


@pytest.fixture(scope="module")
def reference(network: nn.Module, some: Set, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("reference")
    return attack_all(root, network, *some, NAMES, THREAT, short=True)


def assert_same(found: Outcome, reference: Outcome, names: list[str]) -> None:
    for name in names:
        assert found.robust(name) == reference.robust(name), name


@pytest.mark.parametrize(
    "change",
    [{"ranks": 2}, {"ranks": 3}, {"ranks": 5}, {"batch_size": 7}, {"batch_size": 1000}],
    ids=str,
)
def test_neither_ranks_nor_batch_size_change_an_outcome(
    tmp_path: Path, network: nn.Module, some: Set, reference: Outcome, change: dict[str, Any]
) -> None:
    found = attack_all(tmp_path, network, *some, NAMES, THREAT, short=True, **change)
    assert_same(found, reference, NAMES)
    assert 0 < sum(found.robust("aa")) < sum(found.robust("clean"))


@pytest.mark.parametrize(
    "names", [["aa"], ["square", "aa"], ["cw-5"], ["fab-t", "apgd-t"]], ids=str
)
def test_what_else_is_asked_for_changes_no_outcome(
    tmp_path: Path, network: nn.Module, some: Set, reference: Outcome, names: list[str]
) -> None:
    found = attack_all(tmp_path, network, *some, names, THREAT, short=True)
    assert_same(found, reference, names)


def test_the_number_of_an_example_decides_its_draws(
    tmp_path: Path, network: nn.Module, some: Set
) -> None:
    """So that the same images have the same outcomes whichever others are evaluated with them."""
    names = ["pgd-3", "cw-3"]
    whole = attack_all(tmp_path / "a", network, *some, names, THREAT)
    chosen = torch.arange(1, 75, 3)
    x, y = some[0][chosen], some[1][chosen]
    few = attack_all(tmp_path / "b", network, x, y, names, THREAT, numbers=chosen)
    others = attack_all(tmp_path / "c", network, x, y, names, THREAT)
    for name in names:
        assert torch.equal(few.images(name), whole.images(name)[chosen])
        assert not torch.equal(others.images(name), few.images(name))


def test_another_seed_gives_other_draws() -> None:
    blocks, examples = Blocks(75, 32), torch.arange(75)

    def seeds(draws: ExampleDraws) -> list[int]:
        return [g.initial_seed() for g in draws.generators()]

    one, two = (seeds(ExampleDraws(seed, "pgd-5", blocks, examples, examples)) for seed in (0, 1))
    assert len({*one, *two}) == 150
    draws = ExampleDraws(0, "pgd-5", blocks, examples, examples)
    assert seeds(draws.of(examples > 40, 0)) == one[41:]
    assert not set(seeds(draws.of(examples, 1))) & set(one)


def run_to_the_end(engine: Engine, attack: Attack) -> None:
    for _ in engine.attack(attack):
        pass


def test_what_is_done_is_not_done_again(tmp_path: Path, network: nn.Module, some: Set) -> None:
    found = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)

    def fail(images: Tensor) -> Tensor:
        raise AssertionError("asked again")

    store = DiskStore(tmp_path / "evaluation")
    again = replace(found.engines[0], store=store, views=NetworkViews(fail, fail))
    assert list(again.run([found.wanted["pgd-5"]])) == []
    with pytest.raises(AssertionError, match="asked again"):
        run_to_the_end(again, attack_named("pgd-6", THREAT))


def test_it_yields_between_the_steps_and_leaves_the_modes_alone(
    tmp_path: Path, network: nn.Module, some: Set
) -> None:
    """Other work between two pieces, whatever it does to torch's modes, changes no outcome."""
    found = attack_all(tmp_path, network, *some, ["pgd-5", "cw-5"], THREAT)
    engine = replace(found.engines[0], store=MemoryStore())
    pieces = 0
    work = engine.run(list(found.wanted.values()))
    for grad_enabled in (True, False) * 100:
        with torch.set_grad_enabled(grad_enabled):
            if next(work, "end") == "end":
                break
            assert torch.is_grad_enabled() is grad_enabled
            torch.rand(3)
            pieces += 1
    assert pieces >= 3 + 2 * 2 * 5  # three blocks; two attacks on two batches
    for name in ("pgd-5", "cw-5"):
        states = [engine.outcome(found.attack(name), block).state for block in (0, 1, 2)]
        assert (torch.cat(states) == ROBUST).tolist() == found.robust(name)


def test_an_interrupted_attack_loses_only_the_blocks_in_work(
    tmp_path: Path, network: nn.Module, some: Set, reference: Outcome
) -> None:
    attack_all(tmp_path / "a", network, *some, [], THREAT)
    attack = reference.attack("apgd-ce")
    calls = 0

    def tick(cost: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 14:  # in the second of three blocks
            raise Interrupted(15)

    def engine() -> Engine:
        store = DiskStore(tmp_path / "a" / "evaluation")
        return replace(reference.engines[0], store=store, batch_size=32, mine=[0, 1, 2])

    interrupted = engine()
    for _ in interrupted.classify():
        pass
    interrupted.tick = tick
    with pytest.raises(Interrupted):
        run_to_the_end(interrupted, attack)
    later = engine()
    states = [later.outcome(attack, block).state for block in (0, 1, 2)]
    assert (states[0] != UNKNOWN).any()
    assert (states[1] == UNKNOWN).all()
    run_to_the_end(later, attack)
    for block in (0, 1, 2):
        expected = reference.engines[0].outcome(attack, block).state
        assert torch.equal(later.outcome(attack, block).state, expected)


def test_restarts_attack_what_still_stands(tmp_path: Path, network: nn.Module, some: Set) -> None:
    once = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT)
    thrice = attack_all(tmp_path, network, *some, ["pgd-5"], THREAT, restarts=3)
    assert all(a <= b for a, b in zip(thrice.robust("pgd-5"), once.robust("pgd-5"), strict=True))
    clean, standing = sum(once.robust("clean")), sum(once.robust("pgd-5"))
    assert once.spent("pgd-5") == 5 * clean
    assert 5 * clean + 5 * standing < thrice.spent("pgd-5") <= 5 * clean + 10 * standing


def test_the_exact_network_decides(tmp_path: Path, network: nn.Module, some: Set) -> None:
    """Attacked is a network that is wrong about every image, too weakly for the real one."""
    found = attack_all(tmp_path, network, *some, [], THREAT)

    def coarse(images: Tensor) -> Tensor:
        return -exact_view(network)(images)

    engine = replace(found.engines[0], views=NetworkViews(exact_view(network), coarse))
    attack = Fgsm(1e-6)
    run_to_the_end(engine, attack)
    states = torch.cat([engine.outcome(attack, block).state for block in engine.mine])
    assert (coarse(some[0]).argmax(1) != some[1])[states != UNKNOWN].all()
    assert (states == ROBUST).sum() == sum(found.robust("clean"))
    assert not (states == BROKEN).any()


def test_every_image_that_counts_as_broken_is_misclassified_and_kept(
    reference: Outcome, network: nn.Module, some: Set
) -> None:
    for name in NAMES:
        right = exact_view(network)(reference.images(name)).argmax(1) == some[1]
        assert right.tolist() == reference.robust(name)


def test_in_memory_and_on_disk_are_the_same(
    tmp_path: Path, network: nn.Module, some: Set, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["clean", "pgd-5", "cw-5"]
    found = attack_all(tmp_path, network, *some, names[1:], THREAT)
    network.train()
    before = torch.get_rng_state()
    result = evaluate_model(network, Examples(*some), THREAT, names)
    assert network.training
    network.eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert list(result.accuracy) == names
    for name in names:
        assert result.correct[name].tolist() == found.robust(name)
        assert result.accuracy[name] == pytest.approx(100 * sum(found.robust(name)) / 75)
    assert f"{result.accuracy['pgd-5']:.2f} %" in result.table("a title")
    assert "a title" in result.table("a title")
    pixels = evaluate_model(
        network, Examples((some[0] * 255).round().byte(), some[1]), [THREAT], [PGD(EPS, steps=5)],
        batch_size=7,
    )  # fmt: skip
    assert pixels.correct["pgd-5"].tolist() == found.robust("pgd-5")
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="must lie in"):
        evaluate_model(network, Examples(255 * some[0], some[1]), THREAT)


def test_several_threat_models_and_their_union(
    tmp_path: Path, network: nn.Module, some: Set
) -> None:
    threats = [THREAT, ThreatModel("l2", 0.9)]
    found = attack_all(tmp_path, network, *some, ["pgd-5", "aa"], threats, short=True)
    linf, l2 = (
        attack_all(tmp_path / str(t), network, *some, ["pgd-5", "aa"], t, short=True)
        for t in threats
    )
    assert list(found.wanted) == [
        "clean", "pgd-5@linf:0.1", "pgd-5@l2:0.9", "pgd-5@union", "aa@linf:0.1", "aa@l2:0.9",
        "aa@union",
    ]  # fmt: skip
    for name in ("pgd-5", "aa"):
        one, two = linf.robust(name), l2.robust(name)
        assert found.robust(f"{name}@linf:0.1") == one
        assert found.robust(f"{name}@l2:0.9") == two
        assert found.robust(f"{name}@union") == [a and b for a, b in zip(one, two, strict=True)]
        assert one != two
    settings = found.report.figures["pgd-5@union"].settings
    assert settings == {"attacks": ["pgd-5@linf:0.1", "pgd-5@l2:0.9"]}


def test_one_threat_model_leaves_the_names_as_they_are() -> None:
    assert measures(["clean", "cw"], [THREAT]) == [
        Measure("clean"), Measure.of("cw", attack_named("cw", THREAT)),
    ]  # fmt: skip


def test_the_worst_of_all_attacks_takes_several_unions() -> None:
    threats = [THREAT, ThreatModel("l2", 0.9)]
    one = measures(["clean", "cw"], threats)
    assert with_worst(one) == one
    alone = measures(["cw", "aa"], [THREAT])
    assert with_worst(alone) == alone
    wanted = measures(["apgd-ce", "aa", "clean"], threats)
    (worst,) = with_worst(wanted)[len(wanted) :]
    assert (worst.label, worst.made_of) == ("all@union", ("apgd-ce@union", "aa@union"))
    assert len(worst.parts) == 2 * 4  # apgd-ce is a part of aa, and counts once
    assert set(worst.parts) == {part for measure in wanted for part in measure.parts}
