from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import LearnerSteps
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.rng import seed_global_generators
from zipper_dist.training.learner import BaseLearner, ema_decay

STEPS = 8
SEED = 5

NATURAL = NaturalConfig(
    lr=0.1, momentum=0.9, weight_decay=1e-2, schedule=Schedule.parse("0:1,0.5:1,1:0.1")
)
ADVERSARIAL = AtConfig(
    lr=0.05,
    nesterov=True,
    weight_average=0.8,
    attack=AttackConfig(eps=0.1, step_size=0.05, steps=2),
)
PLAIN_SGD = replace(NATURAL, momentum=0.0, weight_decay=0.0)


def network(dropout: float = 0.5) -> nn.Module:
    """A small network with batch normalisation, the same at every call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(5 * 4 * 4, 3),
    )


def batch(t: int) -> Minibatch:
    generator = torch.Generator().manual_seed(t)
    labels = torch.randint(0, 3, (6,), generator=generator)
    return Minibatch(torch.rand(6, 1, 6, 6, generator=generator), labels)


def learner_of(config: LearnerConfig, name: str = "a", dropout: float = 0.5) -> BaseLearner:
    return BaseLearner(LearnerSteps(name, SEED, STEPS), network(dropout), config)


def train(learner: BaseLearner, first: int = 1, last: int = STEPS) -> BaseLearner:
    for t in range(first, last + 1):
        learner.step(batch(t), t)
    return learner


def snapshot(learner: BaseLearner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.tensors().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_average_warms_up() -> None:
    assert [ema_decay(0.999, t) for t in (1, 2, 90)] == [2 / 11, 3 / 12, 91 / 100]
    assert ema_decay(0.5, 7) == 8 / 17
    assert [ema_decay(0.5, t) for t in (8, 9, 10**6)] == [0.5] * 3
    assert ema_decay(0.0, 1) == 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    "config",
    [NATURAL, PLAIN_SGD, replace(NATURAL, nesterov=True)],
    ids=["sgd", "plain", "nesterov"],
)
def test_a_learner_trains_as_torch_does_bit_for_bit(config: LearnerConfig, dropout: float) -> None:
    learner = learner_of(config, dropout=dropout)
    # Channels-last, as weights are in a flat tensor: the layout decides how sums are rounded.
    plain: nn.Module = network(dropout).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        plain.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        foreach=False,
    )
    # Straight lines from 1 at the half to 0.1 at the end.
    rates = [config.lr * (1.0 if t <= 4 else 1 - 0.9 * (t - 4) / 4) for t in range(1, STEPS + 1)]
    for t, rate in enumerate(rates, 1):
        result = learner.step(batch(t), t)
        assert learner.lr(t) == pytest.approx(rate)
        optimizer.param_groups[0]["lr"] = learner.lr(t)
        seed_global_generators(SEED, "modules", "a", t)  # what dropout draws from
        logits = plain(batch(t).images)
        loss = F.cross_entropy(logits, batch(t).labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        assert torch.equal(result.loss, loss)
        assert int(result.correct) == int((logits.argmax(1) == batch(t).labels).sum())
    assert same(plain.state_dict(), learner.state.state_dict())


@pytest.mark.parametrize("config", [NATURAL, ADVERSARIAL], ids=["natural", "adversarial"])
def test_random_draws_do_not_depend_on_the_order_of_the_learners(config: LearnerConfig) -> None:
    found = []
    for order in ((0, 1), (1, 0)):
        learners = [learner_of(config, "one"), learner_of(config, "other")]
        for t in range(1, 4):
            for i in order:
                torch.rand(i + 1)  # whatever else draws in between
                learners[i].step(batch(t), t)
        found.append([learner.state.flat for learner in learners])
    assert all(map(torch.equal, *found))


def test_learners_iterations_and_seeds_draw_differently() -> None:
    def trained(name: str, seed: int, t: int) -> Tensor:
        config = replace(NATURAL, schedule=Schedule(((0.0, 1.0),)))
        learner = BaseLearner(LearnerSteps(name, seed, STEPS), network(), config)
        learner.step(batch(1), t)
        return learner.state.flat

    base = trained("a", 0, 1)
    assert torch.equal(trained("a", 0, 1), base)
    for other in (trained("b", 0, 1), trained("a", 1, 1), trained("a", 0, 2)):
        assert not torch.equal(other, base)


@pytest.mark.parametrize(
    "config",
    [NATURAL, PLAIN_SGD, ADVERSARIAL],
    ids=["natural", "without momentum", "adversarial with average"],
)
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_restored_learner_goes_on_bit_for_bit(config: LearnerConfig, stop: int) -> None:
    interrupted = train(learner_of(config), 1, stop)
    saved = snapshot(interrupted)
    uninterrupted = train(interrupted, stop + 1)

    resumed = learner_of(config)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.add_(1)
    resumed.restore(saved)
    assert same(resumed.tensors(), saved)
    train(resumed, stop + 1)
    assert same(resumed.tensors(), uninterrupted.tensors())


def test_a_learner_can_be_taken_back_to_an_earlier_state() -> None:
    learner = train(learner_of(NATURAL), 1, 3)
    saved = snapshot(learner)
    train(learner, 4)
    end = snapshot(learner)
    learner.restore({name: tensor.clone() for name, tensor in saved.items()})
    assert same(snapshot(train(learner, 4)), end)


def test_what_is_saved_names_all_that_changes() -> None:
    learner = train(learner_of(replace(NATURAL, weight_average=0.5)))
    parameters = len(list(learner.model.parameters()))
    assert set(learner.tensors()) == {
        "theta",
        "average",
        "integer/1.num_batches_tracked",
        *(f"momentum/{i}" for i in range(parameters)),
    }


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_the_weight_average_follows_its_formula(decay: float) -> None:
    learner = learner_of(replace(NATURAL, weight_average=decay))
    average = learner.state.flat.double()
    for t in range(1, STEPS + 1):
        learner.step(batch(t), t)
        alpha = min(decay, (1 + t) / (10 + t))
        average = alpha * average + (1 - alpha) * learner.state.flat.double()
    error = torch.linalg.vector_norm(learner.mixable - average) / torch.linalg.vector_norm(average)
    assert float(error) < 1e-6
    assert torch.equal(learner.mixable, learner.state.flat) == (decay == 0)


def test_a_weight_average_does_not_change_the_training() -> None:
    with_it = train(learner_of(replace(NATURAL, weight_average=0.9)))
    assert torch.equal(with_it.state.flat, train(learner_of(NATURAL)).state.flat)


@pytest.mark.parametrize("weight_average", [0.0, 0.5])
def test_redistribution_sets_the_weights_and_nothing_else(weight_average: float) -> None:
    learner = train(learner_of(replace(NATURAL, weight_average=weight_average)), 1, 4)
    before = snapshot(learner)
    theta = torch.randn_like(learner.state.flat)
    learner.load_global(theta)
    after = learner.tensors()
    expected = dict.fromkeys(["theta", "average"], theta)
    assert same(after, before | {name: expected[name] for name in expected if name in before})
    assert torch.equal(learner.mixable, theta)
    # It is a copy: what is done to the global learner later does not matter.
    kept = theta.clone()
    theta.zero_()
    assert torch.equal(learner.state.flat, kept)
    # And the network trains on from there.
    learner.step(batch(5), 5)
    assert not torch.equal(learner.state.flat, kept)


def test_the_engine_decides_how_the_network_is_run_and_not_what_is_kept() -> None:
    plain = learner_of(NATURAL)
    bf16 = BaseLearner(
        LearnerSteps("a", SEED, STEPS), network(), NATURAL, Acceleration(precision="bf16")
    )
    losses = [learner.step(batch(1), 1).loss for learner in (bf16, plain)]
    assert losses[0] != losses[1]
    assert losses[0].dtype == torch.float32
    assert bf16.state.flat.dtype == torch.float32
    assert list(bf16.state.state_dict()) == list(plain.state.state_dict())
