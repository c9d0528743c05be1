"""Seconds an iteration, by part: plain public-style code against the engine, side by side.

    python benchmarks/bench_step.py [--networks resnet18 small_cnn wrn32_10] [--rounds 3] [--quick]

Every variant lives in a process of its own, and the variants take turns, an iteration each, so that
a slow spell of the machine hits all alike. Medians are reported, by the clock, and of the processor
time of all threads ("CPU s"), in which other programs' turns on the cores do not count. Results: a
table on screen, ``benchmarks/out/step.json``: ``{network: {variant: {"seconds", "parts": {…},
…}}}``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from comparison.devices import Devices
from rich.console import Console
from rich.table import Table
from step_iterations import NETWORKS, PARTS, Setting, Variant, iterate, peak_memory, prepare

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.metrics.console import make_console

OUT = Path(__file__).parent / "out" / "step.json"


def variants(device: torch.device, compiled: bool) -> dict[str, Variant]:
    """The variants to compare."""
    auto = resolve_precision("auto", device)
    found = {"reference": Variant(None), "fp32": Variant("fp32"), "auto": Variant(auto)}
    if compiled:
        found |= {"fp32-compiled": Variant("fp32", True), "auto-compiled": Variant(auto, True)}
    return found


def measure(
    setting: Setting, device: torch.device, threads: int, rounds: int, compiled: bool
) -> dict[str, Any]:
    """The figures of one network, by variant."""
    compared, flop = variants(device, compiled), setting.flop()
    processes = {
        name: ProcessPoolExecutor(
            1, get_context("spawn"), prepare, (setting, variant, device, threads)
        )
        for name, variant in compared.items()
    }
    warm = {name: process.submit(iterate).result() for name, process in processes.items()}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            times[name].append(process.submit(iterate).result())
    results = figures(times, flop)
    for name, process in processes.items():
        results[name]["first_seconds"] = warm[name]["seconds"]
        results[name]["peak_memory_bytes"] = process.submit(peak_memory, device).result()
        process.shutdown()
    if compiled:
        built = results["auto-compiled"]
        built["break_even_flop"] = break_even_flop(results["auto"], built, flop)
    return results


def figures(times: dict[str, list[dict[str, float]]], flop: int) -> dict[str, Any]:
    """Medians by variant, from the parts of every iteration [s] and its work [FLOP]."""
    results: dict[str, Any] = {}
    for name, iterations in times.items():
        median = {key: statistics.median(each[key] for each in iterations) for key in iterations[0]}
        results[name] = {
            "seconds": median["seconds"],
            "processor_seconds": median["processor_seconds"],
            "parts": {part: median[part] for part in PARTS},
            "flop_per_second": flop / median["seconds"],
        }
    for each in results.values():
        each["ratio_to_reference"] = results["reference"]["seconds"] / each["seconds"]
    return results


def break_even_flop(plain: dict[str, Any], built: dict[str, Any], flop: int) -> float | None:
    """How long a run [FLOP] compiling has paid for itself after; None where it never has."""
    saved = plain["seconds"] - built["seconds"]
    cost = built["first_seconds"] - plain["first_seconds"]
    return flop * max(0.0, cost / saved) if saved > 0 else None


def show(setting: Setting, results: dict[str, Any], console: Console) -> None:
    """Print the table of one network."""
    words = f"batch {setting.batch_size}, PGD-{setting.attack.steps}"
    table = Table(title=f"{setting.spec.arch}: seconds an iteration ({words})")
    headings = ("variant", "seconds", "× reference", *PARTS, "GFLOP/s", "peak GB", "CPU s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, r in results.items():
        table.add_row(
            name, f"{r['seconds']:.3f}", f"{r['ratio_to_reference']:.2f}",
            *(f"{r['parts'][part]:.3f}" for part in PARTS), f"{r['flop_per_second'] / 1e9:.0f}",
            f"{r['peak_memory_bytes'] / 1e9:.2f}", f"{r['processor_seconds']:.3f}",
        )  # fmt: skip
    console.print(table)
    if (paid := results.get("auto-compiled", {}).get("break_even_flop")) is not None:
        console.print(f"compiling has paid for itself after {paid / 1e12:.0f} TFLOP")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, default=OUT, help="the file to write")
    option("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    option("--rounds", type=int, default=3, help="iterations of each variant")
    option("--no-compile", action="store_true", help="leave out what is compiled")
    option("--quick", action="store_true", help="2 images, 2 gradient steps: to see that it runs")
    option("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = make_console(width=None if sys.stdout.isatty() else 150)
    report: dict[str, Any] = {}
    for network in options.networks:
        setting = NETWORKS[network].quick() if options.quick else NETWORKS[network]
        report[network] = measure(
            setting, device, options.threads, options.rounds, not options.no_compile
        )
        show(setting, report[network], console)
    machine = Devices.detect("cuda" if device.type == "cuda" else "cpu").describe()
    console.print(f"{machine}; {options.threads} threads; torch {torch.__version__}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, report)
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
