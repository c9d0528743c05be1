"""Options out of range, found before any long work starts."""

from __future__ import annotations

import math
from collections.abc import Iterator

from zipper_dist.config.run_threats import NO_RADIUS, training_attack
from zipper_dist.config.schema import (
    DEFAULT_BETA,
    AdversarialLearnerConfig,
    AttackConfig,
    LearnerConfig,
    TrainConfig,
)
from zipper_dist.config.threat import Norm
from zipper_dist.errors import UserError

Problem = str


def _number(
    option: str, value: float, low: float, high: float, wanted: str, open_low: bool = False
) -> Iterator[Problem]:
    inside = (low < value if open_low else low <= value) and value <= high
    if not (math.isfinite(value) and inside):
        yield f"--{option} {value}: {wanted}"


def _at_least_one(option: str, value: int | None) -> Iterator[Problem]:
    if value is not None and value < 1:
        yield f"--{option} {value}: give 1 or more"


def _radius(option: str, eps: float, norm: Norm) -> Iterator[Problem]:
    largest = 1.0 if norm == "linf" else 1e3
    wanted = f"give a radius above 0 and up to {largest:g}, where 1 is the full pixel range"
    yield from _number(option, eps, 0, largest, wanted, open_low=True)


def _attack(option: str, attack: AttackConfig) -> Iterator[Problem]:
    yield from _radius(f"{option}.eps", attack.eps, attack.norm)
    wanted = "give a length above 0 and up to 1000, where 1 is the full pixel range"
    yield from _number(f"{option}.step-size", attack.step_size, 0, 1e3, wanted, open_low=True)
    yield from _at_least_one(f"{option}.steps", attack.steps)
    if min(attack.schedule.values) < 0 or max(attack.schedule.values) > 1:
        yield f"--{option}.schedule {attack.schedule}: its values must lie in 0 … 1"


def _learner(name: str, learner: LearnerConfig) -> Iterator[Problem]:
    option = f"learners.{name}"
    yield from _number(f"{option}.lr", learner.lr, 0, 1e3, "give 0 … 1000")
    for field in ("momentum", "weight_average", "label_smoothing"):
        dotted = f"{option}.{field.replace('_', '-')}"
        yield from _number(dotted, getattr(learner, field), 0, 0.999999, "give 0 … below 1")
    wanted = "give 0 … 1000"
    yield from _number(f"{option}.weight-decay", learner.weight_decay, 0, 1e3, wanted)
    if learner.nesterov and learner.momentum == 0:
        yield f"--{option}.nesterov: takes a --{option}.momentum above 0"
    if min(learner.schedule.values) < 0:
        yield f"--{option}.schedule {learner.schedule}: its values must be 0 or more"
    if isinstance(learner, AdversarialLearnerConfig):
        yield from _attack(f"{option}.attack", learner.attack)
        yield from _objective(option, learner)


def _objective(option: str, learner: AdversarialLearnerConfig) -> Iterator[Problem]:
    """What the objective has no use for, or no good use."""
    name = learner.objective
    if learner.beta is not None:
        if name in DEFAULT_BETA:
            yield from _number(f"{option}.beta", learner.beta, 0, 1e3, "give 0 … 1000")
        else:
            takers = " and ".join(DEFAULT_BETA)
            found = f"--{option}.beta {learner.beta}"
            yield f"{found}: only {takers} have it, not {name} (None leaves it out)"
    if learner.tau is not None:
        if name != "fat":
            yield f"--{option}.tau {learner.tau}: only fat has it, not {name} (None leaves it out)"
        elif min(learner.tau.values) < 0:
            yield f"--{option}.tau {learner.tau}: its values must be 0 or more"
    if name == "mart" and learner.label_smoothing != 0:
        smoothing = learner.label_smoothing
        yield f"--{option}.label-smoothing {smoothing}: mart has none, its loss is a margin; give 0"
    if name == "trades" and not learner.attack.random_start:
        yield (
            f"--{option}.attack.no-random-start: trades has to start at random, because what it "
            "attacks has no gradient at the clean image"
        )
    yield from _number(f"{option}.awp", learner.awp, 0, 1, "give 0 … 1")


def _evaluation(config: TrainConfig) -> Iterator[Problem]:
    """The attack of the evaluation; its number of steps is not looked at."""
    options, training = config.eval, training_attack(config)
    if options.eps is not None:
        norm = options.norm or (training.norm if training else "linf")
        yield from _radius("eval.eps", options.eps, norm)
    elif training is None:
        yield NO_RADIUS
    elif options.norm not in (None, training.norm):
        yield f"--eval.norm {options.norm}: give a radius in that norm, too (--eval.eps)"


def problems(config: TrainConfig) -> Iterator[Problem]:
    """What is wrong with ``config``: the option, its value and what would be right, a line each."""
    for option, value in (
        ("epochs", config.epochs),
        ("steps", config.steps),
        ("batch-size", config.batch_size),
        ("threads", config.threads),
        ("log-every", config.log_every),
        ("data.limit", config.data.limit),
        ("data.image-size", config.data.image_size),
        ("eval.attack-steps", config.eval.attack_steps),
        ("eval.limit", config.eval.limit),
        ("eval.batch-size", config.eval.batch_size),
    ):
        yield from _at_least_one(option, value)
    if config.data.crop_padding < 0:
        yield f"--data.crop-padding {config.data.crop_padding}: give 0 or more"
    yield from _number("model.width", config.model.width, 0, 64, "give 0.01 … 64", open_low=True)
    yield from _number("mix.ema", config.mix.ema, 0, 0.9999999, "give 0 … below 1")
    if min(config.mix.gamma.values) < 0 or max(config.mix.gamma.values) > 1:
        yield f"--mix.gamma {config.mix.gamma}: its values must lie in 0 … 1"
    if config.eval.every.amount == 0:
        yield f"--eval.every {config.eval.every}: give 1 iteration or more"
    yield from _evaluation(config)
    if config.eval.step_size is not None:
        wanted = "give a length above 0 and up to 1000, where 1 is the full pixel range"
        yield from _number("eval.step-size", config.eval.step_size, 0, 1e3, wanted, open_low=True)
    for name, learner in config.learners.items():
        yield from _learner(name, learner)


def validate(config: TrainConfig) -> None:
    """Raise UserError with everything that is out of range in ``config``, in one line."""
    found = list(problems(config))
    if found:
        raise UserError("; ".join(found))
