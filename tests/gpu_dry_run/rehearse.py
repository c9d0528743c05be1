"""Trains on ``--device cuda`` over the stub: ``python -m gpu_dry_run.rehearse JOBS REPORT``.

JOBS is JSON, a list of [name, options of the training command]; REPORT is where the counts of
each go, by name and iteration, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
import torch.testing._internal.distributed.fake_pg  # noqa: F401  registers the backend "fake"

from gpu_dry_run.watching import watched
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.training.run import run

_init_process_group = dist.init_process_group


def without_nccl(backend: str, **options: Any) -> None:
    """Form the group with torch's backend ``fake``, which does nothing, in place of NCCL."""
    if "nccl" in backend:
        backend, options["device_id"] = backend.replace("nccl", "fake"), None
    _init_process_group(backend, **options)


def main() -> None:
    """Do the jobs, and write what they asked of the GPU."""
    jobs, report = json.loads(sys.argv[1]), Path(sys.argv[2])
    found = {}
    for name, options in jobs:
        config = parse_train_options(options)
        with watched() as watch, mock.patch.object(dist, "init_process_group", without_nccl):
            run(config)
        found[name] = watch.counts()
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
