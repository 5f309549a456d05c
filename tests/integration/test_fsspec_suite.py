"""fsspec's own tests for implementations, on a real sshd.

Of its suites only `get` is about reading. The others (`open`, which is about exclusive creation, `put`, `pipe`, `cp` and
`mv`) write, and a read-only file system must refuse that: `tests/unit/frontends/test_filesystem.py` shows that it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fsspec")

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

from tests.lab.client import Client
from tests.lab.fsspec_client import home, storage_options
from tests.lab.sshd import Sshd
from vfs.frontends.fsspec.filesystem import ArtisyncFileSystem

NUMBERS = itertools.count(1)


class Prepared(ArtisyncFileSystem):  # type: ignore[misc,unused-ignore]
    """What the suite writes beforehand is written on the server's disk, and what it reads is read from the server."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        disk = DirFileSystem(options["remote_root"], LocalFileSystem(auto_mkdir=True))
        for name in ("mkdir", "makedirs", "touch", "pipe", "rm"):
            setattr(self, name, getattr(disk, name))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    place = tmp_path_factory.mktemp("suite")
    with Sshd(place / "artifacts") as sshd:
        client = Client(sshd, place / "artifacts", place)
        with home(client):
            yield client


class TestGet(abstract.AbstractGetTests, abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, client: Client) -> fsspec.AbstractFileSystem:
        return Prepared(**storage_options(client, ttl="0s"))

    @pytest.fixture
    def fs_path(self) -> str:
        return f"exp-{next(NUMBERS)}"
