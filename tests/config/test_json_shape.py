from __future__ import annotations

from typing import Any

import pytest

from zipper_dist.config.json_shape import NUMBER, fits

NONE = type(None)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (3, int),
        (3, NUMBER),
        (None, (NONE, str)),
        ([], [int]),
        ([1, 2], [int]),
        ({"a": 1, "more": "x"}, {"a": int}),
        ({}, {"a": (NONE, int)}),
        ({}, {str: int}),
        ({"any": [{"a": 1.5}]}, {str: [{"a": NUMBER}]}),
    ],
)
def test_values_that_fit(value: Any, shape: Any) -> None:
    assert fits(value, shape)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("3", int),
        (3.5, int),
        (None, str),
        ({}, [int]),
        ([1, "2"], [int]),
        ([], {"a": (NONE, int)}),
        ({}, {"a": int}),
        ({"any": "x"}, {str: int}),
        (3, (NONE, str)),
        (float("nan"), NUMBER),
        (float("inf"), NUMBER),
        (10**400, NUMBER),
        (10**400, int),
    ],
)
def test_values_that_do_not(value: Any, shape: Any) -> None:
    assert not fits(value, shape)
