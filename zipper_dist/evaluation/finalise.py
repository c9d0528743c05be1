"""The end of an evaluation: its files and the table on the terminal, from all ranks' outcomes."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from zipper_dist.attacks.verdict import NO_ANSWER, answers
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.attack_list import Measure, distinct_parts
from zipper_dist.evaluation.build import Evaluation
from zipper_dist.evaluation.engine import Engine, Found
from zipper_dist.evaluation.outcomes import BROKEN
from zipper_dist.evaluation.results import sanity
from zipper_dist.evaluation.results.in_words import (
    checks_in_words,
    choice_of_weights,
    images_in_words,
    threat_in_words,
)
from zipper_dist.evaluation.results.report import report
from zipper_dist.evaluation.results.sanity import Check
from zipper_dist.evaluation.target import trained_against
from zipper_dist.metrics.console import PLAIN_WIDTH, say

COLUMNS = 8
"""Examples of the picture, at most."""

LABEL = len("threat model: ")


def finalise(evaluation: Evaluation, found: Sequence[Found], console: Console) -> None:
    """Write and print what the ranks found; for rank 0, once all are done."""
    e = evaluation
    result = report(e.engine, e.wanted, found)
    checks = list(_checks(e, found)) if e.checks else []
    words = _in_words(e, checks)
    choice = choice_of_weights(e.target.file, e.target.run)
    if choice.on == "test set" and e.data.name == e.target.run["data"]["source"]:
        e.notes.append(_sentence(choice.words))
    e.notes.extend(result.warnings)
    content = e.about | {
        "in_words": words,
        "attacks": {name: vars(figure) for name, figure in result.figures.items()},
        "sanity": [vars(check) for check in checks],
        "warnings": [*e.notes, *(check.verdict for check in checks if not check.passed)],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(e.file(".json"), text.encode())
    flags = io.StringIO()
    writer = csv.writer(flags, lineterminator="\n")
    writer.writerow(["example", "label", *result.correct])
    columns = [right.int().tolist() for right in result.correct.values()]
    labels = e.engine.examples.labels.tolist()
    writer.writerows(zip(e.numbers.tolist(), labels, *columns, strict=True))
    write_atomically(e.file(".csv"), flags.getvalue().encode())
    if e.options.save_adversarial is not None:
        _save_adversarial(e, e.options.save_adversarial)
    which = "the first " if e.about["data"]["chosen"] == "the first" else ""
    threats = ", ".join(threat.words() for threat in e.threats.models)
    console.print(result.rich_table(f"{e.target.file}: {which}{result.n} test images, {threats}"))
    console.print("gradients, forwards: evaluations an example", highlight=False)
    for name, sentences in words.items():
        say(console, f"{name.replace('_', ' ') + ':':{LABEL}}{sentences}", LABEL)
    for warning in result.warnings:
        say(console, _marked(False, warning))
    for check in checks:
        say(console, _marked(check.passed, f"{check.name}: {check.verdict}"))
    written = [e.file(".json"), e.file(".csv")]
    try:
        if e.options.picture and _draw(e, threats):
            written.append(e.file(".png"))
    except ModuleNotFoundError as error:
        text = f"no picture: it takes {error.name} (pip install 'zipper_dist[plots]')"
        say(console, text)
    line = f"written: {', '.join(map(str, written))}"
    if len(line) > PLAIN_WIDTH:  # a path stays whole, also one with blanks
        line = "written:\n" + "\n".join(f"  {file}" for file in written)
    console.print(line, highlight=False, soft_wrap=True)


def _marked(passed: bool, text: str) -> Text:
    mark = Text("passed", "green") if passed else Text("WARNING", "bold red")
    return Text.assemble(mark, f"  {text}")


def _in_words(e: Evaluation, checks: Sequence[Check]) -> dict[str, str]:
    """What is doubted of the figures, by what it is about."""
    trained = trained_against(e.target.run, e.target.file.stem) if e.target.run else None
    return {
        "threat_model": threat_in_words(e.threats.models, trained),
        "images": images_in_words(e.about["data"], e.options.seed),
        "checks": checks_in_words(checks, e.sampler.blocks.count, [m.label for m in e.wanted]),
        "weights": _sentence(choice_of_weights(e.target.file, e.target.run).words),
    }


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _checks(e: Evaluation, found: Sequence[Found]) -> Iterator[Check]:
    clean = Measure("clean")
    for threat, wanted in e.checks.items():
        sample = report(e.sampler, [clean, *wanted], found)
        parts = [p for p in distinct_parts(e.wanted) if ThreatModel(p.norm, p.eps) == threat]
        each = [Measure(part.name, (part,)) for part in parts]
        full = report(e.engine, [clean, *each], found)
        for check in sanity.check_attacks(sample, full, e.data.classes):
            several = len(e.checks) > 1
            yield replace(check, name=f"{check.name}@{threat.short()}") if several else check
    first = e.engine.examples.take(e.engine.blocks.span(0))
    attacked = {m.label: adversarial_images(e.engine, m, 0)[0] for m in e.wanted if m.parts}
    yield from sanity.check_network(e.target.model, e.engine.views.attacked, *first)
    yield sanity.check_images(first[0], attacked)


def adversarial_images(engine: Engine, measure: Measure, block: int) -> tuple[Tensor, Tensor]:
    """The adversarial images (n, C, H, W) of a block, by the first attack that breaks each, else
    the clean one, and which are broken (n,); on the CPU."""
    images = engine.examples.take(engine.blocks.span(block))[0].cpu().clone()
    broken = torch.zeros(len(images), dtype=torch.bool)
    for attack in measure.parts:
        outcome = engine.outcome(attack, block)
        for row in (~broken & (outcome.state >= BROKEN)).nonzero().flatten().tolist():
            images[row] = (outcome.images or {})[row]
            broken[row] = True
    return images, broken


def _save_adversarial(e: Evaluation, path: Path) -> None:
    """Write ``examples`` (numbers in the test set), ``labels``, ``clean`` and each attack's images
    (N, C, H, W), float32 in [0, 1]; raises UserError where the file cannot be written."""
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
    """Draw some examples that an attack broke, with a perturbation magnified to span from black to
    white; False where there is none. Raises ModuleNotFoundError without matplotlib."""
    names, exact = e.data.class_names, e.engine.views.exact

    def seen(found: int) -> str:
        return "nothing" if found == NO_ANSWER else names[found]

    for measure in reversed([m for m in e.wanted if m.parts]):
        images, broken = adversarial_images(e.engine, measure, 0)
        chosen = broken.nonzero().flatten()[:COLUMNS]
        if len(chosen) > 0:
            break
    else:
        return False
    from matplotlib.figure import Figure

    clean, labels = e.engine.examples.take(chosen)
    attacked = images[chosen]
    with torch.no_grad():
        before = [seen(found) for found in answers(exact(clean)).tolist()]
        after = [seen(found) for found in answers(exact(attacked.to(clean.device))).tolist()]
    figure = Figure(figsize=(1.3 * len(chosen) + 0.8, 4.6))
    axes = figure.subplots(3, len(chosen), squeeze=False)
    for i, (ours, theirs) in enumerate(zip(clean.cpu(), attacked, strict=True)):
        change = theirs - ours
        peak = float(change.abs().max()) or 1.0
        rows = (
            (ours, f"{names[int(labels[i])]}\nseen as {before[i]}"),
            (0.5 + change / (2 * peak), f"×{0.5 / peak:.1f}"),
            (theirs, f"{measure.label}\nseen as {after[i]}"),
        )
        for axis, (image, title) in zip(axes[:, i], rows, strict=True):
            pixels = image.clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, text in zip(
        axes[:, 0], ("clean", f"perturbation\n{threats}", "adversarial"), strict=True
    ):
        axis.set_ylabel(text, fontsize=8)
    figure.tight_layout()
    content = io.BytesIO()
    # No date or version in the file: the same images give the same bytes.
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    write_atomically(e.file(".png"), content.getvalue())
    return True
