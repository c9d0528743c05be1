"""What Zipper costs and gives beside other methods, on equal hardware: `make bench-time`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from comparison.campaign import Campaign
from comparison.commands import DATA_ROOT, Settings
from comparison.devices import Devices
from comparison.experiments import (
    Experiment,
    Options,
    experiment,
    limited,
    options,
    with_methods,
)
from comparison.jobs import Runner
from comparison.page import write_page
from rich.console import Console
from rich.markdown import Markdown

from zipper_dist.config.checks import validate
from zipper_dist.config.command_line import parse_options, run_command
from zipper_dist.config.schema import Device
from zipper_dist.data import fetch
from zipper_dist.errors import CommandError, UserError
from zipper_dist.metrics.console import make_console

# Relative, so that the printed commands can be typed on another machine.
OUT = Path(os.path.relpath(Path(__file__).parent / "out" / "time"))


@dataclass(frozen=True)
class BenchOptions:
    """Train and evaluate methods on equal hardware, and write a page with tables and plots.

    Without an experiment: digits, and a slice of MNIST where MNIST is found. The same command
    continues what was interrupted and repeats nothing that is done.

    What stands after -- goes to every training command: bench_time.py mnist-table -- --epochs 30
    """

    experiments: tyro.conf.Positional[tuple[str, ...]] = ()
    """A recipe (digits, mnist, cifar10 …: TRADES, Zipper serial and parallel, TRADES tuned to
    Zipper's clean accuracy), RECIPE-table (many methods, AutoAttack), RECIPE-learning-rates,
    RECIPE-precision (Zipper in fp32 and bf16), or mnist-slice."""
    seeds: int = 1
    """Runs of each row, seeds 0, 1, …"""
    methods: tuple[str, ...] = ()
    """The rows: zipper-serial, zipper-parallel, trades, fat, mart, at, natural; the last five also
    with -ema, as averages of their weights; default: those of the experiment."""
    betas: tuple[float, ...] = ()
    """Values of TRADES' β on the curve; default: those of the experiment."""
    gammas: tuple[float, ...] = ()
    """Last values of Zipper's γ on the curve, the recipe's own aside, which always is on it;
    default: those of the experiment."""
    tuning_runs: int = 2
    """At most so many more values of β are tried to bring TRADES to Zipper's clean accuracy."""
    data_root: Path = DATA_ROOT
    """Directory that holds the data sets, or is to hold them after their download."""
    limit: int | None = None
    """Evaluate on at most so many test images, a fixed random choice for all attacks [images]."""
    device: Device = "auto"
    """What a device is: a GPU (cuda) or a core (cpu); auto: a GPU where there is one."""
    out: Path = OUT
    """Directory for everything; a folder for each experiment."""


NOT_FREE = (
    "--seed", "--run-dir", "--resume", "--device", "--threads", "--data.root",
    *(f"--learners.adversarial.{name}" for name in ("objective", "beta", "tau")),
)  # fmt: skip
"""Options of the training command that the comparison sets, or that make one method of another."""


def for_training(words: Sequence[str]) -> Options:
    """Options for every training command.

    Raises:
        UserError: one of them is not free to be set, or there is a value without an option.
    """
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name in NOT_FREE:
            raise UserError(f"after --: {name} is set by the comparison; leave it out")
    return options(words)


def chosen(given: BenchOptions, extra: Options) -> Iterator[Experiment]:
    """The experiments that the options name.

    Raises:
        UserError: an unknown name.
    """
    has_mnist = (given.data_root / "MNIST").is_dir()
    for name in given.experiments or ("digits", *(["mnist-slice"] if has_mnist else [])):
        found = experiment(name)
        if given.methods:
            found = with_methods(found, given.methods)
        if given.limit is not None:
            found = limited(found, given.limit)
        if (sweep := found.sweep) is not None:
            betas, gammas = given.betas or sweep.betas, given.gammas or sweep.gammas
            sweep = replace(sweep, betas=betas, gammas=gammas, tuning_runs=given.tuning_runs)
        yield replace(found, options=(*found.options, *extra), sweep=sweep)


def bench(given: BenchOptions, extra: Options) -> None:
    """Carry out the experiments that the options name, one after the other, each in a folder of its
    own, and write their pages; ``extra`` is for every training command."""
    for name, number in (("seeds", given.seeds), ("limit", given.limit)):
        if number is not None and number < 1:
            raise UserError(f"--{name} {number}: give 1 or more")
    console = make_console()
    runner = Runner(Devices.detect(given.device), console)
    settings = Settings(given.out, given.seeds, given.data_root)
    campaigns = [
        Campaign(found, replace(settings, out=given.out / found.name), runner)
        for found in chosen(given, extra)
    ]
    # Bad options and absent data are found before any run starts.
    for campaign in campaigns:
        for row in campaign.rows():
            config = campaign.commands.config_of(row)
            validate(config)
            fetch(config.data)
    for campaign in campaigns:
        console.rule(f"{campaign.experiment.title} on {runner.devices.describe()}")
        try:
            campaign.carry_out()
        except CommandError:
            # What there is may be days' work. Nothing about it is to hide why there is no more.
            with suppress(Exception):
                campaign.collect()
                if campaign.outcome.found:
                    report(campaign, runner, console)
            raise
        report(campaign, runner, console)


def report(campaign: Campaign, runner: Runner, console: Console) -> None:
    """Write the page of a comparison, and show it but for the commands."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    text = write_page(campaign.outcome, campaign.out, command, runner.devices.describe())
    console.print(Markdown(text.partition("\n## Commands")[0]))
    console.print(f"page, plots and figures are in {campaign.out}", highlight=False)


def main() -> None:
    """Entry point of the benchmark."""
    words = [*sys.argv[1:], "--"]
    ours, extra = words[: words.index("--")], words[words.index("--") + 1 : -1]
    run_command(lambda: bench(parse_options(BenchOptions, ours, "bench_time"), for_training(extra)))


if __name__ == "__main__":
    main()
