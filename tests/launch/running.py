"""Runs the scripts of launch/ as a person does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from end_to_end.results import records

import zipper_dist

LAUNCH = Path(__file__).parents[2] / "launch"
PATIENCE = 300.0  # [s]; far more than any of these takes on an idle machine


def executable(path: Path, content: str) -> None:
    """A command of the system."""
    path.write_text(content)
    path.chmod(0o755)


@dataclass
class Script:
    """A script that was started in the directory ``at``, and what it has printed so far."""

    process: subprocess.Popen[bytes]
    at: Path

    @property
    def said(self) -> str:
        """Both streams, as one line: where a long line is folded does not matter."""
        return " ".join((self.at / "output").read_text().split())

    def ends(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once ``condition`` holds; fail if the script ends before."""
        late = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < late, self.said
            time.sleep(0.02)

    def until_iteration(self, step: int, run: Path) -> None:
        """Return once the metrics file of ``run`` tells of iteration ``step``."""
        self.until(lambda: iteration(run) >= step)

    def until_further(self, steps: int, run: Path) -> None:
        """Return once the metrics file of ``run`` tells of so many iterations more than now."""
        self.until_iteration(iteration(run) + steps, run)


def iteration(run: Path) -> int:
    """The last one that the metrics file tells of."""
    return max((record["step"] for record in records(run / "metrics.jsonl")), default=0)


@contextlib.contextmanager
def script(
    name: str,
    *arguments: str,
    at: Path,
    before: Sequence[str] = (),
    commands: Path | None = None,
    variables: Mapping[str, object] = {},
) -> Iterator[Script]:
    """A script of launch/, which finds ``commands`` before others; it does not outlive the block.
    ``before`` comes before its command."""
    own = Path(sys.executable).parent
    path = os.pathsep.join(str(part) for part in (commands, own, os.environ["PATH"]) if part)
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(zipper_dist.__file__).parents[1])
    at.mkdir(exist_ok=True)
    with (at / "output").open("ab") as output:
        process = subprocess.Popen(
            [*before, "bash", str(LAUNCH / name), *arguments],
            cwd=at,
            env=environment | {name: str(value) for name, value in variables.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Script(process, at)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
