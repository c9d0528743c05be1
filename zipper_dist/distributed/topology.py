"""Topology: the device, cores and threads of each rank."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from zipper_dist.errors import UserError


@dataclass(frozen=True)
class Machine:
    """The job that this process belongs to, and its hardware."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    gpus: int
    cores: tuple[int, ...]

    @staticmethod
    def detect(environment: Mapping[str, str]) -> Machine:
        """Read the variables that torchrun sets (absent: a job of one process) and the hardware.

        UserError: a variable is not a number in its range."""
        available = getattr(os, "sched_getaffinity", None)
        world_size = _count(environment, "WORLD_SIZE")
        local_world_size = _count(environment, "LOCAL_WORLD_SIZE")
        if world_size > 1 and "RANK" not in environment:
            raise UserError(
                f"RANK is not set, but WORLD_SIZE is {world_size}: give each process a rank of its "
                f"own, 0 … {world_size - 1}, or start them with torchrun"
            )
        return Machine(
            rank=_index(environment, "RANK", "WORLD_SIZE", world_size),
            world_size=world_size,
            local_rank=_index(environment, "LOCAL_RANK", "LOCAL_WORLD_SIZE", local_world_size),
            local_world_size=local_world_size,
            gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
            cores=tuple(sorted(available(0)) if available else range(os.cpu_count() or 1)),
        )


def _count(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "1")
    if not (value.isdecimal() and int(value) >= 1):
        raise UserError(f"{name} {value!r}: give a number of processes, 1 or more")
    return int(value)


def _index(environment: Mapping[str, str], name: str, of: str, size: int) -> int:
    value = environment.get(name, "0")
    if not (value.isdecimal() and int(value) < size):
        raise UserError(f"{name} {value!r}: give 0 … {size - 1}, because {of} is {size}")
    return int(value)


@dataclass(frozen=True)
class Plan:
    """What one process does, on which hardware."""

    rank: int
    world_size: int
    device: torch.device
    cores: tuple[int, ...]
    threads: int
    backend: str | None
    fetches_data: bool
    notes: tuple[str, ...] = ()


def plan(machine: Machine, device: str, threads: int | None) -> Plan:
    """Place a rank of the job on the hardware of its machine, or raise UserError."""
    if device == "cuda" and machine.gpus == 0:
        raise UserError("--device cuda: no GPU was found here; use --device cpu or --device auto")
    on_gpu = device == "cuda" or (device == "auto" and machine.gpus > 0)
    share = max(1, len(machine.cores) // machine.local_world_size)
    cores = machine.cores
    if machine.local_world_size > 1 and len(cores) >= machine.local_world_size:
        cores = cores[machine.local_rank * share : (machine.local_rank + 1) * share]
    shared_gpu = machine.world_size > 1 and on_gpu and machine.gpus < machine.local_world_size
    backend = "nccl" if on_gpu and not shared_gpu else "gloo"
    note = (
        f"{machine.local_world_size} ranks share {machine.gpus} GPU: they talk over gloo, because "
        "NCCL needs a GPU for each rank"
    )
    index = machine.local_rank % max(1, machine.gpus)
    return Plan(
        rank=machine.rank,
        world_size=machine.world_size,
        device=torch.device("cuda", index) if on_gpu else torch.device("cpu"),
        cores=cores,
        threads=threads or share,
        backend=backend if machine.world_size > 1 else None,
        fetches_data=machine.local_rank == 0,
        notes=(note,) if shared_gpu else (),
    )
