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
    at = [(points[value].clean, points[value].robust) for value in values]
    axes.plot(*zip(*at, strict=True), "o-", color=color, label=label)
    for value, point in zip(values, at, strict=True):
        axes.annotate(
            f"{symbol} = {value:g}", point, xytext=(7, 5), textcoords="offset points", color=color
        )
