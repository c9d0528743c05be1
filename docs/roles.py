"""Sphinx roles of docstrings, ``:class:`~package.Name```, as code in the API reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:py:)?(?:class|func|meth|mod|data|attr|exc):`~?(?:[\w.]*\.)?(\w+)`")


class Roles(griffe.Extension):
    """Leaves the last part of a name that a role refers to."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of each object as it is loaded."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
