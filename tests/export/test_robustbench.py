"""What is exported for RobustBench runs without zipper_dist, and says what was measured."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import zipper_dist
from export.conftest import IMAGES, without_zipper_dist
from zipper_dist.checkpoint.weights import save_weights
from zipper_dist.config.schema import DataConfig
from zipper_dist.data import load
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS, ModelSpec, build

pytestmark = pytest.mark.slow

FIELDS = {
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue"),
    *("architecture", "eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable"),
}
PERCEPTRON = f"{Path(__file__).parents[2]}/docs/examples/network.py:Perceptron"

SAVE_LOGITS = """
from model import load_model
network = load_model()
assert not network.training
with torch.no_grad():
    torch.save(network(images), "logits.pt")
"""


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("arch", [*NETWORKS, PERCEPTRON])
def test_logits_are_equal_to_the_bit_without_zipper_dist(
    arch: str, activation: str, tmp_path: Path
) -> None:
    spec = ModelSpec(arch, 3, 20, 17, 7, 0.25, activation)
    torch.manual_seed(0)
    network = build(spec)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 1 or name.endswith("fc3.weight"):  # which a new network has alike
            tensor.uniform_(0.5, 1.5)
    file = tmp_path / "weights.safetensors"
    save_weights(file, network.state_dict(), spec)
    if ":" in arch:
        with pytest.raises(UserError, match=r"trust=True \(--trust\)"):
            zipper_dist.export_model(file, "robustbench", tmp_path / "out")
    out = zipper_dist.export_model(file, "robustbench", tmp_path / "out", trust=":" in arch)
    images = torch.rand(3, 3, 20, 17)
    torch.save(images, tmp_path / "images.pt")
    without_zipper_dist(SAVE_LOGITS, out, tmp_path / "images.pt")
    with torch.no_grad():
        assert torch.equal(torch.load(out / "logits.pt"), network.eval()(images))
    assert str(tmp_path) not in (out / "model.py").read_text()


def test_the_claim_has_every_field_and_the_log_what_was_found(
    run: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    out = zipper_dist.export_model(run, "robustbench", tmp_path)
    claim = out / "model_info" / "digits" / "Linf" / "digits-tiny.json"
    info = json.loads(claim.read_text())
    assert info.keys() == FIELDS
    attacks = evaluation["attacks"]
    assert info["clean_acc"] == f"{attacks['clean']['accuracy']:.2f}"
    assert info["autoattack_acc"] == info["reported"] == f"{attacks['aa']['accuracy']:.2f}"
    assert (info["dataset"], info["eps"]) == ("digits", "0.17")
    assert info["additional_data"] is False
    assert f"{IMAGES} of 360 test images" in info["footnote"]
    log = claim.with_suffix(".log").read_text()
    assert f"initial accuracy: {attacks['clean']['accuracy']:.2f}%" in log
    right = attacks["clean"]["correct"]
    broken = right - attacks["apgd-ce"]["correct"]
    assert f"apgd-ce - {broken} out of {right} successfully perturbed" in log
    left = attacks["apgd-ce"]["accuracy"]
    assert f"\nrobust accuracy after APGD-CE: {left:.2f}%\n" in log
    assert f"\nrobust accuracy: {attacks['aa']['accuracy']:.2f}% " in log


def test_results_of_other_weights_are_left_out(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.copy(run / "natural.safetensors", tmp_path / "run" / "global.safetensors")
    words = [str(tmp_path / "run"), "--to", "robustbench", "--name", "Some2020Paper"]
    command = [sys.executable, "-m", "zipper_dist.export", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "evaluation.json is left out: it is of other weights" in done.stdout
    assert "no AutoAttack result of these weights is known for Linf" in done.stdout
    assert "to be filled in" in done.stdout
    claims = tmp_path / "run" / "export" / "robustbench" / "model_info" / "digits" / "Linf"
    info = json.loads((claims / "Some2020Paper.json").read_text())
    assert info["autoattack_acc"] is info["clean_acc"] is None
    assert not (claims / "Some2020Paper.log").exists()


# RobustBench 1.1.1 takes AutoAttack by names that its requirement pyautoattack does not have, and
# pkg_resources, for ImageNet alone, which setuptools does not have any more. It would fetch
# CIFAR-10; the digits take its place.
EVALUATE = """
import importlib, types
sys.modules.setdefault("pkg_resources", types.ModuleType("pkg_resources"))
import pyautoattack

class AutoAttack(pyautoattack.AutoAttack):
    def __init__(self, model, log_path, **options):
        super().__init__(model, seed=0, **options)
    def run_standard_evaluation(self, x, y, bs, state_path):
        options = {"batch_size": bs, "state_path": state_path}
        attacked = super().run_standard_evaluation(x, y, **options)
        return attacked[0] if isinstance(attacked, tuple) else attacked

sys.modules["autoattack"] = types.ModuleType("autoattack")
sys.modules["autoattack"].AutoAttack = AutoAttack
sys.modules["autoattack.state"] = importlib.import_module("pyautoattack.state")
import robustbench.eval
from model import load_model
labels = torch.load("labels.pt")
robustbench.eval.load_clean_dataset = lambda dataset, n, *_: (images[:n], labels[:n])
clean, robust = robustbench.eval.benchmark(
    load_model(), n_examples=len(labels), dataset="cifar10", threat_model="Linf", eps=0.17
)
print("found", round(100 * clean, 2), round(100 * robust, 2))
"""


@pytest.mark.skipif(  # torchattacks has a folder of that name with it, too
    not any(importlib.metadata.distributions(name="robustbench")),
    reason="takes robustbench: pip install --no-deps robustbench timm pandas gdown geotorch "
    "torchdiffeq beautifulsoup4 soupsieve",
)
def test_robustbench_evaluates_it(run: Path, evaluation: dict[str, Any], tmp_path: Path) -> None:
    out = zipper_dist.export_model(run, "robustbench", tmp_path / "out")
    test = load(DataConfig(source="digits", image_size=8), 0).test
    torch.save((test.images[:IMAGES].float() / 255).contiguous(), tmp_path / "images.pt")
    torch.save(test.labels[:IMAGES], out / "labels.pt")
    said = without_zipper_dist(EVALUATE, out, tmp_path / "images.pt").splitlines()[-1]
    attacks = evaluation["attacks"]
    expected = [round(attacks[name]["accuracy"], 2) for name in ("clean", "aa")]
    assert said == f"found {expected[0]} {expected[1]}"
