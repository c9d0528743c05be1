"""The pictures of a page: robust over clean accuracy, and measured beside ideal times."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from comparison.experiments import PARALLEL, SERIAL
from comparison.matching import Accuracy
from comparison.results import Outcome, time_unit

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
    for i, value in enumerate(values):
        # Neighbours may nearly coincide: labels on opposite sides, and that of the higher above.
        near = robust[max(0, i - 1) : i] + robust[i + 1 : i + 2]
        above, right = robust[i] >= sum(near) / max(1, len(near)), i % 2 == 0
        axes.annotate(
            f"{symbol} = {value:g}", (points[value].clean, robust[i]), color=color, fontsize=9,
            textcoords="offset points", xytext=(7 if right else -7, 5 if above else -5),
            ha="left" if right else "right", va="bottom" if above else "top",
        )  # fmt: skip


def draw_times(outcome: Outcome, path: Path) -> None:
    """Training time of every row, with the ideal of Zipper beside the measured."""
    table, places = outcome.table(), range(len(outcome.table()))
    unit, seconds = time_unit(outcome)
    figure = Figure(figsize=(6.4, 1.6 + 0.5 * len(table)), layout="constrained")
    axes = figure.subplots()
    wall, training = (
        [(each[name].mean or 0, each[name].std or 0) for each in table.values()]
        for name in ("wall_seconds", "train_seconds")
    )
    axes.barh(
        places, [mean / seconds for mean, _ in wall], 0.7, color="#c7d9ea",
        label="with the evaluations",
    )  # fmt: skip
    axes.barh(
        places, [mean / seconds for mean, _ in training], 0.7, color=BLUE, label="training",
        xerr=[std / seconds for _, std in training],
    )  # fmt: skip
    if outcome.costs is not None:
        ideals = {SERIAL: outcome.costs.serial, PARALLEL: outcome.costs.parallel}
        at = {place: ideals[key] for place, key in enumerate(table) if key in ideals}
        axes.scatter(
            [ideal / seconds for ideal in at.values()], list(at), label="ideal",
            marker="|", s=500, linewidths=2, zorder=3, color="black",
        )  # fmt: skip
    axes.set_yticks(places, [outcome.rows[key].label for key in table])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, markerscale=0.4)
    figure.savefig(path, dpi=120)
