"""A small read-only SFTP server on loopback, made with paramiko's server side: the demo's cluster.

It runs as a process of its own (`python -m vfs.commands.demo.server`), so that it does not share the mount's interpreter lock.
It owns a temporary directory, says on stdout in one line of JSON where it is (`Announcement`), serves until its stdin
ends, and removes the directory. So it goes away with the process that started it, however that one ends.

Threads: main waits for the end of stdin; one accepts; paramiko has two per connection; one goes on training. They share
nothing but the stop event.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import paramiko
from paramiko.sftp import SFTP_PERMISSION_DENIED

from vfs.commands.demo import artifacts

REMOTE_ROOT = "/shared/artifacts"
"""Where the experiments are on the server, as on the cluster."""
USER = "demo"
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a client needs to know: where the server listens, and the directory of keys that it made."""

    port: int
    directory: str

    @property
    def identity(self) -> Path:
        """The private key that logs in."""
        return Path(self.directory, "id")

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with the server's key."""
        return Path(self.directory, "known_hosts")

    @property
    def tree(self) -> Path:
        """The directory that the server shows as `/`."""
        return Path(self.directory, "server")

    def line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, line: str) -> Announcement:
        """Take `line()` back. Raises ValueError."""
        return cls(**json.loads(line))


class _Login(paramiko.ServerInterface):
    """Lets one user in with one key, and gives sessions for the sftp subsystem only."""

    def __init__(self, key: paramiko.PKey) -> None:
        self._key = key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if username == USER and key == self._key else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return (
            paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        )


class _File(paramiko.SFTPHandle):
    """An open file, which paramiko reads and closes by the name `readfile`."""

    def __init__(self, fd: int) -> None:
        super().__init__(os.O_RDONLY)
        self.readfile = os.fdopen(fd, "rb", buffering=0)

    def stat(self) -> paramiko.SFTPAttributes | int:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


class _Tree(paramiko.SFTPServerInterface):
    """The files below `root`, shown as `/`, to be read only. paramiko refuses every request that is not defined here."""

    def __init__(self, server: paramiko.ServerInterface, root: Path) -> None:
        super().__init__(server)
        self._root = root

    def _local(self, path: str) -> Path:
        return self._root / self.canonicalize(path).lstrip("/")

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        entries = []
        try:
            for entry in os.scandir(self._local(path)):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                entries.append(paramiko.SFTPAttributes.from_stat(found, entry.name))
        except OSError as error:
            return _code(error)
        return entries

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._local(path).lstat())
        except OSError as error:
            return _code(error)

    stat = lstat  # there are no symlinks

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            return SFTP_PERMISSION_DENIED
        try:
            fd = os.open(self._local(path), os.O_RDONLY)
        except OSError as error:
            return _code(error)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return paramiko.SFTP_FAILURE
        return _File(fd)


def _code(error: OSError) -> int:
    return paramiko.SFTPServer.convert_errno(error.errno or 0)


def _accept(listener: socket.socket, host_key: paramiko.PKey, client_key: paramiko.PKey, root: Path) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed by serve()
            return
        transport = paramiko.Transport(connection)
        transport.daemon = True
        transport.add_server_key(host_key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Tree, root)
        # With an event the handshake goes on in the transport's own thread, and a failed one ends with it.
        transport.start_server(event=threading.Event(), server=_Login(client_key))


def serve(directory: Path) -> None:
    """Generate keys and experiments in `directory`, announce them on stdout, serve until stdin ends."""
    host_key, client_key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    listener = socket.create_server((_HOST, 0), backlog=128)
    announcement = Announcement(listener.getsockname()[1], str(directory))
    client_key.write_private_key_file(str(announcement.identity))
    name = f"[{_HOST}]:{announcement.port}"
    announcement.known_hosts.write_text(f"{name} {host_key.get_name()} {host_key.get_base64()}\n")

    root = announcement.tree / REMOTE_ROOT.lstrip("/")
    root.mkdir(parents=True)
    trainings = artifacts.generate(root)
    stop = threading.Event()
    trainer = threading.Thread(target=artifacts.keep_training, args=(trainings, stop), name="training")
    trainer.start()
    threading.Thread(
        target=_accept, args=(listener, host_key, client_key, announcement.tree), name="accept", daemon=True
    ).start()
    try:
        print(announcement.line(), flush=True)
        sys.stdin.buffer.read()
    finally:
        stop.set()
        listener.close()
        trainer.join()


def main(arguments: Sequence[str]) -> int:
    """Serve from a temporary directory below `arguments[0]`, or below the system's; remove it at the end."""
    # a visitor that is no SSH client is no news, and the terminal is the demo's
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    directory = Path(
        tempfile.mkdtemp(prefix="artisync-demo-server-", dir=arguments[0] if arguments else None)
    )
    try:
        serve(directory)
    except BrokenPipeError:  # the process that started us is gone already
        pass
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
