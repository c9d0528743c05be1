"""What the tests of the learners share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _always_one_thread(one_thread: None) -> None:
    """Every test here runs on one thread."""
