"""Locks of real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zipper_dist.checkpoint import lock as module
from zipper_dist.checkpoint.lock import Lock
from zipper_dist.distributed.heartbeat import GRACE, TICK
from zipper_dist.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from zipper_dist.checkpoint.lock import Lock
lock = Lock(Path(sys.argv[1]), sys.argv[2])
print(lock.take(), flush=True)
{then}
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds it taken does not wait."""
    monkeypatch.setattr(module, "PATIENCE", 0)


@contextlib.contextmanager
def holder(path: Path, job: str = "theirs", then: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock, and has done what comes then."""
    command = [sys.executable, "-c", HOLD.format(then=then), str(path), job]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "None\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_another_process_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with holder(path) as process:
        content = path.read_bytes()
        with pytest.raises(UserError) as raised:
            Lock(path, "mine").take()
        message = str(raised.value)
        assert message.startswith(f"--run-dir {tmp_path} is in use by process {process.pid} on ")
        assert re.search(
            rf" on {re.escape(platform.node())}, since \d{{4}}-\d\d-\d\d \d\d:", message
        )
        # Who is refused leaves the holder's name there.
        assert path.read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_releases_it_at_once(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 10)
    path = tmp_path / "run.lock"
    with holder(path) as process:
        process.send_signal(number)
        began = time.monotonic()
        assert Lock(path, "mine").take() is None
        assert time.monotonic() - began < 2
    assert json.loads(path.read_text())["job"] == "mine"


def test_ranks_that_end_after_their_launcher_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.lock"
    then = f"time.sleep({TICK + GRACE} + 1); sys.exit()"  # as long as they may take, and more
    with holder(path, then=then):
        with pytest.raises(UserError):
            Lock(path, "mine").take()
        monkeypatch.undo()
        assert Lock(path, "mine").take() is None


def test_the_same_job_finds_its_own_lock_taken(tmp_path: Path) -> None:
    """As on a second machine that sees the same directory."""
    path = tmp_path / "run.lock"
    with holder(path, "ours"):
        second = Lock(path, "ours")
        assert second.take() is None
        second.release()
        with pytest.raises(UserError):
            Lock(path, "another").take()


def test_a_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    first, second = Lock(path, "first"), Lock(path, "second")
    assert first.take() is None
    with pytest.raises(UserError, match=f"process {os.getpid()} "):
        second.take()
    second.release()
    with pytest.raises(UserError):
        second.take()
    first.release()
    first.release()
    assert second.take() is None
    second.release()


@pytest.mark.parametrize(
    "child",
    [
        "import subprocess; child = subprocess.Popen(['sleep', '600'], close_fds=False)",
        "import os\nchild = os.fork()\nif child == 0: time.sleep(600)",
    ],
    ids=["program", "fork"],
)
def test_children_do_not_inherit_it(
    tmp_path: Path, child: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.lock"
    number = tmp_path / "child"
    then = f"{child}\nPath({str(number)!r}).write_text(str(getattr(child, 'pid', child)))"
    with holder(path, then=then) as process:
        deadline = time.monotonic() + 20
        while not (number.exists() and number.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        orphan = int(number.read_text())
        try:
            process.kill()
            process.wait()
            os.kill(orphan, 0)  # it is still there
            monkeypatch.setattr(module, "PATIENCE", 1)
            assert Lock(path, "mine").take() is None
        finally:
            os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize("content", ["", "{", "3", "[]", '{"job": 1}', "\x00"])
def test_a_lock_file_may_hold_anything(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.lock"
    path.write_text(content)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another process: "):
            Lock(path, "mine").take()
    lock = Lock(path, "mine")
    assert lock.take() is None
    assert json.loads(path.read_text())["process"] == os.getpid()
    lock.release()


def test_a_file_system_without_locks_gives_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)  # no such file system can be had here
    note = Lock(tmp_path / "run.lock", "mine").take()
    assert note is not None
    assert f"{tmp_path} cannot be locked here (No locks available)" in note
