from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from checkpoint.weights_files import (
    RESNET,
    SMALL,
    metadata_of,
    saved,
    saved_with,
    stirred,
)
from zipper_dist.checkpoint.weights import checksum, load_model, load_weights, save_weights
from zipper_dist.models import ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread_and_a_seed")


@pytest.mark.parametrize("spec", [SMALL, RESNET])
def test_round_trip_is_exact(tmp_path: Path, spec: ModelSpec) -> None:
    path = tmp_path / "learner.safetensors"
    network = stirred(spec)
    network.load_state_dict({k: v * torch.pi for k, v in network.state_dict().items()})
    save_weights(path, network.state_dict(), spec, {"learner": "natural"})

    loaded_spec, state = load_weights(path)
    assert loaded_spec == spec
    assert state.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor), name

    model = load_model(path)
    assert not model.training
    images = torch.rand(2, spec.channels, spec.height, spec.width)
    assert torch.equal(model(images), network.eval()(images))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in network.named_parameters()
    }


def test_special_values_survive(tmp_path: Path) -> None:
    state = stirred(SMALL).state_dict()
    special = torch.tensor([float("nan"), float("-inf"), -0.0])
    state["classifier.fc3.bias"] = special
    save_weights(tmp_path / "file", state, SMALL)
    loaded = load_weights(tmp_path / "file")[1]["classifier.fc3.bias"]
    assert torch.equal(loaded.view(torch.int32), special.view(torch.int32))


def test_views_of_one_buffer_and_other_layouts_can_be_saved(tmp_path: Path) -> None:
    state = saved(tmp_path / "plain")
    flat = torch.cat([tensor.reshape(-1) for tensor in state.values()])
    pieces = torch.split(flat, [tensor.numel() for tensor in state.values()])
    views = {
        name: piece.view(tensor.shape)
        for (name, tensor), piece in zip(state.items(), pieces, strict=True)
    }
    save_weights(tmp_path / "views", views, SMALL)
    last = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
        for name, tensor in reversed(state.items())
    }
    save_weights(tmp_path / "channels_last", last, SMALL)
    for name in ("views", "channels_last"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "plain").read_bytes()


def test_metadata(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state = stirred(SMALL).state_dict()
    save_weights(path, state, SMALL, {"learner": "global", "step": "12"})
    assert metadata_of(path) == {
        "format": "zipper_dist/1",
        "arch": "small_cnn",
        "channels": "1",
        "height": "16",
        "width": "20",
        "classes": "3",
        "width_multiplier": "0.05",
        "activation": "relu",
        "sha256": checksum(state),
        "learner": "global",
        "step": "12",
    }


def test_the_activation_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    smooth = replace(SMALL, activation="silu")
    network = stirred(smooth).eval()
    save_weights(path, network.state_dict(), smooth)
    images = torch.rand(2, SMALL.channels, SMALL.height, SMALL.width)
    with torch.no_grad():
        assert torch.equal(load_model(path)(images), network(images))
    assert load_weights(path)[0] == smooth


def test_files_from_before_the_activation_was_an_option_have_relu(tmp_path: Path) -> None:
    state = stirred(SMALL).state_dict()
    saved_with(tmp_path / "file", state, activation=None)
    assert "activation" not in metadata_of(tmp_path / "file")
    assert load_weights(tmp_path / "file")[0].activation == "relu"


def test_extra_cannot_replace_the_metadata_of_the_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arch"):
        save_weights(tmp_path / "file", stirred(SMALL).state_dict(), SMALL, {"arch": "other"})
    assert not list(tmp_path.iterdir())


def test_other_readers_find_plain_names(tmp_path: Path) -> None:
    state = saved(tmp_path / "file", RESNET)
    loaded = safetensors.torch.load_file(tmp_path / "file")
    assert loaded.keys() == state.keys()
    assert "layer1.0.conv1.weight" in loaded
    with safetensors.safe_open(tmp_path / "file", framework="np") as file:
        assert file.get_tensor("linear.weight").shape == (15, 10)[::-1]


def test_the_data_is_aligned(tmp_path: Path) -> None:
    saved(tmp_path / "file")
    assert int.from_bytes((tmp_path / "file").read_bytes()[:8], "little") % 8 == 0


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    state = stirred(SMALL).state_dict()
    contents = set()
    for _ in range(5):
        save_weights(tmp_path / "file", state, SMALL, {"learner": "global", "step": "12"})
        contents.add((tmp_path / "file").read_bytes())
    assert len(contents) == 1


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    saved(tmp_path / "file")
    before = torch.get_rng_state()
    load_model(tmp_path / "file")
    assert torch.equal(torch.get_rng_state(), before)


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    state = saved(tmp_path / "file")
    _, loaded = load_weights(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as file:  # in place: the very bytes that were read
        file.write(b"\0" * (tmp_path / "file").stat().st_size)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    saved(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        saved(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "a": state["a"] + 1},
        lambda state: {**state, "a": -state["a"]},
        lambda state: {**state, "a": state["a"].reshape(3, 2)},
        lambda state: {**state, "a": state["a"].view(torch.int32)},
        lambda state: {"a": state["b"], "b": state["a"]},
        lambda state: {"a": state["a"], "c": state["b"]},
        lambda state: {"a": state["a"]},
        lambda state: {**state, "empty": torch.empty(0)},
    ],
)
def test_the_checksum_sees_names_dtypes_shapes_and_values(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.ones(2, 3), "count": torch.tensor(4)}
    assert checksum(change(dict(state))) != checksum(state)
    assert checksum(dict(reversed(state.items()))) == checksum(state)
    columns_first = {**state, "a": state["a"].t().contiguous().t()}
    assert checksum(columns_first) == checksum(state)


def test_the_header_is_valid_json_in_sorted_order(tmp_path: Path) -> None:
    saved(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
