"""The page of an experiment: Markdown with its tables, plots and commands, and table.json."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from comparison.figures import HEADINGS, Spread, Unit, read_json, table
from comparison.markdown import markdown_table
from comparison.outcome import Outcome
from comparison.plots import draw_times, draw_trade_off
from comparison.published import PUBLISHED
from comparison.remarks import remarks
from comparison.timing import timing_section
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.checkpoint.run_directory import write_json

NOTHING = vars(Spread.of([]))


def write_page(outcome: Outcome, out: Path, command: str, machine: str) -> None:
    """Write page.md, table.json and the plots into ``out``.

    Args:
        outcome: what the experiment has shown.
        out: its directory.
        command: what makes the page again.
        machine: the devices in words.
    """
    parts = [
        f"# {outcome.experiment.title}",
        _introduction(outcome, command, machine),
        _missing(outcome),
        "## Accuracy and time",
        _table(outcome),
        _published(outcome.experiment.name),
        *remarks(outcome),
        *_shared(outcome),
    ]
    if outcome.match is not None:
        draw_trade_off(outcome, out / "trade-off.png")
        parts += ["## The trade-off", *_trade_off(outcome)]
    if outcome.costs is not None:
        draw_times(outcome, out / "times.png")
        parts += ["## Where the time goes", *timing_section(outcome), "![](times.png)"]
    parts += ["## Commands", _commands(outcome)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_atomically(out / "page.md", text.encode())
    write_json(out / "table.json", table(outcome.found))
    write_json(out / "outcome.json", _as_json(outcome, command, machine))


def print_summary(outcome: Outcome, console: Console) -> None:
    """The table on the screen."""
    screen = Table(title=outcome.experiment.title)
    head, *lines = _rows(outcome)
    for i, heading in enumerate(head):
        screen.add_column(heading, justify="left" if i == 0 else "right")
    for line in lines:
        screen.add_row(*line)
    console.print(screen)
    for remark in filter(None, [_missing(outcome), *remarks(outcome)]):
        console.print(remark, highlight=False)


def _introduction(outcome: Outcome, command: str, machine: str) -> str:
    run = outcome.run_of(outcome.found[0])
    about = read_json(run.directory / "config.json")
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    precision = about["resolved"]["precision"]
    seeds = len({f.seed for f in outcome.found})
    images = {name: count for f in outcome.found for name, count in f.images.items()}
    counts = sorted(set(images.values()), reverse=True)
    on = f"{counts[0]:,} test images" if counts else "no test image yet"
    for name, count in images.items():
        if count < counts[0]:
            which = "the first " if name in outcome.on_first else ""
            on += f" ({HEADINGS[name]}: {which}{count:,})"
    options = [" ".join(pair) for pair in outcome.experiment.options]
    changed = (
        f" Recipe `{outcome.experiment.recipe}` with `{' '.join(options)}`." if options else ""
    )
    return (
        f"Made by `{command}`, {seeds} {'seed' if seeds == 1 else 'seeds'}. {machine}; {versions}; "
        f"training in {precision}, attacks of the evaluation in fp32. Accuracy in per cent on "
        f"{on}, of the network at the end of training: mean ± sample standard deviation over the "
        f"networks of several seeds, or of one network without the ±.{changed}"
    )


def _missing(outcome: Outcome) -> str:
    """What a comparison that was interrupted has not come to."""
    if not outcome.missing:
        return ""
    what = "; ".join(outcome.missing)
    return f"Not complete. The same command goes on; it still has to make: {what}."


def _rows(outcome: Outcome) -> list[list[str]]:
    """The cells of the main table, its head first."""
    found = table(outcome.found)
    names = [name for name in HEADINGS if any(name in figures for figures in found.values())]
    several = len({figures["seeds"] for figures in found.values()}) > 1
    head = ["method", "devices", *(["seeds"] if several else [])]
    head += [HEADINGS[name] for name in names]
    unit = Unit.fitting(max(f.wall_seconds for f in outcome.found))
    head += [f"training, {unit.name}", f"with evaluation, {unit.name}"]
    rows = {run.row.key: run.row for run in outcome.runs}
    lines = [head]
    for key, figures in found.items():
        cells = [str(figures["seeds"])] if several else []
        cells += [_cell(Spread(**figures.get(name, NOTHING)), figures["seeds"]) for name in names]
        times = []
        for name in ("train_seconds", "wall_seconds"):
            mine = [getattr(f, name) / unit.seconds for f in outcome.found if f.row == key]
            times.append(Spread.of(mine).words(1))
        lines.append([rows[key].label, str(rows[key].devices), *cells, *times])
    return lines


def _cell(spread: Spread, runs: int) -> str:
    """A figure, with how many networks it is of, where that is not all of a row's ``runs``."""
    some = 0 < spread.n < runs
    return spread.words() + (f" (of {spread.n})" if some else "")


def _table(outcome: Outcome) -> str:
    return markdown_table(_rows(outcome))


def _published(name: str) -> str:
    lines = PUBLISHED.get(name)
    if lines is None:
        return ""
    keys = list(dict.fromkeys(key for line in lines for key in line.figures))
    head = ["published", *(HEADINGS.get(key, "training, min") for key in keys)]
    cells = [[line.label, *(line.figures.get(key, "–") for key in keys)] for line in lines]
    return markdown_table([head, *cells])


def _shared(outcome: Outcome) -> Iterable[str]:
    """All figures on the same images, where some are on fewer than others."""
    runs = [f for f in outcome.found if f.shared is not None]
    if not runs:
        return
    yield "## The same images for all figures"
    yield (
        "Figures above that are of more images, here on those alone that all figures of a network "
        "were made on."
    )
    labels = {run.row.key: run.row.label for run in outcome.runs}
    names = [name for name in HEADINGS if any(name in f.accuracy for f in runs)]
    lines = [["method", "networks", "images", *(HEADINGS[name] for name in names)]]
    for key in dict.fromkeys(f.row for f in runs):
        mine = [f.shared for f in runs if f.row == key and f.shared is not None]
        images = ", ".join(f"{count:,}" for count in sorted({one.images for one in mine}))
        spreads = [Spread.of(one.accuracy[name] for one in mine if name in one.accuracy)
                   for name in names]  # fmt: skip
        lines.append([labels[key], str(len(mine)), images, *(one.words() for one in spreads)])
    yield markdown_table(lines)


def _trade_off(outcome: Outcome) -> Iterable[str]:
    several = "several last values" if len(outcome.gammas) > 1 else "the last value"
    yield (
        "Nobody has to trust one point: robust over clean accuracy for several β of TRADES and "
        f"{several} of Zipper's γ, seed 0."
    )
    yield "![Robust accuracy over clean accuracy](trade-off.png)"
    lines = [["method", "NAT", "PGD-100"]]
    for label, points in (("Zipper, γ →", outcome.gammas), ("TRADES, β =", outcome.betas)):
        for value in sorted(points):
            accuracy = points[value]
            lines.append([f"{label} {value:g}", f"{accuracy.clean:.2f}", f"{accuracy.robust:.2f}"])
    yield markdown_table(lines)


def _commands(outcome: Outcome) -> str:
    commands = "\n".join(str(command) for command in outcome.commands)
    return f"Every run and evaluation behind this page:\n\n```\n{commands}\n```"


def _as_json(outcome: Outcome, command: str, machine: str) -> dict[str, Any]:
    """Everything on the page, for programs."""
    return {
        "experiment": outcome.experiment.name,
        "command": command,
        "machine": machine,
        "runs": [
            {
                "row": f.row,
                "seed": f.seed,
                **f.accuracy,
                "images": f.images,
                "on_first_images": sorted(f.first),
                "on_shared_images": vars(f.shared) if f.shared else None,
                "train_seconds": f.train_seconds,
                "wall_seconds": f.wall_seconds,
                "weights": f.weights,
            }
            for f in outcome.found
        ],
        "betas": {f"{beta:g}": vars(a) for beta, a in outcome.betas.items()},
        "gammas": {f"{gamma:g}": vars(a) for gamma, a in outcome.gammas.items()},
        "match": vars(outcome.match) if outcome.match else None,
        "costs": outcome.costs.as_json() if outcome.costs else None,
        "missing": outcome.missing,
        "commands": [str(one) for one in outcome.commands],
    }
