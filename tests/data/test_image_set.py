import pytest
import torch

from zipper_dist.data import Dataset, ImageSet


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
