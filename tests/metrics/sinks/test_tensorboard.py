"""TensorBoard's own reader finds what was written, in a whole run and in one that goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import zipper_dist
from zipper_dist.errors import UserError
from zipper_dist.metrics.sinks import RunInfo, make_sinks
from zipper_dist.metrics.sinks.tensorboard import TensorBoard


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def losses(folder: Path) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars("loss")}


def write(directory: Path, values: dict[int, float], last: int) -> None:
    sink = TensorBoard()
    sink.open(RunInfo(directory, ["natural"], 100, last_steps={"natural": last}))
    for step, value in values.items():
        sink.write({"time": 100.0 + step, "step": step, "learner": "natural", "loss": value})
    sink.close()


def test_scalars_have_iteration_and_time(tmp_path: Path) -> None:
    write(tmp_path, {10: 1.5, 20: 1.25}, last=0)
    found = read(tmp_path / "tensorboard" / "natural").Scalars("loss")
    assert [(e.wall_time, e.step, e.value) for e in found] == [(110, 10, 1.5), (120, 20, 1.25)]


def test_records_are_on_the_disk_at_once(tmp_path: Path) -> None:
    sink = TensorBoard()
    sink.open(RunInfo(tmp_path, ["natural"], 100))
    sink.write({"step": 10, "learner": "natural", "loss": 0.5})
    assert losses(tmp_path / "tensorboard" / "natural") == {10: 0.5}  # not closed yet
    sink.close()


def test_what_a_continued_run_does_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, {10: 1.0, 20: 2.0, 30: 3.0}, last=0)
    write(tmp_path, {20: 2.5}, last=10)
    assert losses(tmp_path / "tensorboard" / "natural") == {10: 1.0, 20: 2.5}


def test_of_a_whole_run_it_has_figures_pictures_and_the_final_table(tmp_path: Path) -> None:
    options = {
        "steps": 30, "batch_size": 32, "mix.start": 10, "mix.every": 5, "eval.every": 15,
        "eval.limit": 16, "eval.attack_steps": 2, "data.image_size": 8, "device": "cpu",
        "threads": 1, "precision": "fp32", "model.width": 0.125, "log_every": 10,
        "metrics": ("tensorboard", "csv"),
    }  # fmt: skip
    run = zipper_dist.fit("digits", options, run_dir=tmp_path / "run")
    folder = tmp_path / "run" / "tensorboard"
    for learner in ("natural", "adversarial"):
        assert sorted(losses(folder / learner)) == [10, 20, 30]
    of_global = read(folder / "global")
    assert [event.step for event in of_global.Scalars("robust")] == [15, 30]
    tags = of_global.Tags()["images"]
    assert tags == ["pgd-2"]
    (picture, *_) = of_global.Images("pgd-2")
    assert picture.height == 2 * 8  # clean above attacked
    assert picture.width % 8 == 0
    table = read(folder)
    scores = run.summary["final"]["learners"]["global"]
    assert table.Scalars("final/global/clean")[0].value == pytest.approx(scores["clean"])
    content = table.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    given = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert given["steps"].number_value == 30
    assert given["learners.adversarial.objective"].string_value == "at"
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 1 + 2 * 3 + 2


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)
        said = rf"--metrics {package}: takes the package .*'zipper_dist\[{package}\]'"
        with pytest.raises(UserError, match=said):
            make_sinks(["jsonl", package])
