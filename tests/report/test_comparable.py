"""What was measured in different ways is not averaged, and the page says what was measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from report.reading_pages import Page
from zipper_dist.report.page import make_page
from zipper_dist.report.reading import read_run

pytestmark = pytest.mark.slow  # the fixture trains

Change = Callable[[Any], None]


def copy_of(run: Path, to: Path, file: str = "", change: Change | None = None) -> Path:
    """A copy of a run, one of whose JSON files is changed."""
    shutil.copytree(run, to)
    if change is not None:
        content = json.loads((to / file).read_text())
        change(content)
        (to / file).write_text(json.dumps(content))
    return to


def page_about(*runs: Path) -> Page:
    path = runs[0].parent / "page.html"
    path.write_text(make_page([read_run(run) for run in runs]))
    return Page(path)


def reseeded(run: Path) -> Path:
    """The run, as if it were of another seed."""
    content = json.loads((run / "config.json").read_text())
    content["options"]["seed"] = 7
    (run / "config.json").write_text(json.dumps(content))
    return run


def of_another_threat(evaluation: Any) -> None:
    evaluation["threat"]["eps"] = 0.25
    evaluation["attacks"]["pgd-2"]["accuracy"] = 1.0


def of_larger_steps(evaluation: Any) -> None:
    evaluation["attacks"]["pgd-2"]["settings"]["step_size"] = 0.5
    evaluation["attacks"]["pgd-2"]["accuracy"] = 1.0


def of_other_images(evaluation: Any) -> None:
    evaluation["data"]["chosen"] = "the first"
    evaluation["attacks"]["pgd-2"] |= {"accuracy": 1.0, "n": 10}


def under_the_same(evaluation: Any) -> None:
    evaluation["attacks"]["pgd-2"]["accuracy"] = 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_another_threat, "pgd-2, linf ε 0.25, 20 images of digits"),
        (of_larger_steps, "pgd-2, linf ε 0.17, 20 images of digits, step size 0.5"),
        (of_other_images, "pgd-2, linf ε 0.17, 10 images of digits"),
        (under_the_same, ""),
    ],
)
def test_evaluations_are_averaged_only_if_measured_alike(
    change: Change, words: str, root: Path, tmp_path: Path
) -> None:
    first = copy_of(root / "runs" / "first", tmp_path / "first")
    other = reseeded(copy_of(first, tmp_path / "other", "evaluation.json", change))
    accuracy = json.loads((first / "evaluation.json").read_text())["attacks"]["pgd-2"]["accuracy"]
    head, row = page_about(first, other).tables["groups"]
    assert row[2] == "2"  # one group
    if words:
        assert head[5].startswith("pgd-2, linf ε 0.17, 20 images of digits")
        assert head[6] == f"{words} [%]"
        assert row[5:7] == [f"{accuracy:.2f} (n = 1)", "1.00 (n = 1)"]
    else:
        assert head[5] == "pgd-2, linf ε 0.17, 20 images of digits [%]"
        assert row[5].startswith(f"{(accuracy + 1) / 2:.2f} ±")
        assert len(head) == 7


def test_the_page_says_what_an_evaluation_measured(root: Path, tmp_path: Path) -> None:
    def warned(evaluation: Any) -> None:
        evaluation["warnings"].append("gradients: zero for all images")

    run = copy_of(root / "runs" / "first", tmp_path / "run", "evaluation.json", warned)
    page = page_about(run)
    for words in json.loads((run / "evaluation.json").read_text())["in_words"].values():
        assert words in page.text
    assert "Threat model: linf ε 0.17" in page.text
    assert "gradients: zero for all images" in page.text

    def older(evaluation: Any) -> None:
        del evaluation["in_words"], evaluation["threat"], evaluation["data"]
        evaluation["warnings"] = None

    page = page_about(copy_of(run, tmp_path / "old", "evaluation.json", older), run)
    heads = page.tables["groups"][0]
    assert "pgd-2, 20 images of unknown data [%]" in heads


def test_different_data_have_no_common_front(root: Path, tmp_path: Path) -> None:
    def of_folder(name: str) -> Change:
        return lambda config: config["options"]["data"].update(source="folder", root=name)

    first = root / "runs" / "first"
    digits = copy_of(root / "runs" / "trades", tmp_path / "digits")
    cats = copy_of(first, tmp_path / "cats", "config.json", of_folder("cats"))
    dogs = copy_of(first, tmp_path / "dogs", "config.json", of_folder("dogs"))
    for other, named in ((digits, "digits, folder in cats"), (dogs, "folder in cats, folder in d")):
        page = page_about(cats, other)
        assert f"These runs are of different data ({named}" in page.text
        assert "On the Pareto front (" not in page.text
        assert "without a Pareto front" in page.text

    def elsewhere(config: Any) -> None:  # the same images, wherever they are
        config["options"]["data"]["root"] = "/elsewhere"

    page = page_about(copy_of(first, tmp_path / "moved", "config.json", elsewhere), digits)
    assert "different data" not in page.text
    assert "On the Pareto front (" in page.text

    def of_more_steps(summary: Any) -> None:
        summary["evaluation_attack"]["steps"] = 50

    page = page_about(copy_of(first, tmp_path / "longer", "summary.json", of_more_steps), digits)
    assert "Not all robust accuracies were measured by the same attack" in page.text
    assert "On the Pareto front (" not in page.text


def test_runs_of_before_new_options_are_of_the_same_group(root: Path, tmp_path: Path) -> None:
    def older(config: Any) -> None:
        options = config["options"]
        del options["schedules_by"], options["data"]["skip_unreadable"]
        del options["eval"]["best_clean"], options["placement"], options["model"]["options"]
        for learner in options["learners"].values():
            del learner["optimizer"], learner["beta2"]
        options["steps"] = float(options["steps"])
        del config["resolved"]["shards"]

    def other(config: Any) -> None:
        config["options"]["eval"]["best_clean"] = 50.0
        config["options"]["learners"]["natural"]["optimizer"] = "adamw"
        config["options"]["placement"]["mode"] = "shared"
        config["resolved"]["shards"] = 2

    first = root / "runs" / "first"
    old = copy_of(first, tmp_path / "old", "config.json", older)
    new = copy_of(first, tmp_path / "new", "config.json", other)
    page = page_about(old, first)
    assert len(page.tables["groups"]) == 1 + 1
    assert "differing" not in page.tables
    for one in (old, first):
        rows = page_about(one, new).tables["differing"][1:]
        assert rows == [
            ["eval.best_clean", "0.0", "50"],
            ["learners.natural.optimizer", "sgd", "adamw"],
            ["shards (resolved)", "1", "2"],
        ]
