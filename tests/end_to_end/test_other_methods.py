"""The methods beside Zipper, and Zipper with their objectives, as commands."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from end_to_end.commands import SMALL, started, stopped, succeeded, train, typed
from end_to_end.conftest import Here
from end_to_end.results import assert_same_result, summary, weights
from zipper_dist.checkpoint.weights import load_weights
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.target import load_target, threats_of
from zipper_dist.recipes import METHODS

pytestmark = pytest.mark.slow

FEW = typed("""
    --threads 1 --device cpu --precision fp32 --compile off --steps 30 --batch-size 32
    --model.arch resnet18 --model.width 0.0625 --model.activation silu --data.limit 400
    --eval.every 30 --eval.attack-steps 2 --eval.limit 40 --run-dir run
""")
OPTIONS = {
    "natural": "--learners.natural.label-smoothing 0.1",
    "at": "--learners.adversarial.awp 0.01 --learners.adversarial.label-smoothing 0.1",
    "trades": "--learners.adversarial.beta 2 --learners.adversarial.awp 0.005",
    "fat": "--learners.adversarial.tau 0:0,1:3",
    "mart": "--mix.ema 0.5",
    "ikl": "--learners.adversarial.beta 5 --learners.adversarial.awp 0.005",
    "rsfgsm": "--learners.adversarial.label-smoothing 0.1",
    "nfgsm": "--learners.adversarial.noise 1.5 --learners.adversarial.awp 0.005",
    "score": "--learners.adversarial.clip 0.3 --learners.adversarial.awp 0.005",
}
# TRADES' objective and perturbed weights, in bf16, as one of two learners.
WITH_TRADES = SMALL + typed("""
    --precision bf16 --learners.adversarial.objective trades --learners.adversarial.awp 0.01
""")


def test_every_method_is_tried() -> None:
    zipper_too = {"multinorm", "finetune", "released", "hat", "lbgat"}
    assert OPTIONS.keys() | zipper_too == set(METHODS)


def test_several_norms_are_trained_and_evaluated_at_once(tmp_path: Path, here: Here) -> None:
    assert here("digits-multinorm", *FEW, "--mix.start", "10", "--mix.every", "10") == 0
    found = summary(tmp_path / "run")
    learners = found["final"]["learners"]
    assert list(learners) == ["natural", "linf", "l2", "global"]
    each = {"robust@linf:0.17", "robust@l2:0.8"}
    assert learners["global"].keys() == {"clean", "robust"} | each
    # Robust is what withstands both.
    assert all(
        scores["robust"] <= min(scores[name] for name in each) for scores in learners.values()
    )
    assert found["redistributions"] == 2


@pytest.mark.parametrize("method", OPTIONS)
def test_every_method_trains(tmp_path: Path, here: Here, method: str) -> None:
    assert here(f"digits-{method}", *FEW, *OPTIONS[method].split()) == 0
    run = tmp_path / "run"
    found = summary(run)
    learner = "natural" if method == "natural" else "adversarial"
    assert list(found["final"]["learners"]) == [learner, "global"]
    own, mixed = (load_weights(run / f"{name}.safetensors")[1] for name in (learner, "global"))
    same = all((own[name] == mixed[name]).all() for name in own)
    assert same == (method != "mart")  # which has an average here
    # Measured at the radius of the data, also by the evaluation command.
    assert found["evaluation_attack"]["eps"] == 0.17
    options = EvaluateOptions(target=run)
    (threat,), _ = threats_of(load_target(options), "digits", options)
    assert (threat.norm, threat.eps) == ("linf", 0.17)


@pytest.mark.parametrize(
    ("recipe", "mix", "redistributions"),
    [
        ("digits", "--mix.start 20 --mix.every 15", 0),  # the 30th is the last
        ("digits", "--mix.start 15 --mix.every 15", 1),
        ("digits", "--mix.start 20 --mix.every 0", None),
        ("digits-at", "", None),
    ],
)
def test_a_run_too_short_to_redistribute_says_so(
    tmp_path: Path,
    here: Here,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    mix: str,
    redistributions: int | None,
) -> None:
    assert here(recipe, *FEW, *mix.split()) == 0
    shown = " ".join(capsys.readouterr().out.split())
    warning = "--mix.every 15 leave no redistribution within the 30 iterations"
    assert (warning in shown) == ("leave no redistribution" in shown) == (redistributions == 0)
    assert summary(tmp_path / "run")["redistributions"] == redistributions


@pytest.mark.parametrize(("steps", "warned"), [(3, True), (40, False)])
def test_schedules_by_epoch_want_two_epochs(
    here: Here, capsys: pytest.CaptureFixture[str], steps: int, warned: bool
) -> None:
    few = ["--data.limit", "200", "--batch-size", "10", "--eval.limit", "4", "--model.width", "0.1"]
    few += ["--eval.every", "40", "--eval.attack-steps", "1", "--mix.every", "0"]
    assert here("digits-natural", *few, "--schedules-by", "epoch", "--steps", str(steps)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert ("are less than two epochs of" in shown) == warned


def test_two_ranks_end_with_the_bits_of_one_process_after_an_interruption(tmp_path: Path) -> None:
    serial, parallel, torn = (tmp_path / name for name in ("serial", "parallel", "torn"))
    for directory in (serial, parallel, torn):
        directory.mkdir()
    with started(*WITH_TRADES, at=serial) as command:
        stop = stopped(
            lambda other: other.process.send_signal(signal.SIGTERM), torn, arguments=WITH_TRADES
        )
        succeeded(command.wait())
    assert stop.finished.status == 128 + signal.SIGTERM
    succeeded(train(*WITH_TRADES, at=torn))
    succeeded(train(*WITH_TRADES, at=parallel, ranks=2))
    assert_same_result(serial / "run", torn / "run")
    assert_same_result(serial / "run", parallel / "run")
    # Or this would say little.
    found = weights(serial / "run")
    assert len({found["natural"], found["adversarial"], found["global"]}) == 3
