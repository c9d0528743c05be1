import pytest
import torch

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import ImageSet, load
from zipper_dist.data.splits import hold_out, limit_images
from zipper_dist.errors import UserError


def numbered(count: int) -> ImageSet:
    """Images whose label is their number."""
    return ImageSet(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))


@pytest.mark.parametrize(("validation", "count"), [("0.1", 20), ("37", 37), ("0.995", 199)])
def test_validation_images_are_held_out(validation: str, count: int) -> None:
    train, held_out = hold_out(numbered(200), numbered(5), validation, seed=0)
    assert len(held_out) == count
    assert sorted(train.labels.tolist() + held_out.labels.tolist()) == list(range(200))


def test_the_seed_decides_which() -> None:
    def held_out(seed: int) -> list[int]:
        labels: list[int] = hold_out(numbered(200), numbered(5), "20", seed)[1].labels.tolist()
        return labels

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)
    assert held_out(1) != list(range(20))


def test_validation_on_the_test_set_leaves_the_training_set_complete() -> None:
    whole, test = numbered(200), numbered(5)
    train, validation = hold_out(whole, test, "test", seed=0)
    assert train is whole
    assert validation is test


@pytest.mark.parametrize(
    "validation", ["0", "-3", "10", "11", "0.0", "1.0", "1.5", "nan", "0.01", ""]
)
def test_refuses_what_leaves_a_set_empty(validation: str) -> None:
    with pytest.raises(UserError, match=f"--data.validation {validation}: "):
        hold_out(numbered(10), numbered(5), validation, seed=0)


def test_refuses_what_is_no_number() -> None:
    with pytest.raises(UserError, match=r"--data.validation some: give a fraction .* or test"):
        hold_out(numbered(10), numbered(5), "some", seed=0)


def test_the_limit_is_a_fixed_random_choice() -> None:
    limited = limit_images(numbered(100), 10, "train")
    assert len(set(limited.labels.tolist())) == 10
    assert limited.labels.tolist() != list(range(10))
    assert torch.equal(limited.labels, limit_images(numbered(100), 10, "train").labels)
    assert not torch.equal(limited.labels, limit_images(numbered(100), 10, "test").labels)


def test_a_limit_that_limits_nothing_changes_nothing() -> None:
    whole = numbered(100)
    assert limit_images(whole, None, "train") is whole
    assert limit_images(whole, 100, "train") is whole
    assert limit_images(whole, 1000, "train") is whole


def test_refuses_a_limit_below_one() -> None:
    with pytest.raises(UserError, match=r"--data\.limit 0: "):
        load(DataConfig(source="digits", limit=0), seed=0)


def test_refuses_an_unknown_source() -> None:
    with pytest.raises(UserError, match="imagenot: unknown data set; choose from cifar10"):
        load(DataConfig(source="imagenot"), seed=0)


def test_a_limit_of_a_limited_set_chooses_what_it_chooses_of_the_whole() -> None:
    whole = numbered(200)
    few, more = (limit_images(whole, limit, "test") for limit in (20, 50))
    again = limit_images(more, 20, "test")
    assert again.labels.tolist() == few.labels.tolist()
    assert again.numbers is not None
    assert again.numbers.tolist() == few.labels.tolist()
    assert again.of == 200
    assert len(limit_images(more, 100, "test")) == 50
    assert limit_images(few.as_whole(), 5, "test").of == 20
