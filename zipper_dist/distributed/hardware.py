"""How a process uses its device, cores, threads and memory."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from zipper_dist.distributed.topology import Plan

# Parameters of mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Keep blocks that tensors free, for the next tensors, rather than give them back.

    The C library gives large blocks back to the system at once and asks for zeroed pages again a
    moment later: for the activations of every gradient step. With this, the process keeps what it
    needed at its peak. A gradient step of ResNet-18 (minibatch 128, bf16, two cores) went from 0.24
    to 0.21 s. True where the C library is glibc, which has the setting; musl does not.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def use_hardware(plan: Plan) -> None:
    """Bind this process to the device, cores and threads of ``plan``."""
    if plan.device.type == "cuda":
        torch.cuda.set_device(plan.device)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        # PyTorch lets convolutions be TF32 unless told otherwise; evaluation is to be fp32.
        torch.backends.cudnn.allow_tf32 = False
    else:
        keep_freed_memory()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, plan.cores)
    torch.set_num_threads(plan.threads)


def describe_device(device: torch.device) -> str:
    """The device in words, for the records of a run."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
