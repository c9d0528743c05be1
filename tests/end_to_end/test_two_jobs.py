"""Two jobs in one run directory: the second is refused, whatever it is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import zipper_dist
from end_to_end.commands import SMALL, Command, started, succeeded, train
from end_to_end.conftest import Here, Run
from end_to_end.results import assert_same_result
from zipper_dist.checkpoint import lock
from zipper_dist.checkpoint.lock import Lock
from zipper_dist.data import Dataset
from zipper_dist.training.context import RunContext
from zipper_dist.training.setup.materials import load_data

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the directory taken waits for a second, here and in the commands."""
    setting = "from zipper_dist.checkpoint import lock\nlock.PATIENCE = 1\n"
    directory = tmp_path_factory.mktemp("start")
    (directory / "sitecustomize.py").write_text(setting)  # Python runs it when it starts
    paths = [str(directory), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setattr(lock, "PATIENCE", 1)


def test_a_second_job_is_refused(
    tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(*SMALL, at=tmp_path) as command:
        command.until_iteration(8)
        command.process.send_signal(signal.SIGSTOP)  # or it might end first
        for more in ([], ["--resume", "never"]):
            assert here(*SMALL, *more) == 2
            output = capsys.readouterr()
            assert output.out == ""
            (line,) = output.err.splitlines()
            assert f"run is in use by process {command.process.pid} on " in line
        ranks = train(*SMALL, "--resume", "never", at=tmp_path, ranks=2)
        assert ranks.status == 1  # torchrun's own
        assert "--run-dir run is in use by process " in ranks.said
        # To evaluate the best weights so far is no second job.
        evaluate = [sys.executable, "-m", "zipper_dist.evaluate", "run", "--learner", "best"]
        evaluate += ["--attacks", "clean", "--limit", "20", "--threads", "1"]
        subprocess.run(evaluate, cwd=tmp_path, check=True, capture_output=True)
        command.process.send_signal(signal.SIGKILL)
        assert here(*SMALL) == 0
    assert "continuing from iteration " in capsys.readouterr().out


def test_a_second_fit_in_one_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, object] = {
        "steps": 2,
        "data.limit": 50,
        "data.image-size": 16,
        "batch-size": 8,
        "threads": 1,
    }
    options |= {"model.arch": "small_cnn", "eval.limit": 10, "eval.attack-steps": 1}
    refused = []

    def fit_meanwhile(context: RunContext) -> Dataset:
        with pytest.raises(zipper_dist.UserError, match="is in use by process ") as raised:
            zipper_dist.fit("digits", options, run_dir=tmp_path / "run")
        refused.append(str(raised.value))
        return load_data(context)

    monkeypatch.setattr("zipper_dist.training.run.load_data", fit_meanwhile)
    run = zipper_dist.fit("digits", options, run_dir=tmp_path / "run")
    assert len(refused) == 1
    # The lock ends with the run, not with the process. Who has it removes what was half written.
    leftovers = [tmp_path / "run" / f".{name}.0123456789abcdef.tmp" for name in ("a", "b.json")]
    for path in leftovers:
        path.touch()
    assert zipper_dist.fit("digits", options, run_dir=tmp_path / "run").summary == run.summary
    assert not any(path.exists() for path in leftovers)


@contextlib.contextmanager
def on_two_machines(*places: Path, arguments: Sequence[str] = SMALL) -> Iterator[list[Command]]:
    """A rank in each working directory, as if each were alone on a machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    job |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    with (
        started(*arguments, at=places[0], environment=job | {"RANK": "0"}) as one,
        started(*arguments, at=places[1], environment=job | {"RANK": "1"}) as other,
    ):
        yield [one, other]


def test_machines_of_a_job_share_a_directory(serial: Run, tmp_path: Path) -> None:
    with on_two_machines(tmp_path, tmp_path) as ranks:
        for rank in ranks:
            succeeded(rank.wait())
    assert_same_result(serial.path, tmp_path / "run")


def test_each_machine_of_a_job_has_its_own_directory(tmp_path: Path) -> None:
    short = [*SMALL, "--steps", "2"]
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    with on_two_machines(*places, arguments=short) as ranks:
        for rank in ranks:
            succeeded(rank.wait())
    files = [sorted(path.name for path in (place / "run").glob("*.safet*")) for place in places]
    assert files == [
        ["best.safetensors", "global.safetensors", "natural.safetensors"],
        ["adversarial.safetensors"],
    ]
    # Weights are verified, and restored, where they are.
    lost = places[1] / "run" / "adversarial.safetensors"
    before = lost.read_bytes()
    lost.unlink()
    with on_two_machines(*places, arguments=short) as ranks:
        ends = [succeeded(rank.wait()) for rank in ranks]
    assert "missing or damaged are restored: adversarial" in ends[0].said
    assert lost.read_bytes() == before


def test_a_job_on_one_of_the_machines_stops_all_ranks(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        (place / "run").mkdir(parents=True)
    taken = Lock(places[1] / "run" / "run.lock", "another")
    taken.take()
    with on_two_machines(*places) as ranks:
        ends = [rank.wait() for rank in ranks]
    taken.release()
    for end in ends:
        assert end.status == 2
        assert "zipper: error: --run-dir run is in use by process " in end.output.stderr
    assert not list(places[0].glob("run/*.json*"))
