"""Small jobs of real processes that meet, wait for each other and lose each other."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zipper_dist

PATIENCE = 120.0  # [s]; far more than any of these jobs takes on an idle machine

# Arguments: --timeout, the rank that is slow, and for how long it works [s].
RANK = """
import os, sys, time
import torch
from zipper_dist.config.command_line import run_command
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan

def main():
    timeout, slow, seconds = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    signals = Signals()
    placed = plan(Machine.detect(os.environ), ("one", "two"), "cpu", 1)
    world, wait = World(placed, timeout, signals), Overlap(signals)
    print("connected", flush=True)
    if world.rank == slow:
        time.sleep(seconds)
    print("sum", wait(world.all_reduce(torch.ones(1))).item(), flush=True)
    world.close()

run_command(main)
"""


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(rank: int, **variables: str) -> dict[str, str]:
    """What tells a process that it is rank ``rank`` of two, each on a machine of its own."""
    job = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    package = str(Path(zipper_dist.__file__).parents[1])
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TORCHELASTIC")}
    return {**inherited, "PYTHONPATH": package, "OMP_NUM_THREADS": "1", **job, **variables}


@dataclass
class Process:
    """A process of a job, and the file that it writes to."""

    popen: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def until_it_says(self, words: str) -> None:
        """Return once it has printed ``words``."""
        late = time.monotonic() + PATIENCE
        while words not in self.said:
            assert self.popen.poll() is None, self.said
            assert time.monotonic() < late, self.said
            time.sleep(0.02)

    def ends(self) -> int:
        """Its exit status."""
        return self.popen.wait(PATIENCE)


@contextlib.contextmanager
def job(
    at: Path,
    timeout: float,
    slow: tuple[int, float] = (-1, 0.0),
    prefixes: Sequence[Sequence[str]] = ((), ()),
    **variables: str,
) -> Iterator[list[Process]]:
    """Two ranks; ``prefixes`` go before their commands. None of them outlives the block."""
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **variables}
    command = [sys.executable, "-c", RANK, str(timeout), *map(str, slow)]
    ranks = []
    try:
        for rank in range(2):
            output = at / f"rank-{rank}"
            with output.open("wb") as file:
                popen = subprocess.Popen(
                    [*prefixes[rank], *command],
                    env=environment(rank, **master),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            ranks.append(Process(popen, output))
        yield ranks
    finally:
        for each in ranks:
            each.popen.kill()
            each.popen.wait()
