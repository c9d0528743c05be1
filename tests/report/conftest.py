"""Three runs of a moment by the training command, two of which differ by the seed alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = " ".join(
    (
        "--batch-size 32 --mix.start 4 --mix.every 4 --eval.every 6 --eval.limit 32 --log-every 2",
        "--eval.attack-steps 2 --data.limit 300 --device cpu --threads 1 --precision fp32",
        "--compile off --model.width 0.125 --metrics jsonl",
    )
).split()
STEPS = ["--steps", "12"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(module: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"zipper_dist.{module}", *words]


def said_by(module: str, *words: str, cwd: Path) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(
        command(module, *words), capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with runs/first, traced and evaluated, runs/second of another seed, and
    runs/trades, of another method."""
    root = tmp_path_factory.mktemp("reported")
    both = [*TINY, *STEPS]
    said = said_by("train", "digits", *both, "--run-dir", "runs/first", "--trace", "5:7", cwd=root)
    assert said.splitlines()[-1] == "a page about the run: python -m zipper_dist.report runs/first"
    said_by("train", "digits", *both, "--seed", "1", "--run-dir", "runs/second", cwd=root)
    said_by("train", "digits-trades", *both, "--run-dir", "runs/trades", cwd=root)
    words = ["--attacks", "clean", "pgd-2", "--limit", "20", "--device", "cpu", "--threads", "1"]
    said_by("evaluate", "runs/first", *words, cwd=root)
    return root


@pytest.fixture(scope="session")
def one(root: Path) -> Path:
    """A page about runs/first."""
    said = said_by("report", "runs/first", cwd=root)
    assert said.splitlines()[-1] == "the report is in report.html"
    return root / "report.html"


@pytest.fixture(scope="session")
def several(root: Path) -> Path:
    """A page about all of them."""
    words = ["runs/first", "runs/second", "runs/trades", "--out", "pages/several.html"]
    said_by("report", *words, cwd=root)
    return root / "pages" / "several.html"
