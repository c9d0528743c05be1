"""The options of the prediction command, and what is out of range in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zipper_dist.config import ranges
from zipper_dist.config.schema import Device
from zipper_dist.config.threat import ThreatsOption, problems_of
from zipper_dist.errors import UserError


@dataclass(frozen=True)
class PredictOptions:
    """Say what images show, according to a saved network, and how sure it is."""

    target: tyro.conf.Positional[Path]
    """A run directory, or a file with weights."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files of any kind and size; they are resized to what the network takes."""
    learner: str | None = None
    """Which network of a run directory: global, which is the default, best, or a learner's name."""
    top: int | None = None
    """How many classes to show for an image, the most probable first; default: 5, or all."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Write the results to this file, too; its directory is created."""
    certify_pgd: bool = False
    """Attack every image by PGD, and say whether that changes the prediction. If it does not, this
    is no proof that nothing can: PGD is an attack, not a certificate."""
    threats: ThreatsOption = ()
    """What the attacker may do, as linf:8/255 or l2:0.5; default: what the network was trained
    for."""
    steps: int | None = None
    """Gradient steps of the attack; default: 20."""
    restarts: int | None = None
    """Starts of the attack, each for the images that the ones before did not change; default: 1."""
    seed: int | None = None
    """Seed of the attack's random draws; default: 0."""
    trust: bool = False
    """Import, and so run, the code that a weights file names, if its network is none of the
    package, torchvision or timm."""
    device: Device = "auto"
    """Where to compute; auto: on a GPU if there is one."""
    threads: int | None = None
    """CPU threads; default: all cores."""


def validate(options: PredictOptions) -> None:
    """Raise UserError, naming all options that are out of range, or without a use."""
    problems = [
        *ranges.at_least_one("--top", options.top),
        *ranges.at_least_one("--steps", options.steps),
        *ranges.at_least_one("--restarts", options.restarts),
        *ranges.number("--seed", options.seed or 0, -(2**63), 2**63 - 1),
        *ranges.at_least_one("--threads", options.threads, ranges.MOST_THREADS),
        *problems_of(options.threats, "--threats"),
    ]
    if not options.certify_pgd:
        for name, given in (
            ("--threats", options.threats != ()),
            ("--steps", options.steps is not None),
            ("--restarts", options.restarts is not None),
            ("--seed", options.seed is not None),
        ):
            if given:
                problems.append(f"{name}: is for the attack of --certify-pgd, which is not given")
    if options.learner is not None and options.target.expanduser().is_file():
        problems.append(
            f"--learner {options.learner}: is for a run directory; {options.target} is a file"
        )
    if not options.images:
        problems.append("IMAGES: give one or more files")
    if problems:
        raise UserError("; ".join(problems))
