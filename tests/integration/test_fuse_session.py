"""A session in front of a small handler, mounted for real and read by other threads and processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import queue
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vfs.base import errors
from vfs.base.mount_table import MountInfo
from vfs.files.shown import Shown
from vfs.frontends import mountpoint
from vfs.frontends.fuse import available

try:
    from vfs.frontends.fuse import reply, requests
    from vfs.frontends.fuse.library import FileInfo, lib
    from vfs.frontends.fuse.session import FuseSession

    available.check_fuse()
except errors.FuseMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

SOON = 5.0
"""Seconds within which anything here happens, on a slow machine too."""
PIECE = bytes(range(256)) * 4096


@dataclass
class File:
    """A file, a directory (with names) or a link (with a target) of the handler."""

    kind: int = stat.S_IFREG
    size: int = 0
    mtime: float = 1_700_000_000.25
    names: dict[bytes, int] = field(default_factory=dict)
    target: bytes = b""
    fill: bytes = b"x"
    current: bool = True
    keep_cache: bool = True
    direct_io: bool = False
    held: bool = False
    """Requests for it wait in the handler's queue instead of being answered."""


class SmallHandler:
    """Serves `files` by nodeid; what is `held` goes to `waiting` as (operation, request, size)."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {1: File(kind=stat.S_IFDIR)}
        self.waiting: queue.Queue[tuple[str, int, int]] = queue.Queue()
        self.calls: list[str] = []
        self.handles: dict[int, int] = {}
        self.interrupts: queue.Queue[int] = queue.Queue()
        self.memory = (ctypes.c_char * len(PIECE)).from_buffer_copy(PIECE)

    def add(self, name: str, file: File, nodeid: int | None = None) -> int:
        """Put a file below the root, instead of one that had the name."""
        number = nodeid or max(self.files) + 1
        self.files[number] = file
        self.files[1].names[name.encode()] = number
        return number

    def attributes(self, nodeid: int) -> Shown:
        file = self.files[nodeid]
        mode = file.kind | (0o555 if file.kind == stat.S_IFDIR else 0o444)
        size = file.size or len(file.target)
        return Shown(nodeid + 1000, mode, 1, os.getuid(), os.getgid(), size, file.mtime)

    def entry(self, nodeid: int) -> tuple[int, Shown, float]:
        return nodeid, self.attributes(nodeid), 60.0

    def hold(self, operation: str, req: int, size: int = 0) -> None:
        def interrupted() -> None:
            self.interrupts.put(req)
            reply.error(req, errno.EINTR)

        requests.on_interrupt(req, interrupted)
        self.waiting.put((operation, req, size))

    def lookup(self, req: int, parent: int, name: bytes) -> None:
        self.calls.append(f"lookup {name.decode(errors='surrogateescape')}")
        nodeid = self.files[parent].names.get(name)
        if nodeid is None:
            reply.error(req, errno.ENOENT)
        else:
            reply.entry(req, *self.entry(nodeid))

    def forget(self, nodeid: int, count: int) -> None:
        self.calls.append(f"forget {nodeid} {count}")

    def getattr(self, req: int, nodeid: int) -> None:
        reply.attributes(req, self.attributes(nodeid), 60.0)

    def readlink(self, req: int, nodeid: int) -> None:
        reply.text(req, self.files[nodeid].target)

    def open(self, req: int, nodeid: int) -> None:
        file = self.files[nodeid]
        self.calls.append(f"open {nodeid}")
        if not file.current:
            reply.error(req, errno.ESTALE)
            return
        fh = (1 << 63) + len(self.handles)  # all 64 bits of it come back
        self.handles[fh] = nodeid
        info = FileInfo(fh=fh, keep_cache=file.keep_cache, direct_io=file.direct_io)
        reply._answer(req, lib.fuse_reply_open, ctypes.byref(info))

    def read(self, req: int, nodeid: int, size: int, offset: int, fh: int) -> None:
        assert self.handles[fh] == nodeid
        file = self.files[nodeid]
        length = max(0, min(size, file.size - offset))
        if file.held:
            self.hold("read", req, length)
        elif not file.current:
            reply.error(req, errno.ESTALE)
        elif file.fill:
            reply.data(req, file.fill * length)
        else:
            reply.memory(req, list(self.pieces(offset, length)))

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where the bytes lie of a file that is PIECE over and over."""
        while length > 0:
            start = offset % len(PIECE)
            part = min(length, len(PIECE) - start)
            yield ctypes.addressof(self.memory) + start, part
            offset += part
            length -= part

    def release(self, req: int, nodeid: int, fh: int) -> None:
        self.calls.append(f"release {fh}")
        reply.error(req, 0)

    def releasedir(self, req: int, nodeid: int, fh: int) -> None:
        reply.error(req, 0)

    def opendir(self, req: int, nodeid: int) -> None:
        reply.opened(req, nodeid)

    def readdirplus(self, req: int, nodeid: int, size: int, offset: int, fh: int) -> None:
        assert fh == nodeid
        self.calls.append("readdirplus")
        buffer = reply.DirectoryBuffer(size)
        for number, (name, child) in enumerate(list(self.files[nodeid].names.items())[offset:], offset + 1):
            if not buffer.add(name, *self.entry(child), number):
                break
        buffer.reply(req)

    def statfs(self, req: int, nodeid: int) -> None:
        reply.statfs(req, os.statvfs_result((4096, 512, 1000, 400, 300, 20, 10, 10, 0, 200)))

    def getxattr(self, req: int, nodeid: int, name: bytes, size: int) -> None:
        if name != b"user.colour":
            reply.error(req, errno.ENODATA)
        else:
            reply.xattr(req, b"blue", size)

    def listxattr(self, req: int, nodeid: int, size: int) -> None:
        reply.xattr(req, b"user.colour\0", size)


class Replaceable:
    """Calls the methods that a handler has by then: a test puts others into their places."""

    def __init__(self, handler: SmallHandler) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: getattr(self._handler, name)(*arguments)


class Mounted:
    """A mounted session, served by an event loop on a thread of its own."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        self.handler = SmallHandler()
        self.session = FuseSession(Replaceable(self.handler), path, ["default_permissions", *options])
        self.session.mount()
        self.ended = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.loop.add_reader(self.session.fileno(), self._process)
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def _process(self) -> None:
        if not self.session.process():
            self.loop.remove_reader(self.session.fileno())
            self.ended.set()

    def call(self, function: Callable[[], Any]) -> Any:
        """Run on the session's thread."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(SOON)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.remove_reader, self.session.fileno())
        self.loop.call_soon_threadsafe(self.session.destroy)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    place = tmp_path / "mnt"
    place.mkdir()
    made = Mounted(place)
    try:
        yield made
    finally:
        with contextlib.suppress(errors.MountError):
            mountpoint.unmount(place, force=True)  # tests that fail may have readers that wait
        made.close()


def reader(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that has imported what the code needs before it says anything."""
    program = f"import os, signal, sys, threading, time\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    _readers.append(process)
    return process


_readers: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_reader_stays() -> Iterator[None]:
    yield
    while _readers:
        process = _readers.pop()
        process.kill()
        with process:
            pass


def in_background(function: Callable[[], Any]) -> queue.Queue[Any]:
    """Call on another thread; its result, or the exception, arrives in the queue."""
    results: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            results.put(function())
        except OSError as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    return results


# --- names and attributes -------------------------------------------------------------------------------------------


def test_a_name_leads_to_its_attributes(mounted: Mounted) -> None:
    nodeid = mounted.handler.add("f", File(size=1000))
    shown = os.stat(mounted.path / "f")
    assert (shown.st_ino, shown.st_size, shown.st_mode) == (nodeid + 1000, 1000, stat.S_IFREG | 0o444)
    assert (shown.st_uid, shown.st_mtime_ns, shown.st_blocks) == (os.getuid(), 1_700_000_000_250_000_000, 2)


def test_a_name_that_is_no_text_reaches_the_handler_as_its_bytes(mounted: Mounted) -> None:
    mounted.handler.files[1].names[b"\xff\xfe"] = 2
    mounted.handler.files[2] = File(size=1)
    assert os.listdir(os.fsencode(mounted.path)) == [b"\xff\xfe"]
    assert os.stat(os.fsencode(mounted.path) + b"/\xff\xfe").st_size == 1


def test_a_name_that_is_not_there_is_so(mounted: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        os.stat(mounted.path / "nothing")


def test_a_listing_brings_the_attributes_of_all_entries_with_it(mounted: Mounted) -> None:
    for number in range(3000):
        mounted.handler.add(f"file-{number}", File(size=number + 1))
    with os.scandir(mounted.path) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    assert sizes == {f"file-{number}": number + 1 for number in range(3000)}
    asked = {call.split()[0] for call in mounted.handler.calls}
    assert asked - {"release"} == {"readdirplus"}  # the end of the directory comes when it likes


def test_ten_thousand_entries_are_packed_within_a_tenth_of_a_second() -> None:
    handler = SmallHandler()
    entry = handler.entry(1)
    names = [b"events.out.tfevents.%d" % number for number in range(10_000)]

    def pack() -> float:
        began = time.process_time()
        buffer = reply.DirectoryBuffer(4 << 20)
        assert all(buffer.add(name, *entry, number) for number, name in enumerate(names))
        return time.process_time() - began

    assert min(pack() for _ in range(5)) <= 0.1


def test_a_link_shows_its_target(mounted: Mounted) -> None:
    mounted.handler.add("link", File(kind=stat.S_IFLNK, target=b"some/where"))
    assert os.readlink(mounted.path / "link") == "some/where"


def test_statvfs_shows_the_handlers_figures(mounted: Mounted) -> None:
    shown = os.statvfs(mounted.path)
    assert (shown.f_bsize, shown.f_frsize, shown.f_blocks, shown.f_bfree) == (4096, 512, 1000, 400)
    assert (shown.f_bavail, shown.f_files, shown.f_ffree, shown.f_namemax) == (300, 20, 10, 200)


def test_extended_attributes_are_listed_and_read(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=1))
    assert os.listxattr(mounted.path / "f") == ["user.colour"]
    assert os.getxattr(mounted.path / "f", "user.colour") == b"blue"
    with pytest.raises(OSError) as failed:
        os.getxattr(mounted.path / "f", "user.taste")
    assert failed.value.errno == errno.ENODATA


# --- reading ----------------------------------------------------------------------------------------------------------


def test_bytes_are_read_as_the_handler_gives_them(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=300_000, fill=b"y"))
    assert (mounted.path / "f").read_bytes() == b"y" * 300_000


@pytest.mark.parametrize("direct_io", [False, True])
def test_an_answer_may_lie_in_several_pieces_of_memory(mounted: Mounted, direct_io: bool) -> None:
    mounted.handler.add("f", File(size=3 * len(PIECE) + 5, fill=b"", direct_io=direct_io))
    with open(mounted.path / "f", "rb", buffering=0) as file:
        file.seek(len(PIECE) - 1000)
        assert file.read(2000) == PIECE[-1000:] + PIECE[:1000]
        file.seek(3 * len(PIECE) - 5)
        assert file.read(100) == PIECE[-5:] + PIECE[:5]


def test_an_answer_without_pieces_is_the_end_of_the_file(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, fill=b"", direct_io=True))
    with open(mounted.path / "f", "rb", buffering=0) as file:
        file.seek(10)
        assert file.read(10) == b""


def test_a_handle_is_released_when_its_last_descriptor_is_closed(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10))
    (mounted.path / "f").read_bytes()
    deadline = time.monotonic() + SOON
    while f"release {1 << 63}" not in mounted.handler.calls and time.monotonic() < deadline:
        os.stat(mounted.path)
    assert f"release {1 << 63}" in mounted.handler.calls


def test_a_read_may_be_answered_later_by_another_thread(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, held=True))
    result = in_background((mounted.path / "f").read_bytes)
    _, req, length = mounted.handler.waiting.get(timeout=SOON)
    assert os.stat(mounted.path / "f").st_size == 10
    assert reply.data(req, b"z" * length)
    assert result.get(timeout=SOON) == b"z" * 10


def test_the_thread_that_waits_is_known(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, held=True))
    process = reader("print(len(open(sys.argv[1], 'rb').read()))", mounted.path / "f")
    _, req, length = mounted.handler.waiting.get(timeout=SOON)
    assert mounted.call(lambda: requests.thread_of(req)) == process.pid
    reply.data(req, b"z" * length)
    assert process.communicate(timeout=SOON)[0] == "10\n"
    with pytest.raises(KeyError):
        requests.thread_of(req)


def test_each_version_keeps_its_own_pages_and_an_open_finds_the_new_one(mounted: Mounted) -> None:
    pages = 64 << 10
    old = File(size=8 << 20, fill=b"a")
    first = mounted.handler.add("f", old)
    with open(mounted.path / "f", "rb", buffering=0) as held:
        assert held.read(pages) == b"a" * pages
        second = mounted.handler.add("f", File(size=8 << 20, fill=b"b"))
        old.current = False
        with open(mounted.path / "f", "rb", buffering=0) as new:  # the kernel holds the name for 60 s
            assert new.read(pages) == b"b" * pages
            assert os.fstat(new.fileno()).st_ino == second + 1000
        held.seek(0)
        assert held.read(pages) == b"a" * pages
        assert os.fstat(held.fileno()).st_ino == first + 1000
        held.seek(4 << 20)
        with pytest.raises(OSError) as failed:
            held.read(pages)
        assert failed.value.errno == errno.ESTALE


# --- waiting, interrupts, failures --------------------------------------------------------------------------------------


def test_a_waiting_reader_can_be_interrupted(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, held=True, direct_io=True))
    code = (
        "try: open(sys.argv[1], 'rb', buffering=0).read(10)\nexcept KeyboardInterrupt: print('interrupted')"
    )
    process = reader(code, mounted.path / "f")
    _, req, _ = mounted.handler.waiting.get(timeout=SOON)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=SOON)[0] == "interrupted\n"
    assert mounted.handler.interrupts.get(timeout=SOON) == req
    assert not reply.data(req, b"too late")


@pytest.mark.parametrize("direct_io", [False, True], ids=["page cache", "direct"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_waiting_reader_can_be_ended_at_once(
    mounted: Mounted, direct_io: bool, number: signal.Signals
) -> None:
    mounted.handler.add("f", File(size=10, held=True, direct_io=direct_io))
    process = reader(
        "signal.signal(signal.SIGINT, signal.SIG_DFL); open(sys.argv[1], 'rb', buffering=0).read(10)",
        mounted.path / "f",
    )
    mounted.handler.waiting.get(timeout=SOON)
    process.send_signal(number)
    assert process.wait(timeout=SOON) == -number


def test_an_answered_request_is_not_interrupted_any_more(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, held=True, direct_io=True))
    process = reader(
        "f = open(sys.argv[1], 'rb', buffering=0); f.read(10); print(1, flush=True); f.read(10)",
        mounted.path / "f",
    )
    _, first, _ = mounted.handler.waiting.get(timeout=SOON)
    reply.data(first, b"1234567890")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    _, second, _ = mounted.handler.waiting.get(timeout=SOON)
    process.kill()
    process.wait(timeout=SOON)
    assert mounted.handler.interrupts.get(timeout=SOON) == second
    assert mounted.handler.interrupts.empty()


def was_interrupted(req: int) -> bool:
    """Whether libfuse was told that the process which waits for `req` was interrupted; False once it is answered."""
    address = requests._addresses.get(req)
    return address is not None and bool(lib.fuse_req_interrupted(ctypes.c_void_p(address)))


def test_an_interrupt_that_came_first_calls_back_at_once(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, direct_io=True))
    began: queue.Queue[int] = queue.Queue()
    mounted.handler.read = lambda req, *_: began.put(req)  # type: ignore[method-assign]
    process = reader("open(sys.argv[1], 'rb', buffering=0).read(10)", mounted.path / "f")
    req = began.get(timeout=SOON)
    process.kill()
    deadline = time.monotonic() + SOON
    while not mounted.call(lambda: was_interrupted(req)) and time.monotonic() < deadline:
        os.stat(mounted.path)
    mounted.call(lambda: requests.on_interrupt(req, lambda: reply.error(req, errno.EINTR)))
    assert process.wait(timeout=SOON) == -signal.SIGKILL
    assert not mounted.call(lambda: was_interrupted(req))


def test_a_second_answer_changes_nothing(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10, held=True, direct_io=True))
    with open(mounted.path / "f", "rb", buffering=0) as file:
        result = in_background(lambda: file.read(10))
        _, first, _ = mounted.handler.waiting.get(timeout=SOON)
        assert reply.data(first, b"first")
        assert result.get(timeout=SOON) == b"first"
        result = in_background(lambda: file.read(10))
        _, second, _ = mounted.handler.waiting.get(timeout=SOON)
        assert not reply.data(first, b"wrong")
        assert not reply.error(first, errno.EIO)
        assert reply.data(second, b"second")
        assert result.get(timeout=SOON) == b"second"


def failing(mounted: Mounted, error: BaseException, *, answer: bool = False) -> None:
    def read(req: int, *_: int) -> None:
        if answer:
            reply.data(req, b"answer")
        raise error

    mounted.handler.read = read  # type: ignore[method-assign,assignment]


def test_a_handler_that_raises_gives_eio_and_is_logged_once_with_its_traceback(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    mounted.handler.add("f", File(size=10, direct_io=True))
    failing(mounted, ValueError("a mistake"))
    with pytest.raises(OSError) as failed, open(mounted.path / "f", "rb", buffering=0) as file:
        file.read(10)
    assert failed.value.errno == errno.EIO
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_a_handler_that_raises_after_its_answer_is_logged_and_the_answer_stands(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    mounted.handler.add("f", File(size=6, direct_io=True))
    failing(mounted, ValueError("a mistake"), answer=True)
    with open(mounted.path / "f", "rb", buffering=0) as file:
        assert file.read(6) == b"answer"
    assert "could not be served" in caplog.text


def test_a_thousand_waiting_reads_do_not_delay_what_is_known(mounted: Mounted) -> None:
    mounted.handler.add("slow", File(size=1000 * 4096, held=True, direct_io=True))
    mounted.handler.add("quick", File(size=1 << 20, fill=b"q"))
    code = """
threading.stack_size(64 << 10)
fd = os.open(sys.argv[1], os.O_RDONLY)
got = []
readers = [threading.Thread(target=lambda n=n: got.append(os.pread(fd, 4096, n * 4096))) for n in range(1000)]
for reader in readers: reader.start()
for reader in readers: reader.join()
print(sum(map(len, got)))
"""
    process = reader(code, mounted.path / "slow")
    held = [mounted.handler.waiting.get(timeout=SOON) for _ in range(1000)]
    began = time.monotonic()
    assert (mounted.path / "quick").read_bytes() == b"q" * (1 << 20)
    assert os.listdir(mounted.path) == ["slow", "quick"]
    assert time.monotonic() - began < SOON
    for _, req, length in held:
        reply.data(req, b"s" * length)
    assert process.communicate(timeout=SOON)[0] == f"{1000 * 4096}\n"


def test_readahead_that_waits_leaves_the_readahead_of_others_alone(mounted: Mounted) -> None:
    readers = []
    for number in range(40):  # the kernel's own limit is 12
        mounted.handler.add(f"slow-{number}", File(size=1 << 20, held=True))
        readers.append(in_background((mounted.path / f"slow-{number}").read_bytes))
        mounted.handler.waiting.get(timeout=SOON)
    mounted.handler.add("quick", File(size=1 << 20, fill=b"q"))
    began = time.monotonic()
    assert (mounted.path / "quick").read_bytes() == b"q" * (1 << 20)
    assert time.monotonic() - began < SOON


def test_a_long_file_is_read_at_more_than_half_a_gigabyte_a_second(mounted: Mounted) -> None:
    size = 128 << 20
    mounted.handler.add("f", File(size=size, fill=b"", keep_cache=False))
    code = """
buffer = bytearray(1 << 20)
for _ in range(4):
    with open(sys.argv[1], 'rb', buffering=0) as file:
        began = time.monotonic()
        total = 0
        while n := file.readinto(buffer): total += n
        print(total, time.monotonic() - began, buffer == bytes(range(256)) * 4096)
"""
    lines = reader(code, mounted.path / "f").communicate(timeout=60)[0].splitlines()
    assert [line.split()[::2] for line in lines] == [[str(size), "True"]] * 4
    best = size / min(float(line.split()[1]) for line in lines)
    assert best > 500e6, f"{best / 1e6:.0f} MB/s"


# --- read-only --------------------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda root: os.open(root / "new", os.O_CREAT | os.O_WRONLY),
    "open for writing": lambda root: os.open(root / "f", os.O_WRONLY),
    "open for both": lambda root: os.open(root / "f", os.O_RDWR),
    "open and empty": lambda root: os.open(root / "f", os.O_RDONLY | os.O_TRUNC),
    "truncate": lambda root: os.truncate(root / "f", 0),
    "chmod": lambda root: os.chmod(root / "f", 0o600),
    "chown": lambda root: os.chown(root / "f", os.getuid(), os.getgid()),
    "utime": lambda root: os.utime(root / "f"),
    "mknod": lambda root: os.mknod(root / "new"),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "unlink": lambda root: os.unlink(root / "f"),
    "rmdir": lambda root: os.rmdir(root / "d"),
    "symlink": lambda root: os.symlink("f", root / "new"),
    "rename": lambda root: os.rename(root / "f", root / "new"),
    "link": lambda root: os.link(root / "f", root / "new"),
    "setxattr": lambda root: os.setxattr(root / "f", "user.colour", b"red"),
    "removexattr": lambda root: os.removexattr(root / "f", "user.colour"),
}


@pytest.fixture(scope="module")
def unchanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    made = Mounted(tmp_path_factory.mktemp("mnt"))
    made.handler.add("f", File(size=10))
    made.handler.add("d", File(kind=stat.S_IFDIR))
    yield made
    made.close()


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed(unchanging: Mounted, change: str) -> None:
    with pytest.raises(OSError) as failed:
        CHANGES[change](unchanging.path)
    assert failed.value.errno == errno.EROFS


def test_write_access_is_denied_as_on_a_read_only_file_system(unchanging: Mounted) -> None:
    assert not os.access(unchanging.path / "f", os.W_OK)
    assert os.access(unchanging.path / "f", os.R_OK)


def test_to_sync_what_cannot_change_succeeds(unchanging: Mounted) -> None:
    with open(unchanging.path / "f", "rb") as file:
        os.fsync(file.fileno())


# --- the life of a mount ------------------------------------------------------------------------------------------------


def test_an_unmount_from_outside_ends_the_session(mounted: Mounted) -> None:
    mountpoint.unmount(mounted.path)
    assert mounted.ended.wait(SOON)
    assert not mounted.call(mounted.session.process)
    assert not mountpoint.is_mounted(mounted.path)


def test_who_waits_at_the_end_gets_an_error_and_a_late_answer_does_nothing(tmp_path: Path) -> None:
    made = Mounted(tmp_path)
    made.handler.add("f", File(size=10, held=True, direct_io=True))
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    result = in_background(lambda: os.read(descriptor, 10))
    _, req, _ = made.handler.waiting.get(timeout=SOON)
    made.close()
    assert result.get(timeout=SOON).errno == errno.ENOTCONN
    with contextlib.suppress(OSError):
        os.close(descriptor)
    assert not reply.data(req, b"late")
    assert not mountpoint.is_mounted(tmp_path)


def test_a_session_can_be_ended_twice_and_before_it_began(tmp_path: Path) -> None:
    session = FuseSession(SmallHandler(), tmp_path, [])
    session.destroy()
    session.destroy()
    assert not session.process()


def test_the_name_of_the_file_system_is_shown_as_given(tmp_path: Path) -> None:
    name = "host:/a b,c\\d"
    made = Mounted(tmp_path, f"fsname={available.escape(name)}", "subtype=small")
    try:
        assert mountpoint.mount_info(tmp_path) == MountInfo(tmp_path, "fuse.small", name)
        with pytest.raises(errors.MountPointUnusable, match="already mounted"):
            mountpoint.check_usable(tmp_path)
        assert not mountpoint.is_dead(tmp_path)
    finally:
        made.close()


def test_an_unknown_option_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.MountError, match=r"unknown option.*nonsense"):
        FuseSession(SmallHandler(), tmp_path, ["nonsense"])


def test_a_mount_that_fails_says_why(tmp_path: Path) -> None:
    session = FuseSession(SmallHandler(), tmp_path / "absent", [])
    with pytest.raises(errors.MountError, match="No such file"):
        session.mount()
    session.destroy()


def test_a_mount_in_use_is_not_unmounted_without_force_and_its_user_is_named(mounted: Mounted) -> None:
    mounted.handler.add("f", File(size=10))
    process = reader("f = open(sys.argv[1]); print(1, flush=True); time.sleep(60)", mounted.path / "f")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with pytest.raises(errors.MountBusy, match=rf"in use by .*\({process.pid}\)"):
            mountpoint.unmount(mounted.path)
        mountpoint.unmount(mounted.path, force=True)
        assert not mountpoint.is_mounted(mounted.path)
    finally:
        process.kill()
        process.wait()
    assert mounted.ended.wait(SOON)


SERVE = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from tests.integration.test_fuse_session import File, Mounted
if sys.argv[2] != str(os.getuid()):
    os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
made = Mounted(Path(sys.argv[1]))
made.handler.add("f", File(size=100_000))
print("ready", flush=True)
made.ended.wait()
made.close()
print("ended", flush=True)
"""


@contextlib.contextmanager
def served_elsewhere(place: Path, uid: int) -> Iterator[subprocess.Popen[str]]:
    """A process that serves a mount; it ends when the mount does."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(place), str(uid), *sys.path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()
        if mountpoint.is_mounted(place):
            mountpoint.unmount(place, force=True)


@pytest.mark.skipif(os.getuid() != 0, reason="the other tests run as a user then")
def test_an_ordinary_user_mounts_by_the_helper_program(tmp_path: Path) -> None:
    place = Path(f"/tmp/{tmp_path.name}-{os.getpid()}")
    place.mkdir()
    os.chown(place, 65534, 65534)
    read = "os.setgid(65534); os.setuid(65534); print(len(open(sys.argv[1], 'rb').read()))"
    try:
        with served_elsewhere(place, 65534) as process:
            assert reader(read, place / "f").communicate(timeout=SOON)[0] == "100000\n"
            mountpoint.unmount(place)
            assert process.communicate(timeout=SOON)[0] == "ended\n"
    finally:
        place.rmdir()


def test_a_mount_whose_process_was_killed_is_dead_and_is_cleaned_up(tmp_path: Path) -> None:
    with served_elsewhere(tmp_path, os.getuid()) as process:
        assert not mountpoint.is_dead(tmp_path)
        process.kill()
        process.wait()
        assert mountpoint.is_dead(tmp_path)
        mountpoint.check_usable(tmp_path)
        assert not mountpoint.is_mounted(tmp_path)


def test_a_mount_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    with served_elsewhere(tmp_path, os.getuid()) as process:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert not mountpoint.is_dead(tmp_path, timeout=0.3)
        assert time.monotonic() - began < SOON
        mountpoint.unmount(tmp_path)  # whoever looked does not keep it busy
        process.send_signal(signal.SIGCONT)


def test_a_look_at_a_mount_asks_nothing_that_waits_for_the_server(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def waits(req: int, *_: object) -> None:
        asked.set()  # and is not answered before the end of the mount

    for name in ("statfs", "getattr", "lookup"):
        monkeypatch.setattr(mounted.handler, name, waits)
    assert not mountpoint.is_dead(mounted.path, timeout=SOON)
    assert not asked.is_set()
    mountpoint.unmount(mounted.path)
