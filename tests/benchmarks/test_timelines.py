"""Timelines are drawn from runs that left one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from timelines import main

from zipper_dist.errors import UserError


def test_a_run_without_a_timeline_is_a_clear_error(tmp_path: Path) -> None:
    words = [str(tmp_path), "--out", str(tmp_path / "picture.png")]
    with pytest.raises(UserError, match="no run is here"):
        main(words)
    (tmp_path / "config.json").write_text(json.dumps({"options": {}}))
    with pytest.raises(UserError, match="train with --trace FIRST:LAST"):
        main(words)
