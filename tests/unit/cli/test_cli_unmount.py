"""`artisync unmount`; the kernel is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.live_mount import live
from tests.unit.conftest import Artisync, Kernel, Said
from vfs.control import register, sockets

LINE = "ssh -p 30022 user@host"
Json = dict[str, Any]


pytestmark = pytest.mark.usefixtures("home")


@contextmanager
def mount_process(
    place: Path, program: str, verbs: dict[str, Any] | None = None, device: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that the register has as the mount of this place."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with live(place, verbs or {}):
        path = sockets.socket_path(place).with_suffix(".json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": process.pid, "device": device}))
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


ENDS_LATER = "import sys, time; print('up', flush=True); time.sleep(0.5)"
STAYS = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


def test_unmount_returns_after_the_end_of_the_mounts_process(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    with mount_process(home / "m", ENDS_LATER) as process:
        assert artisync("unmount", "m") == Said(0, "", f"Unmounted {home / 'm'}.\n")
        assert process.poll() == 0
    assert kernel.asked == [(home / "m", False)]


def test_a_process_that_does_not_end_is_told(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.cli.unmount.PATIENCE", 0.05)
    with mount_process(home / "m", STAYS) as process:
        said = artisync("unmount", "m")
    assert said.code == 1
    assert f"process {process.pid} is still running" in said.err


def test_a_mount_is_found_where_it_is_after_a_directory_above_it_was_renamed(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    moved = home / "moved to/m"
    kernel.mounted = {moved: kernel.mounted[home / "m"]}
    with mount_process(home / "m", ENDS_LATER, device=kernel.device):
        assert [record.mountpoint for record in register.mounts()] == [moved]
        assert f"nothing is mounted at {home / 'm'}" in artisync("unmount", "m").err
        assert artisync("unmount") == Said(0, "", f"Unmounted {moved}.\n")


def test_another_users_mount_is_told(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.user = 7
    monkeypatch.setattr(os, "getuid", lambda: 8)
    said = artisync("unmount", "m")
    assert (said.code, kernel.asked) == (1, None)
    assert "is another user's; only who mounted it and root can unmount it" in said.err


def test_the_command_itself_does_not_stand_in_the_mount(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mount_process(home / "m", ENDS_LATER):
        (home / "m").mkdir(exist_ok=True)
        monkeypatch.chdir(home / "m")
        assert artisync("unmount").code == 0
        assert Path.cwd() == Path("/")


def test_a_busy_mount_stays_and_who_uses_it_is_told(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    kernel.busy = True
    with mount_process(home / "m", STAYS) as process:
        said = artisync("unmount", "m")
        assert process.poll() is None
    assert said.code == 1
    assert "in use by bash (7)" in said.err
    assert "--force" in said.err


def test_open_files_stay_readable_after_an_unmount(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    kernel.busy, kernel.standing = True, False
    with mount_process(home / "m", STAYS) as process:
        said = artisync("unmount", "m")
        assert process.poll() is None
    assert said.code == 0
    assert "bash (7) can go on reading" in said.err
    assert kernel.mounted == {}


def test_who_waits_for_the_server_without_an_open_file_is_told(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    async def waiting(_: Json) -> Json:
        return {"threads": [os.getpid(), 0]}

    kernel.busy = True
    kernel.users_named = False
    with mount_process(home / "m", STAYS, {"waiting": waiting}) as process:
        said = artisync("unmount", "m")
        assert process.poll() is None
    assert said.code == 1
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert f"in use by {name} ({os.getpid()}), waiting for the server" in said.err
    assert "--force" in said.err


@pytest.mark.parametrize("program", [STAYS, DEAF])
def test_force_unmounts_a_busy_mount_and_ends_its_process_even_a_hanging_one(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr("vfs.cli.unmount.FORCED_PATIENCE", 0.2)
    kernel.busy = True
    with mount_process(home / "m", program) as process:
        assert artisync("unmount", "--force", "m").code == 0
        assert process.poll() is not None
    assert kernel.asked == [(home / "m", True)]


def test_a_dead_mount_is_cleaned_up_also_when_a_shell_stands_in_it(
    artisync: Artisync, kernel: Kernel, home: Path
) -> None:
    kernel.busy = kernel.dead = True
    said = artisync("unmount", "m")
    assert said == Said(0, "", f"Unmounted {home / 'm'}, whose process had died.\n")
    assert kernel.mounted == {}


def test_a_busy_mount_that_nobody_registered_stays(artisync: Artisync, kernel: Kernel) -> None:
    kernel.busy = True
    assert artisync("unmount", "m").code == 1
    assert kernel.mounted != {}


def test_unmounting_what_is_not_mounted_is_an_error(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    said = artisync("unmount", "other")
    assert said.code == 1
    assert f"nothing is mounted at {home / 'other'}" in said.err


def test_another_programs_mount_is_left_alone(artisync: Artisync, kernel: Kernel, home: Path) -> None:
    kernel.mounted[home / "m"] = "fuse.sshfs"
    said = artisync("unmount", "--force", "m")
    assert said.code == 1
    assert "fuse.sshfs" in said.err
    assert kernel.asked is None


def test_without_an_argument_it_is_the_only_mount(
    artisync: Artisync, kernel: Kernel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(home / "m", {}):
        (record,) = register.mounts()
        kept = record.socket.with_suffix(".json").read_text()
    said = artisync("unmount")
    assert (said.code, said.err.splitlines()[0]) == (1, "artisync: nothing is mounted")
    record.socket.with_suffix(".json").write_text(kept)  # its process was killed
    kernel.dead = True
    with live(home / "n", {}):
        said = artisync("unmount")
        assert said.code == 2
        assert f"there are several mounts: {home / 'm'}, {home / 'n'}" in said.err
        assert kernel.mounted
    assert artisync("unmount").code == 0
    assert kernel.mounted == {}
