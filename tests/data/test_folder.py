from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import ImageSet, fetch, load
from zipper_dist.data.folder import Folder
from zipper_dist.errors import UserError

CLASSES = ("bird", "cat", "dog")


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Image.Image:
    """A picture of smooth colours, which differ from number to number."""
    down, across = np.mgrid[0 : size[1], 0 : size[0]]
    shape = np.stack([down * 20, across * 20, np.full_like(down, number * 10)], axis=-1)
    return Image.fromarray(shape.astype(np.uint8)).convert(mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes, each with two training images and one test image."""
    for label, name in enumerate(CLASSES):
        for part, count in (("train", 2), ("test", 1)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                picture(10 * label + number).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


read = Folder().read


def config(root: Path, image_size: int | None = None, limit: int | None = None) -> DataConfig:
    return DataConfig(
        source="folder", root=root, image_size=image_size, limit=limit, validation="test"
    )


def pixels(image_set: ImageSet, index: int) -> np.ndarray:
    array: np.ndarray = image_set.images[index].permute(1, 2, 0).numpy()
    return array


def test_reads_images_with_the_classes_of_their_folders(root: Path) -> None:
    fetch(config(root))
    data = load(config(root), seed=0)
    assert data.class_names == CLASSES
    assert (data.channels, data.height, data.width) == (3, 6, 8)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.labels.tolist() == [0, 1, 2]
    for index, number in enumerate([0, 1, 10, 11, 20, 21]):
        assert np.array_equal(pixels(data.train, index), np.asarray(picture(number)))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif"])
def test_reads_formats_and_modes_as_rgb(root: Path, ending: str, mode: str) -> None:
    path = root / "train" / "bird" / "0.png"
    path.unlink()
    expected = picture(0, mode)
    expected.save(path.with_suffix(f".{ending}"))
    train, _, _ = read(config(root))
    difference = pixels(train, 0).astype(int) - np.asarray(expected.convert("RGB")).astype(int)
    assert np.abs(difference).max() <= (0 if ending in ("png", "bmp", "tif") else 40)


def test_resizes_images_of_any_size(root: Path) -> None:
    picture(0, size=(31, 17)).save(root / "train" / "bird" / "0.png")
    data = load(config(root, image_size=9), seed=0)
    assert data.train.images.shape == (6, 3, 9, 9)
    expected = picture(0, size=(31, 17)).resize((9, 9), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels(data.train, 0), np.asarray(expected))


def test_many_files_keep_their_order(root: Path) -> None:
    for number in range(20):
        picture(number).save(root / "train" / "cat" / f"{number:02}.bmp")
    train, _, _ = read(config(root))
    cats = train.images[train.labels == 1]
    assert cats.shape[0] == 22
    assert sorted(cats[:, 2, 0, 0].tolist()) == sorted([100, 110, *range(0, 200, 10)])


def test_images_have_another_digest_where_another_file_is_left_out(root: Path) -> None:
    settings = replace(config(root), skip_unreadable=True)
    digests = {load(settings, 0).digest()}
    for number in range(2):  # of one class, so that the labels are the same
        path = root / "train" / "cat" / f"{number}.png"
        content = path.read_bytes()
        path.write_bytes(b"no image")
        digests |= {load(settings, seed).digest() for seed in (0, 1)}
        path.write_bytes(content)
    assert len(digests) == 3
    moved = root.rename(root.with_name("elsewhere"))
    assert load(replace(settings, root=moved), 0).digest() in digests


def test_the_limit_is_applied_before_the_images_are_decoded(root: Path) -> None:
    whole, _, _ = read(config(root))
    limited, test, _ = read(config(root, limit=4))
    assert (len(limited), len(test)) == (4, 3)
    chosen = [
        index
        for index in range(6)
        if any(torch.equal(whole.images[index], image) for image in limited.images)
    ]
    assert len(chosen) == 4
    for index in set(range(6)) - set(chosen):
        name = CLASSES[index // 2]
        (root / "train" / name / f"{index % 2}.png").write_bytes(b"never decoded")
    assert torch.equal(read(config(root, limit=4))[0].images, limited.images)
    assert len(load(config(root, limit=4), seed=0).train) == 4


def resave(root: Path, sizes: list[tuple[int, int]]) -> None:
    """Give the images, in the order of their paths, these widths and heights [pixels]."""
    for path, size in zip(sorted(root.rglob("*.png")), sizes, strict=True):
        picture(0, size=size).save(path)


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ([8] * 5 + [9] * 4, 32),
        ([40] * 8 + [90], 48),  # 2.5 steps of 16 are rounded up
        ([39] * 8 + [90], 32),
        ([100, 200, 300] * 3, 208),
        ([4000] * 8 + [1], 224),
    ],
)
def test_images_of_different_sizes_are_resized_to_the_usual_one(
    root: Path, sides: list[int], size: int
) -> None:
    resave(root, [(side, side + 7) for side in sides])
    data = load(config(root), seed=0)
    assert (data.height, data.width) == (size, size)
    (note,) = data.notes
    assert f"resized to {size}×{size} pixels" in note
    assert f"median of {sorted(sides)[4]}; another size is set with --data.image-size" in note
    for part, asked in ((data.train, load(config(root, image_size=size), seed=0).train),):
        assert torch.equal(part.images, asked.images)


def test_images_of_one_size_keep_it(root: Path) -> None:
    data = load(config(root), seed=0)
    assert (data.height, data.width, data.notes) == (6, 8, ())
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(3, size=(6, 8)).save(root / "train" / "bird" / "1.png", exif=turned)
    data = load(config(root), seed=0)
    assert (data.height, data.width, data.notes) == (6, 8, ())


def test_a_turned_image_may_be_what_differs(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(3).save(root / "test" / "dog" / "0.png", exif=turned)  # now the only upright one
    data = load(config(root), seed=0)
    assert (data.height, data.width) == (32, 32)
    assert "of different sizes" in data.notes[0]


def test_the_size_of_an_unreadable_image_does_not_count(root: Path) -> None:
    broken = root / "train" / "bird" / "9.png"
    picture(1, size=(64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[:120])
    data = load(replace(config(root), skip_unreadable=True), seed=0)
    assert (len(data.train), data.height, data.width) == (6, 6, 8)
    (note,) = data.notes
    assert f"without 1 of 10 files, which cannot be read as images: {broken} " in note


def test_sizes_of_too_many_images_are_not_all_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipper_dist.data.folder.SAMPLE", 2)
    resave(root, [(80, 80)] * 7 + [(81, 81), (80, 80)])  # not among those that are looked at
    data = load(config(root), seed=0)
    assert (data.height, data.width) == (80, 80)
    assert "resized to 80×80 pixels, as their shorter sides have a median of 80;" in data.notes[0]


def test_a_first_image_that_is_large_does_not_count(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zipper_dist.data.stores.memory.host_memory", lambda: 9 * 32 * 32 * 3)
    resave(root, [(20, 20)] * 3 + [(900, 900)] + [(20, 20)] * 5)
    assert load(config(root), seed=0).train.images.shape == (6, 3, 32, 32)


def test_a_test_set_is_cut_where_there_is_none(root: Path) -> None:
    whole = load(config(root), seed=0)
    (root / "test").rename(root / "more")
    data = load(config(root), seed=0)
    assert (len(data.train), data.test.labels.tolist()) == (3, [0, 1, 2])
    assert data.class_names == whole.class_names
    fetch(config(root / "train"))
    same = load(config(root / "train"), seed=0)
    assert torch.equal(same.train.images, data.train.images)
    assert torch.equal(same.test.images, data.test.images)
    assert {len(Path(name).parts) for name in same.files} == {2}  # not where the directory is
    assert "3 of the 6 images" in data.notes[0]


def test_names_the_directory_that_is_missing(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")
    for step in (fetch, read):
        with pytest.raises(UserError, match=rf"no directory {root / 'train'}\..*--data.root"):
            step(config(root))


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_names_the_image_that_is_corrupt(root: Path, content: bytes) -> None:
    broken = root / "train" / "cat" / "1.png"
    broken.write_bytes(content)
    with pytest.raises(UserError, match=f"1 of 9 files cannot be read as images: {broken} "):
        load(config(root), seed=0)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_names_the_image_that_is_truncated(root: Path, ending: str) -> None:
    broken = root / "train" / "bird" / f"9.{ending}"
    picture(1, size=(64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    with pytest.raises(UserError, match=f"1 of 10 files cannot be read as images: {broken} "):
        load(config(root, image_size=8), seed=0)


def test_names_the_class_that_is_empty(root: Path) -> None:
    (root / "train" / "ant").mkdir()
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match=rf"{root / 'train'}: .*ant"):
        load(config(root), seed=0)


def test_names_the_directory_without_classes(root: Path) -> None:
    for path in sorted((root / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(UserError, match=f"class folder in {root / 'test'}"):
        load(config(root), seed=0)


def test_names_the_classes_that_differ(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "wolf")
    with pytest.raises(UserError, match=r"only in train/: dog; only in test/: wolf"):
        load(config(root), seed=0)


def test_refuses_a_single_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "images").mkdir(parents=True)
        picture(0).save(tmp_path / part / "images" / "0.png")
    with pytest.raises(UserError, match="only one folder, 'images'"):
        load(config(tmp_path), seed=0)


def test_refuses_an_image_size_below_one(root: Path) -> None:
    with pytest.raises(UserError, match=r"--data\.image-size -2: "):
        load(config(root, image_size=-2), seed=0)


@pytest.mark.parametrize("source", ["folder", "mnist"])
def test_names_the_user_that_there_is_not(source: str) -> None:
    for step in (fetch, lambda config: load(config, 0)):
        with pytest.raises(
            UserError, match=r"--data\.root ~nosuchuser/data: there is no such user"
        ):
            step(DataConfig(source, Path("~nosuchuser/data")))
