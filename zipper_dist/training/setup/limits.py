"""Networks and minibatches that cannot be trained, refused before long work."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from zipper_dist.data.stores.memory import host_memory
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec, build


def refuse_giant(spec: ModelSpec, copies: int, device: torch.device) -> None:
    """Raise UserError where so many copies of a shipped network's weights, gradients and momenta
    cannot fit into the memory of the device."""
    if spec.is_from_outside:
        return
    with torch.device("meta"):  # nothing is allocated
        weights = sum(parameter.numel() for parameter in build(spec).parameters())
    needed, kind, available = 4 * copies * weights, "memory", host_memory()
    if device.type == "cuda":
        kind, available = "GPU memory", torch.cuda.mem_get_info(device)[0]
    if needed > available:
        raise UserError(
            f"--model.width {spec.width_multiplier:g}: training a {spec.arch} of {weights:,} "
            f"weights takes {needed / 2**30:,.1f} GiB of {kind} and more, of which "
            f"{available / 2**30:,.1f} GiB are available: give a smaller one"
        )


def refuse_single_values(model: nn.Module, image: Sequence[int], option: str) -> None:
    """Raise UserError where training on one image of shape ``image`` (C, H, W) at a time, as
    ``option`` has it, leaves BatchNorm a single value a channel, as on a map of 1×1."""
    device = next(model.parameters()).device
    try:
        copy.deepcopy(model).train()(torch.zeros(1, *image, device=device))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"{option}: a BatchNorm of this network gets a map of one pixel, and one value has no "
            "variance: give 2 or more at a time, or larger images (--data.image-size)"
        ) from None
