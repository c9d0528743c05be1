"""What this process does, and from when to when, while somebody wants to know.

With nobody who :func:`records <recorded_by>` it, :func:`doing` costs a microsecond and no more.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SHORTEST = 10_000
"""Slices that are shorter are left out, and gaps that are shorter are closed [ns]."""


@dataclass
class Slice:
    """An activity from ``start`` to ``end`` [ns since 1970], and what it is ``about``."""

    activity: str
    about: dict[str, Any]
    start: int
    end: int


class Recorder:
    """Hands the slices of the iterations ``first`` … ``last`` to ``deliver``, in order and without
    overlap: an activity that begins within another one interrupts it, and is about the same, and
    more. The last iteration of a run goes on to the end of the run. ``clock``: any [ns]."""

    def __init__(
        self,
        first: int,
        last: int,
        deliver: Callable[[list[Slice]], None],
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._first, self._last = first, last
        self._deliver = deliver
        self._slices: list[Slice] = []
        self._iteration = 0
        self._doing: list[tuple[str, dict[str, Any]]] = []
        # The time of the machine as it was at the start: it may be set while this goes on.
        self._clock, self._zero = clock, time.time_ns() - clock()
        self._since = 0

    def begin(self, activity: str, about: dict[str, Any]) -> None:
        """From now on, until :meth:`end`, this process does that."""
        self._cut()
        outer = self._doing[-1][1] if self._doing else {}
        self._doing.append((activity, outer | about))

    def end(self) -> None:
        """From now on this process goes on with what it did before."""
        self._cut()
        self._doing.pop()

    def begin_iteration(self, t: int) -> None:
        """What is done from now on is done in iteration ``t``."""
        self._iteration = t
        if t > self._last:
            self.finish()

    def finish(self) -> None:
        """Hand over the slices, unless that is done."""
        if self._slices:
            self._deliver(self._slices)
            self._slices = []

    def _cut(self) -> None:
        start, self._since = self._since, self._zero + self._clock()
        if not self._doing or not self._first <= self._iteration <= self._last:
            return
        activity, about = self._doing[-1]
        about = about | {"iteration": self._iteration}
        last = self._slices[-1] if self._slices else None
        goes_on = last is not None and (last.activity, last.about) == (activity, about)
        if last is not None and goes_on and start - last.end < SHORTEST:
            last.end = self._since
        elif self._since - start >= SHORTEST:
            self._slices.append(Slice(activity, about, start, self._since))


_recorder: Recorder | None = None


@contextlib.contextmanager
def recorded_by(recorder: Recorder) -> Iterator[None]:
    """For the duration, ``recorder`` learns of what this process does."""
    global _recorder
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before


@contextlib.contextmanager
def doing(activity: str, **about: Any) -> Iterator[None]:
    """For the duration, this process does that; also as a decorator. Times are those of the host:
    on a GPU, work goes on after the call that started it, and shows where the host waits for it."""
    recorder = _recorder
    if recorder is None:
        yield
        return
    recorder.begin(activity, about)
    try:
        yield
    finally:
        recorder.end()


def begin_iteration(t: int) -> None:
    """See :meth:`Recorder.begin_iteration`."""
    if _recorder is not None:
        _recorder.begin_iteration(t)
