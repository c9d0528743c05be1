from __future__ import annotations

import math
from dataclasses import is_dataclass, replace
from typing import Any

import pytest

from zipper_dist.config.checks import problems, validate
from zipper_dist.config.schedules import Curve, Schedule, epochs, iterations
from zipper_dist.config.schema import AttackConfig, MixConfig, TrainConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.errors import UserError
from zipper_dist.recipes.command_line import train_options
from zipper_dist.recipes.registry import RECIPES, recipe

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
    ("learners.natural.label-smoothing", [0.0, 0.1, 0.999999], [-TINY, 1.0]),
    ("learners.adversarial.label-smoothing", [0.0, 0.1, 0.999999], [-TINY, 1.0]),
    ("learners.adversarial.awp", [0.0, 0.01, 1.0], [-TINY, 1.001]),
    ("eval.eps", [TINY, 8 / 255, 1.0], [0.0, -0.1, 1.001]),
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
    *((option, value) for option in AT_LEAST_ONE for value in (1, 1024)),
    ("steps", 10**9),
    *((option, value) for option, good, _ in RANGES for value in good),
    *((option, Schedule.parse(text)) for option, good, _ in SCHEDULES for text in good),
    ("data.crop-padding", 0),
    ("data.crop-padding", 4),
    ("eval.every", iterations(1)),
    ("eval.every", epochs(0.1)),
    ("mix.every", iterations(0)),
    ("mix.start", iterations(0)),
    ("seed", -1),
    ("steps", None),
    ("threads", None),
    ("eval.step-size", None),
]
BAD: list[tuple[str, Any]] = [
    *((option, value) for option in AT_LEAST_ONE for value in (0, -3, 10**9 + 1)),
    ("threads", 1025),
    ("seed", 2**63),
    *(
        (option, value)
        for option, _, bad in RANGES
        for value in (*bad, math.nan, math.inf, -math.inf)
    ),
    *((option, Schedule.parse(text)) for option, _, bad in SCHEDULES for text in bad),
    ("data.crop-padding", -1),
    ("eval.every", iterations(0)),
    ("eval.every", epochs(0.0)),
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


def test_an_average_that_is_kept_must_be_there() -> None:
    option = "learners.natural"
    validate(config_with(**{f"{option}.keep-average": True, f"{option}.weight-average": 0.9}))
    with pytest.raises(UserError, match=rf"--{option}\.keep-average: .*weight-average above 0"):
        validate(config_with(**{f"{option}.keep-average": True}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mix.window", iterations(0)),
        ("mix.window", epochs(0)),
        ("eval.best-clean", 100.1),
        ("eval.best-clean", -1.0),
    ],
)
def test_windows_and_accuracies_out_of_range(option: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"^--{option} \S+: give "):
        validate(config_with(**{option: value}))


def test_options_that_would_be_without_effect() -> None:
    window = {"mix.window": epochs(1)}
    validate(config_with(**window))
    with pytest.raises(UserError, match=r"--mix.window 1ep: give --mix.every"):
        validate(config_with(**window, **{"mix.every": iterations(0)}))
    attack = "learners.adversarial.attack"
    start = {f"{attack}.start": "normal"}
    validate(config_with(**start))
    with pytest.raises(UserError, match=rf"--{attack}.start normal: leave out .*no-random-start"):
        validate(config_with(**start, **{f"{attack}.random-start": False}))


def test_by_epoch_a_schedule_must_not_end_at_0() -> None:
    schedule = {"learners.natural.schedule": Curve("cosine", 0.0)}
    validate(config_with(**schedule))
    with pytest.raises(UserError, match=r"natural\.schedule cosine.* ends at 0.*give iteration"):
        validate(config_with(**schedule, **{"schedules-by": "epoch"}))


ADVERSARIAL = "learners.adversarial"


def only_problem(**values: Any) -> str:
    (problem,) = problems(config_with(**values))
    return problem


def with_objective_of(objective: str, **values: Any) -> TrainConfig:
    """cifar10 with another objective and ``values`` of its options, by their names."""
    return train_options(
        "cifar10",
        {f"{ADVERSARIAL}.objective": objective}
        | {f"{ADVERSARIAL}.{name}": value for name, value in values.items()},
    )


@pytest.mark.parametrize("objective", ["trades", "mart", "score"])
@pytest.mark.parametrize("beta", [-TINY, 1001.0, math.nan, math.inf])
def test_the_range_of_beta(objective: str, beta: float) -> None:
    (problem,) = problems(with_objective_of(objective, beta=beta))
    assert problem == f"--{ADVERSARIAL}.beta {beta}: give 0 … 1000"
    validate(with_objective_of(objective, beta=0.0))


def test_tau_is_not_negative() -> None:
    (problem,) = problems(with_objective_of("fat", tau="0:1,1:-1"))
    assert problem.startswith(f"--{ADVERSARIAL}.tau 0:1,1:-1: ")


@pytest.mark.parametrize("objective", ["at", "trades", "fat", "score"])
def test_the_range_of_label_smoothing(objective: str) -> None:
    (problem,) = problems(with_objective_of(objective, label_smoothing=1.0))
    assert problem == f"--{ADVERSARIAL}.label-smoothing 1.0: give 0 … below 1"


def test_trades_starts_at_random() -> None:
    off = {"attack.random-start": False}
    for objective in ("at", "fat", "mart"):
        validate(with_objective_of(objective, **off))
    for objective in ("trades", "score"):
        (problem,) = problems(with_objective_of(objective, **off))
        assert problem.startswith(f"--{ADVERSARIAL}.attack.no-random-start: ")
        assert f"what {objective} attacks" in problem


def test_the_range_of_clipping() -> None:
    (problem,) = problems(with_objective_of("score", clip=1.0))
    assert problem == f"--{ADVERSARIAL}.clip 1.0: give 0 … below 1"


def test_the_evaluation_needs_a_radius_from_somewhere() -> None:
    config = recipe("cifar10-natural")
    validate(config)
    none = changed(config, "eval.eps", None)
    assert [problem.partition(":")[0] for problem in problems(none)] == ["--eval.eps"]
    # One in another norm means nothing.
    assert only_problem(**{"eval.norm": "l2"}).startswith("--eval.norm l2: ")
    validate(config_with(**{"eval.norm": "l2", "eval.eps": 2.0}))
    assert only_problem(**{"eval.eps": 2.0}).startswith("--eval.eps 2.0: ")


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


def weights(**written: str) -> MixConfig:
    return MixConfig(weights={name: Schedule.parse(text) for name, text in written.items()})


@pytest.mark.parametrize(
    "mix",
    [
        weights(a="0:1,0.3:0.5,1:0.2", b="0:0,0.3:0.5,1:0", c="0:0,0.3:0,1:0.8"),
        weights(a="0.333333", b="0.333333", c="0.333333"),
        weights(c="0", a="0:1,1:0", b="0:0,1:1"),
    ],
)
def test_weights_that_sum_to_one(mix: MixConfig) -> None:
    assert not list(mix.problems("abc"))
    found = mix.mixing_weights("abc")
    for progress in (0, 0.1, 0.3, 0.77, 1):
        total = sum(weight(progress) for weight in found.values())
        assert total == pytest.approx(1, abs=2e-6)
    assert list(found) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("mix", "problem"),
    [
        (MixConfig(), "--mix.weights.a: give every learner (a, b, c) a schedule"),
        (weights(a="0.5", b="0.5"), "--mix.weights.c: give every learner (a, b, c) a schedule"),
        (
            # 1 at both ends, and not between them.
            weights(a="0:1,0.5:0.5,1:0", b="0:0,1:1", c="0:0,0.5:0.1,1:0"),
            "--mix.weights: their sum at progress 0.5 is 1.1 (a 0.5 + b 0.5 + c 0.1)",
        ),
        (weights(a="0:1,1:0", b="0", c="0"), "--mix.weights: their sum at progress 1 is 0 "),
        (weights(a="2", b="-1", c="0"), "--mix.weights.a 2: its values must lie in 0 … 1"),
        (weights(a="1", b="0", c="0", d="0"), "--mix.weights.d: the learners are a, b, c"),
    ],
)
def test_weights_that_do_not(mix: MixConfig, problem: str) -> None:
    assert next(mix.problems("abc")).startswith(problem)


def test_gamma_is_of_the_second_of_two_learners_and_a_single_one_has_all() -> None:
    gamma = Schedule.parse("0:0.3,1:0.77")
    first, second = MixConfig(gamma=gamma).mixing_weights(["one", "other"]).values()
    for progress in (0, 0.1, 0.456, 1):
        assert second(progress) == gamma(progress)
        assert first(progress) == 1.0 - gamma(progress)  # to the bit
    assert MixConfig(gamma=gamma).mixing_weights(["one"])["one"](0.5) == 1.0
    with pytest.raises(ValueError, match="give every learner"):
        MixConfig(gamma=gamma).mixing_weights("abc")


def test_threat_models() -> None:
    linf, l2 = ThreatModel("linf", 8 / 255), ThreatModel("l2", 0.5)
    config = recipe("cifar10")
    assert config.threats() == (linf,)
    also = changed(config.learners["adversarial"], "attack", AttackConfig("l2", 0.5))
    several = replace(config, learners={**config.learners, "l2": also, "more": also})
    assert several.threats() == (linf, l2)
    assert changed(several, "eval.norm", "l2").threats() == (l2,)
    assert changed(several, "eval.eps", 0.1).threats() == (ThreatModel("linf", 0.1),)
    assert changed(several, "eval.threats", (l2,)).threats() == (l2,)
