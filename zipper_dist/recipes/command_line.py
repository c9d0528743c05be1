"""The options of the training command, from its words, a file or a mapping."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from zipper_dist.config.command_line import parse_options
from zipper_dist.config.files import as_words, flattened, read_options
from zipper_dist.config.schedules import Schedule
from zipper_dist.config.schema import LearnerConfig, TrainConfig
from zipper_dist.data import DATASETS
from zipper_dist.errors import UserError
from zipper_dist.models import NETWORKS
from zipper_dist.objectives import OBJECTIVES, with_objective
from zipper_dist.recipes.registry import choices, recipe

DEFAULT_RECIPE = "digits"

NOT_GIVEN = Schedule(())
"""Stands for a mixing weight on the command line, so that there is an option for it."""


def parse_train_options(arguments: Sequence[str]) -> TrainConfig:
    """The options of the training command: a recipe, ``--options``, and ``--config FILE`` with
    further ones, of which those on the command line win.

    Raises:
        UserError: unknown recipe or objective, or a file that cannot be used.
        SystemExit: as :func:`~zipper_dist.config.command_line.parse_options`.
    """
    file, words = _without_file(list(arguments))
    given = read_options(Path(file)) if file is not None else {}
    return _parse(words, given, f"--config {file}")


def train_options(name: str, changes: Mapping[str, Any]) -> TrainConfig:
    """The options of recipe ``name`` with ``changes`` by dotted or nested names; prints nothing.

    Raises:
        UserError: something in them is unknown or cannot be read.
    """
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return _parse([name], flattened(changes), "options")
        except SystemExit:
            lines = [line.strip("│ ") for line in said.getvalue().splitlines()[1:]]
            message = [line for line in lines if line]
            end = next((i for i, line in enumerate(message) if line.startswith("──")), None)
            raise UserError(" ".join(message[:end])) from None


def _parse(words: list[str], given: dict[str, Any], source: str) -> TrainConfig:
    objectives = {
        name: str(value)
        for key, value in given.items()
        for name in [_learner_of(f"--{key}", "objective")]
        if name is not None
    } | dict(_objectives(words))
    kinds = {name: _kind(name, objective) for name, objective in objectives.items()}
    name, words = _without_recipe(words, _Shape.of([TrainConfig(), *(k() for k in kinds.values())]))
    name = name or given.get("recipe") or DEFAULT_RECIPE
    default = recipe(name)
    learners = {
        learner: with_objective(options, kinds[learner], objectives[learner])
        if learner in kinds and objectives[learner] != options.objective
        else options
        for learner, options in default.learners.items()
    }
    weights = {learner: default.mix.weights.get(learner, NOT_GIVEN) for learner in learners}
    default = replace(default, learners=learners, mix=replace(default.mix, weights=weights))
    given = {key: value for key, value in given.items() if key != "recipe"}
    for option in (*(f"--{key}" for key in given), *words):
        _refuse_foreign(option, learners)
    config = parse_options(
        TrainConfig,
        [*as_words(given, default, source), *words],
        "zipper_dist.train [RECIPE]",
        default,
        f"{TrainConfig.__doc__}\n\nThese are the defaults of the recipe {name!r}. Give another "
        f"recipe to start from its defaults: {choices()}. --config FILE takes options from a YAML "
        "or JSON file, such as a run's config.json; --version prints the version.",
    )
    NETWORKS.find(config.model.arch, "--model.arch")
    DATASETS.find(config.data.source, "--data.source")
    weights = {learner: w for learner, w in config.mix.weights.items() if w != NOT_GIVEN}
    return replace(config, mix=replace(config.mix, weights=weights))


def _without_file(words: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``--config``, and the other words."""
    for i, word in enumerate(words):
        if word.startswith("--config="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
        if word == "--config":
            if i + 1 == len(words):
                raise UserError("--config: give a .yaml or .json file with options")
            return words[i + 1], words[:i] + words[i + 2 :]
    return None, words


def _learner_of(option: str, field: str) -> str | None:
    """NAME if ``option`` is ``--learners.NAME.field``."""
    start, _, rest = option.partition("=")[0].partition(".")
    name, _, leaf = rest.rpartition(".")
    return name if start == "--learners" and leaf == field else None


def _objectives(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name = _learner_of(word, "objective")
        if name is not None:
            yield name, word.partition("=")[2] if "=" in word else following


def _kind(learner: str, objective: str) -> type[LearnerConfig]:
    option = f"--learners.{learner}.objective"
    kind = getattr(OBJECTIVES.find(objective, option), "Config", None)
    if not (isinstance(kind, type) and issubclass(kind, LearnerConfig)):
        raise UserError(f"{option} {objective}: its Config must be a subclass of LearnerConfig")
    return kind


def _refuse_foreign(option: str, learners: Mapping[str, LearnerConfig]) -> None:
    """Raise UserError if ``option`` is one of another objective."""
    option = option.partition("=")[0]
    name, _, rest = option.removeprefix("--learners.").partition(".")
    field = rest.partition(".")[0].removeprefix("no-").replace("-", "_")
    if name not in learners or not option.startswith("--learners."):
        return
    if field in {known.name for known in fields(learners[name])}:
        return
    having = [
        other
        for other, objective in OBJECTIVES.items()
        if field in {known.name for known in fields(objective.Config)}
    ]
    if having:
        takers = f"{', '.join(having[:-1])} and {having[-1]} have" if having[1:] else having[0]
        raise UserError(
            f"{option}: {learners[name].objective} has no such option; {takers}"
            f"{'' if having[1:] else ' has'} it"
        )


@dataclass(frozen=True)
class _Shape:
    """How many words follow an option: none a flag, any number a list, one all others."""

    flags: frozenset[str]
    lists: frozenset[str]

    @staticmethod
    def of(options: list[Any]) -> _Shape:
        flags, lists = {"help", "version"}, set()
        pending = [*options, *(objective.Config() for objective in OBJECTIVES.values())]
        while pending:
            node = pending.pop()
            for field in fields(node):
                name, value = field.name.replace("_", "-"), getattr(node, field.name)
                if isinstance(value, bool):
                    flags |= {name, f"no-{name}"}
                elif isinstance(value, tuple):
                    lists.add(name)
                elif is_dataclass(value):
                    pending.append(value)
        return _Shape(frozenset(flags), frozenset(lists))


def _without_recipe(words: list[str], shape: _Shape) -> tuple[str | None, list[str]]:
    """The first word that is neither an option nor the value of one, and the other words."""
    option, taken = "", 0
    for i, word in enumerate(words):
        if word.startswith("--") or word == "-h":
            option, taken = word, int("=" in word)
            continue
        leaf = option.rpartition(".")[2].lstrip("-").replace("_", "-")
        room = 0 if not option or leaf in shape.flags else 1
        if leaf in shape.lists and not _is_recipe(word):
            room = len(words)
        if taken >= room:
            return word, words[:i] + words[i + 1 :]
        taken += 1
    return None, words


def _is_recipe(word: str) -> bool:
    try:
        recipe(word)
    except UserError:
        return False
    return True
