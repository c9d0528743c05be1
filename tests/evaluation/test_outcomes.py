"""What is kept of an evaluation, and what of it is believed."""

from __future__ import annotations

from pathlib import Path

import torch

from evaluation.conftest import EPS, THREAT
from zipper_dist.attacks import PGD
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import attack_named
from zipper_dist.evaluation.outcomes import (
    BROKEN,
    ROBUST,
    UNKNOWN,
    BlockOutcome,
    DiskStore,
    address,
)


def test_a_damaged_or_foreign_file_is_as_none(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "evaluation")
    store.prepare()
    state = torch.tensor([ROBUST, BROKEN, UNKNOWN], dtype=torch.uint8)
    image = torch.rand(1, 2, 2)
    store.save("pgd", 4, BlockOutcome(state, {1: image}, {"seconds": 2.0}))
    read = DiskStore(store.root).load("pgd", 4, 3)
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
    assert DiskStore(store.root).load("pgd", 4, 3).state.tolist() == [0, 0, 0]
    assert store.load("pgd", 5, 2).state.tolist() == [0, 0]
    assert store.damaged == []


def test_no_byte_of_a_block_can_change_unnoticed(tmp_path: Path) -> None:
    """Whichever of its bytes it is: header, metadata, states or images."""
    store = DiskStore(tmp_path / "evaluation")
    store.prepare()
    state = torch.tensor([ROBUST, BROKEN, UNKNOWN], dtype=torch.uint8)
    store.save("pgd", 4, BlockOutcome(state, {1: torch.rand(1, 2, 2)}, {"seconds": 2.0}))
    path = store.path("pgd", 4)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        again = DiskStore(store.root)
        read = again.load("pgd", 4, 3)
        if again.damaged:
            assert str(path) in again.damaged[0]
            assert read.state.tolist() == [UNKNOWN] * 3
        else:  # a blank that pads the header
            assert torch.equal(read.state, state)
            assert content[place] in b" "


def test_a_block_of_another_attack_or_number_is_done_again(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "evaluation")
    store.prepare()
    store.save("pgd", 4, BlockOutcome(torch.tensor([ROBUST, ROBUST], dtype=torch.uint8)))
    for attack, block in (("mim", 4), ("pgd", 5)):
        store.path(attack, block).parent.mkdir(exist_ok=True)
        store.path(attack, block).write_bytes(store.path("pgd", 4).read_bytes())
        assert store.load(attack, block, 2).state.tolist() == [UNKNOWN] * 2
    assert len(store.damaged) == 2


def test_every_setting_is_part_of_the_address() -> None:
    attack = attack_named("pgd-20", THREAT)
    others = [
        attack_named("pgd-20", ThreatModel("l2", EPS)),
        attack_named("pgd-20", THREAT, step_size=0.01),
        attack_named("pgd-20", ThreatModel("linf", 0.3)),
        attack_named("pgd-20", THREAT, restarts=2),
        attack_named("pgd-21", THREAT),
        PGD(EPS, random_start=False),
    ]
    assert len({address(a.settings) for a in (attack, *others)}) == 7
    assert address(attack_named("pgd-20", THREAT).settings) == address(attack.settings)
