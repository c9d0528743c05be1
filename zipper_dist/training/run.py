"""A training run in this process of the job, from options to summary."""

import contextlib
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from zipper_dist.checkpoint.lock import Lock
from zipper_dist.checkpoint.options import STARTED, as_json, differences
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.config.checks import validate
from zipper_dist.config.command_line import logged
from zipper_dist.config.files import flattened
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data import Dataset
from zipper_dist.data.splits import limit_images
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import describe_device
from zipper_dist.distributed.launched import RESTARTED
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.stopping import Stop
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted, UserError
from zipper_dist.metrics.console import announce, make_console
from zipper_dist.metrics.sinks import RunInfo, make_sinks
from zipper_dist.metrics.tables import print_summary
from zipper_dist.metrics.trace import traced
from zipper_dist.training.context import RunContext
from zipper_dist.training.finalise import finalise
from zipper_dist.training.loop import complete_iteration, train
from zipper_dist.training.resume import resume, save
from zipper_dist.training.setup.augmenting import check_augmentations
from zipper_dist.training.setup.build import build_state
from zipper_dist.training.setup.materials import load_data, prepare
from zipper_dist.training.setup.placed_images import placed
from zipper_dist.training.setup.placing import place
from zipper_dist.training.setup.together import directories

RESTARTS = ("TORCHELASTIC_RESTART_COUNT", RESTARTED, "SLURM_RESTART_COUNT")


def run_logged(config: TrainConfig) -> None:
    """:func:`run` as a command: on the terminal, and with a log of what goes wrong."""
    with logged(RunDirectory.of(config).root):
        run(config, make_console())


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
    check_augmentations(config)
    sinks = make_sinks(config.metrics)
    placed = plan(Machine.detect(environment), config.device, config.threads)
    signals = Signals()
    world = World(placed, config.timeout, signals)
    context = RunContext.of(config, world, Stop(world, signals), sinks)
    directory = context.directory
    if world.rank != 0:
        console = None
    directory.prepare()
    with _locked(context) as notes:
        restarted = any(environment.get(name, "0") not in ("", "0") for name in RESTARTS)
        found = _open(context, restarted)
        summary = found.summary
        if summary is None or found.lost:
            _say(console, f"reading the images of {config.data.source} …")
            data = load_data(context)
            with signals.installed():
                summary = _train(context, data, found, notes, console)
        else:
            _say(console, f"{directory.root} is complete; --resume never would start it over.")
    if console is not None:
        print_summary(summary, console)
        console.print(f"weights, metrics and summary are in {directory.root}", highlight=False)
        command = f"python -m zipper_dist.report {shlex.quote(str(directory.root))}"
        console.print(f"a page about the run: {command}", highlight=False, soft_wrap=True)
    world.close()
    return summary


def _say(console: Console | None, text: str) -> None:
    if console is not None:
        announce(console, text)


@contextlib.contextmanager
def _locked(run: RunContext) -> Iterator[list[str]]:
    """The run directory is this job's for the duration; gives notes for the user. UserError, on
    every rank, where another job uses it on any machine."""
    world = run.world
    job = run.wait(world.gather("job", secrets.token_hex(8)))[0]
    lock = Lock(run.directory.lock, job)
    # First rank 0, then one process of each other machine, which may see the same directory.
    turns = {"first lock": world.rank == 0, "locks": world.rank != 0 and world.plan.fetches_data}
    notes: list[str] = []
    try:
        for topic, mine in turns.items():
            reports = run.wait(world.gather(topic, _lock(lock) if mine else {}))
            for refusal in (report["refused"] for report in reports if "refused" in report):
                raise UserError(refusal)
            notes += [report["note"] for report in reports if "note" in report]
        yield notes
    finally:
        lock.release()


def _lock(lock: Lock) -> dict[str, str]:
    """Lock; why that failed, or what the user should know."""
    try:
        note = lock.take()
    except UserError as error:
        return {"refused": str(error)}
    return {"note": note} if note else {}


@dataclass(frozen=True)
class Found:
    """What a job finds in the run directory: the number of ``shards`` that the run was begun with,
    the summary of a complete run, and ``lost`` weights of it, by name."""

    shards: int | None = None
    summary: dict[str, Any] | None = None
    lost: Sequence[str] = ()


def _open(run: RunContext, restarted: bool) -> Found:
    """Make the run directory ready, and look at what is there, on all machines alike.

    ``restarted``: whether a launcher or SLURM says that it has started this rank before. It may
    have done so on one machine only, and one such rank is enough to go on with what was saved.
    """
    config, directory, world = run.config, run.directory, run.world
    if world.plan.fetches_data:
        directory.remove_leftovers()
    begins = not any(run.wait(world.gather("restarted", restarted)))
    if world.plan.fetches_data and config.resume == "never" and begins:
        directory.clear(list(config.learners))
    # Each machine may have a directory of its own.
    begun = directory.check_same(config, run.precision) if world.plan.fetches_data else None
    finished = directory.finished() if world.rank == 0 else None
    mine = {
        "options": as_json(config) | {"resolved precision": run.precision},
        "shards": begun,
        "finished": finished,
    }
    opened = run.wait(world.gather("opened", mine))
    if differing := differences(opened[0]["options"], mine["options"], STARTED):
        raise UserError(
            f"rank {world.rank} was not started as rank 0 was ({'; '.join(differing)}); start all "
            "ranks with the same options"
        )
    shards = next((each["shards"] for each in opened if each["shards"] is not None), None)
    summary = opened[0]["finished"]
    if summary is None:
        return Found(shards)
    names, digests = [*config.learners, "global", "best"], summary.get("sha256") or {}
    lost = directory.lost(names, digests) if world.plan.fetches_data else names
    reports = run.wait(world.gather("lost", lost))
    return Found(shards, summary, [n for n in names if all(n in report for report in reports)])


def _train(
    run: RunContext, data: Dataset, found: Found, notes: Sequence[str], console: Console | None
) -> dict[str, Any]:
    """Train from the newest checkpoint, or from the start, to the end: the summary on rank 0."""
    _say(console, "preparing network and learners …")
    materials = prepare(run, data)
    run.directory.check_normalisation(materials.spec.normalise)
    assignment = place(run, materials, found.shards)
    seen, separate = directories(run)
    state = build_state(run, materials, assignment, seen)
    devices = run.wait(run.world.gather("device", describe_device(run.device)))
    begun = run.directory.config.exists()
    if run.world.rank == 0 and begun:
        state.notes += run.directory.notes_on_compiling(state.compiled)
    resumed = resume(run, state, found.lost)
    # Only now: a run whose options turn out wrong leaves no config.json. Every directory gets one.
    if seen[run.world.rank] == run.world.rank and not begun:
        resolved = {
            "precision": run.precision,
            "compiled": state.compiled,
            "shards": assignment.shards,
            "images": data.digest(),
            "image_size": data.height if data.height == data.width else None,
            "normalise": materials.spec.normalise,
            "placement": [dict(items) for items in assignment.items],
            "seconds": materials.costs,
        }
        run.directory.write_config(run.config, resolved, devices)
    about = RunInfo(
        run.directory.root,
        list(run.config.learners),
        total_steps=state.plan.total_steps,
        start_step=state.at,
        last_steps=resumed.last_steps,
        console=console,
        options=flattened(as_json(run.config)),
    )
    names = ", ".join(learner.name for learner in state.learners)
    label, path = f"rank {run.world.rank}: {names}", run.directory.trace(run.world.rank)
    timeline = traced(run.config.trace, path, run.world.rank, label, run.metrics.tell)
    with run.metrics.opened(about, resumed.again), timeline:
        for note in (*run.world.plan.notes, *notes, *separate, *state.notes, *resumed.messages):
            run.metrics.note(note)
        try:
            complete_iteration(run, state)
            train(run, state)
            test = limit_images(data.test, run.config.eval.limit, "test")
            summary = finalise(run, state, placed(test, run.config.data, run.device))
            run.metrics.finish(summary)
            return summary
        except Interrupted:
            save(run, state)
            where = f"saved in {run.directory.root}: the same command continues"
            run.metrics.note(f"interrupted after iteration {state.at}; {where}")
            raise
