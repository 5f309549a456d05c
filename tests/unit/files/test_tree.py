"""Entries and attributes: how old they may be, who asks, what is told when nobody can be asked."""

from __future__ import annotations

import asyncio
import posixpath
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play
from vfs.base.errors import (
    AccessDenied,
    EndlessSymlink,
    NoSuchPath,
    NotDirectory,
    ServerFailure,
    StaleVersion,
    Unreachable,
)
from vfs.files.experiments import find_path
from vfs.files.node import Kind
from vfs.files.requests import fresh_only
from vfs.files.tree import CROWD
from vfs.remote import api
from vfs.remote.connectivity import AWAY


async def names(stack: MemoryStack, path: bytes = b"") -> list[bytes]:
    """A directory's listing, fresh."""
    return sorted(node.name for node in await stack.tree.listing(await stack.node(path)))


# --- fresh ----------------------------------------------------------------------------------------------------------


def test_what_was_seen_within_the_ttl_is_not_asked_again_and_afterwards_it_is() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        node = await stack.node(b"f")
        asked = stack.remote.requests.total()
        await asyncio.sleep(TTL - 0.01)
        assert await stack.node(b"f") is node
        assert stack.remote.requests.total() == asked
        await asyncio.sleep(0.02)
        assert await stack.node(b"f") is node
        assert stack.remote.requests["lstat"] == 2

    play(story)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "asked singly"])
def test_a_change_on_the_server_is_seen_within_the_ttl(listed: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        files = stack.files
        files.mkdir(ROOT + b"/d")
        for name in (b"/gone", b"/grown", b"/rewritten", b"/replaced", b"/chmod", b"/turned"):
            stack.old(ROOT + name, b"12345")
        files.symlink(ROOT + b"/link", b"d")

        async def look(name: bytes) -> object:
            try:
                node = await stack.tree.lookup(stack.tree.root, name)
            except NoSuchPath:
                return None
            if node.kind is Kind.DIRECTORY:
                return "directory"
            return (
                node.target
                if node.kind is Kind.SYMLINK
                else (node.version.size, node.attributes.mode & 0o777)
            )

        every = (b"new", b"gone", b"grown", b"rewritten", b"replaced", b"chmod", b"turned", b"link")
        if listed:
            await names(stack)
        before = {name: await look(name) for name in every}
        files.write(ROOT + b"/new", b"1")
        files.remove(ROOT + b"/gone")
        files.append(ROOT + b"/grown", b"67")
        files.write(ROOT + b"/rewritten", b"1234")
        files.replace(ROOT + b"/replaced", b"123")
        files.chmod(ROOT + b"/chmod", 0o600)
        files.remove(ROOT + b"/turned")
        files.mkdir(ROOT + b"/turned")
        files.remove(ROOT + b"/link")
        files.symlink(ROOT + b"/link", b"chmod")
        await asyncio.sleep(TTL)
        after = {name: await look(name) for name in every}
        plain = (5, 0o644)
        assert before == {**dict.fromkeys(every, plain), b"new": None, b"link": b"d"}
        assert after == {
            b"new": (1, 0o644),
            b"gone": None,
            b"grown": (7, 0o644),
            b"rewritten": (4, 0o644),
            b"replaced": (3, 0o644),
            b"chmod": (5, 0o600),
            b"turned": "directory",
            b"link": b"chmod",
        }

    play(story)


def test_a_name_that_a_fresh_listing_lacks_is_absent_without_a_question_until_the_ttl_is_over() -> None:
    async def story(stack: MemoryStack) -> None:
        await names(stack)
        asked = stack.remote.requests.total()
        with pytest.raises(NoSuchPath):
            await stack.node(b"later")
        assert stack.tree.names.absent_for(stack.tree.root) == pytest.approx(TTL)
        assert stack.remote.requests.total() == asked
        stack.files.write(ROOT + b"/later", b"")
        await asyncio.sleep(TTL)
        assert stack.tree.names.absent_for(stack.tree.root) == 0
        assert (await stack.node(b"later")).kind is Kind.FILE

    play(story)


def test_a_command_says_that_a_name_is_absent_only_when_the_server_does() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        await stack.tree.listing(await stack.node(b"exp"))
        await stack.tree.listing(stack.tree.root)
        stack.files.mkdir(ROOT + b"/new")
        stack.files.mkdir(ROOT + b"/exp/logs")
        for path in (b"/new/f", b"/exp/logs/f"):
            stack.old(ROOT + path, b"x")
        for path in ("new/f", "exp/logs/f"):
            assert (await find_path(stack.tree, path)).kind is Kind.FILE
        with pytest.raises(NoSuchPath):
            await find_path(stack.tree, "exp/logs/g")

    play(story)


def test_the_kernel_may_keep_attributes_for_what_is_left_of_the_ttl_and_of_files_a_second_at_most() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        stack.files.mkdir(ROOT + b"/d")
        await names(stack)
        file, directory = await stack.node(b"f"), await stack.node(b"d")
        assert stack.tree.names.valid_for(file) == 1.0
        assert stack.tree.names.valid_for(directory) == pytest.approx(TTL)
        await asyncio.sleep(1.5)
        assert stack.tree.names.valid_for(file) == pytest.approx(0.5)
        await asyncio.sleep(1.5)
        assert stack.tree.names.valid_for(file) == stack.tree.names.valid_for(directory) == 0

    play(story)


def test_an_answer_counts_from_when_it_was_asked_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        node = await stack.node(b"f")
        assert not stack.tree.names.fresh(node)
        assert stack.tree.names.valid_for(node) == 0

    play(story, latency=TTL)


def test_a_late_answer_does_not_undo_a_newer_one() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        node = await stack.node(b"f")
        older = node.attributes
        await asyncio.sleep(1)
        asked = asyncio.get_running_loop().time()
        await asyncio.sleep(TTL)
        stack.files.replace(ROOT + b"/f", b"123")
        node = await stack.node(b"f")
        stack.tree.names.observe(stack.tree.root, b"f", older, asked)
        assert (await stack.node(b"f")) is node
        assert node.version.size == 3

    play(story)


# --- questions ------------------------------------------------------------------------------------------------------


def test_a_question_is_asked_once_at_a_time_however_many_wait() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        stack.old(ROOT + b"/d/f", b"x")
        directory = await stack.node(b"d")
        before = stack.remote.requests["lstat"]
        found = await asyncio.gather(*(stack.tree.lookup(directory, b"f") for _ in range(3)))
        assert len(set(found)) == 1
        assert stack.remote.requests["lstat"] == before + 1
        await asyncio.sleep(TTL)
        await asyncio.gather(*(stack.tree.refresh(found[0]) for _ in range(100)))
        assert stack.remote.requests["lstat"] == before + 2
        before = stack.remote.requests["scandir"]
        await asyncio.sleep(TTL)
        await asyncio.gather(*(stack.tree.refresh_listing(directory) for _ in range(100)))
        assert stack.remote.requests["scandir"] == before + 1

    play(story, latency=0.1)


def test_who_gives_up_does_not_take_the_answer_from_others() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        first = asyncio.ensure_future(stack.node(b"f"))
        second = asyncio.ensure_future(stack.node(b"f"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second).version.size == 1
        assert stack.remote.requests["lstat"] == 1

    play(story, latency=0.1)


def test_many_names_of_one_directory_are_answered_by_one_listing() -> None:
    async def story(stack: MemoryStack) -> None:
        for number in range(100):
            stack.old(b"%s/%d" % (ROOT, number), b"x")
        await stack.node(b"0")
        await asyncio.sleep(TTL)
        stack.remote.requests.clear()
        for number in range(100):
            assert (await stack.node(b"%d" % number)).version.size == 1
        assert stack.remote.requests["lstat"] + stack.remote.requests["scandir"] <= 6

    play(story)


def test_a_directory_that_is_looked_into_is_listed_once_so_that_its_files_are_watched() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        stack.old(ROOT + b"/d/f", b"x")
        stack.old(ROOT + b"/d/g", b"x")
        await stack.node(b"d/f")
        await asyncio.sleep(0.01)
        assert (await stack.node(b"d")).children.keys() == {b"f", b"g"}

    play(story)


async def look_into_a_large_one(stack: MemoryStack) -> None:
    """`d` has too many names to be listed for nobody; one of them is looked at."""
    stack.files.mkdir(ROOT + b"/d")
    for number in range(500):
        stack.old(b"%s/d/%d" % (ROOT, number), b"x")
    await stack.node(b"d/0")


async def large(stack: MemoryStack) -> None:
    """`d`, which is known to have too many names."""
    await look_into_a_large_one(stack)
    await asyncio.sleep(1)
    stack.remote.requests.clear()


@pytest.fixture
def few_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_AHEAD", 200)


@pytest.mark.usefixtures("few_ahead")
def test_a_large_directory_is_listed_for_nobody_and_its_names_are_asked_for_alone() -> None:
    async def story(stack: MemoryStack) -> None:
        await large(stack)
        found = await asyncio.gather(*(stack.node(b"d/%d" % number) for number in range(CROWD - 1)))
        assert all(node.version.size == 1 for node in found)
        await asyncio.sleep(1)
        assert stack.remote.requests["scandir"] == 0

    play(story, latency=0.1)


@pytest.mark.usefixtures("few_ahead")
@pytest.mark.parametrize("between", [0.0, TTL / 2], ids=["in time", "too slow"])
def test_a_crowd_waits_for_the_listing_of_a_large_directory_unless_it_comes_too_late(between: float) -> None:
    async def story(stack: MemoryStack) -> None:
        await large(stack)
        for _ in range(2):
            found = await asyncio.gather(*(stack.node(b"d/%d" % number) for number in range(100, 300)))
            assert all(node.version.size == 1 for node in found)
            await asyncio.sleep(TTL)
        assert stack.remote.requests["scandir"] == (1 if between else 2)

    play(story, latency=0.1, between=between)


@pytest.mark.usefixtures("few_ahead")
def test_a_large_directory_is_listed_for_a_program_also_one_that_comes_while_it_is_listed_for_nobody() -> (
    None
):
    async def story(stack: MemoryStack) -> None:
        await look_into_a_large_one(stack)
        assert len(await stack.tree.listing(await stack.node(b"d"))) == 500
        assert stack.remote.requests["scandir"] == 2  # with the root's
        for number in range(1, 500):
            stack.files.remove(b"%s/d/%d" % (ROOT, number))
        await asyncio.sleep(TTL)
        directory = await stack.node(b"d")
        assert directory.large
        assert len(await stack.tree.listing(directory)) == 1
        assert not directory.large

    play(story, latency=0.1, between=0.1)


# --- unreachable is not gone ----------------------------------------------------------------------------------------


def test_offline_what_was_known_is_told_at_once_and_nothing_is_absent() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        await names(stack)
        stack.remote.go_offline()
        await asyncio.sleep(100)
        loop = asyncio.get_running_loop()
        now = loop.time()
        assert (await stack.node(b"f")).version.size == 5
        hurried = stack.remote.hurries
        assert await names(stack) == [b"f"]
        assert stack.remote.hurries > hurried
        assert loop.time() == now
        with pytest.raises(Unreachable):
            await stack.node(b"unknown")

    play(story)


def test_offline_an_empty_directory_is_shown_as_empty_after_a_remount(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/empty")
        await names(stack)
        await names(stack, b"empty")
        await stack.restart(offline=True)
        began = asyncio.get_running_loop().time()
        assert await names(stack, b"empty") == []
        assert asyncio.get_running_loop().time() == began

    play(story, place=tmp_path)


def test_offline_a_symlink_that_dangles_does_so_at_once() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.symlink(ROOT + b"/link", b"nowhere")
        await names(stack)
        await asyncio.sleep(10)
        stack.remote.go_offline()
        began = asyncio.get_running_loop().time()
        with pytest.raises(NoSuchPath):
            await stack.node(b"link")
        assert asyncio.get_running_loop().time() == began

    play(story)


def test_offline_attributes_are_given_at_once_and_kept_for_a_part_of_the_ttl() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        node = await stack.node(b"f")
        await asyncio.sleep(TTL + 1)
        assert stack.service.attributes_now(node) is None
        assert stack.service.valid_for(node) == 0
        stack.remote.go_offline()
        await asyncio.sleep(100)
        shown = stack.service.attributes_now(node)
        assert shown is not None
        assert shown.size == 5
        assert 0 < stack.service.valid_for(node) < TTL
        stack.remote.go_online()
        await asyncio.sleep(0.1)
        assert stack.service.attributes_now(node) is None
        assert stack.service.valid_for(node) == 0

    play(story)


def test_offline_a_question_about_something_unknown_waits_for_the_link() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        stack.remote.go_offline()
        asyncio.get_running_loop().call_later(5, stack.remote.go_online)
        assert (await stack.node(b"f")).version.size == 5

    play(story)


def later(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


def test_over_a_silent_link_what_was_fresh_when_the_silence_began_is_given_and_its_answer_is_taken_in_later() -> (
    None
):
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(ROOT + b"/f", b"12345")
        await names(stack)
        await asyncio.sleep(TTL / 2)
        stack.remote.go_silent()
        stack.files.write(ROOT + b"/f", b"123")
        waiting = asyncio.ensure_future(stack.remote.lstat(ROOT))
        await asyncio.sleep(3 * TTL)
        began = loop.time()
        assert (await stack.node(b"f")).version.size == 5
        assert await names(stack) == [b"f"]
        assert loop.time() - began <= 0.2
        stack.remote.go_on()
        await asyncio.sleep(0.1)
        assert (await stack.node(b"f")).version.size == 3
        assert (await waiting).is_dir

    play(story, latency=0.01)


def test_over_a_silent_link_what_was_not_fresh_when_the_silence_began_is_waited_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        assert await stack.read(b"f") == b"12345"
        for replaced in (b"123", b"1234"):
            await names(stack)
            await asyncio.sleep(1.1 * TTL)
            stack.old(ROOT + b"/f", replaced)
            stack.files.write(ROOT + b"/f%d" % len(replaced), b"")
            stack.remote.go_silent()
            later(0.3, stack.remote.go_on)
            if replaced == b"123":
                assert await stack.read(b"f") == replaced
            else:
                assert await names(stack) == [b"f", b"f3", b"f4"]

    play(story, latency=0.01)


@pytest.mark.parametrize("down", [1.0, None])
def test_a_link_that_goes_down_or_stays_silent_gives_what_was_last_known_however_old(
    down: float | None,
) -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(ROOT + b"/f", b"12345")
        await names(stack)
        await asyncio.sleep(100 * TTL)
        stack.remote.go_silent()
        if down is not None:
            later(down, stack.remote.go_offline)
        until = down or AWAY
        began = loop.time()
        assert (await stack.node(b"f")).version.size == 5
        assert until <= loop.time() - began <= until + 0.2
        assert await names(stack) == [b"f"]
        assert loop.time() - began <= until + 0.2
        if down is None:
            stack.remote.go_on()
            await asyncio.sleep(0.1)
            assert stack.remote.link.online

    play(story, latency=0.01)


def test_what_an_earlier_mount_left_is_not_given_over_a_silent_link(tmp_path: Path) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        await names(stack)
        await stack.restart()
        stack.remote.go_silent()
        stack.old(ROOT + b"/g", b"1")
        waiting = asyncio.ensure_future(stack.node(b"g"))
        later(AWAY - 0.1, stack.remote.go_on)
        await asyncio.sleep(0.5)
        assert await names(stack) == [b"f", b"g"]
        await waiting

    play(story, latency=0.01, place=tmp_path)


def test_who_wants_only_what_is_fresh_waits_for_the_answer_or_fails() -> None:
    async def story(stack: MemoryStack) -> None:
        loop = asyncio.get_running_loop()
        stack.old(ROOT + b"/f", b"12345")
        await names(stack)
        await asyncio.sleep(TTL / 2)
        stack.remote.go_silent()
        waiting = asyncio.ensure_future(stack.remote.lstat(ROOT))
        await asyncio.sleep(TTL)
        stack.old(ROOT + b"/f", b"123")
        later(1, stack.remote.go_on)
        with fresh_only():
            assert (await asyncio.ensure_future(stack.node(b"f"))).version.size == 3
            assert (await waiting).is_dir
            await asyncio.sleep(TTL)
            stack.remote.go_offline()
            began = loop.time()
            with pytest.raises(Unreachable):
                await names(stack)
            assert loop.time() - began == pytest.approx(stack.remote.timeout, abs=0.1)
            with pytest.raises(Unreachable):
                await stack.node(b"f")
        assert (await stack.node(b"f")).version.size == 3

    play(story, latency=0.01)


def test_a_slow_answer_over_a_link_that_is_not_silent_is_waited_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        await stack.node(b"f")
        await asyncio.sleep(TTL)
        stack.files.write(ROOT + b"/f", b"123")
        assert (await stack.node(b"f")).version.size == 3

    play(story, latency=1.0)


@pytest.mark.parametrize(
    "error", [ServerFailure("failure"), AccessDenied("denied")], ids=["failure", "denied"]
)
def test_a_listing_that_failed_replaces_nothing(error: ServerFailure | AccessDenied) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        assert await names(stack) == [b"f"]
        node = await stack.node(b"f")
        await asyncio.sleep(TTL)
        stack.remote.fail("scandir", error)
        with pytest.raises(type(error)):
            await names(stack)
        assert stack.tree.root.children == {b"f": node}
        assert await names(stack) == [b"f"]

    play(story)


def test_a_listing_that_was_cut_short_by_the_link_is_asked_for_again_whole() -> None:
    async def story(stack: MemoryStack) -> None:
        for number in range(450):
            stack.old(b"%s/%d" % (ROOT, number), b"")
        asyncio.get_running_loop().call_later(1.5, stack.remote.go_offline)
        asyncio.get_running_loop().call_later(4.0, stack.remote.go_online)
        assert len(await names(stack)) == 450

    play(story, between=1.0)


def test_a_listing_that_changes_while_it_is_paged_loses_no_name_that_stays() -> None:
    async def story(stack: MemoryStack) -> None:
        for number in range(300):
            stack.old(b"%s/%03d" % (ROOT, number), b"")
        listing = asyncio.ensure_future(names(stack))
        await asyncio.sleep(0.5)
        stack.files.remove(ROOT + b"/250")
        stack.files.write(ROOT + b"/new", b"n")
        assert (await stack.tree.lookup(stack.tree.root, b"new")).version.size == 1
        found = await listing
        assert set(found) - {b"new"} == {b"%03d" % number for number in range(300)} - {b"250"}
        assert (await stack.tree.lookup(stack.tree.root, b"new")).version.size == 1
        await asyncio.sleep(TTL)
        assert b"new" in await names(stack)

    play(story, between=1.0)


@pytest.mark.parametrize(
    "error", [ServerFailure("failure"), AccessDenied("denied")], ids=["failure", "denied"]
)
def test_a_question_that_failed_removes_nothing(error: ServerFailure | AccessDenied) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        with pytest.raises(type(error)):
            stack.remote.fail("lstat", error)
            await stack.node(b"f")
        node = await stack.node(b"f")
        await asyncio.sleep(TTL)
        stack.remote.fail("lstat", error)
        with pytest.raises(type(error)):
            await stack.node(b"f")
        assert await stack.node(b"f") is node

    play(story)


def test_a_directory_that_may_be_entered_and_not_listed_shows_the_names_that_are_asked_for() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        for number in range(10):
            stack.old(b"%s/d/%d" % (ROOT, number), b"x")
        stack.files.chmod(ROOT + b"/d", 0o111)
        for number in range(10):
            assert (await stack.node(b"d/%d" % number)).version.size == 1
        with pytest.raises(NoSuchPath):
            await stack.node(b"d/none")
        with pytest.raises(AccessDenied):
            await names(stack, b"d")

    play(story)


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_link_that_becomes_something_else_while_it_is_followed_is_not_shown_as_a_link_to_itself() -> None:
    async def story(stack: MemoryStack) -> None:
        files = stack.files
        stack.old(ROOT + b"/f", b"inside")
        files.symlink(ROOT + b"/name", b"f")
        ask = stack.remote.readlink

        async def late(path: bytes) -> bytes:
            files.remove(ROOT + b"/name")
            stack.old(ROOT + b"/name", b"no link")
            return await ask(path)

        stack.remote.readlink = late  # type: ignore[method-assign]
        assert await stack.read(b"name") == b"no link"

    play(story)


def test_links_inside_the_root_are_relative_and_others_are_shown_as_what_they_lead_to() -> None:
    async def story(stack: MemoryStack) -> None:
        files = stack.files
        files.mkdir(b"/out")
        stack.old(b"/out/f", b"outside")
        files.mkdir(ROOT + b"/d")
        stack.old(ROOT + b"/d/f", b"inside")
        files.symlink(ROOT + b"/in", ROOT + b"/d/f")
        files.symlink(ROOT + b"/file", b"/out/f")
        files.symlink(ROOT + b"/directory", b"../out")
        files.symlink(ROOT + b"/dangling", b"/nowhere")
        files.symlink(ROOT + b"/loop", b"loop")
        files.symlink(ROOT + b"/endless", b"/")
        shown = {node.name: node for node in await stack.tree.listing(stack.tree.root)}
        assert shown[b"in"].target == b"d/f"
        assert shown[b"file"].kind is Kind.FILE
        assert shown[b"directory"].kind is Kind.DIRECTORY
        for name in (b"dangling", b"loop", b"endless"):
            assert shown[name].kind is Kind.SYMLINK
            with pytest.raises(NoSuchPath):
                await stack.node(name)
        with pytest.raises(EndlessSymlink):
            await stack.node(b"loop")
        assert await stack.read(b"in") == b"inside"
        assert await stack.read(b"file") == await stack.read(b"directory/f") == b"outside"

    play(story)


def test_where_real_paths_are_only_tidied_links_are_followed_by_their_texts() -> None:
    async def story(stack: MemoryStack) -> None:
        files = stack.files

        async def tidied(path: bytes) -> bytes:
            return posixpath.normpath(path)

        stack.remote.realpath = tidied  # type: ignore[method-assign]
        files.mkdir(b"/out")
        stack.old(b"/out/f", b"outside")
        files.mkdir(ROOT + b"/d")
        files.mkdir(ROOT + b"/d/e")
        stack.old(ROOT + b"/d/e/f", b"inside")
        files.symlink(ROOT + b"/inside", b"d/e/./f")
        files.symlink(ROOT + b"/absolute", ROOT + b"/d/e/f")
        files.symlink(ROOT + b"/twice", b"inside")
        files.symlink(ROOT + b"/e", b"d/e")
        files.symlink(ROOT + b"/through", b"e/../e/f")
        files.symlink(ROOT + b"/d/up", b"../e/f")
        files.symlink(b"/out/back", ROOT + b"/d")
        files.symlink(ROOT + b"/around", b"/out/back/e/f")
        files.symlink(ROOT + b"/file", b"/out/f")
        files.symlink(ROOT + b"/directory", b"../out")
        files.symlink(ROOT + b"/endless", b"/out/../r/..")
        files.symlink(ROOT + b"/loop", b"loop")
        for name in (b"inside", b"absolute", b"twice", b"through", b"d/up", b"around"):
            assert await stack.read(name) == b"inside", name
        assert (await stack.tree.lookup(stack.tree.root, b"around")).target == b"d/e/f"
        for name in (b"file", b"directory/f"):
            assert await stack.read(name) == b"outside", name
        assert (await stack.tree.lookup(stack.tree.root, b"endless")).kind is Kind.SYMLINK
        with pytest.raises(EndlessSymlink):
            await stack.node(b"loop")

    play(story)


def test_a_link_inside_the_root_costs_one_round_trip_and_no_real_path() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        for number in range(300):
            stack.files.symlink(ROOT + b"/%d" % number, b"f")
        asked: list[bytes] = []

        async def counted(path: bytes) -> bytes:
            asked.append(path)
            return path

        stack.remote.realpath = counted  # type: ignore[method-assign]
        shown = await stack.tree.listing(stack.tree.root)
        assert [node.target for node in shown if node.kind is Kind.SYMLINK] == [b"f"] * 300
        assert asked == []

    play(story)


def test_links_that_lead_in_a_circle_are_told_from_those_that_dangle() -> None:
    async def story(stack: MemoryStack) -> None:
        files = stack.files
        files.mkdir(ROOT + b"/d")
        files.symlink(ROOT + b"/a", b"d/b")
        files.symlink(ROOT + b"/d/b", b"../c")
        files.symlink(ROOT + b"/c", ROOT + b"/a")
        files.symlink(ROOT + b"/into", b"a")
        files.symlink(ROOT + b"/first", b"second")
        files.symlink(ROOT + b"/second", b"nothing")
        await stack.tree.listing(stack.tree.root)
        for name in (b"a", b"c", b"into", b"d/b"):
            with pytest.raises(EndlessSymlink):
                await stack.node(name)
        for name in (b"first", b"second"):
            with pytest.raises(NoSuchPath) as caught:
                await stack.node(name)
            assert not isinstance(caught.value, EndlessSymlink)

    play(story)


def test_what_is_shown_in_place_of_a_link_is_as_fresh_as_a_file() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/out")
        stack.old(b"/out/f", b"first")
        stack.old(b"/out/g", b"other file")
        stack.files.symlink(ROOT + b"/l", b"/out/f")
        assert await stack.read(b"l") == b"first"
        stack.files.write(b"/out/f", b"second")
        await asyncio.sleep(TTL)
        assert await stack.read(b"l") == b"second"
        stack.files.remove(ROOT + b"/l")
        stack.files.symlink(ROOT + b"/l", b"/out/g")
        await asyncio.sleep(TTL)
        assert await stack.read(b"l") == b"other file"

    play(story)


@pytest.mark.parametrize("kind", ["realpath", "stat"])
def test_a_link_that_cannot_be_followed_just_now_does_not_dangle(kind: str) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(b"/out")
        stack.old(b"/out/f", b"outside")
        stack.files.symlink(ROOT + b"/l", b"/out/f")
        stack.old(ROOT + b"/f", b"inside")
        stack.remote.fail(kind, ServerFailure("out of handles"), times=2)
        assert await names(stack) == [b"f", b"l"]
        with pytest.raises(ServerFailure):
            await stack.node(b"l")
        assert (await stack.node(b"l")).version.size == 7
        await asyncio.sleep(TTL)
        stack.remote.fail(kind, ServerFailure("out of handles"))
        assert await names(stack) == [b"f", b"l"]
        assert (await stack.node(b"l")).version.size == 7

    play(story)


# --- paths ----------------------------------------------------------------------------------------------------------


def test_a_path_is_found_through_links_and_dots_and_never_above_the_root() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/a")
        stack.files.mkdir(ROOT + b"/a/b")
        stack.old(ROOT + b"/a/b/f", b"x")
        stack.files.symlink(ROOT + b"/a/link", b"../a/b")
        file = await stack.node(b"a/b/f")
        for path in (b"/a/./b/f", b"a/link/f", b"a/b/../b/f", b"../../a/b/f", b"a//b/f"):
            assert await stack.node(path) is file
        with pytest.raises(NotDirectory):
            await stack.node(b"a/b/f/below")
        with pytest.raises(NoSuchPath):
            await stack.node(b"a/c/f")

    play(story)


def test_the_root_must_be_a_directory() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.rmtree(ROOT)
        with pytest.raises(NoSuchPath):
            await stack.tree.start()
        stack.files.write(ROOT, b"")
        with pytest.raises((NotDirectory, NoSuchPath)):
            await stack.tree.start()

    play(story)


def test_an_inode_number_stays_with_a_file_that_grows_and_not_with_one_that_is_replaced() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"12345")
        stack.files.mkdir(ROOT + b"/d")
        first, directory = (await stack.node(b"f")).ino, (await stack.node(b"d")).ino
        stack.files.append(ROOT + b"/f", b"6")
        stack.files.write(ROOT + b"/d/new", b"")
        await asyncio.sleep(TTL)
        assert (await stack.node(b"f")).ino == first
        assert (await stack.node(b"d")).ino == directory
        stack.files.replace(ROOT + b"/f", b"123")
        await asyncio.sleep(TTL)
        assert (await stack.node(b"f")).ino != first

    play(story)


def test_all_that_was_in_a_directory_that_is_gone_is_stale() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        stack.files.mkdir(ROOT + b"/d/e")
        stack.old(ROOT + b"/d/e/f", b"x")
        directory, file = await stack.node(b"d"), await stack.node(b"d/e/f")
        stack.files.rmtree(ROOT + b"/d")
        await asyncio.sleep(TTL)
        with pytest.raises(NoSuchPath):
            await stack.node(b"d")
        assert directory.stale
        assert file.stale
        stack.files.mkdir(ROOT + b"/d")
        await asyncio.sleep(TTL)
        again = await stack.node(b"d")
        assert again is not directory
        assert again.children == {}

    play(story)


def test_a_directory_that_became_a_file_is_one() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        directory = await stack.node(b"d")
        await stack.tree.refresh_listing(directory)
        stack.files.rmtree(ROOT + b"/d")
        stack.files.write(ROOT + b"/d", b"file")
        await asyncio.sleep(TTL)
        with pytest.raises(NoSuchPath):
            await stack.tree.refresh_listing(directory)
        assert (await stack.node(b"d")).kind is Kind.FILE

    play(story)


def test_the_kernel_s_references_keep_a_node_and_are_given_back() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        node = await stack.node(b"f")
        stack.tree.names.hold(node)
        stack.tree.names.hold(node)
        stack.tree.names.forget(node.id, 1)
        assert stack.tree.names.held(node.id) is node
        stack.tree.names.forget(node.id, 1)
        with pytest.raises(StaleVersion):
            stack.tree.names.held(node.id)
        stack.tree.names.forget(stack.tree.root.id, 100)
        assert stack.tree.names.held(stack.tree.root.id) is stack.tree.root

    play(story)


def test_modes_and_kinds_are_the_servers() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.old(ROOT + b"/f", b"x")
        stack.files.chmod(ROOT + b"/f", 0o640)
        stack.files.write(ROOT + b"/pipe", b"")
        stack.files.find(ROOT + b"/pipe").mode = stat.S_IFIFO | 0o600
        assert (await stack.node(b"f")).attributes.mode == stat.S_IFREG | 0o640
        assert (await stack.node(b"pipe")).kind is Kind.OTHER

    play(story)


def test_a_directory_that_is_found_to_be_none_while_its_parent_s_listing_is_fresh_is_not_absent() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/d")
        await names(stack)
        directory = await stack.node(b"d")
        stack.files.rmtree(ROOT + b"/d")
        stack.files.write(ROOT + b"/d", b"file")
        with pytest.raises(NoSuchPath):
            await stack.tree.refresh_listing(directory)
        assert stack.tree.names.listed(stack.tree.root) is False
        assert (await stack.node(b"d")).kind is Kind.FILE

    play(story)
