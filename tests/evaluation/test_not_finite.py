"""A network that answers NaN answers nothing: never right, never robust, never in silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training.test_nothing_is_read_back import NothingIsRead

from evaluation.helpers import attack_all
from zipper_dist.attacks.verdict import NO_ANSWER, Unanswered, answers
from zipper_dist.checkpoint.weights import load_model, load_weights, save_weights
from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import attack_named
from zipper_dist.evaluation.engine import Examples
from zipper_dist.evaluation.in_memory import evaluate_model

NAMES = ["fgsm", "pgd-5", "mim-5", "cw-5", "apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square", "aa"]


class SilentWhereBright(nn.Module):
    """Says class 0, whatever the image, and NaN where a pixel is brighter than 0.55."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.0, 0.01, 0.02, 0.03, 0.04]))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        logits = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0]) + flat.mean(1)[:, None] * self.slope
        return torch.where((flat.amax(1) > 0.55)[:, None], torch.nan, logits)


def test_an_answer_takes_finite_logits() -> None:
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[0.0, 1.0], [nan, 1.0], [1.0, nan], [nan, nan], [inf, 1.0], [1.0, -inf]])
    assert answers(logits).tolist() == [1, *[NO_ANSWER] * 5]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_takes_nan_for_robustness(tmp_path: Path, norm: str) -> None:
    """The label is 0, the class that ``argmax`` makes of NaNs. An L2 ball holds bright images, too;
    FAB alone, which looks for a boundary where this network has none, need not find them there."""
    threat = ThreatModel.parse(f"{norm}:{0.1 if norm == 'linf' else 0.8}")
    x, y = torch.full((9, 1, 6, 6), 0.5), torch.zeros(9, dtype=torch.int64)
    found = attack_all(tmp_path, SilentWhereBright(), x, y, NAMES, threat, short=True)
    assert found.report.figures["clean"].correct == 9
    for name in NAMES if norm == "linf" else ["pgd-5", "mim-5", "apgd-ce", "apgd-t", "aa"]:
        figure = found.report.figures[name]
        assert (figure.correct, figure.not_finite) == (0, 9), name
        images = found.images(name)
        assert images.isfinite().all()
        assert SilentWhereBright()(images).isnan().all(), name
    assert any("pgd-5: " in warning and "9 of 9" in warning for warning in found.report.warnings)
    attack = attack_named("pgd-5", threat)
    assert SilentWhereBright()(attack(SilentWhereBright(), x, y)).isnan().all()


def test_a_pass_of_an_attack_does_not_wait_for_the_device() -> None:
    x = torch.full((6, 1, 6, 6), 0.5)
    x[:2] = 0.9
    network = Unanswered(SilentWhereBright(), x, "linf", 0.01)
    with NothingIsRead():  # type: ignore[no-untyped-call]
        network(x)
        network(x[2:])
    assert network.noticed()
    assert not network.noticed()  # since then
    with NothingIsRead():  # type: ignore[no-untyped-call]
        network(x[2:])
    assert not network.noticed()
    network.remembers = True
    network(x)
    assert network.found.tolist() == [True, True, False, False, False, False]


def test_nan_on_clean_images_is_wrong_and_told() -> None:
    x = torch.full((6, 1, 6, 6), 0.5)
    x[:2] = 0.9
    result = evaluate_model(
        SilentWhereBright(), Examples(x, torch.zeros(6, dtype=torch.int64)),
        ThreatModel("linf", 0.01), ("clean", "pgd-3"),
    )  # fmt: skip
    for name in ("clean", "pgd-3"):
        assert (result.figures[name].correct, result.figures[name].not_finite) == (4, 2)
    assert "clean: the network's logits are NaN or infinite for 2 of 6 images" in result.table()


def test_a_network_that_answers_all_alike_is_told() -> None:
    x, labels = torch.rand(6, 1, 6, 6) / 2, torch.tensor([0, 1, 2, 0, 1, 2])
    threat = ThreatModel("linf", 0.01)
    result = evaluate_model(SilentWhereBright(), Examples(x, labels), threat, ("clean",))
    assert result.constant
    assert "answers all images alike" in result.table()
    one = evaluate_model(SilentWhereBright(), Examples(x, 0 * labels), threat, ("clean",))
    assert not one.constant


@pytest.mark.parametrize("ranks", [0, 2])
def test_the_command_warns_and_counts(run_directory: Path, tmp_path: Path, ranks: int) -> None:
    """A network with finite weights whose last layer overflows."""
    file = run_directory / "global.safetensors"
    spec, _ = load_weights(file)
    state = load_file(file)
    last = [name for name in state if name.endswith("weight")][-1]
    state[last] = torch.full_like(state[last], 3e38)
    load_model(file).load_state_dict(state)
    broken = tmp_path / "broken.safetensors"
    save_weights(broken, state, spec)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    options = [broken, "--data", "digits", "--data.image-size", 16, "--attacks", "clean", "fgsm"]
    done = subprocess.run(
        [sys.executable, *(launcher if ranks else []), "-m", "zipper_dist.evaluate",
         *map(str, options), "--limit", "64", "--threads", "1", "--no-picture"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "evaluation-broken.json").read_text())
    clean = content["attacks"]["clean"]
    assert clean["not_finite"] > 0
    assert clean["correct"] + clean["not_finite"] <= clean["n"]
    assert any("NaN or infinite" in warning for warning in content["warnings"])
    assert "WARNING  clean: the network's logits are NaN or infinite" in done.stdout
    assert "bold" not in done.stdout
