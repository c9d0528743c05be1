"""Ending when torchrun, which started this process, is no longer there."""

import ctypes
import os
import signal
import sys
import threading
import time

import zipper_dist
from zipper_dist.distributed.heartbeat import GRACE, TICK, end_process

PR_SET_PDEATHSIG = 1


def end_with_torchrun() -> None:
    """If torchrun started this process, end it within seconds of torchrun's death."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    if sys.platform == "linux":
        # A stopped process could not see it: then, the kernel continues this one.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    threading.Thread(target=_watch, name="torchrun watch", daemon=True).start()


def _watch() -> None:
    while os.getppid() == zipper_dist.PARENT:
        time.sleep(TICK)
    time.sleep(GRACE)  # the store is gone, too, so that the main thread may end by itself
    end_process(f"lost contact with torchrun (process {zipper_dist.PARENT}), which is gone")
