"""Seconds an iteration, by part: plain public-style code against the engine, side by side.

    python benchmarks/bench_step.py [--networks resnet18 small_cnn wrn32_10] [--rounds 3] [--quick]

Every variant lives in a process of its own, and the variants take turns, an iteration each, so that
a slow spell of the machine hits all alike. Medians are reported, by the clock, and of the processor
time of all threads ("CPU s"), in which other programs' turns on the cores do not count. Results: a
table on screen, ``benchmarks/out/step.json``: ``{network: {variant: {"seconds", "parts": {…},
…}}}``, and beside it ``step-machine.json``: what was measured on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import statistics
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from comparison.devices import Devices
from rich.console import Console
from rich.table import Table
from step_settings import NETWORKS, PARTS, Setting, Variant
from step_variants import matmul_rate, serve

from zipper_dist.accel.compilation import resolve_compile
from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.run_directory import write_json

OUT = Path(__file__).parent / "out" / "step.json"
RECIPE_STEPS = 40_000


def variants(device: torch.device, compiled: bool) -> dict[str, Variant]:
    """The variants to compare; ``auto-default`` is one of them by another name."""
    auto = resolve_precision("auto", device)
    every = {
        "reference": Variant(None, False),
        "fp32": Variant("fp32", False),
        "fp32-compiled": Variant("fp32", True),
        "auto": Variant(auto, False),
        "auto-compiled": Variant(auto, True),
    }
    return {name: v for name, v in every.items() if compiled or not v.compiled}


class Worker:
    """A variant in its own process."""

    def __init__(self, setting: Setting, variant: Variant, device: str, threads: int) -> None:
        context = mp.get_context("spawn")
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, setting, variant, device, threads), daemon=True
        )
        self._process.start()
        self.first_seconds: float = self.ask("warm up")["seconds"]

    def ask(self, what: str) -> dict[str, Any]:
        """Have it do something and wait for the answer."""
        self._pipe.send(what)
        answer: dict[str, Any] = self._pipe.recv()
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join()


def measure(
    setting: Setting, device: torch.device, threads: int, rounds: int, compiled: bool
) -> dict[str, Any]:
    """The figures of one network, by variant."""
    compared = variants(device, compiled)
    workers = {
        name: Worker(setting, variant, device.type, threads) for name, variant in compared.items()
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.ask("step"))
    flop = workers["fp32"].ask("count flop")["flop"]
    rates = {
        name: matmul_rate(variant.precision or "fp32", device) for name, variant in compared.items()
    }
    results = figures(times, rates, flop)
    for name, worker in workers.items():
        results[name]["first_seconds"] = worker.first_seconds
        results[name]["peak_memory_bytes"] = worker.ask("memory")["bytes"]
        worker.close()
    add_break_even(results, flop)
    chosen, why = resolve_compile("auto", device, setting.spec.arch, RECIPE_STEPS * flop)
    if compiled or not chosen:
        results["auto-default"] = results["auto-compiled" if chosen else "auto"] | {"choice": why}
    return results


def figures(
    times: dict[str, list[dict[str, float]]], rates: dict[str, float], flop: int
) -> dict[str, Any]:
    """Medians by variant, from the parts of every iteration [s], the machine's rate of matrix
    products in the variant's precision [FLOP/s] and the work of an iteration [FLOP]."""
    results: dict[str, Any] = {}
    for name, iterations in times.items():
        seconds = statistics.median(each["seconds"] for each in iterations)
        results[name] = {
            "seconds": seconds,
            "processor_seconds": statistics.median(
                each["processor_seconds"] for each in iterations
            ),
            "parts": {part: statistics.median(each[part] for each in iterations) for part in PARTS},
            "flop_per_second": flop / seconds,
            "share_of_matmul_rate": flop / seconds / rates[name],
        }
    for each in results.values():
        each["ratio_to_reference"] = results["reference"]["seconds"] / each["seconds"]
    return results


def add_break_even(results: dict[str, Any], flop: int) -> None:
    """Say of compiled code that is faster after how long a run it has paid for itself."""
    plain, built = results["auto"], results.get("auto-compiled")
    if built is None or built["seconds"] >= plain["seconds"]:
        return
    cost = built["first_seconds"] - plain["first_seconds"]
    iterations = max(0.0, cost / (plain["seconds"] - built["seconds"]))
    built["break_even_iterations"] = iterations
    built["break_even_flop"] = iterations * flop


def show(setting: Setting, results: dict[str, Any], console: Console) -> None:
    """Print the table of one network."""
    table = Table(title=f"{setting.spec.arch}: seconds an iteration ({setting.words()})")
    for heading in (
        "variant",
        "seconds",
        "× reference",
        *PARTS,
        "GFLOP/s",
        "% of matmul",
        "peak GB",
        "CPU s",
    ):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, r in results.items():
        parts = [f"{r['parts'][part]:.3f}" for part in PARTS]
        table.add_row(
            name,
            f"{r['seconds']:.3f}",
            f"{r['ratio_to_reference']:.2f}",
            *parts,
            f"{r['flop_per_second'] / 1e9:.0f}",
            f"{100 * r['share_of_matmul_rate']:.0f}",
            f"{r['peak_memory_bytes'] / 1e9:.2f}",
            f"{r['processor_seconds']:.3f}",
        )
    console.print(table)
    paid = results.get("auto-compiled", {}).get("break_even_iterations")
    if paid is not None:
        console.print(
            f"compiling has paid for itself after {paid:.0f} iterations "
            f"({results['auto-compiled']['break_even_flop'] / 1e12:.0f} TFLOP)"
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write")
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="iterations of each variant")
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled")
    parser.add_argument(
        "--quick", action="store_true", help="2 images and 2 gradient steps: to see that it runs"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console(width=None if sys.stdout.isatty() else 150)
    report: dict[str, Any] = {}
    for network in options.networks:
        setting = NETWORKS[network].quick() if options.quick else NETWORKS[network]
        report[network] = measure(
            setting, device, options.threads, options.rounds, not options.no_compile
        )
        show(setting, report[network], console)
    about = {
        "device": Devices.detect("cuda" if device.type == "cuda" else "cpu").describe(),
        "threads": options.threads,
        "torch": torch.__version__,
        "matmul_flop_per_second": {
            precision: matmul_rate(precision, device)
            for precision in ("fp32", resolve_precision("auto", device))
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, report)
    write_json(options.out.with_name("step-machine.json"), about)
    console.print(json.dumps(about))
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
