"""torchrun, but the exit status of the job is that of the rank that failed first, and torchrun's
own stack trace is left out: ``zipper-launch --nproc_per_node=2 -m zipper_dist.train …``."""

import logging
import os
import sys

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

import zipper_dist


def main() -> None:
    """Entry point: run torchrun with the arguments of this process."""
    if sys.argv[1:] == ["--version"]:
        print(f"zipper_dist {zipper_dist.__version__}")
        return
    # Otherwise torchrun warns that it sets this; every rank sets its own number of threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.run").setLevel(logging.ERROR)
    try:
        torchrun.main(sys.argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        # A rank that a signal ended has minus its number, which a shell reports as 128 + number.
        sys.exit(failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode)
    except SignalException as stop:
        sys.exit(128 + stop.sigval)


if __name__ == "__main__":
    main()
