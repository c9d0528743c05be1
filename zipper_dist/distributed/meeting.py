"""How the ranks of a job find each other: the key-value store, and who takes part this time."""

from __future__ import annotations

import datetime
import json
import os
import platform
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch.distributed as dist

from zipper_dist.errors import PeerLost, UserError

PAUSE = 0.01  # between two looks at the store [s]
AGENT_TIMEOUT = 20.0  # for the store of torchrun, which serves it before it starts a rank [s]


@dataclass(frozen=True)
class Peer:
    """A process of the job."""

    rank: int
    host: str
    pid: int
    process: str  # what process that is, see :func:`process_of`

    def __str__(self) -> str:
        return f"rank {self.rank} (host {self.host}, process {self.pid})"


def process_of(pid: int) -> str:
    """Tells the process ``pid`` of this machine from all others, also of other machines and from
    later ones with the same number; empty where the system does not say or there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
    return f"{boot} {namespace} {pid} {started}"


def connect(rank: int, size: int, timeout: float) -> dist.TCPStore:
    """A connection to the store of the job, at MASTER_ADDR and MASTER_PORT; rank 0 serves it,
    unless torchrun does. Raises UserError or PeerLost after ``timeout`` [seconds]."""
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not host:
        raise UserError("MASTER_ADDR is not set: give the name or address of the machine of rank 0")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"MASTER_PORT {port!r}: give a free port of {host}, 1 … 65535")
    of_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    limit = datetime.timedelta(seconds=min(timeout, AGENT_TIMEOUT) if of_agent else timeout)
    try:
        store: dist.TCPStore = next(dist.rendezvous("env://", rank, size, timeout=limit))[0]
    except (RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        if of_agent:
            raise PeerLost(f"lost contact with torchrun at {host}:{port}: {why}") from error
        raise UserError(
            f"MASTER_ADDR {host}, MASTER_PORT {port}: the {size} ranks did not meet there ({why}); "
            "give all of them the same free port of the machine of rank 0, and start them within "
            f"--timeout ({timeout:g} s)"
        ) from error
    return store


@dataclass(frozen=True)
class Meeting:
    """The ranks that take part in one attempt at the job, as one of them sees it."""

    store: dist.TCPStore
    name: str  # of the attempt
    me: Peer
    peers: list[Peer]  # by rank

    @property
    def address(self) -> str:
        """Where the store is."""
        return f"{self.store.host}:{self.store.port}"

    def keys(self, topic: str) -> dist.Store:
        """The part of the store for ``topic`` in this attempt."""
        return dist.PrefixStore(f"{topic}/{self.name}", self.store)

    def connected_again(self) -> dist.Store:
        """A part of the store for heartbeats, over a connection of its own."""
        store = dist.TCPStore(
            self.store.host, self.store.port, is_master=False, wait_for_workers=False
        )
        return dist.PrefixStore(f"heartbeat/{self.name}", store)


def meet(store: dist.TCPStore, rank: int, size: int, timeout: float) -> Meeting:
    """Find the other ranks that were started along with this one; PeerLost after ``timeout`` [s].

    torchrun keeps one store over all the times that it starts the ranks, so what dead ones wrote is
    still there. So each rank draws a number, writes it (``hello``) and waits until rank 0 repeats
    it with a number of its own (``welcome``), which is the name of the attempt. Rank 0 answers
    whatever it finds, again when that changes, until every rank has ``joined`` under that name.
    """
    mine, late = secrets.token_hex(16), time.monotonic() + timeout
    entrance = dist.PrefixStore("zipper", store)
    answered: dict[int, str] = {}

    def wait(there: Callable[[], bool], missing: Callable[[], str]) -> None:
        while not there():
            if time.monotonic() > late:
                raise PeerLost(f"{missing()} did not come within {timeout:g} s (--timeout)")
            time.sleep(PAUSE)

    def answer() -> None:
        for other in range(1, size):
            hello = value_of(entrance, f"hello/{other}")
            if answered.get(other) != hello:
                entrance.set(f"welcome/{other}", hello + mine)
                answered[other] = hello

    def welcomed() -> bool:
        return value_of(entrance, f"welcome/{rank}").startswith(mine)

    name = mine
    if rank != 0:
        entrance.set(f"hello/{rank}", mine)
        wait(welcomed, lambda: f"rank 0 of {size}")
        name = value_of(entrance, f"welcome/{rank}").removeprefix(mine)
    inside = dist.PrefixStore(f"zipper/{name}", store)
    keys = [f"joined/{each}" for each in range(size)]
    me = Peer(rank, platform.node(), os.getpid(), process_of(os.getpid()))
    inside.set(keys[rank], json.dumps(asdict(me)))

    def all_joined() -> bool:
        if rank == 0:
            answer()
        return bool(inside.check(keys))

    def absent() -> str:
        ranks = [str(each) for each in range(size) if not inside.check([keys[each]])]
        return f"rank {', '.join(ranks)} of {size}"

    wait(all_joined, absent)
    return Meeting(store, name, me, [Peer(**json.loads(inside.get(key))) for key in keys])


def value_of(store: dist.Store, key: str) -> str:
    """What is under ``key``, which stays there; empty if there is nothing."""
    return store.get(key).decode() if store.check([key]) else ""
