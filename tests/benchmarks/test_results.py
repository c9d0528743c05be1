"""The arithmetic of the tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from comparison.experiments import experiment
from comparison.results import (
    Costs,
    Found,
    Outcome,
    Spread,
    seconds_per_iteration,
    time_unit,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_mean_and_sample_deviation(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_one_value_has_no_deviation() -> None:
    assert Spread.of([3.0]) == Spread(3.0, None, 1)
    assert Spread.of([]) == Spread(None, None, 0)
    assert Spread.of([1, 2]).words() == "1.50 ± 0.71"
    assert Spread(99.0, None, 1).words(1) == "99.0"
    assert Spread(None, None, 0).words() == "–"


def found(row: str, seed: int, seconds: float, **accuracies: float) -> Found:
    figures = {"train_seconds": seconds, "wall_seconds": seconds + 1, **accuracies}
    return Found(row, seed, figures, dict.fromkeys(accuracies, 100), "weights")


def test_the_table_by_row() -> None:
    runs = [
        found("trades", 0, 10, nat=98, pgd_100=30),
        found("zipper-serial", 0, 20, nat=99),
        found("trades", 1, 14, nat=96, pgd_100=40),
    ]
    table = Outcome(experiment("digits"), found=runs).table()
    assert list(table) == ["trades", "zipper-serial"]
    deviation = pytest.approx(8**0.5)
    assert table["trades"] == {
        "nat": Spread(97, pytest.approx(2**0.5), 2),  # type: ignore[arg-type]
        "pgd_100": Spread(35, pytest.approx(50**0.5), 2),  # type: ignore[arg-type]
        "train_seconds": Spread(12, deviation, 2),  # type: ignore[arg-type]
        "wall_seconds": Spread(13, deviation, 2),  # type: ignore[arg-type]
    }
    assert table["zipper-serial"]["nat"] == Spread(99, None, 1)
    assert "pgd_100" not in table["zipper-serial"]


def test_times_in_a_fitting_unit() -> None:
    for seconds, unit in ((598.0, ("s", 1)), (599.0, ("min", 60))):
        assert time_unit(Outcome(experiment("digits"), found=[found("at", 0, seconds)])) == unit
    assert Spread(120, 60, 2).words(1, 60) == "2.0 ± 1.0"


def test_ideal_times() -> None:
    costs = Costs(natural=1.0, adversarial=3.0, steps=10)
    assert costs.serial == 40
    assert costs.parallel == 30
    assert costs.natural_share == 0.25
    assert costs.as_json()["parallel_ideal_seconds"] == 30


def test_the_cost_of_an_iteration_is_a_median_without_the_first(tmp_path: Path) -> None:
    def record(learner: str, step: int, seconds: float) -> str:
        return json.dumps({"learner": learner, "step": step, "train_seconds": seconds}) + "\n"

    # Iterations of 9 s while warming up, then of 1, 3 and 2 s.
    lines = [record("natural", *at) for at in ((10, 90), (20, 100), (25, 115), (35, 135))]
    lines += [record("other", 10, 1), '{"learner": "global", "clean": 1}\n']
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert seconds_per_iteration(tmp_path, "natural") == 2
    (tmp_path / "metrics.jsonl").write_text(record("natural", 10, 40))
    assert seconds_per_iteration(tmp_path, "natural") == 4
