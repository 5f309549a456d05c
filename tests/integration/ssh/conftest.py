"""A user's machine for each of the two dialers, and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.ssh_client import (
    Place,
)
from tests.lab.sshd import Sshd
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer


@pytest.fixture(params=[ParamikoDialer, OpensshDialer], ids=["paramiko", "openssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Place(tmp_path, request.param)


@pytest.fixture
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server
