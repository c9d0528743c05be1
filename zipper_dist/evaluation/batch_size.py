"""How many images to attack at a time."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn

MOST = 1024
"""A GPU gains nothing from larger batches [images]."""

CACHE = 2**25
"""What a CPU keeps close to it, roughly; batches that outgrow it are slower an image [bytes]."""


def available_memory(device: torch.device, sharers: int) -> int:
    """Free memory of the device for each of ``sharers`` processes on it [bytes]."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // sharers
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not every system says
        free = 2**31
    return free // sharers


def batch_size_for(model: nn.Module, image: Tensor, available: int) -> int:
    """How many images to attack at a time, given ``available`` memory [bytes].

    ``image``: (1, C, H, W), on the network's device. An attack keeps the activations and about as
    much again for their gradients; half of the memory is left alone. A CPU gets 32 to 128 images,
    as fit into its caches.
    """
    sizes: list[int] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    was_training = [module for module in model.modules() if module.training]
    try:
        with torch.no_grad():
            model.eval()(image)
    finally:
        for handle in handles:
            handle.remove()
        for module in was_training:
            module.training = True
    each = 2 * sum(sizes) + 16 * image.numel() * image.element_size()
    most = MOST if image.device.type == "cuda" else min(128, max(32, CACHE // each))
    return max(1, min(most, math.floor(available / 2 / each)))
