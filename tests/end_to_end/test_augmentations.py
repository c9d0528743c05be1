"""Augmentations for all learners and for one: the same bits, however a run is made."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, stopped, succeeded, train, typed
from end_to_end.conftest import Here, Run
from end_to_end.results import assert_same_result, weights

pytestmark = pytest.mark.slow

ALL = SMALL + typed("""
    --data.augment crop,flip,randaugment,cutmix,mixup --learners.natural.augment erase
    --learners.adversarial.augment crop,mixup
""")
SHARDS = typed("--placement.mode shared --placement.shards 2 --steps 8 --mix.start 3 --mix.every 3")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process, uninterrupted."""
    at = tmp_path_factory.mktemp("alone")
    return Run(at, succeeded(train(*ALL, at=at)))


def test_two_ranks_end_with_the_bits_of_one(alone: Run, serial: Run, tmp_path: Path) -> None:
    succeeded(train(*ALL, at=tmp_path, ranks=2))
    assert_same_result(alone.path, tmp_path / "run")
    assert weights(alone.path)["natural"] != weights(serial.path)["natural"]


def test_shards_of_one_process_and_of_two(tmp_path: Path, here: Here) -> None:
    assert here(*ALL, *SHARDS, "--run-dir", "one") == 0
    succeeded(train(*ALL, *SHARDS, at=tmp_path, ranks=2))
    assert_same_result(tmp_path / "one", tmp_path / "run")


def test_a_run_goes_on_exactly(alone: Run, tmp_path: Path) -> None:
    def interrupt(command: Command) -> None:
        command.process.send_signal(signal.SIGINT)

    stopped(interrupt, tmp_path, arguments=ALL)
    assert "continuing from iteration" in succeeded(train(*ALL, at=tmp_path)).said
    assert_same_result(alone.path, tmp_path / "run")


def test_crop_and_flip_by_name_are_the_options_of_old(tmp_path: Path, here: Here) -> None:
    few = [*SMALL, *typed("--steps 6 --mix.start 2 --mix.every 2")]
    assert here(*few, "--data.augment", "flip,crop", "--run-dir", "one") == 0
    assert here(*few, "--data.flip", "--data.crop-padding", "1") == 0
    assert_same_result(tmp_path / "one", tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data.augment crp", "--data.augment crp: unknown augmentation; choose from crop"),
        ("--learners.adversarial.objective mart --learners.adversarial.augment cutmix",
         "--learners.adversarial.augment cutmix: cutmix mixes images, and their labels"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(
    options: str, message: str, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(*SMALL, *typed(options)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"zipper: error: {message}")
    assert error.count("\n") == 1
