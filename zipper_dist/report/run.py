"""A report, from options to the page; once, or until the runs have ended."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from zipper_dist.checkpoint.files import check_writable, write_atomically
from zipper_dist.errors import UserError
from zipper_dist.registry import require
from zipper_dist.report.options import ReportOptions
from zipper_dist.report.reading import Run, State, read_run

SHORTEST_WATCH = 1.0
"""[s]"""
SETTLED = 60.0
"""A watched run that ended before it was complete may start again for so long [s]: a job whose rank
was killed has no process, and nobody the lock, until its launcher starts it anew."""


def report(options: ReportOptions, console: Console | None = None) -> Path:
    """Write the page that the options ask for; its path. CommandError: bad input."""
    require(["jinja2", "matplotlib"], "report", "zipper_dist.report")
    runs = _read(options.runs)
    _check(options)
    from zipper_dist.report.page import make_page

    ended: dict[Path, float] = {}  # since when
    while True:
        renewed = options.watch if _may_change(runs, ended, time.monotonic()) else None
        try:
            write_atomically(options.out, make_page(runs, renewed).encode())
        except OSError as error:
            raise UserError(
                f"--out {options.out}: cannot be written ({error.strerror}); give a file that can"
            ) from error
        if console is not None:
            said = f"the report is in {options.out}"
            if renewed is not None:
                said += f", written anew every {renewed:g} s until its runs have ended"
            console.print(said, highlight=False, soft_wrap=True)
            console = None  # once
        if renewed is None:
            return options.out
        time.sleep(renewed)
        runs = _read(options.runs)


def _may_change(runs: Sequence[Run], ended: dict[Path, float], now: float) -> bool:
    """Whether a run goes on, or ``ended`` so shortly before ``now`` [s] that it may start again."""
    for run in runs:
        if run.state is State.ENDED:
            ended.setdefault(run.directory, now)
        else:
            ended.pop(run.directory, None)
    return any(run.state is State.GOING_ON for run in runs) or any(
        now - since < SETTLED for since in ended.values()
    )


def _read(directories: Sequence[Path]) -> list[Run]:
    """The runs, each directory once."""
    if not directories:
        raise UserError("RUN: give one run directory or more, such as runs/digits-seed0")
    once = {directory.resolve(): directory for directory in reversed(directories)}
    return [read_run(directory) for directory in reversed(once.values())]


def _check(options: ReportOptions) -> None:
    """Raise UserError where the page could not be written, or not that often."""
    watch = options.watch
    if watch is not None and not (math.isfinite(watch) and watch >= SHORTEST_WATCH):
        raise UserError(f"--watch {watch:g}: give {SHORTEST_WATCH:g} second or more")
    if options.out.is_dir():
        raise UserError(f"--out {options.out}: is a directory; give a file, such as report.html")
    check_writable(options.out.parent, "--out")
