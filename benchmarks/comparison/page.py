"""The page of an experiment: Markdown with its tables, plots and commands, and table.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from comparison.experiments import PARALLEL, SERIAL, ZIPPER, Images
from comparison.figures import HEADINGS, KEYS, Spread, Unit, read_json, table
from comparison.markdown import markdown_table
from comparison.outcome import Outcome
from comparison.plots import draw_times, draw_trade_off
from comparison.published import PUBLISHED
from comparison.timing import timing_section
from zipper_dist.files import write_atomically
from zipper_dist.run_directory import write_json

NOTHING = vars(Spread.of([]))
FEW_IMAGES = 1000
"""Test images up to which it is said what one of them counts."""


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
        *_remarks(outcome),
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
    for remark in filter(None, [_missing(outcome), *_remarks(outcome)]):
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
            which = "the first " if _are_first(outcome, name, count) else ""
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


def _remarks(outcome: Outcome) -> list[str]:
    """What a reader of the table has to know."""
    remarks = [_matching(outcome)] if outcome.match is not None else []
    rows = {run.row.key: run.row for run in outcome.runs}
    if ZIPPER & rows.keys() and any("-ema" not in key for key in rows.keys() - ZIPPER):
        remarks.append(
            "Zipper's global learner is an exponential moving average, by construction; other "
            'methods are as published, without one, or "with EMA", with Zipper\'s decay.'
        )
    remarks += _few_images(outcome)
    if len({f.seed for f in outcome.found}) == 1:
        remarks.append("One seed: nothing is known of the spread between seeds.")
    if not outcome.experiment.times:
        remarks.append("Several runs shared the machine: their times are not for comparing.")
    same = _same_weights(outcome)
    if same is not None:
        remarks.append(same)
    return remarks


def _few_images(outcome: Outcome) -> Iterator[str]:
    """What chance can do to figures of few images, and to those of fewer than the others."""
    images = {name: count for f in outcome.found for name, count in f.images.items()}
    most, fewest = max(images.values(), default=0), min(images.values(), default=0)
    if 0 < fewest <= FEW_IMAGES:
        yield f"One of {fewest:,} test images is {100 / fewest:.2f} points."
    for name, count in images.items():
        if count < most:
            shares = [f.accuracy[name] / 100 for f in outcome.found if name in f.accuracy]
            error = max(196 * math.sqrt(share * (1 - share) / count) for share in shares)
            if error < 0.05:
                continue
            first = _are_first(outcome, name, count)
            which = (
                f"the first {count:,} of the images" if first
                else f"{count:,} of the images, chosen at random and the same for every network"
            )  # fmt: skip
            yield (
                f"{HEADINGS[name]} is of {which}: which ones these are may account for up to "
                f"{error:.1f} points (95 %{', as if at random' if first else ''}) between it and "
                f"the columns of {most:,} images."
            )


def _are_first(outcome: Outcome, name: str, count: int) -> bool:
    """Whether a figure is of the first images of the test set, not of a random choice."""
    ours = next(group for group in outcome.experiment.attacks
                if name in (KEYS[attack] for attack in group.names))  # fmt: skip
    return ours.images == Images(count, first=True)


def _matching(outcome: Outcome) -> str:
    """How TRADES was tuned, and how well that went."""
    match = outcome.match
    assert match is not None
    tried = ", ".join(f"{beta:g}" for beta in sorted(outcome.betas))
    above = match.clean - match.target
    if above < -match.slack:
        how = f"{-above:.2f} points less, is the most accurate: none reaches Zipper's"
    elif above > match.slack:
        how = (
            f"{above:.2f} points more, is the most robust of those that reach Zipper's: not "
            "matched, so that some robustness may be left to gain"
        )
    else:
        how = (
            f"{above:+.2f} points, is the most robust of those that reach Zipper's within "
            f"{match.slack:.2f}"
        )
    return (
        f"TRADES was tuned to the clean accuracy of Zipper, {match.target:.2f} % by seed 0: of β = "
        f"{tried}, β = {match.beta:g} with {match.clean:.2f} %, {how}."
    )


def _same_weights(outcome: Outcome) -> str | None:
    """Whether serial and parallel agree, by the seeds that both have; None where there is none."""
    ends = {key: {f.seed: f.weights for f in outcome.found if f.row == key}
            for key in (SERIAL, PARALLEL)}  # fmt: skip
    both = sorted(ends[SERIAL].keys() & ends[PARALLEL].keys())
    if not both:
        return None
    some = both != sorted({f.seed for f in outcome.found})
    by = f" (seed {', '.join(map(str, both))})" if some else ""
    if all(ends[SERIAL][seed] == ends[PARALLEL][seed] for seed in both):
        return f"Zipper ends with the same weights, bit for bit, in serial and in parallel{by}."
    return f"Zipper's weights in serial and in parallel DIFFER, and should not{by}."


def _trade_off(outcome: Outcome) -> Iterable[str]:
    yield (
        "Nobody has to trust one point: robust over clean accuracy for several β of TRADES and "
        "several last values of Zipper's γ, seed 0."
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
