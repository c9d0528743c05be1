import numpy as np
import pytest
import torch
from PIL import Image

from zipper_dist.data import ImageSet
from zipper_dist.data.resizing import resize
from zipper_dist.errors import UserError


def random_set(count: int, height: int, width: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator
    )
    return ImageSet(images, torch.arange(count))


@pytest.mark.parametrize("size", [5, 8, 20])
def test_agrees_with_pillow(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipper_dist.data.resizing.IMAGES_AT_ONCE", 3)
    image_set = random_set(7, 8, 12)
    resized = resize(image_set, size)
    assert torch.equal(resized.labels, image_set.labels)
    for ours, original in zip(resized.images, image_set.images, strict=True):
        picture = Image.fromarray(original.permute(1, 2, 0).numpy())
        theirs = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        difference = ours.permute(1, 2, 0).int() - torch.from_numpy(theirs.copy()).int()
        assert int(difference.abs().max()) <= 1
        assert abs(float(difference.float().mean())) < 0.2, "rounded, not cut off"


def test_images_of_the_right_size_are_left_alone() -> None:
    image_set = random_set(2, 8, 8)
    assert resize(image_set, 8) is image_set


def test_refuses_a_size_below_one() -> None:
    with pytest.raises(UserError, match=r"--data\.image-size 0: "):
        resize(random_set(2, 8, 8), 0)
