"""AutoAttack by one rank on one core against two ranks on two: how nearly twice as fast it is.

Both do the same work in turns, on a small network with images of MNIST; the fastest turn of each
counts. A command that finds everything done takes as long as starting and writing do: what the
attacks took is the rest. The verdicts have to be equal, image by image.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors

ATTACK = "--attacks aa --eps 0.15 --device cpu --threads 1 --no-picture"


@dataclass(frozen=True)
class Turn:
    """One evaluation, from nothing to its table."""

    ranks: int
    command_seconds: float
    attack_seconds: float
    """Without what the same command takes once everything is done."""
    processor_seconds: float
    """Of all ranks, for the attacks."""


def take_turn(run: Path, root: str, images: int, out: Path, cores: list[int]) -> Turn:
    """Evaluate with a rank for each of ``cores``."""
    shutil.rmtree(out, ignore_errors=True)
    launch = ["-m", "zipper_dist.launcher", "--standalone", f"--nproc_per_node={len(cores)}"]
    words = [
        *("taskset", "--cpu-list", ",".join(map(str, cores)), sys.executable),
        *(launch if len(cores) > 1 else []),
        *f"-m zipper_dist.evaluate {run} --data.root {root} --limit {images} --out {out}".split(),
        *ATTACK.split(),
    ]
    seconds, processor = [], []
    for _ in ("all the work", "none of it"):
        before, start = _processor_seconds(), time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
        processor.append(_processor_seconds() - before)
    return Turn(len(cores), seconds[0], seconds[0] - seconds[1], processor[0] - processor[1])


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def balance(out: Path, ranks: int) -> float:
    """The mean work of ranks over that of the busiest, by the passes over the network that were
    counted for each block: how nearly equal shares can be dealt."""
    work = [0.0] * ranks
    for file in (out / "evaluation").glob("*/*.safetensors"):
        with safetensors.safe_open(file, framework="pt") as content:
            spent = json.loads(content.metadata()["spent"])
        work[int(file.stem) % ranks] += spent["forwards"] + 2 * spent["gradients"]
    return sum(work) / (ranks * max(work))


def ranks_compared(run: Path, root: str, images: int, turns: int, out: Path) -> dict[str, Any]:
    """One rank and two, ``turns`` times each, in alternation."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two ranks take two cores, and there is one")
    load, taken, verdicts = os.getloadavg()[0], [], set()
    for number in range(turns):
        for used in (cores[:1], cores):
            taken.append(take_turn(run, root, images, out, used))
            verdicts.add((out / "evaluation.csv").read_bytes())
            print(f"turn {number + 1} of {turns}: {taken[-1]}", flush=True)
    if len(verdicts) != 1:
        sys.exit("one rank and two found different verdicts")
    one, two = ([turn for turn in taken if turn.ranks == ranks] for ranks in (1, 2))

    def ratio(field: str) -> float:
        """What the best turn of one rank took over what that of two took."""
        alone, shared = (min(getattr(turn, field) for turn in each) for each in (one, two))
        return float(alone / shared)

    shares = balance(out, 2)
    return {
        "images": images,
        "equal_verdicts": True,
        "efficiency": ratio("attack_seconds") / 2,
        "efficiency_of_command": ratio("command_seconds") / 2,
        "efficiency_by_processor_time": ratio("processor_seconds") * shares,
        "balance": shares,
        "load_before": load,
        "turns": [asdict(turn) for turn in taken],
    }
