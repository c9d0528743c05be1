"""What a user is told of an error that is nobody's input."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.errors import LOG, Failure, UserError, failure_of, known_failures, log_failure


def test_a_write_that_fails_names_file_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "weights"
    with pytest.raises(Failure) as raised, known_failures():
        write_atomically(path, b"content")
    assert str(raised.value) == (
        f"{path}: No such file or directory; once that is cured, the same command continues from "
        "what is saved"
    )
    assert isinstance(raised.value.__cause__, OSError)


def test_a_full_disk_without_a_file_name() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError) as raised:
        full.write(b"text")
    failure = failure_of(raised.value)
    assert "a file cannot be written: No space left on device" in str(failure)


def allocate_on_the_host() -> None:
    torch.empty(2**48, dtype=torch.uint8)


def allocate_in_python() -> None:
    bytes(2**62)


def allocate_on_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def allocate_in_the_kernel() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    "allocate",
    [allocate_on_the_host, allocate_in_python, allocate_on_the_gpu, allocate_in_the_kernel],
)
def test_out_of_memory_names_the_option(allocate: object) -> None:
    assert callable(allocate)
    with pytest.raises(Failure) as raised, known_failures():
        allocate()
    assert str(raised.value).startswith("out of memory (")
    assert "a smaller --batch-size" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_errors_stay_what_they_are() -> None:
    for error in (KeyError("x"), RuntimeError("shapes differ"), UserError("--seed"), OSError("?")):
        assert failure_of(error) is None
        with pytest.raises(type(error)) as raised, known_failures():
            raise error
        assert raised.value is error


def test_the_log_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert log_failure(tmp_path, KeyError("a\udcffb")) == tmp_path / LOG
    text = (tmp_path / LOG).read_text()
    assert text.index("rank 0, zipper_dist ") < text.index("rank 1, zipper_dist ")
    assert text.count("KeyError: ") == 2


def test_there_is_no_log_where_there_is_no_directory(tmp_path: Path) -> None:
    assert log_failure(tmp_path / "gone", KeyError("x")) is None
    assert not (tmp_path / "gone").exists()
