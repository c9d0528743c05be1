"""Ending when torchrun, which started this process, is no longer there."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

from zipper_dist import _PARENT
from zipper_dist.distributed.heartbeat import GRACE, TICK, end_process

PR_SET_PDEATHSIG = 1
RESTARTED = "ZIPPER_RESTARTED"  # set by zipper-launch for ranks that it starts again


def end_with_torchrun() -> None:
    """If torchrun started this process, end it within seconds of torchrun's death."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    if sys.platform == "linux":
        # A stopped process could not see it: then, the kernel continues this one.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    threading.Thread(target=_watch, name="torchrun watch", daemon=True).start()


def _watch() -> None:
    while os.getppid() == _PARENT and not _adopted():
        time.sleep(TICK)
    time.sleep(GRACE)  # the store is gone, too, so that the main thread may end by itself
    end_process(f"lost contact with torchrun (process {_PARENT}), which is gone")


def _adopted() -> bool:
    """Whether torchrun died before it could be noted: process 1 takes over the children of the
    dead. It may be torchrun itself in a container; then it is Python, or something like it."""
    try:
        first = Path("/proc/1/cmdline").read_text(errors="replace")
    except OSError:
        return False
    return _PARENT == 1 and not any(name in first for name in ("python", "torch", "zipper"))
