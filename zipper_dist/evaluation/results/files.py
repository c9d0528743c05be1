"""What an evaluation leaves behind: figures (JSON), flags (CSV), images, the table on screen."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.errors import UserError
from zipper_dist.evaluation.engine import Worker
from zipper_dist.evaluation.outcomes import BROKEN
from zipper_dist.evaluation.registry import components
from zipper_dist.evaluation.results.figures import Figure, Results
from zipper_dist.evaluation.results.sanity import Check


class Outputs:
    """The files of one evaluation: ``evaluation.json`` and what is beside it.

    Args:
        directory: where they are.
        name: tells the networks of a directory apart: ``evaluation-NAME.json``; empty: none.
    """

    def __init__(self, directory: Path, name: str) -> None:
        stem = f"evaluation-{name}" if name else "evaluation"
        self.figures = directory / f"{stem}.json"
        self.flags = directory / f"{stem}.csv"
        self.picture = directory / f"{stem}.png"
        self.outcomes = directory / "evaluation"


def write_flags(
    path: Path, numbers: Tensor, labels: Tensor, results: Results, names: Sequence[str]
) -> None:
    """A line for each example: its number in the test set, its label, and 1 for each attack under
    which it is classified right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", *names])
    columns = [results.robust(name).int().tolist() for name in names]
    writer.writerows(zip(numbers.tolist(), labels.tolist(), *columns, strict=True))
    write_atomically(path, text.getvalue().encode())


def write_figures(
    path: Path, about: Mapping[str, Any], figures: Mapping[str, Figure], checks: Sequence[Check],
    notes: Sequence[str],
) -> None:  # fmt: skip
    """evaluation.json: what was evaluated, a figure for each attack, checks and warnings."""
    content = dict(about)
    content["attacks"] = {name: figure.as_json() for name, figure in figures.items()}
    content["sanity"] = [vars(check) for check in checks]
    content["warnings"] = [*notes, *(check.verdict for check in checks if not check.passed)]
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def adversarial_images(
    worker: Worker, results: Results, name: str, block: int
) -> tuple[Tensor, Tensor]:
    """The adversarial images (n, C, H, W) of a block under an attack, and which are broken (n,).

    An example that an ensemble breaks has the image of the first of its parts that did; one that is
    not broken has its clean image. On the CPU.
    """
    span = worker.setting.layout.span(block)
    images = worker.setting.examples.images[span].cpu().clone()
    broken = torch.zeros(len(images), dtype=torch.bool)
    for component in components(name):
        outcome = worker.outcome(results.parts[component], block)
        for row in (~broken & (outcome.state == BROKEN)).nonzero().flatten().tolist():
            images[row] = (outcome.images or {})[row]
            broken[row] = True
    return images, broken


def save_adversarial(
    path: Path, worker: Worker, results: Results, names: Sequence[str], numbers: Tensor
) -> None:
    """Write the images of every attack to a safetensors file.

    It holds ``examples`` (numbers in the test set), ``labels``, ``clean`` and, for each attack,
    images (N, C, H, W), float32 in [0, 1]; an example that an attack did not break has its clean
    image there. Raises UserError where the file cannot be written.
    """
    examples = worker.setting.examples
    tensors = {"examples": numbers, "labels": examples.labels.cpu(), "clean": examples.images.cpu()}
    for name in names:
        if name != "clean":
            blocks = range(worker.setting.layout.blocks)
            found = [adversarial_images(worker, results, name, block)[0] for block in blocks]
            tensors[name] = torch.cat(found)
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"--save-adversarial {path}: cannot be written: {error}") from error


def print_table(
    console: Console, title: str, figures: Mapping[str, Figure], checks: Sequence[Check]
) -> None:
    """The table on the screen, and the verdicts of the sanity checks."""
    table = Table(title=title)
    table.add_column("attack")
    for heading in ("accuracy", "95 % interval", "seconds", "gradients", "forwards"):
        table.add_column(heading, justify="right")
    for name, f in figures.items():
        table.add_row(
            name,
            f"{f.accuracy:.2f} %",
            f"{f.interval[0]:.2f} … {f.interval[1]:.2f} %",
            f"{f.seconds:.1f}",
            f"{f.gradients_per_example:.0f}",
            f"{f.forwards_per_example:.0f}",
        )
    console.print(table)
    console.print("gradients, forwards: evaluations an example", highlight=False)
    for check in checks:
        mark = "[green]passed[/]" if check.passed else "[bold red]WARNING[/]"
        console.print(f"{mark}  {check.name}: {check.verdict}", highlight=False, soft_wrap=True)
