"""A minibatch in shards: the same step, wherever and in whatever groups the shards are trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from objectives.plain_methods import batch, network, relative_error
from torch import Tensor, nn

from zipper_dist.config.schema import AttackConfig, LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import OBJECTIVES, LearnerSteps, StepContext
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.shards import ShardMean, Shards

pytestmark = pytest.mark.usefixtures("one_thread")

ATTACK = AttackConfig(eps=0.12, step_size=0.05, steps=2)
STEPS = 4
LR = 0.1
ALL_AT_ONCE = ((0, 1, 2, 3),)
GROUPINGS = (((0,), (1,), (2,), (3,)), ((0, 1), (2, 3)), ((3, 0), (2,), (1,)))


def with_dropout() -> nn.Module:
    return nn.Sequential(network(), nn.Dropout(0.2))


def without_batch_norm() -> nn.Module:
    model = network()
    model[1] = nn.Identity()  # type: ignore[operator]
    return model


def learner_of(config: LearnerConfig, shards: Shards, model: nn.Module) -> BaseLearner:
    return BaseLearner(LearnerSteps("a", 3, 9), model, config, shards=shards)


@dataclass
class Trained:
    """Each iteration's loss and right answers, and the state of each process at the end."""

    figures: list[Tensor]
    states: list[dict[str, Tensor]]


def train(learners: Sequence[BaseLearner], minibatches: Sequence[Minibatch]) -> Trained:
    """Train a learner on the processes that have its shards."""
    figures = []
    for t, minibatch in enumerate(minibatches, 1):
        going = [learner.sums(minibatch, t) for learner in learners]
        found: list[Tensor] = []
        while not found:
            buffers = []
            for each in going:
                try:
                    buffers.append(next(each))
                except StopIteration as end:
                    found.append(torch.stack([end.value.loss, end.value.correct]))
            if buffers:  # an all-reduce
                total = torch.stack(buffers).sum(0)
                for buffer in buffers:
                    buffer.copy_(total)
        assert len(found) == len(learners)
        assert all(torch.equal(each, found[0]) for each in found)
        figures.append(found[0])
    return Trained(figures, [learner.tensors() for learner in learners])


@pytest.mark.parametrize("awp", [0.0, 0.02])
@pytest.mark.parametrize(
    "objective", ["natural", "at", "trades", "fat", "mart", "score", "nfgsm", "ikl", "hat", "lbgat"]
)
def test_grouping_and_order_change_no_bit(objective: str, awp: float) -> None:
    kind: Any = OBJECTIVES[objective].Config
    options: dict[str, Any] = {"attack": ATTACK, "awp": awp} if objective != "natural" else {}
    config = kind(lr=LR, weight_average=0.5, **options)
    minibatches = [batch(network(), t) for t in range(STEPS)]

    def trained(grouping: Sequence[tuple[int, ...]]) -> Trained:
        return train(
            [learner_of(config, Shards(4, m), with_dropout()) for m in grouping], minibatches
        )

    wanted = trained(ALL_AT_ONCE)
    for grouping in GROUPINGS:
        found = trained(grouping)
        assert all(map(torch.equal, found.figures, wanted.figures))
        for state in found.states:
            assert state.keys() == wanted.states[0].keys()
            assert all(torch.equal(state[name], wanted.states[0][name]) for name in state)


def test_shards_are_not_the_whole_minibatch_where_there_is_batch_norm() -> None:
    minibatches = [batch(network(), 0)]
    one, two = (
        train([learner_of(NaturalConfig(lr=LR), shards, network())], minibatches).states[0]["theta"]
        for shards in (Shards(), Shards(2, (0, 1)))
    )
    assert not torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_without_batch_norm_the_gradient_is_that_of_the_whole_minibatch(count: int) -> None:
    config = NaturalConfig(lr=LR, momentum=0.0, weight_decay=0.0)
    minibatch, model = batch(network(), 0), without_batch_norm()
    plain = copy.deepcopy(model).double()
    learner = learner_of(config, Shards(count, tuple(range(count))), model)
    result = train([learner], [minibatch])
    logits = plain(minibatch.images.double())
    loss = F.cross_entropy(logits, minibatch.labels)
    torch.autograd.backward(loss)
    wanted = []
    for parameter in plain.parameters():
        assert parameter.grad is not None
        wanted.append(parameter.detach() - LR * parameter.grad)
    assert relative_error([p.detach() for p in model.parameters()], wanted) < 1e-6
    assert float(result.figures[0][0]) == pytest.approx(loss.item(), rel=1e-6)
    assert int(result.figures[0][1]) == int((logits.argmax(1) == minibatch.labels).sum())


def test_two_shards_are_what_a_plain_implementation_makes_of_them() -> None:
    """Attack, gradient and statistics of each half by itself, then their means; in float64."""
    config = AtConfig(lr=LR, momentum=0.0, weight_decay=0.0, attack=ATTACK)
    minibatch, model = batch(network(), 0), network()
    plain = [copy.deepcopy(model) for _ in range(2)]
    learner = learner_of(config, Shards(2, (0, 1)), model)
    attacked = [
        learner.objective.perturb(half, StepContext(3, "a", 1, 1 / 9, shard))
        for shard, half in Shards(2, (0, 1)).of(minibatch)
    ]
    train([learner], [minibatch])
    labels = minibatch.labels.view(2, 4)
    for half, images, own in zip(plain, attacked, labels, strict=True):
        loss = F.cross_entropy(half.double()(images.double()), own)
        torch.autograd.backward(loss)
    for name, parameter in network().named_parameters():
        gradients = [half.get_parameter(name).grad for half in plain]
        assert gradients[0] is not None
        assert gradients[1] is not None
        wanted = parameter.detach().double() - LR * (gradients[0] + gradients[1]) / 2
        torch.testing.assert_close(
            model.get_parameter(name).detach().double(), wanted, atol=1e-6, rtol=1e-5
        )
    for name in ("1.running_mean", "1.running_var"):
        mean = (plain[0].get_buffer(name) + plain[1].get_buffer(name)) / 2
        torch.testing.assert_close(model.get_buffer(name).double(), mean, atol=1e-6, rtol=1e-5)
    assert int(model.get_buffer("1.num_batches_tracked")) == 1


def test_each_shard_has_draws_of_its_own() -> None:
    same = batch(network(), 0, size=4)
    twice = Minibatch(torch.cat([same.images] * 2), torch.cat([same.labels] * 2))
    learner = learner_of(AtConfig(attack=ATTACK), Shards(2, (0, 1)), network())
    images = [
        learner.objective.perturb(half, StepContext(3, "a", 1, 0.5, shard))
        for shard, half in Shards(2, (0, 1)).of(twice)
    ]
    assert not torch.equal(*images)


def test_a_parameter_without_gradient_stays_where_it_is() -> None:
    model = network()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    config = NaturalConfig(lr=LR, weight_decay=0.1)
    train([learner_of(config, Shards(2, (0, 1)), model)], [batch(network(), 0)])
    assert torch.equal(model.get_parameter("unused"), torch.ones(3))


numbers = st.floats(2.0**-14, 2.0**12, width=32).flatmap(lambda v: st.sampled_from([v, -v, 0.0]))


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=8), st.randoms())
def test_sums_in_any_order_and_grouping_are_equal(values: list[list[float]], random: Any) -> None:
    tensors = [torch.tensor(each) for each in values]

    def summed(groups: Sequence[Sequence[Tensor]]) -> Tensor:
        means = [ShardMean([torch.empty(3)], len(values)) for _ in groups]
        for mean, group in zip(means, groups, strict=True):
            for tensor in group:
                mean.add([tensor])
        for mean in means[1:]:
            means[0].buffer.add_(mean.buffer)
        result = torch.empty(3)
        means[0].copy_to([result])
        return result

    wanted = summed([tensors])
    shuffled = random.sample(tensors, len(tensors))
    cut = random.randrange(len(tensors) + 1)
    assert torch.equal(summed([shuffled[:cut], shuffled[cut:]]), wanted)
