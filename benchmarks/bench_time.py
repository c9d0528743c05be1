"""What Zipper costs and gives beside other methods, on equal hardware: `make bench-time`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from comparison.campaign import Campaign
from comparison.devices import Devices, describe
from comparison.experiments import (
    Experiment,
    Options,
    Sweep,
    experiment,
    last_gamma,
    trades_row,
    with_methods,
    zipper_row,
)
from comparison.page import print_summary, write_page
from comparison.runner import Runner
from rich.console import Console

from zipper_dist.cli import parse_options, parse_train_options, run_command
from zipper_dist.config import Device
from zipper_dist.data import fetch
from zipper_dist.errors import UserError
from zipper_dist.validation import validate

# Relative, so that the printed commands can be typed on another machine.
OUT = Path(os.path.relpath(Path(__file__).parent / "out" / "time"))


@dataclass(frozen=True)
class BenchOptions:
    """Train and evaluate methods on equal hardware, and write a page with tables and plots.

    Without an experiment: digits, and a slice of MNIST where MNIST is found. The same command
    continues what was interrupted and repeats nothing that is done.

    What stands after -- goes to every training command: bench_time.py mnist-table -- --epochs 5
    """

    experiments: tyro.conf.Positional[tuple[str, ...]] = ()
    """A recipe (digits, mnist, cifar10 …: TRADES, Zipper serial and parallel, TRADES tuned to
    Zipper's clean accuracy), RECIPE-table (many methods, AutoAttack), RECIPE-learning-rates, or
    mnist-slice."""
    seeds: int = 1
    """Runs of each row, seeds 0, 1, …"""
    methods: tuple[str, ...] = ()
    """The rows: trades, zipper-serial, zipper-parallel, at, fat, mart, natural; default: those of
    the experiment."""
    betas: tuple[float, ...] = ()
    """Values of TRADES' β on the curve; default: those of the experiment."""
    gammas: tuple[float, ...] = ()
    """Last values of Zipper's γ on the curve, the recipe's own aside, which always is on it;
    default: those of the experiment."""
    tuning_runs: int | None = None
    """At most so many more values of β are tried to bring TRADES to Zipper's clean accuracy;
    default: that of the experiment."""
    data_root: Path = Path("data")
    """Directory that holds the data sets, or is to hold them after their download."""
    limit: int | None = None
    """Evaluate on at most so many test images [images]."""
    device: Device = "auto"
    """What a device is: a GPU (cuda) or a core (cpu); auto: a GPU where there is one."""
    out: Path = OUT
    """Directory for everything; a folder for each experiment."""


def pairs(words: Sequence[str]) -> Options:
    """Options with their values from the words of a command line.

    Raises:
        UserError: a value that follows no option.
    """
    found: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("--"):
            found.append((word, ""))
        elif found and found[-1][1] == "":
            found[-1] = (found[-1][0], word)
        else:
            raise UserError(f"after --: {word!r} follows no option of the training command")
    return tuple(found)


def chosen(options: BenchOptions, console: Console) -> Iterator[Experiment]:
    """The experiments that the options name.

    Raises:
        UserError: an unknown name.
    """
    names = options.experiments
    if not names:
        names = ("digits", "mnist-slice")
        if not (options.data_root / "MNIST").is_dir():
            names = ("digits",)
            console.print(f"no MNIST in {options.data_root} (--data-root): digits alone")
    for name in names:
        found = experiment(name)
        if options.methods:
            found = with_methods(found, options.methods)
        if found.sweep is not None:
            found = replace(found, sweep=_sweep(found, options))
        if found.recipe != "digits":
            root = ("--data.root", str(options.data_root))
            found = replace(found, options=(*found.options, root))
        yield found


def _sweep(found: Experiment, options: BenchOptions) -> Sweep:
    """The experiment's curves, with what the options say otherwise."""
    sweep = found.sweep
    assert sweep is not None
    own = last_gamma(found.recipe)
    runs = sweep.matching_runs if options.tuning_runs is None else options.tuning_runs
    return replace(
        sweep,
        betas=options.betas or sweep.betas,
        gammas=tuple(dict.fromkeys((own, *(options.gammas or sweep.gammas)))),
        matching_runs=runs,
    )


def check(found: Experiment, extra: Options) -> None:
    """Find bad options and absent data before any run starts."""
    with_extra = replace(found, options=(*found.options, *extra))
    sweep = found.sweep or Sweep((), ())
    curves = [
        *(zipper_row(found.recipe, gamma) for gamma in sweep.gammas),
        *(trades_row(found.recipe, beta) for beta in sweep.betas),
    ]
    for row in (*found.rows, *curves):
        words = [word for pair in with_extra.options_of(row) for word in pair if word]
        config = parse_train_options([row.recipe, *words])
        validate(config)
        fetch(config.data)


def bench(options: BenchOptions, extra: Options) -> None:
    """Carry out the experiments, one after the other; ``extra`` is for every training command."""
    console = Console()
    for name, number in (("seeds", options.seeds), ("limit", options.limit)):
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give 1 or more")
    devices = Devices.detect(options.device)
    experiments = list(chosen(options, console))
    for found in experiments:
        check(found, extra)
    command = shlex.join(["python", "benchmarks/bench_time.py", *sys.argv[1:]])
    for found in experiments:
        out = options.out / found.name
        console.print(f"[bold]{found.title}[/] on {describe(devices)}", highlight=False)
        runner = Runner(devices, console)
        outcome = Campaign(found, options.seeds, out, runner, extra, options.limit).carry_out()
        write_page(outcome, out, command, describe(devices))
        print_summary(outcome, console)
        console.print(f"page, plots and figures are in {out}", highlight=False)


def main() -> None:
    """Entry point of the benchmark."""
    arguments = sys.argv[1:]
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for_training = arguments[len(ours) + 1 :]
    run_command(lambda: bench(parse_options(BenchOptions, ours, "bench_time"), pairs(for_training)))


if __name__ == "__main__":
    main()
