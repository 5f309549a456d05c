"""Small files fetched ahead of a program that opens the files of a directory one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from tests.lab.loop_watch import WatchedLoop
from tests.lab.memory_stack import BASE, ROOT, MemoryStack, play, read, tagged
from vfs.base.errors import AccessDenied
from vfs.base.tasks import Tasks
from vfs.files.ahead import series
from vfs.files.node import Node

RTT = 0.05
SIZE = 30_000


def make(stack: MemoryStack, directory: bytes, names: Iterable[bytes], size: int = SIZE) -> list[bytes]:
    """Files in a directory, in this order; their paths below the root."""
    place = ROOT + b"/" + directory
    if directory:
        stack.files.mkdir(place)
    paths = []
    for name in names:
        stack.old(place.rstrip(b"/") + b"/" + name, tagged(name[:8], size))
        paths.append((directory + b"/" + name).lstrip(b"/"))
    return paths


def numbered(count: int, suffix: bytes = b"jpg") -> list[bytes]:
    return [b"%05d.%s" % (number, suffix) for number in range(count)]


async def program(stack: MemoryStack, paths: Iterable[bytes], pause: float = 0.001) -> float:
    """Open and read files one after the other, as a program does through the mount: seconds."""
    began = asyncio.get_running_loop().time()
    for path in paths:
        reader = await stack.service.open(await stack.node(path))
        try:
            data = await read(reader)
        finally:
            reader.close()
        assert data == tagged(path.rsplit(b"/", 1)[-1][:8], len(data))
        await asyncio.sleep(pause)
    return asyncio.get_running_loop().time() - began


async def quiet(stack: MemoryStack) -> int:
    """Files of which a byte is here, once nothing more comes."""
    await asyncio.sleep(1)
    todo, count = [stack.tree.root], 0
    while todo:
        node = todo.pop()
        todo += node.children.values()
        count += node.content is not None and bool(node.content.held)
    return count


def test_a_directory_whose_listing_is_too_old_once_it_comes_is_not_listed_over_and_over() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.tree.names.ttl = RTT / 10
        await program(stack, make(stack, b"images", numbered(20))[:10])
        before = stack.remote.requests["scandir"]
        await quiet(stack)
        assert stack.remote.requests["scandir"] <= before + 1

    play(story, latency=RTT)


def test_files_opened_in_turn_take_few_round_trips_altogether() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.spare = 512 << 10  # before anything was measured
        paths = make(stack, b"images", numbered(200))
        seconds = await program(stack, paths)
        assert seconds < 2.0
        assert stack.remote.requests["open"] == stack.remote.requests["read"] == len(paths)
        assert stack.remote.bytes_read == len(paths) * SIZE
        assert stack.remote.requests["lstat"] + stack.remote.requests["scandir"] < 8

    play(story, latency=RTT)


@pytest.mark.parametrize("order", ["sorted", "listed"])
def test_sorted_or_as_listed(order: str) -> None:
    async def story(stack: MemoryStack) -> None:
        names = numbered(100)
        random.Random(3).shuffle(names)
        paths = make(stack, b"images", names)
        seconds = await program(stack, sorted(paths) if order == "sorted" else paths)
        assert seconds < 1.0
        assert stack.remote.requests["open"] == len(paths)

    play(story, latency=RTT)


def test_only_those_of_a_suffix_where_the_program_opens_no_others() -> None:
    async def story(stack: MemoryStack) -> None:
        names = [name for pair in zip(numbered(50), numbered(50, b"json"), strict=True) for name in pair]
        paths = make(stack, b"images", names)
        wanted = [path for path in paths if path.endswith(b".jpg")]
        assert await program(stack, wanted) < 0.8
        assert await quiet(stack) == len(wanted)

    play(story, latency=RTT)


@pytest.mark.parametrize("files_first", [True, False], ids=["walk", "sorted by path"])
def test_through_several_directories(files_first: bool) -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"", [b"LICENSE", b"README", b"setup.py", b"tox.ini"], 3000)
        for part in range(12):
            paths += make(stack, b"part-%02d" % part, numbered(20, b"py"), 3000)
        if not files_first:
            paths.sort()
        assert await program(stack, paths) < 2.0
        assert await quiet(stack) == len(paths) == stack.remote.requests["open"]

    play(story, latency=RTT)


def test_what_is_opened_here_and_there_before_does_not_matter() -> None:
    """As git does, which looks into its own directory first."""

    async def story(stack: MemoryStack) -> None:
        stack.remote.spare = 512 << 10
        paths = make(stack, b".git", [b"HEAD", b"config", b"index"], 100)
        make(stack, b".git/objects", numbered(300), 9000)
        paths += make(stack, b".git/refs", [b"master"], 100)
        for part in range(10):
            paths += make(stack, b"part-%02d" % part, numbered(50, b"py"), 9000)
        paths[2], paths[3] = paths[3], paths[2]
        assert await program(stack, paths) < 2.5
        assert await quiet(stack) == len(paths)

    play(story, latency=RTT)


@pytest.mark.parametrize("count", [1, 2])
def test_one_file_brings_no_other_and_two_bring_few(count: int) -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(200))
        alone = await program(stack, paths[7 : 7 + count])
        few = series.FIRST // SIZE if count > 1 else 0
        assert count <= await quiet(stack) <= count + few
        assert alone <= 4 * RTT + (count - 1) * 3 * RTT + 0.01  # as without

    play(story, latency=RTT)


def test_what_is_opened_at_random_brings_next_to_nothing() -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(2000))
        chosen = random.Random(1).sample(paths, 300)
        await program(stack, chosen)
        assert await quiet(stack) <= len(chosen) + 2 * series.FIRST // SIZE

    play(story, latency=RTT)


def test_files_that_are_opened_again_and_those_that_are_here_do_not_matter() -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(100))
        await program(stack, paths[1::7], pause=0)
        twice = [path for path in paths for _ in range(2)]
        before = stack.remote.requests["open"]
        assert await program(stack, twice) < 1.2
        assert stack.remote.requests["open"] - before <= len(paths)

    play(story, latency=RTT)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_several_programs_that_open_every_other_file(order: tuple[int, ...]) -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(200))
        await stack.tree.listing(await stack.node(b"images"))
        seconds = await asyncio.gather(*(program(stack, paths[first::4]) for first in order))
        assert max(seconds) < 1.5
        assert await quiet(stack) == len(paths)

    play(story, latency=RTT)


def test_no_more_is_ahead_than_may_be_fetched_for_nobody() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.spare = 2 * (SIZE + series.EACH)
        paths = make(stack, b"images", numbered(100))
        await program(stack, paths[:20])
        assert await quiet(stack) == 22

    play(story, latency=RTT)


def test_on_a_metered_link_nothing_is_fetched() -> None:
    async def story(stack: MemoryStack) -> None:
        stack.remote.metered = True
        paths = make(stack, b"images", numbered(50))
        await program(stack, paths[:20])
        assert await quiet(stack) == 20

    play(story, latency=RTT)


def test_a_file_that_cannot_be_opened_keeps_none_of_the_others() -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(50))
        stack.files.chmod(ROOT + b"/" + paths[5], 0)
        stack.remote.fail("open", AccessDenied("no"), ROOT + b"/" + paths[6])
        await program(stack, [path for path in paths if path not in paths[5:7]])
        assert await quiet(stack) == 48

    play(story, latency=RTT)


def test_a_file_replaced_since_it_was_fetched_is_read_as_it_is_now() -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(20))
        await program(stack, paths[:3])
        assert await quiet(stack) > 5
        stack.files.write(ROOT + b"/" + paths[4], tagged(b"new", SIZE + 1))
        stack.files.utime(ROOT + b"/" + paths[4], BASE + 900)
        await asyncio.sleep(3)
        assert await stack.read(paths[4]) == tagged(b"new", SIZE + 1)

    play(story, latency=RTT)


def test_nothing_is_fetched_that_is_not_known_to_be_a_file_now() -> None:
    """A FIFO in its place would hold up the server's process."""

    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(20))
        await stack.tree.listing(await stack.node(b"images"))
        await asyncio.sleep(5)
        directory = await stack.node(b"images")
        stack.files.remove(ROOT + b"/" + paths[3])
        stack.files.mkdir(ROOT + b"/" + paths[3])
        await program(stack, paths[:2])
        await quiet(stack)
        assert directory.children[paths[3].split(b"/")[1]].kind.value == "directory"
        assert stack.remote.requests["open"] <= 19

    play(story, latency=RTT)


def test_a_directory_of_many_names_holds_nobody_up(watched_loop: WatchedLoop) -> None:
    async def story(stack: MemoryStack) -> None:
        paths = make(stack, b"images", numbered(40))
        await stack.tree.listing(await stack.node(b"images"))
        directory = await stack.node(b"images")
        attributes = (await stack.node(paths[0])).attributes
        for i in range(100, 19_000):
            name = b"%05d.png" % i
            directory.children[name] = Node(i, directory, name, directory.path + b"/" + name, attributes, 0.0)
        await asyncio.sleep(0)
        watched_loop.held.clear()
        watched_loop.strict = True
        await program(stack, [*paths[::3], *paths])
        directory.children.clear()

    play(story, latency=RTT)


def test_a_directory_that_was_replaced_is_followed_by_nothing() -> None:
    async def story(stack: MemoryStack) -> None:
        make(stack, b"b", [b"1"])
        at = await stack.node(make(stack, b"a", [b"1"])[0])
        gone = await stack.node(b"b")
        ahead = series.Series(stack.tree, stack.fetcher, Tasks(), at, True, None)
        stack.files.rmtree(ROOT + b"/b")
        await stack.tree.versions.ask(gone, None)
        assert gone.stale
        await ahead._list(gone)

    play(story)
