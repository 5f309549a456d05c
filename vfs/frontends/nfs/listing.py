"""Directories in pages: each name has a cookie of its own, which stays as long as the process runs. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from vfs.base.slices import slices
from vfs.files.node import Node

DOT, DOT_DOT = 1, 2
"""The cookies of `.` and `..`; 0 stands before both."""
_LEAST = 1 << 8
_SLICE = 16_000
"""Names that are sorted in one step of the loop."""


def cookie(name: bytes) -> int:
    """The cookie of a name. Each process keys the hash anew, so that collisions cannot be prepared."""
    return (hash(name) & (1 << 63) - 1) | _LEAST


class Listing:
    """The entries of a directory in the order of their cookies.

    A name that stays in the directory is listed exactly once, however the directory changes between two pages.
    """

    def __init__(self, entries: Mapping[int, Node], order: list[int]) -> None:
        self._entries = entries
        self._order = order

    @classmethod
    async def of(cls, children: Mapping[bytes, Node]) -> Listing:
        """A snapshot of `children`, by name."""
        entries: dict[int, Node] = {}
        order: list[int] = []
        async for some in slices(list(children.items()), _SLICE):
            found = {cookie(name): child for name, child in some}
            entries |= found
            order += sorted(found)
        order.sort()  # a few sorted runs, which merge fast
        return cls(entries, order)

    def after(self, cookie: int) -> Iterator[tuple[int, Node]]:
        """The entries behind a cookie, with their own."""
        for at in range(bisect_right(self._order, cookie), len(self._order)):
            yield self._order[at], self._entries[self._order[at]]
