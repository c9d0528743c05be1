"""The same bits under every placement, on any number of ranks, interrupted or not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from end_to_end.commands import started, succeeded, train, typed
from end_to_end.results import assert_same_result, records, summary, weights
from end_to_end.sent import assert_sent_as_designed

pytestmark = pytest.mark.slow

# BatchNorm, AWP, weight averages and three redistributions; four ranks on two cores, so few steps.
FOUR = typed("""
    digits --threads 1 --device cpu --precision fp32 --compile off --steps 20 --batch-size 16
    --placement.shards 4 --mix.start 5 --mix.every 5 --mix.gamma 0:0.3,1:0.7 --mix.ema 0.7
    --eval.every 6 --eval.attack-steps 2 --eval.limit 24 --log-every 3
    --model.arch resnet18 --model.width 0.0625 --data.limit 120 --data.validation 40
    --data.image-size 8 --learners.natural.weight-average 0.5
    --learners.adversarial.awp 0.01 --learners.adversarial.attack.steps 2 --run-dir run
""")
TIMES = {"time", "seconds", "train_seconds", "wait_seconds", "images_per_second"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one process with all shards."""
    at = tmp_path_factory.mktemp("alone")
    succeeded(train(*FOUR, at=at))
    assert summary(at / "run")["redistributions"] == 3
    return at / "run"


def assert_same_metrics(run: Path, other: Path) -> None:
    def lines(path: Path) -> list[str]:
        found = records(path / "metrics.jsonl")
        kept = [{k: v for k, v in record.items() if k not in TIMES} for record in found]
        return sorted(json.dumps(record, sort_keys=True) for record in kept)

    assert lines(run) == lines(other)


@pytest.mark.parametrize(
    ("ranks", "placement"),
    [
        (2, "--placement.mode shared"),
        (2, "--placement.mode balanced"),
        (3, "--placement.ranks natural=1,adversarial=2"),
        (4, ""),  # by measured costs
        (4, "--placement.mode shared"),
    ],
)
def test_every_placement_ends_with_the_bits_of_one_process(
    alone: Path, tmp_path: Path, ranks: int, placement: str
) -> None:
    succeeded(train(*FOUR, *typed(placement), at=tmp_path, ranks=ranks))
    assert_same_result(tmp_path / "run", alone)
    assert_same_metrics(tmp_path / "run", alone)
    assert_sent_as_designed(tmp_path / "run")


def test_a_run_goes_on_on_other_ranks_under_another_placement(alone: Path, tmp_path: Path) -> None:
    shared = typed("--placement.mode shared")
    with started(*FOUR, *shared, at=tmp_path, ranks=4) as command:
        command.until_iteration(6)
        # One rank alone gets a signal: all stop after the same iteration.
        os.kill(command.rank(2), signal.SIGTERM)
        assert command.wait().status != 0
    steps = {path.stem[-8:] for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")}
    newest = max(steps)
    for name in ("natural", "adversarial"):
        assert (tmp_path / "run" / "checkpoints" / f"{name}-{newest}.ckpt").exists()
    with started(*FOUR, at=tmp_path, ranks=2) as command:
        command.until_further(2)
        command.process.send_signal(signal.SIGTERM)
        command.wait()
    succeeded(train(*FOUR, at=tmp_path))
    assert_same_result(tmp_path / "run", alone)
    assert_same_metrics(tmp_path / "run", alone)


def test_the_number_of_shards_belongs_to_the_run(alone: Path, tmp_path: Path) -> None:
    config = json.loads((alone / "config.json").read_text())
    assert config["resolved"]["shards"] == 4
    without = [word for word in FOUR if word not in ("--placement.shards", "4")]
    assert len(without) == len(FOUR) - 2
    two = tmp_path / "two"
    two.mkdir()
    succeeded(train(*without, "--placement.shards", "2", at=two))
    assert weights(two / "run")["natural"] != weights(alone)["natural"]
