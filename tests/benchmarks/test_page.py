"""The page of an experiment, from what its runs left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison.experiments import BASELINE, PARALLEL, SERIAL, experiment
from comparison.matching import Accuracy, Match
from comparison.page import print_summary, write_page
from comparison.results import Costs, Found, Outcome, Run, Shared
from recorded import NAMES, RECORDED, recorded
from rich.console import Console

PNG = b"\x89PNG"


@pytest.mark.parametrize("name", NAMES)
def test_recorded_pages_are_made_again(tmp_path: Path, name: str) -> None:
    outcome, command, machine = recorded(name)
    write_page(outcome, tmp_path, command, machine)
    there = RECORDED / name
    assert (tmp_path / "page.md").read_text() == (there / "page.md").read_text()
    for file in ("table.json", "outcome.json"):
        made = json.loads((tmp_path / file).read_text())
        assert made == json.loads((there / file).read_text())
    plots = {plot.name for plot in there.glob("*.png")}
    assert {plot.name for plot in tmp_path.glob("*.png")} == plots
    assert all((tmp_path / plot).read_bytes().startswith(PNG) for plot in plots)


def outcome_of(name: str, seeds: int = 2, **accuracies: float) -> Outcome:
    """An outcome with made-up figures: seconds 90 in serial, 60 in parallel, and 80."""
    found = experiment(name)
    about = {
        "options": {"learners": {"adversarial": {"attack": {"steps": 7}}}},
        "versions": {"torch": "2.9"},
        "resolved": {"precision": "bf16"},
    }
    outcome = Outcome(found, about=about)
    ranks = [
        {"learners": ["natural"], "wait_seconds": 5.0, "syncs": 4},
        {"learners": ["adversarial"], "wait_seconds": 0.5, "syncs": 4},
    ]
    for row in found.rows:
        for seed in range(seeds):
            seconds = {SERIAL: 90.0, PARALLEL: 60.0}.get(row.key, 80.0) + seed
            accuracy = {"nat": 99.0 + seed / 2, **accuracies}
            figures = {"train_seconds": seconds, "wall_seconds": seconds + 10, **accuracy}
            images = dict.fromkeys(accuracy, 360)
            weights = f"zipper{seed}" if "zipper" in row.key else row.key
            outcome.runs.append(Run(row, seed, Path()))
            outcome.found.append(Found(row.key, seed, figures, images, {"ranks": ranks}, weights))
    return outcome


def page_of(outcome: Outcome, directory: Path) -> str:
    write_page(outcome, directory, "make it", "2 cores, a CPU")
    return (directory / "page.md").read_text()


def test_the_published_comparison(tmp_path: Path) -> None:
    outcome = outcome_of("cifar10", pgd_100=50.0, apgd=45.0)
    outcome.betas = {1.0: Accuracy(99, 40), 3.0: Accuracy(97, 45)}
    outcome.gammas = {0.4: Accuracy(99, 50)}
    outcome.match = Match(beta=1.0, clean=99.1, target=99.0, slack=0.25)
    outcome.costs = Costs(0.01, 0.04, 1500, sync_seconds=0.002, sync_bytes=3_000_000)
    page = page_of(outcome, tmp_path)
    for wanted in (
        "Made by `make it`, 2 seeds. 2 cores, a CPU; torch 2.9; training in bf16",
        "| Zipper (serial) | 1 | 99.25 ± 0.35 | 50.00 ± 0.00 | 45.00 ± 0.00 | 90.5 ± 0.7 |",
        "| Zipper (parallel) | 89.09 | 50.00 | 46.53 | 342 |",
        "of β = 1, 3, β = 1 with 99.10 %, +0.10 points, is the most robust of those that reach",
        "the last value of Zipper's γ, seed 0",
        # 1500 iterations of 50 ms and of 40 ms.
        "| serial | 75.0 | 90.5 ± 0.7 | 83 % |",
        "| parallel | 60.0 | 60.5 ± 0.7 | 99 % |",
        "imply a ratio of 0.80: natural training is 20 % of a serial",
        "the rank of the natural learner 5.0 s",
        "3.00 MB and takes 2.0 ms by itself; the run has 4",
    ):
        assert wanted in page
    assert "An efficiency above 100 %" not in page
    outcome.gammas[0.8] = Accuracy(99, 51)
    outcome.costs = replace(outcome.costs, adversarial=0.0407)  # 61.05 s where 60.5 s are measured
    page = page_of(outcome, tmp_path)
    assert "| 101 % |" in page
    assert "An efficiency above 100 % shows the error of the ideal" in page
    assert "several last values of Zipper's γ, seed 0" in page


def test_what_does_not_hold_is_said(tmp_path: Path) -> None:
    outcome = outcome_of("digits", seeds=1, pgd_100=50.0, apgd=45.0)
    outcome.found[-1] = replace(outcome.found[-1], weights="others")
    outcome.betas = {1.0: Accuracy(97, 40)}
    outcome.gammas = {0.5: Accuracy(99, 50)}
    outcome.match = Match(beta=1.0, clean=97.0, target=99.0, slack=0.25)
    page = page_of(outcome, tmp_path)
    assert "β = 1 with 97.00 %, 2.00 points less, is the most accurate: none reaches" in page
    assert "DIFFER, and should not." in page
    assert "One seed: nothing is known of the spread" in page
    assert "| published" not in page
    outcome.match = Match(beta=1.0, clean=99.9, target=99.0, slack=0.25)
    more = "0.90 points more, is the most robust of those that reach Zipper's: not matched"
    assert more in page_of(outcome, tmp_path)


def test_methods_of_fewer_runs_and_attacks_on_fewer_networks(tmp_path: Path) -> None:
    outcome = outcome_of("digits-table", pgd_20=95.0, apgd=93.0)
    outcome.found = [
        replace(found, figures=found.figures | ({"aa": 91.0} if found.seed == 0 else {}))
        for found in outcome.found
        if found.row == SERIAL or found.seed == 0
    ]
    outcome.found.reverse()
    page = page_of(outcome, tmp_path)
    assert "| method | devices | seeds | NAT | PGD-20 | APGD | AA |" in page
    serial = "| Zipper (serial) | 1 | 2 | 99.25 ± 0.35 | 95.00 ± 0.00 | 93.00 ± 0.00 | "
    assert f"{serial}91.00 (of 1) |" in page
    assert "| FAT | 1 | 1 | 99.00 | 95.00 | 93.00 | 91.00 |" in page
    table = json.loads((tmp_path / "table.json").read_text())
    assert table[SERIAL]["aa"] == {"mean": 91.0, "std": None, "n": 1}
    assert table[SERIAL]["seeds"] == 2


def test_what_an_interruption_left(tmp_path: Path) -> None:
    outcome = outcome_of("digits-table", seeds=1, pgd_20=95.0, apgd=93.0)
    assert "Not complete" not in page_of(outcome, tmp_path)
    *others, natural = outcome.found
    seconds = {"train_seconds": 80.0, "wall_seconds": 90.0}
    outcome.found = [*others, replace(natural, figures=seconds, images={})]
    outcome.missing = ["FAT, seed 1", "aa on AT, seed 0"]
    page = page_of(outcome, tmp_path)
    missing = "it still has to make: FAT, seed 1; aa on AT, seed 0."
    assert missing in page
    assert "| NT | 1 | – | – | – | 80.0 | 90.0 |" in page
    printed = Console(width=200, record=True, quiet=False)
    print_summary(outcome, printed)
    assert missing in printed.export_text()
    assert json.loads((tmp_path / "outcome.json").read_text())["missing"] == outcome.missing
    outcome.found = [replace(found, figures=seconds, images={}) for found in outcome.found]
    assert "in per cent on no test image yet, of the network" in page_of(outcome, tmp_path)


def test_serial_and_parallel_are_compared_by_the_seeds_that_both_have(tmp_path: Path) -> None:
    outcome = outcome_of("digits", seeds=2, pgd_100=50.0, apgd=45.0)
    outcome.found = [f for f in outcome.found if f.row != PARALLEL or f.seed == 0]
    outcome.costs = Costs(0.01, 0.04, 1500)
    page = page_of(outcome, tmp_path)
    assert "the same weights, bit for bit, in serial and in parallel (seed 0)." in page
    # 60 s to 90 s by the seed that both have, and not to 90.5 s.
    assert "Parallel over serial: 0.67 of the training time" in page
    outcome.found = [f for f in outcome.found if f.row != SERIAL or f.seed == 1]
    page = page_of(outcome, tmp_path)
    assert "Parallel over serial" not in page
    assert "bit for bit" not in page


def test_figures_of_fewer_images_stand_beside_the_others_on_the_same(tmp_path: Path) -> None:
    outcome = outcome_of("mnist-table", pgd_20=95.0, apgd=93.0, aa=91.0)
    images = {"nat": 10_000, "pgd_20": 10_000, "apgd": 10_000, "aa": 1000}
    shared = {"nat": 98.0, "pgd_20": 94.0, "apgd": 92.0, "aa": 91.0}
    outcome.found = [
        replace(f, images=images, first=frozenset({"aa"}), shared=Shared(1000, shared))
        for f in outcome.found
    ]
    outcome.found[0] = replace(outcome.found[0], shared=None)
    page = page_of(outcome, tmp_path)
    assert "on 10,000 test images (AA: the first 1,000), of the network" in page
    # 1.96 √(0.91 · 0.09 / 1000)
    assert "AA is of the first 1,000 of the images. A random choice of so many is off by" in page
    assert "by up to 1.8 points (95 %) from all of them" in page
    assert "| method | networks | images | NAT | PGD-20 | APGD | AA |" in page
    assert "| Zipper (serial) | 1 | 1,000 | 98.00 | 94.00 | 92.00 | 91.00 |" in page
    assert "| FAT | 2 | 1,000 | 98.00 ± 0.00 |" in page
    runs = json.loads((tmp_path / "outcome.json").read_text())["runs"]
    assert runs[0]["on_first_images"] == ["aa"]
    assert runs[0]["on_shared_images"] is None
    assert runs[1]["on_shared_images"] == {"images": 1000, "accuracy": shared}
    outcome.found = [replace(f, first=frozenset()) for f in outcome.found]
    page = page_of(outcome, tmp_path)
    assert "(AA: 1,000)" in page
    assert "AA is of 1,000 of the images, chosen at random and the same for every" in page


def test_a_zipper_that_redistributed_nothing_is_named(tmp_path: Path) -> None:
    outcome = outcome_of("mnist-table")
    remark = "\n\nZipper (serial) has not redistributed anything: --mix.start"
    assert remark not in page_of(outcome, tmp_path)
    counted: dict[str, int | None] = {SERIAL: 0, BASELINE: None, "at": 3}
    outcome.found = [
        replace(f, summary={"redistributions": counted.get(f.row)}) for f in outcome.found
    ]
    page = page_of(outcome, tmp_path)
    assert page.count("has not redistributed anything") == 1
    assert remark in page


def test_a_table_of_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = outcome_of("mnist-table", pgd_20=95.0, apgd=93.0, aa=91.0)
    page = page_of(outcome, tmp_path)
    assert "| FAT | 99.18 ± 0.03 | 93.54 ± 0.1 | 90.04 ± 0.68 |" in page
    assert "trade-off" not in page
    assert not list(tmp_path.glob("*.png"))
    print_summary(outcome, Console(width=120))
    shown = capsys.readouterr().out
    assert "FAT" in shown
    assert "99.25 ± 0.35" in shown
    assert "their times are not for comparing" in shown


def test_every_published_table_belongs_to_an_experiment() -> None:
    directory = RECORDED.parents[1] / "comparison" / "published"
    for file in directory.iterdir():
        assert experiment(file.stem).name == file.stem


def test_results_for_programs_have_all_that_was_measured(tmp_path: Path) -> None:
    page_of(outcome_of("digits", pgd_100=50.0, apgd=45.0), tmp_path)
    outcome: dict[str, Any] = json.loads((tmp_path / "outcome.json").read_text())
    assert set(outcome["runs"][0]) == {
        "row", "seed", "nat", "pgd_100", "apgd", "train_seconds", "wall_seconds", "images",
        "on_first_images", "on_shared_images", "weights",
    }  # fmt: skip
    assert outcome["costs"] is outcome["match"] is None
