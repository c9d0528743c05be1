"""The command as a whole, on runs of seconds: real training, torchrun, evaluations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_time
import pytest
from bench_time import BenchOptions, bench, pairs
from comparison.jobs import Job, Runner
from end_to_end.commands import typed

from zipper_dist.errors import Interrupted, UserError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_time.py"
OURS = typed("digits --device cpu --betas 1 --gammas 0.5 --tuning-runs 0 --limit 40 --out out")
TRAINING = typed("--steps 40 --batch-size 16 --model.width 0.125 --data.limit 200 --eval.limit 40")
PATIENCE = 600.0

TWO_CORES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="Zipper in parallel takes two cores"
)


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(directory: Path, *arguments: str) -> tuple[int, str]:
    process = start(directory, *arguments)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        time.sleep(0.05)


def contents(directory: Path) -> dict[Path, tuple[int, int]]:
    """Time of change and size of every file, logs included."""
    stats = {file: file.stat() for file in directory.rglob("*") if file.is_file()}
    return {file: (stat.st_mtime_ns, stat.st_size) for file, stat in stats.items()}


@TWO_CORES
def test_interrupted_continued_and_done(tmp_path: Path) -> None:
    command = [*OURS, "--", *TRAINING]
    first = start(tmp_path, *command)
    out = tmp_path / "out" / "digits"
    run = out / "curves" / "trades-beta1-seed0"
    wait_for(run / "metrics.jsonl")
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130, output
    assert not (out / "page.md").exists()
    log = out / "logs" / "curves-trades-beta1-seed0.log"
    assert "interrupted after iteration" in log.read_text()

    status, output = ended(tmp_path, *command)
    assert status == 0, output
    assert log.read_text().count("$ ") == 2
    check_results(out)

    before = contents(out / "logs") | contents(out / "runs") | contents(out / "evaluations")
    status, again = ended(tmp_path, *command)
    assert status == 0
    assert before == (
        contents(out / "logs") | contents(out / "runs") | contents(out / "evaluations")
    )
    assert again.splitlines()[-10:] == output.splitlines()[-10:]

    status, output = ended(tmp_path, *command, "--momentum-of-nobody", "1")
    assert status == 2
    status, output = ended(tmp_path, *OURS, "--", *TRAINING, "--learners.adversarial.lr", "0.01")
    assert status == 2
    assert "holds a run with other options (--learners.adversarial.lr 0.05 there, 0.01 now)" in (
        " ".join(output.split())
    )
    assert before == (
        contents(out / "logs") | contents(out / "runs") | contents(out / "evaluations")
    )


def check_results(out: Path) -> None:
    table: dict[str, Any] = json.loads((out / "table.json").read_text())
    assert list(table) == ["trades", "zipper-serial", "zipper-parallel"]
    for figures in table.values():
        assert figures["seeds"] == 1
        for name in ("nat", "pgd_100", "apgd"):
            assert 0 <= figures[name]["mean"] <= 100
            assert figures[name]["mean"] * 40 % 100 == 0  # of 40 images
        assert 0 < figures["train_seconds"]["mean"] <= figures["wall_seconds"]["mean"]
    # Serial and parallel are the same network, and so one evaluation.
    for name in ("nat", "pgd_100", "apgd"):
        assert table["zipper-serial"][name] == table["zipper-parallel"][name]
    runs = [out / "runs" / f"{key}-seed0" for key in ("zipper-serial", "zipper-parallel")]
    serial, parallel = ((run / "global.safetensors").read_bytes() for run in runs)
    assert serial == parallel
    ranks = json.loads((runs[1] / "summary.json").read_text())["ranks"]
    assert [rank["learners"] for rank in ranks] == [["natural"], ["adversarial"]]
    outcome = json.loads((out / "outcome.json").read_text())
    (beta,) = outcome["betas"]
    assert outcome["match"]["clean"] == outcome["betas"][beta]["clean"]
    assert set(outcome["gammas"]) == {"0.5"}
    costs = outcome["costs"]
    assert costs["steps"] == 40
    assert 0 < costs["natural"] < costs["adversarial"]
    assert costs["sync_seconds"] > 0
    # Each tensor lies at a multiple of 64 bytes in what is sent.
    sent = ranks[0]["comm_bytes"] / (ranks[0]["syncs"] + ranks[0]["looks"])
    assert costs["sync_bytes"] <= sent < 1.05 * costs["sync_bytes"]
    assert beta == "1"
    page = (out / "page.md").read_text()
    assert "bit for bit" in page
    assert "taskset -c 0,1 python -m zipper_dist.launcher" in page


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["cifar11"], "unknown experiment 'cifar11'"),
        (["digits", "--seeds", "0"], "--seeds 0: give 1 or more"),
        (["digits", "--methods", "pgd"], "--methods pgd: choose from"),
        (["digits", "--methods", "at:0"], "--methods at:0: give 1 or more runs"),
        (["digits-table", "--autoattack-seeds", "-1"], "--autoattack-seeds -1: give 0 or more"),
        (["digits", "--autoattack-seeds", "1"], "digits has no AutoAttack"),
        (["digits", "--", "--epochs", "0"], "--epochs 0: give 1 or more"),
        (["digits", "--", "--seed", "3"], "--seed is set by the comparison"),
        (["digits", "--", "--learners.adversarial.objective", "at"], "see --betas"),
        (["digits", "--limit", "0"], "--limit 0: give 1 or more"),
        (["digits", "--betas", "-1"], "beta -1.0: give 0 … 1000"),
        (["digits", "--gammas", "2"], "its values must lie in 0 … 1"),
        (["mnist-table", "--data-root", "nowhere", "--", "--data.limit", "0"], "--data.limit 0"),
    ],
)
def test_bad_input_is_found_before_anything_runs(
    tmp_path: Path, arguments: list[str], wanted: str
) -> None:
    status, output = ended(tmp_path, "--out", "out", *arguments)
    assert status == 2, output
    assert wanted in " ".join(output.split())
    assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_options_for_training() -> None:
    assert pairs([]) == ()
    assert pairs(["--epochs", "5", "--data.flip", "--steps", "3"]) == (
        ("--epochs", "5"), ("--data.flip", ""), ("--steps", "3"),
    )  # fmt: skip
    for words in (["5"], ["--epochs", "5", "6"]):
        with pytest.raises(UserError, match="follows no option"):
            pairs(words)


class Stopped(Runner):
    """A runner that is interrupted when it comes to a stage."""

    at = "evaluating"

    def run(self, stage: str, jobs: Sequence[Job], together: bool) -> None:
        if stage == self.at and not all(job.done() for job in jobs):
            raise Interrupted(signal.SIGTERM)
        super().run(stage, jobs, together)


def test_what_was_made_of_a_comparison_that_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_time, "Runner", Stopped)
    monkeypatch.chdir(tmp_path)

    def attempt(*methods: str, steps: str = "2") -> None:
        options = BenchOptions(
            ("digits-table",), methods=methods, autoattack_seeds=1, out=Path("out"), device="cpu"
        )
        bench(options, pairs([*TRAINING, "--steps", steps]))

    page = tmp_path / "out" / "digits-table" / "page.md"
    with pytest.raises(Interrupted):
        attempt("natural")
    text = page.read_text()
    assert "it still has to make: clean+pgd-20+apgd-ce on NT, seed 0; aa on NT, seed 0." in text
    assert text.count("zipper_dist.train digits-natural") == 1
    assert "zipper_dist.evaluate" not in text

    # A row that has not begun, before one that is trained.
    monkeypatch.setattr(Stopped, "at", "training")
    with pytest.raises(Interrupted):
        attempt("fat", "natural")
    text = page.read_text()
    assert "it still has to make: FAT, seed 0; clean+" in text
    assert text.count("zipper_dist.train digits-natural") == 1
    assert "| NT | 1 |" in text

    # Runs that were made otherwise come to no page.
    with pytest.raises(UserError, match="holds a run with other options"):
        attempt("fat", "natural", steps="3")
    assert page.read_text() == text
