"""Where the networks are registered, and how one is built from its description."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zipper_dist.errors import UserError, in_one_line
from zipper_dist.models.layers import ACTIVATIONS
from zipper_dist.models.normalised import Normalised
from zipper_dist.models.sources import SOURCES, source_of
from zipper_dist.models.sources.factory import KeywordFactory
from zipper_dist.models.sources.own import own_factory
from zipper_dist.models.spec import ModelSpec
from zipper_dist.registry import Registry

__all__ = ["NETWORKS", "Factory", "ModelSpec", "Networks", "build", "check_network"]

Factory = Callable[[ModelSpec], nn.Module]
"""Makes the network: (N, channels, height, width) → logits (N, classes), in train mode, with
initial values from torch's global generator."""


class Networks(Registry[Factory]):
    """The networks of the package, and by :meth:`find` those of other sources."""

    def find(self, name: str, option: str) -> Factory:
        """The factory of a name, of ``SOURCE:NAME`` or of a reference; UserError about ``option``
        if there is none."""
        if ":" not in name or name in self:
            return super().find(name, option)
        source = source_of(name)
        if source in SOURCES:
            return SOURCES[source].factory(name.partition(":")[2], f"{option} {name}")
        return own_factory(name, option)

    def references(self) -> str:
        """See :class:`Registry`."""
        return f"{', '.join(f'{source}:NAME' for source in SOURCES)}, {super().references()}"


NETWORKS = Networks("architecture", "zipper_dist.models")
"""The networks by the name that ``--model.arch`` and weights files give them."""


def build(spec: ModelSpec) -> nn.Module:
    """The network that ``spec`` describes, as :data:`Factory` says.

    Raises UserError if the description is wrong or does not suit the images, or a factory fails.
    """
    factory = NETWORKS.find(spec.arch, "--model.arch")
    if spec.activation not in ACTIVATIONS:
        choices = ", ".join(ACTIVATIONS)
        raise UserError(f"--model.activation {spec.activation!r}: unknown; choose {choices}")
    if not (math.isfinite(spec.width_multiplier) and spec.width_multiplier > 0):
        raise UserError(f"--model.width {spec.width_multiplier:g}: must be more than 0")
    if spec.channels < 1 or spec.classes < 1:
        raise UserError(f"no network for {spec.channels} channels and {spec.classes} classes")
    spec.require_pixels(1)
    if spec.options and not isinstance(factory, KeywordFactory):
        names = ", ".join(spec.options)
        raise UserError(
            f"--model.options {names}: {spec.arch} takes none; it has --model.width and "
            "--model.activation"
        )
    try:
        network = factory(spec)
    except Exception as error:
        if not isinstance(factory, KeywordFactory):
            raise
        problem = f"cannot be built: {in_one_line(error)}; {factory.describe(spec)}"
        raise UserError(f"--model.arch {spec.arch}: {problem}") from None
    if not isinstance(network, nn.Module):
        raise UserError(f"--model.arch {spec.arch}: makes a {type(network).__name__}, no nn.Module")
    if not spec.normalise:
        return network
    channels = len(spec.normalise) // 2
    return Normalised(network, spec.normalise[:channels], spec.normalise[channels:])


def check_network(network: nn.Module, spec: ModelSpec) -> None:
    """Raise UserError unless a copy of ``network`` takes an image of ``spec`` to its logits."""
    device = next((p.device for p in network.parameters()), None)
    if device is None:
        raise UserError(f"--model.arch {spec.arch}: has no parameters, so nothing can be trained")
    factory = NETWORKS.find(spec.arch, "--model.arch")
    given = f"; {factory.describe(spec)}" if isinstance(factory, KeywordFactory) else ""
    kind = f"{spec.channels}×{spec.height}×{spec.width} (C×H×W)"
    try:
        with torch.no_grad():
            images = torch.zeros(2, spec.channels, spec.height, spec.width, device=device)
            logits = copy.deepcopy(network).eval()(images)
    except Exception as error:  # whatever the network's own code raises
        problem = f"cannot take images of {kind}: {in_one_line(error)}{given}"
        raise UserError(f"--model.arch {spec.arch}: {problem}") from None
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != (2, spec.classes):
        raise UserError(
            f"--model.arch {spec.arch}: gives {found} for 2 images, not logits of shape "
            f"(2, {spec.classes}){given}"
        )
