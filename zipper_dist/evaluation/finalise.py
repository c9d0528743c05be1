"""The end of an evaluation: figures, flags, picture and checks from the outcomes of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console

from zipper_dist.evaluation.build import Evaluation
from zipper_dist.evaluation.engine import Examples
from zipper_dist.evaluation.results.figures import Report, Results, Tally, tally
from zipper_dist.evaluation.results.files import (
    adversarial_images,
    print_table,
    save_adversarial,
    write_figures,
    write_flags,
)
from zipper_dist.evaluation.results.picture import COLUMNS, Portrait, draw
from zipper_dist.evaluation.results.sanity import (
    SAMPLE,
    Check,
    check_attacks,
    check_images,
    check_network,
)


def conclude(evaluation: Evaluation, reports: Sequence[Report], console: Console) -> None:
    """Write and print what the ranks found; for rank 0, once all are done."""
    e, worker = evaluation, evaluation.worker
    layout = worker.setting.layout
    addresses = {name: worker.address(part) for name, part in e.parts.items()}
    addresses["clean"] = worker.address(None)
    found = {name: tally(reports, where, layout) for name, where in addresses.items()}
    results = Results(found, e.parts)
    figures = {name: results.figure(name) for name in e.names}
    checks = list(_checks(e, reports, results)) if e.checks else []
    write_figures(e.outputs.figures, e.about, figures, checks, e.notes)
    write_flags(e.outputs.flags, e.numbers, worker.setting.examples.labels, results, e.names)
    if e.options.save_adversarial is not None:
        save_adversarial(e.options.save_adversarial, worker, results, e.names, e.numbers)
    threat = e.threat
    which = "the first " if e.about["data"]["chosen"] == "the first" else ""
    images = f"{which}{results.n} test images"
    title = f"{e.subject.file}: {images}, {threat.norm} ε {threat.eps:.4g}"
    print_table(console, title, figures, checks)
    written = [e.outputs.figures, e.outputs.flags]
    if e.options.picture and _draw(e, results):
        written.append(e.outputs.picture)
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)


def _checks(e: Evaluation, reports: Sequence[Report], results: Results) -> list[Check]:
    setting = e.worker.setting
    sample_layout = setting.layout.first(SAMPLE)
    tallies = {
        name: tally(reports, e.sampler.address(part), sample_layout)
        for name, part in e.checks.items()
    }
    clean = results.tallies["clean"]
    tallies["clean"] = Tally(clean.state[: sample_layout.count], clean.spent)
    sample = Results(tallies, e.checks)
    span = setting.layout.span(0)
    first = Examples(setting.examples.images[span], setting.examples.labels[span])
    attacked = {
        name: adversarial_images(e.worker, results, name, 0)[0]
        for name in e.names
        if name != "clean"
    }
    return [
        *check_attacks(sample, results, e.data.classes),
        *check_network(e.subject.model, setting.networks.attacked, first),
        check_images(first.images, attacked),
    ]


def _draw(e: Evaluation, results: Results) -> bool:
    """Draw the picture; False where no attack has broken any of the first examples."""
    attacks = [name for name in e.names if name != "clean"]
    setting, names = e.worker.setting, e.data.class_names
    for attack in reversed(attacks):
        images, broken = adversarial_images(e.worker, results, attack, 0)
        rows = broken.nonzero().flatten()[:COLUMNS]
        if len(rows) == 0:
            continue
        device = setting.examples.images.device
        clean = setting.examples.images[rows.to(device)]
        with torch.no_grad():
            before = setting.networks.exact(clean).argmax(1).tolist()
            after = setting.networks.exact(images[rows].to(device)).argmax(1).tolist()
        labels = setting.examples.labels[rows.to(device)].tolist()
        portraits = [
            Portrait(clean[i].cpu(), images[row], names[labels[i]], names[before[i]],
                     names[after[i]], attack)
            for i, row in enumerate(rows.tolist())
        ]  # fmt: skip
        draw(e.outputs.picture, portraits, f"{e.threat.norm} ε {e.threat.eps:.3g}")
        return True
    return False
