"""A learner's guide is the other learner as it was at the last copy, and not newer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.tiny_runs import LATE, STEPS, TinyNetwork, config_of, trained
from zipper_dist.config.checks import problems
from zipper_dist.config.schedules import iterations, progress
from zipper_dist.config.schema import TrainConfig
from zipper_dist.objectives.lbgat import LbgatConfig
from zipper_dist.training.context import RunContext, TrainState
from zipper_dist.training.guides import copy_guides
from zipper_dist.training.learner import BaseLearner
from zipper_dist.training.learner.flat_state import FlatState
from zipper_dist.training.step_plan import StepPlan

pytestmark = pytest.mark.usefixtures("one_thread")


def guided(every: int = 5, guide: str = "natural") -> TrainConfig:
    """Redistributions after 12, 18 and 24 of 30 iterations."""
    config = config_of(LATE)
    adversarial = config.learners["adversarial"]
    learner = LbgatConfig(
        lr=0.05,
        attack=adversarial.attack,  # type: ignore[attr-defined]
        guide=guide,
        guide_every=iterations(every),
    )
    return replace(config, learners={**config.learners, "adversarial": learner})


def test_copies_are_made_at_their_interval_and_not_beside_a_redistribution() -> None:
    plan = StepPlan.of(guided(every=6), steps_per_epoch=5)
    due = [t for t in range(STEPS + 1) if plan.guides_at(t)]
    assert due == [6]
    plan = StepPlan.of(guided(), steps_per_epoch=5)
    due = [t for t in range(STEPS + 1) if plan.guides_at(t)]
    assert due == [5, 10, 15, 20, 25]
    assert plan.guides_at(5) == {"adversarial": "natural"}


def test_the_guide_is_the_learner_as_of_the_last_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Tensor] = []
    take = BaseLearner.take_guide

    def noted(self: BaseLearner, theta: Tensor) -> None:
        if self.name == "adversarial":
            taken.append(theta.clone())
        take(self, theta)

    monkeypatch.setattr(BaseLearner, "take_guide", noted)
    history = trained(guided(), tmp_path, monkeypatch)
    found = FlatState(TinyNetwork())
    at = [5, 10, 12, 15, 18, 20, 24, 25]
    assert len(taken) == len(at)
    for t, theta in zip(at, taken, strict=True):
        found.flat.copy_(theta)
        wanted = history[t]["natural"]
        for name, tensor in found.state_dict().items():
            if tensor.is_floating_point():
                assert torch.equal(tensor, wanted[name]), (t, name)
    assert not torch.equal(taken[0], taken[1])


@pytest.mark.parametrize("guide", ["nobody", "adversarial", "absent.safetensors"])
def test_a_guide_is_another_learner_or_a_file(guide: str) -> None:
    (problem,) = problems(guided(guide=guide))
    wanted = "give another learner (natural) or a file of a network's weights"
    assert problem == f"--learners.adversarial.guide {guide}: {wanted}"


def test_a_learner_alone_needs_a_file(tmp_path: Path) -> None:
    config = guided()
    alone = replace(config, learners={"adversarial": config.learners["adversarial"]})
    (problem,) = problems(alone)
    assert problem.endswith("guide natural: give a file of a network's weights")
    learner = replace(config.learners["adversarial"], guide=str(tmp_path / "there"))  # type: ignore[call-arg]
    (tmp_path / "there").touch()
    assert list(problems(replace(alone, learners={"adversarial": learner}))) == []


def test_an_interval_may_be_a_part_of_the_run() -> None:
    learner = LbgatConfig(guide_every=progress(0.5))
    config = replace(guided(), learners={**guided().learners, "adversarial": learner})
    assert StepPlan.of(config, 5).guides == (("adversarial", "natural", STEPS // 2),)


def test_a_copy_is_a_point_that_all_have_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints from its two sides do not fit together."""
    synced: list[tuple[int, int]] = []

    def noted(run: RunContext, state: TrainState) -> None:
        copy_guides(run, state)
        synced.append((state.at, state.mixer.synced_at))

    monkeypatch.setattr("zipper_dist.training.loop.copy_guides", noted)
    trained(guided(), tmp_path, monkeypatch)
    assert synced == [(t, t) for t in (5, 10, 15, 20, 25)]
