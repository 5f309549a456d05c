"""What the cache remembers of the tree comes back as it was, and what is no record is none."""

from __future__ import annotations

import json
import stat

import pytest

from vfs.base.file_version import Version
from vfs.files.records import (
    FileRecord,
    KnownEntry,
    dump_listing,
    file_key,
    identity_of,
    listing_key,
    load_listing,
)
from vfs.remote.api import Attributes

RECORD = FileRecord(b"\x01" * 16, Version(5, 7), "host", b"exp-1/\xff\xfe.pt")


def test_a_file_comes_back_as_it_was() -> None:
    assert FileRecord.load(RECORD.dump()) == RECORD


@pytest.mark.parametrize("change", [{"path": 7}, {"lineage": "xy"}, {"size": None}])
def test_a_record_with_something_else_in_it_is_none(change: dict[str, object]) -> None:
    assert FileRecord.load(json.dumps({**json.loads(RECORD.dump()), **change}).encode()) is None


@pytest.mark.parametrize("data", [None, b"", b"[]", b"\xff", b"{}", b'[["a"]]', b"[[1,2,3,4,5,6]]"])
def test_what_is_no_record_is_none(data: bytes | None) -> None:
    assert FileRecord.load(data) is None
    assert not load_listing(data)


def test_a_listing_comes_back_as_it_was() -> None:
    entries = [
        KnownEntry(b"exp-1", Attributes(stat.S_IFDIR | 0o555, 0, 9), False, b""),
        KnownEntry(b"\xff", Attributes(stat.S_IFLNK | 0o777, 3, 9), False, b"to/\xfe"),
        KnownEntry(b"data", Attributes(stat.S_IFREG | 0o444, 3, 9), True, b""),
    ]
    assert load_listing(dump_listing(entries)) == entries


def test_the_name_of_a_record_tells_the_identity() -> None:
    for identity in ("profile:0f:/shared/a:b", "me@::1:/shared"):
        assert identity_of(file_key(identity, b"/shared/x")) == identity
        assert identity_of(listing_key(identity, b"")) == identity
