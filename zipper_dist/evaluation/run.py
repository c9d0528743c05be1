"""An evaluation, from options to table: a saved network against a list of attacks."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zipper_dist.config.command_line import logged
from zipper_dist.data import fetch, load
from zipper_dist.distributed.communication import Overlap, World
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.errors import Interrupted
from zipper_dist.evaluation.attack_list import expand
from zipper_dist.evaluation.build import Evaluation, assemble
from zipper_dist.evaluation.engine import stages
from zipper_dist.evaluation.finalise import finalise
from zipper_dist.evaluation.options import EvaluateOptions, validate
from zipper_dist.evaluation.target import data_config, load_target, threats_of
from zipper_dist.metrics.console import make_console, say
from zipper_dist.metrics.sinks.terminal import PLAIN_LINE_SECONDS
from zipper_dist.metrics.tables import duration


class Display:
    """The progress of this rank, and how long the rest will take at most: a live bar on a terminal,
    else plain lines; with no console, nothing."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._began = self._last_line = time.monotonic()
        self._costs: dict[str, int] = {}
        self._finished = self._within = 0
        self._address, self._name = "", ""
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(40),
            TextColumn("{task.fields[facts]}"),
            console=console, transient=True, disable=console is None or not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=1.0, facts="")

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Say something once."""
        if self._console is not None:
            say(self._console, text)

    def expect(self, costs: Mapping[str, int]) -> None:
        """Say what each stage, by its address, will take at most."""
        self._costs, self._began = dict(costs), time.monotonic()

    def stage(self, address: str, name: str) -> None:
        """Begin a stage; the one before is done."""
        self._finished += self._costs.pop(self._address, 0)
        self._address, self._name, self._within = address, name, 0

    def tick(self, cost: int) -> None:
        """Say that some work is done."""
        self._within = min(self._within + cost, self._costs.get(self._address, 0))
        now = time.monotonic()
        if self._bar.disable and now - self._last_line < PLAIN_LINE_SECONDS:
            return
        self._last_line = now
        total = self._finished + sum(self._costs.values())
        share = (self._finished + self._within) / max(1, total)
        facts = "time left unknown yet"
        if share > 0:
            left = (now - self._began) * (1 - share) / share
            facts = f"{100 * share:.0f} % of all attacks, {duration(left)} left"
        self._bar.update(self._task, completed=share, description=self._name, facts=facts)
        if self._bar.disable:
            self.note(f"{self._name}: {facts}")


def attack(evaluation: Evaluation, display: Display) -> None:
    """Every attack on every block of this rank, except for what is known."""
    engine, sampler = evaluation.engine, evaluation.sampler
    display.stage("", "clean")
    for _ in engine.classify():
        pass
    work = [(name, part, before, engine) for name, part, before in stages(evaluation.wanted)]
    for wanted in evaluation.checks.values():
        work += [(f"check: {name}", part, [], sampler) for name, part, _ in stages(wanted)]
    costs: dict[str, int] = {}
    for _, part, before, on in work:
        costs.setdefault(on.address(part), on.cost_left(part, before))
    display.expect(costs)
    for name, part, before, on in work:
        display.stage(on.address(part), name if name == part.name else f"{name} ({part.name})")
        for _ in on.attack(part, before):
            pass


def run(options: EvaluateOptions) -> None:
    """Evaluate, from options to table, in this process of the job."""
    signals = Signals()
    wait = Overlap(signals)
    evaluation, world = _prepare(options, wait, signals)
    console = make_console()
    display = Display(console if world.rank == 0 else None)

    def tick(cost: int) -> None:
        signals.check()
        display.tick(cost)

    evaluation.engine.tick = evaluation.sampler.tick = tick
    with signals.installed(), display:
        for note in (*world.plan.notes, *evaluation.notes):
            display.note(note)
        try:
            attack(evaluation, display)
            if world.size > 1:
                display.stage("", "waiting for the other ranks")
            mine = {"found": evaluation.found(), "damaged": evaluation.store.damaged}
            reports = wait(world.gather("evaluated", mine))
        except Interrupted:
            display.note("interrupted; what was found is kept: the same command continues")
            raise
    if world.rank == 0:
        for note in (line for each in reports for line in each["damaged"]):
            evaluation.notes.append(note)
            say(console, note)
        finalise(evaluation, [each["found"] for each in reports], console)
    # The others stay until rank 0 has read their files: torchrun ends a job with its first failure.
    wait(world.gather("finalised", None))
    world.close()


def _prepare(options: EvaluateOptions, wait: Overlap, signals: Signals) -> tuple[Evaluation, World]:
    """What the options name, found and checked before any long work starts."""
    validate(options)
    names = expand(options.attacks)
    target = load_target(options)
    config = data_config(target, options)
    threats = threats_of(target, config.source, options)
    placed = plan(Machine.detect(os.environ), options.device, options.threads)
    world = World(placed, options.timeout, signals)
    if world.plan.fetches_data:
        fetch(config)
    wait(world.gather("data is there", None))
    data = load(config, 0)
    return assemble(options, target, data, threats, names, world), world


def run_logged(options: EvaluateOptions) -> None:
    """As :func:`run`, but the traceback of an error that nobody expected goes to a log beside the
    results."""
    target = options.target.expanduser()
    with logged(options.out or (target if target.is_dir() else target.parent)):
        run(options)
