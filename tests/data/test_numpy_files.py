"""Images in NumPy files: from memory or from where they are, the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Loader, fetch, load
from zipper_dist.data.stores import identity
from zipper_dist.errors import UserError

DRAWS = np.random.default_rng(0)
IMAGES = {n: DRAWS.integers(0, 256, (n, 6, 5, 3), np.uint8) for n in (20, 7)}
LABELS = {n: np.arange(n) % 3 for n in (20, 7)}
PARTS = {"train": 20, "test": 7}


def written(root: Path, kind: str) -> Path:
    root.mkdir()
    for part, count in PARTS.items():
        if kind == "npz":
            np.savez(root / f"{part}.npz", image=IMAGES[count], label=LABELS[count])
        else:
            np.save(root / f"{part}_image.npy", IMAGES[count])
            np.save(root / f"{part}_label.npy", LABELS[count].astype(np.uint8))
    return root


@pytest.fixture(params=["npz", "npy"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return written(tmp_path / "images", request.param)


def config(root: Path, **change: Any) -> DataConfig:
    return replace(
        DataConfig("numpy", root, validation="test", cache=root.parent / "cache"), **change
    )


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_has_what_the_files_have(root: Path, store: str) -> None:
    fetch(config(root, store=store))
    data = load(config(root, store=store), 0)
    assert data.train.on_disk == (store == "disk")
    assert np.array_equal(data.train.images[:].permute(0, 2, 3, 1), IMAGES[20])
    assert np.array_equal(data.test.images[:].permute(0, 2, 3, 1), IMAGES[7])
    assert data.train.labels.tolist() == LABELS[20].tolist()
    assert data.test.labels.tolist() == LABELS[7].tolist()
    assert data.class_names == ("0", "1", "2")
    assert not (root.parent / "cache").exists(), "nothing has to be decoded"


@pytest.mark.parametrize("change", [{}, {"limit": 5}, {"validation": "0.3"}, {"image_size": 4}])
def test_both_stores_give_the_same_minibatches(root: Path, change: dict[str, Any]) -> None:
    memory, disk = (load(config(root, store=each, **change), 1) for each in ("memory", "disk"))
    assert disk.train.on_disk
    assert memory.digest() == disk.digest()
    loaders = [Loader(each.train, 3, 0, 1, True) for each in (memory, disk)]
    for t in range(1, 9):
        one, two = (loader.minibatch(t) for loader in loaders)
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
    assert torch.equal(memory.validation.images[:], disk.validation.images[:])


def test_resized_images_are_made_anew_where_the_file_was_changed(root: Path) -> None:
    before = load(config(root, store="disk", image_size=4), 0)
    (file,) = [each for each in root.glob("train*") if "label" not in each.name]
    content = bytearray(file.read_bytes())
    at = content.index(IMAGES[20].tobytes())
    content[at : at + 900] = bytes(900)
    file.write_bytes(content)
    after = load(config(root, store="disk", image_size=4), 0)
    assert not torch.equal(before.train.images[:], after.train.images[:])
    memory = load(config(root, store="memory", image_size=4), 0)
    assert torch.equal(after.train.images[:], memory.train.images[:])


def test_parts_of_one_file_are_told_apart(root: Path) -> None:
    whole = load(config(root, store="disk"), 0).train
    parts = [whole.subset(torch.tensor(chosen)).images for chosen in ([0, 1], [2, 3], [1, 0])]
    assert len({str(identity(part)) for part in parts}) == 3
    assert identity(parts[0]) == identity(whole.subset(torch.tensor([0, 1])).images)


def test_takes_names_of_classes(root: Path) -> None:
    (root / "classes.txt").write_text("cat\ndog\nowl\nfox\n")
    assert load(config(root), 0).class_names == ("cat", "dog", "owl", "fox")
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match=r"labels go from 0 to 2: give two .* 0 to 1, for the 2"):
        load(config(root), 0)
    (root / "classes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"classes.txt cannot be read"):
        load(config(root), 0)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (IMAGES[20].astype(np.float32), LABELS[20], r"image is float32 \(20, 6, 5, 3\)"),
        (IMAGES[20][:5], LABELS[20], "5 images and 20 labels"),
        (IMAGES[20], LABELS[20] - 1, r"labels go from -1 to 2: give two classes .* from 0 on"),
        (IMAGES[20], LABELS[20] * 1.0, "label float64"),
        (IMAGES[20][:, :4], LABELS[20], r"train are \(4, 5, 3\), and those of test \(6, 5, 3\)"),
        (np.array([None]), LABELS[20], "damaged"),
    ],
)
def test_names_what_does_not_fit(root: Path, image: Any, label: Any, message: str) -> None:
    if (root / "train.npz").exists():
        np.savez(root / "train.npz", image=image, label=label)
    else:
        np.save(root / "train_image.npy", image)
        np.save(root / "train_label.npy", label)
    for store in ("memory", "disk"):
        with pytest.raises(UserError, match=message):
            load(config(root, store=store), 0)


def test_names_the_file_that_is_missing_or_no_such_file(root: Path) -> None:
    first = next(root.glob("test*"))
    content = first.read_bytes()
    for wrong in (b"", b"nothing", content[: len(content) // 2]):
        first.write_bytes(wrong)
        with pytest.raises(UserError, match=rf"numpy: {root}/test.*(damaged|cannot be read)"):
            load(config(root), 0)
    for file in root.glob("test*"):
        file.unlink()
    with pytest.raises(UserError, match=rf"no file {root}/test.npz.*--data.root"):
        fetch(config(root))


def test_images_in_another_order_are_read_into_memory_alone(tmp_path: Path) -> None:
    root = written(tmp_path / "images", "npy")
    np.save(root / "train_image.npy", np.asfortranarray(IMAGES[20]))
    data = load(config(root), 0)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1), IMAGES[20])
    with pytest.raises(UserError, match="Fortran's order cannot be on disk"):
        load(config(root, store="disk"), 0)
