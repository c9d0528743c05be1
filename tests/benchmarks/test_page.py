"""The page of an experiment, from what its runs left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.experiments import PARALLEL, SERIAL, experiment, limited
from comparison.matching import Accuracy, Match
from comparison.page import write_page
from comparison.results import Costs, Found, Outcome, Run
from recorded import NAMES, RECORDED, recorded

PNG = b"\x89PNG"


def tables(page: str) -> set[str]:
    return {line for line in page.splitlines() if line.startswith("| ")}


@pytest.mark.parametrize("name", NAMES)
def test_recorded_figures_come_to_the_recorded_tables(tmp_path: Path, name: str) -> None:
    """Two pages say how many runs each row has, which pages of today do not."""
    there, page = RECORDED / name, (RECORDED / name / "page.md").read_text()
    made = tables(write_page(recorded(name), tmp_path, "", ""))
    if "| seeds |" not in page:
        assert made <= tables(page)
    assert json.loads((tmp_path / "table.json").read_text()) == json.loads(
        (there / "table.json").read_text()
    )
    (plot,) = tmp_path.glob("*.png") if (there / "trade-off.png").exists() else (None,)
    assert plot is None or plot.read_bytes().startswith(PNG)


def outcome_of(name: str, seeds: int = 2, **accuracies: float) -> Outcome:
    """An outcome with made-up figures: seconds 90 in serial, 60 in parallel, and 80."""
    found = experiment(name)
    about = {"versions": {"torch": "2.9"}, "resolved": {"precision": "bf16"}}
    outcome = Outcome(found, about=about)
    for row in found.rows:
        for seed in range(seeds):
            seconds = {SERIAL: 90.0, PARALLEL: 60.0}.get(row.key, 80.0) + seed
            accuracy = {"nat": 99.0 + seed / 2, **accuracies}
            figures = {"train_seconds": seconds, "wall_seconds": seconds + 10, **accuracy}
            images = dict.fromkeys(accuracy, 360)
            weights = f"zipper{seed}" if "zipper" in row.key else row.key
            outcome.runs.append(Run(row, seed, Path()))
            outcome.found.append(Found(row.key, seed, figures, images, weights))
    return outcome


def page_of(outcome: Outcome, directory: Path) -> str:
    write_page(outcome, directory, "make it", "2 cores, a CPU")
    return (directory / "page.md").read_text()


def test_the_published_comparison(tmp_path: Path) -> None:
    outcome = outcome_of("cifar10", pgd_100=50.0, apgd=45.0)
    outcome.betas = {1.0: Accuracy(99, 40), 3.0: Accuracy(97, 45)}
    outcome.gammas = {0.4: Accuracy(99, 50)}
    outcome.match = Match(beta=1.0, clean=99.1, target=99.0, slack=0.25)
    outcome.costs = Costs(0.01, 0.04, 1500)
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
    ):
        assert wanted in page
    outcome.gammas[0.8] = Accuracy(99, 51)
    outcome.costs = replace(outcome.costs, adversarial=0.0407)  # 61.05 s where 60.5 s are measured
    page = page_of(outcome, tmp_path)
    assert "| 101 % |" in page
    assert "An efficiency above 100 % would show the error of the ideal" in page
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
    assert "| published" not in page
    outcome.match = Match(beta=1.0, clean=99.9, target=99.0, slack=0.25)
    more = "+0.90 points, is the most robust of those that reach Zipper's within 0.25. Not matched"
    assert more in page_of(outcome, tmp_path)


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


def test_figures_of_fewer_images_say_so(tmp_path: Path) -> None:
    outcome = outcome_of("mnist-table", pgd_20=95.0, apgd=93.0, aa=91.0)
    images = {"nat": 10_000, "pgd_20": 10_000, "apgd": 10_000, "aa": 1000}
    outcome.found = [replace(f, images=images) for f in outcome.found]
    page = page_of(outcome, tmp_path)
    assert "on 10,000 test images (AA: the first 1,000), of the network" in page
    outcome.experiment = limited(outcome.experiment, 1000)
    assert "(AA: a random 1,000)" in page_of(outcome, tmp_path)


def test_a_table_of_methods(tmp_path: Path) -> None:
    outcome = outcome_of("mnist-table", pgd_20=95.0, apgd=93.0, aa=91.0)
    page = page_of(outcome, tmp_path)
    assert "| FAT | 99.18 ± 0.03 | 93.54 ± 0.1 | 90.04 ± 0.68 |" in page
    assert "trade-off" not in page
    assert not list(tmp_path.glob("*.png"))
    assert "| FAT | 1 | 99.25 ± 0.35 |" in page
    assert "their times are not for comparing" in page


def test_every_published_table_belongs_to_an_experiment() -> None:
    directory = RECORDED.parents[1] / "comparison" / "published"
    for file in directory.iterdir():
        assert experiment(file.stem).name == file.stem
