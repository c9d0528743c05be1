"""The batch script under real bash and real signals, with stand-ins for the commands of SLURM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from end_to_end.commands import SMALL, STEPS
from end_to_end.results import records, summary

from launch.running import LAUNCH, PATIENCE, executable

SCRIPT = LAUNCH / "slurm.sbatch"

# scontrol tells the machines of the job, and notes what else it is asked for.
SCONTROL = """#!/usr/bin/env bash
if [ "$*" = "show hostnames $SLURM_JOB_NODELIST" ]; then
    eval "printf '%s\\n' $SLURM_JOB_NODELIST"
else
    echo "$@" >> scontrol.log
fi
"""

# srun hands signals on to what it runs, and ends with its status. The job takes a moment to end.
JOB = """#!/usr/bin/env bash
echo "$@" >> started
trap 'echo TERM >> signals; sleep 1; exit "$AFTER_TERM"' TERM
touch running
for _ in $(seq "$TENTHS"); do sleep 0.1; done
exit "$AT_END"
"""


@dataclass
class Batch:
    """The batch script as it runs."""

    process: subprocess.Popen[bytes]
    at: Path

    def until(self, condition: Callable[[], bool]) -> None:
        late = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None
            assert time.monotonic() < late
            time.sleep(0.02)

    def lines(self, name: str) -> list[str]:
        """What the stand-ins have written."""
        file = self.at / name
        return file.read_text().splitlines() if file.exists() else []


Start = Callable[..., Batch]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the script with these arguments and variables."""
    commands = tmp_path / "commands"
    commands.mkdir()
    executable(commands / "scontrol", SCONTROL)
    executable(commands / "srun", JOB)
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, srun: str = JOB, **variables: object) -> Batch:
        executable(commands / "srun", srun)
        path = os.pathsep.join(
            [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        names = {name: str(value) for name, value in variables.items()}
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=tmp_path,
            env={
                **{**os.environ, "PATH": path, "SLURM_JOB_ID": "4711"},
                **{"SLURM_JOB_NODELIST": "localhost", **names},
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return Batch(process, tmp_path)

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_slurm_signals_the_script_and_keeps_what_is_printed() -> None:
    options = [line.split()[1] for line in SCRIPT.read_text().splitlines() if "#SBATCH" in line]
    assert "--signal=B:USR1@120" in options
    assert "--requeue" in options
    assert "--output=zipper-%j.out" in options
    assert "--open-mode=append" in options


@pytest.mark.parametrize(
    ("status", "queued_again"), [(143, ["requeue 4711"]), (0, []), (1, []), (137, [])]
)
def test_the_signal_before_the_time_limit(
    start: Start, status: int, queued_again: list[str]
) -> None:
    batch = start("cifar10", AFTER_TERM=status, AT_END=5, TENTHS=900)
    batch.until((batch.at / "running").exists)
    batch.process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    batch.process.send_signal(signal.SIGUSR1)  # again, while the run saves itself
    assert batch.process.wait(PATIENCE) == status
    assert batch.lines("signals") == ["TERM"]
    assert batch.lines("scontrol.log") == queued_again


def test_a_cancelled_job_is_not_queued_again(start: Start) -> None:
    batch = start("cifar10", AFTER_TERM=143, AT_END=5, TENTHS=900)
    batch.until((batch.at / "running").exists)
    batch.process.send_signal(signal.SIGTERM)  # as SLURM ends all processes of a cancelled job
    assert batch.process.wait(PATIENCE) == -signal.SIGTERM
    assert batch.lines("scontrol.log") == []


@pytest.mark.parametrize("status", [0, 2, 143])
def test_a_job_that_ends_by_itself_is_not_queued_again(start: Start, status: int) -> None:
    batch = start("cifar10", "--seed", "3", AFTER_TERM=143, AT_END=status, TENTHS=1, RESTARTS=5)
    assert batch.process.wait(PATIENCE) == status
    assert batch.lines("scontrol.log") == []
    assert batch.lines("started") == [
        "zipper-launch --nnodes=1 --nproc_per_node=gpu --rdzv_backend=c10d "
        "--rdzv_endpoint=localhost:24711 --rdzv_id=4711 --max-restarts=5 "
        "-m zipper_dist.train cifar10 --seed 3"
    ]


def test_the_ranks_of_all_machines_meet_on_the_first(start: Start) -> None:
    several = {"SLURM_JOB_NODELIST": "node{07..09}", "RANKS": 2, "SLURM_CPUS_PER_TASK": 12}
    job = JOB.replace('echo "$@"', 'echo "$SRUN_CPUS_PER_TASK $*"')
    batch = start("cifar10", srun=job, AFTER_TERM=0, AT_END=0, TENTHS=0, **several)
    assert batch.process.wait(PATIENCE) == 0
    assert batch.lines("started") == [
        "12 zipper-launch --nnodes=3 --nproc_per_node=2 --rdzv_backend=c10d "
        "--rdzv_endpoint=node07:24711 --rdzv_id=4711 --max-restarts=3 -m zipper_dist.train cifar10"
    ]


@pytest.mark.slow
def test_a_run_is_saved_before_the_time_limit_and_continued_by_the_queued_job(start: Start) -> None:
    real = '#!/usr/bin/env bash\nexec "$@"\n'
    environment = {"PYTHONPATH": str(LAUNCH.parent), "OMP_NUM_THREADS": "1", "RANKS": "2"}
    batch = start(*SMALL, srun=real, **environment)
    batch.until(lambda: len(records(batch.at / "run" / "metrics.jsonl")) > 8)
    batch.process.send_signal(signal.SIGUSR1)
    assert batch.process.wait(PATIENCE) == 143
    assert batch.lines("scontrol.log") == ["requeue 4711"]
    assert not (batch.at / "run" / "summary.json").exists()
    assert start(*SMALL, srun=real, **environment).process.wait(PATIENCE) == 0
    assert summary(batch.at / "run")["steps"] == STEPS
    assert batch.lines("scontrol.log") == ["requeue 4711"]
