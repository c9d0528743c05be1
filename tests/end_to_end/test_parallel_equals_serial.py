"""The promise that everything rests on: two ranks end with the bits that one process ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch

from end_to_end.commands import LOOKS, REDISTRIBUTIONS, STEPS, WIDE, succeeded, train
from end_to_end.conftest import Run, TerminalRun
from end_to_end.results import (
    LEARNERS,
    Record,
    assert_same_result,
    evaluations,
    records,
    summary,
    weights,
)
from end_to_end.sent import assert_sent_as_designed

pytestmark = pytest.mark.slow


def training_records(run: Path) -> dict[tuple[str, int], Record]:
    """What the iterations showed, without what the clock decides, by learner and iteration."""
    timings = {"time", "images_per_second", "train_seconds", "wait_seconds"}
    return {
        (record["learner"], record["step"]): {k: v for k, v in record.items() if k not in timings}
        for record in records(run / "metrics.jsonl")
        if record["learner"] in LEARNERS
    }


def test_two_ranks_end_with_the_bits_of_one_process(serial: Run, two_ranks: Run) -> None:
    assert_same_result(serial.path, two_ranks.path)
    # Or this would say little.
    found = weights(serial.path)
    assert len({found["natural"], found["adversarial"], found["global"]}) == 3
    assert len({tuple(r.values()) for r in evaluations(serial.path)}) > 1


def test_every_iteration_of_both_learners_is_the_same(serial: Run, two_ranks: Run) -> None:
    ours, theirs = training_records(serial.path), training_records(two_ranks.path)
    assert ours == theirs
    assert sorted(ours) == sorted((name, t) for name in LEARNERS for t in range(1, STEPS + 1))


def test_the_runs_compared_are_hard_enough(serial: Run) -> None:
    state = safetensors.torch.load_file(serial.path / "global.safetensors")
    assert any(name.endswith("running_var") for name in state)
    gammas = [record["gamma"] for record in training_records(serial.path).values()]
    assert 0 < min(gammas) < max(gammas) < 1


def test_with_weight_averages_dropout_augmentation_l2_and_bf16(
    serial_wide: Run, tmp_path: Path
) -> None:
    succeeded(train(*WIDE, at=tmp_path, ranks=2))
    assert_same_result(serial_wide.path, tmp_path / "run")
    assert training_records(serial_wide.path) == training_records(tmp_path / "run")


def test_a_rank_sends_what_the_design_implies(two_ranks: Run, serial: Run) -> None:
    ranks = summary(two_ranks.path)["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    # The last sync is no redistribution: it makes the global learner that is saved.
    assert [rank["syncs"] for rank in ranks] == [REDISTRIBUTIONS + 1] * 2
    assert [rank["looks"] for rank in ranks] == [len(LOOKS)] * 2
    for run in (two_ranks, serial):
        assert_sent_as_designed(run.path)


def test_looks_are_where_the_interval_says(serial: Run, two_ranks: Run) -> None:
    for run in (serial, two_ranks):
        assert [record["step"] for record in evaluations(run.path)] == list(LOOKS)


@pytest.mark.parametrize("name", ["natural", "adversarial", "global"])
def test_looking_at_other_times_changes_no_bit(
    serial: Run, on_terminal: TerminalRun, name: str
) -> None:
    other = on_terminal.run.path
    assert [record["step"] for record in evaluations(other)] == [9, 18, 27, 36, 37]
    assert weights(other)[name] == weights(serial.path)[name]
