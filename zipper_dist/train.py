"""The training command.

torchrun --nproc_per_node=2 -m zipper_dist.train [RECIPE] [--option value …]
python -m zipper_dist.train [RECIPE] [--option value …]
"""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.run_directory import RunDirectory, as_json, differences
from zipper_dist.config.checks import validate
from zipper_dist.config.command_line import run_command
from zipper_dist.config.schema import Precision, TrainConfig
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted, UserError
from zipper_dist.metrics.tables import print_summary
from zipper_dist.metrics.telemetry import JsonLinesSink, MetricsReporter
from zipper_dist.metrics.terminal import NullDisplay, Progress
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.training.build import assemble, load_data, sample
from zipper_dist.training.finalise import finish
from zipper_dist.training.resume import resume
from zipper_dist.training.trainer import Trainer


def train(trainer: Trainer) -> None:
    """Zipper: every learner takes its step, the global learner follows, and leads from time to
    time (:meth:`Trainer.conclude`)."""
    trainer.conclude(trainer.at)
    for t in range(trainer.at + 1, trainer.plan.total_steps + 1):
        batch = trainer.loader.minibatch(t)
        for learner in trainer.learners:
            trainer.record(learner, t, learner.step(batch, t))
        trainer.mixer.accumulate(t, {learner.name: learner.mixable for learner in trainer.learners})
        trainer.conclude(t)


def run(config: TrainConfig) -> None:
    """Train, from options to summary, in this process of the job."""
    validate(config)
    placed = plan(Machine.detect(os.environ), list(config.learners), config.device, config.threads)
    precision = resolve_precision(config.precision, placed.device)
    directory = RunDirectory.of(config)
    signals = Signals()
    wait = Overlap(signals)
    world = World(placed)
    console = Console()
    finished = _open(directory, config, precision, world, wait)
    if finished is None:
        finished = _train(config, precision, directory, world, signals, wait, console)
    elif world.rank == 0:
        console.print(f"{directory.root} is complete; --resume never would start it over.")
    if world.rank == 0:
        print_summary(finished, console)
        console.print(f"weights, metrics and summary are in {directory.root}", highlight=False)
    world.close()


def _open(
    directory: RunDirectory, config: TrainConfig, precision: Precision, world: World, wait: Overlap
) -> dict[str, Any] | None:
    """Make the run directory ready; the summary of the run if it is complete already."""
    directory.prepare()
    if world.plan.fetches_data and config.resume == "never":
        directory.clear(list(config.learners))
    finished = None
    if world.rank == 0:
        directory.check_same(config, precision)
        finished = directory.finished()
    mine = as_json(config) | {"resolved precision": precision}
    opened = wait(world.gather("opened", {"options": mine, "finished": finished}))
    differing = differences(opened[0]["options"], mine)
    if differing:
        raise UserError(
            f"rank {world.rank} was not started as rank 0 was ({'; '.join(differing)}); start all "
            "ranks with the same options"
        )
    summary: dict[str, Any] | None = opened[0]["finished"]
    return summary


def _train(
    config: TrainConfig,
    precision: Precision,
    directory: RunDirectory,
    world: World,
    signals: Signals,
    wait: Overlap,
    console: Console,
) -> dict[str, Any]:
    """Train from the newest checkpoint, or from the start, to the end: the summary on rank 0."""
    data = load_data(config, world, wait)
    signals.install()
    sink = JsonLinesSink(directory.metrics)
    metrics = MetricsReporter(world, sink)
    trainer = assemble(config, directory, data, world, signals, wait, metrics, precision)
    # Not before: with options that turn out wrong, nothing has begun that others could contradict.
    devices = wait(world.gather("device", describe_device(world.plan.device)))
    if world.rank == 0 and not directory.config.exists():
        directory.write_config(config, precision, trainer.compiled, devices)
    messages = [
        *world.plan.notes,
        trainer.engine_note,
        *_too_short(trainer),
        *resume(trainer, sink),
    ]
    with _display(trainer, console) as display:
        metrics.display = display
        for message in messages:
            display.note(message)
        try:
            train(trainer)
            test = sample(data.test, config.eval.limit).to(world.plan.device)
            return finish(trainer, test, display)
        except Interrupted:
            trainer.save()
            display.note(
                f"interrupted after iteration {trainer.at}; saved in {directory.root}: the same "
                "command continues"
            )
            raise


def _too_short(trainer: Trainer) -> list[str]:
    """A warning where redistribution is wanted and the run is too short for any."""
    plan, mix = trainer.plan, trainer.config.mix
    if plan.redistributions != 0:
        return []
    return [
        f"warning: --mix.start {mix.start} and --mix.every {mix.every} leave no redistribution "
        f"within the {plan.total_steps} iterations of this run: the global learner will be "
        "an average of networks that grow apart"
    ]


def _display(trainer: Trainer, console: Console) -> Progress | NullDisplay:
    if trainer.world.rank != 0:
        return NullDisplay()
    total_steps = trainer.plan.total_steps
    return Progress(list(trainer.config.learners), total_steps, trainer.at, console)


def main() -> None:
    """Entry point of the training command."""
    run_command(lambda: run(parse_train_options(sys.argv[1:])))


if __name__ == "__main__":
    main()
