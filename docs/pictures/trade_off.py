"""Draws trade-off.svg from benchmarks/results/time/digits/outcome.json.

python docs/pictures/trade_off.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
OUTCOME = HERE.parents[1] / "benchmarks" / "results" / "time" / "digits" / "outcome.json"
SERIES = (("gammas", "Zipper, last value of γ", "#1f77b4"), ("betas", "TRADES, β", "#d62728"))


def points(outcome: dict[str, Any], series: str) -> list[tuple[float, float, float]]:
    """(value of β or γ, clean accuracy, robust accuracy) of each network, by value."""
    return sorted(
        (float(value), float(point["clean"]), float(point["robust"]))
        for value, point in outcome[series].items()
    )


def draw(path: Path) -> None:
    """Write the picture."""
    outcome = json.loads(OUTCOME.read_text())
    figure, axes = pyplot.subplots(figsize=(6.4, 3.9), layout="constrained")
    for series, label, color in SERIES:
        values, clean, robust = zip(*points(outcome, series), strict=True)
        axes.plot(clean, robust, "o-", color=color, label=label)
        for value, x, y in zip(values, clean, robust, strict=True):
            above = y == max(robust)
            right = series == "gammas" and (above or x == max(clean))
            axes.annotate(
                f"{value:g}", (x, y), textcoords="offset points",
                xytext=(7 if right else -7, 2 if above else -2),
                ha="left" if right else "right", va="bottom" if above else "top",
                color=color, fontsize=9,
            )  # fmt: skip
    at = next(run for run in outcome["runs"] if (run["row"], run["seed"]) == ("at", 0))
    axes.plot(at["nat"], at["pgd_100"], "s", color="#2ca02c", label="adversarial training (AT)")
    axes.set_xlabel("clean accuracy [%]")
    axes.set_ylabel("robust accuracy, PGD-100 [%]")
    axes.set_title("digits, ε = 0.17, 360 test images, seed 0", fontsize=10.5)
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=9)
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "zipper_dist"  # the same file each time
    draw(HERE / "trade-off.svg")
