"""The options of the network."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["relu", "silu"]

WORDS = {"True": True, "False": False, "None": None}
"""Values as Python writes them; JSON has other words."""

AUTO_NORMALISE = "auto"
"""Normalise as the weights of the start say."""


@dataclass(frozen=True)
class ModelConfig:
    """The network; its input channels, image size and class count come from the data."""

    arch: str = "small_cnn"
    """Architecture: small_cnn, resnet18, preact_resnet18, wrn32_10, torchvision:NAME, timm:NAME,
    package.module:factory or path/file.py:factory."""
    width: float = 1.0
    """Multiplies the number of channels of every layer; for the architectures without a colon."""
    activation: Activation = "relu"
    """Activation function; for the architectures without a colon."""
    options: tuple[str, ...] = ()
    """Arguments of a factory, for the architectures with a colon: key=value …"""
    weights: str | None = None
    """Start from weights, as far as they fit: a file (.safetensors, .pt, .pth), torchvision:DEFAULT
    or timm:pretrained, which are of --model.arch; default: from random ones."""
    normalise: str | None = None
    """Normalise images inside the network: mean,std of all channels, or the means of the channels
    and then their deviations (6 numbers for colour), or auto: as the weights say; default: no."""

    def keywords(self) -> dict[str, Any]:
        """The options by name; ValueError, in words for the user, if one is none."""
        found: dict[str, Any] = {}
        for word in self.options:
            name, equals, value = word.partition("=")
            if not (equals and name.isidentifier()):
                raise ValueError(f"--model.options {word}: give key=value, such as depth=4")
            found[name] = _value(value)
        return found

    def normalisation(self, channels: int) -> tuple[float, ...]:
        """The means of so many channels, and then their deviations; empty where nothing is to be
        normalised, or as the weights say. ValueError, in words for the user, if they are none."""
        if self.normalise in (None, AUTO_NORMALISE):
            return ()
        numbers = _numbers(self.normalise)
        if len(numbers) == 2:
            return tuple(number for number in numbers for _ in range(channels))
        if len(numbers) != 2 * channels:
            raise ValueError(
                f"--model.normalise {self.normalise}: images have {channels} channels, so give "
                f"2 or {2 * channels} numbers: means, then deviations"
            )
        return numbers

    def problems(self) -> Iterator[str]:
        """What is out of range."""
        if not 0 < self.width <= 64:
            yield f"--model.width {self.width}: give 0.01 … 64"
        try:
            self.keywords()
            if self.normalise not in (None, AUTO_NORMALISE):
                _numbers(self.normalise)
        except ValueError as error:
            yield str(error)
        if self.normalise == AUTO_NORMALISE and self.weights is None:
            yield "--model.normalise auto: takes --model.weights, which say how"


def _value(text: str) -> Any:
    """A number, true, false, null, a list … as JSON or Python writes it, or else the text."""
    if text in WORDS:
        return WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in str(text).split(","))
        deviations = numbers[len(numbers) // 2 :]
        if len(numbers) % 2 == 0 and all(map(math.isfinite, numbers)) and min(deviations) > 0:
            return numbers
    except ValueError:
        pass
    wanted = "mean,std or means and deviations of the channels (above 0), or auto"
    raise ValueError(f"--model.normalise {text}: give {wanted}")
