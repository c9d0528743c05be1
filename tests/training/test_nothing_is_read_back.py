"""Within an iteration the host reads nothing from the device, so that it never waits for a GPU.

That can be seen without one: an operation that needs a value on the host, to go on, is an operation
that torch dispatches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schema import AttackConfig
from zipper_dist.config.threat import Norm
from zipper_dist.data import ImageSet, Loader
from zipper_dist.metrics.records import Window
from zipper_dist.models import ModelSpec, build
from zipper_dist.objectives import OBJECTIVES, LearnerSteps
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.mixing import Mixer

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu("an iteration never waits for a GPU")),
]
READING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"}
SPEC = ModelSpec("resnet18", 3, 8, 8, 4, 0.0625)


class Reading(Exception):
    """A value was wanted on the host."""


class NothingIsRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises Reading at an operation that makes the host wait for its device."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        tensors = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg])]
        by_mask = name == "index" and any(_is_mask(x) for x in tensors[1:])
        if name in READING or by_mask:
            raise Reading(name)
        return func(*args, **(kwargs or {}))


def _is_mask(x: object) -> bool:
    return isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8)


@pytest.fixture(autouse=True)
def waiting_is_allowed_afterwards() -> Iterator[None]:
    yield
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("read", [float, bool, torch.nonzero, lambda x: x[x > 0]])
def test_reading_is_noticed(read: Any) -> None:
    with NothingIsRead(), pytest.raises(Reading):  # type: ignore[no-untyped-call]
        read(torch.ones(1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "objective", ["at", "trades", "mart", "score", "nfgsm", "ikl", "hat", "lbgat"]
)
def test_an_iteration_reads_nothing(
    device: str, precision: Any, norm: Norm, objective: Any
) -> None:
    attack = AttackConfig(norm=norm, eps=0.1, step_size=0.05, steps=2)
    adversarial: Any = OBJECTIVES[objective].Config
    configs = {
        "natural": NaturalConfig(lr=0.1, weight_average=0.9, label_smoothing=0.1),
        "adversarial": adversarial(lr=0.1, attack=attack, awp=0.005),
    }
    engine = Acceleration(precision)
    learners = [
        BaseLearner(LearnerSteps(name, 0, 9), build(SPEC).to(device), config, engine)
        for name, config in configs.items()
    ]
    theta = FlatState(build(SPEC).to(device)).flat
    weights = {"natural": 0.5, "adversarial": 0.5}
    mixer = Mixer(theta, list(configs), "natural", lambda t: weights, 0.9)
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    loader = Loader(ImageSet(images, torch.arange(16) % 4).to(device), 8, 0, 2, True)
    windows = [Window(name, 8) for name in configs]
    for t in (1, 2):  # what is made at the first iteration is there at the second
        if device == "cuda" and t == 2:
            torch.cuda.set_sync_debug_mode("error")
        with NothingIsRead():  # type: ignore[no-untyped-call]
            batch = loader.minibatch(t)
            for learner, window in zip(learners, windows, strict=True):
                window.add(t, learner.step(batch, t), 0.1)
            mixer.accumulate(t, {learner.name: learner.mixable for learner in learners})
    assert all(window.close() is not None for window in windows)
