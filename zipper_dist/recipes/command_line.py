"""The options of the training command, from its words, a file or a mapping."""

import argparse
import contextlib
import io
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from zipper_dist.config.command_line import parse_options
from zipper_dist.config.files import as_words, check_names, flattened, read_options
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import LearnerConfig, TrainConfig
from zipper_dist.data import DATASETS
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS
from zipper_dist.objectives.base import OBJECTIVES, with_objective
from zipper_dist.recipes.registry import choices, is_recipe, recipe

DEFAULT_RECIPE = "digits"
NOT_GIVEN = Schedule(())
"""The default of a learner's mixing weight: it makes the option known to the parser."""

LEARNER_OPTION = re.compile(r"--learners\.([^.=]+)\.(?:no-)?([^.=]+)[^=]*(?:=(.*))?")
"""``--learners.NAME.FIELD``, alone or as ``--learners.NAME.FIELD=VALUE``."""


def parse_train_options(arguments: Sequence[str]) -> TrainConfig:
    """The options of a recipe, of ``--config FILE``, and of the other words, which win.

    Raises:
        UserError: unknown recipe or objective, or a file that cannot be used.
        SystemExit: as :func:`~zipper_dist.config.command_line.parse_options`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    try:
        found, words = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        raise UserError("--config: give a .yaml or .json file with options") from None
    given = {} if found.config is None else read_options(found.config)
    return _parse(words, given, f"--config {found.config}")


def train_options(start: str | TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The options of a recipe, or ``start`` itself, with ``changes`` by dotted or nested names.

    Raises UserError if something in them is unknown or cannot be read; prints nothing.
    """
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            if isinstance(start, TrainConfig):
                return _parse([], flattened(changes), "options", start)
            return _parse([start], flattened(changes), "options")
        except SystemExit:
            # The parser's message is a box: a title, the message, a line, where to find help.
            message = printed.getvalue().partition("\n")[2].partition("──")[0]
            raise UserError(" ".join(message.replace("│", " ").split())) from None


def _parse(
    words: list[str], given: dict[str, Any], source: str, start: TrainConfig | None = None
) -> TrainConfig:
    """The options of ``words``, and below them those ``given`` by dotted names in ``source``."""
    name = given.get("recipe") or DEFAULT_RECIPE
    if not isinstance(name, str):
        raise UserError(f"{source}: recipe {name}: give its name; the recipes are {choices()}")
    given = {key: value for key, value in given.items() if key != "recipe"}
    objectives = _objectives([*as_words(given), *words])
    kinds = {learner: _options_of(learner, name) for learner, name in objectives.items()}
    position = _recipe_position(words, list(kinds.values()))
    if position is not None:
        name = words.pop(position)
    words = [*as_words(given), *words]
    default = start or recipe(name)
    learners = dict(default.learners)
    for learner, options in default.learners.items():
        if objectives.get(learner, options.objective) != options.objective:
            learners[learner] = with_objective(options, kinds[learner], objectives[learner])
    weights = {learner: default.mix.weights.get(learner, NOT_GIVEN) for learner in learners}
    default = replace(default, learners=learners, mix=replace(default.mix, weights=weights))
    _refuse_foreign_options(words, learners)
    check_names(given, default, source)
    config = parse_options(
        TrainConfig,
        words,
        "zipper_dist.train [RECIPE]",
        default,
        f"{TrainConfig.__doc__}\n\nThese are the defaults of the recipe {name!r}; others are "
        f"{choices()}. --config FILE takes options from a YAML or JSON file, such as a run's "
        "config.json; --version prints the version.",
    )
    NETWORKS.find(config.model.arch, "--model.arch")
    DATASETS.find(config.data.source, "--data.source")
    weights = {learner: w for learner, w in config.mix.weights.items() if w != NOT_GIVEN}
    return replace(config, mix=replace(config.mix, weights=weights))


def _objectives(words: list[str]) -> dict[str, str]:
    """The objectives that ``words`` name, by learner."""
    objectives = {}
    for word, following in itertools.pairwise([*words, ""]):
        match = LEARNER_OPTION.fullmatch(word)
        if match and match[2] == "objective":
            objectives[match[1]] = following if match[3] is None else match[3]
    return objectives


def _options_of(learner: str, objective: str) -> type[LearnerConfig]:
    """The class of options of a learner with this objective."""
    option = f"--learners.{learner}.objective"
    kind = getattr(OBJECTIVES.find(objective, option), "Config", None)
    if not (isinstance(kind, type) and issubclass(kind, LearnerConfig)):
        raise UserError(f"{option} {objective}: its Config must be a subclass of LearnerConfig")
    return kind


def _refuse_foreign_options(words: list[str], learners: Mapping[str, LearnerConfig]) -> None:
    """Raise UserError where a learner is given an option that only other objectives have."""
    for word in words:
        match = LEARNER_OPTION.fullmatch(word)
        if match is None or match[1] not in learners:
            continue
        learner, field = learners[match[1]], match[2].replace("-", "_")
        having = [name for name, kind in OBJECTIVES.items() if hasattr(kind.Config(), field)]
        if having and not hasattr(learner, field):
            raise UserError(
                f"{word.partition('=')[0]}: {learner.objective} has no such option; "
                f"{', '.join(having)} {'have' if len(having) > 1 else 'has'} it"
            )


def _values_taken(options: Any) -> dict[str, int]:
    """How many words follow an option, by its last name; for those that take not exactly one."""
    taken: dict[str, int] = {}
    for field in fields(options):
        name, value = field.name.replace("_", "-"), getattr(options, field.name)
        if isinstance(value, bool):
            taken |= {name: 0, f"no-{name}": 0}
        elif isinstance(value, tuple):
            taken[name] = sys.maxsize
        elif is_dataclass(value):
            taken |= _values_taken(value)
    return taken


def _recipe_position(words: list[str], kinds: list[type[LearnerConfig]]) -> int | None:
    """Where the recipe stands: the first word that is neither an option nor the value of one."""
    taken = {"help": 0, "version": 0}
    kinds = [*kinds, *(objective.Config for objective in OBJECTIVES.values())]
    for options in (TrainConfig(), *(kind() for kind in kinds)):
        taken |= _values_taken(options)
    room = 0
    for position, word in enumerate(words):
        if word.startswith("--") or word == "-h":
            option = word.lstrip("-").rpartition(".")[2].replace("_", "-")
            room = 0 if "=" in word or word == "-h" else taken.get(option, 1)
        elif room == 0 or (room > 1 and is_recipe(word)):
            return position
        else:
            room -= 1
    return None
