import importlib.util
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Dataset, ImageSet, fetch, load


def as_rows(*images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for part in images for image in part)


def parts(data: Dataset) -> list[ImageSet]:
    return [data.train, data.validation, data.test]


def test_all_images_are_there_once_and_keep_their_grey_levels() -> None:
    config = DataConfig(source="digits", validation="100")
    fetch(config)
    data = load(config, seed=3)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1337, 100, 360]
    assert (data.channels, data.height, data.width, data.classes) == (1, 8, 8, 10)
    original = torch.from_numpy(load_digits().images).mul(255 / 16).round().to(torch.uint8)
    ours = as_rows(data.train.images, data.validation.images, data.test.images)
    assert ours == as_rows(original)
    assert int(data.test.images.max()) == 255


def test_labels_stay_with_their_images() -> None:
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)
    label_of = {
        image.numpy().tobytes(): label for image, label in zip(pixels, bunch.target, strict=True)
    }
    test = load(DataConfig(source="digits"), seed=0).test
    assert [label_of[image.numpy().tobytes()] for image in test.images] == test.labels.tolist()


def test_the_test_set_is_the_same_for_every_seed_and_balanced() -> None:
    one, two = (load(DataConfig(source="digits"), seed) for seed in (1, 2))
    assert torch.equal(one.test.images, two.test.images)
    assert one.test.labels.bincount().tolist() == [36] * 10
    assert not torch.equal(one.validation.images, two.validation.images)


def test_the_limit_leaves_the_same_images_for_every_seed() -> None:
    def all_training_images(data: Dataset) -> list[bytes]:
        return as_rows(data.train.images, data.validation.images)

    config = DataConfig(source="digits", limit=50)
    one, two = (load(config, seed) for seed in (1, 2))
    assert (len(one.train), len(one.validation), len(one.test)) == (45, 5, 50)
    assert all_training_images(one) == all_training_images(two)
    assert not torch.equal(one.train.images, two.train.images)


def test_images_are_resized() -> None:
    data = load(DataConfig(source="digits", limit=20, image_size=12), seed=0)
    assert (data.height, data.width) == (12, 12)
    assert data.test.images.shape == (20, 1, 12, 12)


def test_scikit_learn_is_only_imported_where_its_file_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, find = DataConfig(source="digits"), importlib.util.find_spec
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.datasets", None)  # importing it fails
        from_file = load(config, seed=0)
        without.setattr(importlib.util, "find_spec", lambda name: find("json"))
        with pytest.raises(ImportError):
            load(config, seed=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json"))
    imported = load(config, seed=0)
    assert imported.digest() == from_file.digest()
    for ours, theirs in zip(parts(imported), parts(from_file), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
