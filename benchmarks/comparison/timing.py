"""The section of a page on time: the ideal beside the measured, waiting, syncs, the published."""

from __future__ import annotations

from collections.abc import Iterable

from comparison.costs import Costs, waits
from comparison.experiments import PARALLEL, SERIAL
from comparison.figures import Found, Spread, read_json
from comparison.markdown import markdown_table
from comparison.outcome import Outcome
from comparison.published import TRAINING_RATIO


def timing_section(outcome: Outcome) -> Iterable[str]:
    """Paragraphs and tables."""
    costs = outcome.costs
    if costs is None:
        return
    yield (
        f"Each learner was also trained alone on one device: an iteration takes "
        f"{_short(costs.natural)} for the natural and {_short(costs.adversarial)} for the "
        f"adversarial one. Over {costs.steps} iterations these imply, if nothing else took time, "
        "the sum of both in serial and the longer of the two in parallel:"
    )
    runs = {key: [f for f in outcome.found if f.row == key] for key in (SERIAL, PARALLEL)}
    shares = []
    lines = [["Zipper", "ideal, s", "measured, s", "efficiency"]]
    for key, ideal in ((SERIAL, costs.serial), (PARALLEL, costs.parallel)):
        if runs[key]:
            measured = Spread.of(f.train_seconds for f in runs[key])
            shares.append(100 * ideal / (measured.mean or ideal))
            label = key.removeprefix("zipper-")
            lines.append([label, f"{ideal:.1f}", measured.words(1), f"{shares[-1]:.0f} %"])
    yield markdown_table(lines)
    if round(max(shares, default=0)) > 100:
        yield (
            "An efficiency above 100 % shows the error of the ideal: the costs come from short "
            "runs, made at another moment than the long ones."
        )
    if runs[PARALLEL]:
        yield _waiting(runs[PARALLEL], costs)
    if {f.seed for f in runs[PARALLEL]} & {f.seed for f in runs[SERIAL]}:
        zipper = outcome.run_of(runs[SERIAL][0])
        options = read_json(zipper.directory / "config.json")["options"]
        steps = options["learners"]["adversarial"]["attack"]["steps"]
        yield _ratio(runs[SERIAL], runs[PARALLEL], costs, steps)


def _waiting(parallel: list[Found], costs: Costs) -> str:
    run = parallel[0]
    ranks = ", ".join(
        f"the rank of the {learners} learner {seconds:.1f} s"
        for learners, seconds in waits(run.summary)
    )
    text = (
        f"Waiting (seed {run.seed}): {ranks}; evaluations that fall into the time of waiting are "
        "not counted as such."
    )
    if costs.sync_seconds is None or costs.sync_bytes is None:
        return text
    syncs = run.summary["ranks"][0]["syncs"]
    return (
        f"{text} A sync is an all-reduce of {costs.sync_bytes / 1e6:.2f} MB and takes "
        f"{1e3 * costs.sync_seconds:.1f} ms by itself; the run has {syncs}, together "
        f"{syncs * costs.sync_seconds:.2f} s."
    )


def _ratio(serial: list[Found], parallel: list[Found], costs: Costs, attack_steps: int) -> str:
    """Parallel over serial time, and how it compares with the published ratio."""
    mine = _mean_ratio(parallel, serial, "train_seconds")
    with_evaluation = _mean_ratio(parallel, serial, "wall_seconds")
    theirs = TRAINING_RATIO[0] / TRAINING_RATIO[1]
    # A training step is three passes through the network (forward, and gradients of activations
    # and of weights); a step of the attack is two, or three where it computes those of the weights.
    counted, plain = (3 / (6 + passes * attack_steps) for passes in (2, 3))
    return (
        f"Parallel over serial: {mine:.2f} of the training time, {with_evaluation:.2f} with the "
        "evaluations in between. What a second device can hide is the shorter task; the costs of "
        f"the learners alone imply a ratio of {costs.parallel / costs.serial:.2f}: natural "
        f"training is {100 * costs.natural_share:.0f} % of a serial iteration here. (Counted in "
        f"passes through the network, with {attack_steps} gradient steps, it would be "
        f"{100 * counted:.0f} %, and {100 * plain:.0f} % if the attack computed the gradients of "
        "the weights, too, as plain code does. The attack's passes are the cheaper ones where "
        "BatchNorm is folded and the precision is low.) Published for CIFAR-10 with ResNet-18 and "
        f"ten gradient steps is {TRAINING_RATIO[0]} : {TRAINING_RATIO[1]} minutes, {theirs:.2f}. "
        "Natural training alone, at 3 of 26 or 36 passes, would make that 0.88 or 0.92; what those "
        "times include besides, evaluation for one, is not stated. A faster attack makes natural "
        "training a larger share, and so leaves more to hide."
    )


def _mean_ratio(above: list[Found], below: list[Found], name: str) -> float:
    """By the seeds that both have, so that a slow spell of the machine is in both."""
    both = {f.seed for f in above} & {f.seed for f in below}
    upper, lower = (
        sum(getattr(f, name) for f in runs if f.seed in both) for runs in (above, below)
    )
    return float(upper / lower)


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"
