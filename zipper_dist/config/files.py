"""Options from a file, or from any mapping, as the words of a command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from zipper_dist.errors import UserError


def read_options(path: Path) -> dict[str, Any]:
    """The options in a YAML or JSON file, or in a run's config.json, by dotted names.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    try:
        text = path.read_text()
        if path.suffix in (".yaml", ".yml"):
            content = _yaml(text, path)
        else:
            content = json.loads(text)
    except OSError as error:
        raise UserError(f"--config {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"--config {path}: damaged: {' '.join(str(error).split())}") from None
    if isinstance(content, Mapping) and isinstance(content.get("options"), Mapping):
        content = content["options"]
    if not isinstance(content, Mapping):
        raise UserError(f"--config {path}: give options by name, such as epochs: 5")
    return flattened(content)


def _yaml(text: str, path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError(
            f"--config {path}: YAML takes the package PyYAML (pip install zipper_dist[yaml]); a "
            ".json file needs nothing"
        ) from None
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


def as_words(options: Mapping[str, Any], default: Any, source: str) -> list[str]:
    """Options by dotted names as a command line gives them.

    Args:
        options: names and values.
        default: the options of the command, which have all names.
        source: where they come from, for messages.

    Raises:
        UserError: a name is unknown or stands for a group of options.
    """
    words: list[str] = []
    for name, value in options.items():
        if _is_group(_at(default, name, source)):
            raise UserError(f"{source}: {name} is a group of options: give some of them")
        words += _words(name.replace("_", "-"), value)
    return words


def _at(default: Any, name: str, source: str) -> Any:
    node = default
    for part in name.split("."):
        key = part.replace("-", "_")
        if is_dataclass(node) and hasattr(node, key):
            node = getattr(node, key)
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            raise UserError(f"{source}: {name}: there is no such option")
    return node


def _is_group(node: Any) -> bool:
    return isinstance(node, Mapping) or (is_dataclass(node) and hasattr(node, "problems"))


def _words(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        group, dot, leaf = name.rpartition(".")
        yield f"--{group}{dot}{'' if value else 'no-'}{leaf}"
    elif isinstance(value, list | tuple):
        yield from (f"--{name}", *map(str, value))
    else:
        yield from (f"--{name}", str(value))
