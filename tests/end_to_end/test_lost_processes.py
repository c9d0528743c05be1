"""Whatever process of a job is frozen or killed, the job ends and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, started
from zipper_dist.checkpoint.format import steps_of

pytestmark = pytest.mark.slow

SOON = 40.0  # [s]; seconds on an idle machine


def has_rank(command: Command, rank: int) -> bool:
    with contextlib.suppress(AssertionError):
        return command.rank(rank) > 0
    return False


def until_all_have_ended(command: Command) -> None:
    command.until(lambda: not command.alive(), "the end of all ranks", SOON, running=False)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_rank_ends_the_job(tmp_path: Path, frozen: int) -> None:
    with started(*SMALL, "--timeout", "5", at=tmp_path, ranks=2) as command:
        command.until_iteration(9)
        pid = command.rank(frozen)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        finished = command.wait()
        assert time.monotonic() - began < 5 + SOON
    assert finished.status not in (0, None)
    said = finished.ranks[1 - frozen].stderr
    assert (
        f"nothing was heard of rank {frozen} (host {platform.node()}, process {pid}) for 5 s"
        in said
    )
    assert said.count("zipper: error: ") == 1
    assert "Traceback" not in said
    assert 7 in steps_of(tmp_path / "run" / "checkpoints", "natural")


@pytest.mark.parametrize("seconds", [0.3, 1, 2, 4])
def test_ranks_end_after_their_launcher_is_killed(tmp_path: Path, seconds: float) -> None:
    with started(*SMALL, at=tmp_path, ranks=2) as command:
        time.sleep(seconds)
        command.process.kill()
        until_all_have_ended(command)


def test_ranks_end_whose_launcher_is_killed_as_soon_as_they_start(tmp_path: Path) -> None:
    with started(*SMALL, at=tmp_path, ranks=2) as command:
        command.until(lambda: has_rank(command, 1), "rank 1")
        command.process.kill()
        until_all_have_ended(command)


def test_a_frozen_rank_ends_after_its_launcher_is_killed(tmp_path: Path) -> None:
    with started(*SMALL, at=tmp_path, ranks=2) as command:
        command.until_iteration(9)
        os.kill(command.rank(1), signal.SIGSTOP)
        command.process.kill()
        until_all_have_ended(command)
