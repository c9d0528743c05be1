"""A run that was trained for a moment and evaluated on some images, to export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import zipper_dist

FEW = {
    "steps": 6, "batch_size": 32, "mix.start": 2, "mix.every": 2, "eval.every": 3,
    "eval.limit": 16, "eval.attack_steps": 2, "data.limit": 200, "device": "cpu", "threads": 1,
    "precision": "fp32", "model.width": 0.125, "data.image_size": 8, "metrics": ("jsonl",),
}  # fmt: skip
IMAGES = 8


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory; only its global learner was evaluated."""
    root = tmp_path_factory.mktemp("exported") / "digits-tiny"
    zipper_dist.fit("digits", FEW, run_dir=root)
    words = ["zipper_dist.evaluate", str(root), "--first", str(IMAGES), "--threads", "1"]
    words += ["--no-picture", "--device", "cpu", "--attacks", "clean", "apgd-ce", "aa"]
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def evaluation(run: Path) -> dict[str, Any]:
    """Its evaluation.json."""
    found: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return found


WITHOUT_US = """
import sys
sys.modules["zipper_dist"] = None  # importing it raises
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
images = torch.load(sys.argv[2])
"""


def without_zipper_dist(script: str, directory: Path, images: Path) -> str:
    """What a script prints, in a process that cannot import zipper_dist, with ``images`` loaded."""
    command = [sys.executable, "-I", "-c", WITHOUT_US + script, str(directory), str(images)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory)
    assert done.returncode == 0, done.stderr
    return done.stdout
