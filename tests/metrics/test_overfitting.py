"""Catastrophic overfitting is named where it is, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from zipper_dist.metrics.overfitting import one_step_learners, overfits
from zipper_dist.metrics.records import Record
from zipper_dist.recipes import recipe


def records(*accuracies: tuple[float, float]) -> list[Record]:
    """Evaluations with these clean and robust accuracies [%]."""
    return [
        {"step": 10 * (i + 1), "learner": "global", "clean": clean, "robust": robust}
        for i, (clean, robust) in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "found"),
    [
        ([(70.0, 40.0), (80.0, 2.0)], True),
        ([(70.0, 40.0), (60.5, 20.9)], False),  # hardly
        ([(70.0, 40.0), (62.0, 19.0)], True),
        ([(70.0, 40.0), (58.0, 19.0)], False),  # the network got worse
        ([(70.0, 40.0), (10.0, 10.0)], False),  # it diverged
        ([(50.0, 10.0), (70.0, 40.0), (75.0, 30.0), (85.0, 15.0)], True),  # by and by
        ([(70.0, 20.0), (80.0, 60.0)], False),
        ([(80.0, 2.0)], False),
    ],
)
def test_it_is_a_fall_of_robust_accuracy_alone(
    accuracies: list[tuple[float, float]], found: bool
) -> None:
    *history, last = records(*accuracies)
    assert overfits(last, history, []) == []
    said = overfits(last, history, ["adversarial"])
    assert len(said) == found
    if found:
        assert said[0].startswith("catastrophic overfitting to the one step")
        assert f"is {last['robust']} %, after 40.0 % at iteration" in said[0]
        assert "--learners.adversarial.objective nfgsm" in said[0]


def test_a_network_that_answers_all_images_alike_is_no_peak() -> None:
    first, last = records((53.0, 53.0), (80.0, 20.0))
    assert overfits(last, [first | {"constant": True}], ["a"]) == []
    assert overfits(last, [first], ["a"]) != []


def test_only_learners_that_attack_in_one_step_are_blamed() -> None:
    assert one_step_learners(recipe("digits")) == []
    assert one_step_learners(recipe("digits-nfgsm")) == ["adversarial"]
