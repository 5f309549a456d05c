"""Somebody with a dialer, an ssh configuration and known_hosts files, for tests against a real sshd."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually
from vfs.base import errors
from vfs.base.address import Address
from vfs.remote.ssh.loop_reader import LoopReader
from vfs.remote.ssh.openssh import OpensshDialer
from vfs.remote.ssh.paramiko_dialer import ParamikoDialer
from vfs.remote.ssh.prompts import Prompts
from vfs.remote.ssh.transport import Transport

AnyDialer = type[ParamikoDialer] | type[OpensshDialer]

PASSPHRASE = "correct horse battery staple"


class Person:
    """Somebody at a terminal, with answers prepared."""

    def __init__(self, *, accepts: bool = True, passphrases: list[str | None] | None = None) -> None:
        self.accepts = accepts
        self.passphrases = passphrases or []
        self.shown: list[tuple[str, str | None]] = []
        self.asked: list[str] = []

    def accept_host_key(self, host: str, kind: str, fingerprint: str, old_fingerprint: str | None) -> bool:
        self.shown.append((fingerprint, old_fingerprint))
        return self.accepts

    def passphrase(self, key_file: str) -> str | None:
        self.asked.append(key_file)
        return self.passphrases.pop(0) if self.passphrases else None


class Place:
    """A user's machine: our known_hosts, the user's, a configuration of ssh, and one of the two dialers."""

    def __init__(self, directory: Path, kind: AnyDialer) -> None:
        self.directory = directory
        self.kind = kind
        self.ours = directory / "ours" / "known_hosts"
        self.theirs = directory / "user_known_hosts"
        self.config = directory / "config"
        self.configure("")

    def configure(self, text: str) -> None:
        self.config.write_text(f"{text}\nHost *\n  UserKnownHostsFile {self.theirs}\n")

    def trust(self, server: Sshd) -> None:
        with self.theirs.open("a") as f:
            f.write(server.host_line)

    def dialer(
        self,
        address: Address,
        person: Person | None = None,
        *,
        accept_new: bool = False,
        replace_key: bool = False,
    ) -> ParamikoDialer | OpensshDialer:
        return self.kind(
            address,
            self.ours,
            prompts=Prompts(person),
            accept_new=accept_new,
            replace=replace_key,
            ssh_config=self.config,
        )


class Conversation:
    """A stream whose bytes are received by a thread of its own, for a test that waits for them."""

    def __init__(self, stream: Transport) -> None:
        self._stream = stream
        self._buffer = memoryview(bytearray(1 << 16))
        self._came = bytearray()
        self._changed = threading.Condition()
        self._over = False
        self._reading = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._receive()), daemon=True)
        self._thread.start()
        self._reading.wait()

    async def _receive(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._reader = LoopReader(self._loop)
        self._reading.set()
        self._stream.receive(self, self._reader)
        await self._end.wait()
        self._reader.stop()

    def over(self) -> None:
        self._end.set()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def get_buffers(self) -> list[memoryview]:
        return [self._buffer]

    def received(self, count: int) -> None:
        self.feed([self._buffer[:count]])

    def feed(self, data: Sequence[memoryview]) -> None:
        self._reading.wait()
        with self._changed:
            self._came += b"".join(data)
            self._changed.notify_all()

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the stream."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._came) >= count or self._over, 60)
            data = bytes(self._came[:count])
            del self._came[:count]
            return data

    def ended(self, seconds: float) -> bool:
        """Wait for the end of the stream, with nothing left to take."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over, seconds) and not self._came

    def stop_reading(self) -> None:
        """Receive nothing more until it is closed."""
        self._reading.clear()

    def send(self, data: bytes) -> None:
        self._stream.send(data)

    def close(self) -> None:
        self._reading.set()
        self._reader.call(self.over)
        self._thread.join()
        self._stream.close()


@contextmanager
def connected(dialer: ParamikoDialer | OpensshDialer, timeout: float = 10) -> Iterator[Conversation]:
    """A conversation after the server's SFTP VERSION (draft-ietf-secsh-filexfer-02, section 4) was received."""
    conversation = Conversation(dialer.dial(timeout))
    try:
        head = conversation.take(9)
        assert (head[4], head[5:9]) == (2, b"\0\0\0\3")
        conversation.take(struct.unpack(">I", head[:4])[0] - 5)
        yield conversation
    finally:
        conversation.close()


def fails(
    dialer: ParamikoDialer | OpensshDialer, kind: type[errors.ConnectError], *said: str, timeout: float = 10
) -> str:
    """The connection fails with that very class; its text holds `said`."""
    with pytest.raises(errors.ConnectError) as caught, connected(dialer, timeout):
        pass
    text = str(caught.value)
    assert type(caught.value) is kind, text
    for part in said:
        assert part in text
    return text


def children() -> list[int]:
    """Our child processes that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(entry.name))
    return found


@contextmanager
def ssh_agent(directory: Path, monkeypatch: pytest.MonkeyPatch, *keys: Path) -> Iterator[None]:
    path = directory / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        assert eventually(path.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        for key in keys:
            subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL)
        yield
    finally:
        agent.kill()
        agent.wait()
