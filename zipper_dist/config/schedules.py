"""Schedules over a run, and intervals of it, as options."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def _written(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


@dataclass(frozen=True)
class Schedule:
    """A piecewise-linear function of the run's progress, which goes from 0 to 1.

    Written as a number (``0.5``: constant) or as points ``progress:value,…`` joined by straight
    lines (``0:1,0.667:1,1:0.4``). Before the first point and after the last it is constant.
    """

    points: tuple[tuple[float, float], ...]

    @staticmethod
    def parse(text: str) -> Schedule:
        """Read a schedule; raises ValueError if ``text`` is none."""
        try:
            if ":" not in text:
                points = [(0.0, float(text))]
            else:
                pairs = [point.split(":") for point in text.split(",")]
                points = [(float(at), float(value)) for at, value in pairs]
        except ValueError:
            wanted = "give a number, or points progress:value,… such as 0:1,0.667:1,1:0.4"
            raise ValueError(f"{text!r} is not a schedule: {wanted}") from None
        progress = [at for at, _ in points]
        problem = ""
        if not all(math.isfinite(number) for point in points for number in point):
            problem = "its numbers must be finite"
        elif any(b <= a for a, b in itertools.pairwise(progress)):
            problem = "progress must increase from point to point"
        elif progress[0] < 0 or progress[-1] > 1:
            problem = "progress must lie in 0 … 1"
        if problem:
            raise ValueError(f"{text!r} is not a schedule: {problem}")
        return Schedule(tuple(points))

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        points = self.points
        right = bisect.bisect_left([at for at, _ in points], progress)
        if right == 0:
            return points[0][1]
        if right == len(points):
            return points[-1][1]
        (x0, y0), (x1, y1) = points[right - 1], points[right]
        value = y0 + (y1 - y0) * (progress - x0) / (x1 - x0)
        return min(max(value, min(y0, y1)), max(y0, y1))

    @property
    def values(self) -> tuple[float, ...]:
        """The values at the points, between whose extremes the function lies."""
        return tuple(value for _, value in self.points)

    def __str__(self) -> str:
        if len(self.points) == 1:
            return _written(self.points[0][1])
        return ",".join(f"{_written(at)}:{_written(value)}" for at, value in self.points)


CurveKind = Literal["cosine", "one-cycle"]
RISE: dict[CurveKind, float] = {"cosine": 0.0, "one-cycle": 0.3}
"""The kinds, and the part of the run that they rise for where nothing is said."""
FIRST, LAST = 1 / 25, 1 / 25e4
"""Where a one-cycle schedule begins and ends, as torch's ``OneCycleLR`` does by default."""


@dataclass(frozen=True)
class Curve:
    """Rises to 1 over the first part of the run, ``rise``, and then falls along half a cosine.

    ``cosine`` rises from 0 along a straight line (a warm-up) and falls to 0: Loshchilov and Hutter,
    arXiv:1608.03983. ``one-cycle`` rises from 1/25 along half a cosine and falls to 1/250,000:
    Smith and Topin, arXiv:1708.07120, as in torch. Written ``cosine``, ``cosine:0.05``,
    ``one-cycle`` (0.3) and ``one-cycle:0.2``.
    """

    kind: CurveKind
    rise: float = 0.0

    def __call__(self, progress: float) -> float:
        """The value at ``progress``, 0 … 1."""
        first, last = (0.0, 0.0) if self.kind == "cosine" else (FIRST, LAST)
        if progress >= self.rise:
            return _half_cosine(1.0, last, (progress - self.rise) / (1 - self.rise))
        if self.kind == "cosine":
            return progress / self.rise
        return _half_cosine(first, 1.0, progress / self.rise)

    @property
    def values(self) -> tuple[float, ...]:
        """The extremes."""
        return (0.0 if self.kind == "cosine" else LAST, 1.0)

    def __str__(self) -> str:
        return self.kind if self.rise == RISE[self.kind] else f"{self.kind}:{self.rise!r}"


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(part, 1.0))) / 2


def parse_rate(text: str) -> Schedule | Curve:
    """Read the schedule of a learning rate; raises ValueError if ``text`` is none."""
    kind, _, rise = text.partition(":")
    for known, usual in RISE.items():
        if kind == known:
            try:
                curve = Curve(known, float(rise) if ":" in text else usual)
            except ValueError:
                curve = Curve(known, -1.0)
            if 0 <= curve.rise < 1:
                return curve
            raise ValueError(
                f"{text!r} is not a schedule: after {kind}: give the part of the run that the rate "
                "rises for, 0 … below 1"
            )
    try:
        return Schedule.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; or cosine, cosine:0.05, one-cycle, one-cycle:0.3") from None


def progress_at(t: int, total: int, held: int = 1) -> float:
    """The progress 0 … 1 of a run of ``total`` iterations at iteration ``t``, for its schedules,
    which stand still for ``held`` iterations at a time: at the last of these."""
    return min(total, -(-t // held) * held) / total


Unit = Literal["iterations", "epochs", "progress", "auto"]


@dataclass(frozen=True)
class Interval:
    """Iterations (``500``), epochs (``5ep``), or a fraction of the run (``0.625``, ``1.0``)."""

    amount: float
    unit: Unit

    @staticmethod
    def parse(text: str) -> Interval:
        """Read an interval; raises ValueError if ``text`` is none."""
        wanted = "give iterations (500), epochs (5ep) or a fraction of the run (0.625)"
        try:
            if text.endswith("ep"):
                interval = epochs(float(text[:-2]))
            elif text.lstrip("+-").isdecimal():
                interval = iterations(int(text))
            else:
                interval = progress(float(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an interval: {wanted}") from None
        if not 0 <= interval.amount < 1e18:
            raise ValueError(f"{text!r} is not an interval: it must be 0 or more; {wanted}")
        if interval.unit == "progress" and interval.amount > 1:
            problem = f"a fraction of the run must be at most 1.0; {wanted}"
            raise ValueError(f"{text!r} is not an interval: {problem}")
        return interval

    def iterations(self, steps_per_epoch: int, total_steps: int) -> int:
        """The interval in iterations; one that is not 0 is at least one iteration."""
        of = {"iterations": 1, "epochs": steps_per_epoch, "progress": total_steps}[self.unit]
        rounded = round(self.amount * of)
        return max(1, rounded) if self.amount > 0 else 0

    def __str__(self) -> str:
        if self.unit == "auto":
            return "auto"
        if self.unit == "progress":
            return repr(float(self.amount))
        return f"{_written(self.amount)}ep" if self.unit == "epochs" else str(int(self.amount))


def iterations(count: int) -> Interval:
    """An interval of so many iterations."""
    return Interval(count, "iterations")


def epochs(count: float) -> Interval:
    """An interval of so many passes over the training set."""
    return Interval(count, "epochs")


def progress(fraction: float) -> Interval:
    """An interval of this part of the run, 0 … 1."""
    return Interval(fraction, "progress")


AUTO = Interval(1, "auto")
"""An interval that its option says how to find."""


def interval_or_auto(text: str) -> Interval:
    """Read an interval, or ``auto``; raises ValueError if ``text`` is neither."""
    try:
        return AUTO if text == "auto" else Interval.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


T = TypeVar("T")


def one_word(
    kind: type[T] | tuple[type[T], ...], parse: Callable[[str], T], metavar: str
) -> PrimitiveConstructorSpec[T]:
    """How the parser reads and shows an option of class ``kind``, which is one word."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda args: parse(args[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


_SCHEDULE = one_word(Schedule, Schedule.parse, "NUMBER|P:V,…")
ScheduleOption = Annotated[Schedule, _SCHEDULE]
IntervalOption = Annotated[Interval, one_word(Interval, Interval.parse, "N|Nep|0.N")]
IntervalOrAutoOption = Annotated[Interval, one_word(Interval, interval_or_auto, "auto|N|Nep|0.N")]

RateOption = Annotated[
    Schedule | Curve, one_word((Schedule, Curve), parse_rate, "NUMBER|P:V,…|cosine|one-cycle")
]

OPTION_TYPES = ConstructorRegistry()
"""For the parser: a schedule in a dict is one option, too."""


@OPTION_TYPES.primitive_rule
def _schedule_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Schedule] | None:
    return _SCHEDULE if info.type is Schedule else None
