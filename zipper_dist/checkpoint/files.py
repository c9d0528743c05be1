"""Writing files so that a reader, or a crash, never meets a half-written one."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from zipper_dist.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` [bytes], or leave it as it was.

    A reader sees the old file or the new one, also after a power cut.

    Raises:
        OSError: the directory is absent, the disk is full …; ``path`` is then unchanged.
    """
    # A rename is atomic only within a file system. Files of `tempfile` only their owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def check_writable(directory: Path, option: str, *below: Path) -> None:
    """Create ``directory``, and the directories ``below`` it, and check that it can be written.

    Raises:
        UserError: it cannot; the message names ``option`` and the directory.
    """
    probe = directory / ".writable"
    try:
        for path in (directory, *below):
            path.mkdir(parents=True, exist_ok=True)
        write_atomically(probe, b"")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{option} {directory}: cannot be written ({error.strerror}); give a directory that can"
        ) from error


def _sync_directory(directory: Path) -> None:
    """Make a rename in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; the file itself is in place.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
