"""What bf16 training costs in accuracy: the same runs in fp32 and in the precision of `auto`.

    make bench-precision [DATA=DIR] [ARGS='--seeds 3 --recipes digits mnist']

Trains every recipe in both precisions from several seeds, one core a run, and compares clean and
PGD-20 accuracy of the global learner on test images, attacked in fp32. What is done is not done
again; what was interrupted goes on. Results: page.md and table.json in benchmarks/out/precision/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from bench_time import OUT, carry_out
from comparison.commands import DATA_ROOT, Settings
from comparison.devices import Devices
from comparison.experiments import Attacks, Experiment, Images, Options, Row, options
from comparison.jobs import Runner
from rich.console import Console

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.config.command_line import run_command

# Of MNIST a run that one core ends in minutes: half the width, a quarter of the gradient steps,
# each four times as long, and four thirds of an epoch.
RECIPES: dict[str, Options] = {
    "digits": (),
    "mnist": options(
        """--steps 600 --model.width 0.5 --eval.every 300 --eval.limit 2000 --mix.start 300
        --mix.every 100 --mix.ema 0.99 --learners.adversarial.attack.steps 10
        --learners.adversarial.attack.step-size 0.04"""
    ),
}


def experiment(recipe: str, precisions: tuple[str, ...]) -> Experiment:
    """``recipe`` in several precisions, as a row each."""
    rows = tuple(Row(each, each, recipe, options(f"--precision {each}")) for each in precisions)
    attacks = (Attacks(("clean", "pgd-20"), Images(2000)),)
    common = (*options("--compile off"), *RECIPES[recipe])
    return Experiment(recipe, f"{recipe}: training in {' and '.join(precisions)}", recipe, rows,
                      attacks, common)  # fmt: skip


def main() -> None:
    """Entry point of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each precision")
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, help="directory with MNIST")
    given = parser.parse_args()
    auto = resolve_precision("auto", torch.device("cpu"))
    if auto == "fp32":
        sys.exit("this CPU multiplies no bf16 itself: `auto` is fp32 here, nothing to compare")
    console = Console()
    runner = Runner(Devices.detect("cpu"), console)
    settings = Settings(OUT.with_name("precision"), given.seeds, given.data_root)
    compared = [experiment(recipe, ("fp32", auto)) for recipe in given.recipes]
    run_command(lambda: carry_out(compared, settings, runner, console))


if __name__ == "__main__":
    main()
