"""A pull makes the copy what the server has, whatever was there before, and writes nowhere else."""

from __future__ import annotations

import asyncio
import itertools
import os
import posixpath
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.memory_remote import MemoryFile
from tests.lab.memory_stack import MemoryStack, play, read, tagged
from tests.lab.pulling import copy_at, pull
from tests.lab.small_stack import FRAMES, small_stack
from vfs.base.errors import Unreachable
from vfs.base.file_version import Version
from vfs.base.progress import Progress
from vfs.commands import prefetch, pull_dest, pull_journal
from vfs.commands import wait as waiting
from vfs.commands.pull import Order, Pull
from vfs.commands.pull_dest import PullDirectory
from vfs.commands.pull_journal import Pulled
from vfs.files import experiments
from vfs.stack import Stack

pytestmark = pytest.mark.usefixtures("home")

MIB = 1 << 20
TTL = 3.0
"""Seconds after which the tree asks anew."""
Make = Callable[[MemoryStack, bytes], None]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def experiment(stack: MemoryStack) -> None:
    stack.files.mkdir(b"/r/e")
    stack.old(b"/r/e/other", b"other")


def a_file(stack: MemoryStack, path: bytes) -> None:
    stack.old(path, b"a file")


def a_directory(stack: MemoryStack, path: bytes) -> None:
    stack.files.mkdir(path)
    stack.old(path + b"/inner", b"inner")


def an_empty_directory(stack: MemoryStack, path: bytes) -> None:
    stack.files.mkdir(path)


def a_link(stack: MemoryStack, path: bytes) -> None:
    stack.files.symlink(path, b"other")


def clear(stack: MemoryStack, path: bytes) -> None:
    stack.files.rmtree(path)


KINDS: list[Make] = [a_file, a_directory, an_empty_directory, a_link]


def is_as(place: Path, make: Make) -> bool:
    if make is a_link:
        return place.is_symlink() and os.readlink(place) == "other"
    if make is a_file:
        return not place.is_symlink() and place.is_file() and place.read_bytes() == b"a file"
    inner = [] if make is an_empty_directory else ["inner"]
    return not place.is_symlink() and place.is_dir() and os.listdir(place) == inner


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(KINDS, 2)))
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_becomes_another_kind(out: Path, before: Make, after: Make, overwrite: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        before(stack, b"/r/e/x")
        assert not (await pull(stack, out, "e")).failed
        clear(stack, b"/r/e/x")
        after(stack, b"/r/e/x")
        stack.old(b"/r/e/new", b"new")
        await asyncio.sleep(TTL)
        outcome = await pull(stack, out, "e", overwrite=overwrite)
        assert (out / "e/new").read_bytes() == b"new"
        if before is a_directory and after in (a_file, a_link) and not overwrite:
            [(name, reason)] = outcome.failed
            assert (name, "--overwrite" in reason) == ("e/x", True)
            assert is_as(out / "e/x", a_directory)
        elif (before, after) == (a_directory, an_empty_directory):  # nothing is removed that is gone there
            assert is_as(out / "e/x", a_directory)
        else:
            assert not outcome.failed
            assert is_as(out / "e/x", after)
        assert not outcome.kept
        assert not [name for name in os.listdir(out / "e") if name.startswith(".artisync-")]

    play(story)


def mine(place: Path) -> None:
    place.write_bytes(b"my own")


def my_link(place: Path) -> None:
    place.symlink_to("/nowhere")


def my_directory(place: Path) -> None:
    place.mkdir()
    (place / "notes").write_text("my own")


def my_pipe(place: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("here", [mine, my_link, my_directory, my_pipe])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_put_there_by_others_is_left_alone_unless_overwritten(
    out: Path, here: Callable[[Path], None], after: Make, overwrite: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        after(stack, b"/r/e/x")
        (out / "e").mkdir()
        here(out / "e/x")
        outcome = await pull(stack, out, "e", overwrite=overwrite)
        told = [*outcome.kept, *(name for name, _ in outcome.failed)]
        if here is my_directory:
            assert (out / "e/x/notes").read_text() == "my own"
            assert told == ([] if after in (a_directory, an_empty_directory) else ["e/x"])
        elif overwrite:
            assert is_as(out / "e/x", after)
            assert told == []
        else:
            assert told == ["e/x"]
            assert stat.S_IFMT((out / "e/x").lstat().st_mode) != stat.S_IFDIR
            assert not is_as(out / "e/x", after)

    play(story)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_changed_here_in_a_directory_that_became_a_file(out: Path, overwrite: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        a_directory(stack, b"/r/e/x")
        await pull(stack, out, "e")
        (out / "e/x/inner").write_text("my own")
        clear(stack, b"/r/e/x")
        a_file(stack, b"/r/e/x")
        await asyncio.sleep(TTL)
        outcome = await pull(stack, out, "e", overwrite=overwrite)
        assert [name for name, _ in outcome.failed] == ([] if overwrite else ["e/x"])
        if overwrite:
            assert is_as(out / "e/x", a_file)
        else:
            assert (out / "e/x/inner").read_text() == "my own"

    play(story)


def test_the_text_of_a_link_never_leads_out_of_the_experiment(out: Path) -> None:
    """The server tells of a chain that leaves the experiment and comes back, and later of a directory in its place."""
    ssh = out.parent / ".ssh"
    ssh.mkdir()

    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/r/.ssh")
        stack.files.mkdir(b"/r/al")
        stack.files.mkdir(b"/r/al/d")
        stack.old(b"/r/al/d/authorized_keys", b"key")
        stack.files.symlink(b"/r/al/l", b"../.ssh/x")
        stack.files.symlink(b"/r/al/up", b"../../.ssh")
        stack.files.symlink(b"/r/.ssh/x", b"/r/al/d")
        honest = stack.remote.realpath

        async def lie(path: bytes) -> bytes:
            told = {b"/r/al/l": b"/r/.ssh/x", b"/r/al/up": b"/r/../.ssh"}
            return told.get(path) or await honest(path)

        stack.remote.realpath = lie  # type: ignore[method-assign]
        await pull(stack, out)
        for name, text in copy_at(out).links.items():
            where = posixpath.normpath(posixpath.join(posixpath.dirname(name), text))
            assert where.split("/")[0] == name.split("/")[0], (name, text)
        assert os.readlink(out / "al/l") == "d"
        stack.files.remove(b"/r/al/l")
        stack.files.mkdir(b"/r/al/l")
        stack.old(b"/r/al/l/authorized_keys", b"key")
        await asyncio.sleep(TTL)
        await pull(stack, out)
        assert not (out / "al/l").is_symlink()
        assert (out / "al/l/authorized_keys").read_bytes() == b"key"
        assert not list(ssh.iterdir())

    play(story)


def test_names_that_only_differ_at_their_end_and_the_longest(out: Path) -> None:
    names = [b"n" * 200 + b"step=%d.pt" % step for step in range(1000, 1020)]
    names += ["漢".encode() * 85, b"a.pt", b".a.pt.artisync-part", b".artisync-0"]

    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/r/e")
        for name in names:
            stack.old(b"/r/e/" + name, b"content of " + name)
        outcome = await pull(stack, out)
        assert (outcome.failed, outcome.files) == ([], len(names))
        assert copy_at(out / "e").files == {os.fsdecode(name): b"content of " + name for name in names}

    play(story)


def test_a_file_that_cannot_be_written_fails_alone(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        a_file(stack, b"/r/e/full")
        write = pull_dest.write

        def full(fd: int, offset: int, views: list[memoryview]) -> None:
            if bytes(views[0]) == b"a file":
                raise OSError(28, os.strerror(28))
            write(fd, offset, views)

        monkeypatch.setattr(pull_dest, "write", full)
        outcome = await pull(stack, out)
        assert outcome.failed == [("e/full", "No space left on device")]
        assert copy_at(out / "e").files == {"other": b"other"}

    play(story)


def test_a_file_for_which_there_is_no_room_fails_alone(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        a_file(stack, b"/r/e/sparse")
        stack.files.claim(b"/r/e/sparse", 14 << 40)
        outcome = await pull(stack, out)
        [(name, reason)] = outcome.failed
        assert (name, reason[:18]) == ("e/sparse", "14.0 TiB do not fi")
        assert copy_at(out / "e").files == {"other": b"other"}

    play(story)


def test_directories_have_the_modes_of_the_servers(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        a_directory(stack, b"/r/e/private")
        stack.files.chmod(b"/r/e/private", 0o700)
        stack.files.chmod(b"/r/e", 0o750)
        await pull(stack, out)
        assert stat.S_IMODE((out / "e").stat().st_mode) == 0o750
        assert stat.S_IMODE((out / "e/private").stat().st_mode) == 0o700

    play(story)


def test_what_a_killed_pull_left_half_made_is_removed_by_the_next(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        await pull(stack, out)
        names = [pull_dest.temporary_name() for _ in range(2)]
        with Pulled(out) as journal:
            for name in names:
                journal.begin(f"e/{name}", "", None)
            (out / "e" / names[0]).write_text("half")
        await pull(stack, out)
        assert sorted(os.listdir(out / "e")) == ["other"]
        with Pulled(out) as journal:
            assert journal._do("SELECT * FROM begun") == []

    play(story)


@pytest.mark.parametrize("how", ["cancelled", "gone"])
def test_a_large_file_goes_on_where_a_stopped_pull_left_it(out: Path, tmp_path: Path, how: str) -> None:
    data = tagged(b"big", 24 * MIB)

    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.old(b"/r/e/big", data)
        work = asyncio.ensure_future(pull(stack, out))
        while stack.remote.bytes_read < 12 * MIB:
            await asyncio.sleep(0.01)
        if how == "gone":
            stack.remote.go_offline()
        else:
            work.cancel()
        with pytest.raises(Unreachable if how == "gone" else asyncio.CancelledError):
            await work
        assert not (out / "e/big").exists()
        await stack.restart()
        outcome = await pull(stack, out)
        assert outcome.size < 16 * MIB
        assert stack.remote.bytes_read <= outcome.size + 6
        assert (out / "e/big").read_bytes() == data
        assert sorted(os.listdir(out / "e")) == ["big", "other"]

    play(story, between=0.05, place=tmp_path / "cache")


def test_what_was_left_of_another_version_is_not_gone_on_with(out: Path, tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.old(b"/r/e/big", tagged(b"old", 24 * MIB))
        work = asyncio.ensure_future(pull(stack, out))
        while stack.remote.bytes_read < 12 * MIB:
            await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.wait({work})
        stack.old(b"/r/e/big", data := tagged(b"new", 25 * MIB))
        await stack.restart()
        await pull(stack, out)
        assert (out / "e/big").read_bytes() == data
        assert sorted(os.listdir(out / "e")) == ["big", "other"]

    play(story, between=0.05, place=tmp_path / "cache")


def test_a_pull_writes_once_the_cache_gets_only_what_is_pinned(out: Path, tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        async def cached() -> dict[str, int]:
            await stack.cache.flush()
            return {
                name: sum((await stack.cache.index((await stack.tree.lineages.of(node)).lineage)).values())
                for name in ("new", "read", "pinned")
                for node in [await stack.node(b"e/" + name.encode())]
            }

        experiment(stack)
        for name in (b"new", b"read", b"pinned"):
            stack.old(b"/r/e/" + name, tagged(name, 4 * MIB))
        await stack.read(b"e/read", 2 * MIB, 100)  # a block of it is in the cache
        pinned = await stack.node(b"e/pinned")
        stack.tree.lineages.pin(pinned, await stack.tree.lineages.of(pinned))
        await pull(stack, out)
        assert await cached() == {"new": 0, "read": MIB, "pinned": 4 * MIB}
        await stack.restart()
        (out / "again").mkdir()
        await pull(stack, out / "again")
        for name in ("new", "read", "pinned"):
            assert (out / "again/e" / name).read_bytes() == tagged(name.encode(), 4 * MIB)
        assert stack.remote.bytes_read == 7 * MIB + len(b"other")

    play(story, place=tmp_path / "cache")


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
def test_what_a_program_reads_beside_a_pull_stays_readable(out: Path, tmp_path: Path, when: str) -> None:
    data = tagged(b"both", 4 * MIB)

    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.old(b"/r/e/both", data)
        if when == "before":
            reader = await stack.open(b"e/both")
        work = asyncio.ensure_future(pull(stack, out))
        while stack.remote.bytes_read < 2 * MIB:
            await asyncio.sleep(0.01)
        if when == "after":
            await work
        if when != "before":
            reader = await stack.open(b"e/both")
        assert await read(reader) == data
        await work
        reader.close()
        await stack.cache.flush()
        await stack.restart(offline=True)
        assert await stack.read(b"e/both") == data

    play(story, between=0.05, place=tmp_path / "cache")


@pytest.mark.parametrize("grown", [True, False])
def test_the_next_pull_appends_what_has_grown_and_replaces_what_is_longer_and_another_file(
    out: Path, tmp_path: Path, grown: bool
) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.old(b"/r/e/events", old := tagged(b"old", 100_000))
        await pull(stack, out)
        inode = os.stat(out / "e/events").st_ino
        new = (old if grown else tagged(b"new", 100_000)) + b"more"
        stack.files.write(b"/r/e/events", new)
        stack.files.utime(b"/r/e/events", int(stack.files.clock()) - 10)
        await stack.restart()
        await pull(stack, out)
        assert (out / "e/events").read_bytes() == new
        assert (os.stat(out / "e/events").st_ino == inode) is grown

    play(story, place=tmp_path / "cache")


@pytest.mark.parametrize("word", ["notes.txt", "/notes.txt", "notes*", "link.txt"])
def test_a_file_beside_the_experiments_is_pulled_by_its_name(out: Path, word: str) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.old(b"/r/notes.txt", b"notes")
        stack.files.symlink(b"/r/link.txt", b"notes.txt")
        assert not (await pull(stack, out, word)).failed
        name = "link.txt" if word == "link.txt" else "notes.txt"
        assert copy_at(out).files == {name: b"notes"}

    play(story)


def test_two_pulls_into_one_directory_write_different_experiments(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        for name in (b"e", b"f"):
            stack.files.mkdir(b"/r/" + name)
            stack.old(b"/r/" + name + b"/file", b"bytes")
        with Pulled(out) as other:
            other.take("e")
            busy = [("e", f"another pull is writing {out / 'e'}")]
            assert (await pull(stack, out)).failed == busy
            assert os.listdir(out) == ["f"]
            assert (await pull(stack, out, "e")).failed == busy
            other.settle("e/mine", pull_journal.Left(1, 1, "aa"))
        assert not (await pull(stack, out)).failed
        with Pulled(out) as journal:
            assert journal.knows("e/mine")
            assert journal.knows("e/file")
            assert journal.knows("f/file")

    play(story)


def test_a_pull_that_ends_leaves_others_of_its_process_their_locks(out: Path) -> None:
    words = (
        f"from vfs.commands.pull_journal import *\nwith Pulled(Path({str(out)!r})) as other: other.take('e')"
    )
    with Pulled(out) as one:
        one.take("e")
        with Pulled(out) as other:
            other.take("f")
        another = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
        assert "another pull is writing" in another.stderr
    assert subprocess.run([sys.executable, "-c", words]).returncode == 0


def test_a_directory_that_cannot_be_made_is_told_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = pull_dest.LocalName.make_directory

    def refuse(place: pull_dest.LocalName, mode: int) -> None:
        if place._name == "x":
            raise OSError(13, os.strerror(13))
        make(place, mode)

    monkeypatch.setattr(pull_dest.LocalName, "make_directory", refuse)

    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        a_directory(stack, b"/r/e/x")
        a_directory(stack, b"/r/e/x/y")
        outcome = await pull(stack, out)
        assert outcome.failed == [("e/x", "Permission denied")]
        assert copy_at(out / "e").files == {"other": b"other"}

    play(story)


def test_a_stopped_write_has_ended_before_its_descriptor_is_closed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is opened next would get its bytes."""
    ended: list[int] = []
    write = pull_dest.write

    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def slow(fd: int, offset: int, views: list[memoryview]) -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(stopped.wait(), loop).result(5)
            os.fstat(fd)  # it is open still
            write(fd, offset, views)
            ended.append(fd)

        stopped = asyncio.Event()
        monkeypatch.setattr(pull_dest, "write", slow)
        work = asyncio.ensure_future(pull(stack, out))
        await begun.wait()
        work.cancel()
        loop.call_later(0.01, stopped.set)
        with pytest.raises(asyncio.CancelledError):
            await work
        assert len(ended) == 1
        assert copy_at(out / "e").files == {}

    play(story)


def test_a_link_that_is_gone_ends_the_pull_with_that_error_alone(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        for number in range(20):
            stack.old(b"/r/e/%d.pt" % number, bytes(100_000))
        honest = stack.remote.open

        async def gone(path: bytes) -> MemoryFile:
            stack.remote.go_offline()
            return await honest(path)

        stack.remote.open = gone  # type: ignore[method-assign]
        with pytest.raises(Unreachable):
            await pull(stack, out)
        assert copy_at(out / "e").files == {}

    play(story)


@pytest.mark.parametrize("broken", ["e", "link"])
def test_nothing_is_decided_by_what_is_last_known(out: Path, tmp_path: Path, broken: str) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        stack.files.mkdir(b"/r/far")
        stack.files.symlink(b"/r/link", b"e")
        assert not (await pull(stack, out)).failed
        await stack.restart()
        await stack.tree.start()
        await asyncio.sleep(TTL)
        stack.remote.go_offline()
        with pytest.raises(Unreachable):
            await pull(stack, out, broken)

    play(story, place=tmp_path / "cache")


def test_a_pull_waits_for_a_server_that_pauses(out: Path, tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        await pull(stack, out)
        await stack.restart()
        await stack.tree.start()
        stack.old(b"/r/e/new", b"new")
        stack.remote.go_silent()
        asyncio.get_running_loop().call_later(0.3, stack.remote.go_on)
        assert (await pull(stack, out)).files == 1
        assert (out / "e/new").read_bytes() == b"new"

    play(story, place=tmp_path / "cache")


@pytest.mark.parametrize("word", ["exp-1", "exp-", "exp-*", "exp-1/log"])
def test_what_a_watch_has_found_once_may_be_gone_for_a_while(out: Path, word: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/r/exp-1")
        stack.old(b"/r/exp-1/log", b"one")
        order = Order(str(out), [word], watch=True)
        with PullDirectory(out) as destination, Pulled(out) as pulled:
            work = Pull(cast(Stack, stack), order, destination, pulled, Progress(), patience=0)

            async def look() -> set[str]:
                await work.fetch(await work.plan())
                await asyncio.sleep(2 * TTL)
                return set(copy_at(out).files)

            first = await look()
            assert len(first) == 1
            stack.files.rename(b"/r/exp-1", b"/away")
            assert await look() == first
            stack.files.mkdir(b"/r/other")
            stack.files.mkdir(b"/r/exp-10" if word != "exp-*" else b"/r/other/exp-10")
            assert await look() == first
            assert os.listdir(out) == ["log" if word.endswith("log") else "exp-1"]
            stack.files.rename(b"/away", b"/r/exp-1")
            stack.old(b"/r/exp-1/log", b"one and two")
            await look()
            assert list(copy_at(out).files.values()) == [b"one and two"]

    play(story)


def test_commands_go_as_deep_as_the_servers_tree(out: Path, tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.settings = SimpleNamespace(timeout=10.0)  # type: ignore[attr-defined]
        path = b"/r/e"
        stack.files.mkdir(path)
        for _ in range(FRAMES):
            path += b"/d"
            stack.files.mkdir(path)
        stack.old(path + b"/f.log", b"deep")
        stack.files.symlink(path + b"/l", b"f.log")
        outcome = await pull(stack, out, "e")
        assert (outcome.files, outcome.failed) == (2, [])
        top = (await experiments.experiments(stack.tree))["e"]
        assert (await experiments.summary(stack.tree, "e", top)).size == 4
        looks = waiting.wait(stack, "e", 0.0, complete=True, until=None)  # type: ignore[arg-type]
        assert [look["found"]["files"] async for look in looks if "found" in look] == [1]
        [*_, done, told] = [told async for told in prefetch.prefetch(stack, ["e"], pin=True)]  # type: ignore[arg-type]
        assert (done["progress"]["files_done"], told["failed"]) == (1, [])
        assert await anext(prefetch.unpin(stack, ["e"])) == {"unpinned": 1}  # type: ignore[arg-type]
        stack.files.rmtree(b"/r/e")
        await asyncio.sleep(TTL)
        assert await experiments.experiments(stack.tree) == {}

    with small_stack():
        play(story, place=tmp_path / "cache")


def test_many_files_take_few_descriptors(out: Path) -> None:
    most = 0
    stamp = pull_dest.stamp

    async def story(stack: MemoryStack) -> None:
        nonlocal most
        experiment(stack)
        for number in range(300):
            stack.old(b"/r/e/%d.pt" % number, b"%d" % number)

        def count(fd: int, version: Version) -> None:
            nonlocal most
            most = max(most, len(os.listdir("/dev/fd")))
            stamp(fd, version)

        before = len(os.listdir("/dev/fd"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pull_dest, "stamp", count)
            assert (await pull(stack, out)).files == 301
        assert most - before < 80

    play(story, latency=0.05)


def test_a_file_that_grows_all_the_while_is_left_as_the_journal_says(out: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        experiment(stack)
        for number in range(15):
            stack.old(b"/r/e/%d.log" % number, bytes(1000))

        async def grow() -> None:
            while True:
                for number in range(15):
                    stack.files.append(b"/r/e/%d.log" % number, b"line\n")
                await asyncio.sleep(0.02)

        growing = asyncio.ensure_future(grow())
        for _ in range(4):
            outcome = await pull(stack, out)
            assert (outcome.kept, outcome.failed, outcome.unsettled) == ([], [], [])
            await asyncio.sleep(TTL)
        growing.cancel()
        await asyncio.sleep(TTL)
        await pull(stack, out)
        for number in range(15):
            assert (out / f"e/{number}.log").read_bytes() == bytes(
                stack.files.find(b"/r/e/%d.log" % number).data
            )

    play(story, latency=0.05, between=0.01)


# --- whatever happens -------------------------------------------------------------------------------------------------

NAMES = [b"a", b"b", b"c"]
PATHS = [b"/".join(words) for depth in (1, 2, 3) for words in itertools.product(NAMES, repeat=depth)]
targets = st.sampled_from(
    [*PATHS, b"../o", b"../../o", b"..", b"../a", b"../../../.ssh", b"/etc/passwd", b"."]
)
trees = st.dictionaries(
    st.sampled_from(PATHS),
    st.one_of(
        st.none(),
        st.binary(max_size=3).map(lambda data: (b"file", data)),
        targets.map(lambda to: (b"link", to)),
    ),
    max_size=12,
)
Tree = dict[bytes, tuple[bytes, bytes] | None]


def plant(stack: MemoryStack, tree: Tree, age: int) -> None:
    """Have that below /r/e, and nothing else."""
    if b"e" in stack.files.find(b"/r").children:
        stack.files.rmtree(b"/r/e")
    stack.files.mkdir(b"/r/e")
    for path, thing in sorted(tree.items()):
        full = b"/r/e/" + path
        try:
            if thing is None:
                stack.files.mkdir(full)
            elif thing[0] == b"link":
                stack.files.symlink(full, thing[1])
            else:
                stack.files.write(full, thing[1])
                stack.files.utime(full, int(stack.files.clock()) - 3600 + age)
        except OSError:
            continue  # what is above it is none, or no directory


def expected(stack: MemoryStack, path: bytes, out: dict[str, bytes | str | None]) -> None:
    """What the copy of the experiment holds: bytes, None for a directory, and where a link leads; dangling: nothing."""
    for name, inode in stack.files.find(path).children.items():
        full = path + b"/" + name
        relative = os.fsdecode(full[len(b"/r/e/") :])
        if stat.S_ISDIR(inode.mode):
            out[relative] = None
            expected(stack, full, out)
        elif stat.S_ISREG(inode.mode):
            out[relative] = bytes(inode.data)
        else:
            try:
                real = stack.files.realpath(full)
                there = stack.files.find(real)
            except OSError:
                continue
            if real == b"/r/e" or real.startswith(b"/r/e/"):
                out[relative] = os.fsdecode(real[len(b"/r/e") :])
            elif stat.S_ISREG(there.mode):
                out[relative] = bytes(there.data)


def check(stack: MemoryStack, place: Path, failed: set[str]) -> None:
    wanted: dict[str, bytes | str | None] = {}
    expected(stack, b"/r/e", wanted)
    copy = copy_at(place / "e")
    for name, thing in wanted.items():
        above = {name, *(str(parent) for parent in Path(name).parents)}
        if any(f"e/{part}" in failed for part in above):
            continue
        if thing is None:
            assert name in copy.directories
        elif isinstance(thing, bytes):
            assert copy.files.get(name) == thing
        else:
            assert name in copy.links
    for name, text in copy.links.items():
        where = posixpath.normpath(posixpath.join("e", posixpath.dirname(name), text))
        assert where.split("/")[0] == "e"
        if isinstance(wanted.get(name), str) and not failed:
            assert os.path.realpath(place / "e" / name) == os.path.realpath(f"{place}/e{wanted[name]}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(trees, min_size=2, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_whatever_changes_its_kind_the_copy_is_the_servers_or_the_failure_is_named(
    monkeypatch: pytest.MonkeyPatch, rounds: list[Tree], overwrites: list[bool]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        monkeypatch.setenv("XDG_STATE_HOME", str(top / "state"))
        place = top / "home/out"
        place.mkdir(parents=True)

        async def story(stack: MemoryStack) -> None:
            stack.old(b"/r/o", b"other")
            for number, (tree, overwrite) in enumerate(zip(rounds, overwrites, strict=False)):
                plant(stack, tree, number)
                await asyncio.sleep(TTL)
                outcome = await pull(stack, place, "e", overwrite=overwrite)
                failed = {name for name, _ in outcome.failed}
                assert not outcome.kept
                assert not outcome.unsettled
                assert not (overwrite and failed), outcome.failed
                check(stack, place, failed)
                again = await pull(stack, place, "e")
                assert again.files == 0
            assert os.listdir(place.parent) == ["out"]
            assert os.listdir(place) == ["e"]

        play(story)


def test_the_journal_of_a_long_watch_stays_small(out: Path) -> None:
    with Pulled(out) as journal:
        for size in range(5_000):
            journal.settle("e/log", pull_journal.Left(size, size, "aa"))
        assert sum(path.stat().st_size for path in journal._path.parent.iterdir()) < 8 << 20
    assert sum(path.stat().st_size for path in journal._path.parent.iterdir()) < 64 << 10
