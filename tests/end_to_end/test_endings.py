"""A run that a disk, a memory or a fault in code ends says so in one line, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zipper_dist
from end_to_end.commands import SMALL, Command, Finished, started, succeeded, train
from end_to_end.conftest import Run
from end_to_end.results import assert_same_result, told
from zipper_dist.checkpoint.format import steps_of
from zipper_dist.errors import Failure

pytestmark = pytest.mark.slow

CURE = "once that is cured, the same command continues from what is saved"
PROMPTLY = 90.0  # a collective waits for 600 s by default

Spoil = Callable[[Path], Callable[[], object]]

BROKEN = '''
from zipper_dist.objectives.at import Adversarial


class Broken(Adversarial):
    """Fails in the fifth iteration."""

    def perturb(self, batch, context):
        if context.step == 5:
            raise ZeroDivisionError("a fault\\nof two lines")
        return super().perturb(batch, context)
'''


def errors(finished: Finished, rank: int = 0) -> list[str]:
    """The lines on a rank's stderr, none of them a traceback's."""
    text = finished.ranks[rank].stderr
    assert "Traceback" not in text
    return [line for line in text.splitlines() if line.startswith("zipper: error: ")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own as the run directory."""
    directory = tmp_path / "run"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        while subprocess.run(["umount", "-l", str(directory)], capture_output=True).returncode == 0:
            pass  # one of the test may be above it


@contextlib.contextmanager
def halted(pids: list[int]) -> Iterator[None]:
    """The processes stand still for the duration."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def at_a_checkpoint(command: Command, step: int) -> None:
    """Wait until all learners have a checkpoint of iteration ``step``."""
    directory = command.directory / "run" / "checkpoints"
    names = ("natural", "adversarial")
    command.until(
        lambda: all(max(steps_of(directory, n), default=0) >= step for n in names), f"{step}", 120
    )


def fill(disk: Path) -> Callable[[], object]:
    """Leave no space on it; what returned is the cure."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler.unlink


def make_read_only(disk: Path) -> Callable[[], object]:
    """Allow no more writing to it; what returned is the cure."""
    # The disk itself cannot become read-only while a file of it is open for writing.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    return lambda: subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize(
    ("spoil", "reason", "ranks"),
    [
        (fill, "No space left on device", 1),
        (make_read_only, "Read-only file system", 2),
    ],
)
def test_a_disk_that_takes_nothing_more(
    disk: Path, serial: Run, spoil: Spoil, reason: str, ranks: int
) -> None:
    with started(*SMALL, at=disk.parent, ranks=ranks) as command:
        at_a_checkpoint(command, 7)
        cure = spoil(disk)
        finished = command.wait(60)
    assert finished.status == 1
    said = errors(finished)
    if ranks == 2:  # the one that was faster ends the other
        said += errors(finished, 1)
    assert any("run/" in line and f": {reason}; {CURE}" in line for line in said), said
    cure()
    succeeded(train(*SMALL, at=disk.parent, ranks=ranks))
    assert_same_result(serial.path, disk)
    assert told(disk) == told(serial.path)


def test_a_disk_that_is_full_for_one_rank(tmp_path: Path, serial: Run) -> None:
    with started(*SMALL, at=tmp_path, ranks=2) as command:
        at_a_checkpoint(command, 7)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.prlimit(command.rank(1), resource.RLIMIT_FSIZE, (100_000, hard))
        finished = command.wait(PROMPTLY)
    assert finished.status == 1
    (line,) = errors(finished, 1)
    assert line.startswith("zipper: error: rank 1: run/checkpoints/adversarial-000000")
    assert line.endswith(f".ckpt: File too large; {CURE}")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"rank 1, zipper_dist {zipper_dist.__version__}: " in log
    assert "Traceback (most recent call last)" in log
    succeeded(train(*SMALL, at=tmp_path, ranks=2))
    assert_same_result(serial.path, tmp_path / "run")
    assert told(tmp_path / "run") == told(serial.path)


def test_a_rank_whose_disk_was_full_is_started_again(tmp_path: Path, serial: Run) -> None:
    with started(*SMALL, at=tmp_path, ranks=2, restarts=1) as command:
        at_a_checkpoint(command, 7)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.prlimit(command.rank(1), resource.RLIMIT_FSIZE, (100_000, hard))
        finished = command.wait(180)
    assert finished.status == 0
    assert "File too large" in (tmp_path / "run" / "log.txt").read_text()
    assert_same_result(serial.path, tmp_path / "run")
    assert told(tmp_path / "run") == told(serial.path)


def test_a_run_directory_that_is_deleted(tmp_path: Path) -> None:
    with started(*SMALL, at=tmp_path) as command:
        command.until_iteration(3)
        with halted([command.process.pid]):
            shutil.rmtree(tmp_path / "run")
        finished = command.wait(60)
    assert finished.status == 1
    (line,) = errors(finished)
    assert line.startswith("zipper: error: run/")
    assert line.endswith(f": No such file or directory; {CURE}")
    assert not (tmp_path / "run").exists()


def test_a_metrics_file_that_cannot_be_written_for_a_while(tmp_path: Path, serial: Run) -> None:
    aside = tmp_path / "aside.jsonl"
    with started(*SMALL, at=tmp_path) as command:
        command.until_iteration(3)
        with halted([command.process.pid]):
            command.metrics.rename(aside)
            command.metrics.mkdir()
        at_a_checkpoint(command, 14)
        command.process.send_signal(signal.SIGTERM)
        finished = command.wait(60)
    assert finished.status == 143
    assert "warning: the metrics sink jsonl failed (IsADirectoryError: " in finished.said
    command.metrics.rmdir()
    aside.rename(command.metrics)
    succeeded(train(*SMALL, at=tmp_path))
    assert told(tmp_path / "run") == told(serial.path)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_fault_in_code(tmp_path: Path, ranks: int) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    objective = ["--learners.adversarial.objective", "broken.py:Broken"]
    finished = train(*SMALL, *objective, at=tmp_path, ranks=ranks)
    assert finished.status == 1
    assert finished.seconds < PROMPTLY
    (line,) = errors(finished, ranks - 1)
    who = "rank 1: " if ranks == 2 else ""
    assert line.startswith(
        f"zipper: error: {who}unexpected ZeroDivisionError: a fault of two lines; what is saved is "
        "kept, and the same command continues from it; the traceback is in run/log.txt; "
    )
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"rank {ranks - 1}, zipper_dist {zipper_dist.__version__}: " in log
    assert 'broken.py", line 10, in perturb' in log


def test_standard_output_on_a_full_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zipper_dist.train", *SMALL, "--steps", "3"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("zipper: error: ")]
    assert "No space left on device" in line
    assert "Traceback" not in done.stderr
    # That the results cannot be shown is no reason not to train.
    assert (tmp_path / "run" / "summary.json").exists()


def test_an_evaluation_whose_disk_is_full(serial: Run, tmp_path: Path) -> None:
    shutil.copytree(serial.path, tmp_path / "run")
    command = [sys.executable, "-m", "zipper_dist.evaluate", "run", "--attacks", "clean,fgsm"]
    command += ["--limit", "16", "--threads", "1", "--device", "cpu"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    def evaluate(**how: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, cwd=tmp_path, capture_output=True, text=True, env=environment(), **how
        )

    failed = evaluate(preexec_fn=limit)
    assert failed.returncode == 1, failed
    (line,) = failed.stderr.splitlines()
    assert line.startswith("zipper: error: run/evaluation/")
    assert line.endswith(f".safetensors: File too large; {CURE}")
    assert evaluate().returncode == 0
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_from_python_a_full_disk_is_a_command_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(Failure, match=r"config.json: File too large; ") as raised:
            zipper_dist.fit("digits", {"steps": 2, "threads": 1}, run_dir=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(raised.value.__cause__, OSError)


def environment() -> dict[str, str]:
    """That of this process, with the package that the tests import."""
    return {**os.environ, "PYTHONPATH": str(Path(zipper_dist.__file__).parents[1])}
