"""A folder of small pictures that a network can learn to tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("across", "down", "rings", "slanted")
"""What the stripes of a picture are, by class."""


def make_folder(root: Path, train: int = 180, test: int = 60, side: int = 32) -> Path:
    """Write ``train`` and ``test`` PNGs of ``side`` × ``side`` pixels, equally many of each class,
    below ``root``: stripes in random colours, with noise."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for number in range(count):
            name = CLASSES[number % len(CLASSES)]
            (root / part / name).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(_pixels(name, side, generator))
            picture.save(root / part / name / f"{number:04}.png")
    return root


def _pixels(name: str, side: int, generator: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side] - generator.uniform(0, side, 2)[:, None, None]
    along = {"across": y, "down": x, "rings": np.hypot(x, y), "slanted": (x + y) / np.sqrt(2)}
    wave = np.sin(2 * np.pi * along[name] / generator.uniform(side / 6, side / 4))
    dark, light = generator.uniform(0, 0.35, 3), generator.uniform(0.65, 1, 3)
    mixed = dark + (light - dark) * (0.5 + 0.5 * wave)[..., None]
    noisy = mixed + generator.normal(0, 0.05, mixed.shape)
    pixels: np.ndarray = (255 * noisy.clip(0, 1)).astype(np.uint8)
    return pixels
