"""How the ranks of a job talk, and wait for each other without idling."""

import contextlib
import datetime
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from zipper_dist.activity import doing
from zipper_dist.distributed.hardware import leave_job, use_hardware
from zipper_dist.distributed.heartbeat import GRACE, Heartbeat, at_most
from zipper_dist.distributed.meeting import connect, meet
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Plan
from zipper_dist.errors import PeerLost

# A rank may wait for hours for a slower one; Heartbeat notices one that is lost.
TIMEOUT = datetime.timedelta(days=7)
SHORTEST_SLEEP = 5e-5  # [s]
LONGEST_SLEEP = 5e-3
LONGEST_IDLE_SLEEP = 5e-4  # within an iteration
SIGNAL_SECONDS = 1.0  # for which a rank that lost another waits for a signal
STORE = "the job's key-value store"


@dataclass(frozen=True)
class Pending:
    """A result; ``done`` says whether it is there. Both raise PeerLost if it never will be."""

    done: Callable[[], bool]
    result: Callable[[], Any]


def present(value: Any) -> Pending:
    """A result that is there already."""
    return Pending(lambda: True, lambda: value)


class World:
    """The processes of a job, seen from one of them. Nothing here blocks: what takes time is
    :class:`Pending`, so that the caller can work or notice signals while it waits. A rank that is
    not heard of for ``timeout`` [s] is lost, which ``signals`` tell."""

    def __init__(self, plan: Plan, timeout: float = 600.0, signals: Signals | None = None) -> None:
        self._signals = signals or Signals()
        self._timeout = timeout
        self.plan = plan
        self.rank = plan.rank
        self.size = plan.world_size
        self.comm_bytes = 0
        self._sent = 0
        self._received = [0] * self.size
        self._groups: dict[str | None, Any] = {}
        self._sizes: dict[str | None, int] = {}
        self._acknowledged = [0] * self.size
        self._unacknowledged: deque[dict[str, Any]] = deque()
        use_hardware(plan)
        if plan.backend is None:
            return
        nccl = plan.backend == "nccl"
        late = f"the ranks did not connect with each other within {timeout:g} s (--timeout)"
        with self._contact("the other ranks while connecting"), at_most(timeout + GRACE, late):
            meeting = meet(connect(self.rank, self.size, timeout), self.rank, self.size, timeout)
            self._store = meeting.keys("zipper")
            self._heartbeat = Heartbeat(meeting, timeout, self._signals)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else plan.backend,
                store=meeting.keys("group"),
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
                # NCCL connects now: at its first all-reduce, it would hold up the first rank there.
                device_id=plan.device if nccl else None,
            )

    def form_groups(self, groups: Mapping[str, Sequence[int]]) -> None:
        """Let :meth:`all_reduce` sum over the ranks of a group, by name; all ranks call this, with
        the same groups."""
        for name, ranks in groups.items():
            if 1 < len(ranks) < self.size:
                late = f"the ranks formed no group within {self._timeout:g} s (--timeout)"
                with self._contact("the other ranks"), at_most(self._timeout + GRACE, late):
                    self._groups[name] = dist.new_group(list(ranks), timeout=TIMEOUT)
            self._sizes[name] = len(ranks)

    @doing("all-reduce")
    def all_reduce(self, buffer: Tensor, group: str | None = None) -> Pending:
        """The sum of ``buffer`` over the ranks of a group, or all, bit-identical on all of them;
        it is in ``buffer``, too."""
        if self._sizes.get(group, self.size) == 1:
            return present(buffer)
        self.comm_bytes += buffer.numel() * buffer.element_size()
        reduced = buffer.cpu() if self.plan.backend == "gloo" else buffer
        during = "another rank during an all-reduce"
        with self._contact(during):
            work = dist.all_reduce(reduced, group=self._groups.get(group), async_op=True)

        def result() -> Tensor:
            with self._contact(during):
                work.wait()
            return buffer if reduced is buffer else buffer.copy_(reduced)

        # NCCL is waited for by the GPU: the host of a group's rank goes on.
        stays = group is not None and self.plan.backend == "nccl"
        return Pending((lambda: True) if stays else work.is_completed, result)

    def gather(self, topic: str, value: Any) -> Pending:
        """Every rank's ``value`` (JSON) under ``topic``, in the order of the ranks."""
        if self.size == 1:
            return present([json.loads(json.dumps(value))])
        self.post(topic, value)
        keys = [f"{topic}/{rank}" for rank in range(self.size)]
        return Pending(lambda: self._has(keys), lambda: [self._get(key) for key in keys])

    def post(self, topic: str, value: Any) -> None:
        """Let the other ranks see ``value`` (JSON) under ``topic``."""
        self._put(f"{topic}/{self.rank}", value)

    def posted(self, topic: str, ranks: Iterable[int]) -> dict[int, Any]:
        """What those of ``ranks`` that have done so have posted under ``topic``."""
        keys = {rank: f"{topic}/{rank}" for rank in ranks}
        return {rank: self._get(key) for rank, key in keys.items() if self._has([key])}

    def send(self, message: dict[str, Any]) -> None:
        """Post a message for rank 0, which need not be listening."""
        if self.size == 1:
            return
        self._unacknowledged.append(message)
        self._sent += 1
        self._put(f"mail/{self.rank}/{self._sent}", message)
        if self._has([key := f"mail/{self.rank}/acknowledged"]):
            done = self._get(key)
            for _ in range(done - self._acknowledged[self.rank]):
                self._unacknowledged.popleft()
            self._acknowledged[self.rank] = done

    def unacknowledged(self) -> list[dict[str, Any]]:
        """The messages of this rank that rank 0 may never have made use of."""
        return list(self._unacknowledged)

    def receive(self) -> list[dict[str, Any]]:
        """The messages of the other ranks since the last call."""
        messages = []
        for sender in range(1, self.size):
            while self._has([key := f"mail/{sender}/{self._received[sender] + 1}"]):
                messages.append(self._get(key))
                with self._contact(STORE):
                    self._store.delete_key(key)
                self._received[sender] += 1
        return messages

    def acknowledge(self) -> None:
        """Tell the senders that what :meth:`receive` returned so far cannot be lost any more."""
        for sender, count in enumerate(self._received):
            if count > self._acknowledged[sender]:
                self._put(f"mail/{sender}/acknowledged", count)
                self._acknowledged[sender] = count

    @contextlib.contextmanager
    def _contact(self, to: str) -> Iterator[None]:
        """Turn torch's errors into PeerLost, or into what the heartbeat has found out."""
        try:
            yield
        except RuntimeError as error:
            self._signals.listen()
            why = next(iter(str(error).splitlines()), "")
            raise PeerLost(f"lost contact with {to}: {why}") from error

    def _put(self, key: str, value: Any) -> None:
        with self._contact(STORE):
            self._store.set(key, json.dumps(value))

    def _get(self, key: str) -> Any:
        with self._contact(STORE):
            return json.loads(self._store.get(key))

    def _has(self, keys: list[str]) -> bool:
        with self._contact(STORE):
            return bool(self._store.check(keys))

    def close(self) -> None:
        """Leave the job in order."""
        if self.plan.backend is not None:
            leave_job()
            self._heartbeat.close()


class Stopping(Protocol):
    """What stops a process while it waits."""

    def check(self) -> None:
        """Raise CommandError if it is to stop now."""

    def listen(self) -> object:
        """The same, but not for a signal."""


class Overlap:
    """Does ``work`` while it waits, a unit at a time (False: there is none), looks at what may
    ``stop`` it in between, and counts the idle ``seconds``."""

    def __init__(self, stop: Stopping, work: Callable[[], bool] = lambda: False) -> None:
        self.seconds = 0.0
        self.work = work
        self.stop = stop

    @doing("waiting")
    def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; raises Interrupted if a signal comes first."""
        sleep = SHORTEST_SLEEP
        with self._signal_first():
            while not condition():
                self.stop.check()
                if self.work():
                    sleep = SHORTEST_SLEEP
                    continue
                self._sleep(sleep)
                sleep = min(2 * sleep, LONGEST_SLEEP)

    def __call__(self, pending: Pending) -> Any:
        """Wait for ``pending`` and return its result."""
        self.until(pending.done)
        with self._signal_first():
            return pending.result()

    def idly(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds: no work that could hold up others, no stop at a signal,
        as in the middle of an iteration."""
        sleep = SHORTEST_SLEEP
        while not condition():
            self.stop.listen()
            self._sleep(sleep)
            sleep = min(2 * sleep, LONGEST_IDLE_SLEEP)

    def _sleep(self, seconds: float) -> None:
        start = time.perf_counter()
        time.sleep(seconds)
        self.seconds += time.perf_counter() - start

    @contextlib.contextmanager
    def _signal_first(self) -> Iterator[None]:
        """A rank that is gone has often got the signal that this one is about to get: then that
        stops this rank, which so saves its state."""
        try:
            yield
        except PeerLost:
            late = time.monotonic() + SIGNAL_SECONDS
            while time.monotonic() < late:
                self.stop.check()
                time.sleep(LONGEST_SLEEP)
            raise
