"""Runs training over the stub in processes of its own, and judges what it asked of the GPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from end_to_end.commands import typed

import zipper_dist
from gpu_dry_run.watching import PARTS, Counts

PATIENCE = 300.0  # [s]
TESTS = Path(__file__).parents[1]

SMALL = typed("""
    digits --device cuda --steps 2 --batch-size 8 --log-every 100
    --data.limit 64 --data.image-size 16 --data.crop-padding 2 --data.flip --data.validation 16
    --model.width 0.0625 --learners.adversarial.attack.steps 2 --eval.attack-steps 1 --eval.limit 2
    --eval.every 100 --mix.every 100 --mix.start 100
""")
"""Options of a small run without looks and redistributions."""

Run = Mapping[int, Counts]
"""What a run asked of the GPU, by iteration; 0 is what came before the first."""

Allowed = dict[tuple[str, str], int]
"""Of a counter in a part of an iteration, at most so many."""

COPIES: Allowed = {("data", "copies to the GPU"): 1, ("reading", "copies to the host"): 2}
"""The plan of the minibatch, and loss and right answers of each learner. None is waited for."""


def rehearse(
    stub: Path, jobs: Mapping[str, Sequence[str]], at: Path, ranks: int = 1, gpus: int = 1
) -> list[dict[str, Run]]:
    """What jobs (options by name) asked of the GPU, by rank and name of the job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [[name, [*options, "--run-dir", str(at / name)]] for name, options in jobs.items()]
    package = Path(zipper_dist.__file__).parents[1]
    common = {
        "PYTHONPATH": f"{package}{os.pathsep}{TESTS}",
        "LD_PRELOAD": str(stub),
        "DRY_RUN_GPUS": str(gpus),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    started = []
    for rank in range(ranks):
        command = [sys.executable, "-m", "gpu_dry_run.rehearse", json.dumps(given)]
        with (at / f"output-{rank}").open("wb") as output:
            started.append(
                subprocess.Popen(
                    [*command, str(at / f"report-{rank}.json")],
                    env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        statuses = [process.wait(PATIENCE) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for rank, status in enumerate(statuses):
        said = (at / f"output-{rank}").read_text()
        assert status == 0, f"rank {rank} ended with status {status}:\n{said[-4000:]}"
    return [_read(at / f"report-{rank}.json") for rank in range(ranks)]


def _read(report: Path) -> dict[str, Run]:
    found = json.loads(report.read_text())
    return {name: {int(t): counts for t, counts in run.items()} for name, run in found.items()}


def problems(run: Run, allowed: Allowed) -> list[str]:
    """Where an iteration copies more between host and GPU than ``allowed``, or the host waits."""
    assert max(run) > 1
    found = []
    for t, parts in run.items():
        # What an optimizer keeps, say, is made in the first iteration.
        for part in PARTS if t > 1 else ():
            for counter, operations in parts.get(part, {}).items():
                if counter in ("launches", "copies within"):
                    continue
                count, most = sum(operations.values()), allowed.get((part, counter), 0)
                if count > most:
                    by = ", ".join(f"{name} {n}" for name, n in operations.items())
                    found.append(f"iteration {t}, {part}: {count} {counter}, not {most} ({by})")
    return found


def launches(parts: Counts) -> dict[str, dict[str, int]]:
    """By part of an iteration and operation: kernels, and copies and fills within the GPU."""
    found: dict[str, dict[str, int]] = {}
    for part in PARTS:
        operations = found.setdefault(part, {})
        for counter in ("launches", "copies within"):
            for name, count in parts.get(part, {}).get(counter, {}).items():
                operations[name] = operations.get(name, 0) + count
    return found


def over_budget(
    found: Mapping[str, Mapping[str, int]], budget: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """The parts that do not take as many launches as in the ``budget``, and by which operations."""
    said = []
    for part in sorted({*found, *budget}):
        now, then = found.get(part, {}), budget.get(part, {})
        if sum(now.values()) != sum(then.values()):
            changes = {name: now.get(name, 0) - then.get(name, 0) for name in sorted({*now, *then})}
            by = ", ".join(f"{name} {change:+}" for name, change in changes.items() if change)
            took, should = sum(now.values()), sum(then.values())
            said.append(f"{part}: {took} launches, the budget is {should} ({by})")
    return said
