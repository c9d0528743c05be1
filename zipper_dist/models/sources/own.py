"""Factories of the user's own: ``package.module:factory`` and ``path/to/file.py:factory``."""

import inspect
from collections.abc import Callable
from typing import cast

from torch import nn

from zipper_dist.models.sources.factory import OF_DATA, KeywordFactory, named_parameters
from zipper_dist.registry import load_reference


def own_factory(reference: str, option: str) -> KeywordFactory:
    """What ``reference`` names, a function or a class. It gets what it takes of the data by name;
    or the :class:`ModelSpec`, if its first parameter is called ``spec`` or has to be given and is
    none of these names. UserError where it cannot be loaded."""
    make = cast(Callable[..., nn.Module], load_reference(reference, option))
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # what is no function, or does not say what it takes
        return KeywordFactory(make, (), takes_spec=True)
    factory = KeywordFactory(make, named_parameters(make))
    first = next(iter(parameters), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return factory
    must = first.default is first.empty and first.name not in OF_DATA
    if first.name == "spec" or must:
        return KeywordFactory(make, factory.takes, takes_spec=True)
    return factory
