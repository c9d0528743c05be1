"""What the manual says can be done is done, and what it points to is there."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import zipper_dist
from docs.pages import PAGES, ROOT, commands
from zipper_dist.config.command_line import parse_options
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.export.subject import ExportOptions
from zipper_dist.metrics.records import TrainingRecord
from zipper_dist.prediction.options import PredictOptions
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.report.options import ReportOptions

REPOSITORY = "https://github.com/zipper-dist/zipper_dist"


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
