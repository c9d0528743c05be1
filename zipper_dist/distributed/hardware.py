"""How a process uses its device, cores, threads and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator

import numpy
import torch
import torch.distributed as dist

from zipper_dist.distributed.signals import CAUGHT
from zipper_dist.distributed.topology import Plan

# Parameters of mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_KEPT = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keep blocks of up to 64 MiB that tensors free, for the next tensors, in this process.

    glibc gives large blocks back to the system at once and asks for zeroed pages again for the next
    gradient step. Larger blocks still go back, to bound the memory of the process. Returns False,
    and changes nothing, where the C library is not glibc. Only the commands call this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    kept = bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT))
    return bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1)) and kept


def use_hardware(plan: Plan) -> None:
    """Bind this process to the device, cores and threads of ``plan``."""
    if plan.device.type == "cuda":
        torch.cuda.set_device(plan.device)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        # PyTorch's default is TF32 for convolutions; evaluation is in fp32.
        torch.backends.cudnn.allow_tf32 = False
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, plan.cores)
    torch.set_num_threads(plan.threads)


@contextlib.contextmanager
def preserved_process_state() -> Iterator[None]:
    """Restore the state of the process afterwards: for training that a program calls.

    Restored are torch's number of threads, the cores that the process may use, the cuDNN and TF32
    settings, the CUDA device, the global random generators of torch, numpy and Python, and the
    handlers of SIGINT and SIGTERM. A new default process group is destroyed.
    """
    had_group = dist.is_initialized()
    with contextlib.ExitStack() as restored:
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        if hasattr(os, "sched_getaffinity"):
            restored.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        for settings, name in (
            (cudnn, "deterministic"),
            (cudnn, "benchmark"),
            (cudnn, "allow_tf32"),
            (matmul, "allow_tf32"),
        ):
            restored.callback(setattr, settings, name, getattr(settings, name))
        restored.callback(torch.set_rng_state, torch.get_rng_state())
        restored.callback(random.setstate, random.getstate())
        restored.callback(numpy.random.set_state, numpy.random.get_state())
        if torch.cuda.is_available():
            restored.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            restored.callback(torch.cuda.set_device, torch.cuda.current_device())
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                restored.callback(signal.signal, number, signal.getsignal(number))
        try:
            yield
        finally:
            if dist.is_initialized() and not had_group:
                dist.destroy_process_group()


def describe_device(device: torch.device) -> str:
    """The name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
