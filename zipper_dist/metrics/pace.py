"""How fast a run is of late, and how long the rest of it will take."""

from collections import deque

RECENT = 60.0
"""How far back "of late" goes [seconds of training], where there are so many observations."""


class Pace:
    """The pace of the training, from what is observed of it again and again.

    Compiling and other work that a process does once, before its first record, count for nothing.
    The rate is that of the training alone. What comes on top of it, which is evaluation where the
    same process does it, is taken to go on as it has been so far.
    """

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._first: tuple[float, float] | None = None  # the clock, and the seconds of training
        self._evaluated = False  # since the last observation
        self._overhead = 1.0  # seconds that pass for each second of training
        self._recent: deque[tuple[int, float]] = deque()  # iteration, seconds of training

    def evaluated(self) -> None:
        """There was an evaluation since the last observation."""
        self._evaluated = True

    def observe(self, now: float, step: int, trained: float) -> None:
        """At ``now`` [s], the last iteration is ``step`` after ``trained`` seconds of training."""
        if self._recent and step <= self._recent[-1][0]:
            return
        if self._first is None:
            self._first = now, trained
        elif self._evaluated and trained > self._first[1]:
            # Only now, or the figure would go up at each evaluation and down before the next.
            self._overhead = max(1.0, (now - self._first[0]) / (trained - self._first[1]))
        self._evaluated = False
        self._recent.append((step, trained))
        while len(self._recent) > 2 and trained - self._recent[1][1] > RECENT:
            self._recent.popleft()

    @property
    def rate(self) -> float | None:
        """Iterations a second of training; None before there is a sensible figure."""
        if len(self._recent) < 2:
            return None
        (first, began), (last, ended) = self._recent[0], self._recent[-1]
        return (last - first) / (ended - began) if ended > began else None

    @property
    def left(self) -> float | None:
        """Seconds to the end of the training; None before there is a sensible figure."""
        rate = self.rate
        if rate is None:
            return None
        return (self._total - self._recent[-1][0]) / rate * self._overhead
