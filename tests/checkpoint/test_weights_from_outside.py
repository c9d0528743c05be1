"""Weights files of networks that are not the package's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zipper_dist.accel.surrogate import Surrogate
from zipper_dist.checkpoint.weights import load_model, load_weights, save_weights
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build
from zipper_dist.models.normalised import Normalised

VIT = {"patch_size": 4, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
NORMALISE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
NAMES = ("an apple", "ä", "c, d")
SPECS = [
    ModelSpec("torchvision:vit_b_16", 3, 8, 8, 3, options=VIT, class_names=NAMES),
    ModelSpec("torchvision:shufflenet_v2_x0_5", 3, 32, 32, 3, normalise=NORMALISE),
    ModelSpec("timm:vit_tiny_patch16_224", 1, 32, 32, 3, options={"depth": 1, "embed_dim": 12}),
    ModelSpec("timm:convnext_atto", 1, 32, 32, 3, options={"depths": [1] * 4, "dims": [8] * 4}),
    ModelSpec("resnet18", 3, 8, 8, 3, 0.05, normalise=NORMALISE),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def images(spec: ModelSpec) -> Tensor:
    return torch.rand(2, spec.channels, spec.height, spec.width)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.arch)
def test_a_network_comes_back_without_trust_and_draws_nothing(
    tmp_path: Path, spec: ModelSpec
) -> None:
    network = build(spec).eval()
    save_weights(tmp_path / "file", network.state_dict(), spec)
    before = torch.get_rng_state()
    assert load_weights(tmp_path / "file")[0] == spec
    model = load_model(tmp_path / "file")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    x = images(spec)
    with torch.no_grad():
        assert torch.equal(model(x), network(x))
    assert all(p.requires_grad for p in model.parameters())


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        found: dict[str, str] = file.metadata()
    return found


def test_metadata_say_how_to_build_it(tmp_path: Path) -> None:
    spec = SPECS[0]
    save_weights(tmp_path / "file", build(spec).state_dict(), spec)
    found = metadata_of(tmp_path / "file")
    assert json.loads(found["options"]) == VIT
    assert json.loads(found["class_names"]) == list(NAMES)
    assert "normalise" not in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": "[1]"}, "damaged: its metadata cannot be read: options is [1]"),
        ({"options": "{"}, "damaged: its metadata cannot be read"),
        ({"normalise": '["a"]'}, "damaged: its metadata cannot be read"),
        ({"options": '{"patch": 4}'}, "cannot be built: TypeError: no such option: patch"),
        ({"arch": "torchvision:vit"}, "torchvision has no such classifier"),
        ({"arch": "os:system"}, "its network is os:system, outside this package"),
        (
            {"arch": "timm:convnext_atto", "options": '{"checkpoint_path": "there"}'},
            "no such option: checkpoint_path",
        ),
        ({"arch": "timm:hf_hub:someone/something", "options": "{}"}, "timm has no such classifier"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    spec = SPECS[0]
    state = build(spec).state_dict()
    save_weights(tmp_path / "file", state, spec)
    changed = metadata_of(tmp_path / "file") | changes
    (tmp_path / "file").write_bytes(safetensors.torch.save(state, metadata=changed))
    for load in (load_weights, load_model):
        with pytest.raises(UserError) as raised:
            load(tmp_path / "file")
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


def test_normalisation_is_in_the_network_and_its_surrogate_and_not_in_its_state() -> None:
    spec = SPECS[4]
    network = build(spec).eval()
    assert isinstance(network, Normalised)
    x = images(spec)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (NORMALISE[:3], NORMALISE[3:]))
    with torch.no_grad():
        wanted = network.network((x - mean) / std)
        assert torch.equal(network(x), wanted)
        torch.testing.assert_close(Surrogate(network)(x), wanted, rtol=1e-4, atol=1e-5)
    assert all(name.startswith("network.") for name in network.state_dict())
    assert not list(network.buffers(recurse=False))
    moved: nn.Module = network.to("meta")
    assert moved(x.to("meta")).is_meta
