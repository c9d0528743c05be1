"""What is checked where there is a GPU: training there, and attacks against those on a CPU."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from end_to_end.commands import SMALL, Command, stopped, succeeded, train
from end_to_end.results import assert_same_result, summary
from zipper_dist.accel.precision import Acceleration, has_native_bf16
from zipper_dist.attacks import PGD
from zipper_dist.config.threat import Norm
from zipper_dist.models import ModelSpec, build

ON_GPU = [*SMALL, "--device", "cuda"]


@pytest.mark.slow
@pytest.mark.gpu("one process and two ranks that share a GPU end with the same bits")
def test_one_process_and_two_ranks_end_with_the_same_bits(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory, ranks in ((one, 1), (two, 2)):
        directory.mkdir()
        succeeded(train(*ON_GPU, at=directory, ranks=ranks))
    assert_same_result(one / "run", two / "run")
    assert summary(one / "run")["ranks"][0]["device"] == "cuda:0"


@pytest.mark.slow
@pytest.mark.gpu("an interrupted run ends with the bits of an uninterrupted one")
def test_an_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def terminate(command: Command) -> None:
        command.process.send_signal(signal.SIGTERM)

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    succeeded(train(*ON_GPU, at=whole))
    stopped(terminate, torn, further=9, arguments=ON_GPU)
    finished = succeeded(train(*ON_GPU, at=torn))
    assert "continuing from iteration " in finished.said
    assert_same_result(whole / "run", torn / "run")


@pytest.mark.gpu("attacks agree with those on the CPU up to rounding")
def test_an_attack_agrees_with_the_cpu_up_to_rounding() -> None:
    torch.manual_seed(0)
    model = build(ModelSpec("resnet18", 3, 32, 32, 10, 0.25)).eval()
    x, y = torch.rand(16, 3, 32, 32), torch.arange(16) % 10
    attack = PGD(steps=3, random_start=False)
    here = attack(model, x, y)
    there = attack(model.cuda(), x.cuda(), y.cuda()).cpu()
    # A gradient near zero may have either sign.
    assert ((here - there).abs() < 1e-6).float().mean() > 0.95


@pytest.mark.gpu("attacked images are exactly inside the ball")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_attacked_images_are_exactly_inside_the_ball(norm: Norm, eps: float) -> None:
    torch.manual_seed(0)
    model = build(ModelSpec("small_cnn", 3, 16, 16, 10, 0.25)).cuda()
    x, y = torch.rand(64, 3, 16, 16).cuda(), (torch.arange(64) % 10).cuda()
    attacked = PGD(eps=eps, norm=norm, steps=5)(model, x, y)
    moved = (attacked.double() - x.double()).flatten(1)
    order = float("inf") if norm == "linf" else 2
    assert 0 < torch.linalg.vector_norm(moved, order, dim=1).max() <= eps
    assert 0 <= attacked.min() <= attacked.max() <= 1


@pytest.mark.gpu("products are as exact as --precision says")
@pytest.mark.parametrize(
    ("precision", "least", "most"),  # of the relative error
    [("fp32", 0.0, 1e-5), ("tf32", 5e-5, 5e-3), ("bf16", 5e-4, 5e-2)],
)
def test_products_are_as_exact_as_the_precision_says(
    precision: Any, least: float, most: float
) -> None:
    if precision != "fp32" and not has_native_bf16(torch.device("cuda")):
        pytest.skip(f"this GPU has no {precision}")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(64, 64, 3), torch.nn.Flatten(), torch.nn.Linear(64 * 36, 64)]
    model = torch.nn.Sequential(*layers).cuda()
    images = torch.rand(32, 64, 8, 8).cuda()
    engine = Acceleration(precision)
    with torch.no_grad(), engine.arithmetic():
        found = engine.training_network(model)(images)
    exact = model.cpu().double()(images.cpu().double())
    assert found.dtype == torch.float32
    error = float(torch.linalg.vector_norm(found.cpu() - exact) / torch.linalg.vector_norm(exact))
    assert least <= error <= most
