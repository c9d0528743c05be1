"""Where the time of ranks goes: at work, waiting for other ranks, or for what is on its way."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """A message that a rank posts, does other work, waits for, and has; on the clock that all
    processes of a machine share [s]. The ranks that take part in a ``kind`` post the same ones in
    the same order."""

    kind: str
    posted: float
    waited: float
    done: float


@dataclass(frozen=True)
class RankBout:
    """Some iterations as one rank saw them; ``learners``: seconds of work on each."""

    begun: float
    ended: float
    spans: tuple[Span, ...]
    processor_seconds: float
    sent_bytes: int
    learners: Mapping[str, float]


def account(ranks: Sequence[RankBout], iterations: int, sync: str) -> dict[str, Any]:
    """Seconds of a bout, from the first rank's beginning to the last one's end, by rank.

    A rank that waits for a message waits for others until the last of them has posted it, and for
    communication from then on; one that is done before the others waits for them. ``stopped`` is
    the time at messages of the kind ``sync`` of the rank that spent least there: then all stood.
    ``sync_seconds``: what the largest of these messages took, once all had posted it.
    """
    begun, ended = min(each.begun for each in ranks), max(each.ended for each in ranks)
    posted: dict[tuple[str, int], list[float]] = defaultdict(list)
    for each in ranks:
        for key, span in _numbered(each.spans):
            posted[key].append(span.posted)
    waiting, communication, syncing = [], [], []
    travel = 0.0
    for each in ranks:
        wait, talk, at_sync = (each.begun - begun) + (ended - each.ended), 0.0, 0.0
        for key, span in _numbered(each.spans):
            ready = max(posted[key])
            wait += max(0.0, min(span.done, ready) - span.waited)
            talk += span.done - max(span.waited, min(span.done, ready))
            if span.kind == sync:
                at_sync += span.done - span.waited
                travel = max(travel, span.done - ready)
        waiting.append(wait)
        communication.append(talk)
        syncing.append(at_sync)
    return {
        "iterations": iterations,
        "seconds": ended - begun,
        "waiting": waiting,
        "communication": communication,
        "sync": syncing,
        "stopped": min(syncing) if len(ranks) > 1 else 0.0,
        "sync_seconds": travel if len(ranks) > 1 else 0.0,
        "processor": [each.processor_seconds for each in ranks],
        "sent_bytes": [each.sent_bytes for each in ranks],
        "learners": [dict(each.learners) for each in ranks],
    }


def _numbered(spans: Sequence[Span]) -> list[tuple[tuple[str, int], Span]]:
    """Each with its kind and its number among those of the kind."""
    counts: dict[str, int] = defaultdict(int)
    found = []
    for span in spans:
        found.append(((span.kind, counts[span.kind]), span))
        counts[span.kind] += 1
    return found


def summarise(bouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a variant: the median bout without what redistributions took, and the mean of
    that; shares of all time, by rank and on average."""
    count, total = sum(b["iterations"] for b in bouts), sum(b["seconds"] for b in bouts)
    stopped = sum(b["stopped"] for b in bouts) / count
    each = [(b["seconds"] - b["stopped"]) / b["iterations"] for b in bouts]
    shares = {
        what: [sum(rank) / total for rank in zip(*(b[what] for b in bouts), strict=True)]
        for what in ("waiting", "communication", "sync")
    }
    busy = [1 - w - c for w, c in zip(shares["waiting"], shares["communication"], strict=True)]
    names = dict.fromkeys(name for b in bouts for rank in b["learners"] for name in rank)
    learners = {  # together on all ranks, in the order of the method
        name: statistics.median(
            sum(rank.get(name, 0.0) for rank in b["learners"]) / b["iterations"] for b in bouts
        )
        for name in names
    }
    return {
        "seconds": statistics.median(each) + stopped,
        "iterations": count,
        "bouts": [b["seconds"] / b["iterations"] for b in bouts],
        "waiting": statistics.fmean(shares["waiting"]),
        "communication": statistics.fmean(shares["communication"]),
        "stopped_at_sync": stopped * count / total,
        "by_rank": {**shares, "busy": busy},
        "learners": learners,
        "processor_seconds": sum(sum(b["processor"]) for b in bouts) / count,
        "sent_bytes": max(map(max, (b["sent_bytes"] for b in bouts))),
        # Of the redistribution that least came between.
        "sync_seconds": min((s for b in bouts if (s := b["sync_seconds"]) > 0), default=0.0),
    }
