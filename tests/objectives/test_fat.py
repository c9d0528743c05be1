from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from objectives.plain_methods import (
    FP32,
    Path,
    attacked_by,
    batch,
    climb,
    cross_entropy,
    friendly,
    gradients,
    network,
    relative_error,
)
from zipper_dist.accel.frozen import frozen_eval_mode
from zipper_dist.accel.precision import Acceleration, AttackedNetwork
from zipper_dist.attacks import FriendlyPGD, make_ball
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import AttackConfig
from zipper_dist.config.threat import Norm
from zipper_dist.data import Minibatch
from zipper_dist.objectives import StepContext, make_objective
from zipper_dist.objectives.fat import Fat, FatConfig

SEED = 18
STEPS = 6
ATTACKS: dict[Norm, AttackConfig] = {
    "linf": AttackConfig(norm="linf", eps=0.12, step_size=0.03, steps=STEPS),
    "l2": AttackConfig(norm="l2", eps=0.5, step_size=0.15, steps=STEPS),
}


def config_of(norm: Norm = "linf", tau: str = "1", smoothing: float = 0.0) -> FatConfig:
    return FatConfig(
        tau=Schedule.parse(tau),
        label_smoothing=smoothing,
        attack=ATTACKS[norm],
    )


def starts(minibatch: Minibatch, attack: AttackConfig) -> Tensor:
    draws = StepContext(1, "a", 3, 0.5).generator(torch.device("cpu"), "pgd-start")
    return make_ball(attack.norm, minibatch.images, attack.eps).random_start(draws)


def plain_attack(
    model: nn.Module, minibatch: Minibatch, attack: AttackConfig, tau: int, begin: Tensor
) -> list[Path]:
    paths = []
    for i in range(len(begin)):
        label = minibatch.labels[i : i + 1]
        paths.append(
            climb(
                model,
                minibatch.images[i : i + 1],
                begin[i : i + 1],
                lambda logits, label=label: cross_entropy(logits, label),  # type: ignore[misc]
                friendly(label, tau),
                attack.norm,
                attack.eps,
                attack.step_size,
                attack.steps,
            )
        )
    return paths


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("tau", [0, 1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("fixed_shape", [False, True])
def test_loss_and_gradient_are_those_of_a_plain_implementation(
    norm: Norm, tau: int, smoothing: float, fixed_shape: bool
) -> None:
    model = network()
    plain = copy.deepcopy(model)
    minibatch = batch(model, SEED)
    view = FP32.attacked_network(model)
    view.fixed_shape = fixed_shape
    objective = make_objective(config_of(norm, str(tau), smoothing), lambda: view)
    paths = plain_attack(plain, minibatch, ATTACKS[norm], tau, starts(minibatch, ATTACKS[norm]))
    wanted = torch.cat([path.end for path in paths])
    # Or a rounding error could turn a pixel the other way.
    assert min(path.flattest for path in paths) > 1e-4

    images = attacked_by(objective, model, minibatch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-5)
    loss, logits = objective.loss(model, minibatch, images)
    plain_logits = plain(wanted)
    plainly = cross_entropy(plain_logits, minibatch.labels, smoothing)
    assert loss.item() == pytest.approx(plainly.item(), rel=1e-5)
    assert relative_error(gradients(loss, model), gradients(plainly, plain)) < 1e-5
    torch.testing.assert_close(logits, plain_logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_images_compared_stop_at_the_start_on_the_way_and_never(norm: Norm) -> None:
    model = network()
    minibatch = batch(model, SEED)
    begin = starts(minibatch, ATTACKS[norm])
    steps = [
        len(path.points) - 1 for path in plain_attack(model, minibatch, ATTACKS[norm], 0, begin)
    ]
    assert 0 in steps
    assert any(0 < count < STEPS for count in steps)
    assert STEPS in steps
    # And the edge of the ball is reached: with more room, some images would have gone further.
    ends, freer = (
        torch.cat([p.end for p in plain_attack(model, minibatch, attack, 3, begin)])
        for attack in (ATTACKS[norm], replace(ATTACKS[norm], eps=2 * ATTACKS[norm].eps))
    )
    assert int(((ends - freer).flatten(1).abs().amax(1) > 0.02).sum()) >= 3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 2**32),
    size=st.integers(1, 9),
    tau=st.integers(0, 8),
    steps=st.integers(0, 7),
    eps=st.floats(0.01, 0.6),
    relative_step=st.floats(0.05, 2),
    fixed_shape=st.booleans(),
)
def test_any_tau_is_what_a_plain_implementation_does(
    norm: Norm,
    seed: int,
    size: int,
    tau: int,
    steps: int,
    eps: float,
    relative_step: float,
    fixed_shape: bool,
) -> None:
    # In float64 (but for the loss), where a rounding error hardly ever turns a pixel the other way;
    # and always with the same examples, as "hardly ever" is not never.
    model = network(seed).double()
    single = batch(network(seed), seed, size)
    minibatch = Minibatch(single.images.double(), single.labels)
    attack = AttackConfig(norm=norm, eps=eps, step_size=relative_step * eps, steps=steps)
    begin = starts(minibatch, attack)
    with frozen_eval_mode(copy.deepcopy(model)) as still:
        friendly_pgd = FriendlyPGD.of(attack, tau=tau, fixed_shape=fixed_shape)
        found = friendly_pgd.from_start(still, minibatch.images, minibatch.labels, begin)
    paths = plain_attack(model, minibatch, attack, tau, begin)
    torch.testing.assert_close(found, torch.cat([p.end for p in paths]), rtol=0, atol=1e-6)


class Counting(nn.Module):
    """Counts the images that are put through it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        logits: Tensor = self.model(images)
        return logits


@pytest.mark.parametrize("tau", [0, 1])
def test_no_work_is_done_for_images_that_have_stopped(tau: int) -> None:
    model = network()
    minibatch = batch(model, SEED)
    lengths = [
        len(path.points)
        for path in plain_attack(
            model, minibatch, ATTACKS["linf"], tau, starts(minibatch, ATTACKS["linf"])
        )
    ]
    counting = Counting(model)
    sizes = {}
    for fixed_shape in (False, True):
        counting.sizes.clear()
        view = AttackedNetwork(counting, None, fixed_shape)
        attacked_by(make_objective(config_of(tau=str(tau)), lambda: view), model, minibatch)  # noqa: B023
        sizes[fixed_shape] = list(counting.sizes)
    # It takes a pass to see that an image is to stop, and no more.
    assert sizes[False] == [sum(n > k for n in lengths) for k in range(STEPS)]
    assert sizes[False][-1] < len(lengths)
    assert sizes[True] == [len(lengths)] * STEPS


@pytest.mark.parametrize("fixed_shape", [False, True])
def test_the_attack_ends_when_all_images_have_stopped(fixed_shape: bool) -> None:
    model = network()
    right = batch(model, SEED)
    wrong = Minibatch(right.images[1:], (right.labels[1:] + 1) % 4)
    counting = Counting(model)
    view = AttackedNetwork(counting, None, fixed_shape)
    attack = replace(ATTACKS["linf"], random_start=False)
    config = replace(config_of(tau="0"), attack=attack)
    images = attacked_by(
        make_objective(config, lambda: view), model, Minibatch(wrong.images[1:], wrong.labels[1:])
    )
    assert counting.sizes == [len(images)]
    assert torch.equal(images, wrong.images[1:])


@given(
    points=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    progress=st.floats(0, 1),
)
def test_tau_is_the_schedule_rounded_down(points: list[int], progress: float) -> None:
    schedule = Schedule(tuple((i / 5, float(value)) for i, value in enumerate(points)))
    config = replace(config_of(), tau=schedule)
    objective = make_objective(config, lambda: FP32.attacked_network(network()))
    assert isinstance(objective, Fat)
    tau = objective.tau_at(progress)
    assert tau - 1e-6 <= schedule(progress) < tau + 1
    for i, value in enumerate(points):
        assert objective.tau_at(i / 5) == value


def test_tau_is_0_1_2_and_3_in_the_quarters_of_a_run() -> None:
    config = FatConfig()
    objective = make_objective(config, lambda: FP32.attacked_network(network()))
    assert isinstance(objective, Fat)
    total = 360
    found = [objective.tau_at(t / total) for t in range(total + 1)]
    assert found == [min(3, 4 * t // total) for t in range(total + 1)]


def test_a_compiled_network_keeps_its_shape() -> None:
    model = network()
    assert Acceleration("fp32", compiled=True).attacked_network(model).fixed_shape
    assert not Acceleration("bf16").attacked_network(model).fixed_shape
