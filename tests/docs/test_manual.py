"""What the manual says can be done is done, and what it points to is there."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from end_to_end.striped_images import CLASSES, make_folder
from PIL import Image

import zipper_dist
from zipper_dist.config.command_line import parse_options
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.export.subject import ExportOptions
from zipper_dist.metrics.records import TrainingRecord
from zipper_dist.prediction.options import PredictOptions
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.report.options import ReportOptions

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
REPOSITORY = "https://github.com/zipper-dist/zipper_dist"
FEW_STEPS = " ".join(
    (
        "--steps=4 --batch-size=16 --mix.start=2 --mix.every=2 --eval.every=4 --eval.limit=10",
        "--eval.attack-steps=1 --data.limit=60 --device=cpu --threads=1 --precision=fp32",
    )
).split()


def code(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[str]:
    """The commands of a page's console blocks, without their comments."""
    joined = "\n".join(code(page, "console")).replace("\\\n", " ")
    lines = re.findall(r"^\$ (.*)$", joined, re.M)
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M
    )
    described = set(re.findall(r"^::: (\S+)$", page.read_text(), re.M))
    return described | {
        re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in headings
    }


def links(page: Path) -> Iterator[str]:
    """What a page's links and pictures point to."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_what_is_there(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        inside = re.fullmatch(rf"{REPOSITORY}/(?:blob|tree)/main/(.*)", target)
        if inside:
            assert (ROOT / inside[1]).exists(), link
        elif not link.startswith("http"):
            file = page.parent / target if target else page
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link


def test_every_field_of_a_record_is_listed() -> None:
    _, _, text = (ROOT / "docs" / "training.md").read_text().partition("\n### Records\n")
    listed = set(re.findall(r"`(\w+)`", text.partition("\n## ")[0]))
    assert {field.name for field in dataclasses.fields(TrainingRecord)} <= listed


def test_the_site_has_every_page_and_every_included_file() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def files(entry: object) -> Iterator[str]:
        for part in entry.values() if isinstance(entry, dict) else entry:  # type: ignore[attr-defined]
            if isinstance(part, str):
                yield part
            else:
                yield from files(part)

    assert sorted(files(config["nav"])) == sorted(
        page.name for page in (ROOT / "docs").glob("*.md")
    )
    assert config["repo_url"] == REPOSITORY
    for page in PAGES:
        text = page.read_text()
        # A formatter of code blocks once took these lines for Python.
        included = re.findall(r'^--8<-- "(.*)"$', text, re.M)
        assert len(included) == len(re.findall(r"^--8", text, re.M)), page.name
        assert all((ROOT / file).is_file() for file in included), page.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_make_has_the_targets_that_are_mentioned() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r"`make ([a-z-]+)[` ]|^\$ make ([a-z-]+)\b", text, re.M):
            assert set(target) - {""} <= targets, (page.name, target)


def test_launch_scripts_that_are_mentioned_exist() -> None:
    for page in PAGES:
        for script in re.findall(r"\blaunch/[\w.]+\w", page.read_text()):
            assert (ROOT / script).is_file(), (page.name, script)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == zipper_dist.__version__
    assert citation["repository-code"] == REPOSITORY


def test_the_changelog_keeps_to_its_format() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    versions = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert versions[0] == "Unreleased"
    assert versions[1].split(" - ")[0] == zipper_dist.__version__
    assert all(re.fullmatch(r"\d+\.\d+\.\d+( - \d{4}-\d\d-\d\d)?", name) for name in versions[1:])
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_repository_is_named_alike_everywhere() -> None:
    assert f"url = {REPOSITORY}\n" in (ROOT / "setup.cfg").read_text()
    files = [*PAGES, ROOT / "setup.cfg", ROOT / "mkdocs.yml", ROOT / "CITATION.cff"]
    for file in files:
        for found in re.findall(r"https://github\.com/[\w-]*zipper[\w-]*/\w+", file.read_text()):
            assert found == REPOSITORY, file.name


def test_recipes_that_are_mentioned_exist() -> None:
    from zipper_dist.recipes.registry import recipe

    data = "digits|mnist|cifar10|cifar100|svhn|folder"
    for page in PAGES:
        for name in re.findall(rf"`((?:{data})(?:-[a-z0-9-]+)?)`", page.read_text()):
            if not re.search(r"-(table|slice|learning-rates|precision)", name):  # experiments
                assert recipe(name)


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


@pytest.mark.slow
def test_options_that_are_mentioned_exist() -> None:
    modules = ("train", "evaluate", "predict", "export", "report")
    commands = (*(f"-m zipper_dist.{name}" for name in modules), "benchmarks/bench_time.py")
    # Of torchrun and SLURM, and one that is not shown.
    known = {"--nnodes", "--nproc_per_node", "--max-restarts", "--signal"}
    known.add("--tyro-print-completion")
    for command in commands:
        words = [sys.executable, *command.split(), "--help"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        known |= set(re.findall(r"--[\w.-]+\w", done.stdout))
    for page in PAGES:
        for option in re.findall(r"`(--[\w.-]+\w)", page.read_text()):
            option = option.replace("NAME", "adversarial")
            groups = any(name.startswith(f"{option}.") for name in known)
            assert option in known or groups, (page.name, option)


def parses(words: list[str]) -> None:
    """Raise if the command does not understand its options; a file of options is left out."""
    if "--config" in words:
        at = words.index("--config")
        words = words[:at] + words[at + 2 :]
    if words[0] == "train":
        parse_train_options(words[1:])
    elif words[0] == "export":
        parse_options(ExportOptions, words[1:], "export")
    elif words[0] == "predict":
        parse_options(PredictOptions, words[1:], "predict")
    elif words[0] == "report":
        parse_options(ReportOptions, words[1:], "report")
    else:
        parse_options(EvaluateOptions, words[1:], "evaluate")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    for command in commands(page):
        module = re.search(r"-m zipper_dist\.(train|evaluate|predict|export|report)\b(.*)", command)
        if module and "…" not in command and "--help" not in command:
            parses([module[1], *module[2].partition("&&")[0].split()])


def test_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    names = re.findall(r"`([a-z_/]+(?:\.py|/))`", text)
    assert len(names) > 20
    for name in names:
        assert (ROOT / "zipper_dist" / name).exists(), name


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
