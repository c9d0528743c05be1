"""What an export leaves behind, and what it claims."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.weights import checksum, save_weights
from zipper_dist.errors import Failure, UserError
from zipper_dist.export.base import EXPORTERS, Subject
from zipper_dist.export.robustbench import model_info
from zipper_dist.export.subject import ExportOptions, read_subject
from zipper_dist.models import ModelSpec, build
from zipper_dist.recipes.registry import recipe

SPEC = ModelSpec("small_cnn", 1, 16, 16, 10, 0.25)


def subject_of(spec: ModelSpec, directory: Path) -> Subject:
    network = build(spec).eval()
    save_weights(directory / "some.safetensors", network.state_dict(), spec)
    return Subject(network, spec, directory / "some.safetensors", "some")


class Noisy(nn.Module):
    """Gives other logits every time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits + torch.rand_like(logits)


@pytest.mark.parametrize(
    ("to", "file"),
    [
        ("torch-export", "model.pt2"),
        ("onnx", "model.onnx"),
        ("hub", "model.py"),
        ("robustbench", "model.py"),
    ],
)
def test_what_gives_other_logits_replaces_nothing(to: str, file: str, tmp_path: Path) -> None:
    subject = subject_of(SPEC, tmp_path)
    subject = replace(subject, model=Noisy())
    (tmp_path / file).write_text("as it was")
    with pytest.raises(Failure):
        list(EXPORTERS[to](subject, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"some.safetensors", file}
    assert (tmp_path / file).read_text() == "as it was"


OWN = """
import functools
from torch import nn

def one(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(256, num_classes))

Net = functools.partial(one)
"""


def test_without_model_py_the_card_says_what_loads_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(EXPORTERS["hub"](subject_of(SPEC, tmp_path), out))
    assert (out / "model.py").exists()
    assert "trust" not in (out / "README.md").read_text()
    (tmp_path / "own.py").write_text(OWN)
    arch = f"{tmp_path}/own.py:Net"
    subject = subject_of(replace(SPEC, arch=arch), tmp_path)
    list(EXPORTERS["hub"](subject, out))
    assert not (out / "model.py").exists()  # which was of the other network
    card = (out / "README.md").read_text()
    assert 'load_model("model.safetensors", trust=True)\n' in card
    assert f"`{arch}` is needed" in card
    (out / "model.py").write_text("of the user")
    list(EXPORTERS["hub"](subject, out))
    assert (out / "model.py").read_text() == "of the user"


def test_networks_of_torchvision_have_other_formats(tmp_path: Path) -> None:
    spec = ModelSpec("torchvision:squeezenet1_1", 3, 32, 32, 10)
    with pytest.raises(UserError, match=r"of torchvision: use --to hub, onnx or torch-export"):
        list(EXPORTERS["robustbench"](subject_of(spec, tmp_path), tmp_path))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_figures_on_other_data_are_not_claimed(name: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_config(recipe("digits"), {"precision": "fp32"}, ["cpu"])
    network = build(SPEC)
    save_weights(directory.weights("global"), network.state_dict(), SPEC)
    evaluation = {
        "network": {"sha256": checksum(network.state_dict())},
        "data": {"name": name, "images": 10, "of": 10, "chosen": "all"},
        "attacks": {"clean": {"accuracy": 90.0, "correct": 9, "n": 10, "interval": [60, 99]}},
        **{"sanity": [], "warnings": [], "versions": {}, "device": "CPU", "seed": 0},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    subject, notes = read_subject(ExportOptions(tmp_path, "robustbench"))
    assert model_info(subject, None)["clean_acc"] == ("90.00" if name == "digits" else None)
    assert [note for note in notes if "it is on mnist" in note] == notes
    assert bool(notes) == (name == "mnist")


@pytest.mark.parametrize(
    ("weights", "extra", "more"),
    [
        (None, None, False),
        ("torchvision:DEFAULT", None, True),
        ("begin/global.safetensors", None, None),
        ("begin/global.safetensors", "more.npz", True),
    ],
)
def test_only_what_is_known_of_additional_data_is_said(
    weights: str | None, extra: str | None, more: bool | None, tmp_path: Path
) -> None:
    options = {"data": {"extra": extra}, "model": {"weights": weights}}
    subject = replace(subject_of(SPEC, tmp_path), config={"options": options})
    assert model_info(subject, None)["additional_data"] is more
