"""A server on loopback, and a user of it. A module that needs more of them has fixtures of its own by these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    with Relay(sshd.port) as relay:
        yield relay


@pytest.fixture
def client(sshd: Sshd, root: Path, tmp_path: Path) -> Iterator[Client]:
    """Somebody who reaches the module's `root`."""
    client = Client(sshd, root, tmp_path)
    yield client
    client.end()
