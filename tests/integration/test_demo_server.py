"""The demo's server as a process."""

from __future__ import annotations

import socket
import subprocess
import sys

from vfs.commands.demo.server import Announcement


def test_who_connects_and_says_nothing_leaves_no_word_on_the_terminal_of_the_demo() -> None:
    words = [sys.executable, "-m", "vfs.commands.demo.server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as server:
        assert server.stdout is not None
        place = Announcement.parse(server.stdout.readline())
        with socket.create_connection(("127.0.0.1", place.port), timeout=10) as visitor:
            assert visitor.recv(4) == b"SSH-"
            visitor.sendall(b"no SSH\r\n" * 20)
            visitor.shutdown(socket.SHUT_WR)
            while visitor.recv(4096):  # until the server has done with us
                pass
        assert server.communicate(timeout=20) == ("", "")
