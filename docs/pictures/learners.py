"""Draws learners.svg: two base learners and the global learner.

python docs/pictures/learners.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

BLUE, RED, GREEN, GREY = "#1f77b4", "#d62728", "#2ca02c", "#555555"
HERE = Path(__file__).parent


def box(
    axes: Axes, at: tuple[float, float], size: tuple[float, float], text: str, color: str
) -> None:
    """A box with its lower left corner at ``at``; the first line of ``text`` is bold."""
    patch = FancyBboxPatch(
        at, *size, boxstyle="round,pad=0,rounding_size=0.12", fc=color + "14", ec=color, lw=1.6
    )
    axes.add_patch(patch)
    title, _, rest = text.partition("\n")
    x, top = at[0] + size[0] / 2, at[1] + size[1]
    axes.text(
        x, top - 0.15, title, color=color, weight="bold", ha="center", va="top", fontsize=11.5
    )
    axes.text(x, top - 0.52, rest, ha="center", va="top", fontsize=9.5, linespacing=1.45)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, style: str = "-"
) -> None:
    """A straight arrow."""
    patch = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=13, color=color, lw=1.6, linestyle=style,
        shrinkA=0, shrinkB=0,
    )  # fmt: skip
    axes.add_patch(patch)


def draw(path: Path) -> None:
    """Write the picture."""
    figure, axes = pyplot.subplots(figsize=(9.6, 4.2))
    figure.subplots_adjust(0, 0, 1, 1)
    axes.set(xlim=(0, 12), ylim=(0, 5.25))
    axes.axis("off")
    box(axes, (0.2, 2.0), (1.75, 1.25), "minibatch\nimages x, labels y\nthe same for both", GREY)
    box(
        axes,
        (3.2, 3.6),
        (3.5, 1.35),
        "natural learner\ncross-entropy on x\nown optimizer, rate, schedule",
        BLUE,
    )
    box(
        axes,
        (3.2, 0.3),
        (3.5, 1.35),
        "adversarial learner\ncross-entropy on x′ = PGD(x)\nown optimizer, rate, schedule",
        RED,
    )
    box(
        axes,
        (8.6, 1.8),
        (3.2, 1.65),
        "global learner $θ_g$\nmoving average of the mixture\n"
        "is evaluated, saved, shipped:\none network of ordinary size",
        GREEN,
    )
    arrow(axes, (1.95, 2.95), (3.2, 4.1), GREY)
    arrow(axes, (1.95, 2.3), (3.2, 1.15), GREY)
    arrow(axes, (6.7, 4.5), (9.6, 3.45), BLUE)
    arrow(axes, (6.7, 0.7), (9.6, 1.8), RED)
    arrow(axes, (8.6, 2.95), (6.1, 3.6), GREEN, "--")
    arrow(axes, (8.6, 2.3), (6.1, 1.65), GREEN, "--")
    axes.text(8.35, 4.18, "every iteration: weight 1 − γ", color=BLUE, fontsize=9.5)
    axes.text(8.35, 0.95, "every iteration: weight γ", color=RED, fontsize=9.5)
    axes.text(
        6.15, 2.625, "every c iterations, from t′ on:\nboth continue from $θ_g$", color=GREEN,
        fontsize=9.5, ha="center", va="center",
    )  # fmt: skip
    axes.text(
        4.95, 5.02, "rank 0", color=GREY, fontsize=9, ha="center", va="bottom", style="italic"
    )
    axes.text(4.95, 0.22, "rank 1", color=GREY, fontsize=9, ha="center", va="top", style="italic")
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "zipper_dist"  # the same file each time
    draw(HERE / "learners.svg")
