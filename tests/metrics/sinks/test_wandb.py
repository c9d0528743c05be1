"""What W&B writes offline is a whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from wandb.proto.wandb_internal_pb2 import Record as Stored

from zipper_dist.metrics.sinks import RunInfo
from zipper_dist.metrics.sinks.wandb import Wandb

BLOCK, FILE_HEADER, PART_HEADER = 32768, 7, 7
WHOLE, LAST = 1, 4
"""Kinds of parts: a whole record, and the last part of one."""


def stored(file: Path) -> Iterator[Any]:
    """The records of a .wandb file, which is a log of LevelDB with a header of its own."""
    content, at, record = file.read_bytes(), FILE_HEADER, b""
    while at + PART_HEADER <= len(content):
        if BLOCK - at % BLOCK < PART_HEADER:
            at += BLOCK - at % BLOCK
            continue
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        kind = content[at + 6]
        record += content[at + PART_HEADER : at + PART_HEADER + length]
        at += PART_HEADER + length
        if kind in (WHOLE, LAST):
            yield Stored.FromString(record)
            record = b""


def test_an_offline_run_has_options_figures_pictures_and_final_scores(tmp_path: Path) -> None:
    directory = tmp_path / "digits-seed0"
    directory.mkdir()
    sink = Wandb()
    sink.open(RunInfo(directory, ["natural"], 100, options={"mix.every": 5}))
    sink.write({"time": 123.5, "step": 20, "learner": "natural", "loss": 0.25})
    sink.write({"time": 124.5, "step": 10, "learner": "global", "clean": 90.0})
    sink.picture("pgd-2", 10, torch.zeros(1, 4, 6, dtype=torch.uint8))
    sink.finish({"final": {"learners": {"global": {"clean": 91.0, "robust": 50.0}}}})
    sink.close()
    (file,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    found = list(stored(file))
    history = [
        {
            item.key or ".".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in found
        if r.WhichOneof("record_type") == "history"
    ]
    assert history[0].items() >= {"natural/loss": 0.25, "natural/step": 20}.items()
    assert history[0]["natural/time"] == 123.5
    assert history[1].items() >= {"global/clean": 90.0, "global/step": 10}.items()
    assert history[2]["global/pgd-2._type"] == "image-file"
    assert list(directory.glob("wandb/offline-run-*/files/media/images/global/*.png"))
    (run,) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
    assert run.run_group == "digits-seed0"
    assert any(item.key == "mix.every" and item.value_json == "5" for item in run.config.update)
    summaries = [r.summary for r in found if r.WhichOneof("record_type") == "summary"]
    updates = {item.key: item.value_json for s in summaries for item in s.update}
    assert updates["final/global/robust"] == "50.0"
