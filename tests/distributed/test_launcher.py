"""zipper-launch starts ranks again where that may help, and only there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from distributed.jobs import Process, environment, free_port
from zipper_dist.distributed.agent import Agent

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


def variables() -> dict[str, str]:
    """Of a process that belongs to no job."""
    return {k: v for k, v in environment(0).items() if not k.endswith(("RANK", "SIZE"))}


def launched(how: str, at: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """How the launcher ended, and how often it started rank 0."""
    script = at / "ranks.py"
    script.write_text(RANKS)
    done = subprocess.run(
        [sys.executable, *LAUNCH[:-1], *options, LAUNCH[-1], str(script), how],
        cwd=at, env=variables(), capture_output=True, text=True, timeout=120, check=False,
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


def test_a_rank_that_is_told_to_stop_ends_a_job_that_machines_may_join(tmp_path: Path) -> None:
    elastic = ("--nnodes=1:2", "--rdzv-conf=last_call_timeout=1")
    done, attempts = launched("stopped", tmp_path, *elastic)
    assert (done.returncode, attempts) == (128 + signal.SIGTERM, 1), done
    assert "no machine has come or gone" in done.stderr


@pytest.mark.parametrize(("how", "status"), [("killed", -9), ("peer", 1), ("unexpected", 1)])
def test_other_ranks_are_started_again(tmp_path: Path, how: str, status: int) -> None:
    done, attempts = launched(how, tmp_path)
    assert (done.returncode, attempts) == (0, 3), done
    said = [line for line in done.stderr.splitlines() if line.startswith("zipper: rank")]
    assert said == [
        f"zipper: rank 0 ended with status {status}: starting all ranks again (restart {n} of 3)"
        for n in (1, 2)
    ]


def test_a_rank_that_is_stopped_at_its_end_does_not_keep_the_launcher(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(
        "import os, signal\nif os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGSTOP)"
    )
    done = subprocess.run(
        [sys.executable, *LAUNCH[:-1], str(script)],
        cwd=tmp_path, env=variables(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGKILL, done


# In the first attempt, rank 0 ends while rank 1 takes long to end when it is told to.
SLOW_TO_END = """
import os, signal, sys, time

def end(*_):
    time.sleep(8)
    sys.exit(1)

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and not os.path.exists("again"):
    signal.signal(signal.SIGTERM, end)
    if os.environ["RANK"] == "0":
        while not os.path.exists("ready"):
            time.sleep(0.02)
        open("again", "w").close()
        sys.exit(1)
    open("ready", "w").close()
    time.sleep(600)
"""

# Of two ranks of a launcher the second fails; the first, told to end, freezes the other launcher.
FREEZES_THE_OTHER = """
import os, signal, sys, time
from pathlib import Path

def end(*_):
    os.kill(int(Path("other").read_text()), signal.SIGSTOP)
    sys.exit(143)

place = os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"]
if place == ("0", "2"):
    signal.signal(signal.SIGTERM, end)
    Path("ready").touch()
if place == ("1", "2"):
    while not Path("ready").exists() or not Path("other").exists():
        time.sleep(0.02)
    sys.exit(3)
time.sleep(600)
"""


@contextlib.contextmanager
def launchers(
    at: Path, script: str, restarts: int, ranks: Sequence[int]
) -> Iterator[list[Process]]:
    """Two launchers, each with its number of ranks; the first one keeps the store."""
    (at / "ranks.py").write_text(script)
    endpoint = f"127.0.0.1:{free_port()}"
    started: list[Process] = []
    try:
        for number, host in zip(ranks, (1, 0), strict=True):
            options = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"]
            options += [f"--rdzv-conf=is_host={host}", f"--nproc-per-node={number}"]
            options += [f"--max-restarts={restarts}", "ranks.py"]
            output = at / f"launcher-{len(started)}"
            with output.open("wb") as file:
                popen = subprocess.Popen(
                    [sys.executable, "-m", "zipper_dist.launcher", *options],
                    cwd=at, env=variables(), stdout=file, stderr=subprocess.STDOUT,
                )  # fmt: skip
            started.append(Process(popen, output))
        yield started
    finally:
        for each in started:
            each.popen.send_signal(signal.SIGCONT)
            each.popen.terminate()
        for each in started:
            each.popen.wait(60)


def test_the_last_restart_may_take_its_time(tmp_path: Path) -> None:
    """A launcher whose ranks have ended waits for the other, which has to end its own first."""
    with launchers(tmp_path, SLOW_TO_END, restarts=1, ranks=(1, 1)) as both:
        assert [each.ends() for each in both] == [0, 0], [each.said for each in both]


def test_a_launcher_ends_when_the_other_is_frozen(tmp_path: Path) -> None:
    """With the status of the rank that failed first, and a message."""
    with launchers(tmp_path, FREEZES_THE_OTHER, restarts=0, ranks=(1, 2)) as (frozen, cut_off):
        (tmp_path / "pid").write_text(str(frozen.popen.pid))
        os.replace(tmp_path / "pid", tmp_path / "other")
        began = time.monotonic()
        assert cut_off.ends() == 3, cut_off.said
        assert time.monotonic() - began < 40
        assert "zipper: error: the ranks here have ended" in cut_off.said


def test_a_torch_without_its_private_names_does_no_harm() -> None:
    assert Agent.__new__(Agent)._failed() == []
