"""Images that stay on disk: the same as in memory, decoded once, whoever is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from data.generated import write
from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Dataset, Loader, Share, folder, load
from zipper_dist.data.decoding import read_rgb
from zipper_dist.data.minibatches.extra import read_extra
from zipper_dist.data.stores import cache
from zipper_dist.errors import UserError

SIDE = 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, each with twelve training images and two test images of random pixels."""
    draws = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 2)):
        for name in ("cat", "dog"):
            directory = tmp_path / "images" / part / name
            directory.mkdir(parents=True)
            for number in range(count):
                pixels = draws.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
                Image.fromarray(pixels).save(directory / f"{number:02}.bmp")
    return tmp_path / "images"


def config(root: Path, store: Literal["auto", "memory", "disk"] = "disk") -> DataConfig:
    return DataConfig("folder", root, validation="test", store=store, cache=root.parent / "cache")


def assert_same(one: Dataset, two: Dataset) -> None:
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(one, part), getattr(two, part)
        assert torch.equal(ours.images[:], theirs.images[:]), part
        assert torch.equal(ours.labels, theirs.labels), part
    assert one.digest() == two.digest()
    assert one.notes == two.notes


def entries(root: Path) -> dict[str, Path]:
    """The files of decoded training and test images."""
    files = (root.parent / "cache").glob("*.images")
    return dict(zip(("test", "train"), sorted(files, key=lambda p: p.stat().st_size), strict=True))


@pytest.mark.parametrize("change", [{}, {"validation": "0.25"}, {"limit": 3}, {"image_size": 5}])
def test_images_on_disk_are_those_in_memory(root: Path, change: dict[str, object]) -> None:
    settings = replace(config(root), **change)  # type: ignore[arg-type]
    data = load(settings, 3)
    assert data.train.on_disk
    assert data.validation.on_disk
    assert_same(data, load(replace(settings, store="memory"), 3))
    assert_same(data, load(settings, 3))


def test_what_a_source_reads_into_memory_can_be_on_disk(tmp_path: Path) -> None:
    settings = DataConfig(limit=40, image_size=6, store="disk", cache=tmp_path)
    data = load(settings, 0)
    assert data.train.on_disk
    assert_same(data, load(replace(settings, store="memory"), 0))


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("moves", [(0, False), (2, True)])
def test_minibatches_are_the_same(root: Path, extra: bool, moves: tuple[int, bool]) -> None:
    generated = read_extra(DataConfig(extra=write(root.parent / "1m.npz", 50, SIDE, 3)))
    assert generated is not None
    share = Share(generated, 0.4) if extra else None
    on_disk, in_memory = (
        Loader(load(config(root, store), 0).train, 5, 7, *moves, share)
        for store in ("disk", "memory")
    )
    for t in (1, 2, 3, 4, 5, 6, 9, 2, 14, 15):  # over ends of passes, and back
        ours, theirs = on_disk.minibatch(t), in_memory.minibatch(t)
        assert torch.equal(ours.images, theirs.images), t
        assert torch.equal(ours.labels, theirs.labels), t
        assert ours.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu("a GPU gets the same minibatches from its memory, the machine's and a disk")
def test_minibatches_on_a_gpu_are_the_same(root: Path) -> None:
    memory = load(config(root, "memory"), 0).train
    sets = [
        memory.to("cuda"),
        replace(memory, labels=memory.labels.to("cuda")),
        load(config(root), 0).train.to("cuda"),
    ]
    loaders = [Loader(each, 5, 7, 2, True) for each in sets]
    for t in range(1, 12):
        first, *others = [loader.minibatch(t) for loader in loaders]
        for other in others:
            assert torch.equal(first.images, other.images)
            assert torch.equal(first.labels, other.labels)


def test_images_are_decoded_once_as_long_as_no_file_changes(root: Path) -> None:
    first = load(config(root), 0)
    path = root / "train" / "dog" / "03.bmp"
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-SIDE * 3 :] = bytes(SIDE * 3)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # nobody can see the change
    assert_same(first, load(config(root), 0))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = load(config(root), 0)
    assert not torch.equal(first.train.images[:], changed.train.images[:])
    assert_same(changed, load(config(root, "memory"), 0))


def test_files_that_cannot_be_read_are_skipped_alike(root: Path) -> None:
    for name in ("train/cat/00.bmp", "train/dog/11.bmp", "test/dog/01.bmp"):
        (root / name).write_bytes(b"no image")
    with pytest.raises(UserError, match="3 of 28 files cannot be read as images"):
        load(config(root), 0)
    settings = replace(config(root), skip_unreadable=True)
    expected = load(replace(settings, store="memory"), 0)
    assert expected.notes
    for _ in range(2):
        assert_same(load(settings, 0), expected)


def load_logged(root: Path, seconds: float) -> None:
    """Load the images, four at a time, each in so many seconds; training images are logged."""
    log = root.parent / "log"

    def logged(path: str) -> Image.Image:
        image = read_rgb(path)
        if "/train/" in path and looked_at:
            time.sleep(seconds)
            with log.open("a") as file:
                file.write(path + "\n")
        looked_at.append(path)  # the first is read for its size
        return image

    looked_at: list[str] = []
    vars(folder)["_surely_differ"] = lambda samples: False
    vars(folder)["read_rgb"], cache.AT_ONCE = logged, 4 * (3 * SIDE * SIDE + 4)
    load(config(root), 0)


def started(root: Path, seconds: float = 0.0) -> BaseProcess:
    """A process of its own that does so; forked, as importing PyTorch takes seconds."""
    (root.parent / "log").touch()
    process = multiprocessing.get_context("fork").Process(target=load_logged, args=(root, seconds))
    process.start()
    return process


def ended(process: BaseProcess) -> None:
    process.join(60)
    assert process.exitcode == 0


def decoded(root: Path) -> list[str]:
    """The files that were decoded, in order, since this was asked before."""
    log = root.parent / "log"
    lines = log.read_text().splitlines()
    log.write_text("")
    return lines


def test_who_was_killed_is_continued(root: Path) -> None:
    process = started(root, 0.05)
    while len((root.parent / "log").read_text().splitlines()) < 13:
        assert process.exitcode is None
        time.sleep(0.005)
    process.kill()
    process.join()
    before = decoded(root)
    assert not list((root.parent / "cache").glob("*.json")), "it is not complete"
    ended(started(root))
    after = decoded(root)
    assert len(set(before) | set(after)) == 24
    assert len(after) <= 24 - 12, "whole groups are there"
    assert_same(load(config(root), 0), load(config(root, "memory"), 0))


def test_of_several_processes_one_decodes_and_the_others_wait(root: Path) -> None:
    for process in [started(root, 0.01) for _ in range(3)]:
        ended(process)
    assert len(decoded(root)) == 24


def test_a_damaged_image_is_named_and_mended(root: Path) -> None:
    expected = load(config(root), 0)
    file = entries(root)["train"]
    content = bytearray(file.read_bytes())
    content[5 * (3 * SIDE * SIDE + 4) + 17] ^= 1
    file.write_bytes(content)
    data = load(config(root), 0)
    data.train.images[:5]
    loader = Loader(data.train, 24, 0)
    with pytest.raises(UserError, match=rf"{file}: image 5 is damaged.* delete .*\.json"):
        loader.minibatch(1)
    file.with_suffix(".json").unlink()
    ended(started(root))
    assert [Path(path).name for path in decoded(root)] == ["05.bmp"]
    assert_same(load(config(root), 0), load(config(root, "memory"), 0))
    assert torch.equal(load(config(root), 0).train.images[:], expected.train.images[:])


@pytest.mark.parametrize("harm", ["cut off", "emptied", "deleted", "other index"])
def test_a_file_that_is_not_whole_is_made_whole(root: Path, harm: str) -> None:
    load(config(root), 0)
    file = entries(root)["train"]
    if harm == "other index":
        file.with_suffix(".json").write_text("[1]")
    elif harm == "deleted":
        file.unlink()
    else:
        os.truncate(file, 1000 if harm == "cut off" else 0)
    assert_same(load(config(root), 0), load(config(root, "memory"), 0))


def test_what_was_decoded_to_the_wrong_size_is_not_left_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SAMPLE", 2)  # so that no look at sizes finds the odd one
    Image.new("RGB", (5, 5)).save(root / "train" / "dog" / "07.bmp")
    data = load(config(root), 0)
    assert data.train.images.shape == (24, 3, 32, 32)
    assert_same(data, load(config(root, "memory"), 0))
    assert len(list((root.parent / "cache").iterdir())) == 4


def test_names_the_directory_that_cannot_be_used(root: Path) -> None:
    (root.parent / "cache").write_text("a file")
    with pytest.raises(UserError, match=rf"--data\.cache {root.parent / 'cache'}: .* cannot be"):
        load(config(root), 0)


def test_a_disk_that_is_full_is_named(root: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"--data\.cache .* \(File too large\): give a direct"):
            load(config(root), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_images_that_do_not_fit_on_the_disk_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.disk_usage(root)._replace(free=24 * (3 * SIDE * SIDE + 4) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: found)
    with pytest.raises(UserError, match=r"--data\.cache .*: 24 images take .* of disk"):
        load(config(root), 0)
    assert list((root.parent / "cache").iterdir()) == []


def test_auto_takes_memory_as_long_as_the_images_of_all_processes_fit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = root.parent / "limit"
    monkeypatch.setattr("zipper_dist.data.stores.memory.CGROUP_LIMITS", (limit,))
    size = 28 * 3 * SIDE * SIDE  # of all images
    limit.write_text(str(2 * size))
    assert not load(config(root, "auto"), 0).train.on_disk
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert load(config(root, "auto"), 0).train.on_disk
    limit.write_text(str(4 * size))
    assert not load(config(root, "auto"), 0).train.on_disk
    limit.write_text(str(size - 1))
    with pytest.raises(UserError, match=r"28 images of 8×8 .*--data\.store disk"):
        load(config(root, "memory"), 0)


def test_a_subset_of_a_subset_reads_the_right_images(root: Path) -> None:
    whole = load(config(root), 0).train
    part = whole.subset(torch.tensor([9, 3, 20, 4])).subset(torch.tensor([2, 0]))
    assert torch.equal(part.images[:], whole.images[torch.tensor([20, 9])])
    assert part.numbers is not None
    assert part.images.shape == (2, 3, SIDE, SIDE)
