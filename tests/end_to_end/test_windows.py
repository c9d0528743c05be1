"""Redistribution windows, averages that outlive redistributions, and schedules by epoch: the same
bits on any number of ranks, interrupted or not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, stopped, succeeded, train, typed
from end_to_end.results import assert_same_result, records, summary
from end_to_end.sent import assert_sent_as_designed

pytestmark = pytest.mark.slow

WINDOWS = SMALL + typed("""
    --mix.window 3 --mix.first-count 0 --schedules-by epoch --placement.shards 2
    --learners.natural.weight-average 0.8 --learners.natural.keep-average
    --learners.adversarial.weight-average 0.7 --learners.adversarial.keep-average
""")
REDISTRIBUTIONS = 9  # after 14, 15, 16, 22 … 24 and 30 … 32


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one process."""
    at = tmp_path_factory.mktemp("alone")
    succeeded(train(*WINDOWS, at=at))
    return at / "run"


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_ends_with_the_bits_of_one_process(
    alone: Path, tmp_path: Path, ranks: int
) -> None:
    succeeded(train(*WINDOWS, at=tmp_path, ranks=ranks))
    assert_same_result(tmp_path / "run", alone)
    found = summary(tmp_path / "run")
    assert found["redistributions"] == REDISTRIBUTIONS
    assert [rank["syncs"] for rank in found["ranks"]] == [REDISTRIBUTIONS + 1] * ranks
    assert_sent_as_designed(tmp_path / "run")


def terminate(command: Command) -> None:
    """Stop the job as a scheduler does, or a person."""
    command.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("act", [terminate, Command.kill])
def test_a_job_that_ends_inside_a_window_goes_on_on_other_ranks(
    alone: Path, tmp_path: Path, act: Callable[[Command], None]
) -> None:
    stop = stopped(act, tmp_path, ranks=2, further=15, arguments=WINDOWS)
    # A killed one left the checkpoints of iteration 14, with the first of three redistributions.
    assert min(stop.saved.values()) >= 14
    finished = succeeded(train(*WINDOWS, at=tmp_path))
    assert "continuing from iteration 1" in finished.said
    assert_same_result(tmp_path / "run", alone)


def test_learning_rates_and_gamma_stand_still_within_an_epoch(alone: Path) -> None:
    found = [r for r in records(alone / "metrics.jsonl") if r["learner"] == "natural"]
    rates = {r["step"]: (r["lr"], r["gamma"]) for r in found}
    for first, last in ((1, 10), (11, 20), (21, 30), (31, 37)):
        assert len({rates[t] for t in range(first, last + 1)}) == 1
    assert len(set(rates.values())) == 4
    assert rates[37][1] == pytest.approx(0.7)  # the last epoch ends with the run
    assert rates[1][1] == pytest.approx(0.3 + 0.4 * 10 / 37)
