"""How a process uses its device, cores, threads and memory."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def preserved_process_state() -> Iterator[None]:
    """Leave the process afterwards as it was before: for training that a program calls.

    Restored are torch's number of threads, the cores that the process may use, the cuDNN and TF32
    settings, the CUDA device, torch's global random generators (on the CPU and on every GPU) and
    the handlers of SIGINT and SIGTERM. A default process group that was not there before is
    destroyed.
    """
    restore = [
        _preserved_threads(),
        _preserved_backends(),
        _preserved_generators(),
        _preserved_signal_handlers(),
    ]
    had_group = dist.is_available() and dist.is_initialized()
    try:
        yield
    finally:
        if not had_group and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
        for again in restore:
            again()


def _preserved_threads() -> Callable[[], None]:
    """What sets the number of threads and the cores again as they are now."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None

    def again() -> None:
        torch.set_num_threads(threads)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return again


def _preserved_backends() -> Callable[[], None]:
    """What sets the arithmetic settings again as they are now."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32

    def again() -> None:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags

    return again


def _preserved_generators() -> Callable[[], None]:
    """What sets torch's global generators, and the CUDA device, again as they are now."""
    cpu = torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    device = torch.cuda.current_device() if gpus else None

    def again() -> None:
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
            torch.cuda.set_device(device)

    return again


def _preserved_signal_handlers() -> Callable[[], None]:
    """What sets the signal handlers again as they are now; only the main thread can set any."""
    handlers = {number: signal.getsignal(number) for number in CAUGHT}

    def again() -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:
                    signal.signal(number, handler)

    return again


def describe_device(device: torch.device) -> str:
    """The device in words, for the records of a run."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
