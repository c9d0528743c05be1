"""Every precision, and compiled code, keep the promises: two ranks end with the bits of one
process, and an interrupted run with those of an uninterrupted one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, WIDE, Command, stopped, succeeded, train, typed
from end_to_end.conftest import Run
from end_to_end.results import assert_same_result

pytestmark = pytest.mark.slow

COMPILED = WIDE + typed("--compile on --steps 20 --mix.start 4 --mix.every 4 --eval.every 5")


def terminate(command: Command) -> None:
    """What a scheduler does when time is up."""
    command.process.send_signal(signal.SIGTERM)


def test_bf16_interrupted_in_one_process_and_ended_on_two_ranks(
    serial_wide: Run, tmp_path: Path
) -> None:
    stopped(terminate, tmp_path, further=9, arguments=WIDE)
    finished = succeeded(train(*WIDE, at=tmp_path, ranks=2))
    assert "continuing from iteration " in finished.said
    assert_same_result(serial_wide.path, tmp_path / "run")


def test_bf16_with_folded_batch_norm_in_one_process_and_on_two_ranks(tmp_path: Path) -> None:
    arguments = SMALL + typed("--precision bf16")
    serial, parallel = tmp_path / "serial", tmp_path / "parallel"
    for at, ranks in ((serial, 1), (parallel, 2)):
        at.mkdir()
        finished = succeeded(train(*arguments, at=at, ranks=ranks))
        assert "precision bf16" in finished.said
    assert_same_result(serial / "run", parallel / "run")


def test_compiled_bf16_interrupted_in_one_process_and_ended_on_two_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The later processes find the code that the first one compiled.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    whole.mkdir()
    torn.mkdir()
    finished = succeeded(train(*COMPILED, at=whole))
    assert "compile on" in finished.said
    stopped(terminate, torn, further=6, arguments=COMPILED)
    finished = succeeded(train(*COMPILED, at=torn, ranks=2))
    assert "continuing from iteration " in finished.said
    assert_same_result(whole / "run", torn / "run")
