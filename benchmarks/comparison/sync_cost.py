"""Times the all-reduce of a sync, by itself: every rank of a job runs this.

torchrun --nproc_per_node=2 -m comparison.sync_cost --bytes 1000000 --out FILE
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from torch import distributed

from zipper_dist.checkpoint.run_directory import write_json

REPEATS = 20


def measure(size: int, device: torch.device) -> float:
    """The median time of an all-reduce of ``size`` bytes [s], by the faster rank of each time,
    since the rank that comes first also waits for the other."""
    buffer = torch.zeros(size // 4, device=device)
    seconds = torch.empty(REPEATS, dtype=torch.float64, device=device)
    for repeat in range(REPEATS):
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(buffer)
        if buffer.is_cuda:
            torch.cuda.synchronize()
        seconds[repeat] = time.perf_counter() - start
    distributed.all_reduce(seconds, distributed.ReduceOp.MIN)
    return float(seconds.median())


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if options.device == "cuda" else "gloo")
    seconds = measure(options.bytes, torch.device(options.device))
    if distributed.get_rank() == 0:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {"bytes": options.bytes, "seconds": seconds, "repeats": REPEATS})
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
