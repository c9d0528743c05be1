"""What a page shows, as its tables and the texts beside its pictures say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class Page(HTMLParser):
    """Tables as lists of rows by id or class, texts of pictures, and what else there is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.alts: list[str] = []
        self.sources: list[str] = []  # of what is loaded
        self.links: dict[str, str] = {}  # by class
        self.refresh = ""
        self.text = ""
        self._table = ""
        self._in_cell = False
        self._skipped = False
        self.feed(path.read_text())
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "table":
            self._table = given.get("id") or given["class"]
            self.tables.setdefault(self._table, [])
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._in_cell = True
        elif tag == "img":
            self.alts.append(given["alt"])
        elif tag == "a" and "class" in given:
            self.links[given["class"]] = given["href"]
        elif tag == "meta" and given.get("http-equiv") == "refresh":
            self.refresh = given["content"]
        self._skipped = tag == "style"
        loads = ("src", "srcset", "poster", "data", *(("href",) if tag == "link" else ()))
        self.sources += [given[name] for name in loads if name in given]

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.text += data
        if self._in_cell:
            self.tables[self._table][-1][-1] += " ".join(data.split())

    def picture(self, title: str) -> str:
        """The text of the first picture whose text begins so."""
        return next(alt for alt in self.alts if alt.startswith(title))


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def records_of(run: Path, learner: str) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["learner"] == learner]
