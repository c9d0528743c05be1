"""State dicts in files of any origin."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from zipper_dist.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Names under which training scripts put the state dict into their checkpoints."""


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors or ``.pt`` file, on the CPU; nothing in it is executed.
    Raises UserError where it is absent, damaged, no state dict, or more than plain data."""
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
    except Exception as error:  # of a damaged file, the unpickler may raise anything
        raise UserError(f"{file}: cannot be read: {shortened(error)}") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = isinstance(content, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not (tensors and content):
        raise UserError(f"{file}: holds no state dict (names and tensors)")
    if all(name.startswith("module.") for name in content):  # nn.DataParallel adds it
        return {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def shortened(error: BaseException) -> str:
    """The message of an error in one line of 300 characters at most."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " …"
