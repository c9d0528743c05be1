import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zipper_dist.data import ImageSet, Loader
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu("minibatches are those of the CPU")),
]


def random_set(count: int, channels: int = 3, height: int = 6, width: int = 5) -> ImageSet:
    """Random images without black pixels; the label of an image is its number."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, height, width)
    images = torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count))


def shifted_and_flipped(image: Tensor, down: int, right: int, flip: bool, padding: int) -> Tensor:
    """The slow reference: pad one image (C, H, W) with black, cut a window out, mirror it."""
    channels, height, width = image.shape
    padded = image.new_zeros(channels, height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    top, left = down + padding, right + padding
    window = padded[:, top : top + height, left : left + width]
    return window.flip(2) if flip else window


@settings(max_examples=60, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    padding=st.integers(0, 3),
    flip=st.booleans(),
    seed=st.integers(0, 2**31),
    t=st.integers(1, 20),
)
def test_each_image_is_one_of_its_crops_and_flips(
    channels: int, height: int, width: int, padding: int, flip: bool, seed: int, t: int
) -> None:
    image_set = random_set(9, channels, height, width)
    batch = Loader(image_set, 4, seed, padding, flip).minibatch(t)
    assert batch.images.shape == (4, channels, height, width)
    assert batch.images.dtype == torch.float32
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        shifts = range(-padding, padding + 1)
        assert any(
            torch.equal(image, shifted_and_flipped(original, down, right, mirror, padding) / 255)
            for original in [image_set.images[label]]
            for down in shifts
            for right in shifts
            for mirror in {False, flip}
        )


def test_every_crop_and_flip_occurs() -> None:
    # The images are all the same, so that only the augmentation tells them apart.
    image = random_set(1).images
    repeated = ImageSet(image.expand(600, -1, -1, -1), torch.zeros(600, dtype=torch.int64))
    batch = Loader(repeated, 600, seed=0, crop_padding=1, flip=True).minibatch(1)
    found = {image.numpy().tobytes() for image in batch.images}
    possible = {
        (shifted_and_flipped(image[0], down, right, flip, 1) / 255).numpy().tobytes()
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        for flip in (False, True)
    }
    assert found == possible


def test_draws_are_where_they_always_were() -> None:
    # By a plain loop: results of earlier versions can be had again.
    image_set, seed = random_set(20), 5
    loader = Loader(image_set, 6, seed, crop_padding=2, flip=True)
    for t in (1, 3, 8):
        epoch, position = divmod(t - 1, 3)
        order = torch.randperm(20, generator=generator_at("cpu", seed, "permutation", epoch))
        draws = generator_at("cpu", seed, "augment", t)
        down, right = torch.randint(-2, 3, (2, 6), generator=draws).tolist()
        flips = torch.randint(0, 2, (6,), generator=draws).tolist()
        chosen = order[6 * position : 6 * position + 6].tolist()
        batch = loader.minibatch(t)
        assert batch.labels.tolist() == chosen
        for place, number in enumerate(chosen):
            moves = down[place], right[place], flips[place] == 1
            wanted = shifted_and_flipped(image_set.images[number], *moves, padding=2)
            assert torch.equal(batch.images[place], wanted / 255)


def test_minibatches_are_channels_last() -> None:
    for padding, flip in [(0, False), (2, True)]:
        images = Loader(random_set(8), 4, 0, padding, flip).minibatch(1).images
        assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augmented", [False, True])
def test_a_minibatch_does_not_depend_on_what_was_asked_before(augmented: bool) -> None:
    def new_loader() -> Loader:
        return Loader(random_set(20), 6, 7, crop_padding=2 * augmented, flip=augmented)

    forwards = new_loader()
    in_order = {t: forwards.minibatch(t) for t in range(1, 11)}
    jumping = new_loader()
    for t in (10, 2, 7, 2, 1, 9, 3):
        assert torch.equal(jumping.minibatch(t).images, in_order[t].images)
        assert torch.equal(jumping.minibatch(t).labels, in_order[t].labels)


def test_seed_and_iteration_change_the_minibatch() -> None:
    image_set = random_set(1).images.expand(64, -1, -1, -1)
    same_images = ImageSet(image_set, torch.arange(64))

    def images(seed: int, t: int) -> Tensor:
        return Loader(same_images, 32, seed, crop_padding=2).minibatch(t).images

    assert not torch.equal(images(0, 1), images(0, 2))
    assert not torch.equal(images(0, 1), images(1, 1))


def test_an_epoch_shows_every_image_at_most_once_in_an_order_of_its_own() -> None:
    loader = Loader(random_set(23), 5, seed=0)
    assert loader.steps_per_epoch == 4
    epochs = []
    for epoch in range(3):
        steps = range(1 + 4 * epoch, 5 + 4 * epoch)
        epochs.append([label for t in steps for label in loader.minibatch(t).labels.tolist()])
    for labels in epochs:
        assert len(set(labels)) == len(labels) == 20
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_the_seed() -> None:
    image_set = random_set(50)
    one, two = (Loader(image_set, 50, seed).minibatch(1).labels.tolist() for seed in (0, 1))
    assert one != two
    assert sorted(one) == sorted(two) == list(range(50))


@pytest.mark.parametrize("device", DEVICES)
def test_minibatches_are_the_same_on_every_device(device: str) -> None:
    image_set = random_set(30)
    for options in ((0, False), (2, True)):
        here = Loader(image_set, 7, 3, *options).minibatch(6)
        there = Loader(image_set.to(device), 7, 3, *options).minibatch(6)
        assert there.images.device.type == there.labels.device.type == device
        assert torch.equal(there.images.cpu(), here.images)
        assert torch.equal(there.labels.cpu(), here.labels)


def test_the_images_themselves_are_not_changed() -> None:
    image_set = random_set(8)
    before = image_set.images.clone()
    Loader(image_set, 8, 0, 2, True).minibatch(1).images.zero_()
    Loader(image_set, 8, 0).minibatch(1).images.zero_()
    assert torch.equal(image_set.images, before)


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_refuses_a_batch_size_that_does_not_suit(batch_size: int) -> None:
    with pytest.raises(UserError, match=f"--batch-size {batch_size}: must be from 1 to 10"):
        Loader(random_set(10), batch_size, seed=0)


@pytest.mark.parametrize("padding", [-1, 5])
def test_refuses_a_padding_that_does_not_suit(padding: int) -> None:
    with pytest.raises(UserError, match=f"--data.crop-padding {padding}: must be from 0 to 4"):
        Loader(random_set(10), 2, seed=0, crop_padding=padding)


def test_iterations_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        Loader(random_set(10), 2, seed=0).minibatch(0)
