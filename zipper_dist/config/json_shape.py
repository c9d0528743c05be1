"""JSON that may hold anything: whether it has the shape that its reader goes by."""

import json
from pathlib import Path
from typing import Any

from zipper_dist.errors import UserError, in_one_line

NUMBER = int | float
LARGEST = 1e300
"""Numbers beyond it, infinity and NaN fit no shape: arithmetic on them could fail."""


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape: a type or union of types, ``[shape]`` for a list, or an
    object ``{name: shape}``, with other names beside these, or ``{str: shape}``, with any names.
    A tuple lists alternatives."""
    if isinstance(shape, tuple):
        return any(fits(value, each) for each in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if str in shape:
            return all(fits(item, shape[str]) for item in value.values())
        return all(fits(value.get(name), each) for name, each in shape.items())
    is_number = isinstance(value, int | float)
    return isinstance(value, shape) and (not is_number or abs(value) <= LARGEST)


def read_json(path: Path, shape: Any, hint: str) -> Any:
    """The JSON value in a file; UserError, with a ``hint`` at what to do, where there is none of
    this shape."""
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {hint}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({in_one_line(error)}); {hint}") from None
    if not fits(value, shape):
        raise UserError(f"{path} is damaged (it lacks what it should say); {hint}")
    return value
