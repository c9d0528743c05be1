"""An export, from options to files."""

from pathlib import Path

from rich.console import Console

from zipper_dist.checkpoint.files import check_writable
from zipper_dist.export.base import EXPORTERS
from zipper_dist.export.subject import ExportOptions, default_directory, read_subject


def export(options: ExportOptions, console: Console | None = None) -> Path:
    """Write the network that the options name, and compare what was written with it; the directory
    of the files. CommandError: bad input, a package that is absent, or a difference."""
    exporter = EXPORTERS.find(options.to, "--to")
    subject, notes = read_subject(options)
    out = options.out or default_directory(options)
    check_writable(out, "--out")
    notes += exporter(subject, out)
    if console is not None:
        for note in notes:
            console.print(note, highlight=False, soft_wrap=True)
        console.print(f"{subject.file} is in {out}", highlight=False, soft_wrap=True)
    return out
