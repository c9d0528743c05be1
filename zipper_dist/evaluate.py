"""The evaluation command: a saved network against a list of attacks.

python -m zipper_dist.evaluate RUN_OR_FILE [--attacks standard] [--option value …]
torchrun --nproc_per_node=N -m zipper_dist.evaluate RUN_OR_FILE …
"""

from __future__ import annotations

import os
import sys

import torch
from rich.console import Console

from zipper_dist.config.command_line import parse_options, run_command
from zipper_dist.data import fetch, load
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.hardware import keep_freed_memory
from zipper_dist.distributed.overlap import Overlap
from zipper_dist.distributed.signals import Signals
from zipper_dist.distributed.topology import Machine, plan_shards
from zipper_dist.errors import Interrupted
from zipper_dist.evaluation.build import Evaluation, assemble
from zipper_dist.evaluation.engine import stages
from zipper_dist.evaluation.finalise import conclude
from zipper_dist.evaluation.options import EvaluateOptions, validate
from zipper_dist.evaluation.progress import Bar, Quiet
from zipper_dist.evaluation.registry import expand
from zipper_dist.evaluation.results.figures import Report, report_of
from zipper_dist.evaluation.target import data_config, load_subject, threat_of


def attack(evaluation: Evaluation, display: Quiet) -> None:
    """Every attack on every block of this rank, except for what is known."""
    worker = evaluation.worker
    display.stage("", "clean")
    worker.classify()
    work = [
        (name, part, before, worker)
        for name, part, before in stages(evaluation.names, evaluation.parts)
    ]
    work += [
        (f"check: {name}", part, [], evaluation.sampler) for name, part in evaluation.checks.items()
    ]
    costs: dict[str, int] = {}
    for _, part, before, on in work:
        costs.setdefault(on.address(part), on.cost_left(part, before))
    display.expect(costs)
    for name, part, before, on in work:
        display.stage(on.address(part), name if name == part.name else f"{name} ({part.name})")
        on.attack(part, before)


def run(options: EvaluateOptions) -> None:
    """Evaluate, from options to table, in this process of the job."""
    signals = Signals()
    wait = Overlap(signals)
    evaluation, world = _prepare(options, wait)
    console = Console()
    display = Bar(console) if world.rank == 0 else Quiet()

    def tick(cost: int) -> None:
        signals.check()
        display.tick(cost)

    evaluation.worker.tick = evaluation.sampler.tick = tick
    with signals.installed(), display:
        for note in (*world.plan.notes, *evaluation.notes):
            display.note(note)
        try:
            attack(evaluation, display)
            if world.size > 1:
                display.stage("", "waiting for the other ranks")
            reports = wait(world.gather("evaluated", _report(evaluation)))
        except Interrupted:
            display.note("interrupted; what was found is kept: the same command continues")
            raise
    if world.rank == 0:
        conclude(evaluation, reports, console)
    # The others stay until rank 0 has read their files: torchrun ends a job with its first failure.
    wait(world.gather("concluded", None))
    world.close()


def _prepare(options: EvaluateOptions, wait: Overlap) -> tuple[Evaluation, World]:
    """What the options name, found and checked before any long work starts."""
    validate(options)
    names = expand(options.attacks)
    subject = load_subject(options)
    config = data_config(subject, options)
    threat = threat_of(subject, config.source, options)
    world = World(plan_shards(Machine.detect(os.environ), options.device, options.threads))
    # The figures are fp32 figures.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if world.plan.fetches_data:
        fetch(config)
    wait(world.gather("data is there", None))
    data = load(config, 0)
    return assemble(options, subject, data, threat, names, world), world


def _report(evaluation: Evaluation) -> Report:
    report = report_of(evaluation.worker, list(evaluation.parts.values()))
    checks = report_of(evaluation.sampler, list(evaluation.checks.values()))
    for where, found in checks.items():
        report[where] = found | report.get(where, {})
    return report


def main() -> None:
    """Entry point of the evaluation command."""
    keep_freed_memory()
    run_command(lambda: run(parse_options(EvaluateOptions, sys.argv[1:], "zipper_dist.evaluate")))


if __name__ == "__main__":
    main()
