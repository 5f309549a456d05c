"""One record of a cache that others may be using, read without a trace: nothing is made, locked, written or repaired."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from vfs.cache.database import DATABASE
from vfs.cache.groups import Damaged
from vfs.cache.records import unseal

WAIT_SECONDS = 0.1
"""The longest wait for a process that is just changing the database."""


def peek(directory: Path, key: str) -> bytes | None:
    """A record's value; None when there is none, or it cannot be had for whatever reason. Any thread."""
    uri = f"file:{quote(str(directory / DATABASE), errors='surrogateescape')}?mode=ro"
    query = "SELECT value FROM Cache WHERE key = ? AND raw = 1 AND filename IS NULL"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS)
        try:
            row = connection.execute(query, (key,)).fetchone()
        finally:
            connection.close()
        return unseal(key, row[0]) if row is not None else None
    except (sqlite3.Error, Damaged):
        return None
