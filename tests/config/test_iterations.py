"""A range of iterations as an option."""

from __future__ import annotations

import pytest

from zipper_dist.config.iterations import IterationRange


@pytest.mark.parametrize("text", ["1:1", "100:120", "none"])
def test_a_range_is_written_as_it_is_read(text: str) -> None:
    assert str(IterationRange.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "5", "5:", ":5", "0:3", "4:3", "-1:3", "1:2:3", "a:b", "1.5:2", "²:3", "1 :2"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give FIRST:LAST"):
        IterationRange.parse(text)


def test_it_must_lie_within_the_run() -> None:
    assert IterationRange(3, 9).problem("--trace", 9) is None
    assert IterationRange().problem("--trace", 9) is None
    assert IterationRange(3, 9).problem("--trace", 8) == (
        "--trace 3:9: the run has 8 iterations: give FIRST:LAST within 1:8"
    )
