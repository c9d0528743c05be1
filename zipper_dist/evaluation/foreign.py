"""Networks of other origin: a factory in an importable module, and a file with a state dict."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zipper_dist.errors import UserError
from zipper_dist.registry import load_reference

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Names under which training scripts put the state dict into their checkpoints."""


class Normalised(nn.Module):
    """A network that takes images in [0, 1] and normalises them first, by mean and standard
    deviation of each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def load_foreign(
    factory: str,
    file: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network that ``package.module:factory`` makes, and the state dict in ``file`` that it
    has taken over.

    Raises UserError where the factory or the file cannot be used, or they do not fit.
    """
    made = load_reference(factory, "--model")
    try:
        network = made()  # type: ignore[operator]
    except Exception as error:  # whatever the user's code raises
        reason = f"{type(error).__name__}: {_one_line(error)}"
        raise UserError(f"--model {factory}: cannot be made: {reason}") from None
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UserError(f"--model {factory}: made a {kind}, not a torch.nn.Module")
    try:
        network.load_state_dict(read_state_dict(file))
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{file}: does not fit {factory}: {_one_line(error)}") from None
    if mean is not None and std is not None:
        network = Normalised(network, mean, std)
    # The normalisation is part of what the network computes, so of its checksum too.
    return network.eval(), {name: t.detach() for name, t in network.state_dict().items()}


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors or ``.pt`` file, on the CPU; nothing in it is executed.

    Raises UserError where it is absent, damaged, no state dict, or more than plain data.
    """
    try:
        if file.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{file}: damaged, or holds more than tensors and plain containers. Loading such a "
            "file would execute code from it, so it is refused: save the state dict alone"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: cannot be read: {_one_line(error)}") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())
    if not (tensors and content):
        raise UserError(f"{file}: holds no state dict (names and tensors)")
    if all(name.startswith("module.") for name in content):  # nn.DataParallel adds it
        return {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " …"
