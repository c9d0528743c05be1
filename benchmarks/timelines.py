"""Draws what the ranks of runs did, and when, from the files that --trace leaves.

python benchmarks/timelines.py RUN [RUN …] --out FILE.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from zipper_dist.config.command_line import parse_options, run_command
from zipper_dist.errors import UserError
from zipper_dist.metrics.trace import Event, read_events
from zipper_dist.report.timeline import draw_lane


@dataclass(frozen=True)
class Options:
    """Draw the timelines of runs, one below the other, to the same scale."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories with trace-RANK.json."""
    out: Path
    """The picture, FILE.png or FILE.svg."""


@dataclass(frozen=True)
class Timeline:
    """A run: its learners, what its ranks did, and what it is called."""

    title: str
    learners: Sequence[str]
    ranks: dict[int, list[Event]]

    @staticmethod
    def of(run: Path) -> Timeline:
        """Read a run directory; UserError if it has no timeline."""
        try:
            options = json.loads((run / "config.json").read_text())["options"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{run}: no run is here ({error})") from None
        events = [event for path in run.glob("trace-*.json") for event in read_events(path)]
        if not events:
            raise UserError(f"{run}: there is no trace-RANK.json: train with --trace FIRST:LAST")
        ranks = sorted({event["pid"] for event in events})
        placement, at = options["placement"], [event["args"]["iteration"] for event in events]
        title = f"{placement['mode']} on {len(ranks)} rank{'s' if len(ranks) > 1 else ''}"
        title += f" ({placement['ranks']})" if placement["ranks"] != "auto" else ""
        title += f", iterations {min(at)} to {max(at)}"
        found = {rank: [event for event in events if event["pid"] == rank] for rank in ranks}
        return Timeline(title, list(options["learners"]), found)

    @property
    def start(self) -> int:
        """When the first of its ranks began [µs]."""
        return min(int(event["ts"]) for events in self.ranks.values() for event in events)

    def draw(self, axes: Axes) -> dict[str, str]:
        """A lane for each rank; words and colours of what is in it."""
        words: dict[str, str] = {}
        for rank, events in self.ranks.items():
            words |= draw_lane(axes, rank, events, self.start, self.learners)
        axes.set_yticks(list(self.ranks), [f"rank {rank}" for rank in self.ranks])
        axes.set_ylim(max(self.ranks) + 0.6, -0.6)
        axes.set_title(self.title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        return words


def draw(timelines: Sequence[Timeline], path: Path) -> None:
    """Write the picture."""
    lanes = [len(each.ranks) for each in timelines]
    figure = Figure(figsize=(11, 1.5 + 0.42 * sum(lanes) + 0.45 * len(lanes)), layout="constrained")
    all_axes = figure.subplots(
        len(timelines), sharex=True, squeeze=False, height_ratios=[n + 0.5 for n in lanes]
    )[:, 0]
    words: dict[str, str] = {}
    for timeline, axes in zip(timelines, all_axes, strict=True):
        words |= timeline.draw(axes)
    all_axes[-1].set_xlabel("time [ms]")
    all_axes[-1].margins(x=0)
    all_axes[-1].set_xlim(left=0)
    patches = [Patch(facecolor=colour, label=word) for word, colour in sorted(words.items())]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    figure.savefig(path, dpi=120, facecolor="white")


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    options = parse_options(Options, arguments, "benchmarks/timelines.py")
    draw([Timeline.of(run) for run in options.runs], options.out)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
