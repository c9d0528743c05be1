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

    The C library gives large blocks back to the system at once and asks for zeroed pages again a
    moment later: for the activations of every gradient step. Blocks that are larger still go back,
    so that the process does not grow much beyond what it needs. The commands call this, and nothing
    else does. True where the C library is glibc, which has the setting; musl does not.
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
        # PyTorch lets convolutions be TF32 unless told otherwise; evaluation is to be fp32.
        torch.backends.cudnn.allow_tf32 = False
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, plan.cores)
    torch.set_num_threads(plan.threads)


@contextlib.contextmanager
def preserved_process_state() -> Iterator[None]:
    """Leave the process afterwards as it was before: for training that a program calls.

    Restored are torch's number of threads, the cores that the process may use, the cuDNN and TF32
    settings, the CUDA device, the global random generators (torch's on the CPU and on every GPU,
    numpy's, Python's) and the handlers of SIGINT and SIGTERM. A default process group that was not
    there before is destroyed.
    """
    had_group = dist.is_available() and dist.is_initialized()
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
            if not had_group and dist.is_available() and dist.is_initialized():
                dist.destroy_process_group()


def describe_device(device: torch.device) -> str:
    """The device in words, for the records of a run."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
