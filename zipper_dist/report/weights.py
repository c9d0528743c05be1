"""What the files of weights at the end of a run say: which they are, and how far apart."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.weights import checksum, read_checked
from zipper_dist.errors import UserError
from zipper_dist.evaluation.target import constants_of
from zipper_dist.metrics.records import GLOBAL
from zipper_dist.models.normalised import Normalised


def identity_of(path: Path) -> str | None:
    """The SHA-256 by which an evaluation names the weights in a file; None where it is not there,
    or damaged."""
    try:
        spec, state = read_checked(path)
    except UserError:
        return None
    half = len(spec.normalise) // 2
    mean, std = spec.normalise[:half], spec.normalise[half:]
    constants = constants_of(Normalised(nn.Identity(), mean, std)) if half else {}
    return checksum(constants | state)


def final_distances(directory: Path, learners: list[str]) -> dict[str, float]:
    """The L2 distance between the weights of each learner and of the global learner: parameters
    and floating-point buffers; empty where a file of these is not there, or damaged."""
    files = RunDirectory(directory)
    try:
        theta = read_checked(files.weights(GLOBAL))[1]
        found = {}
        for name in learners:
            weights = read_checked(files.weights(name))[1]
            gaps = [
                (weights[key].double() - value.double()).norm()
                for key, value in theta.items()
                if value.is_floating_point()
            ]
            found[name] = float(torch.stack(gaps).norm())
    except (UserError, KeyError):
        return {}
    return found
