"""Starts the training command as a person does, and sees that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zipper_dist
from end_to_end.results import LEARNERS, newest, records

# Far more than any of these runs takes on an idle machine: a test that hangs must end, a slow
# machine must not fail one.
PATIENCE = 600.0

# torchrun puts every rank into a session of its own, so its process group does not hold them. Every
# process inherits the environment, though, and keeps it when its parent dies.
MARK = "ZIPPER_TEST_COMMAND"


def typed(line: str) -> list[str]:
    """The arguments of a command, from what a person types."""
    return shlex.split(line)


# A small network with BatchNorm on small images: 37 iterations of some 30 ms. Redistributions after
# 16, 24 and 32, with γ strictly between 0 and 1; the last iteration is none of them, so that the
# learners differ at the end. Looks after 7, 14, 21, 28, 35 and 37; an epoch has 10 iterations. A
# learning rate that grows too large makes the best weights earlier ones than the last.
STEPS = 37
REDISTRIBUTIONS = 3
LOOKS = (7, 14, 21, 28, 35, 37)
SMALL = typed("""
    digits --threads 1 --device cpu --precision fp32 --compile off --steps 37 --batch-size 16
    --mix.start 10 --mix.every 8 --mix.gamma 0:0.3,1:0.7 --mix.ema 0.7
    --eval.every 7 --eval.attack-steps 3 --eval.limit 40 --log-every 1
    --model.arch resnet18 --model.width 0.125
    --data.limit 200 --data.validation 40 --data.image-size 8
    --learners.natural.lr 0.02 --learners.natural.schedule 0:1,0.7:1,0.75:40
    --learners.natural.momentum 0.9 --learners.adversarial.lr 0.02
    --learners.adversarial.attack.eps 0.1 --learners.adversarial.attack.steps 2 --run-dir run
""")

# All that the small options leave out: an average of weights (WA), dropout, augmentation, L2, bf16.
# The later of two values of an option counts.
WIDE = SMALL + typed("""
    --precision bf16 --learners.natural.weight-average 0.9 --model.arch small_cnn
    --data.image-size 16 --data.crop-padding 2 --data.flip --learners.adversarial.attack.norm l2
    --learners.adversarial.attack.eps 1 --learners.adversarial.attack.step-size 0.5
""")


@dataclass(frozen=True)
class Output:
    """What a process printed."""

    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both, as one line: where a long line is folded does not matter."""
        return " ".join(f"{self.stdout} {self.stderr}".split())


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        status: as Python gives it, so -9 after SIGKILL.
        seconds: from its start.
        output: of the process that was started; of torchrun itself if it was that.
        ranks: what every rank printed.
    """

    status: int
    seconds: float
    output: Output
    ranks: tuple[Output, ...]

    @property
    def said(self) -> str:
        """What the first rank printed, as one line."""
        return self.ranks[0].text


class Command:
    """A command that was started: ``python -m zipper_dist.train``, or torchrun with that."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        ranks: int = 1,
        terminal: int | None = None,
        environment: Mapping[str, str] | None = None,
        restarts: int = 0,
    ) -> None:
        self.directory = directory
        self._world_size = ranks
        self._mark = uuid.uuid4().hex
        self._logs = directory / "logs" / self._mark
        self._logs.mkdir(parents=True)
        launcher: list[str] = []
        if ranks > 1:
            # A port of the system's choice, so that parallel test runs do not meet. The ranks'
            # output goes to files, so that torchrun's own report is not taken for theirs.
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
            launcher += ["--redirects=3", f"--log-dir={self._logs}", f"--max-restarts={restarts}"]
        self._was_at = self._iteration()
        self._began = time.monotonic()
        with self._file("stdout").open("wb") as out, self._file("stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, "-m", "zipper_dist.train", *arguments],
                cwd=directory,
                env=self._environment() | dict(environment or {}),
                stdin=terminal if terminal is not None else subprocess.DEVNULL,
                stdout=terminal if terminal is not None else out,
                stderr=terminal if terminal is not None else err,
                start_new_session=True,
            )

    @property
    def metrics(self) -> Path:
        """The metrics file of the run."""
        return self.directory / "run" / "metrics.jsonl"

    def wait(self, seconds: float = PATIENCE) -> Finished:
        """How the command ended; fails the test if it does not, or leaves a process behind."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s: {self._outputs()}") from None
        took = time.monotonic() - self._began
        # A process that is told to end takes a moment.
        self.until(lambda: not self.alive(), "the processes it started to end", 20, running=False)
        own, *ranks = self._outputs()
        return Finished(status, took, own, tuple(ranks) or (own,))

    def until(
        self,
        condition: Callable[[], bool],
        what: str,
        seconds: float = PATIENCE,
        running: bool = True,
    ) -> None:
        """Return once ``condition`` holds; fail after ``seconds``, or when the command is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            if running and self.process.poll() is not None:
                raise AssertionError(f"ended before {what}: {self._outputs()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no sign of {what} after {seconds} s: {self._outputs()}")
            time.sleep(0.005)

    def until_iteration(self, step: int) -> None:
        """Return once the metrics file says that a learner is at iteration ``step``."""
        self.until(lambda: self._iteration() >= step, f"iteration {step}")

    def until_further(self, steps: int) -> None:
        """Return once a learner is so many iterations beyond those that were done at the start."""
        self.until_iteration(self._was_at + steps)

    def alive(self) -> list[int]:
        """Ids of the processes of this command, wherever they have got to."""
        return [pid for pid, environment in _environments() if self._is_ours(environment)]

    def rank(self, number: int) -> int:
        """The process id of a rank."""
        for pid, environment in _environments():
            if self._is_ours(environment) and environment.get("RANK") == str(number):
                return pid
        raise AssertionError(f"there is no rank {number}: {self._outputs()}")

    def kill(self) -> None:
        """SIGKILL to every process of the command at once, as when the machine loses power."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _iteration(self) -> int:
        """The last iteration that the metrics file tells of."""
        return max((record["step"] for record in records(self.metrics)), default=0)

    def _is_ours(self, environment: Mapping[str, str]) -> bool:
        return environment.get(MARK) == self._mark

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, MARK: self._mark}
        # The command must be the package that the tests import, from any working directory.
        paths = [str(Path(zipper_dist.__file__).parents[1]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        return environment

    def _file(self, stream: str) -> Path:
        return self._logs / stream

    def _outputs(self) -> list[Output]:
        own = Output(*(_text(self._file(stream)) for stream in ("stdout", "stderr")))
        if self._world_size == 1:
            return [own]
        folders = [
            next(self._logs.glob(f"*/attempt_0/{rank}"), self._logs / "absent")
            for rank in range(self._world_size)
        ]
        return [own, *(Output(_text(f / "stdout.log"), _text(f / "stderr.log")) for f in folders)]


@contextlib.contextmanager
def started(
    *arguments: str,
    at: Path,
    ranks: int = 1,
    terminal: int | None = None,
    environment: Mapping[str, str] | None = None,
    restarts: int = 0,
) -> Iterator[Command]:
    """A running command with ``at`` as its working directory; nothing of it outlives the block."""
    command = Command(arguments, at, ranks, terminal, environment, restarts)
    try:
        yield command
    finally:
        command.kill()
        command.process.wait()


def train(*arguments: str, at: Path, ranks: int = 1) -> Finished:
    """Run the command to its end."""
    with started(*arguments, at=at, ranks=ranks) as command:
        return command.wait()


def succeeded(finished: Finished) -> Finished:
    """``finished``, which must have gone well."""
    assert finished.status == 0, (finished.status, finished.ranks)
    return finished


@dataclass(frozen=True)
class Stop:
    """How a process was stopped: what it said, how long that took, and of every learner the
    iteration of its last record before, and of its newest checkpoint after."""

    finished: Finished
    seconds: float
    before: dict[str, int]
    saved: dict[str, int]


def stopped(
    act: Callable[[Command], None],
    at: Path,
    ranks: int = 1,
    further: int = 5,
    arguments: Sequence[str] = SMALL,
) -> Stop:
    """Start the command, let it get some iterations further, and do ``act`` to it."""
    with started(*arguments, at=at, ranks=ranks) as command:
        command.until_further(further)
        found = records(command.metrics)
        before = {
            name: max((r["step"] for r in found if r["learner"] == name), default=0)
            for name in LEARNERS
        }
        began = time.monotonic()
        act(command)
        finished = command.wait()
        seconds = time.monotonic() - began
    assert not (at / "run" / "summary.json").exists(), "it was too late to stop it"
    return Stop(finished, seconds, before, {name: newest(at / "run", name) for name in LEARNERS})


def _environments() -> Iterator[tuple[int, dict[str, str]]]:
    """Every process that may be looked at, with the environment that it was started with."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            raw = (folder / "environ").read_bytes()
        except OSError:
            continue  # it has ended, or is someone else's
        pairs = (item.partition("=") for item in raw.decode(errors="replace").split("\0"))
        yield int(folder.name), {name: value for name, _, value in pairs}


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
