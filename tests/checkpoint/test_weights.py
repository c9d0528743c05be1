from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
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


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


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


def test_absent_file(tmp_path: Path) -> None:
    assert error_of(tmp_path / "absent") == "no such file"


def test_directory(tmp_path: Path) -> None:
    assert error_of(tmp_path) == "cannot be read: it is a directory"


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"some text\n" * 100])
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert error_of(tmp_path / "file").startswith("not a safetensors file")


class Trap:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("sprung",)


def test_a_pickle_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "file.pt")
    assert error_of(Path("file.pt")).startswith("not a safetensors file")
    assert not Path("sprung").exists()


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved(path)
    content = path.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert error_of(path).startswith("not a safetensors file, or cut short")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_someone_else(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    content = safetensors.torch.save(stirred(SMALL).state_dict(), metadata=metadata)
    (tmp_path / "file").write_bytes(content)
    assert error_of(tmp_path / "file").endswith("not one that zipper_dist wrote")


def test_another_version_of_the_format(tmp_path: Path) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), format="zipper_dist/2")
    message = error_of(tmp_path / "file")
    assert "zipper_dist/1" in message
    assert "zipper_dist/2" in message


def test_one_flipped_bit_anywhere_in_the_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    saved(path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for position in (start, (start + len(content)) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert error_of(path) == "damaged: the checksum of its tensors does not match"


def test_flipped_bits_in_the_header_are_user_errors_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state = saved(path)
    content = path.read_bytes()
    refused = 0
    for position in range(0, 8 + int.from_bytes(content[:8], "little"), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load_weights(path)[1]
        except UserError:
            refused += 1
        else:
            assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert refused > 100


def test_a_file_without_its_checksum(tmp_path: Path) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), sha256=None)
    assert "checksum" in error_of(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"height": None}, ["damaged", "'height'"]),
        ({"classes": "many"}, ["damaged", "'many'"]),
        ({"arch": "resnet19"}, ["resnet19"]),
        ({"activation": "swish"}, ["'swish'", "relu, silu"]),
        ({"height": "8"}, ["8×20 pixels"]),
        ({"arch": "resnet18"}, ["does not fit the architecture resnet18", "'bn1.bias' is absent"]),
        ({"classes": "4"}, ["'classifier.fc3.bias' is float32 (3,) in the file, float32 (4,)"]),
        # Nothing so large is allocated before the file is refused.
        ({"classes": str(10**14)}, ["does not fit"]),
        ({"classes": str(10**30)}, ["damaged"]),
        ({"width_multiplier": "1e300"}, ["damaged"]),
    ],
)
def test_metadata_that_does_not_fit(
    tmp_path: Path, changes: dict[str, str | None], parts: list[str]
) -> None:
    saved_with(tmp_path / "file", stirred(SMALL).state_dict(), **changes)
    message = error_of(tmp_path / "file")
    for part in parts:
        assert part in message


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    name = "classifier.fc3.bias"
    state = stirred(SMALL).state_dict()

    saved_with(path, {key: tensor for key, tensor in state.items() if key != name})
    assert f"{name!r} is absent in the file" in error_of(path)
    saved_with(path, {**state, "more": torch.zeros(1)})
    assert "'more' is float32 (1,) in the file, absent in the network" in error_of(path)
    saved_with(path, {**state, name: state[name].double()})
    assert f"{name!r} is float64 (3,) in the file, float32 (3,)" in error_of(path)


def test_the_header_is_valid_json_in_sorted_order(tmp_path: Path) -> None:
    saved(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
