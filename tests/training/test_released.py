"""Training as the method's public release does it, against its loop in float64: to 1e-9."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.plain_release import EPOCHS, NONE, PER_EPOCH, Slip, released
from training.tiny_runs import DoubleNetwork, History, config_of, trained
from zipper_dist.attacks import PGD
from zipper_dist.config.schedules import Interval, Schedule, epochs, iterations
from zipper_dist.config.schema import AttackConfig, MixConfig, TrainConfig
from zipper_dist.objectives.at import AtConfig
from zipper_dist.objectives.natural import NaturalConfig
from zipper_dist.recipes.methods.released import released as as_released

pytestmark = pytest.mark.usefixtures("one_thread")

ATTACK = AttackConfig(eps=0.15, step_size=0.06, steps=3)
TOLERANCE = 1e-9
HandsBack = Callable[[int, int], bool]

THIRDS = ((0.0, 1.0), (1 / 3, 1.0), (2 / 3, 0.1), (1.0, 0.01))
PAPER = replace(
    config_of(
        MixConfig(
            every=Interval(2 / EPOCHS, "progress"),
            start=Interval(6 / EPOCHS, "progress"),
            ema=0.8,
            gamma=Schedule(((0.0, 1.0), (1 / 3, 1.0), (2 / 3, 0.8), (1.0, 0.4))),
        )
    ),
    steps=None,
    epochs=EPOCHS,
    learners={
        "natural": NaturalConfig(lr=0.1, weight_decay=5e-3),
        "adversarial": AtConfig(
            lr=0.05, weight_decay=1e-2, schedule=Schedule(THIRDS), attack=ATTACK
        ),
    },
)
RELEASED = as_released(PAPER)


def with_mix(**changes: object) -> TrainConfig:
    return replace(RELEASED, mix=replace(RELEASED.mix, **changes))  # type: ignore[arg-type]


# The release's own rule, after every iteration of certain epochs, and others of its kind.
CASES: dict[str, tuple[TrainConfig, HandsBack]] = {
    "the release": (RELEASED, lambda epoch, i: epoch >= 6 and epoch % 2 == 0),
    "two of three epochs": (
        with_mix(every=epochs(3), start=iterations(0), window=epochs(2)),
        lambda epoch, i: epoch % 3 != 1,
    ),
    "three iterations of five": (
        with_mix(every=epochs(1), window=iterations(3)),
        lambda epoch, i: (epoch, i) >= (5, 5) and i >= 3,
    ),
    "always": (
        with_mix(every=iterations(1), start=epochs(4), window=epochs(1)),
        lambda epoch, i: epoch > 4 or (epoch == 4 and i == PER_EPOCH),
    ),
    "once": (
        with_mix(window=iterations(1)),
        lambda epoch, i: epoch >= 6 and epoch % 2 == 0 and i == PER_EPOCH,
    ),
}


def largest_error(found: History, wanted: History) -> float:
    """Of any number of any learner, over all iterations."""
    assert len(found) == len(wanted) == EPOCHS * PER_EPOCH + 1 == 61
    return max(
        float((f[name][key] - tensor).abs().max())
        for f, w in zip(found, wanted, strict=True)
        for name, state in w.items()
        for key, tensor in state.items()
    )


def transcribed(found: History, hands_back: HandsBack, slip: Slip = NONE) -> History:
    return released(found[0]["global"], PGD.of(ATTACK), hands_back, (0.8, 0.8), PAPER.seed, slip)


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_loop_of_the_release(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, hands_back = CASES[case]
    found = trained(config, tmp_path, monkeypatch, DoubleNetwork)
    assert found[0]["global"]["conv.weight"].dtype.itemsize == 8
    assert largest_error(found, transcribed(found, hands_back)) < TOLERANCE


def test_the_comparison_notices_slips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, hands_back = CASES["the release"]
    found = trained(config, tmp_path, monkeypatch, DoubleNetwork)
    for name in Slip.__dataclass_fields__:
        errors = largest_error(found, transcribed(found, hands_back, Slip(**{name: True})))
        if name != "an_iteration_early":  # which whole epochs do not show
            assert errors > 1e4 * TOLERANCE, name
    config, hands_back = CASES["three iterations of five"]
    found = trained(config, tmp_path / "other", monkeypatch, DoubleNetwork)
    slip = Slip(an_iteration_early=True)
    assert largest_error(found, transcribed(found, hands_back, slip)) > 1e4 * TOLERANCE


def test_the_paper_s_algorithm_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(PAPER, tmp_path, monkeypatch, DoubleNetwork)
    hands_back = CASES["the release"][1]
    assert largest_error(found, transcribed(found, hands_back)) > 1e-3
