"""Checks that several options share; each yields a line if the value is wrong."""

from collections.abc import Iterator

from zipper_dist.config.schedules import Curve, Schedule

MOST = 10**9
"""The largest count: of iterations, images, pixels …"""
MOST_THREADS = 1024
"""PyTorch ends without a word where the system cannot start as many threads as it is told."""


def number(option: str, value: float, low: float, high: float) -> Iterator[str]:
    """``value`` must lie in ``low`` … ``high``."""
    if not low <= value <= high:  # nor NaN
        yield f"{option} {value}: give {low:g} … {high:g}"


def below_one(option: str, value: float, largest: float = 0.999999) -> Iterator[str]:
    """``value`` must lie in 0 … ``largest``."""
    if not 0 <= value <= largest:
        yield f"{option} {value}: give 0 … below 1"


def length(option: str, value: float | None) -> Iterator[str]:
    """``value``, if it is given, must be the length of a step."""
    if value is not None and not (0 < value <= 1000):
        yield f"{option} {value}: give above 0 and up to 1000, where 1 is the full pixel range"


def at_least_one(option: str, value: int | None, most: int = MOST) -> Iterator[str]:
    """``value``, if it is given, must be 1 or more, and at most ``most``."""
    if value is not None and value < 1:
        yield f"{option} {value}: give 1 or more"
    elif value is not None and value > most:
        yield f"{option} {value}: give at most {most}"


def values(option: str, schedule: Schedule | Curve, high: float = 1e6) -> Iterator[str]:
    """The values of ``schedule`` must lie in 0 … ``high``, and a curve must end with the run."""
    if isinstance(schedule, Curve) and not 0 <= schedule.rise < 1:
        yield f"{option} {schedule}: it must rise for a part of the run, 0 … below 1"
    elif min(schedule.values) < 0 or max(schedule.values) > high:
        yield f"{option} {schedule}: its values must lie in 0 … {high:g}"
