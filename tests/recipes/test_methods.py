"""The methods' published settings, typed in once more from where they are published."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from zipper_dist.accel.precision import AttackedNetwork
from zipper_dist.config.checks import validate
from zipper_dist.config.schedules import Schedule, epochs, iterations, progress_at
from zipper_dist.config.schema import (
    AttackConfig,
    LearnerConfig,
    TrainConfig,
)
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.objectives import OBJECTIVES
from zipper_dist.objectives.fat import Fat
from zipper_dist.recipes.methods import falling
from zipper_dist.recipes.methods.released import released
from zipper_dist.recipes.registry import METHODS, RECIPES, choices, recipe
from zipper_dist.training.step_plan import StepPlan

ONE_STEP = {"rsfgsm": (1.25, 15), "nfgsm": (1.0, 30)}  # length of the step [radii], epochs
GUIDED = ("hat", "lbgat")
ROOT = Path(__file__).parents[2]
GOWAL = "cifar10-wrn32-gowal"
ZIPPERS = [name for name in RECIPES if name != GOWAL]
ZIPPER_TOO = (*GUIDED, "multinorm", "finetune", "released")
ONE_LEARNER = [method for method in METHODS if method not in ZIPPER_TOO]
NAMES = [f"{base}-{method}" for base, method in itertools.product(ZIPPERS, ONE_LEARNER)]
EPS = {"digits": 0.17, "mnist": 0.3}
LIKE_CIFAR10 = [name for name in ZIPPERS if name not in EPS]


def only_learner(config: TrainConfig) -> LearnerConfig:
    (learner,) = config.learners.values()
    return learner


def adversarial(config: TrainConfig) -> Any:
    learner = config.learners["adversarial"]
    assert isinstance(learner, OBJECTIVES[learner.objective].Config)
    return learner


def rates(name: str, epochs: int, *at: float) -> list[float]:
    """The learning rate after so many epochs of ``epochs``."""
    learner = only_learner(recipe(name))
    return [learner.lr * learner.schedule(epoch / epochs) for epoch in at]


@pytest.mark.parametrize("name", [*NAMES, GOWAL])
def test_a_method_trains_one_learner_that_is_its_own_global_learner(name: str) -> None:
    config = recipe(name)
    validate(config)
    assert config.recipe == name
    assert recipe(name) == recipe(name)
    assert len(config.learners) == 1
    assert config.mix.every.amount == 0
    assert config.mix.ema == (0.995 if name == GOWAL else 0)


@pytest.mark.parametrize("base", ZIPPERS)
def test_data_network_attack_and_length_are_zippers(base: str) -> None:
    zipper = recipe(base)
    for method in ONE_LEARNER:
        config = recipe(f"{base}-{method}")
        assert (config.data, config.model) == (zipper.data, zipper.model)
        assert config.batch_size == zipper.batch_size
        if method not in ONE_STEP or base not in LIKE_CIFAR10:
            assert config.epochs == zipper.epochs
        assert config.threats() == zipper.threats()
        assert config.eval.attack_steps == zipper.eval.attack_steps
        assert config.eval.step_size == zipper.eval.step_size
        if method == "natural":
            assert config.learners == {"natural": zipper.learners["natural"]}
        else:
            assert adversarial(config).objective == method
            attack = adversarial(zipper).attack
            if method in ONE_STEP:
                attack = replace(attack, steps=1, step_size=ONE_STEP[method][0] * attack.eps)
            published = method == "ikl" and base in LIKE_CIFAR10
            if published:
                attack = replace(attack, schedule=Schedule.parse("0:0,1:1"))
            assert adversarial(config).attack == attack
            assert adversarial(config).awp == (0.005 if published else 0)


@pytest.mark.parametrize("base", ZIPPERS)
def test_natural_training_is_evaluated_at_the_radius_of_its_data(base: str) -> None:
    (attack,) = recipe(f"{base}-natural").threats()
    assert attack.norm == "linf"
    assert attack.eps == EPS.get(base, 8 / 255)
    assert attack.eps != AttackConfig().eps or base in LIKE_CIFAR10


@pytest.mark.parametrize("base", ZIPPERS)
def test_at_is_zippers_adversarial_learner_alone(base: str) -> None:
    assert recipe(f"{base}-at").learners == {"adversarial": recipe(base).learners["adversarial"]}


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_trades_on_cifar10(base: str) -> None:
    learner = adversarial(recipe(f"{base}-trades"))
    assert (learner.beta, learner.weight_decay, learner.momentum) == (6.0, 2e-4, 0.9)
    found = rates(f"{base}-trades", 120, 0, 74.9, 75, 89.9, 90, 99.9, 100, 120)
    assert found == pytest.approx([0.1, 0.1, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


def test_trades_on_mnist() -> None:
    learner = adversarial(recipe("mnist-trades"))
    assert (learner.beta, learner.weight_decay, learner.momentum) == (1.0, 0.0, 0.9)
    found = rates("mnist-trades", 100, 0, 54.9, 55, 74.9, 75, 89.9, 90, 100)
    # Published is 0.01, for five times as many epochs.
    assert found == pytest.approx([0.05 * x for x in (1, 1, 0.1, 0.1, 1e-2, 1e-2, 1e-3, 1e-3)])


@pytest.mark.parametrize("method", ["at", "trades", "fat", "mart"])
def test_mnist_has_a_ramp_of_the_radius(method: str) -> None:
    ramp = adversarial(recipe(f"mnist-{method}")).attack.schedule
    assert ramp(0) <= 0.1
    assert ramp(1) == 1


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_fat_on_cifar10(base: str) -> None:
    learner = adversarial(recipe(f"{base}-fat"))
    assert learner.weight_decay == 2e-4
    assert learner.tau is not None
    steps = [int(learner.tau(epoch / 120)) for epoch in (0, 49.9, 50.1, 89.9, 90, 120)]
    assert steps == [0, 0, 1, 1, 2, 2]
    found = rates(f"{base}-fat", 120, 59.9, 60, 89.9, 90, 109.9, 110, 120)
    assert found == pytest.approx([0.1, 1e-2, 1e-2, 1e-3, 1e-3, 5e-4, 5e-4])


@pytest.mark.parametrize(
    ("base", "lr", "weight_decay"), [("cifar10", 0.01, 3.5e-3), ("cifar10-wrn32", 0.1, 7e-4)]
)
def test_mart_on_cifar10(base: str, lr: float, weight_decay: float) -> None:
    learner = adversarial(recipe(f"{base}-mart"))
    assert (learner.beta, learner.weight_decay) == (5.0, weight_decay)
    found = rates(f"{base}-mart", 120, 74.9, 75, 89.9, 90, 99.9, 100)
    assert found == pytest.approx([lr, lr / 10, lr / 10, lr / 100, lr / 100, lr / 1000])


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_score_on_cifar10(base: str) -> None:
    learner = adversarial(recipe(f"{base}-score"))
    assert (learner.beta, learner.clip, learner.label_smoothing) == (6.0, 0.3, 0.0)
    assert (learner.weight_decay, learner.momentum) == (5e-4, 0.9)
    found = rates(f"{base}-score", 110, 0, 99.9, 100, 104.9, 105, 110)
    assert found == pytest.approx([0.05, 0.05, 5e-3, 5e-3, 5e-4, 5e-4])


@pytest.mark.parametrize("base", LIKE_CIFAR10)
@pytest.mark.parametrize("method", ONE_STEP)
def test_one_step_on_cifar10(base: str, method: str) -> None:
    config = recipe(f"{base}-{method}")
    learner = adversarial(config)
    length, epochs = ONE_STEP[method]
    assert (learner.attack.eps, learner.attack.steps) == (8 / 255, 1)
    assert learner.attack.step_size == pytest.approx(length * 8 / 255)
    assert getattr(learner, "noise", 2.0) == 2.0
    assert (config.epochs, learner.weight_decay, learner.momentum) == (epochs, 5e-4, 0.9)
    found = rates(f"{base}-{method}", 30, 0, 7.5, 15, 22.5, 30)
    assert found == pytest.approx([0, 0.1, 0.2, 0.1, 0])


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_ikl_on_cifar10(base: str) -> None:
    learner = adversarial(recipe(f"{base}-ikl"))
    assert (learner.alpha, learner.beta, learner.temperature) == (4.0, 20.0, 4.0)
    assert (learner.weight_decay, learner.momentum, learner.label_smoothing) == (5e-4, 0.9, 0.0)
    found = rates(f"{base}-ikl", 200, 0, 50, 100, 200)
    assert found == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0])


@pytest.mark.parametrize("base", ZIPPERS)
@pytest.mark.parametrize("method", GUIDED)
def test_guided_learners_have_a_natural_one_that_is_not_mixed(base: str, method: str) -> None:
    zipper, config = recipe(base), recipe(f"{base}-{method}")
    validate(config)
    assert list(config.learners) == ["natural", "adversarial"]
    learner = adversarial(config)
    assert (learner.objective, learner.guide) == (method, "natural")
    assert learner.attack == adversarial(zipper).attack
    assert (config.mix.every.amount, config.mix.ema) == (0, 0)
    assert {config.mix.gamma(at) for at in (0, 0.5, 1)} == {1}
    if base not in LIKE_CIFAR10:
        assert config.learners["natural"] == zipper.learners["natural"]


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_hat_on_cifar10(base: str) -> None:
    learner = adversarial(recipe(f"{base}-hat"))
    assert (learner.beta, learner.gamma, learner.h) == (2.5, 0.5, 2.0)
    for each in recipe(f"{base}-hat").learners.values():
        assert (each.lr, each.weight_decay, each.momentum) == (0.21, 5e-4, 0.9)
        assert each.nesterov
        found = [each.schedule(at) for at in (0, 0.25, 1)]
        assert found == pytest.approx([1 / 25, 1, 1 / 250_000])


@pytest.mark.parametrize("base", LIKE_CIFAR10)
def test_lbgat_on_cifar10(base: str) -> None:
    assert adversarial(recipe(f"{base}-lbgat")).beta == 0
    for each in recipe(f"{base}-lbgat").learners.values():
        assert (each.weight_decay, each.momentum, each.nesterov) == (2e-4, 0.9, False)
        found = [each.lr * each.schedule(epoch / 100) for epoch in (0, 74.9, 75, 89.9, 90, 100)]
        assert found == pytest.approx([0.1, 0.1, 1e-2, 1e-2, 1e-3, 1e-3])


@pytest.mark.parametrize(
    ("method", "drops"),
    [
        ("trades", {75: 0.1, 90: 0.01, 100: 0.001}),
        ("mart", {75: 0.1, 90: 0.01, 100: 0.001}),
        ("fat", {60: 0.1, 90: 0.01, 110: 0.005}),
    ],
)
@pytest.mark.parametrize("per_epoch", [1, 7, 390])
def test_by_epoch_rates_fall_when_the_authors_code_says(
    method: str, drops: dict[int, float], per_epoch: int
) -> None:
    """At the beginning of these epochs, counted from 1."""
    schedule = only_learner(recipe(f"cifar10-{method}")).schedule
    for t in range(1, 120 * per_epoch + 1):
        epoch = -(-t // per_epoch)
        wanted = next((drops[at] for at in sorted(drops)[::-1] if epoch >= at), 1.0)
        found = schedule(progress_at(t, 120 * per_epoch, per_epoch))
        assert found == pytest.approx(wanted, rel=1e-9), epoch


def test_by_epoch_tau_grows_after_the_epochs_of_the_authors_code() -> None:
    (command,) = re.findall(r"tau (0:\S+)", (ROOT / "docs" / "released.md").read_text())
    config = replace(adversarial(recipe("cifar10-fat")), tau=Schedule.parse(command))
    fat = Fat(config, lambda: AttackedNetwork(nn.Identity(), None))
    for epoch in range(1, 121):
        wanted = 0 if epoch <= 50 else 1 if epoch <= 90 else 2
        assert fat.tau_at(progress_at(390 * epoch - 1, 390 * 120, 390)) == wanted, epoch


@pytest.mark.parametrize(("base", "l2"), [("digits", 0.8), ("mnist", 2.0), ("cifar10", 0.5)])
def test_several_norms_at_once(base: str, l2: float) -> None:
    zipper, config = recipe(base), recipe(f"{base}-multinorm")
    validate(config)
    assert list(config.learners) == ["natural", "linf", "l2"]
    assert config.learners["natural"] == zipper.learners["natural"]
    assert config.learners["linf"] == zipper.learners["adversarial"]
    assert config.threats() == (*zipper.threats(), ThreatModel("l2", l2))
    attack = config.learners["l2"].attack  # type: ignore[attr-defined]
    assert attack.step_size == pytest.approx(2.5 * l2 / attack.steps)
    weights, gamma = config.mix.weights, zipper.mix.gamma
    for progress in (0, 0.3, 0.62, 0.8, 1):
        found = [weights[name](progress) for name in config.learners]
        half = gamma(progress) / 2
        assert found == pytest.approx([1 - gamma(progress), half, half])


@pytest.mark.parametrize("base", ["folder", "cifar10"])
def test_fine_tuning_is_short_and_gentle_and_mixes_half_and_half(base: str) -> None:
    zipper, config = recipe(base), recipe(f"{base}-finetune")
    validate(config)
    assert (config.data, config.epochs) == (zipper.data, 10)
    assert (config.model.arch, config.model.weights) == (
        "torchvision:resnet18",
        "torchvision:DEFAULT",
    )
    assert config.model.normalise == "auto"
    assert {config.mix.gamma(at) for at in (0, 0.3, 1)} == {0.5}
    for name, learner in config.learners.items():
        assert learner.lr == pytest.approx(zipper.learners[name].lr / 10)
        assert [learner.schedule(at) for at in (0, 0.05, 1)] == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(
    ("base", "lr", "end", "decays"),
    [("cifar10", 0.01, 0.01, (5e-4, 3.5e-3)), ("cifar10-wrn32", 0.1, 0.05, (5e-4, 7e-4))],
)
def test_zipper_as_released(base: str, lr: float, end: float, decays: tuple[float, float]) -> None:
    zipper, config = recipe(base), recipe(f"{base}-released")
    validate(config)
    assert config.recipe == f"{base}-released"
    assert (config.model, config.epochs, config.batch_size) == (zipper.model, 120, 128)
    assert config.schedules_by == "epoch"
    assert (config.mix.gamma, config.mix.ema) == (zipper.mix.gamma, 0.999)
    assert config.mix.first_count == 0
    assert adversarial(config).attack == adversarial(zipper).attack
    assert list(config.learners) == ["natural", "adversarial"]
    for learner, decay in zip(config.learners.values(), decays, strict=True):
        assert (learner.lr, learner.weight_decay, learner.momentum) == (lr, decay, 0.9)
        assert (learner.weight_average, learner.keep_average) == (0.999, True)
        found = [learner.schedule(at) for at in (0, 1 / 3, 1 / 2, 2 / 3, 1)]
        assert found == pytest.approx([1, 1, 0.55, 0.1, end], abs=5e-6)
    assert (config.data.validation, config.eval.best_clean) == ("test", 88.0)
    plan = StepPlan.of(config, 390)
    assert plan.validate_every == 390
    times = {t for t in range(1, 120 * 390 + 1) if plan.redistributes_at(t)}
    wanted = {t for t in range(1, 120 * 390) if -(-t // 390) in range(75, 121, 5)}
    assert times == wanted
    assert len(times) == 3899


@pytest.mark.parametrize("base", ["digits", "mnist", "svhn", "folder"])
def test_other_data_as_released_choose_as_before(base: str) -> None:
    zipper, config = recipe(base), recipe(f"{base}-released")
    validate(config)
    assert (config.data, config.eval) == (zipper.data, zipper.eval)
    for per_epoch in (1, 20, 390):
        before, plan = (StepPlan.of(each, per_epoch) for each in (zipper, config))
        last = before.total_steps
        ends = [t for t in range(last) if before.redistributes_at(t)]
        times = [t for t in range(last) if plan.redistributes_at(t)]
        # Where an interval is an epoch, as for MNIST, the end of the epoch before is one, too.
        first = ends[0] - per_epoch + (0 if base == "mnist" else 1)
        assert times[0] == first
        assert set(ends) <= set(times)
        assert all(-(-t // per_epoch) * per_epoch % plan.mix_every == 0 for t in times)


def test_the_first_window_begins_an_epoch_before_whatever_the_unit() -> None:
    base = recipe("cifar10")
    starts = []
    for start in (base.mix.start, epochs(75)):
        config = released(replace(base, mix=replace(base.mix, start=start)))
        starts.append(StepPlan.of(config, 390).mix_start)
    assert starts == [74 * 390, 74 * 390]
    with pytest.raises(UserError, match=r"has mix\.start 500: give it in epochs"):
        released(replace(base, mix=replace(base.mix, start=iterations(500))))


def test_the_recipe_of_gowal_et_al() -> None:
    config = recipe(GOWAL)
    learner = adversarial(config)
    assert (config.model.arch, config.model.activation) == ("wrn32_10", "silu")
    assert (config.batch_size, learner.lr) == (512, 0.1 * 512 / 256)
    assert (learner.objective, learner.beta) == ("trades", 6.0)
    assert (learner.weight_decay, learner.momentum, learner.nesterov) == (5e-4, 0.9, True)
    assert rates(GOWAL, 4, 1.99, 2, 2.99, 3, 4) == pytest.approx([0.2, 0.02, 0.02, 0.002, 0.002])
    assert (learner.attack.eps, learner.attack.steps) == (8 / 255, 10)


def test_a_staircase_holds_its_values_between_its_drops() -> None:
    schedule = falling((0.25, 0.5), (0.75, 0.1))
    found = [schedule(at) for at in (0, 0.2, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1)]
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.1, 0.1]


def test_the_methods_are_named_where_a_recipe_is_unknown() -> None:
    with pytest.raises(UserError) as raised:
        recipe("digits-sgd")
    assert choices() in str(raised.value)
    assert all(f"-{method}" in choices() for method in METHODS)
    assert GOWAL in choices()
