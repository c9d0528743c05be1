"""The timeline of the ranks of a run, from the files that ``--trace`` leaves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from zipper_dist.metrics.trace import Event
from zipper_dist.report.drawing import SETTINGS, Picture, as_uri, new_figure
from zipper_dist.report.reading import Run

# Dark and light of each learner, for the attack and the rest of a step; then what all have.
LEARNERS = (("#1f5a99", "#7db8ea"), ("#a3161a", "#f29a94"), ("#5b3a8e", "#bda3e0"))
ACTIVITIES = {
    "all-reduce": "#f2a900",
    "waiting": "#e3e3e3",
    "reading images": "#17a2a2",
    "evaluating": "#2f9e44",
    "redistribution": "#000000",
    "checkpoint": "#8c564b",
    "mixing": "#e377c2",
    "reporting": "#6d7278",
}
OTHERS = "#9c9c9c"
LANE = 0.8  # height, of 1
MOST = 50_000
"""Spans of a picture, at most: it shows the first iterations of a longer trace."""


def timeline(run: Run) -> Iterator[Picture]:
    """What each rank did, and when; nothing where the run was not traced."""
    ranks = _first_iterations(run.timeline)
    if not ranks:
        return
    start = min(event["ts"] for events in ranks.values() for event in events)
    ends = (event["ts"] + event["dur"] for events in ranks.values() for event in events)
    end = max(start + 1, *ends)
    words: dict[str, str] = {}
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_figure(10.5, 1.5 + 0.45 * len(ranks))
        for lane, events in enumerate(ranks.values()):
            words |= draw_lane(axes, lane, events, start, run.learners)
        axes.set_yticks(range(len(ranks)), [f"rank {rank}" for rank in ranks])
        axes.set_ylim(len(ranks) - 0.4, -0.6)
        axes.set_xlim(0, (end - start) / 1000)
        axes.set_xlabel("time [ms]")
        axes.grid(False)
        patches = [Patch(facecolor=colour, label=word) for word, colour in sorted(words.items())]
        figure.legend(handles=patches, loc="outside lower center", ncols=4)
        uri = as_uri(figure)
    at = [event["args"]["iteration"] for events in ranks.values() for event in events]
    title = f"Iterations {min(at)} to {max(at)}"
    left_out = sum(map(len, run.timeline.values())) > sum(map(len, ranks.values()))
    caption = "A lane for each rank, empty between activities and while it is in other iterations."
    if left_out:
        caption += " The trace goes on: only its beginning is shown."
    yield Picture(
        title, uri, f"Timeline of the ranks. {_shares(ranks, end - start)}", caption, True
    )


def trace_file(ranks: Mapping[int, Sequence[Event]]) -> bytes:
    """All ranks in one gzipped file in the Chrome trace event format, which Perfetto shows."""
    lanes = [
        {"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "args": {"name": f"rank {rank}"}}
        for rank in ranks
    ]
    events = [*lanes, *(event for events in ranks.values() for event in events)]
    content = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
    return gzip.compress(content.encode(), mtime=0)


def draw_lane(
    axes: Axes, lane: int, events: Sequence[Event], start: int, learners: Sequence[str]
) -> dict[str, str]:
    """Draw what a rank did since ``start`` [µs] at height ``lane``; words and colours in it."""
    spans = [((event["ts"] - start) / 1000, event["dur"] / 1000) for event in events]
    known = [_words_and_colour(learners, event) for event in events]
    # Thousands of spans are smaller, and as sharp, as pixels.
    axes.broken_barh(
        spans, (lane - LANE / 2, LANE), facecolors=[colour for _, colour in known], linewidth=0,
        rasterized=True,
    )  # fmt: skip
    return dict(known)


def shares(events: Sequence[Event]) -> dict[str, float]:
    """Milliseconds of each activity of one rank, the longest first."""
    found: dict[str, float] = {}
    for event in events:
        found[event["name"]] = found.get(event["name"], 0.0) + event["dur"] / 1000
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _shares(ranks: Mapping[int, Sequence[Event]], span: float) -> str:
    said = []
    for rank, events in ranks.items():
        parts = ", ".join(f"{n} {100_000 * ms / span:.0f} %" for n, ms in shares(events).items())
        said.append(f"Rank {rank}: {parts}")
    return "; ".join(said) + "."


def _first_iterations(ranks: Mapping[int, Sequence[Event]]) -> Mapping[int, Sequence[Event]]:
    """The whole iterations of all ranks that are no more than MOST spans together."""
    at = sorted(event["args"]["iteration"] for events in ranks.values() for event in events)
    if len(at) <= MOST:
        return ranks
    last = max(at[MOST] - 1, at[0])
    return {r: [e for e in events if e["args"]["iteration"] <= last] for r, events in ranks.items()}


def _words_and_colour(learners: Sequence[str], event: Event) -> tuple[str, str]:
    """What an event is called in the legend, and its colour."""
    name, learner = event["name"], event["args"].get("learner")
    if name in ACTIVITIES:
        return name, ACTIVITIES[name]
    if learner not in learners:
        return name, OTHERS
    dark, light = LEARNERS[learners.index(learner) % len(LEARNERS)]
    return f"{learner}: {name}", dark if name == "attack" else light
