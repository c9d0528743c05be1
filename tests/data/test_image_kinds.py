"""Every kind of image file that Pillow writes, and files that are no images."""

from __future__ import annotations

import errno
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Dataset, load
from zipper_dist.data.decoding import Unreadable, read_rgb, warnings_of_pillow
from zipper_dist.errors import Failure, UserError, known_failures

RAMP = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)  # 8 wide, 6 high
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def decoded(image: Image.Image, path: Path, **options: Any) -> np.ndarray:
    image.save(path, **options)
    array: np.ndarray = np.asarray(read_rgb(str(path)))
    assert array.dtype == np.uint8
    return array


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, ending: str) -> None:
    values = RAMP.astype(np.uint16) * 257 + np.uint16(60) * (RAMP < 255)
    found = decoded(Image.fromarray(values), tmp_path / f"a.{ending}")
    assert np.array_equal(found, grey(RAMP))


def test_a_pgm_of_10_bits_is_scaled(tmp_path: Path) -> None:
    values = (np.array([[0, 341, 682, 1023]]) * np.ones((2, 1))).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 4 2 1023\n" + values.tobytes())
    found = np.asarray(read_rgb(str(tmp_path / "a.pgm")))
    assert np.array_equal(found[..., 0], [[0, 85, 170, 255]] * 2)


def test_grey_of_32_bits_is_scaled(tmp_path: Path) -> None:
    values = (RAMP.astype(np.float64) * (2**31 - 1) / 255).astype(np.int32)
    assert np.array_equal(decoded(Image.fromarray(values), tmp_path / "a.tif"), grey(RAMP))


def test_floating_point_grey_goes_from_0_to_1(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32) / 255
    assert np.array_equal(decoded(Image.fromarray(values), tmp_path / "a.tif"), grey(RAMP))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (RAMP.astype(np.float32), r"from 0 to 255, not from 0 \(black\) to 1 \(white\)"),
        (np.full((6, 8), np.nan, np.float32), "from nan to nan"),
        (RAMP.astype(np.int32) - 9, "from -9 to 246"),
        (RAMP.astype(np.int32), "32 bits, but no value above 255: store 8 or 16"),
    ],
    ids=["large", "nan", "negative", "black"],
)
def test_values_that_would_be_clipped_are_refused(
    tmp_path: Path, values: np.ndarray, why: str
) -> None:
    with pytest.raises(Unreadable, match=why):
        decoded(Image.fromarray(values), tmp_path / "a.tif")


def test_colours_of_16_bits_keep_their_upper_8(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows = (COLOURS.astype(">u2") * 256 + 255).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    file = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(file)
    assert np.array_equal(np.asarray(read_rgb(str(tmp_path / "a.png"))), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_images_are_turned_as_their_exif_data_say(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    # What a viewer has to do, from the EXIF specification; in terms of arrays.
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    stored = np.kron(COLOURS, np.ones((8, 8, 1), np.uint8))  # whole blocks of JPEG
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    options: dict[str, Any] = {"quality": 100, "lossless": True} if ending == "webp" else {}
    found = decoded(Image.fromarray(stored), path, exif=exif, **options)
    wanted = turned(stored).astype(int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= (60 if ending == "jpg" else 0)


def test_damaged_exif_data_are_ignored(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x01" * 20
    with warnings.catch_warnings(record=True) as seen, warnings_of_pillow():
        found = decoded(Image.fromarray(COLOURS), tmp_path / "a.png", exif=exif)
    assert seen == []
    assert np.array_equal(found, COLOURS)


def test_palettes_and_their_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    colours = np.asarray(palette.convert("RGB"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transparency in (None, 3, bytes(range(16))):
            options = {} if transparency is None else {"transparency": transparency}
            found = decoded(palette, tmp_path / "a.png", **options)
            assert np.array_equal(found, colours)


def test_alpha_is_ignored(tmp_path: Path) -> None:
    with_alpha = np.dstack([COLOURS, RAMP])
    assert np.array_equal(decoded(Image.fromarray(with_alpha), tmp_path / "a.png"), COLOURS)
    with_alpha = np.dstack([RAMP, RAMP[::-1]])
    image = Image.fromarray(with_alpha, "LA")
    assert np.array_equal(decoded(image, tmp_path / "b.png"), grey(RAMP))


def test_black_and_white_and_print_colours(tmp_path: Path) -> None:
    bits = Image.fromarray(RAMP > 99)
    assert bits.mode == "1"
    assert np.array_equal(decoded(bits, tmp_path / "a.png"), grey((RAMP > 99) * np.uint8(255)))
    inks = Image.fromarray(COLOURS).convert("CMYK")
    assert np.array_equal(decoded(inks, tmp_path / "a.tif"), COLOURS)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_the_first_image_of_several_is_taken(tmp_path: Path, ending: str) -> None:
    frames = [Image.fromarray(np.roll(COLOURS, shift, axis=1)) for shift in range(3)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    if ending == "webp":
        options["lossless"] = True
    assert np.array_equal(decoded(frames[0], tmp_path / f"a.{ending}", **options), COLOURS)


def test_a_decompression_bomb_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    for largest in (40, 10):  # Pillow warns of the first, and refuses the second itself
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", largest)
        with warnings_of_pillow(), pytest.raises(Unreadable, match="decompression bomb"):
            read_rgb(str(tmp_path / "a.png"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two training images and one test image each."""
    for number, name in enumerate(["cat", "dog"]):
        for part, count in (("train", 2), ("test", 1)):
            directory = tmp_path / part / name
            directory.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(COLOURS // (1 + 2 * number + index)).save(
                    directory / f"{index}.png"
                )
    return tmp_path


def loaded(root: Path, skip: bool = False, size: int | None = None) -> Dataset:
    config = DataConfig(
        "folder", root, image_size=size, validation="test", skip_unreadable=skip, store="memory"
    )
    return load(config, 0)


def test_all_unreadable_files_are_named_or_skipped(root: Path) -> None:
    whole = loaded(root)
    assert whole.notes == ()
    first = root / "train" / "cat" / "0.png"  # which gives the size of all
    for path in (first, root / "train" / "dog" / "7.jpg", root / "test" / "dog" / "x.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="3 of 8 files cannot be read") as refused:
        loaded(root)
    for name in ("cat/0.png (", "dog/7.jpg (", "dog/x.png (", "--data.skip-unreadable"):
        assert name in str(refused.value)
    rest = loaded(root, skip=True)
    assert np.array_equal(rest.train.images, whole.train.images[1:])
    assert rest.train.labels.tolist() == [0, 1, 1]
    assert np.array_equal(rest.test.images, whole.test.images)
    (note,) = rest.notes
    assert "without 3 of 8 files" in note


def test_only_the_first_of_many_unreadable_files_are_named(root: Path) -> None:
    for number in range(20):
        (root / "train" / "cat" / f"b{number:02}.png").touch()
    with pytest.raises(
        UserError, match=r"20 of 26 files .*b04\.png \(.*\) and 15 more: "
    ) as refused:
        loaded(root)
    assert "b05" not in str(refused.value)


def test_a_folder_without_a_readable_file_is_refused(root: Path) -> None:
    for path in (root / "test").glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="2 of 6 files cannot be read"):
        loaded(root, skip=True)


def test_a_file_that_cannot_be_read_for_now_is_not_skipped(root: Path) -> None:
    path = root / "train" / "dog" / "z.png"
    path.symlink_to("/proc/self/mem")  # opens, but its first page cannot be read
    with pytest.raises(OSError) as raised:
        loaded(root, skip=True)
    assert (raised.value.errno, raised.value.filename) == (errno.EIO, str(path))


def test_too_little_memory_is_no_fault_of_a_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(image: Image.Image, mode: str) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(Failure, match=r"out of memory .*0\.png"), known_failures():
        loaded(root, skip=True)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a broken link", "a device"])
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_no_file_is_not_opened(root: Path, kind: str, skip: bool) -> None:
    path = root / "train" / "dog" / "z.png"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "a pipe":
            os.mkfifo(path)  # opening it would wait for a writer for ever
        elif kind == "a socket":
            listening.bind(os.path.relpath(path))
        else:
            path.symlink_to("/dev/zero" if kind == "a device" else "nowhere.png")
        with pytest.raises(UserError, match=f"{path} is {kind}"):
            loaded(root, skip, size=8)


def test_links_to_images_are_followed(root: Path) -> None:
    (root / "train" / "dog" / "z.png").symlink_to(root / "test" / "dog" / "0.png")
    assert len(loaded(root).train) == 5


def test_images_that_cannot_fit_are_refused_before_they_are_decoded(root: Path) -> None:
    for path in root.glob("*/*/*.png"):
        path.write_bytes(b"never decoded")
    with pytest.raises(UserError, match=r"--data\.image-size 900000: 6 images .*--data\.limit"):
        loaded(root, size=900000)
    with pytest.raises(UserError, match=r"--data\.image-size 900000: .* images of 900,000"):
        load(DataConfig(image_size=900000), 0)


def test_a_container_limits_memory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "memory.max"
    monkeypatch.setattr(
        "zipper_dist.data.stores.memory.CGROUP_LIMITS", (limits, tmp_path / "absent")
    )
    limits.write_text("max\n")
    loaded(root)
    limits.write_text("100\n")
    with pytest.raises(UserError, match=f"folder: {root}: 6 images of 6×8 pixels"):
        loaded(root)
