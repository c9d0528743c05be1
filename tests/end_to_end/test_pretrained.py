"""A training that starts from weights, and normalises inside the network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import zipper_dist
from end_to_end.commands import started, train, typed
from end_to_end.conftest import Here
from end_to_end.results import assert_same_result, summary
from end_to_end.striped_images import make_folder
from zipper_dist.checkpoint.weights import load_weights, save_weights
from zipper_dist.models import ModelSpec, build
from zipper_dist.models.normalised import Normalised

pytestmark = pytest.mark.slow

SHORT = typed("""
    folder-finetune --data.root images --threads 1 --device cpu --precision fp32 --compile off
    --steps 6 --batch-size 8 --log-every 1 --data.validation 8 --eval.every 3 --eval.attack-steps 1
    --eval.limit 8 --learners.adversarial.attack.steps 1 --run-dir run
""")
VIT = typed("""--model.arch torchvision:vit_b_16 --model.options patch_size=8 num_layers=1
    hidden_dim=32 num_heads=2 mlp_dim=32""")


@pytest.fixture(autouse=True)
def _images_here(tmp_path: Path) -> None:
    make_folder(tmp_path / "images", train=48, test=16)


def vit(classes: int) -> nn.Module:
    """What VIT says, for images of 32×32 pixels."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(1)
    made: nn.Module = VisionTransformer(32, 8, 1, 2, 32, 32, num_classes=classes)
    return made


def first_weights(tmp_path: Path, here: Here, *words: str) -> dict[str, torch.Tensor]:
    """The weights after an iteration at a rate of zero."""
    still = typed("--learners.natural.lr 0 --learners.adversarial.lr 0 --steps 1 --eval.every 1")
    assert here(*SHORT, *words, *still) == 0
    return load_weights(tmp_path / "run" / "natural.safetensors")[1]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_file_of_another_head(
    name: str, here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = vit(7).state_dict()
    if name.endswith("pt"):
        torch.save({"state_dict": given}, tmp_path / name)
    else:
        safetensors.torch.save_file(given, tmp_path / name)
    words = [*VIT, "--model.weights", name, "--model.normalise", "0.4,0.5,0.6,0.2,0.2,0.3"]
    found = first_weights(tmp_path, here, *words)
    said = " ".join(capsys.readouterr().out.split())
    assert f"started from {name}: {len(given) - 2} of {len(given)} tensors" in said
    assert "random are heads.head.bias (4,), heads.head.weight (4, 32)" in said
    assert "left out of it are heads.head.bias (7,), heads.head.weight (7, 32)" in said
    for key, tensor in given.items():
        if not key.startswith("heads"):
            assert torch.equal(found[f"network.{key}"], tensor), key
    spec, _ = load_weights(tmp_path / "run" / "global.safetensors")
    assert spec.normalise == (0.4, 0.5, 0.6, 0.2, 0.2, 0.3)
    model = zipper_dist.load_model(tmp_path / "run" / "natural.safetensors")
    x = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor(spec.normalise).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.network((x - mean) / std))  # type: ignore[operator]


def test_weights_of_torchvision_from_its_cache(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    file = tmp_path / "cache/hub/checkpoints" / ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    given = resnet18().state_dict()
    torch.save(given, file)
    found = first_weights(tmp_path, here)  # as the recipe says
    assert torch.equal(found["network.conv1.weight"], given["conv1.weight"])
    model = zipper_dist.load_model(tmp_path / "run")
    assert isinstance(model, Normalised)
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_run_goes_on_with_what_another_run_left_interrupted_and_on_two_ranks(
    here: Here, tmp_path: Path
) -> None:
    begin = ["folder", *SHORT[1:], *VIT, "--model.normalise", "0.5,0.2", "--run-dir", "begin"]
    assert here(*begin) == 0
    adamw = typed("""--learners.natural.optimizer adamw --learners.natural.lr 0.001
        --learners.natural.schedule one-cycle --model.normalise auto
        --model.weights begin/global.safetensors""")
    words = [*SHORT, *VIT, *adamw]
    assert here(*words, "--run-dir", "whole") == 0
    with started(*words, "--run-dir", "run", at=tmp_path) as command:
        command.until_iteration(4)
        command.kill()
    assert here(*words, "--run-dir", "run") == 0
    assert_same_result(tmp_path / "whole", tmp_path / "run")
    train(*words, "--run-dir", "two", at=tmp_path, ranks=2)
    assert_same_result(tmp_path / "whole", tmp_path / "two")
    assert load_weights(tmp_path / "two/best.safetensors")[0].normalise == (0.5,) * 3 + (0.2,) * 3
    options = json.loads((tmp_path / "two/config.json").read_text())["options"]
    assert options["learners"]["natural"]["schedule"] == "one-cycle"
    assert summary(tmp_path / "two")["redistributions"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model.weights absent.pt", "absent.pt: no such file"),
        ("--model.weights timm:pretrained", "are for --model.arch timm:NAME"),
        ("--model.weights torchvision:BEST", "torchvision:resnet18 has the weights IMAGENET1K_V1"),
        ("--model.weights torchvision:DEFAULT", "Put resnet18-f37072fd.pth (from https://"),
        ("--model.weights other.pt", "none of its 1 tensors (such as a)"),
        ("--model.weights other.pt --model.normalise auto", "do not say how images are normal"),
        ("--model.normalise 0.5,0.5,0.5,0.5", "images have 3 channels, so give 2 or 6 numbers"),
        ("--model.normalise 0.5,0", "give mean,std or means and deviations"),
        ("--model.normalise auto --model.weights None", "takes --model.weights"),
    ],
)
def test_mistakes_are_told_in_a_line(
    here: Here,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for name in ("http", "https"):  # nothing listens there
        monkeypatch.setenv(f"{name}_proxy", "http://127.0.0.1:9")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    arch: Any = [] if "timm" not in words else ["--model.arch", "resnet18"]
    plain = [] if "normalise" in words else ["--model.normalise", "0.5,0.5"]
    assert here(*SHORT, *plain, *arch, *words.split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "Downloading" not in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_normalisation_that_weights_do_not_need_is_told_and_another_one_does_not_go_on(
    here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec("small_cnn", 3, 32, 32, 4, 0.25, normalise=(0.5,) * 3 + (0.2,) * 3)
    state = build(spec).state_dict()
    save_weights(tmp_path / "w.safetensors", state, spec)
    words = [*SHORT, *typed("--model.arch small_cnn --model.width 0.25 --steps 1 --eval.every 1")]
    words += ["--model.weights", "w.safetensors", "--run-dir"]
    assert here(*words, "other", "--model.normalise", "0.5,0.25") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "normalised by 0.5,0.5,0.5,0.2,0.2,0.2, and here they are normalised by 0.5," in said
    assert here(*words, "auto") == 0
    assert "here they are normalised" not in capsys.readouterr().out
    (tmp_path / "auto" / "summary.json").unlink()  # as if it had not come to its end
    assert here(*words, "auto") == 0
    (tmp_path / "auto" / "summary.json").unlink()
    save_weights(tmp_path / "w.safetensors", state, replace(spec, normalise=(0.5,) * 6))
    assert here(*words, "auto") == 2
    assert "--model.normalise meant 0.5,0.5,0.5,0.2,0.2,0.2" in capsys.readouterr().err
