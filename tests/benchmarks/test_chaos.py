"""The tool that attacks training runs: it notices what is lost, and training loses nothing."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import chaos
import pytest
from chaos import ChaosOptions, Lost
from faults import job as faults_job
from faults.attacks import ATTACKS, Attack, Trial, flip_a_bit
from faults.job import Ending, Job
from faults.outcome import differences
from rich.console import Console

from zipper_dist.errors import UserError

Record = dict[str, Any]

SLEEP = "import time; time.sleep(600)"


def program(code: str, log: Path) -> Job:
    return Job([sys.executable, "-c", code], log)


def test_a_job_that_ends(tmp_path: Path) -> None:
    with program("raise SystemExit(3)", tmp_path / "log") as job:
        assert job.wait(60) == Ending(3)


def test_a_job_that_hangs_is_ended(tmp_path: Path) -> None:
    with program(SLEEP, tmp_path / "log") as job:
        assert job.wait(0.5) == Ending(None)
        assert job.ended


def test_what_outlives_the_job_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_job, "ORPHAN_SECONDS", 0.3)
    child = f"[sys.executable, '-c', {SLEEP!r}], start_new_session=True"
    with program(f"import subprocess, sys; subprocess.Popen({child})", tmp_path / "log") as job:
        assert job.wait(60) == Ending(0, orphans=True)
        deadline = time.monotonic() + 60  # SIGKILL is sent; the process may take a moment to end
        while any(job._processes()):
            assert time.monotonic() < deadline


def test_a_signal_reaches_the_rank(tmp_path: Path) -> None:
    ranks = (
        "import os, subprocess, sys; [p.wait() for p in [subprocess.Popen([sys.executable, '-c', "
        f"{SLEEP!r}], env=dict(os.environ, RANK=str(rank))) for rank in range(2)]]"
    )
    with program(ranks, tmp_path / "log") as job:
        for rank in range(2):
            deadline = time.monotonic() + 60
            while not job.signal_rank(rank, signal.SIGKILL):
                assert time.monotonic() < deadline
        assert job.wait(60) == Ending(0)
        assert not job.signal_rank(0, signal.SIGKILL)


def run_directory(root: Path, weights: bytes, records: list[Record]) -> Path:
    root.mkdir()
    (root / "global.safetensors").write_bytes(weights)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (root / "metrics.jsonl").write_text(lines)
    summary = {"steps": 2, "redistributions": 1, "final": {"clean": 50.0}, "sha256": {}}
    (root / "summary.json").write_text(json.dumps(summary))
    return root


FIRST: Record = {"step": 1, "loss": 0.5, "seconds": 1.0}
SECOND: Record = {"step": 2, "loss": 0.25, "seconds": 1.0}


def test_times_and_order_do_not_count(tmp_path: Path) -> None:
    one = run_directory(tmp_path / "one", b"w", [FIRST, SECOND])
    other = run_directory(tmp_path / "other", b"w", [SECOND, FIRST | {"seconds": 7.0}])
    assert differences(one, other) == []


@pytest.mark.parametrize(
    ("weights", "records", "found"),
    [
        (b"v", [FIRST], "global.safetensors differs"),
        (b"w", [], "missing"),
        (b"w", [FIRST, FIRST], "too many"),
        (b"w", [FIRST | {"loss": 0.6}], "missing"),
    ],
)
def test_all_else_counts(tmp_path: Path, weights: bytes, records: list[Record], found: str) -> None:
    whole = run_directory(tmp_path / "whole", b"w", [FIRST])
    changed = run_directory(tmp_path / "changed", weights, records)
    assert found in " ".join(differences(changed, whole))


def test_missing_weights_count(tmp_path: Path) -> None:
    whole = run_directory(tmp_path / "whole", b"w", [])
    changed = run_directory(tmp_path / "changed", b"w", [])
    (changed / "global.safetensors").unlink()
    assert differences(changed, whole) == ["global.safetensors is missing"]


def test_another_accuracy_counts(tmp_path: Path) -> None:
    whole, changed = (run_directory(tmp_path / n, b"w", []) for n in ("whole", "changed"))
    path = changed / "summary.json"
    path.write_text(path.read_text().replace("50.0", "51.0"))
    assert "summary.json: final" in " ".join(differences(changed, whole))


def trial_at(root: Path, number: int = 0) -> Trial:
    run = root / "run"
    return Trial((), run, run, root / "log", 0.1, 60.0, Random(number))


def test_a_job_that_should_go_on_and_does_not_is_complained_of(tmp_path: Path) -> None:
    class Fails(Trial):
        def start(self, ranks: int, restarts: int = 0) -> Job:
            return program("raise SystemExit(3)", self.log)

    trial = Fails((), tmp_path, tmp_path, tmp_path / "log", 0.1, 60.0, Random(0))
    Attack("a kick", strike=lambda job, trial: True, statuses=(0,)).carry_out(trial)
    assert "a job ended with status 3, not 0" in trial.complaints


def test_nothing_of_others_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "chaos").mkdir()
    (tmp_path / "chaos" / "thesis").write_text("of mine")
    with pytest.raises(UserError, match="not of this tool"):
        chaos.chaos(ChaosOptions(runs=1, out=tmp_path), Console(quiet=True))
    assert (tmp_path / "chaos" / "thesis").exists()


def test_a_bit_flips(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "natural-00000001.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(10))
    assert flip_a_bit(trial_at(tmp_path))
    assert sum(bin(byte).count("1") for byte in path.read_bytes()) == 1


def test_what_is_lost_ends_the_tool_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(directory: Path, seed: int) -> float:
        run_directory(directory, b"", [])
        run_directory(directory / "run", b"w", [FIRST])
        return 1.0

    class LosesWeights(Attack):
        def carry_out(self, trial: Trial) -> list[Ending]:
            run_directory(trial.run, b"v", [FIRST])
            trial.log.write_text("")
            return [Ending(0)]

    monkeypatch.setattr(chaos, "undisturbed", prepared)
    monkeypatch.setattr(chaos, "ATTACKS", (LosesWeights("a thief"),))
    with pytest.raises(Lost, match="2 of 2 runs were lost"):
        chaos.chaos(ChaosOptions(runs=2, out=tmp_path), Console(quiet=True))
    written = json.loads((tmp_path / "chaos.json").read_text())
    assert written["tried"] == 2
    assert written["identical"] == 0
    assert written["by_attack"] == {"a thief": {"tried": 2, "struck": 0, "survived": 0}}


@pytest.mark.slow
def test_training_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("restarts", "loss of power", "is damaged", "are damaged")
    some = [attack for attack in ATTACKS if attack.name.endswith(kinds)]
    monkeypatch.setattr(chaos, "ATTACKS", some)
    assert len(some) == 4
    chaos.chaos(ChaosOptions(runs=4, out=tmp_path), Console(quiet=True))
    written = json.loads((tmp_path / "chaos.json").read_text())
    assert [written[k] for k in ("tried", "identical", "hung", "orphans")] == [4, 4, 0, 0]
