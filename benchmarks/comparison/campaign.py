"""Carries an experiment out: trains, evaluates, tunes; what is done already is not done again.

Where times are compared, the runs of the table have the machine to themselves, and take turns by
seed, so that a slow spell hits all rows alike. All else shares it: a run on each free device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from comparison.commands import DATA_ROOT, Commands
from comparison.costs import Costs, bytes_of_a_sync, seconds_per_iteration
from comparison.experiments import (
    BASELINE,
    PARALLEL,
    ZIPPER,
    Attacks,
    Experiment,
    Options,
    Row,
    Sweep,
    trades_row,
    with_beta,
    zipper_row,
)
from comparison.figures import read_json
from comparison.matching import Accuracy, matched, next_beta, tolerance
from comparison.outcome import Match, Outcome, Run
from comparison.runner import Job, Runner
from zipper_dist.config.schema import TrainConfig

COST_STEPS = (100, 300)
"""Fewest and most iterations of a run that measures the cost of one."""

# The curves need one robust accuracy, and it is what TRADES is tuned by.
CURVE = ("clean", "pgd-100")


class Campaign:
    """An experiment at work.

    Args:
        experiment: what is compared.
        seeds: how many runs each row has: seeds 0, 1, …
        out: directory of the experiment.
        runner: runs the commands.
        extra: options for every training command beside the experiment's own.
        data_root: directory of the data sets.
        limit: evaluate on at most so many test images.
    """

    def __init__(
        self,
        experiment: Experiment,
        seeds: int,
        out: Path,
        runner: Runner,
        extra: Options = (),
        data_root: Path = DATA_ROOT,
        limit: int | None = None,
    ) -> None:
        self.experiment = replace(experiment, options=(*experiment.options, *extra))
        self.out = out
        self.outcome = Outcome(self.experiment)
        self._seeds = range(seeds)
        self._runner = runner
        self._commands = Commands(self.experiment, out, runner.devices, data_root, limit)
        keys = {row.key for row in experiment.rows}
        tunes = BASELINE in keys and bool(keys & ZIPPER)
        self._sweep = experiment.sweep if tunes else None
        """None as well where there is no TRADES to tune, or no Zipper to tune it to."""
        self._has_costs = experiment.times and bool(keys & ZIPPER)

    def rows(self) -> list[Row]:
        """Every row that is known beforehand, those of the curves included."""
        if self._sweep is None:
            return list(self.experiment.rows)
        gammas, betas = self._gammas(self._sweep), self._betas(self._sweep)
        return [*self.experiment.rows, *gammas.values(), *betas.values()]

    def config_of(self, row: Row) -> TrainConfig:
        """The options of a row, as its training command has them."""
        return self._commands.config_of(row)

    def carry_out(self) -> Outcome:
        """Do what is left to do. After an interruption, :meth:`collect` has what there is.

        Raises:
            UserError: a row takes more devices than there are, a run was made with other options,
                or somebody else is at work in the directory.
            Interrupted: the same call continues.
            JobFailed: a command failed.
        """
        with self._runner.alone_in(self.out):
            self._carry_out()
        return self.collect()

    def _carry_out(self) -> None:
        experiment, outcome = self.experiment, self.outcome
        self._runner.check([self._commands.training(run) for run in self._runs_in_turn()])
        if self._sweep is not None:
            self._draw_curves(self._sweep)
        runs = self._runs_in_turn()
        for run in runs:  # another β has other directories
            self._commands.training(run)
        outcome.runs = runs
        if experiment.times:
            self._train_in_turn()
        else:
            self._train("training", outcome.runs, together=True)
        self._evaluate(outcome.runs, experiment.attacks)
        outcome.costs = self._costs() if self._has_costs else None

    def collect(self) -> Outcome:
        """What the runs of the table have shown, and what is missing."""
        attacks, outcome = self.experiment.attacks, self.outcome
        order = [row.key for row in self.experiment.rows]
        outcome.runs.sort(key=lambda run: order.index(run.row.key))
        trained = [run for run in outcome.runs if run.summary.exists()]
        outcome.found = [self._commands.found(run, attacks) for run in trained]
        outcome.missing = [run.name for run in outcome.runs if run not in trained]
        evaluations = self._commands.evaluations(trained, attacks)
        outcome.missing += [job.name for job in evaluations if not job.done()]
        if self._has_costs and outcome.costs is None:
            outcome.missing.append("what an iteration and a sync cost")
        return outcome

    def _runs_in_turn(self) -> list[Run]:
        """The runs of the table, in the order in which they are made."""
        return [self._run("runs", row, seed) for seed in self._seeds for row in self._turn(seed)]

    def _turn(self, seed: int) -> list[Row]:
        """The rows in the order of their turns: each is the first by some seed."""
        rows = [self._tuned(row) for row in self.experiment.rows if row.has(seed)]
        first = seed % max(1, len(rows))
        return rows[first:] + rows[:first]

    def _train_in_turn(self) -> None:
        """One run at a time, and after those of a seed the runs that measure costs."""
        for seed in self._seeds:
            runs = [run for run in self.outcome.runs if run.seed == seed]
            self._train(f"training, seed {seed}", runs, together=False)
            if seed in self._cost_seeds():
                self._train(f"costs, seed {seed}", self._cost_runs(seed).values(), together=False)

    def _gammas(self, sweep: Sweep) -> dict[float, Row]:
        """Zipper's curve, by last value of γ; its own value is the first."""
        own = self._commands.zipper.mix.gamma
        values = (own.points[-1][1], *sweep.gammas)
        return {value: zipper_row(self.experiment.recipe, own, value) for value in values}

    def _betas(self, sweep: Sweep) -> dict[float, Row]:
        """TRADES' curve, by β."""
        return {value: trades_row(self.experiment.recipe, value) for value in sweep.betas}

    def _draw_curves(self, sweep: Sweep) -> None:
        """The curves, and the β at which TRADES has Zipper's clean accuracy."""
        outcome = self.outcome
        attacks = [Attacks(CURVE, sweep.images)]
        gammas = {value: self._run("curves", row, 0) for value, row in self._gammas(sweep).items()}
        betas = {value: self._run("curves", row, 0) for value, row in self._betas(sweep).items()}
        both = [*gammas.values(), *betas.values()]
        self._train("curves", both, together=True)
        self._evaluate(both, attacks)
        outcome.gammas = {value: self._accuracy(run, attacks) for value, run in gammas.items()}
        outcome.betas = {value: self._accuracy(run, attacks) for value, run in betas.items()}
        own = next(iter(gammas))
        target = outcome.gammas[own].clean
        slack = tolerance(self._commands.found(gammas[own], attacks).images["nat"])
        for _ in range(sweep.matching_runs):
            beta = next_beta(outcome.betas, target, slack)
            if beta is None:
                break
            run = self._run("curves", trades_row(self.experiment.recipe, beta), 0)
            self._train("tuning TRADES", [run], together=True)
            self._evaluate([run], attacks)
            outcome.betas[beta] = self._accuracy(run, attacks)
        beta = matched(outcome.betas, target, slack)
        outcome.match = Match(beta, outcome.betas[beta].clean, target, slack)

    def _tuned(self, row: Row) -> Row:
        """``row`` with the β that was chosen, if it is TRADES."""
        match = self.outcome.match
        if match is None or row.recipe != f"{self.experiment.recipe}-{BASELINE}":
            return row
        return with_beta(row, match.beta)

    def _cost_seeds(self) -> list[int]:
        """The seeds that Zipper is timed by."""
        zippers = [row for row in self.experiment.rows if row.key in ZIPPER]
        return [s for s in self._seeds if self._has_costs and any(z.has(s) for z in zippers)]

    def _cost_runs(self, seed: int) -> dict[str, Run]:
        """A short run of each learner alone, compiled if the whole run is."""
        about = read_json(self._a_zipper().directory / "config.json")["resolved"]
        steps: int = read_json(self._a_zipper().summary)["steps"]
        fewest, most = COST_STEPS
        few = str(min(steps, max(fewest, min(steps // 10, most))))
        compiled = "on" if about["compiled"] else "off"
        options = (
            ("--steps", few), ("--eval.every", few), ("--eval.limit", "64"),
            ("--compile", compiled),
        )  # fmt: skip
        return {
            learner: self._run("costs", Row(learner, label, recipe, options), seed)
            for learner, label, recipe in (
                ("natural", "the natural learner alone", f"{self.experiment.recipe}-natural"),
                ("adversarial", "the adversarial learner alone", f"{self.experiment.recipe}-at"),
            )
        }

    def _a_zipper(self) -> Run:
        return next(run for run in self.outcome.runs if run.row.key in ZIPPER)

    def _costs(self) -> Costs:
        """What an iteration of each learner and a sync cost."""
        each = {}
        for learner in ("natural", "adversarial"):
            runs = [self._cost_runs(seed)[learner].directory for seed in self._cost_seeds()]
            each[learner] = fmean(seconds_per_iteration(run, learner) for run in runs)
        zipper = self._a_zipper()
        costs = Costs(each["natural"], each["adversarial"], read_json(zipper.summary)["steps"])
        if PARALLEL not in {row.key for row in self.experiment.rows}:
            return costs
        size = bytes_of_a_sync(zipper.weights)
        job, file = self._commands.sync(size)
        self._go("a sync", [job], together=False)
        return replace(costs, sync_seconds=read_json(file)["seconds"], sync_bytes=size)

    def _run(self, kind: str, row: Row, seed: int) -> Run:
        return Run(row, seed, self.out / kind / f"{row.folder or row.key}-seed{seed}")

    def _train(self, stage: str, runs: Iterable[Run], together: bool) -> None:
        self._go(stage, [self._commands.training(run) for run in runs], together)

    def _go(self, stage: str, jobs: Sequence[Job], together: bool) -> None:
        """Run jobs, and note the commands of those that are done."""
        try:
            self._runner.run(stage, jobs, together)
        finally:
            for job in filter(lambda job: job.done(), jobs):
                command = job.make(self._runner.devices.names[: job.devices])
                if command not in self.outcome.commands:
                    self.outcome.commands.append(command)

    def _evaluate(self, runs: Sequence[Run], attacks: Sequence[Attacks]) -> None:
        self._go("evaluating", self._commands.evaluations(runs, attacks), together=True)

    def _accuracy(self, run: Run, attacks: Sequence[Attacks]) -> Accuracy:
        found = self._commands.found(run, attacks)
        return Accuracy(found.accuracy["nat"], found.accuracy["pgd_100"])
