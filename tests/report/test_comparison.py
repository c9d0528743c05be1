"""Several runs: groups by seed, means and deviations, the Pareto front, differing options."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.conftest import said_by
from report.reading_pages import Page, summary_of
from zipper_dist.report.comparison import Spread, pareto_front
from zipper_dist.report.trade_off import _away

pytestmark = pytest.mark.slow  # the fixture trains

accuracy = st.integers(0, 6).map(float)  # so few that many are equal


@given(st.lists(st.tuples(accuracy, accuracy), max_size=12))
def test_the_pareto_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    def dominated(i: int) -> bool:
        return any(
            other[0] >= points[i][0] and other[1] >= points[i][1] and other != points[i]
            for other in points
        )

    front = pareto_front(points)
    assert sorted(front) == [i for i in range(len(points)) if not dominated(i)]
    assert [points[i][0] for i in front] == sorted((points[i][0] for i in front), reverse=True)


def test_means_and_deviations_are_over_the_seeds_of_a_group(root: Path, several: Path) -> None:
    page = Page(several)
    scores = [
        summary_of(root / "runs" / name)["final"]["learners"]["global"]
        for name in ("first", "second")
    ]
    rows = page.tables["groups"][1:]
    assert [row[:3] for row in rows] == [["A", "digits", "2"], ["B", "digits-trades", "1"]]
    for column, figure in ((3, "clean"), (4, "robust")):
        one, other = (score[figure] for score in scores)
        std = abs(one - other) / math.sqrt(2)  # of a sample of two
        assert rows[0][column] == f"{(one + other) / 2:.2f} ± {std:.2f}"
        alone = summary_of(root / "runs" / "trades")["final"]["learners"]["global"][figure]
        assert rows[1][column] == f"{alone:.2f}"
    assert Spread.of([1.0, 2.0, 4.0]) == Spread(7 / 3, math.sqrt(7 / 3), 3)


def test_the_trade_off_shows_every_group(several: Path) -> None:
    page = Page(several)
    rows = page.tables["groups"][1:]
    said = page.picture("Robust over clean accuracy")
    for row in rows:
        assert f"{row[0]}: clean {row[3]} %, robust {row[4]} %" in said
    assert "On the Pareto front (" in page.text


def test_names_of_close_groups_are_on_different_sides() -> None:
    assert _away([1, 1], []) == (1, 1)
    assert _away([1, 5], [[2, 4], [9, 9]]) == (-1, 1)
    assert _away([2, 4], [[1, 5], [9, 9]]) == (1, -1)


def test_options_that_differ_are_listed_and_no_others(root: Path, several: Path) -> None:
    rows = {name: values for name, *values in Page(several).tables["differing"][1:]}
    assert rows["recipe"] == ["digits", "digits-trades"]
    assert rows["learners.adversarial.objective"] == ["at", "trades"]
    assert "learners.natural.lr" in rows  # the other has no such learner
    assert not {"seed", "run_dir", "trace", "batch_size"} & rows.keys()
    listed = [row[:3] for row in Page(several).tables["runs"][1:]]
    assert listed == [
        ["runs/first", "A", "0"],
        ["runs/second", "A", "1"],
        ["runs/trades", "B", "0"],
    ]


def test_a_seed_counts_once_and_a_run_that_is_not_complete_not_at_all(
    root: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        shutil.copytree(root / "runs" / name, tmp_path / name)
    shutil.copytree(root / "runs" / "first", tmp_path / "copy")
    shutil.copytree(root / "runs" / "first", tmp_path / "third")
    (tmp_path / "third" / "summary.json").unlink()
    config = json.loads((tmp_path / "third" / "config.json").read_text())
    config["options"]["seed"] = 3
    (tmp_path / "third" / "config.json").write_text(json.dumps(config))
    said_by("report", "first", "first/../first", "copy", "second", "third", cwd=tmp_path)
    page = Page(tmp_path / "report.html")
    assert [row[2] for row in page.tables["groups"][1:]] == ["2"]
    assert len(page.tables["runs"]) == 1 + 4
    assert "copy has a seed of group A that is counted already" in page.text
    assert "third has" not in page.text
    assert page.tables["runs"][-1][3] == "ended before it was complete"
    assert "None: these are runs of one group." in page.text
