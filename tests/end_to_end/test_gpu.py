"""What is checked where there is a GPU: training there, and attacks against those on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from end_to_end.commands import SMALL, succeeded, train
from end_to_end.results import assert_same_result, summary
from zipper_dist.attacks import PGD
from zipper_dist.models import ModelSpec, build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no GPU: training and attacks on CUDA, serial = two ranks there, are not checked",
    ),
]


def test_one_process_and_two_ranks_end_with_the_same_bits(tmp_path: Path) -> None:
    options = [*SMALL, "--device", "cuda"]
    one, two = tmp_path / "one", tmp_path / "two"
    for directory, ranks in ((one, 1), (two, 2)):
        directory.mkdir()
        succeeded(train(*options, at=directory, ranks=ranks))
    assert_same_result(one / "run", two / "run")
    assert summary(one / "run")["ranks"][0]["device"] == "cuda:0"


def test_an_attack_agrees_with_the_cpu_up_to_rounding() -> None:
    torch.manual_seed(0)
    model = build(ModelSpec("resnet18", 3, 32, 32, 10, 0.25)).eval()
    x, y = torch.rand(16, 3, 32, 32), torch.arange(16) % 10
    attack = PGD(steps=3, random_start=False)
    here = attack(model, x, y)
    there = attack(model.cuda(), x.cuda(), y.cuda()).cpu()
    # A gradient near zero may have either sign.
    assert ((here - there).abs() < 1e-6).float().mean() > 0.95
