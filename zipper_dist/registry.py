"""Registries: named things of one kind, each in a file of its own.

A file in the registry's package registers what it holds and is found by itself. What lives outside
the package is given as ``package.module:NAME`` or ``path/to/file.py:NAME``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar, cast

from zipper_dist.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind by name, in the order of their names.

    Args:
        kind: what one of them is, for messages: "objective".
        package: the package whose modules register them; they are imported when a name is asked
            for, and not before.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._found: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers what it decorates as ``name``."""

        def add(thing: T) -> T:
            self._found[name] = thing
            return thing

        return add

    def find(self, name: str, option: str) -> T:
        """The thing of that name, or the one outside the package that ``name`` refers to.

        Raises:
            UserError: there is none; the message begins with ``option`` and its value.
        """
        if name in self:
            return self[name]
        if ":" in name:
            return cast(T, load_reference(name, option))
        raise UserError(
            f"{option} {name}: unknown {self.kind}; choose from {', '.join(self)}, or give "
            "package.module:NAME or path/to/file.py:NAME"
        )

    def _discover(self) -> None:
        if not self._discovered:
            self._discovered = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")

    def __getitem__(self, name: str) -> T:
        self._discover()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._found))

    def __len__(self) -> int:
        self._discover()
        return len(self._found)


def load_reference(reference: str, option: str) -> object:
    """What ``package.module:NAME`` or ``path/to/file.py:NAME`` refers to.

    The module is found on Python's path or in the working directory. Importing it runs its code.

    Raises:
        UserError: the module cannot be imported, or has nothing of that name.
    """
    module_name, _, name = reference.rpartition(":")
    if not (module_name and name):
        raise UserError(f"{option} {reference}: give package.module:NAME or path/to/file.py:NAME")
    try:
        module = (
            _module_of_file(Path(module_name))
            if module_name.endswith(".py")
            else _module_named(module_name)
        )
        return getattr(module, name)
    except Exception as error:  # whatever the user's code raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{option} {reference}: cannot be loaded: {reason}") from None


def _module_named(name: str) -> object:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _module_of_file(path: Path) -> object:
    path = path.expanduser().resolve(strict=True)
    # One module a file: classes loaded twice from a file are the same classes.
    name = f"zipper_dist_plugin_{path.stem}_{abs(hash(str(path))):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
