"""Data sets that the Hugging Face library has saved to disk."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import fetch, load
from zipper_dist.data.splits import limited_indices
from zipper_dist.errors import UserError

CLASSES = ["cat", "dog", "owl"]
PARTS = {"train": 18, "test": 6}
FEATURES = datasets.Features(
    {
        "picture": datasets.Image(),
        "number": datasets.Value("int64"),
        "kind": datasets.ClassLabel(names=CLASSES),
    }
)


def pixels(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)


def encoded(array: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def table(count: int, first: int = 0, **cells: bytes) -> Any:
    """Images ``first`` … with their numbers; others in place of those in ``cells``, as n7=…"""
    rows = [
        {"picture": {"bytes": cells.get(f"n{n}", encoded(pixels(n))), "path": None}}
        | {"number": n, "kind": n % 3}
        for n in range(first, first + count)
    ]
    return datasets.Dataset.from_list(rows, features=FEATURES)


def written(root: Path, **splits: Any) -> Path:
    datasets.DatasetDict(splits).save_to_disk(str(root))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(tmp_path / "saved", train=table(18), test=table(6, 100))


def config(root: Path, **change: Any) -> DataConfig:
    cache = root.parent / "cache"
    return replace(DataConfig("datasets", root, validation="test", cache=cache), **change)


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_has_what_was_saved(root: Path, store: str) -> None:
    fetch(config(root, store=store))
    for _ in range(2):
        data = load(config(root, store=store), 0)
        assert data.train.on_disk == (store == "disk")
        assert data.class_names == tuple(CLASSES)
        for part, first in ((data.train, 0), (data.test, 100)):
            found = part.images[:].permute(0, 2, 3, 1).numpy()
            assert np.array_equal(found, [pixels(first + n) for n in range(len(part))])
            assert part.labels.tolist() == [(first + n) % 3 for n in range(len(part))]


@pytest.mark.parametrize("change", [{"limit": 5}, {"image_size": 4}, {"validation": "0.3"}])
def test_both_stores_give_the_same(root: Path, change: dict[str, Any]) -> None:
    memory, disk = (load(config(root, store=each, **change), 1) for each in ("memory", "disk"))
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(memory, part), getattr(disk, part)
        assert torch.equal(ours.images[:], theirs.images[:])
        assert torch.equal(ours.labels, theirs.labels)
    if size := change.get("image_size"):
        picture = Image.fromarray(pixels(0)).resize((size, size), Image.Resampling.BILINEAR)
        assert np.array_equal(memory.train.images[0].permute(1, 2, 0), np.asarray(picture))


def test_the_limit_chooses_as_for_other_sources(root: Path) -> None:
    limited = load(config(root, limit=5), 0).train
    chosen = limited_indices(18, 5, "train")
    assert torch.equal(limited.images, load(config(root), 0).train.images[chosen])


def test_images_that_cannot_be_read_are_named_or_skipped(tmp_path: Path) -> None:
    damaged = table(18, n0=b"no image", n7=encoded(pixels(7))[:60])
    root = written(tmp_path / "saved", train=damaged, test=table(6, 100))
    with pytest.raises(UserError, match=r"2 of 18 images of train .* the first is 0 \(no kind"):
        load(config(root), 0)
    for store in ("memory", "disk"):
        data = load(config(root, skip_unreadable=True, store=store), 0)
        kept = [n for n in range(18) if n not in (0, 7)]
        found = data.train.images[:].permute(0, 2, 3, 1).numpy()
        assert np.array_equal(found, [pixels(n) for n in kept])
        assert data.train.labels.tolist() == [n % 3 for n in kept]
        assert len(data.notes) == 1


def test_names_what_does_not_fit(tmp_path: Path) -> None:
    test = table(6, 100)
    other = table(18, n3=encoded(pixels(3)[:4]))
    numbers = table(18).cast_column("kind", datasets.Value("int64"))
    without = datasets.Dataset.from_list(
        [{"picture": None, "number": 0, "kind": -1}] * 2, features=FEATURES
    )
    for place, (splits, message) in enumerate(
        [
            ({"train": table(18), "more": test}, "has the splits train, more: give train and test"),
            ({"train": table(18).remove_columns("picture"), "test": test}, "one of images"),
            ({"train": numbers, "test": test}, "one of classes .*class_encode_column"),
            ({"train": other, "test": test}, "image 3 of train is 5×4 .*--data.image-size 6"),
            ({"train": without, "test": test}, "some images have no class"),
        ]
    ):
        root = written(tmp_path / str(place), **splits)
        with pytest.raises(UserError, match=message):
            load(config(root), 0)


def test_names_the_directory_or_file_that_is_no_such(root: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*elsewhere/dataset_dict.json.*--data.root"):
        fetch(config(root.parent / "elsewhere"))
    next((root / "train").glob("*.arrow")).write_bytes(b"damaged")
    with pytest.raises(UserError, match=rf"datasets: {root} cannot be read: "):
        load(config(root), 0)


def test_names_the_extra_where_the_library_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "datasets"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"takes the package datasets .*zipper_dist\[datasets\]"):
        fetch(config(root))
