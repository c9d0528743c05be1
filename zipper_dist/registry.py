"""Registries: objectives, attacks, networks … by name, each registered in its own file.

Objects outside the package are named ``package.module:NAME`` or ``path/to/file.py:NAME``.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar, cast

from zipper_dist.errors import UserError, in_one_line

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The objects of one ``kind`` (a word for messages), sorted by name.

    ``package`` has the modules that register them; it is imported at the first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._found: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that registers an object as ``name``."""

        def add(thing: T) -> T:
            self._found[name] = thing
            return thing

        return add

    def find(self, name: str, option: str) -> T:
        """The object of that name or reference; UserError about ``option`` if there is none."""
        if name in self:
            return self[name]
        if ":" in name:
            return cast(T, load_reference(name, option))
        raise UserError(
            f"{option} {name}: unknown {self.kind}; choose from {', '.join(self)}, or give "
            f"{self.references()}"
        )

    def references(self) -> str:
        """How objects outside the package are named, in words."""
        return "package.module:NAME or path/to/file.py:NAME"

    def _discover(self) -> dict[str, T]:
        if not self._discovered:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._discovered = True
        return self._found

    def __getitem__(self, name: str) -> T:
        return self._discover()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._discover()))

    def __len__(self) -> int:
        return len(self._discover())


def load_reference(reference: str, option: str) -> object:
    """The object that ``package.module:NAME`` or ``path/to/file.py:NAME`` refers to.

    Imports the module, from Python's path or the working directory; UserError if that fails.
    """
    module_name, _, name = reference.rpartition(":")
    if not (module_name and name):
        raise UserError(f"{option} {reference}: give package.module:NAME or path/to/file.py:NAME")
    try:
        if module_name.endswith(".py"):
            return getattr(_import_file(module_name), name)
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{option} {reference}: cannot be loaded: {in_one_line(error)}") from None


def source_file(thing: object) -> Path | None:
    """The file of Python that a class or function is written in; None where that is not known."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    try:
        file = inspect.getsourcefile(inspect.unwrap(thing))  # type: ignore[arg-type]
    except TypeError:
        return None
    return Path(file) if file else None


def _import_file(file: str) -> object:
    path = Path(file).expanduser().resolve(strict=True)
    # Under a name of its own, so that a file that is loaded twice gives the same classes.
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


def require(packages: Iterable[str], extra: str, what: str) -> None:
    """Raise UserError, which names the ``extra``, unless all of the optional ``packages`` are
    installed; imports none. ``what``: the option and value that take them."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{what}: takes the package {package} (pip install 'zipper_dist[{extra}]')"
            )
