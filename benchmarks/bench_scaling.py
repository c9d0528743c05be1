"""Seconds an iteration by placement, one core a rank, and what they would be on other machines.

    python benchmarks/bench_scaling.py [--networks small_cnn resnet18] [--quick] [--fresh]

All variants of a network run in turns of a few iterations, while the others sleep; every rank is a
process that trains as ``zipper_dist.train`` does. Interrupted, the same command goes on; complete,
it makes the page again. Results, in ``benchmarks/out/``: ``scaling.json`` (``{network: {variant:
{"seconds", …}}}``), ``scaling.md``, ``scaling.png``, and what it goes on from:
``scaling-turns.json``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from code_version import version_of_code
from comparison.devices import Devices
from rich.console import Console
from rich.table import Table
from scaling.cases import NETWORKS, Network
from scaling.measuring import Measured, measure
from scaling.page import HEAD, report, rows, write
from scaling.targets import targets

from zipper_dist.metrics.console import make_console

OUT = Path(__file__).parent / "out"


def show(network: Network, found: dict[str, Any], console: Console) -> None:
    """Print the tables of a network."""
    table = Table(title=f"{network.name}, batch {network.batch_size}: seconds an iteration")
    for heading in HEAD:
        table.add_column(heading, justify="left" if heading == HEAD[0] else "right")
    for row in rows(found, network):
        table.add_row(*row)
    console.print(table)
    table = Table("target", "wanted", "measured", "by turn", "", title=f"{network.name}: targets")
    for target in targets(found):
        table.add_row(*target.row())
    console.print(table)
    table = Table("variant", "model, s", "measured, s", "error", title=f"{network.name}: the model")
    for name, row in found["predicted"]["measured"]["rows"].items():
        seconds = found[name]["seconds"]
        table.add_row(name, f"{row['seconds']:.3f}", f"{seconds:.3f}", f"{row['error']:+.1%}")
    console.print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, default=OUT, help="the directory to write to")
    option("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    option("--quick", action="store_true", help="narrow networks, few images: to see that it runs")
    option("--fresh", action="store_true", help="measure again what is measured already")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        parser.error("needs two cores")
    console = make_console(width=None if sys.stdout.isatty() else 150)
    networks = [NETWORKS[name] for name in options.networks]
    if options.quick:
        networks = [network.quick() for network in networks]
    machine = Devices.detect("cpu").describe()
    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}"
    # Not the choice of networks: what was measured of others is kept.
    settings = {"quick": options.quick, "device": machine, "versions": versions}
    settings["code"] = version_of_code("scaling")
    settings["cases"] = {n: repr(e.quick() if options.quick else e) for n, e in NETWORKS.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    turns = options.out / "scaling-turns.json"
    if options.fresh:
        turns.unlink(missing_ok=True)
    measured = Measured(turns, settings)
    measure(networks, measured, cores, console.print, steps=2 if options.quick else None)
    figures = report(networks, measured)
    command = shlex.join(["python", "benchmarks/bench_scaling.py", *sys.argv[1:]])
    write(
        networks, figures, options.out,
        {"device": machine, "versions": versions, "command": command, "code": settings["code"]},
    )  # fmt: skip
    for network in networks:
        show(network, figures[network.name], console)
    console.print(f"{machine}; {versions}")
    console.print(f"written to {options.out}: scaling.md, scaling.png, scaling.json")


if __name__ == "__main__":
    main()
