"""The model of one network: against what was measured, and for machines that were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from scaling.cases import Network
from scaling.model import Cost, Link, Workload
from zipper_dist.config.placement import Mode

POLL = 1e-4  # latency on one machine [s]: how long a rank sleeps between two looks, and a message
LOOPBACK = 1e9  # bytes/s, where no sum was measured
NVLINK = Link("NVLink, one machine (300 GB/s, 5 µs)", 300e9, 5e-6)
ETHERNET = Link("25 Gbit/s between machines (30 µs)", 25e9 / 8, 30e-6)
HOMES = Link("100 Mbit/s between two homes (20 ms)", 100e6 / 8, 20e-3)
RANKS = (1, 2, 4, 8, 16, 64)
MODES: Sequence[Mode] = ("dedicated", "shared", "balanced")
FIXED_SHARES = (0.0, 0.5)
"""Of the cost of a learner's iteration on a GPU, assumed: what a smaller shard does not save."""


def workload(found: Mapping[str, Any], weights: int, every: int) -> Workload:
    """Zipper's costs on one core, from the serial variants."""
    one, two = found["serial"], found["serial-2-shards"]
    learners = {
        name: Cost.fitted(seconds, two["learners"][name])
        for name, seconds in one["learners"].items()
    }
    rest = max(0.0, one["seconds"] - sum(one["learners"].values()))
    return Workload(learners, rest, weights, every)


def alone(found: Mapping[str, Any], weights: int) -> Workload:
    """TRADES' costs on one core, of two shards."""
    one = found["trades-1"]
    learners = {name: Cost(0.0, seconds) for name, seconds in one["learners"].items()}
    rest = max(0.0, one["seconds"] - sum(one["learners"].values()))
    return Workload(learners, rest, weights, every=0)


def loopback(found: Mapping[str, Any], weights: int) -> Link:
    """The link between two cores, from the redistributions of ``dedicated-2``; what computes is
    what sends, so that nothing overlaps."""
    seconds = found["dedicated-2"]["sync_seconds"] - 2 * POLL
    bandwidth = weights / seconds if seconds > 0 else LOOPBACK
    return Link("two cores of one machine", bandwidth, POLL, overlaps=False)


def checked(found: Mapping[str, Any], weights: int, every: int) -> dict[str, Any]:
    """Predicted beside measured seconds on one and two cores; ``error`` relative to measured."""
    zipper, trades, link = (
        workload(found, weights, every),
        alone(found, weights),
        loopback(found, weights),
    )
    cases: list[tuple[str, Workload, Mode, int, int]] = [
        ("serial", zipper, "dedicated", 1, 1),
        ("serial-2-shards", zipper, "dedicated", 1, 2),
        ("dedicated-2", zipper, "dedicated", 2, 1),
        ("shared-2", zipper, "shared", 2, 2),
        ("balanced-2", zipper, "balanced", 2, 2),
        ("trades-1", trades, "shared", 1, 2),
        ("trades-2", trades, "shared", 2, 2),
    ]
    rows = {}
    for name, load, mode, ranks, shards in cases:
        seconds = load.predict(load.assign(mode, ranks, shards), link)
        measured = found[name]["seconds"]
        rows[name] = {"seconds": seconds, "error": seconds / measured - 1}
    return {
        "link": {"bandwidth": link.bandwidth, "latency": link.latency},
        "costs": {name: asdict(cost) for name, cost in zipper.learners.items()},
        "rest": zipper.rest,
        "rows": rows,
    }


def scaled(load: Workload, seconds: float, fixed: float) -> Workload:
    """The same learners with an iteration of ``seconds`` in all, of which the part ``fixed`` is
    there for every shard, however small."""
    whole = {name: cost.of(1, 1) for name, cost in load.learners.items()}
    factor = seconds / sum(whole.values())
    costs = {n: Cost(fixed * factor * c, (1 - fixed) * factor * c) for n, c in whole.items()}
    return replace(load, learners=costs, rest=0.0)


def speedup(load: Workload, mode: Mode, ranks: int, link: Link) -> float:
    """Over one rank and one shard, in the time for the same number of images."""
    alone = load.predict(load.assign(mode, 1, 1), link)
    return alone / load.predict(load.assign(mode, ranks, load.shards(mode, ranks)), link)


def gpus(load: Workload, seconds: float, batch_size: int) -> list[dict[str, Any]]:
    """Speed-up by link, placement and the fixed part of the costs, for each of :data:`RANKS`;
    ``seconds``: of an iteration on one. ``images``: of a shard."""
    return [
        {
            "link": link.name,
            "mode": mode,
            "fixed": fixed,
            "images": {str(ranks): batch_size // load.shards(mode, ranks) for ranks in RANKS},
            "speedup": {
                str(ranks): speedup(scaled(load, seconds, fixed), mode, ranks, link)
                for ranks in RANKS
            },
        }
        for link in (NVLINK, ETHERNET)
        for mode in MODES
        for fixed in FIXED_SHARES
    ]


def homes(load: Workload, gpu_seconds: float | None) -> list[dict[str, Any]]:
    """Two ranks at two homes: on cores as measured here, and on GPUs as assumed, if they are."""
    rows = []
    loads = {"cores": load}
    if gpu_seconds is not None:
        loads["gpus"] = scaled(load, gpu_seconds, 0.0)
    for what, each in loads.items():
        serial = each.predict(each.assign("dedicated", 1, 1), HOMES)
        for mode in MODES[:2]:
            assignment = each.assign(mode, 2, each.shards(mode, 2))
            seconds = each.predict(assignment, HOMES)
            rows.append({"on": what, "mode": mode, "seconds": seconds, "speedup": serial / seconds})
    return rows


def predicted(found: Mapping[str, Any], weights: int, network: Network) -> dict[str, Any]:
    """Everything that the model says of a network."""
    load = workload(found, weights, network.every)
    seconds = network.gpu_seconds
    return {
        "measured": checked(found, weights, network.every),
        "gpus": gpus(load, seconds, network.batch_size) if seconds is not None else [],
        "homes": homes(load, seconds),
    }
