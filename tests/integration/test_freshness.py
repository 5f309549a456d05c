"""A change on the server through the kernel's caches: seen within the TTL, and never mixed."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.memory_stack import tagged
from tests.lab.mounted import Mounted, needs_fuse, settle
from tests.lab.processes import Program
from tests.lab.sshd import Sshd
from tests.lab.waiting import eventually

pytestmark = needs_fuse

TTL = 0.5
SLACK = 1.0
"""Seconds that a busy machine may take on top."""
TICK = 0.05
"""Seconds by which the kernel's clock, which counts in ticks, may be behind, and more."""
BIG = 3 << 20


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    place = tmp_path_factory.mktemp("freshness")
    with Sshd(place / "artifacts") as sshd:
        mounted = Mounted(sshd, place / "artifacts", place, "--ttl", "500ms", "--timeout", "6s")
        with mounted:
            yield mounted


@pytest.fixture
def there(mounted: Mounted) -> Path:
    """A directory on the server that belongs to one run of one test."""
    return Path(tempfile.mkdtemp(dir=mounted.root))


@pytest.fixture
def here(mounted: Mounted, there: Path) -> Path:
    """The same directory in the mount."""
    path = mounted.path / there.name
    assert eventually(path.is_dir)
    return path


def old(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    settle(path)


def seconds_until(true: Callable[[], bool]) -> float:
    """How long it takes until that is so, 5 seconds at most."""
    began = time.monotonic()
    assert eventually(true, 5), "not seen at all"
    return time.monotonic() - began


Change = Callable[[Path], object]
Look = Callable[[Path], object]


def replace(path: Path) -> None:
    path.with_name("temporary").write_bytes(b"67890")
    path.with_name("temporary").rename(path)


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def turn(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[str, Change, Look, object]] = {
    "a new file": ("nothing", lambda path: path.write_bytes(b"new"), Path.exists, True),
    "a new directory": ("nothing", Path.mkdir, Path.is_dir, True),
    "a removal": ("file", Path.unlink, Path.exists, False),
    "a removed directory": ("directory", Path.rmdir, Path.exists, False),
    "growth": ("file", lambda path: path.open("ab").write(b"6"), lambda path: path.stat().st_size, 6),
    "a rewrite in place": ("file", lambda path: path.write_bytes(b"67890"), Path.read_bytes, b"67890"),
    "a replacement by rename": ("file", replace, Path.read_bytes, b"67890"),
    "a file that became a directory": ("file", turn, Path.is_dir, True),
    "chmod": ("file", lambda path: path.chmod(0o400), lambda path: path.stat().st_mode & 0o777, 0o400),
    "a retargeted link": ("link", retarget, lambda path: str(path.readlink()).endswith("elsewhere"), True),
}


@pytest.mark.parametrize("listed", [False, True], ids=["by name", "listed"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_within_the_ttl(there: Path, here: Path, name: str, listed: bool) -> None:
    before, change, look, want = CHANGES[name]
    path, shown = there / "x", here / "x"
    if before == "file":
        old(path, b"12345")
    elif before == "directory":
        path.mkdir()
    elif before == "link":
        path.symlink_to("somewhere")
    assert eventually(lambda: os.path.lexists(shown) == (before != "nothing"))
    if listed:
        os.listdir(here)
    if before != "nothing":
        assert look(shown) != want
    change(path)
    assert seconds_until(lambda: _try(look, shown) == want) <= TTL + SLACK


def _try(look: Look, path: Path) -> object:
    try:
        return look(path)
    except FileNotFoundError:
        return None


def shown_whole(here: Path, there: Path) -> bool:
    """Whether the checkpoint is there, and as long as on the server: it may have been listed while it was written."""
    return (here / "ck.pt").exists() and (here / "ck.pt").stat().st_size == (there / "ck.pt").stat().st_size


def test_a_name_that_was_absent_is_seen_when_it_comes(there: Path, here: Path) -> None:
    os.listdir(here)
    for _ in range(100):
        assert not (here / "later").exists()
    (there / "later").write_bytes(b"")
    assert seconds_until((here / "later").exists) <= TTL + SLACK


def test_an_open_at_any_moment_gives_one_whole_version_that_is_not_older_than_the_ttl(
    there: Path, here: Path
) -> None:
    versions: list[tuple[float, bytes]] = []
    failures = set()
    for number in range(4):
        data = tagged(b"%d" % number, BIG)
        if number % 2:
            (there / "temporary").write_bytes(data)
            (there / "temporary").rename(there / "ck.pt")
        else:
            (there / "ck.pt").write_bytes(data)
        versions.append((time.monotonic(), data))
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                got = (here / "ck.pt").read_bytes()
            except OSError as error:
                failures.add((error.errno, number > 0))
                continue
            replaced = [at for at, _ in versions[1:]] + [float("inf")]
            pairs = zip(versions, replaced, strict=True)
            explained = [data for (_, data), at in pairs if at >= began - TTL - SLACK]
            # what is written anew in place is empty on the server too, between its truncation and the first write
            assert got in explained or (got == b"" and number % 2 == 0)
    assert failures <= {(errno.ESTALE, True), (errno.ESTALE, False), (errno.ENOENT, False)}


def test_a_file_that_is_rewritten_in_place_for_seconds_is_given_whole(there: Path, here: Path) -> None:
    old(there / "ck.pt", tagged(b"old", BIG))
    assert eventually(lambda: shown_whole(here, there))
    new = tagged(b"new", BIG)
    with (there / "ck.pt").open("r+b", buffering=0) as file:
        for part in range(0, BIG, BIG // 6):
            file.write(new[part : part + BIG // 6])
            time.sleep(0.2)
            if part == BIG // 2:
                reading = subprocess.Popen(["cat", here / "ck.pt"], stdout=subprocess.PIPE)
    out, _ = reading.communicate(timeout=30)
    assert reading.returncode == 0
    assert out == new


def test_one_open_finds_the_new_version_although_the_kernel_knows_the_old_one(
    there: Path, here: Path
) -> None:
    old(there / "ck.pt", tagged(b"old", BIG))
    assert eventually(lambda: shown_whole(here, there))
    with (here / "ck.pt").open("rb", buffering=0) as before:
        assert before.read(100) == tagged(b"old", 100)
        (there / "t").write_bytes(tagged(b"new", BIG))
        settle(there / "t")
        os.utime(there / "t", (1_700_000_100, 1_700_000_100))
        (there / "t").rename(there / "ck.pt")
        time.sleep(TTL + TICK)
        assert (here / "ck.pt").read_bytes() == tagged(b"new", BIG)
        with pytest.raises(OSError, match="Stale") as caught:
            os.pread(before.fileno(), 100, 2 << 20)
        assert caught.value.errno == errno.ESTALE
        assert os.fstat(before.fileno()).st_ino != (here / "ck.pt").stat().st_ino


MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(mapped[:8].decode(), flush=True)
sys.stdin.readline()
print(mapped[:8].decode(), flush=True)
print(mapped[-8:].decode(), flush=True)
"""


def test_a_mapping_of_a_version_that_is_gone_gives_its_own_pages_or_sigbus(there: Path, here: Path) -> None:
    size = 16 << 20
    old(there / "ck.pt", tagged(b"old", size))
    assert eventually(lambda: shown_whole(here, there))
    words = [sys.executable, "-c", MAPPED, here / "ck.pt"]
    with Program(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "old.....\n"
        inode = (here / "ck.pt").stat().st_ino
        (there / "t").write_bytes(tagged(b"new", size))
        (there / "t").rename(there / "ck.pt")
        assert eventually(lambda: (here / "ck.pt").stat().st_ino != inode)
        rest, _ = program.communicate("\n", timeout=20)
        assert rest == "old.....\n"
        assert program.returncode == -signal.SIGBUS


def test_a_mapping_shows_the_bytes_of_the_version_that_was_opened(there: Path, here: Path) -> None:
    old(there / "ck.pt", tagged(b"old", BIG))
    assert eventually(lambda: shown_whole(here, there))
    with (here / "ck.pt").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert mapped[:] == tagged(b"old", BIG)
    (there / "ck.pt").write_bytes(tagged(b"new", BIG))
    time.sleep(TTL + TICK)
    with (here / "ck.pt").open("rb") as file:
        assert file.read() == tagged(b"new", BIG)
    assert mapped[:] == tagged(b"old", BIG)  # all its pages were there


def test_what_is_written_all_the_time_is_stale_within_the_timeout(there: Path, here: Path) -> None:
    path, done = there / "ck.pt", threading.Event()
    path.write_bytes(bytes(BIG))

    def write() -> None:
        with path.open("r+b", buffering=0) as file:  # it is never short: a short file is given at once
            while not done.wait(0.3):
                file.seek(0)
                file.write(bytes(BIG))

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert eventually(lambda: shown_whole(here, there))
        began = time.monotonic()
        with pytest.raises(OSError, match="Stale"):
            (here / "ck.pt").open("rb").close()
        assert time.monotonic() - began < 6 + SLACK
    finally:
        done.set()
        writing.join()


def test_a_file_said_to_be_longer_than_it_is_gives_an_error_and_no_zeros(there: Path, here: Path) -> None:
    # /proc tells 0 bytes, /sys 4096 of files that have few: a server whose attributes are not the truth.
    (there / "lying").symlink_to("/sys/kernel/mm/transparent_hugepage/enabled")
    assert eventually(lambda: (here / "lying").exists())
    with (
        (here / "lying").open("rb", buffering=0) as file,
        pytest.raises(OSError, match="Input/output"),
    ):
        file.read(4096)
