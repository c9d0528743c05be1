"""zipper-launch starts ranks again where that may help, and only there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distributed.jobs import environment

# Rank 0 ends as its argument says, but in its third attempt; rank 1 waits.
RANKS = """
import os, signal, sys, time
from pathlib import Path
from zipper_dist.config.command_line import run_command
from zipper_dist.errors import Interrupted, PeerLost, TrainingDiverged, UserError

def main():
    if os.environ["RANK"] == "1":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    with Path("attempts").open("a") as file:
        file.write(os.environ["RANK"])
    if Path("attempts").read_text().count("0") == 3:
        return
    if os.environ["RANK"] == "0":
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise {
            "user": UserError("--option 1: give 2"),
            "diverged": TrainingDiverged("the loss is nan"),
            "stopped": Interrupted(signal.SIGTERM),
            "peer": PeerLost("lost contact"),
            "unexpected": RuntimeError("what is this?"),
        }[sys.argv[1]]
    while Path("attempts").read_text().count("0") < 3:
        time.sleep(0.02)

run_command(main)
"""
LAUNCH = ["-m", "zipper_dist.launcher", "--standalone", "--nproc_per_node=2", "--max-restarts=3"]


def launched(how: str, at: Path) -> tuple[subprocess.CompletedProcess[str], int]:
    """How the launcher ended, and how often it started rank 0."""
    script = at / "ranks.py"
    script.write_text(RANKS)
    variables = {k: v for k, v in environment(0).items() if not k.endswith(("RANK", "SIZE"))}
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(script), how],
        cwd=at, env=variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done, (at / "attempts").read_text().count("0")


@pytest.mark.parametrize(
    ("how", "status"), [("user", 2), ("diverged", 1), ("stopped", 128 + signal.SIGTERM)]
)
def test_what_would_end_alike_is_not_started_again(tmp_path: Path, how: str, status: int) -> None:
    done, attempts = launched(how, tmp_path)
    assert (done.returncode, attempts) == (status, 1), done
    assert "starting all ranks again" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("how", "status"), [("killed", -9), ("peer", 1), ("unexpected", 1)])
def test_other_ranks_are_started_again(tmp_path: Path, how: str, status: int) -> None:
    done, attempts = launched(how, tmp_path)
    assert (done.returncode, attempts) == (0, 3), done
    said = [line for line in done.stderr.splitlines() if line.startswith("zipper: rank")]
    assert said == [
        f"zipper: rank 0 ended with status {status}: starting all ranks again (restart {n} of 3)"
        for n in (1, 2)
    ]
