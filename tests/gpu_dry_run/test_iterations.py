"""One process on a GPU: every objective and every network of the package.

No operation mixes devices (the run would end), the host waits for nothing within an iteration, and
nothing but the plan of the minibatch and the readings is copied between host and GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_dry_run.rehearsals import COPIES, SMALL, Allowed, problems, rehearse
from zipper_dist.data.minibatches import AUGMENTATIONS
from zipper_dist.models import NETWORKS as SHIPPED
from zipper_dist.objectives import OBJECTIVES

NETWORKS = [
    pytest.param(name, marks=() if name == "small_cnn" else pytest.mark.slow)
    for name in sorted(SHIPPED)
]
# Every other thing that a learner may do on the way, once.
OPTIONS = {
    "at": "--learners.adversarial.awp 0.005 --learners.natural.weight-average 0.9",
    "trades": "--precision fp32 --learners.adversarial.attack.norm l2",
    "mart": "--precision tf32 --placement.shards 2 --learners.adversarial.optimizer adamw",
    "fat": "--learners.natural.label-smoothing 0.1",
    "score": "--learners.adversarial.clip 0.2",
    "ikl": "--placement.shards 2",
    "rsfgsm": "--learners.adversarial.attack.steps 1",
    "nfgsm": "--learners.adversarial.attack.steps 1",
    "hat": "--learners.adversarial.guide-every 1",
    "lbgat": "--learners.adversarial.guide-every 1 --learners.adversarial.beta 1",
}
ALLOWED: dict[str, Allowed] = {
    # Where torch computes norms of many tensors, it copies its list of them, from pinned memory.
    "at": COPIES | {("training step", "copies to the GPU"): 2},
    **dict.fromkeys(("trades", "mart", "score", "ikl", "rsfgsm", "nfgsm", "hat", "lbgat"), COPIES),
    # FAT takes images out of the batch: after each of two steps it asks how many, and which.
    "fat": COPIES | {("attack", "waits"): 4, ("attack", "copies to the host"): 2},
}


def test_every_objective_is_rehearsed() -> None:
    assert {*ALLOWED, "natural"} == set(OBJECTIVES)
    assert set(OPTIONS) == set(ALLOWED)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_host_never_waits_within_an_iteration(network: str, stub: Path, tmp_path: Path) -> None:
    jobs = {
        objective: [
            *SMALL, "--model.arch", network, "--learners.adversarial.objective", objective,
            *options.split(),
        ]
        for objective, options in OPTIONS.items()
    }  # fmt: skip
    (runs,) = rehearse(stub, jobs, tmp_path)
    found = {name: problems(run, ALLOWED[name]) for name, run in runs.items()}
    assert found == {name: [] for name in ALLOWED}
    for run in runs.values():  # it was watched: every part does something
        assert all(run[2][part]["launches"] for part in ("data", "training step", "mixing"))


def test_the_host_never_waits_for_an_augmentation(stub: Path, tmp_path: Path) -> None:
    # For each of two learners: a plan of what is erased; rows for 14 operations in two directions,
    # and twice, as well as where pixels come from.
    sent = {"erase": 2, "randaugment": 2 * 2 * 28 + 10}
    jobs = {
        name: [*SMALL, "--model.arch", "small_cnn", "--data.augment", name]
        for name in sorted(AUGMENTATIONS)
    }
    (runs,) = rehearse(stub, jobs, tmp_path)
    for name, run in runs.items():
        assert (
            problems(run, COPIES | {("training step", "copies to the GPU"): sent.get(name, 0)})
            == []
        )
