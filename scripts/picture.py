"""Draws a terminal session as SVG: each command really runs, in a pseudo-terminal and a home of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vfs.commands.demo.server import USER, Announcement

WIDTH = 100

SESSION = (
    'artisync connect "ssh -p {port} {user}@cluster"',
    "artisync mount ./artifacts",
    "ls -l artifacts/exp-1/checkpoints",
    "artisync inspect artifacts/exp-1/checkpoints/best_model.pt",
    "artisync ls",
    "artisync status",
    "artisync doctor",
)
AFTERWARDS = "artisync unmount ./artifacts"


@contextmanager
def cluster(home: Path) -> Iterator[Announcement]:
    """The demo's server, which the SSH set-up in `home` knows as the host `cluster`."""
    words = [sys.executable, "-m", "vfs.commands.demo.server"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        found = Announcement.parse(server.stdout.readline())
        ssh = home / ".ssh"
        ssh.mkdir(mode=0o700)
        shutil.copy(found.known_hosts, ssh)
        shutil.copy(found.identity, ssh / "id_cluster")
        (ssh / "config").write_text("Host cluster\n  HostName 127.0.0.1\n  IdentityFile ~/.ssh/id_cluster\n")
        try:
            yield found
        finally:
            server.stdin.close()  # it ends with its stdin


def environment(home: Path) -> dict[str, str]:
    """Ours, without what would lead out of `home` or change how things look."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "ARTISYNC_", "SSH_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    look = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return {**kept, **look, "HOME": str(home), "PATH": path}


def shown(command: str, home: Path) -> str:
    """What the command writes to a terminal. Raises CalledProcessError when it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=home,
        env=environment(home),
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            break
        said += more
    os.close(ours)
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, command, said.decode())
    return said.decode().replace("\r\n", "\n").rstrip("\n")


def main(target: Path) -> None:
    console = Console(
        record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    with tempfile.TemporaryDirectory(prefix="artisync-") as directory:
        home = Path(directory)
        with cluster(home) as server:
            try:
                for line in SESSION:
                    command = line.format(port=server.port, user=USER)
                    print(f"$ {command}", file=sys.stderr)
                    console.print(Text(f"$ {command}", style="bold bright_white"))
                    console.print(Text.from_ansi(shown(command, home)), soft_wrap=True)
                    console.print()
            finally:
                shown(AFTERWARDS, home)
    svg = console.export_svg(title="artisync")
    # a picture asks the network for nothing
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
