"""The tests' own sshd leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.lab.processes import Program, descendants, running
from tests.lab.sftp_between import text
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually


def test_a_session_that_lost_its_connection_and_waits_in_a_fifo_ends_with_the_server(tmp_path: Path) -> None:
    fifo = os.fsencode(tmp_path / "fifo")
    os.mkfifo(fifo)
    hello, look = b"\1\0\0\0\3", b"\7\0\0\0\1" + text(b"/")
    opened = b"\3\0\0\0\2" + text(fifo) + b"\0\0\0\1\0\0\0\0"
    with Sshd() as sshd:
        words = [*sshd.address.line().split(), "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null"]
        pipe = subprocess.PIPE
        with Program([*words, "-s", "sftp"], stdin=pipe, stdout=pipe, stderr=pipe) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"".join(map(text, (hello, look, opened))))
            client.stdin.flush()
            for _ in (hello, look):
                client.stdout.read(int.from_bytes(client.stdout.read(4)))
            client.kill()
        waiting = [pid for pid in descendants(sshd.pid) if b"internal-sftp" in command(pid)]
        assert eventually(lambda: descendants(sshd.pid) == waiting)
    assert len(waiting) == 1
    assert not running(waiting[0])


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
