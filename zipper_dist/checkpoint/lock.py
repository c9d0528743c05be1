"""One job a run directory: a lock on a file, which the kernel takes back however its holder ends.

It is `flock` itself: the package filelock empties the file whenever it opens it, so that whoever is
refused would wipe out the name of the holder, and leaves the lock to forked children.
"""

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zipper_dist.config.json_shape import fits
from zipper_dist.errors import UserError

PATIENCE = 15.0
"""How long to try: ranks whose launcher was killed live for some 6 seconds, and longer on a machine
that is busy [seconds]."""
PAUSE = 0.1

HOLDER = {"job": str, "host": str, "process": int, "since": str}

_held: set[int] = set()


def _let_go_in_child() -> None:
    """A child that is forked shares its parent's lock: it would keep it beyond the parent's end."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class Lock:
    """The lock of ``path``, for one ``job`` (a name that no other has). A file is left there."""

    def __init__(self, path: Path, job: str) -> None:
        self.path = path
        self.job = job
        self._descriptor = -1

    def take(self) -> str | None:
        """Lock, unless another process of the job did. Returns a note where the file system has no
        locks; raises UserError, naming the holder, where another job holds it for PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        descriptor = self._open()
        try:
            while (holder := self._holder()).get("job") != self.job:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UserError(_refusal(self.path.parent, holder)) from None
                    time.sleep(PAUSE)
                except OSError as error:
                    return (
                        f"{self.path.parent} cannot be locked here ({error.strerror}): see to it "
                        "that no second job uses it"
                    )
                else:
                    self._sign(descriptor)
                    self._descriptor, descriptor = descriptor, -1
                    _held.add(self._descriptor)
                    break
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return None

    def release(self) -> None:
        """Unlock, if this process holds the lock."""
        if self._descriptor in _held:  # not so in a forked child
            _held.discard(self._descriptor)
            os.close(self._descriptor)

    def _open(self) -> int:
        # Python closes descriptors in programs that are started from here.
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user's, in a directory that several may write to
            return os.open(self.path, os.O_RDONLY)

    def _holder(self) -> Mapping[str, Any]:
        """What the last holder wrote; empty where it is not known."""
        try:
            holder = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return holder if fits(holder, HOLDER) else {}

    def _sign(self, descriptor: int) -> None:
        """Write who holds the lock; one without a name is better than none."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        about = {"job": self.job, "host": platform.node(), "process": os.getpid(), "since": now}
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(about) + "\n").encode(), 0)
            os.fsync(descriptor)  # so that other machines see it


def _refusal(directory: Path, holder: Mapping[str, Any]) -> str:
    who = "another process"
    if holder:
        who = f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    return (
        f"--run-dir {directory} is in use by {who}: wait for that job to end, end it, or give "
        "another --run-dir"
    )


def is_locked(path: Path) -> bool:
    """Whether a job holds the lock of ``path``, as far as this machine can see."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or the file system has none
        return False
    return False
