"""Paths in options."""

from pathlib import Path

from zipper_dist.errors import UserError


def expanded(path: Path, option: str) -> Path:
    """``path`` with ``~`` and ``~user`` replaced; UserError about ``option`` if that is nobody."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UserError(f"{option} {path}: there is no such user; give a path") from None
