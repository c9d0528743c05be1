"""A factory of networks that takes keyword arguments, some of which the data give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from zipper_dist.models.spec import ModelSpec

CLASSES = ("num_classes", "n_classes", "classes")
CHANNELS = ("in_chans", "in_channels", "input_channels")
SIZE = ("img_size", "image_size")
OF_DATA = (*CLASSES, *CHANNELS, *SIZE)
"""Names of arguments that the data give: the number of classes, the channels of an image, and its
height if it is as wide, or else height and width [pixels]."""


@dataclass(frozen=True)
class KeywordFactory:
    """``make`` builds a network of keyword arguments, ``takes`` are names of these; one that
    ``takes_spec`` gets the :class:`ModelSpec` itself, and the options of the user besides."""

    make: Callable[..., nn.Module]
    takes: Collection[str]
    takes_spec: bool = False

    def given(self, spec: ModelSpec) -> dict[str, Any]:
        """The keyword arguments: what it takes of the data, and the options, which win."""
        return {**({} if self.takes_spec else self._of_data(spec)), **spec.options}

    def _of_data(self, spec: ModelSpec) -> dict[str, Any]:
        square = spec.height == spec.width
        size = spec.height if square else (spec.height, spec.width)
        kinds = ((CLASSES, spec.classes), (CHANNELS, spec.channels), (SIZE, size))
        found = {}
        for names, value in kinds:
            name = next((name for name in names if name in self.takes), None)
            if name is not None:
                found[name] = value
        return found

    def __call__(self, spec: ModelSpec) -> nn.Module:
        """The network."""
        first = (spec,) if self.takes_spec else ()
        return self.make(*first, **self.given(spec))

    def describe(self, spec: ModelSpec) -> str:
        """What it was given, in words for a message."""
        given = [f"{name}={value!r}" for name, value in self.given(spec).items()]
        if self.takes_spec:
            given.insert(0, "the ModelSpec")
        could = f"; it takes {', '.join(self.takes)}" if self.takes and not self.takes_spec else ""
        return f"its factory was given {', '.join(given) or 'nothing'}{could}"


def named_parameters(function: Callable[..., object]) -> list[str]:
    """The names of the parameters that can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in named]
