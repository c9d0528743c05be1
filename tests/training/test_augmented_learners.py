"""Learners and objectives on augmented minibatches, labels that are mixtures among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.test_learner import ADVERSARIAL, NATURAL, SEED, STEPS, batch, network
from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.data import Augment, DataConfig
from zipper_dist.config.schema import AttackConfig, LearnerConfig, TrainConfig
from zipper_dist.data import Minibatch
from zipper_dist.data.minibatches import Augmenter
from zipper_dist.errors import UserError
from zipper_dist.objectives import OBJECTIVES, LearnerSteps, make_objective
from zipper_dist.objectives.fat import FatConfig
from zipper_dist.objectives.ikl import IklConfig
from zipper_dist.objectives.mart import MartConfig
from zipper_dist.objectives.score import ScoreConfig
from zipper_dist.objectives.trades import TradesConfig
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.shards import Shards
from zipper_dist.training.setup.augmenting import augmenters, check_augmentations

MIXED = ("mixup", "cutmix")
ATTACK = AttackConfig(eps=0.1, step_size=0.05, steps=2)
TRADES = TradesConfig(attack=ATTACK, beta=2.0)
SCORE, IKL = ScoreConfig(attack=ATTACK), IklConfig(attack=ATTACK)


def config_of(learner: LearnerConfig, everyone: str = "none", own: str = "none") -> TrainConfig:
    data = DataConfig(augment=Augment.parse(everyone))
    learners = {"a": replace(learner, augment=Augment.parse(own)), "b": learner}
    return TrainConfig(seed=SEED, data=data, learners=learners)


def mixed(t: int = 1) -> Minibatch:
    return Augmenter(["mixup"], "--data.augment", 3, SEED)(batch(t), t)


def learner_of(
    config: LearnerConfig, *augment: Augmenter, shards: Shards = Shards()
) -> BaseLearner:
    steps = LearnerSteps("a", SEED, STEPS)
    return BaseLearner(steps, network(0.0), config, Acceleration(), shards, augment)


def plain_loss(logits: Tensor, shares: Tensor, smoothing: float) -> Tensor:
    """The cross-entropy of smoothed shares, image by image and class by class."""
    losses = []
    for row, share in zip(logits.double(), shares.double(), strict=True):
        target = share * (1 - smoothing) + smoothing / len(row)
        losses.append(-(target * (row - row.exp().sum().log())).sum())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    "kind", [NATURAL, ADVERSARIAL, replace(TRADES, beta=0.0), replace(IKL, alpha=0.0, beta=0.0)]
)
def test_the_loss_on_mixtures(kind: LearnerConfig, smoothing: float) -> None:
    model, minibatch = network(0.0), mixed()
    assert minibatch.labels.shape == (6, 3)
    config = replace(kind, label_smoothing=smoothing)  # type: ignore[call-arg]
    assert config.takes_mixtures
    objective = make_objective(config, lambda: Acceleration().attacked_network(model))
    images = objective.perturb(minibatch, LearnerSteps("a", SEED, STEPS).at(1))
    assert torch.equal(images, minibatch.images) == (kind is NATURAL)
    loss, _ = objective.loss(model, minibatch, images)
    given = images if kind is ADVERSARIAL else minibatch.images
    wanted = plain_loss(model(given), minibatch.labels, smoothing)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_attack_on_mixtures_ascends_their_loss() -> None:
    model, minibatch = network(0.0), mixed()
    config = replace(ADVERSARIAL, attack=replace(ATTACK, random_start=False, steps=1))
    objective = make_objective(config, lambda: Acceleration().attacked_network(model))
    images = objective.perturb(minibatch, LearnerSteps("a", SEED, STEPS).at(1))
    x = minibatch.images.clone().requires_grad_()
    model.eval()
    (gradient,) = torch.autograd.grad(plain_loss(model(x), minibatch.labels, 0.0), x)
    wanted = (minibatch.images + 0.05 * gradient.sign()).clamp(0, 1)
    assert (images - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", [NATURAL, ADVERSARIAL, TRADES, SCORE, IKL])
def test_mixtures_train_in_every_precision(config: LearnerConfig, precision: str) -> None:
    learner = BaseLearner(
        LearnerSteps("a", SEED, STEPS), network(), config,
        Acceleration("bf16" if precision == "bf16" else "fp32"),
        augmenters=augmenters(config_of(config, "mixup,cutmix"), "a", 3),
    )  # fmt: skip
    before = learner.state.flat.clone()
    for t in (1, 2, 3):
        result = learner.step(batch(t), t)
        assert 0 <= result.correct <= 6
        assert torch.isfinite(result.loss)
    assert not torch.equal(before, learner.state.flat)


def test_a_right_answer_is_the_class_with_the_largest_share() -> None:
    learner, minibatch = learner_of(NATURAL), mixed()
    model = network(0.0)
    with torch.no_grad():
        logits = model(minibatch.images)
    right = (logits.argmax(1) == minibatch.labels.argmax(1)).sum()
    assert learner.step(minibatch, 1).correct == right


def test_a_learner_trains_on_what_its_augmenters_make() -> None:
    config = config_of(NATURAL, "crop,erase", "flip")
    augment = augmenters(config, "a", 3)
    one = learner_of(config.learners["a"], *augment)
    other = learner_of(config.learners["a"])
    for t in range(1, 5):
        one.step(batch(t), t)
        # The loader has cropped for all learners.
        everyone = Augmenter(["erase"], "", 3, SEED)(batch(t), t)
        other.step(Augmenter(["flip"], "", 3, SEED, "a")(everyone, t), t)
    assert torch.equal(one.state.flat, other.state.flat)


def test_draws_for_all_learners_are_the_same_and_draws_for_one_are_its_own() -> None:
    shared = [augmenters(config_of(NATURAL, "mixup,erase"), name, 3) for name in ("a", "b")]
    images = [each[0](batch(1), 1).images for each in shared]
    assert torch.equal(*images)
    config = config_of(NATURAL, "crop,flip", "erase")
    assert augmenters(config, "b", 3) == ()
    (own,) = augmenters(config, "a", 3)
    assert not torch.equal(
        own(batch(1), 1).images, Augmenter(["erase"], "", 3, SEED)(batch(1), 1).images
    )


def test_shards_are_cut_from_one_augmented_minibatch() -> None:
    augment = augmenters(config_of(NATURAL, "cutmix,mixup"), "a", 3)
    together = learner_of(NATURAL, *augment, shards=Shards(2, (0, 1)))
    together.step(batch(1), 1)
    apart = [learner_of(NATURAL, *augment, shards=Shards(2, (number,))) for number in (0, 1)]
    sums = [learner.sums(batch(1), 1) for learner in apart]
    buffers = [next(each) for each in sums]
    total = buffers[0] + buffers[1]
    for each, buffer in zip(sums, buffers, strict=True):
        buffer.copy_(total)
        with pytest.raises(StopIteration):
            next(each)
    for learner in apart:
        assert torch.equal(learner.state.flat, together.state.flat)


def test_who_takes_mixtures() -> None:
    refusing = {name for name, kind in OBJECTIVES.items() if not kind.Config.takes_mixtures}
    assert refusing == {"fat", "mart"}


@pytest.mark.parametrize("kind", [FatConfig(), MartConfig()])
@pytest.mark.parametrize("name", MIXED)
def test_objectives_that_take_one_class_an_image(kind: LearnerConfig, name: str) -> None:
    check_augmentations(config_of(kind, "crop,flip", "erase,randaugment"))
    said = (
        f"augment flip,{name}: {name} mixes images, and their labels; a trains by {kind.objective},"
    )
    with pytest.raises(UserError, match=f"--data.{said} which takes one class an image"):
        check_augmentations(config_of(kind, f"flip,{name}"))
    with pytest.raises(UserError, match=f"--learners.a.{said}"):
        check_augmentations(config_of(kind, "none", f"flip,{name}"))
    check_augmentations(config_of(NATURAL, name, "cutmix,mixup"))


def test_unknown_names_are_found_before_the_data_is_read() -> None:
    with pytest.raises(UserError, match=r"--learners.a.augment flap: unknown augmentation"):
        check_augmentations(config_of(NATURAL, "none", "flap"))


def test_the_plain_loss_is_that_of_torch() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    plainly = plain_loss(logits, torch.eye(3)[labels], 0.1)
    assert plainly.item() == pytest.approx(
        F.cross_entropy(logits, labels, label_smoothing=0.1).item()
    )


def test_the_squared_errors_of_mixtures() -> None:
    model, minibatch = network(0.0), mixed()
    config = replace(SCORE, beta=0.0)
    objective = make_objective(config, lambda: Acceleration().attacked_network(model))
    loss, _ = objective.loss(model, minibatch, minibatch.images)
    p = model(minibatch.images).double().exp()
    p = p / p.sum(1, keepdim=True)
    wanted = ((p - minibatch.labels.double()) ** 2).sum(1).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
