"""The page: what is to be seen of runs, put together by ``page.html.jinja``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import jinja2

import zipper_dist
from zipper_dist.config.files import FROM_PYTHON
from zipper_dist.metrics.tables import attack_in_words, duration
from zipper_dist.report.comparison import (
    Group,
    data_of,
    differing,
    evaluations,
    group,
    threats_in_words,
)
from zipper_dist.report.curves import curves, differences
from zipper_dist.report.drawing import Picture, data_uri
from zipper_dist.report.reading import Run
from zipper_dist.report.timeline import timeline, trace_file
from zipper_dist.report.trade_off import progress, trade_off
from zipper_dist.report.weights import final_distances

LARGEST = 6_000_000
"""[bytes] A page that would be larger leaves pictures out."""
NOTE = 500
"""[bytes] What the page says about what it leaves out of a run is shorter."""
LARGEST_PICTURE = 2_000_000
"""[bytes] of a picture that an evaluation drew."""


@dataclass
class Section:
    """A run on the page, and its pictures by the kind."""

    run: Run
    distances: dict[str, float]
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def trace(self) -> str:
        """The timeline as a file for other programs, in a data URI."""
        return data_uri(trace_file(self.run.timeline), "application/gzip")

    def leave_out(self, kind: str) -> int:
        """Drop the pictures of a kind; how much smaller that makes the page, at least [bytes]."""
        dropped, self.pictures[kind] = self.pictures[kind], []
        if not dropped:
            return 0
        self.left_out.append(kind)
        freed = _size(dropped) - NOTE
        return freed + len(self.trace) if kind == "timeline" else freed


def make_page(runs: Sequence[Run], renewed: float | None = None) -> str:
    """The page about ``runs``, no larger than LARGEST; ``renewed``: how often it is [s]."""
    groups = group(runs)
    sections = [_section(run) for run in runs]
    about = {
        "version": zipper_dist.__version__,
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
        "renewed": renewed,
        "groups": groups,
        "differing": differing(groups),
        "evaluations": evaluations(groups),
        "threats_in_words": threats_in_words,
        "measured": len({how for each in groups for how in each.measured}),
        "data": data_of(groups),
        "smaller": False,  # than with all pictures of the comparison
        "duration": duration,
        "command": _command,
        "attack_in_words": attack_in_words,
        "quoted": lambda path: shlex.quote(str(path)),
        "group_of": lambda run: _group_of(run, groups),
    }
    template = _environment().get_template("page.html.jinja")
    drawn = [list(progress(groups)), list(trade_off(groups))] if len(runs) > 1 else [[], []]

    def rendered() -> tuple[str, int]:
        comparison = [picture for pictures in reversed(drawn) for picture in pictures]
        page = template.render(sections=sections, comparison=comparison, **about)
        return page, len(page.encode())

    page, size = rendered()
    # The last runs first; their tables stay.
    for kind in ("examples", "timeline", "differences", "curves"):
        for section in reversed(sections):
            if size <= LARGEST:  # as it seems
                page, size = rendered()
            if size <= LARGEST:
                return page
            size -= section.leave_out(kind)
    for pictures in drawn:
        page, size = rendered()
        if size <= LARGEST:
            break
        if pictures:
            pictures.clear()
            about["smaller"] = True
    return rendered()[0] if size > LARGEST else page


def _size(pictures: Sequence[Picture]) -> int:
    return sum(len(picture.uri) for picture in pictures)


def _section(run: Run) -> Section:
    pictures = {
        "curves": list(curves(run)),
        "timeline": list(timeline(run)),
        "differences": list(differences(run)),
        "examples": _examples(run.directory / "evaluation.png"),
    }
    return Section(
        run, final_distances(run.directory, run.learners) if run.summary else {}, pictures
    )


def _examples(path: Path) -> list[Picture]:
    """What an evaluation drew of attacked images."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    if len(content) > LARGEST_PICTURE or not content.startswith(b"\x89PNG"):
        return []
    alt = "Images of the test set: clean, the perturbation magnified, attacked; with what the "
    alt += "network takes them for."
    caption = "Examples that an attack broke, as the evaluation of this run drew them."
    return [Picture("", data_uri(content, "image/png"), alt, caption, wide=True)]


def _command(run: Run) -> list[str]:
    """The words of the command that trains such a run, without the path of the program; none of
    a run that a program of someone's own began."""
    began = Path(next(iter(run.config["command"]), ""))
    named = began.name in ("zipper-train", "zipper_dist.train")
    if not named and began.parts[-2:] != ("zipper_dist", "train.py"):
        return []
    words = run.config["command"][1:]
    if any(Path(word).parent.name.startswith(FROM_PYTHON) for word in words):
        return []
    return ["python", "-m", "zipper_dist.train", *map(shlex.quote, words)]


def _group_of(run: Run, groups: Sequence[Group]) -> str:
    return next(each.name for each in groups if any(run is member for member in each.runs))


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
