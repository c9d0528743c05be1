"""Noticing that a rank is frozen, cut off or gone, however long the others work or wait."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

from zipper_dist.distributed.meeting import PAUSE, Meeting, Peer, process_of, value_of
from zipper_dist.distributed.signals import Signals
from zipper_dist.errors import PeerLost, RankSilent

LONGEST_INTERVAL = 5.0  # between two beats [s]
TICK = 0.5  # between two looks of the watch [s]
GRACE = 5.0  # that the main thread has to end the process in order, once it was told [s]
LEFT = "left"


def end_process(message: str) -> None:
    """Print ``message`` as an error and end the process now, whatever its other threads do."""
    os.write(2, f"zipper: error: {message}\n".encode())
    os._exit(PeerLost.status)


@contextlib.contextmanager
def at_most(seconds: float, message: str) -> Iterator[None]:
    """End the process with ``message`` if the block, which may be stuck in a call, takes longer."""
    timer = threading.Timer(seconds, end_process, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Heartbeat:
    """Tells the other ranks of ``meeting`` that this one is there, and this one which are not.

    One thread writes a count to the job's store every few seconds and reads those of the others,
    over a connection of its own. That blocks where the machine is cut off, so a second thread
    looks at how long it was ago. It has ``signals`` stop the main thread with RankSilent, and ends
    the process if that is still there shortly after, as it may be stuck in a call for good.

    A rank is lost when its count has not changed for ``timeout`` [s] in which this process ran and
    could read it; a job that is stopped as a whole and continued goes on.
    """

    def __init__(self, meeting: Meeting, timeout: float, signals: Signals) -> None:
        self._meeting = meeting
        self._timeout = timeout
        self._signals = signals
        self._store = meeting.connected_again()
        self._others = [peer for peer in meeting.peers if peer != meeting.me]
        self._clock = 0.0  # [s]; stands still while the process does
        self._answered = 0.0  # when the store last answered, by that clock
        self._heard = dict.fromkeys(self._others, 0.0)  # when the count of a rank last changed
        self._counts = dict.fromkeys(self._others, "")
        self._broken = False
        self._closing = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._beats.start()
        threading.Thread(target=self._watch, name="heartbeat watch", daemon=True).start()

    def close(self) -> None:
        """Leave in order; rank 0, which may serve the store, shortly waits for the others."""
        self._closing.set()
        self._beats.join(2 * GRACE)

    def _beat(self) -> None:
        interval = min(LONGEST_INTERVAL, self._timeout / 5)
        count = 0
        with contextlib.suppress(RuntimeError):
            while not self._closing.is_set():
                count += 1
                self._exchange(str(count))
                self._closing.wait(interval)
            self._exchange(LEFT)
            late = time.monotonic() + GRACE
            while self._meeting.me.rank == 0 and self._present() and time.monotonic() < late:
                time.sleep(PAUSE)
                self._exchange(LEFT)
            return
        self._broken = True

    def _exchange(self, mine: str) -> None:
        self._store.set(f"beat/{self._meeting.me.rank}", mine)
        counts = {peer: value_of(self._store, f"beat/{peer.rank}") for peer in self._others}
        self._answered = self._clock
        for peer, count in counts.items():
            if count != self._counts[peer]:
                self._counts[peer], self._heard[peer] = count, self._answered

    def _present(self) -> list[Peer]:
        """The other ranks that have not left in order."""
        return [peer for peer in self._others if self._counts[peer] != LEFT]

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._closing.wait(TICK):
            now = time.monotonic()
            self._clock += min(now - last, 2 * TICK)
            last = now
            if found := self._trouble():
                self._signals.error = RankSilent(f"{found}; what was saved is kept")
                self._kill_frozen()
                # A rank that a signal has stopped already is about to save and end.
                stopped = self._signals.number is not None
                if not self._closing.wait(self._timeout if stopped else GRACE):
                    end_process(str(self._signals.error))

    def _trouble(self) -> str:
        """Which rank is lost; empty if none is."""
        others = ", ".join(map(str, self._present()))
        me, address = self._meeting.me, self._meeting.address
        if self._broken and others:
            return f"{me} has lost contact with the job's store at {address} and so with {others}"
        if self._clock - self._answered > self._timeout:
            return (
                f"{me} has had no answer from the job's store at {address} for {self._timeout:g} s "
                f"(--timeout): it is cut off from {others}"
            )
        if silent := ", ".join(map(str, self._silent())):
            return (
                f"nothing was heard of {silent} for {self._timeout:g} s (--timeout): it is frozen, "
                "cut off or gone"
            )
        return ""

    def _silent(self) -> list[Peer]:
        timeout, answered = self._timeout, self._answered
        return [peer for peer in self._present() if answered - self._heard[peer] > timeout]

    def _kill_frozen(self) -> None:
        """End the silent ranks of this machine, for which torchrun would wait."""
        for peer in self._silent():
            if peer.process and process_of(peer.pid) == peer.process:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(peer.pid, signal.SIGKILL)
