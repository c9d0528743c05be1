"""The recipes learn what they are for: accuracy without an attack and under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from end_to_end.commands import succeeded, train, typed
from end_to_end.results import summary

pytestmark = pytest.mark.slow

# What the `digits` recipe must reach on the test set, in per cent, under its own ε with PGD-20.
DIGITS_CLEAN = 98.0
DIGITS_ROBUST = 50.0
DIGITS_NATURAL_CLEAN = 90.0
DIGITS_NATURAL_ROBUST = 30.0

# After 150 small minibatches of MNIST. Guessing has 10 per cent; training on images that nobody has
# attacked, 27 under the attack.
MNIST_CLEAN = 85.0
MNIST_ROBUST = 45.0

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def accuracy(run: Path, learner: str) -> tuple[float, float]:
    """Clean and robust accuracy of a learner at the end [per cent]."""
    scores = summary(run)["final"]["learners"][learner]
    return scores["clean"], scores["robust"]


def test_digits_on_two_ranks(tmp_path: Path) -> None:
    succeeded(train("digits", "--run-dir", "run", at=tmp_path, ranks=2))
    assert summary(tmp_path / "run")["evaluation_attack"]["steps"] == 20
    assert summary(tmp_path / "run")["final"]["images"] == 360
    clean, robust = accuracy(tmp_path / "run", "global")
    assert clean > DIGITS_CLEAN
    assert robust > DIGITS_ROBUST


def test_the_natural_learner_of_digits_alone_is_not_robust(tmp_path: Path) -> None:
    # Without redistribution the learners do not touch each other, so that the natural learner is
    # the same whatever the other one does: it may take its time elsewhere.
    options = typed(
        "--mix.every 0 --learners.adversarial.attack.steps 1 --eval.every 1000ep --eval.limit 200"
    )
    succeeded(train("digits", *options, "--run-dir", "run", at=tmp_path, ranks=2))
    assert summary(tmp_path / "run")["evaluation_attack"]["steps"] == 20
    clean, robust = accuracy(tmp_path / "run", "natural")
    assert clean > DIGITS_NATURAL_CLEAN
    assert robust < DIGITS_NATURAL_ROBUST


@pytest.mark.skipif(
    not (SHARED_DATA / "MNIST" / "raw").is_dir(), reason=f"no MNIST in {SHARED_DATA}"
)
def test_mnist_on_two_ranks(tmp_path: Path) -> None:
    # The recipe trains for hours against 40 steps of ε 0.3: fewer steps, a smaller ball.
    options = typed("""
        --steps 150 --batch-size 64 --model.width 0.5 --learners.natural.lr 0.05
        --mix.start 120 --mix.every 10 --mix.ema 0.95 --eval.every 75 --eval.attack-steps 10
        --eval.limit 600 --learners.adversarial.attack.eps 0.2
        --learners.adversarial.attack.steps 3 --learners.adversarial.attack.step-size 0.1
    """)
    arguments = ["mnist", "--data.root", str(SHARED_DATA), *options, "--run-dir", "run"]
    succeeded(train(*arguments, at=tmp_path, ranks=2))
    clean, robust = accuracy(tmp_path / "run", "global")
    assert clean > MNIST_CLEAN
    assert robust > MNIST_ROBUST
