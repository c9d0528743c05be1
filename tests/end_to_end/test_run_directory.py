"""What a run finds in its directory: files of another run, lost and damaged ones."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, started, succeeded, train
from end_to_end.conftest import Here, Run
from end_to_end.results import LEARNERS, assert_same_result, summary, weights
from zipper_dist.checkpoint.format import path_of, steps_of

pytestmark = pytest.mark.slow

Captured = pytest.CaptureFixture[str]

SHORT = [*SMALL, "--steps", "9"]
"""Ends after a checkpoint at iteration 7 and one at the end."""


def said_by(capsys: Captured) -> str:
    return " ".join(capsys.readouterr().out.split())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def test_files_of_another_seed_are_not_continued(
    tmp_path: Path, here: Here, capsys: Captured
) -> None:
    assert here(*SHORT, "--run-dir", "whole") == 0
    assert here(*SHORT, "--run-dir", "other", "--seed", "1") == 0
    assert here(*SHORT, "--resume", "never") == 0
    capsys.readouterr()
    run, other = tmp_path / "run", tmp_path / "other"
    (run / "summary.json").unlink()
    shutil.copytree(other / "checkpoints", run / "checkpoints", dirs_exist_ok=True)
    assert here(*SHORT) == 0
    said = said_by(capsys)
    assert said.count("checkpoint left out: run/checkpoints/") == 4
    assert said.count(": of another run, with other options") == 4
    assert "starting from iteration 1; those there are kept as *.ckpt.unused" in said
    assert weights(run) == weights(tmp_path / "whole")
    for name in LEARNERS:
        kept = run / "checkpoints" / f"{name}-00000009.ckpt.unused"
        assert kept.read_bytes() == path_of(other / "checkpoints", name, 9).read_bytes()


def test_a_file_of_another_learner_is_not_continued(
    serial: Run, tmp_path: Path, here: Here, capsys: Captured
) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    (run / "summary.json").unlink()
    natural, adversarial = (path_of(run / "checkpoints", name, 37) for name in LEARNERS)
    shutil.copy(natural, adversarial)
    assert here(*SMALL) == 0
    said = said_by(capsys)
    assert f"{adversarial.relative_to(tmp_path)}: holds learner natural, not adversarial" in said
    assert "continuing from iteration 35" in said
    assert_same_result(serial.path, run)


def test_new_checkpoints_outlive_old_names(serial: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").unlink()
    checkpoints = run / "checkpoints"
    for step in steps_of(checkpoints, "adversarial"):
        flip_a_bit(path_of(checkpoints, "adversarial", step))
    with started(*SMALL, at=tmp_path) as command:
        command.until_iteration(15)  # evaluated, and saved, at 7 and 14
        command.process.send_signal(signal.SIGKILL)
        command.wait()
    for name in LEARNERS:
        assert set(steps_of(checkpoints, name)) >= {7, 14}
        assert max(steps_of(checkpoints, name)) < 28
    finished = succeeded(train(*SMALL, at=tmp_path))
    assert "continuing from iteration " in finished.said
    assert "left out" not in finished.said
    assert_same_result(serial.path, run)


@pytest.mark.parametrize("name", ["global", "best", "natural"])
@pytest.mark.parametrize("damaged", [False, True])
def test_lost_weights_of_a_complete_run_are_restored(
    serial: Run, tmp_path: Path, here: Here, capsys: Captured, name: str, damaged: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    path = run / f"{name}.safetensors"
    if damaged:
        flip_a_bit(path)
    else:
        path.unlink()
    assert here(*SMALL) == 0
    said = said_by(capsys)
    assert "is complete" not in said
    assert f"weights that are missing or damaged are restored: {name}" in said
    assert path.with_name(f"{name}.safetensors.unused").exists() == damaged
    assert_same_result(serial.path, run)
    assert summary(run)["sha256"] == summary(serial.path)["sha256"]
    assert here(*SMALL) == 0
    assert "run is complete" in said_by(capsys)


def test_lost_weights_of_one_rank(serial: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    (run / "adversarial.safetensors").unlink()
    best = (run / "best.safetensors").stat().st_mtime_ns
    finished = succeeded(train(*SMALL, at=tmp_path, ranks=2))
    assert "weights that are missing or damaged are restored: adversarial" in finished.said
    # The rank that has no best weights leaves them alone.
    assert (run / "best.safetensors").stat().st_mtime_ns == best
    assert_same_result(serial.path, run)


def test_weights_that_cannot_be_restored(
    serial: Run, tmp_path: Path, here: Here, capsys: Captured
) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    shutil.rmtree(run / "checkpoints")
    assert here(*SMALL) == 0  # nothing is lost that anyone needs
    (run / "best.safetensors").unlink()
    capsys.readouterr()
    assert here(*SMALL) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the run in run is complete, but for best, missing or damaged; no checkpoints" in line
    assert "--resume never" in line
    assert not (run / "best.safetensors").exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_best_weights_lost_before_a_run_goes_on(
    serial: Run, tmp_path: Path, here: Here, capsys: Captured, damaged: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(serial.path, run)
    (run / "summary.json").unlink()
    # The best ones are not those of the last evaluation.
    assert summary(serial.path)["best"]["step"] < 35
    if damaged:
        flip_a_bit(run / "best.safetensors")
    else:
        (run / "best.safetensors").unlink()
    assert here(*SMALL) == 0
    assert "best.safetensors was " in (said := said_by(capsys))
    assert "restored from a checkpoint" in said
    assert_same_result(serial.path, run)
