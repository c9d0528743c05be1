from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from checkpoint.parts import BOTH, THIS, info_of
from zipper_dist.checkpoint.format import (
    DamagedCheckpoint,
    LearnerCheckpoint,
    choose,
    load,
    path_of,
    prune,
    save,
    steps_of,
    survey,
)


def groups_of(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "learner": {
            "theta": torch.randn(7, generator=generator),
            "special": torch.tensor([torch.nan, -torch.inf, -0.0]),
            "integer/norm.num_batches_tracked": torch.tensor(12),
        },
        "look-5": {"share": torch.randn(2, 3, generator=generator).t()},
    }


def same_bits(one: Tensor, other: Tensor) -> bool:
    as_bytes = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*as_bytes)


def save_steps(directory: Path, learner: str, *steps: int) -> None:
    for step in steps:
        save(directory, LearnerCheckpoint(info_of(learner, step), groups_of(step)))


def test_a_part_survives_with_all_its_tensors_and_notes(tmp_path: Path) -> None:
    info = info_of("natural", 20, 15, posted=[5, 10], kept=[10], evaluated=[5])
    notes: dict[str, Any] = {"carry": 0.1 + 0.2, "history": [{"step": 5, "clean": 99.5}]}
    path = save(tmp_path, LearnerCheckpoint(info, groups_of(), notes))
    assert path == path_of(tmp_path, "natural", 20)
    assert list(tmp_path.iterdir()) == [path]

    part = load(path)
    assert part.info == info
    assert part.notes == notes
    assert part.groups.keys() == groups_of().keys()
    for group, tensors in groups_of().items():
        assert part.groups[group].keys() == tensors.keys()
        assert all(same_bits(part.groups[group][name], tensor) for name, tensor in tensors.items())


@settings(deadline=None)
@given(carry=st.floats(0, 1))
def test_numbers_in_notes_are_exact(carry: float) -> None:
    # An exact resume needs the last bit.
    with tempfile.TemporaryDirectory() as directory:
        part = LearnerCheckpoint(info_of("natural", 1), {}, {"carry": carry})
        assert load(save(Path(directory), part)).notes == {"carry": carry}


def test_a_part_is_a_copy_of_what_was_saved(tmp_path: Path) -> None:
    state = groups_of()
    path = save(tmp_path, LearnerCheckpoint(info_of("natural", 1), state))
    state["learner"]["theta"].fill_(0)
    assert torch.equal(load(path).groups["learner"]["theta"], groups_of()["learner"]["theta"])


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 3)
    save(tmp_path, LearnerCheckpoint(info_of("natural", 3, evaluated=[3]), groups_of()))
    (found,), complaints = survey(tmp_path, "natural", THIS)
    assert found.evaluated == [3]
    assert complaints == []


names = st.text("abc/.-_0:", min_size=1, max_size=5)
groups = st.dictionaries(st.text("abc/.-_0", min_size=1, max_size=5), st.sets(names), max_size=4)


@settings(deadline=None)
@given(groups=groups)
def test_groups_are_taken_apart_as_they_were_put_together(groups: Mapping[str, set[str]]) -> None:
    grouped = {
        group: {name: torch.tensor(len(name)) for name in names} for group, names in groups.items()
    }
    with tempfile.TemporaryDirectory() as directory:
        part = load(save(Path(directory), LearnerCheckpoint(info_of("natural", 1), grouped)))
    assert part.groups == {group: tensors for group, tensors in grouped.items() if tensors}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A directory with parts at iterations 10 and 20, and the content of the newer one."""
    directory = tmp_path_factory.mktemp("checkpoints")
    save_steps(directory, "natural", 10, 20)
    return directory, path_of(directory, "natural", 20).read_bytes()


def assert_the_older_one_is_used(directory: Path) -> None:
    newest = path_of(directory, "natural", 20)
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        load(newest)
    usable, (complaint,) = survey(directory, "natural", THIS)
    assert [part.step for part in usable] == [10]
    assert str(newest) in complaint
    chosen = choose({"natural": usable}, "natural", lambda learner: [learner])
    assert chosen is not None
    assert chosen["natural"].step == 10


@settings(max_examples=150, deadline=None)
@given(data=st.data(), mask=st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(
    intact: tuple[Path, bytes], data: st.DataObject, mask: int
) -> None:
    directory, content = intact
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    damaged = bytearray(content)
    damaged[position] ^= mask
    path_of(directory, "natural", 20).write_bytes(damaged)
    assert_the_older_one_is_used(directory)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_noticed(intact: tuple[Path, bytes], data: st.DataObject) -> None:
    directory, content = intact
    length = data.draw(st.integers(0, len(content) - 1), label="length")
    path_of(directory, "natural", 20).write_bytes(content[:length])
    assert_the_older_one_is_used(directory)


def test_bytes_at_the_end_are_noticed(intact: tuple[Path, bytes]) -> None:
    directory, content = intact
    path_of(directory, "natural", 20).write_bytes(content + b"\0")
    assert_the_older_one_is_used(directory)


def test_a_directory_in_place_of_a_file_is_reported(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10)
    path_of(tmp_path, "natural", 20).mkdir()
    usable, complaints = survey(tmp_path, "natural", THIS)
    assert [part.step for part in usable] == [10]
    assert len(complaints) == 1


def test_the_survey_is_of_one_learner_newest_first(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5, 200, 30)
    save_steps(tmp_path, "adversarial", 7)
    usable, complaints = survey(tmp_path, "natural", THIS)
    assert [(part.learner, part.step) for part in usable] == [
        ("natural", 200),
        ("natural", 30),
        ("natural", 5),
    ]
    assert complaints == []
    assert survey(tmp_path, "trades", THIS) == ([], [])
    assert survey(tmp_path / "absent", "natural", THIS) == ([], [])


def test_half_written_files_are_no_checkpoints(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5)
    (tmp_path / ".natural-00000009.ckpt.0123.tmp").write_bytes(b"half")
    assert steps_of(tmp_path, "natural") == [5]


def test_files_of_other_origin_are_no_checkpoints(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5)
    (tmp_path / "natural-lastgood.ckpt").write_bytes(b"")
    assert steps_of(tmp_path, "natural") == [5]


def test_prune_keeps_the_newest_three_complete_steps_and_all_that_is_newer(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40, 50, 60, 70)
    save_steps(tmp_path, "adversarial", 10, 15, 20, 30, 40, 50)
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")

    prune(tmp_path, ["natural"], BOTH, 0)
    assert steps_of(tmp_path, "natural") == [70, 60, 50, 40, 30]
    # The other rank's files are the other rank's.
    assert steps_of(tmp_path, "adversarial") == [50, 40, 30, 20, 15, 10]
    prune(tmp_path, ["adversarial"], BOTH, 0)
    assert steps_of(tmp_path, "adversarial") == [50, 40, 30]
    assert foreign.exists()


def test_prune_keeps_everything_while_there_is_little(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40, 50)
    prune(tmp_path, ["natural"], BOTH, 0)
    assert len(steps_of(tmp_path, "natural")) == 5
    save_steps(tmp_path, "adversarial", 10, 20)
    prune(tmp_path, BOTH, BOTH, 0)
    assert len(steps_of(tmp_path, "natural")) == 5
    assert len(steps_of(tmp_path, "adversarial")) == 2


def test_prune_leaves_files_of_an_earlier_placement_out_of_account(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40, 50, 60)
    save_steps(tmp_path, "adversarial", 10, 20)  # which is saved on another machine since
    prune(tmp_path, ["natural"], BOTH, 55, elsewhere=["adversarial"])
    assert steps_of(tmp_path, "natural") == [60, 50, 40, 30]
    assert steps_of(tmp_path, "adversarial") == [20, 10]


@settings(max_examples=20, deadline=None)
@given(
    mine=st.sets(st.integers(1, 12)),
    other=st.sets(st.integers(1, 12)),
    reached=st.integers(0, 14),
    keep=st.integers(1, 4),
)
def test_prune_leaves_what_it_should(
    mine: set[int], other: set[int], reached: int, keep: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for learner, steps in (("natural", mine), ("adversarial", other)):
            for step in steps:
                path_of(directory, learner, step).touch()
        prune(directory, ["natural"], BOTH, reached, keep)
        # Where the other's are elsewhere, it may not have made those from ``reached`` on.
        complete = mine & other if mine and other else {s for s in mine | other if s < reached}
        oldest = ([0] * keep + sorted(complete))[-keep]
        assert set(steps_of(directory, "natural")) == {step for step in mine if step >= oldest}
        assert set(steps_of(directory, "adversarial")) == other


def test_a_fast_learner_elsewhere_keeps_what_a_slow_one_needs(tmp_path: Path) -> None:
    """Checkpoints every 10, validations every 60; each learner in a directory of its own."""
    fast, slow = (tmp_path / name for name in BOTH)
    fast.mkdir()
    slow.mkdir()
    for step in range(10, 180, 10):
        posted = [look for look in (60, 120) if look <= step]
        save(fast, LearnerCheckpoint(info_of("natural", step, posted=posted, kept=posted), {}))
        prune(fast, ["natural"], BOTH, reached=0)
    save_steps(slow, "adversarial", 10, 20)  # and then it is killed
    found = {"natural": survey(fast, "natural", THIS)[0]}
    found["adversarial"] = survey(slow, "adversarial", THIS)[0]
    assert choose(found, "natural", lambda learner: [learner]) is not None
    # A redistribution after 90: the slow one has got there, but not saved.
    prune(fast, ["natural"], BOTH, reached=90)
    assert steps_of(fast, "natural") == list(range(170, 50, -10))
    prune(fast, ["natural"], BOTH, reached=175)
    assert steps_of(fast, "natural") == [170, 160, 150]
