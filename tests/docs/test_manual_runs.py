"""The commands and the Python of the manual run."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.striped_images import CLASSES, make_folder
from PIL import Image

from docs.pages import ROOT, code, commands

FEW_STEPS = " ".join(
    (
        "--steps=4 --batch-size=16 --mix.start=2 --mix.every=2 --eval.every=4 --eval.limit=10",
        "--eval.attack-steps=1 --data.limit=60 --device=cpu --threads=1 --precision=fp32",
    )
).split()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_python_of_the_manual_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = code(ROOT / page, "python")[0]
    # One core, so one thread: on a busy machine threads mostly wait for each other.
    core = max(os.sched_getaffinity(0))
    command = ["taskset", "--cpu-list", str(core), sys.executable, "-c", block]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pgd-20" in done.stdout


REGISTRIES = {
    "objective": "objectives:OBJECTIVES",
    "attack": "attacks:ATTACKS",
    "network": "models:NETWORKS",
    "dataset": "data:DATASETS",
    "augmentation": "data.minibatches:AUGMENTATIONS",
    "recipe": "recipes:RECIPES",
    "sink": "metrics.sinks:SINKS",
    "exporter": "export.base:EXPORTERS",
}
EXAMPLES = {
    found[1]: command
    for command in commands(ROOT / "docs" / "extending.md")
    if (found := re.search(r"docs/examples/(\w+)\.py", command))
}


def run_module(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_kind_has_an_example_and_a_command() -> None:
    for place in REGISTRIES.values():
        module, _, name = place.partition(":")
        assert len(getattr(importlib.import_module(f"zipper_dist.{module}"), name)) > 1
    text = (ROOT / "docs" / "extending.md").read_text()
    assert all(f'\n--8<-- "docs/examples/{kind}.py"\n' in text for kind in REGISTRIES)
    files = {file.stem for file in (ROOT / "docs" / "examples").glob("*.py")}
    assert files == REGISTRIES.keys() == EXAMPLES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", REGISTRIES)
def test_the_example_runs_from_the_command_line(kind: str, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    words = EXAMPLES[kind].replace("runs/digits-seed0", run).split()
    assert words[:2] == ["python", "-m"]
    if words[2] != "zipper_dist.train":
        run_module("zipper_dist.train", "--run-dir", run, *FEW_STEPS)
        few = ["--limit", "10", "--threads", "1", "--device", "cpu"]
        run_module(*words[2:], *(few if words[2] == "zipper_dist.evaluate" else []))
    else:
        run_module(*words[2:], "--run-dir", run, *FEW_STEPS)
    assert (tmp_path / "run" / "global.safetensors").exists()


@pytest.mark.slow
def test_the_command_with_all_metrics_runs(tmp_path: Path) -> None:
    page = ROOT / "docs" / "training.md"
    (command,) = [line for line in commands(page) if "--metrics" in line]
    run_module(*command.split()[2:], "--run-dir", str(tmp_path / "run"), *FEW_STEPS)
    for pattern in ("metrics.csv", "metrics.jsonl", "tensorboard/global/events.*"):
        assert list((tmp_path / "run").glob(pattern)), pattern


def on_digits(page: str) -> list[str]:
    """The commands of a page of the manual that train on digits."""
    found = commands(ROOT / "docs" / page)
    return [line for line in found if ".train digits" in line and "…" not in line]


OBJECTIVES = on_digits("objectives.md")


def test_there_is_a_command_for_every_objective_of_its_page() -> None:
    text = (ROOT / "docs" / "objectives.md").read_text()
    assert len(OBJECTIVES) >= len(re.findall(r"^## ", text, re.M)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", OBJECTIVES)
def test_the_commands_on_objectives_run(command: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = command.split()
    start = ["torch.distributed.run", *words[1:]] if words[0] == "torchrun" else words[2:]
    run_module(*start, "--run-dir", str(run), *FEW_STEPS)
    assert (run / "global.safetensors").exists()


@pytest.mark.slow
def test_generated_images_as_the_manual_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "training.md"
    (block,) = [block for block in code(page, "python") if "np.savez" in block]
    (command,) = [line for line in commands(page) if "digits --data.extra" in line]
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    words = command.replace("more.npz", str(tmp_path / "more.npz")).split()
    run_module(*words[2:], "--run-dir", str(tmp_path / "run"), *FEW_STEPS)
    assert (tmp_path / "run" / "global.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "directory", "word"),
    [("numpy", "my-images", "np.save("), ("datasets", "my-dataset", "import datasets")],
)
def test_images_of_your_own_as_the_manual_has_them(
    source: str, directory: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "training.md"
    (block,) = [block for block in code(page, "python") if word in block]
    (command,) = [line for line in commands(page) if f"source {source}" in line]
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    words = command.replace(directory, str(tmp_path / directory)).split()
    few = [*FEW_STEPS, "--model.width=0.125", "--learners.adversarial.attack.steps=1"]
    run_module(*words[2:], "--run-dir", str(tmp_path / "run"), *few)
    assert (tmp_path / "run" / "global.safetensors").exists()


@pytest.mark.slow
def test_images_on_disk_as_the_manual_has_them(tmp_path: Path) -> None:
    (command,) = [line for line in commands(ROOT / "docs" / "training.md") if "store disk" in line]
    words = command.replace("runs/images", str(tmp_path / "images")).split()
    run_module(*words[2:], "--run-dir", str(tmp_path / "run"), *FEW_STEPS)
    assert (tmp_path / "run" / "global.safetensors").exists()
    assert len(list((tmp_path / "images").glob("*.images"))) == 2


@pytest.mark.slow
def test_augmentations_as_the_manual_has_them(tmp_path: Path) -> None:
    page = ROOT / "docs" / "training.md"
    (command,) = [line for line in commands(page) if "--data.augment" in line]
    run_module(*command.split()[2:], "--run-dir", str(tmp_path / "run"), *FEW_STEPS)
    assert (tmp_path / "run" / "global.safetensors").exists()


@pytest.mark.slow
def test_the_command_with_several_threat_models_runs(tmp_path: Path) -> None:
    page = ROOT / "docs" / "evaluation.md"
    (command,) = [line for line in commands(page) if "--threat" in line]
    run = str(tmp_path / "run")
    run_module("zipper_dist.train", "--run-dir", run, *FEW_STEPS)
    words = command.replace("runs/digits-seed0", run).split()
    run_module(*words[2:], "--limit", "10", "--threads", "1", "--device", "cpu")
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    shown = re.findall(r"^│ (\S+) +│ +[\d.]+ % │$", page.read_text(), re.M)
    assert list(found["attacks"]) == shown
    named = re.findall(r"^\| ([a-z ]+) \|", page.read_text().split("## What people doubt")[1], re.M)
    assert [name.replace(" ", "_") for name in named[:4]] == list(found["in_words"])


ON_DIGITS = on_digits("network.md")


@pytest.mark.slow
def test_the_commands_on_networks_run(tmp_path: Path) -> None:
    run_module("zipper_dist.train", "--run-dir", str(tmp_path / "first"), *FEW_STEPS)
    first = str(tmp_path / "first")
    assert len(ON_DIGITS) == 3
    for number, command in enumerate(ON_DIGITS):
        words = command.replace("runs/digits-seed0", first).split()
        run = tmp_path / str(number)
        run_module(*words[2:], "--run-dir", str(run), *FEW_STEPS)
        assert (run / "global.safetensors").exists()


AS_RELEASED = [line for line in commands(ROOT / "docs" / "released.md") if "zipper_dist" in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", AS_RELEASED[1:])
def test_the_commands_of_releases_run(command: str, tmp_path: Path) -> None:
    """Those on CIFAR-10, which is not there, on digits."""
    assert len(AS_RELEASED) == 5
    _, _, line = command.replace("cifar10", "digits").partition("-m ")
    run_module(*line.split(), "--run-dir", str(tmp_path / "run"), *FEW_STEPS)
    assert (tmp_path / "run" / "global.safetensors").exists()


@pytest.mark.slow
def test_the_commands_on_images_of_ones_own_run(tmp_path: Path) -> None:
    make_folder(tmp_path / "made", train=40, test=4, side=20)
    (tmp_path / "made" / "train").rename(tmp_path / "pictures")
    first, second, *_ = sorted((tmp_path / "made").rglob("*.png"))
    Image.open(first).resize((90, 60)).save(tmp_path / "photo.jpg")
    Image.open(second).convert("L").save(tmp_path / "scan.png")
    training, predicting = commands(ROOT / "docs" / "predicting.md")[:2]
    files = ("runs", "pictures", "photo.jpg", "scan.png", "predictions.json")
    for command, more in ((training, FEW_STEPS), (predicting, ["--device", "cpu"])):
        words = [
            str(tmp_path / word) if word.startswith(files) else word for word in command.split()[2:]
        ]
        run_module(*words, *more)
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert {guess["name"] for image in found["images"] for guess in image["top"]} <= set(CLASSES)
    assert len(found["images"]) == 2
