"""Zipper from Python: the same as the commands, as functions.

    run = zipper_dist.fit("digits", {"steps": 60, "mix.every": 10})
    report = zipper_dist.benchmark(run.model(), "digits", zipper_dist.ThreatModel("linf", 0.17))

Nothing is printed unless asked for, and the state of the process is restored. Bad input raises
:class:`zipper_dist.UserError` with the message that the commands print.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zipper_dist.checkpoint.options import as_json
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.weights import load_model as load_weights_file
from zipper_dist.config.checks import validate
from zipper_dist.config.files import FROM_PYTHON
from zipper_dist.config.paths import expanded
from zipper_dist.config.schema import DataConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import fetch, load
from zipper_dist.data.splits import limited_indices
from zipper_dist.distributed.hardware import preserved_process_state
from zipper_dist.errors import CommandError, UserError, known_failures
from zipper_dist.evaluation.engine import Examples
from zipper_dist.evaluation.in_memory import evaluate_model
from zipper_dist.evaluation.results.report import Report
from zipper_dist.export.run import export
from zipper_dist.export.subject import ExportOptions
from zipper_dist.metrics.console import make_console
from zipper_dist.prediction.options import PredictOptions
from zipper_dist.prediction.results import Prediction
from zipper_dist.prediction.run import run as predict
from zipper_dist.recipes.command_line import train_options
from zipper_dist.recipes.registry import recipe
from zipper_dist.recipes.registry import recipe as named_recipe
from zipper_dist.training.run import run as train

__all__ = ["Run", "benchmark", "classify", "export_model", "fit", "load_model", "recipe"]


class Run:
    """A training run, complete or not, by its ``directory``."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._trusted = False

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: accuracies, times, traffic; raises UserError before the run is complete."""
        finished = RunDirectory(self.directory).finished()
        if finished is None:
            raise UserError(f"{self.directory}: no run is complete here")
        return finished

    def model(self, learner: str = "global", *, trust: bool = False) -> nn.Module:
        """The network ``global``, ``best`` or of a base learner, in eval mode, on the CPU.

        ``trust``: as for :func:`load_model`; a run that :func:`fit` made is trusted."""
        file = RunDirectory(self.directory).weights(learner)
        return load_weights_file(file, trust=trust or self._trusted)


@preserved_process_state()
@known_failures()
def fit(
    recipe: str | TrainConfig = "digits",
    options: Mapping[str, Any] | None = None,
    *,
    ranks: int = 1,
    run_dir: str | Path | None = None,
    verbose: bool = False,
) -> Run:
    """Train, or continue the run in ``run_dir``, to the end.

    Args:
        recipe: name of a recipe, or options such as :func:`recipe` returns.
        options: options by their dotted names on the command line, ``{"mix.every": 10}``.
        ranks: 1 trains in this process; more start processes, which share the learners.
        run_dir: the run directory; by default a temporary one, deleted with the Run.
        verbose: show progress and results on the terminal.

    Raises UserError for bad options or a directory of another run, CommandError (of which it is
    one) where training diverges, a rank is lost, or a disk or the memory is full.
    """
    if ranks < 1:
        raise UserError(f"ranks {ranks}: give 1 or more")
    temporary = None if run_dir else tempfile.TemporaryDirectory(prefix="zipper-")
    directory = expanded(Path(temporary.name if temporary else str(run_dir)), "run_dir")
    config = train_options(recipe, {**(options or {}), "run-dir": str(directory)})
    if ranks == 1:
        train(config, make_console() if verbose else None, environment={})
    else:
        _train_in_processes(config, ranks, verbose)
    run = Run(directory)
    run._temporary, run._trusted = temporary, True
    return run


def _train_in_processes(config: TrainConfig, ranks: int, verbose: bool) -> None:
    """Run the training command in ``ranks`` processes on this machine."""
    validate(config)
    if config.learners.keys() != named_recipe(config.recipe).learners.keys():
        raise UserError(f"ranks {ranks}: the learners must be those of recipe {config.recipe}")
    with tempfile.TemporaryDirectory(prefix=FROM_PYTHON) as scratch:
        file = Path(scratch) / "options.json"
        file.write_text(json.dumps(as_json(config)))
        launcher = ["zipper_dist.launcher", "--standalone", f"--nproc_per_node={ranks}"]
        command = [*launcher, "-m", "zipper_dist.train", "--config", str(file)]
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=None if verbose else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C comes to it once, from here
            text=True,
        )
        try:
            _, errors = process.communicate()
        except KeyboardInterrupt:
            process.terminate()  # the ranks save their state
            process.wait()
            raise
    if process.returncode != 0:
        prefix = "zipper: error: "
        lines = [line for line in errors.splitlines() if line.startswith(prefix)]
        message = lines[0].removeprefix(prefix) if lines else errors.strip()
        kind = UserError if process.returncode == UserError.status else CommandError
        raise kind(message or f"training ended with status {process.returncode}")


def load_model(path: str | Path, *, trust: bool = False) -> nn.Module:
    """The network of a run directory (its global learner) or of a weights file, in eval mode.

    ``trust``: import code outside the package that it names. UserError: absent, damaged, untrusted.
    """
    path = expanded(Path(path), "path")
    file = RunDirectory(path).weights("global") if path.is_dir() else path
    return load_weights_file(file, trust=trust)


@preserved_process_state()
@known_failures()
def classify(
    path: str | Path,
    images: Sequence[str | Path],
    *,
    top: int | None = None,
    certify_pgd: bool = False,
    threats: Sequence[ThreatModel] = (),
    trust: bool = False,
) -> list[Prediction]:
    """What a network says of image files, in their order, as the prediction command does.

    Args:
        path: a run directory, whose global learner is taken, or a weights file.
        images: image files of any kind and size.
        top: how many classes to give for an image, the most probable first; default: 5, or all.
        certify_pgd: attack every image by PGD, and say whether that changes the prediction; if it
            does not, that proves nothing.
        threats: what the attacker may do; default: what the network was trained for.
        trust: as for :func:`load_model`.

    Raises UserError for weights or images that are absent, damaged or untrusted.
    """
    if isinstance(images, str | Path):
        raise UserError(f"images: give a list of paths, such as [{str(images)!r}]")
    files = tuple(expanded(Path(image), "images") for image in images)
    options = PredictOptions(
        expanded(Path(path), "path"), files, top=top, certify_pgd=certify_pgd,
        threats=tuple(threats), trust=trust,
    )  # fmt: skip
    return predict(options)


@preserved_process_state()
@known_failures()
def export_model(
    path: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    learner: str = "global",
    trust: bool = False,
) -> Path:
    """Write a network in a format that others can load, and compare what was written with it.

    Args:
        path: a run directory or a weights file.
        to: robustbench, torch-export, onnx or hub, as ``--to`` of the export command takes it.
        out: directory for the files; by default ``export/FORMAT`` where the weights are.
        learner: which network of a run directory.
        trust: as for :func:`load_model`.

    Returns the directory of the files. Raises UserError for bad input and for a package that is
    not installed, CommandError where what was written gives other logits than the network.
    """
    where = None if out is None else expanded(Path(out), "out")
    return export(ExportOptions(expanded(Path(path), "path"), to, where, learner, trust=trust))


@preserved_process_state()
@known_failures()
def benchmark(
    model: nn.Module,
    data: str | tuple[Tensor, Tensor],
    threat: ThreatModel | Sequence[ThreatModel],
    attacks: Sequence[str] = ("clean", "pgd-20", "aa"),
    *,
    root: str | Path = "data",
    limit: int | None = None,
) -> Report:
    """Clean and robust accuracy of any network.

    Args:
        model: images (B, C, H, W), float32 in [0, 1] → logits (B, classes); on any device.
        data: name of a data set, whose test images are used, or images and labels (N,).
        threat: what the attacker may do; several are reported each, with their union.
        attacks: as ``--attacks`` of the evaluation command takes them.
        root: directory of the data sets.
        limit: the largest number of images, chosen at random by a fixed seed.
    """
    if isinstance(data, str):
        options = DataConfig(source=data, root=Path(root), validation="test")
        fetch(options)
        test = load(options, 0).test
        images, labels = test.images, test.labels
    else:
        images, labels = data
    numbers = limited_indices(len(labels), limit, "test")
    images, labels = images[numbers.to(images.device)], labels[numbers.to(labels.device)]
    return evaluate_model(model, Examples(images, labels, numbers), threat, attacks)
