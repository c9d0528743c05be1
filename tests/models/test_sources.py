"""What factories outside the package are given, and where weights of other packages come from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from zipper_dist.checkpoint.initial import initial_weights, start_from
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS, ModelSpec, build, check_network
from zipper_dist.models.normalised import Normalised
from zipper_dist.models.sources.factory import KeywordFactory

SPEC = ModelSpec("", 3, 8, 8, 5)
FILE = """
import functools
from torch import nn

def made(*given, **named):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    network.given = given, named
    return network

def by_name(num_classes, in_chans, img_size=224, depth=2):
    return made(num_classes=num_classes, in_chans=in_chans, img_size=img_size, depth=depth)

def other_names(*, n_classes, in_channels, image_size): return made(**locals())
def few(depth=1, classes=3): return made(depth=depth, classes=classes)
def spec_first(spec, depth=1): return made(spec, depth=depth)
def spec_unnamed(s): return made(s)
def spec_or_not(spec=None, num_classes=7): return made(spec, num_classes=num_classes)
def anything(*given): return made(*given)
def nothing(): return made()
def options(**more): return made(**more)
partly = functools.partial(by_name, in_chans=1)

class Net(nn.Linear):
    def __init__(self, num_classes): super().__init__(2, num_classes); self.given = num_classes
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of factories."""
    (tmp_path / "own.py").write_text(FILE)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("by_name", {}, {"num_classes": 5, "in_chans": 3, "img_size": 8, "depth": 2}),
        ("by_name", {"depth": 4, "img_size": 9},
         {"num_classes": 5, "in_chans": 3, "img_size": 9, "depth": 4}),
        ("other_names", {}, {"n_classes": 5, "in_channels": 3, "image_size": 8}),
        ("few", {}, {"depth": 1, "classes": 5}),
        ("partly", {}, {"num_classes": 5, "in_chans": 3, "img_size": 8, "depth": 2}),
        ("nothing", {}, {}),
        ("options", {"a": [1], "b": "x"}, {"a": [1], "b": "x"}),
    ],
)  # fmt: skip
def test_arguments_come_from_the_data_by_name(
    own: Path, name: str, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    made: Any = build(replace(SPEC, arch=f"{own}:{name}", options=options))
    assert made.given == ((), wanted)


@pytest.mark.parametrize("name", ["spec_first", "spec_unnamed", "spec_or_not", "anything"])
def test_or_they_are_the_description(own: Path, name: str) -> None:
    spec = replace(SPEC, arch=f"{own}:{name}")
    made: Any = build(spec)
    assert made.given[0] == (spec,)
    if name == "spec_first":
        made = build(replace(spec, options={"depth": 3}))
        assert made.given[1] == {"depth": 3}


def test_images_that_are_not_square(own: Path) -> None:
    made: Any = build(replace(SPEC, width=10, arch=f"{own}:by_name"))
    assert made.given[1]["img_size"] == (8, 10)


def test_a_class(own: Path) -> None:
    made: Any = build(replace(SPEC, arch=f"{own}:Net"))
    assert made.given == 5


def test_options_win_over_what_torchvisions_functions_set() -> None:
    from torchvision.models import VisionTransformer, resnet18, vit_b_16

    options = {"patch_size": 4, "num_layers": 1, "hidden_dim": 12, "num_heads": 3, "mlp_dim": 5}
    made: Any = build(replace(SPEC, arch="torchvision:vit_b_16", options=options))
    assert (made.image_size, made.patch_size, made.hidden_dim, made.mlp_dim) == (8, 4, 12, 5)
    assert (len(made.encoder.layers), made.heads.head.out_features) == (1, 5)
    # The class is as it was.
    plain = VisionTransformer(8, 8, 2, 2, 4, 4)
    assert (len(plain.encoder.layers), plain.num_classes) == (2, 1000)
    made = build(replace(SPEC, arch="torchvision:resnet18", options={"layers": [1, 1, 1, 1]}))
    assert len(made.layer1) == 1
    assert len(resnet18().layer1) == 2
    with pytest.raises(TypeError):
        vit_b_16(num_layers=1)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_torchvisions_networks_give_one_tensor_in_training() -> None:
    made = build(replace(SPEC, height=96, width=96, arch="torchvision:googlenet"))
    assert made.train()(torch.rand(2, 3, 96, 96)).shape == (2, 5)


def test_timm_takes_channels_classes_and_size() -> None:
    spec = ModelSpec("timm:vit_tiny_patch16_224", 1, 32, 32, 5, options={"depth": 1})
    made = build(spec)
    check_network(made, spec)
    assert made(torch.rand(2, 1, 32, 32)).shape == (2, 5)
    factory = NETWORKS.find(spec.arch, "--model.arch")
    assert isinstance(factory, KeywordFactory)
    assert (
        "given num_classes=5, in_chans=1, img_size=32, depth=1; it takes num_classes, in_chans"
        in (factory.describe(spec))
    )


def test_without_timm_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as raised:
        NETWORKS.find("timm:convnext_atto", "--model.arch")
    hint = "takes the package timm (pip install 'zipper_dist[timm]')"
    assert str(raised.value) == f"--model.arch timm:convnext_atto: {hint}"


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(UserError, match=r"resnet18.*timm:NAME, torchvision:NAME, package.module"):
        NETWORKS.find("resnet", "--model.arch")


def test_weights_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    name = "test_convnext"
    theirs = timm.create_model(name, pretrained=False)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    from timm.models import _registry

    about = _registry._model_pretrained_cfgs
    tagged = next(key for key in about if key.partition(".")[0] == name)
    local = replace(about[tagged], file=str(tmp_path / "theirs.pth"))
    monkeypatch.setitem(about, tagged, local)
    spec = ModelSpec(f"timm:{tagged}", 3, 32, 32, 5)
    start = initial_weights("timm:pretrained", spec)
    assert start.normalise == (*local.mean, *local.std)
    network = build(spec)
    note = start_from(network, start, "timm:pretrained")
    assert "random are head.fc.bias (5,), head.fc.weight (5, " in note
    fitting = [key for key in theirs.state_dict() if not key.startswith("head.fc")]
    assert all(torch.equal(network.state_dict()[k], theirs.state_dict()[k]) for k in fitting)
    with pytest.raises(UserError, match="give timm:pretrained"):
        initial_weights("timm:best", spec)


def test_the_constants_of_a_normalisation_are_not_rounded_for_good() -> None:
    network = Normalised(torch.nn.Flatten(), (0.485, 0.1), (0.229, 0.3))
    x = torch.rand(2, 2, 3, 3)
    wanted = network(x)
    assert network.half()(x.half()).dtype == torch.float16
    assert torch.equal(network.float()(x), wanted)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, (0.5,) * 6), ({"transform_input": True}, (0.485, 0.456, 0.406, 0.229, 0.224, 0.225))],
)
def test_googlenets_weights_are_normalised_in_their_own_way(
    options: dict[str, Any],
    wanted: tuple[float, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchvision.models import GoogLeNet_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints" / GoogLeNet_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save({}, file)
    spec = replace(SPEC, arch="torchvision:googlenet", options=options)
    assert initial_weights("torchvision:DEFAULT", spec).normalise == wanted
