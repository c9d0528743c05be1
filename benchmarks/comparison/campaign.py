"""Carries an experiment out: trains, evaluates, tunes; what is done already is not done again.

Where times are compared, the runs of the table have the machine to themselves, and take turns by
seed, so that a slow spell hits all rows alike. All else shares it: a run on each free device.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from comparison.costs import Costs, bytes_of_a_sync, seconds_per_iteration
from comparison.devices import Command
from comparison.experiments import (
    BASELINE,
    PARALLEL,
    Attacks,
    Experiment,
    Options,
    Row,
    last_gamma,
    trades_row,
    zipper_row,
)
from comparison.figures import KEYS, Found, evaluated, read_json
from comparison.matching import Accuracy, matched, next_beta, tolerance
from comparison.runner import Job, Runner

COST_STEPS = (30, 300)
"""Fewest and most iterations of a run that measures the cost of one."""

# The curves need one robust accuracy, and it is what TRADES is tuned by.
CURVE = ("clean", "pgd-100")


@dataclass(frozen=True)
class Run:
    """A training run: a row by a seed, in its directory."""

    row: Row
    seed: int
    directory: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.label}, seed {self.seed}"

    @property
    def summary(self) -> Path:
        """The file that says that it is complete."""
        return self.directory / "summary.json"

    @property
    def weights(self) -> Path:
        """The network that is evaluated: the global learner at the end of training."""
        return self.directory / "global.safetensors"


@dataclass(frozen=True)
class Match:
    """How TRADES was tuned."""

    beta: float
    target: float
    """Clean accuracy of Zipper [per cent]."""
    slack: float
    """Differences of clean accuracy that count as none [percentage points]."""
    reached: bool


@dataclass
class Outcome:
    """All that an experiment has shown."""

    experiment: Experiment
    found: list[Found] = field(default_factory=list)
    betas: dict[float, Accuracy] = field(default_factory=dict)
    gammas: dict[float, Accuracy] = field(default_factory=dict)
    match: Match | None = None
    costs: Costs | None = None
    commands: list[Command] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)


class Campaign:
    """An experiment at work.

    Args:
        experiment: what is compared.
        seeds: how many runs each row has: seeds 0, 1, …
        out: directory of the experiment.
        runner: runs the commands.
        extra: options for every training command beside the experiment's own.
        limit: evaluate on at most so many test images.
    """

    def __init__(
        self,
        experiment: Experiment,
        seeds: int,
        out: Path,
        runner: Runner,
        extra: Options = (),
        limit: int | None = None,
    ) -> None:
        self.experiment = replace(experiment, options=(*experiment.options, *extra))
        self._seeds = range(seeds)
        self._out = out
        self._runner = runner
        self._limit = limit
        self._outcome = Outcome(self.experiment)

    def carry_out(self) -> Outcome:
        """Do what is left to do.

        Raises:
            UserError: a row takes more devices than there are.
            Interrupted: the same call continues.
            JobFailed: a command failed.
        """
        experiment, outcome = self.experiment, self._outcome
        self._runner.check([self._training(self._run("runs", row, 0)) for row in experiment.rows])
        if experiment.sweep is not None:
            self._sweep()
        rows = [self._tuned(row) for row in experiment.rows]
        outcome.runs = [self._run("runs", row, seed) for seed in self._seeds for row in rows]
        if experiment.times:
            self._train_in_turn()
        else:
            self._train("training", outcome.runs, together=True)
        self._evaluate(outcome.runs, experiment.attacks)
        outcome.found = [self._found(run, experiment.attacks) for run in outcome.runs]
        outcome.costs = self._costs() if experiment.times else None
        return outcome

    def _train_in_turn(self) -> None:
        """One run at a time, and after those of a seed the runs that measure costs."""
        for seed in self._seeds:
            runs = [run for run in self._outcome.runs if run.seed == seed]
            self._train(f"training, seed {seed}", runs, together=False)
            self._train(f"costs, seed {seed}", self._cost_runs(seed).values(), together=False)

    def _sweep(self) -> None:
        """The curves, and the β at which TRADES has Zipper's clean accuracy."""
        sweep = self.experiment.sweep
        assert sweep is not None
        base, outcome = self.experiment.recipe, self._outcome
        gammas = {gamma: self._run("curves", zipper_row(base, gamma), 0) for gamma in sweep.gammas}
        betas = {beta: self._run("curves", trades_row(base, beta), 0) for beta in sweep.betas}
        self._train("curves", [*gammas.values(), *betas.values()], together=True)
        attacks = [Attacks(CURVE, sweep.limit)]
        self._evaluate([*gammas.values(), *betas.values()], attacks)
        outcome.gammas = {gamma: self._accuracy(run, attacks) for gamma, run in gammas.items()}
        outcome.betas = {beta: self._accuracy(run, attacks) for beta, run in betas.items()}
        own = gammas[last_gamma(base)]
        target = self._accuracy(own, attacks).clean
        slack = tolerance(self._found(own, attacks).images["nat"])
        for _ in range(sweep.matching_runs):
            beta = next_beta(outcome.betas, target, slack)
            if beta is None:
                break
            run = self._run("curves", trades_row(base, beta), 0)
            self._train("tuning TRADES", [run], together=True)
            self._evaluate([run], attacks)
            outcome.betas[beta] = self._accuracy(run, attacks)
        beta = matched(outcome.betas, target, slack)
        reached = outcome.betas[beta].clean >= target - slack
        outcome.match = Match(beta, target, slack, reached)

    def _tuned(self, row: Row) -> Row:
        """``row`` with the β that was chosen, if it is the baseline's."""
        match = self._outcome.match
        if match is None or row.key != BASELINE:
            return row
        tuned = trades_row(self.experiment.recipe, match.beta)
        return replace(tuned, key=BASELINE, folder=tuned.key)

    def _cost_runs(self, seed: int) -> dict[str, Run]:
        """A short run of each learner alone."""
        steps: int = read_json(self._outcome.runs[0].summary)["steps"]
        fewest, most = COST_STEPS
        few = str(min(steps, max(fewest, min(steps // 10, most))))
        options = (("--steps", few), ("--eval.every", few), ("--eval.limit", "64"))
        return {
            learner: self._run("costs", Row(learner, label, recipe, options), seed)
            for learner, label, recipe in (
                ("natural", "the natural learner alone", f"{self.experiment.recipe}-natural"),
                ("adversarial", "the adversarial learner alone", f"{self.experiment.recipe}-at"),
            )
        }

    def _costs(self) -> Costs:
        """What an iteration of each learner and a sync cost."""
        each = {}
        for learner in ("natural", "adversarial"):
            runs = [self._cost_runs(seed)[learner].directory for seed in self._seeds]
            each[learner] = fmean(seconds_per_iteration(run, learner) for run in runs)
        summary = read_json(self._outcome.runs[0].summary)
        costs = Costs(each["natural"], each["adversarial"], summary["steps"])
        parallel = [run for run in self._outcome.runs if run.row.key == PARALLEL]
        if not parallel:
            return costs
        sync = self._sync_cost(bytes_of_a_sync(read_json(parallel[0].summary)))
        return replace(costs, sync_seconds=sync["seconds"], sync_bytes=int(sync["bytes"]))

    def _sync_cost(self, size: int) -> dict[str, float]:
        file = self._out / "costs" / "sync.json"

        def make(on: Sequence[int]) -> Command:
            arguments = ("--bytes", str(size), "--out", str(file))
            command = self._runner.devices.command("comparison.sync_cost", arguments, on)
            here = os.path.relpath(Path(__file__).parents[1])
            return replace(command, environment={**command.environment, "PYTHONPATH": here})

        job = Job("a sync", make, 2, file.exists, self._out / "logs" / "sync.log")
        self._go("a sync", [job], together=False)
        measured: dict[str, float] = read_json(file)
        return measured

    def _run(self, kind: str, row: Row, seed: int) -> Run:
        return Run(row, seed, self._out / kind / f"{row.folder or row.key}-seed{seed}")

    def _train(self, stage: str, runs: Iterable[Run], together: bool) -> None:
        self._go(stage, [self._training(run) for run in runs], together)

    def _go(self, stage: str, jobs: Sequence[Job], together: bool) -> None:
        """Run jobs, and note their commands."""
        self._runner.run(stage, jobs, together)
        for job in jobs:
            command = job.make(self._runner.devices.numbers[: job.devices])
            if command not in self._outcome.commands:
                self._outcome.commands.append(command)

    def _training(self, run: Run) -> Job:
        options = [
            word for pair in self.experiment.options_of(run.row) for word in pair if word != ""
        ]
        arguments = [run.row.recipe, *options, "--seed", str(run.seed)]
        arguments += ["--run-dir", str(run.directory)]
        return Job(
            run.name,
            self._maker("zipper_dist.train", arguments),
            run.row.devices,
            run.summary.exists,
            self._out / "logs" / f"{run.directory.parent.name}-{run.directory.name}.log",
        )

    def _evaluate(self, runs: Sequence[Run], attacks: Sequence[Attacks]) -> None:
        """Evaluate; the same weights, by whatever run, are evaluated once."""
        jobs: dict[Path, Job] = {}
        for run in runs:
            for limit, names in self._by_limit(attacks).items():
                jobs.setdefault(self._evaluation(run, limit), self._evaluating(run, limit, names))
        self._go("evaluating", list(jobs.values()), together=True)

    def _evaluating(self, run: Run, limit: int | None, names: Sequence[str]) -> Job:
        directory = self._evaluation(run, limit)
        arguments = [str(run.directory), "--attacks", *names, "--out", str(directory)]
        arguments += ["--no-picture", *(["--limit", str(limit)] if limit else [])]
        return Job(
            f"{'+'.join(names)} on {run.name}",
            self._maker("zipper_dist.evaluate", arguments),
            1,
            lambda: set(names) <= evaluated(directory).keys(),
            self._out / "logs" / f"evaluation-{directory.parent.name}-{directory.name}.log",
        )

    def _maker(self, module: str, arguments: Sequence[str]) -> Callable[[Sequence[int]], Command]:
        return lambda on: self._runner.devices.command(module, arguments, on)

    def _by_limit(self, attacks: Sequence[Attacks]) -> dict[int | None, list[str]]:
        """Attacks by the number of images that they are made on (None: all)."""
        names: dict[int | None, list[str]] = {}
        for which in attacks:
            limits = [limit for limit in (which.limit, self._limit) if limit is not None]
            names.setdefault(min(limits, default=None), []).extend(which.names)
        return names

    def _evaluation(self, run: Run, limit: int | None) -> Path:
        images = f"{limit}-images" if limit else "all-images"
        return self._out / "evaluations" / digest(run.weights) / images

    def _found(self, run: Run, attacks: Sequence[Attacks]) -> Found:
        accuracy, images = {}, {}
        for limit, names in self._by_limit(attacks).items():
            figures = evaluated(self._evaluation(run, limit))
            for name in names:
                accuracy[KEYS[name]] = figures[name]["accuracy"]
                images[KEYS[name]] = figures[name]["n"]
        return Found(
            run.row.key, run.seed, accuracy, images, read_json(run.summary), digest(run.weights)
        )

    def _accuracy(self, run: Run, attacks: Sequence[Attacks]) -> Accuracy:
        found = self._found(run, attacks)
        return Accuracy(found.accuracy["nat"], found.accuracy["pgd_100"])


def digest(file: Path) -> str:
    """What tells weights apart: the start of the file's SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
