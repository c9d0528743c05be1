"""The published settings, typed in once more from where they are published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zipper_dist.config.schedules import Curve, Schedule
from zipper_dist.config.schema import AttackConfig, AttackedLearnerConfig, TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes.registry import RECIPES, recipe
from zipper_dist.training.step_plan import StepPlan

PUBLISHED = ["cifar10", "cifar10-wrn32"]
LIKE_CIFAR10 = ["cifar10", "cifar100", "svhn", "folder"]
ZIPPERS = ["cifar10", "cifar10-wrn32", "cifar100", "digits", "folder", "mnist", "svhn"]


def attack_of(config: TrainConfig) -> AttackConfig:
    learner = config.learners["adversarial"]
    assert isinstance(learner, AttackedLearnerConfig)
    return learner.attack


def values(schedule: Schedule | Curve, *progress: float) -> list[float]:
    return [schedule(at) for at in progress]


def test_the_recipes_of_the_documentation_exist() -> None:
    names = {"digits", "mnist", "cifar10", "cifar100", "svhn", "cifar10-wrn32", "folder"}
    assert names <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_knows_its_name_and_has_an_own_copy(name: str) -> None:
    assert recipe(name).recipe == name
    assert recipe(name) == recipe(name)
    # The learners are a dict, which could be changed.
    assert recipe(name).learners is not recipe(name).learners


@pytest.mark.parametrize(
    "name",
    [
        "",
        "imagenet",
        "CIFAR10",
        "cifar10-",
        "cifar10-wrn32-",
        "digits-zipper",
        "digits-at-at",
        "-at",
    ],
)
def test_an_unknown_recipe_is_named_and_so_are_the_known_ones(name: str) -> None:
    with pytest.raises(UserError) as raised:
        recipe(name)
    message = str(raised.value)
    assert repr(name) in message
    assert all(known in message for known in RECIPES)
    assert "\n" not in message


def test_the_networks() -> None:
    archs = {name: recipe(name).model.arch for name in RECIPES}
    assert archs["cifar10-wrn32"] == "wrn32_10"
    assert archs["mnist"] == "small_cnn"
    assert {archs[name] for name in LIKE_CIFAR10} == {"resnet18"}
    published = ["mnist", "cifar10-wrn32", *LIKE_CIFAR10]
    assert {recipe(name).model.width for name in published} == {1.0}


@pytest.mark.parametrize("name", PUBLISHED)
def test_cifar10_data_and_length(name: str) -> None:
    config = recipe(name)
    assert config.epochs == 120
    assert config.steps is None
    assert config.batch_size == 128
    assert config.data.source == "cifar10"
    assert config.data.crop_padding == 4
    assert config.data.flip


@pytest.mark.parametrize(
    ("name", "learner", "lr", "weight_decay"),
    [
        ("cifar10", "natural", 0.1, 5e-4),
        ("cifar10", "adversarial", 0.01, 3.5e-3),
        ("cifar10-wrn32", "natural", 0.1, 5e-4),
        ("cifar10-wrn32", "adversarial", 0.1, 7e-4),
    ],
)
def test_cifar10_optimizers(name: str, learner: str, lr: float, weight_decay: float) -> None:
    options = recipe(name).learners[learner]
    assert (options.lr, options.weight_decay, options.momentum) == (lr, weight_decay, 0.9)
    assert not options.nesterov
    assert options.weight_average == 0


@pytest.mark.parametrize(("name", "end"), [("cifar10", 0.01), ("cifar10-wrn32", 0.05)])
@pytest.mark.parametrize("learner", ["natural", "adversarial"])
def test_cifar10_learning_rates_fall_in_thirds(name: str, end: float, learner: str) -> None:
    schedule = recipe(name).learners[learner].schedule
    found = values(schedule, 0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)
    wanted = [1, 1, 1, 0.55, 0.1, (0.1 + end) / 2, end]
    assert found == pytest.approx(wanted, abs=5e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cifar10_gamma_falls_in_the_last_third(name: str) -> None:
    found = values(recipe(name).mix.gamma, 0, 1 / 3, 2 / 3, 5 / 6, 1)
    assert found == pytest.approx([1, 1, 1, 0.7, 0.4], abs=5e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cifar10_redistribution_is_from_epoch_75_every_5(name: str) -> None:
    config = recipe(name)
    assert config.mix.ema == 0.999
    steps_per_epoch = 390
    timetable = StepPlan.of(config, steps_per_epoch)
    times = [t for t in range(120 * steps_per_epoch + 1) if timetable.redistributes_at(t)]
    assert times == [epoch * steps_per_epoch for epoch in range(75, 120, 5)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_cifar10_attack(name: str) -> None:
    attack = attack_of(recipe(name))
    assert attack.norm == "linf"
    assert attack.eps == 8 / 255
    assert attack.step_size == 0.007
    assert attack.steps == 10
    assert attack.random_start
    assert values(attack.schedule, 0, 0.5, 1) == [1, 1, 1]
    # Evaluation: PGD-20 at step 0.003.
    assert recipe(name).eval.attack_steps == 20
    assert recipe(name).eval.step_size == 0.003


@pytest.mark.parametrize("name", ["cifar100", "svhn", "folder"])
def test_the_cifar10_setting_serves_other_data(name: str) -> None:
    config, cifar10 = recipe(name), recipe("cifar10")
    assert config.data.source == name
    assert config.learners == cifar10.learners
    assert config.mix == cifar10.mix
    assert config.eval == cifar10.eval
    # Images of the user's own may be few.
    batch_size = None if name == "folder" else cifar10.batch_size
    assert (config.epochs, config.batch_size) == (cifar10.epochs, batch_size)
    # A mirrored digit is no digit.
    assert config.data.flip == (name != "svhn")


def test_mnist_network_and_attack_are_as_published() -> None:
    config = recipe("mnist")
    attack = attack_of(config)
    assert (attack.norm, attack.eps, attack.step_size, attack.steps) == ("linf", 0.3, 0.01, 40)
    assert config.batch_size == 128
    assert {learner.momentum for learner in config.learners.values()} == {0.9}
    assert not config.data.flip
    assert config.data.crop_padding == 0


def test_digits_is_the_default() -> None:
    assert TrainConfig().recipe == "digits"
    assert recipe("digits").data.source == "digits"


@pytest.mark.parametrize("name", ZIPPERS)
def test_learners_are_natural_and_adversarial_in_that_order(name: str) -> None:
    learners = recipe(name).learners
    assert list(learners) == ["natural", "adversarial"]
    assert [learner.objective for learner in learners.values()] == ["natural", "at"]


# The epochs of the recipe, between redistributions and before the first one.
EPOCHS = {"digits": (18, 4, 10), "mnist": (20, 1, 12)}


@pytest.mark.parametrize("name", ZIPPERS)
@pytest.mark.parametrize("steps_per_epoch", [1, 20, 27, 390, 460, 469, 1407])
def test_redistribution_is_at_the_epochs_it_is_known_by(name: str, steps_per_epoch: int) -> None:
    total, every, start = EPOCHS.get(name, (120, 5, 75))
    plan = StepPlan.of(recipe(name), steps_per_epoch)
    assert plan.total_steps == total * steps_per_epoch
    assert plan.mix_every == every * steps_per_epoch
    assert plan.mix_start == start * steps_per_epoch


@pytest.mark.parametrize("name", ZIPPERS)
def test_a_shortened_run_keeps_its_shape(name: str) -> None:
    whole, short = (StepPlan.of(replace(recipe(name), steps=n), 390) for n in (None, 720))
    assert short.mix_start == pytest.approx(720 * whole.mix_start / whole.total_steps, abs=0.5)
    assert whole.redistributions is not None
    assert short.redistributions is not None
    assert abs(short.redistributions - whole.redistributions) <= 1
