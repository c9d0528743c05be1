"""Extreme values of every numeric option are accepted, and then calculated with, or refused by
name; the options are those that the dataclasses have."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipper_dist.config.checks import problems, validate
from zipper_dist.config.command_line import parse_options
from zipper_dist.config.placement import RankCounts
from zipper_dist.config.schedules import Interval, Schedule
from zipper_dist.config.schema import TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.evaluation.options import validate as validate_evaluation
from zipper_dist.recipes.command_line import parse_train_options, train_options
from zipper_dist.recipes.registry import METHODS, RECIPES, recipe
from zipper_dist.training.mixing import mixing_weights
from zipper_dist.training.step_plan import StepPlan

WHOLE = [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400]
REAL = [0.0, -0.0, -1.0, 5e-324, 1e-308, 1.0, 1e308, math.nan, math.inf, -math.inf]
NUMBERS = [str(number) for number in (*WHOLE, *REAL)]
INTERVALS = [*NUMBERS, *(f"{number}ep" for number in NUMBERS), "1e17ep", "0.5", "²", ""]
SCHEDULES = [
    *NUMBERS,
    *(f"0:{number}" for number in NUMBERS),
    *(f"0:0,{number}:1" for number in NUMBERS),
    "0:1e308,1:-1e308",
    "0:0,5e-324:1",
    "",
]
THREATS = [f"{norm}:{number}" for norm in ("linf", "l2") for number in (*NUMBERS, "1/0", "")]
THREATS += [f"linf:{10**400}/1", f"l2:1/{10**400}"]
VALUES: dict[object, list[Any]] = {int: WHOLE, float: REAL}
READ: dict[object, tuple[Any, list[str]]] = {
    Interval: (Interval.parse, INTERVALS),
    Schedule: (Schedule.parse, SCHEDULES),
    ThreatModel: (ThreatModel.parse, THREATS),
    RankCounts: (RankCounts.parse, [f"natural={number},adversarial=1" for number in NUMBERS]),
}
NAMES = [*RECIPES, *(f"digits-{method}" for method in METHODS)]


def options_of(node: Any, before: str = "") -> Iterator[tuple[str, object]]:
    """The numeric options below ``node``, by dotted names, each with its kind."""
    if isinstance(node, dict):
        for key, value in node.items():
            if type(value) in READ:
                yield f"{before}{key}", type(value)
            else:
                yield from options_of(value, f"{before}{key}.")
        return
    kinds = get_type_hints(type(node))
    for field in fields(node):
        value, written = getattr(node, field.name), str(kinds[field.name])
        if type(value) in READ:
            yield f"{before}{field.name}", type(value)
        elif is_dataclass(value) or isinstance(value, dict):
            yield from options_of(value, f"{before}{field.name}.")
        elif "ThreatModel" in written:
            yield f"{before}{field.name}", ThreatModel
        elif "float" in written or "int" in written.replace("Interval", ""):
            yield f"{before}{field.name}", float if "float" in written else int


def changed(node: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    inner = node[first] if isinstance(node, dict) else getattr(node, first)
    part = changed(inner, rest, value) if rest else value
    return {**node, first: part} if isinstance(node, dict) else replace(node, **{first: part})


def calculate(config: TrainConfig) -> None:
    """What a run calculates from its options, for tiny and for large data sets."""
    for steps_per_epoch in (1, 10**6):
        plan = StepPlan.of(config, steps_per_epoch)
        assert plan.redistributions is None or plan.redistributions >= 0
        weights = mixing_weights(config.mix, list(config.learners), plan.total_steps)
        for t in (1, 2, plan.total_steps):
            plan.redistributes_at(t)
            plan.validates_at(t)
            assert math.isfinite(plan.epoch(t))
            assert all(math.isfinite(weight) for weight in weights(t).values())
            for learner in config.learners.values():
                progress = t / plan.total_steps
                assert math.isfinite(learner.lr * learner.schedule(progress))
    for threat in config.threats():
        assert math.isfinite(threat.default_step_size(config.eval.attack_steps))


def test_the_options_are_found() -> None:
    found = dict(options_of(recipe("digits")))
    assert {"seed", "steps", "mix.start", "eval.threats", "data.limit"} <= found.keys()
    assert found["learners.adversarial.attack.eps"] is float
    assert found["threads"] is int


@pytest.mark.parametrize("name", NAMES)
def test_extremes_are_calculated_with_or_refused_by_name(name: str) -> None:
    start = recipe(name)
    accepted = refused = 0
    for option, kind in options_of(start):
        parse, written = READ.get(kind, (lambda value: value, VALUES.get(kind, [])))
        for text in written:
            try:
                value = parse(text)
            except ValueError:  # which the command line reports, with the option's name
                continue
            value = (value,) if kind is ThreatModel else value
            config = changed(start, option, value)
            found = list(problems(config))
            # Options that belong together, such as a recipe's threats, name one of them.
            assert all(line.startswith("--") for line in found), (option, text)
            if found:
                group = option.replace("_", "-").rpartition(".")[0]
                assert f"--{group}" in found[0], (option, text)
                refused += 1
            else:
                calculate(config)
                accepted += 1
    assert min(accepted, refused) > 50


def parsed(name: str, option: str, text: str) -> str | None:
    """What is printed if the command refuses the option; None: it is accepted, and sound."""
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            config = parse_train_options([name, f"--{option.replace('_', '-')}", text])
            validate(config)
    except UserError as error:
        return str(error)
    except SystemExit as end:
        return printed.getvalue() if end.code == 2 else f"status {end.code}"
    calculate(config)
    return None


TEXTS = [*NUMBERS, *INTERVALS, *SCHEDULES, *THREATS, "é", "\udcff", " ", "1_0", "٣", "0x10"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_words_of_the_command_line(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["digits", "mnist-trades", "digits-fat"]))
    option, _ = data.draw(st.sampled_from(sorted(options_of(recipe(name)), key=str)))
    text = data.draw(
        st.sampled_from(TEXTS) | st.text(max_size=12).filter(lambda text: not text.startswith("-"))
    )
    refusal = parsed(name, option, text)
    last = option.replace("_", "-").rpartition(".")[2]
    assert refusal is None or last in refusal or "--" in refusal


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_options_from_a_mapping(data: st.DataObject) -> None:
    option, _ = data.draw(st.sampled_from(sorted(options_of(recipe("digits")), key=str)))
    anything = st.one_of(st.sampled_from([*WHOLE, *REAL]), st.none(), st.booleans(), st.text())
    value = data.draw(anything | st.lists(anything, max_size=2))
    try:
        config = train_options("digits", {option: value})
        validate(config)
    except UserError:
        return
    calculate(config)


@pytest.mark.parametrize("word", ["--run-dir", "--data.root", "--seed", "--metrics"])
def test_empty_values_are_refused(word: str) -> None:
    for words in ([word, ""], [f"{word}="]):
        with pytest.raises(UserError, match=f"^{word}: the value is empty"):
            parse_train_options(["digits", *words])


@pytest.mark.parametrize("option", ["threads", "seed", "limit", "batch-size", "data.image-size"])
def test_numbers_of_the_evaluation(option: str) -> None:
    words = ["somewhere", f"--{option}", str(10**30)]
    with pytest.raises(UserError, match=f"^--{option} 10+: give "):
        validate_evaluation(parse_options(EvaluateOptions, words, "evaluate"))
    with pytest.raises(UserError, match="--out: the value is empty"):
        parse_options(EvaluateOptions, ["somewhere", "--out", ""], "evaluate")
