"""The options of the report command."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class ReportOptions:
    """Write one HTML page about training runs, also about those that still go on: curves, the
    timeline of the ranks and, of several runs, a comparison."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path = Path("report.html")
    """The page."""
    watch: float | None = None
    """Write the page again and again until the runs have ended [seconds in between]."""
