"""The pictures of a page: robust over clean accuracy, and measured beside ideal times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from comparison.experiments import PARALLEL, SERIAL
from comparison.figures import Spread, Unit
from comparison.matching import Accuracy
from comparison.outcome import Outcome

BLUE, RED = "#1f77b4", "#d62728"


def _curve(axes: Axes, points: Mapping[float, Accuracy], symbol: str, color: str) -> None:
    order = sorted(points)
    clean = [points[value].clean for value in order]
    robust = [points[value].robust for value in order]
    name = {"γ": "Zipper, last value of γ", "β": "TRADES, β"}[symbol]
    axes.plot(clean, robust, "o-", color=color, label=name)
    for place, value in enumerate(order):
        at = points[value]
        # Neighbours may nearly coincide: labels on opposite sides, and that of the higher above.
        near = [robust[i] for i in (place - 1, place + 1) if 0 <= i < len(order)]
        above = not near or at.robust >= sum(near) / len(near)
        right = place % 2 == 0
        axes.annotate(
            f"{symbol} = {value:g}", (at.clean, at.robust), textcoords="offset points",
            xytext=(7 if right else -7, 5 if above else -5), ha="left" if right else "right",
            va="bottom" if above else "top", color=color, fontsize=9,
        )  # fmt: skip


def draw_trade_off(outcome: Outcome, path: Path) -> None:
    """Robust accuracy (PGD-100) over clean accuracy, a point for each β and γ."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), layout="constrained")
    _curve(axes, outcome.gammas, "γ", BLUE)
    _curve(axes, outcome.betas, "β", RED)
    axes.set_xlabel("clean accuracy [%]")
    axes.set_ylabel("robust accuracy, PGD-100 [%]")
    axes.set_title(f"{outcome.experiment.title}, seed 0", fontsize=11)
    axes.margins(0.18)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_times(outcome: Outcome, path: Path) -> None:
    """Training time of every row, with the ideal of Zipper beside the measured."""
    rows = list(dict.fromkeys(f.row for f in outcome.found))
    labels = {run.row.key: run.row.label for run in outcome.runs}
    unit = Unit.fitting(max(f.wall_seconds for f in outcome.found))

    def spreads(name: str) -> list[Spread]:
        return [
            Spread.of(getattr(f, name) / unit.seconds for f in outcome.found if f.row == key)
            for key in rows
        ]

    training, wall = spreads("train_seconds"), spreads("wall_seconds")
    figure, axes = pyplot.subplots(figsize=(6.4, 1.6 + 0.5 * len(rows)), layout="constrained")
    places = range(len(rows))
    axes.barh(
        places, [w.mean or 0 for w in wall], 0.7, color="#c7d9ea", label="with the evaluations"
    )
    axes.barh(
        places, [m.mean or 0 for m in training], 0.7, color=BLUE, label="training",
        xerr=[m.std or 0 for m in training],
    )  # fmt: skip
    if outcome.costs is not None:
        ideals = {SERIAL: outcome.costs.serial, PARALLEL: outcome.costs.parallel}
        at = [(ideals[key], place) for place, key in enumerate(rows) if key in ideals]
        axes.scatter(
            [x / unit.seconds for x, _ in at], [y for _, y in at],
            marker="|", s=500, linewidths=2, zorder=3, color="black", label="ideal",
        )  # fmt: skip
    axes.set_yticks(places, [labels[key] for key in rows])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(unit.name)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, markerscale=0.4)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
