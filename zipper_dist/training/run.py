"""A training run in this process of the job, from options to summary."""

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from zipper_dist.accel.precision import resolve_precision
from zipper_dist.checkpoint.run_directory import RunDirectory, as_json, differences
from zipper_dist.config.checks import validate
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Dataset
from zipper_dist.data.splits import limit_images
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted, UserError
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.sinks import RunInfo, make_sinks
from zipper_dist.metrics.tables import print_summary
from zipper_dist.training.build import build_state, load_data
from zipper_dist.training.context import RunContext
from zipper_dist.training.finalise import finalise
from zipper_dist.training.loop import complete_iteration, train
from zipper_dist.training.resume import resume, save


def run(
    config: TrainConfig,
    console: Console | None = None,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Train, from options to summary, in this process of the job that ``environment`` tells of.

    Rank 0 shows progress and results on the ``console``, if there is one. Returns the summary,
    empty on the other ranks. CommandError: bad input, divergence, a lost rank, or a signal.
    """
    validate(config)
    sinks = make_sinks(config.metrics)
    placed = plan(Machine.detect(environment), list(config.learners), config.device, config.threads)
    signals, world, directory = Signals(), World(placed), RunDirectory.of(config)
    context = RunContext(
        config=config,
        precision=resolve_precision(config.precision, placed.device),
        directory=directory,
        world=world,
        signals=signals,
        wait=Overlap(signals),
        metrics=MetricsReporter(world, sinks),
    )
    if world.rank != 0:
        console = None
    summary = _open(context)
    if summary is None:
        data = load_data(context)
        with signals.installed():
            summary = _train(context, data, console)
    elif console is not None:
        console.print(f"{directory.root} is complete; --resume never would start it over.")
    if console is not None:
        print_summary(summary, console)
        console.print(f"weights, metrics and summary are in {directory.root}", highlight=False)
    world.close()
    return summary


def _open(run: RunContext) -> dict[str, Any] | None:
    """Make the run directory ready; the summary of the run if it is complete already."""
    config, directory, world = run.config, run.directory, run.world
    directory.prepare()
    if world.plan.fetches_data and config.resume == "never":
        directory.clear(list(config.learners))
    if world.rank == 0:
        directory.check_same(config, run.precision)
    finished = directory.finished() if world.rank == 0 else None
    mine = as_json(config) | {"resolved precision": run.precision}
    opened = run.wait(world.gather("opened", {"options": mine, "finished": finished}))
    if differing := differences(opened[0]["options"], mine):
        raise UserError(
            f"rank {world.rank} was not started as rank 0 was ({'; '.join(differing)}); start all "
            "ranks with the same options"
        )
    summary: dict[str, Any] | None = opened[0]["finished"]
    return summary


def _train(run: RunContext, data: Dataset, console: Console | None) -> dict[str, Any]:
    """Train from the newest checkpoint, or from the start, to the end: the summary on rank 0."""
    state = build_state(run, data)
    # Only now: a run whose options turn out wrong leaves no config.json.
    devices = run.wait(run.world.gather("device", describe_device(run.device)))
    if run.world.rank == 0 and not run.directory.config.exists():
        run.directory.write_config(run.config, run.precision, state.compiled, devices)
    resumed = resume(run, state)
    about = RunInfo(
        run.directory.root,
        list(run.config.learners),
        total_steps=state.plan.total_steps,
        start_step=state.at,
        last_steps=resumed.last_steps,
        console=console,
    )
    with run.metrics.opened(about, resumed.again):
        for note in (*run.world.plan.notes, *state.notes, *resumed.messages):
            run.metrics.note(note)
        try:
            complete_iteration(run, state)
            train(run, state)
            test = limit_images(data.test, run.config.eval.limit, "test").to(run.device)
            return finalise(run, state, test)
        except Interrupted:
            save(run, state)
            where = f"saved in {run.directory.root}: the same command continues"
            run.metrics.note(f"interrupted after iteration {state.at}; {where}")
            raise
