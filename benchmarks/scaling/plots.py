"""The picture of the page: where the time goes on one and two cores, and what is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.cases import EQUAL
from scaling.predictions import RANKS

PARTS = {"busy": "#1f77b4", "waiting": "#bbbbbb", "communication": "#d62728"}
COLORS = {"dedicated": "#2ca02c", "shared": "#1f77b4", "balanced": "#ff7f0e"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """A row for each network: seconds an iteration as measured, and speed-ups as predicted."""
    figure = Figure(figsize=(12, 4.2 * len(report)), layout="constrained")
    rows = figure.subplots(len(report), 2, squeeze=False)
    for (name, found), (left, right) in zip(report.items(), rows, strict=True):
        _measured(left, found)
        left.set_title(f"{name}: measured, one core a rank", fontsize=11)
        if found["predicted"]["gpus"]:
            _predicted(right, found["predicted"]["gpus"])
            right.set_title(f"{name}: predicted for GPUs, not measured on any", fontsize=11)
        else:
            right.set_axis_off()
    figure.savefig(path, dpi=110)


def _measured(axes: Axes, found: Mapping[str, Any]) -> None:
    names = [each.name for each in EQUAL]
    predicted = found["predicted"]["measured"]["rows"]
    left = [0.0] * len(names)
    for part, color in PARTS.items():
        widths = [found[name]["seconds"] * found[name][part] for name in names]
        axes.barh(names, widths, left=left, color=color, label=part)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.plot(
        [predicted[name]["seconds"] for name in names], names, "k|", markersize=16,
        label="the model",
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set(xlabel="seconds an iteration; its parts, mean of the ranks")
    axes.set_xlim(0, 1.45 * max(left))
    axes.legend(fontsize=8, loc="lower right")


def _predicted(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        fast = row["link"].startswith("NVLink")
        if row["mode"] == "balanced":
            continue  # as shared, on equal GPUs
        marker, line = ("o" if fast else "s"), ("-" if row["fixed"] == 0 else ":")
        label = row["mode"], row["link"].partition(" (")[0], f"{row['fixed']:.0%} fixed"
        axes.plot(
            RANKS, [row["speedup"][str(n)] for n in RANKS], marker + line,
            color=COLORS[row["mode"]], alpha=1.0 if fast else 0.5, label=", ".join(label),
            markersize=4,
        )  # fmt: skip
    axes.plot(RANKS, RANKS, color="black", linewidth=0.6, label="ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(RANKS, map(str, RANKS))
    axes.set_yticks(RANKS, map(str, RANKS))
    axes.set(xlabel="GPUs", ylabel="speed-up over one")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncol=2)
