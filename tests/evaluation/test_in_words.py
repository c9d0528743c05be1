"""What is doubted of a figure is answered, in words and in evaluation.json."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.conftest import EPS
from zipper_dist.checkpoint.weights import load_model, load_weights, save_weights
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.results.in_words import (
    checks_in_words,
    choice_of_weights,
    images_in_words,
    threat_in_words,
)
from zipper_dist.evaluation.results.sanity import Check
from zipper_dist.evaluation.run import run
from zipper_dist.evaluation.target import load_target, trained_against

LINF, L2 = ThreatModel("linf", 8 / 255), ThreatModel("l2", 0.5)
HELD_OUT: dict[str, Any] = {"data": {"source": "digits", "validation": "0.1"}}
ON_TEST: dict[str, Any] = {"data": {"source": "digits", "validation": "test"}}


def test_which_images_the_best_weights_were_chosen_on() -> None:
    best, last = Path("run/best.safetensors"), Path("run/global.safetensors")
    choice = choice_of_weights(best, HELD_OUT)
    assert choice.on == "held-out images"
    assert "training images that were held out (--data.validation 0.1)" in choice.words
    assert "the test set had no part in the choice" in choice.words
    choice = choice_of_weights(best, ON_TEST)
    assert choice.on == "test set"
    assert "on the test set, so that accuracies on it are too high" in choice.words
    for options in (HELD_OUT, ON_TEST):
        choice = choice_of_weights(last, options)
        assert choice.on == "nothing"
        assert "the end of the training: none were chosen" in choice.words
    learners = HELD_OUT | {"learners": {"natural": {}}}
    assert choice_of_weights(Path("run/natural.safetensors"), learners).on == "nothing"
    other = Path("run/other.safetensors")
    for file, options in ((best, {}), (best, {"data": {}}), (last, {}), (other, learners)):
        choice = choice_of_weights(file, options)
        assert choice.on == "unknown"
        assert "not known" in choice.words


def test_weights_that_a_run_started_from_are_named() -> None:
    options = HELD_OUT | {"model": {"weights": "timm:pretrained"}}
    for name in ("best", "global"):
        words = choice_of_weights(Path(f"{name}.safetensors"), options).words
        assert "that it started from is not known (timm:pretrained)" in words
    assert "started from" not in choice_of_weights(Path("best.safetensors"), HELD_OUT).words


def test_what_the_attacker_may_do() -> None:
    one, both = threat_in_words([LINF], None), threat_in_words([LINF, L2], [LINF])
    assert "linf ε 0.03137 (8/255): each value of a pixel" in one
    assert "l2 ε 0.5: the change of all pixels together" in both
    assert "robust only if no attack under any of these breaks it" in both
    assert "Union" not in one
    assert "trained" not in one
    assert both.endswith("The network was trained against linf ε 0.03137.")
    assert threat_in_words([LINF], []).endswith("The network was trained against no attack.")


def test_what_a_network_was_trained_against() -> None:
    attacks = {"natural": {}, "linf": {"attack": {"norm": "linf", "eps": 8 / 255}}}
    attacks["l2"] = {"attack": {"norm": "l2", "eps": 0.5}}
    options = {"learners": attacks, "eval": {"threats": ["l2:9"]}}
    assert trained_against(options) == (LINF, L2)
    assert trained_against(options, "best") == (LINF, L2)
    assert trained_against(options, "l2") == (L2,)
    assert trained_against(options, "natural") == ()


def test_which_images_and_by_which_seed() -> None:
    data = {"name": "mnist", "images": 50, "of": 10000, "chosen": "at random"}
    words = images_in_words(data, 7)
    assert words.startswith("50 of the 10000 test images of mnist, drawn at random by a fixed seed")
    assert "every --seed" in words
    assert words.endswith("The attacks draw by --seed 7.")
    first = images_in_words(data | {"chosen": "the first"}, 0)
    assert first.startswith("The first 50 of the 10000 test images of mnist, in the order")
    whole = images_in_words(data | {"chosen": "all", "images": 10000}, 0)
    assert whole.startswith("All 10000 test images of mnist.")


def test_which_checks_were_made() -> None:
    passed, failed = Check("inputs", True, "Good."), Check("gradients", False, "Bad.")
    assert checks_in_words([], 256, ["clean", "aa"]).startswith("None was made")
    assert "--sanity" in checks_in_words([], 256, ["aa"])
    words = checks_in_words([passed, passed], 256, ["clean", "aa@linf:0.1"])
    assert words.startswith("All 2 for masked gradients")
    assert words.endswith("on 256 of the images.")
    words = checks_in_words([passed, failed], 256, ["clean", "pgd-20", "aab"])
    assert words.startswith("1 of 2 for masked gradients")
    assert "(gradients): robust accuracy may be an illusion" in words
    assert words.endswith("AutoAttack (aa), which may break more, was not run.")


@pytest.fixture(scope="module")
def with_best(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with best weights, which are those of its global learner."""
    copy = tmp_path_factory.mktemp("best") / "run"
    shutil.copytree(run_directory, copy)
    shutil.copy(copy / "global.safetensors", copy / "best.safetensors")
    return copy


@pytest.mark.parametrize("validation", ["0.1", "test"])
def test_the_command_says_it(
    with_best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], validation: str
) -> None:
    file = with_best / "config.json"
    config = json.loads(file.read_text())
    config["options"]["data"]["validation"] = validation
    file.write_text(json.dumps(config))
    options = EvaluateOptions(
        with_best, ("clean", "fgsm"), "best", limit=20, out=tmp_path, threads=1, picture=False,
    )  # fmt: skip
    run(options)
    found = json.loads((tmp_path / "evaluation-best.json").read_text())
    said = " ".join(capsys.readouterr().out.split())
    words = found["in_words"]
    assert list(words) == ["threat_model", "images", "checks", "weights"]
    for name, sentences in words.items():
        assert f"{name.replace('_', ' ')}: {sentences}" in said
    assert words["images"].startswith("20 of the 360 test images of digits, drawn at random")
    assert words["threat_model"].startswith(f"linf ε {EPS}")
    assert words["threat_model"].endswith(f"The network was trained against linf ε {EPS}.")
    assert words["checks"].startswith("None was made")
    too_high = [warning for warning in found["warnings"] if "too high" in warning]
    if validation == "test":
        assert found["network"]["chosen_on"] == "test set"
        assert words["weights"] == too_high[0]
    else:
        assert found["network"]["chosen_on"] == "held-out images"
        assert "held out (--data.validation 0.1)" in words["weights"]
        assert not too_high


def test_a_damaged_run_is_told_before_the_work(with_best: Path, tmp_path: Path) -> None:
    """Also where only the words would need what is damaged."""
    shutil.copytree(with_best, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    config = json.loads(file.read_text())
    config["options"]["eval"]["threats"] = ["linf:0.1"]
    config["options"]["learners"]["adversarial"]["attack"]["norm"] = "l7"
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config.json is damaged \('l7:0.1' is not a threat model"):
        load_target(EvaluateOptions(tmp_path / "run"))


def test_a_network_that_hides_its_gradients_is_told_in_words(
    run_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logits a million times as large: the cross-entropy saturates."""
    file = run_directory / "global.safetensors"
    spec, state = load_weights(file)
    last = [name for name in load_model(file).state_dict() if name.endswith("weight")][-1]
    for name in (last, last.replace("weight", "bias")):
        state[name] = torch.mul(state[name], 1e6)
    masked = tmp_path / "masked.safetensors"
    save_weights(masked, state, replace(spec))
    run(EvaluateOptions(
        masked, ("clean", "fgsm"), dataset="digits", limit=20, threads=1, sanity=True,
        threats=(ThreatModel("linf", EPS),), picture=False,
    ))  # fmt: skip
    found: dict[str, Any] = json.loads((tmp_path / "evaluation-masked.json").read_text())
    failed = [check["name"] for check in found["sanity"] if not check["passed"]]
    assert "gradients" in failed
    words = found["in_words"]["checks"]
    assert words.startswith(f"{len(failed)} of 8 for masked gradients and other mistakes failed")
    assert f"({', '.join(failed)})" in words
    assert found["network"]["chosen_on"] == "unknown"
    assert "WARNING  gradients: " in capsys.readouterr().out
