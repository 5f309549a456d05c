"""Each bad input, given to the real commands: one message with the cause and the next step, and nothing half-done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.client import Client
from tests.lab.listener import black_hole, listener
from tests.lab.mounted import needs_fuse
from tests.lab.sshd import Sshd, free_port, make_key
from tests.lab.waiting import eventually
from vfs.base import mount_table
from vfs.base.address import Address
from vfs.base.mount_table import MountInfo
from vfs.frontends.fuse import available

for_users = pytest.mark.skipif(os.getuid() == 0, reason="nothing is forbidden to root (scripts/test-user)")


@pytest.fixture(scope="module")
def server() -> Iterator[Sshd]:
    with Sshd() as server:
        yield server


@pytest.fixture
def client(server: Sshd, tmp_path: Path) -> Client:
    """Somebody who knows the server's key and has a profile."""
    client = Client(server, tmp_path / "artifacts", tmp_path)
    (client.root / "exp-1").mkdir(parents=True)
    (client.root / "file").write_text("")
    client.environment |= {"HOME": str(tmp_path / "home")}
    client.environment.pop("SSH_AUTH_SOCK", None)
    profile(client).parent.mkdir(parents=True)
    profile(client).write_text(
        json.dumps({"id": "1", "ssh": client.address.line(), "remote_root": str(client.root)})
    )
    known_hosts(client).write_text(server.host_line)
    return client


def profile(client: Client) -> Path:
    return client.place / "config/artisync/profiles/default.json"


def known_hosts(client: Client) -> Path:
    return client.place / "config/artisync/known_hosts"


# --- nothing half-done ----------------------------------------------------------------------------------------------


@contextmanager
def nothing_half_done(client: Client) -> Iterator[None]:
    """No mount, directory, profile or process is there afterwards that was not before, and no file is another."""
    before = files(client), mounts(client), processes(client)
    yield
    assert (files(client), mounts(client)) == before[:2]
    assert eventually(lambda: processes(client) == before[2])


def files(client: Client) -> dict[Path, bytes | None]:
    """What is there with its content, but for the cache, which is nobody's to tidy up."""
    found = [path for path in client.place.rglob("*") if not path.is_relative_to(client.cache)]
    return {
        path: path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None for path in found
    }


def mounts(client: Client) -> list[MountInfo]:
    return [mount for mount in mount_table.mounts() if mount.path.is_relative_to(client.place)]


def processes(client: Client) -> list[str]:
    """Numbers of the processes that were started with this user's environment."""
    mark = f"XDG_CONFIG_HOME={client.environment['XDG_CONFIG_HOME']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:
            continue
    return found


def refused(done: subprocess.CompletedProcess[str], cause: str, step: str) -> None:
    """It failed, and the message is a line with the cause and another with the next step."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    said, hint = done.stderr.splitlines()
    assert said.startswith("artisync: ")
    assert cause in said
    assert step in done.stderr
    assert hint.endswith((".", "?"))


def misunderstood(done: subprocess.CompletedProcess[str], cause: str, step: str) -> None:
    """The command line is told to be wrong, with how to write it."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert cause in done.stderr
    assert step in done.stderr
    assert "Traceback" not in done.stderr


# --- the server and the way there -------------------------------------------------------------------------------------


def to(client: Client, address: Address) -> list[str]:
    """The ssh line of another address."""
    return [replace(address, options=client.address.options).line()]


@contextmanager
def unknown_host(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield to(client, replace(server.address, host="no-such-host.invalid"))


@contextmanager
def nothing_listens(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield to(client, replace(server.address, port=free_port()))


@contextmanager
def no_answer(client: Client, server: Sshd) -> Iterator[list[str]]:
    with black_hole() as port:
        yield [*to(client, replace(server.address, port=port)), "--timeout", "1s"]


@contextmanager
def silence(client: Client, server: Sshd) -> Iterator[list[str]]:
    with listener(lambda connection: None) as port:
        yield [*to(client, replace(server.address, port=port)), "--timeout", "1s"]


@contextmanager
def stranger(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield to(client, replace(server.address, keys=(str(make_key(client.place / "stranger")),)))


@contextmanager
def new_container(client: Client, server: Sshd) -> Iterator[list[str]]:
    other = Path(f"{make_key(client.place / 'other')}.pub").read_text().split()[1]
    known_hosts(client).write_text(f"[127.0.0.1]:{server.port} ssh-ed25519 {other}\n")
    yield [client.address.line()]


@contextmanager
def never_seen(client: Client, server: Sshd) -> Iterator[list[str]]:
    known_hosts(client).write_text("")
    yield [client.address.line()]


@contextmanager
def open_key(client: Client, server: Sshd) -> Iterator[list[str]]:
    key = shutil.copy(server.user_key, client.place / "key")
    key.chmod(0o644)
    yield to(client, replace(server.address, keys=(str(key),)))


@contextmanager
def locked_key(client: Client, server: Sshd) -> Iterator[list[str]]:
    key = make_key(client.place / "locked", passphrase="correct horse")
    server.authorize(key)
    yield to(client, replace(server.address, keys=(str(key),)))


@contextmanager
def no_root(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield [client.address.line(), "--remote-root", str(client.root / "nothing")]


@contextmanager
def file_as_root(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield [client.address.line(), "--remote-root", str(client.root / "file")]


@contextmanager
def closed_root(client: Client, server: Sshd) -> Iterator[list[str]]:
    client.root.chmod(0)
    yield [client.address.line()]
    client.root.chmod(0o700)


# --- this machine -----------------------------------------------------------------------------------------------------


@contextmanager
def file_as_cache(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield [client.address.line(), "--cache-dir", str(known_hosts(client))]


@contextmanager
def cache_below_a_file(client: Client, server: Sshd) -> Iterator[list[str]]:
    yield [client.address.line(), "--cache-dir", str(known_hosts(client) / "cache")]


@contextmanager
def closed_cache(client: Client, server: Sshd) -> Iterator[list[str]]:
    (client.place / "closed").mkdir(mode=0o500)
    yield [client.address.line(), "--cache-dir", str(client.place / "closed/cache")]


Trouble = Callable[[Client, Sshd], AbstractContextManager[list[str]]]

TROUBLES: dict[str, tuple[Trouble, str, str]] = {
    "unknown host": (unknown_host, "no-such-host.invalid", "check its spelling"),
    "connection refused": (nothing_listens, "efuse", "pass the panel's new line"),
    "no answer": (no_answer, "no answer", "Is the VPN up"),
    "an answer without a word": (silence, "127.0.0.1", "Is the VPN up"),
    "rejected key": (stranger, "stranger (ED25519 SHA256:", "in the control panel"),
    "unknown host key": (never_seen, "SHA256:", "--accept-new-host-key"),
    "changed host key": (new_container, "was ED25519 SHA256:", "--replace-host-key"),
    "key file that others can read": (open_key, "mode 0644", "`chmod 600 "),
    "key with a passphrase, no terminal": (locked_key, "locked with a passphrase", "ssh-add"),
    "no root": (no_root, "there is no", "--remote-root"),
    "file as root": (file_as_root, "is not a directory", "--remote-root"),
    "root that may not be read": (closed_root, "cannot be listed", "--remote-root"),
    "file as cache": (file_as_cache, "a file is in the way", "--cache-dir"),
    "cache below a file": (cache_below_a_file, "a file is in the way", "--cache-dir"),
    "cache that may not be written": (closed_cache, "Permission denied", "--cache-dir"),
}
FOR_USERS = {"root that may not be read", "cache that may not be written"}


each_trouble = pytest.mark.parametrize(
    ("trouble", "cause", "step"),
    [
        pytest.param(*row, id=name, marks=[for_users] if name in FOR_USERS else [])
        for name, row in TROUBLES.items()
    ],
)


@each_trouble
def test_connect_tells_cause_and_next_step(
    client: Client, server: Sshd, trouble: Trouble, cause: str, step: str
) -> None:
    with trouble(client, server) as (line, *options), nothing_half_done(client):
        done = client.artisync(
            "connect", "--remote-root", client.root, "--cache-dir", client.cache, *options, line
        )
        refused(done, cause, step)


@needs_fuse
@each_trouble
def test_mount_tells_cause_and_next_step(
    client: Client, server: Sshd, trouble: Trouble, cause: str, step: str
) -> None:
    """Over the system's ssh, since `connect` above goes by paramiko."""
    with trouble(client, server) as (line, *options), nothing_half_done(client):
        done = client.artisync(
            *("mount", "--ssh", line, "--transport", "openssh"),
            *("--remote-root", client.root, "--cache-dir", client.cache, *options),
            client.place / "new/artifacts",
        )
        refused(done, cause, step)


def test_a_line_or_a_size_that_is_not_understood_is_wrong_usage(client: Client) -> None:
    line, torn = client.address.line(), "ssh -p 30022 user@host 'x"
    place = client.place / "new/artifacts"
    with nothing_half_done(client):
        for words in (["connect", torn], ["mount", "--ssh", torn, place]):
            misunderstood(client.artisync(*words), "no closing quotation", "looks like `ssh -p")
        for words in (
            ["connect", "--cache-size", "20Gib8", line],
            ["mount", "--cache-size", "20Gib8", place],
        ):
            misunderstood(client.artisync(*words), "'20Gib8' is not a size", "like 20GiB")


def test_a_corrupt_profile_is_told_and_left_until_there_is_another(client: Client, server: Sshd) -> None:
    profile(client).write_text('{"id": "1"')
    with nothing_half_done(client):
        refused(
            client.artisync("mount", client.place / "new/artifacts"),
            f"the profile {profile(client)} is corrupt",
            'artisync connect "ssh …"',
        )
    with nothing_listens(client, server) as [line], nothing_half_done(client):
        refused(client.artisync("connect", "--cache-dir", client.cache, line), "efuse", "Is the container")


# --- the mount point and FUSE -----------------------------------------------------------------------------------------


def mount(
    client: Client, place: Path, *words: str, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return client.artisync("mount", "--cache-dir", client.cache, *words, place, under=under)


@needs_fuse
def test_a_mount_point_that_cannot_be_one(client: Client) -> None:
    (client.place / "file").write_text("mine")
    with nothing_half_done(client):
        for place in (client.place / "file", client.place / "file/below"):
            refused(mount(client, place), f"{client.place}/file is a file", "Choose an empty directory")
        refused(mount(client, client.root), f"{client.root} is not empty", "Choose an empty directory")


@needs_fuse
@for_users
def test_a_mount_point_of_another_user(client: Client) -> None:
    with nothing_half_done(client):
        refused(mount(client, Path("/opt")), "/opt belongs to another user", "directory that you own")


@needs_fuse
def test_a_mount_point_that_is_mounted_already(client: Client) -> None:
    place, log = client.place / "artifacts-here", str(client.place / "mount.log")
    done = mount(client, place, "--log-file", log)
    assert done.returncode == 0, done.stderr
    try:
        with nothing_half_done(client):
            refused(mount(client, place), f"{place} is already mounted", "`artisync unmount`")
        assert (place / "exp-1").is_dir()
    finally:
        client.artisync("unmount", place)


@needs_fuse
def test_of_several_mounts_at_a_time_in_one_place_one_is_made(client: Client) -> None:
    place = client.place / "artifacts-here"
    starting = [client.start("mount", place) for _ in range(3)]
    said = sorted((one.communicate(timeout=30)[1], one.returncode) for one in starting)
    assert client.artisync("unmount", place).returncode == 0
    assert [code for _, code in said].count(0) == 1, said
    assert sum(f"{place} is already mounted" in text for text, _ in said) == 2
    assert not os.path.ismount(place)


def test_a_mount_point_that_would_hide_the_cache(client: Client) -> None:
    for place in (client.cache, client.place):
        refused(mount(client, place), f"{place} would hide the cache in {client.cache}", "empty directory")


@needs_fuse
@for_users
def test_allow_other_where_it_is_not_allowed(client: Client) -> None:
    if "\nuser_allow_other" in available.FUSE_CONF.read_text():
        pytest.skip("/etc/fuse.conf allows it here")
    with nothing_half_done(client):
        done = mount(client, client.place / "new/artifacts", "--allow-other")
        refused(done, "user_allow_other", "`echo user_allow_other | sudo tee -a /etc/fuse.conf`")


HIDE_FUSE = """
for name in null zero random urandom; do touch "$0/$name"; mount --bind "/dev/$name" "$0/$name"; done
mount --rbind "$0" /dev
exec "$@"
"""
"""A shell's program: run the words with a /dev that has no fuse, made in the directory $0."""


def test_without_the_device(client: Client) -> None:
    dev = client.place / "dev"
    dev.mkdir()
    own = ("unshare", "--mount", *(() if os.getuid() == 0 else ("--map-root-user",)))
    under = (*own, "sh", "-ec", HIDE_FUSE, str(dev))
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace of one's own on this machine")
    with nothing_half_done(client):
        done = mount(client, client.place / "new/artifacts", under=under)
        refused(done, "there is no /dev/fuse: `sudo modprobe fuse`", "`artisync pull` copies the files")


def test_without_libfuse(client: Client) -> None:
    client.environment["FUSE_LIBRARY_NAME"] = "none-of-this-name"
    with nothing_half_done(client):
        done = mount(client, client.place / "new/artifacts")
        refused(done, "libfuse 3 cannot be loaded", "sudo apt install fuse3 libfuse3-3")
