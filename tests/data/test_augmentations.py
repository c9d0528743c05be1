"""Each augmentation, compared with a plain reckoning of the same or with torchvision's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from data.test_loader import shifted_and_flipped
from zipper_dist.config.data import Augment
from zipper_dist.data.minibatches import AUGMENTATIONS, Augmenter, Minibatch, find
from zipper_dist.data.minibatches.erase import rectangles
from zipper_dist.data.minibatches.moves import default_padding
from zipper_dist.data.minibatches.randaugment import operations
from zipper_dist.errors import UserError
from zipper_dist.rng import generator_at

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu("augmentations are those of the CPU")),
]
NAMES = ("crop", "flip", "randaugment", "erase", "cutmix", "mixup")
CLASSES = 5


def minibatch(count: int = 20, channels: int = 3, height: int = 12, width: int = 9) -> Minibatch:
    """Random images of 8 bits without black pixels."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(1, 256, (count, channels, height, width), generator=generator)
    images = (pixels / 255).contiguous(memory_format=torch.channels_last)
    return Minibatch(images, torch.randint(CLASSES, (count,), generator=generator))


def one_hot(batch: Minibatch) -> Minibatch:
    return replace(batch, labels=torch.eye(CLASSES)[batch.labels])


def draws(t: int = 1) -> torch.Generator:
    return generator_at("cpu", "test", t)


def augmented(names: Sequence[str], batch: Minibatch, t: int = 1, seed: int = 0) -> Minibatch:
    return Augmenter(names, "--data.augment", CLASSES, seed)(batch, t)


def test_all_are_here() -> None:
    assert sorted(AUGMENTATIONS) == sorted(NAMES)


@pytest.mark.parametrize("name", ["crop", "flip"])
def test_crops_and_flips_are_those_of_each_image(name: str) -> None:
    batch, padding = minibatch(16, 3, 18, 17), 2 if name == "crop" else 0
    assert default_padding(batch.images) == 2
    sides = (False, True) if name == "flip" else (False,)
    moves = [(down, right, flip) for down in range(-padding, padding + 1)
             for right in range(-padding, padding + 1) for flip in sides]  # fmt: skip
    seen = set()
    for t in range(20):
        result = AUGMENTATIONS[name]()(batch, draws(t))
        assert torch.equal(result.labels, batch.labels)
        for image, original in zip(result.images, batch.images, strict=True):
            equal = [
                m for m in moves if torch.equal(image, shifted_and_flipped(original, *m, padding))
            ]
            assert len(equal) == 1
            seen.add(equal[0])
    assert seen == set(moves)


def test_what_is_erased_and_what_is_not() -> None:
    batch = minibatch(200)
    result = AUGMENTATIONS["erase"]()(batch, draws())
    sides = rectangles(200, 12, 9, draws())
    for image, original, (top, left, bottom, right) in zip(
        result.images, batch.images, sides.T.tolist(), strict=True
    ):
        wanted = F.erase(original, top, left, bottom - top, right - left, torch.zeros(()))
        assert torch.equal(image, wanted)
    assert torch.equal(result.labels, batch.labels)


def test_rectangles_are_as_torchvision_draws_them() -> None:
    count, height, width = 4000, 40, 30
    top, left, bottom, right = rectangles(count, height, width, draws()).double()
    erased = bottom > 0
    assert 0.47 < erased.double().mean() < 0.53
    ours = torch.stack([top, left, bottom - top, right - left])[:, erased]
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    kind = v2.RandomErasing(p=1.0)
    theirs = torch.tensor(
        [[p["i"], p["j"], p["h"], p["w"]] for p in (kind.make_params([image]) for _ in range(4000))]
    ).T.double()
    for mine, other in zip(ours, theirs, strict=True):
        # Means of 2,000 and of 4,000 draws.
        error = (mine.var() / mine.numel() + other.var() / other.numel()).sqrt()
        assert abs(mine.mean() - other.mean()) < 4 * error
        assert 0.9 < mine.std() / other.std() < 1.1
    assert (top >= 0).all()
    assert [bottom.max(), right.max()] == [height, width]
    _, _, bottom, right = sides = rectangles(4000, 6, 4, draws())
    assert (bottom - sides[0]).max() < 6
    assert (right - sides[1]).max() < 4


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_is_what_torchvision_does_image_by_image(channels: int) -> None:
    batch = minibatch(120, channels, 16, 24)
    result = AUGMENTATIONS["randaugment"]()(batch, draws())
    theirs, again = v2.RandAugment(), draws()
    space = theirs._AUGMENTATION_SPACE
    assert list(operations(16, 24)) == list(space)
    images = list((batch.images * 255).round().to(torch.uint8))
    for _ in range(theirs.num_ops):
        numbers = torch.randint(len(space), (120,), generator=again).tolist()
        forth = torch.randint(2, (120,), generator=again).tolist()
        assert set(numbers) == set(range(len(space)))
        for place, number in enumerate(numbers):
            name = list(space)[number]
            of_size, signed = space[name]
            strengths = of_size(theirs.num_magnitude_bins, 16, 24)
            strength = 0.0 if strengths is None else float(strengths[theirs.magnitude])
            strength *= -1 if signed and not forth[place] else 1
            images[place] = theirs._apply_image_or_video_transform(
                images[place], name, strength, InterpolationMode.NEAREST, theirs._fill
            )
    for place, (found, wanted) in enumerate(zip(result.images, images, strict=True)):
        assert torch.equal((found * 255).round().to(torch.uint8), wanted), place
    assert torch.equal(result.labels, batch.labels)


def test_randaugment_takes_grey_and_rgb_alone() -> None:
    with pytest.raises(UserError, match="randaugment: takes images of 1 or 3 channels, not 2"):
        AUGMENTATIONS["randaugment"]()(minibatch(4, 2), draws())


def test_mixup_by_a_plain_loop() -> None:
    batch, shares = one_hot(minibatch()), []
    for t in range(300):
        result = AUGMENTATIONS["mixup"]()(batch, draws(t))
        share = float(torch.rand((), generator=draws(t), dtype=torch.float64))
        shares.append(share)
        if t > 3:
            continue
        for place in range(len(batch.images)):
            for found, given in ((result.images, batch.images), (result.labels, batch.labels)):
                wanted = share * given[place].double() + (1 - share) * given[place - 1].double()
                assert torch.allclose(found[place].double(), wanted, rtol=0, atol=1e-6)
    assert 0.45 < sum(shares) / 300 < 0.55
    assert min(shares) < 0.05 < 0.95 < max(shares)


def test_cutmix_pixel_by_pixel() -> None:
    batch, areas = one_hot(minibatch(6, 3, 16, 12)), []
    for t in range(300):
        result = AUGMENTATIONS["cutmix"]()(batch, draws(t))
        before = batch.images.roll(1, 0)
        taken = (result.images != batch.images).any(1)
        assert torch.equal(result.images, torch.where(taken[:, None], before, batch.images))
        # One rectangle, the same for all images, but for pixels that are equal by chance.
        anywhere = taken.any(0)
        rows, columns = anywhere.any(1).nonzero().flatten(), anywhere.any(0).nonzero().flatten()
        assert int(anywhere.sum()) == len(rows) * len(columns)
        share = len(rows) * len(columns) / (16 * 12)
        wanted = (1 - share) * batch.labels + share * batch.labels.roll(1, 0)
        assert torch.allclose(result.labels, wanted, atol=1e-6)
        areas.append(share)
        size, *centre = torch.rand(3, generator=draws(t), dtype=torch.float64).tolist()
        for found, at, length in ((rows, centre[0], 16), (columns, centre[1], 12)):
            middle, reach = int(at * length), int(0.5 * size**0.5 * length)
            near = [each for each in range(length) if middle - reach <= each < middle + reach]
            assert found.tolist() in (near, [])  # none, if there are none of the other
    torch.manual_seed(0)
    kind = v2.CutMix(num_classes=CLASSES)
    reference = [1 - kind.make_params([batch.images])["lam_adjusted"] for _ in range(2000)]
    assert abs(sum(areas) / 300 - sum(reference) / 2000) < 0.04
    assert abs(sum(a == 0 for a in areas) / 300 - sum(a == 0 for a in reference) / 2000) < 0.05


def test_augmentations_follow_one_another_as_named() -> None:
    batch = minibatch()
    both = augmented(["erase", "flip"], batch)
    apart = augmented(["flip"], augmented(["erase"], batch))
    assert torch.equal(both.images, apart.images)
    assert not torch.equal(both.images, augmented(["flip", "erase"], batch).images)


def test_a_minibatch_is_mixed_in_one_way() -> None:
    batch, chosen = minibatch(), []
    for t in range(60):
        both = augmented(["mixup", "cutmix"], batch, t)
        alone = [augmented([name], batch, t) for name in ("mixup", "cutmix")]
        equal = [torch.equal(both.images, one.images) for one in alone]
        assert sum(equal) == 1
        assert torch.equal(both.labels, alone[equal.index(True)].labels)
        chosen.append(equal.index(True))
    assert 15 < sum(chosen) < 45
    assert [both.labels.dim(), augmented(["flip"], batch).labels.dim()] == [2, 1]


def test_classes_become_shares() -> None:
    batch = minibatch()
    result = augmented(["mixup"], batch)
    generator = generator_at("cpu", 0, "augment", "mixup", 1)
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    for place, found in enumerate(result.labels.tolist()):
        wanted = [0.0] * CLASSES
        wanted[batch.labels[place]] += share
        wanted[batch.labels[place - 1]] += 1 - share
        assert found == pytest.approx(wanted)


def test_what_was_mixed_before_may_be_mixed_again() -> None:
    once = augmented(["mixup"], minibatch())
    twice = augmented(["cutmix"], once)
    assert torch.allclose(twice.labels.sum(1), torch.ones(20))
    assert (twice.labels > 0).sum(1).max() > 2
    assert torch.equal(twice.classes, twice.labels.argmax(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", DEVICES)
def test_draws_have_an_address_and_minibatches_their_shape(name: str, device: str) -> None:
    batch = minibatch()
    before = batch.images.clone()
    first = augmented([name], batch)
    there = Minibatch(batch.images.to(device), batch.labels.to(device))
    again = augmented([name], there)
    assert torch.allclose(
        first.images, again.images.cpu(), rtol=0, atol=0 if device == "cpu" else 0.02
    )
    assert torch.allclose(first.labels.float(), again.labels.float().cpu())
    assert torch.equal(batch.images, before)
    assert first.images.shape == batch.images.shape
    assert first.images.dtype == torch.float32
    assert first.images.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= float(first.images.min()) <= float(first.images.max()) <= 1
    for other in (augmented([name], batch, t=2), augmented([name], batch, seed=1)):
        assert not torch.equal(first.images, other.images)


def test_names_on_the_command_line() -> None:
    for text in ("none", "flip", "crop,flip,cutmix", "my.module:Mine"):
        assert str(Augment.parse(text)) == text
    assert Augment.parse("none").names == ()
    for text in ("flip,", "flip,,crop", "flip,flip"):
        with pytest.raises(ValueError, match="give names, each once, such as crop,flip,cutmix, or"):
            Augment.parse(text)


def test_names_that_are_none() -> None:
    with pytest.raises(UserError, match=r"--data.augment crp: unknown augmentation; choose from"):
        find("crp", "--data.augment")
    with pytest.raises(UserError, match=r"math:sqrt: is no class derived from Augmentation"):
        find("math:sqrt", "--data.augment")


def test_labels_that_are_not_mixed() -> None:
    labels = torch.tensor([2, 0, 1])
    assert torch.equal(Minibatch(torch.zeros(3, 1, 2, 2), labels).classes, labels)
