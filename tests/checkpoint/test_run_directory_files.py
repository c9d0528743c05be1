"""The files of a run directory: what is written, cleared and refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from checkpoint.parts import BOTH, FP32
from zipper_dist.checkpoint.options import as_json
from zipper_dist.checkpoint.run_directory import RunDirectory, write_json
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import recipe


def test_config_json_says_how_the_run_came_about(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(
        recipe("digits"),
        FP32 | {"compiled": True},
        ["one GPU", "another GPU"],
    )
    about = json.loads(directory.config.read_text())
    assert about["options"] == as_json(recipe("digits"))
    assert about["resolved"] == FP32 | {"compiled": True}
    assert about["devices"] == ["one GPU", "another GPU"]
    assert set(about["versions"]) >= {"zipper_dist", "python", "torch", "torchvision", "numpy"}
    assert about["host"]


def test_prepare_creates_the_directory_and_leaves_nothing_else(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "runs" / "mine")
    for _ in range(2):
        directory.prepare()
        assert list(directory.root.iterdir()) == [directory.checkpoints]


def assert_not_writable(root: Path) -> None:
    with pytest.raises(UserError) as raised:
        RunDirectory(root).prepare()
    message = str(raised.value)
    assert message.startswith(f"--run-dir {root}: cannot be written (")
    assert "\n" not in message


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_not_writable(tmp_path / "file")
    assert_not_writable(tmp_path / "file" / "below")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    assert_not_writable(tmp_path / "run")


def test_a_full_or_read_only_disk_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zipper_dist.checkpoint.files.write_atomically", fail)
    with pytest.raises(UserError, match="No space left on device"):
        RunDirectory(tmp_path).prepare()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_directory_of_someone_else_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert_not_writable(tmp_path)
    assert_not_writable(tmp_path / "below")


def test_clear_deletes_the_run_and_leaves_foreign_files(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.prepare()
    own = [
        directory.config,
        directory.metrics,
        directory.summary,
        tmp_path / "evaluation.json",
        directory.trace(0),
        *(directory.weights(name) for name in [*BOTH, "global", "best"]),
        *(directory.checkpoints / f"{name}-00000010.ckpt" for name in BOTH),
        directory.checkpoints / "natural-00000010.ckpt.unused",
        tmp_path / "global.safetensors.unused",
    ]
    foreign = [
        tmp_path / "notes.txt",
        tmp_path / "others.safetensors",
        directory.checkpoints / "README",
    ]
    for path in own + foreign:
        path.write_text("{}")
    for _ in range(2):
        directory.clear(BOTH)
        assert not any(path.exists() for path in own)
        assert all(path.read_text() == "{}" for path in foreign)
    assert directory.checkpoints.is_dir()
    assert directory.finished() is None


def test_a_run_that_changes_its_way_of_computing_is_warned(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(recipe("digits"), FP32 | {"compiled": True}, ["cpu"])
    assert directory.notes_on_compiling(True) == []
    (note,) = directory.notes_on_compiling(False)
    assert "were compiled, and goes on with networks that are not compiled" in note


def test_json_files_are_for_people_too(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"a": [1], "b": "ε"})
    content = (tmp_path / "file.json").read_text()
    assert json.loads(content) == {"a": [1], "b": "ε"}
    assert content.endswith("}\n")
    assert len(content.splitlines()) > 3
