"""Options from a file, or from any mapping, as the words of a command line."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from zipper_dist.errors import UserError, in_one_line

FROM_PYTHON = "zipper-fit-"
"""How the name of the directory begins in which ``fit`` hands options to its processes: the command
in their config.json names a file there, which is gone once they have ended."""


def read_options(path: Path) -> dict[str, Any]:
    """The options in a YAML or JSON file, or in a run's config.json, by dotted names.

    Raises UserError if it cannot be read or is no mapping.
    """
    try:
        text = path.read_text()
        content = _yaml(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror})") from None
    except ImportError:
        wanted = "YAML takes PyYAML (pip install zipper_dist[yaml]); a .json file needs nothing"
        raise UserError(f"--config {path}: {wanted}") from None
    except ValueError as error:
        raise UserError(f"--config {path}: damaged: {in_one_line(error)}") from None
    if isinstance(content, Mapping) and isinstance(content.get("options"), Mapping):
        content = content["options"]
    if not isinstance(content, Mapping):
        raise UserError(f"--config {path}: give options by name, such as epochs: 5")
    return flattened(content)


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def flattened(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested options by dotted names: {"mix": {"every": 5}} and {"mix.every": 5} are the same."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        name = f"{before}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def check_names(options: Mapping[str, Any], default: Any, source: str) -> None:
    """Raise UserError if one of ``options``, from ``source``, is no single one in ``default``."""
    for name in options:
        node = default
        for part in name.split("."):
            members = node if isinstance(node, Mapping) else getattr(node, "__dict__", {})
            key = part if part in members else part.replace("-", "_")
            if key not in members:
                raise UserError(f"{source}: {name}: there is no such option")
            node = members[key]
        # Dataclasses that are written as one word, such as schedules, have a __str__.
        is_group = is_dataclass(node) and type(node).__str__ is object.__str__
        if is_group or isinstance(node, Mapping):
            raise UserError(f"{source}: {name} is a group of options: give some of them")


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options by dotted names as a command line gives them."""
    words: list[str] = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            group, dot, leaf = name.rpartition(".")
            words.append(f"--{group}{dot}{'' if value else 'no-'}{leaf}")
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words
