"""The picture of a page: robust over clean accuracy."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from comparison.matching import Accuracy
from comparison.results import Outcome

BLUE, RED = "#1f77b4", "#d62728"


def draw_trade_off(outcome: Outcome, path: Path) -> None:
    """Robust accuracy (PGD-100) over clean accuracy, a point for each β and γ."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    _curve(axes, outcome.gammas, "γ", "Zipper, last value of γ", BLUE)
    _curve(axes, outcome.betas, "β", "TRADES, β", RED)
    axes.set(xlabel="clean accuracy [%]", ylabel="robust accuracy, PGD-100 [%]")
    axes.set_title(f"{outcome.experiment.title}, seed 0", fontsize=11)
    axes.margins(0.18)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _curve(axes: Axes, points: dict[float, Accuracy], symbol: str, label: str, color: str) -> None:
    values = sorted(points)
    robust = [points[value].robust for value in values]
    axes.plot([points[v].clean for v in values], robust, "o-", color=color, label=label)
    for value in values:
        axes.annotate(
            f"{symbol} = {value:g}", (points[value].clean, points[value].robust), color=color,
            fontsize=9, textcoords="offset points", xytext=(7, 5),
        )  # fmt: skip
