"""Tuning TRADES to a clean accuracy."""

from __future__ import annotations

import math

from comparison.matching import Accuracy, matched, next_beta, tolerance
from hypothesis import given
from hypothesis import strategies as st


def test_the_most_robust_of_those_that_are_accurate_enough() -> None:
    tried = {1.0: Accuracy(99, 50), 3.0: Accuracy(98, 60), 9.0: Accuracy(95, 70)}
    assert matched(tried, target=98.2, slack=0.25) == 3.0
    assert matched(tried, target=98.3, slack=0.25) == 1.0
    assert matched(tried, target=90, slack=0.25) == 9.0
    # Where robustness falls with β, the smaller one is TRADES at its best.
    assert matched({1.0: Accuracy(99, 50), 3.0: Accuracy(99, 40)}, 90, 0.25) == 1.0


def test_the_most_accurate_where_none_is_accurate_enough() -> None:
    assert matched({1.0: Accuracy(97, 50), 3.0: Accuracy(96, 60)}, 99, 0.25) == 1.0


def test_where_to_look_next() -> None:
    between = {1.0: Accuracy(99, 50), 4.0: Accuracy(95, 60)}
    assert next_beta(between, target=97, slack=0.25) == 2.0
    assert next_beta({4.0: Accuracy(95, 60), 8.0: Accuracy(94, 61)}, 97, 0.25) == 1.3
    assert next_beta({1.0: Accuracy(99, 50), 2.0: Accuracy(98, 60)}, 97, 0.25) == 6.0
    # Close enough, no longer worth it, or out of range.
    assert next_beta({1.0: Accuracy(97.2, 50), 4.0: Accuracy(95, 60)}, 97, 0.25) is None
    assert next_beta({1.0: Accuracy(99, 50), 2.0: Accuracy(98, 40)}, 97, 0.25) is None
    assert next_beta({1.0: Accuracy(95, 60), 2.0: Accuracy(95.5, 60)}, 97, 0.25) is None
    assert next_beta({0.01: Accuracy(95, 60)}, 97, 0.25) is None
    assert next_beta({100.0: Accuracy(99, 60)}, 97, 0.25) is None


def test_one_image_more_or_less_is_no_difference() -> None:
    assert tolerance(10_000) == 0.25
    assert math.isclose(tolerance(100), 1)


@given(
    middle=st.floats(-1, 1.5), steepness=st.floats(1, 4), target=st.floats(60, 98),
    slack=st.floats(0.25, 1),
)  # fmt: skip
def test_ends_at_the_largest_beta_that_is_accurate_enough(
    middle: float, steepness: float, target: float, slack: float
) -> None:
    """With accuracy falling and robustness rising in β, as long as it takes."""

    def trained(beta: float) -> Accuracy:
        loss = 50 / (1 + math.exp(-steepness * (math.log10(beta) - middle)))
        return Accuracy(100 - loss, 20 + loss)

    tried = {beta: trained(beta) for beta in (1.0, 3.0, 9.0)}
    for _ in range(30):
        beta = next_beta(tried, target, slack)
        if beta is None:
            break
        assert 0.01 <= beta <= 100
        assert beta not in tried
        tried[beta] = trained(beta)
    else:
        raise AssertionError("never ends")
    chosen = matched(tried, target, slack)
    if trained(0.012).clean >= target - slack and trained(85).clean < target - slack:
        assert trained(chosen).clean >= target - slack
        # Two digits of β are as near as it gets.
        near = trained(chosen * 1.12).clean < target - slack
        assert near or abs(trained(chosen).clean - target) <= slack
