"""The figures of one run over its iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zipper_dist.metrics.records import GLOBAL
from zipper_dist.report.drawing import Line, Picture, draw_lines, in_words, styled
from zipper_dist.report.reading import Run


def curves(run: Run) -> Iterator[Picture]:
    """Loss, accuracy, learning rate and mixing weight, as far as they are on record."""
    yield from _picture(
        run, "Loss of the learners", of_learners(run, "loss"), ("loss", ""), "Mean over the "
        "minibatches since the record before, each learner by its own objective.",
    )  # fmt: skip
    robust = f"PGD-{run.options['eval']['attack_steps']}"
    lines = [
        Line("clean", run.curve(GLOBAL, "clean"), styled(0)[0], marked=True),
        Line("robust", run.curve(GLOBAL, "robust"), styled(1)[0], "--", marked=True),
    ]
    on_test = run.validated_on_test
    yield from _picture(
        run, f"{'Test' if on_test else 'Validation'} accuracy of the global learner", lines,
        ("accuracy", "%"),
        f"On the {'test set' if on_test else 'validation images'}: clean, and robust under "
        f"{robust}. {run.choice}",
    )  # fmt: skip
    yield from _picture(
        run, "Learning rates", of_learners(run, "lr"), ("learning rate", ""),
        "As each learner's schedule has it.",
    )  # fmt: skip
    if len(run.learners) > 1:
        lines = [_line(run, i, run.mixing_weight(name)) for i, name in enumerate(run.learners)]
        yield from _picture(
            run, "Mixing weights", lines, ("mixing weight", ""),
            "How much each learner counts in the mixture that the global learner averages.",
        )  # fmt: skip


def differences(run: Run) -> Iterator[Picture]:
    """What becomes of the learners' own errors, and how far they are from the global learner."""
    lines = []
    for index, name in enumerate(run.learners):
        at, accuracies = run.curve(name, "accuracy")
        lines.append(_line(run, index, (at, [100 - accuracy for accuracy in accuracies])))
    yield from _picture(
        run, "Training error of each learner", lines, ("error", "%"),
        "Of the minibatches as each learner trains on them, clean or attacked.",
    )  # fmt: skip
    lines = of_learners(run, "distance")
    lines = [Line(e.name, e.curve, e.colour, e.style, marked=True) for e in lines]
    yield from _picture(
        run, "Distance to the global learner", lines, ("L2 distance", ""),
        "Between the parameters (and BatchNorm statistics) of a learner and those of the global "
        "learner just before a redistribution, which makes it 0. It is in the record after that.",
    )  # fmt: skip


def of_learners(run: Run, figure: str) -> list[Line]:
    """A line for each learner."""
    return [_line(run, i, run.curve(name, figure)) for i, name in enumerate(run.learners)]


def _line(run: Run, index: int, curve: tuple[list[int], list[float]]) -> Line:
    colour, style = styled(index)
    return Line(run.learners[index], curve, colour, style)


def _picture(
    run: Run, title: str, lines: Sequence[Line], axis: tuple[str, str], caption: str
) -> Iterator[Picture]:
    """The picture, unless there is nothing to be seen; ``axis``: its name and unit."""
    name, unit = axis
    total = run.summary["steps"] if run.summary else None
    log = name in ("learning rate", "loss") and spans_decades(lines)
    uri = draw_lines(lines, name, log, unit, total)
    if uri is not None:
        yield Picture(title, uri, f"{title}. {in_words(lines, unit)}", caption)


def spans_decades(lines: Sequence[Line]) -> bool:
    """Whether small values could not be told from each other on a linear axis."""
    values = [value for line in lines for value in line.curve[1]]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20
