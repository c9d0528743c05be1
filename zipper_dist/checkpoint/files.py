"""Writing files so that a reader, or a crash, never meets a half-written one."""

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

from zipper_dist.errors import UserError

UNUSED = ".unused"
"""Ending of the names of files that a run found and does not go by."""

LEFTOVER = re.compile(r"\.(?!\.|evaluation).+\.[0-9a-f]{16}\.tmp")
"""Names of temporary files, but for those of evaluations and of :func:`check_writable`."""


def set_aside(path: Path) -> None:
    """Keep the file at ``path`` under another name, in place of one that was kept before."""
    os.replace(path, path.with_name(path.name + UNUSED))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path``, or leave it as it was and raise OSError, so that a reader sees
    the old file or the new one, also after a power cut."""
    # A rename is atomic only within a file system. Files of `tempfile` only their owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # Some errors name no file, others the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    # Make the rename durable.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a directory; the file itself is in place.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Delete what :func:`write_atomically` leaves in ``directory`` where a SIGKILL or a power cut
    ends it, as long as nobody else writes there. Evaluations may; theirs stay."""
    for path in directory.iterdir():
        if LEFTOVER.fullmatch(path.name):
            with contextlib.suppress(OSError):  # it is in nobody's way
                path.unlink()


def check_writable(directory: Path, option: str, *below: Path) -> None:
    """Create ``directory`` and those ``below`` it; UserError if it cannot be written."""
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
