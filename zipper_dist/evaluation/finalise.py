"""The end of an evaluation: figures, flags, picture and checks from the outcomes of all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from rich.console import Console

from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.attack_list import Measure, distinct_parts, short
from zipper_dist.evaluation.build import Evaluation
from zipper_dist.evaluation.engine import Found
from zipper_dist.evaluation.results.files import (
    adversarial_images,
    print_table,
    save_adversarial,
    write_figures,
    write_flags,
)
from zipper_dist.evaluation.results.picture import COLUMNS, Portrait, draw
from zipper_dist.evaluation.results.report import report
from zipper_dist.evaluation.results.sanity import (
    SAMPLE,
    Check,
    check_attacks,
    check_images,
    check_network,
)


def finalise(evaluation: Evaluation, found: Sequence[Found], console: Console) -> None:
    """Write and print what the ranks found; for rank 0, once all are done."""
    e = evaluation
    result = report(e.engine, e.wanted, found)
    checks = list(_checks(e, found)) if e.checks else []
    write_figures(e.outputs.figures, e.about, result, checks, e.notes)
    write_flags(e.outputs.flags, e.numbers, e.engine.examples.labels, result)
    if e.options.save_adversarial is not None:
        save_adversarial(e.options.save_adversarial, e.engine, e.wanted, e.numbers)
    which = "the first " if e.about["data"]["chosen"] == "the first" else ""
    threats = ", ".join(threat.words() for threat in e.threats.models)
    print_table(
        console, f"{e.target.file}: {which}{result.n} test images, {threats}", result, checks
    )
    written = [e.outputs.figures, e.outputs.flags]
    if e.options.picture and _draw(e, threats):
        written.append(e.outputs.picture)
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)


def _checks(e: Evaluation, found: Sequence[Found]) -> Iterator[Check]:
    clean = Measure("clean")
    sample_blocks = e.engine.blocks.first(SAMPLE)
    for threat, wanted in e.checks.items():
        sample = report(e.sampler, [clean, *wanted], found, sample_blocks)
        parts = [p for p in distinct_parts(e.wanted) if ThreatModel(p.norm, p.eps) == threat]
        each = [Measure(part.name, (part,)) for part in parts]
        full = report(e.engine, [clean, *each], found)
        for check in check_attacks(sample, full, e.data.classes):
            several = len(e.checks) > 1
            yield replace(check, name=f"{check.name}@{short(threat)}") if several else check
    first = e.engine.examples.take(e.engine.blocks.span(0))
    attacked = {m.label: adversarial_images(e.engine, m, 0)[0] for m in e.wanted if m.parts}
    yield from check_network(e.target.model, e.engine.views.attacked, *first)
    yield check_images(first[0], attacked)


def _draw(e: Evaluation, threats: str) -> bool:
    """Draw the picture; False where no attack has broken any of the first examples."""
    names, exact = e.data.class_names, e.engine.views.exact
    for measure in reversed([m for m in e.wanted if m.parts]):
        images, broken = adversarial_images(e.engine, measure, 0)
        rows = broken.nonzero().flatten()[:COLUMNS]
        if len(rows) == 0:
            continue
        clean, labels = e.engine.examples.take(rows)
        with torch.no_grad():
            before = exact(clean).argmax(1).tolist()
            after = exact(images[rows].to(clean.device)).argmax(1).tolist()
        portraits = [
            Portrait(clean[i].cpu(), images[row], names[int(labels[i])], names[before[i]],
                     names[after[i]], measure.label)
            for i, row in enumerate(rows.tolist())
        ]  # fmt: skip
        draw(e.outputs.picture, portraits, threats)
        return True
    return False
