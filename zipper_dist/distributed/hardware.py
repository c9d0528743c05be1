"""How a process uses its device, cores, threads and memory."""

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

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
LARGEST_KEPT = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keep freed blocks of up to 64 MiB for the next tensors of the process; glibc would give them
    back and ask for zeroed ones at the next step. False: the C library is not glibc."""
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
    """Restore threads, cores, cuDNN and TF32 settings, CUDA device, global random generators and
    signal handlers afterwards; a new default process group is destroyed."""
    with contextlib.ExitStack() as restored:
        restored.callback(torch.set_num_threads, torch.get_num_threads())
        if hasattr(os, "sched_getaffinity"):
            restored.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        flags = [(cudnn, "deterministic"), (cudnn, "benchmark"), (cudnn, "allow_tf32")]
        for settings, name in [*flags, (matmul, "allow_tf32")]:
            restored.callback(setattr, settings, name, getattr(settings, name))
        restored.callback(torch.set_rng_state, torch.get_rng_state())
        restored.callback(random.setstate, random.getstate())
        restored.callback(numpy.random.set_state, numpy.random.get_state())
        if torch.cuda.is_available():
            restored.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            restored.callback(torch.cuda.set_device, torch.cuda.current_device())
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                if (handler := signal.getsignal(number)) is not None:
                    restored.callback(signal.signal, number, handler)
        if not dist.is_initialized():
            restored.callback(leave_job)
        yield


def leave_job() -> None:
    """Destroy the default process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def describe_device(device: torch.device) -> str:
    """The name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
