"""A folder without a test set, of images of any size, is trained on, evaluated and predicted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import zipper_dist
from end_to_end.striped_images import CLASSES, make_folder
from zipper_dist.checkpoint.weights import load_weights, read_metadata

SHORT: dict[str, Any] = {
    "steps": 4, "batch-size": 8, "mix.start": 2, "mix.every": 2, "eval.every": 2,
    "eval.attack_steps": 1, "model.width": 0.125, "learners.adversarial.attack.steps": 1,
    "device": "cpu", "threads": 1, "precision": "fp32",
}  # fmt: skip


def fit(root: Path, run: Path, **options: Any) -> dict[str, Tensor]:
    """The global learner's weights."""
    zipper_dist.fit("folder", SHORT | {"data.root": str(root)} | options, run_dir=run)
    return load_weights(run / "global.safetensors")[1]


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def resolved(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "config.json").read_text())["resolved"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders of 20 × 20 pixels, but for a few images."""
    root = make_folder(tmp_path / "made", train=40, test=0, side=20) / "train"
    for number, path in enumerate(sorted(root.glob("rings/*.png"))[:3]):
        Image.open(path).convert("L").resize((30 + number, 50)).save(path)
    return root


def test_nothing_but_its_path_is_needed(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(folder, run)
    spec, _ = load_weights(run / "global.safetensors")
    assert (spec.height, spec.width, spec.class_names) == (32, 32, CLASSES)
    assert resolved(run)["image_size"] == 32
    assert read_metadata(run / "global.safetensors")["threat"] == f"linf:{8 / 255!r}"
    words = ["--attacks", "clean", "--no-picture", "--device", "cpu", "--threads", "1"]
    command = [sys.executable, "-m", "zipper_dist.evaluate", str(run), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images = sorted(folder.glob("rings/*.png"))[2:4]
    for found in zipper_dist.classify(run, images, certify_pgd=True):
        assert {guess.name for guess in found.top} == set(CLASSES)
        assert found.attacks[0].threat.eps == 8 / 255


def test_a_run_goes_on_with_the_size_that_it_was_begun_with(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = fit(folder, run)
    for path in folder.glob("*/*.png"):  # of one size, and so large that another would be usual
        Image.open(path).resize((90, 90)).save(path)
    (run / "global.safetensors").unlink()  # which is made again from the checkpoints
    assert_equal(fit(folder, run), before)
    assert load_weights(run / "global.safetensors")[0].height == 32


def test_a_run_that_does_not_say_its_size_goes_on(tmp_path: Path) -> None:
    """As those do that were begun by versions that took images of one size only."""
    root = make_folder(tmp_path / "made", train=40, test=8, side=20)
    before = fit(root, tmp_path / "new")
    old = shutil.copytree(tmp_path / "new", tmp_path / "old")
    content = json.loads((old / "config.json").read_text())
    assert content["resolved"].pop("image_size") == 20
    (old / "config.json").write_text(json.dumps(content))
    (old / "global.safetensors").unlink()
    assert_equal(fit(root, old), before)
    assert load_weights(old / "global.safetensors")[0].height == 20
