"""The whole algorithm, written once more, slowly and in float64, against what training does.

The reference shares nothing with the package but its random draws: the order of the images and the
starts of the attacks. Batch normalisation, SGD, PGD, schedules, averages and redistribution are
written out here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.plain_zipper import (
    Slip,
    reference,
)
from training.tiny_runs import (
    LATE,
    STEPS,
    History,
    State,
    config_of,
    trained,
)
from zipper_dist.config.schedules import epochs, iterations
from zipper_dist.config.schema import (
    TrainConfig,
)

# What fp32 may cost, in the norm. It costs a tenth of that; each slip below a hundred times more.
TOLERANCE = 5e-6


pytestmark = pytest.mark.usefixtures("one_thread")


LATER = replace(LATE, start=iterations(13))
EPOCHS = replace(LATE, every=epochs(1), start=epochs(3))
NEVER = replace(LATE, every=iterations(0))


def relative_error(found: State, wanted: State) -> float:
    """Of all of a network's tensors together, in the norm."""
    off = sum(float(((found[name].double() - wanted[name]) ** 2).sum()) for name in wanted)
    size = sum(float((tensor**2).sum()) for tensor in wanted.values())
    return float(np.sqrt(off / size))


def largest_errors(found: History, wanted: History) -> dict[str, float]:
    """By learner, over all iterations."""
    assert len(found) == len(wanted) == STEPS + 1
    return {
        name: max(relative_error(f[name], w[name]) for f, w in zip(found, wanted, strict=True))
        for name in wanted[0]
    }


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config_of(LATE), id="redistribution at the start"),
        pytest.param(config_of(LATER), id="redistribution after the start"),
        pytest.param(config_of(EPOCHS), id="intervals in epochs"),
        pytest.param(config_of(NEVER), id="no redistribution"),
        pytest.param(config_of(LATE, weight_average=0.6), id="weight average"),
    ],
)
def test_training_is_the_algorithm(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(config, tmp_path, monkeypatch)
    for name in ("natural", "adversarial"):
        assert all(torch.equal(found[0][name][k], v) for k, v in found[0]["global"].items())
    errors = largest_errors(found, reference(config, found[0]["global"]))
    assert max(errors.values()) < TOLERANCE, errors
    # Counts of minibatches are copied, never averaged.
    for t, states in enumerate(found):
        assert {int(state["norm.num_batches_tracked"]) for state in states.values()} == {t}


@pytest.mark.parametrize("name", ["natural", "adversarial"])
def test_one_learner_alone_has_all_the_weight(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = config_of(NEVER)
    config = replace(
        both, learners={name: both.learners[name]}, eval=replace(both.eval, norm="linf", eps=0.15)
    )
    found = trained(config, tmp_path, monkeypatch)
    errors = largest_errors(found, reference(config, found[0]["global"]))
    assert max(errors.values()) < TOLERANCE, errors


def test_a_run_that_ends_at_a_multiple_of_the_interval_leaves_the_learners_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(LATE)
    assert STEPS % config.mix.every.amount == 0
    found = trained(config, tmp_path, monkeypatch)
    end = found[-1]
    for name in config.learners:
        assert not torch.equal(end[name]["conv.weight"], end["global"]["conv.weight"])
    # A redistribution at the end would change the learners and not the global learner.
    slip = Slip(redistributes_at_the_end=True)
    errors = largest_errors(found, reference(config, found[0]["global"], slip))
    assert errors["global"] < TOLERANCE
    assert min(errors[name] for name in config.learners) > 100 * TOLERANCE


NOTICED: dict[str, tuple[TrainConfig, list[Slip]]] = {
    "redistribution at the start": (
        config_of(LATE),
        [
            Slip(alpha=1),
            Slip(alpha=-1),
            Slip(no_warm_up=True),
            Slip(learning_rate=1),
            Slip(learning_rate=-1),
            Slip(gamma=1),
            Slip(gamma=-1),
            Slip(attack_scale=1),
            Slip(attack_scale=-1),
            Slip(attack_steps=1),
            Slip(attack_steps=-1),
            Slip(draws=1),
            Slip(start=1),
            Slip(interval=1),
            Slip(interval=-1),
            Slip(forgets_momentum=True),
            Slip(attacks_in_train_mode=True),
            Slip(biased_running_variance=True),
            Slip(mixes_before_the_step=True),
            Slip(keeps_own_statistics=True),
        ],
    ),
    "redistribution after the start": (config_of(LATER), [Slip(start=-1)]),
    "weight average": (
        config_of(LATE, weight_average=0.6),
        [Slip(mixes_the_weights_themselves=True), Slip(average_outlives_redistribution=True)],
    ),
}


@pytest.mark.parametrize("case", NOTICED)
def test_the_comparison_notices_slips(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, slips = NOTICED[case]
    found = trained(config, tmp_path, monkeypatch)
    for slip in slips:
        errors = largest_errors(found, reference(config, found[0]["global"], slip))
        assert errors["global"] > 100 * TOLERANCE, slip
