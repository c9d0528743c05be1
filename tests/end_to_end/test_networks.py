"""Networks of torchvision, of timm and of one's own, from the command line to their gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from torch import nn

import zipper_dist
from end_to_end import own_network
from end_to_end.commands import succeeded, train, typed
from end_to_end.conftest import Here
from end_to_end.results import assert_same_result, weights
from end_to_end.striped_images import CLASSES, make_folder
from zipper_dist.attacks import image_gradient, summed_cross_entropy
from zipper_dist.errors import UserError
from zipper_dist.evaluation.network_views import NetworkViews
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.results.sanity import check_network
from zipper_dist.evaluation.target import load_target

pytestmark = pytest.mark.slow

SHORT = typed("""
    folder --data.root images --threads 1 --device cpu --precision fp32 --compile off --steps 5
    --batch-size 8 --mix.start 2 --mix.every 2 --mix.gamma 0.4 --log-every 1 --data.validation 8
    --eval.every 3 --eval.attack-steps 1 --eval.limit 8 --learners.natural.lr 0.02
    --learners.adversarial.lr 0.02 --learners.adversarial.attack.steps 2 --run-dir run
""")
VIT = typed("""--model.arch torchvision:vit_b_16 --model.options patch_size=8 num_layers=2
    hidden_dim=32 num_heads=2 mlp_dim=64 dropout=0.1""")
OWN = ["--model.arch", f"{own_network.__file__}:Patches", "--model.options", "width=12"]
NETWORKS = {
    "mobilenet": typed("--model.arch torchvision:mobilenet_v3_small"),
    "vit": VIT,
    "vit-shared": [*VIT, *typed("--placement.mode shared --placement.shards 2")],
    "convnext": typed(
        "--model.arch timm:convnext_atto --model.options depths=[1,1,1,1] dims=[16,16,32,32]"
    ),
    "timm-vit": typed(
        "--model.arch timm:vit_tiny_patch16_224 --model.options depth=2 drop_path_rate=0.1"
    ),
    "own": OWN,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures in colour."""
    return make_folder(tmp_path_factory.mktemp("images"), train=48, test=16)


@pytest.fixture(autouse=True)
def _images_here(images: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(images)


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        found: dict[str, str] = file.metadata()
    return found


def assert_attacks_see_gradients(model: nn.Module) -> None:
    """The checks for masked gradients pass, and what attacks differentiate has the gradients of the
    network itself."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 3, 32, 32, generator=generator)
    y = model(x).argmax(1)
    views = NetworkViews.of(model)
    checks = list(check_network(model, views.attacked, x, y))
    assert [check.name for check in checks] == ["eval mode", "gradients"]
    assert all(check.passed for check in checks), checks
    assert checks[1].figures["zero"] == 0
    exact, attacked = (
        image_gradient(view, x, summed_cross_entropy(y)) for view in (views.exact, views.attacked)
    )
    assert exact.abs().max() > 0
    assert (exact - attacked).abs().max() < 1e-3 * exact.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_two_ranks_end_with_the_bits_of_one(name: str, here: Here, tmp_path: Path) -> None:
    words = [*SHORT, *NETWORKS[name]]
    assert here(*words, "--run-dir", "serial") == 0
    succeeded(train(*words, at=tmp_path, ranks=2))
    assert_same_result(tmp_path / "serial", tmp_path / "run")
    found = weights(tmp_path / "run")
    assert len({found["natural"], found["adversarial"], found["global"]}) == 3
    arch = words[words.index("--model.arch") + 1]
    file = tmp_path / "run" / "natural.safetensors"
    if name == "own":
        with pytest.raises(UserError, match=r"own_network.py:Patches.*trust=True \(--trust\)"):
            zipper_dist.load_model(file)
    model = zipper_dist.load_model(file, trust=name == "own")
    assert_attacks_see_gradients(model)
    about = metadata_of(file)
    assert about["arch"] == arch
    assert json.loads(about["class_names"]) == list(CLASSES)
    assert about["threat"] == f"linf:{8 / 255!r}"
    options = words[words.index("--model.options") + 1] if "--model.options" in words else ""
    key, _, value = options.partition("=")
    assert not key or json.loads(about["options"])[key] == json.loads(value)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            "--data.source digits --model.arch torchvision:mobilenet_v3_small",
            ["cannot take images of 1×8×8", "given num_classes=10; it takes"],
        ),
        ("--model.arch torchvision:vit_b_16 --model.options patch_size=5", ["image_size=32"]),
        ("--model.arch torchvision:resnet81", ["no such classifier; there are resnet18"]),
        ("--model.arch timm:convnext_ato", ["no such classifier; there are convnext_atto"]),
        ("--model.arch torchvision:resnet18 --model.options depth=1", ["no such option: depth"]),
        ("--model.arch torchvision:resnet18 --model.options depth", ["give key=value"]),
        ("--model.arch resnet18 --model.options depth=1", ["resnet18 takes none", "--model.width"]),
        (f"--model.arch {own_network.__file__}:nothing", ["cannot take", "was given nothing"]),
        (
            f"--model.arch {own_network.__file__}:Patches --model.options num_classes=7",
            ["gives (2, 7) for 2 images", "num_classes=7, in_channels=3, image_size=32"],
        ),
    ],
)
def test_mistakes_say_what_the_factory_took(
    here: Here, capsys: pytest.CaptureFixture[str], words: str, parts: list[str]
) -> None:
    assert here(*SHORT, *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in parts), line


def test_a_file_with_code_of_ones_own_is_evaluated_if_trusted(here: Here, tmp_path: Path) -> None:
    assert here(*SHORT, *OWN) == 0
    with pytest.raises(UserError, match=r"load it with trust=True"):
        load_target(EvaluateOptions(tmp_path / "run"))
    (tmp_path / "run" / "global.safetensors").rename(tmp_path / "theirs.safetensors")
    words = typed("""theirs.safetensors --data folder --data.root images --threats linf:8/255
        --attacks clean pgd-3 --limit 12 --threads 1 --device cpu""")
    command = [sys.executable, "-m", "zipper_dist.evaluate", *words]
    with pytest.raises(UserError, match=r"load it with trust=True \(--trust\) if you trust it"):
        load_target(EvaluateOptions(tmp_path / "theirs.safetensors"))
    done = subprocess.run([*command, "--trust"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluation-theirs.json").read_text())
    assert found["network"]["file"] == "theirs.safetensors"


def test_bf16_and_normalisation(here: Here, tmp_path: Path) -> None:
    words = [*SHORT, *NETWORKS["vit"], *typed("--precision bf16 --model.normalise 0.5,0.25")]
    assert here(*words) == 0
    assert_attacks_see_gradients(zipper_dist.load_model(tmp_path / "run"))
