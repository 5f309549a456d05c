"""One demo from start to end: server, mount, what to try, and nothing left behind.

The server process owns every file of the demo but the mount point; it removes them when our end of its stdin closes,
so that even a `kill -9` of this process leaves a dead mount point and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from vfs.base import paths, reexec
from vfs.base.address import Address
from vfs.base.errors import MountError
from vfs.base.settings import Settings
from vfs.commands import mount
from vfs.commands.demo.server import REMOTE_ROOT, USER, Announcement
from vfs.frontends import mountpoint as mountpoints

log = logging.getLogger(__name__)

_CACHE_SIZE = 1 << 30
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(mountpoint: Path | None, tell: Callable[[str], None]) -> int:
    """Show the demo at `mountpoint` (a fresh temporary directory for None) until a signal or an unmount.

    The exit code: that of the mount, or 128 plus the signal that came before the mount was up. Directories that were
    missing are removed again. Raises MountError when the server does not start, and as `mount.run`. Blocks; main
    thread only, since it handles signals.
    """
    with contextlib.ExitStack() as cleanup:
        _signals_end_it(cleanup)
        tell("Generating two experiments and starting a server for them …")
        announcement = cleanup.enter_context(_server())
        if mountpoint is None:
            mountpoint = Path(tempfile.mkdtemp(prefix="artisync-demo-"))
            cleanup.callback(paths.remove, [mountpoint])
        cleanup.callback(paths.remove, mountpoints.absent(mountpoint))
        shown = mountpoint

        def ready(message: str) -> None:
            tell(what_to_try(shown) if not message else f"{message}\n{what_to_try(shown)}")

        try:
            code = mount.run(settings(announcement), mountpoint, ready=ready)
        finally:
            _ignore_signals()  # once the mount is over they would end this process at once
        tell("Cleaning up …")
        return code


def settings(announcement: Announcement) -> Settings:
    """What mounts the demo's server; nothing of it lies outside the server's own directory."""
    directory = Path(announcement.directory)
    # The user's ~/.ssh/config may have a `Host *` that leads elsewhere.
    direct = (("HostName", "127.0.0.1"), ("ProxyCommand", "none"), ("IdentitiesOnly", "yes"))
    address = Address(
        "127.0.0.1", announcement.port, USER, (str(announcement.identity),), jump="none", options=direct
    )
    return Settings(
        address=address,
        identity=f"demo:{directory.name}",
        remote_root=REMOTE_ROOT,
        cache_dir=directory / "cache",
        cache_size=_CACHE_SIZE,
        known_hosts=announcement.known_hosts,
    )


def what_to_try(mountpoint: Path) -> str:
    """The text for people once the mount answers."""
    here = Path(os.path.relpath(mountpoint)) if mountpoint.is_relative_to(Path.cwd()) else mountpoint
    experiment = here / "exp-1"
    best = json.dumps(str(experiment / "checkpoints/best_model.pt"), ensure_ascii=False)
    code = f'import torch; print(torch.load({best})["epoch"])'  # double quotes: a shell's are around them
    commands = {
        "the tree, as it is on the server": ["ls", "-lR", str(here)],
        "the log of a training that is running": ["tail", "-f", str(experiment / "logs/console.log")],
        "its curves, as they grow (pip install tensorboard)": [
            "tensorboard",
            "--reload_interval=2",
            "--logdir",
            str(experiment / "tensorboard"),
        ],
        "its best model, replaced now and then (pip install torch)": ["python3", "-c", code],
    }
    lines = "\n".join(f"  # {what}\n  {shlex.join(words)}\n" for what, words in commands.items())
    return f"\nTwo experiments are mounted at {here}. In another terminal, try:\n\n{lines}\nCtrl-C here ends the demo."


@contextlib.contextmanager
def _server() -> Iterator[Announcement]:
    """The server process, from the moment that it listens to its end. Raises MountError when it does not start."""
    with (
        contextlib.ExitStack() as after,
        subprocess.Popen(  # its stdin is closed with the block, and its end awaited
            reexec.words(module="vfs.commands.demo.server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The Ctrl-C is for us; the server goes when we are done with the mount.
            start_new_session=True,
            env=reexec.environment(),
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise MountError(f"the demo's server ended at once, with status {process.wait()}")
        announcement = Announcement.parse(line)
        after.callback(shutil.rmtree, announcement.directory, ignore_errors=True)
        log.debug("the server %d listens on port %d", process.pid, announcement.port)
        yield announcement


def _signals_end_it(cleanup: contextlib.ExitStack) -> None:
    """Turn the first signal into SystemExit, so that everything is undone; `cleanup` restores the handlers."""

    def end(number: int, _: object) -> NoReturn:
        _ignore_signals()
        raise SystemExit(128 + number)

    for number in _ENDING:
        cleanup.callback(signal.signal, number, signal.signal(number, end))


def _ignore_signals() -> None:
    """While things are undone, impatience must not stop it."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
