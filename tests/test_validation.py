from __future__ import annotations

import math
from dataclasses import is_dataclass, replace
from typing import Any

import pytest

from zipper_dist.config import TrainConfig
from zipper_dist.errors import UserError
from zipper_dist.recipes import RECIPES, recipe
from zipper_dist.schedules import Interval, Schedule
from zipper_dist.validation import problems, validate

TINY = 1e-9


def changed(options: Any, dotted: str, value: Any) -> Any:
    """A copy of ``options`` with the option at the path ``dotted`` set to ``value``."""
    name, _, rest = dotted.partition(".")
    key = name.replace("-", "_")
    if is_dataclass(options) and not isinstance(options, type):
        part = value if not rest else changed(getattr(options, key), rest, value)
        return replace(options, **{key: part})
    return {**options, key: changed(options[key], rest, value)}


def config_with(**values: Any) -> TrainConfig:
    config: Any = recipe("cifar10")
    for dotted, value in values.items():
        config = changed(config, dotted, value)
    assert isinstance(config, TrainConfig)
    return config


@pytest.mark.parametrize("name", RECIPES)
def test_all_recipes_are_valid(name: str) -> None:
    validate(recipe(name))


def test_the_defaults_of_the_options_are_valid() -> None:
    validate(TrainConfig())


AT_LEAST_ONE = [
    "epochs",
    "steps",
    "batch-size",
    "threads",
    "log-every",
    "data.limit",
    "data.image-size",
    "eval.attack-steps",
    "eval.limit",
    "eval.batch-size",
    "learners.adversarial.attack.steps",
]
# option, values in range, values out of range; infinity and NaN are always out of it.
RANGES: list[tuple[str, list[float], list[float]]] = [
    ("model.width", [0.01, 1.0, 64.0], [0.0, -1.0, 64.5]),
    ("mix.ema", [0.0, 0.999, 0.9999999], [-TINY, 1.0, 2.0]),
    ("eval.step-size", [TINY, 0.003, 1000.0], [0.0, -0.1, 1001.0]),
    ("learners.natural.lr", [0.0, 0.1, 1000.0], [-TINY, 1001.0]),
    ("learners.natural.weight-decay", [0.0, 5e-4], [-TINY, 1001.0]),
    ("learners.natural.momentum", [0.0, 0.9, 0.999999], [-TINY, 1.0]),
    ("learners.natural.weight-average", [0.0, 0.9, 0.999999], [-TINY, 1.0]),
    ("learners.adversarial.lr", [0.0, 0.1, 1000.0], [-TINY, 1001.0]),
    ("learners.adversarial.weight-decay", [0.0, 5e-4], [-TINY, 1001.0]),
    ("learners.adversarial.momentum", [0.0, 0.9], [-TINY, 1.0]),
    ("learners.adversarial.weight-average", [0.0, 0.9], [-TINY, 1.0]),
    ("learners.adversarial.attack.eps", [TINY, 8 / 255, 1.0], [0.0, -0.1, 1.001]),
    ("learners.adversarial.attack.step-size", [TINY, 0.007, 1000.0], [0.0, -0.1, 1001.0]),
]
SCHEDULES: list[tuple[str, list[str], list[str]]] = [
    ("mix.gamma", ["0", "1", "0:1,0.5:0,1:1"], ["-0.1", "1.1", "0:1,0.5:1.01,1:0", "0:0,1:-1"]),
    ("learners.natural.schedule", ["0", "7", "0:1,1:0"], ["-1", "0:1,0.5:-0.01,1:1"]),
    ("learners.adversarial.schedule", ["0", "7", "0:1,1:0"], ["-1", "0:1,0.5:-0.01,1:1"]),
    (
        "learners.adversarial.attack.schedule",
        ["0", "1", "0:0.1,1:1"],
        ["-0.1", "1.1", "0:0.1,0.5:1.01,1:1"],
    ),
]

GOOD: list[tuple[str, Any]] = [
    *((option, value) for option in AT_LEAST_ONE for value in (1, 10**6)),
    *((option, value) for option, good, _ in RANGES for value in good),
    *((option, Schedule.parse(text)) for option, good, _ in SCHEDULES for text in good),
    ("data.crop-padding", 0),
    ("data.crop-padding", 4),
    ("eval.every", Interval(1, False)),
    ("eval.every", Interval(0.1, True)),
    ("mix.every", Interval(0, False)),
    ("mix.start", Interval(0, False)),
    ("seed", -1),
    ("steps", None),
    ("threads", None),
    ("eval.step-size", None),
]
BAD: list[tuple[str, Any]] = [
    *((option, value) for option in AT_LEAST_ONE for value in (0, -3)),
    *(
        (option, value)
        for option, _, bad in RANGES
        for value in (*bad, math.nan, math.inf, -math.inf)
    ),
    *((option, Schedule.parse(text)) for option, _, bad in SCHEDULES for text in bad),
    ("data.crop-padding", -1),
    ("eval.every", Interval(0, False)),
    ("eval.every", Interval(0.0, True)),
]


@pytest.mark.parametrize(("option", "value"), GOOD)
def test_what_is_in_range(option: str, value: Any) -> None:
    validate(config_with(**{option: value}))


@pytest.mark.parametrize(("option", "value"), BAD)
def test_what_is_out_of_range_is_named_with_its_value(option: str, value: Any) -> None:
    with pytest.raises(UserError) as raised:
        validate(config_with(**{option: value}))
    message = str(raised.value)
    assert message.startswith(f"--{option} {value}: ")
    # And what would be right; one line, one problem.
    assert len(message) > len(f"--{option} {value}: ") + 5
    assert "\n" not in message
    assert message.count("--") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("learners.natural.lr", 1001.0),
        ("learners.natural.weight-decay", 1001.0),
        ("learners.adversarial.attack.step-size", 1001.0),
        ("eval.step-size", 1001.0),
    ],
)
def test_the_message_does_not_ask_for_what_was_given(option: str, value: float) -> None:
    # "1001: give 0 or more" helps nobody: the upper end has to be named.
    (problem,) = problems(config_with(**{option: value}))
    assert "1000" in problem


def test_the_radius_of_an_l2_ball_may_exceed_one() -> None:
    attack = "learners.adversarial.attack"
    validate(config_with(**{f"{attack}.norm": "l2", f"{attack}.eps": 2.5}))
    with pytest.raises(UserError, match=r"attack\.eps 1001"):
        validate(config_with(**{f"{attack}.norm": "l2", f"{attack}.eps": 1001.0}))


@pytest.mark.parametrize("name", ["natural", "adversarial"])
def test_nesterov_takes_momentum(name: str) -> None:
    option = f"learners.{name}"
    validate(config_with(**{f"{option}.nesterov": True, f"{option}.momentum": 0.5}))
    with pytest.raises(UserError) as raised:
        validate(config_with(**{f"{option}.nesterov": True, f"{option}.momentum": 0.0}))
    assert f"--{option}.nesterov" in str(raised.value)
    assert f"--{option}.momentum" in str(raised.value)


def test_all_problems_are_named_in_one_line() -> None:
    wrong = {"epochs": 0, "mix.ema": 1.5, "learners.adversarial.attack.steps": -1}
    config = config_with(**wrong)
    assert len(list(problems(config))) == 3
    with pytest.raises(UserError) as raised:
        validate(config)
    for option, value in wrong.items():
        assert f"--{option} {value}: " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.status == 2
