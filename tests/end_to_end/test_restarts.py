"""torchrun starts the ranks again when one dies, and the run ends as if none had."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, started, succeeded
from end_to_end.conftest import Run
from end_to_end.results import assert_same_result

pytestmark = pytest.mark.slow


def kill_and_see_it_back(command: Command, rank: int) -> None:
    """SIGKILL to a rank; returns once there is a new process in its place."""
    killed = command.rank(rank)
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        with contextlib.suppress(AssertionError):
            return command.rank(rank) != killed
        return False

    command.until(is_back, f"a new rank {rank}")


def test_any_rank_may_be_killed_several_times_in_one_launch(serial: Run, tmp_path: Path) -> None:
    with started(*SMALL, at=tmp_path, ranks=2, restarts=3) as command:
        for iteration, rank in ((9, 1), (18, 0), (27, 1)):
            command.until_iteration(iteration)
            kill_and_see_it_back(command, rank)
        succeeded(command.wait())
    assert_same_result(serial.path, tmp_path / "run")


def test_a_restart_continues_a_run_that_was_to_start_over(serial: Run, tmp_path: Path) -> None:
    arguments = [*SMALL, "--resume", "never"]
    shutil.copytree(serial.path, tmp_path / "run")
    with started(*arguments, at=tmp_path, ranks=2, restarts=1) as command:
        command.until(lambda: not (tmp_path / "run" / "summary.json").exists(), "a new start")
        command.until_iteration(18)  # beyond 16, where the learners have met
        kill_and_see_it_back(command, 1)
        succeeded(command.wait())
    (said,) = tmp_path.glob("logs/*/*/attempt_1/0/stdout.log")
    assert "continuing from iteration " in said.read_text()
    assert_same_result(serial.path, tmp_path / "run")


def test_a_job_that_slurm_queues_again_continues(serial: Run, tmp_path: Path) -> None:
    arguments = [*SMALL, "--resume", "never"]
    with started(*arguments, at=tmp_path, environment={"SLURM_RESTART_COUNT": "0"}) as command:
        command.until_iteration(9)
        command.kill()
        command.wait()
    with started(*arguments, at=tmp_path, environment={"SLURM_RESTART_COUNT": "1"}) as command:
        assert "continuing from iteration " in succeeded(command.wait()).said
    assert_same_result(serial.path, tmp_path / "run")
