"""Runs commands on free devices; what is done is not run again, and it can be interrupted."""

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

from comparison.devices import Command, Devices
from zipper_dist.errors import CommandError, Interrupted, UserError

POLL_SECONDS = 0.5
SECOND_SIGNAL_SECONDS = 2.0
"""A signal so long after the first one kills what still runs [s]; before, it only repeats it."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A command that leaves a file when it is done.

    Attributes:
        name: what it does, for people.
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


class Runner:
    """Runs jobs, one or several at a time. What is done already is not run again.

    An interruption (Ctrl-C, SIGTERM, a closed terminal) is passed on to the commands, which save
    their state; the runner waits for them. A second one kills them.

    Args:
        devices: what there is to run on.
        console: where progress is shown.
    """

    def __init__(self, devices: Devices, console: Console) -> None:
        self.devices = devices
        self._console = console
        self._running: list[_Running] = []
        self._signal: int | None = None
        self._killing = False
        self._lock: int | None = None

    @contextmanager
    def alone_in(self, directory: Path) -> Iterator[None]:
        """Keep other runners out of ``directory``. The commands inherit the lock, and hold it as
        long as they run, even if this process is killed.

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
        most = len(free) if together else 1
        with self._catching_signals():
            try:
                while waiting or self._running:
                    while waiting and len(self._running) < most and waiting[0].devices <= len(free):
                        job = waiting.pop(0)
                        self._start(job, free[: job.devices])
                        free = free[job.devices :]
                    for ended in self._ended():
                        free = sorted([*free, *ended.on])
                    if self._signal is not None:
                        raise Interrupted(self._signal)
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()

    def _start(self, job: Job, on: Sequence[str]) -> None:
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
        self._running.append(_Running(job, process, tuple(on)))

    def _ended(self) -> Iterator[_Running]:
        """Those that have ended since the last call; raises JobFailed if one of them failed."""
        for running in list(self._running):
            status, job = running.process.poll(), running.job
            if status is None:
                continue
            self._running.remove(running)
            if status == 0 and job.done():
                self._console.print(f"  {job.name}: done", highlight=False)
                yield running
            elif self._signal is None:
                written = [
                    line for line in job.log.read_text(errors="replace").splitlines() if line
                ]
                last = "".join(f"\n  {line}" for line in written[-5:])
                raise JobFailed(
                    f"{job.name} ended with status {status}; the last lines of {job.log}:{last}"
                )

    def _stop(self) -> None:
        """Have everything that runs save its state and end, and wait for it."""
        for running in self._running:
            # torchrun passes the signal on to its ranks.
            running.process.send_signal(self._signal or signal.SIGTERM)
        while any(running.process.poll() is None for running in self._running):
            if self._killing:
                for running in self._running:
                    running.process.kill()
            time.sleep(POLL_SECONDS)
        self._running = []

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Note signals instead of ending by them."""
        self._signal, self._killing = None, False
        first = 0.0

        def note(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if self._signal is not None:
                self._killing = time.monotonic() - first > SECOND_SIGNAL_SECONDS
                return
            first = time.monotonic()
            # Training knows the two usual signals; that of a closed terminal means the same here.
            self._signal = signal.SIGTERM if number == signal.SIGHUP else number

        before = {number: signal.getsignal(number) for number in STOPPING}
        # One that is ignored, as under nohup, stays so.
        caught = {n: handler for n, handler in before.items() if handler is not signal.SIG_IGN}
        for number in caught:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in caught.items():
                signal.signal(number, handler)
