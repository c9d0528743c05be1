"""Images that are decoded once into a file, which later runs and other processes map.

A checksum follows each image: what is there can be told from what is not, so that whoever was
interrupted, however, is continued. An index beside the file, written last, says that all are there.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zipper_dist.config.json_shape import fits
from zipper_dist.data.decoding import Unreadable
from zipper_dist.data.stores.decoded import Bad, Decode, decoded
from zipper_dist.data.stores.mapped import Layout, MappedImages, Pixels, checksum
from zipper_dist.errors import UserError

AT_ONCE = 2**26
"""Images that are decoded, checked and written at a time, unless one is larger [bytes]."""


def cached(layout: Layout, decode: Decode) -> tuple[MappedImages, Bad]:
    """All images of ``layout``, and which of them cannot be read. Where they are not there yet,
    they are decoded; of several processes one does so, and the others wait.

    An error of ``decode``, but for an OSError, also deletes what was decoded. UserError: the
    directory cannot be used.
    """
    found = _complete(layout)
    while found is None:
        with _locked(layout.path) as file:
            found = _complete(layout)  # by another process, meanwhile
            if found is None:
                _fill(layout, file, decode)
                found = _complete(layout)
    return found


def _complete(layout: Layout) -> tuple[MappedImages, Bad] | None:
    """The images and what cannot be read, if all that can be is there."""
    try:
        index = json.loads(layout.index.read_text())
        if not fits(index, {"bad": {str: str}}):
            return None
        return MappedImages(layout), {int(number): why for number, why in index["bad"].items()}
    except (OSError, ValueError, RecursionError):  # ValueError also where the file is too short
        return None


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Errors of the disk, for the duration, as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--data.cache {path.parent}: {path.name} cannot be made ({error.strerror}): give a "
            "directory that can be written, on a disk with room for the images"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file at ``path``, which no other process has for the duration."""
    with contextlib.ExitStack() as stack:
        with _usable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = -1
            while file < 0 or not _is_at(path, file):  # it may have been deleted meanwhile
                stack.close()
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                stack.callback(os.close, file)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _is_at(path: Path, file: int) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(file))


def _fill(layout: Layout, file: int, decode: Decode) -> None:
    """Decode what is not there yet, and write the index."""
    path, size = layout.path, layout.size
    bad: Bad = {}
    with _usable(path):
        layout.index.unlink(missing_ok=True)
        begun = os.fstat(file).st_size > 0
        _check_room(layout, file)
    at_once = max(1, AT_ONCE // layout.stride)
    for first in range(0, layout.count, at_once):
        numbers = range(first, min(first + at_once, layout.count))
        records = np.zeros((len(numbers), layout.stride), np.uint8)
        start = first * layout.stride
        if begun:
            with _usable(path):
                there = os.pread(file, records.nbytes, start)
            records.reshape(-1)[: len(there)] = np.frombuffer(there, np.uint8)
        missing = [n for n in numbers if not _is_intact(records[n - first], size)]
        try:
            for number, image in zip(missing, decoded(decode, missing), strict=True):
                if isinstance(image, Unreadable):
                    bad[number] = str(image)
                else:
                    record = records[number - first]
                    record[:size] = image.reshape(-1)
                    record[size:] = np.frombuffer(checksum(record[:size]), np.uint8)
        except OSError:  # of the machine: what is there can be used when it is mended
            raise
        except Exception:
            path.unlink()
            raise
        if missing:
            with _usable(path):
                _write(file, records, start)
    with _usable(path):
        os.fsync(file)
        _write_index(layout, bad)


def _is_intact(record: Pixels, size: int) -> bool:
    return record[size:].tobytes() == checksum(record[:size])


def _check_room(layout: Layout, file: int) -> None:
    has = 512 * os.fstat(file).st_blocks
    free = shutil.disk_usage(layout.path.parent).free
    if layout.end - has > free:
        if has == 0:
            layout.path.unlink()
        raise UserError(
            f"--data.cache {layout.path.parent}: {layout.count:,} images take "
            f"{(layout.end - has) / 2**30:,.1f} GiB of disk, of which {free / 2**30:,.1f} GiB are "
            "free: give a directory on another disk, a smaller --data.image-size, or fewer images "
            "with --data.limit"
        )


def _write(file: int, records: Pixels, start: int) -> None:
    left = records.data.cast("B")
    while left:
        written = os.pwrite(file, left, start)
        left, start = left[written:], start + written


def _write_index(layout: Layout, bad: Bad) -> None:
    temporary = layout.index.with_suffix(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x") as file:
            json.dump({"bad": bad}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, layout.index)
    finally:
        temporary.unlink(missing_ok=True)
