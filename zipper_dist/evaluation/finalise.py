"""The end of an evaluation: figures (JSON), flags (CSV), images and the table on the terminal, from
the outcomes of all ranks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import Measure, distinct_parts, short
from zipper_dist.evaluation.build import Evaluation
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.outcomes import BROKEN
from zipper_dist.evaluation.results import sanity
from zipper_dist.evaluation.results.picture import COLUMNS, Portrait, draw
from zipper_dist.evaluation.results.report import Report, report
from zipper_dist.evaluation.results.sanity import Check


def finalise(evaluation: Evaluation, found: Sequence[Found], console: Console) -> None:
    """Write and print what the ranks found; for rank 0, once all are done."""
    e = evaluation
    result = report(e.engine, e.wanted, found)
    checks = list(_checks(e, found)) if e.checks else []
    _write_figures(e, result, checks)
    _write_flags(e, result)
    if e.options.save_adversarial is not None:
        _save_adversarial(e, e.options.save_adversarial)
    which = "the first " if e.about["data"]["chosen"] == "the first" else ""
    threats = ", ".join(threat.words() for threat in e.threats.models)
    console.print(result.rich_table(f"{e.target.file}: {which}{result.n} test images, {threats}"))
    console.print("gradients, forwards: evaluations an example", highlight=False)
    for check in checks:
        mark = "[green]passed[/]" if check.passed else "[bold red]WARNING[/]"
        console.print(f"{mark}  {check.name}: {check.verdict}", highlight=False, soft_wrap=True)
    written = [e.file(".json"), e.file(".csv")]
    try:
        if e.options.picture and _draw(e, threats):
            written.append(e.file(".png"))
    except ModuleNotFoundError as error:
        console.print(
            f"no picture: it takes {error.name} (pip install 'zipper_dist[plots]')",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)


def _checks(e: Evaluation, found: Sequence[Found]) -> Iterator[Check]:
    clean = Measure("clean")
    for threat, wanted in e.checks.items():
        sample = report(e.sampler, [clean, *wanted], found)
        parts = [p for p in distinct_parts(e.wanted) if ThreatModel(p.norm, p.eps) == threat]
        each = [Measure(part.name, (part,)) for part in parts]
        full = report(e.engine, [clean, *each], found)
        for check in sanity.check_attacks(sample, full, e.data.classes):
            several = len(e.checks) > 1
            yield replace(check, name=f"{check.name}@{short(threat)}") if several else check
    first = e.engine.examples.take(e.engine.blocks.span(0))
    attacked = {m.label: adversarial_images(e.engine, m, 0)[0] for m in e.wanted if m.parts}
    yield from sanity.check_network(e.target.model, e.engine.views.attacked, *first)
    yield sanity.check_images(first[0], attacked)


def _write_figures(e: Evaluation, result: Report, checks: Sequence[Check]) -> None:
    """evaluation.json: what was evaluated, a figure for each attack, checks and warnings."""
    content = e.about | {
        "attacks": {name: vars(figure) for name, figure in result.figures.items()},
        "sanity": [vars(check) for check in checks],
        "warnings": [*e.notes, *(check.verdict for check in checks if not check.passed)],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(e.file(".json"), text.encode())


def _write_flags(e: Evaluation, result: Report) -> None:
    """A line for each example: its number in the test set, its label, and 1 for each attack under
    which it is classified right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["example", "label", *result.correct])
    columns = [right.int().tolist() for right in result.correct.values()]
    labels = e.engine.examples.labels.tolist()
    writer.writerows(zip(e.numbers.tolist(), labels, *columns, strict=True))
    write_atomically(e.file(".csv"), text.getvalue().encode())


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


def _save_adversarial(e: Evaluation, path: Path) -> None:
    """Write ``examples`` (numbers in the test set), ``labels``, ``clean`` and, for each attack,
    images (N, C, H, W), float32 in [0, 1]: clean ones where it failed.

    Raises UserError where the file cannot be written.
    """
    clean, labels = e.engine.examples.take(slice(None))
    tensors = {"examples": e.numbers, "labels": labels.cpu(), "clean": clean.cpu()}
    blocks = range(len(e.engine.blocks))
    for measure in e.wanted:
        if measure.parts:
            found = [adversarial_images(e.engine, measure, block)[0] for block in blocks]
            tensors[measure.label] = torch.cat(found)
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"--save-adversarial {path}: cannot be written: {error}") from error


def _draw(e: Evaluation, threats: str) -> bool:
    """Draw the picture; False where no attack has broken any of the first examples."""
    names, exact = e.data.class_names, e.engine.views.exact
    for measure in reversed([m for m in e.wanted if m.parts]):
        images, broken = adversarial_images(e.engine, measure, 0)
        rows = broken.nonzero().flatten()[:COLUMNS]
        if len(rows) == 0:
            continue
        clean, labels = e.engine.examples.take(rows)
        attacked = images[rows]
        with torch.no_grad():
            before = exact(clean).argmax(1).tolist()
            after = exact(attacked.to(clean.device)).argmax(1).tolist()
        portraits = [
            Portrait(
                clean[i].cpu(), attacked[i], f"{names[label]}\nseen as {names[before[i]]}",
                f"{measure.label}\nseen as {names[after[i]]}",
            )
            for i, label in enumerate(labels.tolist())
        ]  # fmt: skip
        draw(e.file(".png"), portraits, threats)
        return True
    return False
