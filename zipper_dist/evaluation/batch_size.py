"""How many images to attack at a time."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from zipper_dist.accel.frozen import frozen_eval_mode

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
    activations = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal activations
        if isinstance(output, Tensor):
            activations += output.numel() * output.element_size()

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad(), frozen_eval_mode(model):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    each = 2 * activations + 16 * image.numel() * image.element_size()
    most = MOST if image.device.type == "cuda" else min(128, max(32, CACHE // each))
    return max(1, min(most, available // (2 * each)))
