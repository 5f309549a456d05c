"""The port of TensorBoard."""

from __future__ import annotations

import socket

import pytest

from vfs.base.errors import PortForbidden, PortInUse
from vfs.commands import tensorboard


def test_a_port_that_is_taken_is_told_as_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortInUse):
            tensorboard.choose_port(other.getsockname()[1])


def test_a_port_that_is_not_permitted_is_not_told_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Socket)
    with pytest.raises(PortForbidden, match="may not listen on port 80"):
        tensorboard.choose_port(80)
