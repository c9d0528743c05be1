"""The arithmetic of the tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from comparison.costs import Costs, bytes_of_a_sync, seconds_per_iteration
from comparison.figures import Found, Shared, Spread, Unit, evaluated, table, verdicts
from hypothesis import given
from hypothesis import strategies as st
from torch import nn


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


def found(row: str, seed: int, nat: float, seconds: float, **more: float) -> Found:
    summary = {"train_seconds": seconds, "wall_seconds": seconds + 1}
    return Found(row, seed, {"nat": nat, **more}, {"nat": 100}, summary, "weights")


def test_the_table_by_row() -> None:
    runs = [
        found("trades", 0, 98, 10, pgd_100=30),
        found("zipper-serial", 0, 99, 20),
        found("trades", 1, 96, 14, pgd_100=40),
    ]
    result = table(runs)
    assert list(result) == ["trades", "zipper-serial"]
    assert result["trades"]["nat"] == {"mean": 97, "std": pytest.approx(2**0.5), "n": 2}
    assert result["trades"]["pgd_100"] == {"mean": 35, "std": pytest.approx(50**0.5), "n": 2}
    assert result["trades"]["train_seconds"] == {"mean": 12, "std": pytest.approx(8**0.5), "n": 2}
    assert result["trades"]["wall_seconds"]["mean"] == 13
    assert result["trades"]["seeds"] == 2
    assert result["zipper-serial"]["nat"] == {"mean": 99, "std": None, "n": 1}
    assert "pgd_100" not in result["zipper-serial"]
    assert json.loads(json.dumps(result)) == result


def test_figures_on_the_images_that_all_have() -> None:
    many = {1: True, 2: False, 3: True, 4: True}
    assert Shared.by({"nat": many, "aa": {2: False, 4: True, 9: False}}) == Shared(
        2, {"nat": 50.0, "aa": 50.0}
    )
    assert Shared.by({"nat": many, "apgd": many}) is None
    assert Shared.by({"nat": many, "aa": {5: True}}) is None
    assert Shared.by({}) is None


def test_verdicts_by_example(tmp_path: Path) -> None:
    (tmp_path / "evaluation.csv").write_text("example,label,clean,aa\n4,7,1,0\n9,1,1,1\n")
    found = verdicts(tmp_path)
    assert found == {"clean": {4: True, 9: True}, "aa": {4: False, 9: True}}
    (tmp_path / "evaluation.csv").write_text("example,label,clean\n")
    assert verdicts(tmp_path) == {}


def test_times_in_a_fitting_unit() -> None:
    assert Unit.fitting(599) == Unit("s", 1)
    assert Unit.fitting(600) == Unit("min", 60)


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


def test_the_size_of_a_sync(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights")
    # Kernels and biases, and four tensors of the BatchNorm; its count of minibatches is no float.
    assert bytes_of_a_sync(tmp_path / "weights") == 4 * (18 + 2 + 4 * 2)


def test_no_evaluation_yet(tmp_path: Path) -> None:
    assert evaluated(tmp_path) == {}
    (tmp_path / "evaluation.json").write_text('{"attacks": {"clean": {"accuracy": 5}}}')
    assert evaluated(tmp_path) == {"clean": {"accuracy": 5}}
