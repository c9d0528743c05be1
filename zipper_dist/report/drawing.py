"""What all figures have in common: colours, axes, and how a figure comes onto the page."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zipper_dist.report.reading import Curve

# Dark enough on white, also for people who do not see all colours, who have the line styles.
COLOURS = ("#1f5a99", "#b3261e", "#5b3a8e", "#8a5a00", "#00695c", "#37474f")
STYLES = ("-", "--", "-.", ":")
DARK = "#222222"
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "zipper_dist",  # the same runs give the same bytes
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 10.0,
    "axes.edgecolor": DARK,
    "axes.labelcolor": DARK,
    "text.color": DARK,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
}
POINTS = 1000
"""A curve with more is thinned out."""
ALL_POINTS = 10_000
"""Points of all curves of a figure, at most, but two for each."""


@dataclass(frozen=True)
class Picture:
    """A picture; ``alt`` says what is to be seen, ``caption`` what it means."""

    title: str  # or "", where the heading above says it
    uri: str
    alt: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Line:
    """A named curve; lines with points (``marked``) are of a few moments."""

    name: str
    curve: Curve
    colour: str
    style: str = "-"
    marked: bool = False


def styled(index: int) -> tuple[str, str]:
    """Colour and line style of the ``index``-th of several lines."""
    return COLOURS[index % len(COLOURS)], STYLES[index % len(STYLES)]


def new_figure(width: float = 4.8, height: float = 3.1) -> tuple[Figure, Axes]:
    """A figure of that size [inches] with one pair of axes."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def as_uri(figure: Figure) -> str:
    """The figure as SVG in a data URI."""
    content = io.BytesIO()
    with matplotlib.rc_context(SETTINGS):
        figure.savefig(content, format="svg", dpi=160, metadata={"Date": None, "Creator": None})
    return data_uri(content.getvalue(), "image/svg+xml")


def data_uri(content: bytes, kind: str) -> str:
    """The content of a file of a media type as a URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def draw_lines(
    lines: Iterable[Line], label: str, log: bool = False, unit: str = "", total: int | None = None
) -> str | None:
    """Curves over iterations (1 … ``total``, if that is known) as a data URI; None without any.
    ``label`` and ``unit`` are of the other axis, which is logarithmic on request."""
    drawn = [line for line in lines if line.curve[0]]
    if not drawn:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_figure()
        for line in drawn:
            at, values = _thinned(line.curve, min(POINTS, max(2, ALL_POINTS // len(drawn))))
            marker = "o" if line.marked or len(at) == 1 else ""
            axes.plot(
                at, values, color=line.colour, linestyle=line.style, marker=marker, markersize=3.5,
                label=line.name,
            )  # fmt: skip
        if log and all(value > 0 for line in drawn for value in line.curve[1]):
            axes.set_yscale("log")
        axes.set_xlabel("iteration")
        axes.set_ylabel(f"{label} [{unit}]" if unit else label)
        if total is not None:
            axes.set_xlim(0, total * 1.02)
        figure.legend(loc="outside upper center", ncols=3)
        return as_uri(figure)


def _thinned(curve: Curve, points: int) -> Curve:
    """Every n-th point, so many at most, and the last."""
    at, values = curve
    step = -(-len(at) // points)
    kept = sorted({*range(0, len(at), step), len(at) - 1})
    return [at[i] for i in kept], [values[i] for i in kept]


def in_words(lines: Sequence[Line], unit: str) -> str:
    """What a figure shows, for those who do not see it: first and last value of every line."""

    def of(line: Line) -> str:
        at, values = line.curve
        ends = f"{values[0]:.4g} at iteration {at[0]}, {values[-1]:.4g} at iteration {at[-1]}"
        return f"{line.name}: {ends}"

    said = "; ".join(of(line) for line in itertools.islice(lines, 8) if line.curve[0])
    return f"{said}{f' [{unit}]' if unit else ''}."
