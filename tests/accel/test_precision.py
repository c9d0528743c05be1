"""The engine takes the same trajectory as code written plainly, and keeps precisions apart."""

from __future__ import annotations

import pytest
import torch
from reference import PlainOptions, Reference
from torch import Tensor, nn

from zipper_dist.accel.precision import Acceleration, resolve_precision
from zipper_dist.config.schema import AttackConfig
from zipper_dist.data import ImageSet, Loader, Minibatch
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build
from zipper_dist.objectives import LearnerSteps
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.rng import generator_at
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.mixing import Mixer

SEED, STEPS = 3, 30
CPU = torch.device("cpu")
ATTACK = AttackConfig(eps=8 / 255, step_size=0.007, steps=3)


def batches() -> Loader:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 4
    noise = torch.randint(0, 128, (96, 1, 16, 16), generator=generator, dtype=torch.uint8)
    images = noise + (labels * 40).to(torch.uint8)[:, None, None, None]
    return Loader(ImageSet(images, labels), 32, SEED)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build(ModelSpec("resnet18", 1, 16, 16, 4, 0.125))


def start_of(batch: Minibatch, attack: AttackConfig, t: int) -> Tensor:
    """Where the adversarial learner's attack starts in iteration ``t``, not yet cut to [0, 1]."""
    generator = generator_at(CPU, SEED, "pgd-start", "adversarial", t)
    noise = torch.empty(batch.images.shape).uniform_(-attack.eps, attack.eps, generator=generator)
    return batch.images + noise


def test_every_iteration_of_the_engine_is_that_of_plain_code() -> None:
    """Losses of both learners, and the global learner, over tens of iterations in fp32.

    The sign in the attack turns a rounding error of one pixel's gradient into a whole step, and
    training amplifies that; so the learners begin each iteration with the plain code's weights.
    """
    options = PlainOptions(ATTACK, (0.001, 0.0005), (5e-4, 1e-3), gamma=0.5, decay=0.99)
    reference = Reference(network(), options)
    configs = {
        "natural": NaturalConfig(lr=0.001, weight_decay=5e-4),
        "adversarial": AtConfig(lr=0.0005, weight_decay=1e-3, attack=ATTACK),
    }
    learners = [BaseLearner(LearnerSteps(n, SEED, STEPS), network(), c) for n, c in configs.items()]
    theta = FlatState(network())
    weights = {"natural": 0.5, "adversarial": 0.5}
    mixer = Mixer(theta.flat, list(configs), "natural", lambda t: weights, 0.99)
    loader = batches()
    first = 0.0
    for t in range(1, STEPS + 1):
        batch = loader.minibatch(t)
        for learner, plain_network in zip(
            learners, (reference.natural, reference.adversarial), strict=True
        ):
            learner.state.model.load_state_dict(plain_network.state_dict())
        start = start_of(batch, ATTACK, t)
        plain = reference.step(batch.images, batch.labels, t, start)
        ours = [float(learner.step(batch, t).loss) for learner in learners]
        mixer.accumulate(t, {learner.name: learner.mixable for learner in learners})
        assert ours == pytest.approx(plain, rel=1e-3), t
        first = first or sum(ours)
    assert sum(ours) < 0.8 * first  # it is a trajectory, and not a standstill
    theta.flat.copy_(mixer.total(mixer.shares()))
    for name, tensor in reference.average.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(theta.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)


def smooth_network() -> nn.Module:
    """ResNet-18 with SiLU: no kinks."""
    torch.manual_seed(0)
    return build(ModelSpec("resnet18", 1, 16, 16, 4, 0.125, "silu"))


def test_the_engine_left_alone_stays_on_the_trajectory_of_plain_code() -> None:
    """Thirty iterations of Zipper without a common start, sign and random start and all, in fp32.

    A network without kinks does not amplify rounding as ReLU does: the two drift apart by some 1e-6
    in this, and by a hundredth within ten iterations with ReLU.
    """
    attack = AttackConfig(eps=8 / 255, step_size=0.007, steps=5)
    options = PlainOptions(attack, (0.001, 0.0005), (5e-4, 1e-3), gamma=0.5, decay=0.99)
    plain = Reference(smooth_network(), options)
    configs = {
        "natural": NaturalConfig(lr=0.001, weight_decay=5e-4),
        "adversarial": AtConfig(lr=0.0005, weight_decay=1e-3, attack=attack),
    }
    learners = [
        BaseLearner(LearnerSteps(n, SEED, STEPS), smooth_network(), c) for n, c in configs.items()
    ]
    theta = FlatState(smooth_network())
    weights = {"natural": 0.5, "adversarial": 0.5}
    mixer = Mixer(theta.flat, list(configs), "natural", lambda t: weights, 0.99)
    loader = batches()
    losses = []
    for t in range(1, STEPS + 1):
        batch = loader.minibatch(t)
        wanted = plain.step(batch.images, batch.labels, t, start_of(batch, attack, t))
        losses.append([float(learner.step(batch, t).loss) for learner in learners])
        mixer.accumulate(t, {learner.name: learner.mixable for learner in learners})
        assert losses[-1] == pytest.approx(wanted, rel=1e-3), t
    assert sum(losses[-1]) < 0.8 * sum(losses[0])  # it is a trajectory, and not a standstill
    theta.flat.copy_(mixer.total(mixer.shares()))
    for name, tensor in plain.average.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(theta.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_bf16_keeps_everything_but_the_products_in_fp32() -> None:
    learner = BaseLearner(
        LearnerSteps("a", SEED, STEPS),
        network(),
        AtConfig(attack=ATTACK),
        Acceleration("bf16"),
    )
    result = learner.step(batches().minibatch(1), 1)
    assert result.loss.dtype == torch.float32
    assert {tensor.dtype for tensor in learner.state.state_dict().values()} <= {
        torch.float32,
        torch.int64,
    }
    momentum = [t for name, t in learner.tensors().items() if name.startswith("momentum/")]
    assert momentum
    assert {tensor.dtype for tensor in momentum} == {torch.float32}


def test_auto_is_what_the_hardware_multiplies_natively() -> None:
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert resolve_precision("auto", CPU) == ("bf16" if native else "fp32")
    assert resolve_precision("fp32", CPU) == "fp32"
    with pytest.raises(UserError, match="--precision tf32"):
        resolve_precision("tf32", CPU)


def test_tf32_is_on_for_training_alone() -> None:
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32
    with Acceleration("tf32").arithmetic():
        assert flags.allow_tf32
        with Acceleration("fp32").arithmetic():
            assert not flags.allow_tf32
        assert flags.allow_tf32
    assert flags.allow_tf32 == before
