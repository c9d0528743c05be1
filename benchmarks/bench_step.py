"""Seconds an iteration, by part: plain public-style code against the engine, side by side.

    python benchmarks/bench_step.py [--networks resnet18 small_cnn wrn32_10] [--rounds 3]

Every variant lives in a process of its own, and the variants take turns, an iteration each, so that
a slow spell of the machine hits all alike. Medians are reported. Results: a table on screen and
``benchmarks/out/step.json``: ``{network: {variant: {"seconds", "parts", …}}}``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import platform
import statistics
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from step_settings import NETWORKS, Variant
from step_variants import matmul_rate, serve

from zipper_dist.compilation import resolve_compile
from zipper_dist.engine import resolve_precision
from zipper_dist.run_directory import write_json

OUT = Path(__file__).parent / "out" / "step.json"
RECIPE_STEPS = 40_000
PARTS = ("attack", "adversarial", "natural", "mixing", "data", "rest")


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

    def __init__(self, network: str, variant: Variant, device: str, threads: int) -> None:
        context = mp.get_context("spawn")
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, network, variant, device, threads), daemon=True
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
    network: str, device: torch.device, threads: int, rounds: int, compiled: bool
) -> dict[str, Any]:
    """The figures of one network, by variant."""
    compared = variants(device, compiled)
    workers = {
        name: Worker(network, variant, device.type, threads) for name, variant in compared.items()
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.ask("step"))
    flop = workers["fp32"].ask("count flop")["flop"]
    results: dict[str, Any] = {}
    for name, worker in workers.items():
        precision = compared[name].precision or "fp32"
        seconds = statistics.median(t["seconds"] for t in times[name])
        rate = matmul_rate(precision, device)
        results[name] = {
            "seconds": seconds,
            "parts": {part: statistics.median(t[part] for t in times[name]) for part in PARTS},
            "first_seconds": worker.first_seconds,
            "peak_memory_bytes": worker.ask("memory")["bytes"],
            "flop_per_second": flop / seconds,
            "share_of_matmul_rate": flop / seconds / rate,
            "ratio_to_reference": 0.0,
        }
    for figures in results.values():
        figures["ratio_to_reference"] = results["reference"]["seconds"] / figures["seconds"]
    plain, built = results["auto"], results.get("auto-compiled")
    if built is not None and built["seconds"] < plain["seconds"]:
        built["break_even_iterations"] = max(
            0.0,
            (built["first_seconds"] - plain["first_seconds"])
            / (plain["seconds"] - built["seconds"]),
        )
        built["break_even_flop"] = built["break_even_iterations"] * flop
    chosen, why = resolve_compile("auto", device, network, RECIPE_STEPS * flop)
    if compiled or not chosen:
        results["auto-default"] = results["auto-compiled" if chosen else "auto"] | {"choice": why}
    for worker in workers.values():
        worker.close()
    return results


def show(network: str, results: dict[str, Any], console: Console) -> None:
    """Print the table of one network."""
    table = Table(title=f"{network}: seconds an iteration ({NETWORKS[network].words()})")
    for heading in ("variant", "seconds", "× reference", *PARTS, "% of matmul", "peak GB"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, r in results.items():
        parts = [f"{r['parts'][part]:.3f}" for part in PARTS]
        table.add_row(
            name,
            f"{r['seconds']:.3f}",
            f"{r['ratio_to_reference']:.2f}",
            *parts,
            f"{100 * r['share_of_matmul_rate']:.0f}",
            f"{r['peak_memory_bytes'] / 1e9:.2f}",
        )
    console.print(table)
    paid = results.get("auto-compiled", {}).get("break_even_iterations")
    if paid is not None:
        console.print(
            f"compiling has paid for itself after {paid:.0f} iterations "
            f"({results['auto-compiled']['break_even_flop'] / 1e12:.0f} TFLOP)"
        )


def device_name(device: torch.device) -> str:
    """What was measured, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    amx = " with AMX" if torch.cpu._is_amx_tile_supported() else ""
    return f"{len(names)} cores {names[0]}{amx}" if names else platform.machine()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="iterations of each variant")
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console(width=None if sys.stdout.isatty() else 120)
    report: dict[str, Any] = {}
    for network in options.networks:
        report[network] = measure(
            network, device, options.threads, options.rounds, not options.no_compile
        )
        show(network, report[network], console)
    about = {
        "device": device_name(device),
        "threads": options.threads,
        "torch": torch.__version__,
        "matmul_flop_per_second": {
            precision: matmul_rate(precision, device)
            for precision in ("fp32", resolve_precision("auto", device))
        },
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_json(OUT, report | {"about": about})
    console.print(json.dumps(about))
    console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
