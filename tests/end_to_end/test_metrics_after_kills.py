"""However a run is killed, its metrics tell in the end what those of an uninterrupted one tell."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, Command, started, succeeded, train
from end_to_end.results import evaluations, told
from zipper_dist.checkpoint.format import steps_of

pytestmark = pytest.mark.slow

# Records after every 3 iterations and checkpoints after every 7: windows are open when it is saved.
OPTIONS = [*SMALL, "--log-every", "3"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """The records of a run in one process that nothing interrupts."""
    at = tmp_path_factory.mktemp("uninterrupted")
    succeeded(train(*OPTIONS, at=at))
    found = told(at / "run")
    assert found.total() == 2 * 13 + 6
    return found


def signal_to(rank: int, number: int) -> Callable[[Command], None]:
    return lambda command: os.kill(command.rank(rank), number)


def ask_to_stop(command: Command) -> None:
    command.process.send_signal(signal.SIGTERM)


def interrupt(act: Callable[[Command], None], at: Path, ranks: int) -> None:
    """Start the command, let it get some iterations further, and do ``act`` to it."""
    with started(*OPTIONS, at=at, ranks=ranks) as command:
        command.until_further(6)
        act(command)
        command.wait(60)
    assert not (at / "run" / "summary.json").exists(), "it was too late to stop it"


def test_one_process(tmp_path: Path, uninterrupted: Counter[str]) -> None:
    for act in (ask_to_stop, Command.kill):
        interrupt(act, tmp_path, ranks=1)
    succeeded(train(*OPTIONS, at=tmp_path))
    assert told(tmp_path / "run") == uninterrupted


def test_two_ranks(tmp_path: Path, uninterrupted: Counter[str]) -> None:
    acts = (signal_to(1, signal.SIGKILL), signal_to(0, signal.SIGKILL), ask_to_stop)
    for act in acts:
        interrupt(act, tmp_path, ranks=2)
    succeeded(train(*OPTIONS, at=tmp_path, ranks=2))
    assert told(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("ranks", [1, 2])
def test_records_on_their_way_to_the_first_rank(
    tmp_path: Path, uninterrupted: Counter[str], ranks: int
) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    with started(*OPTIONS, at=tmp_path, ranks=2) as command:
        # The first evaluation is done while rank 0 waits for the redistribution after 16.
        command.until(lambda: bool(evaluations(tmp_path / "run")), "an evaluation", 60)
        signal_to(0, signal.SIGSTOP)(command)
        command.until(lambda: 14 in steps_of(checkpoints, "adversarial"), "a checkpoint", 60)
        command.kill()
    succeeded(train(*OPTIONS, at=tmp_path, ranks=ranks))
    assert told(tmp_path / "run") == uninterrupted
