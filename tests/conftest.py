"""What tests of several parts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that workers that take a file at a time end together;
    tests that need a GPU say what they would check where there is none."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        needs = item.get_closest_marker("gpu")
        if needs is not None and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=f"no GPU to check that {needs.args[0]}"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are fastest on one thread, and rounded alike everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
