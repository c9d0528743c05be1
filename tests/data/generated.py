"""Files of generated images in the format of DM-Improves-AT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def pixels(count: int, side: int = 8, channels: int = 1, seed: int = 0) -> Pixels:
    """Random images (N, H, W, C), each of which begins with 200 + its number (at most 55)."""
    images = np.random.default_rng(seed).integers(0, 200, (count, side, side, channels), np.uint8)
    images[:, 0, 0, 0] = 200 + np.arange(count)
    return images


def write(path: Path, count: int = 50, side: int = 8, channels: int = 1) -> Path:
    """A file of ``count`` images; their labels go 0 … 9 again and again."""
    labels = (np.arange(count) % 10).astype(np.int64)
    np.savez(path, image=pixels(count, side, channels), label=labels)
    return path
