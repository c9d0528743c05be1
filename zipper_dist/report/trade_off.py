"""The figures of a comparison: the trade-off, and accuracy over the iterations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import matplotlib

from zipper_dist.metrics.records import GLOBAL
from zipper_dist.report.comparison import Group, Spread, pareto_front
from zipper_dist.report.drawing import (
    DARK,
    SETTINGS,
    Line,
    Picture,
    as_uri,
    draw_lines,
    in_words,
    new_figure,
    styled,
)

FRONT = "Pareto front"
RING: Any = {"markersize": 14, "markerfacecolor": "none", "linewidth": 1.2, "clip_on": False}
MARKERS = "osD^v"


def trade_off(groups: Sequence[Group]) -> Iterator[Picture]:
    """Robust over clean accuracy of the global learners at the end, with the Pareto front."""
    scored = {
        index: (clean, robust)
        for index, each in enumerate(groups)
        if (clean := each.score("clean")) and (robust := each.score("robust"))
    }
    if not scored:
        return
    points = [(clean.mean, robust.mean) for clean, robust in scored.values()]
    comparable = len({how for each in groups for how in each.measured}) == 1
    on_front = pareto_front(points) if comparable else []
    front = [points[i] for i in on_front]
    names = [groups[list(scored)[i]].name for i in on_front]
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_figure(height=3.6)
        if front:
            axes.plot(*zip(*front, strict=True), "o--", color="#777777", label=FRONT, **RING)
        for index, (clean, robust) in scored.items():
            name, (colour, _) = groups[index].name, styled(index)
            axes.errorbar(
                clean.mean, robust.mean, robust.std or 0, clean.std or 0, color=colour, capsize=3,
                fmt=MARKERS[index % len(MARKERS)], label=f"{name}: {groups[index].recipe}",
            )  # fmt: skip
        axes.set_xlabel("clean accuracy [%]")
        axes.set_ylabel("robust accuracy [%]")
        axes.margins(0.2)
        axes.set_xlim(right=min(axes.get_xlim()[1], 101))
        axes.set_ylim(top=min(axes.get_ylim()[1], 101))
        seen = axes.transData.transform(points).tolist()
        for i, index in enumerate(scored):
            side, level = _away(seen[i], seen[:i] + seen[i + 1 :])
            axes.annotate(
                groups[index].name, points[i], xytext=(7 * side, 8 * level), color=DARK,
                textcoords="offset points", weight="bold", va="center",
                ha="left" if side > 0 else "right",
            )  # fmt: skip
        figure.legend(loc="outside upper center", ncols=2)
        uri = as_uri(figure)

    def said(index: int, figures: tuple[Spread, Spread]) -> str:
        clean, robust = (figure.text("%") for figure in figures)
        return f"{groups[index].name}: clean {clean}, robust {robust}"

    alt = "; ".join(said(index, figures) for index, figures in scored.items())
    caption = (
        "Means over seeds, with their standard deviations as bars, of the global learners at the "
        "end of training, on the test set. "
    )
    caption += (
        f"On the {FRONT} ({', '.join(names)}): no other group is at least as good in both "
        "accuracies and better in one."
        if front
        else f"Not measured alike, as said above: without a {FRONT}."
    )
    yield Picture("Trade-off", uri, f"Robust over clean accuracy. {alt}.", caption)


def _away(point: Sequence[float], others: Sequence[Sequence[float]]) -> tuple[int, int]:
    """On which side of a point, right (1) or left (-1) and above or below, its name is farthest
    from the nearest of the others."""
    nearest = min(others, key=lambda other: math.dist(point, other), default=point)
    return 1 if point[0] >= nearest[0] else -1, 1 if point[1] >= nearest[1] else -1


def progress(groups: Sequence[Group]) -> Iterator[Picture]:
    """Accuracy on the validation set of all runs over the iterations."""
    for figure in ("clean", "robust"):
        lines, said = [], []
        for index, each in enumerate(groups):
            for run in each.runs:
                curve = run.curve(GLOBAL, figure)
                label = each.name if run is each.runs[0] else "_"  # one entry a group in the legend
                lines.append(Line(label, curve, *styled(index)))
                said.append(replace(lines[-1], name=f"{each.name}, seed {run.options['seed']}"))
        uri = draw_lines(lines, f"{figure} accuracy", unit="%")
        if uri is not None:
            title = f"{figure.capitalize()} accuracy in validation"
            caption = "Of the global learner; a line for each run, in the colour of its group."
            on_test = [each.name for each in groups if each.runs[0].validated_on_test]
            if on_test:
                caption += f" Validated on the test set: {', '.join(on_test)}."
            yield Picture(title, uri, f"{title}. {in_words(said, '%')}", caption)
