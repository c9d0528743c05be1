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
from torch import Tensor

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import Measure
from zipper_dist.evaluation.engine import Engine
from zipper_dist.evaluation.outcomes import BROKEN
from zipper_dist.evaluation.results.report import Report
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


def write_flags(path: Path, numbers: Tensor, labels: Tensor, result: Report) -> None:
    """A line for each example: its number in the test set, its label, and 1 for each attack under
    which it is classified right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", *result.correct])
    columns = [right.int().tolist() for right in result.correct.values()]
    writer.writerows(zip(numbers.tolist(), labels.tolist(), *columns, strict=True))
    write_atomically(path, text.getvalue().encode())


def write_figures(
    path: Path, about: Mapping[str, Any], result: Report, checks: Sequence[Check],
    notes: Sequence[str],
) -> None:  # fmt: skip
    """evaluation.json: what was evaluated, a figure for each attack, checks and warnings."""
    content = dict(about)
    content["attacks"] = {name: figure.as_json() for name, figure in result.figures.items()}
    content["sanity"] = [vars(check) for check in checks]
    content["warnings"] = [*notes, *(check.verdict for check in checks if not check.passed)]
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def adversarial_images(engine: Engine, measure: Measure, block: int) -> tuple[Tensor, Tensor]:
    """The adversarial images (n, C, H, W) of a block under an attack, and which are broken (n,).

    An example that several attacks break has the image of the first of them; one that is not broken
    has its clean image. On the CPU.
    """
    images = engine.examples.take(engine.blocks.span(block))[0].cpu().clone()
    broken = torch.zeros(len(images), dtype=torch.bool)
    for attack in measure.parts:
        outcome = engine.outcome(attack, block)
        for row in (~broken & (outcome.state == BROKEN)).nonzero().flatten().tolist():
            images[row] = (outcome.images or {})[row]
            broken[row] = True
    return images, broken


def save_adversarial(
    path: Path, engine: Engine, wanted: Sequence[Measure], numbers: Tensor
) -> None:
    """Write the images of every attack to a safetensors file.

    It holds ``examples`` (numbers in the test set), ``labels``, ``clean`` and, for each attack,
    images (N, C, H, W), float32 in [0, 1]; an example that an attack did not break has its clean
    image there. Raises UserError where the file cannot be written.
    """
    clean, labels = engine.examples.take(slice(None))
    tensors = {"examples": numbers, "labels": labels.cpu(), "clean": clean.cpu()}
    for measure in wanted:
        if measure.parts:
            blocks = range(len(engine.blocks))
            found = [adversarial_images(engine, measure, block)[0] for block in blocks]
            tensors[measure.label] = torch.cat(found)
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"--save-adversarial {path}: cannot be written: {error}") from error


def print_table(console: Console, title: str, result: Report, checks: Sequence[Check]) -> None:
    """The table on the screen, and the verdicts of the sanity checks."""
    console.print(result.rich_table(title))
    console.print("gradients, forwards: evaluations an example", highlight=False)
    for check in checks:
        mark = "[green]passed[/]" if check.passed else "[bold red]WARNING[/]"
        console.print(f"{mark}  {check.name}: {check.verdict}", highlight=False, soft_wrap=True)
