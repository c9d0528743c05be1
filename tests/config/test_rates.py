"""Schedules of learning rates against those of torch."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from zipper_dist.config.schedules import Curve, Schedule, parse_rate

STEPS = 20


def torchs(make: object) -> list[float]:
    """The rates of a scheduler of torch after 1 … STEPS steps of it, for a rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no weights are to be trained
        for _ in range(STEPS):
            scheduler.step()
            rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


def warmed_up(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    rise = STEPS // 4
    up = lr_scheduler.LambdaLR(optimizer, lambda step: step / rise)
    down = lr_scheduler.CosineAnnealingLR(optimizer, STEPS - rise)
    return lr_scheduler.SequentialLR(optimizer, [up, down], [rise])


def one_cycle(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    # Torch's first rate is that of progress 0, and the peak is a step before total · pct_start.
    part = (0.3 * STEPS + 1) / (STEPS + 1)
    return lr_scheduler.OneCycleLR(optimizer, 1.0, STEPS + 1, pct_start=part, cycle_momentum=False)


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("cosine", lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, STEPS)),
        ("cosine:0.25", warmed_up),
        ("one-cycle", one_cycle),
        ("one-cycle:0.3", one_cycle),
    ],
)
def test_curves_are_those_of_torch(text: str, make: object) -> None:
    curve = parse_rate(text)
    ours = [curve(t / STEPS) for t in range(1, STEPS + 1)]
    assert ours == pytest.approx(torchs(make), rel=1e-9, abs=1e-12)
    assert min(curve.values) - 1e-12 <= min(ours) <= max(ours) <= max(curve.values)


def test_one_cycle_begins_at_a_25th() -> None:
    assert parse_rate("one-cycle")(0) == pytest.approx(1 / 25)


@pytest.mark.parametrize("text", ["cosine", "cosine:0.05", "one-cycle", "one-cycle:0.2"])
def test_a_curve_is_written_as_it_is_read(text: str) -> None:
    curve = parse_rate(text)
    assert isinstance(curve, Curve)
    assert str(curve) == text


def test_piecewise_schedules_are_read_as_ever() -> None:
    assert parse_rate("0:1,1:0.5") == Schedule.parse("0:1,1:0.5")
    assert parse_rate("0.5") == Schedule.parse("0.5")


@pytest.mark.parametrize("text", ["cosine:1", "cosine:x", "one-cycle:-0.1", "cosine:nan", "cosin"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a schedule.*(cosine|one-cycle)"):
        parse_rate(text)
