"""Which weights are the best, and what a validation says of networks that are worth nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from zipper_dist.config.schema import EvalConfig, TrainConfig
from zipper_dist.data.image_set import ImageSet
from zipper_dist.distributed.communication import World
from zipper_dist.distributed.topology import Machine, plan
from zipper_dist.metrics.records import Record
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.sinks import Sink
from zipper_dist.models import ModelSpec, build
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.validation import Snapshot, Validator

SPEC = ModelSpec("small_cnn", 1, 16, 16, 3, 0.0625)


class Notes(Sink):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.records: list[Record] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def write(self, record: Record) -> None:
        self.records.append(record)


@pytest.fixture
def sink() -> Notes:
    return Notes()


@pytest.fixture
def validator(tmp_path: Path, sink: Notes, one_thread: None) -> Validator:
    brightness = torch.arange(0, 240, 8, dtype=torch.uint8)
    images = brightness[:, None, None, None].expand(30, 1, 16, 16).clone()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    world = World(plan(Machine(0, 1, 0, 1, 0, cores), "cpu", 1))
    config = TrainConfig(eval=EvalConfig(attack_steps=1, norm="linf", eps=0.1))
    return Validator(
        build(SPEC), SPEC, ImageSet(images, torch.tensor([0] * 16 + [1] * 7 + [2] * 7)), config,
        tmp_path / "best.safetensors", MetricsReporter(world, [sink]),
    )  # fmt: skip


def validate(validator: Validator, step: int, scale: float) -> None:
    """Validate normal weights of so large a deviation."""
    generator = torch.Generator().manual_seed(0)
    theta = scale * torch.randn(FlatState(build(SPEC)).flat.shape, generator=generator)
    snapshot, found = Snapshot(step, {}, {}), []
    for part in range(2):
        evaluation = validator.evaluate(snapshot, theta, part, parts=2)
        while True:
            try:
                next(evaluation)
            except StopIteration as end:
                found.append(end.value)
                break
    validator.conclude(snapshot, theta, found, since=0.0)


def test_a_constant_network_is_the_best_only_where_all_are(
    validator: Validator, sink: Notes, tmp_path: Path
) -> None:
    """Class 0 alone gives 53 % and withstands every attack: more than a network that tries has."""
    validate(validator, 1, scale=0.0)
    validate(validator, 2, scale=0.0)
    assert [record["clean"] for record in sink.records] == [pytest.approx(1600 / 30)] * 2
    assert [record["constant"] for record in sink.records] == [True, True]
    assert validator.best is validator.history[0]
    validate(validator, 3, scale=1.0)
    tries = validator.history[2]
    assert "constant" not in tries
    assert tries["clean"] + tries["robust"] < 2 * 1600 / 30
    assert validator.best is tries
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata()["step"] == "3"
    validate(validator, 4, scale=0.0)
    assert validator.best is tries
    said = [note for note in sink.notes if "answers all images alike" in note]
    assert ["iteration 1:" in said[0], "iteration 4:" in said[1], len(said)] == [True, True, 2]


def test_nan_with_finite_weights_is_told_and_worth_nothing(
    validator: Validator, sink: Notes
) -> None:
    validate(validator, 1, scale=1e20)
    (record,) = sink.records
    assert (record["clean"], record["robust"], record["not_finite"]) == (0.0, 0.0, 30)
    assert any("NaN or infinite for 30 of 30 images" in note for note in sink.notes)


def test_the_best_is_accurate_enough_if_any_is(validator: Validator) -> None:
    def record(step: int, clean: float, robust: float) -> Record:
        return {"step": step, "clean": clean, "robust": robust}

    validator._best_clean = 88.0
    validator.history = [record(1, 70.0, 60.0), record(2, 87.9, 43.0)]
    assert validator.best == validator.history[1]
    validator.history += [record(3, 88.0, 42.0), record(4, 89.0, 42.0), record(5, 80.0, 60.0)]
    assert validator.best == validator.history[3]
