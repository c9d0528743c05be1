"""A run that validates seldom is saved all the same, and continues from there bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, stopped, succeeded, train, typed
from end_to_end.results import assert_same_result, evaluations, newest

pytestmark = pytest.mark.slow

# An evaluation costs as much as 12 iterations, so that they are 120 iterations apart; checkpoints
# are 50 apart. An epoch has 10 iterations.
SELDOM = SMALL + typed("--steps 130 --eval.every auto --eval.attack-steps 23 --log-every 5")


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_between_two_validations(tmp_path: Path, ranks: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for directory in (whole, killed):
        directory.mkdir()
    succeeded(train(*SELDOM, at=whole))
    assert [record["step"] for record in evaluations(whole / "run")] == [120, 130]
    stop = stopped(Command.kill, killed, ranks, further=60, arguments=SELDOM)
    assert set(stop.saved.values()) <= {50, 100}
    finished = succeeded(train(*SELDOM, at=killed, ranks=ranks))
    assert "continuing from iteration" in finished.said
    assert_same_result(whole / "run", killed / "run")
    assert newest(killed / "run", "natural") == 130
