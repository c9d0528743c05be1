"""Checkpoint files that a run does not continue from."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.checkpoint.format import (
    CheckpointInfo,
    LearnerCheckpoint,
    keep_only,
    path_of,
    save,
    steps_of,
    survey,
)
from zipper_dist.errors import Failure, known_failures

THIS, OTHER = 64 * "1", 64 * "2"  # identities of runs


def save_steps(directory: Path, learner: str, *steps: int, identity: str = THIS) -> None:
    for step in steps:
        info = CheckpointInfo(learner, step, 0, [], [], [], identity)
        save(directory, LearnerCheckpoint(info, {"learner": {"theta": torch.arange(step)}}))


def test_a_file_of_another_run_learner_or_iteration_is_left_out(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 5, 10, 20, 30)
    save_steps(tmp_path, "natural", 10, identity=OTHER)
    save_steps(tmp_path, "adversarial", 20)
    path_of(tmp_path, "adversarial", 20).rename(path_of(tmp_path, "natural", 20))
    path_of(tmp_path, "natural", 5).rename(path_of(tmp_path, "natural", 40))
    usable, complaints = survey(tmp_path, "natural", THIS)
    assert [info.step for info in usable] == [30]
    assert complaints == [
        f"checkpoint left out: {path_of(tmp_path, 'natural', step)}: {why}"
        for step, why in (
            (40, "of iteration 5, not 40"),
            (20, "holds learner adversarial, not natural"),
            (10, "of another run, with other options"),
        )
    ]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=4), inner)
)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), value=anything)
def test_whatever_a_file_says_of_itself_it_is_used_or_left_out(
    data: st.DataObject, value: Any
) -> None:
    info = CheckpointInfo("natural", 1, 0, [], [], [], THIS)
    about: Any = {"info": dataclasses.asdict(info), "notes": {"carry": 1.0}}
    where = data.draw(st.sampled_from(["", "info", "notes", *about["info"]]))
    if where == "":
        about = value
    elif where in about:
        about[where] = value
    else:
        about["info"][where] = value
    text = json.dumps(about).encode()
    content = safetensors.torch.save({"about": torch.tensor(list(text), dtype=torch.uint8)})
    with tempfile.TemporaryDirectory() as name:
        path = path_of(Path(name), "natural", 1)
        path.write_bytes(hashlib.sha256(content).digest() + content)
        usable, complaints = survey(Path(name), "natural", THIS)
        assert len(usable) + len(complaints) == 1
        assert all(info == CheckpointInfo(**dataclasses.asdict(info)) for info in usable)
        assert all("\n" not in line for line in complaints)


def test_a_run_that_starts_over_keeps_old_files_under_other_names(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20)
    save_steps(tmp_path, "adversarial", 20)
    before = path_of(tmp_path, "natural", 20).read_bytes()
    usable, _ = survey(tmp_path, "natural", THIS)
    keep_only(tmp_path, usable, "natural", None)
    assert steps_of(tmp_path, "natural") == []
    assert steps_of(tmp_path, "adversarial") == [20]
    assert (tmp_path / "natural-00000020.ckpt.unused").read_bytes() == before


def test_what_a_run_does_not_continue_from_is_out_of_its_way(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10, 20, 30, 40)
    path_of(tmp_path, "natural", 10).write_bytes(b"damaged")
    path_of(tmp_path, "natural", 40).write_bytes(b"damaged")
    usable, _ = survey(tmp_path, "natural", THIS)
    keep_only(tmp_path, usable, "natural", 20)
    # 30 is sound and will be made again; damaged files may be all that their owner has.
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"natural-000000{n}" for n in ("20.ckpt", "10.ckpt.unused", "40.ckpt.unused")}


def test_what_cannot_be_read_for_now_is_not_given_up(tmp_path: Path) -> None:
    save_steps(tmp_path, "natural", 10)
    unreadable = path_of(tmp_path, "natural", 20)
    unreadable.symlink_to("/proc/self/mem")  # opens, but its first page cannot be read
    with pytest.raises(Failure) as raised, known_failures():
        survey(tmp_path, "natural", THIS)
    assert str(raised.value) == (
        f"{unreadable}: {os.strerror(errno.EIO)}; once that is cured, the same command continues "
        "from what is saved"
    )
    assert steps_of(tmp_path, "natural") == [20, 10]


def test_a_directory_that_cannot_be_listed_for_now_is_not_empty() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:  # in a directory that everyone may see
        directory = Path(name)
        save_steps(directory, "natural", 10)
        directory.chmod(0)
        try:
            if user == 0:
                os.seteuid(65534)  # nobody: root may read everything
            with pytest.raises(PermissionError):
                survey(directory, "natural", THIS)
        finally:
            os.seteuid(user)
            directory.chmod(0o700)
    assert steps_of(directory, "natural") == []  # now that it is gone
