"""How the ranks of a job talk: all-reduce, gathered values, messages for rank 0."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from zipper_dist.distributed.hardware import use_hardware
from zipper_dist.distributed.topology import Plan
from zipper_dist.errors import PeerLost

# A rank may rightly wait for hours for the slower learner. A rank that dies is noticed at once all
# the same: torchrun stops the others, and gloo reports the closed connection.
PATIENCE = datetime.timedelta(days=7)


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
        use_hardware(plan)
        if plan.backend is not None:
            self._connect(plan.backend)

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
