"""What names and numbers of an evaluation mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.evaluation.attack_list import STANDARD, expand
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.results.report import wilson_interval


def test_standard_is_the_published_set() -> None:
    assert expand(["standard"]) == list(STANDARD)
    assert EvaluateOptions(Path("run")).attacks == ("standard",)
    assert expand(["pgd-20,clean", "pgd-20"]) == ["pgd-20", "clean"]


def test_the_interval_is_wilsons() -> None:
    """Against values worked out by hand from the formula, and at the ends."""
    assert wilson_interval(50, 100) == pytest.approx((40.3832, 59.6168), abs=1e-3)
    assert wilson_interval(0, 10) == pytest.approx((0, 27.7533), abs=1e-3)
    assert wilson_interval(10, 10) == pytest.approx((72.2467, 100), abs=1e-3)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_any_number_of_ranks_is_placed(ranks: int) -> None:
    plans = [
        plan(Machine(rank, ranks, rank, ranks, 0, tuple(range(4))), "auto", None)
        for rank in range(ranks)
    ]
    assert all(plan.threads == max(1, 4 // ranks) for plan in plans)
    assert {plan.backend for plan in plans} == {None if ranks == 1 else "gloo"}
