"""Carries an experiment out: trains, evaluates, tunes; what is done already is not done again.

Where times are compared, the runs of the table have the machine to themselves, and take turns by
seed, so that a slow spell hits all rows alike. All else shares it: a run on each free device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from comparison.commands import Commands, Settings
from comparison.experiments import (
    BASELINE,
    ZIPPER,
    Attacks,
    Experiment,
    Row,
    Sweep,
    options,
    trades_row,
    with_beta,
    zipper_row,
)
from comparison.jobs import Job, Runner
from comparison.matching import Accuracy, Match, matched, next_beta, tolerance
from comparison.results import (
    Costs,
    Found,
    Outcome,
    Run,
    read_json,
    seconds_per_iteration,
)

COST_STEPS = 200
"""Iterations of a run that measures the cost of one, or all where there are fewer."""

CURVE = ("clean", "pgd-100")
"""The curves need one robust accuracy, and TRADES is tuned by it."""


class Campaign:
    """An experiment at work.

    Attributes:
        outcome: what it has shown so far.
        commands: the commands that it consists of.
    """

    def __init__(self, experiment: Experiment, settings: Settings, runner: Runner) -> None:
        self.experiment, self.out = experiment, settings.out
        self.outcome = Outcome(experiment)
        self.commands = Commands(experiment, settings, runner.devices)
        self._seeds = range(settings.seeds)
        self._runner = runner
        keys = {row.key for row in experiment.rows}
        # Nothing is tuned where there is no TRADES, or no Zipper to tune it to.
        self._sweep = experiment.sweep if BASELINE in keys and keys & ZIPPER else None
        self._has_costs = experiment.times and bool(keys & ZIPPER)

    def rows(self) -> list[Row]:
        """Every row that is known beforehand, those of the curves included."""
        rows = list(self.experiment.rows)
        if self._sweep is not None:
            rows += [*self._gammas(self._sweep).values(), *self._betas(self._sweep.betas).values()]
        return rows

    def carry_out(self) -> None:
        """Do what is left to do, and :meth:`collect`. After an interruption that has what there is.

        Raises:
            UserError: a row takes more devices than there are, a run was made with other options,
                or somebody else is at work in the directory.
            Interrupted: the same call continues.
            JobFailed: a command failed.
        """
        experiment, outcome = self.experiment, self.outcome
        with self._runner.alone_in(self.out):
            self._runner.check(self._trainings(self.runs_in_turn()))
            if self._sweep is not None:
                self._draw_curves(self._sweep)
            runs = self.runs_in_turn()
            self._trainings(runs)  # checks them: another β has other directories
            outcome.runs = runs
            if experiment.times:
                self._train_in_turn()
            else:
                self._train("training", runs)
            self._evaluate(runs, experiment.attacks)
            outcome.costs = self._costs() if self._has_costs else None
        self.collect()

    def collect(self) -> None:
        """Take up what the runs of the table have shown, and what is missing."""
        attacks, outcome = self.experiment.attacks, self.outcome
        order = [row.key for row in self.experiment.rows]
        outcome.runs.sort(key=lambda run: order.index(run.row.key))
        trained = [run for run in outcome.runs if run.summary.exists()]
        outcome.found = [self.commands.found(run, attacks) for run in trained]
        outcome.missing = [run.name for run in outcome.runs if run not in trained]
        evaluations = self.commands.evaluations(trained, attacks)
        outcome.missing += [job.name for job in evaluations if not job.done()]
        if self._has_costs and outcome.costs is None:
            outcome.missing.append("what an iteration costs")
        # The options of Zipper, where there is one, tell how it was attacked.
        abouts = [run for run in trained if run.row.key in ZIPPER] or trained
        outcome.about = read_json(abouts[0].directory / "config.json") if abouts else {}

    def runs_in_turn(self) -> list[Run]:
        """The runs of the table, in the order in which they are made."""
        return [
            self.commands.run("runs", row, seed) for seed in self._seeds for row in self._turn(seed)
        ]

    def _turn(self, seed: int) -> list[Row]:
        """The rows in the order of their turns: each is the first by some seed."""
        match, tuned = self.outcome.match, f"{self.experiment.recipe}-{BASELINE}"
        rows = list(self.experiment.rows)
        if match is not None:
            rows = [with_beta(row, match.beta) if row.recipe == tuned else row for row in rows]
        first = seed % max(1, len(rows))
        return rows[first:] + rows[:first]

    def _train_in_turn(self) -> None:
        """One run at a time, and after those of a seed the runs that measure costs."""
        for seed in self._seeds:
            runs = [run for run in self.outcome.runs if run.seed == seed]
            self._train(f"training, seed {seed}", runs, together=False)
            if self._has_costs:
                costs = self._cost_runs(seed).values()
                self._train(f"costs, seed {seed}", costs, together=False)

    def _gammas(self, sweep: Sweep) -> dict[float, Row]:
        """Zipper's curve, by last value of γ; its own value is the first."""
        own = self.commands.zipper.mix.gamma
        values = (own.points[-1][1], *sweep.gammas)
        return {value: zipper_row(self.experiment.recipe, own, value) for value in values}

    def _betas(self, values: Iterable[float]) -> dict[float, Row]:
        """TRADES' curve, by β."""
        return {value: trades_row(self.experiment.recipe, value) for value in values}

    def _draw_curves(self, sweep: Sweep) -> None:
        """The curves, and the β at which TRADES has Zipper's clean accuracy."""
        outcome = self.outcome
        gammas, betas = self._gammas(sweep), self._betas(sweep.betas)
        found = self._curve("curves", [*gammas.values(), *betas.values()], sweep)
        accuracies = [Accuracy(each.figures["nat"], each.figures["pgd_100"]) for each in found]
        outcome.gammas = dict(zip(gammas, accuracies, strict=False))
        outcome.betas = dict(zip(betas, accuracies[len(gammas) :], strict=True))
        target, slack = accuracies[0].clean, tolerance(found[0].images["nat"])
        for _ in range(sweep.tuning_runs):
            beta = next_beta(outcome.betas, target, slack)
            if beta is None:
                break
            (one,) = self._curve("tuning TRADES", self._betas([beta]).values(), sweep)
            outcome.betas[beta] = Accuracy(one.figures["nat"], one.figures["pgd_100"])
        beta = matched(outcome.betas, target, slack)
        outcome.match = Match(beta, outcome.betas[beta].clean, target, slack)

    def _curve(self, stage: str, rows: Iterable[Row], sweep: Sweep) -> list[Found]:
        """Train and evaluate points of the curves."""
        runs = [self.commands.run("curves", row, 0) for row in rows]
        attacks = [Attacks(CURVE, sweep.images)]
        self._train(stage, runs)
        self._evaluate(runs, attacks)
        return [self.commands.found(run, attacks) for run in runs]

    def _cost_runs(self, seed: int) -> dict[str, Run]:
        """A short run of each learner alone, compiled if the whole run is."""
        zipper = self._a_zipper()
        compiled = read_json(zipper.directory / "config.json")["resolved"]["compiled"]
        few = min(COST_STEPS, read_json(zipper.summary)["steps"])
        compile_it = "on" if compiled else "off"
        short = f"--steps {few} --eval.every {few} --eval.limit 64 --compile {compile_it}"
        base = self.experiment.recipe
        rows = [
            Row(learner, f"the {learner} learner alone", f"{base}-{method}", options(short))
            for learner, method in (("natural", "natural"), ("adversarial", "at"))
        ]
        return {row.key: self.commands.run("costs", row, seed) for row in rows}

    def _a_zipper(self) -> Run:
        return next(run for run in self.outcome.runs if run.row.key in ZIPPER)

    def _costs(self) -> Costs:
        """What an iteration of each learner costs."""
        runs = [self._cost_runs(seed) for seed in self._seeds]
        natural, adversarial = (
            fmean(seconds_per_iteration(each[learner].directory, learner) for each in runs)
            for learner in ("natural", "adversarial")
        )
        return Costs(natural, adversarial, read_json(self._a_zipper().summary)["steps"])

    def _trainings(self, runs: Iterable[Run]) -> list[Job]:
        return [self.commands.training(run) for run in runs]

    def _train(self, stage: str, runs: Iterable[Run], together: bool = True) -> None:
        self._go(stage, self._trainings(runs), together)

    def _evaluate(self, runs: Sequence[Run], attacks: Sequence[Attacks]) -> None:
        self._go("evaluating", self.commands.evaluations(runs, attacks), together=True)

    def _go(self, stage: str, jobs: Sequence[Job], together: bool) -> None:
        """Run jobs, and note the commands of those that are done."""
        try:
            self._runner.run(stage, jobs, together)
        finally:
            names, known = self._runner.devices.names, self.outcome.commands
            done = [str(job.make(names[: job.devices])) for job in jobs if job.done()]
            known += [command for command in done if command not in known]
