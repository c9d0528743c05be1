"""Which sinks a run has, and when they are told."""

from __future__ import annotations

import io
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from zipper_dist.distributed.communication import World
from zipper_dist.errors import UserError
from zipper_dist.metrics.records import Record, TrainingRecord
from zipper_dist.metrics.reporter import MetricsReporter
from zipper_dist.metrics.sinks import SINKS, RunInfo, Sink, make_sinks
from zipper_dist.metrics.sinks.jsonl import JsonLines
from zipper_dist.metrics.sinks.terminal import Terminal

RECORD = TrainingRecord(
    step=10,
    learner="natural",
    loss=1.5,
    accuracy=50.0,
    images_per_second=100.0,
    epoch=0.5,
    lr=0.1,
    gamma=0.25,
    weight=None,
    train_seconds=1.0,
    wait_seconds=0.0,
)


def run_info(console: Console | None = None) -> RunInfo:
    return RunInfo(Path("run"), ["natural", "adversarial"], 100, console=console)


class FakeWorld(World):
    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.size = 2
        self.sent: list[Any] = []
        self._unacknowledged = deque()

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Log(Sink):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.times: list[float] = []

    def open(self, run: RunInfo) -> None:
        self.told.append(run)

    def write(self, record: Record) -> None:
        self.times.append(record["time"])
        self.told.append({k: v for k, v in record.items() if k != "time"})

    def note(self, text: str) -> None:
        self.told.append(text)

    def stage(self, name: str, share: float) -> None:
        self.told.append((name, share))

    def close(self) -> None:
        self.told.append("closed")


def test_sinks_by_name() -> None:
    assert set(SINKS) == {"csv", "jsonl", "tensorboard", "terminal", "wandb"}
    assert [type(sink) for sink in make_sinks(["terminal", "jsonl"])] == [Terminal, JsonLines]
    assert [type(sink) for sink in make_sinks(["jsonl,terminal"])] == [JsonLines, Terminal]
    assert make_sinks([]) == []


@pytest.mark.parametrize("name", ["visdom", "pathlib:Path", "zipper_dist.rng:generator_at"])
def test_what_is_no_sink_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--metrics {name}: "):
        make_sinks(["jsonl", name])


def test_a_sink_is_told_everything_in_order() -> None:
    log = Log()
    reporter = MetricsReporter(FakeWorld(rank=0), [log])
    with reporter.opened(run_info()):
        reporter.note("hello")
        reporter.report(RECORD.as_json())
        reporter.stage("evaluating", 0.5)
    record = RECORD.as_json()
    assert log.told == [run_info(), "hello", record, ("evaluating", 0.5), "closed"]
    assert 0 <= time.time() - log.times[0] < 60


def test_sinks_are_closed_when_the_run_fails() -> None:
    log = Log()
    with pytest.raises(ValueError), MetricsReporter(FakeWorld(0), [log]).opened(run_info()):
        raise ValueError
    assert log.told == [run_info(), "closed"]


def test_other_ranks_send_their_records_to_the_first() -> None:
    log, world = Log(), FakeWorld(rank=1)
    reporter = MetricsReporter(world, [log])
    with reporter.opened(run_info()):
        reporter.note("hello")
        reporter.report(RECORD.as_json())
    assert log.told == []
    (sent,) = world.sent
    assert sent.pop("time") > 1.7e9
    assert sent == RECORD.as_json()


class Failing(Log):
    """Refuses records while it is told to."""

    refuses = True

    def write(self, record: Record) -> None:
        if self.refuses:
            raise OSError("no network")
        super().write(record)


def test_a_sink_that_fails_gets_what_it_missed_and_the_others_go_on(tmp_path: Path) -> None:
    log, failing = Log(), Failing()
    reporter = MetricsReporter(FakeWorld(rank=0), [failing, log])
    one, two, other = ({"step": n, "learner": name} for n, name in ((1, "a"), (2, "a"), (2, "b")))
    with reporter.opened(RunInfo(tmp_path, ["a", "b"], 9)):
        for record in (one, other, two):
            reporter.report(record)
        unwritten = reporter.unwritten({"a"})
        assert [{k: r[k] for k in ("step", "learner")} for r in unwritten] == [one, two]
        failing.refuses = False
        reporter.report({"step": 3, "learner": "a"})
        assert reporter.unwritten({"a", "b"}) == []
    records = [one, other, two, {"step": 3, "learner": "a"}]
    assert [told for told in failing.told if isinstance(told, dict)] == records
    assert [told for told in log.told if isinstance(told, dict)] == records
    (warning,) = [told for told in log.told if str(told).startswith("warning")]
    assert "metrics sink Failing failed (OSError: no network)" in str(warning)
    assert "no network" in (tmp_path / "log.txt").read_text()
    assert failing.told[-1] == log.told[-1] == "closed"


def test_what_was_not_written_is_reported_again() -> None:
    log = Log()
    again = [{"step": 4, "learner": "a", "time": 5.0}]
    with MetricsReporter(FakeWorld(0), [log]).opened(run_info(), again):
        pass
    assert log.told == [run_info(), {"step": 4, "learner": "a"}, "closed"]
    assert log.times == [5.0]  # of the first report


def test_a_record_has_the_fields_that_the_run_has() -> None:
    fields = RECORD.as_json()
    assert list(fields) == [
        *("step", "learner", "loss", "accuracy", "images_per_second"),
        *("epoch", "lr", "gamma", "train_seconds", "wait_seconds"),
    ]


def test_the_terminal_shows_a_run_without_gamma() -> None:
    console = Console(file=io.StringIO(), width=200)
    terminal = Terminal()
    terminal.open(run_info(console))
    without = {key: value for key, value in RECORD.as_json().items() if key != "gamma"}
    terminal.write(without | {"weight": 0.5})
    terminal.write({"step": 10, "learner": "global", "clean": 90.0, "robust": 45.0, "seconds": 1})
    terminal.close()
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "  natural      loss 1.5000" in said
    assert "clean 90.00 %, robust 45.00 %" in said
    assert "γ" not in said


def test_the_terminal_is_silent_without_a_console(capfd: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.open(run_info())
    terminal.note("hello")
    terminal.write(RECORD.as_json())
    terminal.stage("evaluating", 0.5)
    terminal.close()
    assert capfd.readouterr() == ("", "")


class Shown(Sink):
    """Keeps the pictures that it is shown."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, int, list[object]]] = []

    def picture(self, name: str, step: int, pixels: Tensor) -> None:
        self.pictures.append((name, step, pixels.tolist()))


def test_pictures_are_made_where_a_sink_takes_them() -> None:
    for world in (FakeWorld(rank=0), FakeWorld(rank=1)):
        assert not MetricsReporter(world, [JsonLines(), Terminal()]).shows_pictures
        assert MetricsReporter(world, [JsonLines(), Shown()]).shows_pictures


def test_a_picture_of_another_rank_arrives_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.arange(3 * 2 * 5, dtype=torch.uint8).view(5, 2, 3).permute(2, 1, 0)
    other, first, shown = FakeWorld(rank=1), FakeWorld(rank=0), Shown()
    MetricsReporter(other, []).picture("pgd-2", 7, pixels)
    monkeypatch.setattr(first, "receive", lambda: json.loads(json.dumps(other.sent)))
    monkeypatch.setattr(first, "acknowledge", lambda: None)
    reporter = MetricsReporter(first, [shown])
    with reporter.opened(run_info()):
        reporter.poll(now=True)
    assert shown.pictures == [("pgd-2", 7, pixels.tolist())]
