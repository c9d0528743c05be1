"""One learner trained on two machines, with and without a directory that both see; machines that
come and go."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from distributed.machines import on_machine, two_joined
from end_to_end.commands import succeeded, train, typed
from end_to_end.results import LEARNERS, WEIGHTS, evaluations, newest, summary, weights
from end_to_end.test_placements import FOUR

from launch.running import Script, script

pytestmark = pytest.mark.slow

# Long enough to be stopped twice on the way.
OPTIONS = [
    *FOUR,
    *typed("--placement.mode shared --placement.shards 2 --eval.every 3 --steps 60"),
]
RARE = [*OPTIONS, *typed("--mix.start 20 --mix.every 20 --eval.every 20")]
# torchrun notices a launcher that is gone, and begins without those that may come, in seconds.
QUICK = "last_call_timeout=6,keep_alive_interval=1,keep_alive_max_attempt=3"


def on(
    machine: str, head: str, *options: str, at: Path, **variables: object
) -> contextlib.AbstractContextManager[Script]:
    """The script on a machine, in the directory ``at``."""
    network = {"HEAD": head, "RANKS": 1, "GLOO_SOCKET_IFNAME": "cable", "PET_RDZV_CONF": QUICK}
    return script(
        "several_machines.sh",
        *options,
        at=at,
        before=on_machine(machine),
        variables={**network, **variables},
    )


@contextlib.contextmanager
def on_both(names: Sequence[str], places: Sequence[Path]) -> Iterator[list[Script]]:
    """The script on two machines, each with a directory of its own; ranks in this order."""
    with contextlib.ExitStack() as scripts:
        yield [
            scripts.enter_context(on(name, names[0], *OPTIONS, at=at, NODES=2, RESTARTS=0))
            for name, at in zip(names, places, strict=True)
        ]


def stopped(scripts: Sequence[Script], run: Path) -> None:
    """Let the job go on for some iterations, and stop it on the second machine."""
    scripts[0].until_further(9, run)
    scripts[1].process.send_signal(signal.SIGTERM)
    assert [each.ends() for each in scripts] == [143, 143], [each.said for each in scripts]


def test_two_machines_without_a_common_directory(tmp_path: Path) -> None:
    alone, *places = (tmp_path / name for name in ("alone", "one", "other"))
    alone.mkdir()
    succeeded(train(*OPTIONS, at=alone))
    first, second = (place / "run" for place in places)
    with two_joined() as names:
        with on_both(names, places) as scripts:
            stopped(scripts, first)
        assert len({newest(run, name) for run in (first, second) for name in LEARNERS}) == 1
        with on_both(names, places) as scripts:
            stopped(scripts, first)
        note = f"rank 1 keeps its checkpoints in {second} of machine {names[1]}, which rank 0"
        assert scripts[0].said.count(note) == 2  # once in each part of the run
        assert scripts[0].said.count("continuing from iteration") == 1
        assert not [name for name in WEIGHTS if (second / f"{name}.safetensors").exists()]
        # Their ranks in the other order: what only rank 0 tells of is known to both machines.
        best = (first / "best.safetensors").read_bytes()
        with on_both(names, places[::-1]) as scripts:
            assert [each.ends() for each in scripts] == [0, 0], [each.said for each in scripts]
    assert "continuing from iteration" in scripts[0].said
    assert weights(second) == weights(alone / "run")
    assert (first / "best.safetensors").read_bytes() == best
    assert summary(second)["final"] == summary(alone / "run")["final"]
    ours, theirs = (summary(run)["best"] for run in (second, alone / "run"))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def ranks(launcher: Script) -> list[int]:
    """The processes that a launcher has started."""
    pid = launcher.process.pid
    return [int(rank) for rank in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_machines_leave_come_and_crash(tmp_path: Path) -> None:
    """Of a job that one or two take part in, with one restart; all see one run directory."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    alone.mkdir()
    succeeded(train(*RARE, at=alone))
    options = [*RARE, "--run-dir", str(run), "--resume", "never"]
    with two_joined() as (first, second):

        def machine(name: str, at: str) -> contextlib.AbstractContextManager[Script]:
            return on(name, first, *options, at=tmp_path / at, NODES="1:2", RESTARTS=1)

        with machine(first, "head") as head:
            with machine(second, "leaves") as other:
                head.until_iteration(6, run)
                other.process.send_signal(signal.SIGTERM)
                assert other.ends() == 143
            head.until(lambda: "machines come or go: starting all ranks again" in head.said)
            head.until(lambda: head.said.count("continuing from iteration") == 1)
            head.until_further(2, run)
            (rank,) = ranks(head)
            os.kill(rank, signal.SIGSTOP)  # while the other one starts
            with machine(second, "crashes") as other:
                head.until(lambda: "a machine waits to take part: starting" in head.said)
                os.kill(rank, signal.SIGCONT)
                head.until(lambda: head.said.count("continuing from iteration") == 2)
                head.until_further(2, run)
                for pid in (other.process.pid, *ranks(other)):
                    os.kill(pid, signal.SIGKILL)
            assert head.ends() == 0, head.said
    assert "starting all ranks again (restart 1 of 1)" in head.said
    assert head.said.count("continuing from iteration") == 3
    assert weights(run) == weights(alone / "run")
    assert evaluations(run) == evaluations(alone / "run")
