"""The objectives of the literature as Zipper's adversarial learner: serial and on two ranks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from end_to_end.commands import SMALL, Command, started, stopped, succeeded, train, typed
from end_to_end.conftest import Here
from end_to_end.results import assert_same_result, records, weights
from zipper_dist.checkpoint.weights import load_weights

pytestmark = pytest.mark.slow

# Redistributions after 8 and 12, evaluations after 10 and 16.
SHORT = SMALL + typed("--steps 16 --mix.start 8 --mix.every 4 --eval.every 10 --eval.limit 20")
SHORT_ALONE = typed("""
    --threads 1 --device cpu --precision fp32 --compile off --steps 6 --batch-size 16
    --model.arch resnet18 --model.width 0.0625 --data.limit 100 --data.image-size 8
    --eval.every 6 --eval.attack-steps 1 --eval.limit 10
""")
ONE_STEP = "--learners.adversarial.attack.steps 1 --learners.adversarial.attack.step-size"
GUIDED = "--learners.adversarial.guide-every"
OPTIONS = {
    "hat": f"{GUIDED} 3",
    "lbgat": f"{GUIDED} 5 --learners.adversarial.beta 1",
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


@pytest.mark.parametrize("how", ["killed", "told to stop"])
def test_copies_of_a_guide_outlive_an_interruption(how: str, tmp_path: Path) -> None:
    """A checkpoint after every fourth iteration, and a copy after every third: wherever the two
    ranks are, one has sent what the other has not got, or both have."""
    whole, torn = (tmp_path / name for name in ("whole", "torn"))
    for directory in (whole, torn):
        directory.mkdir()
    words = """--learners.adversarial.objective lbgat --eval.every 4 --eval.limit 8
        --eval.attack-steps 1 --learners.natural.schedule 1"""  # whose logits stay small
    options = [*SMALL, *typed(f"{words} {GUIDED} 3")]

    def stop(other: Command) -> None:
        if how == "killed":
            other.kill()
        else:
            other.process.send_signal(signal.SIGTERM)

    with started(*options, at=whole) as command:
        stopped(stop, torn, ranks=2, further=14, arguments=options)
        succeeded(command.wait())
    succeeded(train(*options, at=torn, ranks=2))
    assert_same_result(whole / "run", torn / "run")


@pytest.mark.parametrize("recipe", ["digits-hat", "digits-lbgat"])
def test_a_guided_learner_alone_is_the_result(recipe: str, tmp_path: Path, here: Here) -> None:
    assert here(recipe, *SHORT[1:], "--mix.every", "0", "--mix.ema", "0", "--mix.gamma", "1") == 0
    _, own = load_weights(tmp_path / "run" / "adversarial.safetensors")
    _, mixed = load_weights(tmp_path / "run" / "global.safetensors")
    _, natural = load_weights(tmp_path / "run" / "natural.safetensors")
    floats = [name for name in own if own[name].is_floating_point()]
    assert all(torch.equal(own[name], mixed[name]) for name in floats)
    assert not all(torch.equal(own[name], natural[name]) for name in floats)


def test_a_file_is_a_guide(tmp_path: Path, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here("digits-natural", *SHORT_ALONE, "--run-dir", "natural") == 0
    objective = typed("digits-at --learners.adversarial.objective hat")
    file = "natural/global.safetensors"
    results = []
    for gamma in ("0", "0.5"):
        words = ["--learners.adversarial.gamma", gamma, "--run-dir", f"at-{gamma}"]
        guide = ["--learners.adversarial.guide", file]
        assert here(*objective, *SHORT_ALONE, *guide, *words) == 0
        results.append((tmp_path / f"at-{gamma}" / "global.safetensors").read_bytes())
    assert results[0] != results[1]
    capsys.readouterr()
    other = [*SHORT_ALONE, "--data.image-size", "12", "--run-dir", "other"]
    assert here(*objective, *other, "--learners.adversarial.guide", file) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"--learners.adversarial.guide {file}: is for 10 classes of 1×8×8 images" in said
    assert "Traceback" not in said


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
