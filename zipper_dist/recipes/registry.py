"""Recipes and methods by name."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from zipper_dist.config.schema import TrainConfig
from zipper_dist.errors import UserError, in_one_line
from zipper_dist.registry import Registry, load_reference

Recipe = Callable[[], TrainConfig]
Method = Callable[[TrainConfig], TrainConfig]

RECIPES: Registry[Recipe] = Registry("recipe", "zipper_dist.recipes")
"""The recipes by name."""

METHODS: Registry[Method] = Registry("method", "zipper_dist.recipes.methods")
"""What else is made of a Zipper recipe, by the ending of its name: mostly other methods."""


def zippers() -> list[str]:
    """The recipes that mix learners; every method has a variant of each."""
    return [name for name in RECIPES if len(RECIPES[name]().learners) > 1]


def choices() -> str:
    """The recipes, in words."""
    endings = ", ".join(f"-{method}" for method in METHODS)
    alone = sorted(RECIPES.keys() - zippers())
    return (
        f"{', '.join(zippers())}, each by Zipper or with the ending of another method ({endings}), "
        f"{', '.join(alone)}, and your own as package.module:function or path/file.py:function"
    )


def recipe(name: str) -> TrainConfig:
    """The options of a recipe by its name, or a reference to one outside; UserError if none."""
    if name in RECIPES:
        return replace(RECIPES[name](), recipe=name)
    base, _, method = name.rpartition("-")
    if base in zippers() and method in METHODS:
        return replace(METHODS[method](RECIPES[base]()), recipe=name)
    if ":" in name:
        return _from_outside(name)
    raise UserError(f"unknown recipe {name!r}; the recipes are {choices()}")


def is_recipe(name: str) -> bool:
    """Whether there is a recipe of that name."""
    with contextlib.suppress(UserError):
        return bool(recipe(name))
    return False


def _from_outside(reference: str) -> TrainConfig:
    function = cast(Recipe, load_reference(reference, "recipe"))
    try:
        config = function()
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"recipe {reference}: cannot be made: {in_one_line(error)}") from None
    if not isinstance(config, TrainConfig):
        raise UserError(f"recipe {reference}: returns {type(config).__name__}, not a TrainConfig")
    return replace(config, recipe=reference)
