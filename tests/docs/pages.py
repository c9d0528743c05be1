"""The pages of the manual, and the commands and code on them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def code(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[str]:
    """The commands of a page's console blocks, without their comments."""
    joined = "\n".join(code(page, "console")).replace("\\\n", " ")
    lines = re.findall(r"^\$ (.*)$", joined, re.M)
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines]
