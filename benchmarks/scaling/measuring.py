"""Measures all variants in turns, and keeps every turn, so that it can be interrupted."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.cases import EQUAL, UNEQUAL, Network, Variant
from scaling.crew import Crew, busy_loop
from zipper_dist.checkpoint.run_directory import write_json

STAGES: Mapping[str, Sequence[Variant]] = {"equal": EQUAL, "unequal": UNEQUAL}

WARM_UP = 1  # iterations of each process before it is measured


@dataclass
class Measured:
    """What has been measured, in a file: bouts by network, stage and variant. ``settings`` that
    differ from those of the file make it start anew."""

    path: Path
    settings: Mapping[str, Any]
    bouts: dict[str, dict[str, dict[str, list[Any]]]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            there = json.loads(self.path.read_text())
        if there.get("settings") == json.loads(json.dumps(self.settings)):
            self.bouts, self.about = there["bouts"], there["about"]

    def of(self, network: str, stage: str) -> dict[str, list[Any]]:
        """The bouts of each variant of a stage."""
        found = self.bouts.setdefault(network, {}).setdefault(stage, {})
        return {each.name: found.setdefault(each.name, []) for each in STAGES[stage]}

    def save(self) -> None:
        """Write the file."""
        found = {"settings": self.settings, "bouts": self.bouts, "about": self.about}
        write_json(self.path, found)


def turns(network: Network, stage: str) -> int:
    """How often each variant of a stage takes its turn."""
    wanted = network.iterations if stage == "equal" else network.unequal_iterations
    return wanted // network.bout


@dataclass
class Pace:
    """Time left, from the turns that were taken; a unit is a turn of all variants of a network."""

    say: Callable[[str], None]
    planned: dict[tuple[str, str], int]  # turns that are left, by network and stage
    taken: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # seconds of each

    def turn(self, network: Network, stage: str, seconds: float) -> None:
        """All variants of a stage have had a turn, which took so long."""
        key = (network.name, stage)
        self.taken.setdefault(key, []).append(seconds)
        self.planned[key] -= 1
        count = len(self.taken[key])
        self.say(
            f"{network.name}, {stage} ranks: turn {count} of {count + self.planned[key]} took "
            f"{seconds:.0f} s{self._left()}"
        )

    def _left(self) -> str:
        mean = {key: sum(each) / len(each) for key, each in self.taken.items()}
        left = sum(mean[key] * count for key, count in self.planned.items() if key in mean)
        unknown = sum(count for key, count in self.planned.items() if key not in mean)
        more = f" and {unknown} turns whose time is not known yet" if unknown else ""
        return f"; left: {left / 60:.1f} min{more}" if left or unknown else ""


def measure(
    networks: Sequence[Network],
    measured: Measured,
    cores: Sequence[int],
    say: Callable[[str], None],
    steps: int | None = None,
) -> None:
    """Measure what has not been measured yet."""
    todo = [
        (network, stage)
        for network in networks
        for stage in STAGES
        if _done(measured.of(network.name, stage)) < turns(network, stage)
    ]
    left = {(n.name, s): turns(n, s) - _done(measured.of(n.name, s)) for n, s in todo}
    pace = Pace(say, left)
    for network, stage in todo:
        bouts = measured.of(network.name, stage)
        done = _done(bouts)
        for each in bouts.values():
            del each[done:]  # of a turn that was interrupted
        say(f"{network.name}, {stage} ranks: starting {len(bouts)} variants …")
        with _crews(network, stage, cores, done * network.bout, steps) as crews:
            about = {name: crew.about for name, crew in crews.items()}
            if measured.about.get(network.name, {}).get(stage, about) != about:
                # Costs were measured anew, and shards assigned in another way; turns are paired.
                say(f"{network.name}, {stage} ranks: other shards than before; measuring anew")
                for each in bouts.values():
                    each.clear()
                pace.planned[network.name, stage] += done
                done = 0
            measured.about.setdefault(network.name, {})[stage] = about
            for _ in range(turns(network, stage) - done):
                begun = time.perf_counter()
                for name, crew in crews.items():
                    with busy_loop(cores[1], stage == "unequal"):
                        bouts[name].append(crew.run(network.bout))
                measured.save()
                pace.turn(network, stage, time.perf_counter() - begun)


def _done(bouts: Mapping[str, Sequence[Any]]) -> int:
    """Turns that every variant has taken."""
    return min(map(len, bouts.values()))


@contextlib.contextmanager
def _crews(
    network: Network, stage: str, cores: Sequence[int], done: int, steps: int | None
) -> Iterator[dict[str, Crew]]:
    """The variants of a stage, by name, each started and warmed up while nothing else runs."""
    with contextlib.ExitStack() as opened:
        crews = {}
        for variant in STAGES[stage]:
            with busy_loop(cores[1], stage == "unequal"):
                crew = opened.enter_context(Crew(network, variant, cores, done, steps))
                crew.run(WARM_UP)
            crews[variant.name] = crew
        yield crews
