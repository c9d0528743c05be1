"""Generated images in a file of their own, and the minibatches that have a share of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from data.generated import pixels, write
from zipper_dist.config.checks import problems
from zipper_dist.config.schema import DataConfig, TrainConfig
from zipper_dist.data import Dataset, ImageSet, Loader, Minibatch, Share, load
from zipper_dist.data.minibatches.extra import read_extra
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu("generated images get there as on the CPU")),
]
OWN, GENERATED = 30, 50


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "1m.npz", GENERATED)


def read(path: Path) -> ImageSet:
    found = read_extra(DataConfig(extra=path))
    assert found is not None
    return found


def own_set() -> ImageSet:
    """Images whose first pixel is their number, and their label 10 more than it."""
    images = torch.zeros(OWN, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(OWN)
    return ImageSet(images, torch.arange(OWN) + 10)


def first_pixels(batch: Minibatch) -> list[int]:
    return [round(255 * value) for value in batch.images[:, 0, 0, 0].tolist()]


def loader(file: Path, batch: int = 10, fraction: float = 0.7, seed: int = 3) -> Loader:
    return Loader(own_set(), batch, seed, extra=Share(read(file), fraction))


def test_the_file_has_what_was_written(file: Path) -> None:
    found = read(file)
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), pixels(GENERATED))
    assert found.labels.tolist() == [number % 10 for number in range(GENERATED)]


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("labels", [np.int32, np.uint8])
def test_headers_of_any_length_and_labels_of_any_width(
    file: Path, version: tuple[int, int], labels: type[np.integer], tmp_path: Path
) -> None:
    other = tmp_path / "other.npz"
    arrays = {
        "label": (np.arange(GENERATED) % 10).astype(labels),
        "image": np.asfortranarray(pixels(GENERATED)),
    }
    with zipfile.ZipFile(other, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array(member, array, version)
    assert torch.equal(read(other).images, read(file).images)
    assert torch.equal(read(other).labels, read(file).labels)


def test_images_stay_in_the_file_until_they_are_used(file: Path) -> None:
    found = read(file)
    content = bytearray(file.read_bytes())
    at = content.index(pixels(GENERATED).tobytes())
    with file.open("r+b") as there:
        there.seek(at)
        there.write(b"\x07")
    assert found.images[0, 0, 0, 0] == 7


def test_the_share_of_every_minibatch_and_of_every_part_of_it(file: Path) -> None:
    for batch, fraction, extras in [(10, 0.7, 7), (16, 0.7, 11), (30, 0.29, 8), (20, 0.35, 7)]:
        made = loader(file, batch, fraction)
        for t in range(1, 8):
            found = first_pixels(made.minibatch(t))
            is_extra = [value >= 200 for value in found]
            assert sum(is_extra) == extras
            for parts in (2, 5):
                if batch % parts == 0:
                    size = batch // parts
                    counts = [sum(is_extra[at : at + size]) for at in range(0, batch, size)]
                    assert max(counts) - min(counts) <= 1


def test_what_a_minibatch_holds_by_a_plain_loop(file: Path) -> None:
    made = loader(file)
    for t in (1, 4, 12):
        passes, place = divmod(t - 1, 10)
        order = torch.randperm(OWN, generator=generator_at("cpu", 3, "permutation", passes))
        draws = torch.randint(50, (7,), generator=generator_at("cpu", 3, "extra", t))
        own, generated = order[3 * place : 3 * place + 3].tolist(), (draws + 200).tolist()
        wanted, due = [], 0.0
        for _ in range(10):
            due += 0.7
            wanted.append((generated if due > 0.9999 else own).pop(0))
            due -= due > 0.9999
        assert first_pixels(made.minibatch(t)) == wanted


def test_images_keep_their_labels(file: Path) -> None:
    for t in range(1, 20):
        batch = loader(file).minibatch(t)
        for pixel, label in zip(first_pixels(batch), batch.labels.tolist(), strict=True):
            assert label == (pixel + 10 if pixel < 200 else (pixel - 200) % 10)


def test_an_epoch_is_as_many_images_as_before_and_a_pass_shows_each_once(file: Path) -> None:
    made = loader(file)
    assert made.steps_per_epoch == Loader(own_set(), 10, 3).steps_per_epoch == 3
    orders = []
    for number in range(2):  # 3 images of 30 in each minibatch: a pass takes 10
        steps = range(1 + 10 * number, 11 + 10 * number)
        shown = [pixel for t in steps for pixel in first_pixels(made.minibatch(t)) if pixel < 200]
        assert sorted(shown) == list(range(OWN))
        orders.append(shown)
    assert orders[0] != orders[1]


def test_all_generated_images_are_drawn_alike(file: Path) -> None:
    made, counts = loader(file), np.zeros(GENERATED)
    for t in range(1, 1001):
        for pixel in first_pixels(made.minibatch(t)):
            if pixel >= 200:
                counts[pixel - 200] += 1
    # 7,000 draws of 50: some 140 each, with a standard deviation of 12.
    assert counts.min() > 85
    assert counts.max() < 200


def test_draws_have_an_address(file: Path) -> None:
    made = loader(file)
    in_order = {t: first_pixels(made.minibatch(t)) for t in range(1, 15)}
    jumping = loader(file)
    for t in (14, 2, 7, 2, 11):
        assert first_pixels(jumping.minibatch(t)) == in_order[t]
    made = loader(file, seed=4)
    in_order |= {-t: first_pixels(made.minibatch(t)) for t in range(1, 15)}
    generated = [[pixel for pixel in found if pixel >= 200] for found in in_order.values()]
    assert len(set(map(tuple, generated))) == len(generated)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("padding", "flip"), [(0, False), (2, True)])
def test_generated_images_are_augmented_as_the_others(
    file: Path, padding: int, flip: bool, device: str
) -> None:
    # What the loader does to a set is checked elsewhere; here it has a set of the chosen images.
    share = Share(read(file), 0.5)
    plain = Loader(own_set(), 12, 3, extra=share).minibatch(5)
    chosen = (plain.images * 255).round().to(torch.uint8)
    made = Loader(own_set().to(device), 12, 3, padding, flip, share).minibatch(5)
    again = Loader(ImageSet(chosen, torch.arange(12)), 12, 3, padding, flip)
    again._order, again._pass = torch.arange(12), 4
    assert torch.equal(made.images.cpu(), again.minibatch(5).images)
    assert torch.equal(made.labels.cpu(), plain.labels)
    assert made.images.is_contiguous(memory_format=torch.channels_last)


def test_a_share_of_none_changes_nothing(file: Path) -> None:
    without = Loader(own_set(), 8, 0, 1, True)
    with_none = Loader(own_set(), 8, 0, 1, True, Share(read(file), 0.0))
    for t in range(1, 9):
        assert torch.equal(with_none.minibatch(t).images, without.minibatch(t).images)


def test_a_share_that_is_no_image() -> None:
    images = own_set()
    with pytest.raises(
        UserError, match=r"fraction 0.05: is no image of a minibatch of 10: give 0.1"
    ):
        Share(images, 0.05).of(10)
    assert Share(images, 0.999999).of(10) == 9
    assert Share(images, 0.29).of(100) == 29  # 0.29 · 100 is a little less


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_fraction_out_of_range(fraction: float, file: Path) -> None:
    config = TrainConfig(data=DataConfig(extra=file, extra_fraction=fraction))
    (line,) = [line for line in problems(config) if "extra" in line]
    assert line == f"--data.extra-fraction {fraction}: give 0 … below 1"


def test_a_fraction_of_nothing() -> None:
    (line,) = [line for line in problems(TrainConfig(data=DataConfig(extra_fraction=0.5)))
               if "extra" in line]  # fmt: skip
    assert line == "--data.extra-fraction 0.5: give the images with --data.extra FILE.npz"


def loaded(extra: Path, **options: object) -> Dataset:
    return load(replace(DataConfig(limit=60, extra=extra), **options), 0)  # type: ignore[arg-type]


def test_a_data_set_has_them_beside_its_own(file: Path, tmp_path: Path) -> None:
    with_extra, without = loaded(file), load(DataConfig(limit=60), 0)
    assert with_extra.extra is not None
    assert len(with_extra.extra) == GENERATED
    assert len(with_extra.train) == len(without.train)
    assert with_extra.digest() != without.digest()
    assert with_extra.digest() != loaded(write(tmp_path / "fewer.npz", 49)).digest()
    labels = np.load(file)["label"]
    np.savez(tmp_path / "others.npz", image=pixels(GENERATED, seed=1), label=labels)
    assert with_extra.digest() != loaded(tmp_path / "others.npz").digest()
    assert with_extra.digest() == loaded(Path(shutil.copy(file, tmp_path / "copy.npz"))).digest()


IMAGES, LABELS = pixels(6), np.arange(6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGES}, r"has no array label \(it has image\): give an uncompressed .npz"),
        ({"x": IMAGES, "y": LABELS}, r"has no array image \(it has x, y\)"),
        (
            {"image": IMAGES / 255, "label": LABELS},
            r"image is float64 \(6, 8, 8, 1\), and label int",
        ),
        ({"image": IMAGES[..., 0], "label": LABELS}, r"image is uint8 \(6, 8, 8\)"),
        ({"image": IMAGES, "label": LABELS / 2}, r"label float64 \(6,\): give"),
        ({"image": IMAGES, "label": np.eye(6, dtype=int)}, r"label int64 \(6, 6\): give"),
        ({"image": IMAGES, "label": LABELS[:5]}, "has 6 images and 5 labels: give as many"),
        ({"image": IMAGES[:0], "label": LABELS[:0]}, "has 0 images and 0 labels: give as many"),
        (
            {"image": IMAGES, "label": LABELS + 5},
            "labels go from 5 to 10: give 0 to 9, the classes",
        ),
        (
            {"image": IMAGES, "label": LABELS - 1},
            "labels go from -1 to 4: give 0 to 9, the classes",
        ),
        (
            {"image": IMAGES, "label": np.array([None] * 6)},
            "no .npz file, or damaged .label.npy has",
        ),
        (
            {"image": pixels(6, 9), "label": LABELS},
            "have 9×9 pixels and 1 channels, and those of digits 8×8 pixels and 1 channels: give",
        ),
        ({"image": pixels(6, 8, 3), "label": LABELS}, "have 8×8 pixels and 3 channels, and those"),
    ],
)
def test_arrays_that_do_not_suit(
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
    message: str,
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"--data.extra .*wrong.npz: .*{message}"):
        loaded(tmp_path / "wrong.npz")


def test_files_that_are_none(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.npz: cannot be read \(No such file or directory"):
        read(tmp_path / "absent.npz")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\): give an uncompressed"):
        read(tmp_path)
    whole = file.read_bytes()
    for content in (b"", b"no zip", whole[:2000], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"1m.npz: no .npz file, or damaged"):
            read(file)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        for name in ("image", "label"):
            array: np.ndarray[Any, Any] = IMAGES if name == "image" else LABELS
            with archive.open(f"{name}.npy", "w") as member:
                header = npy.header_data_from_array_1_0(array) | {"shape": (7, *array.shape[1:])}
                npy.write_array_header_1_0(member, header)
                member.write(array.tobytes())
    with pytest.raises(UserError, match=r"damaged \(image.npy has 512 bytes, not those of uint8"):
        read(tmp_path / "short.npz")


def test_a_compressed_file_comes_with_the_command_that_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez_compressed("small.npz", image=IMAGES, label=LABELS)
    with pytest.raises(UserError, match=r"small.npz: is compressed.* by python -c") as raised:
        read(Path("small.npz"))
    script = str(raised.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", script], check=True)
    assert np.array_equal(read(Path("small-plain.npz")).images[:, 0].numpy(), IMAGES[..., 0])
