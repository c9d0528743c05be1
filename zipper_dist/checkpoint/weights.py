"""Weights files: safetensors files of a state dict, whose metadata holds the format, the fields of
the :class:`ModelSpec` and a checksum. Loading one imports what only the user can vouch for if the
caller trusts it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS, ModelSpec, build

FORMAT = "zipper_dist/1"  # the version changes when older code cannot read the files
JSON_FIELDS: dict[str, type] = {"options": dict, "normalise": list, "class_names": list}
"""Fields of a :class:`ModelSpec` that metadata hold as JSON, or not at all if they are empty."""


def save_weights(
    path: Path, state: Mapping[str, Tensor], spec: ModelSpec, extra: Mapping[str, str] | None = None
) -> None:
    """Write a file of :func:`content_of` atomically."""
    write_atomically(path, content_of(state, spec, extra))


def content_of(
    state: Mapping[str, Tensor], spec: ModelSpec, extra: Mapping[str, str] | None = None
) -> bytes:
    """The weights file of a state dict of the network ``spec``; equal arguments give equal bytes.
    ``extra`` is further metadata; ValueError if it has one of the format's own names."""
    # Only the plain layout can be stored; a network trained channels-last has another.
    tensors = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    fields = asdict(spec)
    as_json = {name: json.dumps(value) for name in JSON_FIELDS if (value := fields.pop(name))}
    metadata = {
        "format": FORMAT,
        **{field: str(value) for field, value in fields.items()},
        **as_json,
        "sha256": checksum(tensors),
    }
    if taken := metadata.keys() & (extra or {}).keys():
        names = ", ".join(sorted(taken))
        raise ValueError(f"metadata of the format itself given as extra: {names}")
    content = safetensors.torch.save(tensors, metadata={**metadata, **(extra or {})})
    return _with_sorted_header(content)


def load_weights(path: Path, trust: bool = False) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The network's description and its state dict, on the CPU, from a file of `save_weights`.

    ``trust``: whether a network whose code is outside the package may be imported, and so run.
    UserError: the file is absent, unreadable, damaged, foreign or does not fit the network.
    """
    return _load(path, trust)[:2]


def check_weights(path: Path) -> None:
    """Raise UserError where the file is absent, unreadable, damaged or foreign; runs no code."""
    _checked(path)


def read_metadata(path: Path) -> dict[str, str]:
    """All metadata of a weights file; UserError: it is absent, unreadable, damaged or foreign."""
    return _checked(path)[0]


def load_model(path: Path, trust: bool = False) -> nn.Module:
    """The network of :func:`load_weights` in eval mode; it draws no random numbers."""
    spec, state, network = _load(path, trust)
    if spec.is_from_outside or spec.normalise:
        # It may have tensors that are no part of the state, which the device meta has no values of.
        network = _built(path, spec, "cpu")
    network.load_state_dict(state, assign=True)
    return network.eval()


def read_checked(path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """What :func:`load_weights` gives, without building the network, so that no code is run and
    whether the tensors fit it is not checked."""
    metadata, state = _checked(path)
    return _spec(path, metadata), state


def checksum(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of names, dtypes, shapes and values of CPU tensors, whatever their layout."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        header = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(header.encode() + b"\n")
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load(path: Path, trust: bool) -> tuple[ModelSpec, dict[str, Tensor], nn.Module]:
    """Description, tensors, and the network on the device meta."""
    metadata, state = _checked(path)
    spec = _spec(path, metadata)
    if spec.needs_trust:
        if not trust:
            raise UserError(
                f"{path}: its network is {spec.arch}, outside this package: loading the file would "
                "run that code; load it with trust=True (--trust) if you trust it"
            )
        NETWORKS.find(spec.arch, f"{path}: --model.arch")  # imported outside of device meta
    try:
        # Nothing is allocated or initialised, whatever the file asks.
        network = _built(path, spec, "meta")
    except UserError:
        if not spec.is_from_outside:
            raise
        network = _built(path, spec, "cpu")  # some factories compute with their tensors
    wanted = network.state_dict()
    for name in sorted(state.keys() | wanted.keys()):
        has, needs = (_kind(tensors.get(name)) for tensors in (state, wanted))
        if has != needs:
            raise UserError(
                f"{path}: does not fit the architecture {spec.arch}: tensor {name!r} is {has} "
                f"in the file, {needs} in the network"
            )
    return spec, state, network


def _built(path: Path, spec: ModelSpec, device: str) -> nn.Module:
    """The network, with any weights; no random numbers of the caller are drawn."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return build(spec)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (RuntimeError, TypeError):  # a size beyond 64 bits
        raise UserError(f"{path}: damaged: no network can have the size it names") from None


def _checked(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that is as it was written."""
    metadata, state = _read(path)
    found = metadata.get("format", "")
    if not found.startswith("zipper_dist/"):
        raise UserError(f"{path}: a safetensors file, but not one that zipper_dist wrote")
    if found != FORMAT:
        raise UserError(f"{path}: has the format {found!r}, but this version reads {FORMAT!r}")
    if metadata.get("sha256") != checksum(state):
        raise UserError(f"{path}: damaged: the checksum of its tensors does not match")
    return metadata, state


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            # Cloned, since these are views of the file, which may be cut short later.
            state: dict[str, Tensor] = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        reason = "it is a directory" if path.is_dir() else error
        raise UserError(f"{path}: cannot be read: {reason}") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file, or cut short: {error}") from None
    return metadata, state


def _spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    try:
        sizes = ("channels", "height", "width", "classes")
        return ModelSpec(
            arch=metadata["arch"],
            width_multiplier=float(metadata["width_multiplier"]),
            activation=metadata.get("activation", "relu"),  # files from before it was an option
            options=_of_json(metadata, "options"),
            normalise=tuple(map(float, _of_json(metadata, "normalise"))),
            class_names=tuple(map(str, _of_json(metadata, "class_names"))),
            **{size: int(metadata[size]) for size in sizes},
        )
    except KeyError as error:
        raise UserError(f"{path}: damaged: its metadata has no {error.args[0]!r}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: damaged: its metadata cannot be read: {error}") from None


def _of_json(metadata: Mapping[str, str], name: str) -> Any:
    """A field of :data:`JSON_FIELDS`; ValueError if it is no such value."""
    kind = JSON_FIELDS[name]
    value: object = json.loads(metadata[name]) if name in metadata else kind()
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {metadata[name]}")
    return value


def _kind(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _with_sorted_header(content: bytes) -> bytes:
    """The safetensors file ``content`` with its header, whose order is random, sorted: JSON, padded
    to a multiple of 8 bytes, after its length in 8 bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
