"""The benchmark of images that stay on disk, on a few."""

from __future__ import annotations

import json
from pathlib import Path

import bench_data
import pytest
from bench_data import Place

from zipper_dist.data import load


def test_the_images_are_as_many_and_as_large_as_asked_for(tmp_path: Path) -> None:
    place = Place(tmp_path, 32, 60)
    size = bench_data.write_images(place)
    train, test = (list((tmp_path / "images" / part).glob("*/*")) for part in ("train", "test"))
    assert (len(train), len(test)) == (60, bench_data.TEST)
    assert size == pytest.approx(sum(path.stat().st_size for path in train), rel=0.02)
    data = load(place.config(), 0)
    assert data.train.on_disk
    assert (len(data.train), data.height, data.classes) == (60, 32, bench_data.CLASSES)
    bench_data.forget(place)
    found, _ = bench_data.rate(data.train, 8, 0.05)
    assert found > 0


def test_what_iterations_take_and_wait(tmp_path: Path) -> None:
    names = {"reading images": 1, "attack": 20, "training step": 30, "evaluating": 1000}
    events = [{"ph": "X", "name": name, "dur": 1e6 * s} for name, s in names.items()]
    events += [{"ph": "M", "name": "process_name"}, {**events[0], "dur": 2e6}]
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    assert bench_data.spent(tmp_path / "trace.json") == (53, 3)
