"""Placement: which rank trains which learner, on which device and cores, and how ranks talk.

The only file that knows the world size. :func:`plan` decides, from what torchrun and the machine
say; :class:`World` carries it out.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from zipper_dist.distributed.allocator import keep_freed_memory
from zipper_dist.errors import PeerLost, UserError

# A rank may rightly wait for hours for the slower learner. A rank that dies is noticed at once all
# the same: torchrun stops the others, and gloo reports the closed connection.
PATIENCE = datetime.timedelta(days=7)


@dataclass(frozen=True)
class Machine:
    """What this process finds: the job it belongs to and the hardware."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    gpus: int
    cores: tuple[int, ...]

    @staticmethod
    def detect(environment: Mapping[str, str]) -> Machine:
        """Read the variables that torchrun sets (absent: a job of one process) and the hardware."""

        def number(name: str, default: int) -> int:
            return int(environment.get(name, default))

        available = getattr(os, "sched_getaffinity", None)
        cores = sorted(available(0)) if available else range(os.cpu_count() or 1)
        return Machine(
            rank=number("RANK", 0),
            world_size=number("WORLD_SIZE", 1),
            local_rank=number("LOCAL_RANK", 0),
            local_world_size=number("LOCAL_WORLD_SIZE", 1),
            gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0,
            cores=tuple(cores),
        )


@dataclass(frozen=True)
class Plan:
    """What one process does: its learners, device, cores and threads, and the backend."""

    rank: int
    world_size: int
    learners: tuple[str, ...]
    device: torch.device
    cores: tuple[int, ...]
    threads: int
    backend: str | None
    fetches_data: bool
    notes: tuple[str, ...] = ()


def plan(machine: Machine, learners: Sequence[str], device: str, threads: int | None) -> Plan:
    """Place ``learners`` on the ranks of the job.

    One process trains all of them in turn; otherwise each learner has a rank.

    Raises:
        UserError: a number of ranks, a device or a thread count that cannot be served.
    """
    if machine.world_size not in (1, len(learners)):
        allowed = "1 process" if len(learners) == 1 else f"1 or {len(learners)} processes"
        raise UserError(
            f"{machine.world_size} ranks were started, but this recipe trains {len(learners)} "
            f"learner(s) ({', '.join(learners)}): start {allowed} (torchrun --nproc_per_node=…)"
        )
    mine = tuple(learners) if machine.world_size == 1 else (learners[machine.rank],)
    return _placed(machine, mine, device, threads)


def plan_shards(machine: Machine, device: str, threads: int | None) -> Plan:
    """Place work that any number of ranks can share, such as the examples of an evaluation.

    Raises:
        UserError: a device or a thread count that cannot be served.
    """
    return _placed(machine, (), device, threads)


def _placed(machine: Machine, learners: tuple[str, ...], device: str, threads: int | None) -> Plan:
    """The device, cores, threads and backend of one process."""
    if device == "cuda" and machine.gpus == 0:
        raise UserError("--device cuda: no GPU was found here; use --device cpu or --device auto")
    on_gpu = device == "cuda" or (device == "auto" and machine.gpus > 0)
    share = max(1, len(machine.cores) // machine.local_world_size)
    cores = machine.cores
    if machine.local_world_size > 1 and len(cores) >= machine.local_world_size:
        cores = cores[machine.local_rank * share : (machine.local_rank + 1) * share]
    notes = []
    backend = None
    if machine.world_size > 1:
        shared_gpu = on_gpu and machine.gpus < machine.local_world_size
        backend = "nccl" if on_gpu and not shared_gpu else "gloo"
        if shared_gpu:
            notes.append(
                f"{machine.local_world_size} ranks share {machine.gpus} GPU: they talk over gloo, "
                "because NCCL needs a GPU for each rank"
            )
    index = machine.local_rank % max(1, machine.gpus)
    return Plan(
        rank=machine.rank,
        world_size=machine.world_size,
        learners=learners,
        device=torch.device("cuda", index) if on_gpu else torch.device("cpu"),
        cores=cores,
        threads=threads or share,
        backend=backend,
        fetches_data=machine.local_rank == 0,
        notes=tuple(notes),
    )


def describe_device(device: torch.device) -> str:
    """The device in words, for the records of a run."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class Pending(Protocol):
    """Something asked for that is not there yet."""

    def done(self) -> bool:
        """Whether :meth:`result` would return at once. Raises PeerLost if it never will."""

    def result(self) -> Any:
        """What was asked for; raises PeerLost if the other rank is gone."""


@dataclass
class Present:
    """What was asked for is already there."""

    value: Any

    def done(self) -> bool:
        """Always."""
        return True

    def result(self) -> Any:
        """It."""
        return self.value


@dataclass
class _Reduction:
    work: Any
    buffer: Tensor
    device: torch.device

    def done(self) -> bool:
        return bool(self.work.is_completed())

    def result(self) -> Tensor:
        try:
            self.work.wait()
        except RuntimeError as error:
            raise PeerLost("lost contact with the other rank during an all-reduce") from error
        return self.buffer.to(self.device)


@dataclass
class _Message:
    store: dist.Store
    keys: list[str]

    def done(self) -> bool:
        try:
            return bool(self.store.check(self.keys))
        except RuntimeError as error:
            raise PeerLost("lost contact with the job's key-value store") from error

    def result(self) -> list[Any]:
        return [json.loads(self.store.get(key)) for key in self.keys]


class World:
    """The processes of a job, seen from one of them: what it can ask of the others.

    Nothing here blocks: what takes time is :class:`Pending`, so that the caller can work, notice
    signals or give up while it waits. With one process everything is there at once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rank = plan.rank
        self.size = plan.world_size
        self.comm_bytes = 0
        self._store: dist.Store | None = None
        self._sent = 0
        self._received = [0] * self.size
        self._use_hardware()
        if plan.backend is not None:
            self._connect(plan.backend)

    def _use_hardware(self) -> None:
        if self.plan.device.type == "cuda":
            torch.cuda.set_device(self.plan.device)
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
            # PyTorch lets convolutions be TF32 unless told otherwise; evaluation is to be fp32.
            torch.backends.cudnn.allow_tf32 = False
        else:
            keep_freed_memory()
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, self.plan.cores)
        torch.set_num_threads(self.plan.threads)

    def _connect(self, backend: str) -> None:
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        self._store = dist.PrefixStore("zipper", store)
        # With a device, NCCL connects now: later, at its first all-reduce, it would hold up the
        # rank that comes first until the other one does.
        nccl = backend == "nccl"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else backend,
            store=dist.PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
            device_id=self.plan.device if nccl else None,
        )

    def all_reduce(self, buffer: Tensor) -> Pending:
        """The sum of ``buffer`` over the ranks, bit-identical on all; ``buffer`` is used up.

        A buffer on a GPU goes over NCCL where that is the backend, and one in RAM over gloo.
        """
        if self.size == 1:
            return Present(buffer)
        self.comm_bytes += buffer.numel() * buffer.element_size()
        device = buffer.device
        if self.plan.backend == "gloo":
            buffer = buffer.cpu()
        work = dist.all_reduce(buffer, async_op=True)
        return _Reduction(work, buffer, device)

    def gather(self, topic: str, value: Any) -> Pending:
        """Every rank's ``value`` (JSON) under ``topic``, in the order of the ranks."""
        if self._store is None:
            return Present([json.loads(json.dumps(value))])
        self._put(f"{topic}/{self.rank}", value)
        return _Message(self._store, [f"{topic}/{rank}" for rank in range(self.size)])

    def send(self, message: Mapping[str, Any]) -> None:
        """Post a message for rank 0, which need not be listening."""
        if self._store is not None:
            self._sent += 1
            self._put(f"mail/{self.rank}/{self._sent}", message)

    def _put(self, key: str, value: Any) -> None:
        assert self._store is not None
        try:
            self._store.set(key, json.dumps(value))
        except RuntimeError as error:
            raise PeerLost("lost contact with the job's key-value store") from error

    def receive(self) -> list[dict[str, Any]]:
        """The messages of the other ranks since the last call."""
        messages = []
        for sender in range(1, self.size):
            while self._store is not None:
                key = f"mail/{sender}/{self._received[sender] + 1}"
                if not _Message(self._store, [key]).done():
                    break
                messages.append(json.loads(self._store.get(key)))
                self._store.delete_key(key)
                self._received[sender] += 1
        return messages

    def close(self) -> None:
        """Leave the job in order."""
        if dist.is_initialized():
            dist.destroy_process_group()
            self._store = None


Wait = Callable[[Pending], Any]
"""Waits for something pending and returns it; see :mod:`zipper_dist.distributed.overlap`."""
