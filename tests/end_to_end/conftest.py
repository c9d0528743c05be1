"""Runs that several tests look at, each trained once; and a way to run a command right here."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from end_to_end.commands import SMALL, WIDE, Finished, started, succeeded, train
from zipper_dist.config.command_line import run_command
from zipper_dist.metrics.console import make_console
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.training.run import run as run_training


@dataclass(frozen=True)
class Run:
    """A run that went well: its working directory, its run directory, and what it printed."""

    at: Path
    finished: Finished

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.at / "run"


@dataclass(frozen=True)
class SerialRuns:
    """Uninterrupted runs in one process."""

    small: Run
    wide: Run


@pytest.fixture(scope="session")
def serial_runs(tmp_path_factory: pytest.TempPathFactory) -> SerialRuns:
    """Both sets of options in one process each; side by side, as each keeps but one core busy."""
    small, wide = (tmp_path_factory.mktemp(name) for name in ("small", "wide"))
    with started(*SMALL, at=small) as first, started(*WIDE, at=wide) as second:
        ends = [succeeded(command.wait()) for command in (first, second)]
    return SerialRuns(Run(small, ends[0]), Run(wide, ends[1]))


@pytest.fixture(scope="session")
def serial(serial_runs: SerialRuns) -> Run:
    """SMALL in one process, uninterrupted."""
    return serial_runs.small


@pytest.fixture(scope="session")
def serial_wide(serial_runs: SerialRuns) -> Run:
    """WIDE in one process, uninterrupted."""
    return serial_runs.wide


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """SMALL on two ranks, uninterrupted."""
    at = tmp_path_factory.mktemp("two-ranks")
    return Run(at, succeeded(train(*SMALL, at=at, ranks=2)))


@dataclass(frozen=True)
class TerminalRun:
    """A run before the eyes of a person."""

    run: Run
    screen: str


@pytest.fixture(scope="session")
def on_terminal(tmp_path_factory: pytest.TempPathFactory) -> TerminalRun:
    """SMALL in one process, on a terminal, and with evaluations at other iterations."""
    at = tmp_path_factory.mktemp("terminal")
    own, theirs = pty.openpty()
    rows_and_columns = struct.pack("HHHH", 40, 140, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, rows_and_columns)
    seen: list[bytes] = []

    def watch() -> None:
        try:
            while chunk := os.read(own, 4096):
                seen.append(chunk)
        except OSError:
            pass  # what Linux answers when the other side is closed

    environment = {"TERM": "xterm-256color", "COLUMNS": "140"}
    arguments = [*SMALL, "--eval.every", "9"]
    with started(*arguments, at=at, terminal=theirs, environment=environment) as command:
        os.close(theirs)
        watcher = threading.Thread(target=watch)
        watcher.start()
        finished = command.wait()
    watcher.join()
    os.close(own)
    screen = b"".join(seen).decode()
    assert finished.status == 0, screen
    return TerminalRun(Run(at, finished), screen)


Here = Callable[..., int]
"""Runs the training command with these arguments, and returns its status."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """The training command in this process, in an empty directory: it saves the start of Python."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)

    def run(*arguments: str) -> int:
        try:
            run_command(lambda: run_training(parse_train_options(arguments), make_console()))
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else -1
        return 0

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, cores)
