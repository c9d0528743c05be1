"""A picture of some examples: clean, the perturbation magnified, adversarial, and predictions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    clean_title: str
    adversarial_title: str


def draw(path: Path, portraits: Sequence[Portrait], eps_text: str) -> None:
    """Write a PNG with a column for each of the portraits, of which there is one at least.

    The perturbation is magnified so that its largest value spans from black to white; grey is no
    change. Raises OSError where the file cannot be written, ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * len(portraits) + 0.8, 4.6))
    axes = figure.subplots(3, len(portraits), squeeze=False)
    for column, portrait in enumerate(portraits):
        change = portrait.adversarial - portrait.clean
        peak = float(change.abs().max()) or 1.0
        rows = (
            (portrait.clean, portrait.clean_title),
            (0.5 + change / (2 * peak), f"×{0.5 / peak:.1f}"),
            (portrait.adversarial, portrait.adversarial_title),
        )
        for axis, (image, title) in zip(axes[:, column], rows, strict=True):
            pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=7)
            axis.set_xticks([])
            axis.set_yticks([])
    sides = ("clean", f"perturbation\n{eps_text}", "adversarial")
    for axis, text in zip(axes[:, 0], sides, strict=True):
        axis.set_ylabel(text, fontsize=8)
    figure.tight_layout()
    content = io.BytesIO()
    # No date or version in the file: the same images give the same bytes.
    figure.savefig(content, format="png", dpi=80, metadata={"Software": None})
    write_atomically(path, content.getvalue())
