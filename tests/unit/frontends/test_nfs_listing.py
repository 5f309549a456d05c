"""Pages of a directory."""

from __future__ import annotations

import asyncio

from vfs.frontends.nfs.listing import DOT_DOT, Listing, cookie


def test_a_long_directory_is_sorted_in_slices_and_each_name_comes_once() -> None:
    children = {b"f%d" % number: number for number in range(40_000)}
    listing = asyncio.run(Listing.of(children))
    entries = list(listing.after(DOT_DOT))
    assert sorted(child for _, child in entries) == list(range(40_000))
    assert [at for at, _ in entries] == sorted(cookie(name) for name in children)
    middle = entries[20_000][0]
    assert list(listing.after(middle)) == entries[20_001:]
