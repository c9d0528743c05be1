"""The commands of an experiment, as jobs, and where what they leave is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comparison.devices import Command, Devices
from comparison.experiments import SERIAL, Attacks, Experiment, Images, Row, method_row
from comparison.jobs import Job
from comparison.results import Found, Run, evaluated, read_json
from zipper_dist.checkpoint.options import as_json, differences
from zipper_dist.config.schema import TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes.command_line import parse_train_options

DATA_ROOT = Path("data")
"""Where the training command looks for data sets by itself."""


@dataclass(frozen=True)
class Settings:
    """How an experiment is carried out: in directory ``out``, with seeds 0, 1, … ``seeds`` - 1."""

    out: Path
    seeds: int = 1
    data_root: Path = DATA_ROOT


class Commands:
    """Makes the jobs of ``experiment``.

    Attributes:
        zipper: the options of Zipper's training command, but for seed and directory.
    """

    def __init__(self, experiment: Experiment, settings: Settings, devices: Devices) -> None:
        self._experiment, self._settings, self._devices = experiment, settings, devices
        self.zipper = self.config_of(method_row(SERIAL, experiment.recipe))
        # All networks are attacked alike, whatever they were trained for: as Zipper's.
        (threat,), step_size = self.zipper.threats(), self.zipper.eval.step_size
        self._threat = ["--norm", threat.norm, "--eps", repr(threat.eps)]
        self._threat += [] if step_size is None else ["--step-size", f"{step_size:g}"]

    def config_of(self, row: Row) -> TrainConfig:
        """The options of a row as its training command has them.

        Raises:
            SystemExit: options that cannot be read (after a message).
        """
        return parse_train_options(self._arguments(row))

    def _arguments(self, row: Row) -> list[str]:
        """The training command's arguments, without those that say which run of the row it is."""
        root = self._settings.data_root
        data = [] if root == DATA_ROOT else ["--data.root", str(root)]
        options = [word for pair in self._experiment.options_of(row) for word in pair if word]
        return [row.recipe, *data, *options]

    def run(self, kind: str, row: Row, seed: int) -> Run:
        """A run in its directory; ``kind`` is runs, curves or costs."""
        return Run(row, seed, self._settings.out / kind / f"{row.folder or row.key}-seed{seed}")

    def training(self, run: Run) -> Job:
        """Train.

        Raises:
            UserError: the run's directory holds one with other options.
        """
        which = ["--seed", str(run.seed), "--run-dir", str(run.directory)]
        arguments = [*self._arguments(run.row), *which]
        file = run.directory / "config.json"
        if file.exists():
            here = as_json(parse_train_options([*arguments, *self._devices.options]))
            if differing := differences(read_json(file)["options"], here):
                raise UserError(
                    f"{run.directory} holds a run with other options ({'; '.join(differing)}): "
                    "give the same options to go on with it, another --out, or delete it"
                )
        make = self._maker("zipper_dist.train", arguments)
        log = self._log(f"{run.directory.parent.name}-{run.directory.name}")
        return Job(run.name, make, run.row.devices, run.summary.exists, log)

    def evaluations(self, runs: Sequence[Run], attacks: Sequence[Attacks]) -> list[Job]:
        """Evaluate ``runs``; the same weights, by whatever run, are evaluated once.

        Attacks that come later are made when all runs have had those before them.
        """
        jobs: dict[Path, Job] = {}
        for group in attacks:
            for run in runs:
                jobs.setdefault(self._evaluation(run, group.images), self._evaluating(run, group))
        return list(jobs.values())

    def _evaluating(self, run: Run, group: Attacks) -> Job:
        names, images, directory = group.names, group.images, self._evaluation(run, group.images)
        arguments = [str(run.directory), "--attacks", *names, *self._threat]
        arguments += ["--out", str(directory), "--no-picture"]
        if images.limit is not None:
            arguments += ["--first" if images.first else "--limit", str(images.limit)]
        return Job(
            f"{'+'.join(names)} on {run.name}",
            self._maker("zipper_dist.evaluate", arguments),
            1,
            lambda: set(names) <= evaluated(directory).keys(),
            self._log(f"evaluation-{directory.parent.name}-{directory.name}"),
        )

    def found(self, run: Run, attacks: Sequence[Attacks]) -> Found:
        """What a run has shown that is trained, by the evaluations that were made of it."""
        return Found.of(run, {self._evaluation(run, each.images): each.names for each in attacks})

    def _evaluation(self, run: Run, images: Images) -> Path:
        which = f"{images.limit}-images" if images.limit else "all-images"
        which = f"first-{which}" if images.first else which
        threat = "".join(word.replace("--", "-") for word in self._threat)
        return self._settings.out / "evaluations" / run.digest / f"{which}{threat}"

    def _maker(self, module: str, words: Sequence[str]) -> Callable[[Sequence[str]], Command]:
        return lambda on: self._devices.command(module, words, on)

    def _log(self, name: str) -> Path:
        return self._settings.out / "logs" / f"{name}.log"
