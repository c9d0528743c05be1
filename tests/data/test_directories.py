"""Which files of a directory are training and test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipper_dist.data.directories import cut_test, find_images, parts_of
from zipper_dist.errors import UserError

NAMES = [f"{kind}/{number:03}.png" for kind in ("cat", "dog", "eel") for number in range(100)]


def for_testing(names: Sequence[str]) -> set[str]:
    """Those of the files, each in the folder of its class, that are for testing."""
    labels = [ord(name[0]) for name in names]
    return {name for name, chosen in zip(names, cut_test(names, labels), strict=True) if chosen}


def of_class(names: set[str]) -> dict[str, set[str]]:
    kinds = {name[0] for name in names}
    return {kind: {name for name in names if name[0] == kind} for kind in kinds}


some_names = st.sets(st.sampled_from(NAMES))


@given(some_names, st.randoms())
def test_every_class_of_two_images_has_one_in_each_part(names: set[str], random: object) -> None:
    order = sorted(names)
    chosen = for_testing(order)
    for images in of_class(names).values():
        if len(images) == 1:
            assert not images & chosen
        else:
            assert 1 <= len(images & chosen) < len(images)
    random.shuffle(order)  # type: ignore[attr-defined]
    assert for_testing(order) == chosen


@given(some_names, some_names)
def test_more_files_move_at_most_the_image_that_a_class_lacked(
    names: set[str], more: set[str]
) -> None:
    before, after = for_testing(sorted(names)), for_testing(sorted(names | more)) & names
    for kind, images in of_class(names).items():
        others = of_class(names | more)[kind] - images
        moved = images & (before ^ after)
        assert len(moved) <= (1 if others else 0)


def test_more_files_of_a_class_that_has_both_parts_move_none() -> None:
    few = [name for name in NAMES if name < f"{name[:3]}/050"]
    assert for_testing(few) == for_testing(NAMES) & set(few)


def test_the_share_is_a_fifth_and_never_changes() -> None:
    names = [f"c/{number}.png" for number in range(5000)]
    chosen = for_testing(names)
    assert len(chosen) == 989
    assert sorted(chosen)[:5] == GOLDEN


GOLDEN = [f"c/{number}.png" for number in (1000, 1005, 1009, 1020, 1035)]
"""Runs that were begun by earlier versions go on with these test images."""


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def found(root: Path, limit: int | None = None) -> tuple[list[str], list[str], tuple[str, ...]]:
    files = find_images(root, limit)
    parts = (
        [str(Path(path).relative_to(root)) for path, _ in p] for p in (files.train, files.test)
    )
    train, test = parts
    return train, test, files.classes


def test_train_and_test_are_taken_as_they_are(tmp_path: Path) -> None:
    files = ("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png", "val/a/3.png")
    make(tmp_path, *files)
    assert found(tmp_path) == (list(files[:2]), list(files[2:4]), ("a", "b"))
    assert find_images(tmp_path, None).notes == ()


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_other_names_of_a_test_set(tmp_path: Path, name: str) -> None:
    files = ("train/a/1.png", "train/b/1.png", f"{name}/a/2.png", f"{name}/b/2.png")
    assert found(make(tmp_path, *files))[:2] == (list(files[:2]), list(files[2:]))


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    files = ("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    make(tmp_path, *files, "train/.ipynb_checkpoints/1.png", "test/__MACOSX/a/2.png")
    (tmp_path / "test" / ".cache").mkdir()  # a class without an image would be refused
    assert found(tmp_path) == (list(files[:2]), list(files[2:]), ("a", "b"))
    below = make(tmp_path / "below", "train/.cache/1.png", *(f"train/{name}" for name in NAMES))
    train, test, classes = found(below)
    assert set(test) == {f"train/{name}" for name in for_testing(NAMES)}
    assert (len(train + test), classes) == (len(NAMES), ("cat", "dog", "eel"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_class_folders(tmp_path: Path, part: str) -> None:
    other = "test" if part == "train" else "train"
    make(tmp_path, f"{part}/.cache/1.png", f"{other}/a/1.png", f"{other}/b/1.png")
    with pytest.raises(UserError, match=rf"there is no class folder in .*/{part}$"):
        find_images(tmp_path, None)


def test_a_test_set_is_cut_alike_from_train_and_from_class_folders(tmp_path: Path) -> None:
    below = make(tmp_path / "below", *(f"train/{name}" for name in NAMES), "other/notes.txt")
    bare = make(tmp_path / "bare", *NAMES, ".cache/x.png", "__MACOSX/cat/001.png", "readme.txt")
    train, test, classes = found(bare)
    assert set(test) == for_testing(NAMES)
    assert sorted(train + test) == NAMES
    assert classes == ("cat", "dog", "eel")
    assert found(below) == ([f"train/{n}" for n in train], [f"train/{n}" for n in test], classes)
    (note,) = find_images(bare, None).notes
    assert f"{len(test)} of the 300 images in {bare} are kept" in note


def test_the_labels_are_those_of_the_folders(tmp_path: Path) -> None:
    files = find_images(make(tmp_path, *NAMES), None)
    for path, label in (*files.train, *files.test):
        assert files.classes[label] == Path(path).parent.name


def test_the_limit_moves_no_image_from_one_part_to_the_other(tmp_path: Path) -> None:
    make(tmp_path, *NAMES)
    train, test, _ = found(tmp_path)
    few_train, few_test, _ = found(tmp_path, limit=9)
    assert (len(few_train), len(few_test)) == (9, 9)
    assert set(few_train) < set(train)
    assert set(few_test) < set(test)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    make(tmp_path, *(f"{kind}/{n}.png" for kind in ("bus", "train") for n in range(9)))
    assert parts_of(tmp_path) == (tmp_path, None)
    assert found(tmp_path)[2] == ("bus", "train")


@pytest.mark.parametrize(
    "files",
    [[], ["1.png"], ["test/a/1.png", "test/b/1.png"], ["val/a/1.png", "a/1.png", "b/1.png"]],
    ids=["empty", "no folders", "test alone", "test and classes"],
)
def test_directories_that_hold_no_training_images(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(UserError, match=r"no directory .*/train\. Give .*CLASS/.*--data\.root"):
        find_images(make(tmp_path, *files), None)


@pytest.mark.parametrize("part", ["", "train/"])
def test_one_image_a_class_is_too_few_for_a_test_set(tmp_path: Path, part: str) -> None:
    make(tmp_path, f"{part}a/1.png", f"{part}b/1.png")
    with pytest.raises(UserError, match="every class has one image"):
        find_images(tmp_path, None)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds only one folder, 'a': give two"):
        find_images(make(tmp_path, "a/1.png", "a/2.png"), None)
