"""Linux's own NFS client, in a virtual machine, against the export of a real server's files: one boot for all cases."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mounted import write
from tests.lab.nfs_exported import Exported
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd
from vfs.frontends.mountpoint import unmount_command
from vfs.frontends.nfs import command

LAB = Path(__file__).parents[1] / "lab"
NEEDED = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio", "gcc": "gcc"}
MISSING = [package for program, package in NEEDED.items() if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the guest is an x86-64 machine"),
]
TIMEOUT = 5.0

Told = dict[str, list[str]]


class Changes:
    """What the guest asks for is done on the server."""

    def __init__(self, root: Path, relay: Relay, exported: Exported) -> None:
        self._root = root
        self._relay = relay
        self._exported = exported

    def grow(self) -> None:
        with (self._root / "grows.log").open("ab") as file:
            file.write(b"more\n" * 5000 + b"last\n")

    def replace(self) -> None:
        write(self._root / "replacement", b"new" * (2 << 20)).rename(self._root / "replaced.bin")

    def remove(self) -> None:
        (self._root / "goes.bin").unlink()

    def come(self) -> None:
        write(self._root / "comes.bin", b"here")

    def darkness(self) -> None:
        self._relay.blackhole(True)

    def light(self) -> None:
        self._relay.blackhole(False)

    def end(self) -> None:
        os.kill(self._exported.pid, 9)


def fill(root: Path) -> None:
    for number in range(20):
        write(root / f"tree/d{number % 4}/f{number}.txt", b"x" * number)
    write(root / "tree/d0/f.txt", b"through a link")
    (root / "tree/link").symlink_to("d0")
    for number in range(2000):
        write(root / f"many/{number}", b"")
    write(root / "big.bin", os.urandom(16 << 20))
    write(root / "dark.bin", os.urandom(1 << 20))
    write(root / "mapped.bin", os.urandom((4 << 20) + 123))
    write(root / "grows.log", b"line\n" * 5000)
    write(root / "replaced.bin", b"old" * (1 << 20))
    write(root / "goes.bin", b"going")
    write(root / "small.txt", b"small")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Told]]:
    """The root on the server, and what the guest told."""
    place = tmp_path_factory.mktemp("nfs")
    root = place / "root"
    fill(root)
    kept = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "artisync-tests/nfs-guest"
    told: Told = defaultdict(list)
    with (
        Sshd() as sshd,
        Relay(sshd.port) as relay,
        Exported(sshd, root, place, port=relay.port, timeout=TIMEOUT) as exported,
    ):
        changes = Changes(root, relay, exported)
        words = [LAB / "nfs-guest", kept, _script(place, exported)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, errors="replace") as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="")
                if found := re.fullmatch(r"@(\w+)", line.strip()):
                    do: Callable[[], None] = getattr(changes, found[1])
                    do()
                elif found := re.fullmatch(r"=(\w+) ?(.*)", line.strip()):
                    told[found[1]].append(found[2])
        if not (kept / "boot").exists():
            pytest.skip("Debian's kernel package could not be downloaded")
        yield root, told


def _script(place: Path, exported: Exported) -> Path:
    """The guest's script, with the commands by which artisync mounts and unmounts; there, this machine is 10.0.2.2."""
    mount = command.mount_command(
        exported.port, exported.path(), Path("/mnt"), timeout=TIMEOUT, ttl=2.0, system="linux"
    )
    unmount = unmount_command(Path("/mnt"), force=True, system="linux")
    commands = f"MOUNT() {{ {shlex.join(mount)}; }}\nUNMOUNT() {{ {shlex.join(unmount)}; }}\n"
    script = place / "script"
    script.write_text(commands.replace("127.0.0.1", "10.0.2.2") + (LAB / "nfs-guest-script").read_text())
    return script


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def seconds(told: Told, name: str) -> float:
    (text,) = told[name]
    assert text.isdigit(), text
    return int(text) / 10


def test_the_tree_is_the_servers(guest: tuple[Path, Told]) -> None:
    root, told = guest
    names = sorted(["tree", *(str(path.relative_to(root)) for path in (root / "tree").rglob("*"))])
    assert told["tree"] == [md5("".join(f"{name}\n" for name in names).encode())]
    assert told["names"] == ["2000"]
    assert told["link"] == ["d0 through a link"]


def test_bytes_are_the_servers_read_and_mapped(guest: tuple[Path, Told]) -> None:
    root, told = guest
    assert told["big"] == [md5((root / "big.bin").read_bytes())]
    assert told["again"] == told["big"]
    assert told["mapped"] == [str(sum((root / "mapped.bin").read_bytes()))]


def test_an_open_file_shows_what_is_appended(guest: tuple[Path, Told]) -> None:
    root, told = guest
    assert seconds(told, "tailed") <= 3.5
    assert told["grown"] == [md5((root / "grows.log").read_bytes())]


def test_a_replaced_file_is_stale_for_the_old_handle_and_new_for_a_new_one(guest: tuple[Path, Told]) -> None:
    root, told = guest
    assert seconds(told, "replaced") <= 3.5
    assert told["new"] == [md5((root / "replaced.bin").read_bytes())]
    (text,) = told["old"]
    others, stale = map(int, text.split())
    assert others == 0  # bytes that are not of the old version
    assert stale == 1


def test_names_go_and_come(guest: tuple[Path, Told]) -> None:
    _, told = guest
    assert seconds(told, "removed") <= 3.5
    assert "No such file" in told["absent"][0]
    assert seconds(told, "came") <= 3.5


def test_every_change_is_refused_as_read_only(guest: tuple[Path, Told]) -> None:
    _, told = guest
    assert len(told["change"]) == 7
    for said in told["change"]:
        assert "Read-only file system" in said


def test_without_an_answer_what_is_known_is_read_and_the_rest_fails_in_time(guest: tuple[Path, Told]) -> None:
    root, told = guest
    assert told["known"] == ["small"]
    assert "error" in told["dark"][0]
    assert int(told["waited"][0]) <= TIMEOUT + 6
    assert seconds(told, "light") <= 25
    assert told["lit"] == [md5((root / "dark.bin").read_bytes())]


def test_a_server_that_died_is_an_error_in_time_and_can_be_unmounted(guest: tuple[Path, Told]) -> None:
    _, told = guest
    assert seconds(told, "dead") <= 3 * (TIMEOUT + command.SPARE_SECONDS)  # for each of the calls of an `ls`
    assert told["unmounted"] == ["yes"]
