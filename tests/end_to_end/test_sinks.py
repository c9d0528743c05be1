"""A metrics sink from a file outside the package, and runs from Python."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from end_to_end.commands import SMALL, succeeded, train
from end_to_end.conftest import Here
from end_to_end.results import records
from zipper_dist.distributed.hardware import preserved_process_state
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.training.run import run as run_training

pytestmark = pytest.mark.slow

TOY = '''
import json

from zipper_dist.metrics.sinks import RunInfo, Sink


class Toy(Sink):
    """Writes what it is told to toy.txt, beside the run directory."""

    def open(self, run: RunInfo) -> None:
        self.file = (run.directory.parent / "toy.txt").open("w")

    def write(self, record: dict) -> None:
        self.file.write(json.dumps(record) + "\\n")

    def close(self) -> None:
        self.file.write("closed")
        self.file.close()
'''
SHORT = [*SMALL, "--steps", "3", "--eval.every", "2"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_sink_from_a_file_gets_every_record(tmp_path: Path, ranks: int) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    succeeded(train(*SHORT, "--metrics", "jsonl", "toy.py:Toy", at=tmp_path, ranks=ranks))
    *lines, last = (tmp_path / "toy.txt").read_text().splitlines()
    assert last == "closed"
    found = [json.loads(line) for line in lines]
    assert found == records(tmp_path / "run" / "metrics.jsonl")
    assert {(r["learner"], r["step"]) for r in found} == {
        *((name, t) for name in ("natural", "adversarial") for t in (1, 2, 3)),
        ("global", 2),
        ("global", 3),
    }


def test_without_the_terminal_there_are_no_lines_of_progress(
    tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(*SHORT, "--metrics", "jsonl") == 0
    assert "iteration 3/3" not in capsys.readouterr().out
    assert records(tmp_path / "run" / "metrics.jsonl")


def test_an_unknown_sink_is_refused(
    tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here(*SHORT, "--metrics", "tensorboards") == 2
    assert "--metrics tensorboards: unknown metrics sink; choose from csv, jsonl" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_a_run_from_python_is_silent_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    weights = []
    for name in ("one", "two"):
        torch.manual_seed(7)
        with preserved_process_state():
            trained = run_training(parse_train_options([*SHORT, "--run-dir", name]))
        assert torch.initial_seed() == 7
        assert trained == json.loads((tmp_path / name / "summary.json").read_text())
        weights.append((tmp_path / name / "global.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    # A run that is complete says what it found.
    again = run_training(parse_train_options([*SHORT, "--run-dir", "two"]))
    assert again == trained
    assert capfd.readouterr() == ("", "")
