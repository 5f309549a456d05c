"""Listing ahead of a program that walks, only of one, and no further than it gets while the listings are fresh."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.lab.memory_stack import ROOT, TTL, MemoryStack, play
from vfs.base.errors import AccessDenied, NoSuchPath
from vfs.files.ahead.list_ahead import PATTERN_SECONDS
from vfs.files.node import Kind, Node
from vfs.remote.api import DirEntry

RUNS = 20
LONG = 500
"""Directories of a walk that takes several TTLs."""
PACE = 0.02
"""Seconds that it takes for each."""

Order = Callable[[list[Node]], list[Node]]


def make(stack: MemoryStack) -> None:
    """Experiments with two directories each, 61 directories in all."""
    for run in range(RUNS):
        experiment = b"%s/exp-%02d" % (ROOT, run)
        stack.files.mkdir(experiment)
        for name in (b"checkpoints", b"tensorboard"):
            stack.files.mkdir(experiment + b"/" + name)
            stack.old(experiment + b"/" + name + b"/f", b"x")


def make_many(stack: MemoryStack, runs: int, *below_each: bytes) -> None:
    """Experiments with these directories each, in an order of the server's own."""
    names = [b"%s/exp-%03d" % (ROOT, run) for run in range(runs)]
    random.Random(1).shuffle(names)
    for name in names:
        stack.files.mkdir(name)
        for below in below_each:
            stack.files.mkdir(name + b"/" + below)
            stack.old(name + b"/" + below + b"/f", b"x")


def make_long(stack: MemoryStack) -> None:
    """Many directories beside each other; the server lists them in an order of its own."""
    names = [b"%s/d-%03d" % (ROOT, i) for i in range(LONG)]
    random.Random(1).shuffle(names)
    for name in names:
        stack.files.mkdir(name)
        stack.old(name + b"/f", b"x")


def make_deep(stack: MemoryStack) -> None:
    """Some directories, whose own are listed in an order that is the sorted one, too."""
    make_many(stack, 150, b"a", b"b", b"c", b"d")


def as_listed(nodes: list[Node]) -> list[Node]:
    return nodes


async def look(stack: MemoryStack, node: Node, pace: float = 0.5) -> list[Node]:
    """Open a directory as a program does, and think; the directories in it."""
    stack.list_ahead.note(node)
    await stack.tree.refresh_listing(node)
    stack.list_ahead.served()
    snapshot = list(node.children.values())
    await asyncio.sleep(pace)
    return [child for child in snapshot if child.kind is Kind.DIRECTORY and not child.follow]


async def walk(stack: MemoryStack, pace: float, order: Order = as_listed) -> list[Node]:
    """Open all directories, depth first, each by its name in the one above; all of them in this order."""
    opened = []

    async def below(node: Node) -> None:
        opened.append(node)
        for child in order(await look(stack, node, pace)):
            await below(await stack.tree.lookup(node, child.name))

    await below(stack.tree.root)
    return opened


def listed(stack: MemoryStack) -> int:
    """Directories that were listed on the server."""
    return stack.remote.requests["scandir"]


def test_a_look_at_one_directory_lists_no_other() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for path in (b"", b"exp-01", b"exp-01", b"exp-01/checkpoints"):
            await look(stack, await stack.node(path))
        assert listed(stack) == 3

    play(story)


def test_a_walk_waits_for_the_first_directories_and_no_more() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        began = asyncio.get_running_loop().time()
        assert len(await walk(stack, 0.001)) == 1 + 3 * RUNS
        assert asyncio.get_running_loop().time() - began < 12 * 0.05
        assert listed(stack) == 1 + 3 * RUNS

    play(story, latency=0.05)


@pytest.mark.parametrize("order", [as_listed, lambda nodes: sorted(nodes, key=lambda node: node.name)])
@pytest.mark.parametrize("latency", [0.05, 0.2])
@pytest.mark.parametrize("below", [(b"tensorboard",), (b"checkpoints", b"tensorboard", b"logs")], ids=len)
def test_a_fast_walker_waits_for_a_few_answers_though_each_listing_takes_long(
    order: Order, latency: float, below: tuple[bytes, ...]
) -> None:
    runs = 200

    async def story(stack: MemoryStack) -> None:
        make_many(stack, runs, *below)
        directories = 1 + runs * (1 + len(below))
        began = asyncio.get_running_loop().time()
        assert len(await walk(stack, 0.0002, order)) == directories
        assert asyncio.get_running_loop().time() - began < 30 * latency
        assert listed(stack) <= 1.2 * directories

    play(story, latency=latency)


@pytest.mark.parametrize("latency", [0.0, 0.05])
@pytest.mark.parametrize("order", [as_listed, lambda nodes: sorted(nodes, key=lambda node: node.name)])
def test_a_walk_that_takes_many_ttls_lists_each_directory_once(order: Order, latency: float) -> None:
    async def story(stack: MemoryStack) -> None:
        make_long(stack)
        began = asyncio.get_running_loop().time()
        assert len(await walk(stack, PACE, order)) == 1 + LONG
        taken = asyncio.get_running_loop().time() - began
        assert taken > 4 * TTL
        assert taken < LONG * PACE + 40 * latency + TTL / 2
        assert listed(stack) <= 1.1 * LONG
        assert stack.remote.requests["lstat"] <= 0.1 * LONG

    play(story, latency=latency)


@pytest.mark.parametrize("each", [0.004, 0.01], ids=str)
def test_no_more_is_listed_ahead_than_a_server_lists_while_that_is_fresh(each: float) -> None:
    """The server lists one directory at a time; the walker would be faster, and comes to each as it is listed."""

    async def story(stack: MemoryStack) -> None:
        make_long(stack)
        turn, scandir = asyncio.Lock(), stack.remote.scandir

        async def in_turn(path: bytes, wanted: Callable[[], bool] = lambda: True) -> list[DirEntry]:
            async with turn:
                await asyncio.sleep(each)
                return await scandir(path, wanted)

        stack.remote.scandir = in_turn  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        assert len(await walk(stack, 0.001)) == 1 + LONG
        assert listed(stack) <= 1.03 * LONG
        assert asyncio.get_running_loop().time() - began < 1.3 * LONG * each

    play(story)


def test_what_was_listed_ahead_is_not_older_than_the_ttl_when_it_is_shown() -> None:
    async def story(stack: MemoryStack) -> None:
        make_long(stack)
        changed: dict[bytes, float] = {}
        for node in await walk_and(stack, changed):
            shown = b"new" in node.children
            assert shown or changed.get(node.path, float("inf")) > opened[node] - TTL

    opened: dict[Node, float] = {}

    async def walk_and(stack: MemoryStack, changed: dict[bytes, float]) -> list[Node]:
        """Walk, while new files come in directories further on."""
        loop = asyncio.get_running_loop()

        async def change() -> None:
            for name in list(stack.files.find(ROOT).children):
                path = ROOT + b"/" + name
                stack.files.write(path + b"/new", b"x")
                changed[path] = loop.time()
                await asyncio.sleep(PACE * 0.9)

        changing = asyncio.ensure_future(change())
        note = stack.list_ahead.note

        def noted(node: Node) -> None:
            opened[node] = loop.time()
            note(node)

        stack.list_ahead.note = noted  # type: ignore[method-assign]
        nodes = await walk(stack, PACE)
        await changing
        return nodes

    play(story)


def test_who_takes_longer_for_a_directory_than_its_listing_is_fresh_has_none_listed_ahead() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        await walk(stack, TTL * 0.9)
        shown = 1 + 3 * RUNS
        assert listed(stack) <= shown + RUNS + 2  # what is above is listed again when it is past the TTL

    play(story)


def test_a_walk_whose_way_cannot_be_guessed_is_soon_left_alone() -> None:
    async def story(stack: MemoryStack) -> None:
        make_long(stack)
        await walk(stack, PACE, lambda nodes: random.Random(2).sample(nodes, len(nodes)))
        assert listed(stack) <= 1.2 * LONG

    play(story)


@pytest.mark.parametrize("make", [make_long, make_deep])
def test_a_second_walk_is_served_as_the_first(make: Callable[[MemoryStack], None]) -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for _ in range(3):
            stack.remote.requests.clear()
            opened = await walk(stack, PACE)
            assert listed(stack) <= 1.1 * len(opened)

    play(story)


def test_children_opened_long_apart_are_no_walk() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for path in (b"", b"exp-00"):
            await look(stack, await stack.node(path), 0.001)
        await asyncio.sleep(PATTERN_SECONDS)
        await look(stack, await stack.node(b"exp-01"))
        assert listed(stack) == 3

    play(story)


def test_a_directory_that_cannot_be_listed_does_not_end_the_listing_ahead() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        stack.remote.fail("scandir", AccessDenied("no"), ROOT + b"/exp-07", times=99)
        await walk(stack, 0.001, lambda nodes: [node for node in nodes if node.name != b"exp-07"])
        assert listed(stack) == 1 + 3 * RUNS - 2  # nothing below it

    play(story, latency=0.05)


def test_nothing_is_listed_ahead_over_a_dead_link() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        for path in (b"", b"exp-00"):
            await look(stack, await stack.node(path), 0.001)
        stack.remote.go_offline()
        stack.list_ahead.note(await stack.node(b"exp-01"))
        await asyncio.sleep(10)
        stack.remote.go_online()
        await asyncio.sleep(10)
        assert listed(stack) == 2

    play(story)


def test_what_is_shown_in_place_of_a_link_is_not_listed_ahead() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        stack.files.mkdir(b"/out")
        stack.files.mkdir(b"/out/deep")
        stack.files.symlink(ROOT + b"/link", b"/out")
        for path in (b"", b"exp-00", b"exp-01"):
            await look(stack, await stack.node(path), 0.001)
        await asyncio.sleep(1)
        assert (await stack.node(b"link")).children == {}

    play(story, latency=0.05)


def test_on_a_metered_link_nothing_is_listed_ahead() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.metered = True
        make(stack)
        for number in range(4):
            await look(stack, await stack.node(b"exp-%02d" % number))
        assert listed(stack) <= 1 + 4

    play(story, latency=0.05)


async def look_up(stack: MemoryStack, *paths: bytes) -> bool:
    """Look names up as a kernel does that remembers nothing; whether each was answered without waiting."""
    began = asyncio.get_running_loop().time()
    for path in paths:
        node = stack.service.root
        with suppress(NoSuchPath):
            for name in path.split(b"/"):
                node = stack.service.lookup_now(node, name) or await stack.service.lookup(node, name)
    return asyncio.get_running_loop().time() == began


def make_repository(stack: MemoryStack) -> tuple[bytes, ...]:
    """A directory in which a program looks names up, some of them absent, and those names."""
    for directory in (b"/git", b"/git/refs", b"/git/refs/heads", b"/exp"):
        stack.files.mkdir(ROOT + directory)
    for name in (b"/git/HEAD", b"/git/config", b"/git/refs/heads/master", b"/exp/f"):
        stack.old(ROOT + name, b"x")
    return tuple(
        b"git/" + name
        for name in (b"HEAD", b"config", b"refs/heads/master", b"refs/HEAD", b"packed-refs", b"shallow")
    )


def test_listings_that_answered_several_lookups_are_renewed_before_they_expire() -> None:
    async def story(stack: MemoryStack) -> None:
        names = make_repository(stack)
        assert not await look_up(stack, *names)
        assert await look_up(stack, *names)
        before = listed(stack)
        for _ in range(4):
            await asyncio.sleep(TTL * 0.6)
            assert await look_up(stack, *names)
            await asyncio.sleep(0.2)
        assert listed(stack) - before <= 4 * 4  # the root, git, refs and heads
        stack.files.write(ROOT + b"/git/shallow", b"x")
        await asyncio.sleep(TTL)
        await look_up(stack, b"git/shallow")
        assert stack.tree.names.peek(await stack.node(b"git"), b"shallow") is not None

    play(story, latency=0.05)


@pytest.mark.parametrize("pause", [0.3, 0.6, 1.1])
def test_a_name_that_is_looked_up_again_and_again_has_nothing_listed_again(pause: float) -> None:
    async def story(stack: MemoryStack) -> None:
        make_repository(stack)
        await look_up(stack, b"exp/f")
        await asyncio.sleep(0.2)
        before = listed(stack)
        for _ in range(10):
            await asyncio.sleep(TTL * pause)
            await look_up(stack, b"exp/f")
        assert listed(stack) == before

    play(story, latency=0.05)


def test_listings_are_not_renewed_for_a_program_that_comes_back_later() -> None:
    async def story(stack: MemoryStack) -> None:
        names = make_repository(stack)
        for _ in range(3):
            await look_up(stack, *names)
        before = listed(stack)
        await asyncio.sleep(PATTERN_SECONDS + 0.5)
        await look_up(stack, b"git/HEAD")
        await asyncio.sleep(0.2)
        assert listed(stack) == before

    play(story, latency=0.05)


def test_listings_are_not_renewed_over_a_metered_link() -> None:
    async def story(stack: MemoryStack) -> None:
        names = make_repository(stack)
        for _ in range(3):
            await look_up(stack, *names)
        before = listed(stack)
        stack.remote.metered = True
        await asyncio.sleep(TTL * 0.6)
        await look_up(stack, *names)
        await asyncio.sleep(0.2)
        assert listed(stack) == before

    play(story, latency=0.05)


def test_a_program_that_comes_back_to_several_directories_waits_for_few_of_their_names() -> None:
    """As git does, which opens a repository, reads hundreds of files, and looks at the repository again."""

    async def story(stack: MemoryStack) -> None:
        for directory in (
            b"",
            b"/refs",
            b"/refs/heads",
            b"/refs/tags",
            b"/info",
            b"/objects",
            b"/objects/00",
        ):
            stack.files.mkdir(ROOT + b"/git" + directory)
        for name in (b"/HEAD", b"/refs/heads/main", b"/objects/00/1", b"/info/exclude"):
            stack.old(ROOT + b"/git" + name, b"x")
        first = (b"HEAD", b"objects", b"refs/tags", b"refs/heads/main", b"info/attributes")
        await look_up(stack, *(b"git/" + name for name in first))
        await asyncio.sleep(TTL + 1)
        began = asyncio.get_running_loop().time()
        again = (b"refs/heads/main", b"refs/heads/HEAD", b"info/grafts", b"objects/info", b"objects/pack")
        await look_up(stack, *(b"git/" + name for name in (*again, b"objects/00/1", b"info/exclude")))
        waits = (asyncio.get_running_loop().time() - began) / 0.05
        assert waits <= 4.1

    play(story, latency=0.05)


def test_what_is_listed_in_vain_around_a_name_is_listed_once() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack)
        top = await stack.node(b"exp-00")
        for _ in range(2):
            await walk(stack, 0.001)
        await look_up(stack, b"exp-00/started")
        before = listed(stack)
        for number in range(40):
            await asyncio.sleep(TTL + 0.5)
            await look_up(stack, b"exp-00/" + (b"done", b"started")[number % 2])
        assert not top.stale
        assert listed(stack) - before <= 40 * 2 + 32  # exp-00 and the root, and what lies around them once

    play(story, latency=0.05)


@pytest.mark.parametrize("latency", [0.05, 0.3])
def test_an_absent_name_that_is_asked_for_twice_is_waited_for_once(latency: float) -> None:
    async def story(stack: MemoryStack) -> None:
        stack.files.mkdir(ROOT + b"/exp")
        directory = await stack.node(b"exp")
        directory.slow = directory.large = True  # so that no listing answers
        assert not await look_up(stack, b"exp/done")
        assert await look_up(stack, b"exp/done")
        stack.files.write(ROOT + b"/exp/done", b"x")
        await asyncio.sleep(TTL)
        await look_up(stack, b"exp/done")
        assert b"done" in directory.children

    play(story, latency=latency)
