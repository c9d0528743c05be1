"""The objectives of the literature as Zipper's adversarial learner: serial and on two ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, started, stopped, succeeded, train, typed
from end_to_end.conftest import Here
from end_to_end.results import assert_same_result, records, weights

pytestmark = pytest.mark.slow

# Redistributions after 8 and 12, evaluations after 10 and 16.
SHORT = SMALL + typed("--steps 16 --mix.start 8 --mix.every 4 --eval.every 10 --eval.limit 20")
ONE_STEP = "--learners.adversarial.attack.steps 1 --learners.adversarial.attack.step-size"
OPTIONS = {
    "ikl": "--learners.adversarial.memory 0.9 --learners.adversarial.awp 0.005",
    "rsfgsm": f"{ONE_STEP} 0.125",
    "nfgsm": f"{ONE_STEP} 0.1 --learners.adversarial.noise 1",
    "score": "--learners.adversarial.clip 0.1",
}


@pytest.mark.parametrize("objective", OPTIONS)
def test_two_ranks_end_with_the_bits_of_one_process(objective: str, tmp_path: Path) -> None:
    serial, parallel = (tmp_path / name for name in ("serial", "parallel"))
    for directory in (serial, parallel):
        directory.mkdir()
    options = typed(f"--learners.adversarial.objective {objective} {OPTIONS[objective]}")
    with started(*SHORT, *options, at=serial) as command:
        succeeded(train(*SHORT, *options, at=parallel, ranks=2))
        succeeded(command.wait())
    assert_same_result(serial / "run", parallel / "run")
    found = weights(serial / "run")
    assert len({found["natural"], found["adversarial"], found["global"]}) == 3


def test_what_an_objective_keeps_outlives_an_interruption(tmp_path: Path) -> None:
    whole, torn = (tmp_path / name for name in ("whole", "torn"))
    for directory in (whole, torn):
        directory.mkdir()
    options = [*SMALL, *typed(f"--learners.adversarial.objective ikl {OPTIONS['ikl']}")]
    with started(*options, at=whole) as command:
        stop = stopped(
            lambda other: other.process.send_signal(signal.SIGTERM), torn, arguments=options
        )
        succeeded(command.wait())
    assert stop.finished.status == 128 + signal.SIGTERM
    succeeded(train(*options, at=torn))
    assert_same_result(whole / "run", torn / "run")


# A network without BatchNorm, trained by a single step at a radius that grows to 0.25 from the
# middle of the run on, and evaluated at 0.1.
GROWING = typed("""
    --threads 1 --device cpu --precision fp32 --compile off --steps 300 --batch-size 32
    --model.arch small_cnn --model.width 0.5 --data.image-size 16
    --learners.adversarial.lr 0.05 --learners.adversarial.schedule 1
    --learners.adversarial.weight-decay 0 --learners.adversarial.attack.eps 0.25
    --learners.adversarial.attack.step-size 0.25
    --learners.adversarial.attack.schedule 0:0.1,0.4:0.4,0.5:1
    --eval.eps 0.1 --eval.every 30 --eval.limit 60 --run-dir run
""")


@pytest.mark.parametrize("recipe", ["digits-rsfgsm", "digits-nfgsm"])
def test_catastrophic_overfitting_is_noticed_and_named(
    recipe: str, tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    """FGSM from the image itself falls for it, N-FGSM does not."""
    options = [] if recipe == "digits-nfgsm" else ["--learners.adversarial.attack.no-random-start"]
    assert here(recipe, *GROWING, *options) == 0
    shown = " ".join(capsys.readouterr().out.split())
    metrics = records(tmp_path / "run" / "metrics.jsonl")
    found = [record for record in metrics if record["learner"] == "global"]
    overfitted = [record for record in found if "overfitting" in record]
    assert ("catastrophic overfitting to the one step" in shown) is bool(overfitted)
    assert bool(overfitted) is (recipe == "digits-rsfgsm")
    for record in overfitted:
        assert record["overfitting"] is True
        assert record["robust"] < max(each["robust"] for each in found) - 20
        assert record["clean"] > 50
