"""Every objective with every option on every shipped network, as the registries have them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest
import torch

from zipper_dist.accel.precision import Acceleration
from zipper_dist.config.schedules import Curve, Interval, Schedule, iterations
from zipper_dist.config.schema import LearnerConfig, Precision
from zipper_dist.data import Minibatch
from zipper_dist.models import ModelSpec, build
from zipper_dist.models.layers import ACTIVATIONS
from zipper_dist.models.registry import NETWORKS
from zipper_dist.models.small_cnn import LEAST_PIXELS as SMALL_CNN_PIXELS
from zipper_dist.objectives import OBJECTIVES, LearnerSteps
from zipper_dist.training.learner import BaseLearner

pytestmark = pytest.mark.usefixtures("one_thread")

OTHERS: dict[object, tuple[object, ...]] = {
    float: (0.0, 0.5),
    int: (1,),
    bool: (False, True),
    str: ("another",),  # without a copy of it: the first iterations
    Interval: (iterations(1),),
    Schedule: (Schedule.parse("0:0.1,1:1"),),
    Schedule | Curve: (Schedule.parse("0:0.1,1:1"), Curve("cosine", 0.5)),
}
CLASSES = 3
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
LEAST_PIXELS = {"small_cnn": SMALL_CNN_PIXELS}


def changes(options: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Other values of each of ``options``, by dotted names."""
    kinds = get_type_hints(type(options))
    for field in fields(options):
        name, value = f"{before}{field.name}", getattr(options, field.name)
        if is_dataclass(value) and type(value) not in OTHERS:
            yield from changes(value, f"{name}.")
        elif field.name != "objective":
            others = OTHERS.get(kinds[field.name]) or get_args(kinds[field.name])
            assert others
            yield from ((name, other) for other in others if other != value)


def changed(options: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    inner = changed(getattr(options, first), rest, value) if rest else value
    return replace(options, **{first: inner})


def two_steps(options: Any) -> Any:
    return changed(options, "attack.steps", 2)


def variants(objective: str) -> dict[str, LearnerConfig]:
    """The options of an objective as they are, with each changed alone, and with all that go
    together changed at once; those that are refused left out."""
    base = OBJECTIVES[objective].Config(objective=objective)
    if hasattr(base, "attack"):
        base = changed(base, "attack.steps", 1 if list(two_steps(base).problems("")) else 2)
    found, everything = {"default": base}, base
    for name, value in changes(base):
        alone, together = changed(base, name, value), changed(everything, name, value)
        if not list(alone.problems("")):
            found[f"{name} {value}"] = alone
        if not list(together.problems("")):
            everything = together
    return found | {"everything": everything}


@pytest.mark.parametrize("arch", NETWORKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_steps(objective: str, arch: str) -> None:
    pixels = LEAST_PIXELS.get(arch, 8)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, pixels, pixels, generator=generator)
    batch = Minibatch(images.to(memory_format=torch.channels_last), torch.arange(4) % CLASSES)
    cases = itertools.product(variants(objective).items(), PRECISIONS, ACTIVATIONS)
    for (name, config), precision, activation in cases:
        if name not in ("default", "everything") and (precision, activation) != ("fp32", "relu"):
            continue
        torch.manual_seed(0)
        model = build(ModelSpec(arch, 3, pixels, pixels, CLASSES, 0.05, activation))
        learner = BaseLearner(LearnerSteps("a", 1, 2), model, config, Acceleration(precision))
        before = learner.state.flat.clone()
        for t in (1, 2):
            assert bool(learner.step(batch, t).loss.isfinite()), (name, precision)
        assert bool(learner.mixable.isfinite().all()), (name, precision)
        moved = not torch.equal(before, learner.state.flat)
        assert moved is (config.lr > 0 or bool(list(model.buffers()))), (name, precision)
