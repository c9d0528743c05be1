"""Weights files for tests, as they should be and otherwise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.weights import checksum, load_model, load_weights, save_weights
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build

SMALL = ModelSpec("small_cnn", 1, 16, 20, 3, 0.05)
RESNET = ModelSpec("resnet18", 3, 8, 8, 10, 0.03)


def stirred(spec: ModelSpec) -> nn.Module:
    """A network whose values, BN statistics among them, are not the initial ones."""
    network = build(spec)
    for tensor in network.state_dict().values():
        tensor.add_(torch.rand(tensor.shape) if tensor.is_floating_point() else 7)
    return network


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


def saved(path: Path, spec: ModelSpec = SMALL) -> dict[str, Tensor]:
    state = stirred(spec).state_dict()
    save_weights(path, state, spec)
    return state


def saved_with(path: Path, state: dict[str, Tensor], **changes: str | None) -> None:
    """A file with the metadata of `SMALL`, changed, and a checksum that is right."""
    fields = {name: str(value) for name, value in asdict(SMALL).items() if value}
    metadata = {"format": "zipper_dist/1", **fields}
    changed = {**metadata, "sha256": checksum(state), **changes}
    path.write_bytes(
        safetensors.torch.save(
            state, metadata={key: value for key, value in changed.items() if value is not None}
        )
    )


def error_of(path: Path) -> str:
    """The one line of the error that both ways of loading raise."""
    messages = []
    for load in (load_weights, load_model):
        with pytest.raises(UserError) as raised:
            load(path)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{path}: ")
    assert "\n" not in messages[0]
    return messages[0].removeprefix(f"{path}: ")
