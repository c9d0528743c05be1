"""What bf16 training costs in accuracy: the same runs in fp32 and in the precision of `auto`.

    make bench-precision [DATA=DIR] [ARGS='--seeds 3 --recipes digits mnist']

Trains every recipe in both precisions from several seeds, one thread a run and as many runs at a
time as there are cores, and compares clean and PGD-20 accuracy of the global learner on test
images, attacked in fp32. What is done is not done again; what was interrupted goes on. Results:
benchmarks/out/precision/table.md and table.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.files import write_atomically

OUT = Path(__file__).parent / "out" / "precision"

# Of MNIST a run that one core ends in minutes: half the width, a quarter of the gradient steps,
# each four times as long, and four thirds of an epoch.
RECIPES = {
    "digits": "digits",
    "mnist": """mnist --data.root {data} --steps 600 --model.width 0.5 --eval.every 300
        --mix.start 300 --mix.every 100 --mix.ema 0.99 --learners.adversarial.attack.steps 10
        --learners.adversarial.attack.step-size 0.04 --eval.limit 2000""",
}

Run = tuple[str, str, int]
"""Recipe, precision and seed."""


def command(run: Run, data: str) -> list[str]:
    """The training command of a run, without the interpreter."""
    recipe, precision, seed = run
    options = f"""--precision {precision} --compile off --seed {seed} --threads 1 --device cpu
        --run-dir {OUT / f"{recipe}-{precision}-seed{seed}"}"""
    return shlex.split("-m zipper_dist.train " + RECIPES[recipe].format(data=data) + " " + options)


def trained(run: Run, data: str) -> dict[str, float]:
    """Clean and robust accuracy of the global learner of a run, which is trained if it is not."""
    directory = OUT / "{}-{}-seed{}".format(*run)
    summary = directory / "summary.json"
    if not summary.exists():
        print("training", *run, flush=True)
        with (OUT / f"{directory.name}.log").open("w") as log:
            subprocess.run([sys.executable, *command(run, data)], check=True, stdout=log)
    final: dict[str, float] = json.loads(summary.read_text())["final"]["learners"]["global"]
    return {"clean": final["clean"], "robust": final["robust"]}


def table(found: dict[Run, dict[str, float]]) -> dict[str, Any]:
    """Mean, sample standard deviation and single values, by recipe, precision and figure."""
    result: dict[str, Any] = {}
    for recipe, precision, _ in found:
        mine = [v for (r, p, _), v in found.items() if (r, p) == (recipe, precision)]
        for figure in ("clean", "robust"):
            values = [v[figure] for v in mine]
            result.setdefault(recipe, {}).setdefault(precision, {})[figure] = {
                "mean": statistics.mean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
                "values": values,
            }
    return result


def markdown(results: dict[str, Any]) -> str:
    """The table as people read it."""
    lines = [
        "| recipe | precision | clean | PGD-20 | single runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for recipe, precisions in results.items():
        for precision, figures in precisions.items():
            cells = [
                f"{figures[f]['mean']:.2f} ± {figures[f]['std']:.2f}" for f in ("clean", "robust")
            ]
            single = ", ".join(
                f"{c:.2f}/{r:.2f}"
                for c, r in zip(
                    figures["clean"]["values"], figures["robust"]["values"], strict=True
                )
            )
            lines.append(f"| {recipe} | {precision} | {cells[0]} | {cells[1]} | {single} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each precision")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--data-root", default="data", help="directory with MNIST")
    options = parser.parse_args()
    auto = resolve_precision("auto", torch.device("cpu"))
    if auto == "fp32":
        sys.exit("this CPU multiplies no bf16 itself: `auto` is fp32 here, nothing to compare")
    OUT.mkdir(parents=True, exist_ok=True)
    runs = [
        (recipe, precision, seed)
        for recipe in options.recipes
        for seed in range(options.seeds)
        for precision in ("fp32", auto)
    ]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        ends = list(pool.map(lambda run: trained(run, options.data_root), runs))
    results = table(dict(zip(runs, ends, strict=True)))
    write_atomically(OUT / "table.json", (json.dumps(results, indent=2) + "\n").encode())
    text = markdown(results)
    write_atomically(OUT / "table.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
