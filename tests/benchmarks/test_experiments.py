"""The named experiments, and the commands that their rows come to."""

from __future__ import annotations

import pytest
from comparison.experiments import (
    METHODS,
    Attacks,
    Experiment,
    Images,
    Row,
    experiment,
    limited,
    method_row,
    options,
    trades_row,
    with_beta,
    with_methods,
    zipper_row,
)

from zipper_dist.config.checks import validate
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import TrainConfig
from zipper_dist.data.splits import limited_indices
from zipper_dist.errors import UserError
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.recipes.command_line import parse_train_options
from zipper_dist.recipes.registry import zippers

NAMES = [
    *zippers(),
    *(f"{recipe}-table" for recipe in zippers()),
    *(f"{recipe}-learning-rates" for recipe in zippers()),
    *(f"{recipe}-precision" for recipe in zippers()),
    "mnist-slice",
]


def parsed(found: Experiment, key: str) -> TrainConfig:
    (row,) = (row for row in found.rows if row.key == key)
    return parse_train_options([row.recipe, *(w for p in found.options_of(row) for w in p if w)])


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_a_training_command(name: str) -> None:
    found = experiment(name)
    assert found.name == name
    for row in found.rows:
        validate(parsed(found, row.key))
    assert len({row.key for row in found.rows}) == len(found.rows)


def test_the_published_comparison() -> None:
    found = experiment("cifar10")
    assert [row.key for row in found.rows] == ["trades", "zipper-serial", "zipper-parallel"]
    assert [row.devices for row in found.rows] == [1, 1, 2]
    assert found.attacks[0].names == ("clean", "pgd-100", "apgd-ce")
    assert parsed(found, "zipper-serial").epochs == 120


def test_the_grid_of_learning_rates() -> None:
    found = experiment("cifar10-learning-rates")
    rates = [
        (config.learners["natural"].lr, config.learners["adversarial"].lr)
        for config in (parsed(found, row.key) for row in found.rows)
    ]
    assert rates == [(0.1, 0.01), (0.1, 0.1), (0.1, 0.001), (0.01, 0.01), (0.01, 0.1)]


def test_a_row_takes_the_options_that_it_has_a_use_for() -> None:
    found = with_methods(experiment("mnist-slice"), list(METHODS))
    zipper, trades, natural = (
        parsed(found, key) for key in ("zipper-parallel", "trades", "natural")
    )
    assert zipper.steps == trades.steps == natural.steps == 500
    assert zipper.mix.ema == 0.98
    # One learner is not averaged, as the method has it.
    assert trades.mix.ema == natural.mix.ema == 0
    adversarial = trades.learners["adversarial"]
    assert isinstance(adversarial, TradesConfig)
    assert adversarial.attack.steps == 7
    assert list(natural.learners) == ["natural"]


def test_curves() -> None:
    beta = trades_row("digits", 2.5)
    config = parse_train_options([beta.recipe, *(word for pair in beta.options for word in pair)])
    adversarial = config.learners["adversarial"]
    assert isinstance(adversarial, TradesConfig)
    assert (adversarial.objective, adversarial.beta) == ("trades", 2.5)
    own = Schedule.parse("0:1,0.5:0.9,1:0.4")
    assert zipper_row("cifar10", own, 0.7).options == (("--mix.gamma", "0:1,0.5:0.9,1:0.7"),)
    assert zipper_row("cifar10", own, 0.4).options == ()


def test_a_tuned_row_has_a_directory_for_each_beta() -> None:
    row = with_beta(method_row("trades-ema", "digits"), 2)
    assert row == Row(
        "trades-ema", "TRADES, β = 2 with EMA", "digits-trades",
        (("--learners.adversarial.beta", "2"),), folder="trades-ema-beta2", averaged=True,
    )  # fmt: skip
    assert with_beta(row, 3).folder == "trades-ema-beta3"
    assert trades_row("digits", 3).folder == trades_row("digits", 3).key == "trades-beta3"


@pytest.mark.parametrize("name", ["digits", "mnist-slice"])
def test_methods_with_an_average_of_their_weights_have_zippers_decay(name: str) -> None:
    found = with_methods(experiment(name), ["zipper-serial", "at", "at-ema", "at"])
    assert [row.key for row in found.rows] == ["zipper-serial", "at", "at-ema"]
    assert parsed(found, "at").mix.ema == 0
    assert parsed(found, "at-ema").mix.ema == parsed(found, "zipper-serial").mix.ema > 0
    assert parsed(found, "at-ema").mix.every.amount == 0


def test_autoattack_is_on_the_first_images_unless_these_are_sorted_by_class() -> None:
    assert experiment("mnist-table").attacks[1].images == Images(1000, first=True)
    assert experiment("folder-table").attacks[1].images == Images(1000)


def test_a_limit_holds_for_all_images() -> None:
    first = Images(1000, first=True)
    assert first.at_most(999) == Images().at_most(999) == Images(999)
    # Of the same choice as the others' 1,001, so that all 1,000 are shared.
    assert first.at_most(1001) == Images(1000)
    few, more = (limited_indices(10_000, limit, "test").tolist() for limit in (1000, 1001))
    assert set(few) < set(more)
    names = ("clean", "pgd-20", "apgd-ce", "aa")
    assert limited(experiment("digits-table"), 100).attacks == (Attacks(names, Images(100)),)
    sweep = limited(experiment("digits"), 100).sweep
    assert sweep is not None
    assert sweep.images == Images(100)


def test_precisions_are_rows() -> None:
    found = experiment("mnist-precision")
    assert [parsed(found, key).precision for key in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert {parsed(found, key).compile for key in ("fp32", "bf16")} == {"off"}
    assert parsed(found, "bf16").steps == parsed(experiment("mnist-slice"), "trades").steps


def test_options_as_they_are_typed() -> None:
    assert options([]) == ()
    assert options("--epochs 5 --data.flip --steps 3") == (
        ("--epochs", "5"), ("--data.flip", ""), ("--steps", "3"),
    )  # fmt: skip
    for words in (["5"], ["--epochs", "5", "6"]):
        with pytest.raises(UserError, match="follows no option"):
            options(words)


def test_zipper_is_an_average_already() -> None:
    with pytest.raises(UserError, match="all but Zipper"):
        method_row("zipper-serial-ema", "digits")


def test_names_that_mean_nothing() -> None:
    for name in ("cifar11", "cifar10-tables", "-table", "", "digits-trades"):
        with pytest.raises(UserError, match="unknown experiment"):
            experiment(name)
    with pytest.raises(
        UserError, match="--methods pgd: choose from zipper-serial, zipper-parallel, trades"
    ):
        method_row("pgd", "digits")
    with pytest.raises(UserError, match="does not compare methods"):
        with_methods(experiment("digits-learning-rates"), ["trades"])
