"""Ranks that hold other weights than they should are named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from zipper_dist.distributed.communication import present
from zipper_dist.training.agreement import Disagreement, check_agreement, checksum
from zipper_dist.training.context import RunContext, TrainState

THETA = torch.linspace(-1, 1, 33)


def check(weights: Tensor, others: list[dict[str, int]]) -> None:
    """As rank 0, which trains ``weights``, finds it beside ``others``."""
    world = SimpleNamespace(
        size=1 + len(others),
        gather=lambda topic, mine: present([mine | {"natural": 1}, *others]),
    )
    run: Any = SimpleNamespace(
        world=world,
        wait=lambda pending: pending.result(),
        config=SimpleNamespace(learners={"natural": None, "adversarial": None}),
    )
    learner = SimpleNamespace(name="adversarial", state=SimpleNamespace(flat=weights))
    state: Any = SimpleNamespace(at=40, learners=[learner])
    check_agreement(cast(RunContext, run), cast(TrainState, state), THETA)


def report(weights: Tensor, theta: Tensor = THETA) -> dict[str, int]:
    return {"adversarial": checksum(weights), "global": checksum(theta)}


def test_equal_ranks_pass() -> None:
    check(THETA, [report(THETA), {"natural": 1, "global": checksum(THETA)}])
    check(THETA, [])


@pytest.mark.parametrize("bit", [0, 13, 31])
def test_one_bit_is_enough(bit: int) -> None:
    other = THETA.clone()
    other.view(torch.int32)[5] ^= -(2**31) if bit == 31 else 1 << bit
    with pytest.raises(Disagreement, match="iteration 40, the adversarial learner of rank 2 is"):
        check(THETA, [report(THETA), report(other)])
    with pytest.raises(Disagreement, match="the global learner of rank 1 is not"):
        check(THETA, [report(THETA, other), report(THETA)])
