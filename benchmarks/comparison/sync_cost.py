"""Times the all-reduce of a sync, by itself: every rank of a job runs this.

torchrun --nproc_per_node=2 -m comparison.sync_cost --bytes 1000000 --out FILE
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.config.command_line import parse_options, run_command
from zipper_dist.config.schema import Device
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan

REPEATS = 20


@dataclass(frozen=True)
class Options:
    """Time the all-reduce of a buffer."""

    bytes: int
    """Size of the buffer [bytes]."""
    out: Path
    """Where the result goes, as JSON."""
    device: Device = "auto"
    """Where the buffer is."""
    threads: int | None = None
    """CPU threads of each process."""


def measure(options: Options) -> None:
    """Write the median time of a sync [s] of so many bytes."""
    world = World(plan(Machine.detect(os.environ), (), options.device, options.threads))
    wait = Overlap(Signals())
    buffer = torch.zeros(options.bytes // 4, device=world.plan.device)
    seconds = []
    for repeat in range(REPEATS):
        share = buffer.clone()
        wait(world.gather(f"together {repeat}", None))
        start = time.perf_counter()
        wait(world.all_reduce(share))
        if buffer.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    by_rank = wait(world.gather("seconds", seconds))
    if world.rank == 0:
        # The rank that comes first also waits for the other.
        each = [min(of_ranks) for of_ranks in zip(*by_rank, strict=True)]
        result = {"bytes": options.bytes, "seconds": statistics.median(each), "repeats": REPEATS}
        write_json(options.out, result)
    world.close()


if __name__ == "__main__":
    run_command(lambda: measure(parse_options(Options, sys.argv[1:], "comparison.sync_cost")))
