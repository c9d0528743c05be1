"""The commands of an experiment, as jobs, and where what they leave is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from comparison.devices import Command, Devices
from comparison.experiments import SERIAL, Attacks, Experiment, Images, Row, method_row
from comparison.figures import KEYS, Found, Shared, are_first, evaluated, read_json, verdicts
from comparison.outcome import Run
from comparison.runner import Job
from zipper_dist.checkpoint.run_directory import as_json, differences
from zipper_dist.config.schema import TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes.command_line import parse_train_options

DATA_ROOT = Path("data")
"""Where the training command looks for data sets by itself."""


class Commands:
    """Makes the jobs of ``experiment``.

    Args:
        experiment: what is compared.
        out: its directory.
        devices: what it runs on.
        data_root: directory of the data sets.
        limit: evaluate on at most so many test images.

    Attributes:
        zipper: the options of Zipper's training command, but for seed and directory.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        devices: Devices,
        data_root: Path,
        limit: int | None,
    ) -> None:
        self._experiment = experiment
        self._out = out
        self._devices = devices
        self._data = () if data_root == DATA_ROOT else ("--data.root", str(data_root))
        self._limit = limit
        self.zipper = self.config_of(method_row(SERIAL, experiment.recipe))

    def config_of(self, row: Row) -> TrainConfig:
        """The options of a row as its training command has them.

        Raises:
            SystemExit: options that cannot be read (after a message).
        """
        return parse_train_options(self._arguments(row))

    def _arguments(self, row: Row) -> list[str]:
        """The training command's arguments, without those that say which run of the row it is."""
        options = [word for pair in self._experiment.options_of(row) for word in pair if word]
        return [row.recipe, *self._data, *options]

    def training(self, run: Run) -> Job:
        """Train.

        Raises:
            UserError: the run's directory holds one with other options.
        """
        which = ["--seed", str(run.seed), "--run-dir", str(run.directory)]
        arguments = [*self._arguments(run.row), *which]
        self._check_same(run, [*arguments, *self._devices.options])
        return Job(
            run.name,
            self._maker("zipper_dist.train", arguments),
            run.row.devices,
            run.summary.exists,
            self._out / "logs" / f"{run.directory.parent.name}-{run.directory.name}.log",
        )

    def _check_same(self, run: Run, arguments: Sequence[str]) -> None:
        file = run.directory / "config.json"
        if not file.exists():
            return
        there, here = read_json(file)["options"], as_json(parse_train_options(arguments))
        differing = differences(there, here)
        if differing:
            raise UserError(
                f"{run.directory} holds a run with other options ({'; '.join(differing)}): give "
                "the same options to go on with it, another --out, or delete it"
            )

    def evaluations(self, runs: Sequence[Run], attacks: Sequence[Attacks]) -> list[Job]:
        """Evaluate ``runs``; the same weights, by whatever run, are evaluated once.

        Attacks that come later are made when all runs have had those before them.
        """
        jobs: dict[Path, Job] = {}
        for group in attacks:
            for run in runs:
                images = group.images.at_most(self._limit)
                names = self._by_images(attacks, run.seed).get(images)
                if names is not None:
                    job = self._evaluating(run, images, names)
                    jobs.setdefault(self._evaluation(run, images), job)
        return list(jobs.values())

    def _evaluating(self, run: Run, images: Images, names: Sequence[str]) -> Job:
        directory = self._evaluation(run, images)
        arguments = [str(run.directory), "--attacks", *names, *self._threat()]
        arguments += ["--out", str(directory), "--no-picture"]
        if images.limit is not None:
            arguments += ["--first" if images.first else "--limit", str(images.limit)]
        return Job(
            f"{'+'.join(names)} on {run.name}",
            self._maker("zipper_dist.evaluate", arguments),
            1,
            lambda: set(names) <= evaluated(directory).keys(),
            self._out / "logs" / f"evaluation-{directory.parent.name}-{directory.name}.log",
        )

    def _threat(self) -> list[str]:
        """What all networks are attacked with, whatever they were trained for: Zipper's attack."""
        (threat,), step_size = self.zipper.threats(), self.zipper.eval.step_size
        step = [] if step_size is None else ["--step-size", f"{step_size:g}"]
        return ["--norm", threat.norm, "--eps", repr(threat.eps), *step]

    def _maker(self, module: str, arguments: Sequence[str]) -> Callable[[Sequence[str]], Command]:
        return lambda on: self._devices.command(module, arguments, on)

    def sync(self, size: int) -> tuple[Job, Path]:
        """Time an all-reduce of ``size`` bytes; and the file with the result."""
        file = self._out / "costs" / f"sync-of-{size}-bytes.json"

        def make(on: Sequence[str]) -> Command:
            arguments = ("--bytes", str(size), "--out", str(file))
            command = self._devices.command("comparison.sync_cost", arguments, on)
            here = os.path.relpath(Path(__file__).parents[1])
            return replace(command, environment={**command.environment, "PYTHONPATH": here})

        return Job("a sync", make, 2, file.exists, self._out / "logs" / "sync.log"), file

    def _by_images(self, attacks: Sequence[Attacks], seed: int) -> dict[Images, list[str]]:
        """Attacks on the network of a seed by the images that they are made on."""
        names: dict[Images, list[str]] = {}
        for group in attacks:
            if group.seeds is None or seed < group.seeds:
                names.setdefault(group.images.at_most(self._limit), []).extend(group.names)
        return names

    def _evaluation(self, run: Run, images: Images) -> Path:
        attack = "".join(word.replace("--", "-") for word in self._threat())
        which = f"{images.limit}-images" if images.limit else "all-images"
        which = f"first-{which}" if images.first else which
        return self._out / "evaluations" / run.digest / f"{which}{attack}"

    def found(self, run: Run, attacks: Sequence[Attacks]) -> Found:
        """What a run has shown that is trained, by the evaluations that were made of it."""
        accuracy: dict[str, float] = {}
        counts: dict[str, int] = {}
        first: set[str] = set()
        right: dict[str, dict[int, bool]] = {}
        for images, names in self._by_images(attacks, run.seed).items():
            directory = self._evaluation(run, images)
            figures = evaluated(directory)
            keys = {name: KEYS[name] for name in names if name in figures}
            accuracy |= {key: figures[name]["accuracy"] for name, key in keys.items()}
            counts |= {key: figures[name]["n"] for name, key in keys.items()}
            if keys:
                first |= set(keys.values()) if are_first(directory) else set()
                each = verdicts(directory)
                right |= {key: each[name] for name, key in keys.items()}
        return Found(
            run.row.key, run.seed, accuracy, counts, read_json(run.summary), run.digest,
            frozenset(first), Shared.by(right),
        )  # fmt: skip
