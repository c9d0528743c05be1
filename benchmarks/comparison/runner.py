"""Runs commands on free devices, shows how far they are, and can be interrupted."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from comparison.devices import Command, Devices
from zipper_dist.errors import CommandError, Interrupted, UserError
from zipper_dist.metrics.tables import duration

POLL_SECONDS = 0.5
IMPATIENCE = 2.0
"""A second signal so much later means: now [s]. Before that, it is the first one once more."""
LINE_LENGTH = 100
TAIL_BYTES = 4000
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A command that leaves a file when it is done.

    Attributes:
        name: what it does, for people; its log is named after ``log``.
        make: the command on given devices.
        devices: how many it takes.
        done: whether it need not be run (again).
        log: where its output goes.
    """

    name: str
    make: Callable[[Sequence[str]], Command]
    devices: int
    done: Callable[[], bool]
    log: Path


class JobFailed(CommandError):
    """A command ended with an error."""


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    on: tuple[str, ...]
    began: float


class Runner:
    """Runs jobs, one or several at a time. What is done already is not run again.

    An interruption (Ctrl-C, SIGTERM, a closed terminal) is handed to the commands, which save what
    they have; they are waited for.

    Args:
        devices: what there is to run on.
        console: where progress is shown.
    """

    def __init__(self, devices: Devices, console: Console) -> None:
        self.devices = devices
        self._console = console
        self._running: list[_Running] = []
        self._signal: int | None = None
        self._asked = 0.0
        self._impatient = False
        self._lock: int | None = None
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
            # What runs is timed: the machine is its.
            refresh_per_second=1, console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip

    @contextmanager
    def alone_in(self, directory: Path) -> Iterator[None]:
        """Keep others out of ``directory``. What is started holds the lock, too, and keeps it
        should this process be killed.

        Raises:
            UserError: somebody is at work there.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise UserError(
                f"{directory} is in use: another comparison, or what one that was killed has left, "
                "is at work there; wait for it or stop it"
            ) from None
        finally:
            os.close(self._lock)
            self._lock = None

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UserError if one of ``jobs`` takes more devices than there are."""
        there = len(self.devices.names)
        for job in jobs:
            if job.devices > there:
                raise UserError(
                    f"{job.name} takes {self.devices.words(job.devices)}, and there "
                    f"is only {self.devices.words(there)} here: leave it out with --methods"
                )

    def run(self, stage: str, jobs: Sequence[Job], together: bool) -> None:
        """Run what is left of ``jobs``, in order; several at a time if ``together``.

        Raises:
            Interrupted: a signal came; everything that ran has stopped.
            JobFailed: a command failed; the others were stopped, too.
        """
        self.check(jobs)
        waiting = [job for job in jobs if not job.done()]
        if not waiting:
            return
        self._console.print(f"{stage}: {len(waiting)} of {len(jobs)} left to do", highlight=False)
        free = list(self.devices.names)
        with self._signals(), self._progress:
            bar = self._progress.add_task(
                stage, total=len(jobs), completed=len(jobs) - len(waiting)
            )
            try:
                while waiting or self._running:
                    room = together or not self._running
                    while room and waiting and waiting[0].devices <= len(free):
                        job = waiting.pop(0)
                        on, free = tuple(free[: job.devices]), free[job.devices :]
                        self._start(job, on)
                        room = together
                    for ended in self._ended():
                        free = sorted([*free, *ended.on])
                        self._progress.advance(bar)
                    if self._console.is_terminal:
                        self._progress.update(bar, description=self._description(stage))
                    if self._signal is not None:
                        raise Interrupted(self._signal)
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()
                self._progress.remove_task(bar)

    def _start(self, job: Job, on: tuple[str, ...]) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        command = job.make(on)
        with job.log.open("ab") as log:
            log.write(f"$ {command}\n".encode())
            log.flush()
            # A session of its own: Ctrl-C comes to it once, from us.
            process = subprocess.Popen(
                command.argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **command.environment}, start_new_session=True,
                pass_fds=() if self._lock is None else (self._lock,),
            )  # fmt: skip
        self._running.append(_Running(job, process, on, time.monotonic()))

    def _ended(self) -> Iterator[_Running]:
        """Those that have ended since the last look; raises JobFailed if one of them failed."""
        for running in list(self._running):
            status = running.process.poll()
            if status is None:
                continue
            self._running.remove(running)
            job = running.job
            if status == 0 and job.done():
                took = duration(time.monotonic() - running.began)
                self._console.print(f"  {job.name}: {took}", highlight=False)
                yield running
            elif self._signal is None:
                raise JobFailed(
                    f"{job.name} ended with status {status}; the last lines of {job.log}:\n"
                    + "\n".join(f"  {line}" for line in _tail(job.log, 5))
                )

    def _description(self, stage: str) -> str:
        """What runs, with the last line of each log: how far it is, and how long yet."""
        lines = [
            f"{running.job.name}: {' '.join(_tail(running.job.log, 1))[:LINE_LENGTH]}"
            for running in self._running
        ]
        return "\n".join(map(escape, lines)) or stage

    def _stop(self) -> None:
        """Have everything that runs save itself and end, and wait for it; kill it where a person
        has lost patience."""
        for running in self._running:
            # Commands that torchrun starts hand it to their ranks.
            running.process.send_signal(self._signal or signal.SIGTERM)
        while any(running.process.poll() is None for running in self._running):
            if self._impatient:
                for running in self._running:
                    running.process.kill()
            time.sleep(POLL_SECONDS)
        self._running = []

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take note of signals instead of ending by them."""
        self._signal, self._impatient = None, False

        def note(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if self._signal is not None:
                self._impatient = now - self._asked > IMPATIENCE
                return
            self._asked = now
            # Commands know the two usual signals; that of a closed terminal means the same here.
            self._signal = signal.SIGTERM if number == signal.SIGHUP else number

        # One that is ignored, as under nohup, stays so.
        before = {number: signal.getsignal(number) for number in STOPPING}
        heard = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
        for number in heard:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in heard.items():
                signal.signal(number, handler)


def _tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file that say something."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-lines:]
