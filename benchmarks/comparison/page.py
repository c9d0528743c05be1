"""The page of an experiment: Markdown with its tables, plots and commands, and table.json."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from comparison.experiments import PARALLEL, SERIAL, ZIPPER
from comparison.plots import draw_trade_off
from comparison.results import HEADINGS, KEYS, SECONDS, Outcome, Spread, time_unit
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.checkpoint.run_directory import write_json

NOTHING = Spread.of([])


def write_page(outcome: Outcome, out: Path, command: str, machine: str) -> str:
    """Write page.md, table.json, outcome.json and the picture: the text of the page.

    Args:
        outcome: what the experiment has shown.
        out: its directory.
        command: what makes the page again.
        machine: the devices in words.
    """
    if outcome.match is not None:
        draw_trade_off(outcome, out / "trade-off.png")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = "{:g}".format
    template = environment.get_template("page.md.jinja")
    text = "\n\n".join(_paragraphs(template.render(_context(outcome, command, machine))))
    write_atomically(out / "page.md", f"{text}\n".encode())
    table: dict[str, dict[str, Any]] = {}
    for key, figures in outcome.table().items():
        table[key] = {name: spread._asdict() for name, spread in figures.items()}
        table[key]["seeds"] = len(outcome.of(key))
    write_json(out / "table.json", table)
    write_json(out / "outcome.json", _as_json(outcome, command, machine))
    return text


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of Markdown, each a line, but for tables and commands."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.startswith(("|", "```")):
            yield paragraph.strip()
        elif paragraph.strip():
            yield re.sub(r" ([,;])", r"\1", " ".join(paragraph.split()))


def _context(outcome: Outcome, command: str, machine: str) -> dict[str, Any]:
    """What the template shows."""
    images = {name: count for each in outcome.found for name, count in each.images.items()}
    most = max(images.values(), default=0)
    fewer = {name: count for name, count in images.items() if count < most}
    serial, parallel = ({f.seed: f for f in outcome.of(key)} for key in (SERIAL, PARALLEL))
    attacks, both = outcome.experiment.attacks, sorted(serial.keys() & parallel.keys())
    return {
        "outcome": outcome,
        "command": command,
        "machine": machine,
        "versions": ", ".join(f"{k} {v}" for k, v in outcome.about["versions"].items()),
        "options": " ".join(" ".join(pair) for pair in outcome.experiment.options),
        "headings": HEADINGS,
        "seeds": sorted({each.seed for each in outcome.found}),
        "images": images,
        "most": most,
        "fewest": min(images.values(), default=0),
        "fewer": fewer,
        "first": {KEYS[n] for group in attacks if group.images.first for n in group.names},
        "lines": _lines(outcome),
        "zipper": ZIPPER & outcome.rows.keys(),
        "both": both,
        "same_weights": all(serial[seed].weights == parallel[seed].weights for seed in both),
        "curves": list(_curves(outcome)),
        "efficiency": list(_efficiency(outcome)),
        # By the seeds that both have, so that a slow spell of the machine is in both.
        "ratio": {
            name: sum(parallel[seed].figures[name] for seed in both)
            / (sum(serial[seed].figures[name] for seed in both) or 1)
            for name in SECONDS
        },
    }


def _lines(outcome: Outcome) -> list[list[str]]:
    """The cells of the main table, its head first."""
    table, rows = outcome.table(), outcome.rows
    names = [name for name in HEADINGS if any(name in figures for figures in table.values())]
    unit, seconds = time_unit(outcome)
    seeds = len({found.seed for found in outcome.found})
    head = ["method", "devices", *(HEADINGS[name] for name in names)]
    lines = [[*head, f"training, {unit}", f"with evaluation, {unit}"]]
    for key, figures in table.items():
        spreads = [figures.get(name, NOTHING) for name in names]
        # Of how many networks a figure is, where that is fewer than there are seeds.
        cells = [s.words() + (f" (of {s.n})" if 0 < s.n < seeds else "") for s in spreads]
        cells += [figures.get(name, NOTHING).words(1, seconds) for name in SECONDS]
        lines.append([rows[key].label, str(rows[key].devices), *cells])
    return lines


def _curves(outcome: Outcome) -> Iterator[list[str]]:
    yield ["method", "NAT", "PGD-100"]
    for label, points in (("Zipper, γ →", outcome.gammas), ("TRADES, β =", outcome.betas)):
        for value, at in sorted(points.items()):
            yield [f"{label} {value:g}", f"{at.clean:.2f}", f"{at.robust:.2f}"]


def _efficiency(outcome: Outcome) -> Iterator[list[str]]:
    """Ideal beside measured times of Zipper."""
    yield ["Zipper", "ideal, s", "measured, s", "efficiency"]
    costs = outcome.costs
    for key, ideal in ((SERIAL, costs.serial), (PARALLEL, costs.parallel)) if costs else ():
        measured = Spread.of(found.figures["train_seconds"] for found in outcome.of(key))
        if measured.mean is not None:
            share = f"{100 * ideal / measured.mean:.0f} %"
            yield [key.removeprefix("zipper-"), f"{ideal:.1f}", measured.words(1), share]


def _as_json(outcome: Outcome, command: str, machine: str) -> dict[str, Any]:
    """Everything on the page, for programs."""
    return {
        "experiment": outcome.experiment.name,
        "command": command,
        "machine": machine,
        "runs": [found.as_json() for found in outcome.found],
        "betas": {f"{beta:g}": vars(accuracy) for beta, accuracy in outcome.betas.items()},
        "gammas": {f"{gamma:g}": vars(accuracy) for gamma, accuracy in outcome.gammas.items()},
        "match": vars(outcome.match) if outcome.match else None,
        "costs": outcome.costs.as_json() if outcome.costs else None,
        "missing": outcome.missing,
        "commands": outcome.commands,
    }
