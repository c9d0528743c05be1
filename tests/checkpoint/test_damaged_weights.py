"""Weights files that are absent, damaged, of others, or do not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from checkpoint.weights_files import (
    SMALL,
    error_of,
    saved,
    saved_with,
    stirred,
)
from zipper_dist.checkpoint.weights import load_weights
from zipper_dist.errors import UserError

pytestmark = pytest.mark.usefixtures("one_thread_and_a_seed")


def test_absent_file(tmp_path: Path) -> None:
    assert error_of(tmp_path / "absent") == "no such file"


def test_directory(tmp_path: Path) -> None:
    assert error_of(tmp_path) == "cannot be read: it is a directory"


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"some text\n" * 100])
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert error_of(tmp_path / "file").startswith("not a safetensors file")


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("sprung",)


def test_a_pickle_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "file.pt")
    assert error_of(Path("file.pt")).startswith("not a safetensors file")
    assert not Path("sprung").exists()


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved(path)
    content = path.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert error_of(path).startswith("not a safetensors file, or cut short")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_someone_else(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    content = safetensors.torch.save(stirred(SMALL).state_dict(), metadata=metadata)
    (tmp_path / "file").write_bytes(content)
    assert error_of(tmp_path / "file").endswith("not one that zipper_dist wrote")


def test_another_version_of_the_format(tmp_path: Path) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), format="zipper_dist/2")
    message = error_of(tmp_path / "file")
    assert "zipper_dist/1" in message
    assert "zipper_dist/2" in message


def test_one_flipped_bit_anywhere_in_the_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for position in (start, (start + len(content)) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert error_of(path) == "damaged: the checksum of its tensors does not match"


def test_flipped_bits_in_the_header_are_user_errors_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state = saved(path)
    content = path.read_bytes()
    refused = 0
    for position in range(0, 8 + int.from_bytes(content[:8], "little"), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load_weights(path)[1]
        except UserError:
            refused += 1
        else:
            assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert refused > 100


def test_a_file_without_its_checksum(tmp_path: Path) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), sha256=None)
    assert "checksum" in error_of(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"height": None}, ["damaged", "'height'"]),
        ({"classes": "many"}, ["damaged", "'many'"]),
        ({"arch": "resnet19"}, ["resnet19"]),
        ({"activation": "swish"}, ["'swish'", "relu, silu"]),
        ({"height": "8"}, ["8×20 pixels"]),
        ({"arch": "resnet18"}, ["does not fit the architecture resnet18", "'bn1.bias' is absent"]),
        ({"classes": "4"}, ["'classifier.fc3.bias' is float32 (3,) in the file, float32 (4,)"]),
        # Nothing so large is allocated before the file is refused.
        ({"classes": str(10**14)}, ["does not fit"]),
        ({"classes": str(10**30)}, ["damaged"]),
        ({"width_multiplier": "1e300"}, ["damaged"]),
    ],
)
def test_metadata_that_does_not_fit(
    tmp_path: Path, changes: dict[str, str | None], parts: list[str]
) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), **changes)
    message = error_of(tmp_path / "file")
    for part in parts:
        assert part in message


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    name = "classifier.fc3.bias"
    state = stirred(SMALL).state_dict()

    saved_with(path, {key: tensor for key, tensor in state.items() if key != name})
    assert f"{name!r} is absent in the file" in error_of(path)
    saved_with(path, {**state, "more": torch.zeros(1)})
    assert "'more' is float32 (1,) in the file, absent in the network" in error_of(path)
    saved_with(path, {**state, name: state[name].double()})
    assert f"{name!r} is float64 (3,) in the file, float32 (3,)" in error_of(path)
