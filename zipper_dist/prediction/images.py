"""The images to predict, decoded as those of the data set ``folder`` are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zipper_dist.data.decoding import (
    Unreadable,
    read_rgb,
    resized,
    special_file,
    warnings_of_pillow,
)
from zipper_dist.errors import UserError
from zipper_dist.models import ModelSpec

NAMED = 5
"""Files that a message names, of those that have a problem."""


def check_files(files: Sequence[Path]) -> None:
    """UserError names those that are not files with data."""
    refuse([f"{file} ({problem})" for file in files if (problem := _problem(file)) is not None])


def _problem(file: Path) -> str | None:
    if file.is_dir():
        return "a directory: give the files in it"
    if not file.exists() and not file.is_symlink():
        return "no such file"
    return special_file(str(file))


def decoded(
    files: Sequence[Path], spec: ModelSpec, unreadable: list[str]
) -> tuple[list[Path], Tensor]:
    """The files that can be read, and their images as the network takes them: uint8 (N, C, H, W).
    The others are added to ``unreadable``, each with why."""
    size, good, pixels = (spec.width, spec.height), [], []
    with warnings_of_pillow():
        for file in files:
            try:
                image = resized(read_rgb(str(file)), size)
            except Unreadable as error:
                unreadable.append(f"{file} ({error})")
                continue
            array = np.array(image if spec.channels == 3 else image.convert("L"))
            pixels.append(torch.from_numpy(array).reshape(*array.shape[:2], -1))
            good.append(file)
    if not good:
        return [], torch.empty(0, dtype=torch.uint8)
    return good, torch.stack(pixels).permute(0, 3, 1, 2)


def refuse(files: Sequence[str]) -> None:
    """UserError if there are ``files`` that cannot be read, each with why."""
    if files:
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        raise UserError(f"cannot be read as images: {', '.join(files[:NAMED])}{more}")
