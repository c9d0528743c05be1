"""Evaluations of networks that compute something else share no outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from zipper_dist.checkpoint.weights import checksum, save_weights
from zipper_dist.evaluation.build import identity_of
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.target import load_target
from zipper_dist.models import ModelSpec, build

SPEC = ModelSpec("small_cnn", 1, 16, 16, 10, 0.25)


def test_the_normalisation_is_a_part_of_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(replace(SPEC, normalise=(0.5, 0.5)))
    found = []
    for constants in ((0.5, 0.5), (0.5, 0.25)):
        spec = replace(SPEC, normalise=constants)
        save_weights(tmp_path / "file.safetensors", network.state_dict(), spec)
        target = load_target(EvaluateOptions(tmp_path / "file.safetensors"))
        found.append((target.sha256, identity_of(target, None)))
    assert found[0][0] != found[1][0]  # by which an export knows an evaluation of the weights
    assert found[0][1] != found[1][1]


def test_without_normalisation_or_code_of_ones_own_it_is_as_before(tmp_path: Path) -> None:
    network = build(SPEC)
    save_weights(tmp_path / "file.safetensors", network.state_dict(), SPEC)
    target = load_target(EvaluateOptions(tmp_path / "file.safetensors"))
    assert target.sha256 == checksum(network.state_dict())
    assert identity_of(target, None) == {"weights": target.sha256, "network": str(SPEC)}


OWN = """
import functools
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes): super().__init__(nn.Flatten(), nn.Linear(256, num_classes))

ten = functools.partial(Net, 10)
"""


def test_code_of_ones_own_is_a_part_of_the_network(tmp_path: Path) -> None:
    file, weights = tmp_path / "own.py", tmp_path / "file.safetensors"
    file.write_text(OWN)
    spec = ModelSpec(f"{file}:Net", 1, 16, 16, 10)
    state = build(spec).state_dict()
    save_weights(weights, state, spec)
    torch.save(state, tmp_path / "state.pt")
    ours = load_target(EvaluateOptions(weights, trust=True))
    model = f"{file}:ten"
    theirs = load_target(EvaluateOptions(tmp_path / "state.pt", model=model))
    before = identity_of(ours, None), identity_of(theirs, model)
    assert before == (identity_of(ours, None), identity_of(theirs, model))
    file.write_text(OWN + "# another content\n")
    after = identity_of(ours, None), identity_of(theirs, model)
    assert all(a != b for a, b in zip(before, after, strict=True))
