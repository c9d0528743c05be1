"""What an exporter is, and what it is given.

A new one is a function registered by name in a file of this package, or given from outside:
``--to my_package.module:exporter``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import Failure
from zipper_dist.models import ModelSpec
from zipper_dist.registry import Registry

BATCHES = (1, 2, 5)
"""Sizes of the batches on which what was written is compared with the network [images]."""


@dataclass(frozen=True)
class About:
    """What only the author of a network knows; empty where it is not said."""

    link: str = ""
    """Where the paper or report on the network is."""
    title: str = ""
    """Title of that paper."""
    authors: str = ""
    """Its authors, separated by commas."""
    venue: str = ""
    """Where it appeared, as ICML 2020."""
    license: str = ""
    """Licence of the weights, as mit or apache-2.0."""


@dataclass(frozen=True)
class Subject:
    """A network to export, on the CPU in eval mode, and what is known of where it comes from."""

    model: nn.Module
    spec: ModelSpec
    file: Path
    """The weights file that it was read from."""
    name: str
    """What to call it, by default its run directory or file."""
    threats: Sequence[ThreatModel] = ()
    """What it was trained, or else evaluated, against; empty where that is not known."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json of its run; empty where there is none."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """summary.json of its run; empty where there is none, or it does not speak of this network."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """evaluation.json of these weights; empty where there is none."""
    survivors: Mapping[str, Sequence[bool]] = field(default_factory=dict)
    """For each attack of the evaluation, whether each example withstands it."""
    about: About = About()

    @property
    def data(self) -> str | None:
        """The data set that it was trained or evaluated on."""
        options: Mapping[str, Any] = self.config.get("options", {})
        trained: str | None = options.get("data", {}).get("source")
        return trained or self.evaluation.get("data", {}).get("name")

    def images(self, count: int) -> Tensor:
        """Random images (count, C, H, W) in [0, 1], the same ones every time."""
        shape = (count, self.spec.channels, self.spec.height, self.spec.width)
        return torch.rand(shape, generator=torch.Generator().manual_seed(count))

    def compare(self, what: str, network: Callable[[Tensor], Tensor], tolerance: float) -> float:
        """The largest difference between the logits of ``network`` and of this one; raises Failure
        where it is more than ``tolerance``."""
        difference = 0.0
        with torch.no_grad():
            for count in BATCHES:
                images = self.images(count)
                ours, theirs = self.model(images), network(images)
                if theirs.shape != ours.shape:
                    text = f"logits of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"
                    raise Failure(f"{what} gives {text}: it is of no use")
                largest = float((theirs - ours).abs().max())
                difference = max(difference, largest) if largest == largest else float("inf")
        if difference > tolerance:
            text = f"logits that differ from the network's by up to {difference:.2g}"
            raise Failure(f"{what} gives {text}, more than {tolerance:g}: it is of no use")
        return difference


def write(path: Path, content: bytes | str) -> None:
    """Write a file of an export atomically, in a directory that is made where it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content if isinstance(content, bytes) else content.encode())


Exporter = Callable[[Subject, Path], Iterable[str]]
"""Writes a network into a directory, compares what was written with it, and gives notes for the
user. Packages outside the core are imported when it is called, after
:func:`~zipper_dist.registry.require`."""

EXPORTERS: Registry[Exporter] = Registry("format", "zipper_dist.export")
"""The formats by the name that ``--to`` gives them."""
