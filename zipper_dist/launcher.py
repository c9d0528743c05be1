"""torchrun, but the exit status of the job is that of the rank that failed first, torchrun's own
stack trace is left out, and with ``--max-restarts`` only those ranks are started again for which
that may help: ``zipper-launch --nproc_per_node=2 -m zipper_dist.train …``."""

import sys

import zipper_dist
from zipper_dist.starting import importing


def main() -> None:
    """Entry point: run torchrun with the arguments of this process."""
    if sys.argv[1:] == ["--version"]:
        print(f"zipper_dist {zipper_dist.__version__}")
        return
    with importing("starting the ranks …"):
        from zipper_dist.distributed.agent import launch
    launch(sys.argv[1:])


if __name__ == "__main__":
    main()
