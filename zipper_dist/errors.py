"""Errors that end a command, each with its exit status, and the log of those nobody expected."""

import contextlib
import errno
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import zipper_dist

LOG = "log.txt"
NAMELESS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Reasons why a write fails, clear enough where an OSError does not tell the file."""


def in_one_line(error: BaseException) -> str:
    """The kind of an error and its message, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class CommandError(Exception):
    """A command cannot go on; the message is one line for its user."""

    status = 1
    final = False  # whether the same command would end in the same way


class UserError(CommandError):
    """Bad input: the message names the option or file, its value, and what would be right."""

    status = 2
    final = True


class TrainingDiverged(CommandError):
    """A loss or a parameter became NaN or infinite."""

    final = True


class PeerLost(CommandError):
    """Another rank of the job is gone, so this one cannot go on."""


class RankSilent(PeerLost):
    """Nothing was heard of another rank for too long; this rank may be the only one to know."""


class Failure(CommandError):
    """Something failed for this rank that is nobody's input, such as a disk."""


class Interrupted(CommandError):
    """A signal stopped the command after its state was saved; the status is 128 + its number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.status = 128 + signal_number


def failure_of(error: Exception) -> Failure | None:
    """What to tell the user where files or memory are the trouble; None where they are not."""
    text = in_one_line(error)
    memory = ("out of memory", "allocate memory", "enough memory")
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if no_memory or (isinstance(error, RuntimeError) and any(word in text for word in memory)):
        return Failure(
            f"out of memory ({text}): free some, and the same command continues; a smaller "
            "--batch-size takes less (of a training: in another --run-dir)"
        )
    if isinstance(error, OSError) and error.strerror:
        cure = "once that is cured, the same command continues from what is saved"
        if error.filename is not None:
            return Failure(f"{os.fsdecode(error.filename)}: {error.strerror}; {cure}")
        if error.errno in NAMELESS:
            return Failure(f"a file cannot be written: {error.strerror}; {cure}")
    return None


@contextlib.contextmanager
def known_failures() -> Iterator[None]:
    """Turn errors of files and memory into a :class:`Failure`."""
    try:
        yield
    except Exception as error:
        if failure := failure_of(error):
            raise failure from error
        raise


def log_failure(directory: Path, error: Exception) -> Path | None:
    """Append the traceback to the log in a directory; the log, or None where that is impossible."""
    now, rank = datetime.now().astimezone().isoformat(" ", "seconds"), os.environ.get("RANK", "0")
    about = f"{now}, rank {rank}, zipper_dist {zipper_dist.__version__}: {shlex.join(sys.argv)}\n"
    path = directory / LOG
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(about + "".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return None
    return path
