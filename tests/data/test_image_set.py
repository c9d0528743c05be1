import numpy as np
import pytest
import torch
from PIL import Image

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import Dataset, ImageSet, load
from zipper_dist.errors import UserError


def make_set(count: int = 6, size: int = 4, labels: list[int] | None = None) -> ImageSet:
    images = torch.arange(count * 3 * size * size).remainder(256).to(torch.uint8)
    return ImageSet(
        images.view(count, 3, size, size), torch.tensor(labels or [i % 3 for i in range(count)])
    )


def test_refuses_tensors_that_are_not_labelled_images() -> None:
    good = make_set()
    with pytest.raises(ValueError, match=r"images must be uint8 .*float32 \(6, 3, 4, 4\)"):
        ImageSet(good.images.float(), good.labels)
    with pytest.raises(ValueError, match="images must be uint8"):
        ImageSet(good.images[0], good.labels)
    with pytest.raises(ValueError, match="labels must be int64"):
        ImageSet(good.images, good.labels.int())
    with pytest.raises(ValueError, match="6 images but 5 labels"):
        ImageSet(good.images, good.labels[:5])
    with pytest.raises(ValueError, match="one device"):
        ImageSet(good.images.to("meta"), good.labels)


def test_subset_keeps_pairs_in_the_order_asked_for() -> None:
    whole = make_set()
    chosen = whole.subset(torch.tensor([4, 1]))
    assert len(chosen) == 2
    assert torch.equal(chosen.images, torch.stack([whole.images[4], whole.images[1]]))
    assert chosen.labels.tolist() == [1, 1]


def test_channels_lie_side_by_side_and_stay_so() -> None:
    pixels = torch.randint(0, 256, (5, 4, 6, 3), dtype=torch.uint8)
    image_set = ImageSet.from_pixels(pixels.numpy(), [0, 1, 2, 3, 4])
    assert torch.equal(image_set.images, pixels.permute(0, 3, 1, 2))
    for same in (image_set, image_set.subset(torch.arange(5)), image_set.to("cpu")):
        assert same.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(same.images, image_set.images)


def test_data_set_knows_its_shape() -> None:
    image_set = make_set()
    data = Dataset(image_set, image_set, image_set, ("a", "b", "c"), "some")
    assert (data.channels, data.height, data.width, data.classes) == (3, 4, 4, 3)


def test_data_set_refuses_sets_that_do_not_fit() -> None:
    good = make_set()
    with pytest.raises(ValueError, match="validation set are"):
        Dataset(good, make_set(size=5), good, ("a", "b", "c"), "some")
    with pytest.raises(ValueError, match="labels of the test set go from 0 to 3"):
        Dataset(good, good, make_set(labels=[0, 1, 2, 3, 0, 1]), ("a", "b", "c"), "some")
    with pytest.raises(ValueError, match="train set is empty"):
        Dataset(good.subset(torch.tensor([], dtype=torch.int64)), good, good, ("a",), "some")


def random_set(count: int, height: int, width: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator
    )
    return ImageSet(images, torch.arange(count))


@pytest.mark.parametrize("size", [5, 8, 20])
def test_agrees_with_pillow(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipper_dist.data.image_set.RESIZED_AT_ONCE", 3)
    image_set = random_set(7, 8, 12)
    resized = image_set.resized(size)
    assert torch.equal(resized.labels, image_set.labels)
    for ours, original in zip(resized.images, image_set.images, strict=True):
        picture = Image.fromarray(original.permute(1, 2, 0).numpy())
        theirs = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        difference = ours.permute(1, 2, 0).int() - torch.from_numpy(theirs.copy()).int()
        assert int(difference.abs().max()) <= 1
        assert abs(float(difference.float().mean())) < 0.2, "rounded, not cut off"


def test_images_of_the_right_size_are_left_alone() -> None:
    image_set = random_set(2, 8, 8)
    assert image_set.resized(8) is image_set


def test_refuses_a_size_below_one() -> None:
    with pytest.raises(UserError, match=r"--data\.image-size 0: "):
        load(DataConfig(source="digits", image_size=0), seed=0)
