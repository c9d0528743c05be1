"""AdamW as a learner's optimizer, against torch's, and what a resume needs of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler

from zipper_dist.config.schedules import parse_rate
from zipper_dist.config.schema import LearnerConfig
from zipper_dist.data import Minibatch
from zipper_dist.objectives import LearnerSteps
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.training.learner import BaseLearner

STEPS = 12
ADAMW = NaturalConfig(
    optimizer="adamw",
    lr=0.01,
    momentum=0.8,
    beta2=0.95,
    weight_decay=0.1,
    schedule=parse_rate("cosine"),
)
SGD = NaturalConfig(lr=0.05, weight_decay=0.01, nesterov=True, schedule=parse_rate("cosine"))


def network() -> nn.Module:
    """A small network with batch normalisation, the same at every call."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(5 * 4 * 4, 3),
    )


def batch(t: int) -> Minibatch:
    generator = torch.Generator().manual_seed(t)
    labels = torch.randint(0, 3, (6,), generator=generator)
    return Minibatch(torch.rand(6, 1, 6, 6, generator=generator), labels)


def learner_of(config: LearnerConfig) -> BaseLearner:
    return BaseLearner(LearnerSteps("a", 0, STEPS), network(), config)


def trained(learner: BaseLearner, first: int = 1, last: int = STEPS) -> BaseLearner:
    for t in range(first, last + 1):
        learner.step(batch(t), t)
    return learner


def reference(make: Callable[[Any], torch.optim.Optimizer]) -> nn.Module:
    """The network after as many steps of torch's optimizer and scheduler, in float64."""
    plain = network().double().train()
    optimizer = make(plain.parameters())
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an iteration has the rate at its end
        for t in range(1, STEPS + 1):
            scheduler.step()
            loss = F.cross_entropy(plain(batch(t).images.double()), batch(t).labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return plain


REFERENCES: dict[str, tuple[LearnerConfig, Callable[[Any], torch.optim.Optimizer]]] = {
    "adamw": (
        ADAMW,
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
    ),
    "sgd": (
        SGD,
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_learner_trains_as_torch_does_in_float64(name: str) -> None:
    config, make = REFERENCES[name]
    found = trained(learner_of(config)).state.state_dict()
    for key, tensor in reference(make).state_dict().items():
        torch.testing.assert_close(found[key].double(), tensor.double(), rtol=1e-4, atol=1e-5)
    start = network().state_dict()
    assert not torch.allclose(found["4.weight"], start["4.weight"], atol=1e-3)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_resume_is_exact(name: str) -> None:
    config, _ = REFERENCES[name]
    whole = trained(learner_of(config))
    half = trained(learner_of(config), last=5)
    saved = {key: tensor.clone() for key, tensor in half.tensors().items()}
    again = learner_of(config)
    again.restore(saved)
    trained(again, first=6)
    assert torch.equal(again.state.flat, whole.state.flat)
    kinds = {key.partition("/")[0] for key in saved}
    moments = {"first-moment", "second-moment", "step"}
    assert kinds == {"theta", "integer"} | (moments if name == "adamw" else {"momentum"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta2": 1.0}, "--learners.a.beta2 1.0: give 0 … below 1"),
        (
            {"nesterov": True},
            "--learners.a.nesterov: takes --learners.a.optimizer sgd, "
            "--learners.a.momentum above 0",
        ),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    assert list(replace(ADAMW, **changes).problems("--learners.a")) == [message]
