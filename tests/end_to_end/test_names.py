"""Names that mean something to the library that prints them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, started, succeeded, train
from end_to_end.results import records

pytestmark = pytest.mark.slow

NAME = "a[/bold]b"


def test_a_run_directory_with_markup_in_its_name(tmp_path: Path) -> None:
    command_line = [*SMALL, "--run-dir", NAME]
    with started(*command_line, at=tmp_path) as command:
        metrics = tmp_path / NAME / "metrics.jsonl"
        command.until(lambda: len(records(metrics)) > 4, "the first records")
        command.process.send_signal(signal.SIGTERM)
        stopped = command.wait()
    assert stopped.status == 143, stopped
    assert f"saved in {NAME}: the same command continues" in stopped.said
    assert f"summary are in {NAME}" in succeeded(train(*command_line, at=tmp_path)).said
    assert f"{NAME} is complete" in succeeded(train(*command_line, at=tmp_path)).said
    evaluate = [sys.executable, "-m", "zipper_dist.evaluate", NAME, "--attacks", "clean"]
    done = subprocess.run([*evaluate, "--limit", "8"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"written: {NAME}/evaluation.json" in done.stdout.replace("\n", "")
