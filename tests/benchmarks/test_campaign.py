"""What a comparison does, in which order, and what it has shown, without running it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from comparison.campaign import Campaign
from comparison.commands import Settings
from comparison.devices import Devices
from comparison.experiments import (
    METHODS,
    Attacks,
    Images,
    Options,
    experiment,
    with_methods,
)
from comparison.jobs import Runner
from comparison.results import Run
from rich.console import Console

from zipper_dist.checkpoint.options import as_json
from zipper_dist.errors import UserError


def campaign(
    directory: Path,
    *methods: str,
    extra: Options = (),
    name: str = "mnist-slice",
) -> Campaign:
    found = with_methods(experiment(name), methods)
    found = replace(found, options=(*found.options, *extra))
    runner = Runner(Devices("cpu", ("0", "1")), Console(quiet=True))
    return Campaign(found, Settings(directory, seeds=2), runner)


def test_all_networks_are_attacked_alike_whatever_they_were_trained_for(tmp_path: Path) -> None:
    methods = [method for method in METHODS if method != "zipper-parallel"]
    made = campaign(tmp_path, *methods)
    commands = set()
    for row in made.experiment.rows:
        run = Run(row, 0, tmp_path / row.key)
        run.directory.mkdir()
        run.weights.write_bytes(row.key.encode())
        (job,) = made.commands.evaluations([run], [Attacks(("clean", "pgd-20"))])
        argv = job.make(("0",)).argv
        commands.add(argv[argv.index("--norm") : argv.index("--out")])
    assert commands == {("--norm", "linf", "--eps", "0.2")}


def left(directory: Path, attacks: list[str], right: list[str]) -> None:
    """What an evaluation leaves: ``right`` has a 1 for each attack, an image each."""
    directory.mkdir(parents=True)
    columns = zip(attacks, zip(*right, strict=True), strict=True)
    figures = {
        name: {"accuracy": 100 * column.count("1") / len(column), "n": len(column)}
        for name, column in columns
    }
    (directory / "evaluation.json").write_text(json.dumps({"attacks": figures}))


def test_the_first_images_are_another_evaluation_than_as_many_others(tmp_path: Path) -> None:
    made = campaign(tmp_path, "trades", name="digits-table")
    run = Run(made.experiment.rows[0], 0, tmp_path)
    run.weights.write_bytes(b"")
    attacks = [Attacks((name,), Images(10, name == "aa")) for name in ("clean", "aa")]
    random, first = made.commands.evaluations([run], attacks)
    assert random.make(("0",)).argv[-6:-4] == ("--limit", "10")
    argv = first.make(("0",)).argv
    assert argv[-6:-4] == ("--first", "10")
    directory = Path(argv[argv.index("--out") + 1])
    assert directory.name == "first-10-images-normlinf-eps0.17"
    left(directory, ["aa", "clean"], ["11", "01"])
    run.summary.write_text("{}")
    found = made.commands.found(run, attacks)
    assert (found.figures, found.images) == ({"aa": 50.0}, {"aa": 2})
    other = directory.with_name("10-images-normlinf-eps0.17")
    left(other, ["clean"], ["1", "0", "0"])
    found = made.commands.found(run, attacks)
    assert found.images == {"nat": 3, "aa": 2}


@pytest.mark.parametrize("name", ["digits-table", "mnist-slice"])
def test_the_runs_of_all_seeds_are_checked_before_anything_runs(tmp_path: Path, name: str) -> None:
    """Before the curves, too, that the second of these begins with."""
    made = campaign(tmp_path, "trades", "zipper-serial", name=name)
    last = made.commands.run("runs", made.experiment.rows[1], 1)
    last.directory.mkdir(parents=True)
    other = as_json(made.commands.config_of(made.experiment.rows[0]))
    (last.directory / "config.json").write_text(json.dumps({"options": other}))
    with pytest.raises(UserError, match="zipper-serial-seed1 holds a run with other options"):
        made.carry_out()
    made.collect()
    assert made.outcome.found == []
    assert not list(tmp_path.rglob("*.log"))


def test_without_zipper_or_trades_nothing_is_tuned(tmp_path: Path) -> None:
    assert len(campaign(tmp_path, "natural", "at").rows()) == 2
    assert len(campaign(tmp_path, "zipper-serial", "at").rows()) == 2
    assert len(campaign(tmp_path, "zipper-serial", "trades").rows()) == 2 + 2 + 2


def test_the_zipper_of_the_curve_is_that_of_the_table(tmp_path: Path) -> None:
    made = campaign(tmp_path, "zipper-serial", "trades", extra=(("--mix.gamma", "0:1,1:0.3"),))
    serial, _, own, *_ = made.rows()
    assert own.key == "zipper-gamma0.3"
    assert made.commands.config_of(own) == made.commands.config_of(serial)
