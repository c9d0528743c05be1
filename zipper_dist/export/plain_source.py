"""One file of plain torch with all the code of a network: what its class needs of its own module
and of this package is copied, and its description is filled in."""

import ast
import importlib
import importlib.util
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

import zipper_dist
from zipper_dist.errors import Failure, UserError, in_one_line
from zipper_dist.export.base import Subject
from zipper_dist.models import NETWORKS, ModelSpec
from zipper_dist.models.normalised import Normalised
from zipper_dist.models.sources import SOURCES, source_of
from zipper_dist.models.sources.factory import KeywordFactory

PACKAGE = "zipper_dist"

HEADER = '''"""{arch}: a network of images (N, {channels}, {height}, {width}) in [0, 1] to logits
(N, {classes}), in plain torch.

    from model import load_model

    network = load_model()

Written by zipper_dist {version}, which is not needed to run it.
"""

from __future__ import annotations
'''

SPEC = '''class ModelSpec:
    """The sizes of this network."""

{fields}

    def require_pixels(self, least: int) -> None:
        """The images are large enough."""
'''

FOOTER = '''def build() -> nn.Module:
    """The network with random weights, in train mode."""
    return {network}


def load_model(weights: str | Path = Path(__file__).with_name("{weights}")) -> nn.Module:
    """The network in eval mode, with the weights of a .safetensors or a torch file."""
    if Path(weights).suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(weights)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    network = build()
    network.load_state_dict(state)
    return network.eval()
'''


def checked_source(subject: Subject, weights: str, content: bytes) -> str:
    """The text of model.py, which reads the file ``weights`` beside it, whose ``content`` this is.

    UserError: the network is not made by a class or function of a file. Failure: what model.py
    loads does not give the same logits to the bit.
    """
    source = plain_source(subject.spec, weights)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / weights).write_bytes(content)
        try:
            network = loader_in(source, str(Path(scratch) / "model.py"))()
        except Exception as error:  # of the code of any network
            problem = f"the copied code does not run: {in_one_line(error)}"
            raise Failure(f"model.py: {problem}") from error
        subject.compare("model.py", network, 0.0)
    return source


def plain_source(spec: ModelSpec, weights: str) -> str:
    """The text of model.py, which reads the file ``weights`` beside it; UserError as for
    :func:`checked_source`."""
    factory: Any = NETWORKS.find(spec.arch, "--model.arch")
    make, given = factory, ["ModelSpec()"]
    if isinstance(factory, KeywordFactory):  # it may take the description besides
        make, given = factory.make, given if factory.takes_spec else []
        given += [f"{name}={value!r}" for name, value in factory.given(spec).items()]
    described = asdict(spec) | {"arch": spec.arch.rpartition(":")[2]}
    name, module = getattr(make, "__qualname__", ""), inspect.getmodule(make)
    collected = _Collected(module.__name__ if module else "")
    network = f"{name}({', '.join(given)})"
    try:
        if source_of(spec.arch) in SOURCES:
            raise LookupError(f"it is of {source_of(spec.arch)}")
        if module is None or not name.isidentifier():
            raise LookupError("it is not made by a class or function of a file")
        collected.add(module, name)
        if spec.normalise:
            collected.add(sys.modules[Normalised.__module__], Normalised.__name__)
            mean, std = spec.normalise[: spec.channels], spec.normalise[spec.channels :]
            network = f"{Normalised.__name__}({network}, {mean}, {std})"
    except (LookupError, OSError, SyntaxError) as error:
        raise UserError(
            f"--model.arch {spec.arch}: its source cannot be copied into a file of its own "
            f"({in_one_line(error)})"
        ) from None
    fields = "\n".join(f"    {field} = {value!r}" for field, value in described.items())
    parts = [
        HEADER.format(version=zipper_dist.__version__, **described),
        collected.import_lines(),
        SPEC.format(fields=fields),
        *collected.pieces,
        FOOTER.format(network=network, weights=weights),
    ]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def is_ours(source: str) -> bool:
    """Whether the text of a model.py is one that was written here."""
    return "\nWritten by zipper_dist " in source and "\ndef load_model(" in source


def loader_in(source: str, file: str) -> Callable[[], nn.Module]:
    """``load_model`` of the text of a model.py that is at ``file``."""
    module = ModuleType("zipper_dist_exported")
    module.__file__ = file
    exec(compile(source, file, "exec"), module.__dict__)
    return cast(Callable[[], nn.Module], module.__dict__["load_model"])


class _Collected:
    """Definitions and imports that a network's class needs, each after what it needs itself.

    Copied is what modules of this package and the module ``home`` define; what other packages
    define is imported.
    """

    def __init__(self, home: str) -> None:
        self.pieces: list[str] = []
        self._imports = {"torch"}
        self._from: dict[str, set[str]] = {"torch": {"nn"}, "pathlib": {"Path"}}
        self._home = home
        self._owners: dict[str, str] = {}  # of each name that is copied: the module that defines it

    def import_lines(self) -> str:
        """The imports, a line each."""
        lines = [f"import {words}" for words in sorted(self._imports)]
        lines += [f"from {m} import {', '.join(sorted(self._from[m]))}" for m in sorted(self._from)]
        return "\n".join(lines)

    def add(self, module: ModuleType, name: str) -> None:
        """Add the definition of ``name`` in ``module``; LookupError where it cannot be found, or
        another module defines the same name."""
        if name == ModelSpec.__name__:
            return  # it is filled in
        source = inspect.getsource(module)
        defined = dict(_definitions(ast.parse(source).body))
        if name not in defined:
            raise LookupError(f"{module.__name__} does not define {name}")
        statement = defined[name]
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._add_import(module, statement, name)
            return
        if name in self._owners:
            if self._owners[name] != module.__name__:
                raise LookupError(f"{self._owners[name]} and {module.__name__} define {name}")
            return
        self._owners[name] = module.__name__
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            statement.decorator_list = [d for d in statement.decorator_list if not _registers(d)]
        used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        for other in sorted(used & defined.keys()):
            self.add(module, other)
        self.pieces.append(_text(source, statement))

    def _add_import(
        self, module: ModuleType, statement: ast.Import | ast.ImportFrom, name: str
    ) -> None:
        """Import ``name`` as ``module`` does, or copy what it is where that is to be copied."""
        (alias,) = [a for a in statement.names if (a.asname or a.name.partition(".")[0]) == name]
        words = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
        if isinstance(statement, ast.Import):
            if self._is_copied(alias.name):
                raise LookupError(f"{module.__name__} imports {alias.name} as a whole")
            self._imports.add(words)
            return
        dots, package = "." * statement.level, module.__package__
        origin = importlib.util.resolve_name(dots + (statement.module or ""), package)
        if not self._is_copied(origin):
            self._from.setdefault(origin, set()).add(words)
        elif alias.asname not in (None, alias.name):
            raise LookupError(f"{module.__name__} imports {words}")
        else:
            self.add(importlib.import_module(origin), alias.name)

    def _is_copied(self, module: str) -> bool:
        return module == self._home or module.partition(".")[0] == PACKAGE


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that statements of a module define, and the statement of each."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef):
            yield statement.name, statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0], statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for node in (node for target in targets for node in ast.walk(target)):
                if isinstance(node, ast.Name):
                    yield node.id, statement
        elif isinstance(statement, ast.If | ast.Try):
            yield from _definitions(statement.body)


def _registers(decorator: ast.expr) -> bool:
    """Whether a decorator only adds to a registry, as ``@NETWORKS.register(…)``."""
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "register"


def _text(source: str, statement: ast.stmt) -> str:
    """The lines of a definition, with the decorators that it still has."""
    decorators = getattr(statement, "decorator_list", [])
    above = [f"@{ast.get_source_segment(source, decorator)}" for decorator in decorators]
    lines = source.splitlines()[statement.lineno - 1 : statement.end_lineno]
    return "\n".join([*above, *lines])
