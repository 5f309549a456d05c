"""Numbers as people read them."""

from __future__ import annotations

import pytest

from vfs.base import units


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_one_is_not_many(number: int, text: str) -> None:
    assert units.count(number, "file") == text


def test_a_plural_of_its_own_is_named() -> None:
    assert units.count(1, "entry", "entries") == "1 entry"
    assert units.count(3, "entry", "entries") == "3 entries"


def test_the_elements_of_a_shape_are_bounded() -> None:
    assert units.elements([3, 4]) == 12
    assert units.elements([1 << 40, 1 << 40]) == units.MOST_ELEMENTS
    assert units.elements([1 << 40, 1 << 40, 0]) == 0
