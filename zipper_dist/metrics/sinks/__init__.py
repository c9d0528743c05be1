"""Where the metrics of a run go: a file here for each sink.

A new one is a class derived from :class:`Sink`, registered by name in a file of this package, or
given from outside: ``--metrics jsonl terminal my_package.module:MySink``.
"""

from __future__ import annotations

from collections.abc import Sequence

from zipper_dist.errors import UserError
from zipper_dist.metrics.sinks.base import RunInfo, Sink
from zipper_dist.registry import Registry

__all__ = ["SINKS", "RunInfo", "Sink", "make_sinks"]

SINKS: Registry[type[Sink]] = Registry("metrics sink", "zipper_dist.metrics.sinks")


def make_sinks(names: Sequence[str], option: str = "--metrics") -> list[Sink]:
    """The sinks of these names, in their order; a name may be several, separated by commas.

    Raises:
        UserError: an unknown name, or one that is no sink.
    """
    sinks = []
    for name in (part.strip() for given in names for part in given.split(",")):
        kind = SINKS.find(name, option)
        if not (isinstance(kind, type) and issubclass(kind, Sink)):
            raise UserError(
                f"{option} {name}: is not a class derived from zipper_dist.metrics.sinks.Sink"
            )
        sinks.append(kind())
    return sinks
