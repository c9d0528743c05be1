"""What a reader of a comparison's table has to know."""

from __future__ import annotations

import math
from collections.abc import Iterator

from comparison.experiments import PARALLEL, SERIAL, ZIPPER
from comparison.figures import HEADINGS
from comparison.outcome import Outcome

FEW_IMAGES = 1000
"""Test images up to which it is said what one of them counts."""


def remarks(outcome: Outcome) -> list[str]:
    """Sentences for below the table."""
    found = [_matching(outcome)] if outcome.match is not None else []
    rows = {run.row.key: run.row for run in outcome.runs}
    if ZIPPER & rows.keys() and any("-ema" not in key for key in rows.keys() - ZIPPER):
        found.append(
            "Zipper's global learner is an exponential moving average, by construction; other "
            'methods are as published, without one, or "with EMA", with Zipper\'s decay.'
        )
    found += [*_unmixed(outcome), *_few_images(outcome)]
    if len({f.seed for f in outcome.found}) == 1:
        found.append("One seed: nothing is known of the spread between seeds.")
    if not outcome.experiment.times:
        found.append("Several runs shared the machine: their times are not for comparing.")
    same = _same_weights(outcome)
    if same is not None:
        found.append(same)
    return found


def _few_images(outcome: Outcome) -> Iterator[str]:
    """What one image counts, and which figures are of fewer than the others."""
    images = {name: count for f in outcome.found for name, count in f.images.items()}
    most, fewest = max(images.values(), default=0), min(images.values(), default=0)
    if 0 < fewest <= FEW_IMAGES:
        yield f"One of {fewest:,} test images is {100 / fewest:.2f} points."
    for name, count in images.items():
        if count < most:
            which = (
                f"the first {count:,} of the images" if name in outcome.on_first
                else f"{count:,} of the images, chosen at random and the same for every network"
            )  # fmt: skip
            shares = [f.accuracy[name] / 100 for f in outcome.found if name in f.accuracy]
            error = max(196 * math.sqrt(share * (1 - share) / count) for share in shares)
            yield (
                f"{HEADINGS[name]} is of {which}. A random choice of so many is off by up to "
                f"{error:.1f} points (95 %) from all of them; the page also has the other figures "
                "on the same images."
            )


def _unmixed(outcome: Outcome) -> Iterator[str]:
    """Which rows have runs too short for a redistribution that their options want."""
    short = {f.row for f in outcome.found if f.summary.get("redistributions") == 0}
    labels = {run.row.key: run.row.label for run in outcome.runs}
    for key in filter(short.__contains__, labels):
        yield (
            f"{labels[key]} has not redistributed anything: --mix.start and --mix.every leave "
            "nothing within runs so short, and its figures are those of an average of two "
            "networks that have grown apart."
        )


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
