"""fsspec's own tests for implementations, on a real sshd.

Of its suites only `get` is about reading. The others (`open`, which is about exclusive creation, `put`, `pipe`, `cp` and
`mv`) write, and a read-only file system must refuse that: `test_filesystem.py` shows that it does. What the suite has
a file system write beforehand is written on the server's disk here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec")

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

from tests.lab.client import Client
from tests.lab.fsspec_client import home, storage_options
from tests.lab.sshd import Sshd

NUMBERS = itertools.count(1)


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
        return fsspec.filesystem("artisync", **storage_options(client, ttl="0s"))

    @pytest.fixture
    def made(self, client: Client) -> Callable[[Callable[..., str]], str]:
        """Makes a scenario on the server; where it is, relative to the root."""

        def make(scenario: Callable[..., str]) -> str:
            place = client.root / f"exp-{next(NUMBERS)}"
            source = scenario(LocalFileSystem(auto_mkdir=True), os.path.join, str(place))
            return str(Path(source).relative_to(client.root))

        return make

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, made: Any) -> str:
        return str(made(self._bulk_operations_scenario_0))

    @pytest.fixture
    def fs_glob_edge_cases_files(self, made: Any) -> str:
        return str(made(self._glob_edge_cases_files))

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, made: Any) -> str:
        return str(made(self._dir_and_file_with_same_name_prefix))

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, made: Any) -> str:
        return str(made(self._10_files_with_hashed_names))
