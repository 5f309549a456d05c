"""A paramiko session that sets itself up in the fewest round trips, and ends without a traceback.

There are seven until SFTP's first answer: TCP, identification and KEXINIT, key exchange, login, channel, subsystem, SFTP.
paramiko waits once more before each login, for the service, though RFC 4253, section 10, wants that only where the key
exchange did not prove the server. SFTP's first packet goes out behind the request for the subsystem as soon as the channel's
window allows; that of OpenSSH's server opens with the answer.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any, cast

import paramiko
from paramiko import Message
from paramiko.auth_handler import AuthHandler

from vfs.remote.ssh.paramiko_packets import Packets

log = logging.getLogger(__name__)

WINDOW = 64 << 20
"""Bytes that the server may send ahead of our reading: 100 ms of 5 Gbit/s."""

PACKET = 256 << 10
"""Largest packet that the server may send; OpenSSH itself makes none that are larger."""

REKEY_BYTES = (1 << 36) - (1 << 30)
"""AES may encrypt 2**32 blocks of 16 bytes with one key: RFC 4344, section 3.2. A gigabyte of it is left for
what is still on the way when we ask for new keys."""

REKEY_PACKETS = 1 << 31
"""RFC 4344, section 3.1."""


class Session(paramiko.Transport):
    """Used by one dialling thread; its own thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(
            sock, default_window_size=WINDOW, default_max_packet_size=PACKET, packetizer_class=Packets
        )
        self.packetizer.REKEY_BYTES = REKEY_BYTES
        self.packetizer.REKEY_PACKETS = REKEY_PACKETS
        self.service_asked = False
        self.offered: list[str] = []
        """The server's ciphers, once the key exchange is over."""

    def run(self) -> None:
        """As paramiko's. Afterwards it is in no cycle: the garbage collector never frees what it has frozen."""
        try:
            super().run()
        finally:
            cast("Packets", self.packetizer).let_go()
            mine = cast("Any", self)
            mine._handler_table.clear()
            mine.auth_handler = mine.kex_engine = None
            error = mine.saved_exception
            while error is not None:  # their tracebacks have the frames of this thread
                error.__traceback__, error = None, error.__context__

    def auth_publickey(self, username: str, key: paramiko.PKey, event: Any = None) -> list[str]:
        """As paramiko's; a further factor that is wanted is returned."""
        login, event = self._login()
        login.auth_publickey(username, key, event)
        return list(login.wait_for_response(event))

    def auth_none(self, username: str) -> list[str]:
        """As paramiko's."""
        login, event = self._login()
        login.auth_none(username, event)
        return list(login.wait_for_response(event))

    def ask_for_sftp(self, channel: paramiko.Channel) -> None:
        """Ask, and do not wait: a server that has none closes the channel, with `channel.event_ready` false."""
        channel._wait_for_event = lambda: None  # type: ignore[attr-defined]
        channel.invoke_subsystem("sftp")

    def _really_parse_kex_init(self, m: Message, ignore_first_byte: bool = False) -> Any:
        parsed = super()._really_parse_kex_init(m, ignore_first_byte)  # type: ignore[misc]
        self.offered = parsed["server_encrypt_algo_list"]
        return parsed

    def _login(self) -> tuple[AuthHandler, threading.Event]:
        self.auth_handler = _Login(cast("Any", self))
        return self.auth_handler, threading.Event()

    def _log(self, level: int, message: str | list[str], *arguments: Any) -> None:
        """Debug output, one line: what goes wrong is raised as an error anyway. A list is a traceback, and is left out."""
        if level >= logging.INFO and not isinstance(message, list):
            log.debug("%s", message % arguments if arguments else message)


class _Login(AuthHandler):
    """Requests the service once per session, and sends the login without waiting for the answer."""

    def _request_auth(self) -> None:
        session = cast("Session", self.transport)
        if not session.service_asked:
            session.service_asked = True
            super()._request_auth()  # type: ignore[misc]
        accepted = Message()
        accepted.add_string("ssh-userauth")
        super()._parse_service_accept(Message(accepted.asbytes()))  # type: ignore[misc]

    def _parse_service_accept(self, _: Message) -> None:
        """The answer to the service request; nothing waits for it."""
