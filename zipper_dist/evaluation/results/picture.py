"""A picture of some examples: clean, the perturbation magnified, adversarial, and predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # a file is wanted, and no window

import matplotlib.pyplot as plt
from torch import Tensor

from zipper_dist.checkpoint.files import write_atomically

COLUMNS = 8


@dataclass(frozen=True)
class Portrait:
    """One example of the picture."""

    clean: Tensor
    """(C, H, W) in [0, 1], on the CPU."""
    adversarial: Tensor
    """(C, H, W)."""
    label: str
    clean_prediction: str
    adversarial_prediction: str
    attack: str


def draw(path: Path, portraits: Sequence[Portrait], eps_text: str) -> None:
    """Write a PNG with a column for each of the first portraits.

    The perturbation is magnified so that its largest value spans from black to white; grey is no
    change. Raises OSError where the file cannot be written, ValueError without portraits.
    """
    if not portraits:
        raise ValueError("no examples to draw")
    shown = portraits[:COLUMNS]
    figure, axes = plt.subplots(3, len(shown), figsize=(1.3 * len(shown) + 0.8, 4.6), squeeze=False)
    for column, portrait in enumerate(shown):
        change = portrait.adversarial - portrait.clean
        peak = float(change.abs().max()) or 1.0
        rows = (
            (portrait.clean, f"{portrait.label}\nseen as {portrait.clean_prediction}"),
            (0.5 + change / (2 * peak), f"×{0.5 / peak:.1f}"),
            (portrait.adversarial, f"{portrait.attack}\nseen as {portrait.adversarial_prediction}"),
        )
        for row, (image, title) in enumerate(rows):
            axis = axes[row][column]
            pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
    for row, text in enumerate(("clean", f"perturbation\n{eps_text}", "adversarial")):
        axes[row][0].set_ylabel(text, fontsize=8)
    figure.tight_layout()
    content = io.BytesIO()
    # No date or version in the file: the same images give the same bytes.
    figure.savefig(content, format="png", dpi=80, metadata={"Software": None})
    plt.close(figure)
    write_atomically(path, content.getvalue())
