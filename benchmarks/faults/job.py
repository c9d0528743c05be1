"""A training command, with all the processes that it starts (Linux: they are found in /proc)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "ZIPPER_CHAOS_JOB"
"""Variable of the environment that tells the processes of a job, also once their parent is dead."""
POLL_SECONDS = 0.02
ORPHAN_SECONDS = 15.0
"""How long the ranks may outlive what started them [s]."""


@dataclass(frozen=True)
class Ending:
    """How a job ended: its exit status (None: it did not, in time), and whether processes of it
    lived on; these are killed."""

    status: int | None
    orphans: bool = False


class Job:
    """A command that runs; as a context, nothing of it outlives the block."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._mark = uuid.uuid4().hex
        environment = {**os.environ, MARK: self._mark}
        environment.pop("RANK", None)
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=environment, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    @property
    def ended(self) -> bool:
        """Whether the process that was started has ended."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(number)

    def signal_rank(self, rank: int, number: int) -> bool:
        """Send a signal to a rank; False if there is no such process now."""
        for pid, environment in self._processes():
            if environment.get("RANK") == str(rank):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    return True
        return False

    def signal_all(self, number: int) -> None:
        """Send a signal to all processes."""
        for pid, _ in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End all processes at once, as a loss of power does."""
        self.signal_all(signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds: float) -> Ending:
        """Wait for the end, at most so long; nothing of the job is left afterwards."""
        ended = _until(lambda: self.ended, seconds)
        alone = _until(lambda: not any(self._processes()), ORPHAN_SECONDS) if ended else True
        status = self._process.returncode if ended else None
        self.kill()
        return Ending(status, orphans=not alone)

    def _processes(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Process id and environment of each process of the job."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended, or belongs to somebody else
            environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if environment.get(MARK) == self._mark:
                yield int(folder.name), environment


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for ``condition``; False if it does not hold after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def training(options: Sequence[str], ranks: int, restarts: int = 0) -> list[str]:
    """The training command in one process, or on ``ranks`` under the launcher."""
    launch: list[str] = []
    if ranks > 1:
        launch = ["-m", "zipper_dist.launcher", "--standalone", f"--nproc_per_node={ranks}"]
        launch += [f"--max-restarts={restarts}"]
    return [sys.executable, *launch, "-m", "zipper_dist.train", *options]
