"""Training's validation and the evaluation command are one engine."""

from __future__ import annotations

import csv
from pathlib import Path

from evaluation.conftest import EPS
from zipper_dist.checkpoint.weights import load_model, load_weights
from zipper_dist.config.schema import DataConfig, EvalConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import load
from zipper_dist.data.splits import limit_images
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.evaluation.attack_list import measures
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.results.report import Figure, Report, report
from zipper_dist.evaluation.run import run
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.training.validation import Validator, accuracies


def test_training_and_the_command_agree_example_by_example(
    run_directory: Path, tmp_path: Path
) -> None:
    """With the images of a run that had fewer of them, too (--data.limit)."""
    run(EvaluateOptions(
        run_directory, ("clean", "pgd-20"), limit=60, out=tmp_path, threads=1, device="cpu",
        picture=False,
    ))  # fmt: skip
    with (tmp_path / "evaluation.csv").open() as file:
        lines = list(csv.DictReader(file))
    file_of_weights = run_directory / "global.safetensors"
    spec, _ = load_weights(file_of_weights)
    data = load(DataConfig(source="digits", image_size=16, limit=200), 0)
    images = limit_images(data.test, 60, "test")
    validator = Validator(
        load_model(file_of_weights), spec, images,
        TrainConfig(eval=EvalConfig(norm="linf", eps=EPS, limit=60, batch_size=32)),
        tmp_path / "best", MetricsReporter(World(plan(Machine.detect({}), "cpu", 1)), []),
    )  # fmt: skip
    engine = validator.engine(images)
    for _ in engine.run(validator.wanted):
        pass
    result = report(engine, validator.wanted)
    assert images.numbers is not None
    assert [int(line["example"]) for line in lines] == images.numbers.tolist()
    for name in ("clean", "pgd-20"):
        assert [line[name] == "1" for line in lines] == result.correct[name].tolist()
    states = [engine.outcome(part, 0).state for m in validator.wanted for part in m.parts]
    assert len(set(states[0].tolist())) == 3  # broken, robust, and wrong without an attack


def test_several_threat_models_of_a_run() -> None:
    """Robust accuracy is that of the union, and each one's is there, too."""
    wanted = measures(["clean", "pgd-3"], [ThreatModel("linf", 0.1), ThreatModel("l2", 1.0)])
    figures = {
        measure.label: Figure(value, 0, 1, (0, 0), 0, 0, 0, {})
        for measure, value in zip(wanted, (90.0, 50.0, 60.0, 40.0), strict=True)
    }
    assert accuracies(Report(figures, {}), wanted) == {
        "clean": 90.0, "robust": 40.0, "robust@linf:0.1": 50.0, "robust@l2:1": 60.0,
    }  # fmt: skip
